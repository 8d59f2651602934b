"""Answers that are written while they are served: nobody in this process sees that they are late."""

from __future__ import annotations

import asyncio
import logging

import pytest

from nora.api import File, StorageFull
from nora.tasks import Tasks
from nora.upstream import listings as listings_module
from nora.upstream import writes as module
from nora.upstream.stored import decode
from nora.upstream.writes import LATER_FROM_BYTES, Writes

BASE = "https://index.example/simple/"
LARGE = b"x" * LATER_FROM_BYTES


class SlowDisk:
    """A store whose writes wait until they are let through."""

    def __init__(self, store, monkeypatch) -> None:
        self.store, self.begun, self.free = store, [], asyncio.Event()
        self.error: Exception | None = None
        put = store.put

        async def slow(key: str, data: bytes) -> None:
            self.begun.append(data)
            await self.free.wait()
            if self.error is not None:
                raise self.error
            await put(key, data)

        monkeypatch.setattr(store, "put", slow)


@pytest.fixture
def disk(store, monkeypatch) -> SlowDisk:
    return SlowDisk(store, monkeypatch)


@pytest.fixture
def writes(store, tasks) -> Writes:
    return Writes(store, tasks)


@pytest.fixture
def kept() -> list[bool]:
    return []


async def turns() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


def many(count: int = 1000) -> list[File]:
    return [File(name=f"x-{number}", digests={"sha256": "0" * 64}) for number in range(count)]


async def names(listings, project: str = "x") -> list[str]:
    head = await listings.head(project)
    return [file.name for file in (await listings.value(project, head))[1].files]


async def test_a_large_document_is_not_waited_for_and_who_reads_waits(disk, writes, kept):
    await writes.put("cache/x", LARGE, lambda: kept.append(True))
    reader = asyncio.create_task(writes.settled("cache/x"))
    await turns()
    assert (disk.begun, kept, reader.done()) == ([LARGE], [], False)
    disk.free.set()
    await reader
    assert (await disk.store.get("cache/x"), kept) == (LARGE, [True])


async def test_a_small_document_is_there_when_it_was_put(store, writes, kept):
    await writes.put("cache/x", b"small", lambda: kept.append(True))
    assert (await store.get("cache/x"), kept) == (b"small", [True])


@pytest.mark.parametrize("last", [b"y" * LATER_FROM_BYTES, b"small"])
async def test_what_was_put_last_stays(disk, writes, last):
    await writes.put("cache/x", LARGE, lambda: None)
    await writes.put("cache/x", last, lambda: None)
    await turns()
    assert disk.begun == [LARGE]
    disk.free.set()
    await writes.settled("cache/x")
    assert await disk.store.get("cache/x") == last


@pytest.mark.parametrize("error", [StorageFull(), OSError("broken")])
async def test_a_failed_write_is_logged_and_forgotten(disk, writes, kept, error, caplog):
    disk.error = error
    disk.free.set()
    with caplog.at_level(logging.ERROR):
        await writes.put("cache/x", LARGE, lambda: kept.append(True))
        await writes.settled("cache/x")
    assert [record.message for record in caplog.records] == ["listing could not be kept"]
    assert kept == []
    disk.error = None
    await writes.put("cache/x", LARGE, lambda: kept.append(True))
    await writes.settled("cache/x")
    assert kept == [True]


async def test_a_disk_that_is_too_slow_is_waited_for(disk, writes, monkeypatch):
    monkeypatch.setattr(module, "MAX_WAITING_BYTES", 2 * LATER_FROM_BYTES)
    for number in range(2):
        await writes.put(f"cache/{number}", LARGE, lambda: None)
    third = asyncio.create_task(writes.put("cache/3", LARGE, lambda: None))
    await turns()
    assert not third.done()
    disk.free.set()
    await third
    disk.free.clear()
    await asyncio.wait_for(writes.put("cache/4", LARGE, lambda: None), 1)  # the others are done, and count no more
    disk.free.set()


async def test_the_end_of_an_earlier_write_does_not_hide_a_later_one(store, writes, monkeypatch):
    permits, written = asyncio.Semaphore(0), []

    async def put(key: str, data: bytes) -> None:
        await permits.acquire()
        written.append(data[:1])

    monkeypatch.setattr(store, "put", put)
    for letter in (b"a", b"b"):
        await writes.put("cache/x", letter * LATER_FROM_BYTES, lambda: None)
    permits.release()
    while not written:
        await asyncio.sleep(0)
    await turns()
    reader = asyncio.create_task(writes.settled("cache/x"))
    await turns()
    assert not reader.done()
    permits.release()
    await reader
    assert written == [b"a", b"b"]


async def test_what_has_begun_is_finished_at_shutdown(disk):
    tasks = Tasks()
    writes = Writes(disk.store, tasks)
    await writes.put("cache/x", LARGE, lambda: None)
    await turns()
    closing = asyncio.create_task(tasks.aclose())
    await turns()
    assert not closing.done()
    disk.free.set()
    await closing
    assert await disk.store.get("cache/x") == LARGE


# Listings


async def test_a_large_listing_is_answered_before_it_is_written(make_listings, upstreams, disk):
    upstreams.lists(BASE, "x", *many())
    listings, seen = make_listings(), []
    listings.watcher = lambda name, held: seen.append((name, held))
    assert len(await names(listings)) == 1000
    assert (seen, len(disk.begun)) == ([], 1)
    disk.free.set()
    while not seen:
        await asyncio.sleep(0.001)
    assert decode(await disk.store.get(f"{listings.documents_prefix}/x")) is not None
    assert seen == [("x", True)]


async def test_a_listing_that_memory_has_lost_is_read_when_it_is_written(make_listings, upstreams, disk, monkeypatch):
    monkeypatch.setattr(listings_module, "MAX_LISTED_FILES", 10)
    upstreams.lists(BASE, "x", *many())
    listings = make_listings()
    reading = asyncio.create_task(names(listings))
    await asyncio.sleep(0.05)
    assert not reading.done()
    disk.free.set()
    assert len(await reading) == 1000
    assert len(upstreams.asked) == 1


async def test_a_listing_that_is_withdrawn_while_it_is_written_does_not_come_back(make_listings, upstreams, disk, clock):
    # PROXY-11
    upstreams.lists(BASE, "x", *many())
    listings = make_listings(metadata_ttl=1)
    await names(listings)
    del upstreams.answers[f"{BASE}x/"]
    clock.turn(2)
    asking = asyncio.create_task(listings.head("x"))
    await asyncio.sleep(0.05)
    disk.free.set()
    assert await asking is None
    assert await disk.store.get(f"{listings.documents_prefix}/x") is None


async def test_a_large_listing_that_cannot_be_kept_is_served_from_memory(make_listings, upstreams, disk):
    upstreams.lists(BASE, "x", *many())
    disk.error = StorageFull()
    disk.free.set()
    listings = make_listings()
    for _ in range(2):
        assert len(await names(listings)) == 1000
        await turns()
    assert len(upstreams.asked) == 1
