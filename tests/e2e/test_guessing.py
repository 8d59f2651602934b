"""Ten thousand guesses at a password."""

from __future__ import annotations

import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import bcrypt
import httpx

from nora.testing.live import LiveServer

GUESSES, CONNECTIONS = 10_000, 8
COST = 11
"""Of a check in bcrypt; a tenth of a second, so ten thousand would take a quarter of an hour."""


def test_ten_thousand_wrong_passwords_are_limited_and_hold_nobody_up(tmp_path: Path) -> None:
    users = tmp_path / "users.htpasswd"
    users.write_text(f"ada:{bcrypt.hashpw(b'secret', bcrypt.gensalt(COST)).decode()}\n")
    config = f'[auth]\nenabled = true\nhtpasswd_file = "{users}"\n[pypi]\nproxy = ""\n[logging]\naccess = false\n'
    with LiveServer(tmp_path / "store", config) as server:
        token = httpx.post(f"{server.url}/api/v1/tokens", auth=("ada", "secret"), json={}).json()["token"]
        over, others = threading.Event(), []

        def go_on() -> None:
            with httpx.Client(base_url=server.url, auth=("__token__", token)) as client:
                while not over.is_set():
                    others.append(client.get("/simple/").status_code)

        def guess(first: int) -> Counter[int]:
            with httpx.Client(base_url=server.url) as client:
                numbers = range(first, GUESSES, CONNECTIONS)
                return Counter(client.get("/simple/", auth=("ada", f"guess {number}")).status_code for number in numbers)

        started = time.monotonic()
        asking = threading.Thread(target=go_on)
        asking.start()
        with ThreadPoolExecutor(CONNECTIONS) as pool:
            statuses = sum(pool.map(guess, range(CONNECTIONS)), Counter())
        seconds = time.monotonic() - started
        over.set()
        asking.join()
        assert statuses.keys() == {401, 429}
        # Ten at once, one more each six seconds, and those that were on their way together.
        assert statuses[401] <= 20 + seconds / 6
        assert len(others) > 100
        assert set(others) == {200}
        # The right one tells nothing either, from where so many wrong ones came.
        refused = httpx.get(f"{server.url}/simple/", auth=("ada", "secret"))
        assert refused.status_code == 429
        assert int(refused.headers["retry-after"]) >= 1
