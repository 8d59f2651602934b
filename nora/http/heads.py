"""Heads of requests: which of them can be answered again by their bytes alone, and the name that they give their request."""

from __future__ import annotations

import re
from typing import Any

from sanic.request import Request

MAX_HEAD_BYTES = 8 * 1024
SIGHTINGS = 8192
"""How many requests are remembered at least that were asked once."""
NEVER = ("content-length", "expect", "range", "transfer-encoding", "upgrade")
"""Requests with these fields are never answered by their heads alone."""
REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}\Z")
"""What a client may call its request."""

ID_FIELD = b"\r\nx-request-id:"
# To a lenient reader a field ends there and another one begins, so nobody must take such a head for the one without it (CWE-444).
_CONTROL = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")


class Sightings:
    """Remembers which requests were asked for before, not too long ago.

    What is asked once would cost more to keep than it will ever save, and push out what is asked again and again.
    """

    def __init__(self) -> None:
        self._young: set[int] = set()
        self._old: set[int] = set()

    def __len__(self) -> int:
        return len(self._young) + len(self._old)

    def again(self, head: bytes) -> bool:
        """Whether the same was asked for before, whatever it is called; from now on it was."""
        split = without_id(head)
        seen = hash(head if split is None else split[0])
        if seen in self._young or seen in self._old:
            return True
        self._young.add(seen)
        if len(self._young) >= SIGHTINGS:
            self._old, self._young = self._young, set()
        return False


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
    )


def is_secure(transport: Any) -> bool:
    """Whether a connection is encrypted."""
    return transport.get_extra_info("sslcontext") is not None


def without_id(head: bytes) -> tuple[bytes, bytes] | None:
    """A head without the first line that gives the request a name, and this name, "" if it is none that is taken.

    ``None`` if there is no such line, or one that no head may have. Proxies in front of us give each request another name.

    >>> without_id(b"GET / HTTP/1.1\\r\\nX-Request-ID: a\\r\\nHost: b\\r\\n\\r\\n")
    (b'GET / HTTP/1.1\\r\\nHost: b\\r\\n\\r\\n', b'a')
    """
    start = head.lower().find(ID_FIELD)
    if start < 0:
        return None
    end = head.find(b"\r\n", start + 2)
    raw = head[start + len(ID_FIELD) : end]
    if _CONTROL.search(raw):
        return None
    value = raw.decode(errors="surrogateescape").lstrip()
    return head[:start] + head[end:], value.encode() if REQUEST_ID.match(value) else b""
