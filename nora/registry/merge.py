"""Listings put together. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import msgspec

from nora.api import File, Listing
from nora.index.manifest import Manifest, Removed


def hosted_listing(manifest: Manifest) -> Listing:
    """What a manifest offers."""
    return Listing(
        project=manifest.project,
        files=manifest.files,
        status=manifest.status,
        status_reason=manifest.status_reason,
        extra=manifest.extra,
        hosted=True,
        serial=manifest.serial,
    )


def merge(hosted: Listing, upstream: Listing, removed: Mapping[str, Removed]) -> Listing:
    """Hosted files, then those of the upstream whose names are not taken. The hosted project's status and fields win.

    A removed file's name stays taken: what was withdrawn here must not come back from elsewhere. A quarantined upstream offers
    nothing (PEP 792).
    """
    taken = {file.name for file in hosted.files} | {file.identity for file in hosted.files if file.identity}
    taken |= removed.keys() | {gone.identity for gone in removed.values() if gone.identity}
    offered = () if upstream.status == "quarantined" else upstream.files
    added = tuple(file for file in offered if file.name not in taken and file.identity not in taken)
    return msgspec.structs.replace(
        hosted,
        files=hosted.files + added,
        extra={**upstream.extra, **hosted.extra},
        serial=hosted.serial + upstream.serial,
    )


def with_yanks(listing: Listing, marks: Manifest, version_key: Callable[[str], str]) -> Listing:
    """The listing with what was yanked here, in addition to what its upstream yanked."""
    if not (marks.yanked_versions or marks.yanked_files):
        return listing
    return msgspec.structs.replace(listing, files=tuple(_marked(file, marks, version_key) for file in listing.files))


def _marked(file: File, marks: Manifest, version_key: Callable[[str], str]) -> File:
    mark = marks.yanked_files.get(file.name, False)
    if mark is False and marks.yanked_versions and file.version:
        mark = marks.yanked_versions.get(version_key(file.version), False)
    return file if mark is False else msgspec.structs.replace(file, yanked=mark)


def without_refused(listing: Listing, refusal: Callable[[File], str | None]) -> tuple[Listing, dict[str, str]]:
    """The listing without the files that a policy refuses, and why each of them was refused."""
    refused = {file.name: reason for file in listing.files if (reason := refusal(file)) is not None}
    if not refused:
        return listing, refused
    return msgspec.structs.replace(listing, files=tuple(f for f in listing.files if f.name not in refused)), refused
