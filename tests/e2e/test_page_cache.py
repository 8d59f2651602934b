"""The cache of prepared answers with everything around it: the same bytes with and without, and every change is seen by the next request."""

from __future__ import annotations

import contextlib
import http.client
import os
import re
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import bcrypt
import httpx
import pytest

from nora.testing.harness import MAX_CONNECTIONS, open_sockets
from nora.testing.live import HOST, LiveServer
from nora.testing.packages import make_sdist, make_wheel
from nora.testing.upstream import JSON_TYPE, ScriptedUpstream
from tests.e2e.metrics import hits

OFF = "[server]\npage_cache_mb = 0\n"
FORM = {":action": "file_upload", "protocol_version": "1", "metadata_version": "2.1", "filetype": "bdist_wheel"}
PIP = (
    "Accept: application/vnd.pypi.simple.v1+json, application/vnd.pypi.simple.v1+html; q=0.1, text/html; q=0.01",
    'User-Agent: pip/24.0 {"cpu":"x86_64","python":"3.11.7"}',
    "Accept-Encoding: gzip, deflate",
    "Connection: keep-alive",
    "Cache-Control: max-age=0",
)
UV = ("accept: application/vnd.pypi.simple.v1+json, text/html;q=0.01", "accept-encoding: gzip, br", "user-agent: uv/0.9")
FETCHED = tuple(f"/simple/theirs/{make_wheel('theirs', '1.0')[0]}{suffix}" for suffix in ("", ".metadata"))
FILES = (*(path.replace("theirs", "ours") for path in FETCHED), *FETCHED)
OF_THE_MOMENT = re.compile(rb"\r\n(?:date: [^\r]+|x-request-id: [0-9a-f]{16})")


class Wire:
    """A connection that is kept, and every byte of its answers."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection((HOST, port), timeout=30)

    def __enter__(self) -> Wire:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def ask(self, method: str, path: str, *fields: str) -> bytes:
        """The answer without date and name."""
        lines = [
            f"{method} {path} HTTP/1.1",
            *([] if any(f.lower().startswith("host:") for f in fields) else ["Host: x"]),
            *fields,
        ]
        self._socket.sendall("\r\n".join([*lines, "", ""]).encode())
        answer = self._until(lambda data: b"\r\n\r\n" in data, b"")
        head, _, rest = answer.partition(b"\r\n\r\n")
        length = re.search(rb"\r\ncontent-length: (\d+)", head)
        size = int(length[1]) if length and method != "HEAD" else 0
        return OF_THE_MOMENT.sub(b"", head) + b"\r\n\r\n" + self._until(lambda data: len(data) >= size, rest)

    def page(self, project: str = "demo", accept: str = JSON_TYPE) -> str:
        """A project's page, or its status."""
        answer = self.ask("GET", f"/simple/{project}/", f"Accept: {accept}").decode()
        return answer.partition("\r\n\r\n")[2] if answer.startswith("HTTP/1.1 200 ") else answer.partition("\r\n")[0]

    def _until(self, complete: Callable[[bytes], bool], data: bytes) -> bytes:
        while not complete(data):
            piece = self._socket.recv(1 << 20)
            assert piece, data
            data += piece
        return data


@contextlib.contextmanager
def each_worker(server: LiveServer) -> Iterator[list[Wire]]:
    """Connections that are known to be held by different processes."""
    workers = server.worker_pids()
    with contextlib.ExitStack() as stack:
        found: dict[int, Wire] = {}
        for _ in range(MAX_CONNECTIONS):
            before = {pid: open_sockets(pid) for pid in workers}
            wire = stack.enter_context(Wire(server.port))
            assert wire.ask("GET", "/health").startswith(b"HTTP/1.1 200 ")
            for pid in workers:
                if open_sockets(pid) > before[pid]:
                    found.setdefault(pid, wire)
            if len(found) == len(workers):
                yield list(found.values())
                return
            time.sleep(0.05)  # one may be still starting
        raise AssertionError(f"{MAX_CONNECTIONS} connections reached {list(found)} of the processes {workers}")


def asked(wire: Wire, request: tuple[str, str, tuple[str, ...]]) -> bytes:
    method, path, fields = request
    return wire.ask(method, path, *fields)


def upload(server: LiveServer, version: str, project: str = "demo", **headers: str) -> str:
    filename, content = make_wheel(project, version)
    form = FORM | {"name": project, "version": version}
    answer = httpx.post(
        f"{server.url}/legacy/", data=form, files={"content": (filename, content)}, headers=headers, trust_env=False
    )
    assert answer.status_code == 200, answer.text
    return filename


def curate(server: LiveServer, method: str, path: str, **options: str) -> None:
    address = f"{server.url}/api/v1/registries/pypi/projects/{path}"
    answer = httpx.request(method, address, json=options or None, trust_env=False)
    assert answer.status_code == 200, answer.text
    assert answer.json()["changed"] is True


def nora(storage: Path, *arguments: str) -> None:
    environ = {name: value for name, value in os.environ.items() if not name.startswith("NORA_")}
    command = [sys.executable, "-m", "nora", *arguments, "--storage", str(storage)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=storage.parent, env=environ, timeout=60)
    assert done.returncode == 0, done.stderr


# The same bytes


@pytest.fixture
def pair(tmp_path: Path, upstream: ScriptedUpstream) -> Iterator[tuple[LiveServer, LiveServer]]:
    """A server with the cache and one without, over copies of one storage that was never alive."""
    wheels = dict(make_wheel("theirs", f"1.{number}", requires_python=">=3.8") for number in range(30))
    upstream.add_project("theirs", wheels, extra={name: {"upload-time": "2024-01-01T00:00:00Z"} for name in wheels})
    upstream.add_project("markup", dict([make_wheel("markup", "1.0"), make_sdist("markup", "1.0")]), form="html")
    upstream.add_project("dotted-name", dict([make_wheel("dotted.name", "1.0")]))
    config = f'[pypi]\nproxy = "{upstream.simple_url}"\nmetadata_ttl = 3600\n'
    with LiveServer(tmp_path / "one", config) as server:
        for number in range(25):
            upload(server, f"1.{number}", "ours")
        curate(server, "POST", "ours/versions/1.3/yank", reason='a <b> & "c"')
        upload(server, "1.0", "small")
        for project in ("theirs", "markup", "dotted-name"):
            httpx.get(f"{server.url}/simple/{project}/", trust_env=False)
        for path in FETCHED:
            assert httpx.get(f"{server.url}{path}", trust_env=False).status_code == 200
    shutil.copytree(tmp_path / "one", tmp_path / "two")
    with LiveServer(tmp_path / "one", config) as cached, LiveServer(tmp_path / "two", OFF + config) as usual:
        yield cached, usual


def test_every_answer_is_the_same_with_and_without_the_cache(pair: tuple[LiveServer, LiveServer]) -> None:
    cached, usual = pair
    kept, never = [], []
    accepts = [
        f"Accept: {JSON_TYPE}",
        "Accept: text/html",
        "Accept: application/vnd.pypi.simple.v1+html",
        f"Accept: text/html, {JSON_TYPE};q=0.5",
        f"Accept: {JSON_TYPE};q=0.5, text/html",
        "Accept: */*",
    ]
    for project in ("ours", "small", "theirs", "markup", "dotted-name"):
        path = f"/simple/{project}/"
        for method in ("GET", "HEAD"):
            kept += [(method, path, PIP), (method, path, UV), (method, path, ())]
            kept += [(method, path, (accept, *coding)) for accept in accepts for coding in ((), ("Accept-Encoding: gzip",))]
            kept += [(method, path, (f"Host: {host}",)) for host in ("localhost:4000", "127.0.0.1", "[::1]:80", "example.com")]
            kept += [
                (method, f"{path}?format={kind}", ()) for kind in ("application/vnd.pypi.simple.v1%2bjson", "text/html", "")
            ]
            kept += [
                (method, path, ("X-Forwarded-For: 10.0.0.1", "Host: localhost")),
                (method, path, ("Authorization: Basic !",)),
            ]
            kept += [(method, path, ("X-Request-ID: a", accepts[0]))]
        never += [
            ("GET", f"/simple/{project}", PIP),
            ("GET", f"/pypi/{project}/json", ()),
            ("GET", path, ("Accept: image/png",)),
        ]
        never += [("GET", path, ("Range: bytes=0-9",)), ("GET", path, ('If-Match: "x"',))]
    for method in ("GET", "HEAD"):
        kept += [(method, path, fields) for path in FILES for fields in (PIP, UV, (), ("X-Request-ID: a", "Host: localhost"))]
        kept += [(method, "/simple/", fields) for fields in (PIP, UV, ())]
        kept += [(method, "/simple/", (accept, *coding)) for accept in accepts for coding in ((), ("Accept-Encoding: gzip",))]
    never += [("GET", path, (field,)) for path in FILES for field in ("Range: bytes=0-9", 'If-Match: "x"')]
    never += [("GET", path, PIP) for path in ("/simple/missing/", "/simple/Dotted.Name/", "/", "/simple/ours/x.whl")]
    with Wire(usual.port) as other, Wire(cached.port) as wire:
        expected = [asked(other, request) for request in kept]
        tags = [re.search(rb"\r\netag: ([^\r]+)", answer) for answer in expected]
        conditional = [
            (method, path, (*fields, f"If-None-Match: {tag[1].decode()}"))
            for (method, path, fields), tag in zip(kept, tags, strict=True)
            if tag is not None
        ]
        assert len(conditional) == len(kept)
        kept += conditional
        expected += [asked(other, request) for request in conditional]
        assert {answer[:12] for answer in expected} == {b"HTTP/1.1 200", b"HTTP/1.1 304"}
        before = hits(cached)
        for request, answer in zip(kept, expected, strict=True):
            for _ in range(4):
                assert asked(wire, request) == answer, request
        found = hits(cached)
        # Of four, the second makes the entry; the same page to the client named "a" is one with the request that has no name.
        assert found - before >= 2 * len(kept)
        for request in never:
            for _ in range(4):
                assert asked(wire, request) == asked(other, request), request
        assert hits(cached) == found
    assert hits(usual) == 0


# Changes, seen by whichever worker the next request comes to

ROUNDS = 25


def test_the_next_request_sees_every_upload(tmp_path: Path) -> None:
    with LiveServer(tmp_path / "store", '[pypi]\nproxy = ""\n', workers=2) as server:
        upload(server, "1.0")
        with each_worker(server) as wires:
            for number in range(1, ROUNDS):
                for wire in wires * 3:
                    assert f"demo-1.{number - 1}-" in wire.page()
                name = upload(server, f"1.{number}")
                for wire in wires:
                    assert name in wire.page(), number
                    assert name in wire.page(accept="text/html"), number
        # Per round each worker answered four times; of these, one was the first after a change.
        assert hits(server, at_least=2 * ROUNDS) >= 2 * ROUNDS


@pytest.mark.parametrize("hosted", [True, False])
def test_the_next_request_sees_every_yank_from_the_command_line_and_over_http(
    tmp_path: Path, upstream: ScriptedUpstream, hosted: bool
) -> None:
    store = tmp_path / "store"
    name, wheel = make_wheel("demo", "1.0")
    upstream.add_project("demo", {} if hosted else {name: wheel})
    config = f'[pypi]\nproxy = "{"" if hosted else upstream.simple_url}"\nmetadata_ttl = 3600\n'
    (tmp_path / "config.toml").write_text(config)
    with LiveServer(store, config, workers=2) as server:
        if hosted:
            upload(server, "1.0")
        with each_worker(server) as wires:
            for number in range(4):
                for wire in wires * 3:
                    assert '"yanked":' not in wire.page()
                if number % 2:
                    curate(server, "POST", "demo/versions/1.0/yank", reason=f"r{number}")
                else:
                    nora(
                        store,
                        "yank",
                        "pypi",
                        "demo",
                        "1.0",
                        "--reason",
                        f"r{number}",
                        "--config",
                        str(tmp_path / "config.toml"),
                    )
                for wire in wires:
                    assert f'"yanked":"r{number}"' in wire.page()
                    assert f'data-yanked="r{number}"' in wire.page(accept="text/html")
                if number % 2:
                    nora(store, "unyank", "pypi", "demo", "1.0", "--config", str(tmp_path / "config.toml"))
                else:
                    curate(server, "DELETE", "demo/versions/1.0/yank")


def test_the_next_request_sees_deletions_and_statuses(tmp_path: Path) -> None:
    with LiveServer(tmp_path / "store", '[pypi]\nproxy = ""\n', workers=2) as server, each_worker(server) as wires:
        for number in range(10):
            names = [upload(server, f"{number}.{minor}") for minor in range(2)]
            for wire in wires * 3:
                assert all(name in wire.page() for name in names)
            curate(server, "DELETE", f"demo/versions/{number}.0")
            for wire in wires * 3:
                assert names[0] not in wire.page()
                assert names[1] in wire.page()
            for status in ("deprecated", "quarantined", "active"):
                curate(server, "PUT", "demo/status", status=status)
                for wire in wires * 3:
                    page = wire.page()
                    assert (f'"status":"{status}"' in page) == (status != "active") or '"status":"active"' in page
                    assert (names[1] in page) == (status != "quarantined")


def test_the_next_request_sees_what_was_found_out_of_a_file(tmp_path: Path, upstream: ScriptedUpstream) -> None:
    # The digest of core metadata that no upstream offers is on the page as soon as somebody asked for it.
    config = f'[pypi]\nproxy = "{upstream.simple_url}"\nmetadata_ttl = 3600\n'
    files = dict(make_wheel("demo", f"1.{number}") for number in range(12))
    upstream.add_project("demo", files)
    with LiveServer(tmp_path / "store", config, workers=2) as server, each_worker(server) as wires:
        for number, name in enumerate(files):
            for wire in wires * 3:
                assert wire.page().count('"core-metadata":{"sha256"') == number
            metadata = wires[number % 2].ask("GET", f"/simple/demo/{name}.metadata")
            assert metadata.startswith(b"HTTP/1.1 200 "), metadata
            for wire in wires:
                assert wire.page().count('"core-metadata":{"sha256"') == number + 1


def test_the_next_request_after_its_time_sees_what_the_upstream_says(tmp_path: Path, upstream: ScriptedUpstream) -> None:
    config = f'[pypi]\nproxy = "{upstream.simple_url}"\nmetadata_ttl = 1\n'
    with LiveServer(tmp_path / "store", config) as server, Wire(server.port) as wire:
        for number in range(4):
            upstream.add_project("demo", dict([make_wheel("demo", f"1.{number}")]))
            time.sleep(1.0)
            for _ in range(20):
                assert f"demo-1.{number}-" in wire.page()
                time.sleep(0.01)
        assert hits(server) >= 4 * 15
    assert 4 <= upstream.count("/simple/demo/") <= 8


def test_what_is_always_to_be_asked_for_is_always_asked_for(tmp_path: Path, upstream: ScriptedUpstream) -> None:
    config = f'[pypi]\nproxy = "{upstream.simple_url}"\nmetadata_ttl = 0\n'
    with LiveServer(tmp_path / "store", config) as server, Wire(server.port) as wire:
        for number in range(10):
            upstream.add_project("demo", dict([make_wheel("demo", f"1.{number}")]))
            assert f"demo-1.{number}-" in wire.page()
        assert hits(server) == 0


def test_a_page_that_outlives_its_upstream_is_not_held(tmp_path: Path, upstream: ScriptedUpstream) -> None:
    config = f'[pypi]\nproxy = "{upstream.simple_url}"\nmetadata_ttl = 1\n'
    upstream.add_project("demo", dict([make_wheel("demo", "1.0")]))
    with LiveServer(tmp_path / "store", config) as server, Wire(server.port) as wire:
        assert "demo-1.0-" in wire.page()
        upstream.offline = True
        time.sleep(1.1)
        before = hits(server)
        for _ in range(5):
            assert "demo-1.0-" in wire.page()
        assert hits(server) == before


def test_a_first_upload_takes_the_name_for_the_next_request_of_each_worker(tmp_path: Path, upstream: ScriptedUpstream) -> None:
    config = f'[pypi]\nproxy = "{upstream.simple_url}"\nmetadata_ttl = 3600\n'
    with LiveServer(tmp_path / "store", config, workers=2) as server, each_worker(server) as wires:
        for number in range(10):
            project = f"demo{number}"
            upstream.add_project(project, dict([make_wheel(project, "9.9")]))
            for wire in wires * 3:
                assert f"{project}-9.9-" in wire.page(project)
            name = upload(server, "1.0", project)
            for wire in wires:
                page = wire.page(project)
                assert name in page
                assert f"{project}-9.9-" not in page


def test_the_next_request_sees_that_a_file_is_offered_no_longer(tmp_path: Path) -> None:
    with LiveServer(tmp_path / "store", '[pypi]\nproxy = ""\n', workers=2) as server, each_worker(server) as wires:
        for number in range(6):
            name = upload(server, f"{number}.0")
            upload(server, f"{number}.1")
            paths = [f"/simple/demo/{name}", f"/simple/demo/{name}.metadata"]
            for wire in wires * 4:
                for path in paths:
                    assert wire.ask("GET", path).startswith(b"HTTP/1.1 200 ")
            curate(server, "PUT", "demo/status", status="quarantined")
            for wire in wires * 3:
                for path in paths:
                    assert wire.ask("GET", path).startswith(b"HTTP/1.1 403 ")
            curate(server, "PUT", "demo/status", status="active")
            for wire in wires * 3:
                for path in paths:
                    assert wire.ask("GET", path).startswith(b"HTTP/1.1 200 ")
            curate(server, "DELETE", f"demo/versions/{number}.0")
            for wire in wires * 3:
                for path in paths:
                    assert wire.ask("GET", path).startswith(b"HTTP/1.1 404 ")
        assert hits(server, at_least=6 * 8) >= 6 * 8


def test_the_next_request_sees_every_new_project_in_the_list(tmp_path: Path) -> None:
    with LiveServer(tmp_path / "store", '[pypi]\nproxy = ""\n', workers=2) as server, each_worker(server) as wires:
        for number in range(12):
            upload(server, "1.0", f"project-{number}")
            for wire in wires * 4:
                for accept in (JSON_TYPE, "text/html"):
                    assert f"project-{number}" in wire.ask("GET", "/simple/", f"Accept: {accept}").decode()
        assert hits(server, at_least=12 * 4) >= 12 * 4


def test_a_project_that_was_just_fetched_is_in_the_list(tmp_path: Path, upstream: ScriptedUpstream) -> None:
    config = f'[pypi]\nproxy = "{upstream.simple_url}"\nmetadata_ttl = 3600\n'
    with LiveServer(tmp_path / "store", config) as server, Wire(server.port) as wire:
        for number in range(12):
            project = f"project-{number}"
            upstream.add_project(project, dict([make_wheel(project, "1.0")]))
            assert wire.ask("GET", f"/simple/{project}/").startswith(b"HTTP/1.1 200 ")
            for _ in range(4):
                assert f'"{project}"' in wire.ask("GET", "/simple/", f"Accept: {JSON_TYPE}").decode()
        assert hits(server) >= 12


def test_a_file_that_was_removed_behind_our_back_is_noticed_within_a_second(tmp_path: Path) -> None:
    with LiveServer(tmp_path / "store", '[pypi]\nproxy = ""\n') as server, Wire(server.port) as wire:
        name = upload(server, "1.0")
        for _ in range(4):
            assert wire.ask("GET", f"/simple/demo/{name}").startswith(b"HTTP/1.1 200 ")
        assert hits(server) == 2
        for blob in (tmp_path / "store/blobs").rglob("*"):
            if blob.is_file():
                blob.unlink()
        time.sleep(1.05)
        assert wire.ask("GET", f"/simple/demo/{name}").startswith(b"HTTP/1.1 500 ")


def test_a_storage_that_is_changed_behind_our_back_is_noticed_within_a_second(
    tmp_path: Path, upstream: ScriptedUpstream
) -> None:
    store = tmp_path / "store"
    with LiveServer(store, '[pypi]\nproxy = ""\n') as server, Wire(server.port) as wire:
        upload(server, "1.0")
        shutil.copytree(store / "index", tmp_path / "backup")
        upload(server, "1.1")
        restored = tmp_path / "restored"
        shutil.copytree(store / "index", restored)
        (store / "CHANGES").unlink()
        for _ in range(3):
            assert "demo-1.1-" in wire.page()
        # A third manifest that no Nora wrote here.
        folder = store / "index/pypi/demo"
        third = (
            (folder / "000000000002.json")
            .read_bytes()
            .replace(b'"serial":2', b'"serial":3')
            .replace(b"demo-1.1-", b"demo-9.9-")
        )
        (folder / "000000000003.json").write_bytes(third)
        deadline = time.monotonic() + 1.5
        while "demo-9.9-" not in wire.page():
            assert time.monotonic() < deadline
        # And it goes on: the file that tells of changes is there again.
        upload(server, "1.2")
        assert "demo-1.2-" in wire.page()


def test_a_user_who_is_removed_is_let_in_no_longer_than_without_the_cache(tmp_path: Path) -> None:
    users = tmp_path / "users"
    line = f"alice:{bcrypt.hashpw(b'secret', bcrypt.gensalt(4)).decode()}\n"
    users.write_text(line)
    config = f'[auth]\nenabled = true\nhtpasswd_file = "{users}"\n[pypi]\nproxy = ""\n'
    login = "Authorization: Basic YWxpY2U6c2VjcmV0"
    with LiveServer(tmp_path / "store", config) as server, Wire(server.port) as wire:
        name = upload(server, "1.0", authorization=login.partition(": ")[2])
        paths = ("/simple/demo/", "/simple/", f"/simple/demo/{name}")
        for _ in range(2):
            for path in paths:
                # However slow the machine is, the removal below is to meet an entry that was used.
                before, deadline = hits(server), time.monotonic() + 20
                while hits(server) < before + 3:
                    assert time.monotonic() < deadline
                    assert wire.ask("GET", path, login).startswith(b"HTTP/1.1 200 ")
                assert wire.ask("GET", path).startswith(b"HTTP/1.1 401 ")
            users.write_text("")
            time.sleep(1.05)
            for path in paths:
                assert wire.ask("GET", path, login).startswith(b"HTTP/1.1 401 ")
            users.write_text(line)
            time.sleep(1.05)


# Around it


def test_a_cache_that_is_turned_off_leaves_no_trace(tmp_path: Path) -> None:
    with LiveServer(tmp_path / "store", f'{OFF}[pypi]\nproxy = ""\n') as server, Wire(server.port) as wire:
        upload(server, "1.0")
        for _ in range(3):
            assert "demo-1.0-" in wire.page()
        assert hits(server) == 0
    assert not (tmp_path / "store/CHANGES").exists()


def test_a_storage_without_the_file_that_tells_of_changes_is_served_without_the_cache(tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    with LiveServer(tmp_path / "store", OFF):
        pass
    (tmp_path / "store/CHANGES").mkdir()
    with LiveServer(tmp_path / "store", '[pypi]\nproxy = ""\n') as server, Wire(server.port) as wire:
        for number in range(5):
            upload(server, f"1.{number}")
            assert f"demo-1.{number}-" in wire.page()
        assert hits(server) == 0
        assert server.log().count("changes by other processes cannot be noticed") == 1


@pytest.mark.parametrize("form", ["text", "json"])
def test_the_access_log_has_the_same_lines_with_and_without_the_cache_and_loses_none_at_a_stop(
    tmp_path: Path, form: str
) -> None:
    found = []
    for name, extra in (("one", ""), ("two", OFF)):
        config = f'{extra}[pypi]\nproxy = ""\n[logging]\nformat = "{form}"\n'
        with LiveServer(tmp_path / name, config) as server, Wire(server.port) as wire:
            filename = upload(server, "1.0")
            for number in range(20):
                for path in ("/simple/demo/", f"/simple/demo/{filename}", "/simple/", "/simple/missing/"):
                    wire.ask("GET", path, f"X-Request-ID: r-{number}")
                    wire.ask("HEAD", path, f"X-Request-ID: r-{number}")
            assert (hits(server) > 0) is (not extra)
        lines = [line for line in server.log().splitlines() if re.search(r"\br-\d+\b", line)]
        found.append([re.sub(r'T[0-9:.]+Z|(ms=|"ms": )[0-9.]+', "", line) for line in lines])
    assert len(found[0]) == 20 * 8
    assert found[0] == found[1]


def test_no_answer_is_lost_or_wrong_under_load_and_changes(tmp_path: Path) -> None:
    # Eight clients ask without pause while versions are published; no page ever goes back to an earlier state for a client.
    with LiveServer(tmp_path / "store", '[pypi]\nproxy = ""\n', workers=2) as server:
        upload(server, "1.0")
        published, problems, answered, stop = [0], [], [0], threading.Event()

        def work() -> None:
            connection = http.client.HTTPConnection(HOST, server.port, timeout=30)
            while not stop.is_set():
                before = published[0]
                connection.request("GET", "/simple/demo/", headers={"Accept": JSON_TYPE})
                page = connection.getresponse().read().decode()
                answered[0] += 1
                newest = max(map(int, re.findall(r'"demo-1\.(\d+)-py3', page)))
                if newest < before:
                    problems.append((before, newest))

        threads = [threading.Thread(target=work) for _ in range(8)]
        for thread in threads:
            thread.start()
        for number in range(1, 40):
            upload(server, f"1.{number}")
            published[0] = number
        stop.set()
        for thread in threads:
            thread.join()
        assert problems == []
        assert hits(server, at_least=answered[0] // 3) > answered[0] // 3


# Behind proxies


@pytest.fixture
def proxied(tmp_path: Path) -> Iterator[LiveServer]:
    """A server that believes what comes from 127.0.0.1."""
    with LiveServer(tmp_path / "store", '[server]\ntrusted_proxies = ["127.0.0.1"]\n[pypi]\nproxy = ""\n') as server:
        upload(server, "1.0")
        yield server


def answers_from(address: str, url: str) -> list[httpx.Response]:
    """Four answers, asked for from an address of this machine's, always with the same head."""
    with httpx.Client(transport=httpx.HTTPTransport(local_address=address), trust_env=False) as client:
        fields = {"x-forwarded-proto": "https", "x-forwarded-for": "192.0.2.7"}
        return [client.get(url, headers=fields) for _ in range(4)]


@pytest.mark.parametrize("trusted_first", [True, False])
def test_addresses_in_pages_have_the_scheme_that_a_trusted_proxy_tells(proxied: LiveServer, trusted_first: bool) -> None:
    asked = [("127.0.0.1", {"https"}), ("127.0.0.2", {"http"})]
    for address, expected in asked if trusted_first else reversed(asked):
        pages = [answer.json() for answer in answers_from(address, f"{proxied.url}/pypi/demo/json")]
        assert {page["urls"][0]["url"].partition(":")[0] for page in pages} == expected


@pytest.mark.parametrize("trusted_first", [True, False])
def test_what_a_proxy_says_of_its_client_is_not_believed_of_others_with_the_same_head(
    proxied: LiveServer, trusted_first: bool
) -> None:
    asked = [("127.0.0.1", "192.0.2.7"), ("127.0.0.2", "127.0.0.2")]
    for address, _ in asked if trusted_first else reversed(asked):
        assert {answer.status_code for answer in answers_from(address, f"{proxied.url}/simple/demo/")} == {200}
    assert hits(proxied, at_least=4) >= 4
    proxied.stop()
    clients = [line.partition(" client=")[2].split()[0] for line in proxied.log().splitlines() if "path=/simple/demo/ " in line]
    expected = [client for _, client in (asked if trusted_first else reversed(asked)) for _ in range(4)]
    assert clients == expected
