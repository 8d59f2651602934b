"""Uploads as clients send them, and the bare work that each of them is measured against."""

from __future__ import annotations

import hashlib
import os
import socket
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from benchmarks.connection import HOST, USER_AGENT, CannotMeasureError, Connection
from nora.store.durable import sync_folder
from nora.store.spool import start_sync
from nora.testing.packages import make_wheel, make_wheel_file

BOUNDARY = "0123456789abcdef-benchmarks"
PIECE_BYTES = 1 << 20


@dataclass(frozen=True)
class Upload:
    """One file with its form: ``content`` are its bytes, or where they are. ``prefix`` is the body before them."""

    prefix: bytes
    content: bytes | Path

    @property
    def size(self) -> int:
        """Bytes of the file."""
        return len(self.content) if isinstance(self.content, bytes) else self.content.stat().st_size


SUFFIX = f"\r\n--{BOUNDARY}--\r\n".encode()


def small_uploads(prefix: str, count: int) -> list[Upload]:
    """So many wheels of two kilobytes, each of another project."""
    made = (make_wheel(f"{prefix}-{number}", "1.0", size=1000) for number in range(count))
    return [Upload(_form(filename, content), content) for filename, content in made]


def large_upload(folder: Path, size: int) -> Upload:
    """One wheel of that size, on disk."""
    path = make_wheel_file(folder, "bench-huge", "1.0", size_bytes=size)
    return Upload(_form(path.name, path), path)


def _form(filename: str, content: bytes | Path) -> bytes:
    name, version = filename.split("-")[:2]
    digest = hashlib.sha256()
    for piece in _pieces(content):
        digest.update(piece)
    fields = {
        ":action": "file_upload",
        "protocol_version": "1",
        "name": name.replace("_", "-"),
        "version": version,
        "filetype": "bdist_wheel",
        "pyversion": "py3",
        "metadata_version": "2.1",
        "summary": "made for a test",
        "sha256_digest": digest.hexdigest(),
    }
    parts = [
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{key}"\r\n\r\n{value}\r\n' for key, value in fields.items()
    ]
    head = f'Content-Disposition: form-data; name="content"; filename="{filename}"\r\nContent-Type: application/octet-stream'
    return ("".join(parts) + f"--{BOUNDARY}\r\n{head}\r\n\r\n").encode()


def send(connection: Connection, port: int, path: str, upload: Upload) -> None:
    """Upload one file.

    Raises:
        CannotMeasureError: it was not taken.
    """
    length = len(upload.prefix) + upload.size + len(SUFFIX)
    lines = [
        f"POST {path} HTTP/1.1",
        f"Host: {HOST}:{port}",
        f"User-Agent: {USER_AGENT}",
        f"Content-Type: multipart/form-data; boundary={BOUNDARY}",
        f"Content-Length: {length}",
    ]
    head = ("\r\n".join(lines) + "\r\n\r\n").encode()
    content = upload.content
    if isinstance(content, bytes):
        connection.send(head + upload.prefix + content + SUFFIX)
    else:
        connection.send(head + upload.prefix, lambda channel: _send_file(channel, content))
    answer = connection.receive(keep=True)
    if answer.status not in (200, 201):
        raise CannotMeasureError(f"an upload was answered with {answer.status} {answer.body[:80]!r}")


def _send_file(channel: socket.socket, path: Path) -> None:
    with path.open("rb") as file:
        channel.sendfile(file)
    channel.sendall(SUFFIX)


def one_after_another(port: int, path: str, uploads: Sequence[Upload]) -> float:
    """Upload over one connection; seconds for all."""
    started = time.perf_counter()
    with Connection(port) as connection:
        for upload in uploads:
            send(connection, port, path, upload)
    return time.perf_counter() - started


def in_parallel(port: int, path: str, uploads: Sequence[Upload], clients: int) -> float:
    """Upload over so many connections at the same time; seconds for all."""
    started = time.perf_counter()
    with ThreadPoolExecutor(clients) as pool:
        for done in [pool.submit(one_after_another, port, path, uploads[number::clients]) for number in range(clients)]:
            done.result()
    return time.perf_counter() - started


def bare_loop(folder: Path, uploads: Iterable[Upload], *, sync_folder: bool) -> float:
    """Write, sync and rename each file twice, as the least that a durable upload does; seconds for all.

    ``sync_folder``: sync the folder after each rename, too. Without it the name may not survive a power failure.
    """
    folder.mkdir(parents=True)
    descriptor = os.open(folder, os.O_RDONLY)
    started = time.perf_counter()
    try:
        for number, upload in enumerate(uploads):
            for kind in ("file", "manifest"):
                temporary = folder / "temporary"
                with temporary.open("wb", buffering=0) as file:
                    assert isinstance(upload.content, bytes)
                    file.write(upload.content)
                    os.fsync(file.fileno())
                temporary.rename(folder / f"{number}.{kind}")
                if sync_folder:
                    os.fsync(descriptor)
        return time.perf_counter() - started
    finally:
        os.close(descriptor)


def bare_calls(folder: Path, uploads: Sequence[Upload]) -> float:
    """The system calls by which Nora keeps each file, and nothing else; seconds for all.

    They are those of ``nora.store``: a wheel and its metadata become blobs, each synced with its name, then a manifest becomes visible in
    a folder of its own. The writes of all three begin before the first sync, as they do there.
    """
    shards = [folder / f"{number:02x}" for number in range(256)]
    for shard in shards:
        shard.mkdir(parents=True)
    started = time.perf_counter()
    for number, upload in enumerate(uploads):
        assert isinstance(upload.content, bytes)
        project = folder / f"project-{number}"
        project.mkdir()
        contents = {folder / "wheel": upload.content, folder / "metadata": b"m" * 100, project / "manifest": b"n" * 750}
        descriptors = []
        for path, content in contents.items():
            descriptors.append(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o640))
            os.write(descriptors[-1], content)
            start_sync(descriptors[-1])
        blobs = {folder / "wheel": shards[number % 256], folder / "metadata": shards[(number + 100) % 256]}
        for descriptor in descriptors[:2]:
            os.fsync(descriptor)
        for path, shard in blobs.items():
            os.link(path, shard / f"{number}")
        for shard in blobs.values():
            sync_folder(shard)
        os.fsync(descriptors[2])
        sync_folder(project)
        project.rename(folder / f"visible-{number}")
        sync_folder(folder)
        for path in blobs:
            path.unlink()
        for descriptor in descriptors:
            os.close(descriptor)
    return time.perf_counter() - started


def bare_copy(target: Path, upload: Upload) -> float:
    """Write a large file in order, hash it and sync it; seconds."""
    started, digest = time.perf_counter(), hashlib.sha256()
    with target.open("wb", buffering=0) as file:
        for piece in _pieces(upload.content):
            digest.update(piece)
            file.write(piece)
        os.fsync(file.fileno())
    return time.perf_counter() - started


def _pieces(content: bytes | Path) -> Iterable[bytes]:
    if isinstance(content, bytes):
        yield content
        return
    with content.open("rb", buffering=0) as file:
        while piece := file.read(PIECE_BYTES):
            yield piece
