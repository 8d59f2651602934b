"""``nora audit``: what it shows and how it ends."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest

from nora.api import Invalid, NoraError
from nora.audit.entry import Entry, line_of
from nora.audit.file import AuditFile
from nora.cli import audit as command
from nora.cli.audit import shown, wanted
from nora.config.webhooks import ACTIONS
from nora.store.directory import StoreError

YANK = Entry(
    at="2026-11-28T12:00:00.250000Z",
    action="yank",
    registry="pypi",
    project="demo",
    version="1.0",
    files=("a.whl", "b.whl", "c.whl"),
    reason="broken",
    actor="alice",
    token="0123456789ab",
    address="192.0.2.1",
    request_id="r1",
)
FLOOD = Entry(at="2026-11-28T12:00:01.000000Z", action="login-failed", address="192.0.2.1", count=57, dropped=3)
FOLLOWING = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # which who runs the tests may have turned off
from nora.cli.audit import run
from nora.audit.read import Wanted
run(None, {"storage.path": sys.argv[1]}, Wanted(), follow=sys.argv[2] == "follow", as_json=True, limit=None)
"""


@pytest.fixture
def add(storage) -> Callable[[Entry], None]:
    file = AuditFile(storage / "audit")
    return lambda entry: file.append(line_of(entry))


@pytest.fixture
def run(storage, place, capsys) -> Callable[..., tuple[str, str]]:
    """Calls the command; returns what it wrote."""
    (place / "config.toml").write_text("")

    def call(*, path: str = "store", as_json: bool = False, limit: int | None = None, **options: object) -> tuple[str, str]:
        which = wanted(**{"actions": (), "since": None, "until": None, **options})  # type: ignore[arg-type]
        command.run(None, {"storage.path": path}, which, follow=False, as_json=as_json, limit=limit)
        return capsys.readouterr()

    return call


@pytest.fixture
def started(tmp_path, storage) -> Iterator[Callable[[str], subprocess.Popen[bytes]]]:
    (tmp_path / "config.toml").write_text("")
    processes: list[subprocess.Popen[bytes]] = []
    environ = {name: value for name, value in os.environ.items() if not name.startswith("NORA_")}

    def start(mode: str) -> subprocess.Popen[bytes]:
        arguments = [sys.executable, "-c", FOLLOWING, str(storage), mode]
        processes.append(subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=tmp_path, env=environ))
        return processes[-1]

    yield start
    for process in processes:
        process.kill()
        process.communicate()


def test_without_entries_nothing_is_shown(run):
    assert run() == ("", "")


def test_entries_are_lines_for_people(run, add):
    add(YANK)
    add(FLOOD)
    assert run() == (
        "2026-11-28T12:00:00Z yank pypi/demo 1.0 a.whl and 2 more by alice from 192.0.2.1 token 0123456789ab request r1 because: broken\n"
        "2026-11-28T12:00:01Z login-failed 57 times from 192.0.2.1 (3 entries before this one are missing)\n",
        "",
    )


def test_entries_are_lines_for_programs(run, add):
    add(YANK)
    add(FLOOD)
    out, err = run(as_json=True)
    assert err == ""
    assert [json.loads(line)["action"] for line in out.splitlines()] == ["yank", "login-failed"]
    assert out.encode() == line_of(YANK) + line_of(FLOOD)


def test_a_limit_shows_the_last_ones(run, add):
    for number in range(5):
        add(Entry(at=str(number), action="publish", project=f"p{number}"))
    assert run(limit=2)[0].splitlines() == ["3Z publish p3", "4Z publish p4"]
    assert run(limit=0)[0] == ""
    assert len(run(limit=100)[0].splitlines()) == 5


def test_options_choose_entries(run, add):
    add(YANK)
    add(FLOOD)
    assert (
        run(actions=("yank", "publish"), registry="pypi", project="demo", actor="alice", address="192.0.2.1")[0].count("\n")
        == 1
    )
    assert run(since="2026-11-28T12:00:01Z")[0].split()[1] == "login-failed"
    assert run(until="2026-11-28T12:00:01Z")[0].split()[1] == "yank"
    assert run(actor="bob")[0] == ""


def test_a_time_that_is_none_is_told():
    with pytest.raises(Invalid, match="'soon' is no time"):
        wanted((), since="soon", until=None)
    with pytest.raises(Invalid, match="'late' is no time"):
        wanted((), since=None, until="late")


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"actions": ("login_failed",)}, "--action: unknown action; did you mean login-failed?"),
        ({"actions": ("foo",)}, "--action: unknown action; known are "),
        ({"address": "zz"}, "--address: zz is no IP address"),
    ],
)
def test_what_no_entry_can_have_is_told(options, problem):
    with pytest.raises(Invalid) as raised:
        wanted(**{"actions": (), "since": None, "until": None, **options})
    assert problem in str(raised.value)


def test_every_action_and_address_can_be_asked_for():
    assert wanted(("dropped", *ACTIONS), since=None, until=None, address="::1").actions == {"dropped", *ACTIONS}


def test_damaged_lines_are_told_beside_what_is_shown(run, add, storage):
    add(YANK)
    (path,) = (storage / "audit").iterdir()
    path.write_bytes(b"damaged\n" + path.read_bytes())
    out, err = run()
    assert out.count("\n") == 1
    assert err.startswith(f"nora: {path}:1: passed over: the line is damaged")
    assert err.count("\n") == 1


def test_a_storage_that_is_not_there_is_told_and_not_made(run, tmp_path):
    with pytest.raises(StoreError, match="there is no storage"):
        run(path="elsewhere")
    assert not (tmp_path / "elsewhere").exists()


def test_a_log_that_cannot_be_read_is_told(run, storage):
    (storage / "audit").touch()
    with pytest.raises(NoraError, match="audit: Not a directory"):
        run()


def test_nothing_in_an_entry_is_a_command_to_the_terminal():
    text = shown(Entry(at="\x1b", action="\x07", actor="\x1b[2J\n", files=("\x9b", "b"), reason="\u202e"))
    assert text.isprintable()
    assert "?[2J?" in text


def test_names_of_all_scripts_are_shown_whatever_the_terminal_can(run, add, monkeypatch):
    add(Entry(at="2026", action="publish", actor="ü\U0001f40d"))
    out = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", out)
    run()
    assert out.buffer.getvalue().decode() == "2026Z publish by ü\U0001f40d\n"


# As a process


def test_what_comes_is_shown_until_an_interrupt(started, add):
    add(YANK)
    process = started("follow")
    assert process.stdout.readline() == line_of(YANK)
    add(FLOOD)
    assert process.stdout.readline() == line_of(FLOOD)
    process.send_signal(2)
    assert process.communicate(timeout=20) == (b"", b"")
    assert process.returncode == 0


def test_a_closed_pipe_ends_it_quietly(started, add):
    for _ in range(3000):
        add(YANK)
    process = started("once")
    assert process.stdout.readline() == line_of(YANK)
    process.stdout.close()
    assert process.wait(timeout=20) == 0
    assert process.stderr.read() == b""


def test_a_closed_pipe_ends_following_though_nothing_comes(started, add):
    add(YANK)
    process = started("follow")
    assert process.stdout.readline() == line_of(YANK)
    process.stdout.close()
    assert process.wait(timeout=20) == 0
    assert process.stderr.read() == b""
