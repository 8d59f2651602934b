"""Logins over a limit, refused ahead of everything: as the usual way does, only sooner. On both loops."""

from __future__ import annotations

import asyncio
import base64
import logging
import socket
import time
from collections.abc import Callable
from ipaddress import ip_network
from types import SimpleNamespace
from typing import Any

import pytest

from nora import metrics
from nora.api import Actor
from nora.auth.access import Access, Rules
from nora.auth.limits import LoginLimits
from nora.auth.pace import Pace
from nora.context import current_request
from nora.http import refusals as module
from nora.http.app import OPEN_PLACES
from nora.http.dispatch import Dispatcher
from nora.http.limits import RequestLimits
from nora.http.publishing import OIDC_PATH
from nora.http.refusals import Refusals, head_of

LIMITED = "too many failed logins"
HOST = b"Host: nora.example\r\n"


def basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


GUESS = f"Authorization: {basic('ada', 'guess')}\r\n".encode()
GET = b"GET /page/one HTTP/1.1\r\n" + HOST + GUESS + b"\r\n"


class Users:
    """Authenticates with one password."""

    asked = 0

    async def authenticate(self, username: str, password: str) -> Actor | None:
        self.asked += 1
        return Actor(name=username) if password == "secret" else None


class Tokens:
    """One token, as :class:`nora.auth.access.TokenCheck` has them."""

    def is_token(self, text: str) -> bool:
        return text.startswith("nora_")

    async def verify(self, text: str) -> Any:
        return None

    def standing(self, text: str) -> None:
        return None


@pytest.fixture(params=["asyncio", "uvloop"])
def loop_kind(request) -> str:
    return request.param


@pytest.fixture
def told() -> list[tuple[str, ...]]:
    return []


@pytest.fixture
def access(told) -> Access:
    """Everybody at loopback is over the limit, and may read without a login."""
    limits = LoginLimits(clock=lambda: 0.0, pace=Pace(0.001))
    for _ in range(20):
        limits.failed("127.0.0.1", None)

    def tell(*facts: str) -> None:
        told.append((*facts, current_request.get().request_id, current_request.get().address))

    return Access(True, Rules([], ("main",)), [Users()], Tokens(), limits, told=tell)


@pytest.fixture
def usual(monkeypatch) -> list[str]:
    """The paths that went the usual way."""
    seen: list[str] = []
    real = Dispatcher.run

    async def run(self, request, registry, work):
        seen.append(request.path)
        return await real(self, request, registry, work)

    monkeypatch.setattr(Dispatcher, "run", run)
    return seen


@pytest.fixture
def server(serving, shelf, access, usual):
    shelf.put("one", b"page one\n")
    return serving(shelf.blueprint, access=access, held=shelf.held(secret=True))


def fields_of(answer) -> list[tuple[str, str]]:
    return [field for field in answer.fields if field[0] != "date"]


@pytest.mark.parametrize("method", [b"GET", b"HEAD"])
@pytest.mark.parametrize("target", [b"/page/one", b"/page/one?a=b", b"/nowhere/at/all%20"])
def test_a_refusal_is_the_same_either_way(serving, shelf, server, access, usual, method, target) -> None:
    wire = method + b" " + target + b" HTTP/1.1\r\n" + HOST + b"X-Request-ID: mine\r\n" + GUESS + b"\r\n"
    shelf.put("one", b"page one\n")
    slow = serving(shelf.blueprint, access=access)
    answers = []
    for each in (server, slow):
        client = each.connect()
        client.send(wire)
        answers.append(client.answer(head=method == b"HEAD"))
    assert answers[0].status == 429
    if target.startswith(b"/page"):
        assert fields_of(answers[0]) == fields_of(answers[1])
        assert answers[0].body == answers[1].body
        assert usual == ["/page/one"], "only the server that has no such way"
    assert ("x-request-id", "mine") in answers[0].fields
    assert answers[0]["retry-after"] == "66"


def test_who_knows_nothing_and_who_knows_the_password_get_the_same(server, access, usual, told) -> None:
    client, answers = server.connect(), []
    for password in ("guess", "secret"):
        client.send(b"GET /page/one HTTP/1.1\r\n" + HOST + f"Authorization: {basic('ada', password)}\r\n\r\n".encode())
        answers.append(client.answer())
    assert [answer.status for answer in answers] == [429, 429]
    assert answers[0].body == answers[1].body
    assert usual == []
    assert [entry[:4] for entry in told] == [("login-limited", "ada", "127.0.0.1", "")] * 2
    assert [entry[4] for entry in told] == [answer["x-request-id"] for answer in answers]
    assert {entry[5] for entry in told} == {"127.0.0.1"}
    assert access._authenticators[0].asked == 0


@pytest.mark.parametrize(
    ("wire", "status"),
    [
        pytest.param(b"GET /page/one HTTP/1.1\r\n" + HOST + b"\r\n", 200, id="no login"),
        pytest.param(b"GET /health HTTP/1.1\r\n" + HOST + GUESS + b"\r\n", 200, id="health"),
        pytest.param(b"GET /ready?x HTTP/1.1\r\n" + HOST + GUESS + b"\r\n", 200, id="ready"),
        pytest.param(b"GET /metrics HTTP/1.1\r\n" + HOST + GUESS + b"\r\n", 200, id="metrics"),
        pytest.param(b"GET /_/oidc/audience HTTP/1.1\r\n" + HOST + GUESS + b"\r\n", 404, id="trusted publishing"),
        pytest.param(b"GET /page/one HTTP/1.1\r\n" + HOST + b"Authorization: Bearer nora_x\r\n\r\n", 401, id="bearer"),
        pytest.param(
            b"GET /page/one HTTP/1.1\r\n" + HOST + f"Authorization: {basic('ada', 'nora_x')}\r\n\r\n".encode(), 401, id="token"
        ),
        pytest.param(b"GET /page/one HTTP/1.1\r\n" + HOST + b"Authorization: Digest x\r\n\r\n", 401, id="another scheme"),
        pytest.param(b"GET /page/one HTTP/1.1\r\n" + HOST + b"Authorization: Basic ?\r\n\r\n", 401, id="no base64"),
        pytest.param(b"GET /page/one HTTP/1.1\r\n" + GUESS + b"\r\n", 400, id="no host"),
        pytest.param(b"GET /page/one HTTP/1.1\r\n" + HOST + b"X : y\r\n" + GUESS + b"\r\n", 400, id="faulty"),
        pytest.param(b"GET /page/one HTTP/1.1\r\n" + HOST + b"Connection: close\r\n" + GUESS + b"\r\n", 429, id="the last one"),
        pytest.param(b"GET /page/one HTTP/1.1\r\n" + HOST + b"Upgrade: x\r\n" + GUESS + b"\r\n", 429, id="upgrade"),
        pytest.param(b"GET /page/one HTTP/1.1\r\n" + HOST + GUESS + GUESS + b"\r\n", 429, id="two logins"),
        pytest.param(b"POST /echo HTTP/1.1\r\n" + HOST + b"Content-Length: 2\r\n" + GUESS + b"\r\nab", 429, id="with a body"),
        pytest.param(
            b"GET /page/one HTTP/1.1\r\n" + HOST + b"Content-Length: 2\r\n" + GUESS + b"\r\nab", 429, id="GET with one"
        ),
    ],
)
def test_everything_else_goes_the_usual_way(server, usual, wire, status) -> None:
    client = server.connect()
    client.send(wire)
    assert client.answer().status == status
    assert usual


def test_requests_that_come_too_early_are_answered_in_their_order(server, usual) -> None:
    client = server.connect()
    client.send(GET)
    time.sleep(0.05)
    assert client.answer().status == 429
    client.send(GET + GET.replace(GUESS, b""))  # in one piece: as Sanic has them
    assert [client.answer().status for _ in range(2)] == [429, 200]
    for _ in range(20):
        client.send(GET)
    client.send(GET.replace(GUESS, b""))
    assert [client.answer().status for _ in range(21)] == [429] * 20 + [200]


def test_what_comes_too_early_on_a_new_connection_waits_too(server, pace, until) -> None:
    client = server.connect()
    client.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    client.send(GET)
    until(lambda: len(pace) == 1)
    client.send(GET.replace(GUESS, b""))
    time.sleep(0.05)
    server.loop.call_soon_threadsafe(pace.calls.pop())
    assert [client.answer().status for _ in range(2)] == [429, 200]


def test_a_head_that_comes_in_pieces_is_refused_too(server) -> None:
    client = server.connect()
    for piece in (GET[:20], GET[20:]):
        client.send(piece)
        time.sleep(0.05)
    assert client.answer().status == 429
    client.send(GET)
    assert client.answer().status == 429


class Held(Pace):
    """Lets nobody on before it is told to."""

    def __init__(self) -> None:
        self.calls: list[Callable[[], None]] = []
        super().__init__(0.001, later=lambda _, call: self.calls.append(call))


@pytest.fixture
def pace(access) -> Held:
    access.pace = access._limits.pace = Held()
    return access.pace


def test_who_leaves_while_he_waits_is_forgotten(server, pace, until) -> None:
    clients = [server.connect() for _ in range(3)]
    for client in clients:
        client.send(GET)
    until(lambda: len(pace) == 3)
    clients[0].close()
    clients[1].close()

    def nobody_waits() -> bool:
        # One loop notices that they have left, the other one only at their turn, since nothing is read meanwhile.
        if pace.calls:
            server.loop.call_soon_threadsafe(pace.calls.pop())
        return not len(pace)

    until(nobody_waits)
    assert clients[2].answer().status == 429
    assert server.ask("GET", "/page/one").status == 200


def test_a_stop_waits_for_refusals(server, pace, until) -> None:
    client = server.connect()
    client.send(GET)
    until(lambda: len(pace) == 1)
    server.stop()
    time.sleep(0.3)
    server.loop.call_soon_threadsafe(pace.calls.pop())
    assert client.answer().status == 429
    assert client.is_closed()


def test_a_refusal_is_counted_and_logged_as_the_usual_way_does(serving, shelf, server, access, usual, caplog, until) -> None:
    caplog.set_level(logging.INFO, "nora.access")
    slow = serving(shelf.blueprint, access=access)
    before = metrics.REQUESTS.labels("main", "GET", "429")._value.get()
    for each in (server, slow):
        client = each.connect()
        client.send(GET.replace(HOST, HOST + b"X-Request-ID: mine\r\n"))
        client.answer()
    assert metrics.REQUESTS.labels("main", "GET", "429")._value.get() == before + 2
    until(lambda: len(caplog.records) == 2)
    names = ("method", "path", "status", "bytes", "client", "registry", "request_id")
    lines = [{name: getattr(record, name) for name in names} for record in caplog.records]
    assert lines[0] == lines[1]
    assert lines[0]["bytes"] > 0
    assert not hasattr(caplog.records[0], "actor")


# Without a server


class Fake:
    """A connection."""

    def __init__(self, address: str = "127.0.0.1") -> None:
        self.conn_info = SimpleNamespace(client_ip=address)
        self.seen: list[bytes] = []

    def wait_for_answer(self, take_back: Callable[[], None]) -> None:
        pass

    def answered(self, answer: bytes) -> None:
        self.seen.append(answer)


def make(access: Access, **options: Any) -> Refusals:
    return Refusals(access, [("/", "main"), ("/team/", "team")], **{"logs": False, **options})


def with_field(field: str) -> bytes:
    return GET.replace(HOST, HOST + field.encode() + b"\r\n")


def test_the_address_that_a_trusted_proxy_names_counts(access, pace) -> None:
    trusting = make(access, trusted=[ip_network("127.0.0.0/8"), ip_network("192.0.2.1")])
    assert not trusting.serve(with_field("X-Forwarded-For: 198.51.100.7"), Fake())
    assert trusting.serve(with_field("X-Forwarded-For: 198.51.100.7, 127.0.0.1"), Fake("192.0.2.1")) is False
    assert trusting.serve(with_field("X-Forwarded-For: 127.0.0.1"), Fake()) is True
    assert make(access).serve(with_field("X-Forwarded-For: 198.51.100.7"), Fake()) is True


def test_what_is_over_the_limit_of_requests_goes_the_usual_way_and_counts_once(access, pace) -> None:
    limits = RequestLimits(2, clock=lambda: 0.0)
    limited = make(access, limits=limits)
    assert [limited.serve(GET, Fake()) for _ in range(3)] == [True, True, False]
    assert limits.take("127.0.0.1") == 30.0


def test_only_so_many_of_one_place_wait_where_nobody_sees_them_leave(access, pace) -> None:
    refusals, limits = make(access), RequestLimits(60, clock=lambda: 0.0)
    limited = make(access, limits=limits)
    assert [refusals.serve(GET, Fake()) for _ in range(module.MAX_WAITING + 2)] == [True] * module.MAX_WAITING + [False] * 2
    assert not limited.serve(GET, Fake())
    assert [limits.take("127.0.0.1") for _ in range(61)][-2:] == [0.0, 1.0], "what goes the usual way is counted there"


async def test_a_refusal_that_fails_breaks_off_instead_of_waiting_for_ever(access, pace, monkeypatch) -> None:
    class Broken(Fake):
        broken = False

        def break_off(self) -> None:
            self.broken = True

    def fail(*_: Any, **__: Any) -> None:
        raise ZeroDivisionError

    loop, errors, connection = asyncio.get_running_loop(), [], Broken()
    loop.set_exception_handler(lambda _, context: errors.append(context["exception"]))
    monkeypatch.setattr(module, "error_answer", fail)
    assert make(access).serve(GET, connection)
    pace._next()
    await asyncio.sleep(0)
    assert connection.broken
    assert [type(error) for error in errors] == [ZeroDivisionError]


def test_where_nobody_is_over_a_limit_no_head_is_looked_at(monkeypatch) -> None:
    monkeypatch.setattr(module, "head_of", pytest.fail)
    assert make(Access(True, Rules(), [Users()])).serve(GET, Fake()) is False


def test_every_address_of_the_host_that_asks_for_no_login_is_known_to_be_open(server) -> None:
    own = {f"/{route.path}" for route in server.app.router.routes if not route.name.split(".")[-1].startswith("main_")}
    assert own >= {"/health", "/ready", "/metrics"}
    assert [path for path in own if path not in OPEN_PLACES and not path.startswith(OIDC_PATH)] == []


@pytest.mark.parametrize(
    "wire",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(GET[:-1], id="not whole"),
        pytest.param(GET + GET, id="two"),
        pytest.param(GET + b"x", id="with more"),
        pytest.param(GET.replace(b"1.1", b"1.0"), id="1.0"),
        pytest.param(GET.replace(b"GET /", b"GET //"), id="no path"),
        pytest.param(GET.replace(b"/page", b"http://a/page"), id="absolute"),
        pytest.param(GET.replace(b"GET", b"OPTIONS"), id="another method"),
        pytest.param(GET.replace(b"one", "é".encode()), id="no ASCII"),
        pytest.param(with_field("Connection: keep-alive, upgrade"), id="connection"),
        pytest.param(with_field("Transfer-Encoding: chunked"), id="chunked"),
        pytest.param(with_field("Expect: 100-continue"), id="expect"),
        pytest.param(with_field("X: a\x00b"), id="control"),
    ],
)
def test_heads_that_are_not_plain(wire: bytes) -> None:
    assert head_of(wire) is None


def test_only_names_that_a_request_may_have_are_taken() -> None:
    head = head_of(with_field("X-Request-ID: a b\r\nx-request-id: c\r\nConnection:  Keep-Alive"))
    assert head is not None
    assert head.request_id == ""


async def test_the_longest_way_that_fits_names_the_registry(access, pace) -> None:
    protocol = Fake()
    for target, name in ((b"/team/simple/", "team"), (b"/teams/", "main")):
        before = metrics.REQUESTS.labels(name, "GET", "429")._value.get()
        assert make(access).serve(GET.replace(b"/page/one", target), protocol)
        pace._next()
        await asyncio.sleep(0)
        assert metrics.REQUESTS.labels(name, "GET", "429")._value.get() == before + 1
    assert len(protocol.seen) == 2
    assert all(answer.startswith(b"HTTP/1.1 429 Too Many Requests\r\n") for answer in protocol.seen)
