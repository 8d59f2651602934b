"""Yanking, deleting and project status, as several workers do them."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import httpx
import msgspec
import pytest

from nora.api import (
    Actor,
    AlreadyExists,
    Event,
    File,
    Forbidden,
    Invalid,
    Listing,
    NotFound,
    ProxyConfig,
    Published,
    RegistryConfig,
    Spool,
    UpstreamError,
)
from nora.context import RequestContext, current_request
from nora.index.index import Index
from nora.registry.curate import STATUSES, Curator, Target
from nora.registry.files import Files
from nora.registry.journal import Journal
from nora.registry.publish import Publisher
from nora.registry.registry import HostRegistry
from nora.registry.sources import Source
from nora.rights import ALL
from nora.store.protocol import Step
from nora.tasks import SingleFlight
from nora.upstream.client import Upstream
from nora.upstream.downloads import Downloads
from nora.upstream.listings import UpstreamListings
from nora.upstream.pins import Pins

UP = "https://up.example/"
ONE = Target("1")


def key(version: str) -> str:
    """``1``, ``1.0`` and ``1.0.0`` are one version."""
    assert version, "a format is not asked for the key of no version"
    while version.endswith(".0"):
        version = version.removesuffix(".0")
    return version


@dataclass
class Worker:
    """One process with a registry; shares nothing with others but the store."""

    registry: HostRegistry
    curator: Curator
    store: Any

    async def publish(self, name: str, data: bytes = b"data", project: str = "x", **fields: Any) -> Published:
        async with self.store.spool() as spool:
            await spool.write(data)
            return await self.registry.publish(project, File(name=name, **fields), spool)

    async def yanked(self, project: str = "x") -> dict[str, bool | str]:
        return {file.name: file.yanked for file in (await self.registry.listing(project)).files}

    async def names(self, project: str = "x") -> list[str]:
        return list(await self.yanked(project))


@pytest.fixture
def events() -> list[Event]:
    """What the event sinks were told."""
    return []


@pytest.fixture
def worker(store, tasks, upstream_client, toy_format, upstreams, events) -> Callable[..., Worker]:
    """Makes workers of one registry; with ``url`` it proxies."""

    class Sink:
        def emit(self, event: Event) -> None:
            events.append(event)

    def make(url: str = "", *, merge_upstream: tuple[str, ...] = (), refusal: Any = None, ttl: int = 0) -> Worker:
        index, overlay = Index(store, "main"), Index(store, "main", area="overlay")
        config = ProxyConfig(proxy=url, metadata_ttl=ttl) if url else RegistryConfig()
        sources = []
        if url:
            listings = UpstreamListings(
                store=store,
                client=upstream_client,
                tasks=tasks,
                format_=toy_format,
                upstream=Upstream(url),
                registry="main",
                position=0,
                config=config,
            )
            sources.append(Source(listings, Pins(store, listings.prefix)))
        flights, journal = SingleFlight(tasks), Journal("main", [Sink()])
        downloads = Downloads(store, upstream_client, tasks)
        registry = HostRegistry(
            name="main",
            path="/",
            config=config,
            public_url="",
            store=store,
            index=index,
            overlay=overlay,
            sources=sources,
            files=Files(registry="main", store=store, client=upstream_client, downloads=downloads, flights=flights),
            flights=flights,
            publisher=Publisher(store=store, index=index, overlay=overlay, journal=journal),
            refusal=refusal,
            read_body=None,
            merge_upstream=merge_upstream,
            version_key=key,
        )
        curator = Curator(index=index, overlay=overlay, listing=registry.listing, journal=journal, version_key=key)
        return Worker(registry, curator, store)

    return make


def offered(upstreams: Any, *files: File, project: str = "x", **fields: Any) -> None:
    """The upstream lists these files, each of which can be fetched."""
    made = []
    for file in files:
        data = file.name.encode()
        upstreams.answers[f"{UP}files/{file.name}"] = data
        digests = {"sha256": hashlib.sha256(data).hexdigest()}
        made.append(msgspec.structs.replace(file, url=f"{UP}files/{file.name}", size=len(data), digests=digests))
    body = msgspec.json.encode(Listing(project=project, files=tuple(made), **fields))
    upstreams.answers[f"{UP}{project}/"] = lambda _: httpx.Response(200, content=body)


async def serials(worker: Worker, area: str = "index") -> list[str]:
    return sorted(await worker.store.names(f"{area}/main/x"))


# What a change is about


def test_a_target_names_a_version_or_a_file():
    assert str(Target("1.0")) == "version 1.0"
    assert str(Target("1.0", "x-1")) == str(Target(file="x-1")) == "x-1"
    with pytest.raises(Invalid, match="name a version or a file"):
        Target("")


# Yanking what is hosted


async def test_a_yanked_version_shows_its_reason_and_comes_back_on_every_worker(worker):
    one, other = worker(), worker()
    for name, version in (("x-1.whl", "1"), ("x-1.tar", "1.0"), ("x-2.whl", "2")):
        await one.publish(name, name.encode(), version=version)
    assert set((await other.yanked()).values()) == {False}
    event = await one.curator.yank("x", Target("1.0.0"), "it is broken")
    assert (event.action, event.version, event.files, event.reason) == ("yank", "1.0.0", (), "it is broken")
    # PEP440-2
    for asked in (one, other):
        assert await asked.yanked() == {"x-1.whl": "it is broken", "x-1.tar": "it is broken", "x-2.whl": False}
    event = await other.curator.unyank("x", Target("1"))
    assert (event.action, event.version, event.reason) == ("unyank", "1", "")
    for asked in (one, other):
        assert set((await asked.yanked()).values()) == {False}


async def test_a_yank_without_a_reason_is_true(worker):
    # YANK-4
    one = worker()
    await one.publish("x-1", version="1")
    for reason in ("", "  "):
        await one.curator.yank("x", ONE, reason)
        assert await one.yanked() == {"x-1": True}
    assert len(await serials(one)) == 2


async def test_one_file_is_yanked_by_its_name(worker, events):
    one = worker()
    await one.publish("x-1.whl", b"a", version="1")
    await one.publish("x-1.tar", b"b", version="1")
    await one.curator.yank("x", Target("1", "x-1.tar"), "wrong tags")
    assert await one.yanked() == {"x-1.whl": False, "x-1.tar": "wrong tags"}
    assert events[-1].files == ("x-1.tar",)
    await one.curator.unyank("x", Target("1.0", "x-1.tar"))
    assert await one.yanked() == {"x-1.whl": False, "x-1.tar": False}


async def test_a_file_is_found_without_its_version(worker, events):
    one = worker()
    await one.publish("x-1", b"a", version="1")
    await one.publish("notes.txt", b"b")
    for name, version in (("x-1", "1"), ("notes.txt", "")):
        await one.curator.yank("x", Target(file=name))
        assert (await one.yanked())[name] is True
        assert events[-1].version == version
        await one.curator.unyank("x", Target(file=name))
    await one.curator.delete("x", Target(file="notes.txt"))
    assert await one.names() == ["x-1"]


async def test_later_files_of_a_yanked_version_are_yanked(worker):
    one = worker()
    await one.publish("x-1.whl", b"a", version="1")
    await one.curator.yank("x", ONE, "broken")
    await one.publish("x-1.tar", b"b", version="1.0")
    assert await one.yanked() == {"x-1.whl": "broken", "x-1.tar": "broken"}


async def test_what_is_so_already_is_no_change(worker, events):
    one = worker()
    await one.publish("x-1", version="1")
    assert await one.curator.unyank("x", ONE) is None
    assert await one.curator.yank("x", ONE, "broken") is not None
    assert await one.curator.yank("x", Target("1.0"), "broken") is None
    assert len(await serials(one)) == 2
    assert [event.action for event in events] == ["publish", "yank"]
    # Another reason is a change.
    assert await one.curator.yank("x", ONE, "very broken") is not None
    assert await one.yanked() == {"x-1": "very broken"}
    assert await one.curator.unyank("x", ONE) is not None
    assert await one.curator.unyank("x", ONE) is None


async def test_a_version_that_is_yanked_as_a_whole_is_not_unyanked_by_file(worker):
    one = worker()
    await one.publish("x-1", version="1")
    await one.curator.yank("x", ONE)
    for target in (Target("1.0", "x-1"), Target(file="x-1")):
        with pytest.raises(Invalid, match=r"the whole version 1.* is yanked; unyank the version"):
            await one.curator.unyank("x", target)
    assert await one.yanked() == {"x-1": True}


async def test_a_file_that_is_yanked_by_name_is_not_unyanked_by_version(worker):
    one = worker()
    await one.publish("x-1", version="1")
    await one.curator.yank("x", Target("1", "x-1"))
    with pytest.raises(Invalid, match=r"one by one.*by name"):
        await one.curator.unyank("x", ONE)
    # Both ways at once: each is taken back by itself.
    await one.curator.yank("x", ONE, "all of it")
    assert await one.curator.unyank("x", ONE) is not None
    assert await one.yanked() == {"x-1": True}


@pytest.mark.parametrize("target", [Target("2"), Target("1", "y-1"), Target("2", "x-1"), Target(file="y-1"), Target("1.1")])
async def test_what_is_not_there_cannot_be_changed(worker, target):
    one = worker()
    await one.publish("x-1", version="1")
    for change in (one.curator.yank, one.curator.unyank, one.curator.delete):
        with pytest.raises(NotFound) as caught:
            await change("x", target)
        assert "x" in caught.value.name
    assert len(await serials(one)) == 1


# "" is no project; the others are longer than what can be stored.
@pytest.mark.parametrize(
    "project", ["y", "", "y" * 256, "/" * 100, "é" * 100], ids=["y", "empty", "long", "slashes", "accents"]
)
async def test_a_project_that_is_not_there_cannot_be_changed(worker, project):
    curator = worker().curator
    for change in (
        curator.yank(project, ONE),
        curator.unyank(project, ONE),
        curator.delete(project, ONE),
        curator.set_status(project, "archived"),
        curator.history(project, 10),
    ):
        with pytest.raises(NotFound):
            await change


@pytest.mark.parametrize("reason", ["two\nlines", "\x1b[31m", "x" * 2001, "\u2028", "\u202e", "\udcff"])
async def test_a_reason_that_cannot_be_shown_is_refused(worker, reason):
    # YANK-3
    one = worker()
    await one.publish("x-1", version="1")
    for change in (
        one.curator.yank("x", ONE, reason),
        one.curator.delete("x", ONE, reason),
        one.curator.set_status("x", "archived", reason),
    ):
        with pytest.raises(Invalid, match="one line of at most 2000 printable characters"):
            await change
    assert len(await serials(one)) == 1


async def test_a_reason_of_any_script_is_kept_as_it_is(worker):
    one = worker()
    await one.publish("x-1", version="1")
    for reason in ("<b>&\"'", "Sicherheitslücke 🔥", "x" * 2000):
        await one.curator.yank("x", ONE, reason)
        assert await worker().yanked() == {"x-1": reason}


# Yanking what an upstream has


async def test_a_yank_of_an_upstreams_version_does_not_make_the_name_ours(worker, upstreams):
    # YANK-1, MULTI-7
    offered(upstreams, File(name="x-1", version="1"), File(name="x-2", version="2"))
    one, other = worker(UP), worker(UP)
    assert await one.yanked() == {"x-1": False, "x-2": False}
    before = await other.registry.listing("x")
    event = await one.curator.yank("x", Target("1.0"), "not for us")
    assert event.version == "1.0"
    assert await other.yanked() == {"x-1": "not for us", "x-2": False}
    assert (await serials(one), await serials(one, "overlay")) == ([], ["000000000001.json"])
    listing = await other.registry.listing("x")
    assert not listing.hosted
    assert listing.revision != before.revision
    assert listing.serial > before.serial
    # What is new upstream goes on to appear, and files to be fetched. YANK-6
    offered(upstreams, *(File(name=f"x-{number}", version=str(number)) for number in (1, 2, 3)))
    assert await other.yanked() == {"x-1": "not for us", "x-2": False, "x-3": False}
    content = await other.registry.open("x", "x-1")
    await content.source.start()
    await content.source.aclose()
    # It survives a restart, and is taken back.
    assert await worker(UP).curator.unyank("x", ONE) is not None
    assert set((await other.yanked()).values()) == {False}


async def test_an_upstreams_own_yank_cannot_be_taken_back_here(worker, upstreams, events):
    offered(upstreams, File(name="x-1", version="1", yanked="their reason"), File(name="x-2", version="2", yanked=True))
    one = worker(UP)
    for target in (ONE, Target("1", "x-1"), Target("2")):
        with pytest.raises(Invalid, match="yanked upstream"):
            await one.curator.unyank("x", target)
    assert events == []
    assert await serials(one, "overlay") == []
    # YANK-5
    offered(upstreams, File(name="x-1", version="1"))
    assert await one.yanked() == {"x-1": False}
    assert await one.curator.unyank("x", ONE) is None


async def test_files_yanked_here_one_by_one_are_not_said_to_be_yanked_upstream(worker, upstreams):
    offered(upstreams, File(name="x-1.whl", version="1"), File(name="x-1.tar", version="1"))
    one = worker(UP)
    await one.curator.yank("x", Target("1", "x-1.tar"))
    with pytest.raises(Invalid, match=r"one by one.*x-1\.tar"):
        await one.curator.unyank("x", ONE)


async def test_a_reason_of_ours_wins_and_no_reason_of_ours_leaves_theirs(worker, upstreams):
    # YANK-1
    offered(upstreams, File(name="x-1", version="1", yanked="their reason"))
    one = worker(UP)
    await one.curator.yank("x", ONE)
    assert await one.yanked() == {"x-1": "their reason"}
    await one.curator.yank("x", ONE, "our reason")
    assert await one.yanked() == {"x-1": "our reason"}
    # Ours is taken back; theirs stays.
    assert await one.curator.unyank("x", ONE) is not None
    assert await one.yanked() == {"x-1": "their reason"}


async def test_a_file_is_not_unyanked_by_another_version(worker):
    one = worker()
    await one.publish("x-1", version="1")
    await one.curator.yank("x", Target(file="x-1"))
    with pytest.raises(NotFound):
        await one.curator.unyank("x", Target("2", "x-1"))
    assert await one.yanked() == {"x-1": True}


async def test_a_mark_can_be_taken_back_when_its_files_are_gone(worker, upstreams):
    offered(upstreams, File(name="x-1", version="1"), File(name="x-2", version="2"))
    one = worker(UP)
    await one.curator.yank("x", ONE)
    await one.curator.yank("x", Target("2", "x-2"))
    offered(upstreams, File(name="x-3", version="3"))
    assert await one.curator.unyank("x", Target("1.0")) is not None
    assert await one.curator.unyank("x", Target(file="x-2")) is not None
    offered(upstreams, File(name="x-1", version="1"), File(name="x-2", version="2"))
    assert await one.yanked() == {"x-1": False, "x-2": False}


async def test_an_upstream_that_fails_is_an_error_and_changes_nothing(worker, upstreams):
    upstreams.answers[f"{UP}x/"] = 503
    one = worker(UP)
    for change in (one.curator.yank("x", ONE), one.curator.unyank("x", ONE), one.curator.set_status("x", "archived")):
        with pytest.raises(UpstreamError):
            await change
    assert await serials(one, "overlay") == []


async def test_what_was_yanked_stays_so_when_the_name_becomes_ours(worker, upstreams):
    offered(upstreams, File(name="x-1", version="1"), File(name="x-2", version="2"))
    one = worker(UP)
    await one.curator.yank("x", ONE, "broken")
    await one.curator.yank("x", Target("2", "x-2"), "wrong")
    other = worker(UP)
    await other.publish("x-1.own", b"own", version="1.0")
    await other.publish("x-2", b"own", version="2")
    assert await one.yanked() == {"x-1.own": "broken", "x-2": "wrong"}
    # From now on the project's own manifests hold it.
    await one.curator.unyank("x", ONE)
    assert await other.yanked() == {"x-1.own": False, "x-2": "wrong"}
    assert len(await serials(one, "overlay")) == 2


async def test_a_yank_while_the_name_becomes_ours_is_not_lost(worker, upstreams, store, monkeypatch):
    offered(upstreams, File(name="x-1", version="1"))
    one, other = worker(UP), worker(UP)
    create = store.create

    async def first_the_other(storage_key: str, data: bytes, *, blobs: Sequence[Spool]) -> bool:
        if storage_key.startswith("overlay/"):
            monkeypatch.setattr(store, "create", create)
            await other.publish("x-1", b"own", version="1")
        return await create(storage_key, data, blobs=blobs)

    monkeypatch.setattr(store, "create", first_the_other)
    assert await one.curator.yank("x", ONE, "broken") is not None
    assert await one.yanked() == await other.yanked() == {"x-1": "broken"}


async def test_a_mark_covers_hosted_and_merged_files_alike(worker, upstreams):
    offered(upstreams, File(name="x-1.tar", version="1.0"), File(name="x-2", version="2"))
    one = worker(UP, merge_upstream=("x",))
    await one.publish("x-1.whl", version="1")
    await one.curator.yank("x", ONE, "broken")
    assert await one.yanked() == {"x-1.whl": "broken", "x-1.tar": "broken", "x-2": False}
    await one.curator.yank("x", Target("2"))
    assert (await one.yanked())["x-2"] is True
    assert await serials(one, "overlay") == []
    await one.curator.unyank("x", ONE)
    assert await one.yanked() == {"x-1.whl": False, "x-1.tar": False, "x-2": True}


# Deleting


async def test_a_deleted_version_is_gone_on_every_worker_and_the_name_stays_ours(worker, upstreams, events):
    offered(upstreams, File(name="x-9", version="9"))
    one, other = worker(UP), worker(UP)
    await one.publish("x-1.whl", b"a", version="1")
    await one.publish("x-1.tar", b"b", version="1.0")
    assert len(await other.names()) == 2
    asked = len(upstreams.asked)
    event = await one.curator.delete("x", Target("1.0"), "a secret was inside")
    assert (event.action, event.files, event.reason) == ("delete", ("x-1.tar", "x-1.whl"), "a secret was inside")
    assert events[-1] == event
    assert await other.names() == []
    for name in ("x-1.whl", "x-1.tar"):
        with pytest.raises(NotFound):
            await other.registry.open("x", name)
    assert (await worker(UP).registry.listing("x")).hosted
    assert len(upstreams.asked) == asked


async def test_a_deleted_file_leaves_the_others(worker):
    one = worker()
    await one.publish("x-1.whl", b"a", version="1")
    await one.publish("x-1.tar", b"b", version="1")
    await one.curator.delete("x", Target("1", "x-1.tar"))
    assert await worker().names() == ["x-1.whl"]
    with pytest.raises(NotFound, match=r"hosted file: x x-1\.tar"):
        await one.curator.delete("x", Target("1", "x-1.tar"))


async def test_a_deleted_name_takes_only_its_old_bytes_back_in_every_spelling(worker):
    # UP-11, PEP440-2
    one = worker()
    await one.publish("x-1.0", b"data", version="1.0", identity="x-1")
    await one.curator.delete("x", ONE)
    for name in ("x-1.0", "x-1.0.0"):
        with pytest.raises(AlreadyExists, match=r"x-1\.0 was deleted"):
            await one.publish(name, b"other", version=name[2:], identity="x-1")
    assert (await one.publish("x-1.0", b"data", version="1.0", identity="x-1")).created
    assert await worker().names() == ["x-1.0"]
    # And again, whatever else is deleted.
    await one.publish("x-2", b"more", version="2", identity="x-2")
    await one.curator.delete("x", ONE)
    await one.curator.delete("x", Target("2"))
    with pytest.raises(AlreadyExists):
        await one.publish("x-1.0", b"other", version="1.0", identity="x-1")
    assert (await one.publish("x-1.0.0", b"data", version="1.0.0", identity="x-1")).created


async def test_a_file_that_comes_back_is_still_yanked(worker):
    # Whoever deletes what was yanked does not mean to have it installed when somebody uploads it again.
    one = worker()
    await one.publish("x-1", version="1")
    await one.publish("x-2", version="2")
    await one.curator.yank("x", ONE, "broken")
    await one.curator.yank("x", Target("2", "x-2"), "broken")
    for version in "12":
        await one.curator.delete("x", Target(version))
        await one.publish(f"x-{version}", version=version)
    assert await worker().yanked() == {"x-1": "broken", "x-2": "broken"}


async def test_a_deleted_name_does_not_come_back_from_a_merged_upstream(worker, upstreams):
    offered(
        upstreams, File(name="x-1", version="1"), File(name="x-1.0", version="1.0", identity="i"), File(name="x-2", version="2")
    )
    one = worker(UP, merge_upstream=("x",))
    await one.publish("x-1", b"ours", version="1", identity="i")
    assert await one.names() == ["x-1", "x-2"]
    await one.curator.delete("x", ONE)
    assert await worker(UP, merge_upstream=("x",)).names() == ["x-2"]
    with pytest.raises(NotFound):
        await one.registry.open("x", "x-1")


async def test_an_upstreams_files_cannot_be_deleted(worker, upstreams):
    offered(upstreams, File(name="x-1", version="1"))
    one = worker(UP)
    with pytest.raises(NotFound, match="hosted file"):
        await one.curator.delete("x", ONE)
    merged = worker(UP, merge_upstream=("x",))
    await merged.publish("x-2", version="2")
    with pytest.raises(NotFound, match="hosted file"):
        await merged.curator.delete("x", ONE)
    assert await merged.names() == ["x-2", "x-1"]


async def test_what_would_be_deleted_can_be_told_beforehand(worker):
    one = worker()
    await one.publish("x-1.whl", b"a", version="1")
    await one.publish("x-1.tar", b"b", version="1.0")
    await one.publish("x-2", b"c", version="2")
    assert [file.name for file in await one.curator.hosted_files("x", ONE)] == ["x-1.whl", "x-1.tar"]
    assert [file.name for file in await one.curator.hosted_files("x", Target(file="x-2"))] == ["x-2"]
    for project, target in (("x", Target("3")), ("y", ONE), ("y" * 300, ONE)):
        with pytest.raises(NotFound):
            await one.curator.hosted_files(project, target)


# Status


@pytest.mark.parametrize("status", STATUSES[1:])
async def test_a_status_is_shown_with_its_reason_until_it_is_active_again(worker, events, status):
    # STAT-1
    one, other = worker(), worker()
    await one.publish("x-1", version="1")
    assert (await other.registry.listing("x")).status == "active"
    event = await one.curator.set_status("x", status, " see y ")
    assert (event.action, event.reason, event.files, event.version) == ("status", f"{status}: see y", (), "")
    listing = await other.registry.listing("x")
    assert (listing.status, listing.status_reason) == (status, "see y")
    assert await other.curator.set_status("x", status, "see y") is None
    assert (await other.curator.set_status("x", status)).reason == status
    assert await other.curator.set_status("x", "active") is not None
    listing = await one.registry.listing("x")
    assert (listing.status, listing.status_reason) == ("active", "")
    assert [event.action for event in events] == ["publish", *["status"] * 3]


@pytest.mark.parametrize(
    ("status", "takes_uploads", "serves"),
    [("archived", False, True), ("quarantined", False, False), ("deprecated", True, True)],
)
async def test_what_a_status_allows(worker, status, takes_uploads, serves):
    # STAT-2, STAT-3
    one, other = worker(), worker()
    await one.publish("x-1", version="1")
    await one.curator.set_status("x", status)
    if takes_uploads:
        await other.publish("x-2", b"more", version="2")
    else:
        with pytest.raises(Forbidden, match=status):
            await other.publish("x-2", b"more", version="2")
    if serves:
        await (await other.registry.open("x", "x-1")).source.aclose()
    else:
        with pytest.raises(Forbidden, match=status):
            await other.registry.open("x", "x-1")
    # What is there can be changed all the same.
    assert await one.curator.yank("x", ONE) is not None
    assert await one.curator.delete("x", ONE) is not None


@pytest.mark.parametrize("status", ["", "Archived", "gone", "active\n", "x" * 5000])
async def test_another_status_is_refused(worker, status):
    one = worker()
    await one.publish("x-1", version="1")
    with pytest.raises(Invalid, match=r"no such status.*active, archived, deprecated, quarantined") as caught:
        await one.curator.set_status("x", status)
    assert len(str(caught.value)) < 200


async def test_an_upstreams_project_is_given_no_status(worker, upstreams, events):
    offered(upstreams, File(name="x-1", version="1"), status="archived", status_reason="theirs")
    one = worker(UP)
    with pytest.raises(Forbidden, match="x is an upstream's project"):
        await one.curator.set_status("x", "quarantined")
    listing = await one.registry.listing("x")
    assert (listing.status, listing.status_reason) == ("archived", "theirs")
    assert events == []


async def test_a_quarantined_upstream_serves_nothing(worker, upstreams):
    # STAT-2
    offered(upstreams, File(name="x-1", version="1"), status="quarantined")
    with pytest.raises(Forbidden, match="quarantined"):
        await worker(UP).registry.open("x", "x-1")


# What is told


async def test_an_event_says_who_did_what_and_when(worker, events):
    one = worker()
    await one.publish("x-1", version="1")
    token = current_request.set(RequestContext("r-1", Actor(name="ada"), grants=ALL))
    try:
        event = await one.curator.yank("x", ONE, "broken")
    finally:
        current_request.reset(token)
    assert (event.registry, event.project, event.actor, event.request_id) == ("main", "x", "ada", "r-1")
    assert event.at.endswith("Z")
    assert events[-1] == event
    assert (await Index(one.store, "main").newest("x")).event == event


async def test_history_is_the_newest_first_and_bounded(worker, upstreams):
    offered(upstreams, File(name="x-1", version="1"))
    one = worker(UP)
    assert await one.curator.history("x", 10) == []
    await one.curator.yank("x", ONE, "before it was ours")
    await one.publish("x-2", version="2")
    await one.curator.set_status("x", "archived")
    told = await worker(UP).curator.history("x", 10)
    assert [(entry.serial, entry.hosted, entry.event.action) for entry in told] == [
        (2, True, "status"),
        (1, True, "publish"),
        (1, False, "yank"),
    ]
    for limit in (1, 2, 3):
        assert await one.curator.history("x", limit) == told[:limit]


async def test_a_change_that_was_stored_in_both_places_is_told_once(worker, upstreams, store, monkeypatch):
    offered(upstreams, File(name="x-1", version="1"))
    one, other = worker(UP), worker(UP)
    begin = store.begin

    async def first_the_other(storage_key: str, data: bytes, *, blobs: Sequence[Spool]) -> Step | None:
        if storage_key.startswith("overlay/"):
            monkeypatch.setattr(store, "begin", begin)
            await other.publish("x-1", b"own", version="1")
        return await begin(storage_key, data, blobs=blobs)

    monkeypatch.setattr(store, "begin", first_the_other)
    await one.curator.yank("x", ONE, "broken")
    assert [(entry.hosted, entry.event.action) for entry in await one.curator.history("x", 10)] == [
        (True, "yank"),
        (True, "publish"),
    ]


async def test_an_overview_tells_whose_each_mark_is(worker, upstreams):
    offered(
        upstreams,
        File(name="x-1.tar", version="1.0"),
        File(name="x-2", version="2", yanked="theirs"),
        File(name="x-3", version="3"),
        File(name="notes"),
    )
    one = worker(UP, merge_upstream=("x",))
    await one.publish("x-1.whl", version="1")
    await one.curator.yank("x", ONE)
    await one.curator.yank("x", Target("3", "x-3"))
    seen = await one.curator.overview("x")
    assert [[file.name for file in group] for group in seen.versions] == [["x-1.whl", "x-1.tar"], ["x-2"], ["x-3"], ["notes"]]
    assert seen.yanked_here == {"x-1.whl", "x-1.tar", "x-3"}
    assert seen.listing == await one.registry.listing("x")
    alone = worker(UP)
    offered(upstreams, File(name="y-1", version="1"), File(name="y-2", version="2", yanked=True), project="y")
    await alone.curator.yank("y", ONE)
    assert (await alone.curator.overview("y")).yanked_here == {"y-1"}
    with pytest.raises(NotFound):
        await alone.curator.overview("z")


# At the same time


async def test_parallel_changes_lose_nothing(worker, events):
    # CONC-1
    workers = [worker() for _ in range(4)]
    for number in range(5):
        await workers[0].publish(f"x-{number}", str(number).encode(), version=str(number))
    for number in (3, 4):
        await workers[0].curator.yank("x", Target(str(number)), "old")
    turns = (workers[number % 4] for number in range(100))
    changes = [
        *(next(turns).curator.yank("x", Target(str(number)), "new") for number in range(3)),
        *(next(turns).curator.unyank("x", Target(str(number))) for number in (3, 4)),
        *(next(turns).curator.yank("x", Target(str(number), f"x-{number}"), "file") for number in range(5)),
        next(turns).curator.set_status("x", "deprecated"),
        *(next(turns).publish(f"y-{number}", f"y{number}".encode(), version=f"9.{number}") for number in range(9)),
    ]
    assert len(changes) == 20
    before = len(await serials(workers[0]))
    assert None not in await asyncio.gather(*changes)
    assert len(await serials(workers[0])) == before + 20
    manifest = await Index(workers[0].store, "main").newest("x")
    assert manifest.yanked_versions == {"0": "new", "1": "new", "2": "new"}
    assert manifest.yanked_files == {f"x-{number}": "file" for number in range(5)}
    assert manifest.status == "deprecated"
    assert len(manifest.files) == 14
    told = await workers[0].curator.history("x", 500)
    assert [entry.serial for entry in told] == list(range(before + 20, 0, -1))
    assert sorted(map(msgspec.json.encode, events)) == sorted(msgspec.json.encode(entry.event) for entry in told)


async def test_a_sink_that_fails_changes_nothing(store, worker):
    class Broken:
        def emit(self, event: Event) -> None:
            raise LookupError

    one = worker()
    await one.publish("x-1", version="1")
    journal = Journal("main", [Broken()])
    curator = Curator(
        index=Index(store, "main"),
        overlay=Index(store, "main", area="overlay"),
        listing=one.registry.listing,
        journal=journal,
        version_key=key,
    )
    assert await curator.yank("x", ONE) is not None
    assert await one.yanked() == {"x-1": True}


async def test_a_yank_between_the_look_at_the_overlay_and_the_first_manifest_is_not_lost(worker, upstreams, store, monkeypatch):
    offered(upstreams, File(name="x-1", version="1"))
    one, other = worker(UP), worker(UP)
    begin = store.begin

    async def first_the_yank(storage_key: str, data: bytes, *, blobs: Sequence[Spool]) -> Step | None:
        if storage_key.startswith("index/"):
            monkeypatch.setattr(store, "begin", begin)
            assert await other.curator.yank("x", ONE, "broken") is not None
        return await begin(storage_key, data, blobs=blobs)

    monkeypatch.setattr(store, "begin", first_the_yank)
    await one.publish("x-1", b"own", version="1")
    assert await one.yanked() == await other.yanked() == {"x-1": "broken"}
