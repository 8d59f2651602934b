"""Read single members of ZIP archives that nobody vouches for (APPNOTE.TXT 4.3 to 4.5).

``zipfile`` makes an object of a kilobyte for every entry before anything can be counted, and forgives what other readers
understand in another way: bytes before or after the archive, a directory that does not say how much it holds. Here memory is
bounded before it is used, and what is ambiguous is refused. Nothing is ever unpacked to disk.
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
_LOCAL = struct.Struct("<4s5H3L2H")
_ENCRYPTED = 0x1 | 0x40
_UTF8 = 0x800
_STORED, _DEFLATED = 0, 8
_FULL16, _FULL32 = 0xFFFF, 0xFFFFFFFF
_EXTRA_ZIP64, _EXTRA_UNICODE_PATH = 0x0001, 0x7075
_PIECE = 1 << 18

_BROKEN = f"the ZIP archive is damaged; {REBUILD}"


class Member(NamedTuple):
    """An entry of the archive's directory; sizes in bytes."""

    name: str
    raw_name: bytes
    method: int
    crc: int
    compressed_size: int
    size: int
    offset: int


def members(file: BinaryIO) -> Iterator[Member]:
    """All entries of the archive, in the order of its directory.

    Raises:
        Invalid: no ZIP archive, damaged, encrypted, ambiguous, or too many entries.
    """
    directory, count = _directory(file)
    position = 0
    for _ in range(count):
        member, position = _entry(directory, position)
        yield member
    if position != len(directory):
        raise Invalid(_BROKEN)


def read(file: BinaryIO, member: Member, limit: int) -> Iterator[bytes]:
    """The member's content in pieces; complete, and of the size and checksum that the directory states, or else an error.

    Raises:
        Invalid: larger than ``limit`` bytes, damaged, or compressed by something other than deflate.
    """
    if member.size > limit:
        raise Invalid(f"{shown(member.name)} in the archive is larger than {limit} bytes; make it smaller")
    # Deflate never adds more than this. More input than that is there to keep the server busy.
    if member.compressed_size > limit + limit // 8 + 1024:
        raise Invalid(_BROKEN)
    _seek_content(file, member)
    checksum = size = 0
    for piece in _inflate(file, member):
        checksum = zlib.crc32(piece, checksum)
        size += len(piece)
        if size > member.size:
            break
        yield piece
    if size != member.size or checksum != member.crc:
        raise Invalid(_BROKEN)


def _directory(file: BinaryIO) -> tuple[bytes, int]:
    """The central directory and how many entries it says it has."""
    length = file.seek(0, 2)
    start = max(0, length - _LOCATOR64.size - _END.size - _FULL16)
    tail = _read_at(file, start, length - start)
    at = tail.rfind(b"PK\5\6")
    if at < 0 or len(tail) - at < _END.size:
        raise Invalid(f"the content is not a complete ZIP archive; {REBUILD}")
    _, *volumes, here, count, size, offset, comment = _END.unpack_from(tail, at)
    if at + _END.size + comment != len(tail):
        raise Invalid(f"the ZIP archive has bytes after its end; {REBUILD}")
    end = start + at
    locator = tail[max(0, at - _LOCATOR64.size) : at]
    if locator.startswith(b"PK\6\7") and len(locator) == _LOCATOR64.size:
        _, _, end64, _ = _LOCATOR64.unpack(locator)
        signature, record, _, _, *volumes, here, count, size, offset = _END64.unpack(_read_at(file, end64, _END64.size))
        # A record's own size leaves out its first 12 bytes. It must reach exactly to its locator.
        if signature != b"PK\6\6" or end64 + 12 + record != end - _LOCATOR64.size:
            raise Invalid(_BROKEN)
        end = end64
    if any(volumes) or here != count:
        raise Invalid(f"the ZIP archive is one of several volumes; {REBUILD}")
    if count > MAX_MEMBERS or size > MAX_DIRECTORY_BYTES:
        raise Invalid(
            f"the archive has more than {MAX_MEMBERS} members, or their names take more than {MAX_DIRECTORY_BYTES} bytes"
        )
    # Readers disagree on archives with something in front or in between.
    if offset + size != end:
        raise Invalid(_BROKEN)
    return _read_at(file, offset, size), count


def _entry(directory: bytes, position: int) -> tuple[Member, int]:
    """The entry at ``position``, and where the next one begins."""
    names = position + _CENTRAL.size
    if names > len(directory):
        raise Invalid(_BROKEN)
    fields = _CENTRAL.unpack_from(directory, position)
    signature, _, _, flags, method, _, _, crc, compressed, size, name_size, extra_size, comment_size, _, _, _, offset = fields
    extras = names + name_size
    end = extras + extra_size + comment_size
    raw_name = directory[names:extras]
    if signature != b"PK\1\2" or end > len(directory) or b"\0" in raw_name:
        raise Invalid(_BROKEN)
    name = raw_name.decode("utf-8" if flags & _UTF8 else "cp437", "replace")
    if flags & _ENCRYPTED:
        raise Invalid(f"{shown(name)} in the archive is encrypted; {REBUILD}")
    if extra_size:
        extra = directory[extras : extras + extra_size]
        size, compressed, offset = _extended(extra, size, compressed, offset)
    return Member(name, raw_name, method, crc, compressed, size, offset), end


def _extended(extra: bytes, size: int, compressed: int, offset: int) -> tuple[int, int, int]:
    """The values with those replaced that did not fit into 32 bits (APPNOTE 4.5.3)."""
    position = 0
    while position + 4 <= len(extra):
        kind, length = struct.unpack_from("<2H", extra, position)
        data = extra[position + 4 : position + 4 + length]
        position += 4 + length
        if kind == _EXTRA_UNICODE_PATH:
            # Some readers go by this second name, some do not.
            raise Invalid(f"the ZIP archive has members with two names; {REBUILD}")
        if kind == _EXTRA_ZIP64:
            values = [value for (value,) in struct.iter_unpack("<Q", data[: len(data) // 8 * 8])]
            if len(values) < (size, compressed, offset).count(_FULL32):
                raise Invalid(_BROKEN)
            size, compressed, offset = (values.pop(0) if value == _FULL32 else value for value in (size, compressed, offset))
    return size, compressed, offset


def _seek_content(file: BinaryIO, member: Member) -> None:
    """Go to the member's first byte; its own header must say the same as the directory."""
    header = _LOCAL.unpack(_read_at(file, member.offset, _LOCAL.size))
    signature, _, flags, method, *_, name_size, extra_size = header
    name = file.read(name_size)
    if signature != b"PK\3\4" or flags & _ENCRYPTED or method != member.method or name != member.raw_name:
        raise Invalid(_BROKEN)
    file.seek(extra_size, 1)


def _inflate(file: BinaryIO, member: Member) -> Iterator[bytes]:
    left = member.compressed_size
    if member.method == _STORED:
        while left > 0 and (piece := file.read(min(left, _PIECE))):
            left -= len(piece)
            yield piece
        return
    if member.method != _DEFLATED:
        raise Invalid(f"{shown(member.name)} in the archive is compressed by method {member.method}; use deflate or none")
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
        raise Invalid(_BROKEN) from None
    if not inflater.eof or left or inflater.unused_data:
        raise Invalid(_BROKEN)


def _read_at(file: BinaryIO, offset: int, size: int) -> bytes:
    if offset < 0 or offset > (1 << 62):
        raise Invalid(_BROKEN)
    file.seek(offset)
    data = file.read(size)
    if len(data) != size:
        raise Invalid(_BROKEN)
    return data
