"""An upstream's JSON API: where it is, and what is taken from it."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nora.api import Document, UpstreamInvalid
from nora_pypi.json_upstream import JsonApiDocument, Said

URL = "https://index.example/pypi/foo/json"
DIGEST = "ab" * 32


def parse(page: Any, project: str = "foo") -> Said:
    body = page if isinstance(page, bytes) else msgspec.json.encode(page)
    found = JsonApiDocument().parse(project, Document(url=URL, content_type="application/json", body=body))
    assert isinstance(found, Said)
    return found


@pytest.mark.parametrize(
    ("upstream", "part", "expected"),
    [
        ("https://index.example/simple/", "", "https://index.example/pypi/foo/json"),
        ("https://index.example/simple", "", "https://index.example/pypi/foo/json"),
        ("https://index.example/a/b/simple/", "1.0", "https://index.example/a/b/pypi/foo/1.0/json"),
        ("https://index.example/simple/", "1!1.0+cpu", "https://index.example/pypi/foo/1%211.0%2Bcpu/json"),
        ("https://index.example/simple/", "2004d", None),
        ("https://index.example/simple/", "..", None),
        ("https://index.example/simple/", "../../x", None),
        ("https://index.example/+simple/", "", None),
        ("https://index.example/root/", "", None),
        ("https://index.example/simple/x/", "", None),
        ("https://index.example/nosimple", "", None),
    ],
)
def test_the_address_is_beside_the_index(upstream: str, part: str, expected: str | None) -> None:
    request = JsonApiDocument().request(upstream, "foo", part)
    assert (request.url if request else None) == expected
    assert request is None or request.headers == {"Accept": "application/json"}


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>",
        b"[]",
        b'"info"',
        b"{}",
        b'{"message": "Not Found"}',
        b'{"info": []}',
        b'{"info": {}}',
        b'{"info": {"name": 5}}',
        b'{"info": {"name": "bar"}}',
        b'{"info": {"name": "foo"}',
        b'{"info": {"name": "foo"}, "x": "\xff"}',
        b'{"info": {"name": "foo"}, "x": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    ],
)
def test_what_is_no_such_document_is_refused(body: bytes) -> None:
    with pytest.raises(UpstreamInvalid):
        parse(body)


def test_a_document_about_the_project_in_another_spelling_is_taken() -> None:
    assert parse(b'\xef\xbb\xbf{"info": {"name": "Foo", "version": "v1.0"}}').is_about("1.0.0")
    assert not parse({"info": {"name": "foo"}}).is_about("1.0")
    assert parse({"info": {"name": "foo", "version": "2004d"}}).is_about("2004d")


def test_what_has_another_type_than_everywhere_is_left_out() -> None:
    said = parse(
        {
            "info": {
                "name": "foo",
                "version": 1,
                "summary": ["x"],
                "author": None,
                "requires_dist": ["a", 1],
                "classifiers": ["a"],
                "project_urls": {"a": 1},
                "downloads": {"last_day": "1"},
                "newest_key": [1, {"a": None}],
                "too_deep": _nested(40),
                "too_large": 2**70,
            },
            "vulnerabilities": [1, {"id": "X", "aliases": ["Y"]}, {"id": _nested(40)}],
            "ownership": {"organization": None},
            "too_large": 2**70,
            "last_serial": 5,
        }
    )
    assert said.info == {"name": "foo", "author": None, "classifiers": ["a"], "newest_key": [1, {"a": None}]}
    assert (said.version, said.rest) == ("", {"ownership": {"organization": None}})
    assert said.vulnerabilities == ({"id": "X", "aliases": ["Y"]},)
    assert parse({"info": {"name": "foo"}, "vulnerabilities": None}).vulnerabilities == ()


def test_of_a_file_is_taken_what_no_listing_decides() -> None:
    entry = {
        "filename": "foo-1.0.tar.gz",
        "url": "https://evil.example/",
        "digests": {"SHA256": DIGEST.upper(), "md5": "no digest", "blake2b_256": None},
        "md5_digest": "ab" * 16,
        "size": -1,
        "upload_time": "2024-01-02T03:04:05",
        "upload_time_iso_8601": "yesterday",
        "yanked": True,
        "yanked_reason": "x",
        "has_sig": True,
        "downloads": 7,
        "core-metadata": {"sha256": DIGEST},
        "comment_text": "c",
        "packagetype": 3,
        "python_version": "source",
        "requires_python": ">=3",
        "newest_key": {"a": 1},
    }
    assert parse({"info": {"name": "foo"}, "releases": {"1.0": [entry]}}).files() == {
        "foo-1.0.tar.gz": {
            "digests": {"sha256": DIGEST, "md5": "ab" * 16},
            "upload_time_iso_8601": "2024-01-02T03:04:05Z",
            "comment_text": "c",
            "python_version": "source",
            "requires_python": ">=3",
            "newest_key": {"a": 1},
        }
    }


def test_a_time_that_is_none_is_left_out() -> None:
    entry = {"filename": "foo-1.0.zip", "upload_time": 5, "upload_time_iso_8601": "yesterday"}
    assert parse({"info": {"name": "foo"}, "urls": [entry]}).files() == {"foo-1.0.zip": {"digests": {}}}


def test_files_are_found_in_releases_and_urls() -> None:
    said = parse(
        {
            "info": {"name": "foo"},
            "releases": {"1.0": [{"filename": "foo-1.0.zip"}, {"filename": "../foo-1.0.zip"}, 5], "2.0": None, "3.0": {}},
            "urls": [{"filename": "foo-4.0.zip"}, {"filename": ["foo-5.0.zip"]}, {}],
        }
    )
    assert set(said.files()) == {"foo-1.0.zip", "foo-4.0.zip"}


JSON_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text("a-1.z", max_size=9),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["filename", "digests", "size", "x"]), inner, max_size=3)
    ),
    max_leaves=9,
)


@given(st.dictionaries(st.sampled_from(["releases", "urls", "vulnerabilities", "ownership", "x"]), JSON_VALUES), JSON_VALUES)
def test_odd_values_never_fail_and_can_be_written_again(page: dict[str, Any], value: Any) -> None:
    page["info"] = {
        "name": "foo",
        "summary": value,
        "downloads": value,
        "project_urls": value,
        "classifiers": value,
        "y": value,
    }
    page["urls"] = [{"filename": "foo-1.0.zip", "size": value, "digests": value, "upload_time": value, "x": value}, value]
    said = parse(page)
    msgspec.json.encode([said.info, said.rest, said.vulnerabilities, said.files()])


def _nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value
