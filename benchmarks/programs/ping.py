"""Asks for one small thing again and again, and tells how long the answers took.

    python -m benchmarks.programs.ping PORT SECONDS PATH

Prints the number of answers and their times in milliseconds as JSON. Between two requests it sleeps, so that it takes no
processor from the server.
"""

from __future__ import annotations

import json
import socket
import sys
import time

PAUSE_SECONDS = 0.002


def main(port: int, seconds: float, path: str) -> None:
    """Ask until the time is over."""
    request = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n".encode()
    times: list[float] = []
    deadline = time.perf_counter() + seconds
    with socket.create_connection(("127.0.0.1", port), timeout=seconds + 10) as connection:
        while (sent_at := time.perf_counter()) < deadline or not times:
            connection.sendall(request)
            received = b""
            while not _is_whole(received):
                received += connection.recv(65536) or _ended()
            times.append((time.perf_counter() - sent_at) * 1000)
            time.sleep(PAUSE_SECONDS)
    times.sort()
    print(json.dumps({"count": len(times), "p50_ms": _percentile(times, 0.5), "p99_ms": _percentile(times, 0.99)}))


def _is_whole(received: bytes) -> bool:
    head, end, body = received.partition(b"\r\n\r\n")
    if not end:
        return False
    lines = head.decode("latin-1").lower().split("\r\n")
    if not lines[0].split()[1].startswith("2"):
        raise ConnectionError(f"not answered: {lines[0]}")
    (length,) = (int(line.partition(":")[2]) for line in lines if line.startswith("content-length:"))
    return len(body) >= length


def _ended() -> bytes:
    raise ConnectionError("the connection was closed before an answer")


def _percentile(times: list[float], part: float) -> float:
    return times[min(len(times) - 1, int(part * len(times)))]


if __name__ == "__main__":
    main(int(sys.argv[1]), float(sys.argv[2]), sys.argv[3])
