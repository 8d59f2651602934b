"""The options of a request to the host's own API: out of its body, a JSON object, or out of its address.

``{"reason": "broken"}`` is ``?reason=broken``.
"""

from __future__ import annotations

from typing import Any, TypeVar
from urllib.parse import parse_qsl

import msgspec
from sanic.request import Request

from nora.api import Invalid

MAX_OPTIONS = 10


class Options(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a request may say besides its address."""


class NoOptions(Options, frozen=True, kw_only=True):
    """Nothing."""


OptionsT = TypeVar("OptionsT", bound=Options)


def options_of(request: Request, kind: type[OptionsT]) -> OptionsT:
    """The options of a request.

    Raises:
        Invalid: they are not of this kind; the text names the one that is wrong.
    """
    query, body = _query(request), _body(request)
    if twice := sorted(query.keys() & body.keys()):
        raise Invalid(f"{twice[0]!r} is given twice, in the address and in the body; give it once")
    try:
        # Not strict: a number in the address is a text.
        return msgspec.convert({**query, **body}, kind, strict=False)
    except msgspec.ValidationError as error:
        known = ", ".join(kind.__struct_fields__) or "none"
        raise Invalid(f"{error}; options are: {known}") from None


def _query(request: Request) -> dict[str, str]:
    try:
        pairs = parse_qsl(request.query_string, keep_blank_values=True, max_num_fields=MAX_OPTIONS, errors="strict")
    except ValueError:
        raise Invalid(f"the address must have at most {MAX_OPTIONS} options after its '?', in UTF-8") from None
    found: dict[str, str] = {}
    for name, value in pairs:
        if name in found:
            raise Invalid(f"{name[:80]!r} is given twice in the address; give it once")
        found[name] = value
    return found


def _body(request: Request) -> dict[str, Any]:
    if not request.body:
        return {}
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type != "application/json":
        raise Invalid(f"the body has the Content-Type {media_type[:80]!r}; send a JSON object as application/json, or no body")
    try:
        decoded = msgspec.json.decode(request.body)
    except (ValueError, RecursionError):  # also bytes that are no UTF-8, and nesting without end
        raise Invalid("the body is no well-formed JSON; send an object") from None
    if not isinstance(decoded, dict):
        raise Invalid("the body must be a JSON object")
    return decoded
