"""Upstreams that do wrong. No client ever gets a complete wrong file, and nothing wrong is ever served later."""

from __future__ import annotations

import base64
import hashlib
import time
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from nora.testing.live import LiveServer
from nora.testing.packages import make_wheel
from nora.testing.upstream import Reply, ScriptedUpstream, Synthetic, sha256_of

JSON = {"accept": "application/vnd.pypi.simple.v1+json"}
BIG = Synthetic(3_000_000)
NAME = "demo-1.0-py3-none-any.whl"
FILE = f"/files/demo/{NAME}"


def config(upstream: ScriptedUpstream, *, ttl: int = 0) -> str:
    return f'[pypi]\nproxy = "{upstream.simple_url}"\nproxy_timeout = 1.5\nmetadata_ttl = {ttl}\n'


def fetch(server: LiveServer, *, chunk: int = 65536) -> tuple[int, bytes, bool]:
    """Status, bytes that came, and whether the transfer ended as a complete one."""
    received = b""
    with httpx.Client(timeout=20) as client, client.stream("GET", f"{server.url}/simple/demo/{NAME}") as answer:
        try:
            for piece in answer.iter_raw(chunk):
                received += piece
        except httpx.HTTPError:
            return answer.status_code, received, False
    return answer.status_code, received, True


GOOD = Reply(BIG)
FAULTS = {
    "wrong bytes": Reply(Synthetic(3_000_000, seed=1)),
    "wrong bytes, chunked": Reply(Synthetic(3_000_000, seed=1), chunked=True),
    "a reset in the middle": replace(GOOD, cut_after=1_500_000),
    "an orderly end in the middle": replace(GOOD, cut_after=1_500_000, cut_orderly=True),
    "no last chunk": replace(GOOD, chunked=True, cut_after=1_500_000, cut_orderly=True),
    "a reset before the last byte": replace(GOOD, cut_after=2_999_999),
    "silence in the middle": replace(GOOD, hang_after=1_500_000),
    "silence from the start": replace(GOOD, hang=True),
    "too short a body": Reply(Synthetic(2_000_000)),
    "too long a body": Reply(Synthetic(3_000_001)),
    "a length that lies": replace(GOOD, content_length=3_500_000),
    "an error page": Reply(b"<html>Oops</html>", status=200, content_type="text/html"),
    "status 500": Reply(b"oops", status=500),
    "status 403": Reply(b"no", status=403),
    "a redirect to nowhere": Reply(status=302, headers={"Location": "ftp://example.com/x"}),
    "a redirect in circles": Reply(status=302, headers={"Location": FILE}),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_no_client_gets_a_complete_wrong_file_and_a_later_good_answer_is_kept(
    tmp_path: Path, upstream: ScriptedUpstream, fault: str
) -> None:
    # PROXY-7, PROXY-8, PROXY-10
    upstream.add_project("demo", {NAME: BIG})
    upstream.add(FILE, FAULTS[fault])
    with LiveServer(tmp_path / "store", config(upstream)) as server:
        status, received, complete = fetch(server)
        assert (status in (502, 503, 504)) or not complete
        if status == 200:
            assert not complete
            assert BIG.read(0, len(received)) == received or fault.startswith("wrong bytes")
        assert not list((tmp_path / "store" / "blobs").rglob("*")) or not any(
            path.is_file() for path in (tmp_path / "store" / "blobs").rglob("*")
        )
        upstream.add(FILE, GOOD)
        status, received, complete = fetch(server)
        assert (status, complete) == (200, True)
        assert hashlib.sha256(received).hexdigest() == sha256_of(BIG)
        upstream.offline = True
        assert fetch(server) == (200, received, True)


@pytest.mark.parametrize(
    ("fault", "statuses"),
    [
        (Reply(status=500), {502, 503}),
        (Reply(status=503, headers={"Retry-After": "7"}), {503}),
        (Reply(status=401), {502}),
        (Reply(hang=True), {504}),
        (Reply(b"{", content_type="application/vnd.pypi.simple.v1+json"), {502}),
        (Reply(b'{"files": [', content_type="application/json"), {502}),
        (Reply(b"<html><body><form>Log in</form></body></html>", content_type="application/vnd.pypi.simple.v1+json"), {502}),
        (Reply(b"<html><body><form>Log in</form></body></html>", content_type="text/html"), {502}),
        (Reply(b"<html><body><a href='demo-1.0.zip'>", content_type="text/html"), {502}),
        (Reply(b'{"meta":{"api-version":"2.0"},"files":[]}', content_type="application/vnd.pypi.simple.v2+json"), {502}),
        (Reply(b'{"meta":{"api-version":"2.0"},"files":[]}', content_type="application/json"), {502}),
        (Reply(b"x" * 100, content_length=5000, content_type="text/html"), {502, 503}),
        (Reply(b"x" * 100, cut_after=50, chunked=True, content_type="text/html"), {502, 503}),
    ],
)
def test_an_upstream_in_trouble_is_never_a_404_and_its_answer_is_never_kept(
    tmp_path: Path, upstream: ScriptedUpstream, fault: Reply, statuses: set[int]
) -> None:
    # PROXY-10, PROXY-13, VER-6
    upstream.add("/simple/demo/", fault)
    with LiveServer(tmp_path / "store", config(upstream)) as server:
        answer = httpx.get(f"{server.url}/simple/demo/", headers=JSON, timeout=20)
        assert answer.status_code in statuses, answer.text
        assert answer.text.count("\n") == 1
        if answer.status_code == 503:
            assert int(answer.headers["retry-after"]) > 0
        assert "demo" not in httpx.get(f"{server.url}/simple/", headers=JSON).text
        name, wheel = make_wheel("demo", "1.0")
        upstream.add_project("demo", {name: wheel})
        good = httpx.get(f"{server.url}/simple/demo/", headers=JSON)
        assert [file["filename"] for file in good.json()["files"]] == [name]
        # CACHE-3: from now on the same trouble is bridged with what is held.
        upstream.add("/simple/demo/", fault)
        begun = time.monotonic()
        stale = httpx.get(f"{server.url}/simple/demo/", headers=JSON, timeout=20)
        assert stale.json() == good.json()
        assert time.monotonic() - begun < 8


def test_a_project_that_is_withdrawn_upstream_is_gone(tmp_path: Path, upstream: ScriptedUpstream) -> None:
    # CACHE-4
    name, wheel = make_wheel("demo", "1.0")
    upstream.add_project("demo", {name: wheel})
    with LiveServer(tmp_path / "store", config(upstream)) as server:
        assert httpx.get(f"{server.url}/simple/demo/{name}").content == wheel
        upstream.add("/simple/demo/", Reply(status=404))
        assert httpx.get(f"{server.url}/simple/demo/").status_code == 404
        assert httpx.get(f"{server.url}/simple/demo/{name}").status_code == 404


def test_a_file_without_any_digest_is_what_it_was_at_first(tmp_path: Path, upstream: ScriptedUpstream) -> None:
    upstream.add_project("demo", {NAME: BIG}, digests={NAME: ""}, form="html")
    with LiveServer(tmp_path / "store", config(upstream)) as server:
        assert fetch(server)[2]
        page = httpx.get(f"{server.url}/simple/demo/", headers=JSON).json()
        assert page["files"][0]["hashes"] == {"sha256": sha256_of(BIG)}
        assert page["files"][0]["size"] == BIG.size
        # PROXY-9: the upstream changes the file in place; what is held stays right.
        upstream.add(FILE, Reply(Synthetic(3_000_000, seed=2)))
        assert hashlib.sha256(fetch(server)[1]).hexdigest() == sha256_of(BIG)
        # It is lost here, and what comes in its place is not what it was.
        for blob in (tmp_path / "store" / "blobs").rglob("*"):
            if blob.is_file():
                blob.unlink()
        status, _, complete = fetch(server)
        assert status >= 500 or not complete


def test_metadata_that_is_not_what_was_announced_is_refused(tmp_path: Path, upstream: ScriptedUpstream) -> None:
    # META-8
    name, wheel = make_wheel("demo", "1.0")
    upstream.add_project("demo", {name: wheel}, metadata={name: b"Metadata-Version: 2.1\nName: demo\nVersion: 1.0\n"})
    upstream.add(f"/files/demo/{name}.metadata", Reply(b"Metadata-Version: 2.1\nName: evil\nVersion: 1.0\n"))
    with LiveServer(tmp_path / "store", config(upstream)) as server:
        answer = httpx.get(f"{server.url}/simple/demo/{name}.metadata")
        assert answer.status_code == 502


def test_a_private_name_is_never_looked_up_upstream(tmp_path: Path, upstream: ScriptedUpstream) -> None:
    # D8
    name, wheel = make_wheel("demo", "1.0")
    evil, other = make_wheel("demo", "9.0")
    upstream.add_project("demo", {evil: other})
    form = {":action": "file_upload", "protocol_version": "1", "name": "demo", "version": "1.0"}
    form |= {"filetype": "bdist_wheel", "metadata_version": "2.1"}
    with LiveServer(tmp_path / "store", config(upstream)) as server:
        answer = httpx.post(f"{server.url}/simple/", data=form, files={"content": (name, wheel)})
        assert answer.status_code == 200, answer.text
        page = httpx.get(f"{server.url}/simple/demo/", headers=JSON).json()
        assert [file["filename"] for file in page["files"]] == [name]
        assert httpx.get(f"{server.url}/simple/demo/{evil}").status_code == 404
        assert not upstream.requests
    with LiveServer(tmp_path / "store", config(upstream) + 'merge_upstream = ["de*"]\n') as server:
        page = httpx.get(f"{server.url}/simple/demo/", headers=JSON).json()
        assert [file["filename"] for file in page["files"]] == [name, evil]
        assert httpx.get(f"{server.url}/simple/demo/{evil}").content == other


def test_credentials_go_to_the_upstreams_own_host_only(tmp_path: Path, upstream: ScriptedUpstream) -> None:
    # AUTH-8, MULTI-6
    name, wheel = make_wheel("demo", "1.0")
    elsewhere = ScriptedUpstream()
    with elsewhere.run_in_thread():
        elsewhere.add(f"/{name}", Reply(wheel))
        upstream.add_project("demo", {name: wheel})
        upstream.add(f"/files/demo/{name}", Reply(status=302, headers={"Location": f"{elsewhere.url}/{name}"}))
        environ = {"NORA_PYPI_PROXY_AUTH": "robot:s3cret", "NORA_PYPI_PROXY_PRIVATE_HOSTS": "127.0.0.1"}
        with LiveServer(tmp_path / "store", config(upstream), env=environ) as server:
            answer = httpx.get(f"{server.url}/simple/demo/{name}", headers={"authorization": "Basic Y2xpZW50OnB3"})
            assert answer.content == wheel
            log = server.log()
    expected = "Basic " + base64.b64encode(b"robot:s3cret").decode()
    assert [request.headers.get("authorization") for request in upstream.requests] == [expected, expected]
    assert [request.headers.get("authorization") for request in elsewhere.requests] == [None]
    assert "s3cret" not in log
    assert expected.split()[1] not in log
