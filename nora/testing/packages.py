"""Python packages for tests: wheels and sdists that real installers accept, made in memory or streamed to disk.

The same arguments give the same bytes, as long as zlib does. Spec: PEP 427 (wheels), PEP 643 and 517 (sdists), core metadata 2.1.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import re
import tarfile
import zipfile
from base64 import urlsafe_b64encode
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO

from nora.testing.replies import Synthetic

_DATE = (2020, 1, 1, 0, 0, 0)
_EPOCH = 1577836800
_PIECE_BYTES = 1 << 20
_MAX_PLAIN_ZIP_BYTES = 2**31 - 1

WHEEL_TAG = "py3-none-any"


def wheel_name(name: str, version: str, tag: str = WHEEL_TAG) -> str:
    """A wheel's file name.

    >>> wheel_name("My.Demo", "1.0")
    'my_demo-1.0-py3-none-any.whl'
    """
    return f"{_escaped(name)}-{version.replace('-', '_')}-{tag}.whl"


def make_wheel(
    name: str,
    version: str,
    *,
    requires: Iterable[str] = (),
    requires_python: str | None = None,
    size: int = 0,
    tag: str = WHEEL_TAG,
    extra_metadata: Sequence[tuple[str, str]] = (),
    modules: Mapping[str, str] | None = None,
) -> tuple[str, bytes]:
    """A pure wheel that installs: its file name and its bytes.

    Args:
        name: As the project writes it.
        version: In its normal form.
        requires: ``Requires-Dist`` values.
        requires_python: The ``Requires-Python`` value.
        size: So many incompressible bytes are packed in beside the module.
        tag: Compatibility tag.
        extra_metadata: Further METADATA fields.
        modules: Source by path within the wheel, instead of the one package that has ``__version__``.
    """
    buffer = io.BytesIO()
    metadata = make_metadata(name, version, requires=requires, requires_python=requires_python, extra=extra_metadata)
    _write_wheel(buffer, name, version, metadata, tag=tag, modules=modules, padding=Synthetic(size))
    return wheel_name(name, version, tag), buffer.getvalue()


def make_wheel_file(
    folder: Path,
    name: str,
    version: str,
    *,
    size_bytes: int,
    compressible: bool = False,
    requires: Iterable[str] = (),
    requires_python: str | None = None,
) -> Path:
    """A wheel of at least ``size_bytes``, written piece by piece to ``folder``; gigabytes need no memory.

    The bulk is stored, not deflated: bytes that do not compress, or zeros if ``compressible``.
    """
    path = folder / wheel_name(name, version)
    metadata = make_metadata(name, version, requires=requires, requires_python=requires_python)
    with path.open("wb") as file:
        padding: Synthetic | int = size_bytes if compressible else Synthetic(size_bytes)
        _write_wheel(file, name, version, metadata, tag=WHEEL_TAG, modules=None, padding=padding)
    return path


def make_sdist(
    name: str,
    version: str,
    *,
    requires: Iterable[str] = (),
    requires_python: str | None = None,
    size: int = 0,
    metadata_version: str = "2.1",
    dynamic: Iterable[str] = (),
) -> tuple[str, bytes]:
    """An sdist that builds without any network: its file name and its bytes.

    It brings its own build backend, which requires nothing and writes a wheel with the standard library. ``dynamic`` names the
    fields that building may change (PEP 643). Other arguments as in :func:`make_wheel`.
    """
    fields = [("Metadata-Version", metadata_version), *(("Dynamic", field) for field in dynamic)]
    metadata = make_metadata(name, version, requires=requires, requires_python=requires_python, extra=fields)
    root = f"{_escaped(name)}-{version}"
    wheel = make_wheel(name, version, requires=requires, requires_python=requires_python)
    files = {
        "PKG-INFO": metadata,
        "pyproject.toml": _PYPROJECT,
        "backend.py": _BACKEND.replace("@WHEEL@", wheel[0]).encode(),
        # The backend adds nothing to these: what is installed is the same as from the wheel.
        **{f"contents/{path}": content for path, content in _members(wheel[1])},
    }
    if size:
        files["padding.bin"] = Synthetic(size).read(0, size)
    buffer = io.BytesIO()
    with (
        gzip.GzipFile(fileobj=buffer, mode="wb", mtime=_EPOCH, filename="") as packed,
        tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as archive,
    ):
        for path, content in files.items():
            entry = tarfile.TarInfo(f"{root}/{path}")
            entry.size, entry.mtime, entry.mode = len(content), _EPOCH, 0o644
            archive.addfile(entry, io.BytesIO(content))
    return f"{root}.tar.gz", buffer.getvalue()


def make_metadata(
    name: str,
    version: str,
    *,
    requires: Iterable[str] = (),
    requires_python: str | None = None,
    extra: Sequence[tuple[str, str]] = (),
) -> bytes:
    """A METADATA or PKG-INFO document; ``extra`` are further fields.

    >>> make_metadata("demo", "1.0", requires=["other>=2"]).decode().splitlines()
    ['Metadata-Version: 2.1', 'Name: demo', 'Version: 1.0', 'Summary: made for a test', 'Requires-Dist: other>=2']
    """
    fields = [("Metadata-Version", "2.1"), ("Name", name), ("Version", version), ("Summary", "made for a test")]
    if requires_python is not None:
        fields.append(("Requires-Python", requires_python))
    fields += [("Requires-Dist", requirement) for requirement in requires]
    replaced = {key for key, _ in extra}
    fields = [(key, value) for key, value in fields if key not in replaced] + list(extra)
    return "".join(f"{key}: {value}\n" for key, value in fields).encode()


def _escaped(name: str) -> str:
    # PEP 427, "Escaping and Unicode", and PEP 625: normalized, with underscores.
    return re.sub(r"[-_.]+", "_", name).lower()


def _write_wheel(
    target: IO[bytes],
    name: str,
    version: str,
    metadata: bytes,
    *,
    tag: str,
    modules: Mapping[str, str] | None,
    padding: Synthetic | int,
) -> None:
    package, info = _escaped(name), f"{_escaped(name)}-{version.replace('-', '_')}.dist-info"
    wheel = f"Wheel-Version: 1.0\nGenerator: nora.testing\nRoot-Is-Purelib: true\nTag: {tag}\n".encode()
    sources = {f"{package}/__init__.py": f'__version__ = "{version}"\n'} if modules is None else modules
    members = [(path, source.encode()) for path, source in sources.items()]
    members += [(f"{info}/METADATA", metadata), (f"{info}/WHEEL", wheel)]
    record: list[str] = []
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        if padding and padding != Synthetic(0):
            record.append(_write_padding(archive, f"{package}/padding.bin", padding))
        for path, content in members:
            archive.writestr(_entry(path), content, zipfile.ZIP_DEFLATED)
            record.append(_record_line(path, hashlib.sha256(content).digest(), len(content)))
        # PEP 427: RECORD lists itself without a hash.
        record.append(f"{info}/RECORD,,\n")
        archive.writestr(_entry(f"{info}/RECORD"), "".join(record), zipfile.ZIP_DEFLATED)


def _write_padding(archive: zipfile.ZipFile, path: str, padding: Synthetic | int) -> str:
    digest, length = hashlib.sha256(), 0
    entry = _entry(path)
    entry.compress_type = zipfile.ZIP_STORED
    size = padding if isinstance(padding, int) else padding.size
    with archive.open(entry, "w", force_zip64=size > _MAX_PLAIN_ZIP_BYTES) as member:
        for piece in _pieces(padding):
            digest.update(piece)
            member.write(piece)
            length += len(piece)
    return _record_line(path, digest.digest(), length)


def _pieces(padding: Synthetic | int) -> Iterator[bytes]:
    size = padding if isinstance(padding, int) else padding.size
    for offset in range(0, size, _PIECE_BYTES):
        length = min(_PIECE_BYTES, size - offset)
        yield bytes(length) if isinstance(padding, int) else padding.read(offset, length)


def _entry(path: str) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(path, _DATE)
    entry.external_attr = 0o644 << 16
    # Else it would name the system that the test runs on.
    entry.create_system = 3
    return entry


def _record_line(path: str, digest: bytes, length: int) -> str:
    return f"{path},sha256={urlsafe_b64encode(digest).decode().rstrip('=')},{length}\n"


def _members(wheel: bytes) -> list[tuple[str, bytes]]:
    with zipfile.ZipFile(io.BytesIO(wheel)) as archive:
        return [(name, archive.read(name)) for name in archive.namelist()]


_PYPROJECT = b"""\
[build-system]
requires = []
build-backend = "backend"
backend-path = ["."]
"""

# PEP 517. Everything is prepared: to build is to pack.
_BACKEND = '''\
"""Builds the wheel out of the folder "contents"."""

import os
import shutil
import zipfile

WHEEL = "@WHEEL@"


def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
    with zipfile.ZipFile(os.path.join(wheel_directory, WHEEL), "w") as archive:
        for folder, _, names in sorted(os.walk("contents")):
            for name in sorted(names):
                path = os.path.join(folder, name)
                archive.write(path, os.path.relpath(path, "contents").replace(os.sep, "/"))
    return WHEEL


def prepare_metadata_for_build_wheel(metadata_directory, config_settings=None):
    (info,) = [name for name in os.listdir("contents") if name.endswith(".dist-info")]
    shutil.copytree(os.path.join("contents", info), os.path.join(metadata_directory, info))
    return info
'''
