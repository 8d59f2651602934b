"""Logins that are over a limit, refused before anything is made of their requests.

Somebody who guesses passwords sends them as fast as they are answered. The usual way of a request would take several times as long, in
which everybody else waits. Only what is plain is refused here: a whole head without a body, with one login by password. Everything else
goes the usual way, which refuses it in the same words, and at the same pace.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

from nora import metrics
from nora.api import Actor, TooManyRequests
from nora.auth.access import Access
from nora.context import RequestContext, current_request
from nora.http.errors import error_answer
from nora.http.forwarded import Network, client_address
from nora.http.heads import NEVER, REQUEST_ID
from nora.http.limits import RequestLimits
from nora.http.log import Lines, Told
from nora.http.strict import head_problem
from nora.http.wire import lasting_end, start_bytes
from nora.lru import BoundedCache
from nora.rates import place_of

MAX_WAITING = 64
"""Of one place at a time. While they wait here nobody sees that they leave, and each has a descriptor; the usual way sees it."""
_NEVER = frozenset(name.encode() for name in (*NEVER, "connection"))
_NO_ONE = Actor()


class Head(NamedTuple):
    """What a refusal needs to know of a request; ``path`` is without a query."""

    method: str
    path: str
    authorization: str
    forwarded: Sequence[str]
    request_id: str


class Refusals:
    """Refuses what is over a limit on idle connections (``protocol.py``), for one process.

    Args:
        access: Knows the limits.
        places: Where the registries' addresses begin, and their names.
        open_places: Addresses, or what they begin with if that ends with a slash, where nobody looks at a login.
        trusted: Proxies whose word on the client's address counts.
        limits: What is over them goes the usual way, which says so.
        logs: Whether each answer gets a line in the access log.
    """

    def __init__(
        self,
        access: Access,
        places: Sequence[tuple[str, str]],
        *,
        open_places: Sequence[str] = (),
        trusted: Sequence[Network] = (),
        limits: RequestLimits | None = None,
        logs: bool,
    ) -> None:
        self._access, self._trusted, self._limits = access, trusted, limits
        self._places = sorted(places, key=lambda place: -len(place[0]))
        self._open_prefixes = tuple(place for place in open_places if place.endswith("/"))
        self._open = frozenset(open_places)
        self._lines = Lines() if logs else None
        self._told: BoundedCache[tuple[str, ...], Told] = BoundedCache(64)

    def serve(self, data: bytes, protocol: Any) -> bool:
        """Take what has arrived on an idle connection, and refuse it at its time; ``False`` if it must go the usual way.

        Until it is refused the protocol waits, and nothing more is read.
        """
        if not self._access.is_limiting() or (head := head_of(data)) is None:
            return False
        if head.path in self._open or head.path.startswith(self._open_prefixes):
            return False
        registry = next((name for path, name in self._places if head.path.startswith(path)), None)
        client = client_address(protocol.conn_info.client_ip, head.forwarded, self._trusted)
        refuse = None if registry is None else self._access.refusal(head.authorization, client)
        place = place_of(client)
        if registry is None or refuse is None or self._access.pace.waiting_at(place) >= MAX_WAITING:
            return False
        if self._limits is not None and self._limits.take(client):
            return False
        answer = partial(self._answer, protocol, head, registry, client, refuse, time.perf_counter())
        protocol.wait_for_answer(self._access.pace.call(place, answer))
        return True

    def flush(self) -> None:
        """Write the lines that wait."""
        if self._lines is not None:
            self._lines.flush()

    def _answer(
        self, protocol: Any, head: Head, registry: str, client: str, refuse: Callable[[], TooManyRequests], started: float
    ) -> None:
        request_id = head.request_id or secrets.token_hex(8)
        token = current_request.set(RequestContext(request_id, address=client))
        try:
            outgoing = error_answer(refuse(), head_only=head.method == "HEAD")
        except BaseException:
            protocol.break_off()  # else it would wait for ever
            raise
        finally:
            current_request.reset(token)
        body = b"" if outgoing.head_only else bytes(outgoing.body or b"")
        outgoing.fields.append(("x-request-id", request_id))
        protocol.answered(start_bytes(outgoing.status, outgoing.framed(None)) + lasting_end(time.time()) + body)
        metrics.REQUESTS.labels(registry, head.method, str(outgoing.status)).inc()
        if self._lines is not None:
            seen = (head.method, head.path, registry, str(len(body)))
            if (told := self._told.get(seen)) is None:
                told = Told(head.method, head.path, outgoing.status, len(body), registry, _NO_ONE)
                self._told.put(seen, told)
            self._lines.write(told, time.perf_counter() - started, client, request_id)


def head_of(data: bytes) -> Head | None:
    """A request that is whole, has no body, keeps its connection and brings one login; ``None`` for any other, also a faulty one.

    >>> head_of(b"GET /simple/?a=b HTTP/1.1\\r\\nHost: a\\r\\nAuthorization: Basic YTpi\\r\\n\\r\\n")
    Head(method='GET', path='/simple/', authorization='Basic YTpi', forwarded=[], request_id='')
    """
    if not data.startswith((b"GET /", b"HEAD /")) or not data.endswith(b"\r\n\r\n") or head_problem(data[:-4]) is not None:
        return None
    line, *lines = data[:-4].split(b"\r\n")
    method, target, version = line.split(b" ")
    logins: list[str] = []
    forwarded: list[str] = []
    ids: list[str] = []
    looked_at = {b"authorization": logins, b"x-forwarded-for": forwarded, b"x-request-id": ids}
    for field in lines:
        name, _, raw = field.partition(b":")
        name = name.lower()
        if (values := looked_at.get(name)) is not None:
            values.append(raw.decode("utf-8", "surrogateescape").lstrip())  # as Sanic does
        elif name in _NEVER and not (name == b"connection" and raw.strip().lower() == b"keep-alive"):
            return None
    if len(logins) != 1 or version != b"HTTP/1.1" or not target.isascii() or target.startswith(b"//"):
        return None
    request_id = ids[0] if ids and REQUEST_ID.match(ids[0]) else ""
    return Head(method.decode(), target.partition(b"?")[0].decode(), logins[0], forwarded, request_id)
