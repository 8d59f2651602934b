"""Attestations that come with an upload (PEP 740): read strictly, compared with their file, kept to the byte. All pure.

No signature is verified here. For that a registry would need an identity of the uploader to compare with the one in the
certificate, and there is none: whoever may upload has a password or a token. And it would need the roots and log keys of
Sigstore, which are a service on the network and change. So the registry vouches for two things: the shape is the one that
verifiers read, and the subject is the file that it came with. Who signed, and whether the signature holds, is for those to
verify who download it; the publisher's ``kind`` tells them that nobody has.
"""

from __future__ import annotations

import json
from base64 import b64decode
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import msgspec

from nora.api import Invalid
from nora_pypi.filenames import Distribution, shown
from nora_pypi.filenames import parse as parse_filename
from nora_pypi.model import is_plain

MAX_ATTESTATIONS = 16
"""Clients send one or two."""
MAX_DEPTH = 32
"""Of nested JSON; that of Sigstore has about ten levels."""
MAX_PROBLEMS = 8

STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
# PEP 740 wants both keys. A kind that is no trusted publisher's, so that no verifier takes it for one.
PUBLISHER = {"kind": "unverified", "claims": {}}

_AGAIN = "send what the signing tool wrote"


@dataclass(frozen=True, slots=True)
class Attestation:
    """An attestation of the right shape; only :func:`parse` makes one.

    Attributes:
        number: Its place in the upload, from 1.
        raw: Its JSON, to the byte as it came.
        subject: The name of the file that it speaks of, as written.
        sha256: That file's digest, as written.
    """

    number: int
    raw: msgspec.Raw
    subject: str
    sha256: str


def parse(uploaded: bytes, problems: list[str]) -> tuple[Attestation, ...]:
    r"""The attestations of an upload; what is wrong with the others, or with the whole, is added to ``problems``.

    Spec: PEP 740, "Upload endpoint changes", "Attestation objects".

    >>> problems: list[str] = []
    >>> parse(b"[]", problems), problems
    ((), ['attestations must be a JSON array of 1 to 16 objects (PEP 740), not of 0; send what the signing tool wrote'])
    """
    try:
        items = msgspec.json.decode(uploaded, type=list[msgspec.Raw])
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        problems.append(f"attestations must be a JSON array of objects (PEP 740); {_AGAIN}")
        return ()
    if not 1 <= len(items) <= MAX_ATTESTATIONS:
        limits = f"1 to {MAX_ATTESTATIONS} objects (PEP 740), not of {len(items)}"
        problems.append(f"attestations must be a JSON array of {limits}; {_AGAIN}")
        return ()
    parsed, found = [], []
    for number, raw in enumerate(items, 1):
        try:
            parsed.append(_attestation(number, raw))
        except Invalid as error:
            found += [f"attestation {number}: {problem}; {_AGAIN}" for problem in error.problems]
    problems += found[:MAX_PROBLEMS]
    return tuple(parsed)


def mismatches(attestations: Iterable[Attestation], distribution: Distribution, sha256: str) -> list[str]:
    """What in the attestations does not fit the file that they came with; ``sha256`` is its digest in lower-case hex.

    Spec: PEP 740, "Attestation verification": names are compared as parsed, since signers may normalize them.
    """
    found = []
    for attestation in attestations:
        if not _is_name_of(attestation.subject, distribution):
            found.append(
                f"attestation {attestation.number} is of {shown(attestation.subject)}, not of this file; "
                "send the one that was made for it"
            )
        # in-toto writes digests in lower case, and verifiers compare them as text.
        if attestation.sha256 != sha256:
            found.append(
                f"attestation {attestation.number} is of a file with the sha256 {shown(attestation.sha256)}, this one has "
                f"{sha256}; attest the very file that you upload"
            )
    return found[:MAX_PROBLEMS]


def provenance(attestations: Iterable[Attestation]) -> bytes:
    """The provenance object that is served beside the file. The attestations are in it to the byte as they came.

    Spec: PEP 740, "Provenance objects".
    """
    bundle = {"publisher": PUBLISHER, "attestations": [attestation.raw for attestation in attestations]}
    return msgspec.json.encode({"version": 1, "attestation_bundles": [bundle]})


def _is_name_of(subject: str, distribution: Distribution) -> bool:
    try:
        return parse_filename(subject, distribution.name).identity == distribution.identity
    except Invalid:
        return False


def _attestation(number: int, raw: msgspec.Raw) -> Attestation:
    value = _object(bytes(raw), "it")
    faults = []
    version = value.get("version")
    if not (type(version) is int and version == 1):
        faults.append("its version must be 1")
    faults += _material_faults(value.get("verification_material"))
    envelope = value.get("envelope")
    fields = envelope if isinstance(envelope, dict) else {}
    for name in ("statement", "signature"):
        if not _base64(fields.get(name)):
            faults.append(f"it needs an envelope.{name} in base64")
    subject = sha256 = ""
    if statement := _base64(fields.get("statement")):
        try:
            subject, sha256 = _subject(statement)
        except Invalid as error:
            faults += error.problems
    if faults:
        raise Invalid(*faults)
    return Attestation(number, raw, subject, sha256)


def _material_faults(material: Any) -> Iterator[str]:
    fields = material if isinstance(material, dict) else {}
    # What it says is not looked into: see above.
    if not _base64(fields.get("certificate")):
        yield "it needs a verification_material.certificate in base64"
    entries = fields.get("transparency_entries")
    if not (isinstance(entries, list) and entries and all(isinstance(entry, dict) for entry in entries)):
        yield "it needs verification_material.transparency_entries, which is a list of one or more objects"


def _subject(data: bytes) -> tuple[str, str]:
    """Name and sha256 of the file that a statement speaks of, as written.

    Spec: in-toto Statement v1; PEP 740, "Attestation statement and signature generation".
    """
    statement = _object(data, "its statement")
    faults = []
    if statement.get("_type") != STATEMENT_TYPE:
        faults.append(f"the _type of its statement must be {STATEMENT_TYPE}")
    predicate_type = statement.get("predicateType")
    if not (isinstance(predicate_type, str) and predicate_type):
        faults.append("its statement needs a predicateType")
    match statement.get("subject"):
        case [{"name": str(name), "digest": {"sha256": str(sha256)}}] if not faults:
            return name, sha256
        case [{"name": str(), "digest": {"sha256": str()}}]:
            pass
        case _:
            faults.append("its statement needs exactly one subject, with a name and a digest.sha256")
    raise Invalid(*faults)


def _object(data: bytes, what: str) -> dict[str, Any]:
    """Decode a JSON object that every parser reads alike: no key twice, no text or number that some cannot hold."""
    try:
        value = msgspec.json.decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        raise Invalid(f"{what} is no valid JSON") from None
    if not isinstance(value, dict):
        raise Invalid(f"{what} is no JSON object")
    if not is_plain(value, MAX_DEPTH):
        raise Invalid(f"{what} is nested more than {MAX_DEPTH} levels deep, or has a whole number of more than 64 bits")
    try:
        # msgspec does not tell of keys that are there twice. What it has read, this reads, too.
        json.loads(data.decode(), object_pairs_hook=_without_duplicates)
    except _DuplicateKeyError as error:
        raise Invalid(f"{what} has the key {shown(error.key)} twice in one object") from None
    return value


class _DuplicateKeyError(Exception):
    def __init__(self, key: str) -> None:
        self.key = key
        super().__init__(key)


def _without_duplicates(pairs: list[tuple[str, Any]]) -> None:
    seen = set()
    for key, _ in pairs:
        if key in seen:
            raise _DuplicateKeyError(key)
        seen.add(key)


def _base64(value: Any) -> bytes:
    r"""What a text in base64 stands for; b"" if it is none. Older signers break lines, as MIME does.

    >>> _base64("aGVs\nbG8="), _base64("aGVsbG8"), _base64("a-_="), _base64(None)
    (b'hello', b'', b'', b'')
    """
    if not isinstance(value, str):
        return b""
    try:
        return b64decode(value.replace("\n", ""), validate=True)
    except ValueError:
        return b""
