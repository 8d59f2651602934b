"""What handlers return, as responses: conditional requests, ranges, compression, HEAD."""

from __future__ import annotations

from typing import assert_never

from sanic.request import Request
from sanic.response import HTTPResponse

from nora.api import Content, Page
from nora.context import current_request
from nora.http.conditional import Decision, Full, NotModified, Partial, PreconditionFailed, Unsatisfiable, decide
from nora.http.encoding import accepts_gzip
from nora.http.errors import plain
from nora.http.sendfile import FileAnswer
from nora.http.wire import Outgoing, is_head

FILE_CACHE_CONTROL = "max-age=31536000, immutable"
HTML_POLICY = "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
"""Pages here are links and nothing else, so whatever else got into one does nothing (CSP level 3)."""


def field(request: Request, name: str) -> str | None:
    """A request field's value; several lines are one list (RFC 9110 5.3)."""
    values = request.headers.getall(name, None)
    return ", ".join(values) if values else None


async def answer_with(request: Request, result: HTTPResponse | Content | Page) -> Outgoing:
    """The response to a handler's result."""
    if isinstance(result, Page):
        return await page_answer(request, result)
    if isinstance(result, Content):
        return await content_answer(request, result)
    return response_answer(request, result)


async def page_answer(request: Request, page: Page) -> Outgoing:
    """A page, in the coding that fits, or 304."""
    compressible = page.gzip_body is not None or page.gzip_later is not None
    compressed = compressible and accepts_gzip(field(request, "accept-encoding"))
    etag = f"{page.etag}-gzip" if compressed else page.etag
    vary = (*page.vary, "Accept-Encoding") if compressible else page.vary
    fields = [
        ("etag", f'"{etag}"'),
        ("cache-control", _cached_by_whom(f"max-age={page.max_age_seconds}, must-revalidate")),
        ("x-content-type-options", "nosniff"),
        *((name, value) for name, value in page.headers.items()),
    ]
    if vary:
        fields.append(("vary", ", ".join(vary)))
    decision = _decide(request, etag, None)
    if isinstance(decision, NotModified):
        return Outgoing(304, fields)
    if isinstance(decision, PreconditionFailed):
        return plain(412, "the precondition failed", fields, head_only=is_head(request))
    fields.append(("content-type", page.content_type))
    if _is_html(page.content_type):
        fields.append(("content-security-policy", HTML_POLICY))
    if compressed:
        if page.gzip_body is None:
            assert page.gzip_later is not None
            page.gzip_body = await page.gzip_later()
        fields.append(("content-encoding", "gzip"))
        return Outgoing(200, fields, page.gzip_body, head_only=is_head(request))
    return Outgoing(200, fields, page.body, head_only=is_head(request))


async def content_answer(request: Request, content: Content) -> Outgoing:
    """A file, a part of it, or 304. The source is closed here unless the answer takes it along."""
    source = content.source
    fields = [("cache-control", _cached_by_whom(FILE_CACHE_CONTROL)), *content.headers.items()]
    if content.etag:
        fields.append(("etag", f'"{content.etag}"'))
    decision = _decide(request, content.etag, source.size)
    if isinstance(decision, Full | Partial) and not (is_head(request) and source.size is not None):
        # Before the head goes out: what fails up to here is still an honest status.
        await source.start()
        decision = _decide(request, content.etag, source.size)
    size = source.size
    match decision:
        case NotModified():
            await source.aclose()
            return Outgoing(304, fields)
        case PreconditionFailed():
            await source.aclose()
            return plain(412, "the precondition failed", fields, head_only=is_head(request))
        case Unsatisfiable():
            await source.aclose()
            return plain(416, "the range is outside of the file", [("content-range", f"bytes */{size}")], head_only=False)
        case Full() | Partial():
            pass
        case _:
            assert_never(decision)
    fields += [("content-type", content.content_type), ("x-content-type-options", "nosniff")]
    if size is not None:
        fields.append(("accept-ranges", "bytes"))
    if isinstance(decision, Partial):
        fields.append(("content-range", f"bytes {decision.start}-{decision.stop - 1}/{size}"))
        return FileAnswer(206, fields, source, decision.start, decision.stop)
    return FileAnswer(200, fields, source, 0, size, head_only=is_head(request))


def response_answer(request: Request, response: HTTPResponse) -> Outgoing:
    """A Sanic response that a plugin made."""
    fields = [(name.lower(), str(value)) for name, value in response.headers.items()]
    names = {name for name, _ in fields}
    body = response.body or b""
    if response.content_type and "content-type" not in names and body:
        fields.append(("content-type", response.content_type))
    if "x-content-type-options" not in names:
        fields.append(("x-content-type-options", "nosniff"))
    if _is_html(response.content_type or "") and "content-security-policy" not in names:
        fields.append(("content-security-policy", HTML_POLICY))
    fields = [(name, value) for name, value in fields if name not in ("content-length", "transfer-encoding", "connection")]
    return Outgoing(response.status, fields, body, head_only=is_head(request))


def _cached_by_whom(control: str) -> str:
    """Cache-Control, by which what somebody had to log in for is nobody else's.

    Spec: RFC 9111 3.5, by which ``must-revalidate`` alone would let shared caches keep it.
    """
    return control if current_request.get().actor.is_anonymous else f"private, {control}"


def _is_html(content_type: str) -> bool:
    return "html" in content_type.partition(";")[0]


def _decide(request: Request, etag: str, size: int | None) -> Decision:
    headers = request.headers
    return decide(
        method=request.method,
        if_none_match=field(request, "if-none-match"),
        if_match=field(request, "if-match"),
        range_=headers.get("range") if size is not None else None,
        if_range=headers.get("if-range"),
        etag=etag,
        size=size,
    )
