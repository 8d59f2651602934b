"""A real server in a thread of its own, and a client that sees every byte."""

from __future__ import annotations

import asyncio
import gzip
import os
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import pytest
import trustme
import uvloop
from sanic.response import text

from nora.api import Content, NotFound, Page, RegistryBlueprint
from nora.auth.access import Access, Rules
from nora.context import Standing, current_request
from nora.http.app import Mount, Readiness, build_app
from nora.http.dispatch import Dispatcher
from nora.http.fast import HeldPages
from nora.http.protocol import HeldProtocol
from nora.http.runner import listening_socket, serve

LOOPS = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}


class CutError(Exception):
    """The server ended the connection within an answer."""


@dataclass
class Answer:
    """An answer as it came over the wire."""

    status: int
    reason: str
    fields: list[tuple[str, str]]
    body: bytes = b""

    def __getitem__(self, name: str) -> str | None:
        """A field's value; several are one list."""
        return ", ".join(value for given, value in self.fields if given == name) or None

    @property
    def names(self) -> list[str]:
        return [name for name, _ in self.fields]


class Connection:
    """A client's side of a connection."""

    def __init__(self, port: int, receive_buffer: int | None = None, trust: ssl.SSLContext | None = None) -> None:
        self.sock = socket.socket()
        if receive_buffer:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.sock.settimeout(10)
        self.sock.connect(("127.0.0.1", port))
        if trust is not None:
            self.sock = trust.wrap_socket(self.sock, server_hostname="127.0.0.1")
        self.buffer = b""

    def send(self, data: bytes) -> None:
        self.sock.sendall(data)

    def request(self, method: str, target: str, body: bytes | None = None, *, version: str = "1.1", **fields: str) -> None:
        """Send a request; fields' names are written with ``_`` for ``-``."""
        lines = [f"{method} {target} HTTP/{version}", "Host: nora.example"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in fields.items()]
        if body is not None:
            lines.append(f"Content-Length: {len(body)}")
        self.send("\r\n".join([*lines, "", ""]).encode() + (body or b""))

    def ask(self, method: str, target: str, body: bytes | None = None, *, version: str = "1.1", **fields: str) -> Answer:
        """A request and its answer."""
        self.request(method, target, body, version=version, **fields)
        return self.answer(head=method == "HEAD")

    def answer(self, *, head: bool = False) -> Answer:
        """The next answer. Raises CutError when it ends early."""
        answer = self.head()
        if head or answer.status in (204, 304) or answer.status < 200:
            return answer
        if answer["transfer-encoding"] == "chunked":
            while size := int(self.line(), 16):
                answer.body += self.take(size)
                assert self.take(2) == b"\r\n"
            assert self.take(2) == b"\r\n"
        elif answer["content-length"] is not None:
            answer.body = self.take(int(answer["content-length"]))
        else:
            while self.fill():
                pass
            answer.body, self.buffer = self.buffer, b""
        return answer

    def head(self) -> Answer:
        """Status and fields of the next answer."""
        version, status, reason = self.line().decode().split(" ", 2)
        assert version == "HTTP/1.1"
        fields = []
        while line := self.line().decode("utf-8", "surrogateescape"):
            name, value = line.split(": ", 1)
            fields.append((name, value))
        return Answer(int(status), reason, fields)

    def line(self) -> bytes:
        while b"\r\n" not in self.buffer:
            if not self.fill():
                raise CutError(self.buffer)
        line, _, self.buffer = self.buffer.partition(b"\r\n")
        return line

    def take(self, count: int) -> bytes:
        while len(self.buffer) < count:
            if not self.fill():
                raise CutError(f"{len(self.buffer)} of {count} bytes")
        data, self.buffer = self.buffer[:count], self.buffer[count:]
        return data

    def fill(self) -> bool:
        try:
            data = self.sock.recv(1 << 20)
        except ConnectionResetError:
            return False
        except ssl.SSLError as error:
            raise CutError(str(error)) from error
        self.buffer += data
        return bool(data)

    def take_no_end_for_granted(self) -> None:
        """From now on an encrypted connection that ends without saying so is cut."""
        if isinstance(self.sock, ssl.SSLSocket):
            self.sock.suppress_ragged_eofs = False

    def is_closed(self, seconds: float = 5) -> bool:
        """Whether the server closes the connection without another byte."""
        self.sock.settimeout(seconds)
        try:
            return not self.buffer and not self.fill()
        except TimeoutError:
            return False

    def close(self) -> None:
        self.sock.close()


class Server:
    """Serves a blueprint until it is stopped."""

    def __init__(
        self,
        blueprint: RegistryBlueprint,
        loop_kind: str,
        *,
        access: Access | None = None,
        body_limit_bytes: int = 1024 * 1024,
        shutdown_seconds: float = 5,
        held: HeldPages | None = None,
        tls: Callable[[], ssl.SSLContext] | None = None,
    ) -> None:
        self.readiness = Readiness()
        self.sock = listening_socket("127.0.0.1", 0)
        self.port: int = self.sock.getsockname()[1]
        self._connections: list[Connection] = []
        self._started = threading.Event()
        dispatcher = Dispatcher(access or Access(False, Rules(), ()), access_log_enabled=True, held=held)
        mounts = [Mount("main", "/", blueprint.routes)]
        app = build_app(mounts, dispatcher, self.readiness, body_limit_bytes=body_limit_bytes)
        self.app = app

        async def main() -> None:
            self.loop = asyncio.get_running_loop()
            self._stop = asyncio.Event()
            await serve(
                app,
                self.sock,
                self._stop,
                self.readiness,
                shutdown_timeout_seconds=shutdown_seconds,
                on_ready=self._started.set,
                tls=tls,
            )

        def run() -> None:
            with asyncio.Runner(loop_factory=LOOPS[loop_kind]) as runner:
                runner.run(main())

        self.thread = threading.Thread(target=run, daemon=True)
        self.thread.start()
        assert self._started.wait(10)

    def on_loop(self, look: Callable[[], Any]) -> Any:
        """What ``look()`` gives on the server's own thread."""

        async def run() -> Any:
            return look()

        return asyncio.run_coroutine_threadsafe(run(), self.loop).result(5)

    def connect(self, **options: Any) -> Connection:
        self._connections.append(Connection(self.port, **options))
        return self._connections[-1]

    def ask(self, method: str, target: str, body: bytes | None = None, **fields: str) -> Answer:
        """A request on a connection of its own."""
        return self.connect().ask(method, target, body, **fields)

    def stop(self) -> None:
        """Tell it to stop, as SIGTERM does."""
        self.loop.call_soon_threadsafe(self._stop.set)

    def close(self) -> None:
        for connection in self._connections:
            connection.close()
        with suppress(RuntimeError):
            self.stop()
        self.thread.join(15)
        assert not self.thread.is_alive()


class Source:
    """A :class:`nora.api.ByteSource` that grows by a script, one step for each wait.

    A step is bytes that become available, an error, or an event to wait for. ``size`` is what is announced.
    """

    def __init__(self, path: Any, size: int | None, script: list[Any]) -> None:
        self._path, self._script = path, list(script)
        self._path.write_bytes(b"")
        self._available = 0
        self.size = size
        self.complete = not script
        self.started = self.closed = 0

    async def start(self) -> None:
        self.started += 1
        await self.wait(0)

    def available(self) -> int:
        return self._available

    async def wait(self, beyond: int) -> None:
        while self._available <= beyond and not self.complete:
            await asyncio.sleep(0)
            step = self._script[0]
            if isinstance(step, Exception):
                raise step
            self._script.pop(0)
            if isinstance(step, threading.Event):
                await asyncio.get_running_loop().run_in_executor(None, step.wait, 10)
            else:
                with open(self._path, "ab") as file:
                    file.write(step)
                self._available += len(step)
            self.complete = not self._script
            if self.complete:
                self.size = self._available

    def open(self) -> int:
        return os.open(self._path, os.O_RDONLY)

    async def aclose(self) -> None:
        self.closed += 1


class Memory:
    """A :class:`nora.api.ByteSource` that is held."""

    complete = True

    def __init__(self, data: bytes, missing: int) -> None:
        self.size = len(data)
        self._file = os.memfd_create("held")
        os.write(self._file, data[: len(data) - missing])

    async def start(self) -> None:
        pass

    def available(self) -> int:
        return self.size

    async def wait(self, beyond: int) -> None:
        pass

    def open(self) -> int:
        return os.dup(self._file)

    async def aclose(self) -> None:
        os.close(self._file)


class Shelf:
    """Pages by name with what they rest on, as a registry would have them, at ``/page/<name>``.

    The bodies of the same pages as files that are held at ``/file/<name>``, opened anew for each request.

    Others at ``/lone/<name>``, of which nobody says what they rest on; at ``/copied/<name>``, which are not the pages that were asked for;
    and at ``/chosen/<name>``, which rest on more than themselves.

    Attributes:
        token: The store's.
        renewed: How often a standing was renewed.
        made: How often a handler was asked.
        seconds: For how long standings are made.
        holds: Whether standings hold as far as is known without a look.
        missing_bytes: How much shorter files are than they should be.
    """

    def __init__(self) -> None:
        self.pages: dict[str, Page] = {}
        self.token: bytes | None = b"token-00"
        self.renewed = self.made = 0
        self.seconds = 3600.0
        self.holds = True
        self.missing_bytes = 0
        self.blueprint = RegistryBlueprint()
        self.blueprint.read("/page/<name>")(self._page)
        self.blueprint.read("/file/<name>")(self._file)
        self.blueprint.read("/lone/<name>")(self._lone)
        self.blueprint.read("/copied/<name>")(self._copied)
        self.blueprint.read("/chosen/<name>")(self._chosen)
        self.blueprint.write("/echo", methods=["PUT", "POST"])(self._echo)
        self.blueprint.write("/ignored", stream=True)(self._ignored)
        self.blueprint.write("/written", methods=["GET"])(self._page_of_a_writer)

    def put(self, name: str, body: bytes, **fields: Any) -> None:
        """A page from now on; what rested on the one before stands until somebody looks."""
        compressed = gzip.compress(body, mtime=0) if len(body) >= 1024 else None
        self.pages[name] = Page(body, "text/plain", vary=("Accept",), gzip_body=compressed, **fields)

    def change(self) -> None:
        """Something has changed in the store."""
        self.token = os.urandom(8)

    def held(self, max_bytes: int = 64 * 1024 * 1024, **options: Any) -> HeldPages:
        return HeldPages(max_bytes, lambda: self.token, **{"logs": True, "secret": False, **options})

    def standing(self, name: str, page: Page, answer: Page | Content | None = None) -> Standing | None:
        if self.token is None:
            return None
        now = time.time()
        renew = lambda: self._renew(name, page, answer)  # noqa: E731
        return Standing(answer or page, self.token, now, now + self.seconds, renew, lambda: self.holds)

    def _renew(self, name: str, page: Page, answer: Page | Content | None) -> Standing | None:
        self.renewed += 1
        return self.standing(name, page, answer) if self.pages.get(name) is page else None

    async def _file(self, request: Any, name: str) -> Content:
        self.made += 1
        page = self.pages[name]
        content = Content(name, Memory(page.body, self.missing_bytes), etag=page.etag, headers=page.headers)
        reliance = current_request.get().reliance
        if reliance is not None and (standing := self.standing(name, page, content)) is not None:
            reliance.questions += 1
            reliance.standings.append(standing)
        return content

    async def _page(self, request: Any, name: str) -> Page:
        self.made += 1
        page = self.pages.get(name)
        if page is None:
            raise NotFound("page", name)
        reliance = current_request.get().reliance
        if reliance is not None and (standing := self.standing(name, page)) is not None:
            reliance.questions += 1
            reliance.standings.append(standing)
        return page

    async def _lone(self, request: Any, name: str) -> Page:
        self.made += 1
        return self.pages[name]

    async def _copied(self, request: Any, name: str) -> Page:
        return replace(await self._page(request, name))

    async def _chosen(self, request: Any, name: str) -> Page:
        if (reliance := current_request.get().reliance) is not None:
            reliance.questions += 1
        return await self._page(request, name)

    async def _page_of_a_writer(self, request: Any) -> Page:
        return await self._page(request, "small")

    async def _echo(self, request: Any) -> Any:
        return text(request.body.decode())

    async def _ignored(self, request: Any) -> Any:
        return text("did not look")


@pytest.fixture
def shelf() -> Shelf:
    made = Shelf()
    made.put("empty", b"")
    made.put("small", b"small page\n")
    made.put("middle", b"middle page\n" * 400, headers={"x-pypi-last-serial": "7", "x-odd": "\u00fc\r\nx: y"})
    made.put("large", b"large page\n" * 6000)
    made.put("filed", b"filed page\n" * 30_000)
    made.put("huge", b"huge page\n" * 170_000)
    return made


@pytest.fixture
def hits() -> Callable[[Any], int]:
    """How many requests a server answered from its cache so far, by its own account."""

    def count(server: Any) -> int:
        lines = server.ask("GET", "/metrics").body.decode().splitlines()
        return sum(int(float(line.split()[-1])) for line in lines if line.startswith("nora_page_cache_hits_total"))

    return count


@pytest.fixture
def loop_kind() -> str:
    """The loop that servers use; that of the product unless a module says otherwise."""
    return "uvloop"


@pytest.fixture
def serving(loop_kind) -> Iterator[Callable[..., Server]]:
    """Starts servers."""
    servers: list[Server] = []

    def start(blueprint: RegistryBlueprint | None = None, **options: Any) -> Server:
        servers.append(Server(blueprint or RegistryBlueprint(), loop_kind, **options))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


@pytest.fixture
def protocols(monkeypatch) -> list[HeldProtocol]:
    """The server's side of connections, in order."""
    seen: list[HeldProtocol] = []
    made = HeldProtocol.connection_made

    def connection_made(self: HeldProtocol, transport: Any) -> None:
        made(self, transport)
        seen.append(self)

    monkeypatch.setattr(HeldProtocol, "connection_made", connection_made)
    return seen


@pytest.fixture
def source(tmp_path) -> Callable[..., Source]:
    """Makes sources: of these bytes, or growing by a script."""

    def make(*script: Any, size: int | None = -1, held: bool = False) -> Source:
        path = tmp_path / os.urandom(8).hex()
        announced = sum(len(step) for step in script if isinstance(step, bytes)) if size == -1 else size
        made = Source(path, announced, [] if held else list(script))
        if held:
            path.write_bytes(b"".join(script))
            made._available = made.size = os.path.getsize(path)
        return made

    return make


@pytest.fixture(scope="session")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="session")
def context_for(authority) -> Callable[..., ssl.SSLContext]:
    """Makes what a server shows: a certificate for this machine, and further names."""

    def make(*names: str) -> ssl.SSLContext:
        made = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        authority.issue_cert("127.0.0.1", *names).configure_cert(made)
        made.set_alpn_protocols(["http/1.1"])
        return made

    return make


@pytest.fixture(scope="session")
def context(context_for) -> ssl.SSLContext:
    return context_for()


@pytest.fixture
def trust(authority) -> ssl.SSLContext:
    """What clients trust."""
    made = ssl.create_default_context()
    authority.configure_trust(made)
    return made


@pytest.fixture
def serving_tls(serving, context, trust) -> Callable[..., Any]:
    """Starts servers; ``connect`` of what it gives is a client's encrypted connection."""

    def start(blueprint: RegistryBlueprint | None = None, **options: Any) -> Any:
        server = serving(blueprint or RegistryBlueprint(), **{"tls": lambda: context, **options})
        plain = server.connect
        server.connect_plainly = plain
        server.connect = lambda **given: plain(trust=trust, **given)
        return server

    return start


@pytest.fixture
def carrier() -> str:
    """What ``serve_source`` sends over: "plain" or "tls"."""
    return "plain"


@pytest.fixture
def serve_source(serving, serving_tls, carrier) -> Callable[..., Any]:
    """Starts servers that give one source, at /f."""
    starting = serving_tls if carrier == "tls" else serving

    def start(source: Any, etag: str = "tag", **options: Any) -> Any:
        blueprint = RegistryBlueprint()

        @blueprint.read("/f")
        async def read(request: Any) -> Content:
            return Content("f", source, etag=etag)

        return starting(blueprint, **options)

    return start


@pytest.fixture
def descriptors() -> Callable[[], int]:
    """How many files and sockets this process has open."""
    return lambda: len(os.listdir("/proc/self/fd"))


@pytest.fixture
def cut() -> type[CutError]:
    """What reading an answer raises when the server breaks it off."""
    return CutError


@pytest.fixture
def until() -> Callable[[Callable[[], bool]], None]:
    """Waits for a condition that a server's thread brings about."""

    def wait(condition: Callable[[], bool], seconds: float = 5) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, "it did not come about"
            time.sleep(0.002)

    return wait
