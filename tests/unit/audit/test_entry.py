"""One entry and its line."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nora.api import Event
from nora.audit.entry import CUT, MAX_FILES, MAX_LINE_BYTES, MAX_NAME, MAX_TEXT, Entry, entry_of, line_of

AT = "2026-11-28T12:00:00.000000Z"
SECRET = ("ABCDEFG" * 7)[:43]


def test_a_line_has_what_there_is_and_can_be_read_again():
    entry = Entry(
        at=AT, action="delete", registry="pypi", project="demo", files=("a.whl",), reason='"it\n', actor="ü", dropped=3
    )
    line = line_of(entry)
    assert line.count(b"\n") == 1
    assert line.endswith(b"}\n")
    assert json.loads(line) == {
        "at": AT,
        "action": "delete",
        "registry": "pypi",
        "project": "demo",
        "files": ["a.whl"],
        "reason": '"it\n',
        "actor": "ü",
        "dropped": 3,
    }
    assert entry_of(line) == entry


def test_every_field_of_an_event_has_its_place():
    assert set(Event.__struct_fields__) < set(Entry.__struct_fields__)


texts = st.text(st.characters(codec=None, exclude_categories=()), max_size=60).map(lambda text: text * 40)


@given(texts, texts, st.lists(texts, max_size=12).map(lambda names: names * 50))
def test_whatever_is_said_the_line_is_one_bounded_and_whole(actor, reason, files):
    line = line_of(Entry(at=AT, action="login-failed", actor=actor, reason=reason, files=tuple(files)))
    assert len(line) <= MAX_LINE_BYTES
    assert line.count(b"\n") == 1
    assert entry_of(line).action == "login-failed"


def test_what_is_cut_has_a_mark():
    entry = entry_of(line_of(Entry(at=AT, action="delete", actor="x" * 5000, reason="y" * 5000, files=("z",) * 500)))
    assert entry.actor == "x" * (MAX_NAME - len(CUT)) + CUT
    assert entry.reason == "y" * (MAX_TEXT - len(CUT)) + CUT
    assert len(entry.files) == MAX_FILES + 1
    assert entry.files[-1] == f"{500 - MAX_FILES} more {CUT}"
    exact = Entry(at=AT, action="delete", actor="x" * MAX_NAME, reason="y" * MAX_TEXT, files=("z",) * MAX_FILES)
    assert entry_of(line_of(exact)) == exact


def test_files_are_left_out_before_a_line_gets_too_long():
    entry = entry_of(line_of(Entry(at=AT, action="delete", files=("\x01" * 250,) * 199)))
    assert 0 < len(entry.files) < 199
    assert entry.files[-1] == f"{199 - len(entry.files) + 1} more {CUT}"


@pytest.mark.parametrize("before", ["", "pip ", "x" * 240, "x" * 300, "x" * 340])
def test_no_line_holds_the_secret_of_a_token(before):
    text = f"{before}nora_0123456789ab_{SECRET}"
    line = line_of(Entry(at=AT, action="login-failed", actor=text, reason=text, project=text, files=(text,))).decode()
    assert "ABC" not in line
    if len(before) < 200:
        assert "nora_0123456789ab_***" in line


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"\n",
        b"{\n",
        b"[]\n",
        b'{"at":1,"action":"x"}\n',
        b'{"at":"x"}\n',
        b"\x00" * 9,
        b'{"at":"\xff","action":""}',
        b"[" * 5000,
    ],
)
def test_a_damaged_line_is_told(line):
    with pytest.raises(ValueError):
        entry_of(line)


def test_fields_of_a_later_nora_are_passed_over():
    assert entry_of(b'{"at":"x","action":"y","colour":"red"}\n') == Entry(at="x", action="y")
