"""How long an upstream's answer may be used without asking again. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

MAX_NEGATIVE_SECONDS = 60
FOREVER = -1


@dataclass(frozen=True, slots=True)
class Fresh:
    """Use it."""


@dataclass(frozen=True, slots=True)
class Revalidate:
    """Ask whether it is still right; use it if the upstream fails."""


@dataclass(frozen=True, slots=True)
class Miss:
    """There is none."""


Freshness: TypeAlias = Fresh | Revalidate | Miss


def judge(*, validated_at: float | None, now: float, ttl_seconds: int) -> Freshness:
    """What to do with an answer that was last known to be right at ``validated_at`` (RFC 9111 4.2).

    Times are in seconds since the epoch. A clock that was set back makes an answer look as if it came from the future; it is
    then asked for again.

    >>> judge(validated_at=100, now=130, ttl_seconds=60), judge(validated_at=100, now=161, ttl_seconds=60)
    (Fresh(), Revalidate())
    """
    if validated_at is None:
        return Miss()
    if ttl_seconds == FOREVER or 0 <= now - validated_at < ttl_seconds:
        return Fresh()
    return Revalidate()


def negative_ttl(ttl_seconds: int) -> float:
    """For how many seconds "there is no such project" is remembered.

    >>> negative_ttl(300), negative_ttl(10), negative_ttl(0), negative_ttl(-1)
    (60, 10, 0, 60)
    """
    return MAX_NEGATIVE_SECONDS if ttl_seconds == FOREVER else min(MAX_NEGATIVE_SECONDS, ttl_seconds)
