"""Opening a directory as a store, and telling whether one of its folders has changed."""

from __future__ import annotations

import asyncio
import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from nora.store.directory import TICK_NS, DirectoryStore, StoreError


async def opened(root: Path) -> None:
    await DirectoryStore.open(root).aclose()


# Opening


async def test_a_new_directory_becomes_a_store_and_opens_again(tmp_path):
    root = tmp_path / "a" / "b"
    await opened(root)
    assert (root / "FORMAT").read_bytes() == b'{"format":1}'
    await opened(root)
    DirectoryStore.check_format(root)
    assert sorted(path.name for path in root.iterdir()) == ["FORMAT", "tmp"]
    assert list((root / "tmp").iterdir()) == []


async def test_a_fresh_file_system_may_have_what_fresh_file_systems_have(tmp_path):
    (tmp_path / "lost+found").mkdir()
    (tmp_path / "tmp").mkdir()
    await opened(tmp_path)


@pytest.mark.parametrize("name", ["photo.jpg", "blobs", ".git"])
def test_a_foreign_directory_is_refused_and_left_as_it_is(tmp_path, name):
    (tmp_path / name).write_bytes(b"mine")
    with pytest.raises(StoreError, match="not empty and not a store"):
        DirectoryStore.open(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize(
    "marker", [b'{"format":2}', b'{"format":0}', b"{}", b'{"format":"1"}', b"", b"\xff", b"[1]", b'{"format":1']
)
def test_a_format_that_we_do_not_know_is_refused(tmp_path, marker):
    (tmp_path / "FORMAT").write_bytes(marker)
    with pytest.raises(StoreError, match=r"this Nora knows 1|cannot be used|is no storage"):
        DirectoryStore.open(tmp_path)
    with pytest.raises(StoreError):
        DirectoryStore.check_format(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["FORMAT"]


def test_a_newer_format_is_said_with_both_numbers(tmp_path):
    (tmp_path / "FORMAT").write_bytes(b'{"format":7}')
    with pytest.raises(StoreError, match="has storage format 7, this Nora knows 1"):
        DirectoryStore.open(tmp_path)


def test_what_is_no_directory_is_refused_in_one_line(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    for root in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(StoreError) as caught:
            DirectoryStore.open(root)
        assert "\n" not in str(caught.value)
    with pytest.raises(StoreError, match="is no storage"):
        DirectoryStore.check_format(tmp_path / "missing")


async def test_two_processes_that_start_in_an_empty_directory_both_come_up(tmp_path, monkeypatch):
    exists = Path.exists

    def while_the_other_one_creates_it(path: Path) -> bool:
        found = exists(path)
        if path.name == "FORMAT" and not found:
            path.write_bytes(b'{"format":1}')
        return found

    monkeypatch.setattr(Path, "exists", while_the_other_one_creates_it)
    await opened(tmp_path)


async def test_many_may_open_one_store_at_once(tmp_path):
    await opened(tmp_path)
    with ThreadPoolExecutor(8) as pool:
        stores = list(pool.map(DirectoryStore.open, [tmp_path] * 8))
    await asyncio.gather(*(store.aclose() for store in stores))
    assert list((tmp_path / "tmp").iterdir()) == []


# Markers


def age(folder: Path, nanoseconds: int) -> None:
    at = time.time_ns() - nanoseconds
    os.utime(folder, ns=(at, at))


async def test_a_marker_that_is_told_changes_with_every_change(store):
    seen = []
    for number in range(20):
        await store.put(f"index/r/{number}/1", b"")
        # Nothing waits: these all happen within a tick or two of the file system's clock.
        marker = await store.marker("index/r")
        assert marker is None or marker not in seen
        seen.append(marker)


async def test_two_changes_within_one_tick_are_told_apart(store):
    await store.put("index/r/a/1", b"")
    folder = store.root / "index" / "r"
    when = time.time_ns()
    os.utime(folder, ns=(when, when))
    before = await store.marker("index/r")
    await store.put("index/r/b/1", b"")
    os.utime(folder, ns=(when, when))  # the clock has not advanced
    assert before is None or before != await store.marker("index/r")


async def test_an_old_folder_has_a_steady_marker_until_it_changes(store):
    await store.put("index/r/a/1", b"")
    age(store.root / "index" / "r", 2 * TICK_NS)
    before = await store.marker("index/r")
    assert before is not None
    assert before == await store.marker("index/r")
    await store.put("index/r/b/1", b"")
    assert before != await store.marker("index/r")
    age(store.root / "index" / "r", 3 * TICK_NS)
    settled = await store.marker("index/r")
    await store.delete("index/r/b/1")
    os.rmdir(store.root / "index" / "r" / "b")
    assert settled is not None
    assert settled != await store.marker("index/r")


async def test_a_time_in_the_future_proves_nothing(store):
    await store.put("index/r/a/1", b"")
    age(store.root / "index" / "r", -(10**12))
    assert await store.marker("index/r") is None


async def test_absence_has_a_marker_of_its_own(store):
    absent = await store.marker("index/none")
    assert absent is not None
    await store.put("index/none/a/1", b"")
    age(store.root / "index" / "none", 2 * TICK_NS)
    assert await store.marker("index/none") not in (None, absent)
