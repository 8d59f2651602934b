"""JSON pages whose fields have the types that the standard gives them, as nearly all have: less than half of the work. Pure.

A page with a key that is not known here, or with a field of another type, is none of them: :mod:`nora_pypi.parse_json` reads it field
by field. Of a page that is one of them both read the same.
"""

from __future__ import annotations

import re
import string
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import msgspec
from msgspec import UNSET, Raw, UnsetType

from nora.api import File, Sidecar
from nora_pypi.model import (
    CLEAN_IN_LINKS,
    LARGEST_SIZE,
    METADATA,
    TIME,
    Links,
    announced_sidecars,
    beside,
    clean_digests,
    clean_time,
    is_listable,
)
from nora_pypi.names import NormalizedName, normalize, version_of

_BATCH_FILES = 256
"""So many files are checked together. What is odd in one of them costs a closer look at these, and not at all of a page."""

_USUAL_SUFFIXES = (".whl", ".tar.gz")
_LONGEST_USUAL_NAME = 255
_HEX = b"0123456789abcdef"
_PLAIN = (string.ascii_letters + string.digits + "_.+!-").encode()
_TIMES = re.compile(f"(?:{TIME.pattern})*", re.ASCII)
_NOTHING = Raw(b"")


class Entry(msgspec.Struct, forbid_unknown_fields=True, rename="kebab", gc=False):
    """One file, as the page says it."""

    filename: str
    url: str
    hashes: dict[str, str] | None = None
    size: int | None = None
    upload_time: str | None = None
    yanked: bool | str | None = False
    requires_python: str | UnsetType | None = UNSET
    core_metadata: dict[str, str] | bool | UnsetType | None = UNSET
    dist_info_metadata: Raw = _NOTHING
    data_dist_info_metadata: Raw = _NOTHING
    gpg_sig: bool | None = None
    provenance: str | UnsetType | None = UNSET

    def announcements(self) -> dict[str, Any]:
        """What it says of sidecars, by the page's own keys."""
        fields = {"core-metadata": self.core_metadata, "gpg-sig": self.gpg_sig, "provenance": self.provenance}
        old = {"dist-info-metadata": self.dist_info_metadata, "data-dist-info-metadata": self.data_dist_info_metadata}
        said = {key: value for key, value in fields.items() if value is not UNSET}
        return said | {key: msgspec.json.decode(raw) for key, raw in old.items() if bytes(raw)}


class Page(msgspec.Struct, forbid_unknown_fields=True, rename="kebab", gc=False):
    """A page: its files, and the rest as it comes."""

    files: list[Entry]
    meta: Any = UNSET
    name: Any = UNSET
    versions: Any = UNSET
    project_status: Any = UNSET
    alternate_locations: Any = UNSET

    def others(self) -> dict[str, Any]:
        """What it says besides its files, by the page's own keys."""
        fields = {
            "meta": self.meta,
            "versions": self.versions,
            "project-status": self.project_status,
            "alternate-locations": self.alternate_locations,
        }
        return {key: value for key, value in fields.items() if value is not UNSET}


_decoder = msgspec.json.Decoder(Page)


def decode(body: bytes) -> Page | None:
    """The page, or ``None`` if it is none of these, or no page at all."""
    try:
        return _decoder.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None


def listed(project: NormalizedName, entries: Sequence[Entry], links: Links) -> tuple[File, ...]:
    """The files that may stand in a listing, each name once."""
    files: dict[str, File] = {}
    versions = _Versions(project)
    for start in range(0, len(entries), _BATCH_FILES):
        batch = entries[start : start + _BATCH_FILES]
        for file in _files(batch, _Proven.of(batch), links, versions):
            files.setdefault(file.name, file)
    return tuple(files.values())


@dataclass(frozen=True, slots=True)
class _Proven:
    """What is true of every file of a batch, so that it need not be asked of each.

    Attributes:
        names: Such that :func:`is_listable` says yes.
        links: Not empty, and clean as :meth:`Links.resolve_clean` wants them.
        digests: A single one, which is a sha256; of announced metadata, too.
        times: As the standard writes them, if there are any.
    """

    names: bool
    links: bool
    digests: bool
    times: bool

    @classmethod
    def of(cls, batch: Sequence[Entry]) -> _Proven:
        links = [entry.url for entry in batch]
        hashes = [entry.hashes for entry in batch if entry.hashes is not None]
        announced = [said for entry in batch if type(said := entry.core_metadata) is dict]
        return cls(
            names=_are_usual([entry.filename for entry in batch]),
            links="" not in links and _all_of(CLEAN_IN_LINKS, links),
            digests=len(hashes) == len(batch) and _are_lone_sha256(hashes + announced),
            times=_are_times([entry.upload_time for entry in batch if entry.upload_time is not None]),
        )


def _all_of(characters: bytes, texts: list[str]) -> bool:
    """Whether texts have no other characters. A tenth of what matching each with a regular expression costs."""
    joined = "".join(texts)
    return joined.isascii() and not joined.encode().translate(None, characters)


def _are_usual(names: list[str]) -> bool:
    """Whether all are of plain characters, and otherwise, too, as nearly all names are."""
    lines = "\n" + "\n".join(names) + "\n"
    return (
        _all_of(_PLAIN, names)
        and "\n." not in lines
        and "\n\n" not in lines
        and sum(lines.count(f"{suffix}\n") for suffix in _USUAL_SUFFIXES) == len(names)
        and max(map(len, names)) <= _LONGEST_USUAL_NAME
    )


def _are_lone_sha256(said: Sequence[dict[str, str]]) -> bool:
    try:
        # Each has this name, so each has no other one if there are as many names as digests.
        texts = [digests["sha256"] for digests in said]
    except KeyError:
        return False
    return sum(map(len, said)) == len(said) and {*map(len, texts)} <= {64} and _all_of(_HEX, texts)


def _are_times(texts: list[str]) -> bool:
    try:
        for text in texts:
            datetime.fromisoformat(text)
    except ValueError:
        return False
    # None of these begins in the middle of a time, so together they match only if each does.
    return _TIMES.fullmatch("".join(texts)) is not None


class _Versions:
    """The versions that the names of files tell; the wheels of one version, whose names begin alike, share the work."""

    def __init__(self, project: NormalizedName) -> None:
        self._project = project
        self._known: dict[str, str] = {}
        self._beginning, self._version = "/", ""  # of the wheel before; no name begins so

    def of(self, name: str) -> str:
        """The version, "" when it cannot be told."""
        if name.startswith(self._beginning) and name.endswith(".whl"):
            return self._version
        end_of_name = name.find("-")
        end_of_version = name.find("-", end_of_name + 1)
        beginning = name[: end_of_version + 1]  # "" if there is no end
        if (version := self._known.get(beginning)) is not None and name.endswith(".whl"):
            self._beginning, self._version = beginning, version
            return version
        version = version_of(name, self._project)
        if beginning and name.endswith(".whl") and normalize(name[:end_of_name]) == self._project:
            self._known[beginning] = version
        return version


def _files(batch: Sequence[Entry], proven: _Proven, links: Links, versions: _Versions) -> Iterator[File]:
    said = [entry.url for entry in batch]
    urls = links.resolve_all_clean(said) if proven.links else list(map(links.resolve, said))
    for entry, url in zip(batch, urls, strict=True):
        name = entry.filename
        if not (proven.names or is_listable(name)):
            continue
        if url is None or not (proven.links or entry.url.partition("#")[0].strip()):  # the page itself is no file
            continue
        size, published, hashes = entry.size, entry.upload_time, entry.hashes
        extra: dict[str, Any] = {}
        if entry.requires_python is not UNSET:
            extra["requires-python"] = entry.requires_python
        if entry.provenance is None:
            extra["provenance"] = None
        metadata = entry.core_metadata
        if type(metadata) is dict and not entry.provenance and entry.gpg_sig is None:
            digests = metadata if proven.digests else clean_digests(metadata)
            sidecars = {METADATA: Sidecar(digests=digests, url=url + METADATA if proven.links else beside(url, METADATA))}
        else:
            sidecars, refused = announced_sidecars(entry.announcements(), url)
            extra |= refused
        yield File(
            name=name,
            version=versions.of(name),
            size=size if size is None or 0 <= size <= LARGEST_SIZE else None,
            digests=hashes if hashes and proven.digests else clean_digests(hashes),
            published=published if proven.times or published is None else clean_time(published),
            yanked=entry.yanked or False,  # YANK-4: "" is false
            url=url,
            sidecars=sidecars,
            extra=extra,
        )
