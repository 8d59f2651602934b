"""A client of bare sockets: requests, and answers in every framing that HTTP/1.1 has."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from benchmarks.programs.drain import BUFFER, DISCARD

HOST = "127.0.0.1"
TIMEOUT_SECONDS = 60

# As pip sends them, so that what a server does with a request's fields is in the figures.
USER_AGENT = (
    'pip/26.0 {"ci":null,"cpu":"x86_64","distro":{"id":"bookworm","libc":{"lib":"glibc","version":"2.36"},"name":"Debian GNU/Linux",'
    '"version":"12"},"implementation":{"name":"CPython","version":"3.11.7"},"installer":{"name":"pip","version":"26.0"},'
    '"python":"3.11.7","system":{"name":"Linux","release":"6.1"}}'
)
ACCEPT = {
    "JSON": "application/vnd.pypi.simple.v1+json, application/vnd.pypi.simple.v1+html; q=0.1, text/html; q=0.01",
    "HTML": "text/html",
    "any": "*/*",
}


class CannotMeasureError(Exception):
    """A server does not answer as the measurement needs it; the text says how it answers."""


@dataclass(frozen=True)
class Request:
    """A GET. ``form`` is "JSON", "HTML" or "any"."""

    path: str
    form: str = "any"
    gzip: bool = False
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def fields(self) -> dict[str, str]:
        """All header fields but Host."""
        coding = "gzip, deflate" if self.gzip else "identity"
        shared = {
            "User-Agent": USER_AGENT,
            "Accept-Encoding": coding,
            "Accept": ACCEPT[self.form],
            "Cache-Control": "max-age=0",
        }
        return {**shared, **self.headers}

    def head(self, port: int) -> bytes:
        """As it goes over the wire."""
        lines = [f"GET {self.path} HTTP/1.1", f"Host: {HOST}:{port}", "Connection: keep-alive"]
        lines += [f"{name}: {value}" for name, value in self.fields.items()]
        return ("\r\n".join(lines) + "\r\n\r\n").encode()


@dataclass(frozen=True)
class Answer:
    """An answer. ``body`` is empty when it was not to be kept; times are in seconds since the request was sent."""

    status: int
    fields: Mapping[str, str]
    length: int
    first_seconds: float
    seconds: float
    body: bytes = b""


def _drop(_: bytes) -> None:
    """For bodies that nobody wants."""


class Connection:
    """A connection that is kept as long as the server keeps it, and opened again when it does not."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._socket: socket.socket | None = None
        self._received = bytearray()
        self._sent_at = 0.0

    def __enter__(self) -> Connection:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close it; the next request opens another."""
        if self._socket is not None:
            self._socket.close()
        self._socket, self._received = None, bytearray()

    def get(self, request: Request, *, keep: bool = False) -> Answer:
        """One request and its answer, of any status."""
        self.send(request.head(self._port))
        return self.receive(keep=keep)

    def send(self, data: bytes, body: Callable[[socket.socket], None] | None = None) -> None:
        """Send a request; ``body`` sends what belongs to it besides."""
        if self._socket is None:
            self._socket = socket.create_connection((HOST, self._port), timeout=TIMEOUT_SECONDS)
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._sent_at = time.perf_counter()
        self._socket.sendall(data)
        if body is not None:
            body(self._socket)

    def receive(self, *, keep: bool = False) -> Answer:
        """The answer to what was sent."""
        head = self._until(b"\r\n\r\n").decode("latin-1")
        lines = head.split("\r\n")
        status = int(lines[0].split(" ")[1])
        fields = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}
        kept: list[bytes] = []
        take = kept.append if keep else _drop
        length, first = self._body(status, fields, take)
        seconds = time.perf_counter() - self._sent_at
        ends = fields.get("connection", "").lower() == "close"
        if ends or (lines[0].startswith("HTTP/1.0") and fields.get("connection", "").lower() != "keep-alive"):
            self.close()
        return Answer(status, fields, length, first - self._sent_at, seconds, b"".join(kept))

    def _body(self, status: int, fields: Mapping[str, str], take: Callable[[bytes], object]) -> tuple[int, float]:
        """Read the body; its length, and when its first byte was there."""
        if status in (204, 304):
            return 0, time.perf_counter()
        if "chunked" in fields.get("transfer-encoding", "").lower():
            total, first = 0, 0.0
            while size := int(self._until(b"\r\n").split(b";")[0], 16):
                first = first or time.perf_counter()
                self._exactly(size, take)
                self._until(b"\r\n")
                total += size
            self._until(b"\r\n")
            return total, first or time.perf_counter()
        if "content-length" in fields:
            return self._exactly(int(fields["content-length"]), take)
        total, first = len(self._received), 0.0
        take(bytes(self._received))
        assert self._socket is not None
        while piece := self._socket.recv(1 << 18):
            first = first or time.perf_counter()
            take(piece)
            total += len(piece)
        return total, first or time.perf_counter()

    def _until(self, end: bytes) -> bytes:
        while (position := self._received.find(end)) < 0:
            self._more()
        found = bytes(self._received[:position])
        del self._received[: position + len(end)]
        return found

    def _exactly(self, size: int, take: Callable[[bytes], object]) -> tuple[int, float]:
        """Read ``size`` bytes, which are the first of a body."""
        if size and not self._received:
            self._more()
        first, left = time.perf_counter(), size
        while left:
            if not self._received:
                left -= self._straight(left, take)
                continue
            piece = bytes(self._received[:left])
            del self._received[: len(piece)]
            take(piece)
            left -= len(piece)
        return size, first

    def _straight(self, left: int, take: Callable[[bytes], object]) -> int:
        """Read what comes next without keeping it in between; if nobody wants it, without copying it."""
        assert self._socket is not None
        if take is _drop:
            count = self._socket.recv_into(BUFFER, min(left, len(BUFFER)), DISCARD)
        else:
            piece = self._socket.recv(min(left, 1 << 18))
            take(piece)
            count = len(piece)
        if not count:
            raise CannotMeasureError("it broke off in the middle of an answer")
        return count

    def _more(self) -> None:
        assert self._socket is not None
        piece = self._socket.recv(1 << 16)
        if not piece:
            raise CannotMeasureError("it closed the connection without an answer")
        self._received += piece
