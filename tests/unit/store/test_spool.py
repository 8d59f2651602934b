"""Temporary files: what is written, what is hashed, and what happens when the disk or the writer gives up."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nora.api import StorageFull
from nora.store import spool as module
from nora.store.spool import SMALL_BYTES, FileSpool, new_hash

MB = 1024 * 1024


@pytest.fixture
def pool():
    with ThreadPoolExecutor(4) as made:
        yield made


@pytest.fixture
def make(tmp_path, pool):
    def new(*, eager: bool = False) -> FileSpool:
        return FileSpool(tmp_path / os.urandom(8).hex(), pool, eager=eager)

    return new


async def until(condition, seconds: float = 5) -> None:
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.001)


# Bytes and digests


@settings(max_examples=60, deadline=None)
@given(chunks=st.lists(st.binary(max_size=200), max_size=12), eager=st.booleans())
def test_any_chunking_gives_the_same_file_and_hashlibs_digests(tmp_path_factory, chunks, eager):
    async def run() -> None:
        spool = FileSpool(path, executor, eager=eager)
        spool.want("md5", "sha512", "blake2b_256")
        for chunk in chunks:
            await spool.write(chunk)
        await spool.finish()
        whole = b"".join(chunks)
        assert Path(spool.path).read_bytes() == whole
        assert spool.size == spool.written == len(whole)
        for algorithm in ("sha256", "md5", "sha512", "sha1"):  # the last one was not asked for before
            assert await spool.digest(algorithm) == hashlib.new(algorithm, whole).hexdigest()
        assert await spool.digest("blake2b_256") == hashlib.blake2b(whole, digest_size=32).hexdigest()
        await spool.aclose()

    path = tmp_path_factory.getbasetemp() / os.urandom(8).hex()
    with pytest.MonkeyPatch.context() as patch, ThreadPoolExecutor(1) as executor:
        patch.setattr(module, "BATCH_BYTES", 64)
        patch.setattr(module, "READ_BYTES", 7)
        asyncio.run(run())
    assert not path.exists()


async def test_short_writes_of_the_system_lose_nothing(make, disk):
    disk.limit = 7
    spool = make()
    await spool.write(b"0123456789" * 5)
    await spool.finish()
    assert Path(spool.path).read_bytes() == b"0123456789" * 5
    await spool.aclose()


async def test_one_huge_write_is_one_file(make):
    spool, data = make(), os.urandom(3 * MB + 1)
    await spool.write(data)
    await spool.finish()
    assert await spool.digest("sha256") == hashlib.sha256(data).hexdigest()
    assert Path(spool.path).read_bytes() == data
    await spool.aclose()


async def test_empty_spool_has_the_digest_of_nothing(make):
    spool = make(eager=True)
    await spool.finish()
    await spool.finish()
    assert (spool.size, await spool.digest("sha256")) == (0, hashlib.sha256().hexdigest())
    await spool.aclose()


async def test_digests_are_asked_for_before_the_first_write_and_read_after_the_last(make):
    spool = make()
    with pytest.raises(ValueError, match="not finished"):
        await spool.digest("sha256")
    await spool.write(b"x")
    with pytest.raises(ValueError, match="before the first write"):
        spool.want("md5")
    await spool.aclose()


@pytest.mark.parametrize("name", ["", "crc32", "shake_128", "SHA256", "sha256 ", "../sha256", "blake2b_128"])
def test_unknown_algorithms_are_refused(name):
    with pytest.raises(ValueError, match="unknown hash algorithm"):
        new_hash(name)


# Visibility


async def test_eager_bytes_are_in_the_file_without_further_writes(make):
    spool = make(eager=True)
    await spool.write(b"a")
    await until(lambda: spool.written == 1)
    assert Path(spool.path).read_bytes() == b"a"
    await spool.aclose()


async def test_eager_bytes_that_came_during_a_write_follow_it_at_once(make, disk):
    disk.hold()
    spool = make(eager=True)
    await spool.write(b"first")
    await disk.busy()
    await spool.write(b"second")
    disk.free()
    await until(lambda: spool.written == len(b"firstsecond"))
    assert Path(spool.path).read_bytes() == b"firstsecond"
    await spool.aclose()


async def test_progress_is_told_on_the_event_loop_after_the_bytes_are_readable(make):
    spool, seen = make(eager=True), []
    spool.on_progress = lambda: seen.append((threading.current_thread(), spool.written, os.path.getsize(spool.path)))
    for _ in range(3):
        await spool.write(b"x" * 1000)
        await spool.finish()
    assert [written for _, written, _ in seen] == [1000, 2000, 3000]
    assert all(thread is threading.main_thread() and size >= written for thread, written, size in seen)
    await spool.aclose()


async def test_small_writes_are_gathered_when_nobody_follows(make, disk):
    spool = make()
    for _ in range(100):
        await spool.write(b"x" * 1000)
    assert disk.writes == 0
    await spool.finish()
    assert disk.writes == 1
    await spool.aclose()


@pytest.mark.parametrize(("size", "in_memory"), [(0, True), (SMALL_BYTES, True), (SMALL_BYTES + 1, False)])
async def test_small_contents_get_their_file_when_it_is_asked_for(make, disk, tmp_path, size, in_memory):
    spool, data = make(), os.urandom(size)
    await spool.write(data)
    await spool.finish()
    assert await spool.digest("md5") == hashlib.md5(data).hexdigest()
    assert (list(tmp_path.iterdir()) == []) == in_memory
    for _ in range(2):
        assert Path(spool.path).read_bytes() == data
    assert disk.writes == (size > 0)
    await spool.aclose()
    assert list(tmp_path.iterdir()) == []


async def test_what_is_written_after_small_contents_were_finished_follows_them(make):
    for asked in (False, True):
        spool, whole = make(), b""
        for size in (10, 20, SMALL_BYTES, 5):
            whole += bytes([size % 251]) * size
            await spool.write(whole[-size:])
            await spool.finish()
            for algorithm in ("sha256", "sha1") if size == 5 else ("sha256",):
                assert await spool.digest(algorithm) == hashlib.new(algorithm, whole).hexdigest()
            assert not asked or Path(spool.path).read_bytes() == whole
        assert Path(spool.path).read_bytes() == whole
        await spool.aclose()


async def test_a_thread_that_asks_after_the_closing_makes_no_file(make, pool, tmp_path):
    # An upload that was given up may have a thread that is about to look into the file.
    spool = make()
    await spool.write(b"x")
    await spool.finish()
    await spool.aclose()
    assert not await asyncio.get_running_loop().run_in_executor(pool, lambda: os.path.exists(spool.path))
    for ask in (spool.dup, spool.sync):
        with pytest.raises(ValueError, match="closed"):
            await asyncio.get_running_loop().run_in_executor(pool, ask)
    assert list(tmp_path.iterdir()) == []


async def test_many_threads_that_ask_at_once_get_one_whole_file(make, pool, disk):
    spool, data = make(), os.urandom(SMALL_BYTES)
    await spool.write(data)
    await spool.finish()
    disk.limit = 1000
    loop = asyncio.get_running_loop()
    found = await asyncio.gather(*(loop.run_in_executor(pool, lambda: Path(spool.path).read_bytes()) for _ in range(4)))
    assert found == [data] * 4
    await spool.aclose()


@pytest.mark.parametrize("eager", [False, True])
async def test_a_slow_disk_holds_the_writer_up_at_two_megabytes(make, disk, eager):
    disk.hold()
    spool = make(eager=eager)

    async def pour() -> None:
        for _ in range(80):
            await spool.write(b"x" * (MB // 16))

    pouring = asyncio.create_task(pour())
    await disk.busy()
    await asyncio.sleep(0.05)
    assert not pouring.done()
    assert spool.size <= 2 * MB + MB // 16
    disk.free()
    await pouring
    await spool.finish()
    assert spool.written == 5 * MB
    await spool.aclose()


# Failure


@pytest.mark.parametrize("eager", [False, True])
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
async def test_full_disk_surfaces_as_storage_full_and_never_hangs(make, disk, eager, number):
    disk.error = number
    spool = make(eager=eager)

    async def work() -> None:
        for _ in range(20):
            await spool.write(b"x" * (MB // 4))
        await spool.finish()

    with pytest.raises(StorageFull):
        await asyncio.wait_for(work(), 5)
    await spool.aclose()
    assert not os.path.exists(spool.path)


@pytest.mark.parametrize("eager", [False, True])
async def test_full_disk_at_the_last_bytes_surfaces_in_every_finish(make, disk, eager):
    disk.fill()
    spool = make(eager=eager)
    await spool.write(b"x" * (SMALL_BYTES + 1))
    for _ in range(2):
        with pytest.raises(StorageFull):
            await asyncio.wait_for(spool.finish(), 5)
    with pytest.raises(ValueError, match="not finished"):
        await spool.digest("sha256")
    await spool.aclose()


async def test_full_disk_surfaces_where_the_file_of_small_contents_is_asked_for_and_room_helps(
    make, disk, tmp_path, monkeypatch
):
    def runs_full(*args):
        count = disk.pwrite(*args)
        disk.fill()
        return count

    spool, data = make(), os.urandom(100)
    await spool.write(data)
    await spool.finish()
    disk.limit = 7
    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", runs_full)
        for ask in (lambda: spool.path, spool.dup, spool.sync):
            with pytest.raises(StorageFull):
                ask()
    disk.error = None
    assert Path(spool.path).read_bytes() == data
    await spool.aclose()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("eager", [False, True])
async def test_full_disk_surfaces_in_the_next_write(make, disk, eager):
    disk.fill()
    spool = make(eager=eager)
    await spool.write(b"x" * MB)
    await until(lambda: disk.writes == 1)
    await asyncio.sleep(0.01)
    with pytest.raises(StorageFull):
        await spool.write(b"y")
    await spool.aclose()


async def test_other_errors_of_the_disk_are_passed_on_as_they_are(make, disk):
    disk.error = errno.EIO
    spool = make()
    await spool.write(b"x" * (SMALL_BYTES + 1))
    with pytest.raises(OSError, match="Input/output error"):
        await spool.finish()
    await spool.aclose()


async def test_a_spool_that_lost_bytes_never_finishes_well(make, disk):
    # Otherwise its digests, made before the write, would vouch for a file that they do not describe.
    disk.fill()
    spool = make()
    await spool.write(b"x" * MB)
    await until(lambda: disk.writes == 1)
    await asyncio.sleep(0.01)
    with pytest.raises(StorageFull):
        await spool.write(b"y" * MB)
    disk.error = None
    with pytest.raises(StorageFull):
        await spool.finish()
    await spool.aclose()


# Closing


async def test_closing_waits_for_the_thread_that_writes(make, disk):
    disk.hold()
    spool = make()
    await spool.write(b"x" * MB)
    await disk.busy()
    closing = asyncio.create_task(spool.aclose())
    await asyncio.sleep(0.02)
    assert not closing.done()
    assert os.path.exists(spool.path)
    disk.free()
    await asyncio.wait_for(closing, 5)
    assert not os.path.exists(spool.path)
    assert disk.late == 0


async def test_closing_an_eager_spool_starts_no_further_write(make, disk):
    # A thread that writes into a closed descriptor writes into whatever file was opened next: another download's.
    disk.hold()
    spool = make(eager=True)
    await spool.write(b"first")
    await disk.busy()
    await spool.write(b"second")
    closing = asyncio.create_task(spool.aclose())
    await asyncio.sleep(0.01)
    disk.let(1)
    await asyncio.wait([closing], timeout=0.1)
    disk.free()
    await asyncio.wait_for(closing, 5)
    await asyncio.sleep(0.05)
    assert disk.late == 0


async def test_giving_up_the_closing_leaves_the_thread_its_descriptor(make, disk):
    disk.hold()
    spool = make()
    await spool.write(b"x" * MB)
    await disk.busy()
    closing = asyncio.create_task(spool.aclose())
    await asyncio.sleep(0.01)
    closing.cancel()
    await asyncio.wait([closing], timeout=0.1)
    disk.free()
    await asyncio.wait([closing])
    await until(lambda: disk.writes == 1)
    await asyncio.sleep(0.02)
    assert disk.late == 0


async def test_a_duplicate_stays_readable_after_closing(make):
    spool = make()
    await spool.write(b"kept open")
    await spool.finish()
    descriptor = spool.dup()
    await spool.aclose()
    assert os.pread(descriptor, 100, 0) == b"kept open"
    os.close(descriptor)


async def test_closing_after_a_failed_write_is_quiet(make, disk):
    disk.fill()
    spool = make()
    await spool.write(b"x" * MB)
    await spool.aclose()
    assert not os.path.exists(spool.path)
