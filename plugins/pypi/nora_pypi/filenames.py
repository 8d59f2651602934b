"""What the name of an uploaded distribution file says: project, version, kind, and which other names mean the same file."""

from __future__ import annotations

import re
from dataclasses import dataclass
from math import prod
from typing import Literal

from packaging.utils import (
    InvalidSdistFilename,
    InvalidWheelFilename,
    canonicalize_version,
    parse_sdist_filename,
    parse_wheel_filename,
)
from packaging.version import Version

from nora.api import Invalid
from nora_pypi import names
from nora_pypi.names import NormalizedName, normalize

Kind = Literal["bdist_wheel", "sdist", "bdist_egg"]

REBUILD = "build it again and upload what the build tool wrote"
"""The fix that most messages about a file name."""

MAX_NAME_LENGTH = 255
MAX_TAGS = 1_000

_ALLOWED = re.compile(r"[A-Za-z0-9._+!-]+")
_EGG_PYTHON = re.compile(r"py[0-9]+(\.[0-9]+)?")
_SDIST_EXTENSIONS = (".tar.gz", ".zip")


@dataclass(frozen=True, slots=True)
class Distribution:
    """What a file name says.

    Attributes:
        filename: The name itself; never a path.
        name: Normalized name of the project.
        version: The version; compare it by PEP 440, not as text.
        kind: As the upload form writes it.
        identity: Equal for two names that mean the same thing: other spelling of name or version, other order of tags.
    """

    filename: str
    name: NormalizedName
    version: Version
    kind: Kind
    identity: str


def shown(text: str, limit: int = 80) -> str:
    r"""Text of unknown origin as a quoted piece of a message: one line of printable ASCII, cut after ``limit`` characters.

    >>> shown("a\nb")
    "'a\\nb'"
    """
    return ascii(text if len(text) <= limit else text[:limit] + "...")


def parse_version(text: str) -> Version | None:
    """A version as an uploader writes it, or ``None``: see :func:`nora_pypi.names.parse_version`.

    >>> parse_version("1.0-RC.1") == Version("1.0rc1"), parse_version("latest"), parse_version("1" * 256)
    (True, None, None)
    """
    return names.parse_version(text) if text.isascii() else None


def parse(filename: str, project_hint: str = "") -> Distribution:
    """Parse the name of an uploaded file.

    ``project_hint`` is the project's name as the uploader states it. It tells where the name of an older sdist ends
    (``foo-1-1.0.zip``); where it does not fit, the version is what follows the last ``-`` (PEP 625).

    Spec: binary distribution format, "File name convention"; source distribution format, "Source distribution file name".

    Raises:
        Invalid: not a plain file name of a wheel, sdist or egg; the text says what to do.

    >>> parse("Foo.Bar-1.0.0-py3-none-any.whl").identity
    'foo-bar|1|bdist_wheel||py3|none|any'
    >>> parse("foo-bar-1.0-1.zip", "foo.bar").version
    <Version('1.0.post1')>
    """
    _check_plain(filename)
    if filename.endswith(".whl"):
        return _wheel(filename)
    if filename.endswith(_SDIST_EXTENSIONS):
        return _sdist(filename, project_hint)
    if filename.endswith(".egg"):
        return _egg(filename)
    raise Invalid("the file name must end in .whl, .tar.gz, .zip or .egg; upload a wheel or a source distribution")


def is_plain(filename: str) -> bool:
    """Whether a name has only the characters that names of distribution files are made of, so that it can be no path.

    >>> is_plain("foo-1!1.0+cpu.tar.gz"), is_plain("../foo-1.0.tar.gz"), is_plain("a..b")
    (True, False, False)
    """
    return len(filename) <= MAX_NAME_LENGTH and bool(_ALLOWED.fullmatch(filename)) and ".." not in filename


def _check_plain(filename: str) -> None:
    if len(filename) > MAX_NAME_LENGTH:
        raise Invalid(f"the file name is longer than {MAX_NAME_LENGTH} characters; use a shorter one")
    if not is_plain(filename):
        raise Invalid(
            f"the file name {shown(filename)} is not allowed; use ASCII letters, digits and . _ - + ! only, without .. in it"
        )


def _wheel(filename: str) -> Distribution:
    parts = filename.removesuffix(".whl").split("-")
    if len(parts) not in (5, 6):
        raise Invalid(
            "a wheel is named {name}-{version}(-{build})-{python}-{abi}-{platform}.whl, "
            f"this name has {len(parts)} parts; build the wheel again and do not rename it"
        )
    tag_sets = [sorted(set(part.lower().split("."))) for part in parts[-3:]]
    # Before packaging multiplies them out.
    if prod(len(tags) for tags in tag_sets) > MAX_TAGS:
        raise Invalid(f"the file name stands for more than {MAX_TAGS} tags; name fewer platforms")
    if any("" in tags for tags in tag_sets):
        raise Invalid("the file name has an empty tag; build the wheel again and do not rename it")
    try:
        _, version, build, _ = parse_wheel_filename(filename)
    except InvalidWheelFilename:
        raise Invalid(f"{_wheel_fault(parts)}; build the wheel again and do not rename it") from None
    name = _project(parts[0])
    number = "".join(map(str, build))
    identity = _identity(name, version, "bdist_wheel", number, *(".".join(tags) for tags in tag_sets))
    return Distribution(filename, name, version, "bdist_wheel", identity)


def _wheel_fault(parts: list[str]) -> str:
    """What ``packaging`` did not like, in words that name the part."""
    if "__" in parts[0] or normalize(parts[0]) is None:
        return f"the name part {shown(parts[0])} is not a project name with every run of - _ . written as one _"
    if parse_version(parts[1]) is None:
        return f"{shown(parts[1])} is not a version (PEP 440)"
    if len(parts) == 6 and not parts[2][:1].isdigit():
        return f"the build part {shown(parts[2])} does not begin with a digit"
    return "the tags are not valid"


def _sdist(filename: str, project_hint: str) -> Distribution:
    extension = next(extension for extension in _SDIST_EXTENSIONS if filename.endswith(extension))
    found = _split_by_hint(filename.removesuffix(extension), project_hint)
    if found is None:
        try:
            _, version = parse_sdist_filename(filename)
        except InvalidSdistFilename:
            raise Invalid(
                "a source distribution is named {name}-{version}" + extension + " with a version after PEP 440; "
                "build it again and do not rename it"
            ) from None
        found = _project(filename.removesuffix(extension).rpartition("-")[0]), version
    name, version = found
    return Distribution(filename, name, version, "sdist", _identity(name, version, "sdist", extension))


def _split_by_hint(stem: str, project_hint: str) -> tuple[NormalizedName, Version] | None:
    """Name and version, if the stem is the hinted name in some spelling, ``-`` and a version (which may hold ``-``)."""
    hinted = normalize(project_hint)
    if hinted is None:
        return None
    for index, character in enumerate(stem):
        if character == "-" and normalize(stem[:index]) == hinted and (version := parse_version(stem[index + 1 :])):
            return hinted, version
    return None


def _egg(filename: str) -> Distribution:
    name_part, _, rest = filename.removesuffix(".egg").partition("-")
    version_part, _, rest = rest.partition("-")
    python, _, platform = rest.partition("-")
    # setuptools writes the "-" of a version as "_".
    version = parse_version(version_part.replace("_", "-"))
    if version is None or not _EGG_PYTHON.fullmatch(python):
        raise Invalid(
            "an egg is named {name}-{version}-py{major}.{minor}(-{platform}).egg; better upload a wheel, built with `pip wheel`"
        )
    name = _project(name_part)
    identity = _identity(name, version, "bdist_egg", python, platform.lower())
    return Distribution(filename, name, version, "bdist_egg", identity)


def _project(text: str) -> NormalizedName:
    name = normalize(text)
    if name is None:
        raise Invalid(f"{shown(text)} is not a project name; begin and end it with a letter or digit")
    return name


def _identity(name: NormalizedName, version: Version, kind: Kind, *rest: str) -> str:
    # PEP 440, "zero padding": 1.0 and 1.0.0 are one version. "|" is in no name, so joined parts stay apart.
    return "|".join((name, canonicalize_version(version), kind, *rest))
