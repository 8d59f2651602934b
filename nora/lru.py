"""A bounded cache in memory."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class BoundedCache(Generic[K, V]):
    """The most recently used values, up to a total weight.

    >>> cache = BoundedCache(2)
    >>> cache.put("a", 1); cache.put("b", 2); cache.get("a")
    1
    >>> cache.put("c", 3); "b" in cache, "a" in cache
    (False, True)
    """

    def __init__(self, max_weight: int) -> None:
        self._max_weight = max_weight
        self._weight = 0
        self._entries: OrderedDict[K, tuple[V, int]] = OrderedDict()

    def get(self, key: K) -> V | None:
        """The value, which then counts as just used."""
        entry = self._entries.get(key)
        if entry is None:
            return None
        self._entries.move_to_end(key)
        return entry[0]

    def put(self, key: K, value: V, weight: int = 1) -> list[V]:
        """Remember; the least recently used go. What alone is over the maximum is not remembered. Returns what has gone."""
        gone = self.discard(key)
        if weight > self._max_weight:
            return gone
        self._entries[key] = (value, weight)
        self._weight += weight
        while self._weight > self._max_weight:
            _, (value, weight) = self._entries.popitem(last=False)
            self._weight -= weight
            gone.append(value)
        return gone

    def discard(self, key: K) -> list[V]:
        """Forget. Returns what has gone, if there was anything."""
        entry = self._entries.pop(key, None)
        if entry is None:
            return []
        self._weight -= entry[1]
        return [entry[0]]

    def __contains__(self, key: K) -> bool:
        return key in self._entries

    def __len__(self) -> int:
        return len(self._entries)
