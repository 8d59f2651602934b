"""What holds of every input: of pages, content types, Accept fields, names, versions and file names.

``NORA_TEST_CASES`` says how many cases each test tries, see CONTRIBUTING.md.
"""

from __future__ import annotations

import json
import re
from contextlib import suppress
from pathlib import Path

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from packaging.utils import canonicalize_name
from packaging.version import Version

from nora.api import Document, File, Invalid, Listing, NotAcceptable, UpstreamInvalid
from nora_pypi import filenames
from nora_pypi.names import NormalizedName, is_distribution, is_safe_filename, normalize, parse_version, version_of
from nora_pypi.negotiate import Representation, choose
from nora_pypi.parse import parse_listing
from nora_pypi.render import project_html, project_json

from .strategies import bounded_time, changed, check_refusal, odd_names, spellings, texts, versions

CORPUS = Path(__file__).parent.parent / "corpus"
PAGES = {path.name: path.read_bytes() for path in sorted(CORPUS.iterdir())}
PROJECT = NormalizedName("foo")
PAGE = "https://index.example/simple/foo/"
NORA = "https://nora.example/simple/foo/"
NOT_IN_HTML = re.compile("[\0-\x08\x0b\x0e-\x1f\x7f-\x9f\ufdd0-\ufdef\ufffe\uffff]")


def parsed(body: bytes, content_type: str = "", url: str = PAGE) -> Listing | None:
    """The listing that a page makes, with everything checked that holds of every listing; ``None`` if it is refused."""
    try:
        with bounded_time():
            listing = parse_listing(PROJECT, Document(url=url, content_type=content_type, body=body))
    except UpstreamInvalid as error:
        check_refusal(error)
        return None
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(listing), type=Listing) == listing
    assert len(listing.by_name) == len(listing.files)
    assert listing.status in ("active", "archived", "deprecated", "quarantined")
    for file in listing.files:
        assert is_distribution(file.name)
        assert is_safe_filename(file.name)
        for address in (file.url, *(sidecar.url for sidecar in file.sidecars.values())):
            assert address is not None
            assert address.startswith(("https://", "http://"))
            assert address.isprintable()
            assert "#" not in address
        for digests in (file.digests, *(sidecar.digests for sidecar in file.sidecars.values())):
            assert all(re.fullmatch("[0-9a-f]+", digest) for digest in digests.values())
        assert file.yanked != ""
        assert file.size is None or file.size >= 0
    return listing


def without_places(file: File) -> File:
    """A file without addresses, which a page of ours replaces by its own."""
    sidecars = {suffix: msgspec.structs.replace(sidecar, url=None) for suffix, sidecar in file.sidecars.items()}
    return msgspec.structs.replace(file, url=None, sidecars=sidecars)


def check_rendering(listing: Listing) -> None:
    """Pages that are made from a listing are read back without loss, and what is made from that is the same page."""
    body = project_json(listing, NORA, NORA)
    again = parsed(body, Representation.JSON.value, NORA)
    assert again is not None
    offered = () if listing.status == "quarantined" else listing.files  # STAT-2
    assert [without_places(file) for file in again.files] == [without_places(file) for file in offered]
    assert (again.status, again.status_reason) == (listing.status, listing.status_reason)
    assert project_json(again, NORA, NORA) == body
    page = project_html(listing, NORA, NORA)
    assert not NOT_IN_HTML.search(page.decode())  # HTML-1
    html = parsed(page, Representation.HTML.value, NORA)
    assert html is not None
    assert [file.name for file in html.files] == [file.name for file in offered]
    assert [bool(file.yanked) for file in html.files] == [bool(file.yanked) for file in offered]
    assert [set(file.sidecars) for file in html.files] == [set(file.sidecars) for file in offered]
    stable = project_html(html, NORA, NORA)  # of version 1.0, since HTML tells no sizes
    last = parsed(stable, "text/html", NORA)
    assert last is not None
    assert project_html(last, NORA, NORA) == stable


# Pages


hexes = st.text("0123456789abcdefABCDEF", min_size=1, max_size=70)
numbers = st.integers() | st.sampled_from([2**63 - 1, 2**63, -(2**63), 2**64, 2**200, 0]) | st.floats()
values = st.recursive(
    st.none() | st.booleans() | numbers | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)
LINKS = r"""foo-1.0.zip|../../p/foo-1.0-py3-none-any.whl|https://files.example/foo-2.0%2Bcu124-py3-none-any.whl#sha256=aa
//h.example/foo-1.1.zip?a=b/c|http://[|ftp://h.example/foo.zip||#|?|/|foo-1.0.ZIP|http:///x.zip|javascript:foo-1.zip
http://h.example:99999/foo-1.zip|..\foo-1.2.zip|%ff.zip|%2f.zip|foo-é.zip|https://user:pw@h.example/foo-3.zip"""
links = st.sampled_from(re.split(r"[|\n]", LINKS))
names = st.sampled_from(["foo-1.0.zip", "foo-1.0-py3-none-any.whl", "Foo-2.0.tar.gz", "foo", ".zip", "a/b.zip", "\u202e.zip"])
times = st.sampled_from(
    ["2024-01-02T03:04:05Z", "2024-01-02T03:04:05.5+01:00", "2024-01-02", "now", "9999-12-31T23:59:59-01:00"]
)
facts = {
    "filename": names | values,
    "url": links | values,
    "hashes": st.dictionaries(st.sampled_from(["sha256", "SHA256", "md5", "", "x y"]), hexes | values, max_size=3) | values,
    "size": numbers | values,
    "upload-time": times | values,
    "yanked": values,
    "requires-python": values,
    "core-metadata": st.dictionaries(st.sampled_from(["sha256", "x"]), hexes | values, max_size=2) | values,
    "dist-info-metadata": values,
    "data-dist-info-metadata": values,
    "gpg-sig": values,
    "provenance": st.sampled_from(["https://p.example/\u00e9 ", "http://p.example", "https://["]) | values,
}
good = st.fixed_dictionaries(
    {
        "filename": st.sampled_from(["foo-1.0.zip", "foo-1.0-py3-none-any.whl"]),
        "url": st.sampled_from(["foo-1.0.zip", "//h.example/x"]),
    }
)
named = good | good | st.fixed_dictionaries({}, optional={"filename": names, "url": links})
entries = st.builds(lambda entry, name: entry | name, st.fixed_dictionaries({}, optional=facts), named)
metas = st.fixed_dictionaries({}, optional={"api-version": st.sampled_from(["1.0", "1.9", 1, 1.1, "2.0", None]), "x": values})
states = st.fixed_dictionaries({}, optional={"status": st.sampled_from(["archived", "Quarantined", 1]), "reason": values})
json_pages = st.builds(
    lambda page, more: page | more,
    st.fixed_dictionaries(
        {"files": st.lists(entries | values, max_size=4)},
        optional={
            "meta": metas | values,
            "name": values,
            "versions": st.lists(st.sampled_from(["1.0", "1", "1.0.0", "x", 7])) | values,
            "project-status": states | values,
            "alternate-locations": values,
        },
    ),
    st.dictionaries(texts, values, max_size=2),
)


# json writes NaN, too, as some servers do.
@given(json_pages.map(lambda page: json.dumps(page).encode()))
def test_any_json_page_is_read_or_refused(body: bytes) -> None:  # PROXY-13, PROXY-15
    listing = parsed(body, Representation.JSON.value)
    if listing is not None:
        check_rendering(listing)


MARKUP = """<a href='foo-1.0.zip'>|<a href=|<A HREF='foo-1.1-py3-none-any.whl' |foo-1.2.tar.gz|'|"|>|</a>|/>|<a |</|<!|<?
<!--|-->|--!>|<![CDATA[|]]>|<base href='//b.example/x/'>|<base href=|&#0;|&amp;|&#x110000;|<area href=foo-1.3.zip>|<link href=
<html>|</html>|<head>|<body>|</body>|<title>Links for foo</title>|<title>|</title>|<h1>index</h1>|<h1><a>|<template>|</template>
<svg>|<math>|<select>|<table>|<td>|<noscript>|<script>|</script>|<textarea>|<style>|<plaintext>|<frameset>|<form>|<iframe>
<b>|</b>|<b id=x>|<p>|</p>|<br>|<meta |<meta name=pypi:repository-version content=1.0>|<meta charset=utf-16>|<meta charset=big5>
<meta name=pypi:project-status content=archived>|<meta name=pypi:project-status-reason content='|<meta name=pypi:tracks content=x>
 data-yanked| data-yanked='| data-requires-python='&gt;3'| data-core-metadata=sha256=aa| data-dist-info-metadata=true| data-x=y
 data-gpg-sig=true| data-provenance=https://p.example/|#sha256=aa|#egg=x&md5=bb|http://[|//|..|%ff|%2B| rel=internal|é|\U0001f600"""
TOKENS = [*re.split(r"[|\n]", MARKUP), "|", "\n", "\r\n", "\0", "\x0c", "\ufeff", "\x85", "x" * 100]
markup = st.lists(st.sampled_from(TOKENS) | texts, max_size=30).map(lambda tokens: "".join(tokens).encode("utf-8", "replace"))
html_pages = markup | markup.map(lambda body: b"<html><title>Links for foo</title><body>" + body + b"</body></html>")
html_types = ["text/html", Representation.HTML.value, "text/html;charset=latin-1", "text/html;charset=gbk"]


@given(html_pages, st.sampled_from(html_types))
def test_any_html_page_is_read_or_refused(body: bytes, content_type: str) -> None:  # PROXY-13, PROXY-15
    listing = parsed(body, content_type)
    if listing is not None:
        check_rendering(listing)


TYPES = """|text/html|text/plain|application/json|application/octet-stream|application/xhtml+xml|image/png
application/vnd.pypi.simple.v1+json|application/vnd.pypi.simple.latest+html|application/vnd.pypi.simple.v2+json
text/html; charset=iso-8859-1|text/html;charset=utf-16|TEXT/HTML;charset=\u212a|text/html;charset=utf-7|text/html; charset="gbk"
text/html;charset=punycode|text/html;charset=idna|text/html;charset=hex|text/html;charset=cp1250"""
BEGINNINGS = ["text/html; charset=", "application/vnd.pypi.simple.", "application/json;", ""]
content_types = st.sampled_from(re.split(r"[|\n]", TYPES)) | st.builds(
    lambda beginning, rest: beginning + rest, st.sampled_from(BEGINNINGS), st.text(max_size=20)
)


@given(st.binary(max_size=200), content_types)
def test_any_bytes_of_any_type_are_read_or_refused(body: bytes, content_type: str) -> None:  # PROXY-2, PROXY-13
    for beginning in (b"", b"{", b"<", b"\xef\xbb\xbf{", b"\xff\xfe<\0", b"<a href=foo-1.0.zip>", b'{"files":['):
        parsed(beginning + body, content_type)


JSON_TOKENS = r"""{|}|[|]|"|,|:|null|true|1e999|\ud800|\u0000|-|99999999999999999999|"files": [|"meta": {"api-version": "1.0"}
"yanked": "x"|"url": "foo-1.0.zip"|"core-metadata": {}|"size": -1|"hashes": null"""
FRAGMENTS = [token.encode("utf-8", "replace") for token in (*TOKENS, *re.split(r"[|\n]", JSON_TOKENS))] + [b"\xff", b"\xff\xfe"]


@given(st.sampled_from(list(PAGES)), content_types, st.data())
def test_a_mutated_page_is_read_or_refused(name: str, content_type: str, data: st.DataObject) -> None:  # PROXY-13, PROXY-15
    body = changed(data.draw, PAGES[name], FRAGMENTS)
    listing = parsed(body, content_type)
    if listing is not None and len(listing.files) < 20:
        check_rendering(listing)


# What the tests above found

ENTRY = {"filename": "foo-1.0.zip", "url": "foo-1.0.zip"}


def test_only_one_key_tells_of_metadata() -> None:  # META-10, META-13
    for decided in ({"core-metadata": None}, {"core-metadata": False}, {"dist-info-metadata": "?"}):
        body = json.dumps({"files": [ENTRY | decided | {"data-dist-info-metadata": True}]}).encode()
        listing = parsed(body, Representation.JSON.value)
        assert listing is not None
        check_rendering(listing)
        assert b"data-dist-info-metadata" not in project_json(listing, NORA)


def test_the_reason_of_an_active_project_survives() -> None:  # STAT-1, PROXY-3
    listing = Listing(project=PROJECT, status_reason="no longer archived")
    for page, content_type in ((project_json, Representation.JSON), (project_html, Representation.HTML)):
        again = parsed(page(listing, NORA, NORA), content_type.value, NORA)
        assert again is not None
        assert again.status_reason == listing.status_reason


@pytest.mark.parametrize(
    "host", ["a b.example", "<a href='x'>h.example", "h.example,x", "h|x", "h^x", "%41.example", "u v@h.example"]
)
def test_no_file_is_on_an_impossible_host(host: str) -> None:  # PROXY-14
    listing = parsed(json.dumps({"files": [ENTRY | {"url": f"https://{host}/foo-1.0.zip"}]}).encode())
    assert listing is not None
    assert listing.files == ()


# Choosing a representation

OFFERED = [representation.value for representation in Representation]
LATEST = "application/vnd.pypi.simple.latest+json"
RANGES = [*OFFERED, "text/*", "application/*", "*/*", "image/png", "application/json", LATEST]


@st.composite
def accepted(draw: st.DrawFn) -> tuple[str, str, float, bool]:
    """A media range as RFC 9110 12.5.1 writes it; its type in lower case, its weight, and whether it has parameters."""
    name = draw(st.sampled_from(RANGES))
    weight = draw(st.none() | st.sampled_from([0, 1000]) | st.integers(0, 1000))
    parameter = draw(st.sampled_from([None, None, "level=1", 'x="a,b;q=0;\\""', "Charset=UTF-8"]))
    space = st.sampled_from(["", " ", "\t", "  "])
    written = draw(st.sampled_from([name, name.upper(), name.title()]))
    if parameter:
        written += f"{draw(space)};{draw(space)}{parameter}"
    if weight is not None:
        shortest = f"{weight / 1000:.3f}".rstrip("0").rstrip(".")
        number = draw(st.sampled_from([shortest, f"{weight / 1000:.3f}"]))
        written += f"{draw(space)};{draw(space)}{draw(st.sampled_from('qQ'))}={number}"
    special = parameter is not None and not parameter.startswith("Charset")
    return draw(space) + written + draw(space), name, 1.0 if weight is None else weight / 1000, special


def welcome(content_type: str, ranges: list[tuple[str, str, float, bool]]) -> float:
    """How welcome a content type is by RFC 9110: what the most specific range says that covers it, and of equals the highest."""
    best: dict[int, float] = {}
    for _, name, weight, special in ranges:
        name = name.replace("latest", "v1")
        if special and weight == 0:
            continue  # this form of it is refused, and another one is offered
        for precedence, pattern in ((4 - special, content_type), (2, content_type.partition("/")[0] + "/*"), (1, "*/*")):
            if name == pattern:
                best[precedence] = max(best.get(precedence, 0.0), weight)
    return best[max(best)] if best else 0.0


@given(st.lists(accepted(), max_size=5), st.integers(0, 5))
def test_what_is_chosen_is_what_the_client_wants_most(ranges: list[tuple[str, str, float, bool]], cut: int) -> None:
    # NEG-2 to NEG-12
    written = [text for text, *_ in ranges]
    fields = [",".join(part) for part in (written[:cut], written[cut:]) if part]
    wanted = {representation: welcome(representation.value, ranges) if ranges else 1.0 for representation in Representation}
    chosen = None
    with suppress(NotAcceptable):
        chosen = choose(fields)
    best = max(Representation, key=lambda representation: wanted[representation])  # the first of equals
    assert chosen is (best if wanted[best] > 0 else None)


pieces = st.sampled_from([*',;="\\ */\t', "q", "q=0", ";q=1", "0.5", *RANGES, "TEXT/HTML", "\xff", "\0"])
fields = st.text(max_size=30) | st.lists(pieces, max_size=12).map("".join)


@given(st.lists(fields, max_size=3), st.none() | st.sampled_from(RANGES) | texts)
@example(["text/html;" + ";" * 20_000], None)
@example(["text/html;x=" + '"\\' * 20_000], None)
def test_any_field_chooses_or_is_refused(accept: list[str], parameter: str | None) -> None:  # NEG-13, NEG-15
    with bounded_time(), suppress(NotAcceptable):
        chosen = choose(accept, parameter)
        assert chosen in Representation
        if parameter:
            assert parameter.strip().replace(" ", "+").lower().replace("latest", "v1") == chosen.value
        elif "".join(accept).strip(" \t,"):
            family = chosen.value.partition("/")[0]
            field = ",".join(accept).lower().replace("latest", "v1")
            assert any(name in field for name in (chosen.value, f"{family}/*", "*/*"))


# Names, versions, file names


@given(st.text(max_size=20) | spellings)
def test_a_name_is_normalized_as_the_standard_says_or_is_none(text: str) -> None:  # NAME-1, NAME-2, NAME-4
    name = normalize(text)
    valid = re.fullmatch(r"([A-Z0-9]|[A-Z0-9][A-Z0-9._-]*[A-Z0-9])", text, re.IGNORECASE | re.ASCII)
    assert (name is None) == (valid is None)
    if name is not None:
        assert name == re.sub(r"[-_.]+", "-", text).lower() == canonicalize_name(text) == normalize(name)
        assert all(normalize(other) == name for other in (text.upper(), text.replace("-", "_._"), name.replace("-", ".")))


@given(versions | st.text("0123456789.!+abcrvdepostlh-_ ", max_size=20) | texts)
def test_a_version_is_read_as_the_reference_does(text: str) -> None:  # PEP440-1
    version = parse_version(text)
    expected = None
    with suppress(ValueError):
        expected = Version(text)
    assert version == expected
    if version is not None:
        assert str(version) == str(expected)
        assert parse_version(str(version)) == version
        assert filenames.parse_version(text) == (version if text.isascii() else None)


ENDINGS = {
    "bdist_wheel": ["-py3-none-any.whl", "-1build-cp312-cp312-manylinux_2_17_x86_64.manylinux2014_x86_64.whl"],
    "sdist": [".tar.gz", ".zip"],
    "bdist_egg": ["-py3.8.egg", "-py2.7-linux-x86_64.egg"],
}
endings = st.sampled_from([(kind, ending) for kind, endings in ENDINGS.items() for ending in endings])


@given(spellings, versions, endings)
def test_the_name_of_a_file_tells_its_project_and_version(spelling: str, version: str, end: tuple[str, str]) -> None:
    # WHL-1, SDIST-1, PEP440-2
    kind, ending = end
    project = normalize(spelling)
    assert project is not None
    # Names of binary files hold no "-", for packaging no "__" either, and no file has ".." in its name here.
    written = re.sub(r"\.+", ".", spelling if kind == "sdist" else re.sub(r"[-_]+", "_", spelling))
    filename = f"{written}-{version}{ending}"
    distribution = filenames.parse(filename, spelling)
    assert (distribution.filename, distribution.name, distribution.kind) == (filename, project, kind)
    assert distribution.version == Version(version)
    assert version_of(filename, project) == str(Version(version))
    plain = set(version) <= set("0123456789.")
    other = f"{project.replace('-', '_')}-{Version(version)}{'.0' if plain else ''}{ending}"
    assert filenames.parse(other, project).identity == distribution.identity
    assert is_distribution(filename)
    assert is_safe_filename(filename)


filename_pieces = st.sampled_from([*"-.+_!1a", "foo", "py3", ".whl", ".tar.gz", ".egg", "-py3-none-any.whl", "1.0"])
any_names = odd_names | st.text(max_size=30) | st.lists(filename_pieces, max_size=15).map("".join)


@given(any_names, spellings | texts)
def test_any_file_name_is_parsed_or_refused(filename: str, hint: str) -> None:  # UP-12, PROXY-15
    assert isinstance(version_of(filename, normalize(hint) or PROJECT), str)
    try:
        with bounded_time():
            distribution = filenames.parse(filename, hint)
    except Invalid as error:
        check_refusal(error)
        return
    assert filenames.is_plain(filename)
    assert is_safe_filename(filename)
    assert is_distribution(filename)
    assert normalize(distribution.name) == distribution.name
    assert version_of(filename, distribution.name) == str(distribution.version)
