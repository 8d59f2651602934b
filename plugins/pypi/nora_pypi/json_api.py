"""Documents of the JSON API out of a listing, core metadata and what the upstream's own JSON API says. Pure.

The listing decides which files there are, what their hashes are and whether they are yanked; ``base`` is the address of the
registry, absolute or relative to the document's own, and every link to a file begins with it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

import msgspec
from packaging.version import Version

from nora.api import File, Invalid, Listing
from nora_pypi.json_upstream import DIGESTS, UPLOAD_TIME, Said
from nora_pypi.loose_metadata import LooseMetadata, label_key, parse_loosely
from nora_pypi.model import METADATA, PKG_INFO, SIGNATURE
from nora_pypi.names import normalize, parse_version

_LEAST = Version("0.dev0")
_UNRESERVED = re.compile(r"[\w.~-]+", re.ASCII)
_DASH, _END = re.compile("-"), re.compile("[-.]")
_SECONDS = len("2024-01-02T03:04:05")
_EGG_PYTHON = re.compile(r"-py(\d+\.\d+)(?=[-.])", re.ASCII)
_DUMB = re.compile(r"\.(?:linux|macosx|win|cygwin|freebsd)[-\w.]*\.(?:tar\.\w+|zip|tgz)\Z")
_PACKAGE_TYPES = {
    ".whl": "bdist_wheel",
    ".egg": "bdist_egg",
    ".exe": "bdist_wininst",
    ".msi": "bdist_msi",
    ".rpm": "bdist_rpm",
    ".dmg": "bdist_dmg",
}
_FIRST_SEEN = ("_upload-time", "first-seen")
"""What a file's ``extra`` says when its time is not the upstream's word."""
_TEXTS = (
    *("author", "author_email", "description_content_type", "download_url", "home_page", "keywords", "license"),
    *("license_expression", "maintainer", "maintainer_email", "name", "requires_python", "summary"),
)
_LISTS = ("classifiers", "dynamic", "license_files", "provides_extra", "requires_dist")
_NO_ENTRY: Mapping[str, Any] = {}


@dataclass(slots=True)
class Release:
    """A version and its files.

    Attributes:
        key: How documents write it: as its files do, or as the listing does.
        version: By PEP 440, if it is one.
        files: In the listing's order.
        spellings: All that the listing has, such as ``0.12.1`` and ``0.12.01``.
    """

    key: str
    version: Version | None
    files: list[File] = field(default_factory=list)
    spellings: list[str] = field(default_factory=list)

    @property
    def is_yanked(self) -> bool:
        """Whether there are files, and all of them are yanked."""
        return bool(self.files) and all(file.yanked is not False for file in self.files)

    @property
    def yanked_reason(self) -> str | None:
        """Why, if it is and somebody said so."""
        reasons = (file.yanked for file in self.files if isinstance(file.yanked, str) and file.yanked)
        return next(reasons, None) if self.is_yanked else None

    @property
    def rank(self) -> tuple[bool, bool, bool, bool, Version, str]:
        """The greater, the better it stands for the project (PEP440-3)."""
        final = self.version is not None and not self.version.is_prerelease
        return bool(self.files), not self.is_yanked, final, self.version is not None, self.version or _LEAST, self.key


def releases_of(listing: Listing) -> list[Release]:
    """All versions of a listing in rising order, those without files included. STAT-2: a quarantined project offers no file."""
    by_text: dict[str, Release] = {}
    by_version: dict[Version | str, Release] = {}

    def release_of(text: str) -> Release:
        if (known := by_text.get(text)) is None:
            version = parse_version(text)
            known = by_text[text] = by_version.setdefault(version or text, Release(text, version))
        return known

    versions = listing.extra.get("versions")
    for text in versions if isinstance(versions, list | tuple) else ():
        if isinstance(text, str) and text:
            release_of(text).spellings.append(text)
    no_versions = {text for text, release in by_text.items() if release.version is None}
    for file in listing.files:
        if text := file.version or _odd_version(file.name, listing.project, no_versions):
            release = release_of(text)
            if listing.status != "quarantined":
                release.files.append(file)
            if text in release.spellings:
                release.key = text
    return sorted(
        by_version.values(), key=lambda release: (release.version is not None, release.version or _LEAST, release.key)
    )


def _odd_version(filename: str, project: str, known: Set[str]) -> str:
    """The version in a file's name if it is none by PEP 440, such as ``2004d``, but one that the listing knows."""
    if not known:
        return ""
    for begin in _DASH.finditer(filename):
        if normalize(filename[: begin.start()]) == project:
            ends = (end.start() for end in _END.finditer(filename, begin.end()))
            found = [text for end in ends if (text := filename[begin.end() : end]) in known]
            return found[-1] if found else ""
    return ""


def latest(releases: Iterable[Release]) -> Release | None:
    """The release that a project's document is about (PEP440-3); one with files if there is any."""
    return max(releases, key=lambda release: release.rank, default=None)


def find(releases: Iterable[Release], text: str) -> Release | None:
    """The release that a version in any spelling means (PEP440-2).

    >>> find([Release("1.0", Version("1.0"))], "v1").key
    '1.0'
    """
    version = parse_version(text)
    for release in releases:
        if text in release.spellings or text == release.key or (version is not None and release.version == version):
            return release
    return None


def representative(release: Release) -> tuple[File, str] | None:
    """The file whose metadata stands for a release, and the sidecar that has it.

    A wheel's is final, an sdist's may be completed by building. What is at hand goes before what has to be read out of the file.
    """
    best: tuple[tuple[bool, bool, bool], File, str] | None = None
    for file in release.files:
        suffix = METADATA if METADATA in file.sidecars else PKG_INFO
        if (sidecar := file.sidecars.get(suffix)) is not None:
            rank = suffix == METADATA, file.name.endswith(".whl"), not sidecar.derived
            if best is None or rank > best[0]:
                best = rank, file, suffix
    return best[1:] if best is not None else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Material:
    """What a document is made of.

    Attributes:
        chosen: The release that it is about.
        releases: All of them for a project's document; ``None`` for a release's.
        metadata: Core metadata of ``chosen``.
        about: What the upstream says of ``chosen``.
        beside: What it says of files.
    """

    listing: Listing
    chosen: Release
    releases: Sequence[Release] | None
    base: str
    metadata: bytes | None = None
    about: Said | None = None
    beside: Said | None = None


def render(material: Material) -> bytes:
    """The document."""
    chosen, listing, about = material.chosen, material.listing, material.about
    said = material.beside.files() if material.beside is not None else {}
    links = f"{material.base}simple/{listing.project}/"

    def files(release: Release) -> list[dict[str, Any]]:
        return [_file(file, said.get(file.name, _NO_ENTRY), links) for file in release.files]

    urls = files(chosen)
    document: dict[str, Any] = {"info": _info(material), "last_serial": listing.serial}
    if material.releases is not None:
        shown: dict[str, list[dict[str, Any]]] = {}
        for release in material.releases:
            shown.update((text, []) for text in release.spellings)
            shown[release.key] = urls if release is chosen else files(release)
        document["releases"] = shown
    document["urls"] = urls
    document["vulnerabilities"] = about.vulnerabilities if about is not None else []
    if (rest := about or material.beside) is not None:
        document.update(rest.rest)
    return msgspec.json.encode(document)


def _info(material: Material) -> dict[str, Any]:
    chosen = material.chosen
    page = f"{material.base}simple/{material.listing.project}/"
    info: dict[str, Any] = {
        "bugtrack_url": None,
        "docs_url": None,
        "downloads": {"last_day": -1, "last_month": -1, "last_week": -1},
        "package_url": page,
        "project_url": page,
        "release_url": page,
        **_of_metadata(_readable(material.metadata, material.listing.project)),
    }
    if material.about is not None:
        info.update(material.about.info)
    info["name"] = info["name"] or material.listing.project
    info["classifiers"] = info["classifiers"] or []
    info["version"] = chosen.key
    info["yanked"], info["yanked_reason"] = chosen.is_yanked, chosen.yanked_reason
    if info["requires_python"] is None:
        info["requires_python"] = next(filter(None, map(_requires_python, chosen.files)), None)
    return dict(sorted(info.items()))


def _readable(metadata: bytes | None, project: str) -> LooseMetadata:
    """What a document says, unless it is none, or one about another project."""
    try:
        found = parse_loosely(metadata or b"")
    except Invalid:
        return LooseMetadata()
    return found if normalize(found.name) == project else LooseMetadata()


def _of_metadata(metadata: LooseMetadata) -> dict[str, Any]:
    """What core metadata says, in the types of the public index: ``null`` for nothing."""
    return {
        **{name: getattr(metadata, name) or None for name in _TEXTS},
        **{name: list(getattr(metadata, name)) or None for name in _LISTS},
        "description": metadata.description,
        "platform": ",".join(metadata.platforms) or None,
        "project_urls": _project_urls(metadata) or None,
    }


def _project_urls(metadata: LooseMetadata) -> dict[str, str]:
    """With those that older documents have in fields of their own. CM-9."""
    labels = {label_key(label) for label in metadata.project_urls}
    older = {"Homepage": metadata.home_page, "Download": metadata.download_url}
    return {label: url for label, url in older.items() if url and label_key(label) not in labels} | dict(metadata.project_urls)


def _file(file: File, said: Mapping[str, Any], links: str) -> dict[str, Any]:
    """One file. ``said`` is taken for what the listing does not know, unless it is about other content."""
    name, digests, yanked, published = file.name, file.digests, file.yanked, file.published
    theirs = said.get(DIGESTS, _NO_ENTRY)
    shared = digests.keys() & theirs.keys()
    if file.url is None or any(digests[algorithm] != theirs[algorithm] for algorithm in shared):
        said = _NO_ENTRY
    elif shared:
        digests = {**theirs, **digests}
    if published is None or file.extra.get(_FIRST_SEEN[0]) == _FIRST_SEEN[1]:
        published = said.get(UPLOAD_TIME, published)
    kind, python = _kind(name)
    return {
        "comment_text": "",
        "packagetype": kind,
        "python_version": python,
        **said,
        DIGESTS: digests,
        "downloads": -1,
        "filename": name,
        "has_sig": SIGNATURE in file.sidecars,
        "md5_digest": digests.get("md5"),
        "requires_python": _requires_python(file) if "requires-python" in file.extra else said.get("requires_python"),
        "size": said.get("size") if file.size is None else file.size,
        "upload_time": published[:_SECONDS] if published else None,
        UPLOAD_TIME: published,
        "url": links + (name if _UNRESERVED.fullmatch(name) else quote(name, safe="")),
        "yanked": yanked is not False,
        "yanked_reason": yanked if isinstance(yanked, str) and yanked else None,
    }


def _requires_python(file: File) -> str | None:
    value = file.extra.get("requires-python")
    return value if isinstance(value, str) and value else None


def _kind(filename: str) -> tuple[str, str]:
    """``packagetype`` and ``python_version`` as far as a file's name tells.

    >>> _kind("foo-1.0-py2.py3-none-any.whl"), _kind("foo-1.0.tar.gz"), _kind("foo-1.0-py2.7.egg")
    (('bdist_wheel', 'py2.py3'), ('sdist', 'source'), ('bdist_egg', '2.7'))
    """
    kind = _PACKAGE_TYPES.get(filename[-4:].lower()) or ("bdist_dumb" if _DUMB.search(filename) else "sdist")
    if kind == "sdist":
        return kind, "source"
    if kind == "bdist_wheel":
        parts = filename.rsplit("-", 3)
        return kind, parts[1] if len(parts) == 4 else "any"
    found = _EGG_PYTHON.search(filename)
    return kind, found[1] if found else "any"
