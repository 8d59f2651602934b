"""The upstreams of a registry, in order, and which of them owns a name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from nora.api import File, Listing, UpstreamError
from nora.store.protocol import SHA256_PATTERN, Store, blob_key
from nora.upstream.listings import UpstreamListings
from nora.upstream.pins import Pin, Pins, apply, fits, revision
from nora.upstream.stored import Head


@dataclass(frozen=True, slots=True)
class Source:
    """One upstream, with what is remembered of it."""

    listings: UpstreamListings
    pins: Pins


@dataclass(frozen=True, slots=True)
class Owned:
    """The upstream that serves a project, its answer, and the pins of that project's files."""

    source: Source
    head: Head
    pins: dict[str, Pin]

    @property
    def revision(self) -> str:
        """Changes whenever the listing does."""
        return f"{self.head.revision}.{revision(self.pins)}"

    def pinned(self, file: File) -> File:
        """The file with what its pin adds, if it has one."""
        pin = self.pins.get(file.name)
        return apply(pin, file) if pin is not None and "sha256" not in file.digests and fits(pin, file) else file


async def owner_among(sources: Sequence[Source], project: str) -> Owned | None:
    """The first upstream that knows a project; ``None`` when none does.

    Raises:
        UpstreamError: one that might own the name failed. A later one is asked instead only if it is known to have served the
            project, so that a failure never hands a name to somebody else.
    """
    left = list(sources)
    while left:
        source = left.pop(0)
        try:
            head = await source.listings.head(project)
        except UpstreamError:
            left = [later for later in left if await later.listings.knows(project)]
            if not left:
                raise
            continue
        if head is not None:
            return Owned(source, head, await source.pins.of(project))
    return None


async def listing_of(owned: Owned, store: Store, project: str) -> Listing:
    """The upstream's listing with what the pins add; of a withdrawn project only what is held."""
    head, listing = await owned.source.listings.listing(project, owned.head)
    files = tuple(map(owned.pinned, listing.files)) if owned.pins else listing.files
    if head.withdrawn:
        files = tuple([_kept(file) for file in files if await _held(file, store)])
    return msgspec.structs.replace(listing, project=project, files=files)


def _kept(file: File) -> File:
    return msgspec.structs.replace(file, extra={**file.extra, "_withdrawn": True})


async def _held(file: File, store: Store) -> bool:
    sha256 = file.digests.get("sha256", "")
    return SHA256_PATTERN.match(sha256) is not None and await store.exists(blob_key(sha256))
