"""Taking entries without waiting, and having them written."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import threading
from collections.abc import Iterator

import pytest

from nora.api import Actor, Event
from nora.audit import log as module
from nora.audit.cursor import Cursor, Reached
from nora.audit.file import AuditFile
from nora.audit.flood import PER_ADDRESS
from nora.audit.follow import Position
from nora.audit.log import TELL_SECONDS, AuditLog
from nora.context import RequestContext, current_request
from nora.tasks import Tasks
from tests.unit.audit.conftest import DAY, NOON, kept, until

AT = "2026-11-28T12:00:00.000000Z"


def event(project: str = "demo", **fields: object) -> Event:
    return Event(**{"action": "publish", "registry": "pypi", "project": project, "at": AT, **fields})  # type: ignore[arg-type]


class Writes:
    """Stands in for ``os.write``: may fail as a full disk does, or wait."""

    def __init__(self) -> None:
        self.error: int | None = None
        self.tried = 0
        self.entered, self.may_go_on = threading.Event(), threading.Event()
        self.may_go_on.set()
        self._write = os.write

    def __call__(self, descriptor: int, data: bytes) -> int:
        if not data.lstrip().startswith(b'{"at"'):
            return self._write(descriptor, data)  # not ours: the event loop has pipes
        self.tried += 1
        self.entered.set()
        assert self.may_go_on.wait(20)
        if self.error is not None:
            raise OSError(self.error, os.strerror(self.error))
        return self._write(descriptor, data)


@pytest.fixture
def disk(monkeypatch) -> Iterator[Writes]:
    made = Writes()
    monkeypatch.setattr(os, "write", made)
    monkeypatch.setattr(module, "RETRY_SECONDS", 0.001)
    yield made
    made.may_go_on.set()


@pytest.fixture
def request_of_alice() -> Iterator[None]:
    token = current_request.set(RequestContext("r1", Actor(name="alice"), token="0123456789ab", address="192.0.2.1"))
    yield
    current_request.reset(token)


def said(caplog) -> list[tuple[str, dict[str, object]]]:
    found = []
    for record in caplog.records:
        if record.name == module.__name__:
            names = ("error", "waiting", "dropped", "entries", "files", "reason")
            found.append((record.message, {name: getattr(record, name) for name in names if hasattr(record, name)}))
    return found


async def test_a_change_is_written_with_who_did_it_and_from_where(started, folder, request_of_alice):
    log, stop = started
    log.emit(event(files=("a.whl",), version="1.0", reason="why", actor="alice", request_id="r1"))
    await until(folder.is_dir)
    await until(lambda: kept(folder))
    assert kept(folder) == [
        {
            "at": AT,
            "action": "publish",
            "registry": "pypi",
            "project": "demo",
            "version": "1.0",
            "files": ["a.whl"],
            "reason": "why",
            "actor": "alice",
            "token": "0123456789ab",
            "address": "192.0.2.1",
            "request_id": "r1",
        }
    ]
    await stop()


async def test_tokens_and_logins_are_written(started, folder, request_of_alice):
    log, stop = started
    log.token("token-create", "ffffffffffff", "for CI")
    log.login("login-failed", "bob", "192.0.2.9")
    log.login("login-limited", "", "192.0.2.9", "eeeeeeeeeeee")
    await stop()
    assert kept(folder) == [
        {
            "at": AT,
            "action": "token-create",
            "reason": "for CI",
            "actor": "alice",
            "token": "ffffffffffff",
            "address": "192.0.2.1",
            "request_id": "r1",
        },
        {"at": AT, "action": "login-failed", "actor": "bob", "address": "192.0.2.9", "request_id": "r1"},
        {"at": AT, "action": "login-limited", "token": "eeeeeeeeeeee", "address": "192.0.2.9", "request_id": "r1"},
    ]


async def test_whoever_emits_does_not_wait_for_the_disk(started, disk, folder):
    log, stop = started
    disk.may_go_on.clear()
    log.emit(event("first"))
    await until(disk.entered.is_set)
    for number in range(500):
        log.emit(event(f"p{number}"))
    assert disk.tried == 1
    disk.may_go_on.set()
    await until(lambda: len(kept(folder)) == 501)
    assert disk.tried == 2, "what came meanwhile is one batch"
    assert [entry["project"] for entry in kept(folder)] == ["first", *(f"p{number}" for number in range(500))]
    await stop()


async def test_at_a_stop_everything_is_written_once(started, disk, folder):
    log, stop = started
    disk.may_go_on.clear()
    log.emit(event("first"))
    await until(disk.entered.is_set)
    for number in range(50):
        log.emit(event(f"p{number}"))
    stopping = asyncio.create_task(stop())
    await asyncio.sleep(0)
    assert not stopping.done()
    disk.may_go_on.set()
    await stopping
    assert [entry["project"] for entry in kept(folder)] == ["first", *(f"p{number}" for number in range(50))]


async def test_batches_are_bounded(started, disk, folder, monkeypatch):
    log, stop = started
    monkeypatch.setattr(module, "BATCH_BYTES", 200)
    for number in range(20):
        log.emit(event(f"p{number}"))
    await stop()
    assert disk.tried >= 10
    assert len(kept(folder)) == 20


async def test_what_a_full_disk_does_not_take_waits(started, disk, folder, ticks, caplog):
    log, stop = started
    disk.error = errno.ENOSPC
    log.emit(event("first"))
    log.emit(event("second"))
    await until(lambda: disk.tried > 5)
    assert said(caplog) == [("audit log cannot be written", {"error": "No space left on device", "waiting": 2, "dropped": 0})]
    tried, ticks.now = disk.tried, ticks.now + TELL_SECONDS
    await until(lambda: disk.tried > tried + 2)
    assert len(said(caplog)) == 2, "once a minute"
    disk.error = None
    await until(lambda: len(kept(folder)) == 2)
    await until(lambda: len(said(caplog)) == 3)
    assert said(caplog)[2] == ("audit log is written again", {})
    await stop()
    assert [entry["project"] for entry in kept(folder)] == ["first", "second"]


async def test_what_there_is_no_room_for_is_dropped_and_counted(started, disk, folder, monkeypatch, caplog):
    log, stop = started
    monkeypatch.setattr(module, "MAX_QUEUED", 3)
    disk.error = errno.ENOSPC
    for number in range(10):
        log.emit(event(f"p{number}"))
    assert said(caplog) == [("audit entries dropped", {"waiting": 3, "dropped": 1, "reason": "too many wait to be written"})]
    disk.error = None
    await until(lambda: not log._waiting)
    log.emit(event("next"))
    log.emit(event("last"))
    await stop()
    assert [(entry["project"], entry.get("dropped", 0)) for entry in kept(folder)] == [
        ("p0", 0),
        ("p1", 0),
        ("p2", 0),
        ("next", 7),
        ("last", 0),
    ]
    assert said(caplog)[-1] == ("audit entries lost", {"entries": 6})


async def test_bytes_that_wait_are_bounded(started, disk, folder, monkeypatch):
    log, stop = started
    monkeypatch.setattr(module, "MAX_QUEUED_BYTES", 2000)
    for number in range(100):
        log.emit(event(f"p{number}", reason="x" * 500))
    await stop()
    assert [entry.get("dropped", 0) for entry in kept(folder)] == [0, 0, 0, 97]
    assert log._waiting_bytes == 0


async def test_what_was_dropped_at_last_is_told_at_the_stop(started, disk, folder, monkeypatch):
    log, stop = started
    monkeypatch.setattr(module, "MAX_QUEUED", 1)
    log.emit(event("first"))
    log.emit(event("second"))
    await stop()
    assert [(entry["action"], entry.get("dropped", 0)) for entry in kept(folder)] == [("publish", 0), ("dropped", 1)]


async def test_a_stop_on_a_full_disk_ends_and_tells_what_is_lost(started, disk, folder, caplog):
    log, stop = started
    disk.error = errno.ENOSPC
    log.emit(event("first"))
    log.emit(event("second"))
    await stop()
    assert said(caplog)[-1] == ("audit entries lost", {"entries": 2})
    assert kept(folder) == []


async def test_an_entry_that_cannot_be_made_is_dropped_and_raises_nothing(started, folder, caplog):
    log, stop = started
    log.emit(event(files=3))
    log.emit(event("next"))
    await stop()
    assert [(entry["project"], entry["dropped"]) for entry in kept(folder)] == [("next", 1)]
    assert said(caplog)[0][0] == "audit entries dropped"


async def test_a_storage_that_is_gone_harms_nobody(started, tmp_path, folder, caplog):
    log, stop = started
    tmp_path.rmdir()
    log.emit(event())
    await stop()
    assert [message for message, _ in said(caplog)] == ["audit log cannot be written", "audit entries lost"]
    tmp_path.mkdir()


# Floods


async def test_a_flood_of_failed_logins_is_a_few_lines(started, folder, ticks):
    log, stop = started
    for number in range(1000):
        log.login("login-failed", f"user{number}", "192.0.2.1")
    log.login("login-failed", "bob", "192.0.2.2")
    await until(lambda: folder.is_dir() and len(kept(folder)) == PER_ADDRESS + 1)
    ticks.now += 1
    log.emit(event())
    await until(lambda: len(kept(folder)) == PER_ADDRESS + 3)
    (rest,) = [entry for entry in kept(folder) if "count" in entry]
    assert rest == {"at": AT, "action": "login-failed", "address": "192.0.2.1", "count": 1000 - PER_ADDRESS}
    await stop()
    assert len(kept(folder)) == PER_ADDRESS + 3


async def test_what_was_counted_is_told_when_its_window_ends_though_nothing_else_happens(tmp_path, folder):
    tasks, log = Tasks(), AuditLog(tmp_path)
    log.start(tasks)
    for _ in range(PER_ADDRESS + 7):
        log.login("login-failed", "alice", "192.0.2.1")
    await until(lambda: folder.is_dir() and any(entry.get("count") == 7 for entry in kept(folder)))
    await tasks.aclose()
    await log.aclose()


async def test_a_stop_tells_what_was_counted(started, folder):
    log, stop = started
    for _ in range(PER_ADDRESS + 7):
        log.login("login-limited", "alice", "192.0.2.1")
    await stop()
    assert [entry.get("count", 1) for entry in kept(folder)] == [1] * PER_ADDRESS + [7]


# For webhooks


async def test_with_a_webhook_lines_are_durable_and_trouble_with_that_is_told(tmp_path, folder, monkeypatch, caplog):
    synced = []

    def sync(file: AuditFile) -> None:
        synced.append(len(kept(folder)))
        if len(synced) > 1:
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(AuditFile, "sync", sync)
    for webhooks, projects in (((), ["a"]), (("chat",), ["b", "c"])):
        tasks, log = Tasks(), AuditLog(tmp_path, webhooks=webhooks)
        log.start(tasks)
        for project in projects:
            written = len(kept(folder))
            log.emit(event(project))
            await until(lambda written=written: len(kept(folder)) > written)
        await tasks.aclose()
        await log.aclose()
    assert synced == [2, 3], "after each batch, where there is a webhook"
    assert [entry["project"] for entry in kept(folder)] == ["a", "b", "c"], "nothing is written twice"
    assert said(caplog) == [("audit log may not survive a power failure", {"error": "Input/output error"})]


async def test_files_that_a_webhook_needs_are_removed_at_last_and_loudly(tmp_path, folder, clock, monkeypatch, caplog):
    monkeypatch.setattr(module, "TIDY_SECONDS", 0.001)
    cursor = Cursor(folder, "chat")
    assert cursor.take()
    cursor.save(Reached(position=Position(day="2026-11-20")))
    cursor.close()
    for day in ("2026-11-19", "2026-11-20"):
        (folder / f"{day}.jsonl").touch()
    tasks, log = Tasks(), AuditLog(tmp_path, keep_days=2, webhooks=("chat",), clock=clock)
    log.start(tasks)
    await until(lambda: not (folder / "2026-11-19.jsonl").exists())
    clock.now = NOON + 20 * DAY
    await asyncio.sleep(0.02)
    assert (folder / "2026-11-20.jsonl").exists()
    assert "audit files removed that a webhook has not got" not in [message for message, _ in said(caplog)]
    clock.now = NOON + 25 * DAY
    await until(lambda: "audit files removed that a webhook has not got" in [message for message, _ in said(caplog)])
    assert not (folder / "2026-11-20.jsonl").exists()
    await tasks.aclose()
    await log.aclose()


# Removing


async def test_old_files_are_removed_once_a_day(tmp_path, folder, clock, monkeypatch, caplog):
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(module, "TIDY_SECONDS", 0.001)
    folder.mkdir()
    for name in ("2026-11-25.jsonl", "2026-11-26.jsonl.1", "2026-11-28.jsonl"):
        (folder / name).touch()
    tasks, log = Tasks(), AuditLog(tmp_path, keep_days=2, clock=clock)
    log.start(tasks)
    await until(lambda: not (folder / "2026-11-25.jsonl").exists())
    await until(lambda: said(caplog))
    clock.now = NOON + 4 * DAY
    await until(lambda: list(folder.iterdir()) == [])
    await tasks.aclose()
    await log.aclose()
    assert said(caplog)[0] == ("old audit files removed", {"files": 1})


async def test_trouble_with_the_removal_is_told_and_writing_goes_on(tmp_path, folder, clock, monkeypatch, caplog):
    folder.mkdir()
    (folder / "2026-11-20.jsonl").mkdir()
    tasks, log = Tasks(), AuditLog(tmp_path, keep_days=2, clock=clock)
    log.start(tasks)
    await until(lambda: said(caplog))
    log.emit(event())
    await tasks.aclose()
    await log.aclose()
    assert said(caplog)[0][0] == "old audit files could not be removed"
    assert (folder / "2026-11-28.jsonl").read_bytes()
