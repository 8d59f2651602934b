"""httpx's API over aiohttp's connections.

httpx's own asynchronous transport costs about four times the CPU per request with 32 in flight, and nearly three times per
byte. Besides speed this module has one duty: **a body that broke off never ends normally** (RFC 9112 8), because whatever ends
normally is cached and served.
"""

from __future__ import annotations

import os
import socket
import ssl
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import contextmanager
from ipaddress import ip_address, ip_network

import aiohttp
import httpx
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from nora.upstream import reach

_MAX_FIELD_BYTES = 32 * 1024
_READ_BUFFER_BYTES = 128 * 1024

# aiohttp adds these on its own when they are missing.
_AUTOMATIC_FIELDS = ("Accept", "Accept-Encoding", "User-Agent", "Content-Type")


class AiohttpTransport(httpx.AsyncBaseTransport):
    """Pools of connections, opened by the first request and bound to its event loop.

    A request's extension ``networks`` says which addresses besides the public ones a name may have (CWE-918), none if it is missing;
    ``None`` is any. Each kind has a pool of its own, so that no connection serves a request that could not have opened it.

    Exactly the fields of the httpx request are sent; cookies are neither kept nor sent; ``Content-Encoding`` is not undone; no
    request is repeated. Every failure is an :class:`httpx.TransportError` whose text holds no address and no secret:

    ==================================================  ====================================================
    ``ConnectError``, ``ConnectTimeout``                no connection (name, TCP, TLS), or none free in time
    ``ProxyError``                                      the HTTP proxy cannot be reached, refused, or is no HTTP proxy
    ``ReadTimeout``                                     silence, before or within the answer
    ``ReadError``                                       the connection broke before the answer or within a body
    ``RemoteProtocolError``                             no HTTP, bad framing, or a body that ended early
    ``LocalProtocolError``, ``UnsupportedProtocol``     the request itself is wrong
    ==================================================  ====================================================

    Args:
        ssl_context: Whom to trust.
        proxies: As :func:`environment_proxies` gives them.
        max_connections: In use at the same time, of each pool; further requests wait, which counts as connecting.
        keepalive_seconds: How long an idle connection is kept.
    """

    def __init__(
        self,
        ssl_context: ssl.SSLContext,
        proxies: Mapping[str, str] | None = None,
        *,
        max_connections: int = 64,
        keepalive_seconds: float = 20,
    ) -> None:
        self._ssl_context = ssl_context
        self._proxies = dict(proxies or {})
        self._max_connections = max_connections
        self._keepalive_seconds = keepalive_seconds
        self._sessions: dict[tuple[reach.Network, ...] | None, aiohttp.ClientSession] = {}

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send one request; redirects are answers like any other."""
        timeouts = request.extensions.get("timeout", {})
        body = await request.aread()
        with _translating():
            proxy = proxy_for(request.url, self._proxies)
            # The proxy is the operator's choice, and looks the name up itself.
            answer = await self._session(request.extensions.get("networks", ()) if proxy is None else None).request(
                request.method,
                _target(request.url),
                # As UTF-8, since that is what aiohttp writes: the bytes go out unchanged, or not at all.
                headers=[(name.decode(), value.decode()) for name, value in request.headers.raw],
                skip_auto_headers=_AUTOMATIC_FIELDS,
                data=body or None,
                allow_redirects=False,
                proxy=proxy,
                # aiohttp's "connect" covers the whole way: a free place in the pool, name, TCP, proxy and TLS.
                timeout=aiohttp.ClientTimeout(total=None, connect=timeouts.get("connect"), sock_read=timeouts.get("read")),
            )
        return httpx.Response(
            answer.status,
            headers=list(answer.raw_headers),
            stream=_Body(answer),
            extensions={"http_version": b"HTTP/1.1", "reason_phrase": (answer.reason or "").encode("latin-1", "replace")},
        )

    def _session(self, networks: tuple[reach.Network, ...] | None) -> aiohttp.ClientSession:
        """The pool for such addresses; there are as many as there are settings of registries that differ."""
        if networks not in self._sessions:
            self._sessions[networks] = self._new_session(None if networks is None else _Reachable(networks))
        return self._sessions[networks]

    def _new_session(self, resolver: AbstractResolver | None) -> aiohttp.ClientSession:
        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                limit=self._max_connections,
                keepalive_timeout=self._keepalive_seconds,
                ssl=self._ssl_context,
                resolver=resolver,
            ),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            trust_env=False,
            middlewares=(_once,),
            read_bufsize=_READ_BUFFER_BYTES,
            max_line_size=_MAX_FIELD_BYTES,
            max_field_size=_MAX_FIELD_BYTES,
        )

    async def aclose(self) -> None:
        """Close all connections. The transport can be used again afterwards, also in another event loop."""
        sessions, self._sessions = self._sessions, {}
        for session in sessions.values():
            await session.close()


class _Reachable(AbstractResolver):
    """Looks names up for connections. aiohttp connects to what comes from here, and asks nobody again."""

    def __init__(self, networks: tuple[reach.Network, ...]) -> None:
        self._networks = networks

    async def resolve(self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC) -> list[ResolveResult]:
        found = await reach.resolve(host, port, family, self._networks)
        return [ResolveResult(**address) for address in found]

    async def close(self) -> None:
        """Nothing is open."""


class _Body(httpx.AsyncByteStream):
    """The bytes of an answer as they come, unchanged."""

    def __init__(self, answer: aiohttp.ClientResponse) -> None:
        self._answer = answer
        # aiohttp lets go of the connection when the body ends; only its protocol knows how a body without a length ended.
        self._protocol = answer.connection.protocol if answer.connection else None
        self._framed = "Content-Length" in answer.headers or "Transfer-Encoding" in answer.headers

    async def __aiter__(self) -> AsyncIterator[bytes]:
        with _translating():
            async for piece in self._answer.content.iter_any():
                yield piece
            # RFC 9112 8: a body that lasts until the connection closes is whole only if it was closed in order. aiohttp takes a
            # reset for the end, too.
            if not self._framed and self._protocol is not None and isinstance(self._protocol.exception(), OSError):
                raise aiohttp.ClientOSError("the connection broke")

    async def aclose(self) -> None:
        # Does nothing once the body has been read to its end: the connection is back in the pool by then.
        self._answer.close()


async def _once(request: aiohttp.ClientRequest, send: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
    """Translate below aiohttp's own repetition of requests, which so never happens: whether to repeat is not ours to say."""
    with _translating():
        return await send(request)


@contextmanager
def _translating() -> Iterator[None]:
    try:
        yield
    except (aiohttp.ClientError, OSError, ValueError) as error:
        raise translated(error) from error


def translated(error: Exception) -> httpx.TransportError:
    """What httpx calls an error of aiohttp, asyncio or ssl. The text is for people and safe to show.

    >>> translated(aiohttp.ServerDisconnectedError())
    ReadError('the connection was closed without an answer')
    """
    # From the particular to the general: many of these are each other's subclasses, and most are OSErrors.
    match error:
        case aiohttp.ConnectionTimeoutError():
            return httpx.ConnectTimeout("no connection within the time allowed")
        case TimeoutError():
            return httpx.ReadTimeout("silent for too long")
        case aiohttp.ClientHttpProxyError():
            return httpx.ProxyError(f"the proxy refused with status {error.status}")
        case aiohttp.ClientProxyConnectionError():
            return httpx.ProxyError(f"cannot connect to the proxy: {_why(error.os_error)}")
        case aiohttp.ClientConnectorCertificateError():
            return httpx.ConnectError(_why(error.certificate_error))
        case aiohttp.ClientConnectorError():
            return httpx.ConnectError(_why(error.os_error))
        case aiohttp.ServerDisconnectedError():
            if isinstance(error.message, str):
                return httpx.ReadError("the connection was closed without an answer")
            return httpx.RemoteProtocolError("the connection was closed within the answer's head")
        case aiohttp.ClientPayloadError():
            return httpx.RemoteProtocolError("the body broke off or is badly framed")
        case aiohttp.ClientResponseError():
            return httpx.RemoteProtocolError("the answer is not HTTP")
        case aiohttp.NonHttpUrlClientError():
            return httpx.UnsupportedProtocol("only http and https are supported")
        case aiohttp.ClientConnectionError() | OSError():
            return httpx.ReadError(f"the connection broke: {_why(error)}")
        case ValueError():
            return httpx.LocalProtocolError("the request cannot be written as HTTP")
    return httpx.RemoteProtocolError(type(error).__name__)


def _why(error: BaseException) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"the certificate cannot be verified: {error.verify_message}"
    if isinstance(error, ssl.SSLError):
        return f"TLS failed: {getattr(error, 'reason', None) or type(error).__name__}"
    if isinstance(error, OSError) and error.errno and error.errno > 0:
        # asyncio's own text has the socket's address in it.
        return os.strerror(error.errno)
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return type(error).__name__


def _target(url: httpx.URL) -> URL:
    """The same address for aiohttp, taken over in parts: parsed a second time it might be understood in another way."""
    path, _, query = url.raw_path.decode("ascii").partition("?")
    return URL.build(scheme=url.scheme, authority=url.netloc.decode("ascii"), path=path, query_string=query, encoded=True)


def environment_proxies(environ: Mapping[str, str]) -> dict[str, str]:
    """The HTTP proxies that an environment asks for: by scheme, ``all`` and ``no`` (where not to use them).

    The rules are those of :func:`urllib.request.getproxies_environment`: names count in both cases, lower case wins, an empty
    value takes a proxy away, and where CGI could have made ``HTTP_PROXY`` out of a request's field it is not looked at.

    >>> environment_proxies({"HTTPS_PROXY": "http://proxy:3128", "no_proxy": "localhost"})
    {'https': 'http://proxy:3128', 'no': 'localhost'}
    """
    found: dict[str, str] = {}
    for kind in ("http", "https", "all", "no"):
        upper = "" if kind == "http" and "REQUEST_METHOD" in environ else environ.get(f"{kind.upper()}_PROXY", "")
        if value := environ.get(f"{kind}_proxy", upper).strip():
            found[kind] = value
    return found


def proxy_for(url: httpx.URL, proxies: Mapping[str, str]) -> URL | None:
    """The proxy to reach an address by, with its credentials if it has any, or ``None`` to go there directly.

    >>> proxies = {"all": "proxy:3128", "no": "intern.example,10.0.0.0/8"}
    >>> proxy_for(httpx.URL("https://index.example/simple/"), proxies)
    URL('http://proxy:3128')
    >>> proxy_for(httpx.URL("https://a.intern.example/simple/"), proxies)

    Raises:
        httpx.ProxyError: the proxy meant for this address is none that we can use.
    """
    proxy = proxies.get(url.scheme) or proxies.get("all")
    if not proxy or _bypassed(url, proxies.get("no", "")):
        return None
    try:
        parsed = URL(proxy if "://" in proxy else f"http://{proxy}")
    except ValueError as error:
        raise httpx.ProxyError("the configured proxy's address is not valid") from error
    if parsed.scheme not in ("http", "https") or not parsed.host:
        # Going there directly instead would be a surprise to whoever set it.
        raise httpx.ProxyError("the configured proxy is not an HTTP proxy")
    return parsed


def _bypassed(url: httpx.URL, exceptions: str) -> bool:
    """Whether ``NO_PROXY`` names it: ``*``, a name (its subdomains are meant too), a name with a port, or a network."""
    host = url.host.lower()
    with_port = f"{host}:{url.port or {'http': 80, 'https': 443}.get(url.scheme)}"
    for exception in (part.strip().lower() for part in exceptions.split(",")):
        name = exception.lstrip(".")
        if exception == "*" or (name and (name in (host, with_port) or host.endswith(f".{name}"))):
            return True
        if _in_network(host, exception):
            return True
    return False


def _in_network(host: str, network: str) -> bool:
    try:
        return ip_address(host) in ip_network(network, strict=False)
    except ValueError:
        return False
