"""Uploads that must be refused, and leave nothing behind."""

from __future__ import annotations

import hashlib
import socket
from pathlib import Path

import httpx
import pytest

from nora.testing.live import LiveServer
from nora.testing.packages import make_wheel

HOSTED_ONLY = '[pypi]\nproxy = ""\n[server]\nbody_limit_mb = 1\n'
FORM = {":action": "file_upload", "protocol_version": "1", "name": "demo", "version": "1.0"} | {
    "filetype": "bdist_wheel",
    "metadata_version": "2.1",
}


def contents(store: Path) -> list[str]:
    return sorted(str(path.relative_to(store)) for path in store.rglob("*") if path.is_file() and path.suffix != ".lock")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"sha256_digest": "0" * 64}, "sha256"),  # UP-5
        ({"name": "other"}, "other"),  # UP-9
        ({"version": "2.0"}, "2.0"),
        ({"filetype": "sdist"}, "filetype"),  # UP-4
        ({"protocol_version": "2"}, "protocol_version"),  # UP-21
        ({":action": "submit"}, "action"),
    ],
)
def test_a_wrong_form_is_refused_with_the_reason_and_nothing_is_kept(
    tmp_path: Path, change: dict[str, str], words: str
) -> None:
    # UP-12
    name, wheel = make_wheel("demo", "1.0")
    with LiveServer(tmp_path / "store", HOSTED_ONLY) as server:
        before = contents(tmp_path / "store")
        answer = httpx.post(f"{server.url}/simple/", data=FORM | change, files={"content": (name, wheel)})
        assert answer.status_code == 400
        assert answer.headers["content-type"].startswith("text/plain")
        assert answer.text.count("\n") == 1
        assert name in answer.text
        assert words in answer.text
        assert httpx.get(f"{server.url}/simple/demo/").status_code == 404
        assert contents(tmp_path / "store") == before


def test_a_wheel_of_another_name_inside_is_refused(tmp_path: Path) -> None:
    name, _ = make_wheel("demo", "1.0")
    _, other = make_wheel("other", "1.0")
    with LiveServer(tmp_path / "store", HOSTED_ONLY) as server:
        answer = httpx.post(f"{server.url}/simple/", data=FORM, files={"content": (name, other)})
        assert answer.status_code == 400
        assert httpx.get(f"{server.url}/simple/demo/").status_code == 404


def test_a_body_over_the_limit_is_413_and_the_client_can_read_it(tmp_path: Path) -> None:
    # UP-15, HTTP-19
    name, wheel = make_wheel("demo", "1.0", size=3_000_000)
    with LiveServer(tmp_path / "store", HOSTED_ONLY) as server:
        before = contents(tmp_path / "store")
        answer = httpx.post(f"{server.url}/simple/", data=FORM, files={"content": (name, wheel)})
        assert answer.status_code == 413
        assert contents(tmp_path / "store") == before


def test_a_truncated_body_leaves_nothing(tmp_path: Path) -> None:
    # UP-16: both a body that ends without its last boundary and one that is shorter than announced.
    name, wheel = make_wheel("demo", "1.0")
    request = httpx.Request("POST", "http://x/simple/", data=FORM, files={"content": (name, wheel)})
    body = request.read()
    with LiveServer(tmp_path / "store", HOSTED_ONLY) as server:
        before = contents(tmp_path / "store")
        short = httpx.post(
            f"{server.url}/simple/", content=body[:-50], headers={"content-type": request.headers["content-type"]}
        )
        assert short.status_code == 400
        head = f"POST /simple/ HTTP/1.1\r\nHost: x\r\nContent-Type: {request.headers['content-type']}\r\n"
        with socket.create_connection(("127.0.0.1", server.port)) as connection:
            connection.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body[:-50])
            connection.shutdown(socket.SHUT_WR)
            connection.settimeout(10)
            assert b" 200 " not in connection.recv(4096)
        assert httpx.get(f"{server.url}/simple/demo/").status_code == 404
        assert contents(tmp_path / "store") == before
        whole = httpx.post(f"{server.url}/simple/", content=body, headers={"content-type": request.headers["content-type"]})
        assert whole.status_code == 200
        served = httpx.get(f"{server.url}/simple/demo/{name}").content
        assert hashlib.sha256(served).digest() == hashlib.sha256(wheel).digest()


def test_an_upload_is_listed_at_once_by_the_other_worker(tmp_path: Path) -> None:
    # UP-2
    with LiveServer(tmp_path / "store", HOSTED_ONLY, workers=2) as server:
        assert len(server.worker_pids()) == 2
        for number in range(20):
            name, wheel = make_wheel("demo", f"1.{number}")
            answer = httpx.post(f"{server.url}/", data=FORM | {"version": f"1.{number}"}, files={"content": (name, wheel)})
            assert answer.status_code == 200, answer.text
            # Connections of their own, so that both workers are asked.
            with httpx.Client(headers={"accept": "application/vnd.pypi.simple.v1+json", "connection": "close"}) as client:
                for _ in range(8):
                    page = client.get(f"{server.url}/simple/demo/")
                    assert name in [file["filename"] for file in page.json()["files"]]
            assert "demo" in httpx.get(f"{server.url}/simple/").text
