"""Eviction beside the serving of requests: when it runs, how little at a time, and that it ends cleanly."""

from __future__ import annotations

import asyncio
import logging
import threading
import time

import pytest

from nora.room import background as module
from nora.room.background import CHECK_SECONDS, RETRY_SECONDS, Eviction
from nora.room.evict import Limit, sole_evictor
from tests.unit.room.conftest import DAY, HOUR, NOW, Disk


class Cache:
    """Stands in for what notes fetched files."""

    grown = False


class Beside:
    """An eviction whose time is the test's."""

    def __init__(self, disk: Disk, **limits: int) -> None:
        self.caches = {name: Cache() for name in limits}
        self.slept: list[float] = []
        self.go_on = asyncio.Event()
        self.go_on.set()
        parts = {name: (Limit(name, size), self.caches[name]) for name, size in limits.items()}
        self.eviction = Eviction(disk.root, parts, clock=lambda: NOW, sleep=self.sleep)

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        await asyncio.sleep(0)
        await self.go_on.wait()


def filled(disk: Disk, registry: str = "main", count: int = 5) -> None:
    for number in range(count):
        disk.cached(f"{registry}{number}".encode() * 10, HOUR * (number + 1), registry)


async def test_a_cache_that_has_grown_is_brought_within_its_limit(disk, caplog):
    caplog.set_level(logging.INFO)
    filled(disk)
    beside = Beside(disk, main=120)
    assert await beside.eviction.check() == CHECK_SECONDS
    assert len(disk.blobs()) == 5
    beside.caches["main"].grown = True
    assert await beside.eviction.check() >= CHECK_SECONDS
    assert len(disk.blobs()) == 2
    assert not beside.caches["main"].grown
    (record,) = [record for record in caplog.records if record.message == "cache evicted"]
    assert (record.registry, record.files, record.bytes) == ("main", 3, 150)


async def test_only_those_that_have_grown_are_looked_at(disk):
    filled(disk, "one")
    filled(disk, "two")
    beside = Beside(disk, one=0, two=0)
    beside.caches["two"].grown = True
    await beside.eviction.check()
    assert len(disk.notes("one")) == 5
    assert disk.notes("two") == set()


async def test_while_another_process_evicts_it_waits_and_does_not_forget(disk):
    filled(disk)
    beside = Beside(disk, main=0)
    beside.caches["main"].grown = True
    with sole_evictor(disk.root):
        assert await beside.eviction.check() == CHECK_SECONDS
        assert len(disk.blobs()) == 5
    await beside.eviction.check()
    assert disk.blobs() == set()


async def test_every_cache_is_looked_at_once_after_the_start(disk):
    filled(disk)
    beside = Beside(disk, main=0)
    running = asyncio.create_task(beside.eviction.run())
    while disk.blobs():
        await asyncio.sleep(0.001)
    running.cancel()
    await asyncio.wait([running])
    assert beside.slept[0] == CHECK_SECONDS


async def test_it_rests_longer_than_it_works(disk, monkeypatch):
    monkeypatch.setattr("nora.room.evict.STEP", 1)
    filled(disk, count=20)
    beside = Beside(disk, main=0)
    beside.caches["main"].grown = True
    worked = []
    timed = module._timed

    def noted(steps):
        seconds, done = timed(steps)
        worked.append(1.0 + seconds)
        return 1.0 + seconds, done

    monkeypatch.setattr(module, "_timed", noted)
    pause = await beside.eviction.check()
    assert len(worked) > 20
    assert beside.slept == pytest.approx([4 * seconds for seconds in worked[:-1]])
    assert pause == pytest.approx(50 * sum(worked))


async def test_a_cache_that_cannot_be_brought_within_its_limit_yet_is_looked_at_again_later(disk):
    disk.cached(b"young" * 100, 60)
    beside = Beside(disk, main=0)
    beside.caches["main"].grown = True
    assert await beside.eviction.check() == RETRY_SECONDS
    assert beside.caches["main"].grown


async def test_the_steps_are_not_done_by_the_event_loop(disk, monkeypatch):
    threads = []
    timed = module._timed

    def noted(steps):
        threads.append(threading.current_thread())
        return timed(steps)

    monkeypatch.setattr(module, "_timed", noted)
    filled(disk)
    beside = Beside(disk, main=0)
    beside.caches["main"].grown = True
    await beside.eviction.check()
    assert threads
    assert threading.main_thread() not in threads


async def test_an_end_in_the_middle_waits_for_the_step_and_gives_the_lock_back(disk, monkeypatch):
    filled(disk)
    inside, done = threading.Event(), []
    timed = module._timed

    def slow(steps):
        inside.set()
        time.sleep(0.1)
        done.append(True)
        return timed(steps)

    monkeypatch.setattr(module, "_timed", slow)
    beside = Beside(disk, main=0)
    beside.caches["main"].grown = True
    checking = asyncio.create_task(beside.eviction.check())
    await asyncio.to_thread(inside.wait, 5)
    checking.cancel()
    await asyncio.wait([checking])
    assert checking.cancelled()
    assert done == [True]
    with sole_evictor(disk.root) as ours:
        assert ours


async def test_a_manifest_that_cannot_be_read_is_logged_and_ends_nothing(disk, caplog):
    filled(disk)
    manifest = disk.manifest(b"hosted")
    whole = manifest.read_bytes()
    manifest.write_bytes(b"")
    beside = Beside(disk, main=0)
    beside.caches["main"].grown = True
    await beside.eviction.check()
    assert len(disk.blobs()) == 5
    assert "cannot be read" in caplog.records[-1].error
    manifest.write_bytes(whole)
    beside.caches["main"].grown = True
    await beside.eviction.check()
    assert disk.blobs() == set()


async def test_withdrawn_projects_are_read_as_their_format_reads_them(disk):
    from nora.api import File, Listing
    from tests.unit.room.conftest import digest

    disk.cached(b"kept" * 10, DAY)
    disk.cached(b"evicted" * 10, HOUR)
    disk.page("base64", withdrawn=True)
    listing = Listing(project="y", files=(File(name="f", digests={"sha256": digest(b"kept" * 10)}),))
    cache = Cache()
    cache.grown = True
    limits = {"main": (Limit("main", 50, keep_withdrawn=True), cache)}
    eviction = Eviction(disk.root, limits, parsers={"main": lambda project, document: listing}, clock=lambda: NOW)
    await eviction.check()
    assert disk.holds(b"kept" * 10, b"evicted" * 10) == [True, False]
