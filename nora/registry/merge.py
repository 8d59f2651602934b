"""Listings put together. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import msgspec

from nora.api import File, Listing
from nora.index.manifest import Manifest, Removed


@dataclass(frozen=True, slots=True)
class Overview:
    """A project as those see it who look after it.

    Attributes:
        listing: What is offered.
        versions: Its files, those of one version together.
        yanked_here: Names of the files that were yanked here; others are yanked because their upstream says so.
    """

    listing: Listing
    versions: tuple[tuple[File, ...], ...]
    yanked_here: frozenset[str]


def hosted_listing(manifest: Manifest) -> Listing:
    """What a manifest offers."""
    return Listing(
        project=manifest.project,
        files=manifest.files,
        status=manifest.status,
        status_reason=manifest.status_reason,
        extra=manifest.extra,
        hosted=True,
        serial=manifest.since + manifest.serial,
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
    """The listing with what was yanked here, in addition to what its upstream yanked.

    Of several reasons the one nearest to the file is shown: that of the file, of its version, of its upstream.
    """
    if not (marks.yanked_versions or marks.yanked_files):
        return listing
    of_version = {version: marks.yanked_versions.get(key, False) for version, key in _keys(listing, version_key).items()}
    files = (_marked(file, marks.yanked_files.get(file.name, False), of_version[file.version]) for file in listing.files)
    return msgspec.structs.replace(listing, files=tuple(files))


def _keys(listing: Listing, version_key: Callable[[str], str]) -> dict[str, str]:
    """The keys of all versions there are: many files share one, and a key takes longer to make than to look up."""
    return {version: version_key(version) if version else "" for version in {file.version for file in listing.files}}


def _marked(file: File, *marks: bool | str) -> File:
    if not any(marks):
        return file
    reason = next((mark for mark in (*marks, file.yanked) if isinstance(mark, str) and mark), True)
    return msgspec.structs.replace(file, yanked=reason)


def overview(listing: Listing, marks: Manifest | None, version_key: Callable[[str], str]) -> Overview:
    """What a project offers, by version, and what of it was yanked here."""
    keys = _keys(listing, version_key)
    versions: dict[str, list[File]] = {}
    for file in listing.files:
        versions.setdefault(keys[file.version], []).append(file)
    yanked = frozenset(
        file.name
        for file in listing.files
        if marks is not None and (file.name in marks.yanked_files or keys[file.version] in marks.yanked_versions)
    )
    return Overview(listing, tuple(map(tuple, versions.values())), yanked)


def without_refused(listing: Listing, refusal: Callable[[File], str | None]) -> tuple[Listing, dict[str, str]]:
    """The listing without the files that a policy refuses, and why each of them was refused."""
    refused = {file.name: reason for file in listing.files if (reason := refusal(file)) is not None}
    if not refused:
        return listing, refused
    return msgspec.structs.replace(listing, files=tuple(f for f in listing.files if f.name not in refused)), refused
