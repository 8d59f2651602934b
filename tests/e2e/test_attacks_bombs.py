"""Many bombs of an upstream at once: what is refused is also let go. Belongs to tests/e2e once nora/upstream/client.py uses whole.py."""

from __future__ import annotations

import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from nora.testing.live import LiveServer
from nora.testing.upstream import Reply, ScriptedUpstream

COUNT = 8
PAGES_EACH = 12
PEAK_MB = 480
"""Two decoded at a time, of at most 64 MB, on their way through the C library's and Python's hands; one by one they take 200."""
LEFT_MB = 160
PAGES = {
    # Refused by its size, and by its content although it is not: each is a megabyte or less as it is sent.
    "too large": zlib.compress(bytes(256 << 20), 9),
    "no page": zlib.compress(b"{" + b" " * (30 << 20), 9),
}


def resident_mb(server: LiveServer) -> float:
    lines = Path(f"/proc/{server.pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS:")) / 1024


@pytest.mark.parametrize("page", PAGES)
def test_many_bombs_at_once_take_bounded_memory_and_leave_none(tmp_path: Path, scripted: ScriptedUpstream, page: str) -> None:
    # CWE-401, CWE-409, CWE-770
    for number in range(PAGES_EACH):
        coded = Reply(PAGES[page], content_type="application/vnd.pypi.simple.v1+json", headers={"Content-Encoding": "deflate"})
        scripted.add(f"/simple/bomb-{number}/", coded)
    with LiveServer(tmp_path / "store", f'[pypi]\nproxy = "{scripted.simple_url}"\nproxy_timeout = 20\n') as server:
        before = resident_mb(server)
        with ThreadPoolExecutor(COUNT) as pool:
            urls = [f"{server.url}/simple/bomb-{number}/" for number in range(PAGES_EACH)]
            assert set(pool.map(lambda url: httpx.get(url, timeout=120).status_code, urls)) == {502}
        assert server.peak_memory_mb() - before < PEAK_MB
        assert resident_mb(server) - before < LEFT_MB
        assert httpx.get(f"{server.url}/health").status_code == 200
    assert "Traceback" not in server.log()
