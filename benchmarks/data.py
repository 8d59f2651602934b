"""What is served: projects and files on disk, and the layouts that the servers want them in. Files are hard links to one copy."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

import msgspec

from nora.api import Event, File, Sidecar
from nora.index.manifest import Manifest
from nora.store.directory import DirectoryStore
from nora.store.protocol import blob_key, segment
from nora.testing.packages import make_metadata, make_wheel, wheel_name
from nora.testing.replies import Synthetic

PIECE_BYTES = 1 << 20
PUBLISHED = "2026-01-02T03:04:05.678901Z"
REQUIRES_PYTHON = ">=3.9"
# As large projects have them: a wheel for each Python and platform.
TAGS = tuple(
    f"cp3{minor}-cp3{minor}-{platform}" for minor in range(9, 14) for platform in ("manylinux_2_17_x86_64", "win_amd64")
)


@dataclass(frozen=True)
class HeldFile:
    """A file: ``path`` is where the one copy is, if there is any: a page needs only names and digests."""

    name: str
    version: str
    size: int
    sha256: str
    path: Path | None
    metadata: bytes


@dataclass(frozen=True)
class Project:
    """A project and its files."""

    name: str
    files: Sequence[HeldFile]


@dataclass
class Maker:
    """Makes files below a folder."""

    folder: Path
    seeds: Iterator[int] = field(default_factory=lambda: iter(range(1, 1 << 30)))

    def small(self, name: str, count: int) -> Project:
        """A project of so many tiny files; only their names and digests matter."""
        files = []
        for file in self.listed(name, count).files:
            path = self._path(name, file.name)
            path.write_bytes(_content(file.name))
            files.append(replace(file, path=path))
        return Project(name, files)

    def listed(self, name: str, count: int) -> Project:
        """The same without the files themselves."""
        return Project(name, [_listed(name, f"1.{n // len(TAGS)}", TAGS[n % len(TAGS)]) for n in range(count)])

    def padded(self, name: str, size: int) -> Project:
        """A project with one file of so many bytes that nobody else has."""
        path = self._path(name, wheel_name(name, "1.0"))
        content, digest = Synthetic(size, seed=next(self.seeds)), hashlib.sha256()
        with path.open("wb") as file:
            for offset in range(0, size, PIECE_BYTES):
                piece = content.read(offset, PIECE_BYTES)
                digest.update(piece)
                file.write(piece)
        metadata = make_metadata(name, "1.0")
        return Project(name, [HeldFile(path.name, "1.0", size, digest.hexdigest(), path, metadata)])

    def installable(self, name: str, requires: Iterable[str] = ()) -> Project:
        """A project with one wheel that installs."""
        requires = list(requires)
        filename, content = make_wheel(name, "1.0", requires=requires, size=10_000)
        path = self._path(name, filename)
        path.write_bytes(content)
        metadata = make_metadata(name, "1.0", requires=requires)
        return Project(name, [HeldFile(filename, "1.0", len(content), hashlib.sha256(content).hexdigest(), path, metadata)])

    def _path(self, name: str, filename: str) -> Path:
        folder = self.folder / name
        folder.mkdir(parents=True, exist_ok=True)
        return folder / filename


def _content(filename: str) -> bytes:
    return f"{filename}\n".encode()


def _listed(name: str, version: str, tag: str) -> HeldFile:
    filename = wheel_name(name, version, tag)
    content, metadata = _content(filename), make_metadata(name, version, requires_python=REQUIRES_PYTHON)
    return HeldFile(filename, version, len(content), hashlib.sha256(content).hexdigest(), None, metadata)


def link(file: HeldFile, target: Path) -> None:
    """Put a file somewhere else, too."""
    if file.path is None:
        raise ValueError(f"{file.name} is only listed")
    os.link(file.path, target)


class Storage:
    """Nora's storage, written without Nora: an upload of each file would take longer than everything that is measured."""

    def __init__(self, root: Path, registry: str = "pypi") -> None:
        self.root, self._registry = root, registry
        asyncio.run(DirectoryStore.open(root).aclose())

    def hold(self, project: Project) -> None:
        """Hold a project as if it had been uploaded, as far as its files are there."""
        files = tuple(self._published(file) for file in project.files)
        event = Event(action="publish", registry=self._registry, project=project.name, at=PUBLISHED)
        manifest = Manifest(project=project.name, serial=1, event=event, since=1_767_323_045, files=files)
        folder = self.root / "index" / self._registry / segment(project.name)
        folder.mkdir(parents=True)
        (folder / f"{1:012d}.json").write_bytes(manifest.encode())

    def _published(self, file: HeldFile) -> File:
        blob = self._blob(file.sha256)
        if file.path is not None and not blob.exists():
            os.link(file.path, blob)
        digest = hashlib.sha256(file.metadata).hexdigest()
        sidecar = self._blob(digest)
        if not sidecar.exists():
            sidecar.write_bytes(file.metadata)
        return File(
            name=file.name,
            version=file.version,
            size=file.size,
            digests={"sha256": file.sha256},
            published=PUBLISHED,
            sidecars={".metadata": Sidecar(digests={"sha256": digest}, size=len(file.metadata))},
            extra={"requires-python": REQUIRES_PYTHON},
        )

    def _blob(self, sha256: str) -> Path:
        path = self.root / blob_key(sha256)
        path.parent.mkdir(parents=True, exist_ok=True)
        return path


class StaticTree:
    """A folder for a server of plain files, whose paths are those of the addresses."""

    def __init__(self, root: Path) -> None:
        self.root = root
        root.mkdir(parents=True, exist_ok=True)

    def save(self, path: str, content: bytes) -> None:
        """Serve these bytes."""
        (self.root / path).parent.mkdir(parents=True, exist_ok=True)
        (self.root / path).write_bytes(content)

    def link(self, path: str, file: HeldFile) -> None:
        """Serve the one copy of a file."""
        (self.root / path).parent.mkdir(parents=True, exist_ok=True)
        if not (self.root / path).exists():
            link(file, self.root / path)


def add_to_upstream(tree: StaticTree, projects: Iterable[Project]) -> None:
    """Offer projects as an index does that hides nothing, in both forms."""
    for project in projects:
        for file in project.files:
            if file.path is None:
                continue
            tree.link(f"files/{project.name}/{file.name}", file)
            tree.save(f"files/{project.name}/{file.name}.metadata", file.metadata)
        tree.save(f"simple/{project.name}/index.json", _json_page(project))
        tree.save(f"simple/{project.name}/index.html", _html_page(project))
    names = sorted(entry.name for entry in (tree.root / "simple").iterdir() if entry.is_dir())
    listed = {"meta": {"api-version": "1.1"}, "projects": [{"name": name} for name in names]}
    tree.save("simple/index.json", msgspec.json.encode(listed))
    anchors = "".join(f'<a href="{name}/">{name}</a><br>\n' for name in names)
    tree.save("simple/index.html", f"<!DOCTYPE html>\n<html><body>\n{anchors}</body></html>\n".encode())


def _json_page(project: Project) -> bytes:
    page: dict[str, Any] = {"meta": {"api-version": "1.1"}, "name": project.name}
    page["versions"] = [file.version for file in project.files]
    page["files"] = [
        {
            "filename": file.name,
            "url": _link(project, file),
            "hashes": {"sha256": file.sha256},
            "requires-python": REQUIRES_PYTHON,
            "size": file.size,
            "upload-time": PUBLISHED,
            "yanked": False,
            "core-metadata": {"sha256": hashlib.sha256(file.metadata).hexdigest()},
        }
        for file in project.files
    ]
    return msgspec.json.encode(page)


def _html_page(project: Project) -> bytes:
    anchors = "".join(
        f'<a href="{_link(project, file)}#sha256={file.sha256}" data-requires-python="&gt;=3.9">{file.name}</a><br>\n'
        for file in project.files
    )
    head = '<!DOCTYPE html>\n<html><head><meta name="pypi:repository-version" content="1.1"></head><body>\n'
    return f"{head}{anchors}</body></html>\n".encode()


def _link(project: Project, file: HeldFile) -> str:
    return f"../../files/{quote(project.name)}/{quote(file.name)}"
