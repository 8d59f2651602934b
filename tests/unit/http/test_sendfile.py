"""Files over the wire: held, growing, of unknown length, breaking off; plain, and where that may differ encrypted. On both event loops."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from contextlib import suppress

import pytest

from nora.api import UpstreamUnavailable
from nora.http import sendfile as module
from nora.http.held_files import HeldFile
from nora.http.sendfile import read_fully
from nora.http.wire import Broken

MB = 1024 * 1024
DATA = bytes(range(256)) * 8192  # 2 MB
BROKE = UpstreamUnavailable("https://files.example/x", "broke")


@pytest.fixture(params=["asyncio", "uvloop"])
def loop_kind(request) -> str:
    return request.param


over_both = pytest.mark.parametrize("carrier", ["plain", "tls"], indirect=True)


@pytest.fixture
def carrier(request) -> str:
    return getattr(request, "param", "plain")


# Held


@over_both
@pytest.mark.parametrize("size", [0, 1, 256 * 1024, 256 * 1024 + 1, len(DATA)])
def test_a_held_file_comes_whole_with_its_length(serve_source, source, until, size):
    file = source(DATA[:size], held=True)
    client = serve_source(file).connect()
    for number in range(1, 4):
        answer = client.ask("GET", "/f")
        assert (answer.status, answer["content-length"], answer["accept-ranges"]) == (200, str(size), "bytes")
        assert answer.body == DATA[:size]
        until(lambda number=number: file.closed == number)


# FILE-2
@over_both
@pytest.mark.parametrize(
    ("asked", "start", "stop"),
    [
        ("bytes=0-0", 0, 1),
        ("bytes=5-9", 5, 10),
        ("bytes=300000-1299999", 300_000, 1_300_000),
        ("bytes=2097151-", len(DATA) - 1, len(DATA)),
        ("bytes=1000-99999999", 1000, len(DATA)),
        ("bytes=-1", len(DATA) - 1, len(DATA)),
        ("bytes=-400000", len(DATA) - 400_000, len(DATA)),
        ("bytes=-99999999", 0, len(DATA)),
    ],
)
@pytest.mark.parametrize("held", [True, False], ids=["held", "growing"])
def test_a_range_is_that_part_of_the_file(serve_source, source, held, asked, start, stop):
    file = source(DATA, held=True) if held else source(DATA[:700_000], DATA[700_000:1_500_000], DATA[1_500_000:])
    answer = serve_source(file).ask("GET", "/f", Range=asked)
    assert (answer.status, answer["content-range"]) == (206, f"bytes {start}-{stop - 1}/{len(DATA)}")
    assert answer["content-length"] == str(stop - start)
    assert answer.body == DATA[start:stop]


def test_pieces_of_a_file_make_the_file_on_one_connection(serve_source, source):
    client, got = serve_source(source(DATA, held=True)).connect(), b""
    while len(got) < len(DATA):
        answer = client.ask("GET", "/f", Range=f"bytes={len(got)}-{len(got) + 299_999}", If_Range='"tag"')
        assert answer.status == 206
        got += answer.body
    assert got == DATA


def test_many_clients_get_the_same_file_at_once(serve_source, source, until, descriptors):
    file = source(DATA, held=True)
    before = descriptors()
    server = serve_source(file)
    clients = [server.connect() for _ in range(20)]
    for client in clients:
        client.request("GET", "/f")
    assert all(client.answer().body == DATA for client in clients)
    until(lambda: file.closed == 20)
    for client in clients:
        client.close()
    server.close()
    until(lambda: descriptors() <= before)


@over_both
def test_a_slow_reader_gets_the_whole_file_and_others_do_not_wait_for_it(serve_source, source, monkeypatch):
    monkeypatch.setattr(module, "STEP_BYTES", 100_000)
    server = serve_source(source(DATA * 3, held=True))
    slow = server.connect(receive_buffer=16 * 1024)
    slow.take_no_end_for_granted()
    slow.request("GET", "/f", Connection="close")
    slow.head()
    time.sleep(0.2)
    started = time.monotonic()
    assert server.ask("GET", "/f").body == DATA * 3
    assert time.monotonic() - started < 2
    assert slow.take(3 * len(DATA)) == DATA * 3
    assert slow.is_closed()


@over_both
def test_clients_that_stall_hold_no_thread(serve_source, source):
    server = serve_source(source(DATA * 8, held=True))
    stalled = [server.connect(receive_buffer=16 * 1024) for _ in range(40)]  # more than there are threads
    for client in stalled:
        client.request("GET", "/f")
        client.head()
    time.sleep(0.2)
    client = server.connect()
    client.sock.settimeout(3)
    assert client.ask("GET", "/f", Range="bytes=0-999999").status == 206


# Growing, FILE-13


@over_both
def test_a_growing_file_flows_while_it_grows(serve_source, source):
    # FILE-13
    more = threading.Event()
    client = serve_source(source(DATA[:500_000], more, DATA[500_000:])).connect()
    client.request("GET", "/f")
    head = client.head()
    assert head["content-length"] == str(len(DATA))
    first = client.take(500_000)
    more.set()
    assert first + client.take(len(DATA) - 500_000) == DATA
    assert client.ask("GET", "/f").status == 200


@over_both
@pytest.mark.parametrize("size", [100, 100_000, len(DATA)])
def test_a_file_of_unknown_length_is_chunked(serve_source, source, until, size):
    data = DATA[:size]
    file = source(data[: size // 2], data[size // 2 :], size=None)
    client = serve_source(file).connect()
    answer = client.ask("GET", "/f")
    assert (answer["transfer-encoding"], answer["content-length"], answer["accept-ranges"]) == ("chunked", None, None)
    assert answer.body == data
    until(lambda: file.closed == 1)
    # Once the length is known it is given.
    assert client.ask("GET", "/f")["content-length"] == str(size)


def test_a_range_of_a_file_of_unknown_length_is_the_whole_file(serve_source, source):
    answer = serve_source(source(DATA[:100_000], DATA[100_000:200_000], size=None)).ask("GET", "/f", Range="bytes=0-9")
    assert (answer.status, answer.body) == (200, DATA[:200_000])


@pytest.mark.parametrize("size", [-1, None])
def test_an_http_1_0_client_gets_a_growing_file_with_its_length(serve_source, source, size):
    client = serve_source(source(DATA[:500_000], DATA[500_000:], size=size)).connect()
    answer = client.ask("GET", "/f", version="1.0")
    assert (answer["transfer-encoding"], answer["content-length"]) == (None, str(len(DATA)))
    assert answer.body == DATA
    assert client.is_closed()


# Breaking off, HTTP-12


@over_both
@pytest.mark.parametrize("asked", [{}, {"Range": "bytes=100-"}, {"Connection": "close"}])
def test_a_file_that_breaks_off_never_looks_complete(serve_source, source, cut, until, asked):
    # HTTP-12
    file = source(DATA[:500_000], BROKE, size=len(DATA))
    client = serve_source(file).connect()
    client.take_no_end_for_granted()
    client.request("GET", "/f", **asked)
    with pytest.raises(cut):
        client.answer()
    until(lambda: file.closed == 1)


@over_both
def test_a_file_of_unknown_length_that_breaks_off_has_no_last_chunk(serve_source, source, cut, until):
    # HTTP-12
    file = source(DATA[:500_000], BROKE, size=None)
    client = serve_source(file).connect()
    client.request("GET", "/f")
    assert client.head()["transfer-encoding"] == "chunked"
    while client.fill():
        pass
    assert b"\r\n0\r\n" not in client.buffer[-100:]
    until(lambda: file.closed == 1)


def test_an_http_1_0_client_gets_nothing_that_looks_like_a_file_when_it_breaks_off(serve_source, source, cut):
    client = serve_source(source(DATA[:500_000], BROKE, size=None)).connect()
    client.request("GET", "/f", version="1.0")
    with pytest.raises(cut):
        client.answer()


@pytest.mark.parametrize("step", [BROKE, RuntimeError("a mistake of ours")])
@pytest.mark.parametrize("size", [len(DATA), None])
def test_what_fails_before_the_first_byte_is_an_honest_status(serve_source, source, until, step, size):
    file = source(step, size=size)
    client = serve_source(file).connect()
    for number in (1, 2):
        answer = client.ask("GET", "/f")
        assert answer.status == (503 if step is BROKE else 500)
        assert answer["connection"] == "keep-alive"
        until(lambda number=number: file.closed == number)


@pytest.mark.parametrize("size", [1000, 1_000_000])
def test_a_file_that_is_shorter_than_announced_never_looks_complete(serve_source, source, cut, size):
    # HTTP-12
    file = source(DATA[: size - 1], held=True)
    file.size = file._available = size  # truncated behind our back
    client = serve_source(file).connect()
    client.request("GET", "/f")
    with pytest.raises(cut):
        client.answer()


def test_a_growing_file_that_ends_early_never_looks_complete(serve_source, source, cut):
    # HTTP-12
    client = serve_source(source(DATA[:500_000], DATA[500_000:-1], size=len(DATA))).connect()
    client.request("GET", "/f")
    with pytest.raises(cut):
        client.answer()


# HTTP-1, HTTP-2


@pytest.mark.parametrize(("size", "starts"), [(-1, 0), (None, 1)])
def test_head_of_a_growing_file_fetches_no_more_than_it_must(serve_source, source, until, size, starts):
    # HTTP-1, HTTP-2
    file = source(DATA[:100_000], DATA[100_000:], size=size)
    client = serve_source(file).connect()
    answer = client.ask("HEAD", "/f")
    assert (answer.status, answer["content-length"]) == (200, str(len(DATA)) if size else None)
    until(lambda: file.closed == 1)
    assert file.started == starts
    assert client.ask("GET", "/f").body == DATA


# Clients that leave


@pytest.mark.parametrize("kind", ["held", "growing", "unknown"])
@pytest.mark.parametrize(
    ("carrier", "politely"),
    [("plain", False), ("tls", False), ("tls", True)],
    indirect=["carrier"],
    ids=["plain", "tls", "tls politely"],
)
def test_a_client_that_leaves_lets_go_of_everything(serve_source, source, until, kind, politely, descriptors):
    gate = threading.Event()
    file = (
        source(DATA * 10, held=True)
        if kind == "held"
        else source(DATA, gate, DATA, size=None if kind == "unknown" else 2 * len(DATA))
    )
    server = serve_source(file)
    server.ask("GET", "/health")
    before = descriptors()
    clients = [server.connect(receive_buffer=16 * 1024) for _ in range(3)]
    for client in clients:
        client.request("GET", "/f")
        client.head()
    for client in clients:
        if politely:
            client.sock.settimeout(0.01)
            # Says that it ends, and does not wait for what is still on its way.
            with suppress(OSError):
                client.sock.unwrap()
        client.close()
    gate.set()
    until(lambda: file.closed == 3)
    until(lambda: descriptors() <= before)
    assert server.ask("GET", "/health").status == 200


# Reading


async def test_a_visit_to_a_thread_is_over_before_its_descriptors_are_closed(monkeypatch):
    gate, seen = threading.Event(), []
    read, write = os.pipe()

    def push(out, source, start, count):
        gate.wait(5)
        os.fstat(out)
        seen.append(out)
        return 7

    async def work(answer):
        try:
            await answer._burst(write, read, 0, 9)
        finally:
            os.close(write)

    monkeypatch.setattr(module, "push", push)
    answer = module.FileAnswer(200, [], HeldFile(read, 9), 0, 9)
    task = asyncio.create_task(work(answer))
    for _ in range(3):
        await asyncio.sleep(0.02)
        task.cancel()
    await asyncio.sleep(0.02)
    assert not task.done()
    gate.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (seen, answer.bytes_sent) == ([write], 7), "what was sent counts"
    os.close(read)


async def test_who_waits_for_a_client_to_take_what_was_written_looks_less_and_less_often():
    class Full:
        looks = 0

        def get_write_buffer_size(self):
            self.looks += 1
            return 1

        def is_closing(self):
            return False

    transport = Full()
    with suppress(TimeoutError):
        await asyncio.wait_for(module.drained(transport), 0.6)
    assert transport.looks <= 11


def test_reading_is_exact_or_an_error(tmp_path):
    (tmp_path / "f").write_bytes(b"0123456789")
    descriptor = os.open(tmp_path / "f", os.O_RDONLY)
    assert read_fully(descriptor, 0, 10) == b"0123456789"
    assert read_fully(descriptor, 3, 4) == b"3456"
    assert read_fully(descriptor, 10, 0) == b""
    for start, count in ((0, 11), (9, 2), (10, 1), (99, 1)):
        with pytest.raises(Broken):
            read_fully(descriptor, start, count)
    os.close(descriptor)


def test_reading_goes_on_after_a_short_read(tmp_path, monkeypatch):
    (tmp_path / "f").write_bytes(b"0123456789")
    descriptor, pread = os.open(tmp_path / "f", os.O_RDONLY), os.pread
    monkeypatch.setattr(os, "pread", lambda fd, count, start: pread(fd, min(count, 3), start))
    assert read_fully(descriptor, 1, 8) == b"12345678"
    os.close(descriptor)
