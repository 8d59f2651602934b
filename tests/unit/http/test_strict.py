"""Heads that are refused before anything is made of them, and those that are not."""

from __future__ import annotations

import time

import pytest

from nora.http.strict import head_problem

GET = b"GET / HTTP/1.1\r\nHost: x\r\n"


@pytest.mark.parametrize(
    "head",
    [
        b"GET / HTTP/1.1\r\nHost: x",
        b"GET / HTTP/1.0",
        b"GET / HTTP/1.0\r\nHost: x",
        b"BREW /a?b=c&d=%20#e HTTP/1.1\r\nhost:x",
        b"OPTIONS * HTTP/1.1\r\nHost:",
        b"GET /~a/(b)!$&'*+,;=:@|\\^{}\"<> HTTP/1.1\r\nHost: [::1]:80",
        b"GET /\xc3\xa9 HTTP/1.1\r\nHost: x",
        GET + b"X-Odd!#$%&'*+.^_`|~: \t a\tb \xff\xfe \t",
        GET + b"Empty:",
        GET + b"Content-Length: 0",
        GET + b"Content-Length:\t5 ",
        GET + b"TRANSFER-ENCODING:chunked",
        GET + b"Transfer-Encoding: Chunked ",
        GET + b"A: 1\r\nA: 2\r\nVery-Long-Name-Indeed: x",
    ],
)
def test_what_the_standard_allows_passes(head: bytes) -> None:
    assert head_problem(head) is None


@pytest.mark.parametrize(
    "line",
    [
        *(
            b"",
            b"GET",
            b"GET /",
            b"GET / HTTP/1.2",
            b"GET / HTTP/2.0",
            b"GET / HTTP/0.9",
            b"GET / http/1.1",
            b"GET / HTTP/1.1 ",
            b" GET / HTTP/1.1",
        ),
        *(
            b"GET  / HTTP/1.1",
            b"GET /  HTTP/1.1",
            b"GET /a b HTTP/1.1",
            b"GET\t/ HTTP/1.1",
            b"GET /\t HTTP/1.1",
            b"G\x00T / HTTP/1.1",
            b"G(T / HTTP/1.1",
        ),
        *(
            b"GET /\x00 HTTP/1.1",
            b"GET /\r HTTP/1.1",
            b"GET /\n HTTP/1.1",
            b"GET /\x7f HTTP/1.1",
            b"GET / HTTP/1.1\n",
            b"GET / HTTP/1.1\r",
            b"GET / HTTP/1.11",
        ),
    ],
)
def test_a_request_line_of_another_shape_is_refused(line: bytes) -> None:
    # RFC 9112 3, CWE-444
    assert head_problem(line + b"\r\nHost: x") == "the request line is not well-formed"


@pytest.mark.parametrize(
    "field",
    [
        *(
            b"",
            b"X",
            b": x",
            b" : x",
            b"X : y",
            b"X\t: y",
            b" X: y",
            b"\tX: y",
            b" folded",
            b"X\x00: y",
            b"X\x0b: y",
            b"\x0bX: y",
            b"X\xff: y",
            b"X,Y: z",
            b"(X): y",
        ),
        *(
            b"X: a\nY: b",
            b"X: a\rY: b",
            b"X: a\r",
            b"X: a\n",
            b"\nX: a",
            b"X: a\x00",
            b"X: \x00a",
            b"X: a\x0bb",
            b"X: a\x7fb",
            b"X: \x1b[31m",
            b"X: \x08",
        ),
    ],
)
def test_a_field_of_another_shape_is_refused(field: bytes) -> None:
    # RFC 9110 5.5, RFC 9112 5.1, 5.2, CWE-444
    assert head_problem(GET + field) == "a header field is not well-formed"
    assert head_problem(GET + field + b"\r\nAccept: */*") == "a header field is not well-formed"


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        *(
            (b"Content-Length:" + value, "not a number")
            for value in (b"", b" ", b" -5", b" +5", b" 0x5", b" 5_0", b" 5.0", b" 5, 5", b" five", b" 9" * 9)
        ),
        *((b"Content-Length: " + value.encode(), "not a number") for value in ("\u0665", "\u00a05", "5\u2028", "\uff15")),
        *(
            (b"Transfer-Encoding:" + value, "only be chunked")
            for value in (b"", b" gzip", b" gzip, chunked", b" chunked, chunked", b" ,chunked", b' "chunked"')
        ),
        *(
            (b"Transfer-Encoding: " + value.encode(), "only be chunked")
            for value in ("\u00a0chunked", "chun\u212aed", "identity")
        ),
        (b"Content-Length: 5\r\nContent-Length: 5", "more than once"),
        (b"Content-Length: 5\r\ncontent-length: 6", "more than once"),
        (b"Content-Length: 5\r\nTransfer-Encoding: chunked", "more than once"),
        (b"Transfer-Encoding: chunked\r\nX: y\r\nTransfer-Encoding: chunked", "more than once"),
        (b"Host: x", "one Host"),
    ],
)
def test_what_makes_the_end_unclear_is_refused(fields: bytes, problem: str) -> None:
    # RFC 9112 3.2, 6.1 to 6.3, CWE-444
    assert problem in str(head_problem(GET + fields))


def test_a_request_without_a_host_is_refused() -> None:
    # RFC 9112 3.2; HTTP/1.0 has none.
    assert head_problem(b"GET / HTTP/1.1") == "a request needs one Host field"
    assert head_problem(b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked") == "HTTP/1.0 has no Transfer-Encoding"


@pytest.mark.parametrize(
    "head",
    [
        GET + b"X: " + b"a" * 8000,
        GET + b"a" * 8000,
        GET + b"X:a\r\n" * 1600 + b"X: a",
        b"G" * 8000,
        b"GET " + b" " * 8000,
        GET + b" \t" * 4000,
    ],
)
def test_no_head_of_the_allowed_size_takes_long(head: bytes) -> None:
    # CWE-1333: in CPU seconds, against a plain head that is as long.
    def cost(one: bytes) -> float:
        begun = time.process_time()
        for _ in range(20):
            head_problem(one)
        return time.process_time() - begun

    plain = min(cost(GET + b"Accept: */*\r\n" * 600 + b"X: a") for _ in range(3))
    assert min(cost(head) for _ in range(3)) < 20 * plain
