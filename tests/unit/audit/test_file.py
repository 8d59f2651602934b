"""Appending by several processes, to full disks, to files that are moved."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import resource
import subprocess
import sys

import pytest

from nora.audit import file as module
from nora.audit.entry import Entry, line_of
from nora.audit.file import AuditFile, day_files, day_of, remove_old, write_now
from tests.unit.audit.conftest import DAY, NOON, kept

ONE, TWO = (line_of(Entry(at=f"2026-11-28T12:00:0{n}.000000Z", action="publish", project=f"p{n}")) for n in (1, 2))
TODAY = "2026-11-28.jsonl"


@pytest.fixture
def file(folder, clock):
    made = AuditFile(folder, clock)
    yield made
    made.close()


def test_lines_are_in_the_file_of_the_day_in_order(file, folder, clock):
    file.append(ONE)
    file.append(TWO + ONE)
    clock.now += DAY
    file.append(TWO)
    assert (folder / TODAY).read_bytes() == ONE + TWO + ONE
    assert (folder / "2026-11-29.jsonl").read_bytes() == TWO
    assert (folder / TODAY).stat().st_mode & 0o007 == 0


WRITER = """
import sys
from pathlib import Path
from nora.audit.entry import Entry, line_of
from nora.audit.file import AuditFile
file, name = AuditFile(Path(sys.argv[1])), sys.argv[2]
print("ready", flush=True)
sys.stdin.readline()
for number in range(300):
    file.append(b"".join(line_of(Entry(at=str(number), action=name, reason=name * 900)) for _ in range(3)))
"""


def test_lines_of_several_processes_are_never_mixed_while_the_file_is_moved_away(folder):
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, str(folder), name], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for name in "abcd"
    ]
    for process in processes:
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        process.stdin.write("\n")
        process.stdin.flush()
    moved = 0
    while any(process.poll() is None for process in processes):
        for path in folder.glob("*.jsonl") if folder.is_dir() else ():
            moved += 1
            path.rename(path.with_name(f"{path.name}.{1000 - moved}"))
    assert [process.wait() for process in processes] == [0] * 4
    for process in processes:
        process.stdin.close()
        process.stdout.close()
    assert moved > 1
    found = [
        line
        for path in sorted(folder.iterdir(), key=lambda path: -int(path.suffix[1:] if path.suffix != ".jsonl" else 0))
        for line in path.read_bytes().splitlines()
    ]
    for name in "abcd":
        numbers = [json.loads(line)["at"] for line in found if json.loads(line)["action"] == name]
        assert numbers == [str(number) for number in range(300) for _ in range(3)]


def test_a_file_that_is_moved_or_removed_is_made_anew(file, folder):
    file.append(ONE)
    os.rename(folder / TODAY, folder / f"{TODAY}.1")
    file.append(TWO)
    assert (folder / TODAY).read_bytes() == TWO
    (folder / TODAY).unlink()
    file.append(ONE)
    assert (folder / TODAY).read_bytes() == ONE
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()
    file.append(TWO)
    assert (folder / TODAY).read_bytes() == TWO


def test_a_file_that_is_removed_while_its_lock_is_waited_for_gets_no_lines(file, folder, monkeypatch):
    file.append(ONE)
    lock, removed = fcntl.flock, []

    def waiting(descriptor: int, operation: int) -> None:
        if not removed:
            removed.append((folder / TODAY).unlink())
        lock(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", waiting)
    file.append(TWO)
    assert (folder / TODAY).read_bytes() == TWO


def test_half_a_line_is_ended_before_the_next(file, folder):
    folder.mkdir()
    (folder / TODAY).write_bytes(ONE + TWO[:20])
    file.append(TWO)
    assert (folder / TODAY).read_bytes() == ONE + TWO[:20] + b"\n" + TWO


def test_a_full_disk_leaves_whole_lines_only(file, folder):
    """The kernel itself writes a part of it and no more, as on a full disk."""
    file.append(ONE)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(ONE) + 30, before[1]))
    try:
        with pytest.raises(OSError, match="No space left"):
            file.append(TWO)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert (folder / TODAY).read_bytes() == ONE
    file.append(TWO)
    assert (folder / TODAY).read_bytes() == ONE + TWO


def test_a_lock_that_is_not_given_back_is_told_and_nothing_is_written(file, folder, monkeypatch):
    monkeypatch.setattr(module, "LOCK_SECONDS", 0)
    file.append(ONE)
    with open(folder / TODAY) as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(TimeoutError, match="does not give back the lock"):
            file.append(TWO)
    file.append(TWO)
    assert (folder / TODAY).read_bytes() == ONE + TWO


def test_a_link_is_not_followed(file, folder, tmp_path):
    folder.mkdir()
    (folder / TODAY).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError) as told:
        file.append(ONE)
    assert told.value.errno in (errno.ELOOP, errno.EEXIST)
    assert not (tmp_path / "elsewhere").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root makes files for others")
def test_what_root_makes_belongs_to_the_owner_of_the_storage(file, folder, tmp_path):
    os.chown(tmp_path, 65534, 65534)
    file.append(ONE)
    assert [(path.stat().st_uid, path.stat().st_gid) for path in (folder, folder / TODAY)] == [(65534, 65534)] * 2


def test_one_entry_can_be_written_at_once(tmp_path, folder, clock):
    write_now(tmp_path, "token-revoke", clock=clock, actor="cli:root", token="0123456789ab")
    assert kept(folder) == [
        {"at": "2026-11-28T12:00:00.000000Z", "action": "token-revoke", "actor": "cli:root", "token": "0123456789ab"}
    ]


def test_lines_can_be_made_durable_with_the_name_of_their_file(file, folder, clock, monkeypatch):
    synced = []
    real_file, real_folder = os.fdatasync, module.sync_folder
    monkeypatch.setattr(module.os, "fdatasync", lambda descriptor: (synced.append("lines"), real_file(descriptor)))
    monkeypatch.setattr(module, "sync_folder", lambda path: (synced.append(path), real_folder(path)))
    file.sync()
    assert synced == []
    file.append(ONE)
    file.sync()
    file.append(TWO)
    file.sync()
    assert synced == ["lines", folder, folder.parent, "lines"]
    (folder / TODAY).unlink()
    file.append(ONE)
    file.sync()
    assert synced[4:] == ["lines", folder, folder.parent], "another file of the same name"


# Removing


def test_days_are_kept_as_long_as_they_are_to_be(folder):
    folder.mkdir()
    names = [f"{day_of(NOON - days * DAY)}.jsonl{end}" for days in range(6) for end in ("", ".1", ".2.gz", "-20261128.xz")]
    others = ["notes.txt", "2026-11-01.json", "2026-13-01.jsonl", "x2026-11-01.jsonl", "2026-11-01.jsonlx"]
    for name in [*names, *others]:
        (folder / name).write_bytes(ONE)
    assert remove_old(folder, 0, NOON) == 0
    assert remove_old(folder, 3, NOON) == 8
    assert {path.name for path in folder.iterdir()} == {*names[:16], *others}
    assert remove_old(folder, 3, NOON) == 0


def test_what_a_webhook_still_needs_is_kept_for_some_time(folder):
    folder.mkdir()
    for days in range(50):
        (folder / f"{day_of(NOON - days * DAY)}.jsonl").write_bytes(ONE)

    def oldest() -> str:
        return min(path.name for path in folder.iterdir())

    assert remove_old(folder, 3, NOON, "") == 16
    assert oldest() == "2026-10-26.jsonl", "that is 30 days beyond the three"
    assert remove_old(folder, 3, NOON, "2026-11-02") == 7
    assert oldest() == "2026-11-02.jsonl"
    assert remove_old(folder, 3, NOON, "2026-11-28") == 23
    assert oldest() == "2026-11-25.jsonl", "that it is not needed is no reason to remove it sooner"


def test_without_a_folder_there_is_nothing_to_remove(folder):
    assert remove_old(folder, 3, NOON) == 0
    assert list(day_files(folder)) == []
