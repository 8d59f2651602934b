from __future__ import annotations

import base64
from dataclasses import dataclass

import pytest

from nora.api import Actor, Forbidden, Right, Unauthorized
from nora.auth.access import Access, Rules, open_registries
from nora.rights import Grant

OPEN = Rules(open_registries=["*"])


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
    found = await Access(False, Rules(), [users]).authorize(authorization, right)
    assert found.actor.is_anonymous
    assert found.grants.allows(right, "any", "project")
    assert users.asked == 0


@pytest.mark.parametrize("right", list(Right))
async def test_a_login_gives_every_right(right: Right) -> None:
    access = Access(True, Rules(), [Users(alice="secret")])
    found = await access.authorize(login("alice", "secret"), right)
    assert found.actor == Actor(name="alice")
    assert found.grants.allows(right, "any", "project")


@pytest.mark.parametrize("right", list(Right))
async def test_without_a_login_nothing_is_allowed(right: Right) -> None:
    with pytest.raises(Unauthorized):
        await Access(True, Rules(), [Users(alice="secret")]).authorize(None, right)


async def test_anonymous_read_opens_reading_only() -> None:  # AUTH-6
    access = Access(True, OPEN, [Users(alice="secret")])
    assert (await access.authorize(None, Right.READ)).actor.is_anonymous
    for right in (Right.WRITE, Right.ADMIN):
        with pytest.raises(Unauthorized):
            await access.authorize(None, right)


@pytest.mark.parametrize(
    "authorization", [login("alice", "typo"), login("mallory", "secret"), login("", ""), "Bearer x", "Basic !", ""]
)
async def test_wrong_credentials_are_refused_even_where_none_are_needed(authorization: str) -> None:  # AUTH-3
    with pytest.raises(Unauthorized):
        await Access(True, OPEN, [Users(alice="secret")]).authorize(authorization, Right.READ)


async def test_wrong_name_and_wrong_password_are_refused_alike() -> None:
    texts = set()
    for authorization in (login("alice", "typo"), login("mallory", "secret")):
        with pytest.raises(Unauthorized) as caught:
            await Access(True, Rules(), [Users(alice="secret")]).authorize(authorization, Right.READ)
        texts.add(str(caught.value))
    assert texts == {"wrong user name or password"}


async def test_authenticators_are_asked_in_order_until_one_knows() -> None:
    first, second, third = Users(), Users(bob="b"), Users(bob="b")
    found = await Access(True, Rules(), [first, second, third]).authorize(login("bob", "b"), Right.WRITE)
    assert found.actor == Actor(name="bob")
    assert (first.asked, second.asked, third.asked) == (1, 1, 0)


async def test_without_authenticators_nobody_gets_in() -> None:  # AUTH-9
    with pytest.raises(Unauthorized):
        await Access(True, Rules(), []).authorize(login("alice", "secret"), Right.READ)


async def test_an_actor_without_a_name_is_not_logged_in() -> None:  # AUTH-9
    with pytest.raises(Unauthorized):
        await Access(True, Rules(), [VouchesForNobody()]).authorize(login("alice", "secret"), Right.WRITE)


async def test_a_broken_authenticator_lets_nobody_in() -> None:  # AUTH-9
    with pytest.raises(RuntimeError):
        await Access(True, OPEN, [Broken(), Users(alice="secret")]).authorize(login("alice", "secret"), Right.READ)


# No right but a login


@pytest.mark.parametrize("rules", [Rules(), Rules([], ["*"])], ids=["no rules", "open"])
async def test_what_needs_no_right_needs_a_login(rules: Rules) -> None:
    access = Access(True, rules, [Users(alice="secret")])
    assert (await access.authorize(login("alice", "secret"), None)).actor == Actor(name="alice")
    for authorization in (None, login("alice", "typo")):
        with pytest.raises(Unauthorized):
            await access.authorize(authorization, None)


async def test_what_needs_no_right_is_there_for_who_has_none() -> None:
    access = Access(True, Rules([rule("bob"), rule("@everybody")]), [Users(alice="a")])
    assert (await access.authorize(login("alice", "a"), None)).actor == Actor(name="alice")
    with pytest.raises(Unauthorized):
        await access.authorize(None, None)
    with pytest.raises(Forbidden):
        await access.authorize(login("alice", "a"), Right.WRITE)


# Rules

ALL_RIGHTS = list(Right)


def rule(*who: str, rights: str = "read", registries: str = "*", projects: str = "*") -> tuple[frozenset[str], Grant]:
    return frozenset(who), Grant(
        rights=frozenset(map(Right, rights.split())), registries=tuple(registries.split()), projects=tuple(projects.split())
    )


async def test_with_rules_users_may_only_do_what_these_give() -> None:
    access = Access(True, Rules([rule("alice", rights="read write", projects="team-*")]), [Users(alice="a", bob="b")])
    found = await access.authorize(login("alice", "a"), Right.WRITE, "pypi")
    assert found.grants.allows(Right.WRITE, "pypi", "team-x")
    assert not found.grants.allows(Right.WRITE, "pypi", "other")
    with pytest.raises(Forbidden):
        await access.authorize(login("alice", "a"), Right.ADMIN, "pypi")
    for right in ALL_RIGHTS:
        with pytest.raises(Forbidden):
            await access.authorize(login("bob", "b"), right, "pypi")


async def test_rules_for_users_and_for_everybody_add_up() -> None:
    rules = Rules([rule("@everybody", projects="open-*"), rule("@users", projects="inner-*"), rule("alice", rights="write")])
    access = Access(True, rules, [Users(alice="a", bob="b")])
    nobody = await access.authorize(None, Right.READ, "pypi")
    bob = await access.authorize(login("bob", "b"), Right.READ, "pypi")
    alice = await access.authorize(login("alice", "a"), Right.WRITE, "pypi")
    seen = [
        [found.grants.allows(Right.READ, "pypi", project) for project in ("open-x", "inner-x", "x")]
        for found in (nobody, bob, alice)
    ]
    assert seen == [[True, False, False], [True, True, False], [True, True, False]]
    assert alice.grants.allows(Right.WRITE, "pypi", "x")


async def test_a_right_in_one_registry_is_none_in_another() -> None:
    access = Access(True, Rules([rule("alice", rights="write", registries="team-*")]), [Users(alice="a")])
    await access.authorize(login("alice", "a"), Right.WRITE, "team-a")
    await access.authorize(login("alice", "a"), Right.WRITE)
    with pytest.raises(Forbidden, match="registry pypi"):
        await access.authorize(login("alice", "a"), Right.WRITE, "pypi")


async def test_one_registry_can_be_open_to_everybody() -> None:
    access = Access(True, Rules(open_registries=open_registries(False, {"pypi": False, "mirror": True})), [])
    assert (await access.authorize(None, Right.READ, "mirror")).actor.is_anonymous
    with pytest.raises(Unauthorized):
        await access.authorize(None, Right.READ, "pypi")
    assert open_registries(True, {"pypi": False}) == ("*",)


async def test_a_user_cannot_be_called_like_a_group() -> None:
    access = Access(True, Rules([rule("@admins", rights="admin")]), [Users(**{"@admins": "x"})])
    with pytest.raises(Forbidden):
        await access.authorize(login("@admins", "x"), Right.ADMIN, "pypi")


# Tokens


@dataclass(frozen=True)
class Token:
    id: str
    user: str
    limits: tuple[Grant, ...]
    issuer: str = ""


class TokensOf:
    def __init__(self, **tokens: Token) -> None:
        self.tokens, self.asked = tokens, 0

    def is_token(self, text: str) -> bool:
        return text.startswith("nora_")

    async def verify(self, text: str) -> Token | None:
        self.asked += 1
        return self.tokens.get(text)

    def standing(self, text: str):
        return lambda: text in self.tokens


def with_tokens(rules: Rules, limits: str = "read write") -> Access:
    token = Token("a1", "alice", (rule(rights=limits, projects="team-*")[1],))
    return Access(True, rules, [Users(alice="a")], TokensOf(nora_good=token))


@pytest.mark.parametrize(
    "value", [login("__token__", "nora_good"), login("whoever", "nora_good"), "bearer nora_good", "Bearer  nora_good"]
)
async def test_a_token_is_a_password_of_any_user_name_or_a_bearer(value: str) -> None:
    access = with_tokens(Rules())
    found = await access.authorize(value, Right.WRITE, "pypi")
    assert (found.actor, found.token) == (Actor(name="alice"), "a1")
    assert found.grants.allows(Right.WRITE, "pypi", "team-x")
    assert not found.grants.allows(Right.WRITE, "pypi", "x")
    assert not found.grants.allows(Right.ADMIN, "pypi", "team-x")
    assert access.standing(value, Right.READ)("192.0.2.1")


async def test_a_token_never_allows_more_than_its_user_may_do() -> None:
    access = with_tokens(Rules([rule("alice", rights="read")]))
    assert (await access.authorize("Bearer nora_good", Right.READ, "pypi")).grants.allows(Right.READ, "pypi", "team-x")
    with pytest.raises(Forbidden):
        await access.authorize("Bearer nora_good", Right.WRITE, "pypi")


@pytest.mark.parametrize("value", [login("alice", "nora_bad"), "Bearer nora_bad", "Bearer other", "Bearer", "Bearer \x00"])
async def test_a_token_that_is_not_valid_lets_nobody_in(value: str) -> None:
    with pytest.raises(Unauthorized):
        await with_tokens(Rules(open_registries=["*"])).authorize(value, Right.READ)
