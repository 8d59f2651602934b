"""Ten thousand guesses at a password."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import bcrypt
import httpx

from benchmarks import programs
from nora.testing.live import LiveServer

GUESSES, CONNECTIONS, SECONDS = 10_000, 8, 120
COST = 11
"""Of a check in bcrypt; a tenth of a second, so ten thousand would take a quarter of an hour."""


def test_ten_thousand_wrong_passwords_are_limited_and_hold_nobody_up(tmp_path: Path) -> None:
    users = tmp_path / "users.htpasswd"
    begun = time.perf_counter()
    users.write_text(f"ada:{bcrypt.hashpw(b'secret', bcrypt.gensalt(COST)).decode()}\n")
    one_look = time.perf_counter() - begun
    config = f'[auth]\nenabled = true\nhtpasswd_file = "{users}"\n[pypi]\nproxy = ""\n[logging]\naccess = false\n'
    with LiveServer(tmp_path / "store", config) as server:
        token = httpx.post(f"{server.url}/api/v1/tokens", auth=("ada", "secret"), json={}).json()["token"]
        over, others, waited = threading.Event(), [], []

        def go_on() -> None:
            with httpx.Client(base_url=server.url, auth=("__token__", token)) as client:
                while not over.is_set():
                    asked = time.perf_counter()
                    others.append(client.get("/simple/").status_code)
                    waited.append(time.perf_counter() - asked)

        asking = threading.Thread(target=go_on)
        asking.start()
        try:
            guessing = programs.start("guess", server.port, CONNECTIONS, GUESSES, SECONDS, "ada", "/simple/")
            guessed = programs.answer(guessing, 2 * SECONDS)
        finally:
            over.set()
            asking.join()
        statuses = guessed["statuses"]
        assert statuses.keys() == {"401", "429"}
        assert sum(statuses.values()) == GUESSES
        # Ten at once, one more each six seconds, and those that were on their way together.
        assert statuses["401"] <= 20 + guessed["seconds"] / 6
        assert len(others) > 100
        assert set(others) == {200}
        # Nobody waits for a look at a password. How much others notice is a figure: python -m benchmarks --only 'guessing/*'
        assert sorted(waited)[int(0.99 * len(waited))] < one_look
        # The right one tells nothing either, from where so many wrong ones came.
        refused = httpx.get(f"{server.url}/simple/", auth=("ada", "secret"))
        assert refused.status_code == 429
        assert int(refused.headers["retry-after"]) >= 1
