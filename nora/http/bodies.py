"""Bodies of held answers: how they are counted, and how they get to the client without being copied more than needed."""

from __future__ import annotations

import os
import socket
import time
from collections import OrderedDict
from typing import Any

MAX_BODY_BYTES = 16 * 1024 * 1024
"""A larger body, which nobody should have to keep for a client that does not read, goes out the usual way in pieces."""
JOINED_BYTES = 16 * 1024
"""Up to here it is cheapest to copy a body behind its head."""
FILED_BYTES = range(64 * 1024, 512 * 1024)
"""Bodies of such a length are sent from a file in memory: its pages are handed over, and not copied. Where a body is larger, copies
in large pieces are quicker for both sides together."""
SHARED_BYTES = 256 * 1024
"""Up to here bodies are compared, since each request for a file brings its own copy."""
MAX_FILES = 128
"""Descriptors are scarce in some places."""
BUSY_SECONDS = 1.0
"""A file that was used within this time is not closed to make room for another one."""

_MORE = getattr(socket, "MSG_MORE", 0)


class Bodies:
    """The bodies of all entries, each counted once however many have it, and files in memory for some of them."""

    def __init__(self) -> None:
        self._counts: dict[int, int] = {}  # by id: how many entries have this body
        self._shared: dict[bytes, bytes] = {}  # short ones, by what is in them
        self._files: OrderedDict[int, tuple[int, float]] = OrderedDict()  # by id: descriptor, last use; the latest is the last
        self.size = 0

    def add(self, body: bytes) -> bytes:
        """One more entry has this body, or the equal one that is returned."""
        if not body:
            return body
        if len(body) <= SHARED_BYTES:
            body = self._shared.setdefault(body, body)
        count = self._counts.get(id(body), 0)
        self._counts[id(body)] = count + 1
        self.size += 0 if count else _weight(body)
        return body

    def remove(self, body: bytes) -> None:
        """One entry less has it."""
        if not body:
            return
        count = self._counts.pop(id(body)) - 1
        if count:
            self._counts[id(body)] = count
            return
        self.size -= _weight(body)
        if len(body) <= SHARED_BYTES:
            del self._shared[body]
        if (file := self._files.pop(id(body), None)) is not None:
            os.close(file[0])

    def file(self, body: bytes) -> int | None:
        """A descriptor of a file with these bytes, which is good until anything else is called here; ``None`` if there is none."""
        now = time.monotonic()
        descriptor: int | None
        if (file := self._files.get(id(body))) is not None:
            descriptor = file[0]
        elif id(body) not in self._counts or not self._has_room(now) or (descriptor := _made(body)) is None:
            return None
        self._files[id(body)] = (descriptor, now)
        self._files.move_to_end(id(body))
        return descriptor

    def _has_room(self, now: float) -> bool:
        if len(self._files) < MAX_FILES:
            return True
        oldest, (descriptor, used_at) = next(iter(self._files.items()))
        if now - used_at < BUSY_SECONDS:
            return False
        del self._files[oldest]
        os.close(descriptor)
        return True


def send(protocol: Any, head: bytes, body: bytes, bodies: Bodies) -> None:
    """Write an answer to a connection that has nothing else to write. What its client does not take at once leaves when it does.

    ``protocol`` has a ``transport`` and a ``channel()``, see :class:`nora.http.protocol.HeldProtocol`.
    """
    if len(body) <= JOINED_BYTES:
        protocol.transport.write(head + body)
    elif (
        len(body) not in FILED_BYTES
        or protocol.transport.is_closing()
        or (channel := protocol.channel()) is None
        or (descriptor := bodies.file(body)) is None
    ):
        protocol.transport.writelines((head, body))
    else:
        _send_file(protocol.transport, channel, head, body, descriptor)


def _send_file(transport: Any, channel: socket.socket, head: bytes, body: bytes, descriptor: int) -> None:
    sent, all_bytes = 0, len(head) + len(body)
    try:
        sent = channel.send(head, _MORE)
        while len(head) <= sent < all_bytes:
            sent += os.sendfile(channel.fileno(), descriptor, sent - len(head), all_bytes - sent)
    except OSError:
        pass  # whatever it is, such as a client that is gone, the transport will find out when it writes the rest
    if sent < len(head):
        transport.writelines((head[sent:], body))
    elif sent < all_bytes:
        transport.write(memoryview(body)[sent - len(head) :])


def _made(body: bytes) -> int | None:
    try:
        descriptor = os.memfd_create("nora-body", os.MFD_CLOEXEC)
    except (AttributeError, OSError):
        return None
    try:
        if os.write(descriptor, body) == len(body):
            return descriptor
    except OSError:
        pass
    os.close(descriptor)
    return None


def _weight(body: bytes) -> int:
    return 2 * len(body) if len(body) in FILED_BYTES else len(body)
