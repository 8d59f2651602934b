"""Errors as answers: the right status, one plain line, nothing of our insides."""

from __future__ import annotations

import logging

import pytest
from sanic.exceptions import BadRequest, MethodNotAllowed, PayloadTooLarge, SanicException, ServerError, ServiceUnavailable
from sanic.exceptions import NotFound as RouteNotFound

from nora import api
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
    Unauthorized,
    UpstreamError,
    UpstreamInvalid,
    UpstreamTimeout,
    UpstreamUnavailable,
)
from nora.http.errors import MAX_REASON, STATUSES, error_answer, plain, reason_of, status_of

URL = "https://index.example/simple/x/"


def fields_of(error: BaseException) -> dict[str, str]:
    return dict(error_answer(error, head_only=False).fields)


@pytest.mark.parametrize(
    ("error", "status", "text"),
    [
        (Invalid("no name", "no version", subject="x-1.whl"), 400, "x-1.whl: no name; no version"),
        (Invalid(), 400, "the request is not valid"),
        (TooLarge("the upload", 5), 413, "the upload is larger than the limit of 5 bytes"),
        (Unauthorized(), 401, "authentication required"),
        (Forbidden("not yours"), 403, "not yours"),
        (NotFound("file", "x-1.whl"), 404, "no such file: x-1.whl"),
        (NotAcceptable(["text/html"]), 406, "not acceptable; available: text/html"),
        (AlreadyExists("x-1.whl"), 409, "x-1.whl: already exists with other content; "),
        (StorageFull(), 507, "the registry's storage is full; nothing was stored"),
        (UpstreamError(URL, "is odd"), 502, f"upstream {URL}: is odd"),
        (UpstreamInvalid(URL, "garbage"), 502, f"upstream {URL}: garbage"),
        (DigestMismatch(URL, "md5", "a", "b"), 502, f"upstream {URL}: md5 is b, expected a"),
        (UpstreamUnavailable(URL, "down"), 503, f"upstream {URL}: down"),
        (UpstreamTimeout(URL, "silent"), 504, f"upstream {URL}: silent"),
    ],
)
def test_an_error_of_ours_is_its_status_and_its_own_words(error, status, text):
    answer = error_answer(error, head_only=False)
    assert answer.status == status
    assert answer.body.decode().startswith(text)
    assert answer.body.endswith(b"\n")
    assert answer.body.count(b"\n") == 1
    assert dict(answer.fields)["content-type"] == "text/plain; charset=utf-8"
    assert dict(answer.fields)["x-content-type-options"] == "nosniff"


def test_every_public_error_has_a_status_of_its_own_choosing():
    errors = [kind for kind in vars(api).values() if isinstance(kind, type) and issubclass(kind, NoraError)]
    assert set(STATUSES) == set(errors) - {NoraError}


def test_a_plugins_own_error_has_the_status_of_its_nearest_relative():
    class NoLicence(Forbidden):
        """A plugin's."""

    assert status_of(NoLicence("no")) == 403
    assert status_of(NoraError("odd")) == 500


# AUTH-1, NEG-14
def test_some_errors_bring_fields_along():
    assert fields_of(Unauthorized())["www-authenticate"].startswith('Basic realm="')
    assert fields_of(NotAcceptable(["a/b"]))["vary"] == "Accept"
    assert fields_of(UpstreamUnavailable(URL, "down", 77))["retry-after"] == "77"
    assert fields_of(UpstreamTimeout(URL, "silent"))["retry-after"].isdecimal()
    assert "www-authenticate" not in fields_of(Forbidden("no"))
    assert "www-authenticate" not in fields_of(UpstreamInvalid(URL, "status 401"))  # PROXY-12


# UP-12
@pytest.mark.parametrize(
    "error",
    [ValueError("secret /srv/nora/users.htpasswd"), KeyError("secret"), AssertionError("secret"), RecursionError("secret")],
)
def test_what_nobody_expected_shows_nothing_and_is_logged(error, caplog):
    answer = error_answer(error, head_only=False)
    assert answer.status == 500
    assert b"secret" not in answer.body
    assert type(error).__name__.encode() not in answer.body
    assert b"request id" in answer.body
    assert caplog.records[0].levelno == logging.ERROR
    assert caplog.records[0].exc_info[1] is error


def test_errors_that_are_expected_are_not_logged_as_ours(caplog):
    error_answer(NotFound("file", "x"), head_only=False)
    error_answer(RouteNotFound("x"), head_only=False)
    assert caplog.records == []


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (RouteNotFound("Requested URL /x not found"), 404),
        (MethodNotAllowed("m", "PUT", ["GET", "HEAD"]), 405),
        (BadRequest("Bad Request"), 400),
        (PayloadTooLarge("Request header exceeds the size limit"), 431),
        (PayloadTooLarge("Request body exceeds the size limit"), 413),
        (ServiceUnavailable("Response Timeout"), 503),
        (ServerError("secret"), 500),
        (SanicException("secret"), 500),
    ],
)
def test_sanics_errors_keep_their_status_in_our_words(error, status):
    answer = error_answer(error, head_only=False)
    assert answer.status == status
    assert b"secret" not in answer.body
    assert b"/x" not in answer.body
    assert answer.body.strip()


# HTTP-3
def test_a_method_that_is_not_allowed_tells_which_are():
    assert fields_of(MethodNotAllowed("m", "PUT", ["GET", "HEAD"]))["allow"] == "GET, HEAD"


# HTTP-18
@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("a\nb\r\nc", "a b c"),
        ("a\x00b\x1b[31m\x7f", "a b [31m"),
        ("  a \u2028 b\u00a0c ", "a b c"),
        ("<script>", "<script>"),
        ("é🐍", "é🐍"),
        ("", ""),
    ],
)
def test_a_text_is_one_clean_line(text, line):
    assert plain(400, text, [], head_only=False).body.decode() == line + "\n"


def test_a_text_is_short_and_can_be_written_whatever_it_holds():
    assert len(plain(400, "é" * 100_000, [], head_only=False).body) < 10_000
    assert plain(400, "a\ud800b", [], head_only=False).body.endswith(b"\n")


def test_a_reason_phrase_is_one_line_of_ascii_and_not_too_long():
    text = reason_of(Invalid("a\r\nSet-Cookie: b", "\u00fc\x7f", "c" * 1000))
    assert text.startswith("a??Set-Cookie: b")
    assert len(text) == MAX_REASON
    assert text.isascii()
    assert text.isprintable()
