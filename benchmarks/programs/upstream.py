"""An upstream that is never the bottleneck: a folder, served by a thread for each connection and ``sendfile``.

    python -m benchmarks.programs.upstream FOLDER

Prints its port. A folder's address gives its ``index.json`` or ``index.html``, by Accept; everything else is a file.
"""

from __future__ import annotations

import os
import socket
import stat
import sys
import threading
from pathlib import Path
from urllib.parse import unquote

JSON_TYPE = "application/vnd.pypi.simple.v1+json"
MAX_HEAD_BYTES = 65536


def serve(connection: socket.socket, root: Path) -> None:
    """Answer the requests of one connection, until the other side closes it."""
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    received = b""
    try:
        with connection:
            while True:
                while b"\r\n\r\n" not in received:
                    piece = connection.recv(65536)
                    if not piece or len(received) > MAX_HEAD_BYTES:
                        return
                    received += piece
                head, _, received = received.partition(b"\r\n\r\n")
                answer(connection, root, head.decode("latin-1"))
    except OSError:
        return  # The other side is gone.


def answer(connection: socket.socket, root: Path, head: str) -> None:
    """Answer one request."""
    lines = head.split("\r\n")
    method, target = lines[0].split(" ")[:2]
    fields = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}
    path = unquote(target.partition("?")[0]).lstrip("/")
    content_type = "application/octet-stream"
    if path.endswith("/") or not path:
        as_json = "json" in fields.get("accept", "")
        path += "index.json" if as_json else "index.html"
        content_type = JSON_TYPE if as_json else "text/html; charset=utf-8"
    try:
        file = os.open(root / path, os.O_RDONLY)
    except OSError:
        connection.sendall(b"HTTP/1.1 404 Not Found\r\nContent-Type: text/plain\r\nContent-Length: 0\r\n\r\n")
        return
    try:
        known = os.fstat(file)
        if stat.S_ISDIR(known.st_mode):
            connection.sendall(f"HTTP/1.1 301 Moved\r\nLocation: {target}/\r\nContent-Length: 0\r\n\r\n".encode())
            return
        tag = f'"{known.st_mtime_ns:x}-{known.st_size:x}"'
        if fields.get("if-none-match") == tag:
            connection.sendall(f"HTTP/1.1 304 Not Modified\r\nETag: {tag}\r\n\r\n".encode())
            return
        fields_out = f"Content-Type: {content_type}\r\nETag: {tag}\r\nContent-Length: {known.st_size}\r\n\r\n"
        position = known.st_size if method == "HEAD" else 0
        more = getattr(socket, "MSG_MORE", 0) if position < known.st_size else 0
        connection.sendall(f"HTTP/1.1 200 OK\r\n{fields_out}".encode(), more)
        while position < known.st_size:
            position += os.sendfile(connection.fileno(), file, position, known.st_size - position)
    finally:
        os.close(file)


def main(root: Path) -> None:
    """Serve until ended by a signal."""
    with socket.create_server(("127.0.0.1", 0), backlog=256) as listener:
        print(listener.getsockname()[1], flush=True)
        while True:
            connection, _ = listener.accept()
            threading.Thread(target=serve, args=(connection, root), daemon=True).start()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
