"""How many requests one address may send. Does no I/O."""

from __future__ import annotations

import time
from collections.abc import Callable

from nora.rates import Buckets, place_of

PROBES = frozenset({"/health", "/ready"})
"""Always answered: whoever asks there must not take a server for dead that keeps its limits."""


class RequestLimits:
    """The requests of one process, by address as :func:`nora.rates.place_of` counts it.

    A minute's worth may come at once, since installers ask for everything that they need in parallel; afterwards one each
    ``60 / per_minute`` seconds. What is refused is not counted, so whoever goes on asking is still answered at that pace.

    Args:
        per_minute: At least 1.
        clock: Seconds that only go forward.
    """

    def __init__(self, per_minute: int, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._buckets, self._clock = Buckets(per_minute, 60.0 / per_minute), clock

    def take(self, address: str) -> float:
        """Count a request, and return 0.0; or the seconds after which one would be answered, and count nothing."""
        return self._buckets.take(place_of(address), self._clock())
