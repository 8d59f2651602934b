"""Pages of the usual types are read together, others field by field; what is read is the same."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nora.api import Document, Listing, UpstreamInvalid
from nora_pypi import parse_json, parse_typed
from nora_pypi.model import is_listable

URL = "https://index.example/simple/foo-bar/"
CORPUS = Path(__file__).parent.parent / "corpus"
SHA256 = "ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb"
WHEEL = {
    "filename": "foo_bar-1.0-py3-none-any.whl",
    "url": "https://files.example/ca/97/foo_bar-1.0-py3-none-any.whl",
    "hashes": {"sha256": SHA256},
    "size": 5,
    "upload-time": "2024-01-02T03:04:05.678901Z",
    "yanked": False,
    "requires-python": ">=3.9",
    "core-metadata": {"sha256": SHA256},
    "data-dist-info-metadata": {"sha256": SHA256},
    "provenance": None,
}


def both(body: bytes) -> tuple[Listing | str, Listing | str]:
    """What is read together, and field by field; an error as its text."""
    document = Document(url=URL, content_type="application/json", body=body)

    def read() -> Listing | str:
        try:
            return parse_json.parse("foo-bar", document)
        except UpstreamInvalid as error:
            return str(error)

    together = read()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parse_typed, "decode", lambda body: None)
        return together, read()


def page(*files: Any, **more: Any) -> bytes:
    return json.dumps({"meta": {"api-version": "1.4"}, "name": "foo-bar", "files": files} | more).encode()


SHA256S = [SHA256, SHA256.upper(), SHA256[:-1], SHA256[:-1] + "g", SHA256[:-1] + "\u0661", ""]
digests = st.sampled_from(
    [{}, {"md5": "d41d8cd9"}, {"sha256": SHA256, "md5": "0"}, {"SHA256": SHA256}, *({"sha256": digest} for digest in SHA256S)]
)
NAMES = """foo_bar-1.0-py3-none-any.whl|Foo.Bar-1.0.0-py3-none-any.whl|foo_bar-1.0.whl|foo_bar-1.0.wh-x.whl|foo-bar-2.0.tar.gz
foo-bar-1.0-py3-none-any.whl|foo-bar-2.0-py3-none-any.whl|foo_bar-1!1.0+cu124-2-py3-none-any.whl|-.whl|.whl||foo_bar-1.0-
foo_bar-x-py3-none-any.whl|foo_bar-1.0.zip|foo_bar-1.0.exe|other-1.0-py3-none-any.whl|foo-é-1.0.zip|a/b.zip|foo bar.whl
foo_bar-1.0-py3-none-any.tar.gz|..tar.gz"""
filenames = st.sampled_from([*re.split(r"[|\n]", NAMES), "x" * 250 + ".whl", "x" * 300 + ".whl"])
LINKS = """https://files.example/a/b.whl|../../f/b.whl|b.whl|/b.whl|https://files.example/a/b.whl#sha256=aa|#x|| |é.whl
//h.example/b.whl|ftp://h.example/b.whl|https://b.whl|http:///b.whl|a/../b.whl|./b.whl|b.whl?x=1"""
links = st.sampled_from(re.split(r"[|\n]", LINKS))
TIMES = """2024-01-02T03:04:05Z|2024-01-02T03:04:05.5Z|2024-02-30T03:04:05Z|2024-01-02T03:04:05+01:00|2024-01-02||Z
2024-01-02T03:04:05|2024-W01-1T03:04:05Z|20240102T030405Z"""
times = st.sampled_from([*re.split(r"[|\n]", TIMES), "2024-01-02T03:04:05Z\n", None])
usual_fields = {
    "filename": filenames,
    "url": links,
    "hashes": digests | st.none(),
    "size": st.sampled_from([0, 1, 2**63 - 1, 2**63, 2**70, -1, None]),
    "upload-time": times,
    "yanked": st.sampled_from([True, False, "", "broken", None]),
    "requires-python": st.sampled_from([">=3.9", "", None]),
    "core-metadata": digests | st.booleans() | st.none(),
    "dist-info-metadata": digests | st.booleans() | st.none(),
    "data-dist-info-metadata": digests | st.booleans() | st.none(),
    "gpg-sig": st.booleans() | st.none(),
    "provenance": st.sampled_from(["https://p.example/x", "http://p.example/x", "", None]),
}
odd_fields = {
    "size": st.sampled_from([1.0, "1", True]),
    "hashes": st.just({"sha256": None}),
    "yanked": st.just(1),
    "filename": st.none(),
    "_more": st.just([1]),
}
changes = st.fixed_dictionaries({}, optional=usual_fields)
without = st.sets(st.sampled_from(sorted(WHEEL.keys() - {"filename", "url"})), max_size=3)
entries = st.builds(lambda change, gone: {k: v for k, v in (WHEEL | change).items() if k not in gone}, changes, without)
odd_entries = st.builds(lambda entry, odd: entry | odd, entries, st.fixed_dictionaries({}, optional=odd_fields))
more = st.fixed_dictionaries(
    {},
    optional={
        "meta": st.sampled_from([{"api-version": "1.1", "_last-serial": 7}, {"api-version": "2.0"}, {}, None, 5]),
        "versions": st.sampled_from([["1.0", "2.0", 7], [], None]),
        "project-status": st.sampled_from([{"status": "archived", "reason": "old"}, {"status": "x"}, None, "archived"]),
        "alternate-locations": st.sampled_from([["https://a.example/"], [], None, 2**70]),
        "name": st.sampled_from(["foo-bar", None, 1]),
    },
)


@given(st.lists(entries, max_size=8), more)
def test_pages_of_the_usual_types_are_read_alike_in_both_ways(
    files: list[Any], rest: dict[str, Any]
) -> None:  # PROXY-3, JSON-6
    body = page(*files, **rest)
    assert parse_typed.decode(body) is not None
    together, one_by_one = both(body)
    assert together == one_by_one


@given(st.lists(odd_entries, max_size=4), st.dictionaries(st.sampled_from(["_x", "api-version", "name"]), st.integers()))
def test_any_other_page_is_read_as_well(files: list[Any], rest: dict[str, Any]) -> None:  # JSON-6, PROXY-3
    together, one_by_one = both(page(*files, **rest))
    assert together == one_by_one


@pytest.mark.parametrize("name", sorted(path.name for path in CORPUS.glob("*.json")))
def test_pages_of_real_indexes_are_read_alike_in_both_ways(name: str) -> None:
    together, one_by_one = both((CORPUS / name).read_bytes())
    assert together == one_by_one


def test_what_is_odd_in_one_file_costs_no_other_file_anything() -> None:
    odd = {**WHEEL, "filename": "foo_bar-2.0-py3-none-any.whl", "hashes": {"sha256": "x"}, "upload-time": "then", "size": -1}
    lost = {**WHEEL, "filename": "foo_bar-3.0-py3-none-any.whl", "url": "http://["}
    names = [f"foo_bar-1.{number}-py3-none-any.whl" for number in range(300)]
    listing, _ = both(page(odd, lost, *({**WHEEL, "filename": name} for name in names)))
    assert isinstance(listing, Listing)
    assert [file.name for file in listing.files] == [odd["filename"], *names]
    first, *rest = listing.files
    assert (first.digests, first.published, first.size) == ({}, None, None)
    assert {(file.digests["sha256"], file.published, file.size) for file in rest} == {(SHA256, WHEEL["upload-time"], 5)}


def test_a_page_as_the_public_index_writes_it_is_of_the_usual_types() -> None:
    listed = page(WHEEL, **{"versions": ["1.0"], "project-status": {"status": "active"}, "alternate-locations": []})
    assert parse_typed.decode(listed) is not None


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".whl",
        ".tar.gz",
        ".x.whl",
        "x.zip",
        "x.WHL",
        "a/b.whl",
        "\u00fc.whl",
        "x.whl\nb.whl",
        "x" * 252 + ".whl",
        "x.metadata",
    ],
)
def test_names_that_are_not_usual_are_looked_at(name: str) -> None:
    usual = ["a-1.0.tar.gz", "b-1.0-py3-none-any.whl"]
    assert parse_typed._are_usual(usual)
    assert not parse_typed._are_usual([*usual, name])
    assert not parse_typed._are_usual([name, *usual])


@given(
    st.lists(
        st.text("ab.-/\n", max_size=6).flatmap(lambda text: st.sampled_from([text, text + ".whl", text + ".tar.gz"])),
        min_size=1,
    )
)
def test_usual_names_are_all_listable(names: list[str]) -> None:
    if parse_typed._are_usual(names):
        assert all(map(is_listable, names))
