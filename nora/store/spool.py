"""A temporary file that is hashed while it is written."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import os
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Protocol

from nora.api import Spool, StorageFull


class Hash(Protocol):
    """What hashlib's objects have in common."""

    def update(self, data: bytes, /) -> None:
        """Take in more bytes."""

    def hexdigest(self) -> str:
        """Lower-case hex digest of all bytes so far."""


BATCH_BYTES = 1024 * 1024
READ_BYTES = 1024 * 1024
SMALL_BYTES = 64 * 1024
"""What is hashed in less time than a thread takes to be asked. Contents up to this size stay in memory until the file is wanted."""


@contextmanager
def full_disk_named() -> Iterator[None]:
    """Turn the operating system's "no room" into :class:`StorageFull`."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StorageFull from error
        raise


def new_hash(algorithm: str) -> Hash:
    """A hash by hashlib's name, or ``blake2b_256`` (BLAKE2b with a digest of 256 bits, as uploads send it).

    Raises:
        ValueError: hashlib does not guarantee that algorithm.
    """
    if algorithm == "blake2b_256":
        return hashlib.blake2b(digest_size=32)
    if algorithm not in hashlib.algorithms_guaranteed or algorithm.startswith("shake"):
        raise ValueError(f"unknown hash algorithm: {algorithm}")
    # The digests that indexes announce identify files; whether they still protect is the reader's concern.
    return hashlib.new(algorithm, usedforsecurity=False)


def start_sync(descriptor: int) -> None:
    """Begin to write a small file to the disk, without waiting.

    If this is done for several files before the first of them is synced, they all get their place on the disk at once, and are in
    the journal's same transaction: the further syncs find little left to do. It is a hint; none of those syncs may be left out.
    """
    if sys.platform == "linux":
        # Advice to drop a file's pages starts to write those that are dirty; and what is being written is not dropped.
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)


class FileSpool(Spool):
    """A spool in a local file. Bytes are written and hashed by ``executor``, one batch at a time.

    While one batch is under way the next one gathers in memory, at most two megabytes altogether. The file is made with the first
    batch; small contents get theirs when somebody asks for it, who should do so in a thread.
    """

    def __init__(self, path: Path, executor: Executor, *, eager: bool = False) -> None:
        self._path = os.fspath(path)
        self._executor = executor
        self._batch_bytes = 1 if eager else BATCH_BYTES
        self._fd = -1
        self._making = threading.Lock()
        self._content = b""
        """Small contents that are not in the file yet."""
        self._hashes: dict[str, Hash] = {"sha256": new_hash("sha256")}
        self._waiting: list[bytes] = []
        self._waiting_bytes = 0
        self._size = 0
        self._job: asyncio.Future[None] | None = None
        self._finished = False
        self._closed = False
        self._error: BaseException | None = None
        self.written = 0
        """Bytes that are in the file and may be read from it."""
        self.on_progress: Callable[[], None] = lambda: None
        """Called on the event loop after ``written`` has grown."""
        if eager:
            self._descriptor()

    @property
    def size(self) -> int:
        """See :class:`Spool`."""
        return self._size

    @property
    def path(self) -> str:
        """See :class:`Spool`. Small contents are written now."""
        if not self._closed:
            self._descriptor()
        return self._path

    def dup(self) -> int:
        """A new descriptor of the file; the caller closes it."""
        return os.dup(self._descriptor())

    def want(self, *algorithms: str) -> None:
        """See :class:`Spool`."""
        if self._size:
            raise ValueError("digests must be asked for before the first write")
        for algorithm in algorithms:
            self._hashes.setdefault(algorithm, new_hash(algorithm))

    async def write(self, data: bytes) -> None:
        """See :class:`Spool`."""
        self._waiting.append(data)
        self._waiting_bytes += len(data)
        self._size += len(data)
        if self._job is not None and self._job.done():
            await self._settle()
        if self._waiting_bytes >= BATCH_BYTES and self._job is not None:
            await self._settle()
        if self._job is None and self._waiting_bytes >= self._batch_bytes:
            self._start()

    async def finish(self) -> None:
        """See :class:`Spool`."""
        if self._fd < 0 and self._job is None and self._size <= SMALL_BYTES:
            self._keep_in_memory()
        while self._job is not None or self._waiting:
            await self._settle()
            if self._waiting and self._job is None:
                self._start()
        self._check()
        self._finished = True

    async def digest(self, algorithm: str) -> str:
        """See :class:`Spool`."""
        if not self._finished:
            raise ValueError("the spool is not finished")
        if algorithm not in self._hashes:
            known = new_hash(algorithm)
            if len(self._content) == self._size:
                known.update(self._content)
            else:
                await asyncio.get_running_loop().run_in_executor(self._executor, self._hash_again, known)
            self._hashes[algorithm] = known
        return self._hashes[algorithm].hexdigest()

    def sync(self) -> None:
        """Flush to stable storage; for the store, in a thread."""
        os.fsync(self._descriptor())

    def start_sync(self) -> None:
        """Begin what :meth:`sync` then waits for, see :func:`start_sync`; for the store, in a thread."""
        if self._size <= SMALL_BYTES:
            start_sync(self._descriptor())

    async def aclose(self) -> None:
        """Close and remove the file. Descriptors from :meth:`dup` stay readable."""
        self._closed = True
        if self._job is None or self._job.done():
            self._release()
            return
        # A thread is still writing: the descriptor is closed when it is done, even if nobody waits for that any more. Otherwise it
        # would write into whatever file gets the number next.
        self._job.add_done_callback(lambda _: self._release())
        await asyncio.wait([self._job])

    def _release(self) -> None:
        with self._making:
            self._closed = True
            self._content = b""
            if self._fd >= 0:
                # In this order: where the descriptor is of no use any more, a thread that would have linked the file finds none.
                with suppress(FileNotFoundError):
                    os.unlink(self._path)
                os.close(self._fd)
                self._fd = -1

    def _descriptor(self) -> int:
        """The file's, which is made and gets the small contents if it is not there yet."""
        with self._making:
            if self._fd < 0:
                # A thread may ask after the upload was given up, and nobody would remove the file.
                if self._closed:
                    raise ValueError("the spool is closed")
                with full_disk_named():
                    self._fd = os.open(self._path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o640)
            if self.written < len(self._content):
                self._append(self._fd, self._content[self.written :])
            return self._fd

    def _keep_in_memory(self) -> None:
        self._content += b"".join(self._waiting)
        for known in self._hashes.values():
            for piece in self._waiting:
                known.update(piece)
        self._waiting, self._waiting_bytes = [], 0

    def _start(self) -> None:
        batch, self._waiting, self._waiting_bytes = self._waiting, [], 0
        loop = asyncio.get_running_loop()
        self._job = loop.run_in_executor(self._executor, self._flush, batch)
        # The batch is in the file when the thread is done, whether or not somebody writes more.
        self._job.add_done_callback(self._note_progress)

    def _note_progress(self, job: asyncio.Future[None]) -> None:
        if job.cancelled():
            return
        if (error := job.exception()) is not None:
            # What is lost stays lost: no later write or digest may pass for the whole.
            self._error = error
            return
        if self._closed:
            return
        self.on_progress()
        # An eager spool's last bytes must not wait for the next ones.
        if job is self._job and self._waiting and self._batch_bytes == 1:
            self._start()

    async def _settle(self) -> None:
        if self._job is not None:
            job = self._job
            await asyncio.wait([job])
            if job is self._job:
                self._job = None
        self._check()

    def _check(self) -> None:
        if self._error is not None:
            raise self._error

    def _flush(self, batch: list[bytes]) -> None:
        data = batch[0] if len(batch) == 1 else b"".join(batch)
        for known in self._hashes.values():
            known.update(data)
        self._append(self._descriptor(), data)

    def _append(self, descriptor: int, data: bytes) -> None:
        view = memoryview(data)
        with full_disk_named():
            while view:
                count = os.pwrite(descriptor, view, self.written)
                view = view[count:]
                self.written += count

    def _hash_again(self, known: Hash) -> None:
        descriptor, position = self._descriptor(), 0
        while piece := os.pread(descriptor, READ_BYTES, position):
            known.update(piece)
            position += len(piece)
