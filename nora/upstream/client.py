"""The HTTP client for upstreams: redirects, credentials, limits; and for webhooks. httpx's errors do not get past it."""

from __future__ import annotations

import asyncio
import logging
import random
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from http.cookiejar import CookieJar, DefaultCookiePolicy
from pathlib import Path

import httpx

from nora import metrics
from nora.api import UpstreamInvalid, UpstreamTimeout
from nora.upstream.address import Upstream, shown_url, without_user
from nora.upstream.encoding import UndecodableBody
from nora.upstream.failures import check_status, let_go, translating
from nora.upstream.post import Posted, posted
from nora.upstream.reach import DEFAULT_PORTS
from nora.upstream.transport import AiohttpTransport, environment_proxies
from nora.upstream.whole import WholeBodies

__all__ = [
    "Upstream",
    "UpstreamClient",
    "UpstreamResponse",
    "UpstreamStream",
    "check_status",
    "let_go",
    "make_client",
    "shown_url",
]

log = logging.getLogger(__name__)

MAX_REDIRECTS = 5
MAX_DOCUMENT_BYTES = 64 * 1024 * 1024
OVERALL_FACTOR = 10
"""A whole document, and the way to the head of any answer, may take this many times the allowed silence."""
_RETRY_AFTER_SECONDS = (0.1, 0.3)
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_DISCARDED_BYTES = 64 * 1024

# AUTH-8: what comes from outside must not decide on any of these.
_OWN_FIELDS = frozenset(
    {"accept-encoding", "authorization", "connection", "content-length", "cookie", "host", "proxy-authorization"}
    | {"te", "transfer-encoding", "upgrade", "user-agent"}
)


@dataclass(frozen=True, slots=True)
class UpstreamResponse:
    """A whole answer.

    Attributes:
        status: The status code, never one of a redirect that could be followed.
        url: The final address, without user info; relative links resolve against it.
        headers: By lower-case name; repeated fields joined with ``", "``.
        body: The content, decoded; empty unless the status is 200.
    """

    status: int
    url: str
    headers: Mapping[str, str]
    body: bytes = b""


class UpstreamStream:
    """An answer whose body is still to come. Attributes as in :class:`UpstreamResponse`.

    Attributes:
        content_length: Length of the body as it is sent, if the upstream says so.
    """

    def __init__(self, response: httpx.Response) -> None:
        self._response = response
        self.status = response.status_code
        self.url = str(response.url)
        self.headers: Mapping[str, str] = _fields(response)
        self.content_length = _content_length(response)

    async def chunks(self) -> AsyncIterator[bytes]:
        """The body's bytes as they are sent, with any Content-Encoding left on (PROXY-16). To be read once.

        Ends only after a complete body.

        Raises:
            UpstreamTimeout: silence within the body.
            UpstreamUnavailable: the connection broke.
            UpstreamInvalid: the body ended early or is badly framed.
        """
        received = 0
        with translating(self._response.url):
            async for piece in self._response.aiter_raw():
                received += len(piece)
                yield piece
        # The transport has checked it, too. Once more, since everything behind this line takes the body for whole.
        if self.content_length is not None and received != self.content_length:
            raise UpstreamInvalid(shown_url(self.url), f"sent {received} of {self.content_length} bytes")


class UpstreamClient:
    """Asks upstreams; one for the whole process, see :func:`make_client`.

    Every method raises, besides what it says itself: :class:`UpstreamUnavailable` (no connection, or it broke; a request that
    had no byte of an answer was tried twice), :class:`UpstreamTimeout` and :class:`UpstreamInvalid` (no HTTP, a redirect that
    leads nowhere or out of :attr:`Upstream.reach`). Any status is an answer, see :func:`check_status`.

    Args:
        transport: Makes the connections; ``None`` is httpx's own, which tests can intercept.
        user_agent: The User-Agent field's value.
    """

    def __init__(self, transport: httpx.AsyncBaseTransport | None, user_agent: str) -> None:
        # httpx logs whole addresses, queries with signatures in them included.
        logging.getLogger("httpx").setLevel(logging.WARNING)
        self._bodies = WholeBodies()
        self._client = httpx.AsyncClient(
            transport=transport,
            headers={"User-Agent": user_agent},
            # A .netrc or a cookie would be another way for credentials to get out.
            cookies=CookieJar(policy=DefaultCookiePolicy(allowed_domains=[])),
            trust_env=False,
            follow_redirects=False,
        )

    async def get_document(
        self,
        upstream: Upstream,
        url: str,
        headers: Mapping[str, str],
        *,
        timeout_seconds: float,
        max_bytes: int = MAX_DOCUMENT_BYTES,
    ) -> UpstreamResponse:
        """GET a document, whole and decoded. ``max_bytes`` bounds it in both forms, before and after decoding.

        ``timeout_seconds`` bounds each silence, and ten times as much the whole.

        Raises:
            UpstreamInvalid: also when the body is too large, broke off, or has an encoding that was not asked for.
        """
        async with _overall(url, timeout_seconds):
            response = await self._open("GET", upstream, url, headers, "gzip, deflate", timeout_seconds)
            try:
                body = b""
                if response.status_code == 200:
                    body = await self._whole_body(upstream, response, max_bytes)
                else:
                    await _discard(response)
            finally:
                await response.aclose()
        return UpstreamResponse(response.status_code, str(response.url), _fields(response), body)

    async def _whole_body(self, upstream: Upstream, response: httpx.Response, max_bytes: int) -> bytes:
        problem = f"the document is larger than {max_bytes} bytes"
        if (_content_length(response) or 0) <= max_bytes:
            encoding = response.headers.get("content-encoding", "")
            try:
                return await self._bodies.collect(upstream.url, UpstreamStream(response).chunks(), encoding, max_bytes)
            except OverflowError:
                pass
            except UndecodableBody as error:
                problem = str(error)
        # Not within the handlers: such errors are remembered for a while, and the context of one keeps all that was decoded.
        raise UpstreamInvalid(shown_url(response.url), problem)

    @asynccontextmanager
    async def stream(
        self, upstream: Upstream, url: str, headers: Mapping[str, str], *, timeout_seconds: float
    ) -> AsyncIterator[UpstreamStream]:
        """GET something of any size. ``timeout_seconds`` bounds each silence, not the whole transfer."""
        async with _overall(url, timeout_seconds):
            response = await self._open("GET", upstream, url, headers, "identity", timeout_seconds)
        try:
            yield UpstreamStream(response)
        finally:
            await response.aclose()

    async def head(
        self, upstream: Upstream, url: str, headers: Mapping[str, str], *, timeout_seconds: float
    ) -> UpstreamResponse:
        """Ask for an answer's status and fields only, as :meth:`stream` would get them."""
        async with _overall(url, timeout_seconds):
            response = await self._open("HEAD", upstream, url, headers, "identity", timeout_seconds)
            await response.aclose()
        return UpstreamResponse(response.status_code, str(response.url), _fields(response))

    async def post(self, url: str, headers: Mapping[str, str], body: bytes, *, timeout_seconds: float) -> Posted:
        """Send something once to an address of the operator's choice, see :func:`nora.upstream.post.posted`."""
        return await posted(self._client, url, headers, body, timeout_seconds)

    async def aclose(self) -> None:
        """Close all connections."""
        await self._client.aclose()
        self._bodies.close()

    async def _open(
        self, method: str, upstream: Upstream, url: str, headers: Mapping[str, str], encoding: str, timeout_seconds: float
    ) -> httpx.Response:
        """The head of the final answer, after redirects."""
        reach = upstream.reach
        with translating(url):
            target = without_user(httpx.URL(url))
        for _ in range(MAX_REDIRECTS + 1):
            if target.scheme not in DEFAULT_PORTS or not target.host or (target.port or 0) > 65535:
                raise UpstreamInvalid(shown_url(target), "is not an http:// or https:// address")
            if upstream.encrypted and target.scheme != "https":
                raise UpstreamInvalid(shown_url(target), "is not an https:// address")
            with translating(target):
                reach.check(target)
                networks = None if reach.is_given(target) else reach.networks
                sent = _request_fields(headers, encoding, upstream.credentials_for(str(target)))
                request = self._client.build_request(
                    method, target, headers=sent, timeout=timeout_seconds, extensions={"networks": networks}
                )
                response = await self._send(request)
                # PROXY-18
                if response.status_code not in _REDIRECTS or "location" not in response.headers:
                    return response
                try:
                    await _discard(response)
                    target = without_user(target.join(response.headers["location"]))
                finally:
                    await response.aclose()
        raise UpstreamInvalid(shown_url(url), "too many redirects")

    async def _send(self, request: httpx.Request) -> httpx.Response:
        metrics.UPSTREAM_REQUESTS.labels(request.method).inc()
        try:
            return await self._client.send(request, stream=True)
        except (httpx.NetworkError, httpx.ProxyError) as error:
            log.debug("asking an upstream again", extra={"url": shown_url(request.url), "error": type(error).__name__})
        await asyncio.sleep(random.uniform(*_RETRY_AFTER_SECONDS))  # noqa: S311  (nothing to guess)
        return await self._client.send(request, stream=True)


def make_client(
    *, ca_cert: str, environ: Mapping[str, str], version: str, context: ssl.SSLContext | None = None
) -> UpstreamClient:
    """A client that goes through the HTTP proxies that ``environ`` names.

    ``context`` is what :func:`trusting` makes of the other arguments, for several clients: that takes a moment each time.

    Raises:
        ValueError: see :func:`trusting`.
    """
    context = context or trusting(ca_cert=ca_cert, environ=environ)
    return UpstreamClient(AiohttpTransport(context, environment_proxies(environ)), f"nora/{version}")


def trusting(*, ca_cert: str, environ: Mapping[str, str]) -> ssl.SSLContext:
    """Trust in certifi's authorities, the system's, those of ``SSL_CERT_FILE`` and ``SSL_CERT_DIR``, and those in ``ca_cert``.

    ``ca_cert`` is a file or a folder and may be empty.

    Raises:
        ValueError: a certificate file cannot be read; the text names the setting.
    """
    context = httpx.create_ssl_context(trust_env=False)
    context.load_default_certs()
    for setting, path in (
        ("SSL_CERT_FILE", environ.get("SSL_CERT_FILE", "")),
        ("SSL_CERT_DIR", environ.get("SSL_CERT_DIR", "")),
        ("ca_cert", ca_cert),
    ):
        if not path:
            continue
        try:
            if Path(path).is_dir():
                context.load_verify_locations(capath=path)
            else:
                context.load_verify_locations(cafile=path)
        except ssl.SSLError as error:
            raise ValueError(f"{setting}: {path} holds no certificates in PEM form") from error
        except OSError as error:
            raise ValueError(f"{setting}: cannot read {path}: {error.strerror}") from error
    return context


def _request_fields(headers: Mapping[str, str], encoding: str, credentials: str | None) -> dict[str, str]:
    fields = {
        name: value
        for name, value in headers.items()
        # An upstream's validator that HTTP cannot carry is as good as none.
        if name.lower() not in _OWN_FIELDS and value.isascii() and value.isprintable()
    }
    fields["Accept-Encoding"] = encoding
    if credentials:
        fields["Authorization"] = credentials
    return fields


def _fields(response: httpx.Response) -> dict[str, str]:
    return {name.lower(): value for name, value in response.headers.items()}


def _content_length(response: httpx.Response) -> int | None:
    value = response.headers.get("content-length", "")
    if "transfer-encoding" in response.headers or not (value.isascii() and value.isdecimal() and len(value) < 20):
        return None
    return int(value)


async def _discard(response: httpx.Response) -> None:
    """Read what nobody wants if it is short, so that the connection can be used again."""
    length = _content_length(response)
    if length is None or length > _DISCARDED_BYTES:
        return
    with suppress(httpx.HTTPError, TimeoutError):
        async with asyncio.timeout(1):
            async for _ in response.aiter_raw():
                pass


@asynccontextmanager
async def _overall(url: str, timeout_seconds: float) -> AsyncIterator[None]:
    # An upstream that sends a byte now and then would never be silent for long enough.
    limit_seconds = OVERALL_FACTOR * timeout_seconds
    try:
        async with asyncio.timeout(limit_seconds):
            yield
    except TimeoutError as error:
        raise UpstreamTimeout(shown_url(url), f"not done after {limit_seconds:g} seconds") from error
