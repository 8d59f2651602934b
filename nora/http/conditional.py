"""Conditional and range requests: what to answer. Pure.

Spec: RFC 9110, sections 13 (conditional requests) and 14 (range requests), in the order of 13.2.2. The host has entity tags,
all of them strong, and never sends Last-Modified.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TypeAlias


@dataclass(frozen=True, slots=True)
class Full:
    """200 with everything."""


@dataclass(frozen=True, slots=True)
class NotModified:
    """304: the client has it."""


@dataclass(frozen=True, slots=True)
class Partial:
    """206 with the bytes from ``start`` up to, but without, ``stop``; never empty."""

    start: int
    stop: int


@dataclass(frozen=True, slots=True)
class Unsatisfiable:
    """416: there are no such bytes."""


@dataclass(frozen=True, slots=True)
class PreconditionFailed:
    """412: it is not, or no longer, what the client wants to have."""


Decision: TypeAlias = Full | NotModified | Partial | Unsatisfiable | PreconditionFailed

# RFC 9110 8.8.3. A tag may hold commas, so a list of them cannot just be split.
_TAG = re.compile(r'\s*(?P<weak>W/)?"(?P<opaque>[\x21\x23-\x7e\x80-\U0010ffff]*)"\s*(?:,|$)|\s*,')

# RFC 9110 14.1.1. Units are case-insensitive; [0-9] since \d takes other scripts' digits.
_RANGE = re.compile(r"bytes=[ \t,]*(?P<first>[0-9]*)-(?P<last>[0-9]*)[ \t,]*", re.IGNORECASE)

# No content is that long. Beyond it a number is only ever compared, and int() of a long text takes long.
_MAX_DIGITS = 18
_ENDLESS = 10**_MAX_DIGITS


def decide(
    *,
    method: str,
    if_none_match: str | None = None,
    if_match: str | None = None,
    if_modified_since: str | None = None,
    if_unmodified_since: str | None = None,
    range_: str | None = None,
    if_range: str | None = None,
    etag: str = "",
    size: int | None = None,
) -> Decision:
    """What to answer to a GET or HEAD whose answer without conditions is 200.

    The fields' values are as received, ``None`` where absent; several fields of one name are joined with commas. ``etag`` is
    the content's tag, opaque and without quotes, "" if it has none; ``size`` its length, ``None`` if unknown.

    >>> decide(method="GET", if_none_match='W/"a", "b"', etag="b", size=10)
    NotModified()
    >>> decide(method="GET", range_="bytes=-3", etag="b", size=10)
    Partial(start=7, stop=10)
    >>> decide(method="GET", range_="bytes=10-", etag="b", size=10)
    Unsatisfiable()
    """
    # 13.1.4 and HTTP-10: what has no modification date knows neither If-Modified-Since nor If-Unmodified-Since.
    del if_modified_since, if_unmodified_since
    # 13.2.2 step 1
    if if_match is not None and not _names(if_match, etag, weakly=False):
        return PreconditionFailed()
    # 13.2.2 step 3
    if if_none_match is not None and method in ("GET", "HEAD") and _names(if_none_match, etag, weakly=True):
        return NotModified()
    # 14.2: Range is defined for GET only, and of content of unknown length there are no parts.
    if range_ is None or method != "GET" or size is None:
        return Full()
    # 13.2.2 step 5
    if if_range is not None and not _is_exactly(if_range, etag):
        return Full()
    return _part(range_, size)


def _names(field: str, etag: str, *, weakly: bool) -> bool:
    """Whether a list of tags has this one in it; a malformed list has only what comes before its fault."""
    if field.strip() == "*":
        # 13.1.1, 13.1.2: any current representation. There is one, or nobody would ask us.
        return True
    if not etag:
        return False
    position = 0
    while position < len(field) and (found := _TAG.match(field, position)):
        # 8.8.3.2: our own tag is strong, so it is for the client's to be strong where that counts.
        if found["opaque"] == etag and (weakly or not found["weak"]):
            return True
        position = found.end()
    return False


def _is_exactly(if_range: str, etag: str) -> bool:
    """Whether If-Range holds. 13.1.5: by strong comparison; a date never does, as we send none."""
    return bool(etag) and if_range.strip() == f'"{etag}"'


def _part(field: str, size: int) -> Decision:
    found = _RANGE.fullmatch(field.strip())
    # 14.2: other units, and what is no range, are ignored. 17.15: so are several ranges, a way to ask for more than there is.
    if found is None or not (found["first"] or found["last"]):
        return Full()
    if not found["first"]:
        suffix = _number(found["last"])
        if suffix == 0:
            return Unsatisfiable()
        # 14.1.2: satisfiable even for empty content, of which there is no part to name.
        return Partial(max(0, size - suffix), size) if size else Full()
    first, last = _number(found["first"]), _number(found["last"] or str(_ENDLESS))
    # 14.1.1: a last position before the first makes it no range at all, also where both are beyond all content.
    if found["last"] and _order(found["last"]) < _order(found["first"]):
        return Full()
    return Partial(first, min(last + 1, size)) if first < size else Unsatisfiable()


def _order(digits: str) -> tuple[int, str]:
    """What numbers of any length compare by, without making numbers of them."""
    significant = digits.lstrip("0")
    return len(significant), significant


def _number(digits: str) -> int:
    significant = digits.lstrip("0")
    return int(significant or "0") if len(significant) <= _MAX_DIGITS else _ENDLESS
