"""The transport against a server that says exactly the bytes it is told to."""

import asyncio
import base64
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

import aiohttp
import httpx
import pytest

from nora.upstream.transport import AiohttpTransport, environment_proxies, proxy_for, translated

# A key and its certificate for localhost, until 2120. Public by nature: nothing is protected by it.
KEY = """
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgQv8i8zRS9qMAmMqvQ9xifaEvRv1itk0OU4qCxBjrUfWhRANCAATWTe6fy/wEHg
XJb9SdLE8Uq0CMVbqnRWfltOt7tO69eBO1KvX9LQlsgliNs3RPpyRtCkC1n8kw/Ueuoj1lfixl"""
CERTIFICATE = """
MIIBZjCCAQ2gAwIBAgIBATAKBggqhkjOPQQDAjAUMRIwEAYDVQQDDAlsb2NhbGhvc3QwIBcNMjAwMTAxMDAwMDAwWhgPMjEyMDAxMDEwMDAwMD
BaMBQxEjAQBgNVBAMMCWxvY2FsaG9zdDBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IABNZN7p/L/AQeBclv1J0sTxSrQIxVuqdFZ+W063u07r14
E7Uq9f0tCWyCWI2zdE+nJG0KQLWfyTD9R66iPWV+LGWjTjBMMA8GA1UdEwEB/wQFMAMBAf8wGgYDVR0RBBMwEYIJbG9jYWxob3N0hwR/AAABMB
0GA1UdDgQWBBQQgmjaenOBpNwCTDRHK7glWVi0NzAKBggqhkjOPQQDAgNHADBEAiAasjaWIiVPXx1s50mFY4fafnJApovzPQIgBtzLk67GnwIg
SOZK+D3l1zHlPmpQl4jvvWJs8nzUrrtKhHyw/tidzAw="""


def pem(kind: str, text: str) -> str:
    return f"-----BEGIN {kind}-----{text}\n-----END {kind}-----\n"


@pytest.fixture
def server_tls(tmp_path) -> ssl.SSLContext:
    both = tmp_path / "both.pem"
    both.write_text(pem("PRIVATE KEY", KEY) + pem("CERTIFICATE", CERTIFICATE))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(both)
    return context


@pytest.fixture
def trusting() -> ssl.SSLContext:
    return ssl.create_default_context(cadata=ssl.DER_cert_to_PEM_cert(base64.b64decode(CERTIFICATE)))


class Connection:
    """One accepted connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def head(self) -> bytes:
        return await self.reader.readuntil(b"\r\n\r\n")

    async def say(self, *pieces: bytes) -> None:
        for piece in pieces:
            self.writer.write(piece)
            await self.writer.drain()
            await asyncio.sleep(0.01)

    def reset(self) -> None:
        self.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()


class Server:
    """Runs ``script`` for every connection, then closes it."""

    def __init__(self, script: Callable[[Connection], Awaitable[None]]) -> None:
        self.script = script
        self.heads: list[bytes] = []
        self.connections = 0
        self.url = ""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            await self.script(Connection(reader, writer))
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()


@asynccontextmanager
async def serving(script: Callable[[Connection], Awaitable[None]], tls: ssl.SSLContext | None = None) -> AsyncIterator[Server]:
    served = Server(script)
    listener = await asyncio.start_server(served.serve, "127.0.0.1", 0, ssl=tls)
    port = listener.sockets[0].getsockname()[1]
    served.url = f"{'https' if tls else 'http'}://127.0.0.1:{port}/x"
    try:
        yield served
    finally:
        listener.close()


def saying(*pieces: bytes, reset: bool = False, then_wait: float = 0) -> Callable[[Connection], Awaitable[None]]:
    """A script: take one request, say this, and close."""

    async def script(connection: Connection) -> None:
        await connection.head()
        await connection.say(*pieces)
        await asyncio.sleep(then_wait)
        if reset:
            connection.reset()

    return script


@pytest.fixture
async def transport(trusting) -> AsyncIterator[AiohttpTransport]:
    made = AiohttpTransport(trusting)
    yield made
    await made.aclose()


async def ask(
    transport: AiohttpTransport, url: str, *, method: str = "GET", seconds: float = 5, **more: object
) -> httpx.Response:
    timeout = httpx.Timeout(seconds).as_dict()
    return await transport.handle_async_request(httpx.Request(method, url, extensions={"timeout": timeout}, **more))


async def body_of(response: httpx.Response) -> bytes:
    try:
        return b"".join([piece async for piece in response.stream])
    finally:
        await response.aclose()


async def asked_and_read(transport: AiohttpTransport, url: str) -> bytes:
    return await body_of(await ask(transport, url))


HEAD = b"HTTP/1.1 200 OK\r\n"


@pytest.mark.parametrize(
    "answer",
    [
        (HEAD + b"Content-Length: 5\r\n\r\nhello",),
        (HEAD + b"Content-Length: 5\r\n\r\n", b"he", b"llo"),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n", b"3\r\nllo\r\n0\r\n\r\n"),
        (HEAD + b"Connection: close\r\n\r\nhel", b"lo"),
        (b"HTTP/1.0 200 OK\r\n\r\nhello",),
        (b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" + HEAD + b"Content-Length: 5\r\n\r\nhello",),
    ],
)
async def test_complete_bodies_arrive_whole(transport, answer):
    async with serving(saying(*answer)) as server:
        response = await ask(transport, server.url)
        assert response.status_code == 200
        assert await body_of(response) == b"hello"


@pytest.mark.parametrize("reset", [False, True])
@pytest.mark.parametrize(
    "answer",
    [
        (HEAD + b"Content-Length: 10\r\n\r\n",),
        (HEAD + b"Content-Length: 10\r\n\r\n", b"hello"),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\n",),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhel",),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n",),
    ],
)
async def test_body_that_breaks_off_never_ends_normally(transport, answer, reset):
    # HTTP-12, PROXY-8
    async with serving(saying(*answer, reset=reset)) as server:
        response = await ask(transport, server.url)
        with pytest.raises((httpx.RemoteProtocolError, httpx.ReadError)):
            await body_of(response)


async def test_reset_is_no_end_of_a_body_without_length(transport):
    # HTTP-12
    async with serving(saying(HEAD + b"\r\nhello", reset=True)) as server:
        response = await ask(transport, server.url)
        with pytest.raises(httpx.ReadError):
            await body_of(response)


async def test_reset_after_a_whole_body_does_no_harm(transport):
    async with serving(saying(HEAD + b"Content-Length: 5\r\n\r\nhello", reset=True)) as server:
        response = await ask(transport, server.url)
        assert await body_of(response) == b"hello"


@pytest.mark.parametrize("size", [1_000, 3_000_000])
async def test_large_chunked_body_before_a_close_arrives_whole_at_a_slow_reader(transport, size):
    body = b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in [bytes(size)] * 3) + b"0\r\n\r\n"
    async with serving(saying(HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + body)) as server:
        response = await ask(transport, server.url)
        await asyncio.sleep(0.2)
        received = 0
        async for piece in response.stream:
            received += len(piece)
            await asyncio.sleep(0.001)
        assert received == 3 * size


@pytest.mark.parametrize(
    "rest",
    [
        b"Transfer-Encoding: chunked\r\n\r\nzz\r\nhello\r\n0\r\n\r\n",
        b"Transfer-Encoding: chunked\r\n\r\n5\r\nhelloXX0\r\n\r\n",
        b"Transfer-Encoding: chunked\r\n\r\n-5\r\nhello\r\n0\r\n\r\n",
        b"Content-Length: five\r\n\r\nhello",
        b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello!",
        b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
        b"No colon\r\n\r\n",
        b"X: " + b"x" * 100_000 + b"\r\n\r\n",
    ],
)
async def test_bad_framing_is_a_protocol_error(transport, rest):
    async with serving(saying(HEAD + rest)) as server:
        with pytest.raises(httpx.RemoteProtocolError):
            await body_of(await ask(transport, server.url))


@pytest.mark.parametrize("answer", [b"SSH-2.0-OpenSSH_9\r\n", b"\x16\x03\x01\x02\x00" * 20, b"HTTP/1.1 200 OK\r\nContent-"])
async def test_what_is_no_http_is_a_protocol_error(transport, answer):
    async with serving(saying(answer)) as server:
        with pytest.raises(httpx.RemoteProtocolError):
            await ask(transport, server.url)


@pytest.mark.parametrize("reset", [False, True])
async def test_connection_closed_without_an_answer_is_a_read_error_and_not_repeated(transport, reset):
    async with serving(saying(reset=reset)) as server:
        with pytest.raises(httpx.ReadError):
            await ask(transport, server.url)
        assert server.connections == 1


async def test_refused_connection_is_a_connect_error_that_says_why(transport):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with pytest.raises(httpx.ConnectError, match=r"^Connection refused$"):
        await ask(transport, f"http://127.0.0.1:{port}/")


async def test_unknown_name_is_a_connect_error(transport):
    with pytest.raises(httpx.ConnectError):
        await ask(transport, "http://nowhere.invalid/")


async def test_silence_before_the_answer_is_a_read_timeout(transport):
    async with serving(saying(then_wait=5)) as server:
        with pytest.raises(httpx.ReadTimeout):
            await ask(transport, server.url, seconds=0.1)


async def test_silence_within_a_body_is_a_read_timeout(transport):
    async with serving(saying(HEAD + b"Content-Length: 10\r\n\r\nhello", then_wait=5)) as server:
        response = await ask(transport, server.url, seconds=0.1)
        with pytest.raises(httpx.ReadTimeout):
            await body_of(response)


async def test_slow_body_that_goes_on_is_not_timed_out(transport):
    async def script(connection: Connection) -> None:
        await connection.head()
        await connection.say(HEAD + b"Content-Length: 8\r\n\r\n")
        for _ in range(8):
            await asyncio.sleep(0.1)
            await connection.say(b"x")

    async with serving(script) as server:
        assert await body_of(await ask(transport, server.url, seconds=0.4)) == b"x" * 8


async def test_slow_reader_is_not_timed_out(transport):
    async with serving(saying(HEAD + b"Content-Length: 3000000\r\n\r\n" + bytes(3_000_000))) as server:
        response = await ask(transport, server.url, seconds=0.2)
        await asyncio.sleep(0.6)
        assert len(await body_of(response)) == 3_000_000


async def test_silence_within_the_tls_handshake_is_a_connect_timeout(transport):
    async def script(connection: Connection) -> None:
        await asyncio.sleep(5)

    async with serving(script) as server:
        with pytest.raises(httpx.ConnectTimeout):
            await ask(transport, server.url.replace("http", "https"), seconds=0.1)


async def test_waiting_for_a_free_connection_counts_as_connecting(trusting):
    transport = AiohttpTransport(trusting, max_connections=1)
    async with serving(saying(HEAD + b"Content-Length: 10\r\n\r\nhello", then_wait=5)) as server:
        first = await ask(transport, server.url)
        with pytest.raises(httpx.ConnectTimeout):
            await ask(transport, server.url, seconds=0.1)
        await first.aclose()
    await transport.aclose()


async def test_cancelled_requests_leave_their_connections_free(trusting):
    transport = AiohttpTransport(trusting, max_connections=1)
    async with (
        serving(saying(then_wait=5)) as silent,
        serving(saying(HEAD + b"Content-Length: 10\r\n\r\nhello", then_wait=5)) as half,
        serving(saying(HEAD + b"Content-Length: 2\r\n\r\nok")) as good,
    ):
        for url in (silent.url, half.url):
            asking = asyncio.create_task(asked_and_read(transport, url))
            await asyncio.sleep(0.1)
            asking.cancel()
            with pytest.raises(asyncio.CancelledError):
                await asking
        assert await asked_and_read(transport, good.url) == b"ok"
    await transport.aclose()


async def test_slow_reader_holds_the_sender_back(transport):
    sent = 0

    async def script(connection: Connection) -> None:
        nonlocal sent
        await connection.head()
        connection.writer.write(HEAD + b"Content-Length: 200000000\r\n\r\n")
        for _ in range(200):
            connection.writer.write(bytes(1_000_000))
            await connection.writer.drain()
            sent += 1_000_000

    async with serving(script) as server:
        response = await ask(transport, server.url)
        await asyncio.sleep(0.5)
        assert sent < 30_000_000, "what nobody reads piles up"
        await response.aclose()


async def test_exactly_the_fields_of_the_request_go_out(transport):
    heads: list[bytes] = []

    async def script(connection: Connection) -> None:
        heads.append(await connection.head())
        await connection.say(HEAD + b"Content-Length: 0\r\n\r\n")

    async with serving(script) as server:
        request = httpx.Request(
            "GET", server.url + "/a%2Fb+c?q=%zz&r=1", headers=[("X-One", "1"), ("If-None-Match", 'W/"é"'.encode())]
        )
        response = await transport.handle_async_request(request)
        assert await body_of(response) == b""
        host = server.url.removeprefix("http://").removesuffix("/x").encode()
        sent = b"Host: " + host + b"\r\nX-One: 1\r\nIf-None-Match: " + 'W/"é"'.encode()
        assert heads == [b"GET /x/a%2Fb+c?q=%zz&r=1 HTTP/1.1\r\n" + sent + b"\r\n\r\n"]


async def test_request_body_goes_out(transport):
    bodies: list[bytes] = []

    async def script(connection: Connection) -> None:
        await connection.head()
        bodies.append(await connection.reader.readexactly(4))
        await connection.say(HEAD + b"Content-Length: 0\r\n\r\n")

    async with serving(script) as server:
        await body_of(await ask(transport, server.url, method="POST", content=b"text"))
    assert bodies == [b"text"]


@pytest.mark.parametrize("value", [b"a\r\nY: b", b"a\nY: b", b"\xff"])
async def test_field_that_http_cannot_carry_is_refused(transport, value):
    async with serving(saying(HEAD + b"Content-Length: 0\r\n\r\n")) as server:
        with pytest.raises(httpx.LocalProtocolError):
            await ask(transport, server.url, headers={"X": value})


async def test_other_schemes_are_refused(transport):
    with pytest.raises(httpx.UnsupportedProtocol):
        await ask(transport, "ftp://127.0.0.1/")


async def test_connection_is_used_again_and_cookies_are_not_sent(transport):
    heads: list[bytes] = []

    async def script(connection: Connection) -> None:
        for _ in range(2):
            heads.append(await connection.head())
            await connection.say(HEAD + b"Set-Cookie: id=1; Path=/\r\nContent-Length: 2\r\n\r\nok")

    async with serving(script) as server:
        for _ in range(2):
            assert await body_of(await ask(transport, server.url)) == b"ok"
        assert server.connections == 1
    assert len(heads) == 2
    assert b"ookie" not in heads[1]


async def test_abandoned_answer_does_not_spoil_the_next(transport):
    async with serving(saying(HEAD + b"Content-Length: 10\r\n\r\nhello", then_wait=0.2)) as server:
        first = await ask(transport, server.url)
        await first.aclose()
        second = await ask(transport, server.url)
        await second.aclose()
        assert server.connections == 2


async def test_content_encoding_is_left_on(transport):
    # PROXY-16
    async with serving(saying(HEAD + b"Content-Encoding: gzip\r\nContent-Length: 4\r\n\r\n\x1f\x8bxx")) as server:
        response = await ask(transport, server.url)
        assert response.headers["content-encoding"] == "gzip"
        assert await body_of(response) == b"\x1f\x8bxx"


@pytest.mark.parametrize("status", [b"204 No Content", b"304 Not Modified"])
async def test_answers_without_a_body_end_at_once(transport, status):
    async with serving(saying(b"HTTP/1.1 " + status + b"\r\nETag: x\r\n\r\n", then_wait=1)) as server:
        assert await body_of(await ask(transport, server.url, seconds=0.5)) == b""


async def test_head_states_a_length_and_has_no_body(transport):
    async with serving(saying(HEAD + b"Content-Length: 10\r\n\r\n", then_wait=1)) as server:
        response = await ask(transport, server.url, method="HEAD", seconds=0.5)
        assert response.headers["content-length"] == "10"
        assert await body_of(response) == b""


async def test_redirect_is_an_answer_like_any_other(transport):
    async with serving(saying(b"HTTP/1.1 302 Found\r\nLocation: /y\r\nContent-Length: 0\r\n\r\n")) as server:
        response = await ask(transport, server.url)
        assert (response.status_code, response.headers["location"]) == (302, "/y")
        await response.aclose()
        assert server.connections == 1


async def test_repeated_fields_are_kept(transport):
    async with serving(saying(HEAD + b"X: 1\r\nX: 2\r\nContent-Length: 0\r\n\r\n")) as server:
        response = await ask(transport, server.url)
        assert response.headers.get_list("x") == ["1", "2"]
        await response.aclose()


async def test_transport_can_be_closed_twice_and_used_again(transport):
    await transport.aclose()
    async with serving(saying(HEAD + b"Content-Length: 2\r\n\r\nok")) as server:
        assert await body_of(await ask(transport, server.url)) == b"ok"
        await transport.aclose()
        await transport.aclose()
        assert await body_of(await ask(transport, server.url)) == b"ok"


async def test_trusted_tls_works(transport, server_tls):
    async with serving(saying(HEAD + b"Content-Length: 2\r\n\r\nok"), server_tls) as server:
        assert await body_of(await ask(transport, server.url)) == b"ok"


async def test_truncated_body_over_tls_raises(transport, server_tls):
    # HTTP-12
    async with serving(saying(HEAD + b"Content-Length: 9\r\n\r\nok"), server_tls) as server:
        with pytest.raises((httpx.RemoteProtocolError, httpx.ReadError)):
            await body_of(await ask(transport, server.url))


async def test_untrusted_certificate_is_a_connect_error_that_says_so(server_tls):
    transport = AiohttpTransport(ssl.create_default_context())
    async with serving(saying(HEAD + b"Content-Length: 2\r\n\r\nok"), server_tls) as server:
        with pytest.raises(httpx.ConnectError, match="certificate cannot be verified: self-signed certificate"):
            await ask(transport, server.url)
    await transport.aclose()


async def test_certificate_of_another_host_is_refused(transport, server_tls):
    async with serving(saying(HEAD + b"Content-Length: 2\r\n\r\nok"), server_tls) as server:
        with pytest.raises(httpx.ConnectError, match="certificate"):
            await ask(transport, server.url.replace("127.0.0.1", "[::ffff:127.0.0.1]"))


async def test_tls_asked_of_a_plain_server_is_a_connect_error(transport):
    async def script(connection: Connection) -> None:
        await connection.say(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    async with serving(script) as server:
        with pytest.raises(httpx.ConnectError, match="TLS failed"):
            await ask(transport, server.url.replace("http", "https"))


class Proxy:
    """An HTTP proxy that tunnels and, for plain http, answers itself."""

    def __init__(self, connect_status: bytes = b"200 OK") -> None:
        self.heads: list[bytes] = []
        self.connect_status = connect_status

    async def script(self, connection: Connection) -> None:
        head = await connection.head()
        self.heads.append(head)
        if not head.startswith(b"CONNECT"):
            await connection.say(HEAD + b"Content-Length: 7\r\n\r\nproxied")
            return
        await connection.say(b"HTTP/1.1 " + self.connect_status + b"\r\n\r\n")
        host, _, port = head.split()[1].decode().rpartition(":")
        reader, writer = await asyncio.open_connection(host, int(port))

        async def copy(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
            with suppress(OSError):
                while data := await source.read(65536):
                    target.write(data)
                target.close()

        await asyncio.gather(copy(connection.reader, writer), copy(reader, connection.writer))


async def test_plain_http_goes_through_the_proxy_with_its_credentials(trusting):
    proxy = Proxy()
    async with serving(proxy.script) as server:
        address = server.url.replace("http://", "http://us%40er:pass%3Aword@").removesuffix("/x")
        transport = AiohttpTransport(trusting, {"http": address})
        response = await ask(transport, "http://index.example/simple/", headers={"Authorization": "Basic eA=="})
        assert await body_of(response) == b"proxied"
        await transport.aclose()
    assert proxy.heads[0].startswith(b"GET http://index.example/simple/ HTTP/1.1\r\nHost: index.example\r\n")
    assert b"\r\nProxy-Authorization: Basic " + base64.b64encode(b"us@er:pass:word") + b"\r\n" in proxy.heads[0]
    assert b"\r\nAuthorization: Basic eA==\r\n" in proxy.heads[0]


async def test_https_goes_through_a_tunnel_that_sees_no_upstream_credentials(trusting, server_tls):
    # AUTH-8
    proxy = Proxy()
    async with (
        serving(proxy.script) as server,
        serving(saying(HEAD + b"Content-Length: 2\r\n\r\nok"), server_tls) as upstream,
    ):
        address = server.url.replace("http://", "http://user:password@").removesuffix("/x")
        transport = AiohttpTransport(trusting, {"all": address})
        assert await body_of(await ask(transport, upstream.url, headers={"Authorization": "Basic eA=="})) == b"ok"
        await transport.aclose()
    assert proxy.heads[0].startswith(b"CONNECT 127.0.0.1:")
    assert b"\r\nProxy-Authorization: Basic " + base64.b64encode(b"user:password") + b"\r\n" in proxy.heads[0]
    assert b"Basic eA==" not in proxy.heads[0]


async def test_refusing_proxy_is_a_proxy_error_without_secrets(trusting):
    async with serving(Proxy(b"407 Proxy Authentication Required").script) as server:
        transport = AiohttpTransport(trusting, {"https": server.url.replace("http://", "http://user:password@")})
        with pytest.raises(httpx.ProxyError, match=r"^the proxy refused with status 407$"):
            await ask(transport, "https://index.example/simple/?token=secret")
        await transport.aclose()


async def test_proxy_that_is_down_is_a_proxy_error(trusting):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    transport = AiohttpTransport(trusting, {"all": f"http://127.0.0.1:{port}"})
    for url in ("http://index.example/", "https://index.example/"):
        with pytest.raises(httpx.ProxyError, match="Connection refused"):
            await ask(transport, url)
    await transport.aclose()


async def test_proxy_is_not_used_where_it_is_excepted(trusting):
    transport = AiohttpTransport(trusting, {"all": "http://nowhere.invalid:3128", "no": "127.0.0.0/8"})
    async with serving(saying(HEAD + b"Content-Length: 2\r\n\r\nok")) as server:
        assert await body_of(await ask(transport, server.url)) == b"ok"
    await transport.aclose()


@pytest.mark.parametrize(
    ("url", "proxies", "expected"),
    [
        ("https://a.example/", {}, None),
        ("https://a.example/", {"http": "http://p:1"}, None),
        ("https://a.example/", {"https": "http://p:1", "all": "http://q:1"}, "http://p:1"),
        ("https://a.example/", {"all": "p:1"}, "http://p:1"),
        ("https://a.example/", {"all": "http://p:1", "no": "*"}, None),
        ("https://a.example/", {"all": "http://p:1", "no": "b.example , A.EXAMPLE"}, None),
        ("https://a.example/", {"all": "http://p:1", "no": ".example"}, None),
        ("https://a.example/", {"all": "http://p:1", "no": "example"}, None),
        ("https://a.example/", {"all": "http://p:1", "no": "xa.example,a.example.com,,."}, "http://p:1"),
        ("https://a.example:8443/", {"all": "http://p:1", "no": "a.example:8443"}, None),
        ("https://a.example/", {"all": "http://p:1", "no": "a.example:443"}, None),
        ("https://a.example/", {"all": "http://p:1", "no": "a.example:80"}, "http://p:1"),
        ("http://10.1.2.3/", {"all": "http://p:1", "no": "10.0.0.0/8"}, None),
        ("http://11.1.2.3/", {"all": "http://p:1", "no": "10.0.0.0/8"}, "http://p:1"),
        ("http://[::1]:3000/", {"all": "http://p:1", "no": "::1"}, None),
    ],
)
def test_proxy_for_an_address(url, proxies, expected):
    found = proxy_for(httpx.URL(url), proxies)
    assert (str(found) if found else None) == expected


@pytest.mark.parametrize("proxy", ["socks5://user:password@p:1080", "http://", "http://user:password@p:x", "file:///x"])
def test_unusable_proxy_is_an_error_and_never_gone_around(proxy):
    with pytest.raises(httpx.ProxyError) as caught:
        proxy_for(httpx.URL("https://a.example/"), {"all": proxy})
    assert "password" not in str(caught.value)


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({}, {}),
        ({"HTTP_PROXY": "a", "http_proxy": "b"}, {"http": "b"}),
        ({"HTTP_PROXY": "a", "http_proxy": ""}, {}),
        ({"HTTP_PROXY": "a", "HTTPS_PROXY": "b", "REQUEST_METHOD": "GET"}, {"https": "b"}),
        ({"ALL_PROXY": "a", "NO_PROXY": " * ", "OTHER_PROXY": "x"}, {"all": "a", "no": "*"}),
    ],
)
def test_proxies_of_an_environment(environ, expected):
    assert environment_proxies(environ) == expected


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (aiohttp.ConnectionTimeoutError(), httpx.ConnectTimeout),
        (aiohttp.SocketTimeoutError(), httpx.ReadTimeout),
        (TimeoutError(), httpx.ReadTimeout),
        (aiohttp.ClientPayloadError(), httpx.RemoteProtocolError),
        (aiohttp.ClientConnectionResetError("Cannot write to closing transport"), httpx.ReadError),
        (aiohttp.ClientOSError(104, "x"), httpx.ReadError),
        (aiohttp.ClientConnectionError("Connector is closed."), httpx.ReadError),
        (ssl.SSLError(1, "x"), httpx.ReadError),
        (aiohttp.ClientError(), httpx.RemoteProtocolError),
        (ValueError("http://user:password@x"), httpx.LocalProtocolError),
    ],
)
def test_every_foreign_error_has_a_name_and_a_harmless_text(error, expected):
    made = translated(error)
    assert type(made) is expected
    assert str(made)
    assert "password" not in str(made)
