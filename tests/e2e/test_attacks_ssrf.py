"""SSRF: what an upstream's pages name, and where it redirects to, is its own choice; who is asked is not. See nora/upstream/reach.py.

Belongs to tests/e2e once the client for upstreams asks it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

import httpx
import pytest

from nora.testing.live import LiveServer
from nora.testing.packages import make_wheel
from nora.testing.upstream import Reply, ScriptedUpstream, sha256_of

JSON_TYPE = "application/vnd.pypi.simple.v1+json"
NAME, WHEEL = make_wheel("demo", "1.0")
SECRET = b"do not tell"


@pytest.fixture(scope="module")
def inner() -> Iterator[ScriptedUpstream]:
    """A service of our own network that nobody outside may reach through us."""
    service = ScriptedUpstream()
    with service.run_in_thread():
        service.add("/secret", Reply(SECRET))
        service.add("/", Reply(SECRET))
        yield service
        assert service.requests == [], "somebody reached it"


@pytest.fixture(scope="module")
def server(
    tmp_path_factory: pytest.TempPathFactory, scripted: ScriptedUpstream, inner: ScriptedUpstream
) -> Iterator[LiveServer]:
    config = f'[pypi]\nproxy = "{scripted.simple_url}"\nproxy_timeout = 5\nmetadata_ttl = 0\n'
    with LiveServer(tmp_path_factory.mktemp("ssrf") / "store", config) as running:
        yield running
        scripted.add_project("good", {NAME.replace("demo", "good"): WHEEL})
        assert httpx.get(f"{running.url}/simple/good/").status_code == 200
    assert "Traceback" not in running.log()


HOSTS = (
    *(
        "127.0.0.1",
        "localhost",
        "localhost.",
        "LOCALHOST",
        "127.0.0.1.",
        "127.1",
        "127.0.0.2",
        "0.0.0.0",
        "0",
        "2130706433",
        "017700000001",
        "0x7f000001",
    ),
    *(
        "0x7f.0.0.1",
        "0177.0.0.01",
        "[::1]",
        "[::]",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "[64:ff9b::7f00:1]",
        "user@127.0.0.1",
        "x%40127.0.0.1",
        "ip6-localhost",
    ),
)
ELSEWHERE = (
    *(
        "http://169.254.169.254/latest/meta-data/",
        "http://[fd00:ec2::254]/latest/",
        "http://168.63.129.16/machine",
        "http://100.100.100.200/latest/",
    ),
    *(
        "http://10.0.0.1/",
        "http://192.168.0.1/",
        "http://172.16.0.1/",
        "http://[fe80::1]/",
        "http://[fc00::1]/",
        "http://224.0.0.1/",
        "http://255.255.255.255/",
    ),
    *("http://files.example:22/", "http://files.example:25/", "http://files.example:6/"),
)


def targets(inner: ScriptedUpstream) -> list[str]:
    port = inner.url.rpartition(":")[2]
    return [*(f"http://{host}:{port}/secret" for host in HOSTS), *ELSEWHERE]


def refused(answer: httpx.Response) -> None:
    told = f"{answer.url}: {answer.status_code} {answer.text[:300]}"
    # 503 is that a name is not known at all.
    assert answer.status_code in (404, 502, 503), told
    assert SECRET not in answer.content, told
    assert answer.text.count("\n") == 1, told


def test_a_link_in_a_page_reaches_no_private_address(
    server: LiveServer, scripted: ScriptedUpstream, inner: ScriptedUpstream
) -> None:
    # PROXY-14, CWE-918
    digest = {"sha256": sha256_of(SECRET)}
    for address in targets(inner):
        file = {
            "filename": NAME,
            "url": address,
            "hashes": digest,
            "core-metadata": digest,
            "provenance": address.replace("http:", "https:"),
        }
        page = {"meta": {"api-version": "1.0"}, "name": "demo", "files": [file]}
        scripted.add("/simple/demo/", Reply(json.dumps(page).encode(), content_type=JSON_TYPE))
        for suffix in ("", ".metadata", ".provenance"):
            refused(httpx.get(f"{server.url}/simple/demo/{NAME}{suffix}", timeout=20))
    assert inner.requests == []


def test_a_redirect_of_a_page_or_a_file_reaches_no_private_address(
    server: LiveServer, scripted: ScriptedUpstream, inner: ScriptedUpstream
) -> None:
    # PROXY-14, PROXY-18, CWE-918
    for address in targets(inner):
        reply = Reply(status=302, headers={"Location": address})
        scripted.add_project("moved", {NAME: SECRET})
        scripted.add(f"/files/moved/{NAME}", reply)
        refused(httpx.get(f"{server.url}/simple/moved/{NAME}", timeout=20))
        scripted.add("/simple/page/", reply)
        refused(httpx.get(f"{server.url}/simple/page/", timeout=20))
    assert inner.requests == []


def test_a_redirect_over_a_place_that_is_allowed_reaches_no_private_address(
    server: LiveServer, scripted: ScriptedUpstream, inner: ScriptedUpstream
) -> None:
    scripted.add_project("steps", {NAME: SECRET})
    scripted.add(f"/files/steps/{NAME}", Reply(status=307, headers={"Location": "/step"}))
    scripted.add("/step", Reply(status=308, headers={"Location": f"{inner.url}/secret"}))
    refused(httpx.get(f"{server.url}/simple/steps/{NAME}", timeout=20))
    assert scripted.count("/step") == 1
    assert inner.requests == []


def test_what_the_operator_opens_is_open(tmp_path_factory: pytest.TempPathFactory, scripted: ScriptedUpstream) -> None:
    files = ScriptedUpstream()
    with files.run_in_thread():
        files.add("/x.whl", Reply(WHEEL))
        page = {
            "meta": {"api-version": "1.0"},
            "name": "opened",
            "files": [{"filename": NAME, "url": f"{files.url}/x.whl", "hashes": {}}],
        }
        scripted.add("/simple/opened/", Reply(json.dumps(page).encode(), content_type=JSON_TYPE))
        config = f'[pypi]\nproxy = "{scripted.simple_url}"\nproxy_private_hosts = ["127.0.0.1"]\n'
        with LiveServer(tmp_path_factory.mktemp("opened") / "store", config) as opened:
            assert httpx.get(f"{opened.url}/simple/opened/{NAME}").content == WHEEL
