"""Registries over one store, with upstreams that say what they are told to, as several workers would have them."""

from __future__ import annotations

import hashlib
import os
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest

from nora.api import Content, Event, File, ProxyConfig, Published, RegistryConfig, SidecarReader
from nora.index.index import Index
from nora.registry.files import Files
from nora.registry.journal import Journal
from nora.registry.publish import Publisher
from nora.registry.registry import HostRegistry
from nora.registry.sources import Source
from nora.store.directory import DirectoryStore
from nora.tasks import SingleFlight, Tasks
from nora.upstream.client import Upstream, UpstreamClient
from nora.upstream.downloads import Downloads
from nora.upstream.listings import UpstreamListings
from nora.upstream.pins import Pins
from tests.unit.clock import Clock


class World:
    """One store and one network. Each registry made here is another worker's: nothing in memory is shared."""

    def __init__(self, store: DirectoryStore, tasks: Tasks, client: UpstreamClient, format_: Any, upstreams: Any) -> None:
        self.store, self.tasks, self.client, self.format, self.upstreams = store, tasks, client, format_, upstreams
        self.clock = Clock()
        self.events: list[Event] = []
        self.readers: Sequence[SidecarReader] = ()

    def emit(self, event: Event) -> None:
        self.events.append(event)

    def index(self, name: str = "main") -> Index:
        return Index(self.store, name)

    def sources(self, *urls: str, name: str = "main", **config: Any) -> list[Source]:
        made = []
        for position, url in enumerate(urls):
            listings = UpstreamListings(
                store=self.store,
                client=self.client,
                tasks=self.tasks,
                format_=self.format,
                upstream=Upstream(url),
                registry=name,
                position=position,
                config=ProxyConfig(proxies=urls, **config),
                clock=self.clock,
            )
            made.append(Source(listings, Pins(self.store, listings.prefix), self.readers))
        return made

    def registry(
        self,
        *urls: str,
        name: str = "main",
        refusal: Callable[[str, File], str | None] | None = None,
        merge_upstream: Sequence[str] = (),
        sinks: Sequence[Any] | None = None,
        **config: Any,
    ) -> HostRegistry:
        index, overlay = self.index(name), Index(self.store, name, area="overlay")
        flights = SingleFlight(self.tasks)
        journal = Journal(name, [self] if sinks is None else sinks, self.clock)
        return HostRegistry(
            name=name,
            path=f"/{name}/",
            config=ProxyConfig(proxies=urls) if urls else RegistryConfig(),
            public_url="",
            store=self.store,
            index=index,
            overlay=overlay,
            sources=self.sources(*urls, name=name, **config),
            files=Files(
                registry=name,
                store=self.store,
                client=self.client,
                downloads=Downloads(self.store, self.client, self.tasks),
                flights=flights,
            ),
            flights=flights,
            publisher=Publisher(store=self.store, index=index, overlay=overlay, journal=journal),
            refusal=refusal,
            read_body=pieces,
            merge_upstream=merge_upstream,
            clock=self.clock,
        )

    async def publish(
        self,
        registry: HostRegistry,
        project: str,
        name: str,
        data: bytes,
        *,
        sidecars: Mapping[str, bytes] | None = None,
        **fields: Any,
    ) -> Published:
        async with self.store.spool() as spool:
            await spool.write(data)
            return await registry.publish(project, File(name=name, **fields), spool, sidecars=sidecars)

    def upstream_file(
        self, base: str, name: str, data: bytes, *, sized: bool = True, digest: str = "sha256", **fields: Any
    ) -> File:
        """A file that is at ``base``, as that upstream announces it."""
        url = f"{base}files/{name}"
        self.upstreams.answers[url] = data
        digests = {digest: hashlib.new(digest, data).hexdigest()} if digest else {}
        return File(name=name, url=url, digests=digests, size=len(data) if sized else None, **fields)

    def blobs(self) -> list[str]:
        return sorted(path.parent.name + path.name for path in (self.store.root / "blobs").glob("*/*/*"))


async def pieces(request: Any) -> AsyncIterator[bytes]:
    """A request is a list of what arrives."""
    for piece in request:
        if isinstance(piece, Exception):
            raise piece
        yield piece


@pytest.fixture
def world(store, tasks, upstream_client, toy_format, upstreams) -> World:
    return World(store, tasks, upstream_client, toy_format, upstreams)


@pytest.fixture
def read() -> Callable[[Content], Any]:
    """All bytes of a content, which is closed then."""

    @asynccontextmanager
    async def closing(content: Content) -> AsyncIterator[int]:
        descriptor = -1
        try:
            await content.source.start()
            descriptor = content.source.open()
            yield descriptor
        finally:
            if descriptor >= 0:
                os.close(descriptor)
            await content.source.aclose()

    async def run(content: Content) -> bytes:
        async with closing(content) as descriptor:
            source = content.source
            while not source.complete:
                await source.wait(source.available())
            return os.pread(descriptor, source.available() + 1, 0)

    return run
