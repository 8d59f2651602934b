"""Other package indexes. Each is optional, and looked for in a virtual environment of its own: ``FOLDER/<distribution>/bin``."""

from __future__ import annotations

import json
import subprocess
from base64 import b64encode
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.request import ProxyHandler, Request, build_opener

from benchmarks import programs
from benchmarks.connection import HOST
from benchmarks.data import Project, link
from benchmarks.servers import Program

PREPARE_SECONDS = 60


@dataclass(frozen=True)
class Peer:
    """A peer of the field: its distribution, the program that is looked for, and what to install it with."""

    distribution: str
    program: str
    packages: str
    description: str


PEERS = (
    Peer("pypiserver", "pypi-server", "'pypiserver[cache]' waitress", "one folder with all files, cached listing, waitress"),
    Peer("devpi-server", "devpi-server", "devpi-server", "pages and files from a mirror index, uploads to a stage index"),
    Peer("proxpi", "gunicorn", "proxpi gunicorn", "a caching proxy, gunicorn with one process of eight threads"),
    Peer("simple-repository-server", "simple-repository-server", "simple-repository-server", "a folder; a proxy in cold rows"),
)


def installed(peer: Peer, folder: Path | None) -> Path | None:
    """Where a peer's programs are, if it is installed."""
    if folder is None:
        return None
    programs_folder = folder.absolute() / peer.distribution / "bin"
    return programs_folder if (programs_folder / peer.program).exists() else None


def version(peer: Peer, binaries: Path) -> str:
    """The installed version."""
    code = f"from importlib.metadata import version; print(version({peer.distribution!r}))"
    done = subprocess.run(
        [binaries / "python", "-c", code], capture_output=True, text=True, check=True, timeout=PREPARE_SECONDS
    )
    return done.stdout.strip()


class Pypiserver(Program):
    """Serves one flat folder."""

    name = "pypiserver"
    health = "/health"
    upload_path = "/"

    def __init__(self, folder: Path, binaries: Path, projects: Iterable[Project]) -> None:
        super().__init__(folder)
        self._binaries = binaries
        self._files = folder / "files"
        self._files.mkdir(parents=True)
        for project in projects:
            for file in project.files:
                link(file, self._files / file.name)

    def command(self) -> list[str]:
        options = ["-p", str(self.port), "-i", HOST, "-P", ".", "-a", ".", "--overwrite", "--disable-fallback"]
        return [str(self._binaries / "pypi-server"), "run", *options, str(self._files)]


class Devpi(Program):
    """A mirror index of the upstream, and an index for uploads."""

    name = "devpi-server"
    health = "/+status"
    install_path = "/root/mirror/+simple/"
    upload_path = "/root/hosted/"

    def __init__(self, folder: Path, binaries: Path, upstream: str) -> None:
        super().__init__(folder)
        self._binaries, self._upstream = binaries, upstream

    def prepare(self) -> None:
        if (self.folder / "data").exists():
            return
        command = [str(self._binaries / "devpi-init"), "--serverdir", str(self.folder / "data"), "--no-root-pypi"]
        subprocess.run(command, check=True, capture_output=True, timeout=PREPARE_SECONDS, env=programs.environment())

    def command(self) -> list[str]:
        return [
            str(self._binaries / "devpi-server"),
            *("--serverdir", str(self.folder / "data"), "--host", HOST, "--port", str(self.port)),
            *("--mirror-cache-expiry", "3600"),
        ]

    def make_indexes(self) -> None:
        """Once, when it runs."""
        login = self._call("POST", "/+login", {"user": "root", "password": ""}, {})
        token = b64encode(f"root:{login['result']['password']}".encode()).decode()
        mirror = {"type": "mirror", "mirror_url": self._upstream, "volatile": False}
        hosted = {"type": "stage", "bases": [], "volatile": True, "acl_upload": [":ANONYMOUS:"]}
        for name, options in (("mirror", mirror), ("hosted", hosted)):
            self._call("PUT", f"/root/{name}", options, {"X-Devpi-Auth": token})

    def _call(self, method: str, path: str, content: Mapping[str, Any], fields: Mapping[str, str]) -> Any:
        fields = {"Content-Type": "application/json", "Accept": "application/json", **fields}
        request = Request(f"http://{HOST}:{self.port}{path}", json.dumps(content).encode(), fields, method=method)
        with build_opener(ProxyHandler({})).open(request, timeout=PREPARE_SECONDS) as answer:
            return json.load(answer)


class Proxpi(Program):
    """A proxy that keeps pages in memory and files in a folder."""

    name = "proxpi"
    health = "/health"
    install_path = "/index/"

    def __init__(self, folder: Path, binaries: Path, upstream: str) -> None:
        super().__init__(folder)
        self._binaries, self._upstream = binaries, upstream

    def environ(self) -> Mapping[str, str]:
        # Without the longer time it sends clients of large files to the upstream.
        wanted = {"PROXPI_INDEX_URL": self._upstream, "PROXPI_DOWNLOAD_TIMEOUT": "60", "PROXPI_LOGGING_LEVEL": "WARNING"}
        return {**wanted, "PROXPI_CACHE_DIR": str(self.folder / "cache")}

    def command(self) -> list[str]:
        options = ["--workers", "1", "--threads", "8", "--keep-alive", "60", "--bind", f"{HOST}:{self.port}"]
        return [str(self._binaries / "gunicorn"), *options, "proxpi.server:app"]


class SimpleRepository(Program):
    """Serves a folder with a folder for each project, or passes an upstream's pages and files on."""

    name = "simple-repository-server"

    def __init__(self, folder: Path, binaries: Path, projects: Iterable[Project] = (), *, upstream: str = "") -> None:
        super().__init__(folder)
        self._binaries = binaries
        self._files = folder / "files"
        self._files.mkdir(parents=True)
        self._arguments = ["--stream-http-resources", upstream] if upstream else [str(self._files)]
        for project in projects:
            (self._files / project.name).mkdir()
            for file in project.files:
                link(file, self._files / project.name / file.name)

    def command(self) -> list[str]:
        # It has no option for quiet; what it logs goes to a file, as with the others.
        return [str(self._binaries / "simple-repository-server"), "--host", HOST, "--port", str(self.port), *self._arguments]
