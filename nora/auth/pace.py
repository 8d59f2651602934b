"""Turns for what must not be had as fast as it can be made. Knows no clock but the event loop's."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, TypeAlias

Later: TypeAlias = Callable[[float, Callable[[], None]], Any]


class Pace:
    """One at a time, each so many seconds after the one before. Those who wait at different places take turns.

    Nobody waits for who has left, and only those take memory who are there.

    Args:
        seconds: Between two; also before the first.
        later: Calls something after so many seconds; for tests.
    """

    def __init__(self, seconds: float, *, later: Later | None = None) -> None:
        self._seconds, self._later = seconds, later
        self._waiting: OrderedDict[bytes, dict[object, Callable[[], None]]] = OrderedDict()
        self._is_timed = False

    def __len__(self) -> int:
        return sum(map(len, self._waiting.values()))

    def waiting_at(self, place: bytes) -> int:
        """How many wait at one place."""
        return len(self._waiting.get(place, ()))

    def call(self, place: bytes, go: Callable[[], None]) -> Callable[[], None]:
        """Have ``go`` called when it is its turn; to be called on the event loop. What is returned takes it back, or does nothing."""
        key = object()
        self._waiting.setdefault(place, {})[key] = go
        if not self._is_timed:
            self._time()

        def take_back() -> None:
            if (here := self._waiting.get(place)) is not None and here.pop(key, None) is not None and not here:
                del self._waiting[place]

        return take_back

    async def turn(self, place: bytes) -> None:
        """Wait for a turn. Who is cancelled meanwhile takes none."""
        come = asyncio.Event()
        take_back = self.call(place, come.set)
        try:
            await come.wait()
        finally:
            take_back()

    def _time(self) -> None:
        self._is_timed = True
        (self._later or asyncio.get_running_loop().call_later)(self._seconds, self._next)

    def _next(self) -> None:
        self._is_timed = False
        if not self._waiting:
            return
        place, here = self._waiting.popitem(last=False)
        go = here.pop(next(iter(here)))
        if here:
            self._waiting[place] = here
        if self._waiting:
            self._time()
        # Not from within the timer: on uvloop, requests of others then take twice as long (measured with benchmarks/rows/guessing.py).
        asyncio.get_running_loop().call_soon(go)
