"""``nora gc``, as an operator types it."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from nora.cli.main import cli
from nora.room.evict import sole_evictor
from tests.unit.room.conftest import DAY, HOUR, NOW, Disk

CONFIG = """
[pypi]
proxy = "https://up.example/simple/"
cache_max_gb = 0.0000005
[registries.other]
format = "pypi"
"""


@pytest.fixture
def disk(tmp_path, monkeypatch) -> Disk:
    monkeypatch.setattr(time, "time", lambda: NOW)
    made = Disk(tmp_path / "store")
    for data in (b"hosted", b"deleted", b"garbage", b"young"):
        made.blob(data, 0 if data == b"young" else DAY)
    made.manifest(b"hosted", b"deleted", registry="pypi", serial=1, age=10 * DAY)
    made.manifest(b"hosted", registry="pypi", serial=2, age=5 * DAY, removed=[b"deleted"])
    made.page(*(bytes([number]) * 100 for number in range(6)), registry="pypi")
    for number in range(6):
        made.cached(bytes([number]) * 100, HOUR * (number + 2), "pypi")
    return made


@pytest.fixture
def run(place) -> Callable[..., Result]:
    """Runs ``nora gc`` with these arguments."""
    (place / "config.toml").write_text(CONFIG)
    return lambda *arguments, storage="store": CliRunner().invoke(cli, ["gc", "--storage", storage, *arguments])


def test_it_removes_what_nobody_needs_and_says_what(disk, run):
    done = run()
    assert (done.exit_code, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [
        "contents of deleted files: 1 (7 bytes) removed",
        "contents that nothing names: 1 (7 bytes) removed",
        "kept: 1 (6 bytes) hosted, 6 (600 bytes) cached",
        "kept: 1 (5 bytes) written within the last hour, 0 (0 bytes) used meanwhile",
        "dead tokens: 0 removed; identities that were used up: 0 removed",
        "left behind by processes that died: temporary files of 0 removed",
        "cache of pypi: 2 (200 bytes) evicted, 4 (400 bytes) left of at most 536 bytes",
    ]
    assert disk.holds(b"hosted", b"young", b"deleted", b"garbage") == [True, True, False, False]
    assert disk.holds(*(bytes([number]) * 100 for number in range(6))) == [True] * 4 + [False] * 2


def test_a_dry_run_says_what_would_be_and_changes_nothing(disk, run):
    before = disk.everything()
    said = run("--dry-run").stdout
    assert disk.everything() == before
    done = run().stdout.replace("removed", "would be removed").replace("evicted", "would be evicted")
    done = done.replace(" left of", " would be left of")
    assert said.splitlines() == [line for line in done.splitlines() if not line.startswith("left behind")]


def test_deleted_files_are_kept_as_long_as_is_asked_for(disk, run):
    run("--keep-deleted-days", "6")
    assert disk.holds(b"deleted", b"garbage") == [True, False]
    run("--keep-deleted-days", "4")
    assert disk.holds(b"deleted") == [False]


@pytest.mark.parametrize("days", ["-1", "36501", "x", "1.5"])
def test_other_numbers_of_days_are_refused(disk, run, days):
    before = disk.everything()
    assert run("--keep-deleted-days", days).exit_code == 2
    assert disk.everything() == before


def test_a_manifest_that_cannot_be_read_is_one_line_and_nothing_is_removed(disk, run):
    disk.manifest(b"hosted", project="broken").write_bytes(b"{")
    before = disk.everything()
    done = run()
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr.startswith("nora: ")
    assert "broken/000000000001.json: cannot be read, so nothing is removed" in done.stderr
    assert done.stderr.count("\n") == 1
    assert disk.everything() == before


def test_where_there_is_no_storage_none_is_made(run, tmp_path):
    done = run(storage="nowhere")
    hint = "there is no storage; give its directory with --storage or storage.path"
    assert (done.exit_code, done.stdout, done.stderr) == (2, "", f"nora: {tmp_path}/nowhere: {hint}\n")
    assert not (tmp_path / "nowhere").exists()


def test_another_directory_is_left_alone(run, tmp_path):
    (tmp_path / "home/blobs/sha256/ab").mkdir(parents=True)
    (tmp_path / "home/blobs/sha256/ab" / ("0" * 62)).write_bytes(b"x")
    assert run(storage="home").exit_code == 2
    assert (tmp_path / "home/blobs/sha256/ab" / ("0" * 62)).exists()


def test_caches_are_left_to_a_server_that_is_at_it(disk, run):
    with sole_evictor(disk.root):
        done = run()
    assert done.exit_code == 0
    assert done.stdout.splitlines()[-1] == "caches: left to a server that is looking after their limits at this moment"
    assert disk.holds(bytes([5]) * 100) == [True]


def test_temporary_files_of_the_dead_go_and_those_of_the_living_stay(disk, run):
    import fcntl

    for name in ("dead", "living"):
        (disk.root / "tmp" / name).mkdir(parents=True)
        (disk.root / "tmp" / name / "part").write_bytes(b"x")
        (disk.root / "tmp" / f"{name}.lock").write_bytes(b"")
    with (disk.root / "tmp/living.lock").open("rb+") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        before = len(list((disk.root / "tmp").glob("*.lock")))
        done = run()
    assert f"temporary files of {before - len(list((disk.root / 'tmp').glob('*.lock')))} removed" in done.stdout
    assert not (disk.root / "tmp/dead").exists()
    assert (disk.root / "tmp/living/part").exists()


def test_a_full_disk_does_not_keep_it_from_making_room(disk, run, monkeypatch):
    for path in (disk.root / "used").rglob("*"):
        if path.is_file():
            path.unlink()  # the notes would have to be made
    opened = os.open

    def full(*args, **kwargs):
        raise OSError(errno.ENOSPC, "full")

    def full_for_new(path, flags, *args, **kwargs):
        return full() if flags & os.O_CREAT else opened(path, flags, *args, **kwargs)

    monkeypatch.setattr(os, "open", full_for_new)
    monkeypatch.setattr(os, "mkdir", full)
    done = run()
    assert done.exit_code == 0, done.output
    assert disk.holds(b"deleted", b"garbage") == [False, False]
    monkeypatch.undo()


def test_a_full_disk_does_not_keep_caches_from_being_evicted(disk, run, monkeypatch):
    opened = os.open

    def full_for_new(path, flags, *args, **kwargs):
        if flags & os.O_CREAT and Path(path).name == ".lock":
            raise OSError(errno.ENOSPC, "full")
        return opened(path, flags, *args, **kwargs)

    monkeypatch.setattr(os, "open", full_for_new)
    assert "cache of pypi: 2 (200 bytes) evicted" in run().stdout
