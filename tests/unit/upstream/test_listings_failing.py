"""What is said of a project when its upstream fails: stale pages, errors, and never an invented absence."""

from __future__ import annotations

import asyncio
import time

import httpx
import pytest

from nora.api import (
    File,
    StorageFull,
    UpstreamError,
    UpstreamInvalid,
    UpstreamTimeout,
    UpstreamUnavailable,
)
from nora.upstream import documents as module
from nora.upstream import listings as listings_module

BASE = "https://index.example/simple/"
X = f"{BASE}x/"


async def names(listings, project: str = "x") -> list[str] | None:
    head = await listings.head(project)
    if head is None:
        return None
    return [file.name for file in (await listings.value(project, head))[1].files]


def file(name: str) -> File:
    return File(name=name, digests={"sha256": "0" * 64})


class Hanging:
    """An answer that never comes; counts who waits and who gave up."""

    def __init__(self) -> None:
        self.waiting = 0

    async def __call__(self, request: httpx.Request) -> httpx.Response:
        self.waiting += 1
        await asyncio.sleep(3600)
        raise AssertionError


FAILURES = [
    (500, UpstreamUnavailable),
    (503, UpstreamUnavailable),
    (429, UpstreamUnavailable),
    (401, UpstreamInvalid),
    (403, UpstreamInvalid),
    (206, UpstreamInvalid),
    (b"<html>captive portal</html>", UpstreamInvalid),
    (b'{"project":"x","fil', UpstreamInvalid),
    (b"", UpstreamInvalid),
    (httpx.ConnectError("refused"), UpstreamUnavailable),
    (httpx.ReadTimeout("silence"), UpstreamTimeout),
    (httpx.RemoteProtocolError("no HTTP"), UpstreamInvalid),
]
IDS = [
    str(failure if isinstance(failure, int) else type(failure).__name__ + str(number))
    for number, (failure, _) in enumerate(FAILURES)
]


# PROXY-10, PROXY-13, CACHE-5
@pytest.mark.parametrize(("failure", "error"), FAILURES, ids=IDS)
async def test_with_nothing_held_a_failure_is_that_error_and_is_not_remembered(make_listings, upstreams, failure, error):
    listings = make_listings()
    upstreams.answers[X] = failure
    with pytest.raises(error) as caught:
        await listings.head("x")
    assert isinstance(caught.value, UpstreamError)
    assert not await listings.knows("x")
    upstreams.lists(BASE, "x", file("x-1"))
    assert await names(listings) == ["x-1"]


# CACHE-3
@pytest.mark.parametrize(("failure", "error"), FAILURES, ids=IDS)
async def test_with_a_page_held_a_failure_serves_it_and_spoils_nothing(make_listings, upstreams, clock, store, failure, error):
    listings = make_listings(metadata_ttl=300)
    upstreams.lists(BASE, "x", file("x-1"))
    assert await names(listings) == ["x-1"]
    before = await store.get(f"{listings.documents_prefix}/x")
    upstreams.answers[X] = failure
    clock.turn(301)
    assert await names(listings) == ["x-1"]
    assert len(upstreams.asked) in (2, 3)  # a refused connection is tried twice
    assert await store.get(f"{listings.documents_prefix}/x") == before
    # After a restart as well.
    assert await names(make_listings(metadata_ttl=300)) == ["x-1"]


async def test_after_a_failure_stale_pages_are_served_for_a_while_without_asking(make_listings, upstreams, clock):
    listings = make_listings(metadata_ttl=300)
    for project in ("x", "y"):
        upstreams.lists(BASE, project, file(f"{project}-1"))
        await names(listings, project)
        upstreams.answers[f"{BASE}{project}/"] = 503
    clock.turn(301)
    for _ in range(3):
        assert await names(listings, "x") == ["x-1"]
        assert await names(listings, "y") == ["y-1"]
    assert len(upstreams.asked) == 3
    clock.turn(module.OUTAGE_SECONDS + 1)
    upstreams.lists(BASE, "y", file("y-2"))
    assert await names(listings, "y") == ["y-2"]
    # The upstream is well again, so "x" is asked for at once, too.
    upstreams.lists(BASE, "x", file("x-2"))
    assert await names(listings, "x") == ["x-2"]


async def test_an_outage_does_not_keep_unknown_projects_from_being_asked_for(make_listings, upstreams, clock):
    listings = make_listings(metadata_ttl=300)
    upstreams.lists(BASE, "x", file("x-1"))
    await names(listings)
    upstreams.answers[X] = 503
    clock.turn(301)
    await names(listings)
    upstreams.lists(BASE, "new", file("new-1"))
    assert await names(listings, "new") == ["new-1"]
    # That was the sign that the outage is over.
    upstreams.lists(BASE, "x", file("x-2"))
    assert await names(listings) == ["x-2"]


async def test_a_clock_that_is_set_back_makes_no_outage_last_longer(make_listings, upstreams, clock):
    listings = make_listings(metadata_ttl=300)
    upstreams.lists(BASE, "x", file("x-1"))
    await names(listings)
    upstreams.answers[X] = 503
    clock.turn(301)
    assert await names(listings) == ["x-1"]
    upstreams.lists(BASE, "x", file("x-2"))
    clock.turn(-100_000)
    assert await names(listings) == ["x-2"]


async def test_a_format_that_fails_to_read_an_answer_is_taken_for_a_failing_upstream(
    make_listings, upstreams, clock, toy_format
):
    listings = make_listings(metadata_ttl=300)
    upstreams.lists(BASE, "x", file("x-1"))
    await names(listings)

    def fails(project, document):
        raise KeyError("a mistake of the format")

    toy_format.parse_listing = fails
    clock.turn(301)
    assert (await listings.head("x")) is not None
    upstreams.answers[f"{BASE}y/"] = b"{}"
    with pytest.raises(UpstreamInvalid):
        await listings.head("y")


# PROXY-20


@pytest.fixture
def short_wait(monkeypatch) -> None:
    monkeypatch.setattr(module, "STALE_WAIT_SECONDS", 0.05)


async def test_a_hang_costs_whoever_could_have_a_stale_page_only_a_short_wait(make_listings, upstreams, clock, short_wait):
    # PROXY-20
    listings = make_listings(metadata_ttl=300)
    upstreams.lists(BASE, "x", file("x-1"))
    await names(listings)
    hanging = upstreams.answers[X] = Hanging()
    clock.turn(301)
    started = time.monotonic()
    assert await asyncio.gather(*(names(listings) for _ in range(20))) == [["x-1"]] * 20
    assert await names(listings) == ["x-1"]
    assert time.monotonic() - started < 2
    assert hanging.waiting == 1


async def test_the_refresh_goes_on_after_the_stale_page_was_served(make_listings, upstreams, clock, short_wait):
    go = asyncio.Event()

    async def slowly(request: httpx.Request) -> httpx.Response:
        await go.wait()
        return new(request)

    listings = make_listings(metadata_ttl=300)
    upstreams.lists(BASE, "x", file("x-1"))
    await names(listings)
    upstreams.lists(BASE, "x", file("x-2"))
    new, upstreams.answers[X] = upstreams.answers[X], slowly
    clock.turn(301)
    assert await names(listings) == ["x-1"]
    go.set()
    await asyncio.sleep(0.05)
    assert await names(listings) == ["x-2"]
    assert len(upstreams.asked) == 2


async def test_a_hang_costs_no_more_when_the_page_is_held_on_disk_only(make_listings, upstreams, clock, short_wait):
    # After a restart, or in a worker that has not served the project yet: pip would give up before proxy_timeout.
    upstreams.lists(BASE, "x", file("x-1"))
    await names(make_listings(metadata_ttl=300))
    upstreams.answers[X] = Hanging()
    clock.turn(301)
    restarted = make_listings(metadata_ttl=300)
    assert await asyncio.wait_for(names(restarted), 2) == ["x-1"]


async def test_a_hang_with_nothing_held_delays_no_other_project(make_listings, upstreams):
    # PROXY-20
    listings = make_listings(proxy_timeout=0.1)
    upstreams.answers[X] = Hanging()
    waiting = asyncio.create_task(listings.head("x"))
    await asyncio.sleep(0.01)
    upstreams.lists(BASE, "y", file("y-1"))
    assert await asyncio.wait_for(names(listings, "y"), 1) == ["y-1"]
    with pytest.raises(UpstreamTimeout):
        await asyncio.wait_for(waiting, 10)  # ten times the silence that is allowed


# The store fails


async def test_a_full_disk_does_not_keep_a_held_page_from_being_served(make_listings, upstreams, clock, store, monkeypatch):
    listings = make_listings(metadata_ttl=300)
    upstreams.lists(BASE, "x", file("x-1"))
    await names(listings)

    async def full(key: str, data: bytes) -> None:
        raise StorageFull

    monkeypatch.setattr(store, "put", full)
    upstreams.lists(BASE, "x", file("x-2"))
    clock.turn(301)
    assert await names(listings) in (["x-1"], ["x-2"])


async def test_a_full_disk_does_not_keep_a_new_page_from_being_served(make_listings, upstreams, store, monkeypatch):
    # Only keeping it fails; the same holds for files.
    async def full(key: str, data: bytes) -> None:
        raise StorageFull

    monkeypatch.setattr(store, "put", full)
    upstreams.lists(BASE, "x", file("x-1"))
    assert await names(make_listings()) == ["x-1"]


async def test_a_listing_that_can_neither_be_kept_nor_remembered_is_no_endless_loop(
    make_listings, upstreams, store, monkeypatch
):
    async def full(key: str, data: bytes) -> None:
        raise StorageFull

    monkeypatch.setattr(store, "put", full)
    monkeypatch.setattr(listings_module, "MAX_LISTED_FILES", 2)
    upstreams.lists(BASE, "x", *(file(f"x-{number}") for number in range(3)))
    assert await names(make_listings()) == ["x-0", "x-1", "x-2"]
    assert len(upstreams.asked) <= 2


# The address changes


OTHER = "https://other.example/simple/"


async def test_another_address_is_asked_at_once_and_without_the_old_validators(make_listings, upstreams):
    upstreams.lists(BASE, "x", file("x-1"), etag='"v"')
    assert await names(make_listings(metadata_ttl=-1)) == ["x-1"]
    upstreams.lists(OTHER, "x", file("x-2"))
    moved = make_listings(OTHER, metadata_ttl=-1)
    assert not await moved.knows("x")
    assert await names(moved) == ["x-2"]
    assert "if-none-match" not in upstreams.requests[-1].headers
    assert await names(moved) == ["x-2"]
    assert len(upstreams.asked) == 2


async def test_what_the_old_address_said_is_there_when_the_new_one_fails(make_listings, upstreams):
    upstreams.lists(BASE, "x", file("x-1"))
    await names(make_listings())
    upstreams.answers[f"{OTHER}x/"] = 503
    assert await names(make_listings(OTHER)) == ["x-1"]


async def test_what_another_address_never_had_is_not_withdrawn_by_it(make_listings, upstreams):
    # Upstreams put in another order: this one does not know the project, and the next one must be asked.
    upstreams.lists(BASE, "x", file("x-1"))
    await names(make_listings(keep_withdrawn=True))
    assert await make_listings(OTHER, keep_withdrawn=True).head("x") is None


async def test_the_final_address_after_redirects_decides_where_links_lead(make_listings, upstreams, clock):
    listings = make_listings(metadata_ttl=300)
    for host in ("one", "two"):
        upstreams.lists(f"https://{host}.example/", "x", file("x-1"))
    seen = []
    for host in ("one", "two"):
        target = f"https://{host}.example/x/"
        upstreams.answers[X] = lambda _, target=target: httpx.Response(302, headers={"Location": target})
        head = await listings.head("x")
        seen.append((head.revision, (await listings.value("x", head))[1].files[0].url))
        clock.turn(301)
    # PROXY-4: the same bytes from elsewhere are another listing.
    assert [url for _, url in seen] == ["https://one.example/x/x-1", "https://two.example/x/x-1"]
    assert seen[0][0] != seen[1][0]
