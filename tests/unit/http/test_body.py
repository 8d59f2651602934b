"""Request bodies in pieces, within the limit, honestly framed."""

from __future__ import annotations

import time

import pytest
from sanic.response import text

from nora.api import RegistryBlueprint
from nora.http.body import BodyReader

LIMIT = 300_000


@pytest.fixture
def received() -> list:
    """What the handler got, or the error that it saw."""
    return []


@pytest.fixture
def client(serving, received):
    reader = BodyReader(LIMIT)
    made = RegistryBlueprint()

    @made.write("/upload", methods=["PUT", "POST"], stream=True)
    async def upload(request):
        total = 0
        received.append("begun")
        try:
            async for piece in reader(request):
                assert isinstance(piece, bytes)
                total += len(piece)
        except BaseException as error:
            received.append(error)
            raise
        received.append(total)
        return text(str(total))

    return serving(made, body_limit_bytes=LIMIT).connect()


def chunked(client, *pieces: bytes, end: bytes = b"0\r\n\r\n") -> None:
    client.send(b"PUT /upload HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
    for piece in pieces:
        client.send(b"%x\r\n%b\r\n" % (len(piece), piece))
    client.send(end)


@pytest.mark.parametrize("size", [0, 1, 65_536, LIMIT])
def test_a_body_of_known_length_comes_whole(client, size):
    for _ in range(2):
        answer = client.ask("PUT", "/upload", b"x" * size)
        assert (answer.status, answer.body, answer["connection"]) == (200, b"%d" % size, "keep-alive")


# HTTP-15
@pytest.mark.parametrize("pieces", [(), (b"x",), (b"x" * 100_000,) * 3, (b"ab",) * 500])
def test_a_chunked_body_comes_whole(client, pieces):
    for _ in range(2):
        chunked(client, *pieces)
        answer = client.answer()
        assert (answer.status, answer.body, answer["connection"]) == (200, b"%d" % len(b"".join(pieces)), "keep-alive")


def test_no_body_is_an_empty_one(client):
    assert client.ask("PUT", "/upload").body == b"0"


def test_pieces_come_as_they_arrive(client, received, until):
    client.send(b"PUT /upload HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n")
    until(lambda: received == ["begun"])
    client.send(b"hello")
    time.sleep(0.02)
    client.send(b"world")
    assert client.answer().body == b"10"


def test_chunk_extensions_and_odd_spellings_of_sizes_are_read(client):
    client.send(
        b"PUT /upload HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0005;a=b\r\nhello\r\nA\r\n0123456789\r\n0\r\n\r\n"
    )
    assert client.answer().body == b"15"


# UP-15
def test_an_announced_body_over_the_limit_is_refused_before_it_is_read(client, received):
    client.send(b"PUT /upload HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\nExpect: 100-continue\r\n\r\n" % (LIMIT + 1))
    answer = client.answer()
    assert (answer.status, answer.body) == (413, b"the upload is larger than the limit of 300000 bytes\n")
    assert answer["connection"] == "close"


@pytest.mark.parametrize("length", ["99999999999999999999", "9" * 1000])
def test_an_absurd_length_is_refused(client, length):
    client.send(f"PUT /upload HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n".encode())
    assert client.answer().status == 413


def test_a_chunked_body_that_grows_over_the_limit_is_refused_while_it_comes(client, received):
    # UP-15
    client.send(b"PUT /upload HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
    for _ in range(4):
        client.send(b"%x\r\n%b\r\n" % (100_000, b"x" * 100_000))
    answer = client.answer()
    assert (answer.status, answer["connection"]) == (413, "close")


# UP-16
@pytest.mark.parametrize(
    "body",
    [
        b"nonsense\r\n",
        b"-5\r\nhello\r\n",
        b"+5\r\nhello\r\n",
        b"5_0\r\nhello\r\n",
        b"\r\n\r\n\r\n",
        b"x" * 200,
        b"0\r\nTrailer: x\r\n\r\n",
        b"5\r\nhello\r\nnonsense\r\n",
        b"3\r\nhello\r\n0\r\n\r\n",  # more than it says
        b"0x5\r\nhello\r\n0\r\n\r\n",  # RFC 9112 7.1 knows no prefix
    ],
)
def test_a_body_that_is_not_framed_as_it_says_is_refused_and_the_connection_ends(client, body):
    client.send(b"PUT /upload HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n" + body)
    answer = client.answer()
    assert (answer.status, answer["connection"]) == (400, "close")
    assert client.is_closed()


def test_a_loosely_framed_body_is_refused_even_if_the_client_asked_beforehand(client):
    client.send(b"PUT /upload HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nExpect: 100-continue\r\n\r\n")
    client.send(b"0x5\r\nhello\r\n0\r\n\r\n")
    answer = client.answer()
    if answer.status == 100:
        answer = client.answer()
    assert answer.status == 400


@pytest.mark.parametrize(
    "framing",
    [
        b"Content-Length: -1",
        b"Content-Length: +5",
        b"Content-Length: 5_0",
        b"Content-Length: 0x5",
        b"Content-Length: ",
        b"Content-Length: 5, 5",
        b"Content-Length: 5\r\nContent-Length: 5",
        b"Content-Length: 5\r\nTransfer-Encoding: chunked",
        b"Transfer-Encoding: gzip",
        b"Transfer-Encoding: chunked, gzip",
    ],
)
def test_an_ambiguous_length_is_refused(client, framing, received):
    # RFC 9112 6.3, CWE-444
    client.send(b"PUT /upload HTTP/1.1\r\nHost: x\r\n" + framing + b"\r\n\r\nhello")
    answer = client.answer()
    assert (answer.status, answer["connection"]) == (400, "close")
    assert received == []
    assert client.is_closed()


@pytest.mark.parametrize("framing", ["Content-Length: 100", "Transfer-Encoding: chunked"])
def test_a_client_that_leaves_within_its_body_ends_the_handler(serving, client, received, until, framing):
    client.send(f"PUT /upload HTTP/1.1\r\nHost: x\r\n{framing}\r\n\r\n5\r\nhe".encode())
    until(lambda: received == ["begun"])
    client.close()
    until(lambda: len(received) == 2)
    assert isinstance(received[1], BaseException)
