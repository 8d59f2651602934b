"""The facade that a format works with."""

from __future__ import annotations

import asyncio
import functools
import logging
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager

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
    Related,
    Right,
    Spool,
    TooLarge,
)
from nora.context import permit
from nora.index.index import Index
from nora.lru import BoundedCache
from nora.registry.files import Files, is_held
from nora.registry.merge import hosted_listing, merge, with_yanks, without_refused
from nora.registry.names import Names
from nora.registry.offer import Offer, Resolved
from nora.registry.ownership import Owner, owner_of
from nora.registry.pages import INLINE_BYTES, Pages, Rendering
from nora.registry.publish import Publisher
from nora.registry.readable import ReadableNames
from nora.registry.sources import INLINE_FILES, Source, listing_of, owner_among
from nora.registry.standing import Standings, at_once
from nora.store.protocol import Store
from nora.tasks import SingleFlight

log = logging.getLogger(__name__)

ReadBody = Callable[[Request], AsyncIterator[bytes]]


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
        overlay: Index,
        sources: Sequence[Source],
        files: Files,
        flights: SingleFlight,
        publisher: Publisher,
        refusal: Callable[[str, File], str | None] | None,
        read_body: ReadBody,
        merge_upstream: Sequence[str] = (),
        version_key: Callable[[str], str] = str,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.name, self.path, self.config, self.public_url = name, path, config, public_url
        self._store, self._index, self._overlay, self._sources = store, index, overlay, sources
        self._files, self._flights, self._publisher = files, flights, publisher
        self._refusal, self._read_body = refusal, read_body
        self._merge_upstream, self._version_key = merge_upstream, version_key
        self._offers: BoundedCache[str, tuple[str, Offer]] = BoundedCache(20_000)
        self._pages = Pages(name, flights)
        self._standings = Standings(store=store, sources=sources, resolve=self._resolve, clock=clock)
        listings = [source.listings for source in sources]
        self._names = Names(registry=name, store=store, index=index, listings=listings, flights=flights)
        self._readable = ReadableNames(name, self._names)

    async def projects(self) -> ProjectNames:
        """See :class:`Registry`."""
        self._standings.question()
        return await self._readable.current()

    async def listing(self, project: str) -> Listing:
        """See :class:`Registry`."""
        permit(Right.READ, self.name, project)
        return await self.offered(project)

    async def offered(self, project: str) -> Listing:
        """:meth:`listing`, whoever asks."""
        return (await self._offer(await self._resolve(project))).listing

    async def project_page(
        self,
        project: str,
        content_type: str,
        render: Callable[[Listing], bytes],
        *,
        variant: str = "",
        vary: tuple[str, ...] = (),
        fields: Callable[[Listing], Mapping[str, str]] | None = None,
    ) -> Page:
        """See :class:`Registry`."""
        permit(Right.READ, self.name, project)
        look = self._standings.look()
        resolved = await self._resolve(project)

        async def make() -> Rendering:
            listing = (await self._offer(resolved)).listing
            headers = fields(listing) if fields is not None else {}
            in_thread = len(listing.files) > INLINE_FILES
            return Rendering(functools.partial(render, listing), listing.revision, in_thread=in_thread, headers=headers)

        key = (project, content_type, variant)
        page = await self._pages.page(key, resolved.revision, content_type, vary, make)

        def same(again: Resolved) -> bool:
            return again.revision == resolved.revision and self._pages.held(key, resolved.revision) is page

        self._standings.note(look, project, resolved, page, same)
        return page

    async def projects_page(
        self, content_type: str, render: Callable[[ProjectNames], bytes], *, vary: tuple[str, ...] = ()
    ) -> Page:
        """See :class:`Registry`."""
        look = self._standings.look()
        names = await self.projects()

        async def make() -> Rendering:
            return Rendering(functools.partial(render, names), names.revision, in_thread=len(names.names) > INLINE_FILES)

        view = self._readable.view()
        key = ("", content_type, view)
        page = await self._pages.page(key, names.revision, content_type, vary, make)

        def same() -> bool:
            return at_once(self._names.current()) is names and self._pages.held(key, names.revision) is page

        if not view:  # not for those who see a part
            self._standings.note_list(look, page, same=same, holds=functools.partial(self._names.settled, names))
        return page

    async def page(
        self,
        key: tuple[str, ...],
        revision: str,
        content_type: str,
        make: Callable[[], Awaitable[bytes]],
        *,
        vary: tuple[str, ...] = (),
        fields: Mapping[str, str] | None = None,
    ) -> Page:
        """See :class:`Registry`."""

        async def made() -> Rendering:
            body = await make()
            return Rendering(lambda: body, revision, in_thread=len(body) > INLINE_BYTES, headers=fields or {})

        return await self._pages.page(("made", content_type, *key), revision, content_type, vary, made)

    async def related(self, project: str, kind: str, part: str = "") -> Related | None:
        """See :class:`Registry`."""
        permit(Right.READ, self.name, project)
        resolved = await self._resolve(project)
        # What an upstream says of a name that is ours is about somebody else's project.
        if resolved.manifest is not None or resolved.owned is None or kind not in resolved.owned.source.related:
            return None
        documents = resolved.owned.source.related[kind]
        name = f"{project}/{part}" if part else project
        head = await documents.head(name)
        if head is None:
            return None
        head, parsed = await documents.value(name, head)
        return Related(value=parsed.value, revision=head.revision)

    async def open(self, project: str, filename: str, *, sidecar: str = "") -> Content:
        """See :class:`Registry`."""
        permit(Right.READ, self.name, project)
        look = self._standings.look()
        resolved = await self._resolve(project)
        content = await self._open(resolved, filename, sidecar)
        if look is not None and is_held(content):
            same = functools.partial(self._opens_again, filename, sidecar, content)
            self._standings.note(look, project, resolved, content, same)
        return content

    def _opens_again(self, filename: str, sidecar: str, content: Content, resolved: Resolved) -> bool:
        """Whether a file is still the same one. It is opened for that, so whatever opening looks at or notes is not left out."""
        opened = at_once(self._open(resolved, filename, sidecar))
        if opened is None:
            return False
        at_once(opened.source.aclose())
        return is_held(opened) and (opened.name, opened.etag, opened.source.size) == (
            content.name,
            content.etag,
            content.source.size,
        )

    async def _open(self, resolved: Resolved, filename: str, sidecar: str) -> Content:
        offer = await self._offer(resolved)
        file = offer.listing.by_name.get(filename)
        if offer.listing.status == "quarantined":
            # PEP 792: no file is offered, neither on the page nor by its address.
            raise Forbidden(f"{filename}: the project is quarantined")
        if file is None:
            if reason := offer.refused.get(filename):
                raise Forbidden(f"{filename}: {reason}")
            raise NotFound("file", filename)
        if sidecar:
            return await self._files.open_sidecar(resolved.project, file, sidecar, offer.owned)
        return await self._files.open(resolved.project, file, offer.owned)

    async def read(self, project: str, filename: str, *, sidecar: str = "", max_bytes: int) -> bytes:
        """See :class:`Registry`."""
        source = (await self.open(project, filename, sidecar=sidecar)).source
        try:
            if (source.size or 0) > max_bytes:
                raise TooLarge(filename + sidecar, max_bytes)
            await source.start()
            while not source.complete:
                if source.available() > max_bytes:
                    break
                await source.wait(source.available())
            if source.available() > max_bytes:
                raise TooLarge(filename + sidecar, max_bytes)
            descriptor = source.open()
            try:
                return await asyncio.to_thread(os.pread, descriptor, source.available(), 0)
            finally:
                os.close(descriptor)
        finally:
            await source.aclose()

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
        permit(Right.WRITE, self.name, project)
        return await self._publisher.publish(project, file, content, sidecars or {})

    async def _resolve(self, project: str) -> Resolved:
        self._standings.question()
        if not self._index.storable(project):
            raise NotFound("project", project[:200])
        manifest = await self._index.newest(project)
        owner = owner_of(project, hosted=manifest is not None, merge_upstream=self._merge_upstream)
        owned, asked = None, owner is not Owner.HOSTED and bool(self._sources)
        if asked:
            try:
                owned = await owner_among(self._sources, project)
            except NoraError as error:
                if manifest is None:
                    raise
                # Hosted files are served whatever the upstream does.
                log.warning("upstream failed, serving hosted files", extra={"project": project, "error": str(error)})
        if manifest is None and owned is None:
            raise NotFound("project", project)
        marks = manifest if manifest is not None else await self._overlay.newest(project)
        return Resolved(project, manifest, marks, owned, asked)

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
            removed = manifest.removed if manifest is not None else {}
            listing = merge(listing, upstream, removed) if listing is not None else upstream
        assert listing is not None
        if (marks := resolved.marks) is not None:
            listing = with_yanks(listing, marks, self._version_key)
            if manifest is None:
                listing = msgspec.structs.replace(listing, serial=listing.serial + marks.serial)
        refused: Mapping[str, str] = {}
        if self._refusal is not None:
            listing, refused = without_refused(listing, functools.partial(self._refusal, resolved.project))
        offer = Offer(msgspec.structs.replace(listing, revision=resolved.revision), refused, owned)
        self._offers.put(resolved.project, (resolved.revision, offer), weight=1 + len(listing.files))
        return offer
