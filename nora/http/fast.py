"""Held pages and files, served by a look-up and a write, or by a look-up and sendfile.

A cache leads from the exact head of a request to the prepared answer. The usual way of a request (``dispatch.py``) makes its
entries, of pages and files whose registry says what they rest on (:class:`nora.context.Standing`), and everything else goes that way: what
is not in the cache, what may have changed, and whatever comes while the connection is busy (``protocol.py``). So an entry needs no
understanding of HTTP to be right: the same head on an idle connection means the same request.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import random
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from sanic.request import Request

from nora import metrics
from nora.api import Actor
from nora.auth.access import Admitted
from nora.context import Standing
from nora.http.bodies import MAX_BODY_BYTES, Bodies, send
from nora.http.forwarded import Network, forwarded_address, is_trusted
from nora.http.heads import ID_FIELD, Sightings, is_repeatable, is_secure, without_id
from nora.http.held_files import IDLE_SECONDS, MAX_FILES, HeldFile
from nora.http.limits import RequestLimits
from nora.http.log import Lines, Told
from nora.http.sendfile import send_held
from nora.http.wire import BODILESS, Outgoing, lasting_end, start_bytes

ENTRY_BYTES = 1024
"""What an entry takes besides its head, its body and the key; rounded up."""
PROXIED, SECURE = b"proxied ", b"secure "
MAX_SECURE_BODY_BYTES = 512 * 1024
"""Of an answer that is encrypted, which each slow client has a copy of its own of: larger ones go out the usual way, in pieces."""
FLUSH_SECONDS = 1.0
"""How long answers may be missing in the metrics."""


class Tally:
    """Answers of one kind that are not yet in the metrics, which cost more than the rest of such an answer."""

    __slots__ = ("_hits", "_requests", "pending")

    def __init__(self, registry: str, method: str, status: int) -> None:
        self._requests = metrics.REQUESTS.labels(registry, method, str(status))
        self._hits = metrics.PAGE_CACHE_HITS.labels(registry)
        self.pending = 0

    def flush(self) -> None:
        """Add them up."""
        if count := self.pending:
            self.pending = 0
            self._requests.inc(count)
            self._hits.inc(count)


@dataclass(slots=True)
class Prepared:
    """An answer: ``start``, the request's id, ``middle``, the date, ``body`` or ``file``; what has to hold for it; what is told of it."""

    start: bytes
    middle: bytes
    body: bytes
    file: HeldFile | None
    weight: int
    standing: Standing
    admitted: Admitted
    tally: Tally
    told: Told
    client: str
    """Where the request comes from, if a proxy says so; "" is from where the connection does."""


class HeldPages:
    """The prepared answers of one process.

    Args:
        max_bytes: Bound for everything that is held. A body counts once, however many heads lead to it, and although the
            registries' own caches of pages may hold the same bytes.
        token: The store's :meth:`nora.store.protocol.ChangeMark.token`.
        logs: Whether each answer gets a line in the access log.
        secret: Whether heads hold credentials. Then they are not kept as they are.
        trusted: Proxies whose word on the client's address counts.
        limits: What is over them goes the usual way, which says so.
    """

    def __init__(
        self,
        max_bytes: int,
        token: Callable[[], bytes | None],
        *,
        logs: bool,
        secret: bool,
        trusted: Sequence[Network] = (),
        limits: RequestLimits | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._max_bytes, self._token, self._trusted, self._clock = max_bytes, token, trusted, clock
        self._limits = limits
        self._lines = Lines() if logs else None
        self._key = secrets.token_bytes(32) if secret else b""
        self._entries: OrderedDict[bytes, Prepared] = OrderedDict()
        self._weights = 0
        self._bodies = Bodies()
        self._files: OrderedDict[bytes, HeldFile] = OrderedDict()  # by key; the one used last is the last
        self._closing: asyncio.TimerHandle | None = None
        self._sightings = Sightings()
        self._tallies: dict[tuple[str, str, int], Tally] = {}
        self._flushing: asyncio.TimerHandle | None = None
        self._closed = False

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def size(self) -> int:
        """Bytes of what is held."""
        return self._weights + self._bodies.size

    def serve(self, data: bytes, protocol: Any) -> bool:
        """Answer a request on an idle connection, given what has arrived; ``False`` if it must go the usual way."""
        started = time.perf_counter() if self._lines is not None else 0.0
        key = self._key_of(data, protocol.origin)
        prepared, request_id = self._entries.get(key), b""
        if prepared is None:
            if (split := without_id(data)) is None:
                return False
            key, request_id = self._key_of(split[0], protocol.origin), split[1]
            if (prepared := self._entries.get(key)) is None:
                return False
        now, standing = self._clock(), prepared.standing
        if (
            not standing.since <= now < standing.until
            or standing.token != self._token()
            or (standing.holds is not None and not standing.holds())
        ):
            renewed, now = standing.renew(), self._clock()
            if renewed is None or not renewed.since <= now < renewed.until:
                self._discard(key)
                return False
            prepared.standing = renewed
        client = prepared.client or protocol.conn_info.client_ip
        if not prepared.admitted(client):
            self._discard(key)
            return False
        descriptor = -1
        if prepared.file is not None:
            try:
                descriptor = prepared.file.open()
            except OSError:  # none is left: the usual way says so
                return False
            self._files.move_to_end(key)
        if self._limits is not None and self._limits.take(client):
            if descriptor >= 0:
                os.close(descriptor)
            return False
        self._entries.move_to_end(key)
        request_id = request_id or b"%016x" % random.getrandbits(64)
        head = b"%b%b%b%b" % (prepared.start, request_id, prepared.middle, lasting_end(now))
        prepared.tally.pending += 1
        if self._flushing is None:
            self._flushing = asyncio.get_running_loop().call_later(FLUSH_SECONDS, self.flush)
        if prepared.file is not None:
            tell = partial(self._tell_file, prepared.told, started, client, request_id)
            send_held(protocol, head, prepared.file, descriptor, tell)
            return True
        send(protocol, head, prepared.body, self._bodies)
        if self._lines is not None:
            self._lines.write(prepared.told, time.perf_counter() - started, client, request_id.decode())
        return True

    def wants(self, request: Request) -> bool:
        """Whether an answer to this request is worth keeping: it can be repeated, and it was asked for before."""
        head = request.head + b"\r\n\r\n"
        return is_repeatable(request, head) and self._sightings.again(head)

    def keep(
        self,
        request: Request,
        outgoing: Outgoing,
        standing: Standing,
        *,
        admitted: Admitted | None,
        registry: str,
        actor: Actor,
    ) -> None:
        """Remember an answer to a request that is wanted, for all with the same head. Its last field is the request's id.

        ``admitted`` tells whether the client's rights still are the same; ``None`` is that nobody can tell.
        """
        head = request.head + b"\r\n\r\n"
        if self._closed or admitted is None or standing.until <= standing.since or outgoing.status not in (200, 304):
            return
        if (split := without_id(head)) is not None:
            head = split[0]
            if ID_FIELD in head.lower():
                return
        bodiless = outgoing.head_only or outgoing.status in BODILESS
        body = b"" if bodiless else outgoing.whole()
        origin = self.origin(request.ip, request.transport)
        file: HeldFile | None = None
        if body is None:
            # Files are encrypted piece by piece, the usual way.
            if SECURE in origin or (file := outgoing.held_file()) is None:
                return
            body = b""
        elif len(body) > (MAX_SECURE_BODY_BYTES if SECURE in origin else MAX_BODY_BYTES):
            return
        *fields, (name, _) = outgoing.fields
        assert name == "x-request-id"
        start = start_bytes(outgoing.status, fields) + b"x-request-id: "
        length = "".join(f"{name}: {value}\r\n" for name, value in outgoing.framed(None)[len(outgoing.fields) :])
        middle = b"\r\n" + length.encode()
        kind = (registry, request.method, outgoing.status)
        if (tally := self._tallies.get(kind)) is None:
            tally = self._tallies[kind] = Tally(*kind)
        key = self._key_of(head, origin)
        weight = len(key) + len(start) + len(middle) + ENTRY_BYTES
        told = Told(request.method, request.path, outgoing.status, len(body) if file is None else file.size, registry, actor)
        named = request.headers.getall("x-forwarded-for", []) if PROXIED in origin else ()
        client = forwarded_address(named, self._trusted) or ""
        self._put(key, Prepared(start, middle, body, file, weight, standing, admitted, tally, told, client))

    def origin(self, peer: str, transport: Any) -> bytes:
        """What the same head may mean something else by: whether a trusted proxy sends it, and whether it was encrypted."""
        return (PROXIED if is_trusted(peer, self._trusted) else b"") + (SECURE if is_secure(transport) else b"")

    def flush(self) -> None:
        """Bring the metrics up to date."""
        if self._flushing is not None:
            self._flushing.cancel()
            self._flushing = None
        for tally in self._tallies.values():
            tally.flush()
        if self._lines is not None:
            self._lines.flush()

    def close(self) -> None:
        """Answer nothing from here any more."""
        self._closed = True
        while self._entries:
            self._discard(next(iter(self._entries)))
        if self._closing is not None:
            self._closing.cancel()
        self.flush()

    def _tell_file(self, told: Told, started: float, client: str, request_id: bytes, bytes_sent: int, broken: bool) -> None:
        if self._lines is not None:
            if broken:
                told = Told(told.method, told.path, told.status, bytes_sent, told.registry, told.actor, broken)
            self._lines.write(told, time.perf_counter() - started, client, request_id.decode())

    def _close_idle_files(self) -> None:
        """Let go of files that nobody asks for; called again as long as there are any."""
        self._closing = None
        while self._files:
            key, file = next(iter(self._files.items()))
            if (left := file.used_at + IDLE_SECONDS - time.monotonic()) > 0:
                self._closing = asyncio.get_running_loop().call_later(left, self._close_idle_files)
                return
            self._discard(key)

    def _put(self, key: bytes, prepared: Prepared) -> None:
        self._discard(key)
        self._entries[key] = prepared
        self._weights += prepared.weight
        prepared.body = self._bodies.add(prepared.body)
        if prepared.file is not None:
            if len(self._files) >= MAX_FILES:
                self._discard(next(iter(self._files)))
            self._files[key] = prepared.file
            if self._closing is None:
                self._closing = asyncio.get_running_loop().call_later(IDLE_SECONDS, self._close_idle_files)
        while self.size > self._max_bytes:
            self._discard(next(iter(self._entries)))

    def _discard(self, key: bytes) -> None:
        prepared = self._entries.pop(key, None)
        if prepared is not None:
            self._weights -= prepared.weight
            self._bodies.remove(prepared.body)
            if prepared.file is not None:
                del self._files[key]
                prepared.file.close()

    def _key_of(self, head: bytes, origin: bytes) -> bytes:
        if origin:
            head = origin + head  # no method begins so
        return hashlib.blake2b(head, key=self._key, digest_size=32).digest() if self._key else head
