"""Notes of when a registry used a proxied file: kept across restarts, and next to free."""

from __future__ import annotations

import os
import time

import pytest

from nora.api import StorageFull
from nora.store.protocol import used_key
from nora.upstream.used import NOTED_SECONDS, UsedFiles

SHA = "ab" * 32


@pytest.fixture
def used(store, tasks, clock) -> UsedFiles:
    return UsedFiles(store, tasks, "main", clock)


@pytest.fixture
def touches(store, monkeypatch) -> list[str]:
    keys: list[str] = []
    touch = store.touch

    async def noted(key: str) -> None:
        keys.append(key)
        await touch(key)

    monkeypatch.setattr(store, "touch", noted)
    return keys


async def settled(tasks) -> None:
    import asyncio

    while tasks._running:
        await asyncio.sleep(0.001)


async def test_a_file_that_was_fetched_is_noted(store, used):
    assert not used.grown
    await used.kept(SHA)
    assert (store.root / used_key("main", SHA)).read_bytes() == b""
    assert used.grown


async def test_a_use_is_noted_once_in_ten_minutes(store, tasks, used, clock, touches):
    for _ in range(5):
        used.used(SHA)
        await settled(tasks)
    assert touches == [used_key("main", SHA)]
    clock.turn(NOTED_SECONDS - 1)
    used.used(SHA)
    clock.turn(2)
    used.used(SHA)
    used.used("cd" * 32)
    await settled(tasks)
    assert touches == [used_key("main", SHA), used_key("main", SHA), used_key("main", "cd" * 32)]
    assert not used.grown


async def test_a_use_gives_the_note_a_new_time(store, tasks, used):
    path = store.root / used_key("main", SHA)
    await used.kept(SHA)
    os.utime(path, (1, 1))
    UsedFiles(store, tasks, "main").used(SHA)  # after a restart
    await settled(tasks)
    assert time.time() - path.stat().st_mtime < 60


async def test_a_file_that_is_fetched_again_is_noted_again_however_soon(store, used, touches):
    await used.kept(SHA)
    (store.root / used_key("main", SHA)).unlink()  # evicted
    await used.kept(SHA)
    assert (store.root / used_key("main", SHA)).exists()


async def test_a_use_right_after_the_fetch_needs_no_note(store, tasks, used, touches):
    await used.kept(SHA)
    used.used(SHA)
    await settled(tasks)
    assert len(touches) == 1


@pytest.mark.parametrize("error", [StorageFull(), OSError("broken")])
async def test_a_note_that_cannot_be_written_is_logged_and_no_error(store, used, monkeypatch, caplog, error):
    async def failing(key: str) -> None:
        raise error

    monkeypatch.setattr(store, "touch", failing)
    await used.kept(SHA)
    assert caplog.records[-1].message == "use of a file could not be noted"
