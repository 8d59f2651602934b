"""What both page formats share: how an upstream's words become the neutral model."""

from __future__ import annotations

import re
import string
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any
from urllib.parse import quote, unquote, urljoin, urlsplit, urlunsplit

from nora.api import File, Sidecar, UpstreamInvalid
from nora_pypi.names import NormalizedName, is_distribution, is_safe_filename, version_of

STATUSES = frozenset({"active", "archived", "deprecated", "quarantined"})
"""The project statuses of PEP 792."""

METADATA = ".metadata"
SIGNATURE = ".asc"
PROVENANCE = ".provenance"
PKG_INFO = ".pkg-info"
"""Suffix of the metadata of hosted files that may not be announced, since building can change it. Not served at an address."""

LARGEST_SIZE = 2**63 - 1

_DIGEST = re.compile(r"[0-9a-f]+")
_ALGORITHM = re.compile(r"[a-z0-9][a-z0-9_-]*")
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,6})?Z", re.ASCII)
_SECURE_URL = re.compile(r"https://[^/\s]+\S*|http://(?:localhost|127\.0\.0\.1|\[::1\])(?:[:/]\S*)?", re.IGNORECASE)

_FORBIDDEN_IN_HOST = re.compile(r"[\s\"#%'()*,/<>?@\[\\\]^`{|}]")  # WHATWG URL, "forbidden domain code point", and quotes

_SHA256 = re.compile(r"[0-9a-f]{64}")

# A link in which nothing is to be encoded or cut off; it needs urljoin only if it has dot segments.
CLEAN_IN_LINKS = (string.ascii_letters + string.digits + "_.~!$&'()*+,=:@%/-").encode()
_CLEAN = re.compile(f"[{re.escape(CLEAN_IN_LINKS.decode())}]+")
_ABOVE = 8  # so many "../" are looked up, more are computed


class Links:
    """Resolves the links of one page.

    >>> Links("https://index.example/simple/foo/").resolve("../../files/foo-1.0.zip")
    'https://index.example/files/foo-1.0.zip'
    >>> Links("https://index.example/simple/foo/").resolve("ftp://index.example/foo-1.0.zip") is None
    True
    """

    def __init__(self, base: str) -> None:
        self._base = base
        self._root = (urljoin_or_none(base, "/") or "").removesuffix("/")
        above = {"../" * steps: urljoin_or_none(base, "../" * steps or "./") for steps in range(_ABOVE)}
        self._above = {path: url for path, url in above.items() if url}

    def resolve(self, link: str) -> str | None:
        """The absolute http(s) URL without fragment that a link leads to, percent-encoded; ``None`` if it leads to none.

        Spec: RFC 3986 5; where that and browsers differ (white space, backslashes), WHATWG URL. Most links take one of the first
        three ways, since ``urljoin`` costs as much as everything else that is done for a file.
        """
        return self.resolve_clean(link) if _CLEAN.fullmatch(link) else urljoin_or_none(self._base, link)

    def resolve_clean(self, link: str) -> str | None:
        """:meth:`resolve` for a link of nothing but :data:`CLEAN_IN_LINKS`, at least one."""
        if link.startswith(("https://", "http://")):
            end_of_origin = link.find("/", 8)
            if end_of_origin > 0:
                return link if _is_origin(link[:end_of_origin]) else None
        elif ":" not in link and "//" not in link:
            if link.startswith("/"):
                if "/." not in link and self._root:
                    return self._root + link
            elif not (rest := link.lstrip("./")).startswith(".") and "/." not in rest:
                above = link[: len(link) - len(rest)]
                if above in self._above:
                    return self._above[above] + rest
        return urljoin_or_none(self._base, link)

    def resolve_all_clean(self, links: Sequence[str]) -> Sequence[str | None]:
        """:meth:`resolve_clean` of each. Most begin alike, and then this is asked once for all of them."""
        first, lines = links[0], "\n" + "\n".join(links)  # there is no line end in any of them
        if first.startswith(("https://", "http://")):
            origin = first[: first.find("/", 8) + 1]
            if origin and _is_origin(origin[:-1]) and lines.count(f"\n{origin}") == len(links):
                return links
        else:
            above = first[: len(first) - len(first.lstrip("./"))]
            if above in self._above and lines.count(f"\n{above}") == len(links):
                rests = lines.replace(f"\n{above}", "\n")
                if not any(odd in rests for odd in (":", "//", "/.", "\n.", "\n/")):
                    prefix = self._above[above]
                    return [prefix + rest for rest in rests[1:].split("\n")]
        return [self.resolve_clean(link) for link in links]


def urljoin_or_none(base: str, link: str) -> str | None:
    """``urljoin`` for untrusted links: as :meth:`Links.resolve`, which is faster for many links of one page.

    >>> urljoin_or_none("https://index.example/a/", " b c.zip#x ")
    'https://index.example/a/b%20c.zip'
    """
    link = re.sub(r"[\t\n\r]", "", link.strip(" \t\n\r\f")).partition("#")[0]
    path, mark, query = link.partition("?")
    try:
        parts = urlsplit(urljoin(base, path.replace("\\", "/") + mark + query))
    except ValueError:
        return None
    if not _is_origin(f"{parts.scheme}://{parts.netloc}"):
        return None
    path = quote(parts.path, safe="%/:;=@!$&'()*+,~", errors="replace") or "/"
    return urlunsplit((parts.scheme, parts.netloc, path, quote(parts.query, safe="%/?:;=@!$&'()*+,~", errors="replace"), ""))


@lru_cache(maxsize=1024)
def _is_origin(text: str) -> bool:
    """Whether ``scheme://host:port`` is one that can be asked over HTTP."""
    try:
        parts = urlsplit(text)
        host, port = parts.hostname, parts.port
    except ValueError:
        return False
    if parts.scheme not in ("http", "https") or not host or port == 0 or not text.isprintable():
        return False
    return _FORBIDDEN_IN_HOST.search(host) is None and not re.search(r"\s", text)


def filename_of(url: str) -> str | None:
    """The final path component of a URL, percent-decoded; ``None`` if it is no UTF-8.

    >>> filename_of("https://index.example/files/foo-1.0%2Bcu124.zip?x=/y")
    'foo-1.0+cu124.zip'
    """
    component = url.partition("?")[0].rpartition("/")[2]
    try:
        return unquote(component, errors="strict")
    except UnicodeDecodeError:
        return None


def beside(url: str, suffix: str) -> str:
    """The address of what belongs to the file at ``url``: its path with a suffix.

    >>> beside("https://index.example/foo.whl?key=1", ".metadata")
    'https://index.example/foo.whl.metadata?key=1'
    """
    if "?" not in url:
        return url + suffix
    path, mark, query = url.partition("?")
    return path + suffix + mark + query


def clean_digests(hashes: Any) -> dict[str, str]:
    """The digests among an upstream's ``hashes``, names and values in lower case; what is no digest is left out.

    >>> clean_digests({"SHA256": "ABCD", "md5": None})
    {'sha256': 'abcd'}
    """
    if not isinstance(hashes, dict):
        return {}
    if len(hashes) == 1 and isinstance(digest := hashes.get("sha256"), str) and _SHA256.fullmatch(digest):
        return {"sha256": digest}  # as nearly every file of nearly every page has it
    pairs = ((name.lower(), digest.lower()) for name, digest in hashes.items() if isinstance(digest, str))
    return {name: digest for name, digest in pairs if _ALGORITHM.fullmatch(name) and _DIGEST.fullmatch(digest)}


def announced_metadata(value: Any, url: str) -> Sidecar | bool | None:
    """What ``core-metadata`` says of a file: how its metadata is served, ``False`` if it is not, ``None`` if that cannot be told.

    Spec: PEP 658, PEP 714. Takes the values of both formats: ``true``, ``{"sha256": ...}``, ``"true"``, ``"sha256=..."``.
    """
    if isinstance(value, str):
        name, equals, digest = value.strip().partition("=")
        value = {"true": True, "false": False}.get(name.lower())
        if equals:
            digests = clean_digests({name: digest})
            # A promise that nobody understands is none: pip fails if the metadata is not there.
            return Sidecar(digests=digests, url=beside(url, METADATA)) if digests else None
    if value is True or isinstance(value, dict):
        return Sidecar(digests=clean_digests(value), url=beside(url, METADATA))
    return False if value is False else None


def announced_sidecars(entry: Mapping[str, Any], url: str) -> tuple[dict[str, Sidecar], dict[str, Any]]:
    """The sidecars that a file of a JSON page has, and the keys that say expressly that it has none."""
    sidecars: dict[str, Sidecar] = {}
    refused: dict[str, Any] = {}
    # PEP 714: the old names count only without the new one. The public index writes the third one.
    for key in ("core-metadata", "dist-info-metadata", "data-dist-info-metadata"):
        if key in entry:
            metadata = announced_metadata(entry[key], url)
            if isinstance(metadata, Sidecar):
                sidecars[METADATA] = metadata
            elif metadata is False:
                refused["core-metadata"] = False
            break
    signed = entry.get("gpg-sig")
    if signed is True:
        sidecars[SIGNATURE] = Sidecar(url=beside(url, SIGNATURE))
    elif signed is False:
        refused["gpg-sig"] = False
    if (provenance := announced_provenance(entry.get("provenance"))) is not None:
        sidecars[PROVENANCE] = provenance
    return sidecars, refused


def announced_provenance(value: Any) -> Sidecar | None:
    """How a file's provenance is served, if a page's ``provenance`` tells: its address, anywhere, on a secure origin (PEP 740).

    >>> announced_provenance("https://index.example/p").url
    'https://index.example/p'
    >>> announced_provenance("http://index.example/p") is None
    True
    """
    url = urljoin_or_none("", value) if isinstance(value, str) and is_secure_url(value) else None
    return Sidecar(url=url) if url else None


def clean_time(value: Any) -> str | None:
    """``upload-time`` as the standard writes it (PEP 700), or ``None`` if it is no time. A time without zone is taken for UTC.

    >>> clean_time("2024-01-02T03:04:05.678+01:00")
    '2024-01-02T02:04:05.678000Z'
    """
    if not isinstance(value, str):
        return None
    try:
        time = datetime.fromisoformat(value)
        if TIME.fullmatch(value):
            return value
        time = time.astimezone(UTC) if time.tzinfo else time.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        return None
    return time.isoformat().removesuffix("+00:00") + "Z"


def is_secure_url(value: str) -> bool:
    """Whether a text is a fully qualified URL on a secure origin, as PEP 740 wants for ``provenance``; this machine counts as one."""
    return _SECURE_URL.fullmatch(value) is not None


def is_plain(value: Any, depth: int = 32) -> bool:
    """Whether a decoded JSON value can be stored and encoded again anywhere: no endless nesting, no integer beyond 64 bits."""
    if isinstance(value, dict | list):
        items = value.values() if isinstance(value, dict) else value
        return depth > 0 and all(isinstance(item, str) or is_plain(item, depth - 1) for item in items)
    return not isinstance(value, int) or -(2**63) <= value < 2**63


def is_listable(filename: str) -> bool:
    """Whether a file of this name may stand in a listing."""
    return is_distribution(filename) and is_safe_filename(filename)


def build_file(project: NormalizedName, name: str, url: str, **fields: Any) -> File:
    """A file of an upstream's page; ``fields`` are those of :class:`nora.api.File`."""
    return File(name=name, url=url, version=version_of(name, project), **fields)


def check_version(version: str, url: str) -> None:
    """Refuse a page whose API version we do not know.

    Raises:
        UpstreamInvalid: its major version is not 1 (PEP 629: this must be a hard failure), or it is no version.
    """
    major = version.strip().partition(".")[0]
    if not (major.isascii() and major.isdecimal() and int(major[:9]) == 1):
        raise UpstreamInvalid(url, f"it speaks version {version[:20]!r} of the Simple API; only version 1 is understood")
