"""Dead tokens and used-up identities go, and nothing that is alive or closes what is."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from nora.api import Right
from nora.auth.record import Token
from nora.clock import timestamp
from nora.rights import Grant
from nora.room import tokens
from nora.room.tokens import EXPIRED_SECONDS, MINTED_SECONDS, USED_UP_SECONDS, Dead, remove_dead

NOW = 1_800_000_000.0
DAY = 24 * 3600.0
LIMITS = (Grant(rights=frozenset({Right.WRITE})),)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "tokens"
    made.mkdir()
    return made


@pytest.fixture
def token(folder: Path) -> Callable[..., str]:
    """Writes a token that expired some seconds ago, with notes that it was used and revoked; returns its id."""

    def write(ago: float | None, *, issuer: str = "", revoked: float | None = None, used: bool = False) -> str:
        id_ = f"{len(list(folder.iterdir())):012}"
        expires = "" if ago is None else timestamp(NOW - ago)
        made = Token(
            id=id_, user="ada", note="", created=timestamp(0), expires=expires, digest="0" * 64, limits=LIMITS, issuer=issuer
        )
        (folder / f"{id_}.json").write_bytes(msgspec.json.encode(made))
        if revoked is not None:
            (folder / f"{id_}.revoked").write_text(timestamp(NOW - revoked))
        if used:
            (folder / f"{id_}.used").write_text(timestamp(NOW - 1))
        return id_

    return write


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_tokens_go_a_month_after_they_have_expired(folder: Path, token: Callable[..., str], tmp_path: Path) -> None:
    dead = token(EXPIRED_SECONDS, revoked=1.0, used=True)
    kept = [
        token(EXPIRED_SECONDS - 1, revoked=EXPIRED_SECONDS * 2, used=True),
        token(-DAY),
        token(None, revoked=EXPIRED_SECONDS * 2),
    ]
    assert remove_dead(tmp_path, NOW) == Dead(tokens=1)
    assert {name.partition(".")[0] for name in names(folder)} == set(kept)
    assert f"{kept[0]}.revoked" in names(folder)
    assert not any(name.startswith(dead) for name in names(folder))


def test_minted_ones_go_after_a_day(folder: Path, token: Callable[..., str], tmp_path: Path) -> None:
    token(MINTED_SECONDS, issuer="https://ci.example", used=True)
    kept = token(MINTED_SECONDS - 1, issuer="https://ci.example")
    assert remove_dead(tmp_path, NOW).tokens == 1
    assert names(folder) == {f"{kept}.json"}


def test_used_up_identities_go_when_they_have_expired(folder: Path, tmp_path: Path) -> None:
    for name, ago in (("a" * 64, USED_UP_SECONDS + 1), ("b" * 64, USED_UP_SECONDS - 1), ("c" * 64, -DAY)):
        (folder / f"{name}.jwt").write_text(timestamp(NOW - ago))
    (folder / f"{'d' * 64}.jwt").write_text("damaged")
    (folder / f"{'e' * 64}.jwt").write_text("")
    assert remove_dead(tmp_path, NOW) == Dead(identities=1)
    assert {name[0] for name in names(folder)} == set("bcde")


def test_what_cannot_be_read_stays(folder: Path, token: Callable[..., str], tmp_path: Path) -> None:
    id_ = token(EXPIRED_SECONDS * 2, revoked=EXPIRED_SECONDS * 2)
    (folder / f"{id_}.json").write_text('{"format": 2}')
    (folder / "abc.json").write_text("{}")
    (folder / "what.is.this").write_text("")
    (folder / f"{'f' * 12}.json").mkdir()
    before = names(folder)
    assert remove_dead(tmp_path, NOW) == Dead()
    assert names(folder) == before


def test_a_dry_run_counts_and_changes_nothing(folder: Path, token: Callable[..., str], tmp_path: Path) -> None:
    token(EXPIRED_SECONDS, revoked=1.0, used=True)
    (folder / f"{'a' * 64}.jwt").write_text(timestamp(0))
    before = names(folder)
    assert remove_dead(tmp_path, NOW, dry_run=True) == Dead(1, 1) == remove_dead(tmp_path, NOW)
    assert len(before) == 4
    assert names(folder) == set()


def test_a_revoked_token_never_comes_alive_again_wherever_it_is_interrupted(
    folder: Path, token: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[str] = []
    unlink, sync = os.unlink, tokens.sync_folder

    class Killed(BaseException):
        pass

    for allowed in range(11):
        steps.clear()
        ids = [token(EXPIRED_SECONDS * 2, revoked=EXPIRED_SECONDS * 2, used=True) for _ in range(3)]

        def step(name: str, allowed: int = allowed) -> None:
            if len(steps) >= allowed:
                raise Killed
            steps.append(name)

        def counted(path: Path) -> None:
            step(Path(path).suffix)
            unlink(path)

        def synced(path: Path) -> None:
            step("sync")
            sync(path)

        with monkeypatch.context() as patched, contextlib.suppress(Killed):
            patched.setattr(os, "unlink", counted)
            patched.setattr(tokens, "sync_folder", synced)
            remove_dead(tmp_path, NOW)
        assert len(steps) == min(allowed, 10)
        # Records go first, and are gone for good before what closes them does.
        assert steps[:4] == [".json", ".json", ".json", "sync"][:allowed]
        for id_ in ids:
            assert f"{id_}.revoked" in names(folder) or f"{id_}.json" not in names(folder)
        remove_dead(tmp_path, NOW)
        assert names(folder) == set()


def test_what_an_interrupted_run_has_left_goes_but_not_what_is_being_put_back(folder: Path, tmp_path: Path) -> None:
    (folder / "000000000000.revoked").write_text(timestamp(NOW - EXPIRED_SECONDS - 1))
    (folder / "000000000001.revoked").write_text(timestamp(NOW - EXPIRED_SECONDS + 1))
    (folder / "000000000002.used").write_text(timestamp(NOW))
    assert remove_dead(tmp_path, NOW) == Dead()
    assert names(folder) == {"000000000001.revoked"}


def test_where_there_are_no_tokens_nothing_happens(tmp_path: Path) -> None:
    assert remove_dead(tmp_path, NOW) == Dead()
    assert list(tmp_path.iterdir()) == []
