"""Content codings of documents. Pure."""

from __future__ import annotations

import zlib

_MAX_MEMBERS = 16


class UndecodableBody(ValueError):
    """The body is not in the coding that its Content-Encoding announces, or that coding is not known here."""


def decoded(raw: bytes, encoding: str, max_bytes: int) -> bytes:
    """A body without its Content-Encoding (the field's value, "" if there is none). Spec: RFC 9110 8.4.

    ``raw`` has been received completely. Never more than ``max_bytes`` + 1 bytes are made, whatever the body claims to be.

    >>> decoded(zlib.compress(b"text"), "deflate", 100)
    b'text'

    Raises:
        UndecodableBody: broken off, damaged, or in another coding than gzip or deflate, or in several.
        OverflowError: the decoded body is larger than ``max_bytes``.
    """
    codings = [coding for part in encoding.lower().split(",") if (coding := part.strip()) not in ("", "identity")]
    if not codings or not raw:
        if len(raw) > max_bytes:
            raise OverflowError
        return raw
    match codings:
        case ["gzip"] | ["x-gzip"]:
            return _inflated(raw, 31, _MAX_MEMBERS, max_bytes)
        case ["deflate"]:
            # RFC 9110 8.4.1.2 means the zlib format; some servers send the bare data.
            wrapped = raw[0] & 0x0F == 8 and int.from_bytes(raw[:2], "big") % 31 == 0
            return _inflated(raw, 15 if wrapped else -15, 1, max_bytes)
        case _:
            raise UndecodableBody("the body has a content encoding that was not asked for")


def _inflated(raw: bytes, window_bits: int, max_members: int, max_bytes: int) -> bytes:
    parts: list[bytes] = []
    room = max_bytes
    for _ in range(max_members):
        inflater = zlib.decompressobj(window_bits)
        try:
            part = inflater.decompress(raw, room + 1)
        except zlib.error as error:
            raise UndecodableBody("the compressed body is damaged") from error
        room -= len(part)
        if room < 0:
            raise OverflowError
        if not inflater.eof:
            raise UndecodableBody("the compressed body broke off")
        parts.append(part)
        # RFC 1952 2.2: a gzip file is a series of members. Zeros that pad it are common.
        raw = inflater.unused_data.lstrip(b"\0")
        if not raw:
            return b"".join(parts)
    raise UndecodableBody("the compressed body is followed by something else")
