"""A disk that can be held up, filled, and looked at."""

from __future__ import annotations

import asyncio
import errno
import os
import threading
from collections.abc import Callable, Iterator

import pytest


class Disk:
    """Stands in front of ``os.pwrite``: writing waits while it is held, and fails while it has an error.

    Attributes:
        error: Number of the error that every write gets.
        limit: Bytes that one write takes at most.
        writes: Writes that were let through.
        late: How many of them came when their descriptor was closed.
    """

    def __init__(self, pwrite: Callable[..., int]) -> None:
        self._pwrite = pwrite
        self._held = False
        self._permits = threading.Semaphore(0)
        self._entered = threading.Event()
        self.error: int | None = None
        self.limit: int | None = None
        self.writes = self.late = 0

    def pwrite(self, descriptor: int, data: memoryview, position: int) -> int:
        self._entered.set()
        if self._held:
            self._permits.acquire(timeout=10)
        self.writes += 1
        if self.error is not None:
            raise OSError(self.error, os.strerror(self.error))
        try:
            os.fstat(descriptor)
        except OSError:
            self.late += 1
            raise
        return self._pwrite(descriptor, data if self.limit is None else data[: self.limit], position)

    def fill(self) -> None:
        """No room from now on."""
        self.error = errno.ENOSPC

    def hold(self) -> None:
        """Writes wait from now on."""
        self._held = True

    def let(self, count: int) -> None:
        """So many of the waiting writes may go on."""
        self._permits.release(count)

    def free(self) -> None:
        """Writes wait no longer."""
        self._held = False
        self._permits.release(1000)

    async def busy(self) -> None:
        """Return when a thread is writing."""
        while not self._entered.is_set():
            await asyncio.sleep(0.001)


@pytest.fixture
def disk(monkeypatch) -> Iterator[Disk]:
    made = Disk(os.pwrite)
    monkeypatch.setattr(os, "pwrite", made.pwrite)
    yield made
    made.free()
