"""Which proxied files a registry uses, noted for when room has to be made."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from nora.api import StorageFull
from nora.lru import BoundedCache
from nora.store.protocol import Store, used_key
from nora.tasks import Tasks

log = logging.getLogger(__name__)

NOTED_SECONDS = 600.0
"""A use is noted at most once in this time, and so costs nothing."""
MAX_NOTED = 20_000


class UsedFiles:
    """Notes of one registry, which last: the time of a file in the store is that of a blob's last use.

    Attributes:
        grown: Whether anything was fetched since somebody set this to ``False``.
    """

    def __init__(self, store: Store, tasks: Tasks, registry: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._store, self._tasks, self._registry, self._clock = store, tasks, registry, clock
        self._noted: BoundedCache[str, float] = BoundedCache(MAX_NOTED)
        self.grown = False

    def used(self, sha256: str) -> None:
        """A held blob is sent; that is noted in the background."""
        noted, now = self._noted.get(sha256), self._clock()
        if noted is None or now - noted >= NOTED_SECONDS:
            self._noted.put(sha256, now)
            self._tasks.spawn(self._note(sha256), "note of use")

    async def kept(self, sha256: str) -> None:
        """A blob was fetched. Noted in any case: an earlier note has gone with the blob if that was removed meanwhile."""
        self.grown = True
        self._noted.put(sha256, self._clock())
        await self._note(sha256)

    async def _note(self, sha256: str) -> None:
        try:
            await self._store.touch(used_key(self._registry, sha256))
        except (OSError, StorageFull) as error:
            log.warning("use of a file could not be noted", extra={"registry": self._registry, "error": str(error)})
