"""A format under test: what its author says of it, and real servers to run it in."""

from __future__ import annotations

import contextlib
import http.client
import itertools
import json
import os
import shutil
import socket
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import unquote

import httpx

from nora.api import Format
from nora.testing.live import LiveServer

USER = ("contract", "contract-password")
HTPASSWD = "contract:$2b$04$tzc4VOt0sdYR7LEwtd3Ii.vSjgL9OIEgPkiBO/P7NCUCYePUZ0ePW\n"
WORKERS = 2
MAX_CONNECTIONS = 100
OF_THE_MOMENT = ("date", "x-request-id", "connection")


class FormatUnderTest(ABC):
    """How a format is spoken to, as its author says, and the servers that tests of it run against.

    The hooks are asked anew for every test, so they must not rely on what another call left in the instance. ``project`` is
    of lower-case letters, digits and ``-``, ``version`` of three numbers, unless a test is hostile on purpose. Clients have the
    registry's address as their ``base_url``, so paths are relative to where the registry is mounted; none begins with ``/``.
    The plugin must be installed, or made visible by :meth:`env`, since the servers find it by its entry point.
    """

    server: ClassVar[LiveServer]
    folder: ClassVar[Path]
    _numbers: ClassVar[Iterator[int]] = itertools.count(1)

    @abstractmethod
    def format(self) -> Format:
        """The format under test, as its plugin registers it."""

    @abstractmethod
    def example(self, project: str, version: str, variant: int = 0) -> bytes:
        """A file's content that may be published as this version; other bytes for each ``variant``."""

    @abstractmethod
    def publish(self, client: httpx.Client, project: str, version: str, content: bytes) -> httpx.Response:
        """Publish as the format's own clients do; the answer, whatever it is, comes back as it is."""

    @abstractmethod
    def file_path(self, project: str, version: str) -> str:
        """Where the file that :meth:`publish` makes is fetched from."""

    @abstractmethod
    def page_path(self, project: str) -> str:
        """Where the project's files are listed."""

    def config(self) -> Mapping[str, Any]:
        """Keys of the registry's table besides ``format``; a proxying format turns its upstream off."""
        return {}

    def env(self) -> Mapping[str, str]:
        """Environment variables of the servers, such as ``PYTHONPATH``."""
        return {}

    def page_shows(self, page: httpx.Response, project: str, version: str) -> bool:
        """Whether a page lists a version's file: its name is somewhere in the text, unless a format knows better."""
        return self.file_path(project, version).rpartition("/")[2] in unquote(page.text)

    def upload_request(self, project: str, version: str) -> httpx.Request:
        """The request that carries the content; for tests that send it badly. Taken from :meth:`publish` without a server."""
        sent: list[httpx.Request] = []

        def remember(request: httpx.Request) -> httpx.Response:
            request.read()
            sent.append(request)
            return httpx.Response(200)

        with httpx.Client(base_url=f"{self.server.url}/one/", transport=httpx.MockTransport(remember)) as client:
            self.publish(client, project, version, self.example(project, version))
        return max(sent, key=lambda request: len(request.content))

    # How the tests run.

    @classmethod
    def setup_class(cls) -> None:
        """One server with two processes and two registries for all tests that need no other."""
        cls.folder = Path(tempfile.mkdtemp(prefix="nora-contract-"))
        cls.server = cls().make_server("shared", workers=WORKERS)
        try:
            cls.server.start()
        except BaseException:
            shutil.rmtree(cls.folder, ignore_errors=True)
            raise

    @classmethod
    def teardown_class(cls) -> None:
        """No test may have made the server stumble."""
        try:
            status = cls.server.stop()
        finally:
            shutil.rmtree(cls.folder, ignore_errors=True)
        assert status == 0, f"the server ended with status {status}:\n{cls.server.log()}"
        assert "Traceback" not in cls.server.log(), cls.server.log()

    def make_server(self, storage: str, settings: str = "", *, workers: int = 1, **keys: Any) -> LiveServer:
        """A server, not started, with the registries ``one`` and ``two``.

        ``settings`` are further tables in TOML, ``keys`` further keys of both registries.
        """
        keys = {"format": self.format().name, **self.config(), **keys}
        # A text, number, truth value or list of texts looks the same in JSON and in TOML.
        table = "".join(f"{key} = {json.dumps(value, ensure_ascii=False)}\n" for key, value in keys.items())
        implicit = f"[{self.format().name}]\nenabled = false\n" if self.format().implicit else ""
        config = f"{settings}{implicit}[registries.one]\n{table}[registries.two]\n{table}"
        return LiveServer(self.folder / storage / "storage", config, env=self.env(), workers=workers)

    def client(
        self, registry: str = "one", *, server: LiveServer | None = None, auth: tuple[str, str] | None = None
    ) -> httpx.Client:
        """A client of one registry, with ``auth`` as user name and password. It takes no redirect and no proxy."""
        url = f"{(server or self.server).url}/{registry}/"
        return httpx.Client(base_url=url, auth=auth, trust_env=False, timeout=30, headers={"accept-encoding": "identity"})

    def new_project(self) -> str:
        """A name that no other test uses."""
        return f"contract-{next(self._numbers)}"

    def published(self, client: httpx.Client, project: str, version: str = "1.0.0", variant: int = 0) -> bytes:
        """Publish an example with success; returns its bytes."""
        content = self.example(project, version, variant)
        expect(self.publish(client, project, version, content), 200, 201)
        return content

    @contextlib.contextmanager
    def client_of_each_worker(self) -> Iterator[list[httpx.Client]]:
        """Clients whose connections are known to be held by different processes; where that cannot be told, many clients."""
        workers = self.server.worker_pids()
        with contextlib.ExitStack() as stack:
            found: dict[int, httpx.Client] = {}
            for number in range(MAX_CONNECTIONS):
                before = {pid: open_sockets(pid) for pid in workers}
                client = stack.enter_context(self.client())
                expect(client.get(f"{self.server.url}/health"), 200)
                grown = [pid for pid in workers if open_sockets(pid) > before[pid]]
                found.setdefault(grown[0] if grown else -number, client)
                if workers and set(workers) <= set(found):
                    yield [found[pid] for pid in workers]
                    return
            assert not workers, f"{MAX_CONNECTIONS} connections reached {list(found)} of the processes {workers}"
            yield list(found.values())

    @property
    def server_folder(self) -> Path:
        """The folder around the shared server's storage."""
        return self.folder / "shared"

    def outline(self) -> set[Path]:
        """What is there besides the contents of projects."""
        return {path for pattern in ("*", "storage/*", "storage/*/*") for path in self.server_folder.glob(pattern)}

    @contextlib.contextmanager
    def secured_server(self, storage: str, *, anonymous_read: bool) -> Iterator[LiveServer]:
        """A running server that knows :data:`USER` only."""
        users = self.folder / f"{storage}.htpasswd"
        users.write_text(HTPASSWD)
        flags = f"enabled = true\nanonymous_read = {json.dumps(anonymous_read)}\nhtpasswd_file = {json.dumps(str(users))}\n"
        with self.make_server(storage, f"[auth]\n{flags}") as server:
            yield server

    def at_once(self, project: str, uploads: list[tuple[str, bytes]]) -> list[httpx.Response]:
        """Publish these versions and contents at the same time, over a connection each."""

        def work(upload: tuple[str, bytes]) -> httpx.Response:
            with self.client() as client:
                return self.publish(client, project, *upload)

        with ThreadPoolExecutor(len(uploads)) as pool:
            return list(pool.map(work, uploads))


def expect(answer: httpx.Response, *statuses: int) -> httpx.Response:
    """The answer itself, if its status is one of these; else an error that tells what the server said."""
    told = f"{answer.request.method} {answer.request.url}: {answer.status_code} instead of {statuses}: {answer.text[:500]}"
    assert answer.status_code in statuses, told
    return answer


def lasting_fields(answer: httpx.Response) -> dict[str, str]:
    """Fields that do not differ from one answer to the next."""
    return {name: value for name, value in answer.headers.items() if name not in OF_THE_MOMENT}


def head_of(request: httpx.Request) -> bytes:
    """A request's head as it goes over the wire."""
    fields = b"".join(name + b": " + value + b"\r\n" for name, value in request.headers.raw)
    return request.method.encode() + b" " + request.url.raw_path + b" HTTP/1.1\r\n" + fields + b"\r\n"


def exchange(server: LiveServer, wire: bytes, *, end: bool = False) -> tuple[int, http.client.HTTPMessage, bytes]:
    """Status, fields and body of the answer to these very bytes. With ``end`` nothing more is announced to come."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as connection:
        connection.sendall(wire)
        if end:
            connection.shutdown(socket.SHUT_WR)
        answer = http.client.HTTPResponse(connection)
        answer.begin()
        return answer.status, answer.headers, answer.read()


def open_sockets(pid: int) -> int:
    """How many sockets a process has open. Linux only."""
    count = 0
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError):
            count += os.readlink(descriptor).startswith("socket:")
    return count
