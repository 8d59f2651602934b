"""What is written is what is read: listings through our own pages, and anchors in every way in which HTML may be written.

``NORA_TEST_CASES`` says how many cases each test tries, see CONTRIBUTING.md.
"""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import quote

import msgspec
from hypothesis import given
from hypothesis import strategies as st
from packaging.version import Version

from nora.api import Document, File, Listing, Sidecar
from nora_pypi import parse_html, parse_json
from nora_pypi.names import NormalizedName, version_of
from nora_pypi.render import project_html, project_json

from .strategies import odd_names, texts, versions

PROJECT = NormalizedName("foo")
PAGE = "https://index.example/simple/foo/"
NORA = "https://nora.example/simple/foo/"

good_names = st.builds(
    lambda spelling, version, ending: f"{spelling}-{version}{ending}",
    st.sampled_from(["foo", "Foo", "FOO"]),
    versions,
    st.sampled_from(
        ["-py3-none-any.whl", "-1-cp312-cp312-manylinux_2_17_x86_64.whl", ".tar.gz", ".zip", "-py3.8.egg", ".TAR.BZ2"]
    ),
)
# HTML cannot hold the others: see the tests of the renderer.
html_texts = st.text(st.characters(exclude_categories=["C"]), max_size=12)
algorithms = st.sampled_from(["sha256", "sha512", "md5", "blake2b_256", "sha3_256", "unheard_of"])
digests = st.text("0123456789abcdef", min_size=32, max_size=64)
values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False, allow_infinity=False) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=5,
)
FILE_KEYS = {
    *("filename", "url", "hashes", "size", "upload-time", "yanked", "requires-python", "gpg-sig", "provenance"),
    *("core-metadata", "dist-info-metadata", "data-dist-info-metadata"),
}
PAGE_KEYS = {"meta", "name", "files", "versions", "project-status", "api-version", "alternate-locations"}
unknown_of_files = st.dictionaries(texts.filter(lambda key: key not in FILE_KEYS), values, max_size=2)
unknown_of_pages = st.dictionaries(texts.filter(lambda key: key not in PAGE_KEYS), values, max_size=2)
unknown_of_meta = st.dictionaries(texts.filter(lambda key: key != "api-version"), values, min_size=1, max_size=2)
attributes = st.dictionaries(st.from_regex(r"data-x[a-z0-9._-]{0,5}", fullmatch=True), html_texts, max_size=2)


@st.composite
def upstream_files(draw: st.DrawFn, *, html: bool) -> File:
    """A file with every fact that the format can tell, at the place where a page of ours tells it."""
    name = draw(good_names | odd_names)
    url = NORA + quote(name, safe="")
    text = html_texts if html else texts
    known = st.dictionaries(algorithms, digests, max_size=1 if html else 3)
    extra: dict[str, Any] = draw(attributes if html else unknown_of_files)
    sidecars = {suffix: Sidecar(url=url + suffix) for suffix in draw(st.sets(st.sampled_from([".asc", ".provenance"])))}
    if draw(st.booleans()):
        sidecars[".metadata"] = Sidecar(url=f"{url}.metadata", digests=draw(known))
    elif not html and draw(st.booleans()):
        extra["core-metadata"] = False
    if ".asc" not in sidecars and draw(st.booleans()):
        extra["gpg-sig"] = False
    if not html and ".provenance" not in sidecars and draw(st.booleans()):
        extra["provenance"] = None
    if draw(st.booleans()):
        extra["requires-python"] = draw(text if html else st.none() | text)
    return File(
        name=name,
        version=version_of(name, PROJECT),
        url=url,
        size=None if html else draw(st.none() | st.integers(0, 2**63 - 1)),
        published=None if html else draw(st.none() | st.datetimes().map(lambda moment: moment.isoformat() + "Z")),
        digests=draw(known),
        yanked=draw(st.booleans() | text.filter(bool)),
        sidecars=sidecars,
        extra=extra,
    )


@st.composite
def listings(draw: st.DrawFn, *, html: bool) -> Listing:
    """What the parser of a format makes of a page of ours."""
    text = html_texts if html else texts
    status = draw(st.sampled_from(["active", "active", "archived", "deprecated"]))
    extra: dict[str, Any] = {} if html else draw(unknown_of_pages)
    urls = st.lists(text, min_size=1, max_size=2)
    if draw(st.booleans()):
        extra["meta"] = {"tracks": draw(urls)} if html else draw(unknown_of_meta | urls.map(lambda urls: {"tracks": urls}))
    if draw(st.booleans()):
        extra["alternate-locations"] = draw(urls)
    return Listing(
        project=PROJECT,
        files=tuple(draw(st.lists(upstream_files(html=html), max_size=3, unique_by=lambda file: file.name))),
        status=status,
        status_reason="" if status == "active" else draw(text),
        extra=extra,
    )


def json_of(listing: Listing) -> tuple[bytes, Listing]:
    """Our JSON page of a listing, and what it is read as."""
    body = project_json(listing, NORA, NORA)
    return body, parse_json.parse(PROJECT, Document(url=NORA, content_type="", body=body))


def html_of(listing: Listing) -> tuple[bytes, Listing]:
    """Our HTML page of a listing, and what it is read as."""
    body = project_html(listing, NORA, NORA)
    return body, parse_html.parse(PROJECT, Document(url=NORA, content_type="", body=body))


@given(listings(html=False), st.lists(versions, max_size=3))
def test_a_json_page_tells_all_of_a_listing(listing: Listing, more: list[str]) -> None:  # PROXY-3, JSON-6, JSON-7
    listing = msgspec.structs.replace(listing, extra={**listing.extra, "versions": more})
    body, again = json_of(listing)
    told = again.extra["versions"]
    sized = all(file.size is not None for file in listing.files)
    extra = {**listing.extra, "versions": told, "api-version": "1.4" if sized else "1.0"}
    assert again == msgspec.structs.replace(listing, extra=extra)
    assert told[: len(set(more))] == list(dict.fromkeys(more))
    assert len(set(told)) == len(told)
    known = {Version(version) for version in (*more, *(file.version for file in listing.files)) if version}
    assert {Version(version) for version in told} == known
    assert project_json(again, NORA, NORA) == body


@given(listings(html=True))
def test_an_html_page_tells_all_of_a_listing(listing: Listing) -> None:  # PROXY-3, HTML-4, HTML-8
    body, again = html_of(listing)
    version = "1.0" if listing.files and listing.status == "active" else "1.4"
    assert again == msgspec.structs.replace(listing, extra={**listing.extra, "api-version": version})
    assert project_html(again, NORA, NORA) == body


@given(listings(html=False))
def test_both_pages_tell_the_same(listing: Listing) -> None:  # JSON-16
    _, json = json_of(listing)
    _, html = html_of(listing)
    assert (html.status, len(html.files)) == (json.status, len(json.files))
    for short, full in zip(html.files, json.files, strict=True):
        assert (short.name, short.version, short.url) == (full.name, full.version, full.url)
        assert short.digests.items() <= full.digests.items()
        assert bool(short.digests) == bool(full.digests)
        assert (short.yanked is False) == (full.yanked is False)
        assert short.sidecars.keys() == full.sidecars.keys()
        assert ("requires-python" in short.extra) == (full.extra.get("requires-python") is not None)


# HTML as others write it

ESCAPES: dict[str, dict[str, str] | None] = {
    "named": {"&": "&amp;", "<": "&lt;", ">": "&gt;", "'": "&apos;", '"': "&quot;"},
    "decimal": {character: f"&#{ord(character)};" for character in "&<>'\""},
    "hexadecimal": {character: f"&#x{ord(character):X};" for character in "&<>'\""},
    "as few as possible": {"&": "&amp;", "'": "&#39;", '"': "&#34;"},
    "all": None,
}
spaces = st.sampled_from([" ", "  ", "\n", "\t", "\r\n ", " / "])


def spelled(name: str) -> st.SearchStrategy[str]:
    """A name of an element or an attribute."""
    return st.sampled_from([name, name.upper(), name.title()])


@st.composite
def valued(draw: st.DrawFn, value: str) -> str:
    """An attribute's value with its ``=``, quoted and escaped in one of the ways of HTML."""
    if not value and draw(st.booleans()):
        return ""
    quotes = ["'", '"'] + ([""] if re.fullmatch(r"[\w.%!+#-]+", value, re.ASCII) else [])
    mark = draw(st.sampled_from(quotes))
    escapes = ESCAPES[draw(st.sampled_from(list(ESCAPES)))]
    text = "".join(f"&#{ord(letter)};" if escapes is None else escapes.get(letter, letter) for letter in value)
    return f"{draw(st.sampled_from(['=', ' = ', '= ']))}{mark}{text}{mark}"


@st.composite
def written_anchors(draw: st.DrawFn) -> tuple[str, File]:
    """An anchor in one of the many ways to write it, and the file that it means."""
    name = draw(good_names)
    digest = draw(st.none() | digests)
    requires, reason = draw(st.none() | html_texts), draw(st.none() | html_texts)
    announced = draw(st.sampled_from([None, "true", "TRUE", "sha256=" + "AB" * 32]))
    link = quote(name, safe=draw(st.sampled_from(["", "!+"])))
    written = {"href": link + (f"#sha256={digest}" if digest else "")}
    optional = {"data-requires-python": requires, "data-yanked": reason}
    optional[draw(st.sampled_from(["data-core-metadata", "data-dist-info-metadata"]))] = announced
    written |= {key: value for key, value in optional.items() if value is not None}
    order = draw(st.permutations(list(written.items())))
    inside = "".join(draw(spaces) + draw(spelled(key)) + draw(valued(value)) for key, value in order)
    text = draw(st.sampled_from(["", "foo", name]))
    end = draw(st.sampled_from(["</a>", "</A >", "<br>", "", "</a><br/>", "<!-- </a> -->"]))
    found = {"sha256": "ab" * 32} if announced and "=" in announced else {}
    file = File(
        name=name,
        version=version_of(name, PROJECT),
        url=PAGE + link,
        digests={"sha256": digest} if digest else {},
        yanked=False if reason is None else reason or True,
        sidecars={".metadata": Sidecar(url=f"{PAGE}{link}.metadata", digests=found)} if announced else {},
        extra={} if requires is None else {"requires-python": requires},
    )
    return f"<{draw(spelled('a'))}{inside}{draw(spaces)}>{text}{end}", file


FRAMES = [("", ""), ("<html><body>", "</body></html>"), ("\ufeff<!DOCTYPE html>\n<HTML><TITLE>x</TITLE><BODY>", "</BODY>")]
COMMENT = "<!-- <a href='foo-9.zip'>no</a> -->"
between = st.sampled_from(
    ["", "\n", "<br/>", "text &amp; more ", COMMENT, "<p>", "</p></b>", "<hr>", "<b><i></b>", "<table><tr>"]
)


@given(st.lists(written_anchors(), min_size=1, max_size=3), st.sampled_from(FRAMES), st.data())
def test_an_anchor_means_the_same_however_it_is_written(
    anchors: list[tuple[str, File]], frame: tuple[str, str], data: st.DataObject
) -> None:  # PROXY-5
    body = frame[0] + "".join(anchor + data.draw(between) for anchor, _ in anchors) + frame[1]
    expected: dict[str, File] = {}
    for _, file in anchors:
        expected.setdefault(file.name, file)
    listing = parse_html.parse(PROJECT, Document(url=PAGE, content_type="text/html", body=body.encode()))
    assert listing.files == tuple(expected.values())
