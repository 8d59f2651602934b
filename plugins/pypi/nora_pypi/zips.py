"""Read single members of ZIP archives that nobody vouches for (APPNOTE.TXT 4.3 to 4.5).

``zipfile`` makes an object of a kilobyte for every entry before anything can be counted, and forgives what other readers
understand in another way: bytes before or after the archive, a directory that does not say how much it holds. Here memory is
bounded before it is used, and what is ambiguous is refused. Nothing is ever unpacked to disk.

:func:`members` and :func:`read` take a whole file. The rest is for those who have only parts of one.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

from nora.api import Invalid
from nora_pypi.filenames import REBUILD, shown

MAX_MEMBERS = 200_000
MAX_DIRECTORY_BYTES = 64 << 20

_END = struct.Struct("<4s4H2LH")
_END64 = struct.Struct("<4sQ2H2L4Q")
_LOCATOR64 = struct.Struct("<4sLQL")
_CENTRAL = struct.Struct("<4s6H3L5H2L")
_CENTRAL_LENGTHS_AT, _CENTRAL_LENGTHS = 28, struct.Struct("<3H")
_LOCAL = struct.Struct("<4s5H3L2H")
_ENTRY = b"PK\1\2"
_ENCRYPTED = 0x1 | 0x40
_UTF8 = 0x800
_STORED, _DEFLATED = 0, 8
_FULL16, _FULL32 = 0xFFFF, 0xFFFFFFFF
_EXTRA_ZIP64, _EXTRA_UNICODE_PATH = 0x0001, 0x7075
_PIECE = 1 << 18

MIN_ENTRY_BYTES = _CENTRAL.size
MIN_HEADER_BYTES = _LOCAL.size
_END64_BYTES = _END64.size + _LOCATOR64.size
MAX_END_BYTES = _END64_BYTES + _END.size + _FULL16
"""In so many last bytes of a file it stands where the directory is: the longest comment follows."""

BROKEN = f"the ZIP archive is damaged; {REBUILD}"


class Directory(NamedTuple):
    """Where the archive's directory is in its file, and how many entries it says it has.

    ``shift`` bytes are in front of the archive, which the offsets in its entries leave out.
    """

    start: int
    end: int
    entry_count: int
    shift: int


class Member(NamedTuple):
    """An entry of the archive's directory; sizes in bytes. ``flaw`` is why the member cannot be used, or ""."""

    name: str
    raw_name: bytes
    method: int
    crc: int
    compressed_size: int
    size: int
    offset: int
    flaw: str


def members(file: BinaryIO) -> Iterator[Member]:
    """All entries of the archive, in the order of its directory.

    Raises:
        Invalid: no ZIP archive, damaged, encrypted, ambiguous, or too many entries.
    """
    length = file.seek(0, 2)
    start = max(0, length - MAX_END_BYTES)
    directory = find_directory(_read_at(file, start, length - start), length)
    assert directory is not None, "this much always tells"
    size = directory.end - directory.start
    if directory.entry_count > MAX_MEMBERS or size > MAX_DIRECTORY_BYTES:
        raise Invalid(
            f"the archive has more than {MAX_MEMBERS} members, or their names take more than {MAX_DIRECTORY_BYTES} bytes"
        )
    # Readers disagree on archives with something in front or in between.
    if directory.shift:
        raise Invalid(BROKEN)
    left = directory.entry_count
    for member in entries(_read_at(file, directory.start, size)):
        left -= 1
        if member.flaw or left < 0:
            raise Invalid(member.flaw or BROKEN)
        yield member
    if left:
        raise Invalid(BROKEN)


def read(file: BinaryIO, member: Member, limit: int) -> Iterator[bytes]:
    """The member's content in pieces; complete, and of the size and checksum that the directory states, or else an error.

    Raises:
        Invalid: larger than ``limit`` bytes, damaged, or compressed by something other than deflate.
    """
    check(member, limit)
    _seek_content(file, member)
    checksum = size = 0
    for piece in _inflate(file, member):
        checksum = zlib.crc32(piece, checksum)
        size += len(piece)
        if size > member.size:
            break
        yield piece
    if size != member.size or checksum != member.crc:
        raise Invalid(BROKEN)


def check(member: Member, limit: int) -> None:
    """Refuse what :func:`read` would refuse, as far as the directory tells.

    Raises:
        Invalid: larger than ``limit`` bytes, ambiguous, or compressed by something other than deflate.
    """
    if member.flaw:
        raise Invalid(member.flaw)
    if member.method not in (_STORED, _DEFLATED):
        raise Invalid(f"{shown(member.name)} in the archive is compressed by method {member.method}; use deflate or none")
    if member.size > limit:
        raise Invalid(f"{shown(member.name)} in the archive is larger than {limit} bytes; make it smaller")
    # Deflate never adds more than this. More input than that is there to keep the server busy.
    if member.compressed_size > limit + limit // 8 + 1024:
        raise Invalid(BROKEN)


def find_directory(tail: bytes, length: int) -> Directory | None:
    """Where the directory is in a file of ``length`` bytes that ends with ``tail``; ``None`` if the tail is too short to tell.

    ``MAX_END_BYTES`` always tell.

    Raises:
        Invalid: no ZIP archive, damaged, or one of several volumes.
    """
    at = tail.rfind(b"PK\5\6")
    if at < _END64_BYTES and len(tail) < min(length, MAX_END_BYTES):
        return None
    if at < 0 or len(tail) - at < _END.size:
        raise Invalid(f"the content is not a complete ZIP archive; {REBUILD}")
    _, *volumes, here, count, size, offset, comment = _END.unpack_from(tail, at)
    if at + _END.size + comment != len(tail):
        raise Invalid(f"the ZIP archive has bytes after its end; {REBUILD}")
    end = length - len(tail) + at
    locator = tail[max(0, at - _LOCATOR64.size) : at]
    stated = -1
    if locator.startswith(b"PK\6\7") and len(locator) == _LOCATOR64.size:
        if at < _END64_BYTES:
            raise Invalid(BROKEN)
        _, _, stated, _ = _LOCATOR64.unpack(locator)
        end -= _END64_BYTES
        signature, record, _, _, *volumes, here, count, size, offset = _END64.unpack_from(tail, at - _END64_BYTES)
        # A record's own size leaves out its first 12 bytes. It must reach exactly to its locator.
        if signature != b"PK\6\6" or record != _END64.size - 12:
            raise Invalid(BROKEN)
    if any(volumes) or here != count:
        raise Invalid(f"the ZIP archive is one of several volumes; {REBUILD}")
    shift = end - (offset + size)
    if shift < 0 or stated not in (-1, end - shift):
        raise Invalid(BROKEN)
    return Directory(end - size, end, count, shift)


def first_entry(tail: bytes) -> int:
    """Where the first whole entry begins in the last part of a directory, so that the rest is entries only.

    ``len(tail)`` if there is none, or if it is not the only way to divide it: the bytes that begin an entry may be in a name.
    """
    starts, first = {len(tail)}, len(tail)
    at = tail.rfind(_ENTRY)
    while at >= 0:
        if _entry_end(tail, at) in starts:
            starts.add(at)
            first = at
        at = tail.rfind(_ENTRY, 0, at)
    passed, at = 1, first
    while at < len(tail):
        passed, at = passed + 1, _entry_end(tail, at)
    return first if passed == len(starts) else len(tail)


def entries(directory: bytes) -> Iterator[Member]:
    """The entries that a directory, or a part of one, consists of.

    Raises:
        Invalid: it consists of something else.
    """
    position = 0
    while position < len(directory):
        end = _entry_end(directory, position)
        if end < 0:
            raise Invalid(BROKEN)
        yield _entry(directory, position)
        position = end


def header_size(data: bytes) -> int:
    """How many bytes the member's own header has whose first ``MIN_HEADER_BYTES``, or more, are ``data``; the content follows.

    Raises:
        Invalid: there is none.
    """
    if not data.startswith(b"PK\3\4"):
        raise Invalid(BROKEN)
    *_, name_size, extra_size = _LOCAL.unpack_from(data)
    size: int = _LOCAL.size + name_size + extra_size
    return size


def _entry_end(directory: bytes, position: int) -> int:
    """Where the entry at ``position`` ends, -1 if there is no whole entry."""
    if not directory.startswith(_ENTRY, position) or position + _CENTRAL.size > len(directory):
        return -1
    name, extra, comment = _CENTRAL_LENGTHS.unpack_from(directory, position + _CENTRAL_LENGTHS_AT)
    end: int = position + _CENTRAL.size + name + extra + comment
    return end if end <= len(directory) else -1


def _entry(directory: bytes, position: int) -> Member:
    fields = _CENTRAL.unpack_from(directory, position)
    _, _, _, flags, method, _, _, crc, compressed, size, name_size, extra_size, _, _, _, _, offset = fields
    extras = position + _CENTRAL.size + name_size
    raw_name = directory[position + _CENTRAL.size : extras]
    name = raw_name.decode("utf-8" if flags & _UTF8 else "cp437", "replace")
    flaw = ""
    if flags & _ENCRYPTED:
        flaw = f"{shown(name)} in the archive is encrypted; {REBUILD}"
    elif b"\0" in raw_name or ("\ufffd" in name and raw_name != name.encode()):
        # Some readers end it there; some fail on what is no UTF-8.
        flaw = BROKEN
    for kind, data in _extra_fields(directory[extras : extras + extra_size]):
        if kind == _EXTRA_UNICODE_PATH:
            # Some readers go by this second name, some do not.
            flaw = f"the ZIP archive has members with two names; {REBUILD}"
        elif kind == _EXTRA_ZIP64:
            size, compressed, offset = _extended(data, size, compressed, offset)
    return Member(name, raw_name, method, crc, compressed, size, offset, flaw)


def _extra_fields(extra: bytes) -> Iterator[tuple[int, bytes]]:
    position = 0
    while position + 4 <= len(extra):
        kind, length = struct.unpack_from("<2H", extra, position)
        yield kind, extra[position + 4 : position + 4 + length]
        position += 4 + length


def _extended(data: bytes, size: int, compressed: int, offset: int) -> tuple[int, int, int]:
    """The values with those replaced that did not fit into 32 bits (APPNOTE 4.5.3)."""
    values = [value for (value,) in struct.iter_unpack("<Q", data[: len(data) // 8 * 8])]
    if len(values) < (size, compressed, offset).count(_FULL32):
        raise Invalid(BROKEN)
    size, compressed, offset = (values.pop(0) if value == _FULL32 else value for value in (size, compressed, offset))
    return size, compressed, offset


def _seek_content(file: BinaryIO, member: Member) -> None:
    """Go to the member's first byte; its own header must say the same as the directory."""
    header = _read_at(file, member.offset, _LOCAL.size)
    content = member.offset + header_size(header)
    _, _, flags, method, *_, name_size, _ = _LOCAL.unpack(header)
    if flags & _ENCRYPTED or method != member.method or file.read(name_size) != member.raw_name:
        raise Invalid(BROKEN)
    file.seek(content)


def _inflate(file: BinaryIO, member: Member) -> Iterator[bytes]:
    left = member.compressed_size
    if member.method == _STORED:
        while left > 0 and (piece := file.read(min(left, _PIECE))):
            left -= len(piece)
            yield piece
        return
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    waiting = b""
    try:
        while not inflater.eof:
            if not waiting:
                waiting = file.read(min(left, _PIECE))
                left -= len(waiting)
            piece = inflater.decompress(waiting, _PIECE)
            if not piece and not waiting:
                break
            waiting = inflater.unconsumed_tail
            if piece:
                yield piece
    except zlib.error:
        raise Invalid(BROKEN) from None
    if not inflater.eof or left or inflater.unused_data:
        raise Invalid(BROKEN)


def _read_at(file: BinaryIO, offset: int, size: int) -> bytes:
    if offset < 0 or offset > (1 << 62):
        raise Invalid(BROKEN)
    file.seek(offset)
    data = file.read(size)
    if len(data) != size:
        raise Invalid(BROKEN)
    return data
