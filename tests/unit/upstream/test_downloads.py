"""Shared downloads that go well: one request, everybody gets every byte, nothing unverified is let go."""

from __future__ import annotations

import asyncio
import hashlib
import os

import pytest

from nora.api import File, Secret, StorageFull
from nora.store.protocol import blob_key
from nora.upstream.client import Upstream
from nora.upstream.downloads import ColdSource, Downloads, Fetched, strongest
from nora.upstream.flight import HELD_BACK_BYTES, FlightSource, Wanted

UPSTREAM = Upstream("https://index.example/simple/", Secret())
URL = "https://files.example/x-1.whl"
DATA = bytes(range(256)) * 1200  # 300 KiB
PIECES = [DATA[start : start + 50_000] for start in range(0, len(DATA), 50_000)]


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def wanted(data: bytes = DATA, *, size: int | None = -1, name: str = "x-1.whl", **digests: str) -> Wanted:
    """``data`` as its index announces it: size and sha256, unless told otherwise."""
    announced = digests or {"sha256": sha256(data)}
    announced = {name: value for name, value in announced.items() if value}
    return Wanted.of("r", "x", File(name=name, url=URL, size=len(data) if size == -1 else size, digests=announced))


@pytest.fixture
def kept() -> list[Fetched]:
    return []


@pytest.fixture
def join(store, files, tasks, kept):
    """Joins a download of one process."""
    downloads = Downloads(store, files, tasks)

    async def keep(fetched: Fetched) -> None:
        kept.append(fetched)

    async def run(what: Wanted) -> FlightSource:
        return await downloads.join(UPSTREAM, what, timeout_seconds=5, kept=keep)

    return run


async def follow(source: FlightSource) -> bytes:
    """All bytes of a source, as the sender takes them."""
    data, descriptor = bytearray(), source.open()
    try:
        while True:
            while (end := source.available()) > len(data):
                data += os.pread(descriptor, min(end - len(data), 10_000), len(data))
            if source.complete and source.available() == len(data):
                return bytes(data)
            await source.wait(len(data))
    finally:
        os.close(descriptor)
        await source.aclose()


async def settled(tasks) -> None:
    """Return when nothing is under way any more."""
    async with asyncio.timeout(5):
        while tasks._running:
            await asyncio.sleep(0.001)


async def blob(store, data: bytes) -> bytes | None:
    path = store.root / blob_key(sha256(data))
    return path.read_bytes() if path.exists() else None


# CACHE-6, CACHE-9
@pytest.mark.parametrize("length", [len(DATA), None])
async def test_fifty_followers_make_one_request_and_all_get_all_bytes(join, files, tasks, store, kept, open_files, length):
    files.will(*PIECES, length=length)
    sources = await asyncio.gather(*(join(wanted()) for _ in range(50)))
    assert await asyncio.gather(*map(follow, sources)) == [DATA] * 50
    await settled(tasks)
    assert files.asked == [URL]
    assert kept == [Fetched(sha256(DATA), len(DATA))]
    assert await blob(store, DATA) == DATA
    assert (open_files(), files.open, list(store._scratch.folder.iterdir())) == ([], 0, [])


# FILE-13, and pip gives up after 15 seconds without a byte.
async def test_the_beginning_flows_before_the_end_has_come(join, files):
    more = asyncio.Event()
    files.will(*PIECES[:4], more, *PIECES[4:], length=len(DATA))
    source = await join(wanted())
    async with asyncio.timeout(5):
        while source.available() < 200_000:
            await source.wait(source.available())
    assert not source.complete
    assert source.size == len(DATA)
    more.set()
    assert await follow(source) == DATA


# D9, PROXY-7
@pytest.mark.parametrize(
    ("size", "announced", "length", "most"),
    [
        (len(DATA), True, None, len(DATA) - HELD_BACK_BYTES),
        (len(DATA), False, len(DATA), len(DATA) - HELD_BACK_BYTES),
        (len(DATA), False, None, len(DATA) - HELD_BACK_BYTES),
        (HELD_BACK_BYTES + 1, True, None, 1),
        (HELD_BACK_BYTES, True, None, 0),
        (HELD_BACK_BYTES, False, None, 0),
        (1, True, 1, 0),
    ],
)
async def test_the_last_64_kib_wait_for_the_digest(join, files, size, announced, length, most):
    data, end = DATA[:size], asyncio.Event()
    files.will(data[: size // 2], data[size // 2 :], end, length=length)
    source = await join(wanted(data, size=size if announced else None))
    async with asyncio.timeout(5):
        while source._flight._spool.written < size:
            await asyncio.sleep(0.001)
    waiting = asyncio.create_task(source.wait(most))
    await asyncio.sleep(0.02)
    assert source.available() == most
    assert not source.complete
    assert not waiting.done()
    end.set()
    await asyncio.wait_for(waiting, 5)
    assert (source.available(), source.complete, source.size) == (size, True, size)
    assert await follow(source) == data


async def test_the_length_is_unknown_until_the_upstream_or_the_end_tells(join, files):
    end = asyncio.Event()
    files.will(DATA, end)
    source = await join(wanted(size=None))
    assert source.size is None
    end.set()
    assert await follow(source) == DATA
    assert source.size == len(DATA)


async def test_an_empty_file_is_a_file(join, files, store, tasks):
    files.will(length=0)
    assert await follow(await join(wanted(b""))) == b""
    await settled(tasks)
    assert await blob(store, b"") == b""


async def test_whoever_comes_late_gets_the_beginning_too(join, files):
    more = asyncio.Event()
    files.will(*PIECES[:5], more, *PIECES[5:])
    first = asyncio.create_task(follow(await join(wanted())))
    await asyncio.sleep(0.02)
    late = await join(wanted())
    assert late.available() > 0
    more.set()
    assert await asyncio.gather(first, follow(late)) == [DATA, DATA]
    assert len(files.asked) == 1


async def test_whoever_comes_between_the_digest_and_the_blob_follows_the_same_download(join, files, store, monkeypatch):
    keeping, go = asyncio.Event(), asyncio.Event()
    real = store.keep_blob

    async def slow(spool):
        keeping.set()
        await go.wait()
        return await real(spool)

    monkeypatch.setattr(store, "keep_blob", slow)
    files.will(DATA)
    assert await follow(await join(wanted())) == DATA
    await asyncio.wait_for(keeping.wait(), 5)
    late = await join(wanted())
    go.set()
    assert await follow(late) == DATA
    assert len(files.asked) == 1


# PROXY-19
async def test_followers_that_leave_do_not_stop_the_download(join, files, store, tasks, open_files):
    head, more = asyncio.Event(), asyncio.Event()
    files.answers.append(head)
    early = asyncio.create_task(join(wanted()))
    await asyncio.sleep(0.01)
    early.cancel()
    await asyncio.wait([early])
    assert early.cancelled()
    # The scripted answer that follows is for the request that is already under way.
    head.set()
    await settled(tasks)

    files.will(*PIECES[:3], more, *PIECES[3:])
    sources = [await join(wanted()) for _ in range(3)]
    for source in sources:
        await source.aclose()
        await source.aclose()
    more.set()
    await settled(tasks)
    assert await blob(store, DATA) == DATA
    assert open_files() == []


async def test_a_follower_that_stalls_holds_nobody_up(join, files, tasks, store):
    files.will(*PIECES)
    stalled = await join(wanted())
    assert await follow(await join(wanted())) == DATA
    await settled(tasks)
    assert await blob(store, DATA) == DATA
    # The blob may even be gone: whoever holds on still gets every byte.
    (store.root / blob_key(sha256(DATA))).unlink()
    assert await follow(stalled) == DATA


async def test_descriptors_outlive_their_source(join, files, tasks, open_files):
    files.will(*PIECES)
    source = await join(wanted())
    descriptor = source.open()
    await source.aclose()
    await settled(tasks)
    assert os.pread(descriptor, len(DATA), 0) == DATA
    os.close(descriptor)
    assert open_files() == []


async def test_different_files_are_different_downloads(join, files):
    other = DATA[::-1]
    files.will(DATA)
    files.will(other)
    one, two = await asyncio.gather(join(wanted()), join(wanted(other)))
    assert sorted(await asyncio.gather(follow(one), follow(two))) == sorted([DATA, other])
    assert len(files.asked) == 2


# Files that are fetched when they are read


async def test_a_cold_file_is_fetched_when_it_is_started_and_not_before(join, files):
    files.will(*PIECES, length=len(DATA))
    source = ColdSource(None, lambda: join(wanted(size=None)))
    assert (source.size, source.available(), source.complete, files.asked) == (None, 0, False, [])
    await source.start()
    assert source.available() > 0
    assert source.size == len(DATA)
    await source.start()
    assert await follow(source) == DATA
    assert files.asked == [URL]


async def test_a_cold_file_that_is_small_is_checked_before_its_start_returns(join, files):
    files.will(b"small")
    source = ColdSource(5, lambda: join(wanted(b"small")))
    await source.start()
    assert (source.complete, source.available()) == (True, 5)
    await source.aclose()


async def test_a_cold_file_that_nobody_reads_costs_nothing(files):
    source = ColdSource(7, files.stream)
    assert source.size == 7
    await source.aclose()
    assert files.asked == []


# What is announced


@pytest.mark.parametrize("digests", [{"md5": hashlib.md5(DATA).hexdigest()}, {"crc32": "0"}, {"": ""}])
async def test_files_without_a_sha256_are_told_to_be_pinned(join, files, kept, tasks, store, digests):
    files.will(*PIECES)
    assert await follow(await join(wanted(**digests))) == DATA
    await settled(tasks)
    assert kept == [Fetched(sha256(DATA), len(DATA))]
    assert await blob(store, DATA) == DATA


async def test_a_weak_digest_beside_the_right_sha256_does_not_matter(join, files):
    files.will(DATA)
    assert await follow(await join(wanted(sha256=sha256(DATA), md5="0" * 32))) == DATA


async def test_content_encoding_is_left_on(join, files):
    # PROXY-16: what is announced is the digest of the bytes as they are sent.
    files.will(DATA, headers={"content-encoding": "gzip"})
    assert await follow(await join(wanted())) == DATA


@pytest.mark.parametrize("name", sorted(hashlib.algorithms_guaranteed - {"shake_128", "shake_256"}))
def test_every_digest_that_can_be_computed_is_one_to_be_checked(name):
    assert strongest({name: "0"}) == name


def test_the_strongest_announced_digest_is_checked():
    assert strongest({"md5": "0", "sha1": "0", "sha256": "0", "crc": "0"}) == "sha256"
    assert strongest({"sha512": "0", "sha256": "0"}) == "sha512"
    assert strongest({}) is None


# Keeping


@pytest.mark.parametrize("error", [StorageFull(), OSError(5, "disk")])
async def test_clients_get_what_was_verified_although_keeping_it_fails(join, files, tasks, store, kept, monkeypatch, error):
    async def fails(spool):
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(store, "keep_blob", fails)
        files.will(*PIECES)
        assert await follow(await join(wanted())) == DATA
        await settled(tasks)
    assert (kept, await blob(store, DATA)) == ([], None)
    files.will(*PIECES)
    assert await follow(await join(wanted())) == DATA
    await settled(tasks)
    assert await blob(store, DATA) == DATA


async def test_no_room_is_said_before_anything_is_fetched(join, files, store, monkeypatch):
    async def no_room(size: int) -> bool:
        return size < len(DATA)

    monkeypatch.setattr(store, "room_for", no_room)
    files.will(*PIECES, length=len(DATA))
    with pytest.raises(StorageFull):
        await join(wanted())
    assert files.open == 0
