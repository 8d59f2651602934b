"""What names blobs: manifests, cached pages, and pins."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from urllib.parse import unquote

import msgspec

from nora.api import Document, Listing, NoraError
from nora.index.manifest import Manifest, decode
from nora.room.blobs import entries
from nora.store.protocol import SHA256_PATTERN
from nora.upstream.pins import Pin
from nora.upstream.stored import decode as decode_page

AREAS = ("index", "overlay")
Parsers = Mapping[str, Callable[[str, Document], Listing]]
"""How the listings of a registry are read, by its name, for those whose pages do not show digests in hex."""

_MANIFEST = re.compile(r"\d{12}\.json\Z", re.ASCII)
_PIN = re.compile(r"([0-9a-f]{40})\.(\d{1,9})\.json\Z", re.ASCII)
_HEX = re.compile(rb"[0-9a-fA-F]{64,}")
_LONGEST_RUN = 80
"""Hex digits in a row that may hold a sha256 after others, such as those of an escape; what is longer is another digest."""


class Unreadable(NoraError):
    """A manifest cannot be read, so nobody knows what it names; nothing may be removed then."""


@dataclass(frozen=True, slots=True)
class Named:
    """What one project or file names."""

    needed: frozenset[str]
    deleted: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class CachedPage:
    """A stored answer of an upstream: a registry's page of a project. ``project`` is as in the key, ``folder`` the upstream's."""

    registry: str
    project: str
    folder: Path
    stored: bytes

    @property
    def withdrawn(self) -> bool:
        """Whether the upstream does not know the project any more, and it is kept all the same."""
        head = self.stored.partition(b"\n")[0]
        if b'"withdrawn"' not in head:
            return False
        page = decode_page(self.stored)
        return page is not None and page[0].withdrawn

    def digests(self, parsers: Parsers) -> frozenset[str]:
        """All that its files may have: everything that looks like a sha256, else what its format reads."""
        found = frozenset(hex_digests(self.stored.partition(b"\n")[2]))
        if found or self.registry not in parsers or (page := decode_page(self.stored)) is None:
            return found
        head, body = page
        try:
            listing = parsers[self.registry](
                unquote(self.project), Document(url=head.url, content_type=head.content_type, body=body)
            )
        except Exception:
            return found  # as for everybody else: it offers nothing
        return frozenset(_of_files(listing))


def hosted(root: Path, since: float | None = None) -> Iterator[Named]:
    """What each hosted project needs: the files of its newest manifest, and those deleted after ``since``, if it is given.

    Raises:
        Unreadable: a manifest is damaged or a newer Nora's.
    """
    for area in AREAS:
        for registry in entries(root / area):
            for project in entries(registry):
                if (named := _of_project(Path(project.path), since)) is not None:
                    yield named


def pages(root: Path, registry: str = "") -> Iterator[CachedPage]:
    """The stored pages of all registries, or of one."""
    for of_registry in entries(root / "cache"):
        if registry and of_registry.name != registry:
            continue
        for upstream in entries(of_registry):
            for page in entries(Path(upstream.path, "pages")):
                try:
                    stored = Path(page.path).read_bytes()
                except (FileNotFoundError, IsADirectoryError):
                    continue  # withdrawn while we looked
                yield CachedPage(of_registry.name, page.name, Path(upstream.path), stored)


def pinned(folder: Path) -> frozenset[str]:
    """What the newest pins of one project name; ``folder`` holds them."""
    newest: dict[str, tuple[int, str]] = {}
    for entry in entries(folder):
        if match := _PIN.match(entry.name):
            newest[match[1]] = max(newest.get(match[1], (0, "")), (int(match[2]), entry.path))
    found = set()
    for _, path in newest.values():
        try:
            found.add(msgspec.json.decode(Path(path).read_bytes(), type=Pin).sha256)
        except (FileNotFoundError, msgspec.MsgspecError):
            continue  # no server uses it either
    return frozenset(found - {""})


def pins(root: Path) -> Iterator[tuple[str, frozenset[str]]]:
    """What each project's pins name, with the registry that they are of."""
    for registry in entries(root / "cache"):
        for upstream in entries(registry):
            for project in entries(Path(upstream.path, "pins")):
                yield registry.name, pinned(Path(project.path))


def hex_digests(data: bytes) -> Iterator[str]:
    """Everything in a text that may be a sha256.

    >>> list(hex_digests(b"#sha256%3D" + b"aB" * 32))[-1] == "ab" * 32
    True
    """
    for match in _HEX.finditer(data):
        run = match[0].lower().decode("ascii")
        if len(run) <= _LONGEST_RUN:
            yield from (run[start : start + 64] for start in range(len(run) - 63))


def _of_project(folder: Path, since: float | None) -> Named | None:
    try:
        serials = [name for name in os.listdir(folder) if _MANIFEST.match(name)]
    except (FileNotFoundError, NotADirectoryError):
        return None
    if not serials:
        return None
    newest = _read(folder / max(serials))
    needed = set(_of_files(newest))
    deleted = {gone.sha256 for gone in newest.removed.values()}
    if deleted and since is not None:
        for earlier in _until(folder, newest, since):
            needed.update(_of_files(earlier))
    return Named(frozenset(needed), frozenset(deleted))


def _until(folder: Path, newest: Manifest, since: float) -> Iterator[Manifest]:
    """Manifests before the newest one that were the newest at some time after ``since``."""
    later = newest
    while later.serial > 1 and _seconds(later.event.at) >= since:
        later = _read(folder / f"{later.serial - 1:012d}.json")
        yield later


def _read(path: Path) -> Manifest:
    try:
        return decode(path.read_bytes())
    except (OSError, ValueError, msgspec.MsgspecError) as error:
        raise Unreadable(f"{path}: cannot be read, so nothing is removed: {error}; see what nora verify says") from error


def _of_files(listing: Manifest | Listing) -> Iterator[str]:
    for file in listing.files:
        for digests in (file.digests, *(sidecar.digests for sidecar in file.sidecars.values())):
            if SHA256_PATTERN.match(sha256 := digests.get("sha256", "")):
                yield sha256


def _seconds(at: str) -> float:
    """When something happened; if that cannot be read, it was just now."""
    try:
        return datetime.fromisoformat(at).timestamp()
    except ValueError:
        return float("inf")
