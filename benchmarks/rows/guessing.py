"""What others notice of somebody who guesses passwords."""

from __future__ import annotations

import base64
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from statistics import median

import bcrypt
import httpx

from benchmarks import programs
from benchmarks.bench import Bench
from benchmarks.connection import HOST, CannotMeasureError, Connection, Request
from benchmarks.data import Storage
from benchmarks.fleet import NORA, Fleet
from benchmarks.loads import GRACE_SECONDS, Figures
from benchmarks.results import Figure, Goal
from benchmarks.servers import Nora

NAME = "guessing"
IDLE = "nora, idle"
CONNECTIONS = 8
MAX_SECONDS = 13.0
"""Of the guesses beside one measurement; there are three in a round."""
PAUSE_SECONDS = 0.002
USER, PASSWORD = "reader", "correct horse"
ELSEWHERE = "192.0.2.1"
FIGURES = (
    Figure("p50_ms", "ms p50", 2, ratio=True),
    Figure("p99_ms", "ms p99", 2, ratio=True),
    Figure("guesses_per_second", "guesses/s"),
    Figure("tried", "passwords looked at"),
)


def measure(bench: Bench, fleet: Fleet) -> None:
    """Each measurement with a server of its own, on which nobody has failed yet."""
    count = bench.setting.guesses
    note = (
        f"{count:,} wrong passwords over {CONNECTIONS} connections of one address, with the name of the user whose page is measured, for "
        f"{MAX_SECONDS:g} seconds at most. Whoever is measured asks every two milliseconds over one connection; the user comes from another "
        "address, and the page is held."
    )
    group = bench.group(NAME, "Others while passwords are guessed", FIGURES, baseline=IDLE, note=note)
    wanted = [title for title in LOGINS if bench.wants(NAME, title)]
    for title in wanted:
        group.declare(title, (IDLE, NORA))
        group.expect(title, NORA, Goal("p99_ms", "at most", 2, ratio=True))
    folder, project = bench.folder / NAME, fleet.maker.small("guessed", bench.setting.page_files[1])
    Storage(folder / "store").hold(project)
    users = folder / "users.htpasswd"
    users.write_text(f"{USER}:{bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(bench.setting.hash_cost)).decode()}\n")
    config = f'[server]\ntrusted_proxies = ["{HOST}"]\n[auth]\nenabled = true\nhtpasswd_file = "{users}"\n'
    for number in bench.each_round():
        for title in wanted:
            bench.say(f"{NAME} {number + 1}/{bench.rounds}: {title}")
            with Nora(folder / "store", more=config) as nora:
                page = nora.page(project.name, "JSON")
                request = replace(page, headers=LOGINS[title](nora)) if LOGINS[title] else Request(nora.health)
                bench.attempt(group, title, IDLE, partial(_idle, nora, request, bench.setting.seconds))
                bench.attempt(group, title, NORA, partial(_meanwhile, nora, request, count, page.path))


def _with_password(_: Nora) -> dict[str, str]:
    login = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
    return {"Authorization": f"Basic {login}", "X-Forwarded-For": ELSEWHERE}


def _with_token(nora: Nora) -> dict[str, str]:
    answer = httpx.post(f"http://{HOST}:{nora.port}/api/v1/tokens", headers=_with_password(nora), trust_env=False)
    return {"Authorization": f"Bearer {answer.json()['token']}", "X-Forwarded-For": ELSEWHERE}


LOGINS: dict[str, Callable[[Nora], dict[str, str]] | None] = {
    "/health": None,
    "page, by token": _with_token,
    "page, by password": _with_password,
}


def _idle(nora: Nora, request: Request, seconds: float) -> Figures:
    """The password is looked at and the page made before anything counts."""
    _asked(nora, request, seconds=max(seconds / 10, 0.02))
    return _asked(nora, request, seconds=seconds)


def _meanwhile(nora: Nora, request: Request, count: int, path: str) -> Figures:
    guessing = programs.start("guess", nora.port, CONNECTIONS, count, MAX_SECONDS, USER, path)
    try:
        figures = _asked(nora, request, seconds=MAX_SECONDS + GRACE_SECONDS, go_on=lambda: guessing.poll() is None)
        guessed = programs.answer(guessing, GRACE_SECONDS)
    except RuntimeError as error:
        raise CannotMeasureError(str(error)) from error
    finally:
        guessing.kill()
        guessing.communicate()
    statuses = guessed["statuses"]
    if not statuses or statuses.keys() - {"401", "429"}:
        raise CannotMeasureError(f"guesses were answered {statuses or 'not at all'}")
    return figures | {
        "guesses_per_second": sum(statuses.values()) / guessed["seconds"],
        "tried": statuses.get("401", 0),
    }


def _asked(nora: Nora, request: Request, *, seconds: float, go_on: Callable[[], bool] = lambda: True) -> Figures:
    """How long answers take to what is asked again and again; a pause between two leaves the processor to the server."""
    times = []
    deadline = time.perf_counter() + seconds
    with Connection(nora.port) as connection:
        while not times or (go_on() and time.perf_counter() < deadline):
            answer = connection.get(request)
            if answer.status != 200:
                raise CannotMeasureError(f"status {answer.status}")
            times.append(answer.seconds * 1000)
            time.sleep(PAUSE_SECONDS)
    times.sort()
    return {"p50_ms": median(times), "p99_ms": times[int(0.99 * len(times))]}
