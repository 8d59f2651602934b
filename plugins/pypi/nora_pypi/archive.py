"""Find the core metadata document inside a distribution file."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterable, Iterator
from typing import BinaryIO

from packaging.version import Version

from nora.api import Invalid
from nora_pypi import tars, zips
from nora_pypi.filenames import REBUILD, Distribution, parse_version, shown
from nora_pypi.names import NormalizedName, normalize

MAX_METADATA_BYTES = 2 << 20
MAX_RECORD_BYTES = 64 << 20

_DIST_INFO = ".dist-info"
_WHEEL_FILES = ("METADATA", "WHEEL", "RECORD")
_RECORD_ALGORITHMS = ("sha256", "sha384", "sha512")
_MAX_RECORD_LINE_BYTES = 1 << 16
# What follows the path in a line of RECORD.
_RECORD_HASH = re.compile(rb'"?,"?([a-z0-9]+)=([A-Za-z0-9_-]+)=*"?,')


def read_metadata(path: str, distribution: Distribution) -> bytes:
    """The file's core metadata document as it is, byte for byte: METADATA of a wheel, PKG-INFO of an sdist or an egg.

    Reads the file at ``path`` and writes nothing; takes up to seconds for large archives, so call it in a thread.

    Spec: binary distribution format, "The .dist-info directory"; source distribution format, "Source distribution file format".

    Raises:
        Invalid: no archive of its kind, damaged, without the document, or over a limit that no honest file reaches.
    """
    with open(path, "rb") as file:
        if distribution.kind == "bdist_wheel":
            return _wheel_metadata(file, distribution)
        if distribution.kind == "bdist_egg":
            return _egg_metadata(file)
        if distribution.filename.endswith(".zip"):
            return _zip_pkg_info(file)
        return _tar_pkg_info(file)


def _wheel_metadata(file: BinaryIO, distribution: Distribution) -> bytes:
    directory, found = _dist_info(zips.members(file))
    if not fits(directory, distribution.name, distribution.version):
        raise Invalid(f"the wheel's {shown(directory)} does not fit its file name; {REBUILD}")
    missing = [wanted for wanted in _WHEEL_FILES if wanted not in found]
    if missing:
        raise Invalid(f"the wheel's {directory} directory has no {' and no '.join(missing)}; {REBUILD}")
    metadata = b"".join(zips.read(file, found["METADATA"], MAX_METADATA_BYTES))
    if found["RECORD"].size <= MAX_RECORD_BYTES:
        check_record(zips.read(file, found["RECORD"], MAX_RECORD_BYTES), f"{directory}/METADATA", metadata)
    return metadata


def fits(directory: str, name: NormalizedName, version: Version | None) -> bool:
    """Whether a ``.dist-info`` directory is that of a project and a version, in whatever spelling; ``None`` is any version.

    >>> fits("Foo.Bar-1.0.dist-info", NormalizedName("foo-bar"), Version("1.0.0"))
    True
    """
    stated_name, _, stated = directory.removesuffix(_DIST_INFO).rpartition("-")
    if normalize(stated_name) != name:
        return False
    # Older tools write the "-" of a version as "_".
    return version is None or version == (parse_version(stated) or parse_version(stated.replace("_", "-")))


def check_record(record: Iterable[bytes], path: str, metadata: bytes) -> None:
    """Compare METADATA with the hash in RECORD, if there is one (PEP 376; a line is ``path,algorithm=base64,size``).

    ``record`` is its content in pieces.

    Raises:
        Invalid: they differ.
    """
    wanted = path.encode()
    rest = b""
    for piece in record:
        text = rest + piece
        for algorithm, value in _stated(text, wanted):
            name = algorithm.decode()
            # The standard wants sha256 or better; what is weaker proves nothing.
            if name in _RECORD_ALGORITHMS and value != _base64(hashlib.new(name, metadata).digest()):
                raise Invalid(f"METADATA does not have the {name} that the wheel's RECORD states; {REBUILD}")
        rest = text[text.rfind(b"\n") + 1 :][-_MAX_RECORD_LINE_BYTES:]


def _stated(text: bytes, path: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Algorithm and hash of each line about ``path``. A pattern with the path in it would cost more than the rest of the look."""
    start = -1
    while (start := text.find(path, start + 1)) >= 0:
        before = text[max(0, start - 2) : start]
        if (
            before.removesuffix(b'"')[-1:] in (b"", b"\n")
            and (found := _RECORD_HASH.match(text, start + len(path))) is not None
        ):
            yield found[1], found[2]


def _dist_info(members: Iterable[zips.Member]) -> tuple[str, dict[str, zips.Member]]:
    """Name of the wheel's one ``.dist-info`` directory, and what is in it of the files that are looked for."""
    directory = ""
    found: dict[str, zips.Member] = {}
    for member in members:
        top, _, rest = member.name.partition("/")
        if not top or ".." in member.name.split("/"):
            raise Invalid(f"the wheel's member {shown(member.name)} leads out of it; {REBUILD}")
        if not top.endswith(_DIST_INFO):
            continue
        # Installers refuse a second one, whatever its name.
        if directory and top != directory:
            raise Invalid(f"the wheel has more than one {_DIST_INFO} directory; {REBUILD}")
        directory = top
        if rest in found:
            raise Invalid(f"the wheel has {shown(member.name)} twice; {REBUILD}")
        if rest in _WHEEL_FILES:
            found[rest] = member
    if not directory:
        raise Invalid(f"the wheel has no {_DIST_INFO} directory; {REBUILD}")
    return directory, found


def _base64(digest: bytes) -> bytes:
    return base64.urlsafe_b64encode(digest).rstrip(b"=")


def _egg_metadata(file: BinaryIO) -> bytes:
    found = [member for member in zips.members(file) if member.name == "EGG-INFO/PKG-INFO"]
    if len(found) != 1:
        raise Invalid(f"the egg has {'no' if not found else 'more than one'} EGG-INFO/PKG-INFO; {REBUILD}")
    return b"".join(zips.read(file, found[0], MAX_METADATA_BYTES))


def _zip_pkg_info(file: BinaryIO) -> bytes:
    tree = _Tree()
    found: zips.Member | None = None
    for member in zips.members(file):
        if tree.place(member.name, is_directory=member.name.endswith("/")) == "PKG-INFO":
            found = member
    tree.check()
    assert found is not None
    return b"".join(zips.read(file, found, MAX_METADATA_BYTES))


def _tar_pkg_info(file: BinaryIO) -> bytes:
    tree = _Tree()
    archive = tars.Reader(file)
    content = b""
    # To the end, though PKG-INFO often comes early: only then is the archive known to be whole.
    for member in archive.members():
        if tree.place(member.name, is_directory=member.is_directory) != "PKG-INFO":
            continue
        if not member.is_file:
            raise Invalid(f"PKG-INFO of the source distribution is no regular file; {REBUILD}")
        if member.size > MAX_METADATA_BYTES:
            raise Invalid(f"PKG-INFO is larger than {MAX_METADATA_BYTES} bytes; make it smaller")
        content = archive.read(member)
    tree.check()
    return content


class _Tree:
    """What a source distribution has to be: one top directory that holds everything, PKG-INFO once among it."""

    def __init__(self) -> None:
        self._top = ""
        self._has_pkg_info = False

    def place(self, name: str, *, is_directory: bool) -> str:
        """The member's path below the top directory, "" for that directory itself."""
        parts = [part for part in name.split("/") if part not in ("", ".")]
        if name.startswith("/") or ".." in parts:
            raise Invalid(f"the archive's member {shown(name)} leads out of it; {REBUILD}")
        if not parts:
            return ""
        self._top = self._top or parts[0]
        if parts[0] != self._top or (len(parts) == 1 and not is_directory):
            raise Invalid(f"the archive has {shown(name)} outside of the one top directory that it should have; {REBUILD}")
        path = "/".join(parts[1:])
        if path == "PKG-INFO":
            if self._has_pkg_info:
                raise Invalid(f"the archive has PKG-INFO twice; {REBUILD}")
            self._has_pkg_info = True
        return path

    def check(self) -> None:
        """Say what is missing after all members were placed."""
        if not self._has_pkg_info:
            raise Invalid("the source distribution has no PKG-INFO in its top directory; build it again with `python -m build`")
