"""The cache of prepared answers on connections: what comes in pieces or at once, slow and leaving clients, the end. On both loops."""

from __future__ import annotations

import asyncio
import gc
import os
import socket
import struct
import threading
import time

import pytest
from sanic.http.constants import Stage
from sanic.response import text

from nora.http import protocol
from nora.http.fast import HeldPages
from nora.http.heads import MAX_HEAD_BYTES

MB = 1024 * 1024
SMALL = b"GET /page/small HTTP/1.1\r\nHost: nora.example\r\n\r\n"
FILED = b"GET /page/filed HTTP/1.1\r\nHost: nora.example\r\n\r\n"
HUGE = b"GET /page/huge HTTP/1.1\r\nHost: nora.example\r\n\r\n"


@pytest.fixture(params=["asyncio", "uvloop"])
def loop_kind(request) -> str:
    return request.param


@pytest.fixture
def server(serving, shelf, until):
    """Its cache has the answers to ``SMALL``, ``FILED`` and ``HUGE``."""
    shelf.seconds = 3600
    made = serving(shelf.blueprint, held=shelf.held())
    # What the kernel takes is gone for us, so for once it takes little. Accepted connections inherit that.
    made.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 64 * 1024)
    client = made.connect()
    for wire in (SMALL, FILED, HUGE) * 2:
        client.send(wire)
        client.answer()
    client.close()
    until(lambda: len(made.app.ctx.held_pages) == 3)
    shelf.made = 0
    return made


def packets(client) -> None:
    """Each write becomes a packet of its own."""
    client.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


# Pieces and several at once


def test_a_head_may_be_split_anywhere(server, shelf):
    client = server.connect()
    packets(client)
    for position in range(1, len(SMALL)):
        client.send(SMALL[:position])
        time.sleep(0.002)
        client.send(SMALL[position:])
        assert client.answer().body == b"small page\n", position
        client.send(SMALL)
        assert client.answer().body == b"small page\n", position
    assert shelf.made > len(SMALL) // 2, "most came in two pieces"


def test_a_head_may_come_byte_by_byte(server):
    client = server.connect()
    packets(client)
    for position in range(len(SMALL)):
        client.send(SMALL[position : position + 1])
        time.sleep(0.001)
    assert client.answer().body == b"small page\n"


def test_heads_in_one_packet_are_answered_in_order(server):
    client = server.connect()
    targets = ["small", "huge", "missing", "small", "large", "small", "huge", "small"]
    client.send(b"".join(f"GET /page/{name} HTTP/1.1\r\nHost: nora.example\r\n\r\n".encode() for name in targets))
    for name in targets:
        answer = client.answer()
        assert answer.status == (404 if name == "missing" else 200)
        assert answer.body.startswith(f"{name} page".encode()) or name == "missing"
    client.send(SMALL)
    assert client.answer().body == b"small page\n"


@pytest.mark.parametrize("cut", [1, 4, 20, len(SMALL) - 1])
def test_a_head_and_the_beginning_of_the_next_may_come_together(server, cut):
    client = server.connect()
    packets(client)
    for _ in range(3):
        client.send(SMALL + SMALL[:cut])
        time.sleep(0.01)
        client.send(SMALL[cut:] + SMALL)
        assert [client.answer().body for _ in range(3)] == [b"small page\n"] * 3


def test_what_looks_like_a_held_request_may_be_the_rest_of_another(server, serving, shelf):
    answers = []
    for other in (server, serving(shelf.blueprint)):
        client = other.connect()
        packets(client)
        client.send(b"GET /page/missing HTTP/1.1\r\nX-A: ")
        time.sleep(0.05)
        client.send(SMALL)
        answers.append(client.answer().status)
        client.send(SMALL)
        answers.append(client.answer().body)
    assert answers == [404, b"small page\n"] * 2


def test_what_is_longer_than_any_head_is_not_even_looked_up(server, monkeypatch):
    looked_up = []
    monkeypatch.setattr(HeldPages, "serve", lambda self, data, protocol: bool(looked_up.append(len(data))))
    client = server.connect()
    assert client.ask("PUT", "/echo", b"x" * 100_000).body == b"x" * 100_000
    assert all(size <= MAX_HEAD_BYTES for size in looked_up)


def test_a_request_that_is_held_does_not_overtake_one_that_is_not(serving, shelf):
    gate = threading.Event()

    @shelf.blueprint.read("/slow")
    async def slow(request):
        await asyncio.get_running_loop().run_in_executor(None, gate.wait, 10)
        return text("slow")

    client = serving(shelf.blueprint, held=shelf.held()).connect()
    packets(client)
    for _ in range(3):
        client.send(SMALL)
        client.answer()
    assert shelf.made == 2
    client.send(b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n")
    time.sleep(0.05)
    client.send(SMALL)
    time.sleep(0.05)
    gate.set()
    assert [client.answer().body for _ in range(2)] == [b"slow", b"small page\n"]


def test_the_first_request_of_a_connection_is_answered_from_the_cache(server, shelf):
    for _ in range(30):
        client = server.connect()
        client.send(SMALL)
        assert client.answer().body == b"small page\n"
        assert client.ask("PUT", "/echo", b"hello").body == b"hello"
    assert shelf.made == 0


# What only looks like a request


@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_that_looks_like_a_held_request_is_a_body(server, chunked):
    client = server.connect()
    packets(client)
    client.send(b"PUT /echo HTTP/1.1\r\nHost: x\r\n")
    client.send(b"Transfer-Encoding: chunked\r\n\r\n" if chunked else b"Content-Length: %d\r\n\r\n" % len(SMALL))
    time.sleep(0.02)
    if chunked:
        client.send(b"%x\r\n" % len(SMALL))
        time.sleep(0.02)
    client.send(SMALL)
    if chunked:
        time.sleep(0.02)
        client.send(b"\r\n0\r\n\r\n")
    assert client.answer().body == SMALL
    client.send(SMALL)
    assert client.answer().body == b"small page\n"


@pytest.mark.parametrize("target", ["/ignored", "/missing"])
def test_an_unread_body_that_looks_like_a_held_request_is_never_answered(server, target):
    # HTTP-13
    client = server.connect()
    packets(client)
    client.send(f"POST {target} HTTP/1.1\r\nHost: x\r\nContent-Length: {3 * len(SMALL)}\r\n\r\n".encode())
    answer = client.answer()
    assert answer["connection"] == "close"
    for _ in range(3):
        client.send(SMALL)
        time.sleep(0.02)
    assert client.is_closed()


@pytest.mark.parametrize(
    "garbage",
    [
        b"\r\n\r\n",
        b"\r\n" + SMALL,
        SMALL[:-2],
        b"\0" * 50,
        SMALL + b"\0",
        b" " + SMALL,
        SMALL.replace(b"\r\n", b"\n"),
        SMALL[1:],
    ],
)
def test_garbage_is_answered_as_without_the_cache(server, serving, shelf, garbage):
    answers = []
    for other in (server, serving(shelf.blueprint)):
        client = other.connect()
        client.send(SMALL)
        client.answer()
        client.send(garbage)
        client.sock.shutdown(socket.SHUT_WR)
        while client.fill():
            pass
        answers.append([line for line in client.buffer.split(b"\r\n") if not line.startswith((b"date:", b"x-request-id:"))])
    assert answers[0] == answers[1]


@pytest.mark.parametrize("size", [8_193, 9_000, 20_000, 300_000])
def test_a_head_that_is_too_long_is_refused_as_without_the_cache(server, serving, shelf, size):
    answers = []
    for other in (server, serving(shelf.blueprint)):
        client = other.connect()
        client.send(b"GET /page/small HTTP/1.1\r\nHost: x\r\nX-A: " + b"a" * size + b"\r\n\r\n")
        answers.append(client.answer().status)
    assert answers == [431, 431]


# Clients that are slow, or go


def test_a_client_that_asks_and_does_not_read_fills_no_memory(server, protocols):
    client = server.connect(receive_buffer=64 * 1024)
    packets(client)
    for _ in range(60):
        client.send(HUGE)
        time.sleep(0.002)
    time.sleep(0.2)
    # One answer that was begun, and a piece of the next.
    assert server.on_loop(protocols[0].transport.get_write_buffer_size) < 3 * MB
    size = len(server.app.ctx.held_pages._entries[HUGE].body)
    for _ in range(60):
        assert len(client.answer().body) == size
    client.send(SMALL)
    assert client.answer().body == b"small page\n"


def test_a_slow_client_gets_all_of_it_however_long_it_takes(server, protocols, monkeypatch):
    monkeypatch.setattr("nora.http.protocol.LEAVING_SECONDS", 0.1)
    server.app.config.update({"KEEP_ALIVE_TIMEOUT": 0.3, "RESPONSE_TIMEOUT": 0.6, "GRACEFUL_TCP_CLOSE_TIMEOUT": 0.1})
    client = server.connect(receive_buffer=16 * 1024)
    client.send(HUGE)
    head = client.head()
    got, length, client.buffer = len(client.buffer), int(head["content-length"]), b""
    started = time.monotonic()
    while time.monotonic() - started < 1.5:
        got += len(client.sock.recv(8 * 1024))
        time.sleep(0.02)
    assert got < length - 200_000, "it was not slow"
    assert server.on_loop(protocols[0].transport.get_write_buffer_size) > 0, "nothing was left to be cut off"
    while got < length:
        data = client.sock.recv(MB)
        assert data, f"cut at {got} of {length} bytes"
        got += len(data)
    assert client.is_closed(), "and then it is idle"


@pytest.mark.parametrize("pause", [0.0, 0.001])
def test_what_is_sent_from_a_file_in_memory_arrives_whole_at_whatever_pace(server, shelf, pause):
    client, body = server.connect(receive_buffer=16 * 1024), shelf.pages["filed"].body
    for _ in range(10):
        client.send(FILED)
        head = client.head()
        assert int(head["content-length"]) == len(body)
        got = bytearray()
        while len(got) < len(body):
            time.sleep(pause)
            got += client.take(min(7000, len(body) - len(got)))
        assert got == body
    assert shelf.made == 0
    assert len(server.app.ctx.held_pages._bodies._files) == 1


def test_a_client_that_leaves_while_a_file_in_memory_is_sent_harms_nobody(server, protocols, until, caplog):
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(20):
        client = server.connect(receive_buffer=16 * 1024)
        client.send(FILED)
        client.take(100)
        client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.close()
    until(lambda: not protocols[0].connections)
    assert len(os.listdir("/proc/self/fd")) <= before + 1, "each connection's own descriptor is closed with it"
    client = server.connect()
    client.send(FILED)
    assert client.answer().body.startswith(b"filed page")
    assert [record for record in caplog.records if record.levelname in ("ERROR", "WARNING")] == []


def test_a_client_that_takes_nothing_has_two_minutes_though_other_answers_may_take_longer(
    server, protocols, until, monkeypatch
):
    assert protocol.STALLED_SECONDS == 120 < server.app.config.RESPONSE_TIMEOUT
    monkeypatch.setattr(protocol, "LEAVING_SECONDS", 0.1)
    monkeypatch.setattr(protocol, "STALLED_SECONDS", 0.3)
    server.app.config.update({"KEEP_ALIVE_TIMEOUT": 0.2, "GRACEFUL_TCP_CLOSE_TIMEOUT": 0.1})
    client = server.connect(receive_buffer=16 * 1024)
    client.send(HUGE)
    client.head()
    until(lambda: not protocols[0].connections)


def test_a_client_that_takes_nothing_is_let_go_in_the_end(server, protocols, until, monkeypatch):
    monkeypatch.setattr("nora.http.protocol.LEAVING_SECONDS", 0.1)
    server.app.config.update({"KEEP_ALIVE_TIMEOUT": 0.2, "RESPONSE_TIMEOUT": 0.6, "GRACEFUL_TCP_CLOSE_TIMEOUT": 0.1})
    client = server.connect(receive_buffer=16 * 1024)
    client.send(HUGE)
    client.head()
    connections = protocols[0].connections
    time.sleep(0.4)
    assert connections, "it had more time than an idle one"
    until(lambda: not connections)


def test_a_connection_lives_as_long_as_it_is_used(server):
    server.app.config.KEEP_ALIVE_TIMEOUT = 0.4
    client = server.connect()
    for _ in range(8):
        client.send(SMALL)
        assert client.answer().body == b"small page\n"
        time.sleep(0.15)
    started = time.monotonic()
    assert client.is_closed()
    assert 0.1 < time.monotonic() - started < 3


@pytest.mark.parametrize("wire", [SMALL, HUGE, SMALL * 3, HUGE * 20])
@pytest.mark.parametrize("reset", [False, True])
def test_a_client_that_leaves_harms_nobody(server, protocols, until, wire, reset, caplog):
    for _ in range(10):
        client = server.connect(receive_buffer=16 * 1024)
        client.send(wire)
        if reset:
            client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.close()
    client = server.connect()
    client.send(SMALL)
    assert client.answer().body == b"small page\n"
    until(lambda: len(protocols[-1].connections) == 1)
    gc.collect()
    assert not [record for record in caplog.records if record.exc_info or record.levelname == "ERROR"]


# The end


def test_a_server_that_stops_closes_idle_connections(server):
    clients = [server.connect() for _ in range(5)]
    for client in clients[1:]:  # the first one has never asked
        client.send(SMALL)
        client.answer()
    server.stop()
    for client in clients:
        assert client.is_closed()
    server.thread.join(2)
    assert not server.thread.is_alive()


def test_an_answer_that_is_on_its_way_at_the_stop_arrives(server, protocols):
    server.app.config.GRACEFUL_TCP_CLOSE_TIMEOUT = 0.1  # what a connection gets that was taken for idle
    client = server.connect(receive_buffer=16 * 1024)
    client.send(HUGE)
    head = client.head()
    time.sleep(0.05)
    server.stop()
    got, length, client.buffer = len(client.buffer), int(head["content-length"]), b""
    for _ in range(10):
        got += len(client.sock.recv(8 * 1024))
        time.sleep(0.05)
    assert server.thread.is_alive()
    while got < length:
        data = client.sock.recv(MB)
        assert data, f"cut at {got} of {length} bytes"
        got += len(data)
    assert client.is_closed()
    server.thread.join(2)
    assert not server.thread.is_alive()


def test_a_stop_does_not_wait_for_ever_for_a_client_that_takes_nothing(serving, shelf):
    server = serving(shelf.blueprint, held=shelf.held(), shutdown_seconds=0.5)
    client = server.connect(receive_buffer=16 * 1024)
    for _ in range(2):
        client.send(HUGE)
        time.sleep(0.1)
    server.stop()
    server.thread.join(5)
    assert not server.thread.is_alive()


def test_nothing_is_served_from_the_cache_once_the_server_stops(server, shelf):
    gate = threading.Event()
    held = server.app.ctx.held_pages
    client, other = server.connect(receive_buffer=16 * 1024), server.connect()
    other.send(SMALL)
    other.answer()
    client.send(HUGE)
    client.head()
    server.on_loop(held.close)
    gate.set()
    other.send(SMALL)
    assert other.answer().body == b"small page\n"
    assert shelf.made == 1
    assert len(held) == 0


def test_requests_while_the_server_stops_are_answered_or_refused_but_never_cut(server, cut):
    outcomes: list[str] = []

    def work() -> None:
        client = server.connect()
        while True:
            try:
                client.send(SMALL)
                body = client.answer().body
            except (cut, OSError):
                outcomes.append("cut within an answer" if client.buffer else "closed")
                return
            if body != b"small page\n":
                outcomes.append("wrong")
                return

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    time.sleep(0.3)
    server.stop()
    for thread in threads:
        thread.join(10)
    assert outcomes == ["closed"] * 8


# What is relied on


def test_sanics_undocumented_parts_are_still_there(server, protocols):
    # What nora.http.protocol relies on. If this fails with a new Sanic, read it again.
    client = server.connect()
    client.send(SMALL)
    client.answer()
    protocol = protocols[0]

    def look():
        http = protocol._http
        return http.request, http.stage, bytes(protocol.recv_buffer), protocol._time <= time.monotonic(), protocol.http is http

    assert server.on_loop(look) == (None, Stage.IDLE, b"", True, True)
    assert protocol.response_timeout == server.app.config.RESPONSE_TIMEOUT
    client.ask("GET", "/page/missing")
    assert server.on_loop(look) == (None, Stage.IDLE, b"", True, True)
