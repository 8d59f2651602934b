"""Listings put together. Pure."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from nora.api import File, Listing
from nora.index.manifest import Manifest


def hosted_listing(manifest: Manifest) -> Listing:
    """What a manifest offers."""
    return Listing(
        project=manifest.project,
        files=manifest.files,
        status=manifest.status,
        status_reason=manifest.status_reason,
        extra=manifest.extra,
        hosted=True,
    )


def merge(hosted: Listing, upstream: Listing) -> Listing:
    """Hosted files, then those of the upstream whose names are not taken. The hosted project's status and fields win."""
    taken = {file.name for file in hosted.files} | {file.identity for file in hosted.files if file.identity}
    added = tuple(file for file in upstream.files if file.name not in taken and file.identity not in taken)
    return msgspec.structs.replace(hosted, files=hosted.files + added, extra={**upstream.extra, **hosted.extra})


def without_refused(listing: Listing, refusal: Callable[[File], str | None]) -> tuple[Listing, dict[str, str]]:
    """The listing without the files that a policy refuses, and why each of them was refused."""
    refused = {file.name: reason for file in listing.files if (reason := refusal(file)) is not None}
    if not refused:
        return listing, refused
    return msgspec.structs.replace(listing, files=tuple(f for f in listing.files if f.name not in refused)), refused
