"""Events: made, told, found again."""

from __future__ import annotations

import logging
from typing import Any

import msgspec
import pytest

from nora import metrics
from nora.api import Actor, Event
from nora.context import RequestContext, current_request
from nora.index.index import Index
from nora.index.manifest import Manifest
from nora.registry.journal import Journal, recorded

EVENT = Event(action="yank", registry="r", project="x")


class Sink:
    def __init__(self, error: Exception | None = None) -> None:
        self.error = error
        self.events: list[Event] = []

    def emit(self, event: Event) -> None:
        self.events.append(event)
        if self.error is not None:
            raise self.error


@pytest.fixture
def as_ada() -> Any:
    token = current_request.set(RequestContext("r-1", Actor(name="ada")))
    yield
    current_request.reset(token)


def test_an_event_says_who_asked_for_it_and_when(as_ada):
    event = Journal("r", clock=lambda: 1_800_000_000.5).event("yank", "x", files=("x-1",), version="1", reason="why")
    assert event == Event(
        action="yank",
        registry="r",
        project="x",
        files=("x-1",),
        version="1",
        reason="why",
        actor="ada",
        at="2027-01-15T08:00:00.500000Z",
        request_id="r-1",
    )


def test_an_event_that_no_request_asked_for_is_nobodys():
    event = Journal("r").event("publish", "x")
    assert (event.actor, event.request_id, event.reason) == ("", "", "")
    assert event.at


def test_all_sinks_are_told_in_order_whatever_one_of_them_raises(caplog):
    sinks = [Sink(), Sink(LookupError("no room")), Sink()]
    Journal("r", sinks).tell(EVENT)
    assert [sink.events for sink in sinks] == [[EVENT]] * 3
    (record,) = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert (record.getMessage(), vars(record)["sink"]) == ("event sink failed", "Sink")
    assert record.exc_info is not None


def test_an_event_is_one_line_of_the_log_and_counted(caplog):
    caplog.set_level(logging.INFO)

    def counted() -> float:
        labels = {"registry": "counted", "action": "delete"}
        return metrics.REGISTRY.get_sample_value("nora_events_total", labels) or 0

    before = counted()
    event = msgspec.structs.replace(EVENT, action="delete", registry="counted", files=("x-1", "x-2"), reason="why", actor="ada")
    Journal("counted").tell(event)
    assert counted() == before + 1
    (record,) = caplog.records
    assert record.getMessage() == "delete"
    facts = {name: vars(record).get(name) for name in ("registry", "project", "files", "version", "reason", "actor")}
    # What it does not have is left out.
    assert facts == {
        "registry": "counted",
        "project": "x",
        "files": "x-1,x-2",
        "reason": "why",
        "actor": "ada",
        "version": None,
    }


async def changed(index: Index, count: int) -> None:
    for _ in range(count):
        await index.change(
            "x",
            lambda _, serial: Manifest(project="x", serial=serial, event=msgspec.structs.replace(EVENT, version=str(serial))),
        )


async def test_events_are_found_again_the_newest_first(store):
    await changed(Index(store, "r"), 5)
    index = Index(store, "r")
    found = await recorded(index, "x", 50, hosted=True)
    assert [(entry.serial, entry.hosted, entry.event.version) for entry in found] == [
        (serial, True, str(serial)) for serial in (5, 4, 3, 2, 1)
    ]
    assert await recorded(index, "x", 2, hosted=True) == found[:2]
    assert await recorded(index, "x", 1, hosted=True) == found[:1]
    assert await recorded(index, "y", 50, hosted=True) == []


async def test_a_manifest_that_is_lost_does_not_hide_the_later_ones(store):
    index = Index(store, "r")
    await changed(index, 4)
    await store.delete("index/r/x/000000000002.json")
    assert [entry.serial for entry in await recorded(index, "x", 50, hosted=True)] == [4, 3]
