"""Files of prepared answers (``fast.py``) that are too large for memory: they stay open as long as they are asked for."""

from __future__ import annotations

import os
import time

MAX_FILES = 32
"""Descriptors are scarce in some places."""
IDLE_SECONDS = 5.0
"""How long a file stays open that nobody asks for: if it is removed, its room on the disk is free only when it is closed."""


class HeldFile:
    """An open file that is complete. Implements :class:`nora.api.ByteSource`.

    Attributes:
        used_at: When it was opened last, by :func:`time.monotonic`.
    """

    complete = True

    def __init__(self, descriptor: int, size: int) -> None:
        self._descriptor, self.size = descriptor, size
        self.used_at = time.monotonic()

    async def start(self) -> None:
        """Nothing to fetch."""

    def available(self) -> int:
        """All of it."""
        return self.size

    async def wait(self, beyond: int) -> None:
        """Nothing to wait for."""

    def open(self) -> int:
        """A new descriptor, which the caller closes."""
        self.used_at = time.monotonic()
        return os.dup(self._descriptor)

    def close(self) -> None:
        """Close it, once. Who has a descriptor of it can go on reading."""
        os.close(self._descriptor)

    async def aclose(self) -> None:
        """See :meth:`close`."""
        self.close()
