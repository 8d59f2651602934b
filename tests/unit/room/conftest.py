"""A storage as servers leave it, written file by file."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import msgspec
import pytest

from nora.api import Event, File, Sidecar
from nora.clock import timestamp
from nora.index.manifest import Manifest, Removed
from nora.store.directory import DirectoryStore
from nora.store.protocol import blob_key, segment, used_key
from nora.upstream.pins import Pin
from nora.upstream.stored import Head, encode

NOW = 1_900_000_000.0
HOUR = 3600.0
DAY = 24 * HOUR


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


class Disk:
    """Writes what a store holds. Times are in seconds before :data:`NOW`."""

    def __init__(self, root: Path) -> None:
        DirectoryStore.open(root)
        self.root = root

    def write(self, key: str, data: bytes, age: float) -> None:
        path = self.root / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        os.utime(path, (NOW - age, NOW - age))

    def blob(self, data: bytes, age: float = DAY) -> str:
        """Returns its sha256."""
        self.write(blob_key(digest(data)), data, age)
        return digest(data)

    def manifest(
        self,
        *contents: bytes,
        registry: str = "main",
        project: str = "x",
        serial: int = 1,
        age: float = DAY,
        sidecars: Iterable[bytes] = (),
        removed: Iterable[bytes] = (),
        area: str = "index",
    ) -> Path:
        """A project with files of these contents, each with these sidecars; ``removed`` are those of deleted files."""
        beside = {
            f".s{number}": Sidecar(digests={"sha256": digest(data)}, size=len(data)) for number, data in enumerate(sidecars)
        }
        files = [
            File(name=digest(data)[:8], size=len(data), digests={"sha256": digest(data)}, sidecars=beside) for data in contents
        ]
        event = Event(action="publish", registry=registry, project=project, at=timestamp(NOW - age))
        gone = {f"gone-{digest(data)[:8]}": Removed(sha256=digest(data)) for data in removed}
        manifest = Manifest(project=project, serial=serial, event=event, files=tuple(files), removed=gone)
        key = f"{area}/{registry}/{segment(project)}/{serial:012d}.json"
        self.write(key, manifest.encode(), age)
        return self.root / key

    def page(
        self, *listed: bytes | str, registry: str = "main", project: str = "y", position: int = 0, withdrawn: bool = False
    ) -> None:
        """A page that lists files of these contents, or these very texts."""
        body = " ".join(digest(each) if isinstance(each, bytes) else each for each in listed).encode()
        head = Head(
            upstream="https://up.example/",
            url=f"https://up.example/{project}/",
            content_type="text/plain",
            digest=digest(body),
            validated_at=NOW,
            withdrawn=withdrawn,
        )
        self.write(f"cache/{registry}/{position}/pages/{segment(project)}", encode(head, body), 0)

    def pin(self, data: bytes, *, registry: str = "main", project: str = "y", name: str = "f", number: int = 1) -> None:
        pin = Pin(name=name, sha256=digest(data), size=len(data))
        hashed = hashlib.sha256(name.encode()).hexdigest()[:40]
        self.write(f"cache/{registry}/0/pins/{segment(project)}/{hashed}.{number}.json", msgspec.json.encode(pin), 0)

    def note(self, data: bytes, age: float, registry: str = "main") -> None:
        """The registry used a blob of this content so long ago."""
        self.write(used_key(registry, digest(data)), b"", age)

    def cached(self, data: bytes, age: float, registry: str = "main") -> None:
        """A blob that a registry has fetched and last used so long ago; no page lists it."""
        self.blob(data, age)
        self.note(data, age, registry)

    def holds(self, *contents: bytes) -> list[bool]:
        return [(self.root / blob_key(digest(data))).is_file() for data in contents]

    def blobs(self) -> set[str]:
        return {path.parent.name + path.name for path in (self.root / "blobs").glob("*/*/*")}

    def notes(self, registry: str = "main") -> set[str]:
        return {path.parent.name + path.name for path in (self.root / "used" / registry).glob("*/*")}

    def everything(self) -> dict[str, tuple[bytes, int]]:
        """All files, with their times."""
        return {
            str(path.relative_to(self.root)): (path.read_bytes(), path.stat().st_mtime_ns)
            for path in self.root.rglob("*")
            if path.is_file()
        }


@pytest.fixture
def disk(tmp_path) -> Disk:
    return Disk(tmp_path / "store")


@pytest.fixture
def all_of() -> Callable[[Iterator[None]], int]:
    """Does all the steps; returns how many they were."""
    return lambda steps: sum(1 for _ in steps)
