"""Sending something once: to where the operator says, and nowhere else."""

from __future__ import annotations

import asyncio
import ssl
from contextlib import suppress

import httpx
import pytest

from nora.api import UpstreamInvalid, UpstreamTimeout, UpstreamUnavailable
from nora.testing.upstream import Reply, ScriptedUpstream
from nora.upstream.client import UpstreamClient
from nora.upstream.transport import AiohttpTransport


@pytest.fixture
async def client():
    made = UpstreamClient(AiohttpTransport(ssl.create_default_context()), "nora/1.0")
    yield made
    await made.aclose()


async def post(client: UpstreamClient, url: str, seconds: float = 10):
    return await client.post(url, {"webhook-id": "msg_1"}, b'{"a":1}', timeout_seconds=seconds)


async def test_any_answer_is_an_answer_and_a_private_address_is_the_operators_choice(client):
    async with ScriptedUpstream() as receiver:
        receiver.add("/hook", Reply(status=204), Reply(b"no", status=500, headers={"Retry-After": "7"}))
        by_name = receiver.url.replace("127.0.0.1", "localhost")
        assert (await post(client, f"{by_name}/hook?key=1")).status == 204
        answer = await post(client, f"{receiver.url}/hook")
    assert (answer.status, answer.headers["retry-after"]) == (500, "7")
    sent = receiver.requests[0]
    assert (sent.method, sent.path) == ("POST", "/hook?key=1")
    assert (sent.headers["webhook-id"], sent.headers["content-length"], sent.headers["user-agent"]) == (
        "msg_1",
        "7",
        "nora/1.0",
    )


async def test_no_redirect_is_followed(client):
    async with ScriptedUpstream() as receiver:
        for status in (301, 302, 303, 307, 308):
            receiver.add("/hook", Reply(status=status, headers={"Location": f"{receiver.url}/other"}))
            assert (await post(client, f"{receiver.url}/hook")).status == status
        assert receiver.count("/other") + receiver.count("/other", "POST") == 0


async def test_little_of_an_answers_body_is_read(client):
    sent = 0
    broken = asyncio.Event()

    async def endless(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        with suppress(OSError):
            while True:
                writer.write(b"x" * 65536)
                await writer.drain()
                sent += 65536
        broken.set()

    server = await asyncio.start_server(endless, "127.0.0.1", 0)
    assert (await post(client, f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/")).status == 200
    async with asyncio.timeout(10):
        await broken.wait()
    assert sent < 30_000_000, "what fits into buffers of the system, and some"
    server.close()
    async with ScriptedUpstream() as receiver:
        receiver.add("/silent", Reply(b"x" * 100, hang_after=10))
        async with asyncio.timeout(8):
            assert (await post(client, f"{receiver.url}/silent")).status == 200


async def test_silence_and_broken_connections_are_told_and_tried_once(client):
    async with ScriptedUpstream() as receiver:
        receiver.add("/hook", Reply(hang=True))
        with pytest.raises(UpstreamTimeout) as told:
            await post(client, f"{receiver.url}/hook?key=hidden", 0.05)
        assert "hidden" not in str(told.value)
        receiver.offline = True
        with pytest.raises(UpstreamUnavailable):
            await post(client, f"{receiver.url}/hook")
        assert receiver.count("/hook", "POST") == 1
        url = receiver.url
    with pytest.raises(UpstreamUnavailable):
        await post(client, f"{url}/hook")


async def test_an_answer_that_is_no_http_is_told(client):
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 mail.example ESMTP\r\n")
        writer.close()

    server = await asyncio.start_server(talk, "127.0.0.1", 0)
    with pytest.raises((UpstreamInvalid, UpstreamUnavailable)):
        await post(client, f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/")
    server.close()


async def test_a_transport_of_another_kind_can_be_used(httpx_mock):
    httpx_mock.add_response(status_code=202)
    client = UpstreamClient(None, "nora/1.0")
    assert (await post(client, "https://hooks.example/")).status == 202
    httpx_mock.add_exception(httpx.ReadTimeout("silent"))
    with pytest.raises(UpstreamTimeout):
        await post(client, "https://hooks.example/")
    await client.aclose()
