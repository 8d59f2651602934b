"""What requests to upstreams really connect to. Names are whatever a test says; connections are real, on the loopback interface."""

from __future__ import annotations

import socket
import ssl
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from nora.api import Secret, UpstreamInvalid
from nora.testing.upstream import Reply, ScriptedUpstream
from nora.upstream.address import Upstream
from nora.upstream.client import UpstreamClient, make_client
from nora.upstream.reach import Reach


@pytest.fixture
async def inner() -> AsyncIterator[ScriptedUpstream]:
    """A server of our own network, which nobody outside may reach through us."""
    async with ScriptedUpstream() as upstream:
        upstream.add("/secret", Reply(b"do not tell"))
        yield upstream


@pytest.fixture
async def client() -> AsyncIterator[UpstreamClient]:
    made = make_client(ca_cert="", environ={}, version="0", context=ssl.create_default_context())
    yield made
    await made.aclose()


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[str]]:
    """Addresses by name: each look-up takes the first, the last stays. The system's own look-up is replaced for these names."""
    known: dict[str, list[str]] = {}
    original = socket.getaddrinfo

    def look_up(host: Any, port: Any, *rest: Any, **options: Any) -> Any:
        if host not in known:
            return original(host, port, *rest, **options)
        address = known[host].pop(0) if len(known[host]) > 1 else known[host][0]
        return original(address, port, *rest, **options)

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    return known


async def get(client: UpstreamClient, upstream: Upstream, url: str) -> bytes:
    return (await client.get_document(upstream, url, {}, timeout_seconds=5)).body


PUBLIC = Upstream("https://index.example/simple/", Secret(), Reach.of(["https://index.example/simple/"]))


async def test_an_upstreams_link_never_reaches_a_private_address(client, inner, names) -> None:
    # PROXY-14, CWE-918
    port = inner.url.rpartition(":")[2]
    names["inward.example"] = ["127.0.0.1"]
    for host in ("127.0.0.1", "localhost", "inward.example", "[::1]", "[::ffff:127.0.0.1]", "2130706433", "127.1", "0x7f.1"):
        with pytest.raises(UpstreamInvalid, match=r"private address|spells an address|not valid"):
            await get(client, PUBLIC, f"http://{host}:{port}/secret")
    assert inner.requests == []


async def test_nor_does_a_redirect(client, inner) -> None:
    # PROXY-14, PROXY-18
    async with ScriptedUpstream() as given:
        upstream = Upstream(given.simple_url)
        given.add("/out", Reply(status=302, headers={"Location": f"{inner.url}/secret"}))
        with pytest.raises(UpstreamInvalid, match="private address"):
            await get(client, upstream, f"{given.url}/out")
        assert (given.count("/out"), inner.requests) == (1, [])


async def test_a_name_that_changes_its_meaning_is_connected_to_where_it_was_looked_at(client, inner, names) -> None:
    # DNS rebinding: looked at as one address, connected to as another. Only the first is open here, and only it answers.
    port = inner.url.rpartition(":")[2]
    upstream = Upstream("https://index.example/", Secret(), Reach.of(["https://index.example/"], ["127.0.0.1"]))
    names["rebinding.example"] = ["127.0.0.1", "127.0.0.2"]
    assert await get(client, upstream, f"http://rebinding.example:{port}/secret") == b"do not tell"
    names["rebinding.example"] = ["127.0.0.2"]
    assert await get(client, upstream, f"http://rebinding.example:{port}/secret") == b"do not tell"  # the connection stands
    assert len(inner.requests) == 2


async def test_a_connection_that_one_registry_may_have_is_not_lent_to_another(client, inner, names) -> None:
    # MULTI-7
    port = inner.url.rpartition(":")[2]
    names["nexus.intern"] = ["127.0.0.1"]
    url = f"http://nexus.intern:{port}/secret"
    own = Upstream(f"http://nexus.intern:{port}/simple/")
    assert await get(client, own, url) == b"do not tell"
    with pytest.raises(UpstreamInvalid, match="private address"):
        await get(client, PUBLIC, url)
    assert await get(client, own, url) == b"do not tell"
    assert len(inner.requests) == 2


async def test_an_http_proxy_of_the_operators_may_be_private(inner) -> None:
    # It is asked for every address, so what an upstream names must still not be one that can be seen to be private.
    client = make_client(ca_cert="", environ={"http_proxy": inner.url}, version="0", context=ssl.create_default_context())
    try:
        inner.add("http://files.example/x", Reply(b"through the proxy"))
        assert await get(client, PUBLIC, "http://files.example/x") == b"through the proxy"
        with pytest.raises(UpstreamInvalid, match="private address"):
            await get(client, PUBLIC, "http://169.254.169.254/latest/meta-data/")
        assert inner.count("http://169.254.169.254/latest/meta-data/") == 0
    finally:
        await client.aclose()


async def test_a_request_without_a_word_on_networks_reaches_public_addresses_only(inner) -> None:
    from nora.upstream.reach import OutOfReach
    from nora.upstream.transport import AiohttpTransport

    async with AiohttpTransport(ssl.create_default_context()) as transport:
        port = inner.url.rpartition(":")[2]
        with pytest.raises(OutOfReach):
            await transport.handle_async_request(httpx.Request("GET", f"http://localhost:{port}/secret"))
    assert inner.requests == []
