"""Downloads that do not go well: nobody gets a wrong byte as the end, nothing is kept, and the next try is a new one."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import os

import pytest

from nora.api import (
    DigestMismatch,
    File,
    NotFound,
    StorageFull,
    UpstreamInvalid,
    UpstreamTimeout,
    UpstreamUnavailable,
)
from nora.upstream.client import Upstream
from nora.upstream.downloads import Downloads, Fetched
from nora.upstream.flight import HELD_BACK_BYTES, FlightSource, Wanted

UPSTREAM = Upstream("https://index.example/simple/")
URL = "https://files.example/x-1.whl"
DATA = bytes(range(256)) * 1200
WRONG = DATA[:-1] + b"!"
SHORT = DATA[:-1]
SMALL = b"small"


def wanted(data: bytes = DATA, *, url: str = URL, size: int | None = -1, **digests: str) -> Wanted:
    announced = digests or {"sha256": hashlib.sha256(data).hexdigest()}
    return Wanted.of("r", "x", File(name="x-1.whl", url=url, size=len(data) if size == -1 else size, digests=announced))


@pytest.fixture
def kept() -> list[Fetched]:
    return []


@pytest.fixture
def join(store, files, tasks, kept):
    downloads = Downloads(store, files, tasks)

    async def keep(fetched: Fetched) -> None:
        kept.append(fetched)

    async def run(what: Wanted) -> FlightSource:
        return await downloads.join(UPSTREAM, what, timeout_seconds=5, kept=keep)

    return run


async def receive(join, what: Wanted) -> tuple[int, BaseException | None]:
    """What one client gets: how many bytes, and how it ends."""
    position = 0
    try:
        source = await join(what)
    except Exception as error:
        return 0, error
    try:
        while not source.complete:
            await source.wait(position)
            position = source.available()
    except Exception as error:
        return position, error
    else:
        return position, None
    finally:
        await source.aclose()


async def settled(tasks) -> None:
    async with asyncio.timeout(5):
        while tasks._running:
            await asyncio.sleep(0.001)


async def assert_fails(join, files, tasks, store, kept, open_files, error, what: Wanted | None = None) -> list[BaseException]:
    """Ten clients all get ``error`` and not the end, nothing is kept or left, and the next client makes a new request."""
    what = what or wanted()
    outcomes = await asyncio.wait_for(asyncio.gather(*(receive(join, what) for _ in range(10))), 10)
    await settled(tasks)
    assert {type(outcome) for _, outcome in outcomes} == {error}
    assert max(got for got, _ in outcomes) <= max(0, (what.size or len(DATA)) - HELD_BACK_BYTES)
    assert len(files.asked) == 1
    assert (kept, await store.names("blobs/sha256"), list(store._scratch.folder.iterdir())) == ([], [], [])
    assert (open_files(), files.open) == ([], 0)
    files.will(DATA)
    assert (await receive(join, wanted()))[1] is None
    assert len(files.asked) == 2
    return [outcome for _, outcome in outcomes if outcome is not None]


@pytest.mark.parametrize("algorithm", ["sha256", "sha512", "md5", "blake2b_256", "sha1"])
@pytest.mark.parametrize("size", [len(DATA), None])
async def test_wrong_digest_is_never_stored(join, files, tasks, store, kept, open_files, algorithm, size):
    digest = hashlib.blake2b(DATA, digest_size=32) if algorithm == "blake2b_256" else hashlib.new(algorithm, DATA)
    files.will(WRONG[:100_000], WRONG[100_000:])
    what = wanted(size=size, **{algorithm: digest.hexdigest()})
    errors = await assert_fails(join, files, tasks, store, kept, open_files, DigestMismatch, what)
    assert errors[0].algorithm == algorithm
    assert errors[0].expected == digest.hexdigest()


async def test_a_right_sha512_beside_a_wrong_sha256_is_wrong(join, files, tasks, store, kept, open_files):
    files.will(WRONG)
    what = wanted(sha512=hashlib.sha512(WRONG).hexdigest(), sha256=hashlib.sha256(DATA).hexdigest())
    await assert_fails(join, files, tasks, store, kept, open_files, DigestMismatch, what)


async def test_a_small_wrong_file_never_shows_a_byte(join, files, tasks):
    files.will(b"SMALL")
    got, error = await receive(join, wanted(SMALL))
    assert (got, type(error)) == (0, DigestMismatch)


# PROXY-8
@pytest.mark.parametrize(
    ("script", "length", "error"),
    [
        ([WRONG + b"more"], None, UpstreamInvalid),
        ([DATA[:100_000], DATA[100_000:], b"!"], None, UpstreamInvalid),
        ([DATA], len(DATA) + 1, UpstreamInvalid),
        ([DATA], len(DATA) - 1, UpstreamInvalid),
        ([SHORT], None, UpstreamInvalid),
        ([], None, UpstreamInvalid),
        ([DATA[:200_000], UpstreamUnavailable(URL, "broke")], None, UpstreamUnavailable),
        ([UpstreamUnavailable(URL, "broke")], None, UpstreamUnavailable),
        ([DATA, UpstreamUnavailable(URL, "broke")], None, UpstreamUnavailable),
        ([DATA[:200_000], UpstreamTimeout(URL, "silence")], None, UpstreamTimeout),
        ([DATA[:200_000], RuntimeError("a mistake of ours")], None, RuntimeError),
    ],
    ids=[
        "longer",
        "last byte too many",
        "length over",
        "length under",
        "shorter",
        "nothing",
        "cut",
        "cut at once",
        "cut at the end",
        "hang",
        "unexpected",
    ],
)
async def test_a_file_that_does_not_come_as_announced_is_an_error_for_all(
    join, files, tasks, store, kept, open_files, script, length, error
):
    files.will(*script, length=length)
    await assert_fails(join, files, tasks, store, kept, open_files, error)


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (404, NotFound),
        (410, NotFound),
        (503, UpstreamUnavailable),
        (500, UpstreamUnavailable),
        (401, UpstreamInvalid),
        (206, UpstreamInvalid),
        (304, UpstreamInvalid),
        (204, UpstreamInvalid),
    ],
)
async def test_another_status_is_no_file(join, files, tasks, store, kept, open_files, status, error):
    files.will(DATA, status=status)
    await assert_fails(join, files, tasks, store, kept, open_files, error)


async def test_no_connection_is_an_error_for_all(join, files, tasks, store, kept, open_files):
    files.answers.append(UpstreamUnavailable(URL, "refused"))
    await assert_fails(join, files, tasks, store, kept, open_files, UpstreamUnavailable)


async def test_followers_at_every_stage_hear_of_a_break(join, files, tasks, open_files):
    more = asyncio.Event()
    files.will(DATA[:200_000], more, UpstreamUnavailable(URL, "broke"))
    early = asyncio.create_task(receive(join, wanted()))
    await asyncio.sleep(0.02)
    late = asyncio.create_task(receive(join, wanted()))
    await asyncio.sleep(0.02)
    more.set()
    for _, error in await asyncio.wait_for(asyncio.gather(early, late), 5):
        assert isinstance(error, UpstreamUnavailable)
    await settled(tasks)
    assert open_files() == []


async def test_a_break_leaves_what_was_available_to_read_and_then_raises(join, files):
    files.will(DATA[:200_000], UpstreamUnavailable(URL, "broke"))
    source = await join(wanted())
    await asyncio.sleep(0.05)
    descriptor = source.open()
    assert os.pread(descriptor, source.available(), 0) == DATA[: source.available()]
    os.close(descriptor)
    for _ in range(2):
        with pytest.raises(UpstreamUnavailable):
            await source.wait(source.available())
    await source.aclose()


# The disk


async def test_a_disk_that_fills_up_midway_is_an_error_for_all(join, files, tasks, store, open_files, monkeypatch):
    def full(*args):
        raise OSError(errno.ENOSPC, "full")

    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", full)
        files.will(*[DATA[start : start + 10_000] for start in range(0, len(DATA), 10_000)])
        outcomes = await asyncio.wait_for(asyncio.gather(*(receive(join, wanted()) for _ in range(5))), 5)
    assert {(got, type(error)) for got, error in outcomes} == {(0, StorageFull)}
    await settled(tasks)
    assert (open_files(), list(store._scratch.folder.iterdir())) == ([], [])
    files.will(DATA)
    assert (await receive(join, wanted()))[1] is None


# Shutdown


@pytest.mark.parametrize("stage", ["before the head", "midway", "at the end"])
async def test_shutdown_ends_followers_with_an_error_and_leaves_nothing(join, files, tasks, store, open_files, stage):
    never = asyncio.Event()
    if stage == "before the head":
        files.answers.append(never)
    else:
        files.will(DATA[:200_000], *([never] if stage == "midway" else [DATA[200_000:], never]))
    clients = [asyncio.create_task(receive(join, wanted())) for _ in range(5)]
    await asyncio.sleep(0.03)
    assert not any(client.done() for client in clients)
    await asyncio.wait_for(tasks.aclose(), 5)
    for got, error in await asyncio.wait_for(asyncio.gather(*clients), 5):
        assert isinstance(error, UpstreamUnavailable)
        assert got <= len(DATA) - HELD_BACK_BYTES
    assert (open_files(), files.open) == ([], 0)
    assert (await store.names("blobs/sha256"), list(store._scratch.folder.iterdir())) == ([], [])


async def test_shutdown_in_the_moment_of_the_start_leaves_nobody_waiting(join, files, tasks):
    files.will(DATA)
    client = asyncio.create_task(receive(join, wanted()))
    await asyncio.sleep(0)  # the client waits, and the download's task has not had its first turn
    await tasks.aclose()
    done, _ = await asyncio.wait([client], timeout=1)
    client.cancel()
    assert done


async def test_shutdown_after_the_digest_has_matched_lets_followers_finish(join, files, tasks, store, monkeypatch):
    never = asyncio.Event()

    async def slow(spool):
        await never.wait()

    monkeypatch.setattr(store, "keep_blob", slow)
    files.will(DATA)
    source = await join(wanted())
    await source.wait(len(DATA) - 1)
    await tasks.aclose()
    assert (source.complete, source.available()) == (True, len(DATA))
    await source.aclose()


# AUTH-8
@pytest.mark.parametrize(
    ("script", "length"),
    [([WRONG], None), ([DATA, b"more"], None), ([SHORT], None), ([DATA], 5)],
    ids=["digest", "longer", "shorter", "length"],
)
async def test_errors_do_not_tell_the_secrets_of_an_address(join, files, script, length):
    files.will(*script, length=length)
    what = wanted(url="https://user:hunter2@files.example/x-1.whl?signature=s3cret#sha256=0")
    _, error = await receive(join, what)
    assert isinstance(error, UpstreamInvalid)
    assert "files.example/x-1.whl" in str(error)
    for secret in ("hunter2", "user", "s3cret"):
        assert secret not in str(error)
        assert secret not in error.url
