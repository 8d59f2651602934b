"""Starts, stops and crashes."""

from __future__ import annotations

import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import httpx
import pytest

from nora.testing.live import LiveServer
from nora.testing.packages import make_wheel
from nora.testing.upstream import Reply, ScriptedUpstream, Synthetic

HOSTED_ONLY = '[pypi]\nproxy = ""\n'
FORM = {":action": "file_upload", "protocol_version": "1", "filetype": "bdist_wheel", "metadata_version": "2.1"}


def verify(store: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "nora", "verify", "--storage", str(store)]
    environ = {name: value for name, value in os.environ.items() if not name.startswith("NORA_")}
    return subprocess.run(command, capture_output=True, text=True, cwd=store.parent, env=environ, timeout=120)


def temporary_files(store: Path) -> list[Path]:
    return [path for path in (store / "tmp").rglob("*") if path.is_file() and path.suffix != ".lock"]


@pytest.mark.slow
def test_a_hundred_starts_and_stops_all_end_well(tmp_path: Path) -> None:
    # DUR-3: the signal comes at any moment after the first answer, also right after it.
    jitter = random.Random(0)

    def one(number: int) -> int:
        server = LiveServer(tmp_path / f"store-{number % 2}", HOSTED_ONLY)
        server.start()
        time.sleep(jitter.choice([0, 0, 0.001, 0.01]))
        return server.stop(timeout=20)

    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(one, range(100))) == [0] * 100


def test_the_server_answers_within_two_seconds_of_its_start(tmp_path: Path) -> None:
    with LiveServer(tmp_path / "store", HOSTED_ONLY):
        pass
    begun = time.monotonic()
    with LiveServer(tmp_path / "store", HOSTED_ONLY):
        # Twice the promise: this machine may be busy with other tests.
        assert time.monotonic() - begun < 4


@pytest.mark.parametrize("workers", [1, 2])
def test_a_stop_lets_a_download_in_flight_finish(tmp_path: Path, upstream: ScriptedUpstream, workers: int) -> None:
    # DUR-3
    body = Synthetic(5_000_000)
    filename = "demo-1.0-py3-none-any.whl"
    upstream.add_project("demo", {filename: body})
    upstream.add(f"/files/demo/{filename}", Reply(body, pause_seconds=0.05))
    config = f'[pypi]\nproxy = "{upstream.simple_url}"\n'
    with LiveServer(tmp_path / "store", config, workers=workers) as server:
        received = b""
        with httpx.stream("GET", f"{server.url}/simple/demo/{filename}", timeout=30) as answer:
            pieces = answer.iter_raw(4096)
            received += next(pieces)
            os.kill(server.pid, signal.SIGTERM)
            for piece in pieces:
                received += piece
        assert received == body.read(0, body.size)
        assert server.stop() == 0


def test_a_stop_at_the_limit_breaks_what_is_not_done(tmp_path: Path, upstream: ScriptedUpstream) -> None:
    body = Synthetic(5_000_000)
    filename = "demo-1.0-py3-none-any.whl"
    upstream.add_project("demo", {filename: body})
    upstream.add(f"/files/demo/{filename}", Reply(body, hang_after=1_000_000))
    config = f'[server]\nshutdown_timeout = 1\n[pypi]\nproxy = "{upstream.simple_url}"\n'
    server = LiveServer(tmp_path / "store", config)
    server.start()
    with httpx.stream("GET", f"{server.url}/simple/demo/{filename}", timeout=30) as answer:
        pieces = answer.iter_raw(4096)
        next(pieces)
        begun = time.monotonic()
        assert server.stop(timeout=15) == 0
        assert time.monotonic() - begun < 10
        with pytest.raises(httpx.HTTPError):
            list(pieces)
    assert not temporary_files(tmp_path / "store")


@pytest.mark.parametrize("workers", [1, 2])
def test_a_crash_loses_no_answered_upload_and_leaves_nothing_partial(
    tmp_path: Path, upstream: ScriptedUpstream, workers: int
) -> None:
    # DUR-1, DUR-2
    store = tmp_path / "store"
    proxied = {f"up{number}-1.0-py3-none-any.whl": Synthetic(2_000_000, seed=number) for number in range(20)}
    for number, (filename, body) in enumerate(proxied.items()):
        upstream.add_project(f"up{number}", {filename: body})
        upstream.add(f"/files/up{number}/{filename}", Reply(body, pause_seconds=0.05))
    config = f'[pypi]\nproxy = ""\n[registries.up]\nformat = "pypi"\nproxy = "{upstream.simple_url}"\n'
    wheels = [make_wheel("mine", f"1.{number}", size=300_000) for number in range(20)]
    answered: list[str] = []
    server = LiveServer(store, config, workers=workers)
    server.start()

    def upload(number: int) -> None:
        name, content = wheels[number]
        form = FORM | {"name": "mine", "version": f"1.{number}"}
        with suppress(httpx.HTTPError):
            answer = httpx.post(f"{server.url}/simple/", data=form, files={"content": (name, content)}, timeout=30)
            if answer.status_code == 200:
                answered.append(name)

    def fetch(number: int) -> None:
        with suppress(httpx.HTTPError):
            httpx.get(f"{server.url}/up/simple/up{number}/up{number}-1.0-py3-none-any.whl", timeout=30)

    with ThreadPoolExecutor(40) as pool:
        for number in range(20):
            pool.submit(fetch, number)
            pool.submit(upload, number)
        while not answered:
            time.sleep(0.01)
        server.kill()
    server.stop()
    assert verify(store).returncode == 0, verify(store).stdout
    with LiveServer(store, config, workers=workers) as again:
        assert not temporary_files(store)
        page = httpx.get(f"{again.url}/simple/mine/", headers={"accept": "application/vnd.pypi.simple.v1+json"}).json()
        listed = {file["filename"] for file in page["files"]}
        assert set(answered) <= listed
        contents = dict(wheels)
        for name in listed:
            assert httpx.get(f"{again.url}/simple/mine/{name}").content == contents[name]
        for number, (filename, body) in enumerate(proxied.items()):
            upstream.add(f"/files/up{number}/{filename}", Reply(body))
            fetched = httpx.get(f"{again.url}/up/simple/up{number}/{filename}", timeout=30)
            assert fetched.status_code == 200
            assert fetched.content == body.read(0, body.size)
        for number in range(20):
            upload_again = FORM | {"name": "mine", "version": f"1.{number}"}
            files = {"content": wheels[number]}
            assert httpx.post(f"{again.url}/simple/", data=upload_again, files=files).status_code == 200
    assert verify(store).returncode == 0, verify(store).stdout


def test_verify_finds_a_damaged_blob(tmp_path: Path) -> None:
    store = tmp_path / "store"
    name, content = make_wheel("demo", "1.0")
    with LiveServer(store, HOSTED_ONLY) as server:
        form = FORM | {"name": "demo", "version": "1.0"}
        assert httpx.post(f"{server.url}/", data=form, files={"content": (name, content)}).status_code == 200
    assert verify(store).returncode == 0
    blob = max((path for path in (store / "blobs").rglob("*") if path.is_file()), key=lambda path: path.stat().st_size)
    blob.write_bytes(b"x" + content[1:])
    done = verify(store)
    assert done.returncode == 1
    assert "sha256 is" in done.stdout
    blob.unlink()
    done = verify(store)
    assert done.returncode == 1
    assert "missing" in done.stdout


def test_workers_end_when_their_supervisor_is_killed_and_a_worker_that_dies_is_replaced(tmp_path: Path) -> None:
    # DUR-3
    server = LiveServer(tmp_path / "store", HOSTED_ONLY, workers=2)
    server.start()
    first = server.worker_pids()
    assert len(first) == 2
    os.kill(first[0], signal.SIGKILL)
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline and len(set(server.worker_pids()) - {first[0]}) < 2:
        time.sleep(0.1)
    workers = server.worker_pids()
    assert len(workers) == 2
    assert httpx.get(f"{server.url}/health").status_code == 200
    server.kill()
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline and any(Path(f"/proc/{pid}/exe").exists() for pid in workers):
        time.sleep(0.1)
    assert not any(Path(f"/proc/{pid}/exe").exists() for pid in workers)
    server.stop()


def test_an_upload_in_flight_at_a_stop_is_answered(tmp_path: Path) -> None:
    # DUR-3
    name, content = make_wheel("demo", "1.0", size=500_000)
    request = httpx.Request(
        "POST", "http://x/", data=FORM | {"name": "demo", "version": "1.0"}, files={"content": (name, content)}
    )
    body = request.read()
    server = LiveServer(tmp_path / "store", HOSTED_ONLY)
    server.start()
    with socket.create_connection(("127.0.0.1", server.port)) as connection:
        head = f"POST / HTTP/1.1\r\nHost: x\r\nContent-Type: {request.headers['content-type']}\r\n"
        connection.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body[:100_000])
        time.sleep(0.2)
        stopping = threading.Thread(target=server.stop)
        stopping.start()
        time.sleep(0.3)
        connection.sendall(body[100_000:])
        assert b" 200 OK" in connection.recv(4096)
        stopping.join()
    with LiveServer(tmp_path / "store", HOSTED_ONLY) as server:
        assert httpx.get(f"{server.url}/simple/demo/{name}").content == content
