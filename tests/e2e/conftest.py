"""Real servers, real clients."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

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
