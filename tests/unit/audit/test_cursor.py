"""How far a webhook has got, kept on disk; and that one process at a time sends."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys

import pytest

from nora.audit import cursor as module
from nora.audit.cursor import Cursor, DamagedCursor, Reached, needed_day
from nora.audit.follow import Position
from tests.unit.audit.conftest import DAY, NOON

REACHED = Reached(position=Position(day="2026-11-27", first="f" * 64, offset=300, last="a" * 64, last_bytes=100))


@pytest.fixture
def cursor(folder):
    made = Cursor(folder, "chat")
    assert made.take()
    yield made
    made.close()


def test_what_was_saved_is_found_again(cursor, folder):
    assert cursor.load(NOON) is None
    cursor.save(REACHED)
    later = Reached(position=REACHED.position, refused_since=NOON)
    cursor.save(later)
    assert cursor.load(NOON) == later
    assert {path.name for path in (folder / "webhooks").iterdir()} == {"chat.json", "chat.lock"}
    for path in (folder / "webhooks", *(folder / "webhooks").iterdir()):
        assert path.stat().st_mode & 0o007 == 0


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"null",
        b"{}",
        b"\xff",
        b"[" * 5000,
        b'{"position":{"day":"2026-11-2',
        b'{"position":{"day":"soon"}}',
        b'{"position":{"day":"20261128"}}',
        b'{"position":{"day":"2027-11-28"}}',
        b'{"position":{"day":"2026-11-28","offset":-1}}',
        b'{"position":{"day":"2026-11-28","offset":1,"last_bytes":2}}',
        b'{"position":{"day":"2026-11-28","offset":99999999999999999999}}',
        b'{"position":{"day":"2026-11-28"},"refused_since":"x"}',
        b'{"position":{"day":"2026-11-28"}}' + b" " * 100_000 + b"x",
    ],
)
def test_a_damaged_cursor_says_since_when_entries_may_be_missing(cursor, folder, content):
    path = folder / "webhooks" / "chat.json"
    path.write_bytes(content)
    os.utime(path, (NOON - 3 * DAY, NOON - 3 * DAY))
    with pytest.raises(DamagedCursor) as damaged:
        cursor.load(NOON)
    assert damaged.value.since == "2026-11-24", "what was sent before it was last written need not come again, but for a day"


def test_a_full_disk_leaves_what_was_kept_before(cursor, folder, monkeypatch):
    cursor.save(REACHED)

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(module.os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        cursor.save(Reached(position=Position(day="2026-11-28")))
    monkeypatch.undo()
    assert cursor.load(NOON) == REACHED
    assert {path.name for path in (folder / "webhooks").iterdir()} == {"chat.json", "chat.lock"}


def test_only_one_has_the_turn(cursor, folder):
    other = Cursor(folder, "chat")
    assert not other.take()
    assert not other.is_ours()
    assert Cursor(folder, "mail").take()
    cursor.close()
    assert other.take()
    assert not cursor.take()
    other.close()


def test_the_turn_ends_with_its_process(folder):
    program = (
        "import sys, time\nfrom pathlib import Path\nfrom nora.audit.cursor import Cursor\n"
        "cursor = Cursor(Path(sys.argv[1]), 'chat')\nprint(cursor.take(), flush=True)\ntime.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", program, str(folder)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "True\n"
        cursor = Cursor(folder, "chat")
        assert not cursor.take()
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert cursor.take()
    cursor.close()


def test_who_finds_another_lock_in_place_of_ours_has_lost_the_turn(cursor, folder):
    (folder / "webhooks" / "chat.lock").unlink()
    assert not cursor.is_ours()
    other = Cursor(folder, "chat")
    assert other.take()
    assert not cursor.is_ours()
    assert not cursor.take()
    other.close()


def test_a_link_is_not_followed(folder, tmp_path):
    (folder / "webhooks").mkdir(parents=True)
    (folder / "webhooks" / "chat.lock").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="symbolic links"):
        Cursor(folder, "chat").take()


def test_files_are_needed_since_the_day_of_the_one_that_is_furthest_behind(folder):
    assert needed_day(folder, ["a", "b"], NOON) is None
    for name, day in (("a", "2026-11-20"), ("b", "2026-11-10"), ("removed", "2026-01-01")):
        cursor = Cursor(folder, name)
        assert cursor.take()
        cursor.save(Reached(position=Position(day=day)))
        cursor.close()
    assert needed_day(folder, ["a"], NOON) == "2026-11-20"
    assert needed_day(folder, ["a", "b", "new"], NOON) == "2026-11-10"
    path = folder / "webhooks" / "a.json"
    path.write_text("?")
    os.utime(path, (NOON - 30 * DAY, NOON - 30 * DAY))
    assert needed_day(folder, ["a", "b"], NOON) == "2026-10-28"
    path.unlink()
    path.mkdir()
    assert needed_day(folder, ["a", "b"], NOON) == ""
