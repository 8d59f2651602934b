"""The benchmarks still run: their smallest setting, without nginx, wrk and peers. No figure is looked at, but that it is there."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks.connection import CannotMeasureError, Request
from benchmarks.loads import Target, fetch, rate
from benchmarks.results import Figure, Goal, Group, Results
from benchmarks.table import document
from nora.testing.upstream import Reply, ScriptedUpstream

ROOT = Path(__file__).parents[2]
GROUPS = {"start", "pages", "names", "files", "install", "cold", "uploads", "guessing", "growth"}


def run(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "benchmarks", "--nginx=", "--wrk=", "--folder", str(folder), *options]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)


def processes_of(folder: Path) -> list[bytes]:
    """Command lines of processes that were started with something below a folder."""
    lines = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            lines.append(path.read_bytes())
    return [line for line in lines if bytes(folder) in line]


@pytest.mark.slow
def test_smallest_setting_measures_everything_and_leaves_nothing(tmp_path: Path) -> None:
    figures, folder = tmp_path / "figures.json", tmp_path / "temporary"
    folder.mkdir()
    done = run(folder, "--setting", "smallest", "--json", str(figures))
    assert done.returncode == 0, done.stderr
    assert list(folder.iterdir()) == []
    assert processes_of(folder) == []
    assert "| nginx | not installed |" in done.stdout
    assert "| devpi-server | not installed |" in done.stdout
    results: dict[str, Any] = json.loads(figures.read_text())
    assert {group["name"] for group in results["groups"]} == GROUPS
    for group in results["groups"]:
        assert group["lines"], f"{group['title']}: nothing was measured"
        assert f"## {group['title']}\n" in done.stdout
        for line in group["lines"]:
            assert not line["reason"], line
            assert line["rounds"], line
            # Processor time can be too short to be seen; everything else is above zero.
            assert all(value >= 0 for figures in line["rounds"] for value in figures.values() if value is not None), line


def test_pattern_that_means_nothing_is_an_error(tmp_path: Path) -> None:
    done = run(tmp_path, "--only", "pagse")
    assert done.returncode == 2
    assert "nothing is called so" in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "reply",
    [Reply(b"12345", status=500), Reply(b"1234"), Reply(b"123456"), Reply(b"12345", cut_after=3)],
    ids=["status", "short", "long", "cut"],
)
def test_wrong_answers_are_not_counted(upstream: ScriptedUpstream, reply: Reply) -> None:
    upstream.add("/page", Reply(b"12345"), Reply(b"12345"), reply)
    target = Target(int(upstream.url.rpartition(":")[2]), Request("/page"), list, length=5)
    assert fetch(target) > 0
    with pytest.raises((CannotMeasureError, OSError)):
        rate(target, clients=1, seconds=10)


@pytest.mark.parametrize("reply", [Reply(b"12345", chunked=True, piece_bytes=2), Reply(b"12345", piece_bytes=1)])
def test_client_understands_every_framing(upstream: ScriptedUpstream, reply: Reply) -> None:
    upstream.add("/page", reply)
    target = Target(int(upstream.url.rpartition(":")[2]), Request("/page"), list, length=5)
    assert rate(target, clients=3, seconds=0.05)["per_second"] > 0


def test_medians_ratios_and_goals_are_those_of_the_rounds() -> None:
    group = Group("pages", "Pages", (Figure("per_second", "requests/s", 0, ratio=True),), baseline="nginx")
    for ours, theirs in ((50, 100), (60, 300), (90, 100)):
        group.add("5 files", "nora", {"per_second": ours})
        group.add("5 files", "nginx", {"per_second": theirs})
    group.refuse("5 files", "other", "status 404")
    group.expect("5 files", "nora", Goal("per_second", "at least", 0.9, ratio=True))
    text = document(Results(groups=[group]))
    assert "| 5 files | nora | 60 | 0.50 | requests/s at least 0.9 times: 0.50, **missed** |" in text
    assert "|  | nginx | 100 |  |  |" in text
    assert "|  | other |  |  | status 404 |" in text
