"""Eviction beside the serving of requests."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from pathlib import Path
from typing import Protocol

from nora.api import NoraError
from nora.room.evict import Evicted, Limit, evicting, sole_evictor
from nora.room.named import Parsers

log = logging.getLogger(__name__)

CHECK_SECONDS = 5.0
RETRY_SECONDS = 60.0
"""After a cache could not be brought within its limit, since what should go may not go yet."""
SHARE = 0.2
"""Part of the time that eviction works while it is at it; and of a longer time, a tenth of that."""
_DONE = object()


class Growing(Protocol):
    """What tells that a registry has fetched something."""

    grown: bool


class Eviction:
    """Keeps the caches of this host within their limits.

    A cache is counted after something was fetched into it, by one process of several at a time. The work is done in a thread, a
    millisecond at a time, with pauses in which others have the interpreter.
    """

    def __init__(
        self,
        root: Path,
        limits: Mapping[str, tuple[Limit, Growing]],
        *,
        parsers: Parsers | None = None,
        clock: Callable[[], float] = time.time,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._root, self._limits, self._parsers = root, limits, parsers or {}
        self._clock, self._sleep = clock, sleep

    async def run(self) -> None:
        """For ever. At the start each cache is counted once, since its limit may be a new one."""
        for _, growing in self._limits.values():
            growing.grown = True
        pause = CHECK_SECONDS
        while True:
            await self._sleep(pause)
            pause = await self.check()

    async def check(self) -> float:
        """Look after the caches that have grown; returns for how many seconds there is nothing to do then."""
        if not any(growing.grown for _, growing in self._limits.values()):
            return CHECK_SECONDS
        worked, pause = 0.0, CHECK_SECONDS
        try:
            with sole_evictor(self._root) as ours:
                if not ours:
                    return CHECK_SECONDS
                for limit, growing in self._limits.values():
                    if growing.grown:
                        growing.grown = False
                        seconds, left = await self._evict(limit)
                        worked += seconds
                        if left > limit.max_bytes:
                            growing.grown, pause = True, RETRY_SECONDS
        except (OSError, NoraError) as error:
            log.error("cache could not be kept within its limit", extra={"error": str(error)})
        return max(pause, worked / (SHARE * 0.1))

    async def _evict(self, limit: Limit) -> tuple[float, int]:
        result = Evicted()
        worked = await self._stepwise(evicting(self._root, limit, self._clock(), result, parsers=self._parsers))
        if result.files.count:
            log.info(
                "cache evicted",
                extra={"registry": limit.registry, "files": result.files.count, "bytes": result.files.bytes},
            )
        return worked, result.held.bytes

    async def _stepwise(self, steps: Iterator[None]) -> float:
        worked = 0.0
        while True:
            step = asyncio.ensure_future(asyncio.to_thread(_timed, steps))
            try:
                seconds, done = await asyncio.shield(step)
            except asyncio.CancelledError:
                await asyncio.wait([step])  # a step takes a moment, and must not go on when the lock is given back
                raise
            worked += seconds
            if done:
                return worked
            await self._sleep(seconds * (1 / SHARE - 1))


def _timed(steps: Iterator[None]) -> tuple[float, bool]:
    started = time.perf_counter()
    done = next(steps, _DONE) is _DONE
    return time.perf_counter() - started, done
