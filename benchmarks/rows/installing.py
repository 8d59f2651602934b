"""An installer that gets everything from a server that holds everything."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

from benchmarks import programs
from benchmarks.bench import Bench
from benchmarks.connection import HOST, CannotMeasureError
from benchmarks.fleet import INSTALL_ROOT, NGINX, NORA, Fleet
from benchmarks.loads import Figures
from benchmarks.results import Figure, Goal
from benchmarks.usage import cpu_seconds

NAME = "install"
FIGURES = (Figure("seconds", "s", 2, ratio=True), Figure("cpu_ms", "ms CPU of the server", 0, ratio=True))
MAX_SECONDS = 60


def measure(bench: Bench, fleet: Fleet) -> None:
    """``uv pip install`` without a cache, into an empty folder."""
    count = bench.setting.packages
    note = "The client is uv, without a cache. What the server takes is the second figure; most of the first is the client's."
    group = bench.group(NAME, f"uv pip install of {count} packages", FIGURES, baseline=NGINX, note=note)
    uv = Path(sys.executable).parent / "uv"
    if not uv.exists():
        raise RuntimeError("uv is missing beside this interpreter; install Nora with its extra 'test'")
    # Once for nothing: the proxies have everything then.
    for name in fleet.names():
        bench.attempt(group, "held", name, partial(_prepare, fleet, name, uv, bench.folder / "installed"))
        group.lines["held"][name].rounds.clear()
    group.expect("held", NORA, Goal("seconds", "at most", 1.1, ratio=True))
    bench.interleave(
        group, {"held": {name: partial(_install, fleet, name, uv, bench.folder / "installed") for name in fleet.names()}}
    )


def _prepare(fleet: Fleet, name: str, uv: Path, target: Path) -> Figures:
    return _install(fleet, name, uv, target)


def _install(fleet: Fleet, name: str, uv: Path, target: Path) -> Figures:
    server = fleet.get(name)
    command = [
        str(uv),
        "pip",
        "install",
        "--no-cache",
        "--no-config",
        "--quiet",
        "--python",
        sys.executable,
        "--target",
        str(target),
    ]
    command += ["--index-url", f"http://{HOST}:{server.port}{server.install_path}", INSTALL_ROOT]
    before = cpu_seconds(server.roots())
    started = time.perf_counter()
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=MAX_SECONDS, check=False, env=programs.environment()
        )
    except subprocess.TimeoutExpired:
        raise CannotMeasureError(f"not installed within {MAX_SECONDS} seconds") from None
    seconds = time.perf_counter() - started
    spent = cpu_seconds(server.roots()) - before
    installed = len(list(target.glob("*.dist-info")))
    shutil.rmtree(target, ignore_errors=True)
    if done.returncode != 0 or installed != len(fleet.packages):
        last = (done.stderr.strip().splitlines() or ["it said nothing"])[-1].strip()
        raise CannotMeasureError(f"{installed} of {len(fleet.packages)} packages were installed: {last}")
    return {"seconds": seconds, "cpu_ms": spent * 1000}
