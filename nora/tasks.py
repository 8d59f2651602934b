"""Background tasks with an owner."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Hashable
from typing import Any, TypeVar

T = TypeVar("T")
log = logging.getLogger(__name__)


class Tasks:
    """Tasks that outlive the request that started them; cancelled and awaited at shutdown.

    Not a ``TaskGroup``: there a failing task cancels its siblings, which here are other people's downloads.
    """

    def __init__(self) -> None:
        self._running: set[asyncio.Task[Any]] = set()

    def spawn(self, work: Coroutine[Any, Any, T], name: str) -> asyncio.Task[T]:
        """Start ``work``. Whoever waits for the task gets its error; if nobody does, it is logged."""
        task = asyncio.create_task(work, name=name)
        self._running.add(task)
        task.add_done_callback(self._finished)
        return task

    async def aclose(self) -> None:
        """Cancel everything and wait for it."""
        while self._running:
            for task in list(self._running):
                task.cancel()
            await asyncio.gather(*self._running, return_exceptions=True)

    def _finished(self, task: asyncio.Task[Any]) -> None:
        self._running.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.debug("background task failed", extra={"task": task.get_name(), "error": repr(error)})


class SingleFlight:
    """Work that is done once however many ask for it at the same time.

    It belongs to nobody who asks: when the first to ask goes away, the others still get the result.
    """

    def __init__(self, tasks: Tasks) -> None:
        self._tasks = tasks
        self._flights: dict[Hashable, asyncio.Task[Any]] = {}

    def start(self, key: Hashable, work: Callable[[], Coroutine[Any, Any, T]]) -> asyncio.Task[T]:
        """The task that does this work: the one under way for ``key``, else a new one."""
        flight = self._flights.get(key)
        if flight is None:
            flight = self._tasks.spawn(work(), str(key))
            self._flights[key] = flight
            flight.add_done_callback(lambda _: self._flights.pop(key, None))
        return flight

    async def run(self, key: Hashable, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """The work's result. Equal keys mean equal work."""
        return await asyncio.shield(self.start(key, work))
