"""Logins that failed, of which there may be thousands a second: few are told one by one, the others are counted. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import msgspec

from nora.audit.entry import Entry

PER_ADDRESS, IN_ALL = 5, 100
"""So many entries of an action are told in one window: of one address, and of all."""
WINDOW_SECONDS, MAX_WINDOW_SECONDS = 1.0, 60.0
"""A window is as long as the first, twice as long after one in which some had to be counted only, and never longer than the second.

So a lasting attack, from however many addresses, makes some 400 lines a minute, and an attempt is told a minute later at most.
"""


@dataclass(slots=True)
class _Counted:
    """What was told of one key, and the rest: how many, and what they have in common."""

    told: int = 0
    rest: int = 0
    common: Entry | None = None


class Flood:
    """Counts what there is too much of. Times are in seconds that only go forward."""

    def __init__(self) -> None:
        self._length = WINDOW_SECONDS
        self._end: float | None = None
        self._ended_at = 0.0
        self._counted: dict[tuple[str, str], _Counted] = {}
        self._left: dict[str, int] = {}

    @property
    def due(self) -> float | None:
        """When :meth:`ended` is to be asked; ``None`` if nothing waits to be told."""
        return self._end

    def admits(self, entry: Entry, now: float) -> bool:
        """Whether this entry is to be told by itself; else it is counted. To be called after :meth:`ended`."""
        if self._end is None:
            if now >= self._ended_at + self._length:  # there was quiet for a window's time
                self._length = WINDOW_SECONDS
            self._end = now + self._length
        left = self._left.setdefault(entry.action, IN_ALL)
        key = (entry.action, entry.address)
        if key not in self._counted and not left:
            # Addresses that are told are remembered, and no more of them: a flood of addresses takes no memory.
            key = (entry.action, "")
        counted = self._counted.setdefault(key, _Counted())
        if left and counted.told < PER_ADDRESS:
            counted.told += 1
            self._left[entry.action] = left - 1
            return True
        counted.rest += 1
        counted.common = entry if counted.common is None else _in_common(counted.common, entry)
        return False

    def ended(self, now: float, *, at_once: bool = False) -> Iterator[Entry]:
        """The entries for what was counted in a window that has ended; ``at_once`` ends it."""
        if self._end is None or (now < self._end and not at_once):
            return
        rest = [counted for counted in self._counted.values() if counted.common is not None]
        self._length = min(self._length * 2, MAX_WINDOW_SECONDS) if rest else WINDOW_SECONDS
        self._ended_at, self._end, self._counted, self._left = now, None, {}, {}
        for counted in rest:
            assert counted.common is not None
            yield msgspec.structs.replace(counted.common, count=counted.rest)


def _in_common(first: Entry, second: Entry) -> Entry:
    """The later time, and the texts that are the same."""
    same = {
        name: value if value == getattr(second, name) else ""
        for name in ("registry", "actor", "token", "address", "request_id", "reason")
        if (value := getattr(first, name))
    }
    return msgspec.structs.replace(first, at=second.at, **same)
