"""Pages of the Simple API out of the neutral model, in both formats. Pure: the same listing gives the same bytes.

``base`` is put before every relative link; "" makes links that lead from the page itself. ``secure_base`` is put before links that
must be whole and secure, to provenance (PROV-1); with "" there are none. Upstream's addresses never appear as links to files, or to
what belongs to them (PROXY-6).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from hashlib import algorithms_guaranteed
from html import escape
from typing import Any
from urllib.parse import quote

import msgspec
from msgspec import UNSET, UnsetType
from packaging.version import Version

from nora.api import File, Listing, ProjectNames
from nora_pypi.model import METADATA, PROVENANCE, SIGNATURE
from nora_pypi.names import parse_version

_NEWEST, _OLDEST = "1.4", "1.0"

# Installers know the first six of these, and take the first that is there; others are better than nothing for people.
_STRENGTH = (
    "sha256",
    "sha512",
    "sha384",
    "sha224",
    "sha1",
    "md5",
    "sha3_512",
    "blake2b",
    "sha3_384",
    "blake2s",
    "sha3_256",
    "blake2b_256",
)

# Keys of a page or a file that are made from the neutral model and so never taken from `extra`.
_PAGE_KEYS = frozenset({"meta", "name", "versions", "files", "project-status", "api-version"})
_FILE_KEYS = frozenset(
    {
        *("filename", "url", "hashes", "size", "upload-time", "yanked"),
        *("core-metadata", "dist-info-metadata", "data-dist-info-metadata", "gpg-sig", "provenance"),
    }
)
_ENTRY_KEYS = _FILE_KEYS | {"requires-python"}
_KNOWN_ATTRIBUTES = frozenset(
    {
        *("data-requires-python", "data-yanked", "data-core-metadata", "data-dist-info-metadata"),
        *("data-gpg-sig", "data-provenance"),
    }
)
_UNRESERVED = re.compile(r"[\w.~-]+", re.ASCII)  # RFC 3986 2.3: what needs neither percent-encoding nor escaping
_ATTRIBUTE = re.compile(r"data-[a-z0-9._-]+")

# HTML-1: characters that no HTML5 document may hold, not even as references; a carriage return would come out as a line break.
_NOT_IN_HTML = re.compile("[\x00-\x08\x0b\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufdd0-\ufdef\ufffe\uffff]")

_BATCH_FILES = 256
"""So many entries are made and encoded at a time: all at once would take megabytes, which are far from any processor's cache."""


def project_json(listing: Listing, base: str, secure_base: str = "") -> bytes:
    """The JSON page of a project (PEP 691, 700, 714, 740, 792)."""
    page: dict[str, Any] = {
        "meta": {"api-version": _version(listing), **_meta(listing)},
        "name": listing.project,
        "versions": _versions(listing),
    }
    parts = [msgspec.json.encode(page)[:-1], b',"files":[']
    files = _offered(listing)
    for start in range(0, len(files), _BATCH_FILES):
        batch = files[start : start + _BATCH_FILES]
        plain = _UNRESERVED.fullmatch("".join([file.name for file in batch])) is not None
        entries = [_file_json(file, base, secure_base, plain) for file in batch]
        parts += [b"," if start else b"", msgspec.json.encode(entries)[1:-1]]
    parts.append(b"]")
    rest: dict[str, Any] = {}
    if _has_status(listing):
        reason = {"reason": listing.status_reason} if listing.status_reason else {}
        rest["project-status"] = {"status": listing.status, **reason}
    rest.update((key, value) for key, value in _page_extra(listing).items() if key not in _PAGE_KEYS)
    if rest:
        parts += [b",", msgspec.json.encode(rest)[1:-1]]
    return b"".join([*parts, b"}"])


def project_html(listing: Listing, base: str, secure_base: str = "") -> bytes:
    """The HTML page of a project (PEP 503, 592, 629, 658, 708, 714, 740, 792)."""
    # STAT-4: status markers belong to 1.4, and HTML has no sizes to miss.
    version = _NEWEST if _has_status(listing) else _version(listing)
    extra = _page_extra(listing)
    meta = [("pypi:repository-version", version)]
    if _has_status(listing):
        meta.append(("pypi:project-status", listing.status))
        if listing.status_reason:
            meta.append(("pypi:project-status-reason", listing.status_reason))
    meta += [("pypi:tracks", url) for url in _texts(_meta(listing).get("tracks"))]
    meta += [("pypi:alternate-locations", url) for url in _texts(extra.get("alternate-locations"))]
    prefix, secure_prefix = _text(base), _text(secure_base)
    lines = (_file_html(file, prefix, secure_prefix) for file in _offered(listing))
    return _page(f"Links for {listing.project}", meta, lines)


def _has_status(listing: Listing) -> bool:
    """Whether a page has to say the status: "active" goes without saying, except with a reason."""
    return listing.status != "active" or bool(listing.status_reason)


def projects_json(names: ProjectNames) -> bytes:
    """The JSON list of projects (PEP 691).

    >>> projects_json(ProjectNames(names=("foo",), revision="1"))
    b'{"meta":{"api-version":"1.4"},"projects":[{"name":"foo"}]}'
    """
    return msgspec.json.encode({"meta": {"api-version": _NEWEST}, "projects": [{"name": name} for name in names.names]})


def projects_html(names: ProjectNames, base: str) -> bytes:
    """The HTML list of projects (PEP 503)."""
    prefix = _text(base)
    anchors = (f'<a href="{prefix}{quote(name, safe="")}/">{_text(name)}</a><br>' for name in names.names)
    return _page("Simple index", [("pypi:repository-version", _NEWEST)], anchors)


def _offered(listing: Listing) -> tuple[File, ...]:
    return () if listing.status == "quarantined" else listing.files  # STAT-2


def _version(listing: Listing) -> str:
    """The version of the API that a page keeps: since 1.1 every file has its size (VER-4)."""
    return _NEWEST if all(file.size is not None for file in _offered(listing)) else _OLDEST


def _meta(listing: Listing) -> dict[str, Any]:
    """The upstream's ``meta`` without its version, as far as it may be passed on (TRACK-2)."""
    meta = listing.extra.get("meta")
    if not isinstance(meta, Mapping):
        return {}
    return {key: value for key, value in meta.items() if key != "api-version" and not (listing.hosted and key == "tracks")}


def _page_extra(listing: Listing) -> dict[str, Any]:
    # TRACK-2: whoever uploads here must not have a hosted project mixed with what an upstream names.
    return {key: value for key, value in listing.extra.items() if not (listing.hosted and key == "alternate-locations")}


def _versions(listing: Listing) -> list[str]:
    """All versions: the upstream's own list as it is, then those that only files tell, each once by PEP 440."""
    # The public index lists some versions in two spellings (0.12.1, 0.12.01): what it says is passed on.
    versions = dict.fromkeys(_texts(listing.extra.get("versions")))
    untold = {file.version for file in listing.files}.difference(versions, [""])
    if not untold:
        return list(versions)
    known: set[Version | str] = {parse_version(version) or version for version in versions}
    for version in sorted(untold, key=_order):
        if (parsed := parse_version(version) or version) not in known:
            known.add(parsed)
            versions[version] = None
    return list(versions)


def _order(version: str) -> tuple[bool, Version, str]:
    parsed = parse_version(version)
    return parsed is not None, parsed or Version("0"), version


class _Entry(msgspec.Struct, rename="kebab", gc=False):
    """One file of a JSON page; what is unset is not there."""

    filename: str
    url: str
    hashes: Mapping[str, str]
    size: int | UnsetType = UNSET
    upload_time: str | UnsetType = UNSET
    yanked: bool | str | UnsetType = UNSET
    core_metadata: Mapping[str, str] | bool | UnsetType = UNSET
    gpg_sig: bool | UnsetType = UNSET
    provenance: str | UnsetType | None = UNSET
    requires_python: Any = UNSET


def _file_json(file: File, base: str, secure_base: str, plain: bool) -> _Entry | dict[str, Any]:
    """``plain``: nothing of the name is to be encoded."""
    # Thousands of them make a page, so what is read twice is kept.
    name, extra, sidecars, foreign = file.name, file.extra, file.sidecars, file.url is not None
    link = name if plain else quote(name, safe="")
    size, published, yanked, metadata = file.size, file.published, file.yanked, sidecars.get(METADATA)
    provenance: str | UnsetType | None = UNSET
    if PROVENANCE in sidecars:
        if secure_base:
            provenance = f"{secure_base}{link}{PROVENANCE}"  # PROV-1
    elif extra.get("provenance", "") is None:
        provenance = None
    if metadata is not None:
        announced: Mapping[str, str] | bool | UnsetType = metadata.digests or True
    else:
        announced = False if extra.get("core-metadata") is False else UNSET
    entry = _Entry(
        name,
        base + link,
        file.digests if foreign else _installable(file.digests),
        UNSET if size is None else size,
        UNSET if published is None else published,
        UNSET if yanked is False else yanked or True,  # YANK-4
        announced,
        _signed(file),
        provenance,
        extra.get("requires-python", UNSET),
    )
    if not extra or extra.keys() <= _ENTRY_KEYS:
        return entry
    # JSON-15: of what hosted files have, standards leave to us what begins so.
    others = {key: value for key, value in extra.items() if key not in _ENTRY_KEYS and (foreign or key.startswith("_"))}
    return {**msgspec.to_builtins(entry), **others}


def _installable(digests: Mapping[str, str]) -> dict[str, str]:
    """The digests by algorithms that every hashlib has (HTML-7): pip fails on others. An upstream's are passed on as they are."""
    return {name: digest for name, digest in digests.items() if name in algorithms_guaranteed}


def _signed(file: File) -> bool | UnsetType:
    if SIGNATURE in file.sidecars:
        return True
    return False if file.extra.get("gpg-sig") is False else UNSET


def _file_html(file: File, prefix: str, secure_prefix: str) -> str:
    """The line of one file; the prefixes are escaped already. Digests are hex by their type, and need no escaping."""
    extra, name = file.extra, file.name
    plain = _UNRESERVED.fullmatch(name) is not None
    link, text = (name, name) if plain else (quote(name, safe=""), _text(name))  # HTML-5
    attributes = ""
    if isinstance(requires := extra.get("requires-python"), str):
        attributes += f' data-requires-python="{_repeated(requires)}"'
    if file.yanked is not False:
        attributes += f' data-yanked="{_text(file.yanked) if isinstance(file.yanked, str) else ""}"'
    # Never "false": pip takes every value but a hash for "true", asks for the metadata, and fails.
    if (metadata := file.sidecars.get(METADATA)) is not None:
        announced = _strongest(metadata.digests) or "true"
        attributes += f' data-core-metadata="{announced}" data-dist-info-metadata="{announced}"'  # META-3
    if (signed := _signed(file)) is not UNSET:
        attributes += f' data-gpg-sig="{str(signed).lower()}"'
    if secure_prefix and PROVENANCE in file.sidecars:
        attributes += f' data-provenance="{secure_prefix}{link}{PROVENANCE}"'  # PROV-1
    if file.url is not None:
        attributes += "".join(f' {key}="{_text(value)}"' for key, value in extra.items() if _is_attribute(key, value))
    hashed = _strongest(file.digests)
    return f'<a href="{prefix}{link}{"#" + hashed if hashed else ""}"{attributes}>{text}</a><br>'


def _is_attribute(key: str, value: Any) -> bool:
    """Whether a key of ``extra`` is an attribute of an upstream's HTML page that no standard knows."""
    known = not key.startswith("data-") or key in _KNOWN_ATTRIBUTES
    return not known and isinstance(value, str) and _ATTRIBUTE.fullmatch(key) is not None


def _strongest(digests: Mapping[str, str]) -> str:
    """``name=digest`` of the digest that serves clients best; "" if there is none."""
    if "sha256" in digests:
        return f"sha256={digests['sha256']}"
    name = next((name for name in _STRENGTH if name in digests), None) or next(iter(digests), None)
    return f"{name}={digests[name]}" if name else ""


def _texts(value: Any) -> list[str]:
    return [text for text in value if isinstance(text, str)] if isinstance(value, list | tuple) else []


def _text(text: str) -> str:
    """Text as it may stand in an attribute or between tags (HTML-8)."""
    if not text.isprintable():
        text = _NOT_IN_HTML.sub("\ufffd", text.replace("\r\n", "\n").replace("\r", "\n"))
    return escape(text)


@lru_cache(maxsize=1024)
def _repeated(text: str) -> str:
    """:func:`_text` of what many files share."""
    return _text(text)


def _page(title: str, meta: Iterable[tuple[str, str]], lines: Iterable[str]) -> bytes:
    """A whole HTML5 document; ``lines`` are HTML already."""
    head = "".join(f'<meta name="{name}" content="{_text(content)}">\n' for name, content in meta)
    heading = _text(title)
    body = "\n".join(lines)
    return (
        f'<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n{head}<title>{heading}</title>\n</head>\n'
        f"<body>\n<h1>{heading}</h1>\n{body}\n</body>\n</html>\n"
    ).encode()
