"""Parts of files, from upstreams that behave and from those that do not."""

from __future__ import annotations

import os
from collections.abc import Generator
from typing import Any

import httpx
import pytest

from nora.api import File, Invalid, NotFound, Part, Read, UpstreamError, UpstreamInvalid
from nora.upstream.client import Upstream
from nora.upstream.ranges import MAX_REQUESTS, NoRanges, RemoteFile, read_held, read_remote, span

URL = "https://files.example/x-1.whl"
BODY = bytes(range(256)) * 40
UPSTREAM = Upstream("https://index.example/simple/")


def reading(*wishes: Read) -> Generator[Read, Part, bytes]:
    """Returns what it got, one after another."""
    got = b""
    for wish in wishes:
        part = yield wish
        assert part.size == len(BODY)
        assert part.data == BODY[part.start : part.start + len(part.data)]
        got += part.data
    return got


class Server:
    """A file server that knows ranges."""

    def __init__(self, body: bytes = BODY, **headers: str) -> None:
        self.body, self.headers, self.asked = body, headers, []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        wanted = request.headers["range"]
        self.asked.append(wanted)
        first, _, last = wanted.removeprefix("bytes=").partition("-")
        size = len(self.body)
        start = int(first) if first else max(0, size - int(last))
        stop = min(size, int(last) + 1) if first and last else size
        if start >= stop:
            return httpx.Response(416, headers={"content-range": f"bytes */{size}"})
        headers = {"content-range": f"bytes {start}-{stop - 1}/{size}", **self.headers}
        return httpx.Response(206, content=self.body[start:stop], headers=headers)


async def run(upstreams: Any, client: Any, server: Any, *wishes: Read, size: int | None = len(BODY)) -> bytes:
    upstreams.answers[URL] = server
    file = File(name="x-1.whl", url=URL, size=size)
    return await read_remote(RemoteFile(client, UPSTREAM, file, 5), reading(*wishes))


@pytest.mark.parametrize("size", [None, len(BODY)])
async def test_only_what_is_wished_for_is_asked_for(upstreams, upstream_client, size):
    server = Server()
    got = await run(upstreams, upstream_client, server, Read(-100, 100), Read(10, 5), Read(0, 1), size=size)
    assert got == BODY[-100:] + BODY[10:15] + BODY[:1]
    last = len(BODY) - 1
    assert server.asked == [f"bytes={last - 99}-{last}" if size else "bytes=-100", "bytes=10-14", "bytes=0-0"]


@pytest.mark.parametrize("size", [None, len(BODY)])
async def test_a_wish_beyond_the_file_gets_what_there_is(upstreams, upstream_client, size):
    got = await run(upstreams, upstream_client, Server(), Read(-99_999, 99_999), Read(len(BODY) - 2, 10), size=size)
    assert got == BODY + BODY[-2:]


async def test_a_part_that_begins_a_suffix_is_cut_to_what_was_wished_for(upstreams, upstream_client):
    assert await run(upstreams, upstream_client, Server(), Read(-100, 40), size=None) == BODY[-100:-60]


async def test_nothing_is_asked_for_where_the_file_has_nothing(upstreams, upstream_client):
    server = Server()
    assert await run(upstreams, upstream_client, server, Read(len(BODY), 10)) == b""
    assert server.asked == []


@pytest.mark.parametrize("status", [200, 416])
async def test_an_upstream_without_ranges_is_told_apart(upstreams, upstream_client, status):
    with pytest.raises(NoRanges):
        await run(upstreams, upstream_client, lambda request: httpx.Response(status, content=BODY), Read(-10, 10))


@pytest.mark.parametrize(("status", "error"), [(404, NotFound), (410, NotFound), (500, UpstreamError), (403, UpstreamInvalid)])
async def test_an_upstreams_refusal_is_its_error(upstreams, upstream_client, status, error):
    with pytest.raises(error):
        await run(upstreams, upstream_client, status, Read(-10, 10))


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"content-range": "bytes 0-9/*"},
        {"content-range": f"bytes 0-9/{len(BODY)}"},
        {"content-range": f"bytes {len(BODY) - 10}-{len(BODY) - 1}/{len(BODY) + 1}"},
        {"content-range": f"lines {len(BODY) - 10}-{len(BODY) - 1}/{len(BODY)}"},
        {"content-range": f"bytes {len(BODY) - 10}-{len(BODY) - 1}/{'9' * 40}"},
        {"content-range": f"bytes {len(BODY) - 10}-{len(BODY) - 1}/{len(BODY)}", "content-encoding": "gzip"},
    ],
)
async def test_a_part_that_does_not_say_honestly_which_it_is_is_refused(upstreams, upstream_client, headers):
    with pytest.raises(UpstreamInvalid):
        await run(
            upstreams,
            upstream_client,
            lambda request: httpx.Response(206, content=b"0123456789", headers=headers),
            Read(-10, 10),
        )


@pytest.mark.parametrize("content", [b"", b"012345678", b"0123456789a", bytes(10_000)])
async def test_a_part_of_another_length_is_refused(upstreams, upstream_client, content):
    headers = {"content-range": f"bytes {len(BODY) - 10}-{len(BODY) - 1}/{len(BODY)}"}
    with pytest.raises(UpstreamInvalid):
        await run(
            upstreams, upstream_client, lambda request: httpx.Response(206, content=content, headers=headers), Read(-10, 10)
        )


async def test_parts_of_a_file_that_changes_meanwhile_are_not_mixed(upstreams, upstream_client):
    server, asked = Server(etag='"one"'), []

    def changing(request: httpx.Request) -> httpx.Response:
        asked.append(request.headers.get("if-range"))
        if asked[-1] is None:
            return server(request)
        return httpx.Response(200, content=bytes(len(BODY)))

    with pytest.raises(UpstreamInvalid, match="changed while it was read"):
        await run(upstreams, upstream_client, changing, Read(-10, 10), Read(0, 10))
    assert asked == [None, '"one"']


async def test_a_part_with_another_strong_tag_is_of_another_file(upstreams, upstream_client):
    # RFC 9110 13.1.5: a server that ignores If-Range sends a part of what is there now, which may be as long as what was.
    tags = iter(['"one"', '"two"'])

    def careless(request: httpx.Request) -> httpx.Response:
        return Server(etag=next(tags))(request)

    with pytest.raises(UpstreamInvalid, match="changed while it was read"):
        await run(upstreams, upstream_client, careless, Read(-10, 10), Read(0, 10))


async def test_a_weak_tag_is_no_proof_and_is_not_sent(upstreams, upstream_client):
    server = Server(etag='W/"one"')
    seen = []

    def noted(request: httpx.Request) -> httpx.Response:
        seen.append(request.headers.get("if-range"))
        return server(request)

    await run(upstreams, upstream_client, noted, Read(-10, 10), Read(0, 10))
    assert seen == [None, None]


async def test_a_reading_without_end_is_ended(upstreams, upstream_client):
    server = Server()
    with pytest.raises(Invalid):
        await run(upstreams, upstream_client, server, *[Read(0, 1)] * 1000)
    assert len(server.asked) == MAX_REQUESTS


@pytest.mark.parametrize("wish", [Read(0, 10**12), Read(0, 0), Read(0, -5)])
async def test_a_wish_without_measure_is_refused(upstreams, upstream_client, wish):
    server = Server()
    with pytest.raises(Invalid):
        await run(upstreams, upstream_client, server, wish, size=None)
    assert server.asked == []


async def test_what_a_reading_raises_is_passed_on_from_the_loop_and_from_a_thread(upstreams, upstream_client):
    def failing(count: int) -> Generator[Read, Part, bytes]:
        yield Read(0, count)
        raise Invalid("no wheel")

    body = bytes(100_000)
    upstreams.answers[URL] = Server(body)
    for count in (10, 90_000):
        with pytest.raises(Invalid, match="no wheel"):
            await read_remote(RemoteFile(upstream_client, UPSTREAM, File(name="x", url=URL, size=len(body)), 5), failing(count))


async def test_a_large_part_is_read_in_a_thread_and_its_result_comes_back(upstreams, upstream_client):
    def whole() -> Generator[Read, Part, bytes]:
        return (yield Read(0, 90_000)).data

    body = os.urandom(90_000)
    upstreams.answers[URL] = Server(body)
    file = File(name="x", url=URL, size=None)
    remote = RemoteFile(upstream_client, UPSTREAM, file, 5)
    assert await read_remote(remote, whole()) == body
    assert remote.received == len(body)


def test_a_held_file_gives_the_same(tmp_path):
    path = tmp_path / "x"
    path.write_bytes(BODY)
    with path.open("rb") as file:
        got = read_held(file.fileno(), reading(Read(-100, 100), Read(10, 5), Read(len(BODY), 5)))
        assert got == BODY[-100:] + BODY[10:15]
        with pytest.raises(Invalid):
            read_held(file.fileno(), reading(*[Read(0, 1)] * 1000))


def test_no_span_leaves_the_file():
    for size in range(5):
        for start in range(-7, 8):
            for count in range(8):
                first, stop = span(Read(start, count), size)
                assert 0 <= first <= stop <= size
                assert stop - first <= count
