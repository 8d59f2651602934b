"""Listings of one upstream, and its further documents about projects."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Any

import msgspec

from nora.api import Document, Listing, ProxyFormat, RelatedDocument, UpstreamRequest
from nora.store.protocol import MAX_SEGMENT_BYTES, segment
from nora.upstream.documents import UpstreamDocuments
from nora.upstream.freshness import Fresh, fresh_until
from nora.upstream.stored import Head

MAX_LISTED_FILES = 40_000
MAX_RELATED_BYTES = 32 * 1024 * 1024
MAX_REMEMBERED_NAMES = 50_000
_PLAIN_NAME = re.compile(r"(?!\.{1,2}\Z)[^/\\\x00-\x1f\x7f]+\Z")
_NO_NAMES = frozenset({"", ".", ".."})
_NOT_PLAIN = re.compile(r"[/\\\x00-\x1f\x7f]")


class UpstreamListings(UpstreamDocuments[Listing]):
    """The listings of one upstream, for one registry."""

    def __init__(self, *, format_: ProxyFormat, **parts: Any) -> None:
        super().__init__(kind="pages", max_weight=MAX_LISTED_FILES, **parts)
        self._format = format_

    def request(self, name: str) -> UpstreamRequest:
        """See :class:`UpstreamDocuments`."""
        return self._format.listing_request(self.upstream.url, name)

    def parse(self, name: str, document: Document) -> Listing:
        """See :class:`UpstreamDocuments`."""
        listing = self._format.parse_listing(name, document)
        # PROXY-15: whatever a format lets through, no name becomes a path.
        names = [file.name for file in listing.files]
        # One look at all of them takes a tenth of the time, and nearly always there is nothing to find.
        if not _NOT_PLAIN.search("".join(names)) and _NO_NAMES.isdisjoint(names):
            return listing
        plain = tuple(file for file in listing.files if _PLAIN_NAME.match(file.name))
        return msgspec.structs.replace(listing, files=plain)

    def weigh(self, value: Listing) -> int:
        """See :class:`UpstreamDocuments`."""
        return 1 + len(value.files)

    def stands_until(self, project: str, head: Head | None) -> float:
        """Until when :meth:`head`, which has just given ``head``, will give it again without asking the upstream.

        In seconds since the epoch, for a clock that is not set back; in the past if the upstream is asked each time.
        """
        if len(segment(project)) > MAX_SEGMENT_BYTES:
            return math.inf
        now = self._clock()
        if head is None:
            until = self._absent_until.get(project)
            return until if until is not None and self._is_absent(project, now) else -math.inf
        # Only the head that is remembered is given again; one that came from an outage is not fresh, nor one from the future.
        if self._heads.get(project) is not head or not isinstance(self._judge(head, now), Fresh):
            return -math.inf
        return fresh_until(validated_at=head.validated_at, ttl_seconds=self._config.metadata_ttl)

    async def observed(self, project: str, held: Head | None, head: Head, value: Listing) -> Head:
        """Remember when files were first seen whose listing does not say when they were published."""
        undated = [file.name for file in value.files if file.published is None]
        if not undated:
            return head
        if held is None or not held.seen_at:
            return msgspec.structs.replace(head, seen_at=head.changed_at)
        earlier = await self.held_value(project, held)
        before = {file.name for file in earlier.files} if earlier is not None else set()
        # A time never changes for a file (JSON-9), so those that are remembered stay.
        fresh = {name: head.changed_at for name in undated if name not in before and name not in held.seen_later}
        later = {**held.seen_later, **fresh}
        return msgspec.structs.replace(
            head, seen_at=held.seen_at, seen_later=later if len(later) <= MAX_REMEMBERED_NAMES else held.seen_later
        )


@dataclass(frozen=True, slots=True)
class Parsed:
    """What a related document says, and how many bytes it was made from."""

    value: Any
    size: int


class RelatedDocuments(UpstreamDocuments[Parsed]):
    """One kind of further documents of one upstream; their names are ``project`` or ``project/part``."""

    def __init__(self, *, document: RelatedDocument, **parts: Any) -> None:
        super().__init__(kind=document.kind, max_weight=MAX_RELATED_BYTES, **parts)
        self._document = document

    def request(self, name: str) -> UpstreamRequest | None:
        """See :class:`UpstreamDocuments`."""
        project, _, part = name.partition("/")
        return self._document.request(self.upstream.url, project, part)

    def parse(self, name: str, document: Document) -> Parsed:
        """See :class:`UpstreamDocuments`."""
        return Parsed(self._document.parse(name.partition("/")[0], document), len(document.body))

    def weigh(self, value: Parsed) -> int:
        """See :class:`UpstreamDocuments`."""
        return 1 + value.size
