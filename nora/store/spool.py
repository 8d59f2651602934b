"""A temporary file that is hashed while it is written."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import os
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from contextlib import contextmanager
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


class FileSpool(Spool):
    """A spool in a local file. Bytes are written and hashed by ``executor``, one batch at a time.

    While one batch is under way the next one gathers in memory, at most two megabytes altogether.
    """

    def __init__(self, path: Path, executor: Executor, *, eager: bool = False) -> None:
        self._path = path
        self._executor = executor
        self._batch_bytes = 1 if eager else BATCH_BYTES
        self._fd = os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o640)
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

    @property
    def size(self) -> int:
        """See :class:`Spool`."""
        return self._size

    @property
    def path(self) -> str:
        """See :class:`Spool`."""
        return str(self._path)

    def dup(self) -> int:
        """A new descriptor of the file; the caller closes it."""
        return os.dup(self._fd)

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
            await asyncio.get_running_loop().run_in_executor(self._executor, self._hash_again, known)
            self._hashes[algorithm] = known
        return self._hashes[algorithm].hexdigest()

    def sync(self) -> None:
        """Flush to stable storage; for the store, in a thread."""
        os.fsync(self._fd)

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
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
            self._path.unlink(missing_ok=True)

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
        view, position = memoryview(data), self.written
        with full_disk_named():
            while view:
                count = os.pwrite(self._fd, view, position)
                view, position = view[count:], position + count
        self.written = position

    def _hash_again(self, known: Hash) -> None:
        position = 0
        while piece := os.pread(self._fd, READ_BYTES, position):
            known.update(piece)
            position += len(piece)
