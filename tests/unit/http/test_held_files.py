"""Large files by prepared answers: whole, at the client's pace, in their turn, and with nothing left behind."""

from __future__ import annotations

import errno
import logging
import os
import socket
import struct
import threading
import time

import pytest

from nora.http import held_files, protocol
from nora.http.limits import RequestLimits
from nora.http.protocol import HeldProtocol

MB = 1024 * 1024


def head(target: str) -> bytes:
    return f"GET {target} HTTP/1.1\r\nHost: nora.example\r\n\r\n".encode()


FILE, SMALL, UNKNOWN = head("/file/tall"), head("/page/small"), head("/page/middle")


@pytest.fixture(params=["asyncio", "uvloop"])
def loop_kind(request) -> str:
    return request.param


@pytest.fixture
def server(serving, shelf):
    """Its cache has the answers to ``FILE``, of 3 MB, and ``SMALL``."""
    shelf.put("tall", os.urandom(3 * MB))
    made = serving(shelf.blueprint, held=shelf.held())
    made.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 64 * 1024)
    client = made.connect()
    for wire in (FILE, SMALL) * 2:
        client.send(wire)
        client.answer()
    client.close()
    shelf.made = 0
    return made


def begun(server, **options):
    """A client that has the head of the file and the beginning of it, and takes no more."""
    client = server.connect(receive_buffer=16 * 1024, **options)
    client.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    client.send(FILE)
    assert int(client.head()["content-length"]) == 3 * MB
    return client


def test_it_comes_whole_without_asking_anybody(server, shelf):
    client = server.connect()
    for wire, name in ((FILE, "tall"), (SMALL, "small"), (FILE, "tall"), (FILE, "tall"), (SMALL, "small")):
        client.send(wire)
        assert client.answer().body == shelf.pages[name].body
    assert shelf.made == 0


@pytest.mark.parametrize("name", ["filed", "huge"])
def test_answers_have_the_same_bytes_as_without_the_cache(serving, shelf, until, name):
    cached, usual = serving(shelf.blueprint, held=shelf.held()), serving(shelf.blueprint)
    wire, answers = head(f"/file/{name}").replace(b"\r\n\r\n", b"\r\nX-Request-ID: mine\r\n\r\n"), []
    for server in (usual, cached, cached, cached, cached):
        client = server.connect()
        client.send(wire)
        answers.append(client.answer())
    assert shelf.made == 3
    for answer in answers[1:]:
        assert [field for field in answer.fields if field[0] != "date"] == [
            field for field in answers[0].fields if field[0] != "date"
        ]
        assert answer.body == answers[0].body == shelf.pages[name].body


def test_many_clients_get_it_at_once(server, shelf):
    body, wrong = shelf.pages["tall"].body, []

    def work() -> None:
        client = server.connect()
        for _ in range(5):
            client.send(FILE)
            if client.answer().body != body:
                wrong.append(client)

    threads = [threading.Thread(target=work) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert (wrong, shelf.made) == ([], 0)


@pytest.mark.parametrize("first", [True, False], ids=["new connection", "used connection"])
@pytest.mark.parametrize("following", [SMALL, UNKNOWN, FILE, SMALL + UNKNOWN], ids=["held", "usual", "file", "both"])
def test_what_is_asked_meanwhile_is_answered_afterwards(server, shelf, first, following):
    for _ in range(5):
        client = server.connect(receive_buffer=16 * 1024)
        client.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if not first:
            client.send(SMALL)
            client.answer()
        client.send(FILE)
        time.sleep(0.01)
        client.send(following)
        time.sleep(0.01)
        assert client.answer().body == shelf.pages["tall"].body
        for wire in following.split(b"GET ")[1:]:
            name = wire.split(b" ")[0].rpartition(b"/")[2].decode()
            assert client.answer().body == shelf.pages[name].body
        client.close()


def test_a_request_in_pieces_follows_it(server, shelf):
    client = begun(server)
    for byte in SMALL:
        client.send(bytes([byte]))
        time.sleep(0.001)
    assert client.take(3 * MB) == shelf.pages["tall"].body
    assert client.answer().body == b"small page\n"


@pytest.mark.parametrize("reset", [True, False])
def test_a_client_that_leaves_leaves_nothing_behind(server, protocols, until, caplog, reset, descriptors):
    caplog.set_level(logging.INFO)
    before = descriptors()
    for _ in range(10):
        client = begun(server)
        client.take(100_000)
        time.sleep(0.03)
        if reset:
            client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.close()
    until(lambda: not protocols[0].connections)
    until(lambda: descriptors() <= before)
    lines = [record for record in caplog.records if getattr(record, "broken", False)]
    assert len(lines) == 10
    assert all(line.status == 200 and 0 < line.bytes < 3 * MB for line in lines)
    assert [record for record in caplog.records if record.levelname in ("ERROR", "WARNING")] == []
    client = server.connect()
    client.send(FILE)
    assert len(client.answer().body) == 3 * MB


def test_a_slow_client_gets_all_of_it_however_long_it_takes(server, protocols, shelf, monkeypatch):
    monkeypatch.setattr(protocol, "LEAVING_SECONDS", 0.05)
    server.app.config.update({"KEEP_ALIVE_TIMEOUT": 0.2, "RESPONSE_TIMEOUT": 0.4, "GRACEFUL_TCP_CLOSE_TIMEOUT": 0.1})
    client, got = begun(server), bytearray()
    started = time.monotonic()
    while time.monotonic() - started < 1.2:
        got += client.take(8 * 1024)
        time.sleep(0.01)
    assert len(got) < 2 * MB, "it was not slow"
    got += client.take(3 * MB - len(got))
    assert got == shelf.pages["tall"].body
    assert client.is_closed(), "and then it is idle"


@pytest.mark.parametrize("target", ["/file/tall", "/page/tall"])
def test_a_slow_client_is_seen_to_read_however_much_the_kernel_takes_at_once(serving, shelf, monkeypatch, target):
    monkeypatch.setattr(protocol, "LEAVING_SECONDS", 0.05)
    monkeypatch.setattr(protocol, "STALLED_SECONDS", 0.4)
    shelf.put("tall", os.urandom(10 * MB))
    server = serving(shelf.blueprint, held=shelf.held())
    server.app.config.update({"KEEP_ALIVE_TIMEOUT": 0.4, "GRACEFUL_TCP_CLOSE_TIMEOUT": 0.1})
    client = server.connect()
    for _ in range(2):
        client.send(head(target))
        client.answer()
    client = server.connect(receive_buffer=16 * 1024)
    client.send(head(target))
    assert int(client.head()["content-length"]) == 10 * MB
    got, started = bytearray(), time.monotonic()
    while time.monotonic() - started < 2.0:
        got += client.take(8 * 1024)
        time.sleep(0.02)
    assert len(got) < MB, "less than the kernel asks for at once"
    got += client.take(10 * MB - len(got))
    assert got == shelf.pages["tall"].body
    assert shelf.made == 2


def test_a_client_that_takes_nothing_is_let_go_in_the_end(server, protocols, until, monkeypatch, descriptors):
    before = descriptors()
    monkeypatch.setattr(protocol, "LEAVING_SECONDS", 0.05)
    server.app.config.update({"KEEP_ALIVE_TIMEOUT": 0.2, "RESPONSE_TIMEOUT": 0.6, "GRACEFUL_TCP_CLOSE_TIMEOUT": 0.1})
    client = begun(server)
    time.sleep(0.4)
    assert protocols[0].connections, "it had more time than an idle one"
    until(lambda: not protocols[0].connections)
    client.close()
    until(lambda: descriptors() <= before)


def test_a_file_on_its_way_at_the_stop_arrives(server, shelf):
    server.app.config.GRACEFUL_TCP_CLOSE_TIMEOUT = 0.1  # what a connection gets that is taken for idle
    client = begun(server)
    server.stop()
    got = bytearray()
    for _ in range(10):
        got += client.take(8 * 1024)
        time.sleep(0.05)
    assert server.thread.is_alive()
    got += client.take(3 * MB - len(got))
    assert got == shelf.pages["tall"].body
    assert client.is_closed()
    server.thread.join(3)
    assert not server.thread.is_alive()


@pytest.mark.parametrize("early", [b"", SMALL, FILE], ids=["nothing", "page", "file"])
def test_a_stop_between_a_file_and_what_was_asked_meanwhile_cuts_nothing(server, shelf, monkeypatch, early):
    answered = HeldProtocol.answered

    def answered_and_looked_at(self, answer=b""):
        answered(self, answer)
        self.close_if_idle()  # as a server that stops does now and then

    monkeypatch.setattr(HeldProtocol, "answered", answered_and_looked_at)
    client = begun(server)
    client.send(early)
    time.sleep(0.02)
    got = bytearray()
    while len(got) < 3 * MB:
        got += client.take(min(8 * 1024, 3 * MB - len(got)))
    assert got == shelf.pages["tall"].body
    if early:
        assert client.answer().status == 200
    if early != SMALL:  # whose end nobody looked at
        assert client.is_closed()


def test_a_file_that_begins_just_when_its_connection_is_aborted_is_no_error(server, protocols, caplog, until):
    client = server.connect()
    client.send(SMALL)
    client.answer()

    def look():
        protocols[-1].data_received(FILE)
        protocols[-1].abort()

    server.on_loop(look)
    until(lambda: not protocols[-1].connections)
    assert [record for record in caplog.records if record.levelname in ("ERROR", "WARNING")] == []


def test_nothing_begins_on_a_connection_that_is_about_to_be_closed(server, protocols):
    client = server.connect()
    client.send(SMALL)
    client.answer()

    def look():
        protocols[-1]._task.cancel()  # as a timeout does
        protocols[-1].data_received(FILE)

    server.on_loop(look)
    assert client.is_closed()


def test_a_stop_does_not_wait_for_ever_for_a_client_that_takes_nothing(serving, shelf, descriptors):
    shelf.put("tall", bytes(8 * MB))
    server = serving(shelf.blueprint, held=shelf.held(), shutdown_seconds=0.5)
    for _ in range(3):
        client = server.connect(receive_buffer=16 * 1024)
        client.send(FILE)
        time.sleep(0.1)
    server.stop()
    server.thread.join(5)
    assert not server.thread.is_alive()


def test_a_file_that_has_become_shorter_is_broken_off(server, shelf, cut):
    held = server.app.ctx.held_pages
    (file,) = held._files.values()
    os.ftruncate(file._descriptor, MB)
    client = server.connect()
    client.send(FILE)
    with pytest.raises(cut):
        client.answer()
    assert shelf.made == 0


def test_a_changed_file_is_seen_at_once(server, shelf, until, descriptors):
    client, before = server.connect(), descriptors()
    for number in range(20):
        body = b"%07d" % number * (MB // 7)
        shelf.put("tall", body)
        shelf.change()
        for _ in range(3):
            client.send(FILE)
            assert client.answer().body == body
    until(lambda: descriptors() <= before)  # of files that are no more nothing stays open


def test_a_file_that_nobody_asks_for_is_closed(server, until, monkeypatch, descriptors):
    held, now = server.app.ctx.held_pages, time.monotonic()
    (file,) = held._files.values()
    before = descriptors()
    monkeypatch.setattr("nora.http.fast.IDLE_SECONDS", 0.3)
    server.on_loop(held._close_idle_files)
    while time.monotonic() < now + 0.6:
        client = server.connect()
        client.send(FILE)
        client.answer()
        client.close()
    assert list(held._files.values()) == [file], "it is asked for"
    until(lambda: not held._files)
    until(lambda: descriptors() < before)
    assert len(held) == 1, "the page is still there"
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(file._descriptor)


def test_files_are_bounded_in_number(serving, shelf, descriptors, until, monkeypatch):
    monkeypatch.setattr("nora.http.fast.MAX_FILES", 4)
    held = shelf.held()
    client = serving(shelf.blueprint, held=held).connect()
    client.ask("GET", "/file/huge?x")
    before = descriptors()
    for number in range(40):
        client.ask("GET", f"/file/huge?{number // 2}")
        until(lambda: descriptors() <= before + 4)
    assert len(held) == len(held._files) == 4
    held.close()
    until(lambda: descriptors() <= before)


def test_one_with_no_descriptor_to_spare_goes_the_usual_way_and_is_not_counted_here(serving, shelf, monkeypatch):
    def none_left(self):
        raise OSError(errno.EMFILE, "Too many open files")

    limits = RequestLimits(2, clock=lambda: 0.0)
    client = serving(shelf.blueprint, held=shelf.held(limits=limits)).connect()
    for _ in range(2):
        client.ask("GET", "/file/huge")
    time.sleep(0.05)
    monkeypatch.setattr(held_files.HeldFile, "open", none_left)
    assert client.ask("GET", "/file/huge").body == shelf.pages["huge"].body
    assert shelf.made == 3
    assert [limits.take("127.0.0.1") > 0 for _ in range(3)] == [False, False, True]


def test_what_is_over_a_limit_leaves_no_descriptor_behind(serving, shelf, descriptors):
    limits = RequestLimits(1, clock=lambda: 0.0)
    client = serving(shelf.blueprint, held=shelf.held(limits=limits)).connect()
    for _ in range(3):
        client.ask("GET", "/file/huge")
        time.sleep(0.05)
    before = descriptors()
    for _ in range(5):
        client.ask("GET", "/file/huge")
        time.sleep(0.02)
    assert descriptors() <= before
    assert shelf.made == 2 + 5


def test_an_error_of_ours_is_told_and_harms_nobody_else(server, shelf, monkeypatch, caplog, cut):
    def push(*args):
        raise ZeroDivisionError

    monkeypatch.setattr("nora.http.sendfile.push", push)
    client = server.connect()
    client.send(FILE)
    with pytest.raises(cut):
        client.answer()
    (record,) = [record for record in caplog.records if record.levelname == "ERROR"]
    assert record.getMessage() == "a file could not be sent"
    client = server.connect()
    client.send(SMALL)
    assert client.answer().body == b"small page\n"
