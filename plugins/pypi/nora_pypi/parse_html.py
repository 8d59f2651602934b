"""An upstream's HTML page becomes a listing (PEP 503, 592, 629, 658, 708, 714, 740, 792). Pure."""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator, Mapping
from typing import Any

from selectolax.lexbor import LexborHTMLParser, LexborNode

from nora.api import Document, File, Listing, Sidecar, UpstreamInvalid
from nora_pypi.markup import tamed
from nora_pypi.model import (
    METADATA,
    PROVENANCE,
    SIGNATURE,
    STATUSES,
    Links,
    announced_metadata,
    announced_provenance,
    beside,
    build_file,
    check_version,
    clean_digests,
    filename_of,
    is_listable,
    urljoin_or_none,
)
from nora_pypi.names import NormalizedName, normalize

_OPENED = re.compile(rb"<(?:html|body)[\s>]", re.IGNORECASE)
_CLOSED = re.compile(rb"</(?:html|body)\s*>", re.IGNORECASE)
_ANCHOR = re.compile(rb"<a\s", re.IGNORECASE)
_TAIL_BYTES = 4096

_CHARSET = re.compile(rb"charset\s*=\s*[\"']?([\w.:-]+)", re.IGNORECASE)
_META_CHARSET = re.compile(rb"<meta\s[^>]*?charset\s*=\s*[\"']?\s*([\w.:-]+)", re.IGNORECASE)
_LEGACY_CHARSET = re.compile(r"iso-?8859-?\d|latin|windows-125\d|cp125\d|koi8|gb\d|gbk|big5|euc-|shift|sjis")
_CHARSET_BYTES = 1024  # HTML: where a browser looks for the declaration

_HASH = re.compile(r"(\w[\w-]*)=([0-9a-f]+)", re.IGNORECASE | re.ASCII)
_ALGORITHM = re.compile(r"md[45]|sha\d[\w-]*|blake[\w-]*|shake[\w-]*|ripemd160|sm3", re.IGNORECASE | re.ASCII)
_COMMON = frozenset({"sha256", "md5"})
_SHORTEST_HASH = 32  # hex digits of md5; "#egg=facade" is none

_INDEX_TITLE = re.compile(r"\blinks for\b|\bindex\b", re.IGNORECASE)
_OWN_TITLE = re.compile(r"(?:\S+ )?links for (\S+)", re.IGNORECASE)
_NO_INDEX = "form, input, iframe, frame, meta[http-equiv=refresh i], script[src]"
_NO_TEXT = "script, style, template, noscript, a, h1, title"

_FILE_ATTRIBUTES = frozenset(
    {
        *("data-requires-python", "data-yanked", "data-core-metadata", "data-dist-info-metadata"),
        *("data-gpg-sig", "data-provenance"),
    }
)


def parse(project: str, document: Document) -> Listing:
    """Read an HTML page as a browser would: markup errors are mended, comments are no links, ``<base href>`` counts.

    A page that holds none of the project's files is taken for an empty project only if it looks like an index, since login pages,
    captive portals and error pages come with status 200, too. It does

    - if it states ``pypi:repository-version``, or
    - if a heading says "links for" this very project, whatever else there is, as on pages with a button to refresh them; or
    - if its title or heading has the words "links for" or "index", and it has neither form, frame, redirection nor program; or
    - if, as that, it is whole and bare: no text besides links, and no title or heading but the project's name.

    ``extra`` is as in :func:`nora_pypi.parse_json.parse`; unknown ``data-*`` attributes keep their full names.

    Raises:
        UpstreamInvalid: no index page, half a page, or one of another major version of the API.
    """
    html = _utf8(document)
    _check_whole(html, document.url)
    tree = LexborHTMLParser(tamed(html, document.url))
    meta = _meta(tree)
    version = (meta.get("pypi:repository-version") or ["1.0"])[0]  # VER-7: a missing one means 1.0
    check_version(version, document.url)
    files = _files(NormalizedName(project), tree, _links(tree, document.url))
    if (
        not any(file.version for file in files)
        and "pypi:repository-version" not in meta
        and not _looks_like_index(project, tree)
    ):
        raise UpstreamInvalid(document.url, "this HTML is no index page")
    status = meta.get("pypi:project-status", ["active"])[0].strip().lower()
    reason = meta.get("pypi:project-status-reason", [""])[0]
    known = status in STATUSES
    return Listing(
        project=project,
        files=files,
        status=status if known else "active",
        status_reason=reason if known else "",
        extra=_page_extra(meta, version),
    )


def _check_whole(html: bytes, url: str) -> None:
    """Refuse half a page: one that opens ``<html>`` or ``<body>`` and closes neither, ends within a tag, or has not begun."""
    body = html.rstrip()
    if not body:
        raise UpstreamInvalid(url, "the page is empty")
    closed = _CLOSED.search(body, max(0, len(body) - _TAIL_BYTES)) or _CLOSED.search(body)
    anchored = _ANCHOR.search(body)  # a bare list of anchors is all that a page needs
    if not closed and (not anchored or _OPENED.search(body) or body.rfind(b"<") > body.rfind(b">")):
        raise UpstreamInvalid(url, "the HTML page breaks off in the middle")


def _utf8(document: Document) -> bytes:
    """The page in UTF-8, which it nearly always is. What tells the encoding is what tells it to browsers."""
    body = document.body
    if body.startswith(codecs.BOM_UTF8):
        return body.removeprefix(codecs.BOM_UTF8)
    declared = _CHARSET.search(document.content_type.encode(errors="replace")) or _META_CHARSET.search(body, 0, _CHARSET_BYTES)
    charset = declared[1].decode().lower() if declared else "utf-8"
    if body.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        charset = "utf-16"
    elif not _LEGACY_CHARSET.match(charset):
        return body
    try:
        return body.decode(charset, errors="replace").encode()
    except LookupError:  # there is no such charset
        return body


def _meta(tree: LexborHTMLParser) -> dict[str, list[str]]:
    """The contents of all ``<meta name="pypi:...">``, by name."""
    contents: dict[str, list[str]] = {}
    for node in tree.css("meta[name]"):
        name = (node.attributes.get("name") or "").lower()
        if name.startswith("pypi:"):
            contents.setdefault(name, []).append(node.attributes.get("content") or "")
    return contents


def _page_extra(meta: Mapping[str, list[str]], version: str) -> dict[str, Any]:
    extra: dict[str, Any] = {"api-version": version}
    if tracks := meta.get("pypi:tracks"):
        extra["meta"] = {"tracks": tracks}
    if locations := meta.get("pypi:alternate-locations"):
        extra["alternate-locations"] = locations
    return extra


def _links(tree: LexborHTMLParser, url: str) -> Links:
    node = tree.css_first("base[href]")
    base = urljoin_or_none(url, node.attributes.get("href") or "") if node else None
    return Links(base or url)


def _looks_like_index(project: str, tree: LexborHTMLParser) -> bool:
    """See :func:`parse`. Changes the tree."""
    if tree.body is None:
        return False
    headings = [" ".join(node.text().split()) for node in tree.css("title, h1")]
    if any((own := _OWN_TITLE.fullmatch(heading)) and normalize(own[1]) == project for heading in headings):
        return True
    if tree.css_first(_NO_INDEX) is not None:
        return False
    if any(_INDEX_TITLE.search(heading) for heading in headings):
        return True
    if any(heading and normalize(heading) != project for heading in headings):
        return False
    for node in tree.body.css(_NO_TEXT):
        node.decompose()
    return not tree.body.text().strip()


def _files(project: NormalizedName, tree: LexborHTMLParser, links: Links) -> tuple[File, ...]:
    files: dict[str, File] = {}
    for file in _parsed(project, tree.css("a"), links):
        files.setdefault(file.name, file)
    return tuple(files.values())


def _parsed(project: NormalizedName, anchors: list[LexborNode], links: Links) -> Iterator[File]:
    """The files that the anchors lead to; other anchors are left out (PROXY-5)."""
    for anchor in anchors:
        attributes = anchor.attributes
        if not (href := attributes.get("href")):
            continue
        link, _, fragment = href.partition("#")
        url = links.resolve(link)
        if url is None or (name := filename_of(url)) is None or not is_listable(name):
            continue
        sidecars, extra = _sidecars(attributes, url)
        yield build_file(
            project,
            name,
            url,
            digests=_digests(fragment),
            yanked=(attributes["data-yanked"] or True) if "data-yanked" in attributes else False,  # PEP 592: "" is yanked, too
            sidecars=sidecars,
            extra=extra | _extra(attributes),
        )


def _digests(fragment: str) -> dict[str, str]:
    """The digest that a fragment states. ``#egg=...`` and the like, also joined by ``&``, state none."""
    name, _, digest = fragment.partition("=")
    if name in _COMMON and "&" not in digest:
        return clean_digests({name: digest})
    hashes = {}
    for part in fragment.split("&") if fragment else ():
        match = _HASH.fullmatch(part)
        if (
            match
            and (_ALGORITHM.fullmatch(match[1]) or len(match[2]) >= _SHORTEST_HASH)
            and match[1] not in ("egg", "subdirectory")
        ):
            hashes[match[1]] = match[2]
    return clean_digests(hashes)


def _sidecars(attributes: Mapping[str, str | None], url: str) -> tuple[dict[str, Sidecar], dict[str, Any]]:
    """The sidecars that a file has, and what says expressly that it has none, under its JSON key."""
    sidecars: dict[str, Sidecar] = {}
    refused: dict[str, Any] = {}
    for name in ("data-core-metadata", "data-dist-info-metadata"):  # PEP 714: the old name counts only without the new one
        if name in attributes:
            metadata = announced_metadata(attributes[name], url)
            if isinstance(metadata, Sidecar):
                sidecars[METADATA] = metadata
            elif metadata is False:
                refused["core-metadata"] = False
            break
    signed = (attributes.get("data-gpg-sig") or "").lower()
    if signed == "true":
        sidecars[SIGNATURE] = Sidecar(url=beside(url, SIGNATURE))
    elif signed == "false":
        refused["gpg-sig"] = False
    if (provenance := announced_provenance(attributes.get("data-provenance"))) is not None:
        sidecars[PROVENANCE] = provenance
    return sidecars, refused


def _extra(attributes: Mapping[str, str | None]) -> dict[str, Any]:
    extra: dict[str, Any] = {}
    for name, value in attributes.items():
        if not name.startswith("data-"):
            continue
        if name == "data-requires-python":
            extra["requires-python"] = value or ""
        elif name not in _FILE_ATTRIBUTES:
            extra[name] = value or ""
    return extra
