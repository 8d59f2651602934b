"""Garbage: blobs that nothing names any more. See :mod:`nora.room.blobs` for why nothing that is needed can go."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from nora.api import StorageFull
from nora.room.blobs import GRACE_SECONDS, STEP, Blob, Tally, all_blobs, is_old, look, remove, sharded
from nora.room.evict import Limit, noting_registries
from nora.room.named import Parsers, hosted, pages, pins
from nora.store.protocol import blob_key, segment, used_key
from nora.store.spool import full_disk_named

_HOSTED, _CACHED, _DELETED = 1, 2, 4
_FIRST_REGISTRY = 8


@dataclass(slots=True)
class Collected:
    """What a collection found and did.

    Attributes:
        deleted: Removed, and once the contents of files that were deleted here.
        unnamed: Removed, and named by nothing.
        hosted, cached: Kept, since a manifest, or a cached page or pin, names them.
        young: Kept, since they were written or used a moment ago.
        busy: Kept, since somebody began to use them while we looked.
        gone: The digests of all that was removed, or would be.
    """

    deleted: Tally = field(default_factory=Tally)
    unnamed: Tally = field(default_factory=Tally)
    hosted: Tally = field(default_factory=Tally)
    cached: Tally = field(default_factory=Tally)
    young: Tally = field(default_factory=Tally)
    busy: Tally = field(default_factory=Tally)
    gone: set[str] = field(default_factory=set)


@dataclass(slots=True)
class _Seen:
    blob: Blob
    marks: int = 0


def collecting(
    root: Path,
    now: float,
    result: Collected,
    *,
    limits: Sequence[Limit] = (),
    parsers: Parsers | None = None,
    keep_deleted_seconds: float = 0,
    dry_run: bool = False,
    grace_seconds: float = GRACE_SECONDS,
) -> Iterator[None]:
    """Remove the blobs that nothing names, in steps; safe beside running servers, and when it is broken off.

    Notes of use, see :mod:`nora.room.evict`, go with their blobs; those that are missing are made for registries with a limit.
    Takes about 500 bytes of memory for each blob.

    Raises:
        Unreadable: a manifest cannot be read. Nothing was removed.
    """
    seen: dict[str, _Seen] = {}
    for number, blob in enumerate(all_blobs(root), start=1):
        if is_old(blob.changed_ns, now, grace_seconds):
            seen[blob.sha256] = _Seen(blob)
        else:
            result.young.add(blob.size)
        if number % STEP == 0:
            yield
    since = now - keep_deleted_seconds if keep_deleted_seconds > 0 else None
    yield from _mark_hosted(root, since, seen)
    bits = {segment(limit.registry): _FIRST_REGISTRY << at for at, limit in enumerate(limits)}
    yield from _mark_cached(root, parsers or {}, bits, seen)
    yield from _remove_unmarked(root, seen, result, dry_run=dry_run)
    if not dry_run:
        yield from _drop_notes(root, now)
        with suppress(StorageFull):  # they are made the next time
            yield from _make_notes(root, seen, {limit.registry: bits[segment(limit.registry)] for limit in limits})


def _mark_hosted(root: Path, since: float | None, seen: dict[str, _Seen]) -> Iterator[None]:
    for number, named in enumerate(hosted(root, since), start=1):
        for digests, mark in ((named.needed, _HOSTED), (named.deleted, _DELETED)):
            for sha256 in digests & seen.keys():
                seen[sha256].marks |= mark
        if number % STEP == 0:
            yield


def _mark_cached(root: Path, parsers: Parsers, bits: dict[str, int], seen: dict[str, _Seen]) -> Iterator[None]:
    for page in pages(root):
        for sha256 in page.digests(parsers) & seen.keys():
            seen[sha256].marks |= _CACHED | bits.get(page.registry, 0)
        yield
    for registry, digests in pins(root):
        for sha256 in digests & seen.keys():
            seen[sha256].marks |= _CACHED | bits.get(registry, 0)
        yield


def _remove_unmarked(root: Path, seen: dict[str, _Seen], result: Collected, *, dry_run: bool) -> Iterator[None]:
    for number, each in enumerate(seen.values(), start=1):
        blob = each.blob
        if each.marks & (_HOSTED | _CACHED):
            (result.hosted if each.marks & _HOSTED else result.cached).add(blob.size)
        elif dry_run or remove(root, blob):
            (result.deleted if each.marks & _DELETED else result.unnamed).add(blob.size)
            result.gone.add(blob.sha256)
        elif look(root, blob.sha256) is not None:
            result.busy.add(blob.size)
        if number % STEP == 0:
            yield


def _drop_notes(root: Path, now: float) -> Iterator[None]:
    for registry in noting_registries(root):
        for number, (sha256, entry) in enumerate(sharded(root / "used" / registry), start=1):
            if look(root, sha256) is None:
                try:
                    # A young one may be of a blob that is being fetched again.
                    if is_old(entry.stat(follow_symlinks=False).st_mtime_ns, now, GRACE_SECONDS):
                        os.unlink(entry.path)
                except FileNotFoundError:
                    continue
            if number % STEP == 0:
                yield


def _make_notes(root: Path, seen: dict[str, _Seen], bits: dict[str, int]) -> Iterator[None]:
    """Note what was fetched before there were notes, or when they could not be written, as used when it was fetched."""
    noting = noting_registries(root)
    for number, (sha256, each) in enumerate(seen.items(), start=1):
        if number % STEP == 0:
            yield
        marks, rest = each.marks, f"{sha256[:2]}/{sha256[2:]}"
        if marks & _HOSTED or marks < _FIRST_REGISTRY or any((root / "used" / name / rest).exists() for name in noting):
            continue
        for registry, bit in bits.items():
            if marks & bit and (root / blob_key(sha256)).exists():
                note = root / used_key(registry, sha256)
                with full_disk_named():
                    note.parent.mkdir(parents=True, exist_ok=True)
                    note.touch(0o640)
                    os.utime(note, ns=(each.blob.changed_ns, each.blob.changed_ns))
