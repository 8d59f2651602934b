"""Encrypted connections, between TCP and the protocol that speaks HTTP.

The event loops have TLS of their own, and OpenSSL does the work here as there. But theirs hides how much of an answer has not left for
the kernel yet, and ends a connection only when the client has answered the end. So Sanic, which breaks off a connection that has
nothing left to send, would cut answers to slow clients, and a stop would wait for every idle client. Here the buffer that is seen is
the only one, and what is closed is closed as without TLS: when everything is sent.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any, cast

log = logging.getLogger(__name__)

HANDSHAKE_SECONDS = 15.0
"""How long a client may take from its connection to the end of the handshake."""
SLICE_BYTES = 64 * 1024
"""So much is encrypted, or handed on decrypted, at once: the buffers of a connection never grow much beyond it."""
RECORD_BYTES = 16 * 1024
"""The most that one record can hold (RFC 8446 5.1)."""
_PLAIN_BODY = b"This port speaks HTTPS only: ask with https:// instead of http://.\n"
PLAIN_ANSWER = (
    b"HTTP/1.1 400 Bad Request\r\ncontent-type: text/plain; charset=utf-8\r\n"
    b"content-length: %d\r\nconnection: close\r\n\r\n%b" % (len(_PLAIN_BODY), _PLAIN_BODY)
)
"""For a client that speaks HTTP without TLS."""


class Encrypting:
    """Makes the protocols of connections: TLS in front of another protocol.

    Args:
        inner: Makes a connection's protocol from Sanic's arguments.
        context: What a connection that begins now is encrypted by.
    """

    def __init__(self, inner: Callable[..., asyncio.Protocol], context: Callable[[], ssl.SSLContext]) -> None:
        self._inner, self._context = inner, context
        self._beginning: set[Encrypted] = set()

    def __call__(self, **parts: Any) -> Encrypted:
        """The protocol of one connection."""
        return Encrypted(self._inner(**parts), self._context(), self._beginning)

    def abort_handshakes(self) -> None:
        """End connections that are not encrypted yet; Sanic does not know of them."""
        for connection in list(self._beginning):
            connection.abort()


class Encrypted(asyncio.Transport, asyncio.Protocol):
    """One connection. Seen from TCP it is the protocol, seen from the protocol behind it the transport."""

    def __init__(self, inner: asyncio.Protocol, context: ssl.SSLContext, beginning: set[Encrypted]) -> None:
        super().__init__()
        self._inner, self._context, self._beginning = inner, context, beginning
        self._received, self._to_send = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._ssl = context.wrap_bio(self._received, self._to_send, server_side=True)
        self._encrypted = self._closing = self._paused = False

    # What TCP tells.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See :class:`asyncio.Protocol`."""
        self._tcp = cast(asyncio.Transport, transport)
        self._beginning.add(self)
        self._loop = asyncio.get_running_loop()
        self._deadline = self._loop.call_later(HANDSHAKE_SECONDS, self.abort)

    def data_received(self, data: bytes) -> None:
        """See :class:`asyncio.Protocol`."""
        self._received.write(data)
        if self._encrypted or self._shake_hands():
            self._decrypt()

    def eof_received(self) -> bool:
        """See :class:`asyncio.Protocol`. A client that sends no more is let go, as without TLS."""
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """See :class:`asyncio.Protocol`."""
        self._closing = True
        self._deadline.cancel()
        self._beginning.discard(self)
        if self._encrypted:
            self._inner.connection_lost(exc)

    def pause_writing(self) -> None:
        """See :class:`asyncio.Protocol`."""
        self._inner.pause_writing()

    def resume_writing(self) -> None:
        """See :class:`asyncio.Protocol`."""
        self._inner.resume_writing()

    def _shake_hands(self) -> bool:
        """Whether the handshake is done."""
        if self._tcp.is_closing():
            return False
        try:
            self._ssl.do_handshake()
        except ssl.SSLWantReadError:
            self._flush()
            return False
        except ssl.SSLError as error:
            if error.reason == "HTTP_REQUEST":
                self._tcp.write(PLAIN_ANSWER)
            self._fail(error)
            return False
        self._flush()
        self._deadline.cancel()
        self._beginning.discard(self)
        self._encrypted = True
        self._inner.connection_made(self)
        return True

    def _decrypt(self) -> None:
        """Hand on what has arrived, as long as it is wanted."""
        more = True
        while more and not self._paused and not self.is_closing():
            pieces, size = [], 0
            error: ssl.SSLError | None = None
            try:
                while size < SLICE_BYTES and (piece := self._ssl.read(RECORD_BYTES)):
                    pieces.append(piece)
                    size += len(piece)
                ended = size < SLICE_BYTES
            except ssl.SSLWantReadError:
                more = ended = False
            except ssl.SSLError as caught:
                error, ended = caught, True
            # OpenSSL may have something to say itself, such as new keys.
            self._flush()
            if pieces:
                self._inner.data_received(b"".join(pieces))
            if error is not None:
                self._fail(error)
            elif ended:
                # The client has said that it sends no more.
                self.close()

    def _fail(self, error: ssl.SSLError) -> None:
        """What came is not TLS, or not with this client: tell it why, and end."""
        log.debug("connection is not encrypted as it has to be", extra={"reason": error.reason or str(error)})
        self._closing = True
        self._flush()
        if self._encrypted and self._tcp.get_write_buffer_size():
            # It does not read either, and nobody looks at the time any more.
            self._tcp.abort()
        else:
            self._tcp.close()

    def _flush(self) -> None:
        if (data := self._to_send.read()) and not self._tcp.is_closing():
            self._tcp.write(data)

    # What the protocol behind asks.

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """See :class:`asyncio.BaseTransport`; ``sslcontext`` and ``ssl_object`` besides what TCP knows."""
        match name:
            case "sslcontext":
                return self._context
            case "ssl_object":
                return self._ssl
        return self._tcp.get_extra_info(name, default)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """See :class:`asyncio.WriteTransport`."""
        view = memoryview(data)
        while view and not self.is_closing():
            try:
                written = self._ssl.write(view[:SLICE_BYTES])
            except ssl.SSLError as error:
                self._fail(error)
                return
            view = view[written:]
            self._flush()

    def writelines(self, list_of_data: Iterable[bytes | bytearray | memoryview]) -> None:
        """See :class:`asyncio.WriteTransport`."""
        for data in list_of_data:  # not joined, which would be one more copy
            self.write(data)

    def is_closing(self) -> bool:
        """See :class:`asyncio.BaseTransport`."""
        return self._closing or self._tcp.is_closing()

    def close(self) -> None:
        """Say that this is the end, and close when everything is sent; the client's word is not waited for (RFC 8446 6.1)."""
        if self.is_closing():
            return
        self._closing = True
        # It wants the client's word, too, and says so by an error.
        with suppress(ssl.SSLError):
            self._ssl.unwrap()
        self._flush()
        self._tcp.close()

    def abort(self) -> None:
        """See :class:`asyncio.WriteTransport`."""
        self._closing = True
        self._tcp.abort()

    def is_reading(self) -> bool:
        """See :class:`asyncio.ReadTransport`."""
        return not self._paused and not self.is_closing()

    def pause_reading(self) -> None:
        """See :class:`asyncio.ReadTransport`."""
        if not self._paused and not self.is_closing():
            self._paused = True
            self._tcp.pause_reading()

    def resume_reading(self) -> None:
        """See :class:`asyncio.ReadTransport`. What is here already comes first, and soon: the protocol is busy asking for it."""
        if self._paused:
            self._paused = False
            self._loop.call_soon(self._go_on)

    def _go_on(self) -> None:
        self._decrypt()
        if self.is_reading():
            self._tcp.resume_reading()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """See :class:`asyncio.WriteTransport`."""
        self._tcp.set_write_buffer_limits(high=high, low=low)

    def get_write_buffer_limits(self) -> tuple[int, int]:
        """See :class:`asyncio.WriteTransport`."""
        return self._tcp.get_write_buffer_limits()

    def get_write_buffer_size(self) -> int:
        """See :class:`asyncio.WriteTransport`. Nothing waits anywhere else."""
        return self._tcp.get_write_buffer_size()
