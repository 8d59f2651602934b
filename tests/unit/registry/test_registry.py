"""The facade, hosted side: pages, files, policy, names, and several workers over one store."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import os

import pytest

from nora.api import Actor, Forbidden, Invalid, Listing, NoraError, NotFound, ProjectNames, Right, TooLarge
from nora.context import NO_REQUEST, RequestContext, current_request
from nora.rights import Grant, Grants
from nora.store.directory import TICK_NS
from nora.store.protocol import blob_key


def names(listing: Listing) -> list[str]:
    return [file.name for file in listing.files]


class Renderer:
    """Renders a listing as its file names, or the list of projects as theirs; counts."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, what: Listing | ProjectNames) -> bytes:
        self.calls += 1
        return ",".join(what.names if isinstance(what, ProjectNames) else names(what)).encode()


@pytest.fixture
def render() -> Renderer:
    return Renderer()


@pytest.fixture
def registry(world):
    return world.registry()


# Listings and files


async def test_what_was_never_published_is_not_found(registry, render):
    for call in (
        registry.listing("x"),
        registry.open("x", "x-1"),
        registry.project_page("x", "a/b", render),
    ):
        with pytest.raises(NotFound, match="no such project: x"):
            await call
    assert render.calls == 0


async def test_a_published_file_is_listed_and_opened_with_its_digest_as_tag(world, registry, read):
    await world.publish(registry, "x", "x-1", b"data")
    listing = await registry.listing("x")
    assert (names(listing), listing.hosted, listing.project) == (["x-1"], True, "x")
    content = await registry.open("x", "x-1")
    assert (content.name, content.etag) == ("x-1", hashlib.sha256(b"data").hexdigest())
    assert (content.source.size, content.source.complete) == (4, True)
    assert await read(content) == b"data"


# FILE-10
@pytest.mark.parametrize(("project", "name"), [("x", "x-2"), ("x", ""), ("x", ".."), ("x", "x-1.asc"), ("y", "x-1")])
async def test_a_file_is_found_in_its_own_project_under_its_own_name_only(world, registry, project, name):
    await world.publish(registry, "x", "x-1", b"data")
    with pytest.raises(NotFound):
        await registry.open(project, name)


async def test_sidecars_are_opened_with_the_file_and_are_no_files_themselves(world, registry, read):
    await world.publish(registry, "x", "x-1", b"data", sidecars={".metadata": b"Name: x", ".asc": b""})
    assert await read(await registry.open("x", "x-1", sidecar=".metadata")) == b"Name: x"
    assert await read(await registry.open("x", "x-1", sidecar=".asc")) == b""
    # META-11
    assert names(await registry.listing("x")) == ["x-1"]
    for suffix in (".sig", "metadata", ".metadata.metadata"):
        with pytest.raises(NotFound):
            await registry.open("x", "x-1", sidecar=suffix)
    with pytest.raises(NotFound):
        await registry.open("x", "x-1.metadata")


@pytest.mark.parametrize("damage", [None, b"dat", b""])
async def test_a_hosted_file_whose_blob_is_damaged_is_our_error_and_never_half_a_file(world, registry, damage, open_files):
    await world.publish(registry, "x", "x-1", b"data")
    path = world.store.root / blob_key(hashlib.sha256(b"data").hexdigest())
    path.unlink()
    if damage is not None:
        path.write_bytes(damage)
    with pytest.raises(NoraError, match="is damaged"):
        await registry.open("x", "x-1")
    assert open_files() == []


# Pages


# D12
async def test_fifty_callers_render_a_page_once(world, registry, render):
    await world.publish(registry, "x", "x-1", b"data")
    pages = await asyncio.gather(*(registry.project_page("x", "a/b", render, vary=("Accept",)) for _ in range(50)))
    assert render.calls == 1
    assert {page.body for page in pages} == {b"x-1"}
    assert (pages[0].content_type, pages[0].vary) == ("a/b", ("Accept",))
    assert await registry.project_page("x", "a/b", render) is pages[0]
    assert render.calls == 1


async def test_each_representation_is_rendered_once(world, registry, render):
    await world.publish(registry, "x", "x-1", b"data")
    for content_type in ("a/b", "a/c", "a/b", "a/c"):
        assert (await registry.project_page("x", content_type, render)).content_type == content_type
    assert render.calls == 2


# HTTP-9, UP-2
async def test_a_page_changes_at_once_after_a_publish(world, registry, render):
    tags = set()
    for number in range(1, 6):
        await world.publish(registry, "x", f"x-{number}", str(number).encode())
        page = await registry.project_page("x", "a/b", render)
        assert page.body == ",".join(f"x-{done}" for done in range(1, number + 1)).encode()
        tags.add(page.etag)
    assert len(tags) == 5


async def test_workers_over_one_store_see_each_others_publishing_at_once(world, render):
    one, two = world.registry(), world.registry()
    for number in range(6):
        writer, reader = (one, two) if number % 2 else (two, one)
        await world.publish(writer, "x", f"x-{number}", str(number).encode())
        assert len(names(await reader.listing("x"))) == number + 1
        assert (await reader.project_page("x", "a/b", render)).body.count(b"x-") == number + 1
        assert (await reader.open("x", f"x-{number}")).source.size == 1
    pages = [await worker.project_page("x", "a/b", render) for worker in (one, two, world.registry())]
    assert len({page.etag for page in pages}) == 1


async def test_what_rendering_raises_is_not_remembered(world, registry, render):
    await world.publish(registry, "x", "x-1", b"data")

    def fails(listing: Listing) -> bytes:
        raise LookupError("no")

    with pytest.raises(LookupError):
        await registry.project_page("x", "a/b", fails)
    assert (await registry.project_page("x", "a/b", render)).body == b"x-1"


async def test_a_caller_that_leaves_does_not_spoil_the_page_of_the_others(world, registry, render):
    await world.publish(registry, "x", "x-1", b"data")
    callers = [asyncio.create_task(registry.project_page("x", "a/b", render)) for _ in range(3)]
    await asyncio.sleep(0)
    callers[0].cancel()
    await asyncio.wait(callers)
    assert {caller.result().body for caller in callers[1:]} == {b"x-1"}


# Policy


def no_wheels(project: str, file) -> str | None:
    return "wheels are not wanted" if file.name.endswith(".whl") else None


async def test_what_a_policy_refuses_is_hidden_and_forbidden_with_its_reason(world, render, read):
    registry = world.registry(refusal=no_wheels)
    await world.publish(registry, "x", "x-1.tar.gz", b"data", sidecars={".asc": b"1"})
    await world.publish(registry, "x", "x-1.whl", b"wheel", sidecars={".metadata": b"Name: x"})
    assert names(await registry.listing("x")) == ["x-1.tar.gz"]
    assert (await registry.project_page("x", "a/b", render)).body == b"x-1.tar.gz"
    for sidecar in ("", ".metadata", ".none"):
        with pytest.raises(Forbidden, match=r"x-1\.whl: wheels are not wanted"):
            await registry.open("x", "x-1.whl", sidecar=sidecar)
    assert await read(await registry.open("x", "x-1.tar.gz")) == b"data"
    assert await read(await registry.open("x", "x-1.tar.gz", sidecar=".asc")) == b"1"
    with pytest.raises(NotFound):
        await registry.open("x", "x-9.whl")


async def test_a_policy_is_asked_with_the_projects_name(world):
    asked = []
    registry = world.registry(refusal=lambda project, file: asked.append((project, file.name)))
    await world.publish(registry, "x", "x-1", b"data")
    await registry.listing("x")
    await registry.open("x", "x-1")
    assert asked == [("x", "x-1")]  # one decision for all


# Projects


async def test_projects_are_all_that_were_published_sorted_by_name(world, registry, render):
    assert (await registry.projects()).names == ()
    for project in ("b", "a", "ü/..", "c"):
        await world.publish(registry, project, "f-1", b"data")
    found = await registry.projects()
    assert found.names == ("a", "b", "c", "ü/..")
    page = await registry.projects_page("a/b", render, vary=("Accept",))
    assert page.body == "a,b,c,ü/..".encode()
    assert await registry.projects_page("a/b", render) is page
    assert await asyncio.gather(*(registry.projects_page("a/b", render) for _ in range(20))) == [page] * 20
    assert render.calls == 1


def seeing(*patterns: str) -> RequestContext:
    grant = Grant(rights=frozenset({Right.READ}), projects=patterns)
    return RequestContext(actor=Actor(name="ada"), grants=Grants((grant,)))


async def test_who_may_see_a_part_has_a_list_of_its_own_and_nobody_makes_anothers_again(world, registry, render):
    # AUTH-7
    for project in ("a", "b-1", "b-2"):
        await world.publish(registry, project, "f-1", b"data")
    views = {"all": NO_REQUEST, "some": seeing("b-*"), "one": seeing("a"), "none": seeing("c")}
    for _ in range(3):
        shown = {}
        for name, context in views.items():
            reset = current_request.set(context)
            shown[name] = (await registry.projects_page("a/b", render)).body
            current_request.reset(reset)
        assert shown == {"all": b"a,b-1,b-2", "some": b"b-1,b-2", "one": b"a", "none": b""}
    assert render.calls == len(views)


async def test_the_list_before_a_change_is_not_kept(world, registry, render, monkeypatch):
    kept = []
    put = registry._pages._cache.put
    monkeypatch.setattr(registry._pages._cache, "put", lambda key, *rest: (kept.append(key), put(key, *rest)))
    for project in ("a", "b", "c"):
        await world.publish(registry, project, "f-1", b"data")
        await registry.projects_page("a/b", render)
    assert len(kept) == 3
    assert len(set(kept)) == 1, "one takes the place of the other"


async def test_a_new_project_is_in_the_list_at_once_on_every_worker(world, render):
    workers = [world.registry() for _ in range(3)]
    seen = set()
    for number in range(8):
        await world.publish(workers[number % 3], f"p{number}", "f-1", b"data")
        for worker in workers:
            assert len((await worker.projects()).names) == number + 1
            assert (await worker.projects_page("a/b", render)).body.count(b"p") == number + 1
        seen.add((await workers[0].projects()).revision)
    assert len(seen) == 8


async def test_the_list_is_not_read_again_while_nothing_changes(world, registry, monkeypatch):
    await world.publish(registry, "x", "x-1", b"data")
    folder = world.store.root / "index" / "main"
    at = os.stat(folder).st_mtime_ns - 2 * TICK_NS
    os.utime(folder, ns=(at, at))
    first = await registry.projects()

    async def reads(prefix: str) -> list[str]:
        raise AssertionError("the folder is read")

    monkeypatch.setattr(world.store, "names", reads)
    assert await registry.projects() is first


async def test_a_folder_that_a_crash_left_empty_does_not_make_the_list_be_read_each_time(world, registry, monkeypatch):
    await world.publish(registry, "x", "x-1", b"data")
    folder = world.store.root / "index" / "main"
    (folder / "ghost").mkdir()
    at = os.stat(folder).st_mtime_ns - 3600 * 10**9
    for path in (folder / "ghost", folder):
        os.utime(path, ns=(at, at))
    assert (await registry.projects()).names == ("x",)
    reads, names_of = [], world.store.names

    async def counted(prefix: str) -> list[str]:
        reads.append(prefix)
        return await names_of(prefix)

    monkeypatch.setattr(world.store, "names", counted)
    for _ in range(5):
        assert (await registry.projects()).names == ("x",)
    assert reads == []
    # And what was left can be used.
    await world.publish(registry, "ghost", "g-1", b"data")
    assert (await registry.projects()).names == ("ghost", "x")


async def test_registries_over_one_store_are_apart(world):
    # MULTI-7
    one, other = world.registry(name="one"), world.registry(name="other")
    await world.publish(one, "x", "x-1", b"data")
    with pytest.raises(NotFound):
        await other.listing("x")
    assert (await other.projects()).names == ()
    assert (await world.publish(other, "x", "x-1", b"else")).created


# Receiving


async def test_a_received_body_is_finished_and_gone_with_its_block(registry):
    async with registry.receive([b"a", b"", b"bc"]) as spool:
        assert (spool.size, await spool.digest("sha256")) == (3, hashlib.sha256(b"abc").hexdigest())
        path = spool.path
        assert os.path.getsize(path) == 3
    assert not os.path.exists(path)


@pytest.mark.parametrize("error", [TooLarge("the upload", 1), Invalid("it broke off")])
async def test_a_body_that_breaks_off_leaves_nothing(world, registry, error):
    with pytest.raises(type(error)):
        async with registry.receive([b"a" * 2_000_000, error]):
            raise AssertionError
    assert list(world.store._scratch.folder.iterdir()) == []
    assert [piece async for piece in registry.body([b"a", b"b"])] == [b"a", b"b"]


async def test_an_empty_spool_can_be_had(registry):
    async with registry.spool() as spool:
        await spool.write(b"x")
        await spool.finish()
        assert spool.size == 1


async def test_a_damaged_manifest_is_an_error_for_its_project_only(world, registry, caplog):
    caplog.set_level(logging.ERROR)
    for project in ("x", "y"):
        await world.publish(registry, project, "f-1", b"data")
    (world.store.root / "index/main/x/000000000002.json").write_bytes(b"{")
    with pytest.raises(Exception, match=r"JSON is malformed|truncated"):
        await registry.listing("x")
    assert names(await registry.listing("y")) == ["f-1"]
