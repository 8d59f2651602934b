"""Names of projects and files, and the versions that file names tell. All pure."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import NewType

from packaging.utils import canonicalize_name
from packaging.version import Version

NormalizedName = NewType("NormalizedName", str)
"""A project's name as in its URL: lower case, every run of ``-_.`` is one ``-`` (PEP 503). Made by :func:`normalize` only."""

_SUFFIXES = (
    ".whl",
    *(
        ".tar.gz",
        ".zip",
        ".tar.bz2",
        ".tgz",
        ".tar.xz",
        ".tar.z",
        ".tar",
        ".tbz",
        ".tbz2",
        ".txz",
        ".tar.lz",
        ".tar.lzma",
        ".tlz",
    ),
    *(".egg", ".exe", ".msi", ".rpm", ".deb", ".dmg"),
)
_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?")  # packaging 25 lets a final line break and a Kelvin sign pass
_LONGEST_NAME_BYTES = 255  # what file systems take

# What follows the version in names of old binary distributions: foo-1.0.linux-x86_64.tar.gz, foo-1.0.win-amd64-py2.7.exe
_PLATFORM = re.compile(
    r"\.(?:linux|macosx|win|cygwin|freebsd|openbsd|netbsd|solaris|sunos|aix|irix|java|noarch|src|i\d86|x86)[-\w.]*\Z"
)


def normalize(text: str) -> NormalizedName | None:
    """The normalized form of a project's name, or ``None`` if no project can have this name, as none longer than 255 characters.

    Spec: PEP 503, "Normalized Names"; PyPA "Names and normalization".

    >>> normalize("Foo__b.A-z")
    'foo-b-a-z'
    >>> normalize("foo-") is None
    True
    """
    return _normalize(text) if len(text) <= _LONGEST_NAME_BYTES else None


@lru_cache(maxsize=4096)
def _normalize(text: str) -> NormalizedName | None:
    return NormalizedName(canonicalize_name(text)) if _NAME.fullmatch(text) else None


def is_distribution(filename: str) -> bool:
    """Whether a file with this name is something that is released: a wheel, an sdist or one of the older forms.

    >>> is_distribution("foo-1.0.tar.gz"), is_distribution("foo-1.0-py3-none-any.whl.metadata"), is_distribution(".whl")
    (True, False, False)
    """
    if filename.endswith((".whl", ".tar.gz")):  # nearly all of them; the long way takes four times as long
        return not filename.startswith((".whl", ".tar.gz"))
    lowered = filename.lower()
    return lowered.endswith(_SUFFIXES) and lowered not in _SUFFIXES


def is_safe_filename(filename: str) -> bool:
    """Whether a name is a plain name: printable, no separator, not ``.`` or ``..``, at most 255 bytes in UTF-8.

    >>> is_safe_filename("foo-1.0+cu124.zip"), is_safe_filename("../foo.zip"), is_safe_filename("a\\r\\nb.zip")
    (True, False, False)
    """
    return (
        filename.isprintable()  # also false for surrogates, which no encoding takes, and for marks that turn text around
        and "/" not in filename
        and "\\" not in filename
        and filename.strip() == filename
        and filename not in ("", ".", "..")
        and (len(filename) * 4 <= _LONGEST_NAME_BYTES or len(filename.encode()) <= _LONGEST_NAME_BYTES)
    )


def parse_version(text: str) -> Version | None:
    """A version that compares as PEP 440 says, or ``None`` if it is none, as no text of more than 255 characters.

    >>> parse_version("1.0") == parse_version("v1.0.0")
    True
    >>> parse_version("2004d") is None
    True
    """
    return _parse_version(text) if len(text) <= _LONGEST_NAME_BYTES else None


@lru_cache(maxsize=8192)
def _parse_version(text: str) -> Version | None:
    try:
        return Version(text)
    except ValueError:  # InvalidVersion, or a number with more digits than int() takes
        return None


def version_of(filename: str, project: NormalizedName) -> str:
    """The normalized version that a file's name tells, "" when it cannot be told.

    The project's name tells where the version begins, since older names hold ``-`` in both. Only wheels and eggs of other names
    are split without it, because theirs hold no ``-``.

    Spec: PyPA "Binary distribution format", "Source distribution format", PEP 440.

    >>> version_of("foo_bar-1.0+cu124-cp311-cp311-linux_x86_64.whl", NormalizedName("foo-bar"))
    '1.0+cu124'
    >>> version_of("Foo.bar-2-1.0.RC1.tar.gz", NormalizedName("foo-bar-2"))
    '1.0rc1'
    >>> version_of("foo-bar-1.0.tar.gz", NormalizedName("foo"))
    ''
    """
    if filename.endswith(".whl"):
        first, _, rest = filename.partition("-")
        if normalize(first) == project and (version := _normal(rest.partition("-")[0])):
            return version
    match = _beginning(project).match(filename)
    lowered = filename.lower()
    suffix = next((suffix for suffix in _SUFFIXES if lowered.endswith(suffix)), "")
    if suffix in (".whl", ".egg"):
        parts = filename[: -len(suffix)].split("-") if match is None else ["", *filename[match.end() : -len(suffix)].split("-")]
        return _normal(parts[1]) if len(parts) > 1 else ""
    if match is None or not suffix:
        return ""
    rest = filename[match.end() : -len(suffix)]
    return _normal(rest) if suffix not in (".exe", ".msi", ".rpm") and _normal(rest) else _old_binary_version(rest, suffix)


def _old_binary_version(rest: str, suffix: str) -> str:
    """The version of what ``bdist_dumb``, ``bdist_wininst`` and ``bdist_rpm`` make; ``rest`` is what follows the name."""
    version = _PLATFORM.sub("", rest)
    if suffix == ".rpm":
        version = version.rpartition("-")[0]  # 1.0-1: the second number is the package's own release
    return _normal(version)


@lru_cache(maxsize=8192)
def _normal(text: str) -> str:
    version = parse_version(text)
    return "" if version is None else str(version)


@lru_cache(maxsize=1024)
def _beginning(project: str) -> re.Pattern[str]:
    """Matches the name of a project, in any spelling, at the beginning of a file's name, with the ``-`` that ends it."""
    spelling = "[-_.]+".join(map(re.escape, project.split("-")))
    return re.compile(spelling + "-", re.IGNORECASE | re.ASCII)
