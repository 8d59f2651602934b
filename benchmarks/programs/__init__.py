"""Small programs that run in processes of their own, so that what they cost is not the measuring process's."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]


def environment() -> dict[str, str]:
    """For every process of a run: nothing of this machine's Nora, and loopback addresses without a proxy."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("NORA_")}
    return {**inherited, "no_proxy": "127.0.0.1,localhost", "NO_PROXY": "127.0.0.1,localhost"}


def start(name: str, *arguments: object) -> subprocess.Popen[str]:
    """Start one of these programs; its answer comes on standard output."""
    command = [sys.executable, "-m", f"benchmarks.programs.{name}", *map(str, arguments)]
    return subprocess.Popen(command, cwd=ROOT, env=environment(), stdout=subprocess.PIPE, text=True)


def answer(program: subprocess.Popen[str], timeout_seconds: float) -> Any:
    """Wait for a program's end and return its answer.

    Raises:
        RuntimeError: it failed, or took longer.
    """
    try:
        output, _ = program.communicate(timeout=timeout_seconds)
    except subprocess.TimeoutExpired:
        program.kill()
        program.communicate()
        raise RuntimeError(f"{program.args}: not done within {timeout_seconds:g} seconds") from None
    if program.returncode != 0:
        raise RuntimeError(f"{program.args}: ended with status {program.returncode}")
    return json.loads(output)
