"""Held pages, served by a look-up and a write.

A cache leads from the exact head of a request to the prepared answer. The usual way of a request (``dispatch.py``) makes its
entries, of pages whose registry says what they rest on (:class:`nora.context.Standing`), and everything else goes that way: what
is not in the cache, what may have changed, and whatever comes while the connection is busy (``protocol.py``). So an entry needs no
understanding of HTTP to be right: the same head on an idle connection means the same request.
"""

from __future__ import annotations

import asyncio
import hashlib
import random
import re
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sanic.request import Request

from nora import metrics
from nora.api import Actor
from nora.context import Standing
from nora.http.log import log_answer
from nora.http.wire import BODILESS, Outgoing, lasting_end, start_bytes

MAX_HEAD_BYTES = 8 * 1024
MAX_BODY_BYTES = 4 * 1024 * 1024
"""A larger body, which nobody should have to keep for a client that does not read, goes out the usual way in pieces."""
JOINED_BYTES = 16 * 1024
"""Up to here it is cheaper to copy a body behind its head than to have two buffers written."""
ENTRY_BYTES = 1024
"""What an entry takes besides its head, its body and the key; rounded up."""
SIGHTINGS = 8192
"""How many requests are remembered at least that were asked once."""
FLUSH_SECONDS = 1.0
"""How long answers may be missing in the metrics."""
NEVER = ("content-length", "expect", "range", "transfer-encoding", "upgrade")
"""Requests with these fields are not answered from here."""
REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}\Z")
"""What a client may call its request."""

_ID_FIELD = b"\r\nx-request-id:"


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
    """An answer: ``start``, the request's id, ``middle``, the date, ``body``; what has to hold for it; what is told of it."""

    start: bytes
    middle: bytes
    body: bytes
    weight: int
    standing: Standing
    admitted: Callable[[], bool]
    tally: Tally
    method: str
    path: str
    status: int
    registry: str
    actor: Actor


class HeldPages:
    """The prepared answers of one process.

    Args:
        max_bytes: Bound for everything that is held. A body counts once, however many heads lead to it, and although the
            registries' own caches of pages may hold the same bytes.
        token: The store's :meth:`nora.store.protocol.ChangeMark.token`.
        logs: Whether each answer gets a line in the access log.
        secret: Whether heads hold credentials. Then they are not kept as they are.
    """

    def __init__(
        self,
        max_bytes: int,
        token: Callable[[], bytes | None],
        *,
        logs: bool,
        secret: bool,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._max_bytes, self._token, self._logs, self._clock = max_bytes, token, logs, clock
        self._key = secrets.token_bytes(32) if secret else b""
        self._entries: OrderedDict[bytes, Prepared] = OrderedDict()
        self._bodies: dict[int, int] = {}  # by id: how many entries have this body
        self._young: set[int] = set()
        self._old: set[int] = set()
        self._tallies: dict[tuple[str, str, int], Tally] = {}
        self._flushing: asyncio.TimerHandle | None = None
        self._closed = False
        self.bytes = 0

    def __len__(self) -> int:
        return len(self._entries)

    def serve(self, data: bytes, protocol: Any) -> bool:
        """Answer a request on an idle connection, given what has arrived; ``False`` if it must go the usual way."""
        started = time.perf_counter() if self._logs else 0.0
        key = data if not self._key else self._digest(data)
        prepared, request_id = self._entries.get(key), b""
        if prepared is None:
            if (split := without_id(data)) is None:
                return False
            key, request_id = split if not self._key else (self._digest(split[0]), split[1])
            if (prepared := self._entries.get(key)) is None:
                return False
        now, standing = self._clock(), prepared.standing
        if not standing.since <= now < standing.until or standing.token != self._token():
            renewed, now = standing.renew(), self._clock()
            if renewed is None or not renewed.since <= now < renewed.until:
                self._discard(key)
                return False
            prepared.standing = renewed
        if not prepared.admitted():
            self._discard(key)
            return False
        self._entries.move_to_end(key)
        request_id = request_id or b"%016x" % random.getrandbits(64)
        head = b"%b%b%b%b" % (prepared.start, request_id, prepared.middle, lasting_end(now))
        if len(prepared.body) <= JOINED_BYTES:
            protocol.transport.write(head + prepared.body)
        else:
            protocol.transport.writelines((head, prepared.body))
        prepared.tally.pending += 1
        if self._flushing is None:
            self._flushing = asyncio.get_running_loop().call_later(FLUSH_SECONDS, self.flush)
        if self._logs:
            self._log(prepared, request_id, protocol, time.perf_counter() - started)
        return True

    def wants(self, request: Request) -> bool:
        """Whether an answer to this request is worth keeping: it can be repeated, and it was asked for before, not too long ago.

        What is asked once would cost more to keep than it will ever save, and push out what is asked again and again.
        """
        head = request.head + b"\r\n\r\n"
        if not is_repeatable(request, head):
            return False
        split = without_id(head)
        seen = hash(head if split is None else split[0])
        if seen in self._young or seen in self._old:
            return True
        self._young.add(seen)
        if len(self._young) >= SIGHTINGS:
            self._old, self._young = self._young, set()
        return False

    def keep(
        self,
        request: Request,
        outgoing: Outgoing,
        standing: Standing,
        *,
        admitted: Callable[[], bool] | None,
        registry: str,
        actor: Actor,
    ) -> None:
        """Remember an answer to a request that is wanted, for all with the same head. Its last field is the request's id.

        ``admitted`` tells whether the client's rights still are the same; ``None`` is that nobody can tell.
        """
        head = request.head + b"\r\n\r\n"
        if self._closed or admitted is None or standing.until <= standing.since or outgoing.status not in (200, 304):
            return
        bodiless = outgoing.head_only or outgoing.status in BODILESS
        body = b"" if bodiless else bytes(outgoing.body or b"")
        if len(body) > MAX_BODY_BYTES:
            return
        if (split := without_id(head)) is not None:
            head = split[0]
            if _ID_FIELD in head.lower():
                return
        *fields, (name, _) = outgoing.fields
        assert name == "x-request-id"
        start = start_bytes(outgoing.status, fields) + b"x-request-id: "
        length = "".join(f"{name}: {value}\r\n" for name, value in outgoing.framed(None)[len(outgoing.fields) :])
        middle = b"\r\n" + length.encode()
        kind = (registry, request.method, outgoing.status)
        if (tally := self._tallies.get(kind)) is None:
            tally = self._tallies[kind] = Tally(*kind)
        key = head if not self._key else self._digest(head)
        weight = len(key) + len(start) + len(middle) + ENTRY_BYTES
        self._put(
            key,
            Prepared(
                start,
                middle,
                body,
                weight,
                standing,
                admitted,
                tally,
                request.method,
                request.path,
                outgoing.status,
                registry,
                actor,
            ),
        )

    def flush(self) -> None:
        """Bring the metrics up to date."""
        if self._flushing is not None:
            self._flushing.cancel()
            self._flushing = None
        for tally in self._tallies.values():
            tally.flush()

    def close(self) -> None:
        """Answer nothing from here any more."""
        self._closed = True
        while self._entries:
            self._discard(next(iter(self._entries)))
        self.flush()

    def _put(self, key: bytes, prepared: Prepared) -> None:
        self._discard(key)
        self._entries[key] = prepared
        self.bytes += prepared.weight
        if body := prepared.body:
            count = self._bodies.get(id(body), 0)
            self._bodies[id(body)] = count + 1
            self.bytes += 0 if count else len(body)
        while self.bytes > self._max_bytes:
            self._discard(next(iter(self._entries)))

    def _discard(self, key: bytes) -> None:
        prepared = self._entries.pop(key, None)
        if prepared is None:
            return
        self.bytes -= prepared.weight
        if body := prepared.body:
            count = self._bodies.pop(id(body)) - 1
            if count:
                self._bodies[id(body)] = count
            else:
                self.bytes -= len(body)

    def _digest(self, head: bytes) -> bytes:
        return hashlib.blake2b(head, key=self._key, digest_size=32).digest()

    def _log(self, prepared: Prepared, request_id: bytes, protocol: Any, seconds: float) -> None:
        log_answer(
            method=prepared.method,
            path=prepared.path,
            status=prepared.status,
            bytes_sent=len(prepared.body),
            seconds=seconds,
            client=protocol.conn_info.client_ip,
            registry=prepared.registry,
            request_id=request_id.decode(),
            actor=prepared.actor,
        )


def is_repeatable(request: Request, head: bytes) -> bool:
    """Whether a request means the same whenever and wherever these bytes come in, and leaves its connection idle."""
    stream: Any = request.stream
    return bool(
        len(head) <= MAX_HEAD_BYTES
        and head.startswith((b"GET /", b"HEAD /"))
        and request.version == "1.1"
        and stream.keep_alive
        and not stream.request_body
        and not any(name in request.headers for name in NEVER)
        and not is_secure(request.transport)
    )


def is_secure(transport: Any) -> bool:
    """Whether a connection is encrypted. What a page says may depend on that, so those are not served from here."""
    return transport.get_extra_info("sslcontext") is not None


def without_id(head: bytes) -> tuple[bytes, bytes] | None:
    """A head without the first line that gives the request a name, and this name, "" if it is none that is taken.

    ``None`` if there is no such line. Proxies in front of us give each request another name.

    >>> without_id(b"GET / HTTP/1.1\\r\\nX-Request-ID: a\\r\\nHost: b\\r\\n\\r\\n")
    (b'GET / HTTP/1.1\\r\\nHost: b\\r\\n\\r\\n', b'a')
    """
    start = head.lower().find(_ID_FIELD)
    if start < 0:
        return None
    end = head.find(b"\r\n", start + 2)
    value = head[start + len(_ID_FIELD) : end].decode(errors="surrogateescape").lstrip()
    return head[:start] + head[end:], value.encode() if REQUEST_ID.match(value) else b""
