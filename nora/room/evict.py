"""What a registry has fetched from upstreams, kept within a limit: what it has not used for longest goes first.

Each use of a proxied file is noted in a file of its own, ``used/<registry>/ab/cdef...``, whose time is that of the last use. The
notes are all that has to be looked at to know what a cache holds and what of it to remove. They may be incomplete, which makes a
cache seem smaller than it is; ``nora gc`` completes them. They are never believed for more than that: a blob goes only if no manifest
names it, and that is read from the manifests each time.
"""

from __future__ import annotations

import errno
import fcntl
import heapq
import os
from collections.abc import Callable, Iterator, Set
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from nora.room.blobs import STEP, Blob, Tally, entries, is_old, look, remove, sharded
from nora.room.named import Parsers, hosted, pages, pinned
from nora.store.protocol import segment, used_key

FILL = 0.9
"""Part of the limit that an eviction leaves, so that it need not come again with the next file."""
AT_ONCE = 10_000
"""Files that one round looks for, which bounds its memory."""
READING_STEP = 25
"""So many manifests make one step: reading costs more than looking."""
LARGE_BYTES = 1024 * 1024
GRACE_SECONDS = 600.0
"""See :mod:`nora.room.blobs`. Shorter than there, since it is also how far a cache can grow beyond its limit."""


@dataclass(frozen=True, slots=True)
class Limit:
    """How many bytes a registry may hold of what it has fetched; ``keep_withdrawn`` as in its configuration."""

    registry: str
    max_bytes: int
    keep_withdrawn: bool = False


@dataclass(slots=True)
class Evicted:
    """What an eviction did.

    Attributes:
        held: What the registry's cache holds, as it was counted last.
        files: What was removed from it.
        freed: What of that was removed from the disk, because no other registry has used it.
    """

    held: Tally = field(default_factory=Tally)
    files: Tally = field(default_factory=Tally)
    freed: Tally = field(default_factory=Tally)


@dataclass(frozen=True, slots=True)
class _Held:
    blob: Blob
    used_ns: int


@contextmanager
def sole_evictor(root: Path) -> Iterator[bool]:
    """Whether no other process evicts, and none begins while this lasts."""
    try:
        (root / "used").mkdir(exist_ok=True)
        descriptor = os.open(root / "used/.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        # When room is needed most, it must not be needed. Two at once would choose the same files, and each go once.
        yield True
        return
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True
    finally:
        os.close(descriptor)


def evicting(
    root: Path,
    limit: Limit,
    now: float,
    result: Evicted,
    *,
    dry_run: bool = False,
    gone: Set[str] = frozenset(),
    parsers: Parsers | None = None,
    grace_seconds: float = GRACE_SECONDS,
) -> Iterator[None]:
    """Bring one registry's cache within its limit, in steps of about a millisecond.

    ``gone``: blobs that count as removed already.

    Raises:
        Unreadable: it cannot be told which blobs are hosted.
    """
    without, spared = set(gone), set[str]()
    while True:
        result.held, oldest = Tally(), list[tuple[int, str, _Held]]()
        for held in _all_held(root, limit.registry, now, dry_run=dry_run):
            if held is None:
                yield
            elif held.blob.sha256 not in without:
                result.held.add(held.blob.size)
                if held.blob.sha256 not in spared:
                    # The heap's first is the one that was used last of those that are gathered.
                    push = heapq.heappush if len(oldest) < AT_ONCE else heapq.heappushpop
                    push(oldest, (-held.used_ns, held.blob.sha256, held))
        if result.held.bytes <= limit.max_bytes:
            return
        wanted = result.held.bytes - int(limit.max_bytes * FILL)
        chosen = _choice(oldest, wanted, lambda held: is_old(held.blob.changed_ns, now, grace_seconds))
        progress = len(without) + len(spared)
        if limit.keep_withdrawn:
            yield from _spare_withdrawn(root, limit.registry, parsers or {}, chosen, spared)
        yield from _spare_hosted(root, limit.registry, chosen, result.held, without, dry_run=dry_run)
        for number, held in enumerate(chosen.values(), start=1):
            _evict(root, limit.registry, held, result, without, dry_run=dry_run)
            if number % STEP == 0 or held.blob.size > LARGE_BYTES:
                yield
        if len(without) + len(spared) == progress or result.held.bytes <= limit.max_bytes:
            return


def unnote(root: Path, registry: str, sha256: str) -> None:
    """Forget that a registry uses a blob."""
    (root / used_key(registry, sha256)).unlink(missing_ok=True)


def noting_registries(root: Path) -> list[str]:
    """The registries, by the names of their folders, that have noted anything."""
    return sorted(entry.name for entry in entries(root / "used") if entry.is_dir(follow_symlinks=False))


def _all_held(root: Path, registry: str, now: float, *, dry_run: bool) -> Iterator[_Held | None]:
    """All that is noted, with a ``None`` after each step."""
    for number, (sha256, entry) in enumerate(sharded(root / "used" / segment(registry)), start=1):
        if number % STEP == 0:
            yield None
        try:
            used_ns = entry.stat(follow_symlinks=False).st_mtime_ns
        except FileNotFoundError:
            continue
        blob = look(root, sha256)
        if blob is not None:
            yield _Held(blob, used_ns)
        elif not dry_run and is_old(used_ns, now, GRACE_SECONDS):
            # A young one may be of a blob that is being fetched again.
            unnote(root, registry, sha256)


def _choice(oldest: list[tuple[int, str, _Held]], wanted: int, may_go: Callable[[_Held], bool]) -> dict[str, _Held]:
    """Of what was gathered the oldest ones that have the wanted bytes together.

    One that may not go yet has its turn later, and nothing that was used after it goes in its place.
    """
    chosen: dict[str, _Held] = {}
    for _, sha256, held in sorted(oldest, reverse=True):
        if wanted <= 0:
            break
        if may_go(held):
            chosen[sha256] = held
        wanted -= held.blob.size
    return chosen


def _spare_withdrawn(root: Path, registry: str, parsers: Parsers, chosen: dict[str, _Held], spared: set[str]) -> Iterator[None]:
    """Files of a project that its upstream withdrew can be fetched nowhere any more."""
    for page in pages(root, segment(registry)):
        if page.withdrawn:
            digests = page.digests(parsers) | pinned(page.folder / "pins" / page.project)
            for sha256 in digests & chosen.keys():
                del chosen[sha256]
                spared.add(sha256)
        yield


def _spare_hosted(
    root: Path, registry: str, chosen: dict[str, _Held], held: Tally, without: set[str], *, dry_run: bool
) -> Iterator[None]:
    """What a manifest names is no cache's: it stays, and it does not count any more."""
    if not chosen:
        return
    for number, named in enumerate(hosted(root), start=1):
        for sha256 in named.needed & chosen.keys():
            held.count -= 1
            held.bytes -= chosen.pop(sha256).blob.size
            without.add(sha256)
            if not dry_run:
                unnote(root, registry, sha256)
        if number % READING_STEP == 0:
            yield


def _evict(root: Path, registry: str, held: _Held, result: Evicted, without: set[str], *, dry_run: bool) -> None:
    blob = held.blob
    note = root / used_key(registry, blob.sha256)
    try:
        if note.stat().st_mtime_ns != held.used_ns:
            return  # used while we looked at manifests
    except FileNotFoundError:
        return
    others = [name for name in noting_registries(root) if name != segment(registry)]
    shared = any((root / "used" / name / blob.sha256[:2] / blob.sha256[2:]).exists() for name in others)
    # The blob before the note: a note without its blob is found and removed, a blob without a note is not.
    if not shared and not dry_run and not remove(root, blob):
        return
    if not dry_run:
        note.unlink(missing_ok=True)
    without.add(blob.sha256)
    result.files.add(blob.size)
    if not shared:
        result.freed.add(blob.size)
    result.held.count -= 1
    result.held.bytes -= blob.size
