"""Files and their sidecars, opened: held, fetched, or read out of a file that is elsewhere."""

from __future__ import annotations

import asyncio
import functools
import logging
import os
from collections.abc import Awaitable, Callable

from nora import metrics
from nora.api import ByteSource, Content, File, Invalid, NoraError, NotFound, SidecarReader, StorageFull
from nora.registry.sources import Owned
from nora.store.protocol import SHA256_PATTERN, Store
from nora.tasks import SingleFlight
from nora.upstream.client import UpstreamClient
from nora.upstream.downloads import ColdSource, Downloads, Fetched, strongest
from nora.upstream.flight import FlightSource, Wanted
from nora.upstream.pins import Pin
from nora.upstream.ranges import NoRanges, RemoteFile, read_held, read_remote
from nora.upstream.used import UsedFiles

log = logging.getLogger(__name__)


class DerivedSource:
    """A sidecar that is read out of its file when it is asked for. Implements :class:`nora.api.ByteSource`."""

    def __init__(self, make: Callable[[], Awaitable[ByteSource]]) -> None:
        self._make = make
        self._made: ByteSource | None = None

    @property
    def size(self) -> int | None:
        """Length in bytes, once it is there."""
        return self._made.size if self._made is not None else None

    @property
    def complete(self) -> bool:
        """Whether it is there."""
        return self._made is not None

    async def start(self) -> None:
        """See :class:`nora.api.ByteSource`."""
        if self._made is None:
            self._made = await self._make()

    def available(self) -> int:
        """All of it or nothing."""
        return self._made.available() if self._made is not None else 0

    async def wait(self, beyond: int) -> None:
        """Nothing to wait for after :meth:`start`."""

    def open(self) -> int:
        """A new descriptor, which the caller closes."""
        assert self._made is not None, "started before it is read"
        return self._made.open()

    async def aclose(self) -> None:
        """Let go of it."""
        if self._made is not None:
            await self._made.aclose()


class Files:
    """Opens the files of one registry that a listing offers."""

    def __init__(
        self,
        *,
        registry: str,
        store: Store,
        client: UpstreamClient,
        downloads: Downloads,
        flights: SingleFlight,
        proxy_timeout: float = 30,
        used: UsedFiles | None = None,
    ) -> None:
        self._registry, self._store, self._client = registry, store, client
        self._downloads, self._flights, self._used = downloads, flights, used
        self._proxy_timeout = proxy_timeout

    async def open(self, project: str, file: File, owned: Owned | None) -> Content:
        """A listed file.

        Raises:
            RuntimeError: it is hosted, and its blob is damaged.
        """
        if file.url is None:
            return await self._open_hosted(file)
        assert owned is not None, "only an upstream's files have an address"
        content = await self._open_held(project, file)
        if content is not None:
            return content
        sha256 = file.digests.get("sha256")

        async def kept(fetched: Fetched) -> None:
            await self._note_kept(fetched.sha256)
            if sha256 is None:
                pin = Pin(name=file.name, sha256=fetched.sha256, size=fetched.size, digests=file.digests)
                await owned.source.pins.add(project, pin)
            await self._compare_sidecars(project, file, owned, fetched.sha256)

        wanted = Wanted.of(self._registry, project, file)
        return Content(file.name, ColdSource(file.size, self._join(wanted, owned, kept)), etag=_etag(file))

    async def open_sidecar(self, project: str, file: File, suffix: str, owned: Owned | None) -> Content:
        """What belongs to a listed file.

        Raises:
            NotFound: there is no such sidecar.
        """
        sidecar = file.sidecars.get(suffix)
        name = file.name + suffix
        if sidecar is None:
            raise NotFound("file", name)
        found = File(name=name, digests=sidecar.digests, size=sidecar.size, url=sidecar.url)
        if sidecar.derived:
            assert owned is not None, "only what an upstream offers is derived"
            return await self._open_derived(project, file, suffix, found, owned)
        if sidecar.url is None:
            return await self._open_hosted(found)
        assert owned is not None, "only an upstream's sidecars have an address"
        content = await self._open_held(project, found)
        if content is not None:
            return content

        async def kept(fetched: Fetched) -> None:
            await self._note_kept(fetched.sha256)
            if "sha256" not in found.digests:
                pin = Pin(name=name, sha256=fetched.sha256, size=fetched.size, digests=found.digests, of=file.digests)
                await owned.source.pins.add(project, pin)

        wanted = Wanted.of(self._registry, project, found, belongs_to=file)
        return Content(name, ColdSource(found.size, self._join(wanted, owned, kept)), etag=_etag(found))

    async def _open_hosted(self, file: File) -> Content:
        sha256 = file.digests["sha256"]
        blob = await self._store.open_blob(sha256)
        if blob is None or blob.size != file.size:
            if blob is not None:
                await blob.aclose()
            log.error("hosted file is damaged", extra={"file": file.name, "blob": sha256, "bytes": file.size})
            raise NoraError(f"{file.name} is damaged in the storage; nora verify tells more")
        return Content(file.name, blob, etag=sha256)

    async def _open_held(self, project: str, file: File) -> Content | None:
        sha256 = file.digests.get("sha256", "")
        blob = await self._store.open_blob(sha256) if SHA256_PATTERN.match(sha256) else None
        if blob is None:
            return None
        if file.size is None or blob.size == file.size:
            if self._used is not None:
                self._used.used(sha256)
            return Content(file.name, blob, etag=_etag(file))
        await blob.aclose()
        log.error("held file is damaged and is fetched again", extra={"project": project, "file": file.name})
        return None

    def _join(
        self, wanted: Wanted, owned: Owned, kept: Callable[[Fetched], Awaitable[None]]
    ) -> Callable[[], Awaitable[FlightSource]]:
        return functools.partial(
            self._downloads.join,
            owned.source.listings.upstream,
            wanted,
            timeout_seconds=self._proxy_timeout,
            kept=kept,
        )

    async def _open_derived(self, project: str, file: File, suffix: str, found: File, owned: Owned) -> Content:
        if (content := await self._open_held(project, found)) is not None:
            return content

        async def make() -> ByteSource:
            # One for all who wait, and not ended when the first of them goes away.
            key = ("sidecar", self._registry, project, found.name, *sorted(file.digests.items()))
            sha256 = await self._flights.run(key, lambda: self._derive(project, file, suffix, owned))
            blob = await self._store.open_blob(sha256) if sha256 else None
            if blob is None:
                raise NotFound("file", found.name)
            return blob

        return Content(found.name, DerivedSource(make), etag=_etag(found))

    async def _derive(self, project: str, file: File, suffix: str, owned: Owned) -> str:
        """Read a sidecar out of its file and keep it; returns its sha256, "" if the file has none."""
        reader = next(reader for reader in owned.source.readers if reader.suffix == suffix)
        try:
            data = await self._read(project, file, reader, owned)
        except Invalid as error:
            log.warning("file has no such content", extra={"file": file.name, "sidecar": suffix, "error": str(error)})
            await self._pin_sidecar(project, file, suffix, owned, "", 0, refusal=str(error))
            return ""
        sha256 = await self._keep(data)
        await self._pin_sidecar(project, file, suffix, owned, sha256, len(data))
        metrics.DERIVED.labels(self._registry).inc()
        return sha256

    async def _read(self, project: str, file: File, reader: SidecarReader, owned: Owned) -> bytes:
        if (held := await self._open_held(project, file)) is not None:
            return await _read_source(held.source, project, file, reader)
        upstream = owned.source.listings.upstream
        remote = RemoteFile(self._client, upstream, file, self._proxy_timeout)
        try:
            return await read_remote(remote, reader.read(project, file, held=False))
        except NoRanges:
            log.info("upstream serves no ranges, fetching the whole file", extra={"project": project, "file": file.name})
        finally:
            metrics.RANGE_BYTES.labels(self._registry).inc(remote.received)
        content = await self.open(project, file, owned)
        return await _read_source(content.source, project, file, reader)

    async def _keep(self, data: bytes) -> str:
        async with self._store.spool() as spool:
            await spool.write(data)
            await spool.finish()
            sha256 = await self._store.keep_blob(spool)
        await self._note_kept(sha256)
        return sha256

    async def _note_kept(self, sha256: str) -> None:
        if self._used is not None:
            await self._used.kept(sha256)

    async def _pin_sidecar(
        self, project: str, file: File, suffix: str, owned: Owned, sha256: str, size: int, *, refusal: str = ""
    ) -> None:
        pin = Pin(name=file.name + suffix, sha256=sha256, size=size, of=file.digests, derived=True, refusal=refusal)
        try:
            if (await owned.source.pins.of(project)).get(pin.name) != pin:
                await owned.source.pins.add(project, pin)
        except (OSError, StorageFull) as error:
            log.error("finding could not be kept", extra={"file": pin.name, "error": str(error)})

    async def _compare_sidecars(self, project: str, file: File, owned: Owned, sha256: str) -> None:
        """A file has arrived: what was said of its sidecars before must be what it has inside. Its own bytes win."""
        for reader in owned.source.readers:
            if not reader.applies(file):
                continue
            blob = await self._store.open_blob(sha256)
            if blob is None:
                return
            refusal = ""
            try:
                data = await _read_source(blob, project, file, reader)
                actual = await self._keep(data)
            except Invalid as error:
                data, actual, refusal = b"", "", str(error)
            except NoraError as error:
                log.error("sidecar could not be compared", extra={"file": file.name, "error": str(error)})
                continue
            await self._settle(
                project, file, reader.suffix, owned, Pin(name="", sha256=actual, size=len(data), refusal=refusal)
            )

    async def _settle(self, project: str, file: File, suffix: str, owned: Owned, actual: Pin) -> None:
        # Looked at anew: it may have been derived while the file was on its way.
        pins = await owned.source.pins.of(project)
        expected = Owned(owned.source, owned.head, pins).completed(file).sidecars.get(suffix)
        stated = expected.digests.get("sha256") if expected is not None else None
        if stated == actual.sha256:
            return
        # What our reader refuses says nothing about what others found in the file, so only a finding of our own is taken back.
        if actual.refusal and (expected is None or not expected.derived):
            return
        if stated is not None:
            metrics.INTEGRITY_ERRORS.labels(self._registry, "sidecar").inc()
            log.error(
                "sidecar differs from what its file has inside, which is served from now on",
                extra={
                    "project": project,
                    "file": file.name + suffix,
                    "stated": stated,
                    "actual": actual.sha256 or actual.refusal,
                },
            )
        elif expected is not None and not expected.derived:
            return  # announced without a digest and not fetched yet, so nothing was said that could be wrong
        await self._pin_sidecar(project, file, suffix, owned, actual.sha256, actual.size, refusal=actual.refusal)


def is_held(content: Content) -> bool:
    """Whether all of an opened file is here, and it is known by a digest: then equal tags mean equal bytes."""
    return content.source.complete and bool(content.etag)


async def _read_source(source: ByteSource, project: str, file: File, reader: SidecarReader) -> bytes:
    """Run a reading on a file that is here or on its way; closes the source."""
    try:
        await source.start()
        while not source.complete:
            await source.wait(source.available())
        descriptor = source.open()
        try:
            return await asyncio.to_thread(read_held, descriptor, reader.read(project, file, held=True))
        finally:
            os.close(descriptor)
    finally:
        await source.aclose()


def _etag(file: File) -> str:
    """Made of the strongest digest that is announced, so it is the same before and after the file is held; "" without any."""
    algorithm = strongest(file.digests)
    if algorithm is None:
        return ""
    digest = file.digests[algorithm]
    return digest if algorithm == "sha256" else f"{algorithm}-{digest}"
