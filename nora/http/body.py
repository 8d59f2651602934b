"""Request bodies, in pieces and within the limit."""

from __future__ import annotations

import re
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

from sanic.exceptions import BadRequest, PayloadTooLarge
from sanic.request import Request

from nora.api import Invalid, TooLarge

# RFC 9112 7.1: what ends the chunk before, or the head; a size in hex and nothing else but extensions.
_CHUNK_HEADER = re.compile(rb"\r\n[0-9A-Fa-f]{1,16}[ \t]*(?:;[^\r\n]*)?\r\n")
_LONGEST_CHUNK_HEADER = 64

PATIENCE_SECONDS = 60
SLOWEST_BYTES_PER_SECOND = 100
"""After the time above, a body that comes more slowly on the whole is given up (CWE-400); no line that anybody uses is as slow."""


async def check_chunk_header(stream: Any) -> None:
    """Look at the next chunk's header before Sanic does, which takes any two bytes for the line break in front of it.

    Raises:
        BadRequest: the body is not chunked as it says.
    """
    if stream.request_body != "chunked" or stream.request_bytes_left:
        return
    if stream.expecting_continue:
        stream.expecting_continue = False
        await stream.protocol.send(b"HTTP/1.1 100 Continue\r\n\r\n")
    buffer = stream.recv_buffer
    while buffer.find(b"\r\n", 2) < 0 and len(buffer) <= _LONGEST_CHUNK_HEADER:
        await stream.protocol.receive_more()
    if not _CHUNK_HEADER.match(buffer):
        stream.keep_alive = False
        raise BadRequest("bad chunk header")


class BodyReader:
    """Reads the bodies of all uploads; ``limit_bytes`` is ``body_limit_mb`` in bytes."""

    def __init__(self, limit_bytes: int, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.limit_bytes, self._clock = limit_bytes, clock

    async def __call__(self, request: Request) -> AsyncIterator[bytes]:
        """See :meth:`nora.api.Registry.body`."""
        announced = request.headers.get("content-length")
        if announced is not None and int(announced) > self.limit_bytes:
            raise self._too_large()
        stream: Any = request.stream
        total, begun = 0, self._clock()
        try:
            while True:
                await check_chunk_header(stream)
                if (piece := await stream.read()) is None:
                    break
                total += len(piece)
                if total > self.limit_bytes:
                    raise self._too_large()
                if total < (self._clock() - begun - PATIENCE_SECONDS) * SLOWEST_BYTES_PER_SECOND:
                    stream.keep_alive = False
                    raise Invalid(f"the body comes more slowly than {SLOWEST_BYTES_PER_SECOND} bytes a second; send it again")
                yield piece
        except (BadRequest, PayloadTooLarge) as error:
            raise Invalid("the body is not framed as its header says; send it again") from error

    def _too_large(self) -> TooLarge:
        return TooLarge("the upload", self.limit_bytes)
