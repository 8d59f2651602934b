"""The token that differs after every change: who is told, when, and what happens to its file."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from nora.store.changes import TOKEN_BYTES, Changes
from nora.store.directory import DirectoryStore


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "CHANGES"


@pytest.fixture
def made(file: Path) -> Callable[[], Changes]:
    """One more process's view; it watches."""

    def make() -> Changes:
        changes = Changes(file)
        assert changes.watch()
        return changes

    return make


@pytest.fixture
async def other(store) -> AsyncIterator[DirectoryStore]:
    """Another process's view of the store."""
    opened = DirectoryStore(store.root)
    yield opened
    await opened.aclose()


# The token


def test_every_watcher_learns_of_a_change(made):
    one, two = made(), made()
    before = one.token()
    assert before == two.token() == one.token()
    assert before is not None
    assert len(before) == TOKEN_BYTES
    two.tell()
    assert one.token() == two.token() != before


def test_no_token_comes_twice(made):
    changes, seen = made(), set()
    for _ in range(1000):
        seen.add(changes.token())
        changes.tell()
    assert len(seen) == 1000


def test_writers_need_not_watch_and_leave_nothing_behind_if_nobody_does(file, made):
    Changes(file).tell()
    assert not file.exists()
    watcher = made()
    before = watcher.token()
    Changes(file).tell()
    assert watcher.token() != before


def test_another_process_tells_us(file, made):
    watcher = made()
    before = watcher.token()
    code = "import sys, pathlib; from nora.store.changes import Changes; Changes(pathlib.Path(sys.argv[1])).tell()"
    subprocess.run([sys.executable, "-c", code, str(file)], check=True)
    assert watcher.token() != before


def test_of_many_writers_at_once_none_is_lost(made):
    # Each writer looks before and after its own telling, whatever the others do: the token is never the one from before.
    changes, wrong = made(), []

    def work() -> None:
        own = made()
        for _ in range(300):
            before = own.token()
            own.tell()
            if own.token() == before:
                wrong.append(before)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert changes.token() is not None


def test_a_writer_that_was_killed_holds_up_nobody(file, made):
    watcher = made()
    code = (
        "import os, sys, signal, pathlib\n"
        "from nora.store import changes\n"
        "changes.os.write = lambda *_: os.kill(os.getpid(), signal.SIGKILL)\n"
        "changes.Changes(pathlib.Path(sys.argv[1])).tell()"
    )
    done = subprocess.run([sys.executable, "-c", code, str(file)], check=False)
    assert done.returncode == -9
    before = watcher.token()
    assert before is not None
    made().tell()
    assert watcher.token() not in (None, before)


# What happens to the file


def test_a_removed_file_is_noticed_by_the_careful_look(file, made):
    watcher = made()
    before = watcher.token()
    file.unlink()
    assert watcher.checked_token() not in (None, before)
    assert file.exists()
    told = watcher.token()
    Changes(file).tell()
    assert watcher.token() not in (None, told)


def test_a_file_that_was_replaced_is_noticed_by_the_careful_look(file, made, tmp_path):
    watcher = made()
    before = watcher.token()
    restored = tmp_path / "restored"
    restored.write_bytes(b"from a backup, long ago")
    os.replace(restored, file)
    assert watcher.checked_token() == b"from a b" != before
    made().tell()
    assert watcher.token() != b"from a b"


def test_a_file_that_was_cut_tells_nothing_until_it_is_whole_again(file, made):
    # A file that is mapped into memory would end the process here.
    watcher = made()
    os.truncate(file, 0)
    assert watcher.token() is None
    assert watcher.checked_token() is not None
    os.truncate(file, TOKEN_BYTES - 1)
    assert watcher.token() is None


def test_after_the_end_there_is_no_token(made):
    watcher = made()
    watcher.close()
    assert watcher.token() is watcher.checked_token() is None
    watcher.close()


def test_who_does_not_watch_has_no_token(file):
    changes = Changes(file)
    assert changes.token() is changes.checked_token() is None


def test_a_file_that_cannot_be_made_is_one_warning(tmp_path, caplog):
    changes = Changes(tmp_path / "missing" / "CHANGES")
    assert not changes.watch()
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "prepared answers" in caplog.text
    assert changes.token() is None
    changes.tell()


def test_a_full_disk_is_found_at_the_start_and_not_when_there_is_something_to_tell(file, monkeypatch, caplog):
    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    changes = Changes(file)
    assert not changes.watch()
    assert "No space left" in str(vars(caplog.records[0])["error"])


@pytest.mark.parametrize("failing", ["open", "write"])
def test_a_change_that_cannot_be_told_is_an_error_in_the_log_and_not_of_the_change(failing, made, monkeypatch, caplog):
    changes = made()

    def refuse(*_: object, **__: object) -> int:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(os, failing, refuse)
        with caplog.at_level(logging.ERROR):
            changes.tell()
    assert [vars(record)["reason"] for record in caplog.records] == ["Input/output error"]


def test_no_descriptor_is_left_open(file, made):
    before = len(os.listdir("/proc/self/fd"))
    watcher = made()
    for _ in range(5):
        file.unlink()
        watcher.checked_token()
        watcher.tell()
    assert len(os.listdir("/proc/self/fd")) == before + 1
    watcher.close()
    assert len(os.listdir("/proc/self/fd")) == before


# Who tells


@pytest.mark.parametrize("operation", ["put", "create", "begin", "delete"])
async def test_each_change_of_the_store_is_told_before_it_returns(store, other, operation):
    await store.put("cache/a/0/pages/x", b"1")
    assert store.changes.watch()
    before = store.changes.token()
    match operation:
        case "put":
            await other.put("cache/a/0/pages/x", b"2")
        case "create":
            assert await other.create("index/a/x/000000000001.json", b"{}")
        case "begin":
            assert await other.begin("index/a/x/000000000001.json", b"{}")
        case "delete":
            await other.delete("cache/a/0/pages/x")
    assert store.changes.token() != before


async def test_a_create_that_changed_nothing_is_not_told(store, other):
    assert await store.create("index/a/x/000000000001.json", b"{}")
    assert store.changes.watch()
    before = store.changes.token()
    assert not await other.create("index/a/x/000000000001.json", b"{}")
    assert store.changes.token() == before


@pytest.mark.parametrize("operation", ["put", "create", "begin", "delete"])
async def test_it_is_told_when_the_change_is_visible_and_not_before(store, operation, monkeypatch):
    # Whoever sees the new token sees the change, too.
    key = "index/a/x/000000000001.json"
    if operation == "delete":
        await store.put(key, b"{}")
    seen: list[bool] = []
    monkeypatch.setattr(store.changes, "tell", lambda: seen.append((store.root / key).exists()))
    await (store.delete(key) if operation == "delete" else getattr(store, operation)(key, b"{}"))
    assert seen == [operation != "delete"]


async def test_a_store_that_nobody_watches_has_no_such_file(store):
    await store.put("cache/a/0/pages/x", b"1")
    assert not (store.root / "CHANGES").exists()
