"""Several upstreams: their order, their failures, and what is pinned of their files."""

from __future__ import annotations

import pytest

from nora.api import File, NotFound, Sidecar, SidecarReader, UpstreamError, UpstreamUnavailable
from nora.registry.sources import DERIVED, FIRST_SEEN, Owned, Source, listing_of, owner_among
from nora.upstream.pins import Pin, Pinned
from nora.upstream.stored import Head

A, B, C = "https://a.example/simple/", "https://b.example/simple/", "https://c.example/simple/"


def file(name: str, **fields) -> File:
    return File(name=name, digests={"sha256": "0" * 64}, **fields)


async def owner(sources, project: str = "x") -> str | None:
    owned = await owner_among(sources, project)
    return None if owned is None else owned.source.listings.upstream.url


# MULTI-1


async def test_the_first_upstream_that_knows_the_name_serves_it_and_later_ones_are_not_asked(world):
    # MULTI-1
    for base in (A, B):
        world.upstreams.lists(base, "x", file("x-1"))
    assert await owner(world.sources(A, B, C)) == A
    assert world.upstreams.asked == [f"{A}x/"]


async def test_upstreams_are_asked_in_order_until_one_knows(world):
    # MULTI-1
    world.upstreams.lists(C, "x", file("x-1"))
    assert await owner(world.sources(A, B, C)) == C
    assert world.upstreams.asked == [f"{A}x/", f"{B}x/", f"{C}x/"]


async def test_no_upstream_knows_it(world):
    assert await owner(world.sources(A, B)) is None
    assert await owner([]) is None


async def test_a_name_that_an_earlier_upstream_begins_to_have_is_its(world):
    sources = world.sources(A, B, metadata_ttl=0)
    world.upstreams.lists(B, "x", file("x-1"))
    assert await owner(sources) == B
    world.upstreams.lists(A, "x", file("x-1"))
    assert await owner(sources) == A


# MULTI-5


@pytest.mark.parametrize("failure", [503, 500, 401, b"garbage"])
async def test_an_earlier_upstreams_error_hands_its_name_to_nobody(world, failure):
    # MULTI-5
    world.upstreams.answers[f"{A}x/"] = failure
    world.upstreams.lists(B, "x", file("x-1"))
    sources = world.sources(A, B)
    for _ in range(2):
        with pytest.raises(UpstreamError):
            await owner(sources)
    assert f"{B}x/" not in world.upstreams.asked


async def test_an_earlier_upstreams_error_and_absence_later_is_the_error(world):
    world.upstreams.answers[f"{A}x/"] = 503
    with pytest.raises(UpstreamUnavailable):
        await owner(world.sources(A, B))


@pytest.mark.parametrize("restarted", [False, True])
async def test_a_later_upstream_that_is_known_to_have_served_it_serves_it_on(world, restarted):
    sources = world.sources(A, B, metadata_ttl=0)
    world.upstreams.lists(B, "x", file("x-1"))
    assert await owner(sources) == B
    world.upstreams.answers[f"{A}x/"] = 503
    assert await owner(world.sources(A, B, metadata_ttl=0) if restarted else sources) == B


async def test_an_error_hands_the_name_to_the_one_that_served_it_and_to_nobody_in_between(world):
    # MULTI-5
    # C has served it so far. That B has it too by now, and A does not answer, must not make it B's.
    sources = world.sources(A, B, C, metadata_ttl=0)
    world.upstreams.lists(C, "x", file("x-1"))
    assert await owner(sources) == C
    world.upstreams.answers[f"{A}x/"] = 503
    world.upstreams.lists(B, "x", file("x-1"))
    assert await owner(sources) == C


async def test_the_failing_upstreams_own_stale_page_comes_before_a_later_one(world):
    sources = world.sources(A, B, metadata_ttl=0)
    for base in (A, B):
        world.upstreams.lists(base, "x", file("x-1"))
    assert await owner(sources) == A
    world.upstreams.answers[f"{A}x/"] = 503
    assert await owner(sources) == A


async def test_an_error_after_an_absence_is_that_error(world):
    world.upstreams.answers[f"{B}x/"] = 503
    with pytest.raises(UpstreamUnavailable):
        await owner(world.sources(A, B))


# Revisions: what makes cached pages and offers new


async def test_two_upstreams_with_the_same_page_are_two_listings(world):
    # Mirrors with relative links: the bytes are equal, the files are elsewhere.
    sources = world.sources(A, B, metadata_ttl=0)
    for base in (A, B):
        world.upstreams.lists(base, "x", file("x-1"))
    first = await owner_among(sources, "x")
    world.upstreams.answers[f"{A}x/"] = 404
    second = await owner_among(sources, "x")
    assert first.revision != second.revision


async def test_a_new_pin_is_a_new_revision(world):
    sources = world.sources(A)
    world.upstreams.lists(A, "x", File(name="x-1", digests={"md5": "0"}), File(name="x-2", digests={"md5": "0"}))
    seen = {(await owner_among(sources, "x")).revision}
    for number, pin in enumerate(
        [
            Pin(name="x-1", sha256="1" * 64, size=1, digests={"md5": "0"}),
            Pin(name="x-2", sha256="1" * 64, size=1, digests={"md5": "0"}),
            Pin(name="x-1", sha256="2" * 64, size=1, digests={"md5": "1"}),  # replaced upstream, and fetched again
        ],
        start=2,
    ):
        await sources[0].pins.add("x", pin)
        seen.add((await owner_among(sources, "x")).revision)
        assert len(seen) == number


# Pins and withdrawn projects


async def test_pins_add_what_the_upstream_does_not_announce(world):
    sources = world.sources(A)
    world.upstreams.lists(
        A,
        "x",
        File(name="x-1", digests={"md5": "0"}),
        File(name="x-2", digests={"md5": "9"}),
        File(name="x-3", digests={"sha256": "3" * 64}),
        File(name="x-4"),
    )
    for name in ("x-1", "x-2", "x-3"):
        await sources[0].pins.add("x", Pin(name=name, sha256="f" * 64, size=7, digests={"md5": "0"}))
    owned = await owner_among(sources, "x")
    files = (await listing_of(owned, world.store, "x")).by_name
    assert files["x-1"].digests == {"md5": "0", "sha256": "f" * 64}
    assert files["x-1"].size == 7
    assert files["x-2"].digests == {"md5": "9"}  # announced differently since
    assert files["x-3"].digests == {"sha256": "3" * 64}  # never instead of what is announced
    assert files["x-4"].digests == {}


async def test_of_a_withdrawn_project_only_what_is_held_is_listed_and_marked(world, store):
    held = b"held"
    async with store.spool() as spool:
        await spool.write(held)
        await spool.finish()
        sha256 = await store.keep_blob(spool)
    sources = world.sources(A, metadata_ttl=0, keep_withdrawn=True)
    world.upstreams.lists(
        A,
        "x",
        File(name="x-1", digests={"sha256": sha256}),
        file("x-2"),
        File(name="x-3"),
        File(name="x-4", digests={"sha256": "?"}),
    )
    owned = await owner_among(sources, "x")
    assert len((await listing_of(owned, store, "x")).files) == 4
    world.upstreams.answers[f"{A}x/"] = 404
    owned = await owner_among(sources, "x")
    listing = await listing_of(owned, store, "x")
    assert [(file.name, file.extra) for file in listing.files] == [("x-1", {FIRST_SEEN: "first-seen", "_withdrawn": True})]


async def test_a_listing_is_named_as_it_was_asked_for(world):
    world.upstreams.lists(A, "x", file("x-1"))
    world.upstreams.answers[f"{A}y/"] = world.upstreams.answers[f"{A}x/"]
    owned = await owner_among(world.sources(A), "y")
    assert (await listing_of(owned, world.store, "y")).project == "y"


async def test_a_page_that_vanished_and_is_gone_upstream_is_no_empty_project(world):
    # NAME-7: the cache may be removed at any time; what the upstream then says counts.
    world.upstreams.lists(A, "x", file("x-1"))
    await owner_among(world.sources(A), "x")
    sources = world.sources(A)
    owned = await owner_among(sources, "x")
    await world.store.delete(f"{sources[0].listings.documents_prefix}/x")
    world.upstreams.answers[f"{A}x/"] = 404
    with pytest.raises(NotFound):
        await listing_of(owned, world.store, "x")


# Many files at once


class SomeReader(SidecarReader):
    """Of wheels only."""

    suffix = ".meta"

    def applies(self, file: File) -> bool:
        return file.name.endswith(".whl")

    def read(self, project, file, *, held):
        raise NotImplementedError


@pytest.mark.parametrize("pinned", [False, True])
@pytest.mark.parametrize("readers", [(), (SomeReader(),)])
def test_all_files_together_are_completed_as_one_by_one(pinned, readers):
    said = {
        "published": "2024-01-02T03:04:05Z",
        "sidecars": {".meta": Sidecar(url=f"{A}y.meta"), ".asc": Sidecar(url=f"{A}y.asc")},
    }
    files = [
        file("a.whl", **said),
        file("b.whl", published=said["published"]),
        file("c.whl", **said | {"sidecars": {".asc": Sidecar(url=f"{A}c.asc")}}),
        file("d.zip", published=said["published"]),
        file("e.whl", sidecars=said["sidecars"]),
        File(name="f.zip", digests={"md5": "0"}, published=said["published"], sidecars=said["sidecars"]),
    ]
    pins = [Pin(name="f.zip", sha256="1" * 64, size=7, digests={"md5": "0"}), Pin(name="a.whl.meta", sha256="2" * 64, size=8)]
    head = Head(upstream=A, url=A, content_type="", digest="", validated_at=1.0, seen_at=1_700_000_000.0)
    owned = Owned(Source(None, None, readers), head, Pinned("1", {pin.name: pin for pin in pins} if pinned else {}))
    together = owned.all_completed(files)
    assert together == tuple(owned.completed(each) for each in files)
    assert (together[5].digests.get("sha256") == "1" * 64) is pinned
    assert (together[1].sidecars == {".meta": DERIVED}) is bool(readers)
    assert together[4].published == "2023-11-14T22:13:20.000000Z"
