"""An upstream's JSON page becomes a listing (PEP 691, 700, 714, 740, 792). Pure."""

from __future__ import annotations

import codecs
from collections.abc import Mapping
from typing import Any

import msgspec

from nora.api import Document, File, Listing, UpstreamInvalid
from nora_pypi import parse_typed
from nora_pypi.model import (
    LARGEST_SIZE,
    STATUSES,
    Links,
    announced_sidecars,
    build_file,
    check_version,
    clean_digests,
    clean_time,
    is_listable,
    is_plain,
)
from nora_pypi.names import NormalizedName

# Keys that have a place of their own in the neutral model; all others live in `extra` under their own names.
_PAGE_KEYS = frozenset({"meta", "name", "files", "versions", "project-status", "api-version"})
_FILE_KEYS = frozenset(
    {
        *("filename", "url", "hashes", "size", "upload-time", "yanked", "gpg-sig"),
        *("core-metadata", "dist-info-metadata", "data-dist-info-metadata"),
    }
)


def parse(project: str, document: Document) -> Listing:
    """Read a JSON page. What is odd in one file costs that field, or that file when it has no usable name or address.

    ``extra`` of the listing holds ``api-version``, and if given ``versions``, ``meta`` (without the version) and all unknown keys;
    ``extra`` of a file holds ``requires-python`` and all unknown keys, and ``core-metadata``, ``gpg-sig`` or ``provenance`` when the
    page says expressly that there is none.

    Raises:
        UpstreamInvalid: not a whole JSON page, or one of another major version of the API.
    """
    body = document.body.removeprefix(codecs.BOM_UTF8)
    typed = parse_typed.decode(body)
    page = typed.others() if typed is not None else _decode(document.url, body)
    meta = page.get("meta")
    meta = meta if isinstance(meta, dict) else {}
    version = str(meta.get("api-version", "1.0"))  # VER-7: a missing one means 1.0
    check_version(version, document.url)
    name, links = NormalizedName(project), Links(document.url)
    if typed is not None:
        files = parse_typed.listed(name, typed.files, links)
    elif isinstance(entries := page.get("files"), list):
        files = _files(name, entries, links)
    else:
        raise UpstreamInvalid(document.url, "its JSON has no list of files")
    status, reason = _status(page.get("project-status"))
    return Listing(project=project, files=files, status=status, status_reason=reason, extra=_page_extra(page, meta, version))


def _decode(url: str, body: bytes) -> dict[str, Any]:
    try:
        page = msgspec.json.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise UpstreamInvalid(url, f"no whole JSON document: {str(error)[:100]}") from None
    if not isinstance(page, dict):  # JSON-1
        raise UpstreamInvalid(url, "its JSON is no object")
    return page


def _page_extra(page: Mapping[str, Any], meta: Mapping[str, Any], version: str) -> dict[str, Any]:
    extra = {key: value for key, value in page.items() if key not in _PAGE_KEYS and is_plain(value)}
    if isinstance(versions := page.get("versions"), list):
        extra["versions"] = [version for version in versions if isinstance(version, str)]
    if rest := {key: value for key, value in meta.items() if key != "api-version" and is_plain(value)}:
        extra["meta"] = rest
    extra["api-version"] = version
    return extra


def _status(value: Any) -> tuple[str, str]:
    """PEP 792. A status that nobody knows yet is taken for "active"."""
    status = value.get("status") if isinstance(value, dict) else None
    if not isinstance(status, str) or status.lower() not in STATUSES:
        return "active", ""
    reason = value.get("reason")
    return status.lower(), reason if isinstance(reason, str) else ""


def _files(project: NormalizedName, entries: list[Any], links: Links) -> tuple[File, ...]:
    files: dict[str, File] = {}
    for entry in entries:
        if isinstance(entry, dict) and (file := _file(project, entry, links)) is not None:
            files.setdefault(file.name, file)
    return tuple(files.values())


def _file(project: NormalizedName, entry: Mapping[str, Any], links: Links) -> File | None:
    name, link = entry.get("filename"), entry.get("url")
    if not (isinstance(name, str) and isinstance(link, str) and is_listable(name)):
        return None
    url = links.resolve(link)
    if url is None or not link.partition("#")[0].strip():  # the page itself is no file
        return None
    size, yanked = entry.get("size"), entry.get("yanked", False)
    sidecars, refused = announced_sidecars(entry, url)
    return build_file(
        project,
        name,
        url,
        size=size if type(size) is int and 0 <= size <= LARGEST_SIZE else None,
        digests=clean_digests(entry.get("hashes")),
        published=clean_time(entry["upload-time"]) if "upload-time" in entry else None,
        yanked=(yanked or False) if isinstance(yanked, bool | str) else False,  # YANK-4: "" is false
        sidecars=sidecars,
        extra=_file_extra(entry) | refused,
    )


def _file_extra(entry: Mapping[str, Any]) -> dict[str, Any]:
    extra: dict[str, Any] = {}
    for key, value in entry.items():
        if key in _FILE_KEYS:
            continue
        if key == "requires-python":
            fits = value is None or isinstance(value, str)
        elif key == "provenance":
            fits = value is None
        else:
            fits = isinstance(value, str) or is_plain(value)
        if fits:
            extra[key] = value
    return extra
