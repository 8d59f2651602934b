"""Logging in with real clients."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import bcrypt
import httpx
import pytest

from nora.testing.live import LiveServer
from nora.testing.packages import make_wheel


@pytest.fixture
def users(tmp_path: Path) -> Path:
    path = tmp_path / "users.htpasswd"
    path.write_text(f"ada:{bcrypt.hashpw(b's3c:ret', bcrypt.gensalt(10)).decode()}\n")
    return path


def config(users: Path, *, anonymous_read: bool = False) -> str:
    auth = f'[auth]\nenabled = true\nhtpasswd_file = "{users}"\nanonymous_read = {str(anonymous_read).lower()}\n'
    return auth + '[pypi]\nproxy = ""\n'


def test_clients_log_in_to_publish_and_to_install(clients: Any, tmp_path: Path, dist: Path, users: Path) -> None:
    # AUTH-4
    name, wheel = make_wheel("demo", "1.0")
    (dist / name).write_bytes(wheel)
    with LiveServer(tmp_path / "store", config(users)) as server:
        with_user = server.url.replace("http://", "http://ada:s3c%3Aret@")
        refused = clients.tool(
            *("twine", "upload", "--non-interactive", "--disable-progress-bar", "-u", "ada", "-p", "wrong"),
            *("--repository-url", f"{server.url}/simple/", str(dist / name)),
        )
        assert refused.status != 0
        assert "401" in refused.output
        done = clients.tool(
            *("twine", "upload", "--non-interactive", "--disable-progress-bar", "-u", "ada", "-p", "s3c:ret"),
            *("--repository-url", f"{server.url}/simple/", str(dist / name)),
        )
        assert done.status == 0, done.output
        for install in (clients.pip_install, clients.uv_install):
            python = clients.venv(install.__name__)
            assert install(python, f"{server.url}/simple/", "demo").status != 0
            done = install(python, f"{with_user}/simple/", "demo")
            assert done.status == 0, done.output


def test_every_way_to_read_needs_a_login(tmp_path: Path, users: Path) -> None:
    # AUTH-1, AUTH-2, AUTH-3, AUTH-7
    name, wheel = make_wheel("demo", "1.0")
    form = {":action": "file_upload", "protocol_version": "1", "name": "demo", "version": "1.0"}
    form |= {"filetype": "bdist_wheel", "metadata_version": "2.1"}
    with LiveServer(tmp_path / "store", config(users)) as server, httpx.Client(base_url=server.url) as client:
        login = ("ada", "s3c:ret")
        assert client.post("/simple/", data=form, files={"content": (name, wheel)}, auth=login).status_code == 200
        paths = ["/simple/", "/simple", "/simple/demo/", "/simple/demo", "/simple/none/", f"/simple/demo/{name}"]
        for path in (*paths, f"/simple/demo/{name}.metadata"):
            for method in ("GET", "HEAD"):
                for headers in (
                    {},
                    {"range": "bytes=0-1"},
                    {"if-none-match": "*"},
                    {"authorization": "Bearer x"},
                    {"authorization": "Basic !!!"},
                    {"authorization": "Basic YWRh"},
                    {"authorization": ""},
                ):
                    answer = client.request(method, path, headers=headers)
                    assert answer.status_code == 401, (method, path, headers)
                    assert answer.headers["www-authenticate"].startswith("Basic realm=")
        assert client.get(f"/simple/demo/{name}", auth=login).content == wheel
        assert client.get("/health").status_code == 200
        assert client.get("/ready").status_code == 200


def test_reading_may_be_open_while_publishing_is_not(tmp_path: Path, users: Path) -> None:
    # AUTH-6
    name, wheel = make_wheel("demo", "1.0")
    with (
        LiveServer(tmp_path / "store", config(users, anonymous_read=True)) as server,
        httpx.Client(base_url=server.url) as client,
    ):
        assert client.get("/simple/").status_code == 200
        answer = client.post("/simple/", data={":action": "file_upload"}, files={"content": (name, wheel)})
        assert answer.status_code == 401


def test_fifty_cold_requests_with_one_credential_all_pass(tmp_path: Path, users: Path) -> None:
    async def ask() -> set[int]:
        async with httpx.AsyncClient(base_url=server.url, auth=("ada", "s3c:ret"), timeout=30) as client:
            return {answer.status_code for answer in await asyncio.gather(*(client.get("/simple/") for _ in range(50)))}

    with LiveServer(tmp_path / "store", config(users)) as server:
        assert asyncio.run(ask()) == {200}


def test_what_somebody_logged_in_for_is_kept_by_no_shared_cache(tmp_path: Path, users: Path) -> None:
    # AUTH-10
    name, wheel = make_wheel("demo", "1.0")
    form = {":action": "file_upload", "protocol_version": "1", "name": "demo", "version": "1.0"}
    form |= {"filetype": "bdist_wheel", "metadata_version": "2.1"}
    login = ("ada", "s3c:ret")
    with (
        LiveServer(tmp_path / "store", config(users, anonymous_read=True)) as server,
        httpx.Client(base_url=server.url) as client,
    ):
        assert client.post("/simple/", data=form, files={"content": (name, wheel)}, auth=login).status_code == 200
        for path in ("/simple/", "/simple/demo/", f"/simple/demo/{name}", f"/simple/demo/{name}.metadata"):
            for _ in range(3):  # prepared answers, too
                private = client.get(path, auth=login).headers["cache-control"]
                common = client.get(path).headers["cache-control"]
                assert private == f"private, {common}", path
                assert "private" not in common
                assert "public" not in common


def test_what_gets_into_a_page_does_nothing_there(tmp_path: Path, users: Path) -> None:
    # CWE-79
    with (
        LiveServer(tmp_path / "store", config(users, anonymous_read=True)) as server,
        httpx.Client(base_url=server.url) as client,
    ):
        for _ in range(3):
            page = client.get("/simple/", headers={"accept": "text/html"})
            assert page.headers["content-security-policy"].startswith("default-src 'none'")
            assert page.headers["x-content-type-options"] == "nosniff"
        data = client.get("/simple/", headers={"accept": "application/vnd.pypi.simple.v1+json"})
        assert "content-security-policy" not in data.headers
