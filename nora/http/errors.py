"""The one place where errors become statuses."""

from __future__ import annotations

import logging

from sanic.exceptions import SanicException

from nora.api import (
    AlreadyExists,
    DigestMismatch,
    Forbidden,
    Invalid,
    NoraError,
    NotAcceptable,
    NotFound,
    StorageFull,
    TooLarge,
    TooManyRequests,
    Unauthorized,
    UpstreamError,
    UpstreamInvalid,
    UpstreamTimeout,
    UpstreamUnavailable,
)
from nora.http.wire import Outgoing

log = logging.getLogger(__name__)

STATUSES: dict[type[NoraError], int] = {
    Invalid: 400,
    Unauthorized: 401,
    Forbidden: 403,
    NotFound: 404,
    NotAcceptable: 406,
    AlreadyExists: 409,
    TooLarge: 413,
    TooManyRequests: 429,
    StorageFull: 507,
    UpstreamError: 502,
    UpstreamInvalid: 502,
    DigestMismatch: 502,
    UpstreamUnavailable: 503,
    UpstreamTimeout: 504,
}
MAX_TEXT = 2000
MAX_REASON = 400
"""Characters of a reason phrase: some clients and proxies take no longer lines."""


def status_of(error: NoraError) -> int:
    """The status of an error: that of its nearest listed class."""
    return next((STATUSES[kind] for kind in type(error).__mro__ if kind in STATUSES), 500)


def error_answer(error: BaseException, *, head_only: bool) -> Outgoing:
    """An error as a response: one line of plain text that says what is wrong, and nothing of our insides."""
    fields: list[tuple[str, str]] = []
    if isinstance(error, NoraError):
        status, text = status_of(error), str(error)
        if isinstance(error, Unauthorized):
            fields.append(("www-authenticate", 'Basic realm="nora", charset="UTF-8"'))
        elif isinstance(error, NotAcceptable):
            fields.append(("vary", "Accept"))
        elif isinstance(error, UpstreamUnavailable | TooManyRequests):
            fields.append(("retry-after", str(error.retry_after_seconds)))
        elif isinstance(error, UpstreamTimeout):
            fields.append(("retry-after", "5"))
    elif isinstance(error, SanicException):
        status, text = _of_sanic(error)
        fields += [(name.lower(), value) for name, value in (error.headers or {}).items() if name.lower() == "allow"]
    else:
        log.error("unexpected error", exc_info=error)
        status, text = 500, "internal error; the server's log tells more under this request id"
    return plain(status, text, fields, head_only=head_only)


def reason_of(error: NoraError) -> str:
    """An error's text as a reason phrase: clients such as twine show that, and not the body (RFC 9112 4 allows any text).

    >>> reason_of(Forbidden("\u00fcber-1.0.tar.gz: the project is archived"))
    '?ber-1.0.tar.gz: the project is archived'
    """
    text = str(error)[:MAX_REASON]
    return "".join(c if " " <= c <= "~" else "?" for c in text)


def plain(status: int, text: str, fields: list[tuple[str, str]], *, head_only: bool) -> Outgoing:
    """One line of plain text."""
    shown = text if text.isprintable() else "".join(c if c.isprintable() else " " for c in text)
    line = " ".join(shown.split())[:MAX_TEXT]
    body = line.encode("utf-8", "replace") + b"\n"
    typed = [("content-type", "text/plain; charset=utf-8"), ("x-content-type-options", "nosniff"), *fields]
    return Outgoing(status, typed, body, head_only=head_only)


def _of_sanic(error: SanicException) -> tuple[int, str]:
    status = error.status_code or 500
    match status:
        case 404:
            return 404, "not found"
        case 405:
            return 405, "method not allowed here"
        case 413 if "header" in str(error).lower():
            return 431, "request header fields are too large"
        case _ if status >= 500:
            return status, "the request could not be answered"
        case _:
            return status, str(error) or "bad request"
