"""What a server's metrics say."""

from __future__ import annotations

import time

import httpx

from nora.testing.live import LiveServer


def hits(server: LiveServer, at_least: int = 0) -> int:
    """Answers from the cache of prepared answers so far; other workers' are known within a second or two."""
    deadline = time.monotonic() + 3
    while True:
        lines = httpx.get(f"{server.url}/metrics", trust_env=False).text.splitlines()
        found = sum(int(float(line.split()[-1])) for line in lines if line.startswith("nora_page_cache_hits_total"))
        if found >= at_least or time.monotonic() > deadline:
            return found
        time.sleep(0.1)
