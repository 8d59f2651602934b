"""Downloads as fast as a server sends, with as little work of its own as the kernel allows.

    python -m benchmarks.programs.drain PORT CLIENTS SECONDS PATH

Each client keeps one connection and asks again when it has all. At the end of the time everything is broken off, so a file may be
larger than what passes in it. Prints bytes, seconds and the number of complete files as JSON.
"""

from __future__ import annotations

import json
import selectors
import socket
import sys
import time

# Linux drops the bytes without copying them, and takes the buffer for nothing but its length.
DISCARD = getattr(socket, "MSG_TRUNC", 0) if sys.platform == "linux" else 0
BUFFER = bytearray(4 << 20)


class Client:
    """One connection."""

    def __init__(self, port: int, path: str) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port))
        self._request = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nAccept-Encoding: identity\r\n\r\n".encode()
        self._head = b""
        self._left = 0
        self.bytes = self.complete = 0
        self.ask()

    def ask(self) -> None:
        """Send the request."""
        self._head, self._left = b"", -1
        self.socket.sendall(self._request)

    def read(self) -> None:
        """Take what is there, once."""
        if self._left < 0:
            self._read_head()
        else:
            count = self.socket.recv_into(BUFFER, min(self._left, len(BUFFER)), DISCARD)
            if not count:
                raise ConnectionError("broken off")
            self._took(count)
        if self._left == 0:
            self.complete += 1
            self.ask()

    def _read_head(self) -> None:
        self._head += self.socket.recv(16384) or _ended()
        head, end, body = self._head.partition(b"\r\n\r\n")
        if not end:
            return
        lines = head.decode("latin-1").lower().split("\r\n")
        lengths = [line.partition(":")[2] for line in lines if line.startswith("content-length:")]
        if lines[0].split()[1] != "200" or not lengths:
            raise ConnectionError(f"not a whole file of known length: {lines[0]}")
        self._left = int(lengths[0])
        self._took(len(body))

    def _took(self, count: int) -> None:
        self._left -= count
        self.bytes += count


def _ended() -> bytes:
    raise ConnectionError("the connection was closed before an answer")


def main(port: int, clients: int, seconds: float, path: str) -> None:
    """Download until the time is over."""
    selector = selectors.DefaultSelector()
    started = time.perf_counter()
    everyone = [Client(port, path) for _ in range(clients)]
    for client in everyone:
        selector.register(client.socket, selectors.EVENT_READ, client)
    while (left := started + seconds - time.perf_counter()) > 0:
        for key, _ in selector.select(left):
            key.data.read()
    elapsed = time.perf_counter() - started
    total, complete = sum(client.bytes for client in everyone), sum(client.complete for client in everyone)
    print(json.dumps({"bytes": total, "seconds": elapsed, "complete": complete}))


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]), sys.argv[4])
