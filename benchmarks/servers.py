"""The servers that are measured: how each is started and stopped, and where it has pages and files."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Self
from urllib.parse import quote, unquote, urljoin, urlsplit

from benchmarks import programs
from benchmarks.connection import HOST, CannotMeasureError, Connection, Request
from benchmarks.loads import Target, probe
from nora.testing.live import LiveServer, process_tree

START_SECONDS = 60.0
STOP_SECONDS = 15.0
POLL_SECONDS = 0.005
HREF = re.compile(r'href="([^"#]+)')


class Server(ABC):
    """A server that runs while it is entered.

    Attributes:
        name: In the tables.
        port: Where it listens.
        start_seconds: From the start of its process to its first answer.
        health: Path of something small that always answers; "" if it has none.
        install_path: What an installer is given as index.
        upload_path: Where uploads go; "" if it takes none.
    """

    name = ""
    health = ""
    install_path = "/simple/"
    upload_path = ""

    def __init__(self) -> None:
        self.port = 0
        self.start_seconds = 0.0

    @abstractmethod
    def __enter__(self) -> Self:
        """Start it; it answers from then on."""

    @abstractmethod
    def __exit__(self, *_: object) -> None:
        """Stop it."""

    @abstractmethod
    def roots(self) -> list[int]:
        """Process ids of what was started; all that descends from them counts, too."""

    def page(self, project: str, form: str, *, gzip: bool = False) -> Request:
        """A project's page."""
        return Request(f"{self.install_path}{project}/", form, gzip)

    def listing(self, form: str, *, gzip: bool = False) -> Request:
        """The list of projects."""
        return Request(self.install_path, form, gzip)

    def file(self, project: str, filename: str) -> Request:
        """A file, by what the project's page says."""
        page = self.page(project, "HTML")
        _, body = probe(self.port, page)
        for link in HREF.findall(body.decode()):
            path = urlsplit(urljoin(page.path, link)).path
            if unquote(path).endswith(f"/{filename}"):
                return Request(path)
        raise CannotMeasureError("its page does not have the file")

    def target(self, request: Request, *, status: int = 200, length: int | None = None) -> Target:
        """A request to this server, for a load."""
        return Target(self.port, request, self.roots, status, length)


class Nora(Server):
    """Nora in a process of its own, or several. ``more`` are further tables of its configuration."""

    health = "/health"
    upload_path = "/legacy/"

    def __init__(
        self,
        storage: Path,
        *,
        upstream: str = "",
        workers: int = 1,
        access_log: bool = False,
        more: str = "",
        name: str = "nora",
    ) -> None:
        super().__init__()
        self.name = name
        config = f'[pypi]\nproxy = "{upstream}"\n[logging]\naccess = {str(access_log).lower()}\n{more}'
        self._live = LiveServer(storage, config, workers=workers)

    def __enter__(self) -> Self:
        started = time.perf_counter()
        self._live.start()
        self.start_seconds = time.perf_counter() - started
        self.port = self._live.port
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def roots(self) -> list[int]:
        return [self._live.pid]

    def file(self, project: str, filename: str) -> Request:
        return Request(f"/simple/{project}/{quote(filename)}")


class Program(Server):
    """A server that is some other program."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder = folder
        self._process: subprocess.Popen[bytes] | None = None

    @abstractmethod
    def command(self) -> list[str]:
        """What to run so that it listens on ``self.port`` and stays in the foreground."""

    def environ(self) -> Mapping[str, str]:
        """Further environment variables."""
        return {}

    def prepare(self) -> None:
        """What is to be done before each start."""

    def __enter__(self) -> Self:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.port = free_port()
        self.prepare()
        with (self.folder / "server.log").open("ab") as log:
            started = time.perf_counter()
            self._process = subprocess.Popen(
                self.command(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.folder,
                env={**programs.environment(), "HOME": str(self.folder), **self.environ()},
            )
        try:
            self._wait(self._process)
        except BaseException:
            self.__exit__()
            raise
        self.start_seconds = time.perf_counter() - started
        return self

    def __exit__(self, *_: object) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        descended = process_tree(process.pid)
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(STOP_SECONDS)
        process.kill()
        process.wait()
        for pid, started in descended.items():
            if process_tree(pid).get(pid) == started:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)

    def roots(self) -> list[int]:
        assert self._process is not None, "it does not run"
        return [self._process.pid]

    def _wait(self, process: subprocess.Popen[bytes]) -> None:
        """Until it answers anything."""
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            if process.poll() is not None:
                raise CannotMeasureError(f"it ended with status {process.returncode}: {self._last_line()}")
            with contextlib.suppress(OSError, CannotMeasureError), Connection(self.port) as connection:
                connection.get(Request(self.health or "/"))
                return
            time.sleep(POLL_SECONDS)
        raise CannotMeasureError(f"it did not answer within {START_SECONDS:g} seconds")

    def _last_line(self) -> str:
        lines = (self.folder / "server.log").read_text(errors="replace").splitlines()
        return lines[-1] if lines else "it said nothing"


class Nginx(Program):
    """nginx with one worker, serving a folder. Below ``/gz/`` are the same pages, compressed beforehand."""

    name = "nginx"
    health = "/health"

    def __init__(self, folder: Path, binary: str, *, access_log: bool = False, name: str = "nginx") -> None:
        super().__init__(folder / name)
        self.name, self._binary, self._access_log = name, binary, access_log
        self.root = folder / "root"
        self.root.mkdir(parents=True, exist_ok=True)
        (self.root / "health").write_text("ok\n")

    def prepare(self) -> None:
        # "user" so that root's temporary folders can be read; only root may say it.
        user = "user root;" if os.geteuid() == 0 else ""
        log = f"{self.folder}/access.log" if self._access_log else "off"
        places = [f"{kind}_temp_path {self.folder}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")]
        (self.folder / "nginx.conf").write_text(
            f"""{user}
worker_processes 1;
daemon off;
pid {self.folder}/pid;
error_log {self.folder}/error.log;
events {{ worker_connections 512; }}
http {{
    types {{ text/html html; application/vnd.pypi.simple.v1+json json; }}
    default_type application/octet-stream;
    access_log {log};
    sendfile on;
    keepalive_requests 100000000;
    {" ".join(places)}
    server {{
        listen {HOST}:{self.port};
        root {self.root};
        index index.html;
        location /gz/ {{ add_header Content-Encoding gzip; add_header Vary "Accept, Accept-Encoding"; }}
    }}
}}
"""
        )

    def command(self) -> list[str]:
        return [self._binary, "-p", str(self.folder), "-c", str(self.folder / "nginx.conf")]

    def page(self, project: str, form: str, *, gzip: bool = False) -> Request:
        return Request(f"{'/gz' if gzip else ''}/simple/{project}/index.{form.lower()}", form, gzip)

    def listing(self, form: str, *, gzip: bool = False) -> Request:
        return Request(f"{'/gz' if gzip else ''}/simple/index.{form.lower()}", form, gzip)

    def file(self, project: str, filename: str) -> Request:
        return Request(f"/simple/{project}/{quote(filename)}")


class Upstream(Server):
    """The index that Nora and the other proxies fetch from."""

    name = "upstream, asked directly"

    def __init__(self, root: Path) -> None:
        super().__init__()
        self._root = root
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Self:
        self._process = programs.start("upstream", self._root)
        assert self._process.stdout is not None
        self.port = int(self._process.stdout.readline())
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.communicate()

    @property
    def url(self) -> str:
        """What others are configured with."""
        return f"http://{HOST}:{self.port}/simple/"

    def roots(self) -> list[int]:
        assert self._process is not None, "it does not run"
        return [self._process.pid]

    def file(self, project: str, filename: str) -> Request:
        return Request(f"/files/{project}/{quote(filename)}")


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as holder:
        holder.bind((HOST, 0))
        port: int = holder.getsockname()[1]
        return port
