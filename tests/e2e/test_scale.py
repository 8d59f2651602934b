"""Many clients at once and files that are larger than any memory."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from nora.testing.live import LiveServer
from nora.testing.packages import make_wheel_file
from nora.testing.upstream import Reply, ScriptedUpstream, Synthetic, sha256_of

GIGABYTE = 1_000_000_000
MAX_MEMORY_MB = 150


def config(upstream: ScriptedUpstream) -> str:
    return f'[pypi]\nproxy = "{upstream.simple_url}"\n[logging]\naccess = false\n'


def connect(server: LiveServer) -> socket.socket:
    return socket.create_connection(("127.0.0.1", server.port))


def test_fifty_clients_make_one_request_for_a_page_and_one_for_a_file(
    tmp_path: Path, upstream: ScriptedUpstream, download: Any
) -> None:
    # CACHE-6, CACHE-9
    body = Synthetic(50_000_000)
    filename = "demo-1.0-py3-none-any.whl"
    upstream.add_project("demo", {filename: body}, delay_seconds=0.3)

    async def ask() -> None:
        limits = httpx.Limits(max_connections=60)
        async with httpx.AsyncClient(base_url=server.url, timeout=60, limits=limits) as client:
            pages = await asyncio.gather(*(client.get("/simple/demo/") for _ in range(50)))
            assert {page.status_code for page in pages} == {200}
            assert len({page.content for page in pages}) == 1

    with LiveServer(tmp_path / "store", config(upstream)) as server:
        asyncio.run(ask())
        with ThreadPoolExecutor(50) as pool:
            results = list(pool.map(lambda _: download(connect(server), f"/simple/demo/{filename}"), range(50)))
        assert set(results) == {(body.size, sha256_of(body))}
        assert upstream.count("/simple/demo/") == 1
        assert upstream.count(f"/files/demo/{filename}") == 1
        assert server.peak_memory_mb() < MAX_MEMORY_MB


@pytest.mark.slow
def test_memory_stays_bounded_while_eight_clients_fetch_a_gigabyte(
    tmp_path: Path, upstream: ScriptedUpstream, download: Any
) -> None:
    body = Synthetic(GIGABYTE)
    filename = "demo-1.0-py3-none-any.whl"
    upstream.add_project("demo", {filename: body})
    digest = sha256_of(body)
    with LiveServer(tmp_path / "store", config(upstream)) as server:
        for _ in ("cold", "warm"):
            with ThreadPoolExecutor(8) as pool:
                results = list(pool.map(lambda _: download(connect(server), f"/simple/demo/{filename}"), range(8)))
            assert set(results) == {(GIGABYTE, digest)}
            assert server.peak_memory_mb() < MAX_MEMORY_MB
        assert upstream.count(f"/files/demo/{filename}") == 1


@pytest.mark.slow
def test_memory_stays_bounded_during_an_upload_of_two_gigabytes(tmp_path: Path) -> None:
    # UP-19
    wheel = make_wheel_file(tmp_path, "huge", "1.0", size_bytes=2_000_000_000, compressible=True)
    form = {":action": "file_upload", "protocol_version": "1", "name": "huge", "version": "1.0"}
    form |= {"filetype": "bdist_wheel", "metadata_version": "2.1"}
    boundary = "b0undary"
    fields = "".join(
        f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n' for name, value in form.items()
    )
    fields += f'--{boundary}\r\nContent-Disposition: form-data; name="content"; filename="{wheel.name}"\r\n\r\n'
    end = f"\r\n--{boundary}--\r\n".encode()

    def body() -> Iterator[bytes]:
        yield fields.encode()
        with wheel.open("rb") as file:
            while piece := file.read(1 << 20):
                yield piece
        yield end

    length = len(fields.encode()) + wheel.stat().st_size + len(end)
    headers = {"content-type": f"multipart/form-data; boundary={boundary}", "content-length": str(length)}
    with LiveServer(tmp_path / "store", '[pypi]\nproxy = ""\n') as server:
        slowest = 0.0
        stop = threading.Event()

        def watch() -> None:
            nonlocal slowest
            with httpx.Client(timeout=30) as client:
                while not stop.wait(0.05):
                    slowest = max(slowest, client.get(f"{server.url}/health").elapsed.total_seconds())

        watcher = threading.Thread(target=watch)
        watcher.start()
        try:
            answer = httpx.post(f"{server.url}/simple/", content=body(), headers=headers, timeout=300)
        finally:
            stop.set()
            watcher.join()
        assert answer.status_code == 200, answer.text
        assert server.peak_memory_mb() < MAX_MEMORY_MB
        # Not a timed test: a loop that was blocked for the length of the upload would be seen.
        assert slowest < 5
        assert httpx.head(f"{server.url}/simple/huge/{wheel.name}").headers["content-length"] == str(wheel.stat().st_size)


def test_a_client_that_leaves_does_not_stop_the_others(tmp_path: Path, upstream: ScriptedUpstream, download: Any) -> None:
    # PROXY-19
    body = Synthetic(20_000_000)
    filename = "demo-1.0-py3-none-any.whl"
    upstream.add_project("demo", {filename: body})

    upstream.add(f"/files/demo/{filename}", Reply(body, pause_seconds=0.01))
    with LiveServer(tmp_path / "store", config(upstream)) as server:
        with socket.create_connection(("127.0.0.1", server.port)) as leaving:
            leaving.sendall(f"GET /simple/demo/{filename} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            assert leaving.recv(1000).startswith(b"HTTP/1.1 200")
            with ThreadPoolExecutor(1) as pool:
                staying = pool.submit(download, connect(server), f"/simple/demo/{filename}")
                leaving.close()
                assert staying.result() == (body.size, sha256_of(body))
        assert upstream.count(f"/files/demo/{filename}") == 1
