"""What a scripted upstream answers: bodies, replies with their faults, and how they are put on the wire."""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
import socket
import struct
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

_BLOCK_BYTES = 64 * 1024


@dataclass(frozen=True)
class Synthetic:
    """``size`` bytes that are never in memory together, always the same for one ``seed``, and do not compress.

    >>> Synthetic(10**12).read(10**11, 4) == Synthetic(10**12).read(10**11, 4)
    True
    """

    size: int
    seed: int = 0

    def read(self, offset: int, length: int) -> bytes:
        """The bytes from ``offset``, at most ``length`` and not beyond the end."""
        stop = max(offset, min(offset + length, self.size))
        first, last = offset // _BLOCK_BYTES, -(-stop // _BLOCK_BYTES)
        joined = b"".join(self._block(number) for number in range(first, last))
        return joined[offset - first * _BLOCK_BYTES : stop - first * _BLOCK_BYTES]

    def _block(self, number: int) -> bytes:
        # Each has its number in it, so that swapped or repeated blocks do not pass for right.
        return number.to_bytes(8, "big") + _noise(self.seed)[8:]


_NOISE: dict[int, bytes] = {}


def _noise(seed: int) -> bytes:
    if seed not in _NOISE:
        _NOISE[seed] = hashlib.shake_256(seed.to_bytes(8, "big")).digest(_BLOCK_BYTES)
    return _NOISE[seed]


Body: TypeAlias = bytes | Synthetic | Path


@dataclass(frozen=True)
class Reply:
    """One scripted answer.

    Attributes:
        body: Its content: bytes, :class:`Synthetic`, or the path of a file.
        status: Its status.
        headers: Further fields; given ones replace those that the server would send.
        content_type: Media type; "" sends none.
        etag: Opaque tag without quotes. A matching ``If-None-Match`` is then answered 304.
        last_modified: An HTTP date. The same date in ``If-Modified-Since`` is then answered 304.
        ranges: Whether single ranges are answered 206, as far as ``status`` is 200.
        chunked: Send it chunked, without a length.
        content_length: Claim this length, whatever the body's is; the connection is closed after the body.
        delay_seconds: Silence before the head.
        pause_seconds: Silence after each piece.
        piece_bytes: How much is sent at a time.
        cut_after: Break the connection after so many bytes of the body, before the last chunk if it is chunked.
        cut_orderly: Break it by closing it, not by a reset.
        hang: Take the request and never answer.
        hang_after: Fall silent after so many bytes of the body.
    """

    body: Body = b""
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    content_type: str = "application/octet-stream"
    etag: str = ""
    last_modified: str = ""
    ranges: bool = True
    chunked: bool = False
    content_length: int | None = None
    delay_seconds: float = 0
    pause_seconds: float = 0
    piece_bytes: int = 256 * 1024
    cut_after: int | None = None
    cut_orderly: bool = False
    hang: bool = False
    hang_after: int | None = None


def sha256_of(body: Body) -> str:
    """Digest of a body, in lower-case hex; of large ones read in pieces."""
    digest = hashlib.sha256()
    for offset in range(0, size_of(body), 1 << 20):
        digest.update(_read(body, offset, 1 << 20))
    return digest.hexdigest()


def size_of(body: Body) -> int:
    """Length of a body in bytes."""
    if isinstance(body, Path):
        return body.stat().st_size
    return body.size if isinstance(body, Synthetic) else len(body)


def _read(body: Body, offset: int, length: int) -> bytes:
    if isinstance(body, Synthetic):
        return body.read(offset, length)
    if isinstance(body, bytes):
        return body[offset : offset + length]
    descriptor = os.open(body, os.O_RDONLY)
    try:
        return os.pread(descriptor, length, offset)
    finally:
        os.close(descriptor)


def outcome(reply: Reply, method: str, headers: Mapping[str, str]) -> tuple[int, int, int]:
    """Status, and the part of the body as first position and end, that a request with these fields gets.

    On purpose not Nora's own code: a test must not share the mistakes of what it tests.
    """
    size = size_of(reply.body)
    if reply.status != 200:
        return reply.status, 0, size
    tags = [tag.strip().removeprefix("W/") for tag in headers.get("if-none-match", "").split(",")]
    if "if-none-match" in headers:
        if reply.etag and (f'"{reply.etag}"' in tags or "*" in tags):
            return 304, 0, 0
    elif reply.last_modified and headers.get("if-modified-since") == reply.last_modified:
        return 304, 0, 0
    asked = re.fullmatch(r"bytes=(\d*)-(\d*)", headers.get("range", ""), re.ASCII)
    unchanged = headers.get("if-range", f'"{reply.etag}"') == f'"{reply.etag}"'
    if not (asked and asked[0] != "bytes=-" and reply.ranges and unchanged and method == "GET"):
        return 200, 0, size
    if asked[1]:
        start, stop = int(asked[1]), min(int(asked[2] or size - 1) + 1, size)
    else:
        start, stop = max(0, size - int(asked[2])), size
    return (206, start, stop) if start < stop else (416, 0, 0)


def head_of(reply: Reply, status: int, start: int, stop: int) -> bytes:
    """The answer's head as bytes, for the part of the body from ``start`` to ``stop``."""
    fields: dict[str, str] = {}
    if reply.content_type:
        fields["Content-Type"] = reply.content_type
    if reply.etag:
        fields["ETag"] = f'"{reply.etag}"'
    if reply.last_modified:
        fields["Last-Modified"] = reply.last_modified
    if status == 206:
        fields["Content-Range"] = f"bytes {start}-{stop - 1}/{size_of(reply.body)}"
    if status == 416:
        fields["Content-Range"] = f"bytes */{size_of(reply.body)}"
    if reply.ranges and status in (200, 206):
        fields["Accept-Ranges"] = "bytes"
    if reply.chunked:
        fields["Transfer-Encoding"] = "chunked"
    elif status not in (204, 304):
        fields["Content-Length"] = str(stop - start if reply.content_length is None else reply.content_length)
    given = {name.lower() for name in reply.headers}
    fields = {name: value for name, value in fields.items() if name.lower() not in given} | dict(reply.headers)
    lines = [f"HTTP/1.1 {status} Scripted", *(f"{name}: {value}" for name, value in fields.items()), "", ""]
    return "\r\n".join(lines).encode("latin-1")


async def send_body(reply: Reply, start: int, stop: int, writer: asyncio.StreamWriter) -> bool:
    """Send a part of the body with its scripted faults; whether the connection is still good."""
    faults = [start + after for after in (reply.cut_after, reply.hang_after) if after is not None]
    fault = min(faults, default=None)
    end = stop if fault is None else min(stop, fault)
    for position in range(start, end, reply.piece_bytes):
        piece = _read(reply.body, position, min(reply.piece_bytes, end - position))
        writer.write(b"%x\r\n%s\r\n" % (len(piece), piece) if reply.chunked else piece)
        await writer.drain()
        if reply.pause_seconds:
            await asyncio.sleep(reply.pause_seconds)
    await writer.drain()
    if fault is not None and fault <= stop:
        if reply.hang_after is not None and fault == start + reply.hang_after:
            await asyncio.Event().wait()
        # A reset takes along what the other side has not read yet, so it gets a moment to do so.
        await asyncio.sleep(0.05)
        if not reply.cut_orderly:
            reset(writer)
        return False
    if reply.chunked:
        writer.write(b"0\r\n\r\n")
        await writer.drain()
    return True


def reset(writer: asyncio.StreamWriter) -> None:
    """Break a connection in the rudest way: what the other side has not read yet may be lost."""
    connection = writer.get_extra_info("socket")
    with suppress(OSError):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
