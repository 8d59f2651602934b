"""``/_/oidc/``: what clients get to see of the exchange, and what they may send."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import httpx
import pytest
from sanic.response import text as text_answer

from nora.api import RegistryBlueprint, Right, StorageFull, TooManyRequests, UpstreamUnavailable
from nora.auth.access import Access, Rules
from nora.auth.exchange import Minted
from nora.auth.publishers import Refused
from nora.auth.record import Token
from nora.http.app import Mount, Readiness, build_app
from nora.http.dispatch import Dispatcher
from nora.http.publishing import MAX_BODY_BYTES, Publishing
from nora.rights import Grant
from tests.unit.http.serving import serving_client

AUDIENCE, MINT, BURN = "/_/oidc/audience", "/_/oidc/mint-token", "/_/oidc/burn-token"
TOKEN = Token(
    id="0" * 12,
    user="oidc:repo:acme/demo",
    note="",
    created="",
    expires="",
    digest="0" * 64,
    limits=(Grant(rights=frozenset({Right.WRITE})),),
    issuer="https://ci.example",
)
GIVEN = "nora_" + "0" * 12 + "_" + "x" * 43


class Exchange:
    """Does as it is told."""

    audience = "https://registry.example"

    def __init__(self) -> None:
        self.given: list[Any] = []
        self.outcome: Any = Minted(GIVEN, TOKEN, 1_800_000_900)

    async def mint(self, text: str | None, client: str) -> Any:
        return self._come_out(text, client)

    async def burn(self, text: str) -> Any:
        return self._come_out(text)

    def _come_out(self, *given: Any) -> Any:
        self.given.append(given)
        if isinstance(self.outcome, Exception):
            raise self.outcome
        return self.outcome


@asynccontextmanager
async def running(publishing: Publishing | None, *mounts: Mount) -> AsyncIterator[httpx.AsyncClient]:
    readiness = Readiness()
    dispatcher = Dispatcher(Access(True, Rules(), ()), access_log_enabled=True)
    app = build_app(mounts, dispatcher, readiness, body_limit_bytes=1024**3, publishing=publishing)
    async with serving_client(app, readiness) as client:
        yield client


@pytest.fixture
def exchange() -> Exchange:
    return Exchange()


@pytest.fixture
def noted() -> list[tuple[str, ...]]:
    return []


@pytest.fixture
async def client(exchange: Exchange, noted: list[tuple[str, ...]]) -> AsyncIterator[httpx.AsyncClient]:
    async with running(Publishing(exchange, lambda *said: noted.append(said))) as made:  # type: ignore[arg-type]
        yield made


async def test_the_audience_is_told_to_everybody(client: httpx.AsyncClient, exchange: Exchange) -> None:
    answer = await client.get(AUDIENCE)
    assert (answer.status_code, answer.json()) == (200, {"audience": exchange.audience})
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["cache-control"] == "no-store"
    assert (await client.head(AUDIENCE)).status_code == 200
    # Whatever somebody logs in with beside.
    assert (await client.get(AUDIENCE, auth=("ada", "wrong"))).status_code == 200


async def test_a_token_is_minted(
    client: httpx.AsyncClient, exchange: Exchange, noted: list[tuple[str, ...]], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    answer = await client.post(MINT, json={"token": "a.b.c", "more": [1]})
    assert answer.status_code == 200
    assert answer.json() == {"success": True, "token": GIVEN, "expires": 1_800_000_900}
    assert answer.headers["cache-control"] == "no-store"
    assert exchange.given == [("a.b.c", "127.0.0.1")]
    assert noted == [("token-create", TOKEN.id, "trusted publishing by https://ci.example")]
    (line,) = [record for record in caplog.records if getattr(record, "path", "") == MINT]
    assert line.actor == TOKEN.user  # type: ignore[attr-defined]


@pytest.mark.parametrize("kind", ["application/json", "application/x-www-form-urlencoded", None])
async def test_not_every_client_says_that_it_sends_json(client: httpx.AsyncClient, kind: str | None) -> None:
    headers = {} if kind is None else {"content-type": kind}
    answer = await client.post(MINT, content=b'{"token": "a.b.c"}', headers=headers)
    assert answer.status_code == 200


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"{}",
        b'{"token": 1}',
        b'{"token": null}',
        b'{"token": ["a"]}',
        b"[" * 30_000,
        b"\xff\xfe",
        b"a.b.c",
    ],
)
async def test_what_is_no_request_for_a_token_is_refused_as_one(
    client: httpx.AsyncClient, exchange: Exchange, body: bytes
) -> None:
    exchange.outcome = Refused("invalid-payload", "send something else")
    answer = await client.post(MINT, content=body)
    assert exchange.given == [(None, "127.0.0.1")]
    assert answer.status_code == 422
    assert answer.json()["errors"] == [{"code": "invalid-payload", "description": "send something else"}]


@pytest.mark.parametrize(
    ("error", "status", "code", "retry_after"),
    [
        (Refused("invalid-token", "the token has expired"), 422, "invalid-token", None),
        (TooManyRequests("too many", 7), 429, "too-many-requests", "7"),
        (UpstreamUnavailable("https://ci.example", "s3cret reason", 15), 503, "unavailable", "15"),
        (StorageFull(), 507, "unavailable", None),
        (RuntimeError("s3cret"), 500, None, None),
    ],
)
async def test_failures_are_told_as_clients_print_them(
    client: httpx.AsyncClient, exchange: Exchange, noted: list[Any], error: Exception, status: int, code: str, retry_after: str
) -> None:
    exchange.outcome = error
    answer = await client.post(MINT, json={"token": "a.b.c"})
    assert answer.status_code == status
    assert answer.headers.get("retry-after") == retry_after
    assert "s3cret" not in answer.text
    assert noted == []
    if code is not None:
        document = answer.json()
        assert document.keys() == {"message", "errors"}
        assert isinstance(document["message"], str)
        assert [each["code"] for each in document["errors"]] == [code]
        assert all(each["description"] for each in document["errors"])


@pytest.mark.parametrize("address", [MINT, BURN])
async def test_large_bodies_are_refused_before_they_are_taken_in(
    client: httpx.AsyncClient, exchange: Exchange, address: str
) -> None:
    answer = await client.post(address, content=b'{"token": "' + b"x" * MAX_BODY_BYTES + b'"}')
    assert (answer.status_code, answer.json()["errors"][0]["code"]) == (413, "invalid-payload")
    assert exchange.given == []

    # Of a body without end the beginning is enough, and what comes behind is no request of its own.
    reader, writer = await asyncio.open_connection(client.base_url.host, client.base_url.port)
    head = f"POST {address} HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000000\r\n\r\n"
    writer.write(head.encode() + b"x" * (MAX_BODY_BYTES + 1))
    async with asyncio.timeout(10):
        assert (await reader.readline()).startswith(b"HTTP/1.1 413 ")
    writer.close()
    assert exchange.given == []


@pytest.mark.parametrize(("fields", "status"), [("Sec-Fetch-Site: cross-site\r\n", b"403"), ("", b"404")])
async def test_a_request_in_a_body_that_nobody_reads_is_not_answered(exchange: Exchange, fields: str, status: bytes) -> None:
    async with running(Publishing(exchange) if fields else None) as client:  # type: ignore[arg-type]
        reader, writer = await asyncio.open_connection(client.base_url.host, client.base_url.port)
        inner = b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n"
        head = f"POST {MINT} HTTP/1.1\r\nHost: x\r\n{fields}Content-Length: {len(inner)}\r\n\r\n"
        writer.write(head.encode() + inner + b"GET /last HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        async with asyncio.timeout(10):
            received = await reader.read()
        writer.close()
    assert re.findall(rb"HTTP/1\.1 ([0-9]{3}) ", received) in ([status], [status, b"404"])
    assert b'"ok"' not in received


@pytest.mark.parametrize("address", [MINT, BURN])
async def test_pages_of_other_sites_use_up_nothing(client: httpx.AsyncClient, exchange: Exchange, address: str) -> None:
    for site in ("cross-site", "same-site"):
        answer = await client.post(address, json={"token": "a.b.c"}, headers={"sec-fetch-site": site})
        assert answer.status_code == 403
    assert exchange.given == []


async def test_a_token_is_burnt_and_nobody_learns_whether_it_was_one(
    client: httpx.AsyncClient, exchange: Exchange, noted: list[tuple[str, ...]]
) -> None:
    exchange.outcome = TOKEN
    answers = [await client.post(BURN, json={"token": GIVEN})]
    assert exchange.given == [(GIVEN,)]
    assert noted == [("token-revoke", TOKEN.id, "trusted publishing is done")]
    exchange.outcome = None
    answers += [await client.post(BURN, json={"token": "x"}), await client.post(BURN, content=b"{")]
    assert {(answer.status_code, answer.content) for answer in answers} == {(202, b"{}")}
    assert len(noted) == 1
    exchange.outcome = StorageFull()
    assert (await client.post(BURN, json={"token": GIVEN})).status_code == 507


async def test_where_it_is_not_configured_there_is_nothing() -> None:
    async with running(None) as client:
        for method, address in (("GET", AUDIENCE), ("POST", MINT), ("POST", BURN)):
            assert (await client.request(method, address)).status_code == 404


@pytest.mark.parametrize(("method", "address"), [("POST", AUDIENCE), ("GET", MINT), ("GET", BURN), ("PUT", MINT)])
async def test_other_methods_are_refused(client: httpx.AsyncClient, method: str, address: str) -> None:
    assert (await client.request(method, address)).status_code == 405


@pytest.fixture
def greedy() -> RegistryBlueprint:
    """A format that takes whatever it is asked for."""
    blueprint = RegistryBlueprint()

    async def taken(request: Any, **_: Any) -> Any:
        return text_answer("taken")

    for rule in ("/<a>", "/<a>/<b>", "/<a>/<b>/<c>", "/<a>/oidc/<c>", "/<a>/<b>/audience", "/x/<rest:path>"):
        blueprint.read(rule)(taken)
    for rule in ("/<a>/<b>/<c>", "/<a>/<b>/mint-token"):
        blueprint.write(rule)(taken)
    return blueprint


async def test_a_registry_at_the_root_does_not_shadow_it(exchange: Exchange, greedy: RegistryBlueprint) -> None:
    async with AsyncExitStack() as stack:
        mount = Mount("main", "/", greedy.routes)
        client = await stack.enter_async_context(running(Publishing(exchange), mount))  # type: ignore[arg-type]
        assert (await client.get("/_/oidc/other")).status_code == 401  # the registry's own
        assert (await client.get(AUDIENCE)).json() == {"audience": exchange.audience}
        assert (await client.post(MINT, json={"token": "a.b.c"})).json()["success"] is True
        without = await stack.enter_async_context(running(None, mount))
        assert (await without.get(AUDIENCE)).status_code == 404
        assert (await without.post(MINT, json={"token": "a.b.c"})).status_code == 404


def test_a_registry_that_wants_these_addresses_is_an_error(refusal: Callable[[str], str]) -> None:
    assert (
        refusal("/_/oidc/audience") == "registries.main.path: its addresses below /_/ are the host's; give it a path of its own"
    )
    assert refusal("/_/<b>/<c>").startswith("registries.main.path: its addresses below /_/")


@pytest.fixture
def refusal() -> Callable[[str], str]:
    def refusal(rule: str) -> str:
        blueprint = RegistryBlueprint()

        @blueprint.read(rule)
        async def taken(request: Any, **_: Any) -> Any:
            return text_answer("taken")

        dispatcher = Dispatcher(Access(True, Rules(), ()), access_log_enabled=False)
        with pytest.raises(Exception) as caught:
            build_app([Mount("main", "/", blueprint.routes)], dispatcher, Readiness(), body_limit_bytes=1)
        return str(caught.value)

    return refusal
