"""Publishing: what is stored, what is refused, and who wins."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import os
import threading

import msgspec
import pytest

from nora.api import Actor, AlreadyExists, File, Forbidden, Invalid, Sidecar, StorageFull
from nora.context import RequestContext, current_request
from nora.index.manifest import Manifest, Removed
from nora.registry.publish import TOGETHER_BYTES
from nora.rights import ALL


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@pytest.fixture
def registry(world):
    return world.registry()


def closing(status: str):
    def step(current: Manifest, serial: int) -> Manifest:
        return msgspec.structs.replace(current, serial=serial, status=status)

    return step


async def test_a_published_file_says_what_it_is(world, registry):
    done = await world.publish(
        registry,
        "x",
        "x-1.whl",
        b"data",
        version="1",
        identity="x-1",
        extra={"requires": ">=3"},
        digests={"md5": "given", "sha256": "wrong"},
        size=99,
        url="https://elsewhere.example/",
        published="1970-01-01T00:00:00Z",
        sidecars={".metadata": b"Name: x"},
    )
    assert done.created
    # The host sets size, sha256, time and address; the rest is the format's.
    assert done.file == File(
        name="x-1.whl",
        version="1",
        size=4,
        digests={"md5": "given", "sha256": sha256(b"data")},
        published="2027-01-15T08:00:00.000000Z",
        sidecars={".metadata": Sidecar(digests={"sha256": sha256(b"Name: x")}, size=7)},
        identity="x-1",
        extra={"requires": ">=3"},
    )
    assert (await registry.listing("x")).files == (done.file,)
    assert world.blobs() == sorted([sha256(b"data"), sha256(b"Name: x")])


# UP-10
async def test_the_same_bytes_again_change_nothing(world, registry):
    first = await world.publish(registry, "x", "x-1", b"data", sidecars={".asc": b"1"})
    world.clock.turn(100)
    again = await world.publish(registry, "x", "x-1", b"data", sidecars={".asc": b"2"})
    assert (again.created, again.file) == (False, first.file)
    assert (await world.index().newest("x")).serial == 1
    assert len(world.events) == 1


# UP-11
async def test_other_bytes_under_the_same_name_are_refused_and_leave_nothing(world, registry):
    await world.publish(registry, "x", "x-1", b"data")
    before = world.blobs()
    with pytest.raises(AlreadyExists, match="already exists"):
        await world.publish(registry, "x", "x-1", b"other", sidecars={".asc": b"1"})
    assert world.blobs() == before
    assert (await world.index().newest("x")).serial == 1
    assert list(world.store._scratch.folder.iterdir()) == []


async def test_another_name_of_the_same_identity_is_refused_and_told_which(world, registry):
    await world.publish(registry, "x", "x-1.0", b"data", identity="x-1")
    before = world.blobs()
    for data in (b"data", b"other"):
        with pytest.raises(AlreadyExists, match=r"it means the same as x-1\.0"):
            await world.publish(registry, "x", "x-1.0.0", data, identity="x-1")
    assert world.blobs() == before


async def test_a_removed_name_takes_only_its_old_bytes(world, registry):
    await world.publish(registry, "x", "x-1", b"data")
    await world.index().change(
        "x",
        lambda current, serial: msgspec.structs.replace(
            current, serial=serial, files=(), removed={"x-1": Removed(sha256=sha256(b"data"))}
        ),
    )
    with pytest.raises(AlreadyExists, match="was deleted"):
        await world.publish(registry, "x", "x-1", b"other")
    assert world.blobs() == [sha256(b"data")]
    assert (await world.publish(registry, "x", "x-1", b"data")).created


@pytest.mark.parametrize("status", ["archived", "quarantined"])
async def test_a_closed_project_takes_no_uploads(world, registry, status):
    # STAT-2, STAT-3
    await world.publish(registry, "x", "x-1", b"data")
    await world.index().change("x", closing(status))
    before = world.blobs()
    with pytest.raises(Forbidden, match=f"the project is {status}"):
        await world.publish(registry, "x", "x-2", b"more")
    assert world.blobs() == before


async def test_a_deprecated_project_takes_uploads(world, registry):
    # STAT-3
    await world.publish(registry, "x", "x-1", b"data")
    await world.index().change("x", closing("deprecated"))
    assert (await world.publish(registry, "x", "x-2", b"more")).created


@pytest.mark.parametrize("project", ["", "x" * 256, "é" * 100])
async def test_a_project_that_cannot_be_stored_is_refused(world, registry, project):
    with pytest.raises(Invalid):
        await world.publish(registry, project, "x-1", b"data")
    assert world.blobs() == []


# CONC-2
async def test_of_many_publishing_one_name_with_other_content_exactly_one_wins(world):
    registries = [world.registry() for _ in range(4)]
    contents = [str(number).encode() * 100 for number in range(20)]
    outcomes = await asyncio.gather(
        *(world.publish(registries[number % 4], "x", "x-1", data) for number, data in enumerate(contents)),
        return_exceptions=True,
    )
    winners = [number for number, outcome in enumerate(outcomes) if not isinstance(outcome, Exception)]
    assert len(winners) == 1
    assert {type(outcome) for number, outcome in enumerate(outcomes) if number != winners[0]} == {AlreadyExists}
    for registry in [*registries, world.registry()]:
        listing = await registry.listing("x")
        assert [file.digests["sha256"] for file in listing.files] == [sha256(contents[winners[0]])]
    assert len(world.events) == 1


async def test_of_many_publishing_the_same_bytes_exactly_one_creates_and_all_succeed(world):
    registries = [world.registry() for _ in range(4)]
    outcomes = await asyncio.gather(*(world.publish(registries[number % 4], "x", "x-1", b"data") for number in range(20)))
    assert sum(outcome.created for outcome in outcomes) == 1
    assert all(outcome.file == outcomes[0].file for outcome in outcomes)
    assert len((await world.registry().listing("x")).files) == 1


# CONC-1
async def test_many_publishing_different_files_all_arrive(world):
    registries = [world.registry() for _ in range(4)]
    await asyncio.gather(
        *(world.publish(registries[number % 4], "x", f"x-{number}", str(number).encode()) for number in range(24))
    )
    listing = await world.registry().listing("x")
    assert {file.name for file in listing.files} == {f"x-{number}" for number in range(24)}
    assert (await world.index().newest("x")).serial == 24


@pytest.mark.parametrize("size", [TOGETHER_BYTES, TOGETHER_BYTES + 1])
async def test_only_small_files_hold_others_of_the_project_up_while_they_are_synced(world, registry, monkeypatch, size):
    # CONC-1
    await world.publish(registry, "x", "x-0", b"first")
    syncing, go_on, fsync = threading.Event(), threading.Event(), os.fsync

    def slow(descriptor):
        if os.fstat(descriptor).st_size == size:
            syncing.set()
            assert go_on.wait(10)
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", slow)
    first = asyncio.create_task(world.publish(registry, "x", "x-1", b"x" * size, sidecars={".asc": b"signature"}))
    assert await asyncio.to_thread(syncing.wait, 10)
    second = asyncio.create_task(world.publish(registry, "x", "x-2", b"second"))
    done, _ = await asyncio.wait([second], timeout=0.3 if size == TOGETHER_BYTES else 10)
    assert (second in done) == (size > TOGETHER_BYTES)
    go_on.set()
    assert (await first).created
    assert (await second).created
    assert world.blobs() == sorted(map(sha256, (b"first", b"x" * size, b"signature", b"second")))


# Events


async def test_the_event_says_what_who_when_and_by_which_request(world, registry):
    token = current_request.set(RequestContext("request-7", Actor(name="ada"), grants=ALL))
    try:
        await world.publish(registry, "x", "x-1", b"data")
    finally:
        current_request.reset(token)
    event = (await world.index().newest("x")).event
    assert world.events == [event]
    assert (event.action, event.registry, event.project, event.files) == ("publish", "main", "x", ("x-1",))
    assert (event.actor, event.request_id, event.at) == ("ada", "request-7", "2027-01-15T08:00:00.000000Z")


async def test_a_sink_that_fails_changes_nothing_and_the_others_hear(world, caplog):
    class Broken:
        def emit(self, event):
            raise RuntimeError("no")

    registry = world.registry(sinks=[Broken(), world])
    assert (await world.publish(registry, "x", "x-1", b"data")).created
    assert len(world.events) == 1
    assert "event sink failed" in caplog.text


async def test_sinks_hear_after_the_change_is_stored(world):
    seen = []

    class Looks:
        def emit(self, event):
            seen.append((world.store.root / "index/main/x/000000000001.json").exists())

    await world.publish(world.registry(sinks=[Looks()]), "x", "x-1", b"data")
    assert seen == [True]


# A full disk


@pytest.mark.parametrize("call", ["pwrite", "fsync", "link", "mkdir"])
async def test_a_full_disk_publishes_nothing_and_leaves_no_name(world, registry, monkeypatch, call):
    def full(*args, **kwargs):
        raise OSError(errno.ENOSPC, "full")

    with monkeypatch.context() as patch:
        patch.setattr(os, call, full)
        with pytest.raises(StorageFull):
            await world.publish(registry, "x", "x-1", b"data")
    assert world.blobs() == []
    assert (await registry.projects()).names == ()
    assert (await world.publish(registry, "x", "x-1", b"data")).created


async def test_a_disk_that_is_full_when_the_manifest_comes_leaves_no_empty_project(world, registry, monkeypatch):
    def full(*args, **kwargs):
        raise OSError(errno.ENOSPC, "full")

    with monkeypatch.context() as patch:
        patch.setattr(os, "rename", full)
        with pytest.raises(StorageFull):
            await world.publish(registry, "x", "x-1", b"data")
    # HTML-3: what the list of projects names has a page.
    assert (await registry.projects()).names == ()


async def test_a_publish_that_is_cancelled_in_its_middle_can_be_repeated(world, registry, monkeypatch):
    reached, never = asyncio.Event(), asyncio.Event()

    async def slow(*args, **kwargs):
        reached.set()
        await never.wait()

    with monkeypatch.context() as patch:
        patch.setattr(world.store, "begin", slow)
        working = asyncio.create_task(world.publish(registry, "x", "x-1", b"data"))
        await asyncio.wait_for(reached.wait(), 5)
        working.cancel()
        await asyncio.wait([working])
    assert await world.index().newest("x") is None
    assert list(world.store._scratch.folder.iterdir()) == []
    assert (await asyncio.wait_for(world.publish(registry, "x", "x-1", b"data"), 5)).created
