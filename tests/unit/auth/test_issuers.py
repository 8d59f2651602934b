"""The keys of issuers: when they are asked for, how often, and what is done when they cannot be had."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from nora.api import UpstreamError, UpstreamInvalid, UpstreamUnavailable
from nora.auth import issuers
from nora.auth.issuers import FAILED_SECONDS, FRESH_SECONDS, STALE_SECONDS, UNKNOWN_SECONDS, IssuerKeys
from nora.auth.publishers import Refused
from nora.tasks import Tasks
from nora.testing import FakeClock
from tests.issuer import public_jwk

ISSUER = "https://ci.example"
DISCOVERY = f"{ISSUER}/.well-known/openid-configuration"
JWKS = "https://keys.example/jwks"


class Documents:
    """An issuer's documents, counted. A value may be an error, or an event to wait for first."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str]] = []
        self.discovery: Any = {"issuer": ISSUER, "jwks_uri": JWKS}
        self.wait: asyncio.Event | None = None
        self.error: UpstreamError | None = None
        self.publish("first")

    def publish(self, *names: str) -> None:
        self.keys: Any = {"keys": [public_jwk("RSA", name) for name in names]}

    @property
    def rounds(self) -> int:
        return sum(url == DISCOVERY for _, url in self.asked)

    async def __call__(self, issuer: str, url: str) -> bytes:
        self.asked.append((issuer, url))
        if self.wait is not None:
            await self.wait.wait()
        if self.error is not None:
            raise self.error
        document = {DISCOVERY: self.discovery, JWKS: self.keys}[url]
        return document if isinstance(document, bytes) else json.dumps(document).encode()


@pytest.fixture
def documents() -> Documents:
    return Documents()


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock(5000.0)


@pytest.fixture
def keys(documents: Documents, tasks: Tasks, clock: FakeClock) -> IssuerKeys:
    return IssuerKeys(documents, tasks, clock=clock)


@pytest.fixture
def outcome(keys: IssuerKeys) -> Callable[..., Awaitable[str]]:
    """What comes of looking for a key."""

    async def look(key_id: str = "first", algorithm: str = "RS256", issuer: str = ISSUER) -> str:
        try:
            await keys.get(issuer, key_id, algorithm)
        except Refused:
            return "unknown"
        except UpstreamUnavailable:
            return "unavailable"
        return "found"

    return look


async def test_keys_are_asked_for_once_in_an_hour(documents, clock, outcome) -> None:
    assert await outcome() == "found"
    assert documents.asked == [(ISSUER, DISCOVERY), (ISSUER, JWKS)]
    clock.advance(FRESH_SECONDS - 1)
    assert await outcome() == "found"
    assert documents.rounds == 1
    clock.advance(1)
    assert await outcome() == "found"
    assert documents.rounds == 2


async def test_however_many_ask_an_issuer_is_asked_once(documents, outcome) -> None:
    documents.wait = asyncio.Event()
    waiting = [asyncio.create_task(outcome()) for _ in range(50)]
    await asyncio.sleep(0)
    documents.wait.set()
    assert {await task for task in waiting} == {"found"}
    assert documents.rounds == 1


async def test_unknown_keys_make_us_ask_once_in_a_minute(documents, clock, outcome) -> None:
    assert await outcome() == "found"
    for number in range(1000):
        assert await outcome(f"made-up-{number}") == "unknown"
    assert documents.rounds == 1
    clock.advance(UNKNOWN_SECONDS)
    for number in range(1000):
        assert await outcome(f"made-up-{number}") == "unknown"
    assert documents.rounds == 2
    assert await outcome() == "found"


async def test_a_new_key_is_found_by_all_who_wait_for_it(documents, clock, outcome) -> None:
    assert await outcome() == "found"
    clock.advance(UNKNOWN_SECONDS)
    documents.publish("second")
    documents.wait = asyncio.Event()
    waiting = [asyncio.create_task(outcome("second")) for _ in range(10)]
    await asyncio.sleep(0)
    documents.wait.set()
    assert {await task for task in waiting} == {"found"}
    assert documents.rounds == 2
    assert await outcome("first") == "unknown"  # it was withdrawn


async def test_a_failure_is_remembered_for_a_moment(documents, clock, outcome, caplog) -> None:
    documents.error = UpstreamUnavailable(DISCOVERY, "cannot be reached")
    for _ in range(100):
        assert await outcome() == "unavailable"
    assert documents.rounds == 1
    (record,) = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert (record.message, record.issuer) == ("keys of an issuer cannot be had", ISSUER)
    clock.advance(FAILED_SECONDS)
    documents.error = None
    assert await outcome() == "found"


async def test_keys_that_cannot_be_renewed_are_used_for_a_day(documents, clock, outcome) -> None:
    assert await outcome() == "found"
    documents.error = UpstreamUnavailable(DISCOVERY, "cannot be reached")
    for _ in range(23):
        clock.advance(FRESH_SECONDS)
        assert await outcome() == "found"
    assert documents.rounds == 24
    assert await outcome("other") == "unknown"
    clock.advance(STALE_SECONDS - 23 * FRESH_SECONDS)
    assert await outcome() == "unavailable"
    clock.advance(FAILED_SECONDS)
    documents.error = None
    assert await outcome() == "found"


async def test_nobody_waits_for_ever_and_what_comes_late_is_kept(documents, outcome, monkeypatch) -> None:
    monkeypatch.setattr(issuers, "WAIT_SECONDS", 0.01)
    documents.wait = asyncio.Event()
    assert await outcome() == "unavailable"
    documents.wait.set()
    for _ in range(10):
        await asyncio.sleep(0)
    assert await outcome() == "found"
    assert documents.rounds == 1


async def test_an_issuer_that_never_ends_is_given_up(documents, outcome, monkeypatch) -> None:
    monkeypatch.setattr(issuers, "FETCH_SECONDS", 0.01)
    documents.wait = asyncio.Event()
    assert await outcome() == "unavailable"
    documents.wait = None
    assert await outcome() == "unavailable"  # it has failed a moment ago
    assert documents.rounds == 1


async def test_who_goes_away_takes_nothing_from_others(documents, outcome) -> None:
    documents.wait = asyncio.Event()
    first, second = asyncio.create_task(outcome()), asyncio.create_task(outcome())
    await asyncio.sleep(0)
    first.cancel()
    documents.wait.set()
    assert await second == "found"
    assert documents.rounds == 1


@pytest.mark.parametrize(
    "discovery",
    [
        {"issuer": f"{ISSUER}/", "jwks_uri": JWKS},
        {"issuer": "https://evil.example", "jwks_uri": JWKS},
        {"jwks_uri": JWKS},
        {"issuer": ISSUER},
        {"issuer": ISSUER, "jwks_uri": 1},
        [],
        b"",
        b"<html>",
        b"[" * 100_000,
        b"\xff",
    ],
)
async def test_a_discovery_document_of_something_else_is_not_taken(documents, outcome, discovery: Any) -> None:
    documents.discovery = discovery
    assert await outcome() == "unavailable"
    assert documents.asked == [(ISSUER, DISCOVERY)]


@pytest.mark.parametrize("key_set", [b"", {"keys": [public_jwk("RSA", "first")] * 101}, {"keys": 1}, []])
async def test_a_key_set_that_is_none_is_a_failure(documents, clock, outcome, key_set: Any) -> None:
    assert await outcome() == "found"
    documents.keys = key_set
    clock.advance(FRESH_SECONDS)
    assert await outcome() == "found"  # what was held is still good
    assert documents.rounds == 2


async def test_an_empty_key_set_means_that_nothing_holds_any_more(documents, clock, outcome) -> None:
    assert await outcome() == "found"
    documents.publish()
    clock.advance(FRESH_SECONDS)
    assert await outcome() == "unknown"


async def test_a_refused_document_is_a_failure(documents, outcome) -> None:
    documents.error = UpstreamInvalid(JWKS, "is at a private address")
    assert await outcome() == "unavailable"


async def test_a_final_slash_of_an_issuer_is_part_of_its_name_only(documents, outcome, tasks) -> None:
    documents.discovery = {"issuer": f"{ISSUER}/", "jwks_uri": JWKS}
    assert await outcome(issuer=f"{ISSUER}/") == "found"
    assert documents.asked[0] == (f"{ISSUER}/", DISCOVERY)
