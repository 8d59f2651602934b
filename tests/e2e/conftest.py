"""Real servers, real clients."""

from __future__ import annotations

import hashlib
import os
import re
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from nora.testing.live import LiveServer
from nora.testing.upstream import ScriptedUpstream


@dataclass(frozen=True)
class Ran:
    """What a client's process did."""

    status: int
    output: str


@dataclass(frozen=True)
class Clients:
    """Runs the packaging tools of the test environment, without any configuration of this machine's."""

    home: Path

    def run(self, *command: str, env: dict[str, str] | None = None, cwd: Path | None = None, timeout: float = 300) -> Ran:
        """Run a command and return its exit status and output, both streams together."""
        kept = ("PATH", "SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "LANG")
        environ = {name: os.environ[name] for name in kept if name in os.environ}
        environ |= {"HOME": str(self.home), "PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_NO_INPUT": "1", "NO_COLOR": "1"}
        environ |= {"PYTHON_KEYRING_BACKEND": "keyring.backends.null.Keyring", "no_proxy": "127.0.0.1", **(env or {})}
        done = subprocess.run(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=environ,
            cwd=cwd or self.home,
            timeout=timeout,
        )
        return Ran(done.returncode, done.stdout)

    def tool(self, name: str, *arguments: str, env: dict[str, str] | None = None, cwd: Path | None = None) -> Ran:
        """Run a program that is installed beside this interpreter."""
        return self.run(str(Path(sys.executable).parent / name), *arguments, env=env, cwd=cwd)

    def venv(self, name: str) -> Path:
        """A new virtual environment, empty; returns its interpreter."""
        folder = self.home / name
        made = self.tool("uv", "venv", "--no-config", "--offline", "--python", sys.executable, str(folder))
        assert made.status == 0, made.output
        return folder / "bin" / "python"

    def pip(self, python: Path, *arguments: str) -> Ran:
        """pip for an environment, without a cache."""
        return self.run(sys.executable, "-m", "pip", "--python", str(python), "--no-cache-dir", *arguments)

    def pip_install(self, python: Path, index_url: str, *packages: str) -> Ran:
        """``pip install`` without a cache."""
        return self.pip(python, "install", "--index-url", index_url, *packages)

    def uv_install(self, python: Path, index_url: str, *packages: str) -> Ran:
        """``uv pip install`` without a cache."""
        return self.tool(
            "uv", "pip", "install", "--no-cache", "--no-config", "--python", str(python), "--index-url", index_url, *packages
        )


@pytest.fixture
def clients(tmp_path: Path) -> Clients:
    home = tmp_path / "home"
    home.mkdir()
    return Clients(home)


@pytest.fixture
def upstream() -> Iterator[ScriptedUpstream]:
    scripted = ScriptedUpstream()
    with scripted.run_in_thread():
        yield scripted


@pytest.fixture
def dist(tmp_path: Path) -> Path:
    folder = tmp_path / "dist"
    folder.mkdir()
    return folder


@pytest.fixture(scope="module")
def scripted() -> Iterator[ScriptedUpstream]:
    """One upstream for all tests of a module."""
    upstream = ScriptedUpstream()
    with upstream.run_in_thread():
        yield upstream


def _download(connection: socket.socket, path: str) -> tuple[int, str]:
    """Fetch with as little work as possible; returns length and sha256 of the body."""
    buffer, known, length = bytearray(1 << 20), hashlib.sha256(), 0
    with connection:
        connection.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        received = b""
        while b"\r\n\r\n" not in received:
            received += connection.recv(65536)
        head, _, body = received.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200"), head
        known.update(body)
        length = len(body)
        while count := connection.recv_into(buffer):
            known.update(memoryview(buffer)[:count])
            length += count
    return length, known.hexdigest()


@pytest.fixture(scope="session")
def download() -> Callable[[socket.socket, str], tuple[int, str]]:
    """Fetches a file over a connection, with as little work as possible: its length and sha256."""
    return _download


def _statuses(server: LiveServer, *pieces: bytes) -> tuple[list[int], bool]:
    received, closed = b"", False
    with socket.create_connection(("127.0.0.1", server.port), timeout=5) as connection:
        try:
            for piece in pieces:
                connection.sendall(piece)
            # A request of our own ends the connection, if it is still read: nobody has to wait for a silence.
            connection.sendall(b"GET /health?last HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            while piece := connection.recv(65536):
                received += piece
            closed = True
        except ConnectionError:
            closed = True
        except TimeoutError:
            pass
    # None of the bodies that are asked for holds such a line.
    return [int(status) for status in re.findall(rb"HTTP/1\.1 ([0-9]{3}) ", received)], closed


@pytest.fixture(scope="session")
def statuses() -> Callable[..., tuple[list[int], bool]]:
    """Sends bytes to a server: the statuses of its answers until it closes the connection or says no more; and whether it has closed it."""
    return _statuses
