"""Temporary folders: a dead process's go, a living one's stay."""

from __future__ import annotations

import asyncio
import fcntl
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from nora.store.directory import DirectoryStore
from nora.store.scratch import Scratch, remove_abandoned

CHILD = """
import asyncio, sys, time
from pathlib import Path
from nora.store.directory import DirectoryStore

async def main():
    store = DirectoryStore.open(Path(sys.argv[1]))
    async with store.spool(eager=True) as spool, store.spool() as other:
        await spool.write(b"half of it" * 100_000)
        await spool.finish()
        await other.write(b"never finished" * 200_000)
        assert other.path
        print("ready", flush=True)
        time.sleep(60)

asyncio.run(main())
"""


@pytest.fixture
def start(tmp_path):
    """Starts a process that has two spools open in the store at ``tmp_path`` and then hangs."""
    children = []

    def run() -> subprocess.Popen[bytes]:
        child = subprocess.Popen([sys.executable, "-c", CHILD, str(tmp_path)], stdout=subprocess.PIPE)
        children.append(child)
        return child

    yield run
    for child in children:
        child.kill()
        child.wait()
        child.stdout.close()


def scratch_files(root: Path) -> list[Path]:
    return sorted(path for path in (root / "tmp").rglob("*") if path.is_file() and path.suffix != ".lock")


# DUR-2
async def test_killed_process_leaves_files_that_the_next_start_removes_and_living_ones_keep_theirs(tmp_path, start):
    children = [start(), start()]
    for child in children:
        assert child.stdout.readline() == b"ready\n"
    assert len(scratch_files(tmp_path)) == 4
    dead, living = children
    os.kill(dead.pid, signal.SIGKILL)
    dead.wait()

    store = DirectoryStore.open(tmp_path)
    async with store.spool() as mine:
        await mine.write(b"x")
        assert mine.path
        assert store.clean_up() == 1
        left = scratch_files(tmp_path)
        assert len(left) == 3
        assert Path(mine.path) in left
        assert not [path for path in left if path.parent.name.startswith(f"{dead.pid}-")]
        assert len([path for path in left if path.parent.name.startswith(f"{living.pid}-")]) == 2
        assert store.clean_up() == 0
    assert await store.names("blobs/sha256") == []
    await store.aclose()


def test_paths_are_new_and_inside(tmp_path):
    scratch = Scratch(tmp_path)
    paths = {scratch.new_path() for _ in range(100)}
    assert len(paths) == 100
    assert {path.parent for path in paths} == {scratch.folder}
    scratch.close()


def test_closing_removes_folder_files_and_lock(tmp_path):
    scratch = Scratch(tmp_path / "new" / "tmp")
    scratch.new_path().write_bytes(b"x")
    scratch.close()
    assert list((tmp_path / "new" / "tmp").iterdir()) == []


def test_a_folder_in_use_is_left_alone_and_a_left_one_goes(tmp_path):
    in_use = Scratch(tmp_path)
    in_use.new_path().write_bytes(b"mine")
    for name, has_folder in (("1-aa", True), ("2-bb", False)):
        (tmp_path / f"{name}.lock").touch()
        if has_folder:
            (tmp_path / name).mkdir()
            (tmp_path / name / "left").write_bytes(b"x")
    assert remove_abandoned(tmp_path) == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([in_use.folder.name, f"{in_use.folder.name}.lock"])
    assert len(list(in_use.folder.iterdir())) == 1
    in_use.close()


def test_nothing_to_remove_where_there_is_nothing(tmp_path):
    assert remove_abandoned(tmp_path / "missing") == 0


def test_a_lock_that_a_cleaner_took_before_it_was_locked_is_not_relied_on(tmp_path, monkeypatch):
    # Otherwise the process would work in a folder that the next cleaner takes for abandoned.
    locks = []

    def flock_after_the_cleaner(descriptor: int, how: int) -> None:
        if not locks:
            for path in tmp_path.glob("*.lock"):
                path.unlink()
        locks.append(descriptor)
        real(descriptor, how)

    real = fcntl.flock
    monkeypatch.setattr(fcntl, "flock", flock_after_the_cleaner)
    scratch = Scratch(tmp_path)
    assert len(locks) == 2
    assert scratch.folder.with_suffix(".lock").exists()
    assert remove_abandoned(tmp_path) == 0
    scratch.close()


async def test_many_stores_at_once_have_folders_of_their_own(tmp_path):
    stores = [DirectoryStore.open(tmp_path) for _ in range(5)]
    for store in stores:
        async with store.spool() as spool:
            await spool.write(b"x")
            await spool.finish()
            await store.keep_blob(spool)
    await asyncio.gather(*(store.aclose() for store in stores))
    assert list((tmp_path / "tmp").iterdir()) == []
