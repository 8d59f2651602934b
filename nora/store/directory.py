"""A store in a local directory.

    FORMAT                                     number of the layout
    CHANGES                                    differs after every change; see changes.py
    blobs/sha256/ab/cdef...                    file contents, by digest; never changed
    index/<registry>/<project>/<serial>.json   manifests; never changed
    cache/<registry>/<upstream>/<project>/...  what upstreams said; may be removed at any time
    used/<registry>/ab/cdef...                 when a proxied blob was last used
    tokens/<id>.json, .revoked, .used          API tokens; see nora/auth/tokens.py
    tmp/                                       temporary files; on the same file system, so that a link publishes them

Small reads and existence checks are done inline: they take microseconds. Whatever waits for the disk runs in threads.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager, suppress
from io import FileIO
from pathlib import Path
from typing import ParamSpec, TypeVar

import msgspec

from nora.api import NoraError, Spool
from nora.store.changes import Changes
from nora.store.durable import begin, locked, make_folders, sync_folder, write_new
from nora.store.protocol import FORMAT, Step, blob_key
from nora.store.scratch import Scratch, remove_abandoned
from nora.store.spool import FileSpool, full_disk_named
from nora.threads import WarmThreads

P = ParamSpec("P")
T = TypeVar("T")

TICK_NS = 100_000_000
"""Longer than the granularity of file times: at most 10 ms on Linux."""
RESERVE_BYTES = 16 * 1024 * 1024
"""Room that a large transfer must leave free, for manifests and pages."""


class StoreError(NoraError):
    """The directory cannot be used as a store; the text says why."""


class BlobSource:
    """A blob, open for reading. Implements :class:`nora.api.ByteSource`."""

    complete = True

    def __init__(self, file: FileIO) -> None:
        self._file = file
        self.size: int = os.fstat(file.fileno()).st_size

    async def start(self) -> None:
        """Nothing to fetch."""

    def available(self) -> int:
        """All of it."""
        return self.size

    async def wait(self, beyond: int) -> None:
        """Nothing to wait for."""

    def open(self) -> int:
        """A new descriptor, which the caller closes."""
        return os.dup(self._file.fileno())

    async def aclose(self) -> None:
        """Close the file."""
        self._file.close()


class DirectoryStore:
    """Implements :class:`nora.store.protocol.Store` in a local directory. Use :meth:`open`."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._root, self._prefix = str(root), f"{root}/"  # paths as objects take longer than a look at what they lead to
        self._executor = WarmThreads(16, "nora-disk")
        self._scratch = Scratch(root / "tmp")
        self._making_shards = threading.Lock()
        self._has_shards = False
        self.changes = Changes(root / "CHANGES")

    @classmethod
    def open(cls, root: Path) -> DirectoryStore:
        """Open or create the store at ``root``.

        Raises:
            StoreError: it cannot be written to, or a newer Nora wrote it.
        """
        try:
            root.mkdir(parents=True, exist_ok=True)
            marker = root / "FORMAT"
            if not marker.exists():
                if any(entry.name not in ("FORMAT", "lost+found", "tmp") for entry in root.iterdir()):
                    raise StoreError(f"{root}: is not empty and not a store of Nora's; give an empty directory")
                write_new(root / "tmp", os.fspath(marker), msgspec.json.encode({"format": FORMAT}))
            cls.check_format(root)
            return cls(root)
        except (OSError, msgspec.MsgspecError) as error:
            raise StoreError(f"{root}: cannot be used as storage: {getattr(error, 'strerror', None) or error}") from error

    @staticmethod
    def check_format(root: Path) -> None:
        """Make sure that ``root`` is a store that this Nora can read.

        Raises:
            StoreError: it is not, or there is nothing.
        """
        if not root.is_dir():
            raise StoreError(f"{root}: there is no storage; give its directory with --storage or storage.path")
        try:
            found = msgspec.json.decode((root / "FORMAT").read_bytes(), type=dict[str, int])
        except (OSError, msgspec.MsgspecError) as error:
            raise StoreError(f"{root}: is no storage of Nora's: {error}") from error
        if found.get("format") != FORMAT:
            raise StoreError(f"{root}: has storage format {found.get('format')}, this Nora knows {FORMAT}")

    def clean_up(self) -> int:
        """Remove what processes that died left in ``tmp``; returns how many of them there were."""
        return remove_abandoned(self.root / "tmp")

    async def prepare(self) -> None:
        """Do what the first blob would otherwise have to wait for: a tenth of a second in a new store, nothing in others."""
        with suppress(OSError):  # whoever writes first will tell
            await self._in_thread(self._make_shards)

    async def get(self, key: str) -> bytes | None:
        """See :class:`Store`."""
        try:
            with open(f"{self._prefix}{key}", "rb", buffering=0) as file:
                if os.fstat(file.fileno()).st_size > 256 * 1024:
                    return await self._in_thread(file.readall)
                return file.readall()
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            return None

    async def put(self, key: str, data: bytes) -> None:
        """See :class:`Store`."""
        await self._in_thread(self._put, key, data)

    async def create(self, key: str, data: bytes, *, blobs: Sequence[Spool] = ()) -> bool:
        """See :class:`Store`."""
        needed = await self._keeping(blobs) if blobs else None
        folder, target = self._scratch.folder, f"{self._prefix}{key}"
        return await self._in_thread(write_new, folder, target, data, self._root, needed=needed, linked=self.changes.tell)

    async def begin(self, key: str, data: bytes, *, blobs: Sequence[Spool] = ()) -> Step | None:
        """See :class:`Store`."""
        needed = await self._keeping(blobs) if blobs else None
        folder, target = self._scratch.folder, f"{self._prefix}{key}"
        return await self._in_thread(begin, folder, target, data, self._root, needed=needed, linked=self.changes.tell)

    async def touch(self, key: str) -> None:
        """See :class:`Store`."""
        await self._in_thread(self._touch, key)

    async def existing(self, keys: Iterable[str]) -> list[bool]:
        """See :class:`Store`."""
        return await self._in_thread(lambda: [os.access(self.root / key, os.F_OK) for key in keys])

    async def exists(self, key: str) -> bool:
        """See :class:`Store`."""
        try:
            os.stat(f"{self._prefix}{key}")
        except (FileNotFoundError, NotADirectoryError):
            return False
        return True

    async def names(self, prefix: str) -> list[str]:
        """See :class:`Store`."""
        # That there is nothing takes no thread to tell, and most names are nobody's.
        return await self._in_thread(self._names, prefix) if await self.exists(prefix) else []

    async def marker(self, prefix: str, known: str | None = None) -> str | None:
        """See :class:`Store`."""
        try:
            changed_ns = os.stat(f"{self._prefix}{prefix}").st_mtime_ns
        except FileNotFoundError:
            return "absent"
        if str(changed_ns) == known:
            return known  # it was old when it was first seen, or set to a value that no later change can have
        # File times advance in ticks: a change within the current tick would not show, so a young time proves nothing.
        return None if time.time_ns() - changed_ns < TICK_NS else str(changed_ns)

    async def delete(self, key: str) -> None:
        """See :class:`Store`."""
        await self._in_thread(self._delete, key)

    async def open_blob(self, sha256: str) -> BlobSource | None:
        """See :class:`Store`."""
        try:
            return BlobSource(FileIO(f"{self._prefix}{blob_key(sha256)}"))
        except FileNotFoundError:
            return None

    async def keep_blob(self, spool: Spool) -> str:
        """See :class:`Store`."""
        await self._in_thread(await self._keeping([spool]))
        return await spool.digest("sha256")

    async def room_for(self, size: int) -> bool:
        """See :class:`Store`."""
        return shutil.disk_usage(self.root).free >= size + RESERVE_BYTES

    @asynccontextmanager
    async def spool(self, *, eager: bool = False) -> AsyncIterator[Spool]:
        """See :class:`Store`."""
        with full_disk_named():
            spool = FileSpool(self._scratch.new_path(), self._executor, eager=eager)
        try:
            yield spool
        finally:
            await spool.aclose()

    async def aclose(self) -> None:
        """See :class:`Store`."""
        self._executor.shutdown(wait=True)
        self._scratch.close()
        self.changes.close()

    async def _in_thread(self, call: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._executor, lambda: call(*args, **kwargs))

    def _put(self, key: str, data: bytes) -> None:
        target, temporary = self.root / key, self._scratch.new_path()
        with full_disk_named():
            try:
                temporary.write_bytes(data)
                target.parent.mkdir(parents=True, exist_ok=True)
                os.replace(temporary, target)
            finally:
                temporary.unlink(missing_ok=True)
        self.changes.tell()

    async def _keeping(self, spools: Sequence[Spool]) -> Callable[[], None]:
        """What makes spools blobs, to be called in a thread."""
        kept: list[tuple[FileSpool, str]] = []
        for spool in spools:
            assert isinstance(spool, FileSpool)
            kept.append((spool, f"{self._prefix}{blob_key(await spool.digest('sha256'))}"))
        return lambda: self._keep_blobs(kept)

    def _keep_blobs(self, kept: Sequence[tuple[FileSpool, str]]) -> None:
        with full_disk_named():
            for spool, _ in kept:
                os.utime(spool.path)  # a blob is as old as its last use by a writer, and what is young is never removed
                spool.start_sync()
            for spool, _ in kept:
                spool.sync()
            self._make_shards()
            for spool, target in kept:
                self._link_blob(spool, target)
            # The names come last, together: all of them are in what the first of these waits for.
            for folder in {os.path.dirname(target) for _, target in kept}:
                sync_folder(folder)

    def _make_shards(self) -> None:
        """Make every folder that blobs are in, durably, once in the life of a process: later blobs need not look for theirs."""
        with self._making_shards:
            if self._has_shards:
                return
            shards = f"{self._prefix}blobs/sha256"
            make_folders(shards, self._root)
            for name in {f"{number:02x}" for number in range(256)}.difference(os.listdir(shards)):
                with suppress(FileExistsError):
                    os.mkdir(f"{shards}/{name}")
            # Also of those that were there: another process may have made them a moment ago.
            for folder in (shards, os.path.dirname(shards), self._root):
                sync_folder(folder)
            self._has_shards = True

    def _link_blob(self, spool: FileSpool, target: str) -> None:
        while True:
            try:
                os.link(spool.path, target)
                return
            except FileExistsError:
                if self._reuse_blob(spool, target):
                    return
            except FileNotFoundError:
                if os.path.isdir(os.path.dirname(target)):
                    raise
                make_folders(os.path.dirname(target), self._root)  # somebody removed it while we run

    def _reuse_blob(self, spool: FileSpool, target: str) -> bool:
        """Rely on bytes that are there already; ``False`` if they have just been removed.

        The same bytes may have come a moment ago, and their name may not be durable yet: so the caller syncs in any case.
        """
        try:
            # Whoever removes a blob looks at its age and removes it under the same lock: either it sees that the blob is young
            # again, or it was first, and we see that the blob is gone.
            with locked(self.root, shared=True):
                os.utime(target)
            if os.stat(target).st_size == spool.size:
                return True
        except FileNotFoundError:
            return False
        # Other bytes under this digest are a damaged blob, and the right ones take its place.
        replacement = self._scratch.new_path()
        os.link(spool.path, replacement)
        os.replace(replacement, target)
        return True

    def _touch(self, key: str) -> None:
        path = self.root / key
        try:
            os.utime(path)
        except FileNotFoundError:
            with full_disk_named():
                path.parent.mkdir(parents=True, exist_ok=True)
                os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o640))

    def _names(self, prefix: str) -> list[str]:
        try:
            return os.listdir(self.root / prefix)
        except (FileNotFoundError, NotADirectoryError):
            return []

    def _delete(self, key: str) -> None:
        (self.root / key).unlink(missing_ok=True)
        self.changes.tell()
