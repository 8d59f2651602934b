"""Start time and idle memory."""

from __future__ import annotations

import time
from functools import partial

from benchmarks.bench import Bench
from benchmarks.fleet import Fleet
from benchmarks.loads import Figures
from benchmarks.results import Figure
from benchmarks.servers import Server
from benchmarks.usage import cpu_seconds, resident_mb

NAME = "start"
IDLE_SECONDS = 0.3
FEWER = "imports fewer libraries: most of Nora's start and memory are Sanic, aiohttp and httpx, which only another HTTP stack would change"
WHY = {"pypiserver": FEWER, "proxpi": FEWER, "simple-repository-server": FEWER, "devpi-server": FEWER}


def measure(bench: Bench, fleet: Fleet) -> None:
    """Start everybody in turn. Whoever was started in the last round goes on running, for what is measured next."""
    figures = (Figure("ms", "ms until the first answer"), Figure("cpu_ms", "ms CPU"), Figure("idle_mb", "MB idle"))
    group = bench.group(NAME, "Start", figures, note="Memory is that of all processes of a server, resident.")
    group.explain("ms", WHY)
    group.explain("idle_mb", WHY)
    for number in bench.each_round():
        bench.say(f"{NAME} {number + 1}/{bench.rounds}")
        last = number == bench.rounds - 1
        for name in fleet.names():
            bench.attempt(group, "start", name, partial(_running if last else _started, fleet, name))


def _started(fleet: Fleet, name: str) -> Figures:
    with fleet.server(name) as server:
        return _figures(server)


def _running(fleet: Fleet, name: str) -> Figures:
    return _figures(fleet.get(name))


def _figures(server: Server) -> Figures:
    spent = cpu_seconds(server.roots())
    time.sleep(IDLE_SECONDS)
    return {"ms": server.start_seconds * 1000, "cpu_ms": spent * 1000, "idle_mb": resident_mb(server.roots())}
