"""Temporary files of one process, in a folder that the next start can tell from one in use."""

from __future__ import annotations

import fcntl
import os
import secrets
import shutil
from pathlib import Path


class Scratch:
    """A folder of temporary files, locked as long as this process lives.

    A lock beside the folder tells whether its owner is alive: after ``kill -9`` it is free, and the next start removes the
    folder; the files of a process that is only slow to stop are left alone.
    """

    def __init__(self, parent: Path) -> None:
        parent.mkdir(parents=True, exist_ok=True)
        self._parent = parent
        self._lock, self._lock_path = self._claim()
        self.folder = self._lock_path.with_suffix("")
        self.folder.mkdir()

    def new_path(self) -> Path:
        """A path in the folder that does not exist yet."""
        return self.folder / secrets.token_hex(12)

    def close(self) -> None:
        """Remove the folder."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self._lock_path.unlink(missing_ok=True)
        os.close(self._lock)

    def _claim(self) -> tuple[int, Path]:
        while True:
            path = self._parent / f"{os.getpid()}-{secrets.token_hex(6)}.lock"
            lock = os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o640)
            fcntl.flock(lock, fcntl.LOCK_EX)
            # A cleaner may have come between opening and locking; then the lock is of a removed file.
            if path.exists() and os.path.samestat(os.fstat(lock), path.stat()):
                return lock, path
            os.close(lock)


def remove_abandoned(parent: Path) -> int:
    """Remove the scratch folders whose owners are gone; returns how many."""
    removed = 0
    for lock_path in parent.glob("*.lock"):
        try:
            lock = os.open(lock_path, os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            continue
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            continue
        else:
            shutil.rmtree(lock_path.with_suffix(""), ignore_errors=True)
            lock_path.unlink(missing_ok=True)
            removed += 1
        finally:
            os.close(lock)
    return removed
