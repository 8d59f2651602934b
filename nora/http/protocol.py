"""Sanic's connections, with a look at the prepared answers (``fast.py``) and at limits (``refusals.py``) before anything else.

This relies on a few things of Sanic's that are not documented: ``_http`` is the request cycle of a connection, and its ``request`` is
``None`` from the moment when it is ready for the next request; ``recv_buffer`` holds what has arrived and was not read yet; ``_time`` is
when something last happened. ``tests/unit/http/test_fast_connections.py`` guards them.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
import termios
import time
from array import array
from collections.abc import Callable
from typing import Any

from sanic.http.constants import Stage

from nora.http.fast import HeldPages
from nora.http.heads import MAX_HEAD_BYTES, is_secure
from nora.http.patient import PatientProtocol
from nora.http.refusals import Refusals

LEAVING_SECONDS = 10.0
"""How often a connection is looked after whose client takes its time."""
STALLED_SECONDS = 120.0
"""How long a client may take nothing of an answer that waits for it."""


class HeldProtocol(PatientProtocol):
    """Sanic's protocol, with a look at the prepared answers before it. They are in ``app.ctx.held_pages``.

    To Sanic the connection is idle when such an answer is written, but a slow client may not have read it for long: as long as
    it reads, neither idleness nor a stop cuts it off.

    Attributes:
        origin: See :meth:`nora.http.fast.HeldPages.origin`, which stays the same as long as the connection lasts.
        take_back: Gives up the answer that was begun and is not over, if there is one; see :meth:`wait_for_answer`.
    """

    __slots__ = ("_begun", "_channel", "_held", "_left", "_refusals", "origin", "take_back")

    def __init__(self, **parts: Any) -> None:
        super().__init__(**parts)
        self._held: HeldPages = self.app.ctx.held_pages
        self._refusals: Refusals = self.app.ctx.refusals
        self._begun, self.origin = False, b""
        self.take_back: Callable[[], None] | None = None
        self._left = (0, 0)
        self._channel: socket.socket | None = None

    def connection_made(self, transport: Any) -> None:
        """See :class:`asyncio.Protocol`."""
        super().connection_made(transport)  # type: ignore[no-untyped-call]
        self.origin = self._held.origin(self.conn_info.client_ip if self.conn_info is not None else "", transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """See :class:`asyncio.Protocol`."""
        if self._channel is not None:
            self._channel.close()
        if self.take_back is not None:
            self.take_back()
        super().connection_lost(exc)  # type: ignore[no-untyped-call]

    def channel(self) -> socket.socket | None:
        """A socket object of this connection's, since the transport lets nobody send by its own; ``None`` if there is none left.

        It has a descriptor of its own, so it never writes to a connection that was accepted after this one was closed.
        """
        if self._channel is None and self.transport is not None and not is_secure(self.transport):
            shown = self.transport.get_extra_info("socket")
            with contextlib.suppress(OSError):
                self._channel = socket.socket(shown.family, socket.SOCK_STREAM, 0, os.dup(shown.fileno()))
        return self._channel

    def _setup_connection(self, *args: Any, **kwargs: Any) -> None:
        super()._setup_connection(*args, **kwargs)  # type: ignore[no-untyped-call]
        self._http.request = None
        self._begun = True

    def data_received(self, data: bytes) -> None:
        """See :class:`asyncio.Protocol`."""
        http, transport = self._http, self.transport
        if (
            # Between requests: the one before is over, and Sanic waits for the first byte of the next, or has not begun to.
            (not self._begun if http is None else http.request is None)
            and transport is not None
            and self._task is not None
            and not self._task.cancelling()  # then it is closed in a moment, as far as its client knows without an answer
            and not self.recv_buffer
            and len(data) <= MAX_HEAD_BYTES
            # A client that asks and does not read gets its answers the usual way, which waits for it.
            and not transport.get_write_buffer_size()
            and (self._held.serve(data, self) or self._refusals.serve(data, self))
        ):
            self._time = time.monotonic()
            return
        super().data_received(data)

    def wait_for_answer(self, take_back: Callable[[], None]) -> None:
        """Read nothing until :meth:`answered` is called. If the client leaves before, ``take_back`` is."""
        assert self.transport is not None
        self.transport.pause_reading()
        self.take_back = take_back

    def answered(self, answer: bytes = b"") -> None:
        """The answer that the client waits for is over, but for these bytes of it; the next request may follow."""
        self.take_back = None
        if self.transport is not None and not self.transport.is_closing():
            self._time = time.monotonic()
            if answer:
                self.transport.write(answer)
            self.transport.resume_reading()

    def break_off(self) -> None:
        """The answer that the client waits for will never be whole."""
        self.take_back = None
        if self.transport is not None:
            self.transport.abort()

    async def receive_more(self) -> None:
        """Sanic's wait for more, which may begin only now on a new connection: while an answer is on its way nothing is read."""
        if self.take_back is None and self.transport is not None:
            self.transport.resume_reading()
        self._data_received.clear()
        await self._data_received.wait()

    def check_timeouts(self) -> None:
        """Sanic's check, which this connection is not ready for while its last answer is leaving."""
        is_leaving = self.take_back is not None or self._leaving()
        # The transport, and whoever sends a file, gets on in steps of a megabyte or more: the kernel knows better.
        if is_leaving and (left := (self._leaving(), self._in_kernel(termios.TIOCOUTQ))) != self._left:
            self._left, self._time = left, time.monotonic()
        if is_leaving and time.monotonic() - self._time <= min(STALLED_SECONDS, self.response_timeout):
            self._callback_check_timeouts = self.loop.call_later(LEAVING_SECONDS, self.check_timeouts)
            return
        super().check_timeouts()  # type: ignore[no-untyped-call]

    def close_if_idle(self) -> bool:
        """Close the connection if nothing is on its way in either direction; whether it was closed.

        To close it while something is unread would reset it, and the client would lose what the kernel has not delivered yet.
        """
        if self.take_back is not None or self._leaving() or self._in_kernel(termios.FIONREAD):
            return False
        return bool(super().close_if_idle())

    def _in_kernel(self, queue: int) -> int:
        """Bytes that have come and were not read, or have left and were not acknowledged; 0 where the system does not tell."""
        count = array("i", [0])
        if self.transport is not None and not self.transport.is_closing():
            with contextlib.suppress(OSError):
                fcntl.ioctl(self.transport.get_extra_info("socket").fileno(), queue, count)
        return count[0]

    def _leaving(self) -> int:
        """Bytes of a complete answer that the client has not taken yet."""
        http, transport = self._http, self.transport
        idle = not self._begun if http is None else http.stage is Stage.IDLE
        return transport.get_write_buffer_size() if idle and transport is not None and not transport.is_closing() else 0
