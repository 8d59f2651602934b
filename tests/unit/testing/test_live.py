"""The server of the test kit, and its clock."""

from __future__ import annotations

import contextlib
import http.client
import os
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from nora.testing import FakeClock, LiveServer, ServerError, live
from nora.testing.live import process_tree

CONFIG = '[pypi]\nproxy = ""\n'


def status_of(server: LiveServer, path: str = "/health") -> int:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=5)
    connection.request("GET", path)
    try:
        return connection.getresponse().status
    finally:
        connection.close()


def wait_until_gone(pids: list[int]) -> list[int]:
    """Those that still live after ten seconds."""
    deadline = time.monotonic() + 10
    while (left := [pid for pid in pids if process_tree(pid)]) and time.monotonic() < deadline:
        time.sleep(0.05)
    return left


def test_server_answers_ends_well_and_leaves_nothing_but_its_storage(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A place of its own: other tests have servers at the same time.
    temporary = tmp_path_factory.mktemp("temporary")
    monkeypatch.setattr(live.tempfile, "tempdir", str(temporary))
    with LiveServer(tmp_path / "storage", CONFIG) as server:
        assert status_of(server) == 200
        assert 10 < server.peak_memory_mb() < 500
        assert server.worker_pids() == [server.pid]
        assert len(list(temporary.iterdir())) == 1
        assert server.stop() == 0
        assert "stopped" in server.log()
        with pytest.raises(ServerError, match="does not run"):
            server.pid  # noqa: B018
        assert server.stop() == 0
    assert "stopped" in server.log()
    assert list(temporary.iterdir()) == []
    assert [path.name for path in tmp_path.iterdir()] == ["storage"]


def test_server_that_cannot_start_tells_why(tmp_path: Path) -> None:
    server = LiveServer(tmp_path / "storage", "[server]\nprot = 1\n")
    with pytest.raises(ServerError, match=r"ended with status 2; its log ends with\n.*did you mean port") as raised:
        server.start()
    assert "Traceback" not in str(raised.value)
    assert not (tmp_path / "storage").exists()


def test_taken_port_is_exchanged_for_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reserved = live._reserved_port
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = [other.getsockname()[1]] * 2

        @contextlib.contextmanager
        def ports() -> Iterator[int]:
            if taken:
                yield taken.pop()
                return
            with reserved() as port:
                yield port

        monkeypatch.setattr(live, "_reserved_port", ports)
        with LiveServer(tmp_path / "storage", CONFIG) as server:
            assert not taken
            assert server.port != other.getsockname()[1]
            assert status_of(server) == 200
        taken += [other.getsockname()[1]] * live.PORT_TRIES
        with pytest.raises(ServerError, match="cannot listen on"):
            LiveServer(tmp_path / "storage", CONFIG).start()


def test_reserved_port_is_nobody_elses_while_it_is_held() -> None:
    with live._reserved_port() as port, socket.socket() as other:
        with pytest.raises(OSError, match="in use"):
            other.bind(("127.0.0.1", port))
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind(("127.0.0.1", port))
        other.listen()


def test_crash_of_the_supervisor_ends_its_workers_and_the_storage_goes_on(tmp_path: Path) -> None:
    server = LiveServer(tmp_path / "storage", CONFIG, workers=2)
    server.start()
    try:
        workers = server.worker_pids()
        assert len(workers) == 2
        server.kill()
        assert wait_until_gone(workers) == []
        server.start()
        assert status_of(server) == 200
        assert set(server.worker_pids()).isdisjoint(workers)
    finally:
        assert server.stop() == 0


def test_server_that_does_not_stop_is_killed(tmp_path: Path) -> None:
    server = LiveServer(tmp_path / "storage", CONFIG)
    server.start()
    pid = server.pid
    os.kill(pid, signal.SIGSTOP)
    with pytest.raises(ServerError, match=r"did not stop within 0\.2 seconds; its log ends with"):
        server.stop(0.2)
    assert process_tree(pid) == {}


def test_error_of_the_test_is_not_hidden_by_a_server_that_does_not_stop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(LiveServer.stop, "__defaults__", (0.2,))

    def freeze_and_fail(server: LiveServer) -> None:
        os.kill(server.pid, signal.SIGSTOP)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), LiveServer(tmp_path / "storage", CONFIG) as server:
        freeze_and_fail(server)


def test_environment_of_the_test_run_does_not_matter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NORA_PORT", "1")
    monkeypatch.setenv("NORA_CONFIG_PATH", "no-such-file")
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("NO_PROXY", "intern.example")
    changes = {"NORA_LOGGING_FORMAT": "json"}
    with LiveServer(tmp_path / "storage", '[pypi]\nproxy = ""\n# ä\n', env=changes) as server:
        assert server.log().startswith("{")
    assert live._environment({})["no_proxy"] == "intern.example,127.0.0.1,localhost"


def test_clock_goes_on_only_when_told() -> None:
    clock = FakeClock()
    first = clock()
    assert clock() == first
    clock.advance(0.5)
    clock.advance(0)
    assert clock() == first + 0.5
    with pytest.raises(ValueError, match="does not go back"):
        clock.advance(-1)
