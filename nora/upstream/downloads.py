"""Shared downloads: one transfer per file, however many clients want it, owned by the host and not by a request."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass

from nora.api import DigestMismatch, File, NotFound, StorageFull, UpstreamInvalid, UpstreamUnavailable
from nora.store.protocol import Store
from nora.store.spool import FileSpool
from nora.tasks import Tasks
from nora.upstream.client import Upstream, UpstreamClient, check_status, shown_url

log = logging.getLogger(__name__)

HELD_BACK_BYTES = 64 * 1024
"""The end of a file that no client gets before the digest has matched."""
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


@dataclass(frozen=True, slots=True)
class Wanted:
    """A file to fetch. Two with equal fields are one download."""

    registry: str
    project: str
    name: str
    url: str
    size: int | None
    digests: tuple[tuple[str, str], ...]

    @classmethod
    def of(cls, registry: str, project: str, file: File) -> Wanted:
        """From a listed file that has an address."""
        assert file.url is not None
        return cls(registry, project, file.name, file.url, file.size, tuple(sorted(file.digests.items())))


class Flight:
    """One download under way. Clients follow its growing file."""

    def __init__(self, wanted: Wanted) -> None:
        self.wanted = wanted
        self.size = wanted.size
        self.error: BaseException | None = None
        self.verified = False
        self.started = asyncio.Event()
        self._progress = asyncio.Event()
        self._spool: FileSpool | None = None
        self._followers = 0
        self._descriptor = -1
        self._over = False

    def begin(self, spool: FileSpool, size: int | None) -> None:
        """The upstream has answered: there is a file to follow."""
        self._spool = spool
        self._descriptor = spool.dup()
        spool.on_progress = self.advance
        self.size = size
        self.started.set()

    def end(self) -> None:
        """It is over, with success or with ``error``."""
        self._over = True
        self.started.set()
        self.advance()
        self._let_go()

    def advance(self) -> None:
        """Wake everybody who waits for more."""
        self._progress.set()
        self._progress = asyncio.Event()

    @property
    def released(self) -> int:
        """Bytes that clients may have."""
        if self._spool is None:
            return 0
        written = self._spool.written
        if self.verified:
            return written
        end = written if self.size is None else self.size
        return max(0, min(written, end - HELD_BACK_BYTES))

    async def progress(self) -> None:
        """Return at the next change of ``released``, ``verified`` or ``error``."""
        await self._progress.wait()

    def follow(self) -> FlightSource:
        """A reader of the growing file."""
        self._followers += 1
        return FlightSource(self)

    def leave(self) -> None:
        """A reader is done."""
        self._followers -= 1
        self._let_go()

    def open(self) -> int:
        """A descriptor of the file; the caller closes it."""
        return os.dup(self._descriptor)

    def _let_go(self) -> None:
        if self._over and not self._followers and self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


class FlightSource:
    """Reads a file that is being fetched."""

    def __init__(self, flight: Flight) -> None:
        self._flight = flight
        self._left = False

    @property
    def size(self) -> int | None:
        """Length in bytes; ``None`` as long as the upstream has not said."""
        return self._flight.size

    @property
    def complete(self) -> bool:
        """Whether all bytes may be sent."""
        return self._flight.verified

    def available(self) -> int:
        """Bytes that may be sent now."""
        return self._flight.released

    async def wait(self, beyond: int) -> None:
        """See :class:`nora.api.ByteSource`."""
        flight = self._flight
        while flight.released <= beyond and not flight.verified:
            if flight.error is not None:
                raise flight.error
            await flight.progress()

    def open(self) -> int:
        """A new descriptor, which the caller closes."""
        return self._flight.open()

    async def aclose(self) -> None:
        """Leave the download, which goes on without us."""
        if not self._left:
            self._left = True
            self._flight.leave()


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
        except Exception as error:
            level = logging.ERROR if isinstance(error, DigestMismatch) else logging.WARNING
            log.log(level, "file not fetched", extra={"project": wanted.project, "file": wanted.name, "error": str(error)})
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
