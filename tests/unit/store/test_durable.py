"""Folders that appear together with their first file, what tells one change of their parent from another, and the lock."""

from __future__ import annotations

import asyncio
import errno
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from nora.api import StorageFull
from nora.store.directory import TICK_NS, DirectoryStore
from nora.store.durable import locked

BEGINNER = """
import asyncio, sys
from pathlib import Path
from nora.store.directory import DirectoryStore

async def main():
    store = DirectoryStore.open(Path(sys.argv[1]))
    sys.stdin.readline()
    won = []
    for number in range(40):
        if await store.begin(f"index/r/p{number}/1.json", sys.argv[2].encode() * 1000) is not None:
            won.append(str(number))
    await store.aclose()
    print(",".join(won))

asyncio.run(main())
"""


def old(path: Path) -> str:
    """Give a folder a time that is long past; returns what its marker is then."""
    at = time.time_ns() - 3600 * 10**9
    os.utime(path, ns=(at, at))
    return str(at)


def temporary(store: DirectoryStore) -> list[Path]:
    return list((store.root / "tmp").glob("*/*"))


async def test_a_folder_is_never_seen_without_its_first_file(store, monkeypatch):
    (store.root / "index/r").mkdir(parents=True)
    seen, stop = [], threading.Event()

    def look() -> None:
        while not stop.is_set():
            seen.extend(len(os.listdir(entry)) for entry in os.scandir(store.root / "index/r"))

    watcher = threading.Thread(target=look)
    watcher.start()
    for number in range(50):
        assert await store.begin(f"index/r/p{number}/1.json", b"x") is not None
    stop.set()
    watcher.join()
    assert seen
    assert set(seen) == {1}
    assert temporary(store) == []


async def test_what_begins_is_durable_before_it_answers(store, monkeypatch):
    # DUR-1
    (store.root / "index/r").mkdir(parents=True)
    steps = []
    for name in ("fsync", "rename"):
        monkeypatch.setattr(os, name, recorded(getattr(os, name), name, steps))
    await store.begin("index/r/p/1.json", b"x")
    assert steps == ["fsync 1.json", "fsync folder", "rename p", "fsync r"]


def recorded(call, name, steps):
    def record(*args):
        path = Path(os.readlink(f"/proc/self/fd/{args[0]}") if name == "fsync" else args[1])
        steps.append(f"{name} {'folder' if path.parent.parent.name == 'tmp' else path.name}")
        return call(*args)

    return record


async def test_only_the_first_to_begin_wins_and_the_others_change_nothing(store):
    assert await store.begin("index/r/p/1.json", b"first") is not None
    marker = old(store.root / "index/r")
    assert await store.begin("index/r/p/1.json", b"second") is None
    assert await store.get("index/r/p/1.json") == b"first"
    assert await store.marker("index/r") == marker
    assert temporary(store) == []


def test_of_several_processes_one_begins_each(tmp_path):
    # CONC-1
    root = tmp_path / "store"
    DirectoryStore.open(root)
    children = [
        subprocess.Popen([sys.executable, "-c", BEGINNER, root, name], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        for name in "abc"
    ]
    for child in children:
        child.stdin.write(b"go\n")
        child.stdin.flush()
    won = {name: child.communicate()[0].decode().strip().split(",") for name, child in zip("abc", children, strict=True)}
    assert sorted((number for mine in won.values() for number in mine if number), key=int) == [str(n) for n in range(40)]
    for name, mine in won.items():
        for number in filter(None, mine):
            assert (root / f"index/r/p{number}/1.json").read_bytes() == name.encode() * 1000


async def test_steps_join_to_each_other_and_to_what_was_seen_before(store):
    await store.begin("index/r/a/1.json", b"x")
    marker = old(store.root / "index/r")
    assert await store.marker("index/r") == marker
    steps = [await store.begin(f"index/r/{name}/1.json", b"x") for name in "bcdefgh"]
    assert [step.before for step in steps] == [marker, *(step.after for step in steps[:-1])]
    # Known at once, although it is young.
    assert await store.marker("index/r", steps[-1].after) == steps[-1].after
    assert await store.marker("index/r") is None


async def test_a_change_by_others_in_the_same_tick_shows(store):
    for number in range(20):
        step = await store.begin(f"index/r/a{number}/1.json", b"x")
        (store.root / f"index/r/b{number}").mkdir()
        assert await store.marker("index/r", step.after) != step.after


async def test_a_clock_that_was_set_back_makes_no_time_come_twice(store, monkeypatch):
    await store.begin("index/r/a/1.json", b"x")
    monkeypatch.setattr(time, "time_ns", lambda: 1_000_000_000)
    seen = [(await store.begin(f"index/r/{name}/1.json", b"x")).after for name in "bcd"]
    assert sorted(set(seen), key=int) == seen


@pytest.mark.parametrize("trouble", ["not ours", "coarse"])
async def test_a_folder_whose_time_cannot_be_set_is_told_to_be_unknown(store, monkeypatch, trouble):
    utime = os.utime

    def troubled(path, *args, ns):
        if trouble == "not ours":
            raise PermissionError(errno.EPERM, "not ours")
        utime(path, ns=(ns[0] // 10**9 * 10**9, ns[1] // 10**9 * 10**9))

    monkeypatch.setattr(os, "utime", troubled)
    step = await store.begin("index/r/a/1.json", b"x")
    assert step.after is None


async def test_an_empty_folder_is_taken_and_one_with_other_files_is_joined(store):
    (store.root / "index/r/empty").mkdir(parents=True)
    (store.root / "index/r/stray").mkdir()
    (store.root / "index/r/stray/notes.txt").write_bytes(b"x")
    for name in ("empty", "stray"):
        marker = old(store.root / "index/r")
        step = await store.begin(f"index/r/{name}/1.json", b"data")
        # Also where nothing was added to the folder above, so that others look.
        assert (step.before, step.after != marker) == (marker, True)
        assert await store.get(f"index/r/{name}/1.json") == b"data"
    assert temporary(store) == []


@pytest.mark.parametrize("call", ["mkdir", "fsync", "rename"])
async def test_a_full_disk_leaves_no_folder(store, monkeypatch, call):
    def full(*args, **kwargs):
        raise OSError(errno.ENOSPC, "full")

    with monkeypatch.context() as patch:
        patch.setattr(os, call, full)
        with pytest.raises(StorageFull):
            await store.begin("index/r/p/1.json", b"x")
    assert not (store.root / "index/r/p").exists()
    assert temporary(store) == []
    assert await store.begin("index/r/p/1.json", b"x") is not None


async def test_others_are_told_when_it_is_visible(store):
    assert store.changes.watch()
    token = store.changes.token()
    await store.begin("index/r/p/1.json", b"x")
    assert store.changes.token() != token


async def test_a_marker_that_is_known_is_told_until_something_changes(store):
    await store.put("cache/a", b"x")
    marker = old(store.root / "cache")
    assert await store.marker("cache", "else") == await store.marker("cache", marker) == marker
    await store.put("cache/b", b"x")
    assert await store.marker("cache", marker) is None
    await asyncio.sleep(TICK_NS / 1e9)
    assert await store.marker("cache", marker) not in (None, marker)


async def test_touching_makes_a_key_and_then_only_its_time(store):
    await store.touch("used/r/ab/cd")
    path = store.root / "used/r/ab/cd"
    assert path.read_bytes() == b""
    path.write_bytes(b"kept")
    old(path)
    await store.touch("used/r/ab/cd")
    assert path.read_bytes() == b"kept"
    assert time.time() - path.stat().st_mtime < 60


async def test_many_keys_are_looked_for_at_once(store):
    await store.put("cache/a", b"x")
    assert await store.existing(f"cache/{name}" for name in "abc") == [True, False, False]


# The lock


def test_those_who_share_go_together_and_one_who_does_not_waits(store):
    went, done = threading.Event(), threading.Event()

    def alone() -> None:
        with locked(store.root):
            went.set()
        done.set()

    with locked(store.root, shared=True), locked(store.root, shared=True):
        thread = threading.Thread(target=alone)
        thread.start()
        assert not went.wait(0.1)
    assert done.wait(10)
    thread.join()
