"""How many requests one address may send, on every way that a request can take."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import pytest

from nora.testing.live import LiveServer
from nora.testing.packages import make_wheel

FORM = {":action": "file_upload", "protocol_version": "1", "metadata_version": "2.1", "filetype": "bdist_wheel"}


def config(per_minute: int, page_cache_mb: int = 64) -> str:
    return f'[server]\nrequests_per_minute = {per_minute}\npage_cache_mb = {page_cache_mb}\ntrusted_proxies = ["127.0.0.1"]\n[pypi]\nproxy = ""\n'


def upload(client: httpx.Client, version: str = "1.0") -> httpx.Response:
    name, content = make_wheel("demo", version)
    return client.post("/legacy/", data=FORM | {"name": "demo", "version": version}, files={"content": (name, content)})


@pytest.mark.parametrize("page_cache_mb", [0, 64])
def test_a_minutes_worth_comes_at_once_and_the_rest_is_told_when(tmp_path: Path, page_cache_mb: int) -> None:
    with LiveServer(tmp_path, config(60, page_cache_mb)) as server, httpx.Client(base_url=server.url) as client:
        assert upload(client).status_code == 200
        answers = [client.get("/simple/demo/") for _ in range(58)]
        assert {answer.status_code for answer in answers} == {200}
        later = [client.get("/simple/demo/") for _ in range(40)]
        refused = [answer for answer in later if answer.status_code == 429]
        assert refused, "40 requests take less than as many seconds"
        assert {answer.status_code for answer in later} <= {200, 429}
        assert {answer.headers["retry-after"] for answer in refused} == {"1"}
        assert refused[0].text == "too many requests from this address; wait\n"
        # Nobody may take a server for dead that keeps its limits.
        assert [client.get(path).status_code for path in ("/health", "/ready")] == [200, 200]
        # Nor does anything else get round them.
        for path in ("/simple/", "/simple/none/", "/nowhere", "/api/v1/registries", "/metrics"):
            assert 429 in {client.get(path).status_code for _ in range(20)}, path
        if page_cache_mb:
            told = httpx.get(f"{server.url}/metrics", headers={"X-Forwarded-For": "192.0.2.99"}).text
            hits = [line for line in told.splitlines() if line.startswith("nora_page_cache_hits_total{")]
            assert float(hits[0].split()[-1]) >= 50, "the cache of prepared answers was asked, too"


def test_addresses_behind_a_trusted_proxy_count_for_themselves(tmp_path: Path) -> None:
    with LiveServer(tmp_path, config(30)) as server, httpx.Client(base_url=server.url) as client:
        assert upload(client).status_code == 200
        for client_address in ("192.0.2.1", "192.0.2.2", "2001:db8::1"):
            fields = {"X-Forwarded-For": client_address}
            statuses = [client.get("/simple/demo/", headers=fields).status_code for _ in range(60)]
            assert statuses[:30] == [200] * 30
            assert 429 in statuses[30:]
        # The same network of one customer's.
        assert 429 in {client.get("/simple/demo/", headers={"X-Forwarded-For": "2001:db8::2"}).status_code for _ in range(10)}


def test_an_upload_over_the_limit_leaves_nothing_and_may_come_again(tmp_path: Path) -> None:
    with LiveServer(tmp_path, config(20)) as server, httpx.Client(base_url=server.url) as client:
        assert [client.get("/simple/demo/").status_code for _ in range(20)] == [404] * 20
        answers = {f"1.{number}": upload(client, f"1.{number}") for number in range(20)}
        taken = {version for version, answer in answers.items() if answer.status_code == 200}
        refused = [answer for answer in answers.values() if answer.status_code == 429]
        assert refused
        assert len(taken) + len(refused) == 20
        assert all(1 <= int(answer.headers["retry-after"]) <= 3 for answer in refused)
        with httpx.Client(base_url=server.url, headers={"X-Forwarded-For": "192.0.2.1"}) as other:
            again = next(version for version, answer in answers.items() if answer.status_code == 429)
            assert upload(other, again).status_code == 200
            page = other.get("/simple/demo/", headers={"Accept": "application/vnd.pypi.simple.v1+json"}).json()
        assert set(page["versions"]) == taken | {again}


def test_pip_waits_for_its_turn(clients: Any, tmp_path: Path) -> None:
    with LiveServer(tmp_path / "store", config(20)) as server, httpx.Client(base_url=server.url) as client:
        assert upload(client).status_code == 200
        python = clients.venv("env")
        assert 429 in {client.get("/simple/demo/").status_code for _ in range(40)}
        done = clients.pip_install(python, f"{server.url}/simple/", "demo")
        assert done.status == 0, done.output
        server.stop()
        # It asks for the page, the metadata and the wheel, one after another, and may ask once in three seconds.
        assert server.log().count(" status=429 ") > 1
