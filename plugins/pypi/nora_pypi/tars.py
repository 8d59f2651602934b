"""Read single members of ``.tar.gz`` archives that nobody vouches for (POSIX.1-2001 pax, GNU tar, RFC 1952).

``tarfile`` takes the sizes of extended headers at their word, so that a few kilobytes of gzip make it fill the memory or count
for hours. Here every size is bounded before it is believed. Nothing is ever unpacked to disk, and no link is followed.

What ``tarfile`` and other tools read in different ways is refused: installers must not see another PKG-INFO than we do.
"""

from __future__ import annotations

import tarfile
import zlib
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

from nora.api import Invalid
from nora_pypi.filenames import REBUILD

MAX_MEMBERS = 100_000
# A member may have a pax header and a long name of its own.
MAX_HEADERS = 3 * MAX_MEMBERS
MAX_EXTENDED_BYTES = 1 << 20
MAX_EXTENDED_TOTAL_BYTES = 64 << 20
MAX_INFLATED_BYTES = 4 << 30
MAX_RATIO = 200
RATIO_ALLOWANCE_BYTES = 64 << 20

_BLOCK = 512
# Mode, owner, group, time and device: of no interest, but where one is no number, ``tarfile`` takes the archive to end there.
_NUMBERS = tuple(slice(*field) for field in ((100, 108), (108, 116), (116, 124), (136, 148), (329, 337), (337, 345)))
_INPUT_BYTES = 1 << 16
_OUTPUT_BYTES = 1 << 18
_PAX_TYPES = (tarfile.XHDTYPE, tarfile.SOLARIS_XHDTYPE)
_EXTENDED_TYPES = (*_PAX_TYPES, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK)
_WITHOUT_CONTENT = (tarfile.LNKTYPE, tarfile.SYMTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.DIRTYPE, tarfile.FIFOTYPE)

_BROKEN = f"the tar archive is damaged; {REBUILD}"


class Member(NamedTuple):
    """An entry of the archive; ``size`` in bytes is 0 for everything that is no file."""

    name: str
    size: int
    is_file: bool
    is_directory: bool


class _Header(NamedTuple):
    name: str
    size: int
    kind: bytes


class Reader:
    """One pass over an archive: :meth:`members`, and in between :meth:`read` for the member that was yielded last."""

    def __init__(self, file: BinaryIO) -> None:
        self._stream = _Gunzip(file)
        self._global: dict[str, str] = {}
        self._extended_bytes = 0

    def members(self) -> Iterator[Member]:
        """All entries in their order; ending normally means that the archive is complete and its checksum right.

        Raises:
            Invalid: no gzip or tar, damaged, cut short, or it holds or inflates to more than a source distribution would.
        """
        own: dict[str, str] = {}
        for _ in range(MAX_HEADERS):
            header = self._header()
            if header is None:
                if own:
                    raise Invalid(_BROKEN)
                self._stream.drain()
                return
            if header.kind in _EXTENDED_TYPES:
                self._extend(header, own)
                continue
            values = {**self._global, **own}
            own = {}
            size = 0 if header.kind in _WITHOUT_CONTENT else _decimal(values.get("size", ""), header.size)
            end = self._stream.position + _padded(size)
            is_file, is_directory = header.kind in tarfile.REGULAR_TYPES, header.kind == tarfile.DIRTYPE
            yield Member(values.get("path", header.name), size, is_file, is_directory)
            self._stream.skip(end - self._stream.position)
        raise Invalid(f"the archive has more than {MAX_MEMBERS} members; leave out what is not source")

    def read(self, member: Member) -> bytes:
        """The content of the member that was yielded last; bound ``member.size`` first."""
        data = self._stream.read(member.size)
        if len(data) != member.size:
            raise Invalid(_BROKEN)
        return data

    def _header(self) -> _Header | None:
        block = self._stream.read(_BLOCK)
        # The end is marked by zeros; some old tools just stop.
        if not block.strip(b"\0") and len(block) in (0, _BLOCK):
            return None
        return _parse_header(block)

    def _extend(self, header: _Header, own: dict[str, str]) -> None:
        """Take over what an extended header says about the next member, or about all that follow."""
        self._extended_bytes += header.size
        if header.size > MAX_EXTENDED_BYTES or self._extended_bytes > MAX_EXTENDED_TOTAL_BYTES:
            raise Invalid(f"the tar archive has extended headers of more than {MAX_EXTENDED_BYTES} bytes; {REBUILD}")
        blocks = self._stream.read(_padded(header.size))
        if len(blocks) != _padded(header.size):
            raise Invalid(_BROKEN)
        data = blocks[: header.size]
        # tarfile goes on reading where the size ends.
        if blocks[header.size :].strip(b"\0"):
            raise Invalid(_BROKEN)
        if header.kind == tarfile.GNUTYPE_LONGNAME:
            values = {"path": data.partition(b"\0")[0].decode("utf-8", "replace")}
        elif header.kind == tarfile.GNUTYPE_LONGLINK:
            values = {}
        else:
            values = _pax(data)
        if header.kind == tarfile.XGLTYPE:
            self._global.update(values)
        elif own.keys() & values.keys():
            # To some tools the first of two counts, to others the last.
            raise Invalid(_BROKEN)
        else:
            own.update(values)


class _Gunzip:
    """Inflated bytes of a file with one gzip stream, never more than a few hundred kilobytes at a time."""

    def __init__(self, file: BinaryIO) -> None:
        compressed_size = file.seek(0, 2)
        file.seek(0)
        self._limit = min(MAX_INFLATED_BYTES, RATIO_ALLOWANCE_BYTES + MAX_RATIO * compressed_size)
        self._file = file
        self._inflater = zlib.decompressobj(16 + zlib.MAX_WBITS)
        self._buffer = b""
        self._used = 0
        self._inflated = 0

    @property
    def position(self) -> int:
        """How many inflated bytes were read or skipped."""
        return self._inflated - len(self._buffer) + self._used

    def read(self, size: int) -> bytes:
        """``size`` bytes, or fewer at the end of the stream."""
        pieces = []
        while size > 0 and (self._used < len(self._buffer) or self._fill()):
            piece = self._buffer[self._used : self._used + size]
            self._used += len(piece)
            size -= len(piece)
            pieces.append(piece)
        return b"".join(pieces)

    def skip(self, size: int) -> None:
        """Pass over ``size`` bytes, which must be there."""
        while size > 0:
            if self._used == len(self._buffer) and not self._fill():
                raise Invalid(_BROKEN)
            step = min(size, len(self._buffer) - self._used)
            self._used += step
            size -= step

    def drain(self) -> None:
        """Pass over the rest, so that the checksum is compared."""
        while self._fill():
            pass
        rest = self._inflater.unused_data
        while rest:
            # gzip allows padding; a second stream would be read by some tools and not by others.
            if rest.strip(b"\0"):
                raise Invalid(f"the archive has bytes after its end; {REBUILD}")
            rest = self._file.read(_INPUT_BYTES)

    def _fill(self) -> bool:
        """Put the next piece into the buffer; false at the end."""
        while not self._inflater.eof:
            data = self._inflater.unconsumed_tail or self._file.read(_INPUT_BYTES)
            try:
                piece = self._inflater.decompress(data, _OUTPUT_BYTES)
            except zlib.error:
                raise Invalid(f"the content is not a gzip-compressed tar archive, or it is damaged; {REBUILD}") from None
            if piece:
                self._count(len(piece))
                self._buffer, self._used = piece, 0
                return True
            if not data and not self._inflater.eof:
                raise Invalid(f"the archive is cut short; {REBUILD}")
        return False

    def _count(self, size: int) -> None:
        self._inflated += size
        if self._inflated > self._limit:
            raise Invalid(
                f"the archive inflates to more than {self._limit} bytes; leave out large files that are not source, "
                "they are not accepted for source distributions"
            )


def _parse_header(block: bytes) -> _Header:
    """One header block (POSIX ustar); ``tarfile`` takes three times as long, seconds for an archive at the limits."""
    # The sum is over the block with spaces in place of the sum itself.
    plain = block[:148] + b" " * 8 + block[156:]
    stated = _number(block[148:156])
    # Some old tools took bytes for signed.
    if len(block) != _BLOCK or (stated != sum(plain) and stated != sum(memoryview(plain).cast("b"))):
        raise Invalid(_BROKEN)
    # The first look is enough for nearly all: digits and zero bytes.
    if (block[100:124] + block[136:148] + block[329:345]).strip(b"01234567\0"):
        for field in _NUMBERS:
            if block[field][:1] not in (b"\x80", b"\xff"):
                _number(block[field])
    name, kind, size = _text(block[:100]), block[156:157], _number(block[124:136])
    if kind == tarfile.AREGTYPE and name.endswith("/"):
        kind = tarfile.DIRTYPE
    prefix = _text(block[345:500])
    # Whether other formats than ustar have a prefix, tools do not agree.
    if kind == tarfile.GNUTYPE_SPARSE or (prefix and block[257:263] != b"ustar\0"):
        raise Invalid(_BROKEN)
    return _Header(f"{prefix}/{name}" if prefix else name, size, kind)


def _text(field: bytes) -> str:
    return field.partition(b"\0")[0].decode("utf-8", "replace")


def _number(field: bytes) -> int:
    """Octal digits, or, as GNU tar writes what is too large for them, a byte 128 and a binary number.

    >>> _number(b"0000644\\0"), _number(bytes([128, 0, 1, 0]))
    (420, 256)
    """
    if field[:1] == b"\x80":
        return int.from_bytes(field[1:], "big")
    digits = field.partition(b"\0")[0].strip(b" ")
    if digits.strip(b"01234567"):
        raise Invalid(_BROKEN)
    return int(digits or b"0", 8)


def _pax(data: bytes) -> dict[str, str]:
    """Those records of a pax header that say where the member is and how long: ``path`` and ``size``."""
    values = {}
    position = 0
    while position < len(data):
        space = data.find(b" ", position, position + 8)
        digits = data[position : max(position, space)]
        if not digits.isdigit():
            raise Invalid(_BROKEN)
        # A record is its own length in decimal, a space, key=value and a line break.
        end = position + int(digits)
        key, equals, value = data[space + 1 : end].partition(b"=")
        if not space < end <= len(data) or not equals or not value.endswith(b"\n") or key.startswith(b"GNU.sparse."):
            raise Invalid(_BROKEN)
        if key in (b"path", b"size"):
            # POSIX: as if it were not given. To tarfile it is a name, or 0.
            if value == b"\n":
                raise Invalid(_BROKEN)
            values[key.decode()] = value[:-1].decode("utf-8", "replace")
        position = end
    return values


def _decimal(text: str, default: int) -> int:
    if not text:
        return default
    if not text.isascii() or not text.isdigit() or len(text) > 15:
        raise Invalid(_BROKEN)
    return int(text)


def _padded(size: int) -> int:
    return -(-size // _BLOCK) * _BLOCK
