"""What an upstream's own JSON API says of a project or a release. Pure; nothing of it is trusted."""

from __future__ import annotations

import codecs
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import msgspec

from nora.api import Document, RelatedDocument, UpstreamInvalid, UpstreamRequest
from nora_pypi.model import clean_digests, clean_time, is_listable, is_plain
from nora_pypi.names import normalize, parse_version

KIND = "json-api"
DIGESTS, UPLOAD_TIME = "digests", "upload_time_iso_8601"

_SIMPLE = re.compile(r"/simple/?\Z")
_PARTS = frozenset({"info", "releases", "urls", "vulnerabilities", "last_serial"})
_LARGEST_SIZE = 2**63 - 1

# Of a file the listing alone says these, and some follow from others.
_DECIDED_HERE = frozenset(
    {
        *("filename", "url", "yanked", "yanked_reason", "has_sig", "upload_time", "md5_digest", "downloads", "provenance"),
        *("hashes", "upload-time", "requires-python", "gpg-sig"),
        *("core-metadata", "dist-info-metadata", "data-dist-info-metadata"),
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """A document of an upstream, as far as it can be used.

    Attributes:
        version: The version that ``info`` and ``vulnerabilities`` are about, as written.
        info: Its keys, of the types that they have everywhere; unknown ones as they are.
        vulnerabilities: Objects.
        rest: All further keys of the document.
        entries: What it says of files, see :meth:`files`; encoded, since for most of the time nobody looks.
    """

    version: str
    info: Mapping[str, Any]
    vulnerabilities: tuple[Mapping[str, Any], ...]
    rest: Mapping[str, Any]
    entries: bytes

    def is_about(self, version: str) -> bool:
        """Whether ``info`` and ``vulnerabilities`` are about a version (PEP440-2)."""
        return (parse_version(self.version) or self.version) == (parse_version(version) or version)

    def files(self) -> dict[str, dict[str, Any]]:
        """By file name what it says of each, without what a listing decides. Digests are clean, times as PEP 700 writes them."""
        found: dict[str, dict[str, Any]] = msgspec.json.decode(self.entries)
        return found


class JsonApiDocument(RelatedDocument):
    """``/pypi/{project}/json`` and ``/pypi/{project}/{version}/json`` of an upstream whose index is at ``/simple/``."""

    kind = KIND

    def request(self, upstream_url: str, project: str, part: str) -> UpstreamRequest | None:
        """See :class:`nora.api.RelatedDocument`.

        >>> JsonApiDocument().request("https://index.example/simple/", "six", "1.16.0").url
        'https://index.example/pypi/six/1.16.0/json'
        """
        # What is no version by PEP 440 may be anything, ".." for instance.
        if not _SIMPLE.search(upstream_url) or (part and parse_version(part) is None):
            return None
        path = f"{project}/{quote(part.strip(), safe='')}" if part else project
        root = _SIMPLE.sub("/", upstream_url)
        return UpstreamRequest(url=f"{root}pypi/{path}/json", headers={"Accept": "application/json"})

    def parse(self, project: str, document: Document) -> Said:
        """See :class:`nora.api.RelatedDocument`. What is odd in one value costs that value."""
        page = _decode(document)
        info = page.get("info")
        if not isinstance(info, dict):
            raise UpstreamInvalid(document.url, "its JSON has no info object")
        name, version = info.get("name"), info.get("version")
        if not isinstance(name, str) or normalize(name) != project:
            raise UpstreamInvalid(document.url, f"its JSON is not about {project}")
        vulnerabilities = page.get("vulnerabilities")
        return Said(
            version=version if isinstance(version, str) else "",
            info={key: value for key, value in info.items() if _INFO.get(key, is_plain)(value)},
            vulnerabilities=tuple(
                item
                for item in (vulnerabilities if isinstance(vulnerabilities, list) else ())
                if isinstance(item, dict) and is_plain(item)
            ),
            rest={key: value for key, value in page.items() if key not in _PARTS and is_plain(value)},
            entries=msgspec.json.encode({entry["filename"]: _cleaned(entry) for entry in _entries(page)}),
        )


def _decode(document: Document) -> dict[str, Any]:
    try:
        page = msgspec.json.decode(document.body.removeprefix(codecs.BOM_UTF8))
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise UpstreamInvalid(document.url, f"no whole JSON document: {str(error)[:100]}") from None
    if not isinstance(page, dict):
        raise UpstreamInvalid(document.url, "its JSON is no object")
    return page


def _entries(page: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    releases = page.get("releases")
    lists = [page.get("urls"), *(releases.values() if isinstance(releases, dict) else ())]
    for entries in lists:
        for entry in entries if isinstance(entries, list) else ():
            if isinstance(entry, dict) and isinstance(name := entry.get("filename"), str) and is_listable(name):
                yield entry


def _cleaned(entry: Mapping[str, Any]) -> dict[str, Any]:
    digests = entry.get(DIGESTS)
    md5 = {"md5": entry.get("md5_digest")}
    cleaned: dict[str, Any] = {DIGESTS: clean_digests(md5) | clean_digests(digests)}
    for key in (UPLOAD_TIME, "upload_time"):
        if (time := clean_time(entry.get(key))) is not None:
            cleaned[UPLOAD_TIME] = time
            break
    for key, value in entry.items():
        if key not in cleaned and key not in _DECIDED_HERE and key != UPLOAD_TIME and _FILE.get(key, is_plain)(value):
            cleaned[key] = value
    return cleaned


def _is_text(value: Any) -> bool:
    return value is None or isinstance(value, str)


def _is_texts(value: Any) -> bool:
    return value is None or (isinstance(value, list) and all(isinstance(item, str) for item in value))


def _is_text_by_text(value: Any) -> bool:
    return value is None or (isinstance(value, dict) and all(isinstance(item, str) for item in value.values()))


def _is_size(value: Any) -> bool:
    return type(value) is int and 0 <= value <= _LARGEST_SIZE


def _is_counts(value: Any) -> bool:
    return isinstance(value, dict) and all(type(item) is int and -(2**63) <= item < 2**63 for item in value.values())


_INFO: Mapping[str, Callable[[Any], bool]] = {
    **dict.fromkeys(
        (
            *("author", "author_email", "bugtrack_url", "description", "description_content_type", "docs_url", "download_url"),
            *("home_page", "keywords", "license", "license_expression", "maintainer", "maintainer_email", "name"),
            *("package_url", "platform", "project_url", "release_url", "requires_python", "summary", "version"),
        ),
        _is_text,
    ),
    **dict.fromkeys(("classifiers", "dynamic", "license_files", "provides_extra", "requires_dist"), _is_texts),
    "project_urls": _is_text_by_text,
    "downloads": _is_counts,
}
_FILE: Mapping[str, Callable[[Any], bool]] = {
    **dict.fromkeys(("comment_text", "packagetype", "python_version", "requires_python"), _is_text),
    "size": _is_size,
}
