"""Blobs on disk, and the one way in which one is removed.

Why nothing that is needed can go, whatever runs beside us:

- Only an *old* blob is ever removed: one that no writer has used within :data:`GRACE_SECONDS` or more. A writer uses a blob in
  :meth:`nora.store.protocol.Store.keep_blob`, before it stores what names it, be that a manifest or a pin; the one follows the other
  within moments, and never later than the grace.
- Blobs are listed first, and only then what names them is read. So whatever names an old blob was there to be read, unless its
  writer used the blob after that; and then the blob's time is no longer the one in the list.
- The last look at a blob's time and its removal are one step under the store's lock, and so is a writer's use of a blob that is
  there already. Either the writer comes first, and the time has changed; or we do, and the writer finds no blob and makes it anew.
- A removal is one ``unlink``. Being killed at any point leaves some blobs removed that nobody needs, and the others in place.
  Whoever has a blob open goes on reading it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from nora.store.durable import locked
from nora.store.protocol import blob_key

GRACE_SECONDS = 3600.0
"""Far longer than anything takes from using a blob to naming it."""
STEP = 100
"""So many looks at files make one step of work that others wait for: about a millisecond."""
_FOLDER = re.compile(r"[0-9a-f]{2}\Z")
_REST = re.compile(r"[0-9a-f]{62}\Z")


@dataclass(frozen=True, slots=True)
class Blob:
    """A blob as it was seen. ``changed_ns`` is when a writer last used it."""

    sha256: str
    size: int
    changed_ns: int


@dataclass(slots=True)
class Tally:
    """How many, and how many bytes they have together."""

    count: int = 0
    bytes: int = 0

    def add(self, size: int) -> None:
        """One more."""
        self.count += 1
        self.bytes += size


def all_blobs(root: Path) -> Iterator[Blob]:
    """Every blob there is; what else lies there is passed over."""
    for sha256, entry in sharded(root / "blobs/sha256"):
        try:
            status = entry.stat(follow_symlinks=False)
        except FileNotFoundError:
            continue
        yield Blob(sha256, status.st_size, status.st_mtime_ns)


def look(root: Path, sha256: str) -> Blob | None:
    """A blob as it is now, if it is there."""
    try:
        status = os.stat(root / blob_key(sha256))
    except FileNotFoundError:
        return None
    return Blob(sha256, status.st_size, status.st_mtime_ns)


def remove(root: Path, blob: Blob) -> bool:
    """Remove a blob; ``False`` if it is gone already, or a writer has used it since it was seen."""
    path = root / blob_key(blob.sha256)
    try:
        with locked(root):
            if os.stat(path).st_mtime_ns != blob.changed_ns:
                return False
            path.unlink()
    except FileNotFoundError:
        return False
    return True


def is_old(changed_ns: int, now: float, grace_seconds: float) -> bool:
    """Whether a time is further back than the grace. One in the future is not: a clock was set back, and nothing is known."""
    return changed_ns < (now - grace_seconds) * 1e9


def sharded(folder: Path) -> Iterator[tuple[str, os.DirEntry[str]]]:
    """The files below a folder that has one for each first two digits of a digest, by the whole digest."""
    for shard in entries(folder):
        if _FOLDER.match(shard.name):
            for entry in entries(shard):
                if _REST.match(entry.name) and entry.is_file(follow_symlinks=False):
                    yield shard.name + entry.name, entry


def entries(folder: str | Path | os.DirEntry[str]) -> Iterator[os.DirEntry[str]]:
    """What is in a folder, one after another, so that it may be large; nothing if it is none."""
    try:
        with os.scandir(folder) as found:
            yield from found
    except (FileNotFoundError, NotADirectoryError):
        return
