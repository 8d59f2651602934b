"""API tokens: who has the text gets in, until it expires or is revoked, in every process."""

from __future__ import annotations

import asyncio
import configparser
import errno
import gc
import json
import logging
import netrc
import os
import re
import shlex
import tracemalloc
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import pytest

from nora.api import Invalid, NotFound, Right, StorageFull
from nora.auth.record import new_text, shown
from nora.auth.tokens import NOTED_SECONDS, REMEMBERED_SECONDS, Token, Tokens, token_id
from nora.clock import timestamp
from nora.rights import Grant
from nora.store.directory import DirectoryStore
from nora.tasks import Tasks

READ = (Grant(rights=frozenset({Right.READ})),)
FORM = re.compile(r"nora_[a-z0-9]{12}_[A-Za-z0-9]{43}")


class Looks:
    """What is asked of a store, counted."""

    def __init__(self, store: DirectoryStore, monkeypatch: pytest.MonkeyPatch) -> None:
        self.keys: list[str] = []
        self.puts: list[str] = []
        for name, kept in (("get", self.keys), ("exists", self.keys), ("put", self.puts)):
            self._count(store, name, kept, monkeypatch)

    def _count(self, store: DirectoryStore, name: str, kept: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
        real = getattr(store, name)

        async def counted(key: str, *more: Any) -> Any:
            kept.append(key)
            return await real(key, *more)

        monkeypatch.setattr(store, name, counted)

    @property
    def of_records(self) -> list[str]:
        return [key for key in self.keys if not key.endswith(".used")]


@pytest.fixture
def tokens(store, tasks, clock) -> Tokens:
    assert store.changes.watch()
    return Tokens(store, tasks, clock=clock)


@pytest.fixture
async def other_store(store) -> AsyncIterator[DirectoryStore]:
    """The same folder, opened by another process."""
    opened = DirectoryStore.open(store.root)
    assert opened.changes.watch()
    yield opened
    await opened.aclose()


@pytest.fixture
def others(other_store, tasks, clock) -> Tokens:
    """The tokens as another worker has them."""
    return Tokens(other_store, tasks, clock=clock)


async def made(tokens: Tokens, user: str = "alice", **more: Any) -> tuple[str, Token]:
    return await tokens.create(user, **{"note": "", "limits": READ, "expires": "", **more})


async def settled(tasks: Tasks) -> None:
    while tasks._running:
        await asyncio.sleep(0.001)


def files(store: DirectoryStore) -> dict[str, bytes]:
    return {str(path.relative_to(store.root)): path.read_bytes() for path in store.root.rglob("*") if path.is_file()}


# The text


def test_a_text_is_random_and_needs_no_escaping_anywhere(tmp_path):
    texts = {new_text() for _ in range(500)}
    assert len(texts) == len({token_id(text) for text in texts}) == 500
    for text in texts:
        assert FORM.fullmatch(text)
        assert quote(text, safe="") == text == shlex.quote(text)
    # 43 of 62 letters hold 256 bits, and all of them come up.
    assert 62**43 >= 2**256
    assert len(set("".join(text.rpartition("_")[2] for text in texts))) == 62
    (tmp_path / "netrc").write_text(f"machine a login __token__ password {text}\n")
    assert netrc.netrc(str(tmp_path / "netrc")).authenticators("a") == ("__token__", "", text)
    parser = configparser.ConfigParser()
    parser.read_string(f"[nora]\npassword = {text}\n")
    assert parser["nora"]["password"] == text
    assert urlsplit(f"https://alice:{text}@a.example/simple/").password == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "nora_",
        f"nora_0123456789ab_{'x' * 42}",
        f"nora_0123456789ab_{'x' * 44}",
        f"nora_0123456789ab_{'x' * 42}\n",
        f"nora_0123456789ab_{'x' * 43}\n",
        f"nora_0123456789ab_{'x' * 42}_",
        f"nora_0123456789ab_{'x' * 42}é",
        f"nora_0123456789ab_{'x' * 42}٣",
        f"nora_0123456789aB_{'x' * 43}",
        f"nora_../../../../_{'x' * 43}",
        f"Nora_0123456789ab_{'x' * 43}",
        f"xnora_0123456789ab_{'x' * 42}",
        f"nora_0123456789ab_{'x' * 10_000_000}",
    ],
    ids=lambda text: f"{text[:20]!r}-{len(text)}",
)
async def test_what_has_not_the_form_of_a_token_is_none_without_a_look(tokens, store, monkeypatch, text):
    looks = Looks(store, monkeypatch)
    assert token_id(text) is None
    assert await tokens.verify(text) is None
    assert tokens.standing(text) is None
    assert looks.keys == []


# Making and letting in


async def test_who_has_the_text_gets_in_and_only_its_digest_is_kept(tokens, store, tasks, clock):
    limits = (
        Grant(rights=frozenset({Right.READ, Right.WRITE}), registries=("main",), projects=("team-*", "other")),
        Grant(rights=frozenset({Right.ADMIN}), registries=("x*",)),
    )
    text, token = await tokens.create("alice", note="for CI", limits=limits, expires=tokens.expiry(30))
    assert (token.id, token.user, token.note, token.limits) == (token_id(text), "alice", "for CI", limits)
    assert (token.created, token.expires) == (timestamp(clock.now), timestamp(clock.now + 30 * 24 * 3600))
    assert token.revoked == ""
    assert await tokens.verify(text) == token
    # After a restart, too.
    assert await Tokens(store, tasks, clock=clock).verify(text) == token
    await settled(tasks)
    secret = text.rpartition("_")[2]
    assert {name for name in files(store) if name.startswith("tokens/")} == {
        f"tokens/{token.id}.json",
        f"tokens/{token.id}.used",
    }
    assert not any(secret.encode() in content for content in files(store).values())


async def test_neither_digest_nor_secret_is_shown(tokens):
    text, token = await made(tokens)
    (listed,) = await tokens.all()
    for said in (repr(token), str(token), f"{listed}", str(token.__rich_repr__()), str(shown(listed, 0.0))):
        assert token.id in said
        assert token.digest not in said
        assert text.rpartition("_")[2] not in said
    assert token.digest not in repr(tokens._admissions.__dict__)


async def test_another_text_does_not_let_in(tokens):
    text, token = await made(tokens)
    other, _ = await made(tokens)
    secret = text.rpartition("_")[2]
    changed = ("A" if secret[0] != "A" else "B") + secret[1:]
    for wrong in (f"nora_{token.id}_{changed}", f"nora_{token_id(other)}_{secret}", new_text(), f"nora_{token.id}_{'-' * 43}"):
        assert await tokens.verify(wrong) is None
        assert tokens.standing(wrong) is None
    assert (await tokens.verify(text)).id == token.id


async def test_an_unknown_id_costs_the_same_looks_as_a_wrong_secret(tokens, store, monkeypatch):
    _, token = await made(tokens)
    looks, compared = Looks(store, monkeypatch), []
    compare = __import__("hmac").compare_digest
    monkeypatch.setattr("hmac.compare_digest", lambda a, b: compared.append((len(a), len(b))) or compare(a, b))
    for id_ in (token.id, "0" * 12):
        looks.keys.clear()
        await tokens.verify(f"nora_{id_}_{'x' * 43}")
        assert looks.keys == [f"tokens/{id_}.json", f"tokens/{id_}.revoked"]
    assert compared == [(64, 64)] * 2


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"user": ""}, "user's name"),
        ({"user": "a\nb"}, "user's name"),
        ({"user": "\udcff"}, "user's name"),
        ({"user": "a" * 201}, "user's name"),
        ({"note": "a\x1b[2J"}, "note"),
        ({"note": "a" * 201}, "note"),
        ({"limits": ()}, "at least one right of read, write, admin"),
        ({"limits": (Grant(rights=frozenset()),)}, "at least one right"),
        ({"limits": (Grant(rights=frozenset({Right.READ}), registries=()),)}, "1 to 100 patterns of registries"),
        ({"limits": (Grant(rights=frozenset({Right.READ}), projects=("a",) * 101),)}, "1 to 100 patterns of projects"),
        ({"limits": (Grant(rights=frozenset({Right.READ}), projects=("a", "B")),)}, "'B' is no pattern of names"),
        ({"limits": (Grant(rights=frozenset({Right.READ}), registries=("",)),)}, "'' is no pattern of names"),
        ({"expires": "tomorrow"}, "time to come"),
        ({"expires": "2031-05-17"}, "time to come"),
        ({"expires": timestamp(1_800_000_000)}, "time to come"),
    ],
    ids=str,
)
async def test_a_token_that_makes_no_sense_is_not_made(tokens, store, wrong, words):
    with pytest.raises(Invalid, match=re.escape(words)):
        await made(tokens, **wrong)
    assert not (store.root / "tokens").exists()


async def test_all_that_is_wrong_is_told_at_once(tokens):
    with pytest.raises(Invalid) as told:
        await made(tokens, user="", note="\n", limits=(), expires="x")
    assert len(told.value.problems) == 4


async def test_on_a_full_disk_nothing_is_half_made(tokens, store, monkeypatch):
    text, _ = await made(tokens)

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "no room")

    before = files(store)
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(StorageFull):
            await made(tokens)
    assert files(store) == before
    assert len(await tokens.all()) == 1
    assert await tokens.verify(text)
    assert await made(tokens)


# Expiry


async def test_a_token_expires_by_the_clock_however_well_it_is_remembered(tokens, clock):
    text, token = await made(tokens, expires=timestamp(clock.now + 0.5))
    assert await tokens.verify(text)
    standing = tokens.standing(text)
    clock.now += 0.4999
    assert standing()
    assert await tokens.verify(text) == token
    clock.now += 0.0001
    assert not standing()
    assert tokens.standing(text) is None
    assert await tokens.verify(text) is None
    (listed,) = await tokens.all()
    assert (listed.token.state(clock.now), listed.token.state(clock.now - 0.1)) == ("expired", "valid")


async def test_a_token_without_expiry_lasts(tokens, clock):
    assert tokens.expiry(0) == ""
    text, _ = await made(tokens)
    clock.now += 100 * 365 * 24 * 3600
    assert await tokens.verify(text)


# Revoking


async def test_a_revoked_token_is_closed_for_good(tokens, store, tasks, clock):
    text, token = await made(tokens)
    kept, _ = await made(tokens)
    assert await tokens.verify(text)
    standing = tokens.standing(text)
    assert await tokens.revoke(token.id) is True
    assert not standing()
    assert await tokens.verify(text) is None
    assert tokens.standing(text) is None
    at = timestamp(clock.now)
    clock.now += 100
    assert await tokens.revoke(token.id) is False
    assert (await tokens.find(token.id)).token.revoked == at
    assert await Tokens(store, tasks, clock=clock).verify(text) is None
    assert await tokens.verify(kept)


@pytest.mark.parametrize("id_", ["0" * 12, "", "x", "../../FORMAT", f"nora_{'0' * 12}_{'s' * 43}", "\udcff" * 12, "A" * 12])
async def test_what_is_no_token_cannot_be_revoked_and_is_not_repeated(tokens, store, monkeypatch, id_):
    await made(tokens)
    before, looks = files(store), Looks(store, monkeypatch)
    with pytest.raises(NotFound) as told:
        await tokens.revoke(id_)
    assert "s" * 43 not in str(told.value)
    assert await tokens.find(id_) is None
    assert files(store) == before
    assert set(looks.keys) <= {f"tokens/{'0' * 12}.json"}, "only an id is made a key"


async def test_a_token_that_one_worker_revokes_is_closed_in_the_other_at_once(tokens, others):
    text, token = await made(tokens)
    assert await tokens.verify(text) == await others.verify(text) == token
    standing = others.standing(text)
    assert standing()
    await tokens.revoke(token.id)
    assert not standing()
    assert others.standing(text) is None
    assert await others.verify(text) is None
    assert not standing()
    assert await others.revoke(token.id) is False


async def test_of_two_who_revoke_at_once_one_was_first(tokens, others):
    _, token = await made(tokens)
    done = await asyncio.gather(*(worker.revoke(token.id) for worker in (tokens, others) * 5))
    assert sorted(done) == [False] * 9 + [True]


@pytest.mark.parametrize("content", [b"", b"\xff", b"soon"])
async def test_a_revocation_counts_whatever_it_says(tokens, store, content):
    text, token = await made(tokens)
    (store.root / f"tokens/{token.id}.revoked").write_bytes(content)
    assert await tokens.verify(text) is None
    assert (await tokens.find(token.id)).token.state(0.0) == "revoked"


async def test_a_revocation_that_nobody_told_of_counts_after_a_second(tokens, store, clock):
    # As of a process that was killed in between, or where the mark was removed and its successor is another file.
    text, token = await made(tokens)
    assert await tokens.verify(text)
    standing = tokens.standing(text)
    (store.root / f"tokens/{token.id}.revoked").write_bytes(b"")
    assert standing()
    clock.now += REMEMBERED_SECONDS
    assert not standing()
    assert await tokens.verify(text) is None
    # Who was refused once is not let in again by a clock that is set back.
    clock.now -= REMEMBERED_SECONDS / 2
    assert not standing()
    assert await tokens.verify(text) is None


async def test_a_mark_that_was_removed_is_found_again(tokens, store, others, clock):
    text, token = await made(tokens)
    assert await tokens.verify(text)
    (store.root / "CHANGES").unlink()
    clock.now += REMEMBERED_SECONDS
    assert await tokens.verify(text)
    standing = tokens.standing(text)
    await others.revoke(token.id)
    assert not standing()
    assert await tokens.verify(text) is None


async def test_a_token_that_is_revoked_during_a_look_is_not_remembered(tokens, others, store, monkeypatch):
    text, token = await made(tokens)
    exists = store.exists

    async def slow(key: str) -> bool:
        found = await exists(key)
        monkeypatch.setattr(store, "exists", exists)
        await others.revoke(token.id)
        return found

    monkeypatch.setattr(store, "exists", slow)
    assert await tokens.verify(text) == token  # it began before
    assert tokens.standing(text) is None
    assert await tokens.verify(text) is None


async def test_a_late_look_does_not_reopen_what_another_has_closed(tokens, others, store, monkeypatch):
    text, token = await made(tokens)
    assert await tokens.verify(text)
    standing = tokens.standing(text)
    reached, go_on, exists = asyncio.Event(), asyncio.Event(), store.exists

    async def slow(key: str) -> bool:
        found = await exists(key)
        monkeypatch.setattr(store, "exists", exists)
        reached.set()
        await go_on.wait()
        return found

    monkeypatch.setattr(store, "exists", slow)
    await store.put("x", b"")  # something has changed
    late = asyncio.create_task(tokens.verify(text))
    await reached.wait()
    await others.revoke(token.id)
    assert await tokens.verify(text) is None
    go_on.set()
    await late
    assert not standing()
    assert tokens.standing(text) is None
    assert await tokens.verify(text) is None


# What is remembered


async def test_what_is_remembered_is_no_digest_that_anybody_else_could_make(tokens, store, tasks):
    text, _ = await made(tokens)
    assert await tokens.verify(text)
    (known,) = tokens._admissions._entries
    assert known != Tokens(store, tasks)._credential(text)
    assert text.encode() not in known


async def test_a_record_that_was_edited_counts_as_it_is_now_and_for_no_answer_from_before(tokens, store, clock):
    text, token = await made(tokens)
    assert await tokens.verify(text) == token
    standing = tokens.standing(text)
    path = store.root / f"tokens/{token.id}.json"
    path.write_bytes(path.read_bytes().replace(b'"projects":["*"]', b'"projects":["a"]'))
    clock.now += REMEMBERED_SECONDS
    assert (await tokens.verify(text)).limits[0].projects == ("a",)
    # A page that was made while it could do more is asked for again; what is made now may be held.
    assert not standing()
    assert tokens.standing(text)()


async def test_what_was_found_is_remembered_until_anything_changes(tokens, store, other_store, monkeypatch, tasks):
    text, _ = await made(tokens)
    await tokens.verify(text)
    await settled(tasks)
    await tokens.verify(text)
    standing, looks = tokens.standing(text), Looks(store, monkeypatch)
    for _ in range(20):
        assert await tokens.verify(text)
        assert standing()
    assert looks.keys == []
    await other_store.put("cache/x", b"")
    assert not standing()
    assert looks.keys == []
    assert await tokens.verify(text)
    assert len(looks.keys) == 2
    assert standing(), "whoever looks again does it for all"


async def test_a_look_is_renewed_after_a_second_and_when_the_clock_was_set_back(tokens, store, monkeypatch, tasks, clock):
    text, _ = await made(tokens)
    await tokens.verify(text)
    await settled(tasks)
    await tokens.verify(text)
    standing, looks = tokens.standing(text), Looks(store, monkeypatch)
    for step in (REMEMBERED_SECONDS, -0.5):
        clock.now += step
        assert not standing()
        assert tokens.standing(text) is None
        assert await tokens.verify(text)
        assert standing()
    assert len(looks.of_records) == 4


@pytest.mark.parametrize("kind", ["no mark", "not watched"])
async def test_without_a_mark_every_request_looks(store, tasks, clock, monkeypatch, kind):
    tokens = Tokens(store, tasks, clock=clock)
    text, token = await made(tokens)
    if kind == "no mark":
        monkeypatch.setattr(tokens, "_used", lambda _: None)  # notes are written, which this store could not tell of
        monkeypatch.setattr(store, "changes", None)
    looks = Looks(store, monkeypatch)
    for _ in range(3):
        assert await tokens.verify(text) == token
        assert tokens.standing(text) is None
    assert len(looks.of_records) == 6
    await settled(tasks)
    (store.root / f"tokens/{token.id}.revoked").write_bytes(b"")
    assert await tokens.verify(text) is None


def own_memory() -> int:
    """Bytes that our own code has allocated and that are still held; what tests and their tools keep is not in it."""
    gc.collect()
    ours = tracemalloc.take_snapshot().filter_traces([tracemalloc.Filter(True, "*/nora/*")])
    return sum(found.size for found in ours.statistics("filename"))


async def test_wrong_tokens_take_no_memory_and_push_nobody_out(tokens, store, monkeypatch, tasks):
    text, token = await made(tokens)
    await tokens.verify(text)
    await settled(tasks)
    await tokens.verify(text)
    standing, looks = tokens.standing(text), Looks(store, monkeypatch)

    async def guess(count: int) -> None:
        for number in range(count):
            id_ = token.id if number % 2 else f"{number:012d}"
            assert await tokens.verify(f"nora_{id_}_{number:043d}") is None
        looks.keys.clear()

    tracemalloc.start()
    try:
        await guess(1000)
        before = own_memory()
        await guess(10_000)
        grown = own_memory() - before
    finally:
        tracemalloc.stop()
    assert grown < 100_000
    # The right one is still known without a look.
    assert standing()
    assert await tokens.verify(text) == token
    assert looks.keys == []


async def test_a_wrong_token_costs_two_looks_and_no_thread(tokens, store, monkeypatch):
    looks, in_thread = Looks(store, monkeypatch), []
    monkeypatch.setattr(store, "_in_thread", lambda *call: in_thread.append(call))
    for _ in range(100):
        await tokens.verify(new_text())
    assert (len(looks.keys), in_thread) == (200, [])


async def test_many_requests_at_once_with_one_token_all_get_in(tokens, others, tasks, store, monkeypatch):
    text, token = await made(tokens)
    wrong = new_text()
    looks = Looks(store, monkeypatch)
    found = await asyncio.gather(
        *(worker.verify(each) for worker in (tokens, others) for each in (text, wrong) for _ in range(50))
    )
    assert found == ([token] * 50 + [None] * 50) * 2
    await settled(tasks)
    assert looks.puts == [f"tokens/{token.id}.used"]


# Records that are of no use


def _changed(**more: Any) -> Callable[[dict[str, Any]], bytes]:
    return lambda record: json.dumps({**record, **more}).encode()


def _without(name: str) -> Callable[[dict[str, Any]], bytes]:
    return lambda record: json.dumps({key: value for key, value in record.items() if key != name}).encode()


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(lambda _: b"", id="empty"),
        pytest.param(lambda record: json.dumps(record).encode()[:-9], id="cut"),
        pytest.param(lambda _: b"\xff", id="no text"),
        pytest.param(lambda _: b'"\xff"', id="no UTF-8"),
        pytest.param(lambda _: b"[" * 100_000, id="deep"),
        pytest.param(lambda _: b"[]", id="list"),
        pytest.param(_changed(format=2), id="newer"),
        pytest.param(_changed(format=2, limits={"a": 1}), id="newer and other"),
        pytest.param(_changed(networks=["10.0.0.0/8"]), id="unknown limit"),
        pytest.param(_changed(limits=[{"rights": ["fly"]}]), id="unknown right"),
        pytest.param(_changed(id="0" * 12), id="of another"),
        pytest.param(_changed(user=""), id="nobody"),
        pytest.param(_changed(digest=""), id="no digest"),
        pytest.param(_changed(digest="A" * 64), id="other digest"),
        pytest.param(_changed(expires="soon"), id="odd expiry"),
        pytest.param(_changed(expires="2031-01-01T00:00:00"), id="expiry of no zone"),
        pytest.param(_changed(created=1), id="number for a time"),
        pytest.param(_changed(created="now"), id="odd time"),
        pytest.param(_changed(revoked="2026-01-01T00:00:00Z"), id="revoked inside"),
        *(pytest.param(_without(name), id=f"no {name}") for name in ("format", "user", "expires", "digest", "limits")),
    ],
)
async def test_a_record_that_is_of_no_use_lets_nobody_in_and_is_told_once(tokens, store, caplog, damage):
    text, token = await made(tokens)
    kept, _ = await made(tokens)
    path = store.root / f"tokens/{token.id}.json"
    path.write_bytes(damage(json.loads(path.read_bytes())))
    with caplog.at_level(logging.INFO):
        for _ in range(3):
            assert await tokens.verify(text) is None
            assert await tokens.verify(kept)
        assert [listed.token.id for listed in await tokens.all()] == [token_id(kept)]
        assert await tokens.find(token.id) is None
    (record,) = caplog.records
    assert (record.levelname, record.token) == ("ERROR", token.id)
    assert record.reason
    assert token.digest not in str(vars(record))
    assert await tokens.revoke(token.id) is True


async def test_a_record_that_may_not_be_read_lets_nobody_in_and_hides_no_other(tokens, store, caplog, monkeypatch):
    text, token = await made(tokens)
    kept, _ = await made(tokens)
    get = store.get

    async def refused(key: str) -> bytes | None:
        if key == f"tokens/{token.id}.json":
            raise PermissionError(errno.EACCES, "Permission denied")
        return await get(key)

    monkeypatch.setattr(store, "get", refused)
    assert await tokens.verify(text) is None
    assert [listed.token.id for listed in await tokens.all()] == [token_id(kept)]
    assert [record.reason for record in caplog.records] == ["Permission denied"]


async def test_a_disk_that_fails_is_an_error_and_no_wrong_password(tokens, store, monkeypatch):
    text, _ = await made(tokens)

    async def broken(key: str) -> bytes | None:
        raise OSError(errno.EIO, "broken")

    with monkeypatch.context() as patch:
        patch.setattr(store, "get", broken)
        with pytest.raises(OSError, match="broken"):
            await tokens.verify(text)
        assert await tokens.all() == []
    assert await tokens.verify(text)


# Listing, and last use


async def test_tokens_are_listed_in_the_order_of_their_making(tokens, store, clock):
    assert await tokens.all() == []
    texts = []
    for user in ("bob", "alice", "bob"):
        texts.append((await made(tokens, user))[0])
        clock.now += 1
    (store.root / "tokens/notes.txt").write_text("x")
    assert [listed.token.id for listed in await tokens.all()] == [token_id(text) for text in texts]
    assert [listed.token.id for listed in await tokens.all("bob")] == [token_id(texts[0]), token_id(texts[2])]
    assert await tokens.all("carol") == []
    await tokens.revoke(token_id(texts[0]))
    assert [listed.token.state(clock.now) for listed in await tokens.all()] == ["revoked", "valid", "valid"]


async def test_a_long_list_lets_others_be_served_meanwhile(tokens, store):
    _, token = await made(tokens)
    record = (store.root / f"tokens/{token.id}.json").read_bytes()
    for number in range(200):
        id_ = f"{number:012d}"
        (store.root / f"tokens/{id_}.json").write_bytes(record.replace(token.id.encode(), id_.encode()))
    turns, done = 0, False

    async def count() -> None:
        nonlocal turns
        while not done:
            turns += 1
            await asyncio.sleep(0)

    counting = asyncio.create_task(count())
    assert len(await tokens.all()) == 201
    done = True
    await counting
    assert turns > 3


async def test_the_last_use_is_noted_once_in_ten_minutes_in_whichever_process(
    tokens, others, store, other_store, tasks, clock, monkeypatch
):
    text, _ = await made(tokens)
    looks, other_looks = Looks(store, monkeypatch), Looks(other_store, monkeypatch)
    (listed,) = await tokens.all()
    assert listed.last_used == ""
    first = timestamp(clock.now)

    async def use(worker: Tokens) -> str:
        assert await worker.verify(text)
        await settled(tasks)
        return (await worker.all())[0].last_used

    assert await use(tokens) == first
    clock.now += NOTED_SECONDS - 1
    assert await use(tokens) == first
    assert await use(others) == first
    clock.now += 1
    assert await use(others) == timestamp(clock.now) != first
    assert await use(tokens) == timestamp(clock.now)
    assert (len(looks.puts), len(other_looks.puts)) == (1, 1)


@pytest.mark.parametrize("error", [StorageFull(), OSError(errno.EIO, "disk")])
async def test_a_use_that_cannot_be_noted_fails_nobody(tokens, store, tasks, monkeypatch, caplog, error):
    text, token = await made(tokens)

    async def broken(key: str, data: bytes) -> None:
        raise error

    monkeypatch.setattr(store, "put", broken)
    for _ in range(3):
        assert await tokens.verify(text)
        await settled(tasks)
    (record,) = caplog.records
    assert (record.levelname, record.token) == ("WARNING", token.id)


async def test_who_does_not_get_in_does_not_use(tokens, store, tasks, clock, monkeypatch):
    text, token = await made(tokens, expires=timestamp(clock.now + 1))
    looks = Looks(store, monkeypatch)
    await tokens.verify(f"nora_{token.id}_{'x' * 43}")
    clock.now += 2
    await tokens.verify(text)
    await settled(tasks)
    assert looks.puts == []


@pytest.mark.parametrize("content", [b"", b"\xff\xfe", b"yesterday", b"9" * 1000])
async def test_a_note_of_use_that_is_damaged_is_none_and_replaced(tokens, store, tasks, clock, content):
    text, token = await made(tokens)
    path: Path = store.root / f"tokens/{token.id}.used"
    path.write_bytes(content)
    assert (await tokens.all())[0].last_used == ""
    await tokens.verify(text)
    await settled(tasks)
    assert (await tokens.all())[0].last_used == timestamp(clock.now)
