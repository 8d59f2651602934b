"""Which representation of a page a client wants. Pure."""

from __future__ import annotations

import enum
import re
from collections.abc import Iterator, Sequence
from functools import lru_cache

from nora.api import NotAcceptable


class Representation(enum.Enum):
    """A form of a page; the value is its exact content type. In falling order of what they can express (NEG-12)."""

    JSON = "application/vnd.pypi.simple.v1+json"
    HTML = "application/vnd.pypi.simple.v1+html"
    TEXT_HTML = "text/html"


_OFFERED = tuple(representation.value for representation in Representation)
_LATEST = "application/vnd.pypi.simple.latest+"
_VERSION_1 = "application/vnd.pypi.simple.v1+"

# RFC 9110 5.6.2 and 5.6.4: tokens, and quoted strings, in which "," and ";" separate nothing.
_PIECES = re.compile(r'(?:[^,"]|"(?:[^"\\]|\\.)*"?)+')
_PARAMETERS = re.compile(r';((?:[^;"]|"(?:[^"\\]|\\.)*"?)*)')
_RANGE = re.compile(r"[!#$%&'*+.^_`|~\w-]+/[!#$%&'*+.^_`|~\w-]+", re.ASCII)
_QUALITY = re.compile(r"\d+(?:\.\d*)?|\.\d+", re.ASCII)


def choose(accept: Sequence[str], format_parameter: str | None = None) -> Representation:
    """The best representation for a request.

    ``accept`` holds the values of all ``Accept`` fields; none, or empty ones, mean that anything will do. ``format_parameter`` is
    the value of ``?format=``, percent-decoded, where ``+`` may have become a space; it beats ``accept`` unless empty.

    Spec: RFC 9110 12.4.2, 12.5.1; Simple repository API, "Version + Format Selection" and "URL Parameter". Decided here: what is no
    media range is ignored, a quality value that is none counts as 1, and one above 1 as 1.

    >>> choose(["text/html,application/xml;q=0.9,*/*;q=0.8"])
    <Representation.TEXT_HTML: 'text/html'>
    >>> choose(["*/*"])
    <Representation.JSON: 'application/vnd.pypi.simple.v1+json'>

    Raises:
        NotAcceptable: the client takes none of them.
    """
    chosen = _by_parameter(format_parameter) if format_parameter else _by_accept(tuple(accept))
    if chosen is None:
        raise NotAcceptable(_OFFERED)
    return chosen


def _by_parameter(value: str) -> Representation | None:
    wanted = _real_type(value.strip().replace(" ", "+").lower())
    return Representation(wanted) if wanted in _OFFERED else None


@lru_cache(maxsize=512)
def _by_accept(accept: tuple[str, ...]) -> Representation | None:
    ranges = list(_ranges(",".join(accept)))
    if not ranges and not "".join(accept).strip(" \t,"):
        return Representation.JSON
    qualities = {representation: _quality(representation.value, ranges) for representation in Representation}
    best = max(qualities, key=lambda representation: qualities[representation])  # the first of equals
    return best if qualities[best] > 0 else None


def _ranges(field: str) -> Iterator[tuple[str, float, bool]]:
    """The field's media ranges in lower case, with their qualities, and whether they have parameters of their own."""
    for piece in _PIECES.findall(field):
        name, semicolon, rest = piece.partition(";")
        name = _real_type(name.strip(" \t").lower())
        if _RANGE.fullmatch(name):
            quality, parametrized = _parameters(semicolon + rest)
            yield name, quality, parametrized


def _parameters(text: str) -> tuple[float, bool]:
    """The quality, and whether other parameters that say something precede it (what follows it is no part of the range)."""
    parametrized = False
    for parameter in _PARAMETERS.findall(text):
        name, _, value = parameter.partition("=")
        name, value = name.strip(" \t").lower(), value.strip(" \t")
        if name == "q":
            return (min(float(value), 1.0) if _QUALITY.fullmatch(value) else 1.0), parametrized
        if name and not (name == "charset" and value.strip('"').lower() == "utf-8"):  # true of all pages here
            parametrized = True
    return 1.0, parametrized


def _quality(content_type: str, ranges: list[tuple[str, float, bool]]) -> float:
    """How much a content type is wanted: what the most specific range that covers it says (RFC 9110 12.5.1)."""
    best = (0, 0.0)
    family = content_type.partition("/")[0] + "/*"
    for name, quality, parametrized in ranges:
        if parametrized and quality == 0:
            continue  # refuses a special form, which is not the one offered here
        if name == content_type:
            best = max(best, (3 if parametrized else 4, quality))
        elif name == family:
            best = max(best, (2, quality))
        elif name == "*/*":
            best = max(best, (1, quality))
    return best[1]


def _real_type(content_type: str) -> str:
    """``latest`` stands for the newest version there is, which is 1."""
    return _VERSION_1 + content_type.removeprefix(_LATEST) if content_type.startswith(_LATEST) else content_type
