"""HTML of an upstream before it is parsed: what would keep the parser busy for minutes is taken out, or refused. Pure.

A parser that mends markup as browsers do builds a tree of gigabytes out of some pages of a hundred kilobytes: it opens ``<b>``
again in every paragraph (HTML, "reconstruct the active formatting elements"), looks through all open elements for one to close,
and compares each attribute of a tag with all others. Pages of links need none of that.
"""

from __future__ import annotations

import re

from nora.api import UpstreamInvalid

MAX_ATTRIBUTES = 1_000
MAX_STEPS = 2_000_000
"""How many steps, or nodes, may come of a page in the worst case: one for each tag in each element that may be open."""

# HTML, "tokenization": from the name of a tag on. Where one can begin, so far as bytes tell, one is looked for: "<" is no part of
# a name or a value without quotes here, so that nothing is read over and over.
_ATTRIBUTE = rb"""[^\s/>][^\s/>=<]*+(?:\s*+=\s*+(?:"[^"]*+"|'[^']*+'|[^\s>"'][^\s><]*+)?+)?+"""
_CROWDED = re.compile(rb"<[a-zA-Z][^\s/><]*+(?:[\s/]*+" + _ATTRIBUTE + rb"){%d}" % (MAX_ATTRIBUTES + 1))
_OPENING = re.compile(rb"<(?!(?:a|br|hr|img|input|meta|link|base)[\s/>])[a-z]", re.IGNORECASE)
_KEPT = re.compile(rb"<(?:h1|html|head|body|form|frameset|template)[\s/>]", re.IGNORECASE)

# The same, read exactly; a quote that is not closed goes on to the end of the page.
_EXACT = rb"""[^\s/>][^\s/>=]*+(?:\s*+=\s*+(?:"[^"]*+(?:"|\Z)|'[^']*+(?:'|\Z)|[^\s>"'][^\s>]*+)?+)?+"""
_REST = rb"(?=[\s/>])(?:[\s/]++|" + _EXACT + rb")*+>"
_PIECES = re.compile(
    rb"<!--(?:-?>|.*?(?:--!?>|\Z))"
    rb"|<(?:[!?]|/[^a-zA-Z>])[^>]*+(?:>|\Z)"
    rb"|<(?P<text>script|style|textarea|title|xmp|iframe|noembed|noframes)" + _REST + rb".*?(?:</(?P=text)(?=[\s/>])[^>]*+>|\Z)"
    rb"|</?(?:a|base|meta|h1|html|head|body|form|input|frame|frameset|template|plaintext)"
    + _REST
    + rb"|(?P<other></?[a-z][^\s/>]*+"
    + _REST
    + rb")"
    rb"|</?[a-z].*",  # it does not end
    re.IGNORECASE | re.DOTALL,
)


def tamed(html: bytes, url: str) -> bytes:
    """The page without the elements that links and headings do not need, if there are so many that it could take long to parse.

    Raises:
        UpstreamInvalid: it would take long even so.
    """
    if _CROWDED.search(html):
        raise UpstreamInvalid(url, f"a tag in its HTML has more than {MAX_ATTRIBUTES} attributes")
    if _steps(html, _OPENING) <= MAX_STEPS:
        return html
    html = _PIECES.sub(lambda piece: b" " if piece["other"] else piece[0], html)
    if _steps(html, _KEPT) > MAX_STEPS:
        raise UpstreamInvalid(url, "its HTML has too many elements in each other")
    return html


def _steps(html: bytes, opening: re.Pattern[bytes]) -> int:
    return html.count(b"<") * sum(1 for _ in opening.finditer(html))
