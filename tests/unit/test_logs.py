"""Log lines: one each, whatever they hold."""

from __future__ import annotations

import json
import logging
import sys

import pytest

from nora.api import Actor, Secret
from nora.context import RequestContext, current_request
from nora.logs import JsonFormatter, TextFormatter, configure


def record(
    message: str = "file served", *args: object, error: BaseException | None = None, **extra: object
) -> logging.LogRecord:
    made = logging.getLogger("nora.test").makeRecord(
        "nora.test", logging.INFO, "/src/x.py", 1, message, args, (type(error), error, None) if error else None, extra=extra
    )
    made.created, made.msecs = 1_800_000_000.25, 250.0
    return made


def test_a_text_line_has_time_level_logger_message_and_facts():
    line = TextFormatter().format(record("file %s", "x", bytes=4, registry="main"))
    assert line == "2027-01-15T08:00:00.250Z info    nora.test: file x bytes=4 registry=main"


def test_a_json_line_has_the_same():
    entry = json.loads(JsonFormatter().format(record("file %s", "x", bytes=4, registry="main")))
    assert entry == {
        "time": "2027-01-15T08:00:00.250Z",
        "level": "info",
        "logger": "nora.test",
        "message": "file x",
        "bytes": 4,
        "registry": "main",
    }


@pytest.mark.parametrize("formatter", [TextFormatter(), JsonFormatter()])
@pytest.mark.parametrize(
    "hostile", ["a\nb", "a\r\n2027-01-15 info forged", "\x1b[31m", "\u2028", "\x85", "a b", '"', "", "é", "\ud800"]
)
def test_hostile_text_stays_in_its_line_and_its_place(formatter, hostile):
    # CWE-117
    line = formatter.format(record(f"path {hostile}", path=hostile))
    assert len(line.splitlines()) == 1
    assert "\x1b" not in line
    if isinstance(formatter, JsonFormatter):
        assert json.loads(line)["path"] == hostile


@pytest.mark.parametrize(
    ("value", "shown"), [("a b", '"a b"'), ("", '""'), ('"', r'"\""'), ("x", "x"), (1, "1"), (None, "None")]
)
def test_a_value_that_could_be_mistaken_is_quoted(value, shown):
    assert TextFormatter().format(record(fact=value)).endswith(f"fact={shown}")


def test_secrets_do_not_show():
    for formatter in (TextFormatter(), JsonFormatter()):
        assert "hunter2" not in formatter.format(record("x %s", Secret("u:hunter2"), auth=Secret("u:hunter2")))


@pytest.mark.parametrize(
    "value", [{"a": {1, 2}}, object(), b"\xff", (1, 2), {1: 2}, float("nan"), {("a", "b"): 1}], ids=range(7)
)
def test_a_json_line_is_json_whatever_the_record_holds(value):
    line = JsonFormatter().format(record(fact=value))
    assert "\n" not in line

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is no JSON")

    json.loads(line, parse_constant=refuse)


def test_an_error_comes_with_its_traceback():
    text = TextFormatter().format(record(error=LookupError("no such thing")))
    assert text.splitlines()[0].endswith("file served")
    assert "LookupError: no such thing" in text
    assert (
        "LookupError: no such thing"
        in json.loads(JsonFormatter().format(record(error=LookupError("no such thing"))))["traceback"]
    )


def test_the_request_is_named_unless_the_record_does_so_itself():
    token = current_request.set(RequestContext("r-1", Actor()))
    try:
        assert json.loads(JsonFormatter().format(record()))["request_id"] == "r-1"
        assert json.loads(JsonFormatter().format(record(request_id="r-2")))["request_id"] == "r-2"
    finally:
        current_request.reset(token)
    assert "request_id" not in JsonFormatter().format(record())


@pytest.mark.parametrize(("form", "formatter"), [("text", TextFormatter), ("json", JsonFormatter)])
def test_configuring_sends_everything_once_to_standard_error(monkeypatch, form, formatter):
    root, sanic = logging.getLogger(), logging.getLogger("sanic")
    before = (root.handlers[:], root.level, sanic.level)
    try:
        for _ in range(2):
            configure("warning", form)
        assert [type(handler.formatter) for handler in root.handlers] == [formatter]
        assert root.handlers[0].stream is sys.stderr
        assert (root.level, sanic.level) == (logging.WARNING, logging.WARNING)
        errors = logging.getLogger("sanic.error")
        assert len(errors.filters) == len(set(errors.filters))
    finally:
        root.handlers[:], root.level = before[0], before[1]
        sanic.setLevel(before[2])
