"""What a project's page rests on: until when it stands without a question, and whether it is renewed exactly as it would be made."""

from __future__ import annotations

import asyncio
import gc
import hashlib
import inspect
import math
import warnings

import httpx
import pytest

from nora.api import Content, File, Page, StorageFull
from nora.context import Reliance, RequestContext, Standing, current_request
from nora.registry.curate import Curator, Target
from nora.registry.journal import Journal
from nora.registry.standing import RECHECK_SECONDS, at_once
from nora.rights import ALL
from nora.store.protocol import blob_key
from nora.upstream.pins import Pin, Pins

A, B = "https://a.example/simple/", "https://b.example/simple/"


@pytest.fixture
def ask(store):
    """A project's page, and what it rests on, as a request learns it."""
    store.changes.watch()

    async def ask(registry, project: str = "x", variant: str = "") -> tuple[Page, Standing | None]:
        reliance = Reliance()
        reset = current_request.set(RequestContext("r-1", reliance=reliance, grants=ALL))
        try:
            page = await registry.project_page(project, "a/b", lambda listing: repr(listing).encode(), variant=variant)
        finally:
            current_request.reset(reset)
        return page, reliance.standing_of(page)

    return ask


@pytest.fixture
def stands(world):
    """Whether a standing holds without a question, as the cache of prepared answers decides it."""

    def stands(standing: Standing) -> bool:
        return standing.since <= world.clock() < standing.until and standing.token == world.store.changes.token()

    return stands


async def curator(world, registry) -> Curator:
    return Curator(
        index=world.index(),
        overlay=registry._overlay,
        listing=registry.listing,
        journal=Journal("main", [world], world.clock),
        version_key=str,
    )


# Who wants to know


async def test_a_page_that_nobody_wants_to_keep_rests_on_nothing(world, store):
    store.changes.watch()
    registry = world.registry()
    await world.publish(registry, "x", "x-1", b"data")
    assert current_request.get().reliance is None
    assert await registry.project_page("x", "a/b", lambda _: b"") is not None


async def test_without_a_token_a_page_rests_on_nothing(world, ask, store):
    registry = world.registry()
    await world.publish(registry, "x", "x-1", b"data")
    assert (await ask(registry))[1] is not None
    store.changes.close()
    assert (await ask(registry))[1] is None


async def test_an_answer_that_asked_for_more_than_its_page_rests_on_more(world, ask):
    # The handler may have chosen the page because of what else it saw.
    registry = world.registry()
    await world.publish(registry, "x", "x-1", b"data")
    await world.publish(registry, "y", "y-1", b"data")
    for more in (
        lambda: registry.listing("y"),
        lambda: registry.listing("x"),
        lambda: registry.related("x", "kind"),
        lambda: registry.project_page("y", "a/b", lambda _: b""),
    ):
        for first in (True, False):
            reliance = Reliance()
            reset = current_request.set(RequestContext("r-1", reliance=reliance, grants=ALL))
            if first:
                await more()
            page = await registry.project_page("x", "a/b", lambda _: b"")
            if not first:
                await more()
            current_request.reset(reset)
            assert reliance.standing_of(page) is None


async def test_a_page_that_another_took_the_place_of_has_no_standing(world, ask):
    registry = world.registry()
    await world.publish(registry, "x", "x-1", b"data")
    reliance = Reliance()
    reset = current_request.set(RequestContext("r-1", reliance=reliance, grants=ALL))
    page = await registry.project_page("x", "a/b", lambda _: b"")
    current_request.reset(reset)
    assert reliance.standing_of(page) is not None
    assert reliance.standing_of(Page(page.body, page.content_type)) is None


# Until when, with upstreams


@pytest.mark.parametrize(("ttl", "seconds"), [(300, RECHECK_SECONDS), (-1, RECHECK_SECONDS), (1, 1)])
async def test_a_page_of_an_upstreams_stands_no_longer_than_it_is_fresh(world, ask, stands, ttl, seconds):
    world.upstreams.lists(A, "x", File(name="x-1"))
    registry = world.registry(A, metadata_ttl=ttl)
    await ask(registry)
    _, standing = await ask(registry)
    assert stands(standing)
    world.clock.turn(seconds - 0.01)
    assert stands(standing)
    world.clock.turn(0.01)
    assert not stands(standing)


async def test_what_was_fetched_for_the_answer_itself_is_a_change_that_renewal_settles(world, ask, stands):
    world.upstreams.lists(A, "x", File(name="x-1"))
    page, standing = await ask(world.registry(A))
    assert not stands(standing)
    standing = standing.renew()
    assert standing.answer is page
    assert stands(standing)


async def test_it_is_renewed_until_the_upstream_is_to_be_asked_again(world, ask, stands):
    world.upstreams.lists(A, "x", File(name="x-1"))
    registry = world.registry(A, metadata_ttl=10)
    page, standing = await ask(registry)
    for _ in range(9):
        world.clock.turn(1)
        standing = standing.renew()
        assert standing.answer is page
        assert stands(standing)
    world.clock.turn(0.999)
    assert standing.renew().until == pytest.approx(standing.since + 1)
    world.clock.turn(0.001)
    assert standing.renew() is None
    await asyncio.sleep(0.02)
    assert len(world.upstreams.asked) == 1, "asking is for the request that goes the usual way"


async def test_what_is_always_to_be_asked_for_never_stands(world, ask, stands):
    world.upstreams.lists(A, "x", File(name="x-1"))
    _, standing = await ask(world.registry(A, metadata_ttl=0))
    assert standing.until == -math.inf
    assert standing.renew() is None
    assert len(world.upstreams.asked) == 1


async def test_a_stale_page_never_stands(world, ask):
    world.upstreams.lists(A, "x", File(name="x-1"))
    registry = world.registry(A, metadata_ttl=10)
    await ask(registry)
    world.clock.turn(10)
    world.upstreams.answers[f"{A}x/"] = httpx.ConnectError("down")
    for _ in range(3):  # when it fails, and within the outage
        page, standing = await ask(registry)
        assert page.body
        assert standing.until == -math.inf
        assert standing.renew() is None


async def test_a_page_from_before_the_clock_was_set_back_does_not_stand(world, ask, stands):
    world.upstreams.lists(A, "x", File(name="x-1"))
    registry = world.registry(A, metadata_ttl=10)
    _, standing = await ask(registry)
    world.clock.turn(-0.5)
    assert not stands(standing)
    # Back by more than it is fresh for: the usual way asks the upstream again, and so it must be.
    world.clock.turn(-3600)
    assert standing.renew() is None
    world.upstreams.answers[f"{A}x/"] = httpx.ConnectError("down")
    assert (await ask(registry))[1].until == -math.inf


async def test_an_upstream_that_comes_first_and_has_nothing_bounds_it_too(world, ask, stands):
    world.upstreams.lists(B, "x", File(name="x-1"))
    registry = world.registry(A, B, metadata_ttl=300)
    _, standing = await ask(registry)
    for _ in range(59):
        world.clock.turn(1)
        standing = standing.renew()
        assert stands(standing)
    world.clock.turn(1)  # an absence is remembered for a minute
    assert standing.renew() is None
    world.upstreams.lists(A, "x", File(name="x-9"))
    assert b"x-9" in (await ask(registry))[0].body


async def test_an_upstream_that_comes_first_and_fails_lets_nothing_stand(world, ask):
    world.upstreams.lists(B, "x", File(name="x-1"))
    registry = world.registry(A, B, metadata_ttl=300)
    await ask(registry)
    world.clock.turn(60)
    world.upstreams.answers[f"{A}x/"] = httpx.ConnectError("down")
    page, standing = await ask(registry)
    assert b"x-1" in page.body
    assert standing.until == -math.inf


async def test_an_upstream_whose_address_has_changed_lets_nothing_stand(world, ask):
    world.upstreams.lists(A, "x", File(name="x-1"))
    await ask(world.registry(A))
    world.upstreams.answers[f"{B}x/"] = httpx.ConnectError("down")
    page, standing = await ask(world.registry(B))
    assert b"x-1" in page.body
    assert standing.until == -math.inf


async def test_hosted_files_stand_whatever_upstreams_do(world, ask, stands):
    registry = world.registry(A, metadata_ttl=0)
    await world.publish(registry, "x", "x-1", b"data")
    page, standing = await ask(registry)
    for _ in range(3):
        world.clock.turn(3600)
        assert not stands(standing)
        standing = standing.renew()
        assert stands(standing)
        assert standing.answer is page
    assert world.upstreams.asked == []


async def test_merged_files_stand_as_long_as_the_upstreams_do(world, ask, stands):
    world.upstreams.lists(A, "x", File(name="x-9"))
    registry = world.registry(A, metadata_ttl=10, merge_upstream=["x"])
    await world.publish(registry, "x", "x-1", b"data")
    await ask(registry)
    _, standing = await ask(registry)
    assert stands(standing)
    world.clock.turn(10)
    assert standing.renew() is None
    world.upstreams.answers[f"{A}x/"] = 404
    await ask(registry)
    _, standing = await ask(registry)
    assert stands(standing)


async def test_hosted_files_without_a_failing_upstreams_never_stand(world, ask):
    world.upstreams.answers[f"{A}x/"] = httpx.ConnectError("down")
    registry = world.registry(A, merge_upstream=["x"])
    await world.publish(registry, "x", "x-1", b"data")
    page, standing = await ask(registry)
    assert b"x-1" in page.body
    assert standing.until == -math.inf


# Changes. Each by another worker, whose memory we do not share.


@pytest.mark.parametrize("change", ["upload", "yank", "unyank", "delete", "status"])
async def test_a_change_of_what_is_hosted_ends_it(world, ask, stands, change):
    here, there = world.registry(), world.registry()
    for name in ("x-1", "x-2"):
        await world.publish(there, "x", name, name.encode(), version=name[-1])
    work = await curator(world, there)
    if change == "unyank":
        await work.yank("x", Target(version="1"))
    page, standing = await ask(here)
    assert stands(standing)
    match change:
        case "upload":
            await world.publish(there, "x", "x-3", b"data")
        case "yank":
            await work.yank("x", Target(version="1"))
        case "unyank":
            await work.unyank("x", Target(version="1"))
        case "delete":
            await work.delete("x", Target(version="1"))
        case "status":
            await work.set_status("x", "archived")
    assert not stands(standing)
    assert standing.renew() is None
    assert (await ask(here))[0].body != page.body


async def test_a_yank_of_an_upstreams_file_ends_it(world, ask, stands):
    world.upstreams.lists(A, "x", File(name="x-1", version="1"))
    here, there = world.registry(A), world.registry(A)
    page, standing = await ask(here)
    await (await curator(world, there)).yank("x", Target(version="1"))
    assert not stands(standing)
    assert standing.renew() is None
    assert (await ask(here))[0].body != page.body


async def test_a_first_upload_takes_the_name_from_the_upstream_at_once(world, ask, stands):
    world.upstreams.lists(A, "x", File(name="x-9"))
    here, there = world.registry(A), world.registry(A)
    _, standing = await ask(here)
    await world.publish(there, "x", "x-1", b"data")
    assert not stands(standing)
    assert standing.renew() is None


async def test_a_pin_ends_it(world, ask, stands):
    world.upstreams.lists(A, "x", File(name="x-1"))
    here = world.registry(A)
    page, standing = await ask(here)
    await Pins(world.store, "cache/main/0").add("x", Pin(name="x-1", sha256="f" * 64, size=1))
    assert not stands(standing)
    assert standing.renew() is None
    assert b"f" * 64 in (await ask(here))[0].body
    assert b"f" * 64 not in page.body


async def test_a_change_of_another_project_ends_nothing_but_has_to_be_looked_at(world, ask, stands):
    here, there = world.registry(A), world.registry(A)
    world.upstreams.lists(A, "x", File(name="x-1"))
    world.upstreams.lists(A, "y", File(name="y-1"))
    page, standing = await ask(here)
    await ask(there, "y")
    assert not stands(standing)
    standing = standing.renew()
    assert stands(standing)
    assert standing.answer is page


async def test_a_change_while_the_page_is_made_is_not_missed(world, ask, stands):
    # The token is taken before anything is looked at.
    registry, there = world.registry(), world.registry()
    await world.publish(there, "x", "x-1", b"data")
    resolve = registry._resolve

    async def slowly(project):
        resolved = await resolve(project)
        await world.publish(there, "x", "x-2", b"data")
        return resolved

    registry._resolve = slowly
    _, standing = await ask(registry)
    assert not stands(standing)


async def test_a_change_behind_our_back_ends_it_within_a_second(world, ask, stands):
    world.upstreams.lists(A, "x", File(name="x-1"))
    registry = world.registry(A, B)
    await ask(registry)
    _, standing = await ask(registry)
    for path in (world.store.root / "cache").rglob("*"):
        if path.is_file():
            path.unlink()
    manifest = world.store.root / "index/main/x/000000000001.json"
    manifest.parent.mkdir(parents=True)
    manifest.write_bytes(b"{}")  # no manifest of ours, but a restored backup may put one there
    assert stands(standing)
    world.clock.turn(RECHECK_SECONDS)
    assert not stands(standing)
    assert standing.renew() is None


async def test_a_storage_whose_token_was_restored_is_looked_at_anew(world, ask, stands):
    registry = world.registry()
    await world.publish(registry, "x", "x-1", b"data")
    _page, standing = await ask(registry)
    (world.store.root / "CHANGES").unlink()
    world.clock.turn(RECHECK_SECONDS)
    standing = standing.renew()
    assert stands(standing)
    await world.publish(world.registry(), "x", "x-2", b"data")
    assert not stands(standing)


# Renewal


async def test_a_page_that_was_pushed_out_of_memory_is_not_renewed(world, ask):
    # Made again it might say something else: which files of a withdrawn project are held is no part of a revision.
    registry = world.registry()
    await world.publish(registry, "x", "x-1", b"data")
    _, standing = await ask(registry)
    assert standing.renew() is not None
    registry._pages._cache._pages.discard(("x", "a/b", ""))
    assert standing.renew() is None


async def test_what_was_pushed_out_of_memory_is_not_waited_for(world, ask):
    world.upstreams.lists(A, "x", File(name="x-1"))
    registry = world.registry(A)
    _, standing = await ask(registry)
    registry._sources[0].listings._heads.discard("x")
    assert standing.renew() is None
    await asyncio.sleep(0.05)  # what was begun ends without a word


async def test_renewal_fails_quietly_where_the_usual_way_fails_aloud(world, ask, monkeypatch):
    registry = world.registry()
    await world.publish(registry, "x", "x-1", b"data")
    _, standing = await ask(registry)

    async def broken(_: str) -> bool:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(world.store, "exists", broken)
    assert standing.renew() is None


async def test_only_what_an_upstream_said_last_stands(world, ask):
    # The stored answer was removed and asked for again while a page was made of the one before.
    world.upstreams.lists(A, "x", File(name="x-1"))
    registry = world.registry(A, metadata_ttl=300)
    await ask(registry)
    listings = registry._sources[0].listings
    earlier = await listings.head("x")
    assert listings.stands_until("x", earlier) == world.clock() + 300
    world.upstreams.lists(A, "x", File(name="x-2"))
    await listings._ask("x", None)
    assert listings.stands_until("x", earlier) == -math.inf


async def test_a_full_disk_that_keeps_an_answer_in_memory_only_does_not_let_the_old_one_stand(world, ask, stands, monkeypatch):
    world.upstreams.lists(A, "x", File(name="x-1"))
    registry = world.registry(A, metadata_ttl=10)
    _, standing = await ask(registry)

    async def full(*_: object) -> None:
        raise StorageFull("no room")

    monkeypatch.setattr(world.store, "put", full)
    world.upstreams.lists(A, "x", File(name="x-2"))
    world.clock.turn(10)
    assert b"x-2" in (await ask(registry, variant="other"))[0].body
    assert not stands(standing)
    assert standing.renew() is None


def test_at_once_gives_what_needs_no_waiting_and_nothing_else():
    closed: list[str] = []

    async def ready() -> int:
        return 7

    async def waits() -> int:
        try:
            await asyncio.sleep(0)
        finally:
            closed.append("waits")
        return 7

    async def fails() -> int:
        raise ValueError

    async def cancelled() -> int:
        raise asyncio.CancelledError

    works = [work() for work in (ready, waits, fails, cancelled)]
    assert [at_once(work) for work in works] == [7, None, None, None]
    assert closed == ["waits"]
    assert {inspect.getcoroutinestate(work) for work in works} == {inspect.CORO_CLOSED}


# Files


@pytest.fixture
def opened(store):
    """A file, opened and closed again, and what it rests on."""
    store.changes.watch()

    async def opened(registry, project: str, name: str, sidecar: str = "") -> tuple[Content, Standing | None]:
        reliance = Reliance()
        reset = current_request.set(RequestContext("r-1", reliance=reliance, grants=ALL))
        try:
            content = await registry.open(project, name, sidecar=sidecar)
        finally:
            current_request.reset(reset)
        await content.source.aclose()
        return content, reliance.standing_of(content)

    return opened


async def settled(world) -> None:
    """What a download does after its last byte is done."""
    while world.tasks._running:
        await asyncio.sleep(0.001)


async def test_a_hosted_file_stands_through_changes_of_others_and_not_its_own_removal(world, opened, stands):
    registry = world.registry()
    await world.publish(registry, "x", "x-1", b"data", sidecars={".meta": b"m"})
    for sidecar in ("", ".meta"):
        content, standing = await opened(registry, "x", "x-1", sidecar)
        assert stands(standing)
        await world.publish(registry, "x", f"x-2{sidecar}", b"other")
        assert not stands(standing)
        assert standing.renew() is None, "the listing is to be made again, which takes waiting"
        await registry.listing("x")
        standing = standing.renew()
        assert standing.answer is content
        assert stands(standing)
    other = await curator(world, registry)
    await other.delete("x", Target(file="x-1"))
    await registry.listing("x")
    assert not stands(standing)
    assert standing.renew() is None


async def test_a_file_of_a_project_that_is_quarantined_stands_no_longer(world, opened):
    registry = world.registry()
    await world.publish(registry, "x", "x-1", b"data")
    _, standing = await opened(registry, "x", "x-1")
    await (await curator(world, registry)).set_status("x", "quarantined", "")
    await registry.listing("x")
    assert standing.renew() is None


@pytest.mark.parametrize("damage", [lambda path: path.unlink(), lambda path: path.write_bytes(b"dat")])
async def test_a_file_whose_blob_is_damaged_stands_no_longer_than_a_second(world, opened, stands, damage):
    registry = world.registry()
    await world.publish(registry, "x", "x-1", b"data")
    _, standing = await opened(registry, "x", "x-1")
    path = world.store.root / blob_key(hashlib.sha256(b"data").hexdigest())
    path.chmod(0o600)
    damage(path)
    assert stands(standing)
    world.clock.turn(RECHECK_SECONDS)
    assert not stands(standing)
    assert standing.renew() is None


async def test_a_held_file_of_an_upstreams_is_noted_as_used_when_it_is_renewed(world, opened, read, stands):
    world.upstreams.lists(A, "x", world.upstream_file(A, "x-1", b"data"))
    registry = world.registry(A)
    _, cold = await opened(registry, "x", "x-1")
    assert cold is None, "it is not here yet"
    await read(await registry.open("x", "x-1"))
    await settled(world)
    noted: list[str] = []

    class Used:
        used = staticmethod(noted.append)

    registry._files._used = Used()
    await registry.listing("x")
    _, standing = await opened(registry, "x", "x-1")
    assert noted == [hashlib.sha256(b"data").hexdigest()]
    for _ in range(3):
        world.clock.turn(RECHECK_SECONDS)
        assert not stands(standing)
        standing = standing.renew()
        assert stands(standing)
    assert noted == [hashlib.sha256(b"data").hexdigest()] * 4
    # Evicted: the usual way fetches it again.
    (world.store.root / blob_key(noted[0])).unlink()
    assert standing.renew() is None


async def test_a_file_of_an_upstreams_stands_no_longer_than_its_listing_is_fresh(world, opened, read, stands):
    world.upstreams.lists(A, "x", world.upstream_file(A, "x-1", b"data"))
    registry = world.registry(A, metadata_ttl=2)
    await read(await registry.open("x", "x-1"))
    await settled(world)
    await registry.listing("x")
    _, standing = await opened(registry, "x", "x-1")
    assert stands(standing)
    world.clock.turn(1)
    standing = standing.renew()
    assert stands(standing)
    world.clock.turn(1)
    assert not stands(standing)
    assert standing.renew() is None
    await asyncio.sleep(0.02)


async def test_a_file_that_is_opened_to_be_renewed_is_closed(world, opened):
    registry = world.registry()
    await world.publish(registry, "x", "x-1", b"data")
    _, standing = await opened(registry, "x", "x-1")
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        for _ in range(3):
            assert standing.renew() is not None
        gc.collect()
    assert [str(each.message) for each in warned] == []


# The list of projects


@pytest.fixture
def listed(store):
    """The page of the list of projects, and what it rests on."""
    store.changes.watch()

    async def listed(registry) -> tuple[Page, Standing | None]:
        reliance = Reliance()
        reset = current_request.set(RequestContext("r-1", reliance=reliance, grants=ALL))
        try:
            page = await registry.projects_page("a/b", lambda names: repr(names.names).encode())
        finally:
            current_request.reset(reset)
        return page, reliance.standing_of(page)

    return listed


def holding(stands, standing: Standing) -> bool:
    return stands(standing) and standing.holds()


async def test_the_list_stands_until_a_project_begins_on_whatever_worker(world, listed, stands):
    registry = world.registry()
    await world.publish(registry, "x", "x-1", b"data")
    await asyncio.sleep(0.15)  # a young folder proves nothing
    for worker, name in ((registry, "y"), (world.registry(), "z")):
        page, standing = await listed(registry)
        assert holding(stands, standing)
        await world.publish(registry, "x", f"x-{name}", b"other")
        assert not holding(stands, standing)
        standing = standing.renew()
        assert standing.answer is page
        assert holding(stands, standing)
        await world.publish(worker, name, f"{name}-1", b"data")
        assert not holding(stands, standing)
        assert standing.renew() is None
        assert name.encode() in (await listed(registry))[0].body
        await asyncio.sleep(0.15)


async def test_a_name_that_this_process_has_just_seen_ends_it_without_another_token(world, listed, stands):
    world.upstreams.lists(A, "x", File(name="x-1"))
    registry = world.registry(A)
    await registry.listing("x")
    await asyncio.sleep(0.15)
    await listed(registry)
    _, standing = await listed(registry)
    assert holding(stands, standing)
    registry._names._held[0]._note("y", True)
    assert stands(standing)
    assert not holding(stands, standing)
    assert standing.renew() is None
    assert b"'y'" in (await listed(registry))[0].body


async def test_a_page_that_was_chosen_by_the_list_of_projects_rests_on_more(world):
    registry = world.registry()
    world.store.changes.watch()
    await world.publish(registry, "x", "x-1", b"data")
    reliance = Reliance()
    reset = current_request.set(RequestContext("r-1", reliance=reliance, grants=ALL))
    await registry.projects()
    page = await registry.project_page("x", "a/b", lambda _: b"")
    current_request.reset(reset)
    assert reliance.standing_of(page) is None
