"""The upstreams of a registry, in order, and which of them owns a name."""

from __future__ import annotations

import asyncio
import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import msgspec

from nora.api import File, Listing, Sidecar, SidecarReader, UpstreamError
from nora.clock import timestamp
from nora.store.protocol import SHA256_PATTERN, Store, blob_key
from nora.upstream.listings import RelatedDocuments, UpstreamListings
from nora.upstream.pins import Pinned, Pins, apply, fits, fits_sidecar
from nora.upstream.stored import Head

INLINE_FILES = 400
"""Listings up to this length are merged and rendered on the event loop: one or two milliseconds."""
DERIVED = Sidecar(derived=True)
FIRST_SEEN = "_upload-time"
"""Key of a file's ``extra`` that says where its time comes from when its upstream does not give one."""


@dataclass(frozen=True, slots=True)
class Source:
    """One upstream, with what is remembered of it."""

    listings: UpstreamListings
    pins: Pins
    readers: Sequence[SidecarReader] = ()
    related: Mapping[str, RelatedDocuments] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Owned:
    """The upstream that serves a project, its answer, and the pins of that project's files."""

    source: Source
    head: Head
    pins: Pinned

    @property
    def revision(self) -> str:
        """Changes whenever the listing does."""
        return f"{self.head.revision}.{self.pins.revision}"

    def completed(self, file: File) -> File:
        """The file with what the listing does not say: what pins tell, sidecars that can be derived, when it was first seen."""
        pin = self.pins.get(file.name)
        if pin is not None and "sha256" not in file.digests and fits(pin, file):
            file = apply(pin, file)
        sidecars = self._sidecars(file)
        if file.published is not None:
            return file if sidecars is file.sidecars else msgspec.structs.replace(file, sidecars=sidecars)
        seen = self.head.seen_later.get(file.name, self.head.seen_at)
        if not seen:
            return msgspec.structs.replace(file, sidecars=sidecars)
        extra = {**file.extra, FIRST_SEEN: "first-seen"}
        return msgspec.structs.replace(file, sidecars=sidecars, published=timestamp(seen), extra=extra)

    def all_completed(self, files: Sequence[File]) -> tuple[File, ...]:
        """:meth:`completed` for all of them."""
        if self.pins:
            return tuple(map(self.completed, files))
        suffixes = {reader.suffix for reader in self.source.readers}
        # Of what a modern index says nothing is missing; and a look at one suffix takes a fifth of the time of one at several.
        if len(suffixes) == 1:
            (suffix,) = suffixes
            lacking = [file.published is None or suffix not in file.sidecars for file in files]
        else:
            lacking = [file.published is None or not suffixes <= file.sidecars.keys() for file in files]
        if True not in lacking:
            return tuple(files)
        return tuple([self.completed(file) if lacks else file for file, lacks in zip(files, lacking, strict=True)])

    def _sidecars(self, file: File) -> dict[str, Sidecar]:
        readers = self.source.readers
        if not self.pins:
            # For nearly every file of an upstream without metadata the same few objects.
            derived = tuple(
                [reader.suffix for reader in readers if reader.suffix not in file.sidecars and reader.applies(file)]
            )
            if not derived:
                return file.sidecars
            return {**file.sidecars, **_all_derived(derived)} if file.sidecars else _all_derived(derived)
        changed: dict[str, Sidecar] | None = None
        for suffix in {*file.sidecars, *(reader.suffix for reader in readers)}:
            announced = file.sidecars.get(suffix)
            sidecar = self._sidecar(file, suffix, announced)
            if sidecar is not announced:
                changed = {**file.sidecars} if changed is None else changed
                if sidecar is None:
                    changed.pop(suffix, None)
                else:
                    changed[suffix] = sidecar
        return file.sidecars if changed is None else changed

    def _sidecar(self, file: File, suffix: str, announced: Sidecar | None) -> Sidecar | None:
        pin = self.pins.get(file.name + suffix) if self.pins else None
        if pin is not None and fits_sidecar(pin, file, announced):
            if pin.refusal:
                return None
            if pin.derived:
                return Sidecar(digests={"sha256": pin.sha256}, size=pin.size, derived=True)
            assert announced is not None
            return msgspec.structs.replace(announced, digests={**announced.digests, "sha256": pin.sha256}, size=pin.size)
        if announced is None and any(reader.suffix == suffix and reader.applies(file) for reader in self.source.readers):
            return DERIVED
        return announced


@functools.lru_cache(maxsize=64)
def _all_derived(suffixes: tuple[str, ...]) -> dict[str, Sidecar]:
    return dict.fromkeys(suffixes, DERIVED)


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


def stand_until(sources: Sequence[Source], project: str, owned: Owned | None) -> float:
    """Until when :func:`owner_among`, whose answer ``owned`` has just been, will say the same without asking an upstream.

    In seconds since the epoch; infinite if for ever, in the past if an upstream is asked each time.
    """
    until = math.inf
    for source in sources:
        head = owned.head if owned is not None and owned.source is source else None
        until = min(until, source.listings.stands_until(project, head))
        if head is not None:
            break
    return until


async def listing_of(owned: Owned, store: Store, project: str) -> Listing:
    """The upstream's listing, completed; of a withdrawn project only what is held."""
    head, listing = await owned.source.listings.value(project, owned.head)
    if len(listing.files) > INLINE_FILES:
        files = await asyncio.to_thread(owned.all_completed, listing.files)
    else:
        files = owned.all_completed(listing.files)
    if head.withdrawn:
        files = tuple([_kept(file) for file in files if await _held(file, store)])
    serial = listing.serial or int(head.changed_at) or 1
    return msgspec.structs.replace(listing, project=project, files=files, serial=serial)


def _kept(file: File) -> File:
    return msgspec.structs.replace(file, extra={**file.extra, "_withdrawn": True})


async def _held(file: File, store: Store) -> bool:
    sha256 = file.digests.get("sha256", "")
    return SHA256_PATTERN.match(sha256) is not None and await store.exists(blob_key(sha256))
