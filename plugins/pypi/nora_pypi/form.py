"""The body of an upload: ``multipart/form-data``, read as it arrives (RFC 7578, RFC 2046 section 5.1)."""

from __future__ import annotations

import logging
import re
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field

from python_multipart import MultipartParser
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import parse_options_header

from nora.api import Invalid, Spool, TooLarge
from nora_pypi.filenames import shown

MAX_FIELD_BYTES = 1 << 20
MAX_FIELDS_BYTES = 8 << 20
MAX_PARTS = 2_000
MAX_HEADER_BYTES = 16 << 10
MAX_DISPOSITION_BYTES = 1 << 10
MAX_OVERHEAD_BYTES = 4 << 20
"""All that is not the value of a part: part headers, boundaries, padding."""

FILE_LIMITS = {"gpg_signature": 64 << 10, "attestations": 1 << 20}
"""Further files that uploaders send, and their limits in bytes."""

DIGEST_FIELDS = {"md5_digest": "md5", "sha256_digest": "sha256", "blake2_256_digest": "blake2b_256"}
"""Form fields with a digest of the content, and what :meth:`Spool.digest` calls its algorithm."""

# What the parser would log, without saying of which request, its caller is told.
_SILENT = logging.Logger("python_multipart", logging.CRITICAL)

# RFC 2046 5.1.1: 1 to 70 of these characters, the last one not a space.
_BOUNDARY = re.compile(rb"[0-9A-Za-z'()+_,./:=? -]{0,69}[0-9A-Za-z'()+_,./:=?-]")
_AGAIN = "send it with a current upload client such as twine"
_MALFORMED = f"the body is not well-formed multipart/form-data: a boundary or a part's header fields are broken; {_AGAIN}"


@dataclass(frozen=True, slots=True)
class Form:
    """An upload form whose file has gone into the spool.

    Attributes:
        fields: Values by field name, in the order in which they came.
        filename: What the part ``content`` calls itself, unchecked; ``None`` when there was no such part, or no name.
        files: Contents of the further files, those of ``FILE_LIMITS``.
    """

    fields: Mapping[str, Sequence[str]] = field(default_factory=dict)
    filename: str | None = None
    files: Mapping[str, bytes] = field(default_factory=dict)

    def first(self, name: str) -> str:
        """The first value of a field that is not empty, or "": clients send fields that they have no value for.

        >>> Form({"version": ["", "1.0"]}).first("version"), Form().first("version")
        ('1.0', '')
        """
        return next((value for value in self.fields.get(name, ()) if value), "")


async def read_form(body: AsyncIterator[bytes], content_type: str, spool: Spool) -> Form:
    """Read a whole form; the part ``content`` goes to ``spool``, which is finished then and stays the caller's.

    Memory is bounded by the limits above and the size of the body's pieces. Where the pieces are cut makes no difference.

    Raises:
        TooLarge: a field, a small file or all fields together are over their limit.
        Invalid: not a form, malformed or incomplete.
    """
    parts = _Parts(spool, _boundary(content_type))
    parser = parts.parser()
    begun = False
    async for piece in body:
        data = piece
        if not begun:
            # distutils and some scripts send a line break before the first boundary. The parser would look for it further on.
            data = piece.lstrip(b"\r\n")
            begun = bool(data)
        try:
            parser.write(data)
        except FormParserError:
            raise Invalid(_MALFORMED) from None
        parts.check_overhead(len(data))
        for content in parts.arrived:
            await spool.write(content)
        parts.arrived.clear()
    if not parts.ended:
        raise Invalid("the body ends before its closing boundary, so a part of the upload is missing; send it again")
    await spool.finish()
    return parts.form()


def _boundary(content_type: str) -> bytes:
    try:
        media_type, parameters = parse_options_header(content_type[:1024])
    except UnicodeError:
        media_type, parameters = b"", {}
    if media_type != b"multipart/form-data":
        raise Invalid(f"the Content-Type must be multipart/form-data, not {shown(content_type)}; {_AGAIN}")
    boundary = parameters.get(b"boundary", b"")
    if not _BOUNDARY.fullmatch(boundary):
        raise Invalid(f"the Content-Type needs a boundary of 1 to 70 characters (RFC 2046); {_AGAIN}")
    return boundary


class _Counter:
    """Counts a sequence of bytes in a stream, also where it lies across the border of two pieces.

    >>> counter = _Counter(b"abc")
    >>> [counter.add(piece) for piece in (b"abcab", b"c", b"a", b"b", b"cabcabca", b"bc")]
    [1, 2, 2, 2, 5, 6]
    """

    def __init__(self, wanted: bytes) -> None:
        self._wanted = wanted
        self._overlap = len(wanted) - 1
        self._tail = b""
        self._count = 0

    def add(self, piece: bytes) -> int:
        """How many there are up to the end of this piece."""
        around = self._tail + piece[: self._overlap]
        self._count += around.count(self._wanted)
        if len(piece) > self._overlap:
            self._count += piece.count(self._wanted)
            around = piece
        self._tail = around[-self._overlap :]
        return self._count


class _Parts:
    """Takes what the parser finds. ``arrived`` holds content that is to be written to the spool."""

    def __init__(self, spool: Spool, boundary: bytes) -> None:
        self.arrived: list[bytes] = []
        self.ended = False
        self._spool = spool
        self._boundary = boundary
        self._count = 0
        self._fields: dict[str, list[str]] = {}
        self._files: dict[str, bytes] = {}
        self._filename: str | None = None
        self._has_content = False
        self._fields_bytes = 0
        self._overhead_bytes = 0
        self._begin()

    def parser(self) -> MultipartParser:
        """A parser that reports to this object."""
        parser = MultipartParser(
            self._boundary,
            {
                "on_part_begin": self.begin_part,
                "on_header_field": self.on_header_field,
                "on_header_value": self.on_header_value,
                "on_header_end": self.on_header_end,
                "on_headers_finished": self.on_headers_finished,
                "on_part_data": self.on_part_data,
                "on_part_end": self.on_part_end,
                "on_end": self.on_end,
            },
        )
        parser.logger = _SILENT
        return parser

    def form(self) -> Form:
        """All of it."""
        return Form(self._fields, self._filename, self._files)

    def check_overhead(self, size: int) -> None:
        """Account for ``size`` more bytes of the body; what of them are values was taken off already."""
        self._overhead_bytes += size
        if self._overhead_bytes > MAX_OVERHEAD_BYTES and not self.ended:
            raise TooLarge("the form without its values", MAX_OVERHEAD_BYTES)

    def begin_part(self) -> None:
        self._count += 1
        if self._count > MAX_PARTS:
            raise Invalid(f"the form has more than {MAX_PARTS} parts; send fewer fields")
        self._begin()

    def _begin(self) -> None:
        self._delimiters = _Counter(b"\r\n--" + self._boundary)
        self._header_field = bytearray()
        self._header_value = bytearray()
        self._header_bytes = 0
        self._disposition: str | None = None
        self._name = ""
        self._is_content = False
        self._is_ignored = False
        self._limit = 0
        self._value = bytearray()

    def on_header_field(self, data: bytes, start: int, end: int) -> None:
        self._count_header(end - start)
        self._header_field += data[start:end]

    def on_header_value(self, data: bytes, start: int, end: int) -> None:
        self._count_header(end - start)
        self._header_value += data[start:end]

    def on_header_end(self) -> None:
        header = self._header_field.lower().decode("latin-1")
        value = self._header_value.strip(b" \t").decode("latin-1")
        self._header_field.clear()
        self._header_value.clear()
        # RFC 9110 5.5: to some readers these end the field.
        if "\n" in value or "\0" in value:
            raise Invalid(_MALFORMED)
        if header == "content-disposition":
            # The limit also keeps the parsing of parameters short, which is quadratic.
            if self._disposition is not None or len(value) > MAX_DISPOSITION_BYTES:
                raise Invalid(_MALFORMED)
            self._disposition = value
        elif header == "content-transfer-encoding" and value.lower() not in ("7bit", "8bit", "binary"):
            # RFC 7578 4.7 deprecates the field. Taking encoded bytes as they are would store a broken file.
            raise Invalid(f"parts with a Content-Transfer-Encoding are not supported; {_AGAIN}")

    def on_headers_finished(self) -> None:
        self._delimiters.add(b"\r\n")
        self._name, filename = _disposition(self._disposition)
        self._limit = MAX_FIELD_BYTES
        self._is_content = self._name == "content"
        if self._is_content:
            self._begin_content(filename)
        elif self._name in FILE_LIMITS:
            self._limit = FILE_LIMITS[self._name]
        else:
            # Files that nobody asked for are passed over: new clients may send new ones.
            self._is_ignored = filename is not None
            self._count_fields(len(self._name))

    def on_part_data(self, data: bytes, start: int, end: int) -> None:
        self._overhead_bytes -= end - start
        # A slice of the whole is the same object: pieces that hold nothing but content are not copied.
        piece = data[start:end]
        # RFC 2046 5.1.1 forbids a boundary in a part. The parser takes one for content that is not followed by a line break, or
        # that directly follows the header; others do not. It is also slow where it meets one.
        if self._delimiters.add(piece):
            raise Invalid(_MALFORMED)
        if self._is_content:
            self.arrived.append(piece)
            return
        if self._is_ignored:
            return
        if len(self._value) + end - start > self._limit:
            raise TooLarge(f"the form's part {shown(self._name)}", self._limit)
        if self._name not in FILE_LIMITS:
            self._count_fields(end - start)
        self._value += piece

    def on_part_end(self) -> None:
        if self._is_content or self._is_ignored:
            return
        if self._name in FILE_LIMITS:
            if self._name in self._files:
                raise Invalid(f"the form has more than one part {shown(self._name)}; {_AGAIN}")
            self._files[self._name] = bytes(self._value)
            return
        try:
            value = self._value.decode()
        except UnicodeDecodeError:
            raise Invalid(f"the form's field {shown(self._name)} is not UTF-8; {_AGAIN}") from None
        self._fields.setdefault(self._name, []).append(value)

    def on_end(self) -> None:
        self.ended = True

    def _begin_content(self, filename: str | None) -> None:
        if self._has_content:
            raise Invalid("the form has more than one part 'content'; upload one file at a time")
        self._has_content = True
        self._filename = filename or None
        wanted = [algorithm for name, algorithm in DIGEST_FIELDS.items() if any(self._fields.get(name, ()))]
        # Digests that come after the content cost a second reading, see Spool.digest.
        self._spool.want(*wanted)

    def _count_header(self, size: int) -> None:
        self._header_bytes += size
        if self._header_bytes > MAX_HEADER_BYTES:
            raise TooLarge("the header of a part of the form", MAX_HEADER_BYTES)

    def _count_fields(self, size: int) -> None:
        self._fields_bytes += size
        if self._fields_bytes > MAX_FIELDS_BYTES:
            raise TooLarge("the form without its file", MAX_FIELDS_BYTES)


def _disposition(value: str | None) -> tuple[str, str | None]:
    """Name and file name of a part, which clients write as they are in UTF-8 (RFC 7578 section 5.1)."""
    kind, parameters = parse_options_header(value)
    try:
        name = parameters.get(b"name", b"").decode()
        filename = parameters[b"filename"].decode() if b"filename" in parameters else None
    except UnicodeDecodeError:
        raise Invalid(f"a part's name or file name is not UTF-8; {_AGAIN}") from None
    if kind != b"form-data" or not name:
        raise Invalid(f'each part of the form needs `Content-Disposition: form-data; name="..."`; {_AGAIN}')
    return name, filename
