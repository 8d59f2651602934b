"""The line of an answer that is given again: cheap, and the same characters as the usual way's."""

from __future__ import annotations

import asyncio
import io
import logging
import select
import time
from collections.abc import Callable

import pytest

from nora.api import Actor
from nora.http import log
from nora.http.log import Lines, Told, access_log, log_answer
from nora.logs import JsonFormatter, LineHandler, TextFormatter

NOW = 1_800_000_000.25


class Stream(io.StringIO):
    """What was written, and each write."""

    def __init__(self) -> None:
        super().__init__()
        self.writes: list[str] = []

    def write(self, text: str) -> int:
        self.writes.append(text)
        return super().write(text)

    @property
    def lines(self) -> list[str]:
        return self.getvalue().splitlines()


@pytest.fixture(params=[TextFormatter, JsonFormatter])
def formatter(request) -> logging.Formatter:
    return request.param()


@pytest.fixture
def stream(formatter, monkeypatch) -> Callable[[], Stream]:
    """To be called by the test itself, since pytest adds handlers of its own last: from then on our loggers write there alone."""

    def start() -> Stream:
        made = Stream()
        handler = LineHandler(made)
        handler.setFormatter(formatter)
        ours.handlers = [handler]
        return made

    ours = logging.getLogger("nora")
    before = ours.handlers, ours.level, ours.propagate
    ours.propagate = False
    ours.setLevel(logging.INFO)
    monkeypatch.setattr(time, "time", lambda: NOW)
    yield start
    ours.handlers, ours.propagate = before[0], before[2]
    ours.setLevel(before[1])


FACTS = {"method": "GET", "path": "/simple/x/", "status": 200, "bytes_sent": 12, "registry": "main", "actor": Actor()}
CASES = {
    "plain": {},
    "head": {"method": "HEAD", "bytes_sent": 0, "status": 304},
    "user": {"actor": Actor(name="alice")},
    "odd user": {"actor": Actor(name='al "ice" \n=')},
    "foreign user": {"actor": Actor(name="älice")},
    "odd path": {"path": '/sim%20ple/ "x"=1\\{}%s\'\r\n\u2028/'},
    "number for a path": {"path": "/1970-01-01T00:00:00.000Z/127.0.0.1/0.1"},
    "registry": {"registry": ""},
    "odd registry": {"registry": 'a b "c"'},
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
@pytest.mark.parametrize("client", ["127.0.0.1", "::1", "fe80::1%eth0", "", "a b", '"', "ä"])
@pytest.mark.parametrize("seconds", [0.0, 0.00004, 0.0123, 12.3456, 1e9])
async def test_it_is_the_same_as_the_usual_ways(stream, case, client, seconds):
    stream = stream()
    facts, lines = {**FACTS, **case}, Lines()
    told = Told(*(facts[name] for name in ("method", "path", "status", "bytes_sent", "registry", "actor")))
    for request_id in ("a.B_c-1", "0123456789abcdef", "x y"):
        log_answer(**facts, seconds=seconds, client=client, request_id=request_id)
        lines.write(told, seconds, client, request_id)
    lines.flush()
    assert len(stream.lines) == 6
    assert stream.lines[::2] == stream.lines[1::2]


async def test_it_is_really_another_way(stream, monkeypatch):
    stream = stream()
    lines, told = Lines(), Told("GET", "/", 200, 1, "main", Actor())
    monkeypatch.setattr(access_log, "info", lambda *_, **__: pytest.fail("the usual way"))
    for _ in range(3):
        lines.write(told, 0.1, "127.0.0.1", "r-1")
    lines.flush()
    assert len(stream.lines) == 3


async def test_times_go_on(stream, monkeypatch):
    stream = stream()
    lines, told = Lines(), Told("GET", "/", 200, 1, "main", Actor())
    for now in (NOW, NOW + 0.5, NOW + 1):
        monkeypatch.setattr(time, "time", lambda now=now: now)
        lines.write(told, 0.1, "127.0.0.1", "r-1")
    lines.flush()
    assert ["00.250Z" in line or "00.750Z" in line or "01.250Z" in line for line in stream.lines] == [True] * 3
    assert len(set(stream.lines)) == 3


async def test_lines_are_written_within_a_moment_and_many_at_once(stream):
    stream = stream()
    lines, told = Lines(), Told("GET", "/", 200, 1, "main", Actor())
    for _ in range(10):
        lines.write(told, 0.1, "127.0.0.1", "r-1")
    assert stream.writes == []
    await asyncio.sleep(1.5 * log.FLUSH_SECONDS)
    assert len(stream.lines) == 10
    assert len(stream.writes) == 1


@pytest.mark.parametrize("letter", ["a", "ä"])
async def test_no_write_is_longer_than_a_pipe_takes_as_a_whole_and_no_line_is_torn(stream, letter):
    stream = stream()
    lines, told = Lines(), Told("GET", "/" + letter * 200, 200, 1, "main", Actor())
    for number in range(100):
        lines.write(told, 0.1, "127.0.0.1", f"r-{number}")
    assert len(stream.lines) > 50, "what waits is bounded"
    lines.flush()
    assert len(stream.lines) == 100
    assert all(len(text.encode()) <= select.PIPE_BUF and text.endswith("\n") for text in stream.writes)


async def test_order_is_kept_among_all_lines(stream):
    stream = stream()
    lines, told = Lines(), Told("GET", "/", 200, 1, "main", Actor())
    for number in range(5):
        lines.write(told, 0.1, "127.0.0.1", f"r-{number}")
        logging.getLogger("nora.test").info("between", extra={"request_id": f"b-{number}"})
    found = [line.replace('"', "").partition("request_id")[2].strip("=:} ") for line in stream.lines]
    assert [each.split()[0].strip(",}") for each in found] == [f"{kind}-{number}" for number in range(5) for kind in "rb"]
    lines.flush()


async def test_nothing_is_lost_when_logging_ends(stream):
    stream = stream()
    Lines().write(Told("GET", "/", 200, 1, "main", Actor()), 0.1, "127.0.0.1", "r-1")
    logging.shutdown([lambda: logging.getLogger("nora").handlers[0]])
    assert len(stream.getvalue().splitlines() if not stream.closed else stream.writes) == 1


class Seen(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)


@pytest.mark.parametrize("name", ["nora", "nora.access"])
async def test_another_handler_gets_whole_records(stream, name):
    stream = stream()
    seen, logger = Seen(), logging.getLogger(name)
    logger.addHandler(seen)
    try:
        lines = Lines()
        lines.write(Told("GET", "/", 200, 1, "main", Actor()), 0.1, "127.0.0.1", "r-1")
        lines.flush()
    finally:
        logger.removeHandler(seen)
    assert [record.request_id for record in seen.records] == ["r-1"]
    assert len(stream.lines) == 1


async def test_filters_and_levels_hold(stream):
    stream = stream()
    told, handler = Told("GET", "/", 200, 1, "main", Actor()), logging.getLogger("nora").handlers[0]

    def written() -> int:
        before, lines = len(stream.lines), Lines()
        lines.write(told, 0.1, "127.0.0.1", "r-1")
        lines.flush()
        return len(stream.lines) - before

    def nothing(_: logging.LogRecord) -> bool:
        return False

    assert written() == 1
    for filterer in (access_log, handler):
        filterer.addFilter(nothing)
        assert written() == 0
        filterer.removeFilter(nothing)
    handler.setLevel(logging.WARNING)
    assert written() == 0
    handler.setLevel(logging.NOTSET)
    access_log.setLevel(logging.WARNING)
    assert written() == 0
    access_log.setLevel(logging.NOTSET)
    logging.disable(logging.INFO)
    assert written() == 0
    logging.disable(logging.NOTSET)
    assert written() == 1


async def test_a_stream_that_takes_nothing_harms_nobody(stream, monkeypatch):
    stream = stream()
    monkeypatch.setattr(logging, "raiseExceptions", False)
    monkeypatch.setattr(stream, "write", lambda _: (_ for _ in ()).throw(OSError("full")))
    lines = Lines()
    lines.write(Told("GET", "/", 200, 1, "main", Actor()), 0.1, "127.0.0.1", "r-1")
    lines.flush()
