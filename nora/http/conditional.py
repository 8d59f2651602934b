"""Conditional requests and ranges (RFC 9110 13, 14). Decides and does nothing."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TypeAlias


@dataclass(frozen=True, slots=True)
class Full:
    """200 with the whole content."""


@dataclass(frozen=True, slots=True)
class NotModified:
    """304."""


@dataclass(frozen=True, slots=True)
class Partial:
    """206 with the bytes from ``start`` up to and without ``stop``."""

    start: int
    stop: int


@dataclass(frozen=True, slots=True)
class Unsatisfiable:
    """416."""


@dataclass(frozen=True, slots=True)
class PreconditionFailed:
    """412."""


Decision: TypeAlias = Full | NotModified | Partial | Unsatisfiable | PreconditionFailed

_TAG = re.compile(r'(W/)?"([\x21\x23-\x7e\x80-\xff]*)"')
_RANGE = re.compile(r"\s*bytes\s*=\s*(\d{0,30})\s*-\s*(\d{0,30})\s*\Z", re.IGNORECASE | re.ASCII)


def decide(
    *,
    method: str,
    if_none_match: str | None,
    if_match: str | None,
    range_: str | None,
    if_range: str | None,
    etag: str,
    size: int | None,
) -> Decision:
    """What to answer to GET or HEAD for content with a strong ``etag`` (opaque, without quotes; "" is none).

    Preconditions come before ranges (RFC 9110 13.2.2). A range that is malformed, in another unit, or one of several is as
    good as none; so is any when ``size`` (bytes) is not known.

    >>> decide(method="GET", if_none_match=None, if_match=None, range_="bytes=-5", if_range=None, etag="a", size=100)
    Partial(start=95, stop=100)
    """
    if if_match is not None and not _matches(if_match, etag, weak=False):
        return PreconditionFailed()
    if if_none_match is not None and _matches(if_none_match, etag, weak=True):
        return NotModified()
    # FILE-5, FILE-6
    if range_ is None or size is None or method != "GET":
        return Full()
    if if_range is not None and not (etag and if_range.strip() == f'"{etag}"'):
        return Full()
    return _range(range_, size)


def _matches(field: str, etag: str, *, weak: bool) -> bool:
    """RFC 9110 8.8.3.2: If-None-Match compares weakly, If-Match strongly."""
    if field.strip() == "*":
        return True
    return bool(etag) and any(tag == etag and (weak or not prefix) for prefix, tag in _TAG.findall(field))


def _range(field: str, size: int) -> Decision:
    match = _RANGE.match(field)
    if match is None or not (match[1] or match[2]):
        return Full()
    first, last = match[1], match[2]
    if not first:
        length = min(int(last), size)
        return Partial(size - length, size) if length else Unsatisfiable()
    if last and int(last) < int(first):
        return Full()
    if int(first) >= size:
        return Unsatisfiable()
    return Partial(int(first), min(int(last) + 1, size) if last else size)
