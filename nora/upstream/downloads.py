"""Shared downloads: one transfer per file, however many clients want it, owned by the host and not by a request."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass

from nora import metrics
from nora.api import DigestMismatch, NotFound, StorageFull, UpstreamInvalid, UpstreamUnavailable
from nora.store.protocol import Store
from nora.store.spool import FileSpool
from nora.tasks import Tasks
from nora.upstream.client import Upstream, UpstreamClient, check_status, shown_url
from nora.upstream.flight import Flight, FlightSource, Wanted

log = logging.getLogger(__name__)

STRENGTH = (
    "sha512",
    "sha3_512",
    "blake2b",
    "sha384",
    "sha3_384",
    "sha256",
    "sha3_256",
    "blake2b_256",
    "blake2s",
    "sha224",
    "sha3_224",
    "sha1",
    "md5",
)
"""Algorithms that can be computed, the strongest first."""


@dataclass(frozen=True, slots=True)
class Fetched:
    """The outcome of a download: what the whole file is."""

    sha256: str
    size: int


class ColdSource:
    """A file that is fetched when it is asked for, and not for HEAD or a 304. Implements :class:`nora.api.ByteSource`.

    ``join`` makes it a reader of the shared download.
    """

    def __init__(self, size: int | None, join: Callable[[], Awaitable[FlightSource]]) -> None:
        self._size, self._join = size, join
        self._source: FlightSource | None = None

    @property
    def size(self) -> int | None:
        """Length in bytes, as announced or as the upstream says."""
        return self._source.size if self._source is not None else self._size

    @property
    def complete(self) -> bool:
        """Whether all bytes may be sent."""
        return self._source is not None and self._source.complete

    async def start(self) -> None:
        """See :class:`nora.api.ByteSource`."""
        if self._source is None:
            self._source = await self._join()
        await self._source.wait(0)

    def available(self) -> int:
        """Bytes that may be sent now."""
        return self._source.available() if self._source is not None else 0

    async def wait(self, beyond: int) -> None:
        """See :class:`nora.api.ByteSource`."""
        assert self._source is not None, "started before it is read"
        await self._source.wait(beyond)

    def open(self) -> int:
        """A new descriptor, which the caller closes."""
        assert self._source is not None, "started before it is read"
        return self._source.open()

    async def aclose(self) -> None:
        """Leave the download, which goes on without us."""
        if self._source is not None:
            await self._source.aclose()


class Downloads:
    """All downloads of this process."""

    def __init__(self, store: Store, client: UpstreamClient, tasks: Tasks) -> None:
        self._store, self._client, self._tasks = store, client, tasks
        self._flights: dict[Wanted, Flight] = {}

    async def join(
        self, upstream: Upstream, wanted: Wanted, *, timeout_seconds: float, kept: Callable[[Fetched], Awaitable[None]]
    ) -> FlightSource:
        """Follow the download of a file, started if it is not under way. ``kept`` is called once, when its blob is held.

        Raises:
            NotFound: the upstream does not have the file.
            UpstreamError, StorageFull: it cannot be fetched.
        """
        flight = self._flights.get(wanted)
        if flight is None:
            flight = self._flights[wanted] = Flight(wanted)
            task = self._tasks.spawn(self._fly(flight, upstream, timeout_seconds, kept), f"download {wanted.name}")
            task.add_done_callback(lambda _: self._land(flight))
        source = flight.follow()
        try:
            await flight.started.wait()
            if flight.error is not None:
                raise flight.error
        except BaseException:
            await source.aclose()
            raise
        return source

    async def _fly(
        self, flight: Flight, upstream: Upstream, timeout_seconds: float, kept: Callable[[Fetched], Awaitable[None]]
    ) -> None:
        wanted = flight.wanted
        try:
            async with AsyncExitStack() as stack:
                fetched = await self._fetch(flight, upstream, timeout_seconds, stack, kept)
            log.info("file fetched", extra={"project": wanted.project, "file": wanted.name, "size": fetched.size})
            metrics.FETCHED_FILES.labels(wanted.registry).inc()
            metrics.FETCHED_BYTES.labels(wanted.registry).inc(fetched.size)
        except Exception as error:
            level = logging.ERROR if isinstance(error, DigestMismatch) else logging.WARNING
            log.log(level, "file not fetched", extra={"project": wanted.project, "file": wanted.name, "error": str(error)})
            if isinstance(error, DigestMismatch):
                metrics.INTEGRITY_ERRORS.labels(wanted.registry, "file").inc()
            flight.error = error

    def _land(self, flight: Flight) -> None:
        """The task is over; it may have been cancelled before its first turn."""
        self._flights.pop(flight.wanted, None)
        if not flight.verified and flight.error is None:
            flight.error = UpstreamUnavailable(shown_url(flight.wanted.url), "the server is shutting down")
        flight.end()

    async def _fetch(
        self,
        flight: Flight,
        upstream: Upstream,
        timeout_seconds: float,
        stack: AsyncExitStack,
        kept: Callable[[Fetched], Awaitable[None]],
    ) -> Fetched:
        wanted = flight.wanted
        answer = await stack.enter_async_context(self._client.stream(upstream, wanted.url, {}, timeout_seconds=timeout_seconds))
        if answer.status in (404, 410):
            raise NotFound("file", wanted.name)
        check_status(answer.status, answer.url, answer.headers)
        size = _agreed_size(wanted, answer.content_length)
        if size is not None and not await self._store.room_for(size):
            raise StorageFull
        spool = await stack.enter_async_context(self._store.spool(eager=True))
        assert isinstance(spool, FileSpool)
        algorithm = strongest(dict(wanted.digests))
        if algorithm:
            spool.want(algorithm)
        flight.begin(spool, size)
        async for chunk in answer.chunks():
            await spool.write(chunk)
            if size is not None and spool.size > size:
                raise UpstreamInvalid(shown_url(wanted.url), f"sent more than the {size} bytes that were announced")
        await spool.finish()
        fetched = await self._verify(wanted, spool, algorithm, size)
        flight.size = fetched.size
        flight.verified = True
        flight.advance()
        await self._keep(wanted, spool, fetched, kept)
        return fetched

    async def _verify(self, wanted: Wanted, spool: FileSpool, algorithm: str | None, size: int | None) -> Fetched:
        if size is not None and spool.size != size:
            raise UpstreamInvalid(shown_url(wanted.url), f"sent {spool.size} of the {size} bytes that were announced")
        # A weaker digest beside the sha256 is not checked: it could say nothing that the stronger one does not.
        for name in {algorithm, "sha256"} & set(dict(wanted.digests)):
            assert name is not None
            expected, actual = dict(wanted.digests)[name], await spool.digest(name)
            if actual != expected:
                raise DigestMismatch(shown_url(wanted.url), name, expected, actual)
        return Fetched(await spool.digest("sha256"), spool.size)

    async def _keep(
        self, wanted: Wanted, spool: FileSpool, fetched: Fetched, kept: Callable[[Fetched], Awaitable[None]]
    ) -> None:
        try:
            await self._store.keep_blob(spool)
            await kept(fetched)
        except (OSError, StorageFull) as error:
            # The clients have the right bytes; only keeping them failed.
            log.exception("file could not be kept", extra={"file": wanted.name, "error": str(error)})


def strongest(digests: dict[str, str]) -> str | None:
    """The strongest algorithm among announced digests that can be computed here.

    >>> strongest({"md5": "0", "sha256": "1"}), strongest({"crc32": "0"})
    ('sha256', None)
    """
    for algorithm in STRENGTH:
        if algorithm in digests:
            return algorithm
    return None


def _agreed_size(wanted: Wanted, content_length: int | None) -> int | None:
    if wanted.size is not None and content_length is not None and wanted.size != content_length:
        raise UpstreamInvalid(shown_url(wanted.url), f"offers {content_length} bytes, its index announces {wanted.size}")
    return wanted.size if wanted.size is not None else content_length
