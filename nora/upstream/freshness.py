"""Whether a held answer of an upstream may be used without asking again. Pure: time is an argument."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TypeAlias

MAX_NEGATIVE_SECONDS = 60.0
"""The longest that an absence is remembered: somebody who has just published waits for it."""


@dataclass(frozen=True, slots=True)
class Fresh:
    """Use it."""


@dataclass(frozen=True, slots=True)
class Revalidate:
    """It is held, and the upstream must be asked whether it still holds true."""


@dataclass(frozen=True, slots=True)
class Miss:
    """Nothing is held."""


Freshness: TypeAlias = Fresh | Revalidate | Miss


def judge(*, validated_at: float | None, now: float, ttl_seconds: int) -> Freshness:
    """What may be done with an answer that the upstream last confirmed at ``validated_at``; ``None`` if there is none.

    Both times are seconds since the epoch. ``ttl_seconds`` is as ``metadata_ttl``: 0 is always to be asked, -1 is for ever.

    >>> judge(validated_at=1000.0, now=1299.0, ttl_seconds=300)
    Fresh()
    >>> judge(validated_at=1000.0, now=1300.0, ttl_seconds=300)
    Revalidate()
    """
    if validated_at is None:
        return Miss()
    if ttl_seconds < 0:
        return Fresh()
    # In both directions: after the clock was set back an answer must not stay fresh until the old time has come again.
    return Fresh() if abs(now - validated_at) < ttl_seconds else Revalidate()


def fresh_until(*, validated_at: float, ttl_seconds: int) -> float:
    """When :func:`judge` will no longer say ``Fresh`` of an answer, if the clock is not set back.

    >>> fresh_until(validated_at=1000.0, ttl_seconds=300), fresh_until(validated_at=1000.0, ttl_seconds=-1)
    (1300.0, inf)
    """
    return validated_at + ttl_seconds if ttl_seconds >= 0 else math.inf


def negative_ttl(ttl_seconds: int) -> float:
    """For how many seconds an upstream's "not found" is remembered. ``ttl_seconds`` is as in :func:`judge`.

    >>> [negative_ttl(ttl) for ttl in (300, 5, 0, -1)]
    [60.0, 5.0, 0.0, 60.0]
    """
    return MAX_NEGATIVE_SECONDS if ttl_seconds < 0 else min(MAX_NEGATIVE_SECONDS, float(ttl_seconds))
