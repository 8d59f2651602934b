"""Answers of upstreams on their way to the disk, which nobody waits for who has the answer already."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from nora.api import StorageFull
from nora.store.protocol import Store
from nora.tasks import Tasks

log = logging.getLogger(__name__)

LATER_FROM_BYTES = 64 * 1024
"""Shorter ones are written before anything else: that takes less than a millisecond, and other processes see them at once."""
MAX_WAITING_BYTES = 64 * 1024 * 1024
"""With more than this on its way to a slow disk, everybody waits again."""


class Writes:
    """Writes documents, each after what was written before under its key.

    Within this process nobody sees that they are late: who reads or removes what is under a key waits for :meth:`settled`. Another
    process may find the document missing, or the one before, for as long as a write takes. What has begun is finished at shutdown.
    """

    def __init__(self, store: Store, tasks: Tasks) -> None:
        self._store, self._tasks = store, tasks
        self._under_way: dict[str, asyncio.Task[None]] = {}
        self._waiting_bytes = 0

    async def put(self, key: str, data: bytes, kept: Callable[[], None]) -> None:
        """Write, or see to it that it is written; ``kept`` is called when it is. A failure is logged: it is only a cache."""
        earlier = self._under_way.get(key)
        if len(data) < LATER_FROM_BYTES and earlier is None:
            await self._write(key, data, kept)
            return
        self._waiting_bytes += len(data)
        task = self._tasks.spawn(self._write_after(earlier, key, data, kept), f"writing {key}")
        self._under_way[key] = task
        task.add_done_callback(lambda _: self._done(key, task, len(data)))
        if self._waiting_bytes > MAX_WAITING_BYTES:
            await asyncio.wait([task])

    async def settled(self, key: str) -> None:
        """Return when everything that was put under the key so far is written, or has failed."""
        if (task := self._under_way.get(key)) is not None:
            await asyncio.wait([task])

    def _done(self, key: str, task: asyncio.Task[None], size: int) -> None:
        self._waiting_bytes -= size
        if self._under_way.get(key) is task:
            del self._under_way[key]

    async def _write_after(self, earlier: asyncio.Task[None] | None, key: str, data: bytes, kept: Callable[[], None]) -> None:
        if earlier is not None:
            await asyncio.wait([earlier])
        job = asyncio.ensure_future(self._write(key, data, kept))
        try:
            await asyncio.shield(job)
        except asyncio.CancelledError:
            await asyncio.wait([job])
            raise

    async def _write(self, key: str, data: bytes, kept: Callable[[], None]) -> None:
        try:
            await self._store.put(key, data)
        except (StorageFull, OSError) as error:
            # It can be served all the same, as long as it is in memory.
            log.error("listing could not be kept", extra={"project": key.rpartition("/")[2], "error": str(error)})
        else:
            kept()
