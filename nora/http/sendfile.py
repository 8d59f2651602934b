"""Sending files: zero-copy, at the client's pace, whether the file is complete or still growing."""

from __future__ import annotations

import asyncio
import logging
import os
import select
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from nora.api import ByteSource, NoraError
from nora.http.held_files import HeldFile
from nora.http.wire import PIECE_BYTES, Broken, Outgoing, head_bytes, write

log = logging.getLogger(__name__)

VISIT_SECONDS = 0.02
"""How long one visit to a thread lasts, give or take a step."""
STEP_BYTES = 1024 * 1024
MAX_PAUSE_SECONDS = 1.0
"""Between two looks whether a client has taken what was written before."""
MOMENT_MS = 1
"""How long a thread waits for room in a client's buffer: a fast one has some by then, and to ask the event loop takes as long."""


class FileAnswer(Outgoing):
    """Sends bytes ``start`` to ``stop`` of a source (``stop`` is ``None``: to its end, whose place is not known yet)."""

    def __init__(
        self,
        status: int,
        fields: list[tuple[str, str]],
        source: ByteSource,
        start: int = 0,
        stop: int | None = None,
        *,
        head_only: bool = False,
    ) -> None:
        super().__init__(status, fields, content_length=None if stop is None else stop - start, head_only=head_only)
        self._source, self._start, self._stop = source, start, stop
        self._chunked = False
        self._whole: bytes | None = None

    async def transmit(self, stream: Any) -> None:
        """See :class:`Outgoing`."""
        if self._stop is None and not self.head_only:
            await self._settle_length(stream)
        head = head_bytes(self.status, self.framed(stream), keep_alive=stream.keep_alive)
        if self.head_only:
            await write(stream, head, b"")
            return
        if self._whole is not None:
            await write(stream, head, self._whole)
            self.bytes_sent = len(self._whole)
            return
        descriptor = self._source.open()
        try:
            if self._chunked or stream.protocol.transport.get_extra_info("ssl_object") is not None:
                await self._copy(stream, head, descriptor)
            elif (length := self._small_length()) is not None:
                body = read_fully(descriptor, self._start, length)
                await write(stream, head, body)
                self.bytes_sent = len(body)
            else:
                await self.send_plain(stream.protocol, head, descriptor)
        finally:
            os.close(descriptor)

    def framed(self, stream: Any) -> list[tuple[str, str]]:
        """See :class:`Outgoing`."""
        if self._chunked:
            return [*self.fields, ("transfer-encoding", "chunked")]
        if self._stop is None:
            return self.fields
        return [*self.fields, ("content-length", str(self._stop - self._start))]

    def whole(self) -> bytes | None:
        """See :class:`Outgoing`."""
        if self._whole is None and not self.head_only and (length := self._small_length()) is not None:
            descriptor = self._source.open()
            try:
                # What is shorter than it should be breaks the connection when it is sent.
                with suppress(Broken):
                    self._whole = read_fully(descriptor, self._start, length)
            finally:
                os.close(descriptor)
        return self._whole

    def held_file(self) -> HeldFile | None:
        """See :class:`Outgoing`."""
        if self.head_only or self._start or self._stop is None or self._stop <= PIECE_BYTES or not self._source.complete:
            return None
        try:
            return HeldFile(self._source.open(), self._stop)
        except OSError:  # no descriptor is left for what is only quicker
            return None

    async def aclose(self) -> None:
        """See :class:`Outgoing`."""
        await self._source.aclose()

    def _small_length(self) -> int | None:
        """How long it is, if all of it is here and can be read at once without anybody having to wait."""
        length = self._stop - self._start if self._stop is not None and self._source.complete else None
        return length if length is not None and length <= PIECE_BYTES else None

    async def _settle_length(self, stream: Any) -> None:
        """Nobody knows how long it is. HTTP/1.1 can break off a chunked body; HTTP/1.0 has to wait for the whole."""
        if stream.request.version == "1.1" and not self._source.complete:
            self._chunked = True
            return
        while not self._source.complete:
            await self._wait(stream.protocol, self._source.available())
        self._stop = self._source.available()

    async def _more(self, protocol: Any, position: int) -> int:
        """How far the source may be sent from ``position``; ``position`` itself at the end."""
        while True:
            end = self._source.available() if self._stop is None else min(self._stop, self._source.available())
            if end > position or position == self._stop:
                return end
            if self._source.complete:
                if self._stop is not None:
                    raise Broken(f"the file ends at {end}, before {self._stop}")
                return position
            await self._wait(protocol, position)

    async def _wait(self, protocol: Any, position: int) -> None:
        try:
            await self._source.wait(position)
        except NoraError as error:
            raise Broken(str(error)) from error
        # Waiting for an upstream is not a client's idleness.
        protocol._time = time.monotonic()

    async def _copy(self, stream: Any, head: bytes, descriptor: int) -> None:
        """By way of user space: TLS, or a length that nobody knows."""
        await stream.protocol.send(head)
        position = self._start
        while (end := await self._more(stream.protocol, position)) > position:
            while position < end:
                count = min(PIECE_BYTES, end - position)
                piece = await asyncio.get_running_loop().run_in_executor(None, read_fully, descriptor, position, count)
                framed = b"%x\r\n%b\r\n" % (count, piece) if self._chunked else piece
                await stream.protocol.send(framed)
                position += count
                self.bytes_sent += count
        if self._chunked:
            await stream.protocol.send(b"0\r\n\r\n")

    async def send_plain(self, protocol: Any, head: bytes, descriptor: int) -> None:
        """Send ``head`` and, by ``descriptor``, the bytes, over a connection that is not encrypted.

        Raises:
            Broken, OSError: the client is gone, or the file is shorter than it was.
        """
        if protocol.transport is None or protocol.transport.is_closing():
            raise Broken("the client is gone")
        await drained(protocol.transport)
        # The loop will not watch the descriptor of a transport for us, but it does watch a duplicate.
        out = os.dup(protocol.transport.get_extra_info("socket").fileno())
        try:
            await send_bytes(out, head, protocol)
            position = self._start
            while (end := await self._more(protocol, position)) > position:
                while position < end:
                    sent = await self._burst(out, descriptor, position, end - position)
                    protocol._time = time.monotonic()
                    position += sent
                    if position < end:
                        await writable(out, protocol)
        finally:
            os.close(out)

    async def _burst(self, out: int, source: int, start: int, count: int) -> int:
        """:func:`push` in a thread, where a slow disk harms nobody. Never leaves the thread behind with our descriptors."""
        job = asyncio.get_running_loop().run_in_executor(None, push, out, source, start, count)
        try:
            await asyncio.shield(job)
        finally:
            while not job.done():  # cancelled, perhaps more than once
                with suppress(asyncio.CancelledError):
                    await asyncio.wait([job])
            if not job.cancelled() and job.exception() is None:
                self.bytes_sent += job.result()
        return job.result()


def send_held(protocol: Any, head: bytes, file: HeldFile, descriptor: int, tell: Callable[[int, bool], None]) -> None:
    """Begin to send all of a file over a connection on which nothing else is on its way, and close ``descriptor``, which is of that file.

    ``protocol`` is a :class:`nora.http.protocol.HeldProtocol`. ``tell`` is called in the end with the bytes that were sent of the file, and
    whether it was broken off.
    """
    answer = FileAnswer(200, [], file, 0, file.size)
    task = asyncio.get_running_loop().create_task(answer.send_plain(protocol, head, descriptor))

    def done(task: asyncio.Task[None]) -> None:
        os.close(descriptor)
        error = None if task.cancelled() else task.exception()
        broken = task.cancelled() or error is not None
        if not broken:
            protocol.answered()
        else:
            protocol.break_off()
            if error is None or isinstance(error, Broken | OSError):
                log.debug("response broken off", extra={"error": repr(error)})
            else:
                log.error("a file could not be sent", exc_info=error)
        tell(answer.bytes_sent, broken)

    task.add_done_callback(done)
    protocol.wait_for_answer(task.cancel)


def read_fully(descriptor: int, start: int, count: int) -> bytes:
    """``count`` bytes from ``start``.

    Raises:
        Broken: the file is shorter.
    """
    pieces = []
    while count:
        piece = os.pread(descriptor, count, start)
        if not piece:
            raise Broken("the file is shorter than it was")
        pieces.append(piece)
        start, count = start + len(piece), count - len(piece)
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def push(out: int, source: int, start: int, count: int) -> int:
    """``sendfile`` until ``count`` bytes are sent, the time is over, or the client takes nothing for a moment; how many were sent."""
    sent, until = 0, time.monotonic() + VISIT_SECONDS
    room: select.poll | None = None
    while sent < count:
        try:
            step = os.sendfile(out, source, start + sent, min(STEP_BYTES, count - sent))
        except BlockingIOError:
            if room is None:
                room = select.poll()
                room.register(out, select.POLLOUT)
            if time.monotonic() > until or not room.poll(MOMENT_MS):
                break
            continue
        except OSError:
            if sent:
                break  # which counts; the next visit raises
            raise
        if step == 0:
            raise Broken("the file is shorter than it was")
        sent += step
        if time.monotonic() > until:
            break
    return sent


async def send_bytes(out: int, data: bytes, protocol: Any) -> None:
    """Write a few bytes to a socket that the loop does not write to now; more follow at once."""
    with socket.socket(fileno=os.dup(out)) as channel:
        view = memoryview(data)
        while view:
            try:
                view = view[channel.send(view, getattr(socket, "MSG_MORE", 0)) :]
            except BlockingIOError:
                await writable(out, protocol)


async def writable(out: int, protocol: Any) -> None:
    """Return when the client takes more, or raise when it is gone."""
    if protocol.transport is None or protocol.transport.is_closing():
        raise Broken("the client is gone")
    loop = asyncio.get_running_loop()
    ready = loop.create_future()
    loop.add_writer(out, _resolve, ready)
    try:
        await ready
    finally:
        loop.remove_writer(out)


def _resolve(ready: asyncio.Future[None]) -> None:
    if not ready.done():
        ready.set_result(None)


async def drained(transport: Any) -> None:
    """Return when everything written before has left for the kernel, so that our bytes come after it."""
    pause = 0.001
    while transport.get_write_buffer_size():
        if transport.is_closing():
            raise Broken("the client is gone")
        await asyncio.sleep(pause)
        pause = min(2 * pause, MAX_PAUSE_SECONDS)  # many may wait, and for minutes
