"""What handlers return, as answers: HEAD, conditions, compression, files."""

from __future__ import annotations

import gzip

import pytest
from sanic.response import HTTPResponse, empty, html, json, raw, redirect, text

from nora.api import Content, NotFound, Page, RegistryBlueprint
from nora.http.answers import HTML_POLICY

PAGE = b"<a>link</a>\n" * 500
DATA = bytes(range(256)) * 2000
UNEQUAL = {"date", "x-request-id"}


@pytest.fixture
def compressed() -> list[bytes]:
    """What was compressed so far of the page at ``/later``."""
    return []


@pytest.fixture
def later_page(compressed) -> Page:
    async def compress() -> bytes:
        compressed.append(PAGE)
        return gzip.compress(PAGE, mtime=0)

    return Page(PAGE, "text/html; charset=utf-8", vary=("Accept",), etag="page", gzip_later=compress)


@pytest.fixture
def blueprint(source, later_page) -> RegistryBlueprint:
    made = RegistryBlueprint()

    @made.read("/page")
    async def page(request):
        return Page(
            PAGE,
            "text/html; charset=utf-8",
            vary=("Accept",),
            max_age_seconds=60,
            etag="page",
            gzip_body=gzip.compress(PAGE, mtime=0),
            headers={"X-Serial": "7"},
        )

    @made.read("/later")
    async def later(request):
        return later_page

    @made.read("/plain")
    async def small(request):
        return Page(b"small", "text/plain")

    @made.read("/file")
    async def file(request):
        return Content("f", source(DATA, held=True), etag="file", content_type="application/zip", headers={"X-A": "b"})

    @made.read("/untagged")
    async def untagged(request):
        return Content("f", source(DATA, held=True))

    @made.read("/missing")
    async def missing(request):
        raise NotFound("file", "x")

    @made.read("/json")
    async def document(request):
        return json({"a": 1}, headers={"X-A": "b"})

    @made.read("/moved")
    async def moved(request):
        return redirect("/page", status=301)

    return made


@pytest.fixture
def client(serving, blueprint):
    return serving(blueprint).connect()


def comparable(answer) -> dict[str, str]:
    return {name: value for name, value in answer.fields if name not in UNEQUAL}


# HTTP-1, HTTP-2
@pytest.mark.parametrize("fields", [{}, {"Accept_Encoding": "gzip"}, {"If_None_Match": '"page", "file"'}, {"If_Match": '"x"'}])
@pytest.mark.parametrize("target", ["/page", "/plain", "/file", "/untagged", "/missing", "/json", "/moved", "/none", "/health"])
def test_head_has_gets_status_and_fields_and_no_body(client, target, fields):
    get, head = client.ask("GET", target, **fields), client.ask("HEAD", target, **fields)
    assert head.status == get.status
    assert comparable(head) == comparable(get)
    assert client.buffer == b""
    if get.status not in (204, 304):
        assert head["content-length"] == str(len(get.body))


# Pages


def test_a_page_has_its_fields(client):
    answer = client.ask("GET", "/page")
    assert (answer.status, answer.body) == (200, PAGE)
    assert comparable(answer) == {
        "etag": '"page"',
        "cache-control": "max-age=60, must-revalidate",
        "content-security-policy": HTML_POLICY,
        "x-content-type-options": "nosniff",
        "X-Serial": "7",
        "vary": "Accept, Accept-Encoding",
        "content-type": "text/html; charset=utf-8",
        "content-length": str(len(PAGE)),
        "connection": "keep-alive",
    }


def test_a_page_without_a_tag_has_one_made_of_its_content(client):
    assert client.ask("GET", "/plain")["etag"] == f'"{Page(b"small", "text/plain").etag}"'


# HTTP-11
def test_the_gzip_form_is_another_representation(client):
    plain, packed = client.ask("GET", "/page"), client.ask("GET", "/page", Accept_Encoding="br, gzip")
    assert packed["content-encoding"] == "gzip"
    assert gzip.decompress(packed.body) == PAGE
    assert packed["content-length"] == str(len(packed.body))
    assert plain["content-encoding"] is None
    assert plain["etag"] != packed["etag"]
    assert not packed["etag"].startswith("W/")
    assert plain["vary"] == packed["vary"] == "Accept, Accept-Encoding"
    assert client.ask("GET", "/page", Accept_Encoding="gzip;q=0")["content-encoding"] is None
    # What is not worth it does not depend on it.
    assert client.ask("GET", "/plain", Accept_Encoding="gzip")["vary"] is None


def test_a_page_is_compressed_only_for_who_wants_it_so_and_lacks_it(client, compressed):
    # HTTP-7, HTTP-11
    plain = client.ask("GET", "/later")
    unchanged = client.ask("GET", "/later", Accept_Encoding="gzip", If_None_Match='"page-gzip"')
    assert (plain.body, unchanged.status, compressed) == (PAGE, 304, [])
    packed, again = (client.ask("GET", "/later", Accept_Encoding="gzip") for _ in range(2))
    assert gzip.decompress(packed.body) == gzip.decompress(again.body) == PAGE
    assert packed["content-encoding"] == "gzip"
    assert packed["etag"] == unchanged["etag"] == '"page-gzip"'
    assert {answer["vary"] for answer in (plain, unchanged, packed)} == {"Accept, Accept-Encoding"}
    assert compressed == [PAGE]


# HTTP-7, HTTP-8
@pytest.mark.parametrize("sent", ['"page"', 'W/"page"', '"other", "page"', '"other",W/"page" ,', "*", '"page-gzip", "page"'])
def test_a_matching_tag_is_304_with_the_fields_of_the_200(client, sent):
    full, short = client.ask("GET", "/page"), client.ask("GET", "/page", If_None_Match=sent)
    assert (short.status, short.body) == (304, b"")
    for name in ("etag", "vary", "cache-control", "X-Serial"):
        assert short[name] == full[name]
    assert short["content-length"] is None
    assert short["content-type"] is None


@pytest.mark.parametrize("sent", ['"other"', "page", '"pag"', '"page', "", '"PAGE"', "nonsense ö"])
def test_another_tag_is_200(client, sent):
    assert client.ask("GET", "/page", If_None_Match=sent).status == 200


def test_several_lines_are_one_list(client):
    # NEG-10
    client.send(b'GET /page HTTP/1.1\r\nHost: x\r\nIf-None-Match: "a"\r\nIf-None-Match: "page"\r\n\r\n')
    assert client.answer().status == 304


def test_each_form_has_its_own_304(client):
    packed = client.ask("GET", "/page", Accept_Encoding="gzip")["etag"]
    assert client.ask("GET", "/page", Accept_Encoding="gzip", If_None_Match=packed).status == 304
    assert client.ask("GET", "/page", If_None_Match=packed).status == 200
    assert client.ask("GET", "/page", Accept_Encoding="gzip", If_None_Match='"page"').status == 200


# HTTP-10
@pytest.mark.parametrize("target", ["/page", "/file"])
def test_dates_play_no_part(client, target):
    tag = target.replace("/", '"') + '"'
    future = "Wed, 01 Jan 2200 00:00:00 GMT"
    assert client.ask("GET", target, If_Modified_Since=future).status == 200
    assert client.ask("GET", target, If_None_Match='"other"', If_Modified_Since=future).status == 200
    assert client.ask("GET", target, If_None_Match=tag, If_Modified_Since="nonsense").status == 304


@pytest.mark.parametrize("target", ["/page", "/file"])
def test_a_failed_precondition_is_412(client, target):
    assert client.ask("GET", target, If_Match='"other"').status == 412
    assert client.ask("GET", target, If_Match="*").status == 200
    assert client.ask("GET", target, If_Match=target.replace("/", '"') + '"').status == 200


# Files


# FILE-8, FILE-9, FILE-11
def test_a_file_has_its_fields(client):
    answer = client.ask("GET", "/file", Accept_Encoding="gzip")
    assert (answer.status, answer.body) == (200, DATA)
    assert comparable(answer) == {
        "cache-control": "max-age=31536000, immutable",
        "X-A": "b",
        "etag": '"file"',
        "content-type": "application/zip",
        "x-content-type-options": "nosniff",
        "accept-ranges": "bytes",
        "content-length": str(len(DATA)),
        "connection": "keep-alive",
    }


def test_a_file_whose_digest_is_not_known_has_no_tag(client):
    answer = client.ask("GET", "/untagged")
    assert answer["etag"] is None
    assert client.ask("GET", "/untagged", If_None_Match='""').status == 200
    assert client.ask("GET", "/untagged", Range="bytes=0-1", If_Range='""').status == 200


def test_a_files_304_has_the_fields_of_the_200(client):
    full, short = client.ask("GET", "/file"), client.ask("GET", "/file", If_None_Match='"file"', Range="bytes=0-1")
    assert short.status == 304
    for name in ("etag", "cache-control", "X-A"):
        assert short[name] == full[name]


# FILE-3, FILE-5, FILE-6, FILE-7
@pytest.mark.parametrize(
    "fields",
    [
        {"Range": "lines=0-1"},
        {"Range": "bytes=0-1,4-5"},
        {"Range": "bytes=5-1"},
        {"Range": "bytes=-"},
        {"Range": "nonsense"},
        {"Range": "bytes=0-1", "If_Range": '"other"'},
        {"Range": "bytes=0-1", "If_Range": 'W/"file"'},
        {"Range": "bytes=0-1", "If_Range": "Wed, 01 Jan 2200 00:00:00 GMT"},
    ],
)
def test_what_is_no_range_to_be_served_gets_the_whole_file(client, fields):
    answer = client.ask("GET", "/file", **fields)
    assert (answer.status, len(answer.body), answer["content-range"]) == (200, len(DATA), None)


def test_head_knows_no_range(client):
    answer = client.ask("HEAD", "/file", Range="bytes=0-1")
    assert (answer.status, answer["content-length"]) == (200, str(len(DATA)))


# FILE-4
@pytest.mark.parametrize("asked", [f"bytes={len(DATA)}-", "bytes=99999999999999999999999-", "bytes=-0"])
def test_a_range_outside_of_the_file_is_416_with_its_length(client, asked):
    answer = client.ask("GET", "/file", Range=asked)
    assert (answer.status, answer["content-range"]) == (416, f"bytes */{len(DATA)}")
    assert client.ask("GET", "/file").status == 200


@pytest.mark.parametrize(
    ("method", "fields", "starts"),
    [
        ("GET", {}, 1),
        ("GET", {"Range": "bytes=0-1"}, 1),
        ("GET", {"Range": "bytes=99999999-"}, 0),
        ("GET", {"If_None_Match": '"t"'}, 0),
        ("GET", {"If_Match": '"x"'}, 0),
        ("HEAD", {}, 0),
        ("HEAD", {"If_None_Match": '"t"'}, 0),
    ],
)
def test_a_source_is_closed_whatever_the_answer_is_and_started_only_for_bytes(serving, source, until, method, fields, starts):
    file = source(b"data", b"more")
    blueprint = RegistryBlueprint()

    @blueprint.read("/f")
    async def read(request):
        return Content("f", file, etag="t")

    serving(blueprint).ask(method, "/f", **fields)
    until(lambda: file.closed == 1)
    assert file.started == starts


# Plugins' own responses


def ask_once(serving, response) -> object:
    blueprint = RegistryBlueprint()

    @blueprint.read("/r")
    async def read(request):
        return response

    return serving(blueprint).ask("GET", "/r")


def test_a_plugins_response_keeps_its_status_fields_and_body(serving):
    answer = ask_once(serving, json({"a": 1}, status=203, headers={"X-A": "b", "ETag": '"own"'}))
    assert (answer.status, answer.body) == (203, b'{"a":1}')
    assert (answer["content-type"], answer["x-a"], answer["etag"]) == ("application/json", "b", '"own"')
    assert answer["x-content-type-options"] == "nosniff"


def test_a_plugins_framing_is_ours(serving):
    response = raw(b"12345", headers={"Content-Length": "99", "Transfer-Encoding": "chunked", "Connection": "upgrade"})
    answer = ask_once(serving, response)
    assert answer.body == b"12345"
    assert [answer.names.count(name) for name in ("content-length", "transfer-encoding", "connection")] == [1, 0, 1]


def test_a_plugins_response_may_repeat_a_field(serving):
    response = text("ok")
    response.add_cookie("a", "1")
    response.add_cookie("b", "2")
    assert ask_once(serving, response).names.count("set-cookie") == 2


def test_a_plugins_own_nosniff_is_not_doubled(serving):
    answer = ask_once(serving, html("<p>", headers={"X-Content-Type-Options": "nosniff"}))
    assert answer.names.count("x-content-type-options") == 1


@pytest.mark.parametrize("response", [empty(), HTTPResponse(status=201), raw(b"")])
def test_an_empty_response_is_empty(serving, response):
    answer = ask_once(serving, response)
    assert answer.body == b""
    assert answer["content-type"] is None


# HTTP-16, CWE-113
@pytest.mark.parametrize("place", ["/a\r\nSet-Cookie: x=1", "/a\nb", "/ä"])
def test_a_redirect_is_one_field_whatever_it_holds(serving, place):
    answer = ask_once(serving, HTTPResponse(status=301, headers={"Location": place}))
    assert answer.status == 301
    assert answer.names.count("location") == 1
    assert "set-cookie" not in answer.names


@pytest.mark.parametrize("response", [None, "text", b"bytes", 7, {"a": 1}])
def test_what_is_no_response_is_our_error(serving, response):
    assert ask_once(serving, response).status == 500
