"""A download under way, and its readers."""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass

from nora.api import File
from nora.store.spool import FileSpool

HELD_BACK_BYTES = 64 * 1024
"""The end of a file that no client gets before the digest has matched."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """A file to fetch. Two with equal fields are one download.

    ``belongs_to`` are the announced digests of the file that a sidecar belongs to: of another file it is another sidecar.
    """

    registry: str
    project: str
    name: str
    url: str
    size: int | None
    digests: tuple[tuple[str, str], ...]
    belongs_to: tuple[tuple[str, str], ...] = ()

    @classmethod
    def of(cls, registry: str, project: str, file: File, belongs_to: File | None = None) -> Wanted:
        """From a listed file that has an address."""
        assert file.url is not None
        owner = tuple(sorted(belongs_to.digests.items())) if belongs_to is not None else ()
        return cls(registry, project, file.name, file.url, file.size, tuple(sorted(file.digests.items())), owner)


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
