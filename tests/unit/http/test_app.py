"""The application: its addresses, requests that are none, and its graceful end."""

from __future__ import annotations

import asyncio
import socket
import threading
import time

import pytest
from sanic.response import text

from nora.api import Content, RegistryBlueprint
from nora.auth.access import Access, Rules
from nora.config.errors import ConfigurationError
from nora.http.app import Mount, Readiness, build_app
from nora.http.dispatch import Dispatcher
from nora.http.runner import listening_socket

MB = 1024 * 1024


@pytest.fixture
def blueprint() -> RegistryBlueprint:
    made = RegistryBlueprint()

    @made.read("/simple/")
    async def root(request):
        return text("root")

    @made.read("/simple/<project>/")
    async def project(request, project):
        return text(f"project:{project}")

    @made.write("/simple/")
    async def upload(request):
        return text(f"upload:{len(request.body)}")

    return made


# Addresses


def test_the_host_answers_for_itself_without_a_login(serving, blueprint):
    # CONF-3
    client = serving(blueprint, access=Access(True, Rules(), [])).connect()
    for target, status in (("/health", "ok"), ("/ready", "ready")):
        answer = client.ask("GET", target)
        assert (answer.status, answer["content-type"]) == (200, "application/json")
        assert f'"status":"{status}"'.encode() in answer.body
    assert client.ask("GET", "/simple/").status == 401


def test_routes_are_found_as_declared(serving, blueprint):
    client = serving(blueprint).connect()
    assert client.ask("GET", "/simple/").body == b"root"
    assert client.ask("GET", "/simple/x/").body == b"project:x"
    assert client.ask("POST", "/simple/", b"abc").body == b"upload:3"
    assert client.ask("GET", "/simple/?format=x").body == b"root"
    # NAME-5: relative links need the final slash, so the address without it is another one.
    for target in ("/simple", "/simple/x", "/simple/x/y/", "//simple/", "/Simple/"):
        assert client.ask("GET", target).status == 404


# HTTP-3, HTTP-4
@pytest.mark.parametrize(
    ("method", "target", "allowed"),
    [
        ("DELETE", "/simple/", {"GET", "HEAD", "POST"}),
        ("POST", "/simple/x/", {"GET", "HEAD"}),
        ("OPTIONS", "/simple/x/", {"GET", "HEAD"}),
        ("BREW", "/simple/x/", {"GET", "HEAD"}),
        ("get", "/simple/x/", {"GET", "HEAD"}),
        ("PUT", "/health", {"GET", "HEAD"}),
    ],
)
def test_a_method_that_is_not_allowed_is_405_with_those_that_are(serving, blueprint, method, target, allowed):
    answer = serving(blueprint).ask(method, target)
    assert answer.status == 405
    assert set(answer["allow"].split(", ")) == allowed


# HTTP-5, HTTP-17
@pytest.mark.parametrize(
    "line",
    [
        b"GET",
        b"GET /",
        b"GET / HTTP/2.0",
        b"GET / HTTP/1.1 extra",
        b"GET  / HTTP/1.1",
        b" / HTTP/1.1",
        b"GET /\xff HTTP/1.1",
        b"GET \xc3\xa9 HTTP/1.1",
        b"GET simple HTTP/1.1",
        b"GET http:// HTTP/1.1",
        b"GET http://[::1/ HTTP/1.1",
        b"GET http://other.example/simple/ HTTP/1.1",
        b"GET //other.example/ HTTP/1.1",
        b"GET ? HTTP/1.1",
        b"GET /?\x01 HTTP/1.1",
        b"GET /%zz?%zz=%zz&&&== HTTP/1.1",
        b"GET /#fragment HTTP/1.1",
        b"OPTIONS * HTTP/1.1",
        b"CONNECT other.example:443 HTTP/1.1",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"PRI * HTTP/2.0",
        b"GET /" + b"a" * 6000 + b" HTTP/1.1",
        b"GET /" + b"../" * 1000 + b" HTTP/1.1",
        b"GET /" + b"%2e%2e/" * 500 + b" HTTP/1.1",
    ],
)
def test_a_request_that_is_none_never_makes_a_5xx(serving, blueprint, line):
    server = serving(blueprint)
    client = server.connect()
    client.send(line + b"\r\nHost: x\r\nConnection: close\r\n\r\n")
    answer = client.answer()
    assert 200 <= answer.status < 500
    assert answer["date"]
    assert server.ask("GET", "/simple/").status == 200


@pytest.mark.parametrize(
    "field",
    [
        b"no colon",
        b": empty name",
        b"Accept: \xff\xfe",
        b"Accept-Encoding: \xff;q=\xff",
        b"If-None-Match: \xff",
        b"Range: bytes=\xff-",
        b"Host: \xff",
        b"Host: x\r\nHost: y",
        b"Authorization: Basic \xff",
        b"Content-Length: 0\r\nExpect: 100-continue",
        b"Upgrade: websocket\r\nConnection: Upgrade",
        b"Connection: \x00",
        b"Cookie: \xff=\xff; ===;;;",
        b"X-Forwarded-For: \xff",
        b"Forwarded: for=\xff;;;===",
    ],
)
def test_an_odd_field_never_makes_a_5xx(serving, blueprint, field):
    client = serving(blueprint, access=Access(True, Rules(open_registries=["*"]), [])).connect()
    client.send(b"GET /simple/ HTTP/1.1\r\nHost: x\r\n" + field + b"\r\n\r\n")
    assert 200 <= client.answer().status < 500


@pytest.mark.parametrize("size", [9_000, 20_000, 300_000])
def test_a_head_that_is_too_large_is_431(serving, blueprint, size):
    # HTTP-17
    client = serving(blueprint).connect()
    client.send(b"GET /simple/ HTTP/1.1\r\nHost: x\r\nX-A: " + b"a" * size + b"\r\n\r\n")
    answer = client.answer()
    assert (answer.status, answer["connection"]) == (431, "close")


# HTTP-16
@pytest.mark.parametrize(
    "target", ["//evil.example", "//evil.example/", "/\\evil.example", "/%0d%0aLocation:x", "/simple%0d%0a"]
)
def test_no_address_makes_the_server_lead_elsewhere(serving, blueprint, target):
    answer = serving(blueprint).ask("GET", target)
    assert answer.status == 404
    assert "location" not in [name.lower() for name in answer.names]


# Building


def build(*mounts: Mount):
    return build_app(mounts, Dispatcher(Access(False, Rules(), ()), access_log_enabled=False), Readiness(), body_limit_bytes=1)


def test_two_registries_at_one_address_are_an_error(blueprint):
    for path in ("/", "/a/"):
        with pytest.raises(ConfigurationError, match=rf"registries\.two\.path: {path} overlaps"):
            build(Mount("one", path, blueprint.routes), Mount("two", path, blueprint.routes))


def test_a_registry_at_anothers_address_is_an_error(blueprint):
    with pytest.raises(ConfigurationError, match=r"registries\.two\.path: /simple/ is an address of registry one"):
        build(Mount("one", "/", blueprint.routes), Mount("two", "/simple/", blueprint.routes))
    with pytest.raises(ConfigurationError, match=r"registries\.two\.path: /a/simple/b/"):
        build(Mount("one", "/a/", blueprint.routes), Mount("two", "/a/simple/b/", blueprint.routes))


def test_registries_side_by_side_and_below_each_other_are_fine(blueprint):
    paths = ["/", "/a/", "/a/b/", "/simpler/", "/b/a/"]
    build(*(Mount(f"r{number}", path, blueprint.routes) for number, path in enumerate(paths)))


def test_an_address_that_is_declared_for_several_methods_names_them_all(serving):
    # HTTP-3
    blueprint = RegistryBlueprint()

    @blueprint.read("/<project>/<filename>")
    async def download(request, project, filename):
        return text("read")

    @blueprint.write("/<project>/<filename>", methods=["PUT"])
    async def upload(request, project, filename):
        return text("written")

    server = serving(blueprint)
    assert server.ask("GET", "/x/y").body == b"read"
    assert server.ask("PUT", "/x/y", b"").body == b"written"
    assert server.ask("HEAD", "/x/y").status == 200
    answer = server.ask("DELETE", "/x/y")
    assert answer.status == 405
    assert {method.strip() for method in answer["allow"].split(",")} == {"GET", "HEAD", "PUT"}


def test_a_method_that_is_declared_twice_is_an_error(blueprint):
    again = RegistryBlueprint()

    async def handler(request):
        return text("x")

    again.write("/x")(handler)
    again.admin("/x")(handler)
    with pytest.raises(ConfigurationError, match=r"registries\.one\.path: / overlaps"):
        build(Mount("one", "/", again.routes))


# Stopping, DUR-3


@pytest.fixture
def downloading(source, serving):
    """A server with a file whose second half comes when the test says so."""
    more = threading.Event()

    def start(**options):
        file = source(b"x" * MB, more, b"y" * MB)
        made = RegistryBlueprint()

        @made.read("/f")
        async def read(request):
            return Content("f", file)

        return serving(made, **options), more, file

    yield start
    more.set()


def test_a_stop_lets_a_running_download_finish(downloading):
    # DUR-3
    server, more, _ = downloading()
    client = server.connect()
    client.request("GET", "/f")
    client.head()
    idle = server.connect()
    assert idle.ask("GET", "/ready").status == 200
    server.stop()
    assert idle.is_closed()
    assert not server.readiness.ready
    assert server.thread.is_alive()
    more.set()
    assert client.take(2 * MB) == b"x" * MB + b"y" * MB
    assert client.is_closed()
    server.thread.join(5)
    assert not server.thread.is_alive()


def test_a_stop_cuts_what_takes_too_long_and_lets_go_of_it(downloading, until, cut):
    server, _, file = downloading(shutdown_seconds=0.3)
    client = server.connect()
    client.request("GET", "/f")
    client.head()
    started = time.monotonic()
    server.stop()
    with pytest.raises(cut):
        client.take(2 * MB)
    assert 0.2 < time.monotonic() - started < 3
    until(lambda: file.closed == 1)


def test_a_stop_takes_no_further_connections(downloading):
    server, more, _ = downloading()
    client = server.connect()
    client.request("GET", "/f")
    client.head()
    server.stop()
    deadline = time.monotonic() + 2
    refused = False
    while not refused and time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", server.port), timeout=1).close()
            time.sleep(0.01)
        except OSError:
            refused = True
    more.set()
    assert refused


def test_a_stop_with_nothing_to_do_is_immediate(serving, blueprint):
    server = serving(blueprint, shutdown_seconds=30)
    client = server.connect()
    client.ask("GET", "/simple/")
    started = time.monotonic()
    server.stop()
    server.thread.join(5)
    assert time.monotonic() - started < 2
    assert client.is_closed()


def test_a_stop_lets_a_running_handler_answer(serving):
    # DUR-3
    made, entered, go = RegistryBlueprint(), threading.Event(), threading.Event()

    @made.read("/slow")
    async def slow(request):
        entered.set()
        await asyncio.get_running_loop().run_in_executor(None, go.wait, 10)
        return text("done")

    server = serving(made)
    client = server.connect()
    client.request("GET", "/slow")
    assert entered.wait(5)
    server.stop()
    time.sleep(0.1)
    go.set()
    assert client.answer().body == b"done"


# Listening


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_a_port_in_use_is_an_error_and_leaves_nothing_open(host):
    with listening_socket(host, 0) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(OSError, match="in use"):
            listening_socket(host, port)
    with listening_socket(host, port):
        pass


@pytest.mark.parametrize("host", ["192.0.2.1", "no.such.host.invalid"])
def test_an_address_that_is_not_ours_is_an_error(host):
    with pytest.raises(OSError):
        listening_socket(host, 0)
