"""An upstream's answer becomes a listing: decides which format it is in. Pure."""

from __future__ import annotations

import codecs
import re

from nora.api import Document, Listing, UpstreamInvalid
from nora_pypi import parse_html, parse_json

_SIMPLE = re.compile(r"application/vnd\.pypi\.simple\.(?P<version>[\w.-]+)\+(?P<format>json|html)", re.ASCII)
_HTML = frozenset({"text/html", "application/xhtml+xml"})
_VAGUE = frozenset(
    {"", "application/json", "text/json", "text/plain", "application/octet-stream", "binary/octet-stream", "application/x-json"}
)
_UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


def parse_listing(project: str, document: Document) -> Listing:
    """Read an upstream's page of a project, ``project`` being the normalized name.

    The two content types of the Simple API are taken at their word. Static file servers and proxies between us and the upstream
    know them less well than the page's own beginning, so with a vague type, or ``text/html``, that decides: ``{`` is JSON, ``<`` is
    HTML. With any other type it is no index page.

    Raises:
        UpstreamInvalid: no index page, half a page, or one of another major version of the API.
    """
    content_type = document.content_type.partition(";")[0].strip().lower()
    if simple := _SIMPLE.fullmatch(content_type):
        if simple["version"] not in ("v1", "latest"):  # VER-6
            raise UpstreamInvalid(document.url, f"it speaks {content_type}; only version 1 is understood")
        return parse_json.parse(project, document) if simple["format"] == "json" else parse_html.parse(project, document)
    if content_type not in _HTML | _VAGUE:
        raise UpstreamInvalid(document.url, f"content type {content_type[:80]!r} is none of an index page")
    beginning = document.body.removeprefix(codecs.BOM_UTF8)[:64].lstrip()
    if beginning.startswith(b"{"):
        return parse_json.parse(project, document)
    if beginning.startswith((b"<", *_UTF16)) or content_type in _HTML:
        return parse_html.parse(project, document)
    raise UpstreamInvalid(document.url, "it is neither HTML nor a JSON object")
