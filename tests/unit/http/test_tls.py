"""Encrypted connections; that files come over them as over plain ones is tested with those. On both event loops."""

from __future__ import annotations

import os
import socket
import ssl
import threading
import time
from contextlib import suppress
from typing import Any

import pytest
from sanic.response import text

from nora.api import Content, RegistryBlueprint, UpstreamUnavailable
from nora.http import tls as module

DATA = bytes(range(256)) * 8192  # 2 MB
BROKE = UpstreamUnavailable("https://files.example/x", "broke")


@pytest.fixture(params=["asyncio", "uvloop"])
def loop_kind(request) -> str:
    return request.param


@pytest.fixture
def carrier() -> str:
    return "tls"


# The connection


def test_a_connection_is_encrypted_and_kept(serving_tls):
    client = serving_tls().connect()
    assert client.sock.version() == "TLSv1.3"
    for _ in range(3):
        answer = client.ask("GET", "/health")
        assert (answer.status, answer["connection"]) == (200, "keep-alive")


def test_http_1_1_is_agreed_on(serving_tls, trust):
    trust.set_alpn_protocols(["h2", "http/1.1"])
    client = serving_tls().connect()
    assert client.sock.selected_alpn_protocol() == "http/1.1"
    assert client.ask("GET", "/health").status == 200


def test_tls_1_2_is_served(serving_tls, trust):
    trust.maximum_version = ssl.TLSVersion.TLSv1_2
    client = serving_tls().connect()
    assert client.sock.version() == "TLSv1.2"
    assert client.ask("GET", "/health").status == 200


def test_a_request_knows_that_it_came_encrypted(serving_tls):
    blueprint = RegistryBlueprint()

    @blueprint.read("/scheme")
    async def scheme(request):
        return text(f"{request.scheme} {request.conn_info.client_ip}")

    assert serving_tls(blueprint).ask("GET", "/scheme").body == b"https 127.0.0.1"


def test_the_client_is_told_that_the_connection_ends(serving_tls, trust):
    client = serving_tls().connect()
    client.sock.suppress_ragged_eofs = False  # an end without a word is an error
    assert client.ask("GET", "/health", Connection="close").status == 200
    assert client.is_closed()


def test_a_client_that_ends_its_side_is_let_go(serving_tls, until, descriptors):
    server = serving_tls()
    server.ask("GET", "/health")
    before = descriptors()
    client = server.connect()
    assert client.ask("GET", "/health").status == 200
    plain = client.sock.unwrap()
    plain.close()
    until(lambda: descriptors() <= before)


def test_prepared_answers_are_given_to_encrypted_connections_too(serving_tls, shelf, hits):
    server = serving_tls(shelf.blueprint, held=shelf.held())
    client = server.connect()
    before = hits(server)  # of the whole process
    answers = [client.ask("GET", "/page/small") for _ in range(5)]
    assert {answer.body for answer in answers} == {b"small page\n"}
    assert shelf.made == 2
    assert hits(server) == before + 3


# However the bytes come


class Trickle:
    """A client that decides how its bytes travel."""

    def __init__(self, port: int, trust: ssl.SSLContext) -> None:
        self.received, self.to_send = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = trust.wrap_bio(self.received, self.to_send, server_hostname="127.0.0.1")
        self.sock = socket.create_connection(("127.0.0.1", port), timeout=10)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def send(self, size: int) -> None:
        data = self.to_send.read()
        for start in range(0, len(data), size):
            self.sock.sendall(data[start : start + size])

    def fill(self) -> None:
        data = self.sock.recv(65536)
        assert data, "the server has closed"
        self.received.write(data)

    def shake_hands(self, size: int) -> None:
        """All of the handshake but what the client says last; that goes with the first request."""
        while True:
            try:
                self.tls.do_handshake()
                return
            except ssl.SSLWantReadError:
                self.send(size)
                self.fill()

    def read(self, end: bytes) -> bytes:
        data = b""
        while not data.endswith(end):
            try:
                data += self.tls.read(65536)
            except ssl.SSLWantReadError:
                self.fill()
        return data


@pytest.mark.parametrize("size", [1, 7, 100_000])
def test_bytes_may_come_in_any_pieces(serving_tls, trust, size):
    blueprint = RegistryBlueprint()

    @blueprint.write("/echo", methods=["POST"])
    async def echo(request):
        return text(request.body.decode())

    client = Trickle(serving_tls(blueprint).port, trust)
    client.shake_hands(size)
    for body in (b"one.", b"three." * 100):
        head = b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body)
        for piece in (head[:9], head[9:], body[:2], body[2:]):
            client.tls.write(piece)  # each a record of its own
        client.send(size)
        assert client.read(body).startswith(b"HTTP/1.1 200 OK\r\n")
    client.sock.close()


def test_several_requests_in_one_record_are_answered_in_order(serving_tls):
    blueprint = RegistryBlueprint()

    @blueprint.read("/<name>")
    async def read(request, name):
        return text(name)

    client = serving_tls(blueprint).connect()
    client.send(b"".join(b"GET /n%d HTTP/1.1\r\nHost: x\r\n\r\n" % number for number in range(50)))
    assert [client.answer().body for _ in range(50)] == [b"n%d" % number for number in range(50)]


def test_a_large_upload_is_read_at_the_pace_of_its_reader(serving_tls):
    # Sanic stops reading while its buffer is full, many times here.
    blueprint = RegistryBlueprint()

    @blueprint.write("/count", stream=True)
    async def count(request):
        size = 0
        async for piece in request.stream:
            size += len(piece)
        return text(str(size))

    client = serving_tls(blueprint, body_limit_bytes=len(DATA) * 16).connect()
    for _ in range(2):
        assert client.ask("POST", "/count", DATA * 16).body == str(len(DATA) * 16).encode()


def test_an_upload_that_nobody_reads_is_answered(serving_tls):
    blueprint = RegistryBlueprint()

    @blueprint.write("/ignored", stream=True)
    async def ignored(request):
        return text("did not look")

    client = serving_tls(blueprint).connect()
    answer = client.ask("POST", "/ignored", b"x" * 500_000)
    assert (answer.body, answer["connection"]) == (b"did not look", "close")


# Clients that do not read


def keep_little_in_the_kernel(server: Any) -> None:
    """So that much of an answer to a client that does not read waits in the server itself."""
    server.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 * 1024)


@pytest.mark.parametrize("name", ["large", "filed", "huge"])
def test_a_slow_reader_gets_the_end_of_a_page_before_the_connection_ends(serving_tls, shelf, name):
    server = serving_tls(shelf.blueprint)
    keep_little_in_the_kernel(server)
    slow = server.connect(receive_buffer=4 * 1024)
    slow.sock.suppress_ragged_eofs = False
    slow.request("GET", f"/page/{name}", Connection="close")
    length = int(slow.head()["content-length"])
    body = slow.take(length - 40_000)
    time.sleep(0.3)  # the server is done with it, and must not think that the client is
    assert body + slow.take(40_000) == shelf.pages[name].body
    assert slow.is_closed()


def test_a_client_that_does_not_read_fills_no_memory(serving_tls, source):
    blueprint, transports = RegistryBlueprint(), []

    @blueprint.read("/f")
    async def read(request):
        transports.append(request.transport)
        return Content("f", source(DATA * 8, held=True), etag="tag")

    server = serving_tls(blueprint)
    keep_little_in_the_kernel(server)
    client = server.connect(receive_buffer=4 * 1024)
    client.request("GET", "/f")
    client.head()
    time.sleep(0.3)  # the whole file takes less
    assert 0 < transports[0].get_write_buffer_size() < 512 * 1024


# What is no TLS, or never becomes it


def test_plain_http_is_told_to_ask_by_https(serving_tls):
    client = serving_tls().connect_plainly()
    answer = client.ask("GET", "/health")
    assert (answer.status, answer["content-type"], answer["connection"]) == (400, "text/plain; charset=utf-8", "close")
    assert b"https://" in answer.body
    assert client.is_closed()


@pytest.mark.parametrize(
    "sent", [b"\0" * 100, b"SSH-2.0-x\r\n", b"\x16\x03\x01\xff\xff" + b"x" * 70_000, b"\x15\x03\x01\0\x02\x02\x28"]
)
def test_what_is_no_tls_ends_the_connection(serving_tls, until, sent, descriptors):
    server = serving_tls()
    server.ask("GET", "/health")
    before = descriptors()
    client = server.connect_plainly()
    with suppress(OSError):
        client.send(sent)
        while client.fill():
            pass
    client.close()
    until(lambda: descriptors() <= before)
    assert server.ask("GET", "/health").status == 200


def test_a_record_that_was_changed_on_its_way_ends_the_connection(serving_tls, trust):
    server = serving_tls()
    client = Trickle(server.port, trust)
    client.shake_hands(100_000)
    client.tls.write(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
    data = bytearray(client.to_send.read())
    data[-1] ^= 1
    client.sock.sendall(data)
    with pytest.raises((ssl.SSLError, AssertionError)):
        client.read(b"}")
    client.sock.close()
    assert server.ask("GET", "/health").status == 200


def test_a_client_that_sends_nonsense_and_does_not_read_is_let_go(serving_tls, shelf, until, descriptors):
    server = serving_tls(shelf.blueprint)
    keep_little_in_the_kernel(server)
    client = server.connect(receive_buffer=4 * 1024)
    client.request("GET", "/page/huge")
    client.head()
    before = descriptors()
    os.write(client.sock.fileno(), b"\x17\x03\x03\x00\x20" + b"x" * 32)
    until(lambda: descriptors() < before)


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1_1 is deprecated")
def test_versions_before_tls_1_2_are_refused(serving_tls, trust):
    trust.minimum_version = trust.maximum_version = ssl.TLSVersion.TLSv1_1
    trust.set_ciphers("ALL:@SECLEVEL=0")
    server = serving_tls()
    with pytest.raises(ssl.SSLError):
        server.connect()


@pytest.mark.parametrize("sent", [b"", b"\x16", b"\x16\x03\x01\x02\x00\x01\x00"], ids=["nothing", "a byte", "half a hello"])
def test_a_handshake_that_hangs_is_ended_and_holds_nobody_up(serving_tls, monkeypatch, sent):
    monkeypatch.setattr(module, "HANDSHAKE_SECONDS", 0.5)
    server = serving_tls()
    hanging = [server.connect_plainly() for _ in range(100)]
    for client in hanging:
        client.send(sent)
    assert server.ask("GET", "/health").status == 200
    assert all(client.is_closed() for client in hanging)


def test_time_for_the_handshake_does_not_end_a_connection_later(serving_tls, monkeypatch):
    monkeypatch.setattr(module, "HANDSHAKE_SECONDS", 0.5)
    server = serving_tls()
    client = server.connect()
    assert client.ask("GET", "/health").status == 200
    assert server.connect_plainly().is_closed()  # a later one has had its time
    assert client.ask("GET", "/health").status == 200


# Another certificate


def test_new_connections_get_the_new_certificate_and_others_go_on(serving_tls, context_for):
    shown = [context_for("first.example"), context_for("second.example")]
    server = serving_tls(tls=lambda: shown[0])
    first = server.connect()
    assert ("DNS", "first.example") in first.sock.getpeercert()["subjectAltName"]
    shown.reverse()
    second = server.connect()
    assert ("DNS", "second.example") in second.sock.getpeercert()["subjectAltName"]
    for client in (first, second, first):
        assert client.ask("GET", "/health").status == 200


# The end


def test_a_stop_waits_for_a_transfer_and_not_for_idle_clients_or_handshakes(serve_source, source):
    gate = threading.Event()
    server = serve_source(source(DATA[:500_000], gate, DATA[500_000:]), shutdown_seconds=600)
    idle, busy, hanging = server.connect(), server.connect(), server.connect_plainly()
    assert idle.ask("GET", "/health").status == 200
    busy.request("GET", "/f")
    busy.head()
    idle.sock.suppress_ragged_eofs = False
    server.stop()
    assert idle.is_closed()
    assert hanging.is_closed()
    gate.set()
    assert busy.take(len(DATA)) == DATA
    server.thread.join(15)
    assert not server.thread.is_alive()


@pytest.mark.parametrize("name", ["large", "huge"])
def test_a_stop_lets_a_slow_client_have_the_rest_of_its_page(serving_tls, shelf, until, name):
    server = serving_tls(shelf.blueprint, shutdown_seconds=600)
    keep_little_in_the_kernel(server)
    slow = server.connect(receive_buffer=4 * 1024)
    slow.request("GET", f"/page/{name}")
    length = int(slow.head()["content-length"])
    body = slow.take(length - 40_000)
    server.stop()
    until(lambda: not server.readiness.ready)
    time.sleep(0.3)  # connections are looked at several times
    assert body + slow.take(40_000) == shelf.pages[name].body
    server.thread.join(15)
    assert not server.thread.is_alive()
