"""Reading the audit log on from a place, for those who must not miss a line, whatever was moved, compressed or cut meanwhile.

Nothing is kept open and nothing is remembered but the place itself, so another process can go on from it at any time.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, NamedTuple

import msgspec

from nora.audit.entry import MAX_LINE_BYTES, Entry, entry_of
from nora.audit.file import day_files, day_of, lock
from nora.audit.read import OPENERS, UNREADABLE, open_file, order_of

BATCH_BYTES = 256 * 1024
"""So much is read at a time; more than the longest line."""
TRIES = 10
"""So often is begun anew when files are moved meanwhile."""
GRACE_SECONDS = 5.0
"""So long after midnight a day's file may get lines, from machines whose clocks differ."""


class Position(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A place between two lines.

    Attributes:
        day: Of the file. Without ``first`` the place is before everything of this day and later.
        first: sha256 of the file's first line, which tells the file from others of the day, whatever its name is by now.
        offset: How many bytes of the file are before the place, decompressed.
        last, last_bytes: sha256 and length of the line before the place, by which a file is noticed that is no longer the same.
    """

    day: str
    first: str = ""
    offset: int = 0
    last: str = ""
    last_bytes: int = 0


class Line(NamedTuple):
    """A line that was read.

    Attributes:
        entry: What it says.
        body: The line as it is stored, without its end.
        id: The same whenever this line is read, and of no other line.
        after: The place after it.
    """

    entry: Entry
    body: bytes
    id: str
    after: Position


class Followed(NamedTuple):
    """Some lines, and the place to go on from, which may lie beyond the last one. Without lines there are no more at present."""

    lines: Sequence[Line]
    after: Position


class _File(NamedTuple):
    """A file, its day, and what tells it from another one under the same name."""

    path: Path
    day: str
    inode: int


Complain = Callable[[str], None]
"""Takes a line of text about something that is wrong and passed over."""


def follow(folder: Path, position: Position, now: float, complain: Complain) -> Followed:
    """What comes after a place; ``now`` is the time before this is called, in seconds since the epoch.

    Raises:
        OSError: the folder or a file cannot be read at present.
    """
    for _ in range(TRIES):
        files, complaints = _files(folder, position.day), list[str]()
        found = _followed(files, position, day_of(now - GRACE_SECONDS), complaints.append)
        begun = found.lines[0].after if found.lines else found.after
        stayed = position.first and begun.first == position.first and (begun.offset > position.offset or begun == position)
        # While files were moved, one might have been taken for another, or for gone.
        if stayed or files == _files(folder, position.day):
            for text in complaints:
                complain(text)
            return found
    raise OSError(errno.EAGAIN, "the files are moved all the time")


def _followed(files: Sequence[_File], position: Position, today: str, complain: Complain) -> Followed:
    start, position = _found(files, position, complain)
    for path, day, _ in files[start:]:
        with _opened(path, complain) as file:
            if file is None:
                continue
            first = _first_line(file, path, complain)
            here = position if first == position.first else Position(day=day, first=first)
            if first and not here.offset and _is_copy(path, day, first):
                continue
            # Whoever writes asks under the lock whether it is still the day's file: so no line comes any more.
            final = path.name != f"{day}.jsonl" or day < today
            if first:
                found = _lines(file, path, here, final, complain)
                if found.after != here:
                    return found
            if not final:
                return Followed((), position)
    # No file of a day that is over appears any more.
    return Followed((), Position(day=today) if position.day < today else position)


def end_of(folder: Path, now: float, complain: Complain) -> Position:
    """The place after everything that is there.

    Raises:
        OSError: as for :func:`follow`.
    """
    for path, day, _ in reversed(_files(folder, "")):
        with _opened(path, complain) as file:
            if file is None or not (first := _first_line(file, path, complain)):
                continue
            settled = None if path.suffix in OPENERS else _settled_size(file)
            with suppress(*UNREADABLE):
                size = file.seek(0, os.SEEK_END) if settled is None else settled
                begin = max(0, size - 2 * MAX_LINE_BYTES)
                file.seek(begin)
                tail = file.read(size - begin)
                end = tail.rfind(b"\n") + 1 or len(tail)  # half a line is yet to come
                last = tail[tail.rfind(b"\n", 0, end - 1) + 1 : end]
                return Position(day=day, first=first, offset=begin + end, last=_sha256(last), last_bytes=len(last))
    return Position(day=day_of(now))


def _files(folder: Path, since: str) -> list[_File]:
    """The files of a day and later, in the order in which they were written."""
    found = sorted((each for each in day_files(folder) if each[1] >= since), key=lambda each: order_of(*each))
    names = {path.name for path, _ in found}
    # While a file is compressed it is there twice.
    return [_File(path, day, _inode(path)) for path, day in found if path.suffix not in OPENERS or path.stem not in names]


def _inode(path: Path) -> int:
    try:
        return path.stat().st_ino
    except FileNotFoundError:
        return 0


def _is_copy(path: Path, day: str, first: str) -> bool:
    """Whether a file is a copy of the day's file, which is about to be emptied, and not yet whole perhaps."""
    plain = path.with_name(f"{day}.jsonl")
    if path == plain:
        return False
    with suppress(FileNotFoundError), plain.open("rb") as file:
        return _hash_of_first(file) == first
    return False


def _found(files: Sequence[_File], position: Position, complain: Complain) -> tuple[int, Position]:
    """Which file a place is in, and the place itself, or the best one instead: rather lines that were read than none."""
    if not position.first:
        return 0, position
    changed: int | None = None
    # While a file is copied there are two, of which the day's own is whole.
    for index in sorted(range(len(files)), key=lambda index: files[index].path.name != f"{position.day}.jsonl"):
        path, day, _ = files[index]
        if day != position.day:
            continue
        with _opened(path, complain) as file:
            if file is not None and _first_line(file, path, complain) == position.first:
                if _is_before(file, position):
                    return index, position
                changed = index if changed is None else changed
    if changed is not None:
        complain(f"{files[changed].path.name}: is not as it was; all of it is sent again")
        return changed, Position(day=position.day, first=position.first)
    complain(f"{position.day}.jsonl: is gone; entries that had not been sent are lost")
    return 0, Position(day=position.day)


def _is_before(file: BinaryIO, position: Position) -> bool:
    """Whether what is before the place is what was there when it was reached."""
    with suppress(*UNREADABLE):
        file.seek(position.offset - position.last_bytes)
        return not position.last or _sha256(file.read(position.last_bytes)) == position.last
    return False


def _first_line(file: BinaryIO, path: Path, complain: Complain) -> str:
    """sha256 of the first line; "" if there is none yet, or it cannot be read."""
    try:
        return _hash_of_first(file)
    except UNREADABLE as error:
        if path.suffix not in OPENERS:
            raise
        complain(f"{path.name}: passed over: it cannot be read: {error}")
        return ""


def _hash_of_first(file: BinaryIO) -> str:
    file.seek(0)
    line = file.readline(MAX_LINE_BYTES)
    return _sha256(line) if line.endswith(b"\n") or len(line) == MAX_LINE_BYTES else ""


def _lines(file: BinaryIO, path: Path, position: Position, final: bool, complain: Complain) -> Followed:
    """The whole lines after a place in a file, up to some; of one that is ``final``, also a last one that has no end."""
    try:
        size = None if path.suffix in OPENERS else _settled_size(file)
        file.seek(position.offset)
        limit = BATCH_BYTES if size is None else min(BATCH_BYTES, size - position.offset)
        data = file.read(limit) if limit > 0 else b""
    except UNREADABLE as error:
        if path.suffix not in OPENERS:
            raise
        complain(f"{path.name}: the rest cannot be read: {error}")
        return Followed((), position)
    at_end = len(data) < BATCH_BYTES
    found: list[Line] = []
    begin, after = 0, position
    while begin < len(data):
        end = data.find(b"\n", begin) + 1
        if not end:
            if len(data) - begin <= MAX_LINE_BYTES and not (final and at_end):
                break  # the rest is on its way, or in the next batch
            end = min(len(data), begin + MAX_LINE_BYTES)
        line, before = data[begin:end], after
        after = Position(
            day=position.day, first=position.first, offset=before.offset + len(line), last=_sha256(line), last_bytes=len(line)
        )
        begin = end
        try:
            if len(line) > MAX_LINE_BYTES or not line.endswith(b"\n"):
                raise ValueError("it is too long, or cut off")
            found.append(Line(entry_of(line), line[:-1], _id(before, line), after))
        except ValueError as error:
            complain(f"{path.name}: a line at byte {before.offset} is damaged and passed over: {error}")
    return Followed(found, after)


def _settled_size(file: BinaryIO) -> int:
    """The size of a file that nobody is just writing to: what a full disk cuts off of a line is taken back under the lock."""
    descriptor = file.fileno()
    lock(descriptor, fcntl.LOCK_SH)
    try:
        return os.fstat(descriptor).st_size
    finally:
        fcntl.flock(descriptor, fcntl.LOCK_UN)


@contextmanager
def _opened(path: Path, complain: Complain) -> Iterator[BinaryIO | None]:
    """The file, unless it is gone or nobody can read such files."""
    if path.suffix == ".zst":
        complain(f"{path.name}: passed over: decompress it to have it sent")
        yield None
        return
    try:
        file = open_file(path)
    except FileNotFoundError:
        yield None
        return
    with file:
        yield file


def _id(position: Position, line: bytes) -> str:
    """By its content, too: after a crash of the system another line may come to stand at the same place."""
    return "msg_" + _sha256(f"{position.day} {position.offset} ".encode() + line)[:32]


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
