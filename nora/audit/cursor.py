"""How far the entries of the audit log have been sent to a webhook, kept on disk, and whose turn it is to send them.

audit/webhooks/<name>.json   how far
audit/webhooks/<name>.lock   locked by the process that sends
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import msgspec

from nora.audit.file import DAY_SECONDS, day_of, is_day, make_folder
from nora.audit.follow import Position
from nora.store.durable import sync_folder

FOLDER = "webhooks"
_MAX_BYTES = 16 * 1024


class Reached(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How far a webhook has got.

    Attributes:
        position: Everything before it was sent, or is none of the webhook's.
        refused_since: When the entry after it was first refused, in seconds since the epoch; 0 if it was not.
    """

    position: Position
    refused_since: float = 0.0


class DamagedCursor(ValueError):
    """What is kept on disk says nothing.

    Attributes:
        since: Everything of this day and later may not have been sent.
    """

    def __init__(self, since: str) -> None:
        super().__init__(since)
        self.since = since


class Cursor:
    """Of one webhook, for one thread at a time. Only who has :meth:`take`-n the turn may :meth:`save`.

    The turn ends with the process, however that ends.

    Args:
        audit: The folder of the audit log.
        name: Of the webhook.
    """

    def __init__(self, audit: Path, name: str) -> None:
        self._audit, self._folder = audit, audit / FOLDER
        self._path, self._lock_path = self._folder / f"{name}.json", self._folder / f"{name}.lock"
        self._lock = -1

    def take(self) -> bool:
        """Take the turn, unless another process has it; ``True`` also if we have it.

        Raises:
            OSError: there can be no lock.
        """
        if self.is_ours():
            return True
        self.close()
        make_folder(self._audit)
        make_folder(self._folder)
        self._lock = os.open(self._lock_path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o640)
        with suppress(BlockingIOError):
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if self.is_ours():
                return True
        self.close()
        return False

    def is_ours(self) -> bool:
        """Whether we have the turn: the lock is still the one that others would ask for."""
        if self._lock < 0:
            return False
        try:
            return os.path.samestat(os.fstat(self._lock), os.stat(self._lock_path, follow_symlinks=False))
        except FileNotFoundError:
            return False

    def load(self, now: float) -> Reached | None:
        """How far it has got by what is on disk, ``None`` if there is nothing yet.

        Raises:
            DamagedCursor: there is something that makes no sense.
            OSError: it cannot be read.
        """
        return _read(self._path, now)

    def save(self, reached: Reached) -> None:
        """Keep how far it has got, durably.

        Raises:
            OSError: what was kept before still is.
        """
        new = self._path.with_suffix(".new")
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o640)
        try:
            with open(descriptor, "wb", buffering=0) as file:
                data = memoryview(msgspec.json.encode(reached))
                while data:
                    data = data[file.write(data) :]
                os.fsync(file.fileno())
            os.replace(new, self._path)
        except OSError:
            with suppress(OSError):
                new.unlink()
            raise
        sync_folder(self._folder)

    def close(self) -> None:
        """Give back the turn."""
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1


def needed_day(audit: Path, names: Iterable[str], now: float) -> str | None:
    """The day since which files are still to be sent to one of these webhooks; ``None`` if none of them has begun."""
    days = []
    for name in names:
        try:
            reached = _read(audit / FOLDER / f"{name}.json", now)
        except DamagedCursor as damaged:
            days.append(damaged.since)
        except OSError:
            days.append("")  # nobody knows, so nothing is to go
        else:
            days += [] if reached is None else [reached.position.day]
    return min(days, default=None)


def _read(path: Path, now: float) -> Reached | None:
    try:
        with open(path, "rb") as file:
            data, changed_at = file.read(_MAX_BYTES), os.fstat(file.fileno()).st_mtime
    except FileNotFoundError:
        return None
    with suppress(msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        reached = msgspec.json.decode(data, type=Reached)
        place = reached.position
        # A place that is days ahead would mean that nothing is sent until then.
        fits = len(data) < _MAX_BYTES and 0 <= place.last_bytes <= place.offset < 1 << 60
        if fits and is_day(place.day) and place.day <= day_of(now + DAY_SECONDS):
            return reached
    # When it was last written, everything before had been sent.
    raise DamagedCursor(day_of(min(changed_at, now) - DAY_SECONDS))
