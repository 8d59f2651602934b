"""Everything that a core metadata document says, unchecked."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nora.api import Invalid
from nora_pypi.loose_metadata import LooseMetadata, label_key, parse_loosely, unfolded
from nora_pypi.metadata import MAX_FIELD_NAMES, MAX_HEADER_LINES

from .builders import core_metadata

FULL = b"""\
Metadata-Version: 2.4
Name: Foo.Bar
Version: 1.0
Summary: A b\xc3\xa4r
 on two lines
Keywords: a,b, c
Home-page: https://home.example/
Download-URL: https://files.example/
Author: A
Author-email: A <a@mail.example>
Maintainer: M
Maintainer-email: m@mail.example
License: first line
        second line
License-Expression: MIT OR BSD-2-Clause
License-File: LICENSE
License-File: NOTICE
Platform: any
Platform: linux
Classifier: Topic :: B
Classifier: Topic :: A
Requires-Python: >=3.9,
 <4
Requires-Dist: foo[a,b] >=1 ;
 extra == "x"
Requires-Dist: bar
Provides-Extra: x
Dynamic: Requires-Dist
Description-Content-Type: text/markdown; charset=UTF-8
Content-Type: multipart/mixed; boundary=x
Project-URL: Source Code, https://code.example/?a,b
Project-URL: Docs,https://docs.example/

# Foo

Name: other
"""


def test_all_fields_are_read() -> None:
    assert parse_loosely(FULL) == LooseMetadata(
        name="Foo.Bar",
        version="1.0",
        summary="A b\u00e4r on two lines",
        description="# Foo\n\nName: other\n",
        description_content_type="text/markdown; charset=UTF-8",
        keywords="a, b, c",
        home_page="https://home.example/",
        download_url="https://files.example/",
        author="A",
        author_email="A <a@mail.example>",
        maintainer="M",
        maintainer_email="m@mail.example",
        license="first line\nsecond line",
        license_expression="MIT OR BSD-2-Clause",
        requires_python=">=3.9, <4",
        platforms=("any", "linux"),
        classifiers=("Topic :: B", "Topic :: A"),
        requires_dist=('foo[a,b] >=1 ; extra == "x"', "bar"),
        provides_extra=("x",),
        dynamic=("Requires-Dist",),
        license_files=("LICENSE", "NOTICE"),
        project_urls={"Source Code": "https://code.example/?a,b", "Docs": "https://docs.example/"},
    )


def test_of_a_field_that_is_given_twice_the_first_counts() -> None:
    found = parse_loosely(core_metadata(more=["Summary: one", "Summary: two", "Keywords: a", "Keywords: b"]))
    assert (found.summary, found.keywords) == ("one", "a")


def test_what_older_tools_did_not_know_is_nothing() -> None:
    found = parse_loosely(core_metadata(more=["License: UNKNOWN", "Platform: UNKNOWN", "Home-page: UNKNOWN", "Summary:  "]))
    assert (found.license, found.platforms, found.home_page, found.summary) == ("", (), "", "")


@pytest.mark.parametrize(
    "written",
    [
        "First\n        \n        Second\n          indented",
        "First\n       |\n       |Second\n       |  indented",
        "First\n\t\n\tSecond\n\t  indented",
    ],
)
def test_the_description_of_an_older_document_is_unfolded(written: str) -> None:
    found = parse_loosely(f"Name: x\nDescription: {written}\nVersion: 1".encode())
    assert found.description == "First\n\nSecond\n  indented"


def test_the_body_goes_before_a_description_field() -> None:
    assert parse_loosely(b"Name: x\nDescription: field\n\nbody").description == "body"
    assert parse_loosely(b"Name: x\nDescription: field\n\n \n").description == "field"


def test_labels_are_compared_without_case_punctuation_and_space() -> None:  # CM-9
    assert label_key(" Bug-Tracker!") == label_key("bug tracker") == "bugtracker"
    twice = ["Project-URL: Home Page, https://a.example/", "Project-URL: homepage, https://b.example/"]
    assert parse_loosely(core_metadata(more=twice)).project_urls == {"Home Page": "https://a.example/"}
    exactly = ["Project-URL: X, https://a.example/", "Project-URL: X, https://b.example/", "Project-URL: Y,https://y.example/"]
    assert parse_loosely(core_metadata(more=exactly)).project_urls == {"X": "https://a.example/", "Y": "https://y.example/"}


def test_an_address_without_label_and_a_label_without_address_do_no_harm() -> None:
    found = parse_loosely(core_metadata(more=["Project-URL: https://a.example/", "Project-URL: , https://b.example/"]))
    assert found.project_urls == {}


@pytest.mark.parametrize(
    ("raw", "author"),
    [
        (b"Name: x\nAuthor: Andr\xe9\nRequires-Dist: foo\n\nbody", "Andr\ufffd"),
        (b"Metadata-Version: 9.9\nName: -x\nVersion: latest\nRequires-Dist: foo\nRequires-Python: 3\nAuthor: A\n\nbody", "A"),
    ],
)
def test_what_a_check_would_refuse_is_read_as_far_as_it_goes(raw: bytes, author: str) -> None:
    found = parse_loosely(raw)
    assert (found.author, found.requires_dist, found.description) == (author, ("foo",), "body")


def test_the_number_of_fields_and_lines_is_limited() -> None:
    for raw in (
        b"".join(b"X-%d: y\n" % number for number in range(MAX_FIELD_NAMES + 1)),
        b"Classifier: y\n" * (MAX_HEADER_LINES + 2),
    ):
        with pytest.raises(Invalid, match="fields"):
            parse_loosely(raw)


@given(st.binary(max_size=300) | st.text(alphabet="N\n: |\t\rame", max_size=200).map(str.encode))
def test_any_bytes_are_a_document(raw: bytes) -> None:
    found = parse_loosely(raw + b"\nSummary: x" + raw)
    assert isinstance(found.description, str)
    found.description.encode()


def test_a_long_description_takes_no_time(takes_at_most) -> None:
    for raw in (FULL + b"a line of text\n" * 140_000, b"Description: x\n" + b"        line of text\n" * (MAX_HEADER_LINES - 5)):
        with takes_at_most(1):
            assert len(parse_loosely(raw).description) > 600_000


def test_unfolding_keeps_a_single_line() -> None:
    assert unfolded("one") == "one"
    assert unfolded("") == ""
