"""The facade with upstreams: whose files are served, from where, and checked against what."""

from __future__ import annotations

import asyncio
import hashlib
import logging

import httpx
import msgspec
import pytest

from nora.api import (
    DigestMismatch,
    Event,
    File,
    Forbidden,
    Listing,
    NoraError,
    NotFound,
    Sidecar,
    UpstreamUnavailable,
)
from nora.index.manifest import Manifest
from nora.store.protocol import blob_key

A, B = "https://a.example/simple/", "https://b.example/simple/"
WHEEL = b"wheel " * 30_000


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def names(listing: Listing) -> list[str]:
    return [file.name for file in listing.files]


async def settled(tasks) -> None:
    async with asyncio.timeout(5):
        while tasks._running:
            await asyncio.sleep(0.001)


# D8


async def test_a_hosted_name_makes_no_upstream_request_at_all(world, read):
    world.upstreams.lists(A, "x", File(name="x-9"))
    registry = world.registry(A, metadata_ttl=0)
    await world.publish(registry, "x", "x-1", b"data", sidecars={".metadata": b"m"})
    assert names(await registry.listing("x")) == ["x-1"]
    await registry.project_page("x", "a/b", lambda listing: b"")
    assert await read(await registry.open("x", "x-1")) == b"data"
    assert await read(await registry.open("x", "x-1", sidecar=".metadata")) == b"m"
    with pytest.raises(NotFound):
        await registry.open("x", "x-9")
    await registry.projects()
    assert world.upstreams.asked == []


async def test_a_project_that_lost_all_its_files_is_still_ours(world):
    world.upstreams.lists(A, "x", File(name="x-9"))
    event = Event(action="remove", registry="main", project="x")
    await world.index().change("x", lambda _, serial: Manifest(project="x", serial=serial, event=event))
    registry = world.registry(A, metadata_ttl=0)
    listing = await registry.listing("x")
    assert (listing.files, listing.hosted) == ((), True)
    with pytest.raises(NotFound):
        await registry.open("x", "x-9")
    assert world.upstreams.asked == []


async def test_publishing_takes_a_name_from_the_upstream_at_once(world):
    world.upstreams.lists(A, "x", File(name="x-9"))
    one, two = world.registry(A), world.registry(A)
    assert names(await one.listing("x")) == names(await two.listing("x")) == ["x-9"]
    await world.publish(one, "x", "x-1", b"data")
    assert names(await one.listing("x")) == names(await two.listing("x")) == ["x-1"]


# MULTI-2
async def test_merging_is_for_the_named_projects_and_the_hosted_file_wins(world, read):
    hosted = b"hosted"
    for project in ("team-a", "other"):
        world.upstreams.lists(
            A, project, world.upstream_file(A, "f-1", WHEEL), world.upstream_file(A, "f-2", b"two", identity="two")
        )
    registry = world.registry(A, merge_upstream=("team-*",))
    for project in ("team-a", "other"):
        await world.publish(registry, project, "f-1", hosted)
    merged = await registry.listing("team-a")
    assert names(merged) == ["f-1", "f-2"]
    assert merged.by_name["f-1"].digests["sha256"] == sha256(hosted)
    assert await read(await registry.open("team-a", "f-1")) == hosted
    assert await read(await registry.open("team-a", "f-2")) == b"two"
    assert names(await registry.listing("other")) == ["f-1"]


# MULTI-3, MULTI-4
async def test_merged_hosted_files_are_there_at_once_and_while_the_upstream_is_down(world, read, caplog):
    caplog.set_level(logging.WARNING)
    registry = world.registry(A, merge_upstream=("x",))
    world.upstreams.lists(A, "x", world.upstream_file(A, "x-9", WHEEL))
    assert names(await registry.listing("x")) == ["x-9"]
    await world.publish(registry, "x", "x-1", b"data")
    assert names(await registry.listing("x")) == ["x-1", "x-9"]

    down = world.registry(B, name="down", merge_upstream=("x",), metadata_ttl=0)
    world.upstreams.answers[f"{B}x/"] = 503
    await world.publish(down, "x", "x-1", b"data")
    assert names(await down.listing("x")) == ["x-1"]
    assert await read(await down.open("x", "x-1")) == b"data"
    assert "upstream failed, serving hosted files" in caplog.text


# PROXY-10
async def test_an_upstream_that_is_down_is_never_not_found(world):
    world.upstreams.answers[f"{A}x/"] = httpx.ConnectError("refused")
    registry = world.registry(A)
    for call in (registry.listing("x"), registry.open("x", "x-1"), registry.project_page("x", "a/b", lambda _: b"")):
        with pytest.raises(UpstreamUnavailable):
            await call


# Pages


async def test_fifty_callers_make_one_request_and_one_rendering(world):
    rendered = []
    world.upstreams.lists(A, "x", *(File(name=f"x-{number}") for number in range(400)))
    registry = world.registry(A)

    def render(listing: Listing) -> bytes:
        rendered.append(listing.revision)
        return ",".join(names(listing)).encode()

    pages = await asyncio.gather(*(registry.project_page("x", "a/b", render) for _ in range(50)))
    assert len({id(page) for page in pages}) == 1
    assert (len(rendered), len(world.upstreams.asked)) == (1, 1)
    # CACHE-7: another representation is made of the same answer.
    await registry.project_page("x", "a/c", render)
    assert (len(rendered), len(world.upstreams.asked)) == (2, 1)


async def test_a_page_follows_the_upstream(world):
    registry = world.registry(A, metadata_ttl=0)
    for number in range(3):
        world.upstreams.lists(A, "x", File(name=f"x-{number}"))
        page = await registry.project_page("x", "a/b", lambda listing: ",".join(names(listing)).encode())
        assert page.body == f"x-{number}".encode()


async def test_an_unchanged_upstream_page_is_not_rendered_again(world):
    rendered = []
    world.upstreams.lists(A, "x", File(name="x-1"), etag='"1"')
    registry = world.registry(A, metadata_ttl=0)
    for _ in range(3):
        await registry.project_page("x", "a/b", lambda listing: bytes(len(rendered.append(1) or b"x")))
        world.upstreams.answers[f"{A}x/"] = 304
    assert len(rendered) == 1


async def test_projects_are_hosted_and_held_ones(world):
    registry = world.registry(A, B)
    world.upstreams.lists(A, "held", File(name="x-1"))
    world.upstreams.lists(B, "second", File(name="x-1"))
    for project in ("held", "second"):
        await registry.listing(project)
    with pytest.raises(NotFound):
        await registry.listing("unknown")
    await world.publish(registry, "ours", "x-1", b"data")
    assert (await registry.projects()).names == ("held", "ours", "second")
    assert (await world.registry(A, B).projects()).names == ("held", "ours", "second")


# Policy


async def test_what_a_policy_refuses_is_not_fetched_either(world):
    world.upstreams.lists(A, "x", world.upstream_file(A, "x-1.whl", WHEEL), world.upstream_file(A, "x-1.tar.gz", b"s"))
    registry = world.registry(A, refusal=lambda project, file: "no" if file.name.endswith(".whl") else None)
    assert names(await registry.listing("x")) == ["x-1.tar.gz"]
    for sidecar in ("", ".metadata"):
        with pytest.raises(Forbidden):
            await registry.open("x", "x-1.whl", sidecar=sidecar)
    assert world.upstreams.asked == [f"{A}x/"]


@pytest.mark.parametrize("hosted", [False, True])
async def test_a_quarantined_project_gives_no_file(world, hosted):
    # STAT-2, PEP 792
    registry = world.registry(A)
    if hosted:
        await world.publish(registry, "x", "x-1", b"data")
        await world.index().change(
            "x", lambda current, serial: msgspec.structs.replace(current, serial=serial, status="quarantined")
        )
    else:
        listing = Listing(project="x", files=(world.upstream_file(A, "x-1", b"data"),), status="quarantined")
        world.upstreams.answers[f"{A}x/"] = msgspec.json.encode(listing)
    with pytest.raises(Forbidden, match="quarantined"):
        await registry.open("x", "x-1")


# Files


async def test_a_file_is_fetched_once_checked_and_then_held(world, read):
    world.upstreams.lists(A, "x", world.upstream_file(A, "x-1.whl", WHEEL))
    registry = world.registry(A)
    contents = [await registry.open("x", "x-1.whl") for _ in range(10)]
    assert {content.etag for content in contents} == {sha256(WHEEL)}
    assert await asyncio.gather(*map(read, contents)) == [WHEEL] * 10
    await settled(world.tasks)
    assert world.upstreams.asked == [f"{A}x/", f"{A}files/x-1.whl"]
    # CACHE-8
    world.upstreams.answers = {}
    for worker in (registry, world.registry(A)):
        content = await worker.open("x", "x-1.whl")
        assert content.source.complete
        assert await read(content) == WHEEL
    assert len(world.upstreams.asked) == 2


async def test_nothing_is_fetched_for_what_is_only_looked_at(world):
    # HEAD and 304 need no bytes.
    world.upstreams.lists(A, "x", world.upstream_file(A, "x-1.whl", WHEEL))
    content = await world.registry(A).open("x", "x-1.whl")
    assert content.source.size == len(WHEEL)
    await content.source.aclose()
    await settled(world.tasks)
    assert world.upstreams.asked == [f"{A}x/"]


async def test_a_wrong_file_is_never_held_and_asked_for_again(world, read):
    file = world.upstream_file(A, "x-1.whl", WHEEL)
    world.upstreams.lists(A, "x", file)
    world.upstreams.answers[file.url] = WHEEL[:-1] + b"!"
    registry = world.registry(A)
    with pytest.raises(DigestMismatch):
        await read(await registry.open("x", "x-1.whl"))
    await settled(world.tasks)
    assert world.blobs() == []
    world.upstreams.answers[file.url] = WHEEL
    assert await read(await registry.open("x", "x-1.whl")) == WHEEL


@pytest.mark.parametrize(("failure", "error"), [(404, NotFound), (503, UpstreamUnavailable)])
async def test_a_file_that_cannot_be_had_is_said_before_its_first_byte(world, failure, error):
    file = world.upstream_file(A, "x-1.whl", WHEEL)
    world.upstreams.lists(A, "x", file)
    world.upstreams.answers[file.url] = failure
    content = await world.registry(A).open("x", "x-1.whl")
    with pytest.raises(error):
        await content.source.start()
    await content.source.aclose()


async def test_a_held_file_of_the_wrong_length_is_fetched_again(world, read, caplog):
    world.upstreams.lists(A, "x", world.upstream_file(A, "x-1.whl", WHEEL))
    registry = world.registry(A)
    await read(await registry.open("x", "x-1.whl"))
    await settled(world.tasks)
    path = world.store.root / blob_key(sha256(WHEEL))
    path.write_bytes(WHEEL[:-1])
    assert await read(await registry.open("x", "x-1.whl")) == WHEEL
    await settled(world.tasks)
    assert path.read_bytes() == WHEEL
    assert "held file is damaged" in caplog.text


async def test_sidecars_are_fetched_and_checked_like_files(world, read):
    # META-8, META-9
    metadata = b"Name: x\n"
    url = f"{A}files/x-1.whl.metadata"
    world.upstreams.answers[url] = metadata
    good = Sidecar(digests={"sha256": sha256(metadata)}, url=url)
    wrong = Sidecar(digests={"sha256": sha256(b"else")}, url=url)
    file = world.upstream_file(A, "x-1.whl", WHEEL, sidecars={".metadata": good, ".wrong": wrong, ".plain": Sidecar(url=url)})
    world.upstreams.lists(A, "x", file)
    registry = world.registry(A)
    assert await read(await registry.open("x", "x-1.whl", sidecar=".metadata")) == metadata
    assert await read(await registry.open("x", "x-1.whl", sidecar=".plain")) == metadata
    with pytest.raises(DigestMismatch):
        await read(await registry.open("x", "x-1.whl", sidecar=".wrong"))
    with pytest.raises(NotFound):
        await registry.open("x", "x-1.whl", sidecar=".none")
    assert file.url not in world.upstreams.asked


# Files without a sha256


@pytest.mark.parametrize("digest", ["md5", ""])
async def test_a_file_without_sha256_is_pinned_and_then_served_from_here(world, read, digest):
    world.upstreams.lists(A, "x", world.upstream_file(A, "x-1.whl", WHEEL, digest=digest, sized=False))
    registry = world.registry(A)
    assert await read(await registry.open("x", "x-1.whl")) == WHEEL
    await settled(world.tasks)
    asked = len(world.upstreams.asked)
    for worker in (registry, world.registry(A)):
        file = (await worker.listing("x")).by_name["x-1.whl"]
        assert (file.digests["sha256"], file.size) == (sha256(WHEEL), len(WHEEL))
        assert await read(await worker.open("x", "x-1.whl")) == WHEEL
    assert len(world.upstreams.asked) == asked == 2


# PROXY-9
async def test_a_file_without_any_digest_stays_what_it_was_when_it_was_first_fetched(world, read):
    file = world.upstream_file(A, "x-1.whl", WHEEL, digest="", sized=False)
    world.upstreams.lists(A, "x", file)
    registry = world.registry(A)
    await read(await registry.open("x", "x-1.whl"))
    await settled(world.tasks)
    world.upstreams.answers[file.url] = b"replaced"
    assert await read(await registry.open("x", "x-1.whl")) == WHEEL
    (world.store.root / blob_key(sha256(WHEEL))).unlink()
    with pytest.raises(NoraError):
        await read(await registry.open("x", "x-1.whl"))


async def test_a_replaced_file_with_a_weak_digest_is_fetched_once_more_and_no_more(world, read):
    registry = world.registry(A, metadata_ttl=0)
    for data in (WHEEL, b"replaced"):
        world.upstreams.lists(A, "x", world.upstream_file(A, "x-1.whl", data, digest="md5"))
        for _ in range(3):
            assert await read(await registry.open("x", "x-1.whl")) == data
            await settled(world.tasks)
    fetched = [url for url in world.upstreams.asked if url.endswith(".whl")]
    assert len(fetched) == 2


# What upstreams must not be able to do


@pytest.mark.parametrize("digest", ["", "../../../etc/passwd", "A" * 64, "0" * 63, "é" * 64])
async def test_a_digest_that_is_none_is_an_upstreams_error_and_no_path(world, read, digest):
    # PROXY-15
    file = world.upstream_file(A, "x-1.whl", b"data", digest="")
    world.upstreams.lists(A, "x", msgspec.structs.replace(file, digests={"sha256": digest}))
    registry = world.registry(A)
    with pytest.raises(NoraError):
        await read(await registry.open("x", "x-1.whl"))
    await settled(world.tasks)
    assert world.blobs() == []


async def test_file_names_from_an_upstream_are_never_paths(world, read):
    hostile = ["../../x", "/etc/passwd", "..", "a\nb", "x" * 400]
    urls = [f"{A}files/{number}" for number in range(len(hostile))]
    for url in urls:
        world.upstreams.answers[url] = b"data"
    world.upstreams.lists(A, "x", *(File(name=name, url=url) for name, url in zip(hostile, urls, strict=True)))
    registry = world.registry(A)
    for name in hostile[:-1]:
        with pytest.raises(NotFound):
            await registry.open("x", name)
    assert await read(await registry.open("x", hostile[-1])) == b"data"
    await settled(world.tasks)
    assert {path.name for path in world.store.root.iterdir()} == {"FORMAT", "blobs", "cache", "tmp"}
    assert {path.name for path in (world.store.root / "cache/main/0").iterdir()} == {"pages", "pins"}


# PROXY-14
@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://files.example/x", "gopher://x/", "https://", "http://[::1/x"])
async def test_only_http_addresses_are_fetched(world, read, url):
    listing = Listing(project="x", files=(File(name="x-1", url=url),))
    world.upstreams.answers[f"{A}x/"] = msgspec.json.encode(listing)
    world.format.parse_listing = lambda project, document: listing
    with pytest.raises(NoraError):
        await read(await world.registry(A).open("x", "x-1"))
    assert world.upstreams.asked == [f"{A}x/"]


async def test_mirrors_with_the_same_page_serve_their_own_files(world, read):
    # The first one goes, the second one's page is equal byte for byte, and its links are relative.
    registry = world.registry(A, B, metadata_ttl=0)
    for base, data in ((A, b"at a"), (B, b"at b")):
        world.upstreams.lists(base, "x", File(name="x-1"))
        world.upstreams.answers[f"{base}x/x-1"] = data
    assert names(await registry.listing("x")) == ["x-1"]
    world.upstreams.answers[f"{A}x/"] = 404
    world.upstreams.answers[f"{A}x/x-1"] = 404
    assert await read(await registry.open("x", "x-1")) == b"at b"


async def test_a_withdrawn_project_is_gone_with_its_held_files(world, read):
    registry = world.registry(A, metadata_ttl=0)
    world.upstreams.lists(A, "x", world.upstream_file(A, "x-1.whl", WHEEL))
    await read(await registry.open("x", "x-1.whl"))
    world.upstreams.answers[f"{A}x/"] = 404
    for call in (registry.listing("x"), registry.open("x", "x-1.whl")):
        with pytest.raises(NotFound):
            await call
    assert (await registry.projects()).names == ()


async def test_a_withdrawn_project_that_is_kept_serves_what_is_held(world, read):
    registry = world.registry(A, metadata_ttl=0, keep_withdrawn=True)
    world.upstreams.lists(A, "x", world.upstream_file(A, "x-1.whl", WHEEL), world.upstream_file(A, "x-2.whl", b"not held"))
    await read(await registry.open("x", "x-1.whl"))
    await settled(world.tasks)
    world.upstreams.answers = {}
    assert names(await registry.listing("x")) == ["x-1.whl"]
    assert await read(await registry.open("x", "x-1.whl")) == WHEEL
    with pytest.raises(NotFound):
        await registry.open("x", "x-2.whl")
