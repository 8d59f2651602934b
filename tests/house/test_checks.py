"""Lint, formatting and types, and the commands that newcomers and CI run."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("command", [("ruff", "check", "."), ("ruff", "format", "--check", "."), ("mypy",)], ids=" ".join)
def test_the_checkers_find_nothing(command: tuple[str, ...]) -> None:
    done = subprocess.run([sys.executable, "-m", *command], cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr


def test_ci_runs_the_readmes_test_command() -> None:
    commands = re.findall(r"^python3 -m venv .*$", (ROOT / "README.md").read_text(), re.MULTILINE)
    assert [command.rpartition("&& ")[2] for command in commands] == [".venv/bin/nora serve", ".venv/bin/python -m pytest -n 2"]
    assert commands[1] in (ROOT / ".ci" / "run").read_text().splitlines()
    assert commands[1] in (ROOT / "CONTRIBUTING.md").read_text().splitlines()


def test_help_answers_without_loading_the_server() -> None:
    program = (
        "import sys\nfrom nora.cli.main import cli\ncli(['--help'], standalone_mode=False)\n"
        "heavy = {'sanic', 'httpx', 'aiohttp', 'msgspec', 'tomlkit', 'nora.compose'} & set(sys.modules)\nassert not heavy, heavy\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "serve" in done.stdout
