"""Appending to the files of the audit log, by any number of processes at once.

    audit/2026-11-28.jsonl    what was written on that day (UTC), in the order in which it was written

Files may be moved away at any time, as logrotate does it, or removed.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

from nora.audit.entry import Entry, line_of
from nora.clock import timestamp
from nora.store.durable import sync_folder

FOLDER = "audit"
LOCK_SECONDS = 5.0
"""For so long another process is waited for, which needs a moment unless it is stopped."""
_LOCK_STEP_SECONDS = 0.005
DAY_SECONDS = 24 * 3600
NEEDED_DAYS = 30
"""So many days beyond their time files are kept for a webhook that has not got them yet."""
_NAME = re.compile(r"([0-9]{4}-[0-9]{2}-[0-9]{2})\.jsonl(?:[.-].*)?\Z", re.DOTALL)


class AuditFile:
    """The file of the current day, opened when it is needed. For one thread at a time.

    A lock is held while the file is written. ``O_APPEND`` alone keeps lines of several processes apart on local file systems, but not
    on a network's; and what a full disk has cut off must be taken away, or be ended, before anybody writes behind it.
    """

    def __init__(self, folder: Path, clock: Callable[[], float] = time.time) -> None:
        self._folder, self._clock = folder, clock
        self._path = self._durable_path = ""
        self._descriptor = -1

    def append(self, lines: bytes) -> None:
        """Write whole lines, all or none of them, at once. They survive the end of this process, though not yet that of the system.

        Raises:
            OSError: nothing was written, or there is half a line that the next writer ends.
        """
        with self._locked() as descriptor:
            size = os.fstat(descriptor).st_size
            ended = size == 0 or os.pread(descriptor, 1, size - 1) == b"\n"
            data = lines if ended else b"\n" + lines
            written = os.write(descriptor, data)
            if written < len(data):
                if os.fstat(descriptor).st_size == size + written:  # else somebody has shortened it, who knows no lock
                    os.ftruncate(descriptor, size)
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def sync(self) -> None:
        """Have what was appended survive the end of the system, too.

        Raises:
            OSError: it may not.
        """
        if self._descriptor < 0:
            return
        os.fdatasync(self._descriptor)
        if self._path != self._durable_path:  # a file's name is kept by its folder
            for folder in (self._folder, self._folder.parent):
                sync_folder(folder)
            self._durable_path = self._path

    def close(self) -> None:
        """Close the file; it is opened again when it is needed."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    @contextmanager
    def _locked(self) -> Iterator[int]:
        while True:
            self._open()
            descriptor = self._descriptor
            lock(descriptor)
            try:
                # It may have been moved while we waited, or the day be over: whoever gets the lock of such a file knows that no
                # line will come. If it is moved from now on, the lines are moved with it.
                if self._is_current() and self._path == self._path_of_today():
                    yield descriptor
                    return
            finally:
                fcntl.flock(descriptor, fcntl.LOCK_UN)

    def _open(self) -> None:
        path = self._path_of_today()
        if self._descriptor >= 0 and path == self._path and self._is_current():
            return
        self.close()
        make_folder(self._folder)
        self._descriptor, is_new = _open(path, self._folder)
        self._path = path
        if is_new:
            self._durable_path = ""

    def _path_of_today(self) -> str:
        return str(self._folder / f"{day_of(self._clock())}.jsonl")

    def _is_current(self) -> bool:
        try:
            named = os.stat(self._path, follow_symlinks=False)
        except FileNotFoundError:
            return False
        ours = os.fstat(self._descriptor)
        return (named.st_dev, named.st_ino) == (ours.st_dev, ours.st_ino)


def write_now(root: Path, action: str, *, clock: Callable[[], float] = time.time, **details: str) -> None:
    """Write one entry for the storage at ``root`` and return when that is done; for the command line.

    ``details`` are further texts of :class:`nora.audit.entry.Entry`.

    Raises:
        OSError: it was not written.
    """
    file = AuditFile(root / FOLDER, clock)
    try:
        file.append(line_of(Entry(at=timestamp(clock()), action=action, **details)))  # type: ignore[arg-type]
        file.sync()
    finally:
        file.close()


def remove_old(folder: Path, keep_days: int, now: float, needed: str | None = None) -> int:
    """Remove the files of days that ended more than ``keep_days`` days ago, moved ones too, unless that is 0; returns how many.

    Those of the day ``needed`` and later are kept up to :data:`NEEDED_DAYS` days longer.
    """
    if not keep_days:
        return 0
    first = day_of(now - keep_days * DAY_SECONDS)
    if needed is not None and needed < first:
        first = max(needed, day_of(now - (keep_days + NEEDED_DAYS) * DAY_SECONDS))
    removed = 0
    for path, day in day_files(folder):
        if day < first:
            with suppress(FileNotFoundError):  # another process was first
                path.unlink()
                removed += 1
    return removed


def day_files(folder: Path) -> Iterator[tuple[Path, str]]:
    """The files of entries and their days, in no order: the plain ones, and those that were moved beside them under longer names."""
    try:
        names = os.listdir(folder)
    except FileNotFoundError:
        return
    for name in names:
        match = _NAME.match(name)
        if match and is_day(match[1]):
            yield folder / name, match[1]


def day_of(seconds: float) -> str:
    """The day (UTC) of a time in seconds since the epoch.

    >>> day_of(86400)
    '1970-01-02'
    """
    return str((datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds)).date())


def _open(path: str, folder: Path) -> tuple[int, bool]:
    """A descriptor of the file, and whether the file is new."""
    flags = os.O_RDWR | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
    while True:
        with suppress(FileNotFoundError):
            return os.open(path, flags), False
        with suppress(FileExistsError):  # another process was first, and its file may be moved already
            descriptor = os.open(path, flags | os.O_CREAT | os.O_EXCL, 0o640)
            _hand_over(descriptor, folder)
            return descriptor, True


def make_folder(folder: Path) -> None:
    """Make a folder if it is not there, for its owner and group only.

    Raises:
        OSError: its parent is not there, or nothing can be made in it.
    """
    if folder.is_dir():
        return
    with suppress(FileExistsError):
        folder.mkdir(mode=0o750)
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            _hand_over(descriptor, folder.parent)
        finally:
            os.close(descriptor)


def _hand_over(descriptor: int, model: Path) -> None:
    """Give something new to the owner of a folder: what root makes at the command line, the server has to write to."""
    if os.geteuid() == 0:
        owner = os.stat(model)
        os.fchown(descriptor, owner.st_uid, owner.st_gid)


def is_day(text: str) -> bool:
    """Whether a text is a day as files are named by them, such as 2026-11-28."""
    try:
        return str(datetime.fromisoformat(text).date()) == text
    except ValueError:
        return False


def lock(descriptor: int, kind: int = fcntl.LOCK_EX) -> None:
    """Wait for the lock of a file of entries. Readers that want to know what is settled share it, for a moment.

    Raises:
        TimeoutError: others have kept it for :data:`LOCK_SECONDS`.
    """
    end = time.monotonic() + LOCK_SECONDS
    while True:
        try:
            fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() > end:
                raise TimeoutError(errno.ETIMEDOUT, "another process does not give back the lock of the audit log") from None
            time.sleep(_LOCK_STEP_SECONDS)
