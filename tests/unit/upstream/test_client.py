"""The client's own decisions, against httpx's stock transport, and a few against a real server."""

import asyncio
import gzip
import logging
import ssl
import zlib

import httpx
import pytest
from pytest_httpx import HTTPXMock, IteratorStream

from nora.api import Secret, UpstreamError, UpstreamInvalid, UpstreamTimeout, UpstreamUnavailable
from nora.upstream import client as module
from nora.upstream.client import Upstream, UpstreamClient, check_status, make_client, shown_url
from nora.upstream.encoding import UndecodableBody, decoded

TLS = ssl.create_default_context()
BASE = "https://index.example/simple/"
URL = "https://index.example/simple/x/"
UPSTREAM = Upstream(BASE, Secret("user:pass:wörd"))
BASIC = "Basic dXNlcjpwYXNzOnfDtnJk"


@pytest.fixture
async def client(monkeypatch):
    monkeypatch.setattr(module, "_RETRY_AFTER_SECONDS", (0, 0))
    # As with None, but for a context per test, which takes its time.
    made = UpstreamClient(httpx.AsyncHTTPTransport(verify=TLS), "nora/1.0")
    yield made
    await made.aclose()


async def get(client, url=URL, headers=None, *, upstream=UPSTREAM, seconds=5, **more):
    return await client.get_document(upstream, url, headers or {}, timeout_seconds=seconds, **more)


async def streamed(client, url=URL, headers=None, *, upstream=UPSTREAM, seconds=5) -> tuple[module.UpstreamStream, bytes]:
    async with client.stream(upstream, url, headers or {}, timeout_seconds=seconds) as answer:
        return answer, b"".join([chunk async for chunk in answer.chunks()])


class Silence(httpx.AsyncByteStream):
    """A body that never comes."""

    async def __aiter__(self):
        await asyncio.sleep(3600)
        yield b""


class Broken(httpx.AsyncByteStream):
    """A body that breaks off."""

    def __init__(self, error):
        self.error = error

    async def __aiter__(self):
        yield b"part"
        raise self.error


# Documents


async def test_document_is_whole_with_lower_case_fields_and_final_address(client, httpx_mock: HTTPXMock):
    httpx_mock.add_response(url=URL, content=b"{}", headers=[("ETag", '"1"'), ("X-A", "1"), ("x-a", "2")])
    answer = await get(client)
    assert (answer.status, answer.url, answer.body) == (200, URL, b"{}")
    assert answer.headers["etag"] == '"1"'
    assert answer.headers["x-a"] == "1, 2"


async def test_client_without_a_transport_of_its_own_can_be_intercepted(httpx_mock: HTTPXMock):
    httpx_mock.add_response(content=b"here")
    client = UpstreamClient(None, "nora/1.0")
    assert (await get(client)).body == b"here"
    await client.aclose()


async def test_request_holds_the_given_fields_and_ours(client, httpx_mock: HTTPXMock):
    httpx_mock.add_response()
    await get(client, headers={"Accept": "text/html", "If-None-Match": '"1"'})
    sent = httpx_mock.get_requests()[0].headers
    assert sent["accept"] == "text/html"
    assert sent["if-none-match"] == '"1"'
    assert sent["user-agent"] == "nora/1.0"
    assert sent["accept-encoding"] == "gzip, deflate"
    assert sent["authorization"] == BASIC
    assert sent["host"] == "index.example"
    assert "cookie" not in sent


@pytest.mark.parametrize("name", ["Authorization", "cookie", "Host", "Proxy-Authorization", "ACCEPT-ENCODING", "User-Agent"])
async def test_given_fields_never_replace_ours(client, httpx_mock: HTTPXMock, name):
    # AUTH-8
    httpx_mock.add_response()
    await get(client, headers={name: "evil"}, upstream=Upstream(BASE))
    assert "evil" not in httpx_mock.get_requests()[0].headers.values()


@pytest.mark.parametrize("value", ['"é"', "a\r\nX: y", "a\nb", "\x00", "\u2028"])
async def test_field_that_http_cannot_carry_is_left_out(client, httpx_mock: HTTPXMock, value):
    httpx_mock.add_response()
    await get(client, headers={"If-None-Match": value})
    assert "if-none-match" not in httpx_mock.get_requests()[0].headers


async def test_cookies_are_not_kept(client, httpx_mock: HTTPXMock):
    httpx_mock.add_response(headers={"Set-Cookie": "id=1; Path=/"}, is_reusable=True)
    await get(client)
    await get(client)
    assert "cookie" not in httpx_mock.get_requests()[1].headers


@pytest.mark.parametrize("status", [304, 404, 410, 401, 500, 206])
async def test_any_status_is_an_answer_and_only_200_has_a_body(client, httpx_mock: HTTPXMock, status):
    httpx_mock.add_response(status_code=status, content=b"text")
    answer = await get(client)
    assert (answer.status, answer.body) == (status, b"")


async def test_broken_body_of_an_error_does_not_hide_the_status(client, httpx_mock: HTTPXMock):
    stream = Broken(httpx.ReadError("broke"))
    httpx_mock.add_response(status_code=404, stream=stream, headers={"Content-Length": "10"})
    assert (await get(client)).status == 404


@pytest.mark.parametrize(
    ("encoding", "body"),
    [
        ("gzip", gzip.compress(b"text")),
        ("GZip", gzip.compress(b"text")),
        ("x-gzip", gzip.compress(b"te") + gzip.compress(b"xt") + b"\0\0"),
        ("deflate", zlib.compress(b"text")),
        ("deflate", zlib.compress(b"text")[2:-4]),
        ("identity", b"text"),
        ("identity, gzip", gzip.compress(b"text")),
        ("", b"text"),
    ],
)
async def test_body_is_decoded(client, httpx_mock: HTTPXMock, encoding, body):
    httpx_mock.add_response(stream=IteratorStream([body[:3], body[3:]]), headers={"Content-Encoding": encoding})
    assert (await get(client)).body == b"text"


@pytest.mark.parametrize(
    ("encoding", "body"),
    [
        ("gzip", gzip.compress(b"text")[:-1]),
        ("gzip", gzip.compress(b"text" * 1000)[:20]),
        ("gzip", b"no gzip at all"),
        ("gzip", gzip.compress(b"text") + b"tail"),
        ("gzip", gzip.compress(b"text")[:-8] + bytes(8)),
        ("gzip", gzip.compress(b"") * 100),
        ("deflate", b"\x00"),
        ("deflate", zlib.compress(b"text")[:-1]),
        ("deflate", b"\xff" * 40),
        ("br", b"text"),
        ("gzip, gzip", gzip.compress(gzip.compress(b"text"))),
        ("é", b"text"),
    ],
)
async def test_bad_encoding_is_invalid(client, httpx_mock: HTTPXMock, encoding, body):
    headers = [(b"Content-Encoding", encoding.encode())]
    httpx_mock.add_response(stream=IteratorStream([body]), headers=headers)
    with pytest.raises(UpstreamInvalid):
        await get(client)


async def test_large_document_is_decoded_off_the_loop(client, httpx_mock: HTTPXMock):
    text = b"".join(b"%d," % number for number in range(1_000_000))
    httpx_mock.add_response(content=gzip.compress(text, 1), headers={"Content-Encoding": "gzip"})
    assert (await get(client)).body == text


@pytest.mark.parametrize("max_bytes", [99, 10, 0])
@pytest.mark.parametrize("body", [{"content": bytes(100)}, {"stream": IteratorStream([bytes(50), bytes(50)])}])
async def test_too_large_document_is_invalid(client, httpx_mock: HTTPXMock, body, max_bytes):
    httpx_mock.add_response(**body)
    with pytest.raises(UpstreamInvalid, match="larger than"):
        await get(client, max_bytes=max_bytes)


async def test_document_announced_as_too_large_is_not_even_begun(client, httpx_mock: HTTPXMock):
    httpx_mock.add_response(stream=Silence(), headers={"Content-Length": "101"})
    with pytest.raises(UpstreamInvalid, match="larger than"):
        await get(client, max_bytes=100)


async def test_endless_document_is_given_up_at_the_limit(client, httpx_mock: HTTPXMock):
    class Endless(httpx.AsyncByteStream):
        pieces = 0

        async def __aiter__(self):
            while True:
                self.pieces += 1
                yield bytes(50)

    endless = Endless()
    httpx_mock.add_response(stream=endless)
    with pytest.raises(UpstreamInvalid, match="larger than"):
        await get(client, max_bytes=100)
    assert endless.pieces == 3


async def test_document_of_exactly_the_limit_is_taken(client, httpx_mock: HTTPXMock):
    httpx_mock.add_response(content=gzip.compress(bytes(100)), headers={"Content-Encoding": "gzip"})
    assert (await get(client, max_bytes=100)).body == bytes(100)


async def test_decompression_bomb_is_refused_before_it_unfolds(client, httpx_mock: HTTPXMock):
    bomb = gzip.compress(bytes(200_000_000), 1)
    httpx_mock.add_response(content=bomb, headers={"Content-Encoding": "gzip"})
    with pytest.raises(UpstreamInvalid, match="larger than 1000000 bytes"):
        await get(client, max_bytes=1_000_000)


def test_decoding_never_makes_more_than_the_limit():
    with pytest.raises(OverflowError):
        decoded(zlib.compress(bytes(10_000_000)), "deflate", 9_999_999)
    assert len(decoded(zlib.compress(bytes(10_000_000)), "deflate", 10_000_000)) == 10_000_000
    with pytest.raises(OverflowError):
        decoded(b"12", "", 1)
    with pytest.raises(UndecodableBody):
        decoded(b"12", "zstd", 10)
    assert decoded(b"", "gzip", 10) == b""


async def test_document_shorter_than_announced_is_invalid(client, httpx_mock: HTTPXMock):
    # PROXY-13
    httpx_mock.add_response(stream=IteratorStream([b"half"]), headers={"Content-Length": "8"})
    with pytest.raises(UpstreamInvalid, match="sent 4 of 8 bytes"):
        await get(client)


async def test_document_that_never_ends_is_given_up(client, httpx_mock: HTTPXMock):
    # PROXY-20
    httpx_mock.add_response(stream=Silence())
    with pytest.raises(UpstreamTimeout):
        await get(client, seconds=0.01)


async def test_head_of_an_answer_that_never_comes_is_given_up(client, httpx_mock: HTTPXMock):
    # PROXY-20
    async def silence(_: httpx.Request) -> httpx.Response:
        await asyncio.sleep(3600)
        raise AssertionError

    httpx_mock.add_callback(silence, is_reusable=True)
    with pytest.raises(UpstreamTimeout):
        await streamed(client, seconds=0.01)
    with pytest.raises(UpstreamTimeout):
        await client.head(UPSTREAM, URL, {}, timeout_seconds=0.01)


# Streams


async def test_stream_gives_raw_bytes_and_asks_for_identity(client, httpx_mock: HTTPXMock):
    # PROXY-16
    packed = gzip.compress(b"text")
    httpx_mock.add_response(content=packed, headers={"Content-Encoding": "gzip", "ETag": "x"})
    answer, body = await streamed(client)
    assert body == packed
    assert (answer.status, answer.url, answer.content_length, answer.headers["etag"]) == (200, URL, len(packed), "x")
    assert httpx_mock.get_requests()[0].headers["accept-encoding"] == "identity"


async def test_stream_can_ask_for_a_range(client, httpx_mock: HTTPXMock):
    httpx_mock.add_response(status_code=206, content=b"te")
    answer, body = await streamed(client, headers={"Range": "bytes=0-1"})
    assert (answer.status, body) == (206, b"te")
    assert httpx_mock.get_requests()[0].headers["range"] == "bytes=0-1"


@pytest.mark.parametrize("length", ["five", "-1", "+1", "1" * 50, "²", ""])
async def test_senseless_content_length_is_no_length(client, httpx_mock: HTTPXMock, length):
    headers = [(b"Content-Length", length.encode())]
    httpx_mock.add_response(stream=IteratorStream([b"text"]), headers=headers)
    answer, body = await streamed(client)
    assert (answer.content_length, body) == (None, b"text")


@pytest.mark.parametrize("sent", [b"", b"tex", b"texts"])
async def test_stream_of_another_length_than_announced_does_not_end_normally(client, httpx_mock: HTTPXMock, sent):
    # PROXY-8
    httpx_mock.add_response(stream=IteratorStream([sent]), headers={"Content-Length": "4"})
    with pytest.raises(UpstreamInvalid):
        await streamed(client)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (httpx.ReadTimeout("x"), UpstreamTimeout),
        (httpx.ReadError("x"), UpstreamUnavailable),
        (httpx.RemoteProtocolError("x"), UpstreamInvalid),
    ],
)
async def test_broken_stream_is_our_error_and_not_asked_for_again(client, httpx_mock: HTTPXMock, error, expected):
    # HTTP-12
    httpx_mock.add_response(stream=Broken(error))
    with pytest.raises(expected):
        await streamed(client)
    assert len(httpx_mock.get_requests()) == 1


async def test_error_of_the_reader_passes_unchanged(client, httpx_mock: HTTPXMock):
    httpx_mock.add_response(content=b"text")
    async with client.stream(UPSTREAM, URL, {}, timeout_seconds=5) as answer:
        with pytest.raises(ZeroDivisionError):
            [1 / 0 async for _ in answer.chunks()]


async def test_head_gives_status_and_fields(client, httpx_mock: HTTPXMock):
    httpx_mock.add_response(method="HEAD", headers={"Content-Length": "12", "Accept-Ranges": "bytes"})
    answer = await client.head(UPSTREAM, URL, {}, timeout_seconds=5)
    assert (answer.status, answer.headers["content-length"], answer.body) == (200, "12", b"")
    assert httpx_mock.get_requests()[0].headers["accept-encoding"] == "identity"


# Redirects


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize(
    ("location", "target"),
    [
        ("https://cdn.example/y", "https://cdn.example/y"),
        ("//cdn.example/y", "https://cdn.example/y"),
        ("/y?a=1", "https://index.example/y?a=1"),
        ("y", "https://index.example/simple/x/y"),
        ("../y/#fragment", "https://index.example/simple/y/"),
        ("https://user:password@cdn.example/y", "https://cdn.example/y"),
    ],
)
async def test_redirect_is_followed(client, httpx_mock: HTTPXMock, status, location, target):
    # PROXY-18
    httpx_mock.add_response(url=URL, status_code=status, headers={"Location": location}, content=b"moved")
    httpx_mock.add_response(url=target, content=b"here")
    answer = await get(client, headers={"Accept": "text/html"})
    assert (answer.url, answer.body) == (target, b"here")
    last = httpx_mock.get_requests()[-1]
    assert (last.method, last.headers["accept"]) == ("GET", "text/html")


async def test_head_stays_head_after_a_redirect(client, httpx_mock: HTTPXMock):
    httpx_mock.add_response(url=URL, status_code=303, headers={"Location": "/y"})
    httpx_mock.add_response(url="https://index.example/y", method="HEAD")
    assert (await client.head(UPSTREAM, URL, {}, timeout_seconds=5)).status == 200


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("https://index.example/y", BASIC),
        ("https://index.example:443/y", BASIC),
        ("https://INDEX.example/y", BASIC),
        ("https://index.example:8443/y", None),
        ("http://index.example/y", None),
        ("http://index.example:443/y", None),
        ("https://cdn.example/y", None),
        ("https://index.example.evil.example/y", None),
        ("https://user:password@cdn.example/y", None),
        ("https://index.example@cdn.example/y", None),
        ("https://a.index.example/y", None),
    ],
)
async def test_credentials_go_to_their_own_origin_only(client, httpx_mock: HTTPXMock, target, expected):
    # AUTH-8, MULTI-6
    httpx_mock.add_response(url=URL, status_code=302, headers={"Location": target})
    httpx_mock.add_response(content=b"here")
    await get(client)
    first, second = httpx_mock.get_requests()
    assert first.headers.get("authorization") == BASIC
    assert second.headers.get("authorization") == expected


async def test_credentials_come_back_with_their_origin(client, httpx_mock: HTTPXMock):
    for location in ("https://cdn.example/y", "https://index.example/z"):
        httpx_mock.add_response(status_code=302, headers={"Location": location})
    httpx_mock.add_response(content=b"here")
    await get(client)
    sent = [request.headers.get("authorization") for request in httpx_mock.get_requests()]
    assert sent == [BASIC, None, BASIC]


async def test_user_info_in_an_address_is_never_sent(client, httpx_mock: HTTPXMock):
    httpx_mock.add_response()
    answer = await get(client, "https://other:secret@index.example/simple/x/", upstream=Upstream(BASE))
    assert "authorization" not in httpx_mock.get_requests()[0].headers
    assert answer.url == URL


async def test_five_redirects_are_followed_and_a_loop_ends(client, httpx_mock: HTTPXMock):
    # PROXY-18
    for number in range(5):
        httpx_mock.add_response(status_code=302, headers={"Location": f"/{number}"})
    httpx_mock.add_response(content=b"here")
    assert (await get(client)).body == b"here"
    httpx_mock.add_response(status_code=302, headers={"Location": URL}, is_reusable=True)
    with pytest.raises(UpstreamInvalid, match="too many redirects"):
        await get(client)
    assert len(httpx_mock.get_requests()) == 6 + 6


@pytest.mark.parametrize(
    "location",
    ["ftp://x.example/", "file:///etc/passwd", "javascript:alert(1)", "http://x:99999/", "http://[::1"],
)
async def test_redirect_to_what_is_no_web_address_is_invalid(client, httpx_mock: HTTPXMock, location):
    # PROXY-14
    httpx_mock.add_response(status_code=302, headers={"Location": location})
    with pytest.raises(UpstreamInvalid):
        await get(client)


@pytest.mark.parametrize(
    "url", ["ftp://x.example/", "file:///etc/passwd", "/x", "", "http://", "http://[::1", "http://a\n/", "x" * 99_999]
)
async def test_address_that_is_none_is_invalid_and_nothing_is_sent(client, httpx_mock: HTTPXMock, url):
    # PROXY-14
    with pytest.raises(UpstreamInvalid):
        await get(client, url)
    assert httpx_mock.get_requests() == []


async def test_redirect_that_leads_nowhere_is_an_answer(client, httpx_mock: HTTPXMock):
    httpx_mock.add_response(status_code=302)
    answer = await get(client)
    with pytest.raises(UpstreamInvalid, match="status 302"):
        check_status(answer.status, answer.url, answer.headers)


# Trouble


@pytest.mark.parametrize("error", [httpx.ConnectError("refused"), httpx.ReadError("reset"), httpx.ProxyError("down")])
async def test_request_without_an_answer_is_made_once_more(client, httpx_mock: HTTPXMock, error):
    httpx_mock.add_exception(error)
    httpx_mock.add_response(content=b"here")
    assert (await get(client)).body == b"here"


@pytest.mark.parametrize(
    ("error", "expected", "requests"),
    [
        (httpx.ConnectError("refused"), UpstreamUnavailable, 2),
        (httpx.ReadError("reset"), UpstreamUnavailable, 2),
        (httpx.ProxyError("down"), UpstreamUnavailable, 2),
        (httpx.ConnectTimeout("slow"), UpstreamTimeout, 1),
        (httpx.ReadTimeout("slow"), UpstreamTimeout, 1),
        (httpx.PoolTimeout("full"), UpstreamTimeout, 1),
        (httpx.RemoteProtocolError("garbage"), UpstreamInvalid, 1),
        (httpx.LocalProtocolError("garbage"), UpstreamInvalid, 1),
        (httpx.UnsupportedProtocol("gopher"), UpstreamInvalid, 1),
    ],
)
async def test_foreign_errors_become_ours(client, httpx_mock: HTTPXMock, error, expected, requests):
    httpx_mock.add_exception(error, is_reusable=True)
    for ask in (get, streamed):
        with pytest.raises(UpstreamError) as caught:
            await ask(client)
        assert type(caught.value) is expected
        assert caught.value.url == URL
    with pytest.raises(expected):
        await client.head(UPSTREAM, URL, {}, timeout_seconds=5)
    assert len(httpx_mock.get_requests()) == 3 * requests


async def test_no_text_and_no_log_line_holds_a_secret(client, httpx_mock: HTTPXMock, caplog):
    # AUTH-8
    caplog.set_level(logging.DEBUG)
    secret = "https://user:hush@index.example/x?signature=hush"
    httpx_mock.add_response(status_code=302, headers={"Location": secret})
    httpx_mock.add_exception(httpx.ConnectError(f"cannot connect to {secret}"), is_reusable=True)
    with pytest.raises(UpstreamUnavailable) as caught:
        await get(client, secret, upstream=Upstream(BASE, Secret("user:hush")))
    assert str(caught.value) == "upstream https://index.example/x?...: cannot be reached"
    assert "hush" not in repr(caught.value) + repr(UPSTREAM)
    for record in caplog.records:
        if record.name.startswith(("httpx", "nora")):
            assert "hush" not in str(vars(record))
    assert any(record.name == "nora.upstream.client" for record in caplog.records)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://a.example/x", "https://a.example/x"),
        ("https://u:p@a.example:1/x?y#z", "https://a.example:1/x?..."),
        ("http://[::1", "(not an address)"),
        ("\n", "(not an address)"),
    ],
)
def test_shown_address_has_no_secret_parts(url, expected):
    assert shown_url(url) == expected


@pytest.mark.parametrize("status", [200, 404, 410])
def test_good_and_absent_are_for_the_caller(status):
    # PROXY-11
    assert check_status(status, URL, {}) is None


def test_caller_may_take_other_statuses():
    assert check_status(206, URL, {}, accept=(206,)) is None
    with pytest.raises(UpstreamInvalid):
        check_status(200, URL, {}, accept=(206,))


@pytest.mark.parametrize("status", [401, 403, 407])
def test_refused_credentials_are_the_upstreams_invalidity(status):
    # PROXY-12
    with pytest.raises(UpstreamInvalid, match="refused our credentials"):
        check_status(status, URL, {"www-authenticate": "Basic"})


@pytest.mark.parametrize("status", [100, 201, 204, 206, 300, 302, 304, 400, 418, 451])
def test_unexpected_status_is_invalid(status):
    with pytest.raises(UpstreamInvalid, match=f"status {status}"):
        check_status(status, URL, {})


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504, 599])
@pytest.mark.parametrize(
    ("field", "expected"),
    [(None, 5), ("7", 7), (" 7 ", 7), ("0", 1), ("86400", 300), ("9" * 5000, 5), ("-1", 5), ("soon", 5), ("²", 5), ("", 5)],
)
def test_upstream_in_trouble_is_unavailable_for_as_long_as_it_says(status, field, expected):
    # PROXY-10
    with pytest.raises(UpstreamUnavailable) as caught:
        check_status(status, f"{URL}?secret", {} if field is None else {"retry-after": field})
    assert caught.value.retry_after_seconds == expected
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("url", ["", "not an address", "http://[::1", "https://index.example:x/"])
def test_no_credentials_for_what_is_no_address(url):
    assert UPSTREAM.credentials_for(url) is None
    assert Upstream(url, Secret("user:password")).credentials_for(URL) is None


def test_no_credentials_if_there_are_none():
    assert Upstream(BASE).credentials_for(BASE) is None


# The factory, with real connections


async def answering(answer: bytes):
    heads: list[bytes] = []

    async def serve(reader, writer):
        heads.append(await reader.readuntil(b"\r\n\r\n"))
        head, separator, body = answer.partition(b"\r\n\r\n")
        writer.write(head + separator + (b"" if heads[-1].startswith(b"HEAD") else body))
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    return server, f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", heads


async def test_made_client_talks_to_a_real_server():
    packed = gzip.compress(b"text")
    answer = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(packed) + packed
    server, url, heads = await answering(answer)
    client = make_client(ca_cert="", environ={}, version="1.2")
    upstream = Upstream(url, Secret("user:password"))
    async with server:
        assert (await get(client, f"{url}/x", upstream=upstream)).body == b"text"
        assert (await streamed(client, f"{url}/x", upstream=upstream))[1] == packed
        await client.head(upstream, f"{url}/x", {}, timeout_seconds=5)
    await client.aclose()
    assert b"\r\nUser-Agent: nora/1.2\r\n" in heads[0]
    assert heads[0].lower().count(b"accept-encoding") == 1
    assert heads[2].startswith(b"HEAD /x HTTP/1.1\r\n")


async def test_made_client_asks_silent_closers_twice():
    server, url, heads = await answering(b"")
    client = make_client(ca_cert="", environ={}, version="1.2")
    async with server:
        with pytest.raises(UpstreamUnavailable, match="closed without an answer"):
            await get(client, f"{url}/x", upstream=Upstream(url))
    await client.aclose()
    assert len(heads) == 2


async def test_made_client_goes_through_the_environments_proxy():
    server, url, heads = await answering(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ntext")
    client = make_client(ca_cert="", environ={"HTTP_PROXY": url}, version="1.2")
    async with server:
        assert (await get(client, "http://index.example/simple/x/")).body == b"text"
    await client.aclose()
    assert heads[0].startswith(b"GET http://index.example/simple/x/ HTTP/1.1\r\n")


@pytest.mark.parametrize("setting", ["ca_cert", "SSL_CERT_FILE"])
def test_unreadable_certificates_are_named(tmp_path, setting):
    garbage = tmp_path / "garbage.pem"
    garbage.write_text("no certificate")
    for path, problem in ((garbage, "PEM"), (tmp_path / "missing.pem", "No such file")):
        ca_cert, environ = (str(path), {}) if setting == "ca_cert" else ("", {setting: str(path)})
        with pytest.raises(ValueError, match=f"^{setting}: .*{problem}"):
            make_client(ca_cert=ca_cert, environ=environ, version="1")


def test_folder_of_certificates_is_taken(tmp_path):
    make_client(ca_cert=str(tmp_path), environ={}, version="1")
