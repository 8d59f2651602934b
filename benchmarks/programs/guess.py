"""Guesses at a password over several connections, as fast as the answers come.

    python -m benchmarks.programs.guess PORT CONNECTIONS COUNT SECONDS USER PATH

Prints how many guesses were answered by status, and in how many seconds, as JSON.
"""

from __future__ import annotations

import base64
import json
import selectors
import socket
import sys
import time
from collections import Counter
from collections.abc import Iterator


class Guesser:
    """One connection, with one guess under way."""

    def __init__(self, port: int, requests: Iterator[bytes]) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=30)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._requests, self._received = requests, b""
        self.has_more = self._ask()

    def read(self) -> str:
        """Take what has come; the status of an answer that is whole, and then the next guess is made."""
        piece = self.socket.recv(65536)
        if not piece:
            raise ConnectionError("the connection was closed before an answer")
        self._received += piece
        head, end, body = self._received.partition(b"\r\n\r\n")
        if not end:
            return ""
        lines = head.decode("latin-1").lower().split("\r\n")
        (length,) = (int(line.partition(":")[2]) for line in lines if line.startswith("content-length:"))
        if len(body) < length:
            return ""
        self._received = b""
        self.has_more = self._ask()
        return lines[0].split()[1]

    def _ask(self) -> bool:
        request = next(self._requests, None)
        if request is not None:
            self.socket.sendall(request)
        return request is not None


def _requests(port: int, count: int, user: str, path: str) -> Iterator[bytes]:
    for number in range(count):
        guess = base64.b64encode(f"{user}:guess {number}".encode()).decode()
        yield f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nAuthorization: Basic {guess}\r\n\r\n".encode()


def main(port: int, connections: int, count: int, seconds: float, user: str, path: str) -> None:
    """Guess until all is guessed, or the time is over."""
    requests, statuses, selector = _requests(port, count, user, path), Counter[str](), selectors.DefaultSelector()
    started = time.perf_counter()
    for _ in range(connections):
        guesser = Guesser(port, requests)
        selector.register(guesser.socket, selectors.EVENT_READ, guesser)
    while selector.get_map() and (left := started + seconds - time.perf_counter()) > 0:
        for key, _ in selector.select(left):
            if status := key.data.read():
                statuses[status] += 1
            if not key.data.has_more:
                selector.unregister(key.fileobj)
    print(json.dumps({"seconds": time.perf_counter() - started, "statuses": statuses}))


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4]), sys.argv[5], sys.argv[6])
