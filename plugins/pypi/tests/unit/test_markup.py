"""HTML that would keep the parser busy, and that what is taken out of pages changes nothing."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nora.api import Document, UpstreamInvalid
from nora_pypi import markup
from nora_pypi.parse_html import parse

URL = "https://index.example/simple/foo/"
CORPUS = Path(__file__).parent.parent / "corpus"
N = 8000


def page(inside: str) -> bytes:
    return f"<html><title>Links for foo</title>{inside}<a href=foo-1.0.zip>foo</a></body></html>".encode()


NUMBERED = [f"a{n}=x" for n in range(N)]
BOMBS = {
    "attributes": "<a " + " ".join(NUMBERED * 2) + ">",
    "attributes after a bracket in a value": "<a x='>' " + " ".join(NUMBERED) + ">",
    "attributes with brackets in values": "<a " + " ".join(f"a{n}='>'" for n in range(N)) + ">",
    "attributes without spaces": "<a " + "".join(f"a{n}='x'" for n in range(N)) + ">",
    "elements to be opened again": "".join(f"<b id={n}><p>" for n in range(N)),
    "elements to be closed": "<div>" * N + "</p>" * N,
    "pictures": "<svg>" * N + "</p>" * N,
    "templates": "<template>" * N + "</p>" * N,
    "headings": "<h1><a>" * N,
    "tables": "<table><tr><td><b id=x></table>" * N,
    "comments": "<!--" * N + "-->",
    "scripts": "<script>" * N + "</script>",
    "brackets": "<" * N * 10,
    "names": "<a" * N * 10,
    "names after attributes": "<a" + " x" * 900 + "<a" * N * 10,
    "quotes": "<div x='" * N + '"',
    "spaces": "<div" + " " * N * 20 + ">",
    "ends": "</div" * N + ">",
}


@pytest.mark.parametrize("name", BOMBS)
def test_no_page_keeps_the_parser_busy(name: str, takes_at_most) -> None:  # PROXY-20
    with takes_at_most(2):
        try:
            listing = parse("foo", Document(url=URL, content_type="text/html", body=page(BOMBS[name])))
        except UpstreamInvalid:
            pass
        else:
            assert {file.name for file in listing.files} <= {"foo-1.0.zip"}


def test_large_honest_pages_are_read() -> None:
    row = '<tr><td><img src="x.gif"></td><td><a href="foo-1.{0}.zip">foo</a></td><td>2021</td></tr>\n'
    item = '<li><code id="f{0}"><a href="foo-1.{0}.zip" data-yanked="<td> \'kept\'">foo</a></code></li>\n'
    for frame, line in (("<table>{}</table>", row), ("<ul>{}</ul>", item)):
        body = page(frame.format("".join(line.format(n) for n in range(1, 6001))))
        files = parse("foo", Document(url=URL, content_type="text/html", body=body)).files
        assert len(files) == 6001
        assert files[0].yanked == ("<td> 'kept'" if line is item else False)


def told(body: bytes) -> object:
    try:
        return parse("foo", Document(url=URL, content_type="text/html", body=body)).files
    except UpstreamInvalid:
        return "refused"


def slimmed(body: bytes) -> bytes:
    """The page as if it were a large one."""
    filler = b"<p></p>" * 1000
    return markup.tamed(body + b"<!--" + filler + b"-->", URL)


@pytest.mark.parametrize("name", sorted(path.name for path in CORPUS.glob("*.html") if path.name != "utf16.html"))
def test_what_is_taken_out_is_not_missed(name: str) -> None:
    body = (CORPUS / name).read_bytes()
    assert told(slimmed(body)) == told(body)


TOKENS = [
    *("<a href='foo-1.0.zip'>", "<A HREF=foo-1.1.zip ", "</a>", ">", "<!--", "-->", "--!>", "<!", "<?", "</", "'", '"', "<"),
    *(
        "<base href='//b.example/'>",
        "<script>",
        "</script>",
        "<title>",
        "</title>",
        "<textarea>",
        "</textarea>",
        "<div>",
        "</div>",
    ),
    *(
        "<td x='",
        "<b id=1>",
        "</b>",
        "<p>",
        "<h1>foo</h1>",
        "<noscript>",
        "<template>",
        "</template>",
        " data-yanked='<p>'",
        "text",
    ),
]


@given(st.lists(st.sampled_from(TOKENS), max_size=25).map("".join))
def test_what_is_taken_out_is_not_missed_in_any_page(inside: str) -> None:
    assert told(slimmed(page(inside))) == told(page(inside))
