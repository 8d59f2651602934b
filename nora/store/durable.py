"""Files and folders that appear whole and stay, and the lock for what processes have to do one after another.

Paths are strings here: each upload comes this way, and objects for them take longer than some of the calls.
"""

from __future__ import annotations

import errno
import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from nora.store.protocol import Step
from nora.store.spool import full_disk_named, start_sync


def write_new(
    scratch: Path,
    target: str,
    data: bytes,
    root: str | None = None,
    *,
    needed: Callable[[], None] | None = None,
    linked: Callable[[], None] = lambda: None,
) -> bool:
    """Create ``target`` with ``data``, durably; ``False`` if it exists.

    ``root`` bounds which new folders are synced; ``linked`` is called when the file is visible. ``needed`` makes durable what must be
    so before that, best along with the file: it is called when that is written and not yet synced.
    """
    if not os.path.isdir(scratch):
        scratch.mkdir(parents=True, exist_ok=True)
    temporary, parent = _temporary(scratch), os.path.dirname(target)
    with full_disk_named():
        try:
            _write(temporary, data, needed)
            make_folders(parent, root or parent)
            try:
                os.link(temporary, target)
            except FileExistsError:
                return False
            linked()  # before the sync, which takes milliseconds: others see the file already
            sync_folder(parent)
            return True
        finally:
            with suppress(FileNotFoundError):
                os.unlink(temporary)


def begin(
    scratch: Path,
    target: str,
    data: bytes,
    root: str,
    *,
    needed: Callable[[], None] | None = None,
    linked: Callable[[], None],
) -> Step | None:
    """Create ``target`` in a folder of its own, durably; ``None`` if it exists. ``needed`` and ``linked`` as for :func:`write_new`.

    The folder is made elsewhere and moved into its place, so nobody ever sees it empty. Its parent's modification time is set to a
    value that it never had: without that, two changes within one tick of the file system's clock would look like one.
    """
    folder, name = os.path.split(target)
    parent, prepared = os.path.dirname(folder), _temporary(scratch)
    written = f"{prepared}/{name}"
    with full_disk_named():
        try:
            os.mkdir(prepared)
            _write(written, data, needed)
            sync_folder(prepared)
            make_folders(parent, root)
            with locked(root):
                before = os.stat(parent).st_mtime_ns
                if not _take_place(prepared, folder, name):
                    return None
                after = _stamp(parent, before)
            linked()  # before the sync, as above
            sync_folder(parent)
            return Step(str(before), None if after is None else str(after))
        finally:
            # It is in its place now, or of no use.
            if os.path.isdir(prepared):
                with suppress(FileNotFoundError):
                    os.unlink(written)
                os.rmdir(prepared)


@contextmanager
def locked(root: str | Path, *, shared: bool = False) -> Iterator[None]:
    """Only one process or thread at a time, or only those that share; to be held for microseconds.

    The lock is on the file that every store has, so it can be taken on a full disk, too.
    """
    descriptor = os.open(f"{root}/FORMAT", os.O_RDWR | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH if shared else fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def make_folders(folder: str, root: str) -> None:
    """Create ``folder`` below ``root``, durably: a folder's name is kept by its parent, so that is synced too."""
    missing = []
    while folder != root and not os.path.isdir(folder):
        missing.append(folder)
        folder = os.path.dirname(folder)
    for folder in reversed(missing):
        with suppress(FileExistsError):
            os.mkdir(folder)
        sync_folder(os.path.dirname(folder))


def sync_folder(folder: str | Path) -> None:
    """Make the names in a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _temporary(scratch: Path) -> str:
    return f"{scratch}/{os.getpid()}-{os.urandom(8).hex()}"


def _write(path: str, data: bytes, needed: Callable[[], None] | None) -> None:
    with open(path, "xb", buffering=0) as file:
        view = memoryview(data)
        while view:
            view = view[file.write(view) :]
        if needed is not None:
            start_sync(file.fileno())
            needed()
        os.fsync(file.fileno())


def _take_place(prepared: str, folder: str, name: str) -> bool:
    try:
        # Takes the place of an empty folder, too, such as one of a copy that was broken off.
        os.rename(prepared, folder)
        return True
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
    try:
        os.link(f"{prepared}/{name}", f"{folder}/{name}")
    except FileExistsError:
        return False
    sync_folder(folder)
    return True


def _stamp(folder: str, before: int) -> int | None:
    """Give a folder a modification time that it never had; ``None`` if that cannot be done or seen here."""
    stamp = max(time.time_ns(), before + 1)
    try:
        os.utime(folder, ns=(stamp, stamp))
    except OSError:
        return None  # it belongs to another user
    return stamp if os.stat(folder).st_mtime_ns == stamp else None
