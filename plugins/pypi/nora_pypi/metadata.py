"""Core metadata documents (METADATA, PKG-INFO): what an index needs of them, checked no stricter than installers need it."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

from packaging.metadata import RawMetadata, parse_email
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.version import Version

from nora.api import Invalid
from nora_pypi.filenames import parse_version, shown
from nora_pypi.names import NormalizedName, normalize

MAX_VALUE_LENGTH = 4 << 10
MAX_VALUES = 10_000
MAX_VALUES_LENGTH = 512 << 10
MAX_HEADER_LINES = 50_000
MAX_FIELD_NAMES = 200
MAX_SHOWN_VALUES = 3

_METADATA_VERSION = re.compile(r"([1-9][0-9]{0,2})\.([0-9]{1,3})")
_KNOWN_MAJOR = 2
_FIELD_NAME = re.compile(r"^[^\s:][^:\n]*(?=:)", re.MULTILINE)
# MIME fields mean nothing in core metadata, but the email parser acts on them, and fails on some in ways of its own.
_MIME_FIELD = re.compile(r"^content-.*\n?(?:[ \t].*\n?)*", re.IGNORECASE | re.MULTILINE)


@dataclass(frozen=True, slots=True, kw_only=True)
class CoreMetadata:
    """A core metadata document, as far as an index has a use for it.

    Attributes:
        metadata_version: Major and minor number.
        name: As written; ``project`` is its normal form.
        requires_python: A valid specifier set as written, or "".
        requires_dist: Requirements (PEP 508) as written.
        provides_extra: Names of extras as written.
        dynamic: Lower-case names of the fields that building may change (2.2+).
        license_files: Paths as written.
    """

    metadata_version: tuple[int, int]
    name: str
    project: NormalizedName
    version: Version
    summary: str = ""
    requires_python: str = ""
    requires_dist: tuple[str, ...] = ()
    provides_extra: tuple[str, ...] = ()
    dynamic: frozenset[str] = frozenset()
    license_files: tuple[str, ...] = ()

    @property
    def is_static(self) -> bool:
        """Whether any wheel built from this sdist has the same metadata (PEP 643: 2.2 or later, and nothing is dynamic)."""
        return self.metadata_version >= (2, 2) and not self.dynamic


def parse(raw: bytes, document: str = "METADATA") -> CoreMetadata:
    r"""Parse a document; ``document`` is what messages call it.

    Unknown fields and minor versions pass, as do fields that their metadata version does not have: older tools write them.
    What would stop a resolver does not pass: requirements, extras and Requires-Python must be valid. That includes the
    ``>=2.7.*`` of some old releases, which the standard never allowed and installers refuse or guess at.

    Spec: core metadata; PEP 440, 508, 566, 643, 685.

    Raises:
        Invalid: with every problem.

    >>> parse(b"Metadata-Version: 2.1\nName: Foo.Bar\nVersion: 1.0\n\nThe description.").project
    'foo-bar'
    """
    try:
        header, _ = split(raw.decode())
    except UnicodeDecodeError:
        raise Invalid(f"{document} is not UTF-8; save author, description and so on as UTF-8 and build again") from None
    fields, unparsed = header_fields(header, document)
    problems = [*_identity_problems(fields, unparsed), *_resolver_problems(fields, unparsed)]
    if problems:
        raise Invalid(*(f"{document}: {problem}" for problem in problems))
    name = fields["name"].strip()
    project, version = normalize(name), parse_version(fields["version"].strip())
    assert project is not None
    assert version is not None
    return CoreMetadata(
        metadata_version=parse_metadata_version(fields["metadata_version"]),
        name=name,
        project=project,
        version=version,
        summary=fields.get("summary", ""),
        requires_python=_requires_python(fields),
        requires_dist=tuple(fields.get("requires_dist", ())),
        provides_extra=tuple(fields.get("provides_extra", ())),
        dynamic=_dynamic(fields),
        license_files=tuple(fields.get("license_files", ())),
    )


def parse_metadata_version(text: str) -> tuple[int, int]:
    """Major and minor number of a Metadata-Version.

    Raises:
        Invalid: not two numbers, or a major version that nobody knows yet (core metadata: "must fail").

    >>> parse_metadata_version("2.4")
    (2, 4)
    """
    match = _METADATA_VERSION.fullmatch(text.strip())
    if match is None:
        raise Invalid(f"Metadata-Version {shown(text)} is not valid; it is a number such as 2.4")
    major, minor = int(match[1]), int(match[2])
    if major > _KNOWN_MAJOR:
        raise Invalid(f"Metadata-Version {major}.{minor} is not known here; build with a tool that writes {_KNOWN_MAJOR}.x")
    return major, minor


def split(text: str) -> tuple[str, str]:
    """All before the first empty line, without MIME fields, and the description after it; lines end in ``\\n``.

    >>> split("Name: foo\\r\\nContent-Type: multipart/mixed;\\r\\n boundary=x\\r\\nVersion: 1\\r\\n\\r\\nBody")
    ('Name: foo\\nVersion: 1', 'Body')
    """
    header, _, body = text.replace("\r\n", "\n").replace("\r", "\n").partition("\n\n")
    return _MIME_FIELD.sub("", header), body


def header_fields(header: str, document: str) -> tuple[RawMetadata, Mapping[str, Sequence[str]]]:
    """The fields of what :func:`split` returned, and by their lower-case names those that are unknown or given too often.

    Raises:
        Invalid: more fields or lines of them than any honest document has.
    """
    # The parser looks through all fields once for every field name.
    if header.count("\n") > MAX_HEADER_LINES or len(set(_FIELD_NAME.findall(header))) > MAX_FIELD_NAMES:
        raise Invalid(
            f"{document} has more than {MAX_FIELD_NAMES} different fields or {MAX_HEADER_LINES} lines of them; "
            "leave out what no tool reads"
        )
    return parse_email(header)


def _identity_problems(fields: RawMetadata, unparsed: Collection[str]) -> Iterator[str]:
    """What is wrong with the fields that say which release this is."""
    for label, value in (
        ("Metadata-Version", fields.get("metadata_version", "")),
        ("Name", fields.get("name", "")),
        ("Version", fields.get("version", "")),
    ):
        # packaging puts aside what is given twice.
        if label.lower() in unparsed:
            yield f"{label} is given more than once; keep one"
        elif not value.strip():
            yield f"{label} is missing; build again with a current build tool"
        elif label == "Metadata-Version":
            try:
                parse_metadata_version(value)
            except Invalid as error:
                yield from error.problems
        elif label == "Name" and normalize(value.strip()) is None:
            yield f"Name {shown(value)} is not a project name; use ASCII letters and digits, with . _ - between them"
        elif label == "Version" and parse_version(value.strip()) is None:
            yield f"Version {shown(value)} is not a version; write it as PEP 440 says"
        if label.lower() in _dynamic(fields):
            yield f"Dynamic names {label}, which must be fixed; take it out"


def _resolver_problems(fields: RawMetadata, unparsed: Collection[str]) -> Iterator[str]:
    """What is wrong with the fields that resolvers read."""
    if "requires-python" in unparsed:
        yield "Requires-Python is given more than once; keep one"
    python = _requires_python(fields)
    yield from _invalid("Requires-Python", [python] if python else [], SpecifierSet, 'a list such as ">=3.9,<4" (PEP 440)')
    yield from _invalid(
        "Requires-Dist", fields.get("requires_dist", []), Requirement, 'a requirement such as "foo>=1.0" (PEP 508)'
    )
    yield from _invalid("Provides-Extra", fields.get("provides_extra", []), _extra, "a name of letters, digits and - (PEP 685)")


def _invalid(label: str, values: Sequence[str], check: Callable[[str], object], wanted: str) -> Iterator[str]:
    """A sentence for each of the first values that ``check`` refuses with a ValueError."""
    if len(values) > MAX_VALUES or sum(map(len, values)) > MAX_VALUES_LENGTH:
        yield f"{label} is given more than {MAX_VALUES} times or with more than {MAX_VALUES_LENGTH} characters; use fewer"
        return
    refused = 0
    for value in dict.fromkeys(values):
        try:
            if len(value) > MAX_VALUE_LENGTH:
                raise ValueError(value)
            check(value)
        # Parentheses nested a thousand deep are too much for the parser of requirements.
        except (ValueError, RecursionError):
            refused += 1
            if refused <= MAX_SHOWN_VALUES:
                yield f"{label} {shown(value)} is not valid; write {wanted}"
    if refused > MAX_SHOWN_VALUES:
        yield f"{refused - MAX_SHOWN_VALUES} more of {label} are not valid"


def _extra(text: str) -> None:
    if normalize(text.strip()) is None:
        raise ValueError(text)


def _dynamic(fields: RawMetadata) -> frozenset[str]:
    return frozenset(name.strip().lower() for name in fields.get("dynamic", []))


def _requires_python(fields: RawMetadata) -> str:
    return one_line(fields.get("requires_python", ""))


def one_line(text: str) -> str:
    """A field's value on one line, however it was folded."""
    return " ".join(text.split())
