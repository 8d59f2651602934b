"""How Access and the limits of failed logins go together."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Callable

import pytest

from nora.api import Actor, Right, TooManyRequests, Unauthorized
from nora.auth.access import Access, Rules
from nora.auth.limits import TURNS, LoginLimits
from nora.auth.pace import Pace
from tests.unit.clock import Clock

HERE, THERE = "192.0.2.1", "198.51.100.7"


class Users:
    """Who remembers right passwords, as the htpasswd file does."""

    def __init__(self) -> None:
        self.guesses: list[str] = []

    async def authenticate(self, username: str, password: str) -> Actor | None:
        self.guesses.append(password)
        await asyncio.sleep(0)
        return Actor(name=username) if password == "secret" else None

    def standing(self, username: str, password: str) -> Callable[[], bool] | None:
        return (lambda: True) if password == "secret" else None


def login(username: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{username}:{password}".encode()).decode()


@pytest.fixture
def users() -> Users:
    return Users()


@pytest.fixture
def access(users: Users, clock: Clock) -> Access:
    return Access(True, Rules(), [users], limits=LoginLimits(clock=clock))


async def outcome(access: Access, username: str, password: str, client: str) -> str:
    try:
        await access.authorize(login(username, password), Right.READ, None, client)
    except TooManyRequests as error:
        return f"wait {error.retry_after_seconds}"
    except Unauthorized:
        return "wrong"
    return "right"


async def test_over_the_limit_a_right_guess_looks_like_a_wrong_one_even_if_its_user_is_logged_in(
    access: Access, users: Users
) -> None:
    assert await outcome(access, "alice", "secret", THERE) == "right"
    for number in range(10):
        assert await outcome(access, "alice", f"guess{number}", HERE) == "wrong"
    users.guesses.clear()
    assert await outcome(access, "alice", "guess", HERE) == "wait 6"
    assert await outcome(access, "alice", "secret", HERE) == "wait 6"
    assert users.guesses == [], "nothing is looked at"
    assert await outcome(access, "alice", "secret", THERE) == "right"


async def test_prepared_answers_tell_nothing_to_who_is_over_a_limit(access: Access, clock: Clock) -> None:
    assert await outcome(access, "alice", "secret", THERE) == "right"
    stands = access.standing(login("alice", "secret"), Right.READ)
    assert stands is not None
    assert stands(HERE)
    for number in range(10):
        await outcome(access, "bob", f"guess{number}", HERE)
    assert not stands(HERE)
    assert stands(THERE), "others notice nothing"
    clock.now += 6
    assert stands(HERE)


async def test_prepared_answers_tell_nothing_of_a_name_that_is_over_its_limit_but_where_it_is_at_home(access: Access) -> None:
    assert await outcome(access, "alice", "secret", THERE) == "right"
    stands = access.standing(login("alice", "secret"), Right.READ)
    assert stands is not None
    for number in range(60):
        await outcome(access, "alice", "guess", f"203.0.113.{number}")
    assert stands(THERE)
    assert not stands(HERE)


async def test_who_has_logged_in_stays_in_whoever_tries_the_same_name_elsewhere(access: Access) -> None:
    assert await outcome(access, "alice", "secret", THERE) == "right"
    for number in range(60):
        await outcome(access, "alice", "guess", f"203.0.113.{number}")
    assert await outcome(access, "alice", "secret", THERE) == "right"
    assert (await outcome(access, "alice", "secret", HERE)).startswith("wait")


async def test_a_thousand_parallel_guesses_are_mostly_not_looked_at(access: Access, users: Users) -> None:
    found = await asyncio.gather(*(outcome(access, "alice", f"guess{number}", HERE) for number in range(1000)))
    assert 10 <= found.count("wrong") == len(users.guesses) < 20
    assert await outcome(access, "bob", "secret", THERE) == "right"


async def test_who_is_refused_waits_and_nobody_else_does(users: Users, clock: Clock) -> None:
    timed: list[Callable[[], None]] = []
    pace = Pace(1, later=lambda _, call: timed.append(call))
    access = Access(True, Rules(), [users], limits=LoginLimits(clock=clock, pace=pace))
    for number in range(10):
        assert await outcome(access, "alice", f"guess{number}", HERE) == "wrong"
    refused = [asyncio.create_task(outcome(access, "alice", "secret", HERE)) for _ in range(30)]
    while len(pace) < TURNS:
        await asyncio.sleep(0)
    assert await outcome(access, "alice", "secret", THERE) == "right"
    assert await outcome(access, "alice", "guess", THERE) == "wrong"
    assert not any(task.done() for task in refused)
    while not all(task.done() for task in refused):
        if timed:
            timed.pop()()
        await asyncio.sleep(0)
    assert {await task for task in refused} == {"wait 6"}


async def test_who_leaves_before_the_answer_has_used_up_a_try(access: Access, users: Users) -> None:
    for number in range(100):
        guess = asyncio.create_task(outcome(access, "alice", f"guess{number}", HERE))
        await asyncio.sleep(0)
        guess.cancel()
        await asyncio.gather(guess, return_exceptions=True)
    assert len(users.guesses) == 10
