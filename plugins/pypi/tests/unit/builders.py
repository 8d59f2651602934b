"""Distribution files, forms and a spool for the tests of uploads."""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import tarfile
import zipfile
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from pathlib import Path

from nora.api import Spool

BOUNDARY = "xXx-boundary-xXx"
CONTENT_TYPE = f"multipart/form-data; boundary={BOUNDARY}"


class FakeSpool(Spool):
    """A spool on a plain file that is strict about the order of calls."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = path.open("wb")
        self.wanted: list[str] = []
        self.largest_write = 0
        self.finished = False

    @classmethod
    def holding(cls, path: Path, content: bytes) -> FakeSpool:
        spool = cls(path)
        spool._file.write(content)
        spool._file.close()
        spool.finished = True
        return spool

    @property
    def size(self) -> int:
        return self._path.stat().st_size if self.finished else self._file.tell()

    @property
    def path(self) -> str:
        return str(self._path)

    @property
    def content(self) -> bytes:
        return self._path.read_bytes()

    def want(self, *algorithms: str) -> None:
        assert not self.size, "too late"
        self.wanted += algorithms

    async def write(self, data: bytes) -> None:
        assert type(data) is bytes
        self.largest_write = max(self.largest_write, len(data))
        self._file.write(data)

    async def finish(self) -> None:
        self._file.close()
        self.finished = True

    async def digest(self, algorithm: str) -> str:
        assert self.finished
        return digest(algorithm, self.content)


def digest(algorithm: str, content: bytes) -> str:
    if algorithm == "blake2b_256":
        return hashlib.blake2b(content, digest_size=32).hexdigest()
    return hashlib.new(algorithm, content).hexdigest()


async def pieces(body: bytes, cuts: Iterable[int] = ()) -> AsyncIterator[bytes]:
    """The body, cut at these positions."""
    start = 0
    for cut in (*sorted(min(cut, len(body)) for cut in cuts), len(body)):
        yield body[start:cut]
        start = cut


def part(name: str, value: bytes | str, filename: str | None = None, extra: str = "") -> bytes:
    disposition = f'form-data; name="{name}"' + (f'; filename="{filename}"' if filename is not None else "")
    data = value.encode() if isinstance(value, str) else value
    return f"--{BOUNDARY}\r\nContent-Disposition: {disposition}\r\n{extra}\r\n".encode() + data + b"\r\n"


def body_of(*parts: bytes) -> bytes:
    return b"".join(parts) + f"--{BOUNDARY}--\r\n".encode()


def core_metadata(
    name: str = "Foo.Bar", version: str = "1.0", *, metadata_version: str = "2.1", more: Sequence[str] = ()
) -> bytes:
    lines = [f"Metadata-Version: {metadata_version}", f"Name: {name}", f"Version: {version}", *more]
    return "\n".join([*lines, "", "The description: not a field.", ""]).encode()


def record_line(path: str, content: bytes) -> str:
    value = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
    return f"{path},sha256={value},{len(content)}\n"


def zip_of(members: Mapping[str, bytes] | Sequence[tuple[str, bytes]], compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        for name, content in members.items() if isinstance(members, Mapping) else members:
            archive.writestr(name, content)
    return buffer.getvalue()


def wheel_members(metadata: bytes | None = None, dist_info: str = "foo_bar-1.0.dist-info") -> dict[str, bytes]:
    document = core_metadata() if metadata is None else metadata
    members = {
        "foo_bar/__init__.py": b"",
        f"{dist_info}/METADATA": document,
        f"{dist_info}/WHEEL": b"Wheel-Version: 1.0\n",
    }
    lines = "".join(record_line(name, content) for name, content in members.items())
    return {**members, f"{dist_info}/RECORD": f"{lines}{dist_info}/RECORD,,\n".encode()}


def wheel(
    metadata: bytes | None = None, dist_info: str = "foo_bar-1.0.dist-info", compression: int = zipfile.ZIP_DEFLATED
) -> bytes:
    return zip_of(wheel_members(metadata, dist_info), compression)


def tar_of(members: Sequence[tuple[tarfile.TarInfo | str, bytes]], tar_format: int = tarfile.PAX_FORMAT) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tar_format) as archive:
        for member, content in members:
            info = tarfile.TarInfo(member) if isinstance(member, str) else member
            if info.isreg():
                info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def tar_gz_of(members: Sequence[tuple[tarfile.TarInfo | str, bytes]], tar_format: int = tarfile.PAX_FORMAT) -> bytes:
    return gzip.compress(tar_of(members, tar_format), mtime=0)


def sdist(metadata: bytes | None = None, top: str = "foo_bar-1.0") -> bytes:
    document = core_metadata() if metadata is None else metadata
    return tar_gz_of([(f"{top}/pyproject.toml", b"[project]\n"), (f"{top}/PKG-INFO", document)])
