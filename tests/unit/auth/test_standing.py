"""Whether a decision still is the same, answered without making it again."""

from __future__ import annotations

import base64
import os
from collections.abc import Iterator
from pathlib import Path

import bcrypt
import pytest

from nora.api import Actor, Right
from nora.auth.access import Access, Rules
from nora.auth.htpasswd import STAT_INTERVAL_SECONDS, SUCCESS_SECONDS, HtpasswdFile
from tests.unit.clock import Clock

HERE, THERE = "192.0.2.1", "198.51.100.7"
OPEN = Rules(open_registries=["*"])


class Users:
    async def authenticate(self, username: str, password: str) -> Actor | None:
        return Actor(name=username) if password == "plugin" else None


def login(username: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{username}:{password}".encode()).decode()


def line(username: str, password: str) -> str:
    return f"{username}:{bcrypt.hashpw(password.encode(), bcrypt.gensalt(4)).decode()}\n"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    made = tmp_path / "users.htpasswd"
    made.write_text(line("alice", "secret"))
    return made


@pytest.fixture
def users(path: Path, clock: Clock) -> Iterator[HtpasswdFile]:
    file = HtpasswdFile(path, clock=clock)
    yield file
    file.close()


async def passed(access: Access, authorization: str | None, right: Right = Right.READ):
    await access.authorize(authorization, right)
    return access.standing(authorization, right)


@pytest.mark.parametrize("authorization", [None, "Bearer x", login("alice", "typo")])
@pytest.mark.parametrize("right", list(Right))
async def test_where_everything_is_open_it_stays_so(authorization: str | None, right: Right) -> None:
    stands = await passed(Access(False, Rules(), ()), authorization, right)
    assert stands is not None
    assert stands(HERE)


async def test_anonymous_reading_stays_open(users: HtpasswdFile) -> None:
    stands = await passed(Access(True, OPEN, [users]), None)
    assert stands is not None
    assert stands(HERE)


async def test_a_login_stands_as_long_as_it_is_remembered(users: HtpasswdFile, clock: Clock) -> None:
    stands = await passed(Access(True, Rules(), [users]), login("alice", "secret"))
    assert stands is not None
    assert stands(HERE)
    clock.now += SUCCESS_SECONDS - 0.01
    assert stands(HERE)
    clock.now += 0.01
    assert not stands(HERE)


@pytest.mark.parametrize("change", ["removed", "other password", "other user", "gone"])
async def test_a_login_ends_with_any_change_of_the_file(users: HtpasswdFile, path: Path, clock: Clock, change: str) -> None:
    stands = await passed(Access(True, Rules(), [users]), login("alice", "secret"))
    assert stands is not None
    match change:
        case "removed":
            path.write_text("")
        case "other password":
            path.write_text(line("alice", "changed"))
        case "other user":
            path.write_text(path.read_text() + line("bob", "b"))
        case "gone":
            path.unlink()
    assert stands(HERE), "the usual way does not look within the same second either"
    clock.now += STAT_INTERVAL_SECONDS
    assert not stands(HERE)
    assert not stands(HERE)


async def test_a_login_that_was_allowed_again_has_to_be_checked_again(users: HtpasswdFile, path: Path, clock: Clock) -> None:
    access = Access(True, Rules(), [users])
    stands = await passed(access, login("alice", "secret"))
    assert stands is not None
    content = path.read_text()
    path.write_text("")
    clock.now += STAT_INTERVAL_SECONDS
    assert not stands(HERE)
    path.write_text(content)
    os.utime(path, (1, 1))
    clock.now += STAT_INTERVAL_SECONDS
    assert not stands(HERE)
    again = await passed(access, login("alice", "secret"))
    assert again is not None
    assert again(HERE)


async def test_a_login_that_a_plugin_vouches_for_is_asked_for_each_time(users: HtpasswdFile) -> None:
    assert await passed(Access(True, Rules(), [users, Users()]), login("carol", "plugin")) is None
    assert await passed(Access(True, Rules(), [Users(), users]), login("alice", "secret")) is None
    assert await passed(Access(True, Rules(), [users, Users()]), login("alice", "secret")) is not None


async def test_no_credentials_stand_where_they_were_never_checked(users: HtpasswdFile) -> None:
    assert users.standing("alice", "secret") is None
    assert await users.authenticate("alice", "typo") is None
    assert users.standing("alice", "typo") is None
    assert users.standing("alice", "secret") is None


async def test_without_authenticators_nothing_stands() -> None:
    assert Access(True, Rules(), ()).standing(login("alice", "secret"), Right.READ) is None
    assert Access(True, Rules(), ()).standing(None, Right.READ) is None
    assert Access(True, OPEN, ()).standing(None, Right.WRITE) is None
