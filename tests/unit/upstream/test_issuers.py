"""Documents of issuers, fetched over a real network: small ones, soon, and from nowhere private but the issuer itself."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import pytest

from nora.api import UpstreamError
from nora.auth.issuers import FetchDocument, IssuerKeys
from nora.tasks import Tasks
from nora.upstream import issuers
from nora.upstream.client import UpstreamClient, make_client
from nora.upstream.issuers import MAX_DOCUMENT_BYTES, issuer_documents
from tests.issuer import DISCOVERY, KEYS, ScriptedIssuer


@pytest.fixture
def issuer() -> Iterator[ScriptedIssuer]:
    with ScriptedIssuer().run() as running:
        yield running


@pytest.fixture
def neighbour() -> Iterator[ScriptedIssuer]:
    """Something else in the operator's network."""
    with ScriptedIssuer().run() as running:
        yield running


@pytest.fixture
async def fetch(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[FetchDocument]:
    monkeypatch.setattr(issuers, "SILENCE_SECONDS", 0.3)
    client = make_client(ca_cert="", environ={}, version="test")
    yield issuer_documents(client)
    await client.aclose()


async def problem(fetch: FetchDocument, issuer: ScriptedIssuer, tasks: Tasks) -> str:
    """Why the keys of an issuer cannot be had."""
    with pytest.raises((UpstreamError, ValueError)) as caught:
        await IssuerKeys(fetch, tasks)._keys(issuer.url)
    return str(caught.value)


async def test_the_keys_of_an_issuer_are_fetched(fetch: FetchDocument, issuer: ScriptedIssuer, tasks: Tasks) -> None:
    assert await IssuerKeys(fetch, tasks).get(issuer.url, "first", "RS256")
    assert issuer.asked == [DISCOVERY, KEYS]


@pytest.mark.parametrize("path", [DISCOVERY, KEYS])
async def test_silence_is_not_waited_for(fetch: FetchDocument, issuer: ScriptedIssuer, tasks: Tasks, path: str) -> None:
    issuer.answers[path] = issuer.hang
    assert "did not answer in time" in await problem(fetch, issuer, tasks)


@pytest.mark.parametrize("path", [DISCOVERY, KEYS])
async def test_large_documents_are_not_taken(fetch: FetchDocument, issuer: ScriptedIssuer, tasks: Tasks, path: str) -> None:
    issuer.answers[path] = b" " * (MAX_DOCUMENT_BYTES + 1)
    assert f"larger than {MAX_DOCUMENT_BYTES} bytes" in await problem(fetch, issuer, tasks)


@pytest.mark.parametrize("status", [204, 304, 401, 404, 500, 503])
async def test_other_statuses_are_failures(fetch: FetchDocument, issuer: ScriptedIssuer, tasks: Tasks, status: int) -> None:
    issuer.answers[DISCOVERY] = status
    assert "status" in await problem(fetch, issuer, tasks)


@pytest.mark.parametrize("path", [DISCOVERY, KEYS])
async def test_a_redirect_to_a_private_address_is_not_followed(
    fetch: FetchDocument, issuer: ScriptedIssuer, neighbour: ScriptedIssuer, tasks: Tasks, path: str
) -> None:
    for target in (
        f"{neighbour.url}/secret",
        neighbour.url.replace("127.0.0.1", "localhost"),
        "http://169.254.169.254/",
        "//[::1]:1/",
    ):
        issuer.answers[path] = issuer.redirect(target)
        assert "private address" in await problem(fetch, issuer, tasks)
    issuer.answers[path] = issuer.redirect("file:///etc/passwd")
    assert "not an http:// or https:// address" in await problem(fetch, issuer, tasks)
    assert neighbour.asked == []


async def test_keys_at_a_private_address_are_not_fetched(
    fetch: FetchDocument, issuer: ScriptedIssuer, neighbour: ScriptedIssuer, tasks: Tasks
) -> None:
    for address in (f"{neighbour.url}{KEYS}", "http://127.1:1/", "http://169.254.169.254/keys"):
        issuer.answers[DISCOVERY] = f'{{"issuer": "{issuer.url}", "jwks_uri": "{address}"}}'.encode()
        await problem(fetch, issuer, tasks)
    assert neighbour.asked == []


async def test_a_redirect_within_the_issuer_is_followed(fetch: FetchDocument, issuer: ScriptedIssuer, tasks: Tasks) -> None:
    issuer.answers[KEYS] = issuer.redirect("/other-keys")
    issuer.answers["/other-keys"] = b'{"keys": []}'
    assert await IssuerKeys(fetch, tasks)._keys(issuer.url) == {}


async def test_an_issuer_with_https_is_asked_by_https_only(upstream_client: UpstreamClient, upstreams: Any) -> None:
    fetch = issuer_documents(upstream_client)
    upstreams.answers["https://ci.example/moved"] = lambda _: httpx.Response(
        302, headers={"location": "http://ci.example/keys"}
    )
    upstreams.answers["http://ci.example/keys"] = b"forged"
    upstreams.answers["https://ci.example/keys"] = b"right"
    for url in ("https://ci.example/moved", "http://ci.example/keys"):
        with pytest.raises(UpstreamError, match="is not an https:// address"):
            await fetch("https://ci.example", url)
    assert upstreams.asked == ["https://ci.example/moved"]
    assert await fetch("https://ci.example", "https://ci.example/keys") == b"right"
