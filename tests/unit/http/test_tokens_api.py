"""``/api/v1/tokens``: everybody's own tokens, and nobody else's but for administrators."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import httpx
import pytest

from nora.api import Actor, Forbidden, Right
from nora.auth.access import Access, Rules
from nora.auth.record import DEFAULT_DAYS, new_text, seconds_of, token_id
from nora.auth.tokens import Tokens
from nora.context import current_request
from nora.http import tokens as tokens_api
from nora.http.app import API_PATH, Mount, Readiness, build_app
from nora.http.dispatch import HOST, Dispatcher
from nora.http.tokens import Noted, token_routes
from nora.rights import EVERYBODY, USERS, Grant
from nora.store.directory import DirectoryStore
from tests.unit.http.serving import serving_client

API = "/api/v1/tokens"
ADA, BOB, BOSS = (httpx.BasicAuth(name, "right") for name in ("ada", "bob", "boss"))
READ, WRITE, ADMIN = (Grant(rights=frozenset({right})) for right in Right)
EVERYBODY_WORKS_AND_BOSS_ADMINISTERS = Rules(
    [(frozenset({USERS}), READ), (frozenset({USERS}), WRITE), (frozenset({"boss"}), ADMIN)]
)
DAY_SECONDS = 24 * 3600


class Knows:
    """Everybody whose password is ``right``."""

    async def authenticate(self, username: str, password: str) -> Actor | None:
        return Actor(name=username) if password == "right" else None


class Bearer(httpx.Auth):
    def __init__(self, text: str) -> None:
        self._text = text

    def auth_flow(self, request: httpx.Request) -> Any:
        request.headers["Authorization"] = f"Bearer {self._text}"
        yield request


@asynccontextmanager
async def running(access: Access, tokens: Tokens, noted: Noted | None = None) -> AsyncIterator[httpx.AsyncClient]:
    readiness = Readiness()
    dispatcher = Dispatcher(access, access_log_enabled=True)
    app = build_app([Mount(HOST, API_PATH, token_routes(tokens, noted))], dispatcher, readiness, body_limit_bytes=1024 * 1024)
    async with serving_client(app, readiness) as client:
        yield client


@pytest.fixture
def tokens(store, tasks, clock) -> Tokens:
    assert store.changes.watch()
    return Tokens(store, tasks, clock=clock)


@pytest.fixture
def told() -> list[tuple[str, ...]]:
    """What the audit log was told: by whom, what, of which token, and why."""
    return []


@pytest.fixture
async def client(tokens, told) -> AsyncIterator[httpx.AsyncClient]:
    access = Access(True, EVERYBODY_WORKS_AND_BOSS_ADMINISTERS, (Knows(),), tokens)
    async with running(access, tokens, lambda *what: told.append((current_request.get().actor.name, *what))) as made:
        yield made


async def made(client: httpx.AsyncClient, auth: httpx.Auth = ADA, **options: Any) -> str:
    answer = await client.post(API, json=options, auth=auth)
    assert answer.status_code == 201, answer.text
    text: str = answer.json()["token"]
    return text


def is_one_line(answer: httpx.Response) -> bool:
    plain = answer.headers["content-type"].startswith("text/plain")
    return plain and answer.text.endswith("\n") and answer.text.count("\n") == 1


# Making


async def test_whoever_has_logged_in_makes_a_token(client, tokens, clock):
    answer = await client.post(API, auth=ADA)
    assert (answer.status_code, answer.headers["content-type"]) == (201, "application/json")
    assert answer.headers["cache-control"] == "no-store"
    document = answer.json()
    token = await tokens.verify(document.pop("token"))
    assert token.user == "ada"
    assert seconds_of(token.expires) == clock.now + DEFAULT_DAYS * DAY_SECONDS
    assert document == {
        "id": token.id,
        "user": "ada",
        "issuer": "",
        "note": "",
        "state": "valid",
        "limits": [{"rights": ["read", "write"], "registries": ["*"], "projects": ["*"]}],
        "created": token.created,
        "expires": token.expires,
        "revoked": "",
        "last_used": "",
    }


async def test_a_token_is_made_as_it_is_wanted(client, tokens, clock):
    options = {"note": "for CI", "rights": ["read"], "registries": ["main"], "projects": ["team-*", "x"], "expires_days": 0}
    token = await tokens.verify(await made(client, **options))
    assert (token.note, token.expires) == ("for CI", "")
    assert token.limits == (Grant(rights=frozenset({Right.READ}), registries=("main",), projects=("team-*", "x")),)
    answer = await client.post(f"{API}?note=short&expires_days=2", auth=ADA)
    assert answer.json()["note"] == "short"
    assert seconds_of(answer.json()["expires"]) == clock.now + 2 * DAY_SECONDS


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"user": "bob"}, "options are: note, rights, registries, projects, expires_days"),
        ({"note": "a\nb"}, "one line"),
        ({"note": None}, "note"),
        ({"rights": []}, "at least one right"),
        ({"rights": ["fly"]}, "fly"),
        ({"rights": "read"}, "rights"),
        ({"registries": []}, "patterns of registries"),
        ({"registries": ["A"]}, "'A' is no pattern"),
        ({"projects": ["a"] * 101}, "1 to 100 patterns of projects"),
        ({"projects": [1]}, "projects"),
        ({"expires_days": -1}, "expires_days"),
        ({"expires_days": 3651}, "3650"),
        ({"expires_days": "soon"}, "expires_days"),
        ({"expires_days": True}, "expires_days"),
    ],
    ids=str,
)
async def test_an_option_that_is_not_understood_is_400_and_makes_nothing(client, tokens, options, words):
    answer = await client.post(API, json=options, auth=ADA)
    assert answer.status_code == 400
    assert is_one_line(answer)
    assert words in answer.text
    assert await tokens.all() == []


@pytest.mark.parametrize(
    ("content", "status"), [(b"{", 400), (b"[]", 400), (b'{"note": "\xff"}', 400), (b" " * 1_048_577, 413)]
)
async def test_a_body_that_is_no_object_makes_nothing(client, tokens, content, status):
    answer = await client.post(API, content=content, headers={"content-type": "application/json"}, auth=ADA)
    assert answer.status_code == status
    assert is_one_line(answer)
    assert (await client.post(API, content=b"{}", auth=ADA)).status_code == 400  # without a type
    assert await tokens.all() == []


async def test_on_a_full_disk_nothing_is_made(client, tokens, monkeypatch):
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "no room")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        answer = await client.post(API, auth=ADA)
    assert answer.status_code == 507
    assert await tokens.all() == []


async def test_a_user_makes_a_bounded_number(client, tokens, clock, monkeypatch):
    monkeypatch.setattr(tokens_api, "MAX_OWN_TOKENS", 3)
    lasting = await made(client, expires_days=0)
    answers = await asyncio.gather(*(client.post(API, json={"expires_days": 1}, auth=ADA) for _ in range(6)))
    assert sorted(answer.status_code for answer in answers) == [201, 201, 400, 400, 400, 400]
    refused = next(answer for answer in answers if answer.status_code == 400)
    assert is_one_line(refused)
    assert "revoke some" in refused.text
    # Others are not concerned, and revoking does not make room for more at once.
    await made(client, BOB)
    ids = [answer.json()["id"] for answer in answers if answer.status_code == 201]
    assert (await client.delete(f"{API}/{ids[0]}", auth=ADA)).status_code == 200
    assert (await client.post(API, auth=ADA)).status_code == 400
    clock.now += DAY_SECONDS + 1
    await made(client)
    await made(client)
    assert (await client.post(API, auth=ADA)).status_code == 400
    assert await tokens.verify(lasting)


# Listing


async def test_everybody_lists_their_own_and_never_what_lets_in(client, tokens, clock):
    assert (await client.get(API, auth=ADA)).json() == {"tokens": []}
    texts = [await made(client, auth, note=note) for auth, note in ((ADA, "a"), (BOB, "b"), (ADA, "c"))]
    clock.now += 1
    await tokens.revoke(token_id(texts[0]))
    answer = await client.get(API, auth=ADA)
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/json")
    assert answer.headers["cache-control"] == "no-store"
    listed = answer.json()["tokens"]
    assert sorted((each["id"], each["note"], each["state"]) for each in listed) == sorted(
        [(token_id(texts[0]), "a", "revoked"), (token_id(texts[2]), "c", "valid")]
    )
    for each in await tokens.all():
        assert each.token.digest not in answer.text
    for text in texts:
        assert text.rpartition("_")[2] not in answer.text
    head = await client.head(API, auth=ADA)
    assert (head.status_code, head.content) == (200, b"")
    assert (await client.get(f"{API}?user=bob", auth=ADA)).status_code == 400


# Revoking


async def test_a_token_of_ones_own_is_revoked(client, tokens):
    text = await made(client)
    assert await tokens.verify(text)
    answer = await client.delete(f"{API}/{token_id(text)}", auth=ADA)
    assert (answer.status_code, answer.json()) == (200, {"changed": True})
    assert await tokens.verify(text) is None
    assert (await client.delete(f"{API}/{token_id(text)}", auth=ADA)).json() == {"changed": False}


async def test_anothers_token_is_as_one_that_is_not_there(client, tokens):
    text = await made(client, BOB)
    damaged = token_id(await made(client, ADA))
    (tokens._store.root / f"tokens/{damaged}.json").write_text("{")
    answers = [
        await client.delete(f"{API}/{named}", auth=ADA) for named in (token_id(text), text, "0" * 12, "x", damaged, new_text())
    ]
    assert {(answer.status_code, answer.text) for answer in answers} == {(404, "no such token: none of yours has this id\n")}
    assert await tokens.verify(text)
    assert (await client.delete(f"{API}/..%2Ftokens", auth=ADA)).status_code == 404


# Administrators


async def test_an_administrator_lists_everybodys_tokens_if_that_is_wanted(client, tokens, clock):
    texts = [await made(client, auth, note=note) for auth, note in ((ADA, "a"), (BOB, "b"), (BOSS, "c"))]
    await tokens.revoke(token_id(texts[0]))
    answer = await client.get(f"{API}?all=true", auth=BOSS)
    assert (answer.status_code, answer.headers["cache-control"]) == (200, "no-store")
    assert sorted((each["user"], each["note"], each["state"]) for each in answer.json()["tokens"]) == [
        ("ada", "a", "revoked"),
        ("bob", "b", "valid"),
        ("boss", "c", "valid"),
    ]
    for listed, text in zip(await tokens.all(), texts, strict=True):
        assert listed.token.digest not in answer.text
        assert text.rpartition("_")[2] not in answer.text
    for address in (API, f"{API}?all=false"):
        assert [each["user"] for each in (await client.get(address, auth=BOSS)).json()["tokens"]] == ["boss"]
    head = await client.head(f"{API}?all=true", auth=BOSS)
    assert (head.status_code, head.content) == (200, b"")
    answer = await client.get(f"{API}?all=some", auth=BOSS)
    assert (answer.status_code, is_one_line(answer)) == (400, True)


async def test_an_administrator_revokes_anybodys_token_and_the_audit_log_knows_whose(client, tokens, told):
    texts = [await made(client, auth, note=note) for auth, note in ((BOB, "for CI"), (BOB, ""), (BOSS, "mine"))]
    told.clear()
    for text in texts:
        answer = await client.delete(f"{API}/{token_id(text)}", auth=BOSS)
        assert (answer.status_code, answer.json()) == (200, {"changed": True})
        assert await tokens.verify(text) is None
        assert (await client.delete(f"{API}/{token_id(text)}", auth=BOSS)).json() == {"changed": False}
    reasons = ("of bob: for CI", "of bob", "mine")
    assert told == [("boss", "token-revoke", token_id(text), reason) for text, reason in zip(texts, reasons, strict=True)]


async def test_an_administrator_closes_a_record_that_is_of_no_use(client, tokens, told):
    damaged = token_id(await made(client, BOB))
    told.clear()
    (tokens._store.root / f"tokens/{damaged}.json").write_text("{")
    assert (await client.delete(f"{API}/{damaged}", auth=BOSS)).json() == {"changed": True}
    assert told == [("boss", "token-revoke", damaged, "")]


async def test_what_an_administrator_cannot_find_is_not_repeated(client, tokens, told):
    text, secret_one = await made(client, BOB), new_text()
    told.clear()
    for named in ("0" * 12, "x", text, secret_one, "..%2Ftokens"):
        answer = await client.delete(f"{API}/{named}", auth=BOSS)
        assert (answer.status_code, is_one_line(answer)) == (404, True)
        assert named[20:] not in answer.text or not named[20:]
    assert await tokens.verify(text)
    assert told == []


@pytest.mark.parametrize(
    "grants",
    [
        (),
        (READ, WRITE),
        (Grant(rights=ADMIN.rights, registries=("main",)),),
        (Grant(rights=ADMIN.rights, projects=("team-*",)),),
        # Together they may cover everything today, and not tomorrow.
        (Grant(rights=ADMIN.rights, registries=("main",)), Grant(rights=ADMIN.rights, projects=("*-*",))),
    ],
    ids=["nothing", "work", "a registry", "some projects", "parts"],
)
async def test_who_does_not_administer_everything_has_only_their_own(tokens, grants):
    text, token = await tokens.create("bob", note="", limits=(READ,), expires="")
    rules = Rules([(frozenset({"ada"}), grant) for grant in (Grant(rights=READ.rights, projects=("x",)), *grants)])
    async with running(Access(True, rules, (Knows(),), tokens), tokens) as client:
        answer = await client.get(f"{API}?all=true", auth=ADA)
        assert (answer.status_code, is_one_line(answer)) == (403, True)
        assert "leave out all for your own" in answer.text
        assert (await client.get(f"{API}?all=false", auth=ADA)).json() == {"tokens": []}
        unknown = await client.delete(f"{API}/{'0' * 12}", auth=ADA)
        answer = await client.delete(f"{API}/{token.id}", auth=ADA)
        assert (answer.status_code, answer.text) == (unknown.status_code, unknown.text) == (404, answer.text)
    assert await tokens.verify(text)


async def test_without_rules_whoever_has_logged_in_is_an_administrator(tokens):
    text, token = await tokens.create("bob", note="", limits=(READ,), expires="")
    async with running(Access(True, Rules(), (Knows(),), tokens), tokens) as client:
        assert [each["user"] for each in (await client.get(f"{API}?all=true", auth=ADA)).json()["tokens"]] == ["bob"]
        assert (await client.delete(f"{API}/{token.id}", auth=ADA)).json() == {"changed": True}
    assert await tokens.verify(text) is None


async def test_an_administrators_token_is_no_administrator(client, tokens):
    text, other = await made(client, BOSS, rights=["read", "write", "admin"]), await made(client, BOB)
    for method, address in (("GET", f"{API}?all=true"), ("DELETE", f"{API}/{token_id(other)}")):
        answer = await client.request(method, address, auth=Bearer(text))
        assert (answer.status_code, is_one_line(answer)) == (403, True)
    assert await tokens.verify(other)
    (tokens._store.root / f"tokens/{token_id(other)}.json").write_text("{")
    assert (await client.delete(f"{API}/{token_id(other)}", auth=Bearer(text))).status_code == 403
    assert (await client.delete(f"{API}/{token_id(text)}", auth=Bearer(text))).json() == {"changed": True}


# Who asks


@pytest.mark.parametrize(
    "grants", [(), (WRITE,), (Grant(rights=ADMIN.rights, registries=("none",)),)], ids=["none", "write", "admin"]
)
async def test_who_may_read_nothing_has_tokens_too(tokens, grants):
    rules = Rules([(frozenset({"bob"}), READ), *((frozenset({"ada"}), grant) for grant in grants)])
    async with running(Access(True, rules, (Knows(),), tokens), tokens) as client:
        text = await made(client)
        assert [each["id"] for each in (await client.get(API, auth=ADA)).json()["tokens"]] == [token_id(text)]
        assert (await client.head(API, auth=ADA)).status_code == 200
        assert (await client.delete(f"{API}/{token_id(text)}", auth=Bearer(text))).json() == {"changed": True}
        text = await made(client)
        assert (await client.delete(f"{API}/{token_id(text)}", auth=ADA)).json() == {"changed": True}


@pytest.mark.parametrize("open_registries", [(), ("*",)])
async def test_nobody_in_particular_has_no_tokens(tokens, open_registries):
    text, token = await tokens.create("ada", note="", limits=(READ,), expires="")
    rules = Rules([(frozenset({EVERYBODY}), ADMIN)] if open_registries else (), open_registries)
    async with running(Access(True, rules, (Knows(),), tokens), tokens) as client:
        for method, address in (("GET", API), ("POST", API), ("DELETE", f"{API}/{token.id}"), ("DELETE", f"{API}/x")):
            for auth in (None, httpx.BasicAuth("ada", "wrong"), Bearer(new_text())):
                answer = await client.request(method, address, auth=auth)
                assert answer.status_code == 401
                assert answer.headers["www-authenticate"].startswith("Basic ")
                assert is_one_line(answer)
    assert len(await tokens.all()) == 1
    assert await tokens.verify(text)


async def test_where_nobody_has_to_log_in_nobody_has_tokens(tokens):
    async with running(Access(False, Rules(), ()), tokens) as client:
        assert (await client.post(API, auth=ADA)).status_code == 401
    assert await tokens.all() == []


@pytest.mark.parametrize(
    "how", [Bearer, lambda text: httpx.BasicAuth("__token__", text), lambda text: httpx.BasicAuth("bob", text)]
)
async def test_a_token_makes_and_lists_none_and_revokes_only_itself(client, tokens, how: Callable[[str], httpx.Auth]):
    text, other = await made(client), await made(client)
    by = how(text)
    for method, address, told in (
        ("POST", API, "a token may not make tokens; log in with the password"),
        ("GET", API, "a token may not list tokens; log in with the password"),
        ("DELETE", f"{API}/{token_id(other)}", "a token may revoke no other token; log in with the password"),
        ("DELETE", f"{API}/{'0' * 12}", "a token may revoke no other token; log in with the password"),
    ):
        answer = await client.request(method, address, auth=by)
        assert (answer.status_code, answer.text) == (403, f"{told}\n")
    assert len(await tokens.all()) == 2
    answer = await client.delete(f"{API}/{token_id(text)}", auth=by)
    assert (answer.status_code, answer.json()) == (200, {"changed": True})
    assert (await client.delete(f"{API}/{token_id(text)}", auth=by)).status_code == 401
    assert await tokens.verify(other)


async def test_who_may_only_read_has_tokens_that_allow_no_more(tokens):
    access = Access(True, Rules([(frozenset({"ada"}), READ)]), (Knows(),), tokens)
    async with running(access, tokens) as client:
        text = await made(client, rights=["read", "write", "admin"])
        assert (await access.authorize(f"Bearer {text}", Right.READ, "main")).token == token_id(text)
        for right in (Right.WRITE, Right.ADMIN):
            with pytest.raises(Forbidden):
                await access.authorize(f"Bearer {text}", right, "main")
        assert (await client.delete(f"{API}/{token_id(text)}", auth=ADA)).status_code == 200


async def test_pages_of_other_sites_change_nothing(client, tokens):
    text = await made(client)
    foreign = {"sec-fetch-site": "cross-site"}
    assert (await client.post(API, auth=ADA, headers=foreign)).status_code == 403
    assert (await client.delete(f"{API}/{token_id(text)}", auth=ADA, headers=foreign)).status_code == 403
    assert len(await tokens.all()) == 1
    assert await tokens.verify(text)


async def test_another_worker_closes_what_was_made_here(tokens, store, tasks, clock):
    async with AsyncExitStack() as stack:
        other_store = DirectoryStore.open(store.root)
        stack.push_async_callback(other_store.aclose)
        assert other_store.changes.watch()
        others = Tokens(other_store, tasks, clock=clock)
        here, there = [
            await stack.enter_async_context(running(Access(True, Rules(), (Knows(),), each), each)) for each in (tokens, others)
        ]
        by = Bearer(text := await made(here))
        assert (await there.get(API, auth=by)).status_code == 403  # let in, as a token
        assert (await here.delete(f"{API}/{token_id(text)}", auth=ADA)).status_code == 200
        assert (await there.get(API, auth=by)).status_code == 401


# The rest


async def test_no_log_has_what_lets_in(client, tokens, caplog):
    with caplog.at_level(logging.DEBUG):
        text = await made(client)
        await client.get(API, auth=Bearer(text))
        await client.delete(f"{API}/{token_id(text)}", auth=ADA)
        await client.get(API, auth=Bearer(text))
    secret = text.rpartition("_")[2]
    assert caplog.records
    assert not [record for record in caplog.records if secret in str(vars(record)) or secret in record.getMessage()]


async def test_a_method_that_is_not_allowed_is_405_with_those_that_are(client):
    # HTTP-3
    for address, allowed in ((API, {"GET", "HEAD", "POST"}), (f"{API}/x", {"DELETE"})):
        answer = await client.put(address, auth=ADA)
        assert answer.status_code == 405
        assert set(answer.headers["allow"].split(", ")) == allowed


def test_every_route_is_for_whoever_has_logged_in(tokens):
    declared = {(route.rule, method): (route.right, route.stream) for route in token_routes(tokens) for method in route.methods}
    assert declared == {
        ("/tokens", "GET"): (None, False),
        ("/tokens", "HEAD"): (None, False),
        ("/tokens", "POST"): (None, False),
        ("/tokens/<token>", "DELETE"): (None, False),
    }
