"""Loads: many requests for some time, downloads, pings. Each tells what it got through, and what that cost the server."""

from __future__ import annotations

import re
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from benchmarks import programs
from benchmarks.connection import HOST, CannotMeasureError, Connection, Request
from benchmarks.usage import cpu_seconds, forget_peaks, peak_mb

SLOW_PART = 0.1
"""Whoever needs more than this part of a measurement for one answer is asked by one client."""
MAX_SLOW_SECONDS = 2.0
GRACE_SECONDS = 30.0

Figures = dict[str, float]
Pids = Callable[[], list[int]]


@dataclass(frozen=True)
class Target:
    """What is asked for, of whom, and how the answer must look. ``pids`` are those of the server."""

    port: int
    request: Request
    pids: Pids
    status: int = 200
    length: int | None = None


def probe(port: int, request: Request, *, status: int = 200, keep: bool = True) -> tuple[Mapping[str, str], bytes]:
    """Ask once; the answer's fields and body.

    Raises:
        CannotMeasureError: the answer has another status, or there is none.
    """
    with Connection(port) as connection:
        try:
            answer = connection.get(request, keep=keep)
        except OSError as error:
            raise CannotMeasureError(f"no answer: {error}") from error
    if answer.status != status:
        raise CannotMeasureError(f"status {answer.status}")
    return answer.fields, answer.body


def rate(target: Target, *, clients: int, seconds: float, wrk: str = "") -> Figures:
    """Requests per second over connections that are kept, and microseconds of processor time for each."""
    once = fetch(target)
    if once > seconds * SLOW_PART:
        # One client is enough to keep such a server busy, and more would only wait.
        clients, seconds, wrk = 1, min(MAX_SLOW_SECONDS, max(seconds, 2 * once)), ""
    before = cpu_seconds(target.pids())
    # wrk counts whole seconds.
    if wrk and seconds >= 1:
        done, elapsed = _wrk(target, clients, int(seconds), wrk)
    else:
        done, elapsed = _in_turn(target, clients, seconds)
    spent = cpu_seconds(target.pids()) - before
    return {"per_second": done / elapsed, "cpu_us": spent / done * 1e6}


def fetch(target: Target) -> float:
    """One request whose answer must be right; how many seconds it took."""
    with Connection(target.port) as connection:
        connection.send(target.request.head(target.port))
        return _received(connection, target)


def _received(connection: Connection, target: Target) -> float:
    answer = connection.receive()
    if answer.status != target.status or (target.length is not None and answer.length != target.length):
        raise CannotMeasureError(f"status {answer.status}, {answer.length} bytes; expected {target.status}, {target.length}")
    return answer.seconds


def _in_turn(target: Target, clients: int, seconds: float) -> tuple[int, float]:
    """All clients have a request under way; answers are taken in turn. For where there is no wrk: slower than a fast server."""
    head = target.request.head(target.port)
    everyone = [Connection(target.port) for _ in range(clients)]
    done, started = 0, time.perf_counter()
    try:
        for connection in everyone:
            connection.send(head)
        while time.perf_counter() < started + seconds or not done:
            for connection in everyone:
                _received(connection, target)
                done += 1
                connection.send(head)
        return done, time.perf_counter() - started
    finally:
        for connection in everyone:
            connection.close()


def _wrk(target: Target, clients: int, seconds: int, wrk: str) -> tuple[int, float]:
    command = [wrk, "-t1", f"-c{clients}", f"-d{seconds}s", "--timeout", "10s"]
    for name, value in target.request.fields.items():
        command += ["-H", f"{name}: {value}"]
    command.append(f"http://{HOST}:{target.port}{target.request.path}")
    output = subprocess.run(command, capture_output=True, text=True, check=True, timeout=seconds + GRACE_SECONDS).stdout
    found = re.search(r"(\d+) requests in ([\d.]+)(ms|s|m),", output)
    if found is None or not int(found[1]):
        raise CannotMeasureError("wrk got no answer")
    if (wrong := re.search(r"Non-2xx or 3xx responses: (\d+)", output)) is not None:
        raise CannotMeasureError(f"{wrong[1]} of {found[1]} answers were errors")
    return int(found[1]), float(found[2]) * {"ms": 0.001, "s": 1, "m": 60}[found[3]]


def download(target: Target, *, clients: int, seconds: float, ping: str | None = None) -> Figures:
    """Bytes per second of whole files, what they cost, and meanwhile the time of a ``ping`` to the same server."""
    pids = target.pids()
    forget_peaks(pids)
    before = cpu_seconds(pids)
    started = [programs.start("drain", target.port, clients, seconds, target.request.path)]
    if ping is not None:
        started.append(programs.start("ping", target.port, seconds * 0.8, ping))
    try:
        answers = [programs.answer(program, seconds + GRACE_SECONDS) for program in started]
    except RuntimeError as error:
        raise CannotMeasureError(str(error)) from error
    finally:
        for program in started:
            program.kill()
            program.wait()
    drained = answers[0]
    if not drained["bytes"]:
        raise CannotMeasureError(f"nothing came within {seconds:g} seconds")
    spent = cpu_seconds(pids) - before
    figures = {
        "mb_per_second": drained["bytes"] / drained["seconds"] / 1e6,
        "cpu_s_per_gb": spent / drained["bytes"] * 1e9,
        "peak_mb": peak_mb(pids),
    }
    return figures | ({"ping_p99_ms": answers[1]["p99_ms"]} if ping is not None else {})
