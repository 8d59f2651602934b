"""Reading the audit log, beside those who write it: what is there in order, and what comes then. Memory is the same for any length.

Nothing is locked, so a reader never holds up a writer.
"""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
import re
import time
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO, NamedTuple, cast

from nora.api import Invalid, NoraError
from nora.audit.entry import MAX_LINE_BYTES, Entry, entry_of
from nora.audit.file import day_files
from nora.clock import timestamp

QUIET_LOOKS = 3
"""So often a file that was moved away is looked at in vain, then it is closed."""
_AGAIN_SECONDS = 0.05
_HEAD_BYTES = 200
OPENERS: dict[str, Callable[[Path], object]] = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}
"""By the end of a name: what opens files that were compressed."""
UNREADABLE = (OSError, EOFError, zlib.error, lzma.LZMAError)
"""What reading such a file may raise."""
_MOVED = re.compile(r".*\.jsonl(?:([.-])([0-9]{1,15}))?")
_AGO = re.compile(r"([0-9]{1,6})([smhdw])")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 24 * 3600, "w": 7 * 24 * 3600}


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which entries; ``None`` is all. ``since`` and ``until`` are stored times: at or after the first, and before the second."""

    actions: frozenset[str] | None = None
    registry: str | None = None
    project: str | None = None
    actor: str | None = None
    address: str | None = None
    since: str | None = None
    until: str | None = None

    def has(self, entry: Entry) -> bool:
        """Whether the entry is one of them."""
        return (
            (self.actions is None or entry.action in self.actions)
            and self.registry in (None, entry.registry)
            and self.project in (None, entry.project)
            and self.actor in (None, entry.actor)
            and self.address in (None, entry.address)
            and (self.since is None or self.since <= entry.at)
            and (self.until is None or entry.at < self.until)
        )


class Found(NamedTuple):
    """An entry, and its line as it is stored, with its end."""

    entry: Entry
    line: bytes


class AuditUnreadable(NoraError):
    """The folder of the audit log cannot be read; the text says why."""


class AuditReader:
    """Reads the files of a folder. Call :meth:`past` first, to its end.

    Args:
        folder: May not be there yet.
        wanted: Which entries.
        complain: Called with a line for each thing that is wrong and passed over.
    """

    def __init__(self, folder: Path, wanted: Wanted, complain: Callable[[str], None]) -> None:
        self._folder, self._wanted, self._complain = folder, wanted, complain
        self._tails: dict[str, _Tail] = {}
        self._leaving: list[_Tail] = []

    def past(self, *, follow: bool = False) -> Iterator[Found]:
        """What is there, in the order in which it was written. With ``follow`` the end of the last line may be yet to come.

        Raises:
            AuditUnreadable: the folder cannot be read.
        """
        since = (self._wanted.since or "")[:10]
        listed = self._files()
        # Those that may be moved while the others are read are opened before.
        recent = _recent(listed)
        for path, _ in listed:
            if path.name in recent and (tail := self._open(path)) is not None:
                self._tails[path.name] = tail
        for path, day in listed:
            # What waited to be written when a day ended is in the file of the next, never the other way round.
            tail = (self._tails.get(path.name) if path.name in recent else self._open(path)) if day >= since else None
            if tail is None:
                continue
            yield from self._entries(tail)
            if follow and path.name in recent:
                continue
            if tail.rest:
                time.sleep(_AGAIN_SECONDS)  # it may be on its way to the disk
                yield from self._entries(tail)
            self._leave(tail)
            self._tails.pop(path.name, None)

    def more(self) -> Iterator[Found]:
        """What has come since the last call; with midnight new files, and with a rotation others under the same names.

        Raises:
            AuditUnreadable: the folder cannot be read.
        """
        followed = _recent(self._files())
        for name in sorted({*followed, *self._tails}):
            tail = self._tails.get(name)
            if tail is not None and (name not in followed or not tail.is_at(self._folder / name)):
                self._leaving.append(self._tails.pop(name))
                tail = None
            if tail is None and name in followed and (tail := self._open(self._folder / name)) is not None:
                self._tails[name] = tail
        for tail in [*self._leaving, *(self._tails[name] for name in sorted(self._tails))]:
            tail.look()
            yield from self._entries(tail)
        for tail in [tail for tail in self._leaving if tail.quiet >= QUIET_LOOKS]:
            self._leaving.remove(tail)
            self._leave(tail)

    def close(self) -> None:
        """Close all files."""
        for tail in (*self._leaving, *self._tails.values()):
            tail.close()

    def _files(self) -> list[tuple[Path, str]]:
        """All files and their days, in order."""
        try:
            return sorted(day_files(self._folder), key=lambda found: order_of(found[0], found[1]))
        except OSError as error:
            raise AuditUnreadable(f"{self._folder}: {error.strerror}") from error

    def _leave(self, tail: _Tail) -> None:
        if tail.rest:
            self._complain(f"{tail.path}:{tail.number + 1}: passed over: the last line is cut off")
        tail.close()

    def _open(self, path: Path) -> _Tail | None:
        if path.suffix == ".zst":
            self._complain(f"{path}: passed over: decompress it to have it read")
            return None
        try:
            return _Tail(path, open_file(path))
        except FileNotFoundError:
            return None  # removed, since it was old
        except OSError as error:
            self._complain(f"{path}: passed over: {error.strerror or error}")
            return None

    def _entries(self, tail: _Tail) -> Iterator[Found]:
        try:
            for line in tail.lines():
                try:
                    if len(line) > MAX_LINE_BYTES:
                        raise ValueError("too long")
                    entry = entry_of(line)
                except ValueError as error:
                    self._complain(f"{tail.path}:{tail.number}: passed over: the line is damaged: {error}")
                    continue
                if self._wanted.has(entry):
                    yield Found(entry, line)
        except UNREADABLE as error:
            tail.rest = b""
            self._complain(f"{tail.path}:{tail.number + 1}: the rest cannot be read: {error}")


class _Tail:
    """An open file, read up to some line; ``rest`` is what there is of the next one."""

    def __init__(self, path: Path, file: BinaryIO) -> None:
        self.path, self._file = path, file
        self.number, self.quiet = 0, 0
        self.rest = self._head = b""

    def lines(self) -> Iterator[bytes]:
        """The further whole lines, with their ends. Of one that is too long there is only a part."""
        while piece := self._file.readline(MAX_LINE_BYTES):
            self.quiet = 0
            if not self._head:
                self._head = piece[:_HEAD_BYTES]
            if len(self.rest) <= MAX_LINE_BYTES:
                self.rest += piece
            if piece.endswith(b"\n"):
                line, self.rest = self.rest, b""
                self.number += 1
                yield line

    def look(self) -> None:
        """Note that the file is looked at again, and whether it was shortened."""
        self.quiet += 1
        descriptor = self._file.fileno()
        size = os.fstat(descriptor).st_size
        if size >= self._file.tell():
            return
        self.rest = b""
        if size and os.pread(descriptor, len(self._head), 0) == self._head:
            self._file.seek(size)  # a writer took back what a full disk had cut off
        else:
            self._file.seek(0)  # its content was copied elsewhere
            self.number, self._head = 0, b""

    def is_at(self, path: Path) -> bool:
        """Whether this is still the file of that name."""
        try:
            named = path.stat()
        except FileNotFoundError:
            return False
        ours = os.fstat(self._file.fileno())
        return (named.st_dev, named.st_ino) == (ours.st_dev, ours.st_ino)

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def _recent(files: list[tuple[Path, str]]) -> set[str]:
    """The names of the files of the last two days: about midnight both are written."""
    return set([path.name for path, day in files if path.name == f"{day}.jsonl"][-2:])


def time_of(text: str, now: float) -> str:
    """A time as it is stored, from how long ago it was, or from a date or time of ISO 8601, which is UTC unless it says otherwise.

    >>> time_of("2h", 7205.5), time_of("2026-11-28", 0), time_of("2026-11-28T11:00+01:00", 0)
    ('1970-01-01T00:00:05.500000Z', '2026-11-28T00:00:00.000000Z', '2026-11-28T10:00:00.000000Z')

    Raises:
        Invalid: it is neither.
    """
    try:
        if match := _AGO.fullmatch(text):
            return timestamp(now - int(match[1]) * _SECONDS[match[2]])
        parsed = datetime.fromisoformat(text)
        return timestamp((parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)).timestamp())
    except (ValueError, OverflowError, OSError):
        raise Invalid(
            f"{text!r} is no time: write how long ago, such as 90s, 30m, 2h, 7d or 4w, or a date or time, such as 2026-11-28T10:30"
        ) from None


def open_file(path: Path) -> BinaryIO:
    """Open a file to read what was written to it, though it may be compressed by now.

    Raises:
        OSError: it is not there, or cannot be opened.
    """
    return cast(BinaryIO, OPENERS.get(path.suffix, _open_plain)(path))


def order_of(path: Path, day: str) -> tuple[str, bool, int, str]:
    """Of one day, what was moved away comes first: ``.2`` before ``.1``, and ``-20261128`` before ``-20261129``."""
    match = _MOVED.match(path.name)
    if match is None or match[2] is None:
        return day, path.name.endswith(".jsonl"), 0, path.name
    return day, False, int(match[2]) * (-1 if match[1] == "." else 1), path.name


def _open_plain(path: Path) -> BinaryIO:
    return open(path, "rb")
