"""Core metadata documents as their authors wrote them: everything in them, for scripts and people, and nothing checked."""

from __future__ import annotations

import string
import textwrap
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, cast

from nora_pypi.metadata import header_fields, one_line, split

_UNKNOWN = ("", "UNKNOWN")
"""What older tools write for what they were not told."""
_FOLDS = ("        ", "       |")
_NOT_IN_LABELS = {ord(character): None for character in string.punctuation + string.whitespace}


@dataclass(frozen=True, slots=True, kw_only=True)
class LooseMetadata:
    """All that a document says: "" or empty where it says nothing.

    Texts are on one line but for ``description`` and ``license``. ``project_urls`` has the addresses by label, as written.
    """

    name: str = ""
    version: str = ""
    summary: str = ""
    description: str = ""
    description_content_type: str = ""
    keywords: str = ""
    home_page: str = ""
    download_url: str = ""
    author: str = ""
    author_email: str = ""
    maintainer: str = ""
    maintainer_email: str = ""
    license: str = ""
    license_expression: str = ""
    requires_python: str = ""
    platforms: tuple[str, ...] = ()
    classifiers: tuple[str, ...] = ()
    requires_dist: tuple[str, ...] = ()
    provides_extra: tuple[str, ...] = ()
    dynamic: tuple[str, ...] = ()
    license_files: tuple[str, ...] = ()
    project_urls: Mapping[str, str] = field(default_factory=dict)


def parse_loosely(raw: bytes, document: str = "METADATA") -> LooseMetadata:
    r"""Read whatever a document says, right or wrong.

    Of a field that may be given once, the first counts. The description is the body, or else the field of older documents. Bytes
    that are no UTF-8 become U+FFFD.

    Spec: core metadata.

    Raises:
        Invalid: more fields or lines of them than any honest document has.

    >>> parse_loosely(b"Name: foo\nLicense: UNKNOWN\nHome-page: https://foo.example\n\n# Foo").description
    '# Foo'
    """
    header, body = split(raw.decode(errors="replace"))
    known, unparsed = header_fields(header, document)
    fields = cast("Mapping[str, Any]", known)

    def text(name: str) -> str:
        # packaging puts aside what is given twice.
        value: str = fields.get(name) or next(iter(unparsed.get(name.replace("_", "-"), ())), "")
        return "" if value.strip() in _UNKNOWN else value

    def line(name: str) -> str:
        return one_line(text(name))

    def lines(name: str) -> tuple[str, ...]:
        return tuple(value for value in map(one_line, fields.get(name, ())) if value not in _UNKNOWN)

    return LooseMetadata(
        name=line("name"),
        version=line("version"),
        summary=line("summary"),
        description=body if body.strip() else unfolded(text("description")),
        description_content_type=line("description_content_type"),
        keywords=", ".join(lines("keywords")) or line("keywords"),
        home_page=line("home_page"),
        download_url=line("download_url"),
        author=line("author"),
        author_email=line("author_email"),
        maintainer=line("maintainer"),
        maintainer_email=line("maintainer_email"),
        license=unfolded(text("license")),
        license_expression=line("license_expression"),
        requires_python=line("requires_python"),
        platforms=lines("platforms"),
        classifiers=lines("classifiers"),
        requires_dist=lines("requires_dist"),
        provides_extra=lines("provides_extra"),
        dynamic=lines("dynamic"),
        license_files=lines("license_files"),
        project_urls=_project_urls(fields.get("project_urls", {}).items() or _pairs(unparsed.get("project-url", ()))),
    )


def unfolded(text: str) -> str:
    r"""A text of several lines as it was before it became a field. Spec: core metadata, "Description".

    >>> unfolded("First\n        \n          indented")
    'First\n\n  indented'
    >>> unfolded("First\n       |\n       |  indented")
    'First\n\n  indented'
    """
    first, line_break, rest = text.partition("\n")
    lines = rest.split("\n")
    if all(line.startswith(_FOLDS) or not line.strip() for line in lines):
        return first + line_break + "\n".join(line[len(_FOLDS[0]) :] for line in lines)
    return first + line_break + textwrap.dedent(rest)


def label_key(label: str) -> str:
    """What labels of Project-URL are compared by. Spec: PEP 753, "Label normalization".

    >>> label_key("Home-Page") == label_key("homepage")
    True
    """
    return label.translate(_NOT_IN_LABELS).lower()


def _pairs(values: Iterable[str]) -> Iterator[tuple[str, str]]:
    for value in values:
        label, _, url = value.partition(",")
        yield label, url


def _project_urls(pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Addresses by label. CM-9: the first of equal labels counts."""
    found: dict[str, tuple[str, str]] = {}
    for label, url in pairs:
        if label.strip() and url.strip():
            found.setdefault(label_key(label), (one_line(label), one_line(url)))
    return dict(found.values())
