"""A full check of a storage directory: every byte is read and compared with what names it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from nora.api import File
from nora.index.manifest import Manifest, decode
from nora.store.protocol import SHA256_PATTERN, blob_key
from nora.upstream.stored import decode as decode_page

READ_BYTES = 1024 * 1024


@dataclass(slots=True)
class Report:
    """What was read, and one line for each thing that is wrong."""

    blobs: int = 0
    bytes: int = 0
    manifests: int = 0
    pages: int = 0
    problems: list[str] = field(default_factory=list)


def verify_storage(root: Path) -> Report:
    """Check the store at ``root``; safe beside a running server.

    Checked: that each blob's name is its digest; that each manifest can be read, of hosted projects and of decisions about those
    of upstreams, that a project's serials have no gap, and that the blobs of the newest one are there, in the right length; that
    cached pages are whole.
    """
    report = Report()
    # Manifests first: what they name was there before them, so a server at work cannot make a false alarm.
    for area in ("index", "overlay"):
        for folder in sorted((root / area).glob("*/*")):
            if folder.is_dir():
                _check_project(root, folder, report)
    # Pages and further documents; what is found out of files has folders of its own.
    for path in sorted(page for page in (root / "cache").glob("*/*/*/*") if page.is_file()):
        report.pages += 1
        if (data := _read(path)) is not None and decode_page(data) is None:
            report.problems.append(f"{path.relative_to(root)}: the cached document is damaged; remove it")
    for path in sorted((root / "blobs").glob("*/*/*")):
        _check_blob(root, path, report)
    return report


def _check_blob(root: Path, path: Path, report: Report) -> None:
    shown = path.relative_to(root)
    name = path.parent.name + path.name
    if path.parent.parent.name != "sha256" or not SHA256_PATTERN.match(name) or not path.is_file():
        report.problems.append(f"{shown}: is no blob; remove it")
        return
    known, size = hashlib.sha256(), 0
    try:
        with path.open("rb") as file:
            while piece := file.read(READ_BYTES):
                known.update(piece)
                size += len(piece)
    except OSError as error:
        report.problems.append(f"{shown}: cannot be read: {error.strerror}")
        return
    report.blobs += 1
    report.bytes += size
    if known.hexdigest() != name:
        report.problems.append(f"{shown}: its sha256 is {known.hexdigest()}; restore it from a backup, or remove it")


def _check_project(root: Path, folder: Path, report: Report) -> None:
    shown, newest = folder.relative_to(root), None
    for expected, path in enumerate(sorted(folder.iterdir()), start=1):
        if path.name != f"{expected:012d}.json":
            report.problems.append(f"{shown}: expected serial {expected}, found {path.name}")
            return
        report.manifests += 1
        try:
            newest = decode(path.read_bytes())
        except (OSError, ValueError, msgspec.MsgspecError) as error:
            report.problems.append(f"{path.relative_to(root)}: cannot be read: {error}")
            return
        if newest.serial != expected:
            report.problems.append(f"{path.relative_to(root)}: says that its serial is {newest.serial}")
    if newest is not None:
        report.problems += _missing(root, shown, newest)


def _missing(root: Path, shown: Path, manifest: Manifest) -> Iterator[str]:
    for file in manifest.files:
        sidecars = [File(name=file.name + suffix, digests=s.digests, size=s.size) for suffix, s in file.sidecars.items()]
        for needed in (file, *sidecars):
            sha256 = needed.digests.get("sha256", "")
            path = root / blob_key(sha256) if SHA256_PATTERN.match(sha256) else None
            if path is None or not path.is_file():
                yield f"{shown}: {needed.name}: its blob {sha256} is missing"
            elif path.stat().st_size != needed.size:
                yield f"{shown}: {needed.name}: its blob {sha256} has {path.stat().st_size} bytes instead of {needed.size}"


def _read(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None  # replaced or withdrawn while we looked
