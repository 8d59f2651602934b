"""Sending: every entry at least once and in order, whatever the receiver, the disk and the process do."""

from __future__ import annotations

import asyncio
import errno
import json
import logging
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest
from prometheus_client import REGISTRY

from nora.api import UpstreamTimeout
from nora.audit import cursor as cursor_module
from nora.audit import send as module
from nora.audit.cursor import Cursor
from nora.audit.entry import Entry, line_of
from nora.audit.file import AuditFile
from nora.audit.follow import end_of
from nora.audit.send import Sender, Webhooks
from nora.audit.webhook import Webhook
from nora.tasks import Tasks
from tests.unit.audit.conftest import DAY, NOON, until

AT = "2026-11-28T11:59:00.000000Z"
WEBHOOK = Webhook(name="chat", url="https://hooks.example/T0/hidden", key=b"k" * 24, timeout_seconds=7)


@dataclass(frozen=True)
class Answer:
    status: int
    headers: Mapping[str, str] = field(default_factory=dict)


class Receiver:
    """Answers as it is told: a status, an answer, an error to raise, or an event to wait for before 200; at last 204."""

    def __init__(self) -> None:
        self.script: list[Any] = []
        self.got: list[tuple[str, dict[str, Any]]] = []
        self.headers: list[dict[str, str]] = []

    @property
    def projects(self) -> list[str]:
        return [entry["project"] for _, entry in self.got]

    async def __call__(self, url: str, headers: Mapping[str, str], body: bytes, *, timeout_seconds: float) -> Answer:
        assert (url, timeout_seconds) == (WEBHOOK.url, 7)
        self.got.append((headers["webhook-id"], json.loads(body)))
        self.headers.append(dict(headers))
        answer = self.script.pop(0) if self.script else 204
        await asyncio.sleep(0)
        if isinstance(answer, BaseException):
            raise answer
        if isinstance(answer, asyncio.Event):
            await answer.wait()
            answer = 200
        return Answer(answer) if isinstance(answer, int) else answer


class Pauses:
    """Turns the clocks instead of waiting."""

    def __init__(self, *clocks: Any) -> None:
        self.clocks = clocks
        self.asked: list[float] = []

    async def __call__(self, seconds: float) -> None:
        self.asked.append(seconds)
        for clock in self.clocks:
            clock.now += seconds
        await asyncio.sleep(0.0005)


@pytest.fixture
def receiver() -> Receiver:
    return Receiver()


@pytest.fixture
def pauses(clock, ticks) -> Pauses:
    return Pauses(clock, ticks)


@pytest.fixture
def make(tmp_path, receiver, clock, ticks, pauses) -> Callable[..., Sender]:
    return lambda webhook=WEBHOOK: Sender(tmp_path, webhook, receiver, clock=clock, ticks=ticks, pause=pauses)


@pytest.fixture
async def running(make):
    """Starts senders; what it returns stops one as a host does. All are stopped at the end."""
    everything: list[Tasks] = []

    async def start(sender: Sender | None = None) -> Callable[[], Any]:
        tasks = Tasks()
        everything.append(tasks)
        await Webhooks([sender or make()], tasks).start()
        return tasks.aclose

    yield start
    for tasks in everything:
        await tasks.aclose()


@pytest.fixture
def write(folder, clock):
    file = AuditFile(folder, clock)

    def write(*projects: str, action: str = "publish") -> None:
        file.append(b"".join(line_of(Entry(at=AT, action=action, registry="pypi", project=project)) for project in projects))

    yield write
    file.close()


def said(caplog) -> list[str]:
    return [record.message for record in caplog.records if record.name == module.__name__]


def metric(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(name, {"webhook": "chat", **labels}) or 0.0


async def test_entries_are_sent_in_order_each_with_its_own_id(running, write, receiver, folder):
    write("before")
    await running()
    write("a", "b")
    write("c")
    await until(lambda: len(receiver.got) == 3)
    assert receiver.projects == ["a", "b", "c"], "history is nobody's business"
    assert len({id_ for id_, _ in receiver.got}) == 3
    assert receiver.got[0][1] == {"at": AT, "action": "publish", "registry": "pypi", "project": "a"}
    assert receiver.headers[0]["webhook-timestamp"].isdecimal()


async def test_only_what_is_wanted_is_sent_and_the_rest_is_passed(running, make, write, receiver, folder, clock):
    webhook = Webhook(name="chat", url=WEBHOOK.url, key=WEBHOOK.key, timeout_seconds=7, actions=frozenset({"yank"}))
    await running(make(webhook))
    write("a")
    write("b", action="yank")
    write("c", "d")
    await until(lambda: Cursor(folder, "chat").load(clock()).position == end_of(folder, clock(), pytest.fail))
    assert receiver.projects == ["b"]


@pytest.mark.parametrize("answer", [500, 503, 302, 404, 408, 429, UpstreamTimeout("https://hooks.example/", "did not answer")])
async def test_an_entry_is_sent_again_until_it_is_taken_and_later_ones_wait(running, write, receiver, pauses, answer, caplog):
    await running()
    receiver.script = [answer] * 5
    write("a", "b")
    await until(lambda: "b" in receiver.projects)
    assert receiver.projects == ["a"] * 6 + ["b"]
    assert len({id_ for id_, _ in receiver.got}) == 2, "each try has the same id"
    signatures = {(each["webhook-timestamp"], each["webhook-signature"]) for each in receiver.headers[:6]}
    assert len(signatures) == 6, "and a time and signature of its own"
    waits = [seconds for seconds in pauses.asked if seconds != module.LOOK_SECONDS]
    assert sum(waits) > 1 + 2 + 4 + 8 + 10
    assert "hidden" not in caplog.text


async def test_what_the_receiver_asks_for_is_waited_for_within_bounds(running, write, receiver, ticks):
    await running()
    receiver.script = [Answer(429, {"retry-after": "100"}), Answer(503, {"retry-after": "99999999"})]
    begun = ticks.now
    write("a")
    await until(lambda: len(receiver.got) == 3)
    assert 3700 <= ticks.now - begun <= 3800


async def test_trouble_is_told_once_a_minute_and_that_it_is_over(running, write, receiver, ticks, caplog):
    await running()
    receiver.script = [500] * 5  # within a minute
    write("a", "b")
    await until(lambda: "webhook works again" in said(caplog))
    assert said(caplog) == ["webhook does not take an entry", "webhook works again"]
    assert (caplog.records[0].webhook, caplog.records[0].error) == ("chat", "answered with status 500")
    caplog.clear()
    ticks.now += 60
    receiver.script = [500] * 8
    write("c")
    await until(lambda: "webhook works again" in said(caplog))
    assert said(caplog).count("webhook does not take an entry") in (3, 4), "after some 0, 60, 150 and 280 seconds"


async def test_a_receiver_that_is_gone_gets_nothing_more_until_a_restart(running, write, receiver, caplog):
    stop = await running()
    receiver.script = [410]
    write("a", "b")
    await until(lambda: any("410" in text for text in said(caplog)))
    await asyncio.sleep(0.02)
    assert receiver.projects == ["a"]
    await stop()
    await running()
    await until(lambda: receiver.projects == ["a", "a", "b"])


async def test_an_entry_that_is_refused_for_days_is_passed_over_also_over_restarts(
    running, write, receiver, clock, caplog, monkeypatch
):
    monkeypatch.setattr(module, "SLICE_SECONDS", 600)
    stop = await running()
    receiver.script = [400] * 10_000
    begun = clock.now
    write("poison", "b")
    await until(lambda: clock.now > begun + DAY)
    await stop()
    assert "webhook has refused an entry for days; it is passed over" not in said(caplog)
    await running()
    await until(lambda: "webhook has refused an entry for days; it is passed over" in said(caplog))
    assert 3 * DAY <= clock.now - begun < 3 * DAY + 3600
    receiver.script = []
    await until(lambda: receiver.projects[-1] == "b")
    assert metric("nora_webhook_deliveries_total", outcome="passed_over") >= 1


async def test_an_entry_that_fails_is_never_passed_over(running, write, receiver, clock, monkeypatch):
    monkeypatch.setattr(module, "SLICE_SECONDS", 600)
    await running()
    receiver.script = [500] * 100_000
    begun = clock.now
    write("a", "b")
    await until(lambda: clock.now > begun + 4 * DAY)
    receiver.script = []
    await until(lambda: receiver.projects[-1] == "b")


async def test_another_process_goes_on_where_it_was(running, make, write, receiver):
    stop = await running()
    await running()
    write("a", "b")
    await until(lambda: len(receiver.got) == 2)
    assert receiver.projects == ["a", "b"], "one of them sends"
    await stop()
    write("c")
    await until(lambda: len(receiver.got) == 3)
    assert receiver.projects == ["a", "b", "c"]


async def test_what_came_while_nobody_sent_is_sent(running, write, receiver):
    stop = await running()
    write("a")
    await until(lambda: receiver.got)
    await stop()
    write("b", "c")
    await running()
    await until(lambda: len(receiver.got) == 3)
    assert receiver.projects == ["a", "b", "c"]


async def test_a_stop_lets_a_delivery_finish_and_remembers_it(running, write, receiver):
    stop = await running()
    may_answer = asyncio.Event()
    receiver.script = [may_answer]
    write("a")
    await until(lambda: receiver.got)
    stopping = asyncio.create_task(stop())
    await asyncio.sleep(0.01)
    assert not stopping.done()
    may_answer.set()
    await stopping
    write("b")
    await running()
    await until(lambda: len(receiver.got) == 2)
    assert receiver.projects == ["a", "b"]


@pytest.mark.parametrize("passes", range(12))
async def test_a_stop_at_any_moment_after_a_request_repeats_nothing_that_was_taken(running, write, receiver, passes):
    stop = await running()
    write("a")
    while not receiver.got:
        await asyncio.sleep(0)
    for _ in range(passes):  # of the event loop: the answer comes, is looked at, and is kept
        await asyncio.sleep(0)
    await stop()
    write("b")
    await running()
    await until(lambda: len(receiver.got) == 2)
    assert receiver.projects == ["a", "b"]


async def test_a_stop_does_not_wait_long_and_what_was_not_answered_is_sent_again(running, write, receiver, monkeypatch):
    monkeypatch.setattr(module, "STOP_SECONDS", 0.01)
    stop = await running()
    receiver.script = [asyncio.Event()]
    write("a")
    await until(lambda: receiver.got)
    await stop()
    await running()
    await until(lambda: len(receiver.got) == 2)
    assert receiver.got[0] == receiver.got[1]


async def test_on_a_full_disk_entries_are_sent_and_come_again_after_a_restart_at_worst(
    running, write, receiver, monkeypatch, caplog, folder, clock
):
    stop = await running()
    full = True
    real = os.replace

    def replace(*paths: Any) -> None:
        if full:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(*paths)

    monkeypatch.setattr(cursor_module.os, "replace", replace)
    write("a", "b")
    await until(lambda: len(receiver.got) == 2)
    await until(lambda: "webhook cannot keep how far it has got" in said(caplog))
    await stop()
    stop = await running()
    await until(lambda: len(receiver.got) == 4)
    assert receiver.got[:2] == receiver.got[2:]
    full = False
    await until(lambda: Cursor(folder, "chat").load(clock()).position == end_of(folder, clock(), pytest.fail))
    await stop()
    await running()
    write("c")
    await until(lambda: len(receiver.got) == 5)
    assert receiver.projects[-1] == "c"


async def test_a_damaged_cursor_is_told_and_entries_are_sent_again(running, write, receiver, folder, caplog):
    stop = await running()
    write("a")
    await until(lambda: receiver.got)
    await stop()
    path = folder / "webhooks" / "chat.json"
    path.write_text("{")
    os.utime(path, (NOON, NOON))
    await running()
    await until(lambda: len(receiver.got) == 2)
    assert receiver.got[0] == receiver.got[1]
    assert "webhook does not know how far it has got; entries are sent again" in said(caplog)


async def test_damage_in_the_log_is_told_and_passed(running, write, receiver, folder, caplog):
    await running()
    write("a")
    with (folder / "2026-11-28.jsonl").open("ab") as file:
        file.write(b"?\n")
    write("b")
    await until(lambda: receiver.projects == ["a", "b"])
    assert said(caplog) == ["audit log cannot be sent in full"]


async def test_a_folder_that_is_removed_while_sending_is_made_anew(running, write, receiver, folder, clock):
    await running()
    write("a")
    await until(lambda: receiver.got)
    for path in (folder / "webhooks").iterdir():
        path.unlink()
    (folder / "webhooks").rmdir()
    await until(lambda: (folder / "webhooks" / "chat.json").exists())
    write("b")
    await until(lambda: len(receiver.got) == 2)
    assert receiver.projects == ["a", "b"]


async def test_a_folder_that_cannot_be_made_is_told_and_tried_again(running, tmp_path, folder, receiver, caplog):
    folder.write_text("")
    await running()
    await until(lambda: "webhook cannot begin" in said(caplog))
    folder.unlink()
    await until(lambda: (folder / "webhooks" / "chat.json").exists())
    AuditFile(folder, lambda: NOON).append(line_of(Entry(at=AT, action="publish", project="a")))
    await until(lambda: receiver.got)


async def test_an_error_of_ours_does_not_end_the_sending(running, write, receiver, caplog):
    await running()
    receiver.script = [ZeroDivisionError("a slip")]
    write("a")
    await until(lambda: len(receiver.got) == 2)
    assert "webhook failed" in said(caplog)


async def test_what_is_sent_is_counted_and_how_far_it_is_behind(running, write, receiver, caplog):
    caplog.set_level(logging.CRITICAL)
    counted = {name: metric("nora_webhook_deliveries_total", outcome=name) for name in ("delivered", "failed", "refused")}
    await running()
    may_answer = asyncio.Event()
    receiver.script = [500, 400, may_answer]
    write("a")
    await until(lambda: len(receiver.got) == 3)
    assert metric("nora_webhook_behind_seconds") >= 60
    may_answer.set()
    await until(lambda: metric("nora_webhook_behind_seconds") == 0)
    for name, before in counted.items():
        assert metric("nora_webhook_deliveries_total", outcome=name) == before + 1
