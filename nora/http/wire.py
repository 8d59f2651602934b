"""Responses as they go over the wire.

A response of ours writes its bytes itself and then puts Sanic's request cycle into the state that Sanic's own would leave it
in. That touches a few of Sanic's attributes that are not documented: ``stream.stage``, ``stream.response_func`` and
``stream.request_body``; ``tests/unit/http/test_wire.py`` guards them. In return a warm page costs little more than the write,
the head is exactly ours, and a transfer that fails in its middle can be broken off instead of being ended well.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable
from email.utils import formatdate
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from sanic.http.constants import Stage
from sanic.response import BaseHTTPResponse

from nora.context import Standing
from nora.http.held_files import HeldFile

if TYPE_CHECKING:
    from sanic.request import Request

log = logging.getLogger(__name__)

Fields = Iterable[tuple[str, str]]

BODILESS = frozenset({204, 304})
"""Statuses whose answers end with the head (RFC 9112 6.3)."""
PIECE_BYTES = 256 * 1024
"""Largest write that is not followed by a look at the client's pace."""
LINGER_SECONDS = 60
"""How long a client that was refused may go on sending its body, so that it comes to read why (RFC 9112 9.6)."""
EXPECTING_LINGER_SECONDS = 5
"""The same for a client that asked beforehand whether it should send it at all."""

_STATUS_LINES = {status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n" for status in HTTPStatus}
_FORBIDDEN = str.maketrans("", "", "\r\n\x00")
_date: tuple[int, str, bytes] = (-1, "", b"")


def http_date() -> str:
    """The current time as a Date field (RFC 9110 6.6.1), made once per second."""
    return _at(int(time.time()))[1]


def lasting_end(now: float) -> bytes:
    """The end of a head after which the connection is kept, at this time in seconds since the epoch; as :func:`head_bytes` has it."""
    return _at(int(now))[2]


def _at(second: int) -> tuple[int, str, bytes]:
    global _date
    if _date[0] != second:
        text = formatdate(second, usegmt=True)
        _date = (second, text, _end(text, "keep-alive").encode())
    return _date


def head_bytes(status: int, fields: Fields, *, keep_alive: bool, reason: str = "") -> bytes:
    """Status line and fields, the empty line included. Line breaks inside values are removed."""
    return start_bytes(status, fields, reason) + _end(http_date(), "keep-alive" if keep_alive else "close").encode()


def start_bytes(status: int, fields: Fields, reason: str = "") -> bytes:
    """The part of :func:`head_bytes` that does not change with time and connection. ``reason`` is of a status line, else the usual one."""
    lines = [f"HTTP/1.1 {status} {reason}\r\n" if reason else _STATUS_LINES.get(status) or f"HTTP/1.1 {status} Status\r\n"]
    lines += [f"{name}: {value.translate(_FORBIDDEN)}\r\n" for name, value in fields]
    return "".join(lines).encode("utf-8", "surrogateescape")


def _end(date: str, connection: str) -> str:
    return f"date: {date}\r\nconnection: {connection}\r\n\r\n"


class Broken(Exception):
    """The rest of a body will never come, so the connection must not look as if it had."""


class Outgoing(BaseHTTPResponse):
    """A response that sends itself.

    Attributes:
        fields: Response fields, without Date, Connection and Content-Length or Transfer-Encoding.
        content_length: Length of the body in bytes; ``None`` if it has none by its nature or none is known.
        reason: Reason phrase, printable ASCII; "" is the usual one of the status.
        bytes_sent: Of the body, after :meth:`send`.
        broken: Whether the body was broken off.
        standing: How long what it was made of stands, a page or a file, if that is known.
    """

    def __init__(
        self,
        status: int,
        fields: list[tuple[str, str]],
        body: bytes = b"",
        *,
        content_length: int | None = None,
        head_only: bool = False,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.status = status
        self.fields = fields
        self.body = body
        self.content_length = len(body) if content_length is None else content_length
        self.head_only = head_only
        self.reason = ""
        self.bytes_sent = 0
        self.broken = False
        self.standing: Standing | None = None
        self.on_sent: Callable[[Outgoing], None] = lambda _: None

    async def send(self, data: Any = None, end_stream: bool | None = None) -> None:
        """Send everything; called by Sanic, once or twice."""
        stream: Any = self.stream
        if stream is None or stream.stage is not Stage.HANDLER:
            return
        stream.response_func = None
        stream.stage = Stage.RESPONSE
        settle_unread_body(stream)
        try:
            await self.transmit(stream)
            stream.stage = Stage.IDLE
        except BaseException as error:
            self.broken = True
            stream.keep_alive = False
            stream.stage = Stage.FAILED
            if stream.protocol.transport is not None:
                stream.protocol.transport.abort()
            if not isinstance(error, (Broken, OSError)):
                raise
            log.debug("response broken off", extra={"error": repr(error)})
        finally:
            await self.aclose()
            self.on_sent(self)

    async def transmit(self, stream: Any) -> None:
        """Write head and body."""
        head = head_bytes(self.status, self.framed(stream), keep_alive=stream.keep_alive, reason=self.reason)
        body = b"" if self.head_only or self.status in BODILESS else self.body or b""
        await write(stream, head, body)
        self.bytes_sent = len(body)

    def framed(self, stream: Any) -> list[tuple[str, str]]:
        """The fields with Content-Length, where the status allows one (RFC 9110 8.6)."""
        if self.status in BODILESS:
            return self.fields
        return [*self.fields, ("content-length", str(self.content_length))]

    def whole(self) -> bytes | None:
        """The body, to be kept for others; ``None`` if it is not all here, or too large for that."""
        return bytes(self.body or b"")

    def held_file(self) -> HeldFile | None:
        """The same as an open file of the caller's, where :meth:`whole` has nothing; ``None`` if it is not all here."""
        return None

    async def aclose(self) -> None:
        """Let go of what the body comes from."""


async def write(stream: Any, head: bytes, body: bytes) -> None:
    """Write with back-pressure: a large body goes in pieces, each when the client has taken most of the one before."""
    if len(body) <= PIECE_BYTES:
        await stream.protocol.send(head + body if body else head)
        return
    await stream.protocol.send(head)
    view = memoryview(body)
    for start in range(0, len(body), PIECE_BYTES):
        await stream.protocol.send(bytes(view[start : start + PIECE_BYTES]))


def settle_unread_body(stream: Any) -> None:
    """Decide what happens to a request body that nobody read: it must not be taken for the next request (RFC 9112 9.3)."""
    if not stream.request_body:
        return
    stream.keep_alive = False
    # A client that waits for our word before it sends the body gets this answer instead, and need not send it.
    linger_seconds = EXPECTING_LINGER_SECONDS if stream.expecting_continue else LINGER_SECONDS
    stream.expecting_continue = False
    # Sanic reads and drops the rest after the answer, up to this size; time is the limit that matters.
    stream.protocol.request_max_size = stream.request_max_size = float("inf")
    transport = stream.protocol.transport
    asyncio.get_running_loop().call_later(linger_seconds, _abort_if_open, transport)


def _abort_if_open(transport: Any) -> None:
    if transport is not None and not transport.is_closing():
        transport.abort()


def is_head(request: Request) -> bool:
    """Whether the answer must have no body."""
    return bool(request.method == "HEAD")
