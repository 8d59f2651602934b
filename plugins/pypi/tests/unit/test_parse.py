from pathlib import Path

import msgspec
import pytest

from nora.api import Document, Listing, UpstreamInvalid
from nora_pypi.parse import parse_listing

CORPUS = Path(__file__).parent.parent / "corpus"
JSON = b'{"meta": {"api-version": "1.0"}, "files": [{"filename": "foo-1.0.zip", "url": "foo-1.0.zip"}]}'
HTML = b"<!DOCTYPE html><html><title>Links for foo</title><body><a href=foo-1.0.zip>foo</a></body></html>"


def read(body: bytes, content_type: str) -> Listing:
    return parse_listing("foo", Document(url="https://index.example/simple/foo/", content_type=content_type, body=body))


@pytest.mark.parametrize("body", [JSON, HTML])
def test_both_formats_tell_the_same(body: bytes) -> None:  # JSON-16
    listing = read(body, "text/html" if body is HTML else "application/json")
    assert [file.name for file in listing.files] == ["foo-1.0.zip"]
    assert listing.files[0].url == "https://index.example/simple/foo/foo-1.0.zip"
    assert listing.project == "foo"


@pytest.mark.parametrize(
    "content_type",
    [
        *(
            "application/vnd.pypi.simple.v1+json",
            "Application/Vnd.PyPI.Simple.v1+JSON; charset=utf-8",
            "application/vnd.pypi.simple.latest+json",
        ),
        *(
            "application/json",
            "application/json;charset=utf-8",
            "text/json",
            "text/plain",
            "application/octet-stream",
            "",
            " ;",
            "text/html",
        ),
    ],
)
def test_json_is_recognized(content_type: str) -> None:  # PROXY-2
    assert len(read(JSON, content_type).files) == 1
    assert len(read(b"\xef\xbb\xbf\r\n " + JSON, content_type).files) == 1


@pytest.mark.parametrize(
    "content_type",
    [
        *(
            "application/vnd.pypi.simple.v1+html",
            "application/vnd.pypi.simple.latest+html ; q=1",
            "text/html",
            "TEXT/HTML; charset=UTF-8",
        ),
        *("application/xhtml+xml", "text/plain", "application/octet-stream", "application/json", ""),
    ],
)
def test_html_is_recognized(content_type: str) -> None:  # PROXY-2
    assert len(read(HTML, content_type).files) == 1
    assert len(read(b"\xef\xbb\xbf\n" + HTML, content_type).files) == 1


def test_html_need_not_begin_with_a_tag_when_its_type_is_known() -> None:
    assert len(read(b"Files: <a href=foo-1.0.zip>foo</a>", "text/html").files) == 1
    with pytest.raises(UpstreamInvalid, match="neither"):
        read(b"Files: <a href=foo-1.0.zip>foo</a>", "text/plain")


def test_html_in_sixteen_bits_is_recognized() -> None:
    assert len(read(HTML.decode().encode("utf-16"), "text/plain").files) == 1


@pytest.mark.parametrize(
    "content_type", ["image/png", "application/zip", "text/xml", "application/pdf", "multipart/mixed", "nonsense", "text/html2"]
)
@pytest.mark.parametrize("body", [JSON, HTML])
def test_other_types_are_no_index_pages(body: bytes, content_type: str) -> None:  # PROXY-13
    with pytest.raises(UpstreamInvalid, match="content type"):
        read(body, content_type)


@pytest.mark.parametrize("content_type", ["application/vnd.pypi.simple.v2+json", "application/vnd.pypi.simple.v2+html"])
def test_another_major_version_in_the_type_is_refused(content_type: str) -> None:  # VER-6
    with pytest.raises(UpstreamInvalid, match="version 1"):
        read(JSON, content_type)


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (b"", ""),
        (b"", "text/html"),
        (b"", "application/json"),
        (b"\x1f\x8b\x08\x00", "application/octet-stream"),
        (b"not found", "text/plain"),
        (b"[]", "application/json"),
        (JSON[:-1], "application/json"),
        (HTML[:-20], "application/json"),
        (HTML, "application/vnd.pypi.simple.v1+json"),
        (JSON, "application/vnd.pypi.simple.v1+html"),
        (b'{"message": "An error occurred"}', "text/plain"),
        (b"<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>", "text/plain"),
        (b"<html><body>Please log in</body></html>", "text/html"),
    ],
)
def test_what_is_no_index_page_is_refused(body: bytes, content_type: str) -> None:  # PROXY-13
    with pytest.raises(UpstreamInvalid) as caught:
        read(body, content_type)
    assert caught.value.url == "https://index.example/simple/foo/"
    assert "\n" not in str(caught.value)


def test_every_page_of_the_corpus_is_read_or_refused() -> None:
    pages = sorted(CORPUS.iterdir())
    assert len(pages) >= 20
    for page in pages:
        try:
            listing = read(page.read_bytes(), "")
        except UpstreamInvalid:
            continue
        assert msgspec.msgpack.decode(msgspec.msgpack.encode(listing), type=Listing) == listing
