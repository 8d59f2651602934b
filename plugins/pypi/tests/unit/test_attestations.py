import json
from base64 import b64encode
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nora_pypi.attestations import MAX_ATTESTATIONS, MAX_DEPTH, mismatches, parse, provenance
from nora_pypi.filenames import parse as parse_filename

WHEEL = "foo_bar-1.0-py3-none-any.whl"
SHA256 = "ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb"
CERTIFICATE = b"\x30\x82\x01\x00" + bytes(range(256))
HEAD = b'{"version":1,"attestation_bundles":[{"publisher":{"kind":"unverified","claims":{}},"attestations":['
TAIL = b"]}]}"
GONE = object()


def in_base64(data: bytes) -> str:
    return b64encode(data).decode()


def statement(name: str = WHEEL, sha256: str = SHA256, **changes: Any) -> dict[str, Any]:
    whole = {
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{"name": name, "digest": {"sha256": sha256}}],
        "predicateType": "https://slsa.dev/provenance/v1",
        "predicate": None,
    }
    return {key: value for key, value in (whole | changes).items() if value is not GONE}


def attestation(stated: Any = None, **changes: Any) -> dict[str, Any]:
    """An attestation as signing tools write it; ``changes`` are of its members, or of theirs, which are no two alike."""
    raw = stated if isinstance(stated, bytes) else json.dumps(statement() if stated is None else stated).encode()
    whole: dict[str, Any] = {
        "version": 1,
        "verification_material": {
            "certificate": in_base64(CERTIFICATE),
            "transparency_entries": [{"logIndex": "28175749", "inclusionProof": {"hashes": ["qD=="]}}],
        },
        "envelope": {"statement": in_base64(raw), "signature": in_base64(b"signed")},
    }
    for owner in (whole, whole["verification_material"], whole["envelope"]):
        owner.update({key: value for key, value in changes.items() if key in owner})
        for key in [key for key in owner if owner[key] is GONE]:
            del owner[key]
    return whole


def uploaded(*attestations: Any) -> bytes:
    return json.dumps(list(attestations)).encode()


def problems_of(data: bytes) -> list[str]:
    found: list[str] = []
    parsed = parse(data, found)
    assert bool(found) or bool(parsed)
    # UP-12: they become one line of plain text.
    assert all(problem.isascii() and problem.isprintable() and len(problem) < 1200 for problem in found)
    return found


def test_attestations_are_kept_to_the_byte() -> None:
    # PEP 740, "Provenance objects": other space, order of keys, escapes, numbers and keys than any encoder of ours would write
    plain = attestation()
    first = json.dumps(plain, indent=3).replace('"version"', '"\\u0076ersion"').encode()
    more = {"note": "— \U0001f600", "envelope": plain["envelope"], "x": {}}
    second = json.dumps(more | plain, ensure_ascii=False, separators=(" ,\t", " :\r\n")).encode()
    second = second.replace(b'"x" :\r\n{}', b'"x" :\r\n{ "big":1.50E+2 , "zero":-0, "solidus":"\\/" }')
    assert b"1.50E+2" in second
    problems: list[str] = []
    parsed = parse(b" [\n" + first + b" ,\r\n\t" + second + b"\n] \n", problems)
    assert problems == []
    assert [(one.number, one.subject, one.sha256) for one in parsed] == [(1, WHEEL, SHA256), (2, WHEEL, SHA256)]
    assert provenance(parsed) == HEAD + first + b"," + second + TAIL


def test_a_provenance_object_claims_no_trusted_publisher() -> None:
    document = msgspec.json.decode(provenance(parse(uploaded(attestation()), [])))
    (bundle,) = document["attestation_bundles"]
    assert document["version"] == 1
    assert bundle["attestations"] == [attestation()]
    assert bundle["publisher"] == {"kind": "unverified", "claims": {}}


@pytest.mark.parametrize(
    "data",
    [
        *(b"", b" ", b"null", b"{}", b'"x"', b"1", b"[", b"[{}", b"[{}] x", b"[{},]", b"\xef\xbb\xbf[{}]", b"<html>"),
        json.dumps(attestation()).encode(),
        uploaded(attestation()).decode().encode("utf-16"),
        b"[" * 200_000,
        b'[{"a":' * 100_000,
    ],
)
def test_what_is_no_array_is_refused(data: bytes) -> None:  # PROV-2
    (problem,) = problems_of(data)
    assert "must be a JSON array" in problem


def test_the_number_of_attestations_is_bounded() -> None:
    for count in (1, MAX_ATTESTATIONS):
        assert problems_of(uploaded(*[attestation()] * count)) == []
    for count in (0, MAX_ATTESTATIONS + 1):
        (problem,) = problems_of(uploaded(*[attestation()] * count))
        assert f"not of {count};" in problem


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        *(({"version": value}, "its version must be 1") for value in (GONE, None, 2, 0, "1", 1.0, True, [1])),
        *(({"verification_material": value}, "certificate") for value in (GONE, None, [], "x", {})),
        *(({"certificate": value}, "certificate") for value in (GONE, None, "", 7, ["MAA="], "!")),
        ({"certificate": in_base64(CERTIFICATE)[:-2]}, "certificate"),
        *(({"transparency_entries": value}, "transparency_entries") for value in (GONE, None, [], {}, "x", [1], [{}, None])),
        *(({"envelope": value}, "envelope.statement") for value in (GONE, None, [], "x", {})),
        *(({"statement": value}, "envelope.statement") for value in (GONE, None, "", 7, {}, "e30", "e3\u00e9=", "e-30=")),
        *(({"signature": value}, "envelope.signature") for value in (GONE, None, "", 7, [], "a", "YWJj YWJj", "YWJj\rYWJj")),
    ],
)
def test_an_attestation_of_another_shape_is_refused(changes: dict[str, Any], words: str) -> None:  # PROV-2
    problems = problems_of(uploaded(attestation(), attestation(**changes)))
    assert problems
    assert any(words in problem for problem in problems)
    assert all(problem.startswith("attestation 2: ") for problem in problems)


@pytest.mark.parametrize("item", [None, 1, "x", [], [attestation()], True])
def test_an_attestation_that_is_no_object_is_refused(item: object) -> None:
    assert problems_of(uploaded(item)) == ["attestation 1: it is no JSON object; send what the signing tool wrote"]


@pytest.mark.parametrize(
    ("stated", "words"),
    [
        *(
            (value, "no valid JSON")
            for value in (b"x", b"{", b"\xff", b"\xef\xbb\xbf{}", b"{} {}", b'{"a":\0}', b"[" * 100_000)
        ),
        *((value, "no JSON object") for value in (b"null", b"[]", b'"x"')),
        *((statement(_type=value), "_type") for value in (GONE, None, "", "https://in-toto.io/Statement/v0.1", ["x"])),
        *((statement(predicateType=value), "predicateType") for value in (GONE, None, "", 7)),
        *((statement(subject=value), "one subject") for value in (GONE, None, [], {}, "x", [None], [{}])),
        (statement(subject=statement()["subject"] * 2), "one subject"),
        *((statement(subject=[{"digest": {"sha256": SHA256}, "name": value}]), "one subject") for value in (None, 7, [])),
        *((statement(subject=[{"name": WHEEL, "digest": value}]), "one subject") for value in (None, {}, [], SHA256)),
        (statement(subject=[{"name": WHEEL, "digest": {"sha512": SHA256}}]), "one subject"),
        (statement(subject=[{"name": WHEEL, "digest": {"sha256": 7}}]), "one subject"),
    ],
)
def test_a_statement_of_another_shape_is_refused(stated: Any, words: str) -> None:  # PROV-2
    (problem,) = problems_of(uploaded(attestation(stated)))
    assert words in problem


def test_other_keys_digests_and_predicates_pass() -> None:
    digests = {"sha512": "ab", "sha256": SHA256}
    stated = statement(subject=[{"name": WHEEL, "digest": digests, "uri": "x"}], predicate={"a": [1.5]}, more=None)
    assert problems_of(uploaded(attestation(stated) | {"more": [1]})) == []


def test_base64_with_line_breaks_passes() -> None:
    broken = "\n".join(in_base64(CERTIFICATE)[start : start + 76] for start in range(0, 348, 76)) + "\n"
    assert problems_of(uploaded(attestation(certificate=broken))) == []


HOSTILE = {
    "deep list": ("[" * MAX_DEPTH + "]" * MAX_DEPTH, "nested"),
    "deep object": ('{"a":' * MAX_DEPTH + "1" + "}" * MAX_DEPTH, "nested"),
    "huge number": (str(2**64), "64 bits"),
    "very small number": (str(-(2**63) - 1), "64 bits"),
    "endless number": ("1" + "0" * 5000, "no valid JSON"),
    "number beyond all": ("1e999", "no valid JSON"),
    "not a number": ("NaN", "JSON"),
    "infinity": ("-Infinity", "JSON"),
    "hexadecimal": ("0x1", "JSON"),
    "leading zero": ("01", "JSON"),
    "comment": ("1/**/", "JSON"),
    "lone surrogate": (r'"\ud800"', "JSON"),
    "two low surrogates": (r'"\udc00\udc00"', "JSON"),
    "surrogate as a key": (r'{"\udfff":1}', "JSON"),
    "control character": ('"\x00"', "JSON"),
    "duplicate key": ('{"a":1,"a":1}', "'a' twice"),
    "duplicate key, escaped": (r'{"a":1,"\u0061":2}', "'a' twice"),
    "duplicate key, deep": ('[[{"b":{"c":1,"c":1}}]]', "'c' twice"),
    "duplicate key, hostile": (r'{"\u2028\u001b":1,"\u2028\u001b":1}', "twice"),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_json_that_parsers_read_differently_or_not_at_all_is_refused(kind: str) -> None:
    value, words = HOSTILE[kind]
    outer = uploaded(attestation() | {"x": "@"}).replace(b'"@"', value.encode())
    inner = uploaded(attestation(json.dumps(statement(x="@")).replace('"@"', value).encode()))
    for data in (outer, inner):
        (problem,) = problems_of(data)
        assert words in problem


def test_bytes_that_are_no_utf_8_are_refused() -> None:
    for data in (b"\xff", b"\xed\xa0\x80", b"\xc0\x80"):
        assert problems_of(uploaded(attestation() | {"x": "@"}).replace(b"@", data))


def test_a_key_that_decides_cannot_be_there_twice() -> None:  # PROV-2: parsers differ in which of them they take
    twice = json.dumps(statement()).replace('"subject":', '"subject": [], "subject":').encode()
    (problem,) = problems_of(uploaded(attestation(twice)))
    assert "'subject' twice" in problem
    data = uploaded(attestation()).replace(b'"envelope":', b'"envelope": {}, "envelope":')
    (problem,) = problems_of(data)
    assert "'envelope' twice" in problem


def test_numbers_and_depth_up_to_the_limits_pass() -> None:
    deep = "[" * (MAX_DEPTH - 1) + "]" * (MAX_DEPTH - 1)
    for value in (deep, str(2**63 - 1), str(-(2**63)), "1.5e300", '"\\ud83d\\ude00"', '{"a":1,"A":1}', '[{"a":1},{"a":1}]'):
        assert problems_of(uploaded(attestation() | {"x": "@"}).replace(b'"@"', value.encode())) == []


def test_every_problem_is_told_at_once_up_to_a_bound() -> None:
    worst = attestation(
        statement(_type=1, predicateType=1, subject=1), version=2, certificate=1, transparency_entries=1, signature=1
    )
    assert len(problems_of(uploaded(worst))) == 7
    found = problems_of(uploaded(attestation(), *[worst] * 15))
    assert len(found) == 8
    assert sum(map(len, found)) < 2000


WHEEL_NAMES = {
    WHEEL: True,
    "Foo.Bar-1.0-py3-none-any.whl": True,
    "foo_bar-1.0.0-py3-none-any.whl": True,
    "foo_bar-1.0-PY3-none-any.whl": True,
    "foo_bar-1.1-py3-none-any.whl": False,
    "foo_bar-1.0-1-py3-none-any.whl": False,
    "foo_bar-1.0-py2.py3-none-any.whl": False,
    "foo_baz-1.0-py3-none-any.whl": False,
    "foo_bar-1.0.tar.gz": False,
    f"dist/{WHEEL}": False,
    f"{WHEEL}\n": False,
    "": False,
    "x" * 100_000: False,
    "\u2028\x1b": False,
}


@pytest.mark.parametrize("name", WHEEL_NAMES)
def test_a_subject_is_compared_by_what_its_name_says(name: str) -> None:  # PROV-2, PEP 740 "Attestation verification"
    parsed = parse(uploaded(attestation(statement(name))), [])
    found = mismatches(parsed, parse_filename(WHEEL), SHA256)
    assert len(found) == (0 if WHEEL_NAMES[name] else 1)
    for problem in found:
        assert "not of this file" in problem
        assert problem.isascii()
        assert problem.isprintable()
        assert len(problem) < 300


@pytest.mark.parametrize(
    ("uploaded_name", "subject", "fits"),
    [
        ("foo_bar-1.0.tar.gz", "Foo.Bar-1.0.tar.gz", True),
        ("foo_bar-1.0.tar.gz", "foo_bar-1.0.zip", False),
        ("foo_bar-1.0-1.tar.gz", "Foo.Bar-1.0.post1.tar.gz", True),  # only the project's name tells where the version begins
        ("foo_bar-1.0-1.tar.gz", "foo-bar-1.0-1.tar.gz", True),
        ("foo_bar-1.0-1.tar.gz", "foo-bar-1.0.1.tar.gz", False),
        ("a-1.0-cp311-cp311-manylinux_2_17_x86_64.manylinux2014_x86_64.whl",) * 2 + (True,),
        (
            "a-1.0-cp311-cp311-manylinux_2_17_x86_64.manylinux2014_x86_64.whl",
            "a-1.0-cp311-cp311-manylinux2014_x86_64.manylinux_2_17_x86_64.whl",
            True,
        ),
    ],
)
def test_normalized_names_of_other_kinds_fit(uploaded_name: str, subject: str, fits: bool) -> None:
    parsed = parse(uploaded(attestation(statement(subject))), [])
    assert bool(mismatches(parsed, parse_filename(uploaded_name, "foo-bar"), SHA256)) is not fits


@pytest.mark.parametrize("sha256", ["0" * 64, SHA256.upper(), SHA256[:-1], f"sha256:{SHA256}", f"{SHA256} ", "", "\u0661" * 64])
def test_another_digest_does_not_fit(sha256: str) -> None:  # PROV-2
    parsed = parse(uploaded(attestation(), attestation(statement(sha256=sha256))), [])
    (problem,) = mismatches(parsed, parse_filename(WHEEL), SHA256)
    assert problem.startswith("attestation 2 ")
    assert SHA256 in problem
    assert problem.isascii()


def test_mismatches_are_told_up_to_a_bound() -> None:
    other = attestation(statement("foo-2.zip", "0" * 64))
    assert len(mismatches(parse(uploaded(other), []), parse_filename(WHEEL), SHA256)) == 2
    assert len(mismatches(parse(uploaded(*[other] * 16), []), parse_filename(WHEEL), SHA256)) == 8


def test_the_largest_upload_is_read_fast(takes_at_most) -> None:
    # The form takes 1 MiB. What costs most are many small values, which become objects, and many keys of one object.
    keys = ",".join(f'"{number}":0' for number in range(90_000))
    for value in (*("[" + ",".join([small] * 340_000) + "]" for small in ("[]", "{}", "1")), f"{{{keys}}}"):
        data = uploaded(attestation() | {"x": "@"}).replace(b'"@"', value.encode())
        with takes_at_most(1.5):  # about 0.15
            assert problems_of(data) == []


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
members = st.sampled_from(
    [
        *("version", "verification_material", "envelope", "certificate", "transparency_entries", "statement", "signature"),
        *("_type", "predicateType", "subject", "x"),
    ]
)


@given(st.binary(max_size=60) | st.lists(st.sampled_from('[]{}",:\\u0dae1 '), max_size=30).map(lambda p: "".join(p).encode()))
def test_no_bytes_make_an_error(data: bytes) -> None:
    problems_of(data)
    problems_of(uploaded(attestation(data)) if data else data)


@given(st.dictionaries(members, anything, max_size=3), st.lists(anything, max_size=2))
def test_no_values_make_an_error(changes: dict[str, Any], others: list[Any]) -> None:
    stated = statement(**{key: value for key, value in changes.items() if key in ("_type", "predicateType", "subject", "x")})
    data = uploaded(attestation(stated, **changes), *others)
    parsed = parse(data, [])
    for one in parsed:
        mismatches([one], parse_filename(WHEEL), SHA256)
        assert bytes(one.raw) in provenance([one])
