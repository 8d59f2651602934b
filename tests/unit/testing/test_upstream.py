"""The scripted upstream, looked at through bare sockets and httpx's stock client."""

import asyncio
import hashlib
import json
import socket
import time
import urllib.error
import urllib.request

import httpx
import pytest

from nora.testing.upstream import Reply, ScriptedUpstream, Synthetic, sha256_of


@pytest.fixture
async def upstream():
    async with ScriptedUpstream() as running:
        yield running


@pytest.fixture
async def client(upstream):
    async with httpx.AsyncClient(base_url=upstream.url, trust_env=False, timeout=5) as made:
        yield made


async def raw(upstream: ScriptedUpstream, request: bytes) -> bytes:
    """All that comes back on a connection of its own; ends with an OSError if it was reset."""
    host, port = upstream.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        writer.write(request)
        return await asyncio.wait_for(reader.read(-1), 5)
    finally:
        writer.close()


async def test_reply_comes_with_honest_fields(upstream, client):
    upstream.add("/x", Reply(b"text", etag="1", last_modified="then", content_type="text/plain", headers={"X-A": "b"}))
    answer = await client.get("/x")
    assert (answer.status_code, answer.content) == (200, b"text")
    assert dict(answer.headers) == {
        "content-type": "text/plain",
        "etag": '"1"',
        "last-modified": "then",
        "accept-ranges": "bytes",
        "content-length": "4",
        "x-a": "b",
    }


async def test_given_fields_replace_the_servers(upstream, client):
    upstream.add("/x", Reply(b"text", headers={"content-type": "a/b", "ETag": "bare"}, etag="1"))
    answer = await client.get("/x")
    assert answer.headers.get_list("content-type") == ["a/b"]
    assert answer.headers.get_list("etag") == ["bare"]


async def test_what_has_no_script_is_not_found(upstream, client):
    assert (await client.get("/y")).status_code == 404


async def test_replies_come_in_order_and_the_last_one_stays(upstream, client):
    upstream.add("/x", Reply(status=500), Reply(b"1"), Reply(b"2"))
    assert [(await client.get("/x")).status_code for _ in range(2)] == [500, 200]
    assert [(await client.get("/x")).content for _ in range(2)] == [b"2", b"2"]
    upstream.add("/x")
    assert (await client.get("/x")).content == b""


async def test_requests_are_recorded_and_counted(upstream, client):
    begun = time.monotonic()
    await client.get("/x?a=1", headers={"X-Mark": "é".encode("latin-1")})
    await client.head("/x")
    first, second = upstream.requests
    assert (first.method, first.path, first.headers["x-mark"]) == ("GET", "/x?a=1", "é")
    assert begun <= first.at <= second.at <= time.monotonic()
    assert (upstream.count("/x"), upstream.count("/x", "HEAD"), upstream.count("/x?a=1"), upstream.count("/")) == (1, 1, 1, 0)


async def test_script_with_a_query_is_for_that_query(upstream, client):
    upstream.add("/x", Reply(b"any"))
    upstream.add("/x?a=1", Reply(b"one"))
    assert [(await client.get(path)).content for path in ("/x", "/x?a=1", "/x?a=2")] == [b"any", b"one", b"any"]


async def test_connection_is_kept(upstream, client):
    upstream.add("/x", Reply(b"text"))
    answer = await raw(upstream, b"GET /x HTTP/1.1\r\n\r\nHEAD /x HTTP/1.1\r\n\r\nGET /x HTTP/1.1\r\nConnection: close\r\n\r\n")
    assert answer.count(b"HTTP/1.1 200") == 3
    assert answer.count(b"\r\n\r\ntext") == 2


async def test_request_body_is_read_over(upstream):
    upstream.add("/x", Reply(b"text"))
    request = b"PUT /x HTTP/1.1\r\nContent-Length: 3\r\n\r\nabcGET /x HTTP/1.0\r\n\r\n"
    assert (await raw(upstream, request)).count(b"HTTP/1.1 200") == 2


@pytest.mark.parametrize(
    "garbage", [b"garbage\r\n\r\n", b"GET /\r\n\r\n", b"G" * 200_000, b"", b"GET / HTTP/1.1\r\nContent-Length: x\r\n\r\n"]
)
async def test_garbage_ends_the_connection_and_nothing_else(upstream, client, garbage):
    host, port = upstream.url.removeprefix("http://").split(":")
    _, writer = await asyncio.open_connection(host, int(port))
    writer.write(garbage)
    writer.close()
    assert (await client.get("/x")).status_code == 404


@pytest.mark.parametrize("field", ['"1"', 'W/"1"', '"0", "1"', "*"])
async def test_matching_tag_is_not_modified(upstream, client, field):
    upstream.add("/x", Reply(b"text", etag="1", last_modified="then"))
    answer = await client.get("/x", headers={"If-None-Match": field})
    assert (answer.status_code, answer.content, answer.headers["etag"]) == (304, b"", '"1"')
    assert "content-length" not in answer.headers


async def test_other_tag_is_sent_whole_whatever_the_date(upstream, client):
    upstream.add("/x", Reply(b"text", etag="1", last_modified="then"))
    answer = await client.get("/x", headers={"If-None-Match": '"2"', "If-Modified-Since": "then"})
    assert answer.status_code == 200
    assert (await client.get("/x", headers={"If-Modified-Since": "then"})).status_code == 304
    assert (await client.get("/x", headers={"If-Modified-Since": "later"})).status_code == 200


@pytest.mark.parametrize(
    ("field", "status", "body", "content_range"),
    [
        ("bytes=0-1", 206, b"01", "bytes 0-1/10"),
        ("bytes=8-", 206, b"89", "bytes 8-9/10"),
        ("bytes=-3", 206, b"789", "bytes 7-9/10"),
        ("bytes=-30", 206, b"0123456789", "bytes 0-9/10"),
        ("bytes=5-99", 206, b"56789", "bytes 5-9/10"),
        ("bytes=10-", 416, b"", "bytes */10"),
        ("bytes=-0", 416, b"", "bytes */10"),
        ("bytes=-", 200, b"0123456789", None),
        ("bytes=0-1,3-4", 200, b"0123456789", None),
        ("lines=0-1", 200, b"0123456789", None),
    ],
)
async def test_ranges(upstream, client, field, status, body, content_range):
    upstream.add("/x", Reply(b"0123456789"))
    answer = await client.get("/x", headers={"Range": field})
    assert (answer.status_code, answer.content, answer.headers.get("content-range")) == (status, body, content_range)


async def test_ranges_can_be_refused_and_made_conditional(upstream, client):
    upstream.add("/x", Reply(b"0123456789", ranges=False))
    assert (await client.get("/x", headers={"Range": "bytes=0-1"})).status_code == 200
    upstream.add("/x", Reply(b"0123456789", etag="1"))
    assert (await client.get("/x", headers={"Range": "bytes=0-1", "If-Range": '"1"'})).status_code == 206
    assert (await client.get("/x", headers={"Range": "bytes=0-1", "If-Range": '"2"'})).status_code == 200
    assert (await client.head("/x", headers={"Range": "bytes=0-1"})).status_code == 200


async def test_chunked_body(upstream, client):
    upstream.add("/x", Reply(b"0123456789", chunked=True, piece_bytes=4))
    assert b"\r\n\r\n4\r\n0123\r\n4\r\n4567\r\n2\r\n89\r\n0\r\n\r\n" in await raw(upstream, b"GET /x HTTP/1.0\r\n\r\n")
    assert (await client.get("/x")).content == b"0123456789"


@pytest.mark.parametrize("chunked", [False, True])
async def test_connection_is_reset_after_so_many_bytes(upstream, chunked):
    upstream.add("/x", Reply(b"0123456789", cut_after=4, chunked=chunked))
    host, port = upstream.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(b"GET /x HTTP/1.1\r\n\r\n")
    head = await reader.readuntil(b"\r\n\r\n")
    assert (b"Content-Length: 10" in head) is not chunked
    body = b"4\r\n0123\r\n" if chunked else b"0123"
    assert await reader.readexactly(len(body)) == body
    with pytest.raises(ConnectionResetError):
        await reader.read(1)
    writer.close()


@pytest.mark.parametrize("chunked", [False, True])
async def test_connection_is_closed_in_order_after_so_many_bytes(upstream, chunked):
    upstream.add("/x", Reply(b"0123456789", cut_after=10, chunked=chunked, cut_orderly=True))
    answer = await raw(upstream, b"GET /x HTTP/1.1\r\n\r\n")
    assert answer.endswith(b"a\r\n0123456789\r\n" if chunked else b"\r\n0123456789")


async def test_cut_beyond_the_end_does_not_happen(upstream, client):
    upstream.add("/x", Reply(b"0123456789", cut_after=11))
    assert (await client.get("/x")).content == b"0123456789"


@pytest.mark.parametrize("length", [4, 99])
async def test_wrong_length_is_claimed(upstream, length):
    upstream.add("/x", Reply(b"0123456789", content_length=length))
    answer = await raw(upstream, b"GET /x HTTP/1.1\r\n\r\n")
    assert b"Content-Length: %d\r\n" % length in answer
    assert answer.endswith(b"\r\n\r\n0123456789")


async def test_silence_before_the_answer_and_within(upstream, client):
    upstream.add("/hang", Reply(hang=True))
    upstream.add("/part", Reply(b"0123456789", hang_after=4))
    with pytest.raises(httpx.ReadTimeout):
        await client.get("/hang", timeout=0.1)
    received = []
    with pytest.raises(httpx.ReadTimeout):
        async with client.stream("GET", "/part", timeout=0.1) as answer:
            received += [piece async for piece in answer.aiter_raw()]
    assert upstream.count("/hang") == 1


async def test_delay_and_pauses_take_their_time(upstream, client):
    upstream.add("/x", Reply(b"0123", delay_seconds=0.1, pause_seconds=0.05, piece_bytes=1))
    begun = time.monotonic()
    assert (await client.get("/x")).content == b"0123"
    assert time.monotonic() - begun >= 0.25


async def test_offline_breaks_every_connection(upstream, client):
    upstream.add("/x", Reply(b"text"))
    assert (await client.get("/x")).status_code == 200
    upstream.offline = True
    for _ in range(2):
        with pytest.raises(httpx.TransportError):
            await client.get("/x")
    upstream.offline = False
    assert (await client.get("/x")).status_code == 200
    assert upstream.count("/x") == 2


async def test_stopping_does_not_wait_for_hanging_replies():
    async with ScriptedUpstream() as upstream:
        upstream.add("/x", Reply(hang=True))
        asking = asyncio.create_task(raw(upstream, b"GET /x HTTP/1.1\r\n\r\n"))
        while not upstream.requests:
            await asyncio.sleep(0.01)
    assert await asking == b""


def test_synthetic_bytes_are_the_same_however_they_are_read():
    body = Synthetic(200_000, seed=7)
    whole = body.read(0, 10**9)
    assert len(whole) == 200_000
    assert b"".join(body.read(offset, 777) for offset in range(0, 200_000, 777)) == whole
    assert body.read(65_530, 20) == whole[65_530:65_550]
    assert body.read(200_000, 5) == body.read(10**9, 5) == body.read(0, 0) == b""
    assert sha256_of(body) == hashlib.sha256(whole).hexdigest()
    assert whole != Synthetic(200_000, seed=8).read(0, 200_000)
    assert whole[:65_536] != whole[65_536:131_072]


async def test_large_synthetic_body_is_served(upstream, client):
    body = Synthetic(50_000_000)
    upstream.add("/x", Reply(body))
    digest = hashlib.sha256()
    async with client.stream("GET", "/x") as answer:
        async for piece in answer.aiter_raw():
            digest.update(piece)
    assert digest.hexdigest() == sha256_of(body)
    assert (await client.get("/x", headers={"Range": "bytes=40000000-40000009"})).content == body.read(40_000_000, 10)


async def test_file_is_served_from_disk(upstream, client, tmp_path):
    path = tmp_path / "x"
    path.write_bytes(b"0123456789" * 100_000)
    upstream.add("/x", Reply(path))
    assert (await client.get("/x")).content == path.read_bytes()
    assert sha256_of(path) == hashlib.sha256(path.read_bytes()).hexdigest()


async def test_json_project_leads_to_its_files(upstream, client):
    upstream.add_project(
        "demo",
        {"demo-1.0.tar.gz": b"sdist", "demo-1.0+local-py3-none-any.whl": Reply(b"wheel", status=503)},
        metadata={"demo-1.0+local-py3-none-any.whl": b"Metadata-Version: 2.1\n"},
        digests={"demo-1.0.tar.gz": ""},
        extra={"demo-1.0.tar.gz": {"yanked": "broken"}},
        delay_seconds=0.01,
    )
    page = await client.get("/simple/demo/")
    assert page.headers["content-type"] == "application/vnd.pypi.simple.v1+json"
    document = json.loads(page.content)
    assert (document["meta"], document["name"]) == ({"api-version": "1.0"}, "demo")
    sdist, wheel = document["files"]
    assert sdist == {
        "filename": "demo-1.0.tar.gz",
        "url": "../../files/demo/demo-1.0.tar.gz",
        "hashes": {},
        "size": 5,
        "yanked": "broken",
    }
    assert wheel["hashes"] == {"sha256": hashlib.sha256(b"wheel").hexdigest()}
    assert (await client.get(str(page.url.join(sdist["url"])))).content == b"sdist"
    assert (await client.get(str(page.url.join(wheel["url"])))).status_code == 503
    metadata = await client.get(str(page.url.join(wheel["url"])) + ".metadata")
    assert wheel["core-metadata"] == {"sha256": hashlib.sha256(metadata.content).hexdigest()}


async def test_html_project_leads_to_its_files(upstream, client):
    upstream.add_project(
        "demo",
        {"demo-1.0.tar.gz": b"sdist"},
        form="html",
        metadata={"demo-1.0.tar.gz": b"m"},
        extra={"demo-1.0.tar.gz": {"data-requires-python": ">=3.9"}},
    )
    page = await client.get("/simple/demo/")
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert (
        f'<a href="../../files/demo/demo-1.0.tar.gz#sha256={hashlib.sha256(b"sdist").hexdigest()}" '
        f'data-core-metadata="sha256={hashlib.sha256(b"m").hexdigest()}" '
        'data-requires-python="&gt;=3.9">demo-1.0.tar.gz</a>'
    ) in page.text
    assert (await client.get("/files/demo/demo-1.0.tar.gz.metadata")).content == b"m"


async def test_page_is_revalidated_until_it_changes(upstream, client):
    upstream.add_project("demo", {"demo-1.0.tar.gz": b"sdist"})
    tag = (await client.get("/simple/demo/")).headers["etag"]
    assert (await client.get("/simple/demo/", headers={"If-None-Match": tag})).status_code == 304
    upstream.add_project("demo", {"demo-1.0.tar.gz": b"other"})
    assert (await client.get("/simple/demo/", headers={"If-None-Match": tag})).status_code == 200


@pytest.mark.parametrize("form", ["json", "html"])
async def test_project_without_files_is_a_page(upstream, client, form):
    upstream.add_project("demo", {}, form=form)
    assert (await client.get("/simple/demo/")).status_code == 200


def test_it_runs_in_a_thread():
    upstream = ScriptedUpstream()
    upstream.add("/x", Reply(b"text"))
    with upstream.run_in_thread() as running:
        assert running is upstream
        with urllib.request.urlopen(f"{upstream.url}/x", timeout=5) as answer:
            assert answer.read() == b"text"
        upstream.add("/x", Reply(status=500))
        with pytest.raises(urllib.error.HTTPError):
            urllib.request.urlopen(f"{upstream.url}/x", timeout=5)
        assert upstream.count("/x") == 2
        port = int(upstream.url.rpartition(":")[2])
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), timeout=1)


def test_it_ends_in_a_thread_although_a_client_hangs():
    upstream = ScriptedUpstream()
    upstream.add("/x", Reply(hang=True))
    begun = time.monotonic()
    with upstream.run_in_thread():
        connection = socket.create_connection(("127.0.0.1", int(upstream.url.rpartition(":")[2])))
        connection.sendall(b"GET /x HTTP/1.1\r\n\r\n")
        while not upstream.requests:
            time.sleep(0.01)
    assert connection.recv(1) == b""
    connection.close()
    assert time.monotonic() - begun < 5
