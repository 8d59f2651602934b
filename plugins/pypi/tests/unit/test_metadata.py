from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from packaging.version import Version

from nora.api import Invalid
from nora_pypi.metadata import (
    MAX_FIELD_NAMES,
    MAX_HEADER_LINES,
    MAX_VALUES,
    MAX_VALUES_LENGTH,
    parse,
    parse_metadata_version,
)

from .builders import core_metadata


def problems(raw: bytes, document: str = "METADATA") -> list[str]:
    with pytest.raises(Invalid) as caught:
        parse(raw, document)
    assert str(caught.value).isprintable()
    assert str(caught.value).isascii()
    assert caught.value.problems
    return list(caught.value.problems)


def test_the_fields_of_a_document_are_read() -> None:
    document = parse(
        core_metadata(
            metadata_version="2.4",
            more=[
                "Summary: A b\u00e4r",
                "Requires-Python: >=3.9,",
                " <4",
                "Requires-Dist: foo[a,b] >=1 ; python_version < '3.12' and extra == \"x\"",
                "requires-dist: bar @ https://files.example/bar.zip",
                "Provides-Extra: x",
                "Provides-Extra: Y_z",
                "Dynamic: Requires-Dist",
                "License-File: LICENSES/MIT.txt",
                "Keywords: a,b",
                "Project-URL: Home, https://home.example/",
                "X-Unknown: y",
            ],
        )
    )
    assert (document.metadata_version, document.name, document.project) == ((2, 4), "Foo.Bar", "foo-bar")
    assert document.version == Version("1.0")
    assert document.summary == "A b\u00e4r"
    assert document.requires_python == ">=3.9, <4"
    assert len(document.requires_dist) == 2
    assert document.provides_extra == ("x", "Y_z")
    assert document.dynamic == {"requires-dist"}
    assert document.license_files == ("LICENSES/MIT.txt",)


@pytest.mark.parametrize("text", ["1.0", "1.1", "1.2", "2.0", "2.1", "2.2", "2.3", "2.4", "2.5", "2.6", "2.7", "2.99", "1.9"])
def test_known_and_unknown_minor_versions_pass(text: str) -> None:
    # CM-1
    assert parse(core_metadata(metadata_version=text)).metadata_version == tuple(map(int, text.split(".")))


@pytest.mark.parametrize("text", ["3.0", "10.0", "999.0"])
def test_a_greater_major_version_is_refused(text: str) -> None:
    # CM-1
    assert "not known" in problems(core_metadata(metadata_version=text))[0]


@pytest.mark.parametrize(
    "text", ["2", "2.", ".1", "2.1.0", "0.1", "02.1", "2.1b", "-2.1", "\u0662.1", "2.\u0661", "1" * 5000 + ".0", "two"]
)
def test_a_malformed_metadata_version_is_refused(text: str) -> None:
    # CM-1
    assert "Metadata-Version" in problems(core_metadata(metadata_version=text))[0]
    with pytest.raises(Invalid):
        parse_metadata_version(text)


@pytest.mark.parametrize("field", ["Metadata-Version", "Name", "Version"])
def test_a_missing_empty_or_repeated_field_of_identity_is_refused(field: str) -> None:
    # CM-2
    lines = core_metadata().decode().splitlines(keepends=True)
    without = "".join(line for line in lines if not line.startswith(f"{field}:"))
    assert [f"METADATA: {field} is missing" in problem for problem in problems(without.encode())] == [True]
    assert f"{field} is missing" in problems(f"{field}:\n{without}".encode())[0]
    assert f"{field} is given more than once" in problems(f"{field}: 1.0\n{''.join(lines)}".encode())[0]
    assert f"{field} is given more than once" in problems(f"{field.upper()}: 1.0\n{''.join(lines)}".encode())[0]


@pytest.mark.parametrize(
    "raw", [b"", b"\n", b"\n\n" + core_metadata(), b"\xef\xbb\xbf", b"<html>", b"Name", b": x", b"\0" * 100, b"PK\3\4"]
)
def test_what_is_no_document_is_refused(raw: bytes) -> None:
    # CM-2
    assert len(problems(raw)) == 3


def test_every_problem_is_named_with_its_document() -> None:
    raw = core_metadata(
        "-x", "latest", metadata_version="3.0", more=["Requires-Python: 3", "Requires-Dist: ?", "Provides-Extra: -"]
    )
    found = problems(raw, "PKG-INFO")
    assert len(found) == 6
    assert all(problem.startswith("PKG-INFO: ") for problem in found)


def test_a_document_that_is_not_utf_8_is_refused() -> None:
    # CM-3
    assert "UTF-8" in problems(core_metadata(more=["Author: Andr"]) + b"\xe9")[0]


@pytest.mark.parametrize("line_break", ["\n", "\r\n", "\r"])
def test_the_description_is_not_read_as_fields(line_break: str) -> None:
    # CM-3
    raw = core_metadata().decode().replace("\n\n", "\n\nName: other\nVersion: 2\nRequires-Dist: ?\n").replace("\n", line_break)
    assert parse(raw.encode()).name == "Foo.Bar"


def test_a_folded_description_in_the_header_is_not_read_as_fields() -> None:
    raw = core_metadata(
        more=["Description: first", "        Name: other", "        ", "        Version: 2", "Requires-Python: >=3"]
    )
    assert parse(raw).requires_python == ">=3"


@pytest.mark.parametrize("line_break", ["\n", "\r\n", "\r"])
def test_mime_fields_are_left_alone(line_break: str) -> None:
    # A multipart document is none; the email parser would look for parts, or fail on the number in the second field.
    fields = "Content-Type: multipart/mixed;\n boundary=x\nCONTENT-TYPE: multipart/mixed; boundary*" + "1" * 5000 + "=x\n"
    for first, last in ((fields, ""), ("", fields), (fields[len("Content-Type: multipart/mixed;\n boundary=x\n") :], "")):
        raw = f"{first}{core_metadata(more=[last] if last else []).decode()}--x\n\nName: y\n--x--\n".replace("\n", line_break)
        assert parse(raw.encode()).name == "Foo.Bar"


@pytest.mark.parametrize(
    "text",
    [">=3.8", ">=3.8,<4", "~=3.9", "!=3.0.*,>=2.7", "==3.*", "", "   ", ">= 3.8 , < 4", "===3.9", ">=3.8,"],
)
def test_a_valid_requires_python_passes(text: str) -> None:
    # CM-4
    assert parse(core_metadata(more=[f"Requires-Python: {text}"])).requires_python == text.strip()


@pytest.mark.parametrize(
    "text", ["3.8", ">=2.7.*", "=>3", ">3.x", "python>=3", ">=3.8;<4", "UNKNOWN", ">=" + "1" * 5000, "<b>"]
)
def test_an_invalid_requires_python_is_refused_with_a_fix(text: str) -> None:
    # CM-4
    assert ">=3.9" in problems(core_metadata(more=[f"Requires-Python: {text}"]))[0]


def test_a_repeated_requires_python_is_refused() -> None:
    assert "more than once" in problems(core_metadata(more=["Requires-Python: >=3", "Requires-Python: >=2"]))[0]


@pytest.mark.parametrize(
    "text", ["foo (>=1.0)", "foo>=1,<2", "foo[bar]", 'foo; extra == "x"', "foo @ https://files.example/f.zip", "Foo.bar_baz"]
)
def test_a_valid_requirement_passes(text: str) -> None:
    # CM-4
    assert parse(core_metadata(more=[f"Requires-Dist: {text}"])).requires_dist == (text,)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "foo bar",
        ">=1",
        "foo>=latest",
        "foo; nonsense",
        "foo[",
        "a;" + "(" * 4000,
        "x" * 5000,
        "foo>=" + "1" * 5000,
        "\u0661",
    ],
)
def test_an_invalid_requirement_is_refused_with_a_fix(text: str) -> None:
    # CM-4
    assert "PEP 508" in problems(core_metadata(more=[f"Requires-Dist: {text}"]))[0]


def test_an_invalid_value_is_shown_once() -> None:
    assert len(problems(core_metadata(more=["Requires-Dist: ?"] * 100))) == 1


def test_only_the_first_of_many_invalid_values_are_shown() -> None:
    found = problems(core_metadata(more=[f"Requires-Dist: ?{number}" for number in range(100)]))
    assert len(found) == 4
    assert "97 more" in found[-1]


@pytest.mark.parametrize("text", ["", "-", "a b", "a!", "\u00e9", "x" * 300])
def test_an_invalid_extra_is_refused(text: str) -> None:
    # CM-4
    assert "Provides-Extra" in problems(core_metadata(more=[f"Provides-Extra: {text}"]))[0]


@pytest.mark.parametrize("field", ["Name", "version", "METADATA-VERSION"])
def test_fields_of_identity_cannot_be_dynamic(field: str) -> None:
    # CM-7
    assert "Dynamic" in problems(core_metadata(metadata_version="2.2", more=[f"Dynamic: {field}"]))[0]


@pytest.mark.parametrize(
    ("metadata_version", "more", "static"),
    [
        ("2.1", [], False),
        ("1.0", [], False),
        ("2.2", [], True),
        ("2.6", [], True),
        ("2.2", ["Dynamic: License-File"], False),
        ("2.10", [], True),
    ],
)
def test_metadata_is_static_from_2_2_on_if_nothing_is_dynamic(metadata_version: str, more: list[str], static: bool) -> None:
    # META-5, CM-7
    assert parse(core_metadata(metadata_version=metadata_version, more=more)).is_static is static


def test_what_older_tools_write_passes() -> None:
    # SPIKES: License-File at 2.1, fields that nobody knows, UNKNOWN
    more = [
        "License-File: LICENSE",
        "Home-page: UNKNOWN",
        "License: UNKNOWN",
        "Platform: UNKNOWN",
        "Private-Field: x",
        "Project-URL: nothing",
    ]
    assert parse(core_metadata(more=more)).license_files == ("LICENSE",)


# UP-20, CWE-400


@pytest.mark.parametrize(
    "more",
    [
        pytest.param([f"A{number}: x" for number in range(MAX_FIELD_NAMES + 1)], id="names"),
        pytest.param([f"A{number}: x" for number in range(150_000)], id="very many names"),
        pytest.param(["Classifier: x"] * (MAX_HEADER_LINES + 1), id="lines"),
        pytest.param([":"] * 900_000, id="no names"),
        pytest.param(["Requires-Dist: x"] * (MAX_VALUES + 1), id="requirements"),
        pytest.param([f"Requires-Dist: x{'[' + 'a,' * 1900 + 'a]'}"] * (MAX_VALUES_LENGTH // 3800 + 1), id="long requirements"),
    ],
)
def test_documents_made_to_keep_the_server_busy_are_refused_soon(more: list[str], takes_at_most) -> None:
    # UP-20
    raw = core_metadata(more=more)
    with takes_at_most(1.5):
        problems(raw)


@pytest.mark.parametrize(
    "more",
    [
        pytest.param([f"Requires-Dist: x{number}>=1" for number in range(9_000)], id="requirements"),
        pytest.param(["Classifier: x"] * 40_000, id="classifiers"),
        pytest.param(["X: " + "x" * 2_000_000], id="a long line"),
        pytest.param(["X: y"] + [" z"] * 45_000, id="folded lines"),
        pytest.param(["", "\r" * 2_000_000], id="description"),
    ],
)
def test_large_documents_are_read_soon(more: list[str], takes_at_most) -> None:
    with takes_at_most(3):
        parse(core_metadata(more=more))


FRAGMENTS = [
    "Name: x",
    "Version: 1",
    "Metadata-Version: 2.1",
    "Dynamic",
    "Requires-Dist",
    ":",
    " ",
    "\n",
    "\r",
    "\t",
    "\0",
    "\x85",
    "\u2028",
    "=?utf-8?q?x?=",
    "Content-Type: multipart/mixed; boundary=x",
    "--x",
    "From x",
    "\n\n",
]


@settings(deadline=None, max_examples=300)
@given(st.lists(st.sampled_from(FRAGMENTS) | st.text(max_size=5), max_size=15))
def test_any_text_is_read_or_refused(fragments: list[str]) -> None:
    for raw in (
        "".join(fragments).encode("utf-8", "replace"),
        core_metadata(more=["".join(fragments).encode("utf-8", "replace").decode()]),
    ):
        with suppress(Invalid):
            parse(raw)


@settings(deadline=None, max_examples=200)
@given(st.binary(max_size=300))
def test_any_bytes_are_read_or_refused(raw: bytes) -> None:
    with suppress(Invalid):
        parse(raw)
