from __future__ import annotations

import base64

import pytest

from nora.api import Actor, Right, Unauthorized
from nora.auth.access import Access


class Users:
    def __init__(self, **passwords: str) -> None:
        self.passwords = passwords
        self.asked = 0

    async def authenticate(self, username: str, password: str) -> Actor | None:
        self.asked += 1
        return Actor(name=username) if self.passwords.get(username) == password else None


class VouchesForNobody:
    async def authenticate(self, username: str, password: str) -> Actor | None:
        return Actor()


class Broken:
    async def authenticate(self, username: str, password: str) -> Actor | None:
        raise RuntimeError("directory server is away")


def login(username: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{username}:{password}".encode()).decode()


@pytest.mark.parametrize("right", list(Right))
@pytest.mark.parametrize("authorization", [None, "Basic !", "Bearer x", login("alice", "typo")])
async def test_everything_is_open_when_authentication_is_off(right: Right, authorization: str | None) -> None:
    users = Users(alice="secret")
    actor = await Access(False, False, [users]).authorize(authorization, right)
    assert actor.is_anonymous
    assert users.asked == 0


@pytest.mark.parametrize("right", list(Right))
async def test_a_login_gives_every_right(right: Right) -> None:
    access = Access(True, False, [Users(alice="secret")])
    assert await access.authorize(login("alice", "secret"), right) == Actor(name="alice")


@pytest.mark.parametrize("right", list(Right))
async def test_without_a_login_nothing_is_allowed(right: Right) -> None:
    with pytest.raises(Unauthorized):
        await Access(True, False, [Users(alice="secret")]).authorize(None, right)


async def test_anonymous_read_opens_reading_only() -> None:  # AUTH-6
    access = Access(True, True, [Users(alice="secret")])
    assert (await access.authorize(None, Right.READ)).is_anonymous
    for right in (Right.WRITE, Right.ADMIN):
        with pytest.raises(Unauthorized):
            await access.authorize(None, right)


@pytest.mark.parametrize(
    "authorization", [login("alice", "typo"), login("mallory", "secret"), login("", ""), "Bearer x", "Basic !", ""]
)
async def test_wrong_credentials_are_refused_even_where_none_are_needed(authorization: str) -> None:  # AUTH-3
    with pytest.raises(Unauthorized):
        await Access(True, True, [Users(alice="secret")]).authorize(authorization, Right.READ)


async def test_wrong_name_and_wrong_password_are_refused_alike() -> None:
    texts = set()
    for authorization in (login("alice", "typo"), login("mallory", "secret")):
        with pytest.raises(Unauthorized) as caught:
            await Access(True, False, [Users(alice="secret")]).authorize(authorization, Right.READ)
        texts.add(str(caught.value))
    assert texts == {"wrong user name or password"}


async def test_authenticators_are_asked_in_order_until_one_knows() -> None:
    first, second, third = Users(), Users(bob="b"), Users(bob="b")
    actor = await Access(True, False, [first, second, third]).authorize(login("bob", "b"), Right.WRITE)
    assert actor == Actor(name="bob")
    assert (first.asked, second.asked, third.asked) == (1, 1, 0)


async def test_without_authenticators_nobody_gets_in() -> None:  # AUTH-9
    with pytest.raises(Unauthorized):
        await Access(True, False, []).authorize(login("alice", "secret"), Right.READ)


async def test_an_actor_without_a_name_is_not_logged_in() -> None:  # AUTH-9
    with pytest.raises(Unauthorized):
        await Access(True, False, [VouchesForNobody()]).authorize(login("alice", "secret"), Right.WRITE)


async def test_a_broken_authenticator_lets_nobody_in() -> None:  # AUTH-9
    with pytest.raises(RuntimeError):
        await Access(True, True, [Broken(), Users(alice="secret")]).authorize(login("alice", "secret"), Right.READ)
