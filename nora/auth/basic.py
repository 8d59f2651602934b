"""The Authorization field: Basic authentication, and tokens as Bearer. Pure."""

from __future__ import annotations

import base64
import re
from typing import NamedTuple

from nora.api import Unauthorized

# Python's own decoder lets characters and padding pass that do not belong there, even when told to be strict.
_BASE64 = re.compile(r"(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?")
_BEARER = re.compile(r"[A-Za-z0-9._~+/-]{1,4096}=*")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


class Credentials(NamedTuple):
    """What somebody logs in with. A bearer token is a password without a user name."""

    username: str
    password: str


def parse_credentials(value: str | None) -> Credentials | None:
    """The credentials in an Authorization field's value; ``None`` when there is no such field.

    Spec: RFC 7617 section 2, RFC 6750 section 2.1, RFC 9110 section 11.1 (the scheme's case does not matter).

    >>> parse_credentials("Bearer nora_abc")
    Credentials(username='', password='nora_abc')

    Raises:
        Unauthorized: another scheme, or none that can be read. The text does not repeat any of it.
    """
    if value is None:
        return None
    scheme, _, token = value.strip(" \t").partition(" ")
    if scheme.lower() != "bearer":
        basic = parse_basic(value)
        return None if basic is None else Credentials(*basic)
    if not _BEARER.fullmatch(token.strip(" \t")):
        raise Unauthorized("the bearer token cannot be read")
    return Credentials("", token.strip(" \t"))


def parse_basic(value: str | None) -> tuple[str, str] | None:
    """User name and password out of an Authorization field's value; ``None`` when there is no such field.

    Spec: RFC 7617 section 2 (the first colon ends the user name; no control characters), RFC 9110 section 11.1 (the scheme's
    case does not matter). Bytes that are not UTF-8 are read as Latin-1, which is what older clients send.

    >>> parse_basic("basic YWxpY2U6YTpi")
    ('alice', 'a:b')

    Raises:
        Unauthorized: another scheme, no base64, or no colon. The text does not repeat any of it.
    """
    if value is None:
        return None
    scheme, _, token = value.strip(" \t").partition(" ")
    if scheme.lower() != "basic":
        raise Unauthorized("only Basic authentication and bearer tokens are understood")
    if not _BASE64.fullmatch(token.strip(" \t")):
        raise Unauthorized("the credentials are not base64")
    decoded = base64.b64decode(token)
    try:
        text = decoded.decode()
    except UnicodeDecodeError:
        text = decoded.decode("latin-1")
    username, colon, password = text.partition(":")
    if not colon:
        raise Unauthorized("the credentials have no colon between user name and password")
    if _CONTROL.search(text):
        raise Unauthorized("the credentials hold control characters")
    return username, password
