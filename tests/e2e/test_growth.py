"""A storage with many projects behaves like one with few, and its list of projects is exact all the same."""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from nora.api import Event
from nora.index.manifest import Manifest
from nora.store.directory import DirectoryStore
from nora.testing.live import LiveServer
from nora.testing.packages import make_wheel
from nora.testing.upstream import ScriptedUpstream

COUNT = 10_000
HOSTED_ONLY = '[pypi]\nproxy = ""\n[logging]\naccess = false\n'
JSON = {"accept": "application/vnd.pypi.simple.v1+json"}
FORM = {":action": "file_upload", "protocol_version": "1", "filetype": "bdist_wheel", "metadata_version": "2.1"}


def fill(store: Path, count: int = COUNT) -> None:
    """Projects without files, as the documentation of the layout describes them."""
    asyncio.run(DirectoryStore.open(store).aclose())
    for number in range(count):
        project = f"project-{number:05}"
        folder = store / "index/pypi" / project
        folder.mkdir(parents=True)
        event = Event(action="publish", registry="pypi", project=project, at="2026-01-01T00:00:00Z")
        (folder / "000000000001.json").write_bytes(Manifest(project=project, serial=1, event=event).encode())


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A storage with many projects; each test adds its own."""
    store = tmp_path_factory.mktemp("large") / "store"
    fill(store)
    (store / "index/pypi/ghost").mkdir()
    return store


def listed(client: httpx.Client) -> set[str]:
    return {project["name"] for project in client.get("/simple/", headers=JSON).json()["projects"]}


def upload(client: httpx.Client, name: str, version: str = "1.0") -> None:
    files = {"content": make_wheel(name, version)}
    answer = client.post("/simple/", data=FORM | {"name": name, "version": version}, files=files)
    assert answer.status_code == 200, answer.text


@pytest.mark.parametrize("workers", [1, 2])
def test_among_many_projects_each_upload_is_listed_at_once_by_every_worker(large: Path, workers: int) -> None:
    # HTTP-9, MULTI-3
    with LiveServer(large, HOSTED_ONLY, workers=workers) as server:
        # Many connections, so that all workers are asked.
        clients = [httpx.Client(base_url=server.url, timeout=60) for _ in range(6)]
        expected = {path.name for path in (large / "index/pypi").iterdir() if path.name != "ghost"}
        assert len(expected) >= COUNT
        assert all(listed(client) == expected for client in clients)
        tags = set()
        for number in range(4):
            upload(clients[number], f"new{workers}x{number}")
            expected.add(f"new{workers}x{number}")
            assert all(listed(client) == expected for client in clients)
            found = {client.get("/simple/", headers=JSON).headers["etag"] for client in clients}
            assert len(found) == 1
            tags |= found
        assert len(tags) == 4
        upload(clients[0], f"new{workers}x0", "2.0")  # nothing new in the list
        answer = clients[1].get("/simple/", headers={**JSON, "if-none-match": max(found)})
        assert answer.status_code == 304
        for client in clients:
            client.close()


def test_while_many_projects_begin_each_is_listed_to_whoever_asks_after_it(large: Path) -> None:
    with LiveServer(large, HOSTED_ONLY, workers=2) as server:

        def work(worker: int) -> float:
            slowest = 0.0
            with httpx.Client(base_url=server.url, timeout=60) as client:
                for number in range(5):
                    name = f"stream{worker}x{number}"
                    upload(client, name)
                    begun = time.monotonic()
                    assert name in listed(client)
                    slowest = max(slowest, time.monotonic() - begun)
                    assert client.get(f"/simple/{name}/").status_code == 200
            return slowest

        with ThreadPoolExecutor(4) as pool:
            slowest = max(pool.map(work, range(4)))
        # Not a timed test: lists that were made one after another for each who asks would be seen.
        assert slowest < 10
        with httpx.Client(base_url=server.url, timeout=60) as client:
            assert sum(name.startswith("stream") for name in listed(client)) == 20


def test_a_start_opens_no_project_and_a_list_none_that_was_seen_before(tmp_path: Path) -> None:
    store = tmp_path / "store"
    fill(store, 3000)
    folder = store / "index/pypi"
    with LiveServer(store, HOSTED_ONLY) as server, httpx.Client(base_url=server.url, timeout=60) as client:
        assert len(listed(client)) == 3000
    # A project that must not be looked at, and a list that would need it: whoever looked would find that it is none.
    for path in list((folder / "project-00042").iterdir()):
        path.unlink()
    with LiveServer(store, HOSTED_ONLY) as server, httpx.Client(base_url=server.url, timeout=60) as client:
        upload(client, "new")
        names = listed(client)
        assert {"new", "project-00042"} <= names
        assert len(names) == 3001
        assert client.get("/simple/project-00042/").status_code == 404


def test_projects_of_upstreams_are_listed_at_once_here_and_soon_elsewhere(tmp_path: Path, upstream: ScriptedUpstream) -> None:
    store = tmp_path / "store"
    for number in range(10):
        upstream.add_project(f"held{number}", {f"held{number}-1.0.tar.gz": b"x"})
    config = f'[pypi]\nproxy = "{upstream.simple_url}"\n'
    with LiveServer(store, config, workers=2) as server:
        clients = [httpx.Client(base_url=server.url, timeout=60) for _ in range(6)]
        expected = set()
        for number in range(10):
            client = clients[number % 6]
            assert client.get(f"/simple/held{number}/").status_code == 200
            expected.add(f"held{number}")
            assert f"held{number}" in listed(client)
        deadline = time.monotonic() + 30
        while not all(listed(client) == expected for client in clients):
            assert time.monotonic() < deadline
            time.sleep(0.2)
        for client in clients:
            client.close()
