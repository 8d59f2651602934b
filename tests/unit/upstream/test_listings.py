"""What one upstream says of a project: fresh, revalidated, absent, shared."""

from __future__ import annotations

import asyncio
import hashlib
import sys

import httpx
import pytest

from nora.api import File, UpstreamInvalid, UpstreamUnavailable
from nora.upstream import documents as module
from nora.upstream.stored import Head, decode, encode

BASE = "https://index.example/simple/"
X = f"{BASE}x/"


async def names(listings, project: str = "x") -> list[str] | None:
    """The project's files as a client would see them; ``None`` if there is no such project."""
    head = await listings.head(project)
    if head is None:
        return None
    return [file.name for file in (await listings.value(project, head))[1].files]


def file(name: str) -> File:
    return File(name=name, digests={"sha256": "0" * 64})


# Freshness, CACHE-1


async def test_within_the_ttl_the_upstream_is_asked_once_and_then_again(make_listings, upstreams, clock):
    # CACHE-1
    listings = make_listings(metadata_ttl=300)
    upstreams.lists(BASE, "x", file("x-1"))
    for _ in range(3):
        assert await names(listings) == ["x-1"]
        clock.turn(99)
    assert upstreams.asked == [X]
    upstreams.lists(BASE, "x", file("x-1"), file("x-2"))
    clock.turn(3)
    assert await names(listings) == ["x-1", "x-2"]
    assert upstreams.asked == [X, X]


async def test_ttl_zero_asks_always(make_listings, upstreams):
    # CACHE-1
    listings = make_listings(metadata_ttl=0)
    for number in range(3):
        upstreams.lists(BASE, "x", file(f"x-{number}"))
        assert await names(listings) == [f"x-{number}"]
    assert len(upstreams.asked) == 3


async def test_ttl_minus_one_never_asks_again(make_listings, upstreams, clock):
    # CACHE-1
    upstreams.lists(BASE, "x", file("x-1"))
    listings = make_listings(metadata_ttl=-1)
    assert await names(listings) == ["x-1"]
    upstreams.answers[X] = 503
    clock.turn(10**9)
    assert await names(listings) == ["x-1"]
    assert await names(make_listings(metadata_ttl=-1)) == ["x-1"]
    assert len(upstreams.asked) == 1


async def test_a_clock_that_is_set_back_makes_nothing_fresh_for_longer(make_listings, upstreams, clock):
    listings = make_listings(metadata_ttl=300)
    upstreams.lists(BASE, "x", file("x-1"))
    assert await names(listings) == ["x-1"]
    upstreams.lists(BASE, "x", file("x-2"))
    clock.turn(-100_000)
    assert await names(listings) == ["x-2"]


# Revalidation, CACHE-2


@pytest.mark.parametrize(
    ("given", "sent", "value"),
    [
        ("etag", "if-none-match", '"v1"'),
        ("etag", "if-none-match", 'W/"v1"'),
        ("last-modified", "if-modified-since", "yesterday"),
    ],
)
async def test_validators_are_sent_back_and_304_makes_the_held_page_fresh(make_listings, upstreams, clock, given, sent, value):
    # CACHE-2
    upstreams.lists(BASE, "x", file("x-1"), **{given: value})
    listings = make_listings(metadata_ttl=300)
    assert await names(listings) == ["x-1"]
    upstreams.answers[X] = 304
    for _ in range(2):
        clock.turn(300)
        assert await names(listings) == ["x-1"]
        assert await names(listings) == ["x-1"]
    assert len(upstreams.asked) == 3
    assert sent not in upstreams.requests[0].headers
    assert [request.headers[sent] for request in upstreams.requests[1:]] == [value, value]
    # On disk too: the next process does not ask.
    assert await names(make_listings(metadata_ttl=300)) == ["x-1"]
    assert len(upstreams.asked) == 3


async def test_changed_page_brings_its_own_validators(make_listings, upstreams):
    listings = make_listings(metadata_ttl=0)
    for number in range(3):
        upstreams.lists(BASE, "x", file(f"x-{number}"), etag=f'"{number}"')
        assert await names(listings) == [f"x-{number}"]
    assert [request.headers.get("if-none-match") for request in upstreams.requests] == [None, '"0"', '"1"']


async def test_304_without_anything_held_is_no_answer(make_listings, upstreams):
    upstreams.answers[X] = 304
    with pytest.raises(UpstreamInvalid):
        await make_listings().head("x")


async def test_304_for_a_page_that_was_damaged_meanwhile_is_asked_for_in_full(make_listings, upstreams, store):
    upstreams.lists(BASE, "x", file("x-1"), etag='"v"')
    listings = make_listings(metadata_ttl=0)
    head = await listings.head("x")

    async def damage_then_304(request: httpx.Request) -> httpx.Response:
        if "if-none-match" in request.headers:
            await store.put(f"{listings.documents_prefix}/x", b"damaged")
            return httpx.Response(304)
        return full(request)

    full = upstreams.answers[X]
    upstreams.answers[X] = damage_then_304
    assert await names(listings) == ["x-1"]
    assert (await listings.head("x")).digest == head.digest
    assert decode(await store.get(f"{listings.documents_prefix}/x")) is not None


# Absence, CACHE-4, CACHE-5, PROXY-11


@pytest.mark.parametrize("status", [404, 410])
async def test_absence_after_a_page_removes_it(make_listings, upstreams, store, status):
    # CACHE-4, PROXY-11
    upstreams.lists(BASE, "x", file("x-1"))
    listings = make_listings(metadata_ttl=0)
    assert await names(listings) == ["x-1"]
    upstreams.answers[X] = status
    assert await names(listings) is None
    assert await store.names(listings.documents_prefix) == []
    assert not await listings.knows("x")
    # It stays away when the upstream then fails: nothing is left to be served stale.
    upstreams.answers[X] = 503
    with pytest.raises(UpstreamUnavailable):
        await listings.head("x")


async def test_withdrawn_projects_are_kept_where_that_is_wanted_until_they_return(make_listings, upstreams, clock):
    listings = make_listings(metadata_ttl=300, keep_withdrawn=True)
    upstreams.lists(BASE, "x", file("x-1"), etag='"1"')
    first = await listings.head("x")
    assert not first.withdrawn
    upstreams.answers[X] = 404
    clock.turn(300)
    kept = await listings.head("x")
    assert kept.withdrawn
    assert kept.revision != first.revision
    assert await names(listings) == ["x-1"]
    assert len(upstreams.asked) == 2
    assert (await make_listings(metadata_ttl=300, keep_withdrawn=True).head("x")).withdrawn
    # 304 would now say that nothing has changed; so the question is without validators.
    upstreams.lists(BASE, "x", file("x-1"), etag='"1"')
    clock.turn(300)
    assert await listings.head("x") == Head(**{**to_dict(first), "validated_at": clock()})
    assert "if-none-match" not in upstreams.requests[-1].headers


def to_dict(head: Head) -> dict[str, object]:
    return {name: getattr(head, name) for name in head.__struct_fields__}


async def test_keeping_withdrawn_projects_invents_none(make_listings, upstreams):
    assert await make_listings(keep_withdrawn=True).head("x") is None


@pytest.mark.parametrize(("ttl", "remembered"), [(300, 60), (5, 5), (-1, 60)])
async def test_absence_is_remembered_for_a_minute_at_most(make_listings, upstreams, clock, ttl, remembered):
    # CACHE-5
    listings = make_listings(metadata_ttl=ttl)
    assert await names(listings) is None
    clock.turn(remembered - 0.5)
    assert await names(listings) is None
    assert len(upstreams.asked) == 1
    clock.turn(1)
    upstreams.lists(BASE, "x", file("x-1"))
    assert await names(listings) == ["x-1"]


async def test_absence_is_not_remembered_with_ttl_zero(make_listings, upstreams):
    listings = make_listings(metadata_ttl=0)
    assert await names(listings) is None
    upstreams.lists(BASE, "x", file("x-1"))
    assert await names(listings) == ["x-1"]


async def test_a_clock_that_is_set_back_makes_no_absence_last_longer(make_listings, upstreams, clock):
    listings = make_listings(metadata_ttl=300)
    assert await names(listings) is None
    clock.turn(-100_000)
    upstreams.lists(BASE, "x", file("x-1"))
    assert await names(listings) == ["x-1"]


async def test_remembered_absences_are_bounded(make_listings, upstreams, monkeypatch):
    monkeypatch.setattr(module, "MAX_HEADS", 10)
    listings = make_listings()
    for number in range(50):
        assert await listings.head(f"p{number}") is None
    assert len(listings._absent_until) == 10
    assert not (listings._store.root / listings.prefix).exists()


# Sharing, CACHE-6 to CACHE-8


async def test_fifty_callers_make_one_request(make_listings, upstreams):
    # CACHE-6
    upstreams.lists(BASE, "x", file("x-1"))
    listings = make_listings(metadata_ttl=0)
    assert await asyncio.gather(*(names(listings) for _ in range(50))) == [["x-1"]] * 50
    assert upstreams.asked == [X]


async def test_fifty_callers_after_a_restart_read_the_held_page_once(make_listings, upstreams, store, monkeypatch):
    # A page may have megabytes: fifty copies of it must not be in memory at the same time.
    upstreams.lists(BASE, "x", file("x-1"))
    await names(make_listings())
    reads, get = [], store.get

    async def counted(key: str) -> bytes | None:
        reads.append(key)
        await asyncio.sleep(0.001)
        return await get(key)

    monkeypatch.setattr(store, "get", counted)
    restarted = make_listings()
    heads = await asyncio.gather(*(restarted.head("x") for _ in range(50)))
    assert heads == [await restarted.head("x")] * 50
    assert len(reads) <= 3


async def test_fifty_callers_of_a_failing_upstream_make_one_request_and_all_hear_of_it(make_listings, upstreams):
    upstreams.answers[X] = 503
    listings = make_listings(metadata_ttl=0)
    outcomes = await asyncio.gather(*(listings.head("x") for _ in range(50)), return_exceptions=True)
    assert {type(outcome) for outcome in outcomes} == {UpstreamUnavailable}
    assert len(upstreams.asked) == 1


async def test_a_caller_that_leaves_does_not_spoil_the_request_of_the_others(make_listings, upstreams):
    go = asyncio.Event()

    async def slowly(request: httpx.Request) -> httpx.Response:
        await go.wait()
        return full(request)

    upstreams.lists(BASE, "x", file("x-1"))
    full, upstreams.answers[X] = upstreams.answers[X], slowly
    listings = make_listings()
    first, second = (asyncio.create_task(names(listings)) for _ in range(2))
    while not upstreams.requests:
        await asyncio.sleep(0.001)
    first.cancel()
    await asyncio.wait([first])
    go.set()
    assert await asyncio.wait_for(second, 5) == ["x-1"]
    assert len(upstreams.asked) == 1


async def test_a_large_listing_that_is_pushed_out_is_taken_apart_a_moment_later(make_listings, upstreams, monkeypatch):
    monkeypatch.setattr(module, "LET_GO_SECONDS", 0.05)
    monkeypatch.setattr("nora.upstream.listings.MAX_LISTED_FILES", 4)
    listings = make_listings()
    for project in ("x", "y"):
        upstreams.lists(BASE, project, file(f"{project}-1"), file(f"{project}-2"))
    _, listing = await listings.value("x", await listings.head("x"))
    held = sys.getrefcount(listing)
    await listings.head("y")
    assert sys.getrefcount(listing) == held
    await asyncio.sleep(0.1)
    assert sys.getrefcount(listing) == held - 1
    assert await names(listings, "x") == ["x-1", "x-2"]


async def test_another_workers_refresh_is_taken_from_disk_without_asking(make_listings, upstreams, clock):
    one, two = make_listings(metadata_ttl=300), make_listings(metadata_ttl=300)
    upstreams.lists(BASE, "x", file("x-1"))
    assert await names(one) == await names(two) == ["x-1"]
    clock.turn(300)
    upstreams.lists(BASE, "x", file("x-2"))
    assert await names(one) == ["x-2"]
    asked = len(upstreams.asked)
    assert await names(two) == ["x-2"]
    assert len(upstreams.asked) == asked == 2


async def test_a_restart_asks_nothing_that_is_still_fresh(make_listings, upstreams):
    # CACHE-8
    upstreams.lists(BASE, "x", file("x-1"))
    assert await names(make_listings()) == ["x-1"]
    upstreams.answers[X] = httpx.ConnectError("down")
    assert await names(make_listings()) == ["x-1"]
    assert len(upstreams.asked) == 1


# Damage


@pytest.mark.parametrize("damage", [b"", b"\n", b"{}\n{}", b"garbage", None, "format", "other body", "shorter"])
async def test_a_damaged_file_is_a_miss_and_is_replaced(make_listings, upstreams, store, damage):
    upstreams.lists(BASE, "x", file("x-1"))
    listings = make_listings()
    assert await names(listings) == ["x-1"]
    key = f"{listings.documents_prefix}/x"
    good = await store.get(key)
    if damage is None:
        await store.delete(key)
    else:
        other = {"format": good.replace(b'"format":1', b'"format":9'), "other body": good[:-1] + b"]", "shorter": good[:-9]}
        other["format"] = good.replace(b"{", b'{"format":9,', 1)
        await store.put(key, damage if isinstance(damage, bytes) else other[damage])
    assert await names(make_listings()) == ["x-1"]
    assert len(upstreams.asked) == 2
    assert decode(await store.get(key)) is not None


async def test_a_damaged_file_and_a_failing_upstream_are_an_error(make_listings, upstreams, store):
    upstreams.lists(BASE, "x", file("x-1"))
    listings = make_listings()
    await names(listings)
    await store.put(f"{listings.documents_prefix}/x", b"damaged")
    upstreams.answers[X] = 500
    with pytest.raises(UpstreamUnavailable):
        await make_listings().head("x")


def test_what_is_encoded_comes_back_with_any_body():
    for body in (b"", b"\n", b"a\nb\n", bytes(range(256))):
        digest = hashlib.sha256(body).hexdigest()
        head = Head(upstream=BASE, url=X, content_type="a/b\nc", digest=digest, validated_at=1.5, etag='"\n"')
        assert decode(encode(head, body)) == (head, body)
        assert decode(encode(head, body + b"x")) is None


@pytest.mark.parametrize("name", ["x" * 256, "é" * 100, "x" * 4000], ids=["256", "encoded", "4000"])
async def test_names_that_no_file_system_takes_do_not_break_the_server(make_listings, upstreams, name):
    # HTTP-17: any path can be asked for.
    upstreams.lists(BASE, "y", file("y-1"))
    listings = make_listings()
    assert await names(listings, "y") == ["y-1"]
    assert not await listings.knows(name)
    assert await listings.head(name) is None


# Names, PROXY-15


@pytest.mark.parametrize("odd", ["", ".", "..", "a/b", "a\\b", "a\nb", "a\x7f"])
async def test_no_name_that_could_be_a_path_gets_into_a_listing(make_listings, upstreams, odd):
    upstreams.lists(BASE, "x", file("x-1"), file(odd), file("x-2"))
    assert await names(make_listings()) == ["x-1", "x-2"]
