"""The facade that a format works with."""

from __future__ import annotations

import functools
import logging
from collections.abc import AsyncIterator, Callable, Hashable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from hashlib import sha256 as new_sha256
from urllib.parse import unquote

import msgspec
from sanic.request import Request

from nora.api import (
    Content,
    File,
    Forbidden,
    Listing,
    NoraError,
    NotFound,
    Page,
    ProjectNames,
    Published,
    Registry,
    RegistryConfig,
    Spool,
)
from nora.index.index import Index
from nora.index.manifest import Manifest
from nora.lru import BoundedCache
from nora.registry.merge import hosted_listing, merge, without_refused
from nora.registry.ownership import Owner, owner_of
from nora.registry.pages import PageCache, render_page
from nora.registry.publish import Publisher
from nora.registry.sources import Owned, Source, listing_of, owner_among
from nora.store.protocol import SHA256_PATTERN, Store
from nora.tasks import SingleFlight
from nora.upstream.downloads import ColdSource, Downloads, Fetched, strongest
from nora.upstream.flight import Wanted
from nora.upstream.pins import Pin

log = logging.getLogger(__name__)

INLINE_FILES = 150
"""Listings up to this length are merged and rendered on the event loop: one or two milliseconds."""
PAGE_MAX_AGE_SECONDS = 0
"""Clients ask each time and get a 304: an upload must be seen at once."""

ReadBody = Callable[[Request], AsyncIterator[bytes]]


@dataclass(frozen=True, slots=True)
class Resolved:
    """Where a project's files come from at this moment."""

    project: str
    manifest: Manifest | None
    owned: Owned | None

    @property
    def revision(self) -> str:
        """Changes whenever the listing does."""
        return f"{self.manifest.serial if self.manifest else 0}.{self.owned.revision if self.owned else ''}"


@dataclass(frozen=True, slots=True)
class Offer:
    """What a project offers, and the reasons why some of its files are not offered."""

    listing: Listing
    refused: Mapping[str, str]
    owned: Owned | None


class HostRegistry(Registry[RegistryConfig]):
    """Implements :class:`nora.api.Registry`."""

    def __init__(
        self,
        *,
        name: str,
        path: str,
        config: RegistryConfig,
        public_url: str,
        store: Store,
        index: Index,
        sources: Sequence[Source],
        downloads: Downloads,
        flights: SingleFlight,
        publisher: Publisher,
        refusal: Callable[[str, File], str | None] | None,
        read_body: ReadBody,
        merge_upstream: Sequence[str] = (),
        proxy_timeout: float = 30,
    ) -> None:
        self.name, self.path, self.config, self.public_url = name, path, config, public_url
        self._store, self._index, self._sources = store, index, sources
        self._downloads, self._flights, self._publisher = downloads, flights, publisher
        self._refusal, self._read_body = refusal, read_body
        self._merge_upstream, self._proxy_timeout = merge_upstream, proxy_timeout
        self._offers: BoundedCache[str, tuple[str, Offer]] = BoundedCache(20_000)
        self._pages = PageCache()
        self._names: tuple[Mapping[str, str | None], ProjectNames] | None = None

    async def projects(self) -> ProjectNames:
        """See :class:`Registry`."""
        if self._names is not None and await self._unchanged(self._names[0]):
            return self._names[1]
        held = [source.listings.pages_prefix for source in self._sources]
        # Markers from before the folders are read: a change in between is seen next time.
        markers = {prefix: await self._store.marker(prefix) for prefix in (self._index.prefix, *held)}
        hosted, empty = await self._index.projects()
        found = {unquote(name) for prefix in held for name in await self._store.names(prefix)}
        names = sorted(found.union(map(unquote, hosted)))
        digest = new_sha256("\n".join(names).encode("utf-8", "surrogatepass")).hexdigest()
        self._names = ({**markers, **empty}, ProjectNames(names=tuple(names), revision=digest[:32]))
        return self._names[1]

    async def _unchanged(self, markers: Mapping[str, str | None]) -> bool:
        for prefix, marker in markers.items():
            if marker is None or marker != await self._store.marker(prefix):
                return False
        return True

    async def listing(self, project: str) -> Listing:
        """See :class:`Registry`."""
        return (await self._offer(await self._resolve(project))).listing

    async def project_page(
        self, project: str, content_type: str, render: Callable[[Listing], bytes], *, vary: tuple[str, ...] = ()
    ) -> Page:
        """See :class:`Registry`."""
        resolved = await self._resolve(project)
        key = (project, content_type)
        if (page := self._pages.get(key, resolved.revision)) is not None:
            return page

        async def make() -> Page:
            offer = await self._offer(resolved)
            rendering = functools.partial(render, offer.listing)
            in_thread = len(offer.listing.files) > INLINE_FILES
            return await self._render(key, offer.listing.revision, rendering, content_type, vary, in_thread)

        return await self._flights.run(("page", self.name, key, resolved.revision), make)

    async def projects_page(
        self, content_type: str, render: Callable[[ProjectNames], bytes], *, vary: tuple[str, ...] = ()
    ) -> Page:
        """See :class:`Registry`."""
        names = await self.projects()
        key = ("", content_type)
        if (page := self._pages.get(key, names.revision)) is not None:
            return page

        async def make() -> Page:
            in_thread = len(names.names) > INLINE_FILES
            return await self._render(key, names.revision, functools.partial(render, names), content_type, vary, in_thread)

        return await self._flights.run(("page", self.name, key, names.revision), make)

    async def open(self, project: str, filename: str, *, sidecar: str = "") -> Content:
        """See :class:`Registry`."""
        offer = await self._offer(await self._resolve(project))
        file = offer.listing.by_name.get(filename)
        if offer.listing.status == "quarantined":
            # PEP 792: no file is offered, neither on the page nor by its address.
            raise Forbidden(f"{filename}: the project is quarantined")
        if file is None:
            if reason := offer.refused.get(filename):
                raise Forbidden(f"{filename}: {reason}")
            raise NotFound("file", filename)
        if sidecar:
            file = self._sidecar_file(file, sidecar, offer.owned)
        if file.url is None:
            return await self._open_hosted(file)
        assert offer.owned is not None, "only an upstream's files have an address"
        return await self._open_upstream(project, file, offer.owned)

    def body(self, request: Request) -> AsyncIterator[bytes]:
        """See :class:`Registry`."""
        return self._read_body(request)

    def spool(self) -> AbstractAsyncContextManager[Spool]:
        """See :class:`Registry`."""
        return self._store.spool()

    @asynccontextmanager
    async def receive(self, request: Request) -> AsyncIterator[Spool]:
        """See :class:`Registry`."""
        async with self._store.spool() as spool:
            async for piece in self._read_body(request):
                await spool.write(piece)
            await spool.finish()
            yield spool

    async def publish(
        self, project: str, file: File, content: Spool, *, sidecars: Mapping[str, bytes] | None = None
    ) -> Published:
        """See :class:`Registry`."""
        return await self._publisher.publish(project, file, content, sidecars or {})

    async def _resolve(self, project: str) -> Resolved:
        if not self._index.storable(project):
            raise NotFound("project", project[:200])
        manifest = await self._index.newest(project)
        owner = owner_of(project, hosted=manifest is not None, merge_upstream=self._merge_upstream)
        owned = None
        if owner is not Owner.HOSTED and self._sources:
            try:
                owned = await owner_among(self._sources, project)
            except NoraError as error:
                if manifest is None:
                    raise
                # Hosted files are served whatever the upstream does.
                log.warning("upstream failed, serving hosted files", extra={"project": project, "error": str(error)})
        if manifest is None and owned is None:
            raise NotFound("project", project)
        return Resolved(project, manifest, owned)

    async def _offer(self, resolved: Resolved) -> Offer:
        cached = self._offers.get(resolved.project)
        if cached is not None and cached[0] == resolved.revision:
            return cached[1]
        key = ("offer", self.name, resolved.project, resolved.revision)
        return await self._flights.run(key, lambda: self._make_offer(resolved))

    async def _make_offer(self, resolved: Resolved) -> Offer:
        manifest, owned = resolved.manifest, resolved.owned
        listing = hosted_listing(manifest) if manifest is not None else None
        if owned is not None:
            upstream = await listing_of(owned, self._store, resolved.project)
            listing = merge(listing, upstream) if listing is not None else upstream
        assert listing is not None
        refused: Mapping[str, str] = {}
        if self._refusal is not None:
            listing, refused = without_refused(listing, functools.partial(self._refusal, resolved.project))
        offer = Offer(msgspec.structs.replace(listing, revision=resolved.revision), refused, owned)
        self._offers.put(resolved.project, (resolved.revision, offer), weight=1 + len(listing.files))
        return offer

    async def _render(
        self,
        key: Hashable,
        revision: str,
        rendering: Callable[[], bytes],
        content_type: str,
        vary: tuple[str, ...],
        in_thread: bool,
    ) -> Page:
        page = await render_page(rendering, content_type, vary=vary, max_age_seconds=PAGE_MAX_AGE_SECONDS, in_thread=in_thread)
        self._pages.put(key, revision, page)
        return page

    def _sidecar_file(self, file: File, suffix: str, owned: Owned | None) -> File:
        sidecar = file.sidecars.get(suffix)
        name = file.name + suffix
        if sidecar is None:
            raise NotFound("file", name)
        found = File(name=name, digests=sidecar.digests, size=sidecar.size, url=sidecar.url)
        return owned.pinned(found) if owned is not None and sidecar.url is not None else found

    async def _open_hosted(self, file: File) -> Content:
        sha256 = file.digests["sha256"]
        blob = await self._store.open_blob(sha256)
        if blob is None or blob.size != file.size:
            if blob is not None:
                await blob.aclose()
            raise RuntimeError(f"hosted file {file.name} is damaged: blob {sha256} is missing or not {file.size} bytes long")
        return Content(file.name, blob, etag=sha256)

    async def _open_upstream(self, project: str, file: File, owned: Owned) -> Content:
        etag = _etag(file)
        sha256 = file.digests.get("sha256")
        blob = await self._store.open_blob(sha256) if sha256 and SHA256_PATTERN.match(sha256) else None
        if blob is not None:
            if file.size is None or blob.size == file.size:
                return Content(file.name, blob, etag=etag)
            await blob.aclose()
            log.error("held file is damaged and is fetched again", extra={"project": project, "file": file.name})

        async def kept(fetched: Fetched) -> None:
            if sha256 is None:
                pin = Pin(name=file.name, sha256=fetched.sha256, size=fetched.size, digests=file.digests)
                await owned.source.pins.add(project, pin)

        join = functools.partial(
            self._downloads.join,
            owned.source.listings.upstream,
            Wanted.of(self.name, project, file),
            timeout_seconds=self._proxy_timeout,
            kept=kept,
        )
        return Content(file.name, ColdSource(file.size, join), etag=etag)


def _etag(file: File) -> str:
    """Made of the strongest digest that is announced, so it is the same before and after the file is held; "" without any."""
    algorithm = strongest(file.digests)
    if algorithm is None:
        return ""
    digest = file.digests[algorithm]
    return digest if algorithm == "sha256" else f"{algorithm}-{digest}"
