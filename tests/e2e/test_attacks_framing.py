"""Request smuggling: two readers of one stream of bytes must not disagree on where a request ends (RFC 9112 11.2, CWE-444).

Behind a proxy that reads a head in another way, the rest of one client's request would be taken for the beginning of another's. So what
is ambiguous is refused and its connection closed; what is clear is read as the standard says. In all of these tests a second
request, the smuggled one, is hidden where a lenient reader would find it.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from nora.testing.live import LiveServer

HIDDEN = b"GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n"
YANK = b"/api/v1/registries/pypi/projects/demo/versions/1.0/yank"
# Of each kind: a body that is streamed, one that is read whole before its handler, one that nobody wants, and no route at all.
TARGETS = {
    "upload": b"POST /simple/",
    "api": b"POST " + YANK,
    "page": b"GET /simple/",
    "no such address": b"GET /nowhere",
    "a method that is not allowed": b"DELETE /simple/",
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    with LiveServer(tmp_path_factory.mktemp("framing") / "store", '[pypi]\nproxy = ""\n') as running:
        yield running
        assert httpx.get(f"{running.url}/simple/").status_code == 200
    assert "Traceback" not in running.log()
    # The smuggled request was seen only where a test says so, and those ask for something else.
    assert "path=/smuggled" not in running.log()


AMBIGUOUS = {
    # RFC 9112 6.3
    "both, length first": b"Content-Length: 5\r\nTransfer-Encoding: chunked",
    "both, length last": b"Transfer-Encoding: chunked\r\nContent-Length: 5",
    "two equal lengths": b"Content-Length: 5\r\nContent-Length: 5",
    "two lengths": b"Content-Length: 5\r\nContent-Length: 0",
    "a list of lengths": b"Content-Length: 5, 5",
    "two codings": b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity",
    "coded twice": b"Transfer-Encoding: chunked, chunked",
    "not chunked at last": b"Transfer-Encoding: chunked, gzip",
    "an unknown coding": b"Transfer-Encoding: xchunked",
    "coding with a parameter": b"Transfer-Encoding: chunked;a=b",
    "coding in quotes": b'Transfer-Encoding: "chunked"',
    "coding and a comma": b"Transfer-Encoding: ,chunked",
    "coding before a control character": b"Transfer-Encoding: chunked\x0b",
    "coding with a zero byte": b"Transfer-Encoding: chunked\x00",
    "no coding": b"Transfer-Encoding:",
    "a negative length": b"Content-Length: -5",
    "a signed length": b"Content-Length: +5",
    "a hexadecimal length": b"Content-Length: 0x5",
    "a length with an underscore": b"Content-Length: 0_5",
    "a length with a fraction": b"Content-Length: 5.0",
    "a length in words": b"Content-Length: five",
    "no length": b"Content-Length:",
    "a length of five thousand digits": b"Content-Length: " + b"9" * 5000,
}


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("framing", AMBIGUOUS)
def test_a_body_of_unclear_length_is_refused_and_nothing_after_it_is_read(
    server: LiveServer, target: str, framing: str, statuses: Any
) -> None:
    # HTTP-13
    wire = TARGETS[target] + b" HTTP/1.1\r\nHost: x\r\n" + AMBIGUOUS[framing] + b"\r\n\r\n0\r\n\r\n" + HIDDEN
    answered, closed = statuses(server, wire)
    assert closed
    # One answer, or none if the connection was cut before it could be read.
    assert len(answered) <= 1, answered
    assert all(400 <= status < 500 for status in answered)


BAD_CHUNKS = {
    "a size in another notation": b"0x5\r\nhello\r\n0\r\n\r\n",
    "a negative size": b"-5\r\nhello\r\n0\r\n\r\n",
    "a signed size": b"+5\r\nhello\r\n0\r\n\r\n",
    "a size with an underscore": b"0_5\r\nhello\r\n0\r\n\r\n",
    "a size without end": b"0" * 5000 + b"5\r\nhello\r\n0\r\n\r\n",
    "a size after a space": b" 5\r\nhello\r\n0\r\n\r\n",
    "a bare line feed after the size": b"5\nhello\r\n0\r\n\r\n",
    "a bare carriage return after the size": b"5\rhello\r\n0\r\n\r\n",
    "a line feed in an extension": b"5;a\nb\r\nhello\r\n0\r\n\r\n",
    "an extension without end": b"5;" + b"a" * 100_000 + b"\r\nhello\r\n0\r\n\r\n",
    "more than it says": b"3\r\nhello\r\n0\r\n\r\n",
    "less than it says": b"6\r\nhello\r\n0\r\n\r\n",
    "no line break after the content": b"5\r\nhello0\r\n\r\n",
    "another line break after the content": b"5\r\nhello\n\n0\r\n\r\n",
    "a trailer": b"5\r\nhello\r\n0\r\nContent-Length: 5\r\n\r\n",
    "letters": b"hello\r\n\r\n",
    "nothing": b"\r\n\r\n",
}


@pytest.mark.parametrize("chunks", BAD_CHUNKS)
def test_a_badly_chunked_body_ends_the_connection(server: LiveServer, chunks: str, statuses: Any) -> None:
    # HTTP-13, HTTP-15, RFC 9112 7.1. The upload is the one route that streams; what is wrong with its form is 400, too.
    head = b"POST /simple/ HTTP/1.1\r\nHost: x\r\nContent-Type: multipart/form-data; boundary=b\r\nTransfer-Encoding: chunked\r\n\r\n"
    answered, closed = statuses(server, head + BAD_CHUNKS[chunks] + HIDDEN)
    assert closed
    assert answered in ([], [400]), answered


REFUSED = {
    "by its address": b"POST /nowhere HTTP/1.1\r\nHost: x\r\n",
    "by its method": b"PUT /simple/ HTTP/1.1\r\nHost: x\r\n",
    "by its kind": b"POST /simple/ HTTP/1.1\r\nHost: x\r\nContent-Type: text/plain\r\n",
    "by its origin": b"POST /simple/ HTTP/1.1\r\nHost: x\r\nSec-Fetch-Site: cross-site\r\n",
    "since nobody wants it": b"GET /simple/ HTTP/1.1\r\nHost: x\r\n",
}


@pytest.mark.parametrize("refused", REFUSED)
@pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunks"])
def test_a_request_in_a_refused_body_is_not_answered(server: LiveServer, refused: str, chunked: bool, statuses: Any) -> None:
    # HTTP-13: the body is the hidden request itself.
    if chunked:
        body = b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(HIDDEN), HIDDEN)
    else:
        body = b"Content-Length: %d\r\n\r\n%b" % (len(HIDDEN), HIDDEN)
    answered, closed = statuses(server, REFUSED[refused] + body)
    assert closed
    assert len(answered) == 1


def test_a_request_after_a_body_that_was_read_is_a_request_of_its_own(server: LiveServer, statuses: Any) -> None:
    # HTTP-20: the other side of the tests above. A proxy that joins requests of many clients relies on it.
    health = b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n"
    for framing in (b"Content-Length: 2\r\n\r\n{}", b"Transfer-Encoding: chunked\r\n\r\n2;a=b\r\n{}\r\n0\r\n\r\n"):
        head = b"POST " + YANK + b" HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        answered, closed = statuses(server, health + head + framing + health + b"HEAD /health HTTP/1.1\r\nHost: x\r\n\r\n")
        assert closed
        # The project does not exist; what counts is that each of five requests has its answer.
        assert answered == [200, 404, 200, 200, 200]


def test_a_body_that_means_nothing_writes_no_error(server: LiveServer) -> None:
    length = len(server.log())
    for path in ("/health", "/simple/", "/nowhere"):
        assert httpx.request("GET", f"{server.url}{path}", content=b"nothing").status_code in (200, 404)
    # The connection ends after the line would have been written.
    with socket.create_connection(("127.0.0.1", server.port), timeout=5) as connection:
        connection.sendall(b"GET /simple/ HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc")
        while connection.recv(65536):
            pass
    written = server.log()[length:]
    assert "path=/simple/" in written
    assert " error " not in written


def test_a_request_that_comes_in_single_bytes_is_one_request(server: LiveServer, statuses: Any) -> None:
    wire = b"POST " + YANK + b" HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n" + b"2\r\n{}\r\n0\r\n\r\n"
    answered, closed = statuses(server, *(bytes([byte]) for byte in wire))
    assert closed
    # The body has no type, and the connection goes on.
    assert answered == [400, 200]


@pytest.mark.parametrize(
    "line",
    [
        b"GET /smuggled HTTP/1.1 HTTP/1.1",
        b"GET  /smuggled HTTP/1.1",
        b"GET\t/smuggled\tHTTP/1.1",
        b"GET /smuggled",
        b"GET /smuggled HTTP/0.9",
        b"GET /smuggled HTTP/1.1\r",
        b"GET /smuggled HTTP/01.1",
        b"GET /smuggled http/1.1",
        b" GET /smuggled HTTP/1.1",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ],
)
def test_a_request_line_that_is_none_ends_the_connection(server: LiveServer, line: bytes, statuses: Any) -> None:
    # RFC 9112 3, CWE-444
    answered, closed = statuses(server, line + b"\r\nHost: x\r\n\r\n")
    assert closed
    assert answered in ([], [400]), answered


def test_an_upgrade_is_not_taken_up(server: LiveServer, statuses: Any) -> None:
    # h2c smuggling: behind a proxy that tunnels after such a request, everything that follows would pass unseen.
    for fields in (
        b"Upgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA\r\n",
        b"Upgrade: websocket\r\nConnection: Upgrade\r\n",
    ):
        answered, closed = statuses(server, b"GET /health HTTP/1.1\r\nHost: x\r\n" + fields + b"\r\n")
        assert closed
        assert 101 not in answered
        assert answered[0] == 200


def test_a_tunnel_is_not_opened(server: LiveServer, statuses: Any) -> None:
    # CWE-441: the server is no proxy, whatever form the address has.
    for line in (b"CONNECT 127.0.0.1:22 HTTP/1.1", b"GET http://127.0.0.1:22/x HTTP/1.1", b"GET ftp://127.0.0.1/x HTTP/1.1"):
        answered, _ = statuses(server, line + b"\r\nHost: 127.0.0.1:22\r\n\r\n")
        assert all(400 <= status < 500 for status in answered[:1]), answered
