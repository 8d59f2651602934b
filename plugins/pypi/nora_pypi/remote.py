"""Read METADATA of a wheel that is somewhere else, asking for few of its bytes. Does no I/O.

A wheel has its ``.dist-info`` directory last, so the last few kilobytes nearly always hold the archive's end and, of its
directory, the entries that matter; one more part holds METADATA and RECORD. Without this luck more and more of the directory is
asked for. That is more lenient than what an upload has to pass (:mod:`nora_pypi.archive`): the wheel is published already, and
what installers accept, its users can have.
"""

from __future__ import annotations

import io
from collections.abc import Generator
from dataclasses import dataclass, field
from typing import TypeVar

from packaging.version import Version

from nora.api import File, Invalid, Part, Read, SidecarReader
from nora_pypi import archive, filenames, zips
from nora_pypi.filenames import REBUILD
from nora_pypi.names import NormalizedName

MAX_DIRECTORY_BYTES = 8 << 20
"""No more than that of the end of a directory is looked at."""
MAX_READS = 8
"""What the limits here add up to."""

# Chosen by simulation over the 91 wheels that an application of middle size needs, 47 MB: 1.4 % of their bytes in 175 parts. With
# 2 KiB it is 1.3 % in 183, with 6 KiB 1.7 % in 136.
_TAIL_BYTES = 3 << 10
_GROWTH = 16
# Three of those wheels have a larger RECORD. To look into these as well would cost as much as METADATA of 120 wheels.
_MAX_PACKED_RECORD_BYTES = 32 << 10
_MAX_RECORD_BYTES = 8 << 20
# A second request costs about as much.
_NEAR_BYTES = 4 << 10
# The extra fields of a member's own header are not those of the directory, and nothing tells their length before.
_USUAL_EXTRA_BYTES = 64

_METADATA = b"METADATA"
_DIST_INFO_METADATA = b".dist-info/METADATA"

_T = TypeVar("_T")
_Reading = Generator[Read, Part, _T]


class WheelMetadata(SidecarReader):
    """The core metadata document of a wheel: METADATA of its ``.dist-info`` directory, byte for byte.

    Spec: PEP 658; binary distribution format, "The .dist-info directory".
    """

    suffix = ".metadata"

    def applies(self, file: File) -> bool:
        """Whether the file's name is that of a wheel.

        >>> [WheelMetadata().applies(File(name=name)) for name in ("foo-1.0-py3-none-any.whl", "foo-1.0.tar.gz", ".whl")]
        [True, False, False]
        """
        return file.name[-4:].lower() == ".whl" and len(file.name) > 4

    def read(self, project: str, file: File, *, held: bool) -> _Reading[bytes]:
        """METADATA, after at most ``MAX_READS`` parts. It is compared with RECORD unless that is large or far away.

        Of a held wheel the whole directory is read, so that what its end alone claims is noticed, and RECORD of nearly any size.
        """
        try:
            return (yield from _read(project, file.name, held=held))
        except Invalid as error:
            # Nobody who asks for a published wheel can build it again.
            raise Invalid(str(error).removesuffix(f"; {REBUILD}")) from None


@dataclass(slots=True)
class _Remote:
    """A file of which some parts are known."""

    size: int
    parts: list[tuple[int, bytes]] = field(default_factory=list)

    def fetch(self, start: int, stop: int) -> _Reading[bytes]:
        """A span of the file, which must lie inside; asks only for what is not known."""
        found: list[bytes] = []
        while start < stop:
            known = next((data[start - at : stop - at] for at, data in self.parts if at <= start < at + len(data)), b"")
            if not known:
                end = min([stop, *(at for at, _ in self.parts if at > start)])
                part = yield Read(start, end - start)
                known = self.take(part, start, end)
            found.append(known)
            start += len(known)
        return b"".join(found)

    def take(self, part: Part, start: int, stop: int) -> bytes:
        """Note the bytes that were asked for."""
        if part.size != self.size or part.start != start or len(part.data) != stop - start:
            raise Invalid("the file is shorter than it was, or has changed while it was read")
        self.parts.append((start, part.data))
        return part.data


@dataclass(slots=True)
class _View:
    """What was seen of a directory: entries named METADATA, entries named RECORD, and where members begin."""

    directory: zips.Directory
    metadata: list[zips.Member] = field(default_factory=list)
    records: list[zips.Member] = field(default_factory=list)
    offsets: list[int] = field(default_factory=list)

    def end_of(self, member: zips.Member) -> int:
        """Where the member must have ended, because something else begins."""
        return min([self.directory.start, *(offset for offset in self.offsets if offset > member.offset)])

    def span(self, member: zips.Member) -> tuple[int, int]:
        """Where the member is, as far as its directory entry tells: its own header may be longer than usual."""
        least = member.offset + zips.MIN_HEADER_BYTES + len(member.raw_name) + member.compressed_size
        if least > self.end_of(member):
            raise Invalid(zips.BROKEN)
        return member.offset, min(self.end_of(member), least + _USUAL_EXTRA_BYTES)


def _read(project: str, filename: str, *, held: bool) -> _Reading[bytes]:
    remote, directory = yield from _open()
    if held:
        yield from remote.fetch(max(directory.start, directory.end - MAX_DIRECTORY_BYTES), directory.end)
    view, member = yield from _find(remote, directory, *_expected(project, filename))
    zips.check(member, archive.MAX_METADATA_BYTES)
    record = _record_of(member, view, _MAX_RECORD_BYTES if held else _MAX_PACKED_RECORD_BYTES)
    if record is not None:
        (first, first_end), (second, second_end) = sorted((view.span(member), view.span(record)))
        if second - first_end <= _NEAR_BYTES:
            yield from remote.fetch(first, max(first_end, second_end))
    metadata = yield from _content(remote, view, member, archive.MAX_METADATA_BYTES)
    if record is not None:
        content = yield from _content(remote, view, record, _MAX_RECORD_BYTES)
        archive.check_record([content], member.name, metadata)
    return metadata


def _expected(project: str, filename: str) -> tuple[NormalizedName, Version | None]:
    try:
        distribution = filenames.parse(filename)
    except Invalid:
        # There are old wheels with names that no tool makes today.
        return NormalizedName(project), None
    return distribution.name, distribution.version


def _open() -> _Reading[tuple[_Remote, zips.Directory]]:
    part = yield Read(-_TAIL_BYTES, _TAIL_BYTES)
    remote = _Remote(part.size)
    tail = remote.take(part, max(0, part.size - _TAIL_BYTES), part.size)
    directory = zips.find_directory(tail, remote.size)
    if directory is None:
        tail = yield from remote.fetch(max(0, remote.size - zips.MAX_END_BYTES), remote.size)
        directory = zips.find_directory(tail, remote.size)
        assert directory is not None, "this much always tells"
    return remote, directory


def _find(
    remote: _Remote, directory: zips.Directory, name: NormalizedName, version: Version | None
) -> _Reading[tuple[_View, zips.Member]]:
    start = min(at for at, _ in remote.parts)
    limit = max(directory.start, directory.end - MAX_DIRECTORY_BYTES)
    while True:
        start = max(start, limit)
        view = _view(directory, start, (yield from remote.fetch(start, directory.end)))
        found = [member for member in view.metadata if archive.fits(member.name.partition("/")[0], name, version)]
        if len(found) > 1:
            raise Invalid("the wheel has more than one METADATA that fits its file name")
        if found:
            return view, found[0]
        if start == limit:
            raise Invalid("the wheel has no METADATA in a .dist-info directory that fits its file name")
        start -= _GROWTH * (remote.size - start)


def _view(directory: zips.Directory, start: int, data: bytes) -> _View:
    """What there is to see when the directory is known from ``start`` on; ``data`` is that part of it."""
    view = _View(directory)
    hidden = start - directory.start
    if hidden:
        first = zips.first_entry(data)
        hidden, data = hidden + first, data[first:]
    for entry in zips.entries(data):
        member = entry._replace(offset=entry.offset + directory.shift)
        view.offsets.append(member.offset)
        if member.raw_name.count(b"/") != 1:
            continue
        if member.raw_name.endswith(_DIST_INFO_METADATA):
            view.metadata.append(member)
        elif member.raw_name.endswith(b".dist-info/RECORD"):
            view.records.append(member)
    # Readers disagree on a directory that has not as many entries as it says.
    rest = directory.entry_count - len(view.offsets)
    if rest < 0 or rest * zips.MIN_ENTRY_BYTES > hidden or (hidden and not rest):
        raise Invalid(zips.BROKEN)
    return view


def _record_of(member: zips.Member, view: _View, max_packed_bytes: int) -> zips.Member | None:
    """The RECORD that tells of this METADATA, if it was seen and is small enough to be read for that."""
    wanted = member.raw_name.removesuffix(_METADATA) + b"RECORD"
    found = [record for record in view.records if record.raw_name == wanted]
    if len(found) > 1:
        raise Invalid("the wheel has more than one RECORD")
    if not found or found[0].compressed_size > max_packed_bytes or found[0].size > _MAX_RECORD_BYTES:
        return None
    zips.check(found[0], _MAX_RECORD_BYTES)
    return found[0]


def _content(remote: _Remote, view: _View, member: zips.Member, limit: int) -> _Reading[bytes]:
    start, stop = view.span(member)
    data = yield from remote.fetch(start, stop)
    end = start + zips.header_size(data) + member.compressed_size
    if end > view.end_of(member):
        raise Invalid(zips.BROKEN)
    data += yield from remote.fetch(stop, end)
    return b"".join(zips.read(io.BytesIO(data), member._replace(offset=0), limit))
