"""Uploads by the legacy API: a form and its file become an :class:`Upload`, or one error that names all that is wrong."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from string import hexdigits

from nora.api import File, Invalid, Spool
from nora_pypi import attestations
from nora_pypi.archive import read_metadata
from nora_pypi.attestations import Attestation
from nora_pypi.filenames import Distribution, Kind, is_plain, parse_version, shown
from nora_pypi.filenames import parse as parse_filename
from nora_pypi.form import DIGEST_FIELDS, Form
from nora_pypi.metadata import CoreMetadata, parse_metadata_version
from nora_pypi.metadata import parse as parse_metadata
from nora_pypi.model import METADATA, PKG_INFO, PROVENANCE, SIGNATURE
from nora_pypi.names import NormalizedName, normalize

MAX_DIGESTED_BYTES = 64 << 20
"""Files up to this size get all the digests that the JSON API shows (API-3). Of larger ones, those that the uploader states, as
most clients do: a second and third digest of gigabytes would take longer than the upload."""

_REQUIRED_FIELDS = ("name", "version", "filetype", "metadata_version")
_HEX_DIGITS = {"md5": 32, "sha256": 64, "blake2b_256": 64}
_DOCUMENTS: dict[Kind, str] = {"bdist_wheel": "METADATA", "sdist": "PKG-INFO", "bdist_egg": "PKG-INFO"}


@dataclass(frozen=True, slots=True)
class Upload:
    """A checked upload; only :func:`validate` makes one, so holding it is the proof.

    Attributes:
        project: The project that the file belongs to.
        file: Draft for :meth:`Registry.publish`: name, version, identity, the digests that were compared, ``requires-python``.
        sidecars: Contents by suffix: ``.metadata`` where it holds for every installation, else ``.pkg-info``; ``.asc`` if a
            signature was sent, ``.provenance`` if attestations were.
    """

    project: NormalizedName
    file: File
    sidecars: Mapping[str, bytes] = field(default_factory=dict)


async def validate(form: Form, spool: Spool) -> Upload:
    """Check that form, file name, attestations and the metadata inside agree; what is published comes from the file.

    ``spool`` holds the form's content and is finished. The archive is not looked into when its name or a digest is wrong.

    Spec: the legacy upload API; binary and source distribution formats; core metadata; PEP 740.

    Raises:
        Invalid: with every problem found; the subject is the file's name.
    """
    problems = [*_form_problems(form)]
    distribution = _distribution(form, problems)
    whole = spool.size > 0
    if not whole and distribution:
        problems.append("the file is empty; build it again")
    digests = await _digests(form, spool, problems) if whole else None
    attested = await _attestations(form, spool, distribution if digests is not None else None, problems)
    inside = None
    if distribution and digests is not None:
        inside = await _inside(spool, distribution, problems)
    if problems or distribution is None or inside is None or digests is None:
        name = form.filename or ""
        raise Invalid(*problems, subject=name if is_plain(name) else "")
    raw, core = inside
    # PEP 658, 643: metadata may only be announced when installing cannot change it. The JSON API shows it all the same.
    announced = distribution.kind == "bdist_wheel" or (distribution.kind == "sdist" and core.is_static)
    sidecars = {METADATA if announced else PKG_INFO: raw}
    # Empty is as good as missing: clients send fields that they have no value for.
    if signature := form.files.get("gpg_signature"):
        sidecars[SIGNATURE] = signature
    if attested:
        sidecars[PROVENANCE] = attestations.provenance(attested)
    if spool.size <= MAX_DIGESTED_BYTES:
        for algorithm in set(DIGEST_FIELDS.values()) - digests.keys():
            digests[algorithm] = await spool.digest(algorithm)
    file = File(
        name=distribution.filename,
        version=str(core.version),
        identity=distribution.identity,
        digests=digests,
        extra={"requires-python": core.requires_python} if core.requires_python else {},
    )
    return Upload(distribution.name, file, sidecars)


def _form_problems(form: Form) -> Iterator[str]:
    """What is wrong with the fields by themselves."""
    if (action := form.first(":action")) != "file_upload":
        yield f"the field ':action' must be 'file_upload', not {shown(action)}"
    if (protocol := form.first("protocol_version") or "1") != "1":
        yield f"protocol_version {shown(protocol)} is not supported; send 1"
    for name in _REQUIRED_FIELDS:
        if not form.first(name):
            yield f"the form lacks the field {name!r}; send it with a current upload client such as twine"
    for name in (*_REQUIRED_FIELDS, ":action", "protocol_version", *DIGEST_FIELDS):
        if len(set(filter(None, form.fields.get(name, ())))) > 1:
            yield f"the form has different values for {name!r}; send one"
    if (name := form.first("name")) and normalize(name) is None:
        yield f"{shown(name)} is not a project name; use ASCII letters and digits, with . _ - between them"
    if (version := form.first("version")) and parse_version(version) is None:
        yield f"{shown(version)} is not a version; write it as PEP 440 says"
    if metadata_version := form.first("metadata_version"):
        try:
            parse_metadata_version(metadata_version)
        except Invalid as error:
            yield from error.problems


def _distribution(form: Form, problems: list[str]) -> Distribution | None:
    """What the file name says, unless that is not acceptable; compared with what the form says."""
    if not form.filename:
        problems.append("the form has no file; send it as the part 'content' with its file name")
        return None
    try:
        distribution = parse_filename(form.filename, form.first("name"))
    except Invalid as error:
        problems += error.problems
        return None
    name, version, filetype = (form.first(name) for name in ("name", "version", "filetype"))
    if (project := normalize(name)) and project != distribution.name:
        problems.append(
            f"the form says that the project is {project!r}, the file name says {distribution.name!r}; make them agree"
        )
    if (stated := parse_version(version)) and stated != distribution.version:
        problems.append(
            f"the form says that the version is {stated}, the file name says {distribution.version}; make them agree"
        )
    if filetype and filetype != distribution.kind:
        problems.append(f"filetype {shown(filetype)} does not fit the file name; it must be {distribution.kind!r}")
    return distribution


async def _digests(form: Form, spool: Spool, problems: list[str]) -> dict[str, str] | None:
    """The digests that the form states, by algorithm, if all are right."""
    right = {}
    for name, algorithm in DIGEST_FIELDS.items():
        stated = form.first(name).lower()
        digits = _HEX_DIGITS[algorithm]
        if not stated:
            continue
        if len(stated) != digits or not set(stated) <= set(hexdigits):
            problems.append(f"{name} must be {digits} hexadecimal digits, not {shown(stated)}")
            continue
        actual = await spool.digest(algorithm)
        if stated != actual:
            problems.append(
                f"{name} is {stated}, but what arrived has {actual}; the file was changed on its way, send it again"
            )
            continue
        right[algorithm] = actual
    return right if len(right) == sum(bool(form.first(name)) for name in DIGEST_FIELDS) else None


async def _attestations(
    form: Form, spool: Spool, distribution: Distribution | None, problems: list[str]
) -> tuple[Attestation, ...]:
    """The attestations that came with the file; compared with it unless its name or a digest is wrong already."""
    uploaded = form.files.get("attestations")
    if not uploaded:
        return ()
    attested = await asyncio.to_thread(attestations.parse, uploaded, problems)
    if distribution:
        problems += attestations.mismatches(attested, distribution, await spool.digest("sha256"))
    return attested


async def _inside(spool: Spool, distribution: Distribution, problems: list[str]) -> tuple[bytes, CoreMetadata] | None:
    """The metadata document in the file, if it is valid; compared with what the file name says."""
    try:
        raw, core = await asyncio.to_thread(_read, spool, distribution)
    except Invalid as error:
        problems += error.problems
        return None
    document = _DOCUMENTS[distribution.kind]
    if core.project != distribution.name:
        problems.append(
            f"{document} says that the project is {core.project!r}, the file name says {distribution.name!r}; build it again"
        )
    if core.version != distribution.version:
        problems.append(
            f"{document} says that the version is {core.version}, the file name says {distribution.version}; build it again"
        )
    return raw, core


def _read(spool: Spool, distribution: Distribution) -> tuple[bytes, CoreMetadata]:
    raw = read_metadata(spool.path, distribution)  # asked for here: a small file may only be written now, in this thread
    return raw, parse_metadata(raw, _DOCUMENTS[distribution.kind])
