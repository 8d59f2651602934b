"""The names of a registry's projects: exact for what is hosted, cheap for everybody, and late by seconds for other's pages."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nora.api import Event, File, NotFound, StorageFull
from nora.index.index import Index
from nora.index.manifest import Manifest
from nora.registry import names as module
from nora.registry.names import AT_ONCE, HELD_SECONDS, MAX_STEPS, Names
from nora.store.protocol import segment
from nora.tasks import SingleFlight

UP = "https://up.example/simple/"


class Worker:
    """One process's view: the names, and what changes them."""

    def __init__(self, world, *urls: str, **config) -> None:
        self.index = Index(world.store, "main")
        self.listings = [source.listings for source in world.sources(*urls, **config)]
        self.now, self.slept = 1000.0, []
        self.names = Names(
            registry="main",
            store=world.store,
            index=self.index,
            listings=self.listings,
            flights=SingleFlight(world.tasks),
            clock=lambda: self.now,
            sleep=self.sleep,
        )

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds
        await asyncio.sleep(0)

    async def begin(self, project: str) -> None:
        def step(current: Manifest | None, serial: int) -> Manifest:
            event = Event(action="publish", registry="main", project=project)
            return Manifest(project=project, serial=serial, event=event)

        await self.index.change(project, step)

    async def shown(self) -> list[str]:
        return list((await self.names.current()).names)

    async def settled(self) -> None:
        """Let what was started for later come to its end."""
        while self.names._flights._flights:
            await asyncio.sleep(0.001)


@pytest.fixture
def worker(world) -> Worker:
    return Worker(world)


@pytest.fixture
def reads(world, monkeypatch) -> list[str]:
    """The folders that are read from now on, and the keys that are looked for."""
    seen: list[str] = []
    names, existing = world.store.names, world.store.existing

    async def noted(prefix: str) -> list[str]:
        if prefix.count("/") != 2:  # else a project's own
            seen.append(prefix)
        return await names(prefix)

    async def looked_for(keys) -> list[bool]:
        listed = list(keys)
        seen.extend(listed)
        return await existing(listed)

    monkeypatch.setattr(world.store, "names", noted)
    monkeypatch.setattr(world.store, "existing", looked_for)
    return seen


def old(path: Path) -> None:
    at = time.time_ns() - 3600 * 10**9
    os.utime(path, ns=(at, at))


async def test_nothing_is_listed_before_anything_is_there(worker):
    first = await worker.names.current()
    assert first.names == ()
    assert await worker.names.current() is first


async def test_a_project_that_begins_here_is_listed_at_once_and_no_folder_is_read(worker, reads):
    await worker.begin("b")
    assert await worker.shown() == ["b"]
    assert set(reads) == {"index/main", "index/main/b/000000000001.json"}
    reads.clear()
    for project in ("a", "c", "ü/..", "b2"):
        await worker.begin(project)
        assert project in await worker.shown()
    assert await worker.shown() == ["a", "b", "b2", "c", "ü/.."]
    assert reads == []


async def test_many_that_come_at_once_from_elsewhere_are_all_listed(world, monkeypatch):
    monkeypatch.setattr(module, "FEW", 3)
    one, other = Worker(world), Worker(world)
    expected = []
    for count in (2, 3, 4, 10):
        expected += [f"p{count:02}x{number}" for number in range(count)]
        for project in expected[-count:]:
            await one.begin(project)
        assert await other.shown() == await one.shown() == sorted(expected)


async def test_projects_that_begin_here_at_the_same_time_need_no_reading_either(worker, reads):
    await worker.begin("x")
    await worker.shown()
    reads.clear()
    await asyncio.gather(*(worker.begin(f"p{number}") for number in range(30)))
    assert len(await worker.shown()) == 31
    assert reads == []


async def test_a_further_change_of_a_project_changes_nothing(worker, reads):
    await worker.begin("x")
    first = await worker.names.current()
    reads.clear()
    await worker.begin("x")
    assert await worker.names.current() is first
    assert reads == []


async def test_a_project_that_begins_elsewhere_is_listed_at_once_and_only_it_is_looked_at(world, reads):
    one, other = Worker(world), Worker(world)
    for number in range(5):
        await one.begin(f"p{number}")
    assert len(await other.shown()) == 5
    reads.clear()
    await one.begin("new")
    assert "new" in await other.shown()
    assert set(reads) == {"index/main", "index/main/new/000000000001.json"}


async def test_what_begins_here_and_there_by_turns_is_all_listed(world):
    one, other = Worker(world), Worker(world)
    expected = []
    for number in range(20):
        await (one, other)[number % 2].begin(f"p{number:02}")
        expected.append(f"p{number:02}")
        if number % 3 == 0:
            assert await one.shown() == expected
        if number % 5 == 0:
            assert await other.shown() == expected
    assert await one.shown() == await other.shown() == expected


async def test_an_unchanged_list_costs_one_look_per_folder(world, worker, reads, monkeypatch):
    await worker.begin("x")
    first = await worker.names.current()
    looks, marker = [], world.store.marker

    async def counted(prefix, known=None):
        looks.append(prefix)
        return await marker(prefix, known)

    monkeypatch.setattr(world.store, "marker", counted)
    reads.clear()
    for _ in range(5):
        assert await worker.names.current() is first
    assert looks == ["index/main"] * 5
    assert reads == []


async def test_folders_without_a_manifest_are_not_listed_until_they_have_one(world, worker):
    await worker.begin("x")
    (world.store.root / "index/main/ghost").mkdir()
    assert await worker.shown() == ["x"]
    await Worker(world).begin("ghost")  # elsewhere
    assert await worker.shown() == ["ghost", "x"]


async def test_a_folder_that_somebody_removed_is_no_longer_listed(world, worker):
    for project in ("x", "y"):
        await worker.begin(project)
    assert await worker.shown() == ["x", "y"]
    for path in (world.store.root / "index/main/y").iterdir():
        path.unlink()
    (world.store.root / "index/main/y").rmdir()
    assert await worker.shown() == ["x"]


def held_up(world, monkeypatch) -> tuple[asyncio.Event, asyncio.Event]:
    """Hold up each look at the folder of what is hosted: set when it has been read, and to be set for it to go on."""
    names, reading, go_on = world.store.names, asyncio.Event(), asyncio.Event()

    async def waiting(prefix: str) -> list[str]:
        listed = await names(prefix)
        if prefix == "index/main":
            reading.set()
            await go_on.wait()
        return listed

    monkeypatch.setattr(world.store, "names", waiting)
    return reading, go_on


async def test_those_who_ask_together_share_one_look_and_get_the_same(world, worker, reads):
    await Worker(world).begin("x")
    answers = await asyncio.gather(*(worker.names.current() for _ in range(50)))
    assert {id(answer) for answer in answers} == {id(answers[0])}
    assert reads.count("index/main") == 1


async def test_who_asks_during_a_look_gets_what_was_there_when_they_asked(world, worker, monkeypatch):
    # HTTP-9, MULTI-3: a look that has begun before an upload must not answer who asks after it.
    other = Worker(world)
    await other.begin("first")
    reading, go_on = held_up(world, monkeypatch)
    early = asyncio.create_task(worker.shown())
    await reading.wait()
    await other.begin("second")
    late = asyncio.create_task(worker.shown())
    await asyncio.sleep(0.01)
    go_on.set()
    assert await early == ["first"]
    assert await late == ["first", "second"]


async def test_what_changes_right_after_the_folder_was_read_is_seen_the_next_time(world, worker, monkeypatch):
    other, folder = Worker(world), world.store.root / "index/main"
    await other.begin("first")
    old(folder)
    names, late = world.store.names, ["second"]

    async def changed_after(prefix):
        listed = await names(prefix)
        if prefix == "index/main" and late:
            await other.begin(late.pop())
            os.utime(folder, (1_000_000_000, 1_000_000_000))  # so long ago that its time can be trusted
        return listed

    monkeypatch.setattr(world.store, "names", changed_after)
    assert await worker.shown() == ["first"]
    assert await worker.shown() == ["first", "second"]


async def test_who_asks_while_names_are_made_does_not_get_those_from_before(worker, monkeypatch):
    monkeypatch.setattr(module, "INLINE_NAMES", 0)
    await worker.begin("first")
    assert await worker.shown() == ["first"]
    digest, making, go_on = module._digest, threading.Event(), threading.Event()

    def slow(names):
        making.set()
        assert go_on.wait(10)
        return digest(names)

    monkeypatch.setattr(module, "_digest", slow)
    await worker.begin("second")
    early = asyncio.create_task(worker.shown())
    await asyncio.to_thread(making.wait, 10)
    late = asyncio.create_task(worker.shown())
    await asyncio.sleep(0.01)
    go_on.set()
    assert await early == await late == ["first", "second"]


async def test_what_begins_here_during_a_look_is_not_lost(world, worker, monkeypatch):
    reading, go_on = held_up(world, monkeypatch)
    early = asyncio.create_task(worker.shown())
    await reading.wait()
    await worker.begin("x")
    go_on.set()
    await early
    assert await worker.shown() == ["x"]


async def test_a_look_that_fails_is_repeated_by_the_next_who_asks(world, worker, monkeypatch):
    await Worker(world).begin("x")

    async def broken(prefix):
        raise OSError("broken")

    with monkeypatch.context() as patch:
        patch.setattr(world.store, "names", broken)
        with pytest.raises(OSError, match="broken"):
            await worker.shown()
    assert await worker.shown() == ["x"]


async def test_names_that_could_not_be_put_in_order_are_by_the_next_who_asks(worker, monkeypatch):
    await worker.begin("x")
    assert await worker.shown() == ["x"]
    await worker.begin("y")

    def broken(*args, **kwargs):
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr(module, "_place", broken)
        with pytest.raises(MemoryError):
            await worker.shown()
    assert await worker.shown() == ["x", "y"]


async def test_the_revision_tells_lists_apart_and_is_the_same_for_every_worker(world):
    one, other = Worker(world), Worker(world)
    seen = set()
    for number in range(5):
        await one.begin(f"p{number}")
        mine, theirs = await one.names.current(), await other.names.current()
        assert mine == theirs
        seen.add(mine.revision)
    assert len(seen) == 5


async def test_many_steps_that_cannot_be_joined_are_forgotten(world, worker, monkeypatch):
    monkeypatch.setattr(module, "MAX_STEPS", 5)
    other = Worker(world)
    await worker.shown()
    for number in range(8):
        await other.begin(f"theirs{number}")
        await worker.begin(f"ours{number}")
        assert len(worker.names._hosted._steps) <= 5
    assert len(await worker.shown()) == 16
    assert MAX_STEPS > 5


# A stream of new projects


async def test_a_long_list_is_made_again_once_in_a_while_and_whoever_waits_gets_the_newest(worker, monkeypatch):
    monkeypatch.setattr(module, "PAUSE_SECONDS_PER_NAME", 0.1)
    for number in range(10):
        await worker.begin(f"p{number}")
    await worker.shown()
    worker.now += 1000
    worker.slept.clear()
    for number in range(10):
        await worker.begin(f"q{number}")
        assert f"q{number}" in await worker.shown()
    assert worker.slept[:AT_ONCE] == [0.0] * AT_ONCE
    waits = worker.slept[AT_ONCE:]
    assert all(0.9 < wait <= 1.0 for wait in waits)
    assert len(waits) == 10 - AT_ONCE


async def test_those_who_come_while_somebody_waits_for_the_next_list_get_the_same(worker, monkeypatch):
    await worker.begin("x")
    await worker.shown()
    waiting, go_on = asyncio.Event(), asyncio.Event()

    async def held_up(seconds: float) -> None:
        waiting.set()
        await go_on.wait()

    worker.names._sleep = held_up
    await worker.begin("first")
    asking = [asyncio.create_task(worker.names.current())]
    await waiting.wait()
    for number in range(10):
        await worker.begin(f"q{number}")
        asking.append(asyncio.create_task(worker.names.current()))
    await asyncio.sleep(0.01)
    go_on.set()
    answers = await asyncio.gather(*asking)
    assert {id(answer) for answer in answers} == {id(answers[0])}
    assert len(answers[0].names) == 12


# What earlier processes have seen


async def test_a_start_looks_only_at_projects_that_no_earlier_process_has_seen(world, reads, monkeypatch):
    monkeypatch.setattr(module, "MIN_REMEMBERED", 10)
    one = Worker(world)
    (world.store.root / "index/main/ghost").mkdir(parents=True)
    for number in range(10):
        await one.begin(f"p{number}")
    monkeypatch.setattr(module, "RUN_NAMES", 3)
    assert len(await Worker(world).shown()) == 10
    assert (world.store.root / "cache/main/names").read_bytes().count(b"\n") == 4
    await one.begin("new")
    reads.clear()
    assert len(await Worker(world).shown()) == 11
    assert sorted(reads) == [
        "index/main",
        "index/main/ghost/000000000001.json",
        "index/main/new/000000000001.json",
    ]


async def test_few_projects_are_not_worth_remembering(world):
    one = Worker(world)
    await one.begin("x")
    await Worker(world).shown()
    assert not (world.store.root / "cache").exists()


@pytest.mark.parametrize(
    "stored", [b"", b"{", b"[]", b'{"format":99}\n["ghost"]', b'{"format":1}\n["ghost"]\n[1]', b'["ghost"]']
)
async def test_what_is_damaged_or_of_another_format_is_not_believed(world, stored):
    await Worker(world).begin("x")
    (world.store.root / "index/main/ghost").mkdir()
    await world.store.put("cache/main/names", stored)
    assert await Worker(world).shown() == ["x"]


async def test_what_is_remembered_lists_nothing_that_is_gone(world):
    await Worker(world).begin("x")
    await world.store.put("cache/main/names", b'{"format":1}\n["x","gone"]')
    assert await Worker(world).shown() == ["x"]


async def test_a_full_disk_does_not_keep_the_list_from_being_shown(world, monkeypatch):
    monkeypatch.setattr(module, "MIN_REMEMBERED", 1)
    await Worker(world).begin("x")

    async def full(key, data):
        raise StorageFull

    monkeypatch.setattr(world.store, "put", full)
    assert await Worker(world).shown() == ["x"]


# Pages that are held


async def test_pages_that_are_fetched_and_withdrawn_here_show_at_once(world, reads):
    one = Worker(world, UP, metadata_ttl=0)
    assert await one.shown() == []
    reads.clear()
    world.upstreams.lists(UP, "x", File(name="x-1"))
    await one.listings[0].head("x")
    assert await one.shown() == ["x"]
    await one.listings[0].head("x")  # refreshed, and nothing new
    assert await one.shown() == ["x"]
    del world.upstreams.answers[f"{UP}x/"]
    assert await one.listings[0].head("x") is None
    assert await one.shown() == []
    assert reads == []


async def test_a_name_that_is_hosted_and_held_is_listed_until_it_is_neither(world):
    one = Worker(world, UP, "https://second.example/", metadata_ttl=0)
    world.upstreams.lists(UP, "x", File(name="x-1"))
    await one.listings[0].head("x")
    await one.begin("x")
    assert await one.shown() == ["x"]
    del world.upstreams.answers[f"{UP}x/"]
    await one.listings[0].head("x")
    assert await one.shown() == ["x"]


async def test_pages_that_another_process_fetches_show_some_seconds_later(world, reads):
    one, other = Worker(world, UP), Worker(world, UP)
    assert await one.shown() == []
    world.upstreams.lists(UP, "x", File(name="x-1"))
    await other.listings[0].head("x")
    reads.clear()
    assert await one.shown() == []
    assert reads == []  # however often somebody asks
    one.now += HELD_SECONDS
    assert await one.shown() == []  # nobody waits for it
    await one.settled()
    assert await one.shown() == ["x"]
    assert await other.shown() == ["x"]


async def test_held_pages_that_do_not_change_are_not_read_again(world, reads):
    one = Worker(world, UP)
    world.upstreams.lists(UP, "x", File(name="x-1"))
    await one.listings[0].head("x")
    old(world.store.root / "cache/main/0/pages")
    assert await one.shown() == ["x"]
    reads.clear()
    for _ in range(3):
        one.now += HELD_SECONDS
        assert await one.shown() == ["x"]
        await one.settled()
    assert reads == []


async def test_what_is_fetched_while_the_folder_is_read_is_not_lost(world, monkeypatch):
    one = Worker(world, UP)
    names, reading, go_on = world.store.names, asyncio.Event(), asyncio.Event()

    async def held_up(prefix):
        listed = await names(prefix)
        if prefix.startswith("cache/"):
            reading.set()
            await go_on.wait()
        return listed

    monkeypatch.setattr(world.store, "names", held_up)
    asking = asyncio.create_task(one.shown())
    await reading.wait()
    world.upstreams.lists(UP, "x", File(name="x-1"))
    await one.listings[0].head("x")
    go_on.set()
    assert await asking == ["x"]


async def test_a_registry_asks_for_its_names_once_for_all_pages(world):
    registry = world.registry(UP)
    with pytest.raises(NotFound):
        await registry.listing("none")
    await world.publish(registry, "x", "x-1", b"data")
    calls = []

    def render(what):
        calls.append(what)
        return b",".join(name.encode() for name in what.names)

    pages = await asyncio.gather(*(registry.projects_page("a/b", render) for _ in range(30)))
    assert {page.body for page in pages} == {b"x"}
    assert len(calls) == 1


# In order


@given(st.sets(st.text(max_size=3), max_size=60), st.integers(1, 7))
def test_names_of_several_sources_are_put_in_order_each_once(names, run):
    class Source:
        def __init__(self, names):
            self.names = names

    before, module.RUN_NAMES = module.RUN_NAMES, run
    try:
        assert module._in_order([Source(names), Source(set(list(names)[::2]))]) == sorted(names)
    finally:
        module.RUN_NAMES = before


@given(st.lists(st.tuples(st.sampled_from("abcdef"), st.booleans())))
def test_names_that_come_and_go_keep_their_order(changes):
    placed, expected = [], set()
    for name, present in changes:
        module._place(placed, name, present=present)
        (expected.add if present else expected.discard)(name)
        assert placed == sorted(expected)


def test_folders_are_told_apart_by_the_names_that_they_stand_for():
    known = {"a", "ü/.."}
    names, others = module._split(["a", segment("ü/.."), segment("new/1"), "b"], known)
    assert names == known
    assert others == [segment("new/1"), "b"]
