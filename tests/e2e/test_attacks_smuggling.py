"""Heads that proxies read in another way than Sanic does, and addresses that its router stumbles over. See nora/http/strict.py.

Belongs to tests/e2e once nora/http/app.py checks heads by it.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from nora.testing.live import LiveServer

HIDDEN = b"GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n"
YANK = b"POST /api/v1/registries/pypi/projects/demo/versions/1.0/yank"
LENGTH = b"Content-Length: %d" % len(HIDDEN)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    with LiveServer(tmp_path_factory.mktemp("smuggling") / "store", '[pypi]\nproxy = ""\n') as running:
        yield running
        assert httpx.get(f"{running.url}/simple/").status_code == 200
    assert "Traceback" not in running.log()
    assert "path=/smuggled" not in running.log()


# RFC 9110 5.5, RFC 9112 2.2, 5.1, 5.2, 6.1 to 6.3: a body here, a request there.
TWOFOLD = {
    "a space before the colon": LENGTH.replace(b":", b" :"),
    "a tab before the colon": LENGTH.replace(b":", b"\t:"),
    "a control character before the name": b"\x0b" + LENGTH,
    "a control character after the name": LENGTH.replace(b":", b"\x0c:"),
    "a zero byte after the name": LENGTH.replace(b":", b"\x00:"),
    "a line feed alone": b"X: a\n" + LENGTH,
    "a carriage return alone": b"X: a\r" + LENGTH,
    "a line that goes on": b"X: a\r\n " + LENGTH,
    "a coding that comes on the next line": b"Transfer-Encoding:\r\n chunked",
    "a coding after a control character": b"Transfer-Encoding: \x0bchunked",
    "a coding after a space of another kind": "Transfer-Encoding: \u00a0chunked".encode(),
    "a zero byte in a value": b"X: a\x00" + LENGTH,
    "a field without a name": b": x\r\n" + LENGTH,
    "digits of another script": "Content-Length: \u0665".encode(),
    "a length after a control character": b"Content-Length: \x0b5",
    "a length before a control character": b"Content-Length: 5\x0c",
    "two hosts": b"Host: y",
}


@pytest.mark.parametrize("line", [b"GET /simple/", YANK, b"POST /simple/", b"GET /nowhere"])
@pytest.mark.parametrize("field", TWOFOLD)
def test_a_head_that_can_be_read_in_two_ways_is_refused(server: LiveServer, line: bytes, field: str, statuses: Any) -> None:
    # HTTP-13, CWE-444
    answered, closed = statuses(server, line + b" HTTP/1.1\r\nHost: x\r\n" + TWOFOLD[field] + b"\r\n\r\n" + HIDDEN)
    assert closed
    assert answered in ([], [400]), answered


@pytest.mark.parametrize("end", [b"\n", b"\r"])
def test_a_name_of_a_request_hides_no_field_from_the_cache_of_answers(server: LiveServer, end: bytes, statuses: Any) -> None:
    # HTTP-13, CWE-444: the request is known by its head without that line, and answered without a look at it.
    head = b"GET /simple/ HTTP/1.1\r\nHost: x\r\nAccept: text/html\r\n"
    assert statuses(server, head + b"\r\n") == ([200, 200], True)
    for _ in range(4):
        assert httpx.get(f"{server.url}/simple/").status_code == 200
        with socket.create_connection(("127.0.0.1", server.port), timeout=5) as connection:
            connection.sendall(head + b"\r\n")
            assert connection.recv(65536).startswith(b"HTTP/1.1 200 ")
    with socket.create_connection(("127.0.0.1", server.port), timeout=5) as connection:
        connection.sendall(head + b"X-Request-ID: a" + end + LENGTH + b"\r\n\r\n")
        assert connection.recv(65536).startswith(b"HTTP/1.1 400 ")


def test_a_request_without_a_host_is_refused(server: LiveServer, statuses: Any) -> None:
    # RFC 9112 3.2
    assert statuses(server, b"GET /health HTTP/1.1\r\n\r\n") == ([400], True)


def test_http_1_0_has_no_chunks(server: LiveServer, statuses: Any) -> None:
    # RFC 9112 6.1
    head = YANK + b" HTTP/1.0\r\nHost: x\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
    assert statuses(server, head + HIDDEN) == ([400], True)


BAD_CHUNKS = {
    "a size in another notation": b"0x2\r\n{}\r\n0\r\n\r\n",
    "another line break after the content": b"2\r\n{}XX0\r\n\r\n",
    "a size after a space": b" 2\r\n{}\r\n0\r\n\r\n",
    "digits of another script": "\u0662\r\n{}\r\n0\r\n\r\n".encode(),
    "a line feed in an extension": b"2;\nx\r\n{}\r\n0\r\n\r\n",
    "a control character after the size": b"2\x0b\r\n{}\r\n0\r\n\r\n",
    "an end in another notation": b"2\r\n{}\r\n0x0\r\n\r\n",
}


@pytest.mark.parametrize("chunks", BAD_CHUNKS)
def test_a_badly_chunked_document_ends_the_connection(server: LiveServer, chunks: str, statuses: Any) -> None:
    # HTTP-13, HTTP-15, RFC 9112 7.1: of a route whose body is read whole before its handler.
    head = YANK + b" HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
    answered, closed = statuses(server, head + BAD_CHUNKS[chunks] + HIDDEN)
    assert closed
    assert answered in ([], [400]), answered


@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
@pytest.mark.parametrize("start", ["", "/simple", "/simple/demo", "/api/v1/registries", "/health", "/nowhere"])
@pytest.mark.parametrize("count", [2, 3, 900, 7000])
def test_no_number_of_final_slashes_makes_a_server_error(
    server: LiveServer, method: str, start: str, count: int, statuses: Any
) -> None:
    # HTTP-17, CWE-674
    answered, _ = statuses(server, f"{method} {start}{'/' * count} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    assert answered[:1] in ([404], [405])
