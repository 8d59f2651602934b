"""Failed logins are counted, whoever else fails, and nothing is kept of anybody."""

from __future__ import annotations

import asyncio
import sys
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nora.auth import limits as module
from nora.auth.limits import ADDRESS_BURST, ADDRESS_SECONDS, TURNS, USER_BURST, USER_SECONDS, LoginLimits
from nora.rates import Buckets
from tests.unit.clock import Clock

HERE, THERE = "192.0.2.1", "198.51.100.7"


@pytest.fixture
def limits(clock: Clock) -> LoginLimits:
    return LoginLimits(clock=clock)


def fail(limits: LoginLimits, address: str, user: str, times: int) -> None:
    for _ in range(times):
        limits.failed(address, user)


def test_a_login_without_a_name_counts_for_its_address_alone(limits: LoginLimits) -> None:
    for number in range(USER_BURST * 2):
        limits.failed(f"198.51.100.{number}", None)
    assert limits.check(HERE, None) == limits.check(HERE, "") == limits.check(HERE, "None") == 0.0
    for _ in range(ADDRESS_BURST):
        limits.failed(HERE, None)
    assert limits.check(HERE, None) == limits.check(HERE, "alice") == ADDRESS_SECONDS
    assert limits.check(THERE, None) == 0.0


def test_ten_logins_may_fail_at_once_and_then_one_each_six_seconds(limits: LoginLimits, clock: Clock) -> None:
    for _ in range(10):
        assert limits.check(HERE, "alice") == 0.0
        limits.failed(HERE, "alice")
    assert limits.check(HERE, "alice") == 6.0
    clock.now += 5.5
    assert limits.check(HERE, "alice") == 0.5
    clock.now += 0.5
    for _ in range(3):
        assert limits.check(HERE, "alice") == 0.0
        limits.failed(HERE, "alice")
        assert limits.check(HERE, "alice") == 6.0
        clock.now += 6
    clock.now += 54
    fail(limits, HERE, "alice", 9)
    assert limits.check(HERE, "alice") == 0.0
    limits.failed(HERE, "alice")
    assert limits.check(HERE, "alice") == 6.0


def test_an_address_is_limited_whatever_names_it_tries_and_others_are_not(limits: LoginLimits) -> None:
    for number in range(10):
        limits.failed(HERE, f"user{number}")
    assert limits.check(HERE, "somebody") == 6.0
    assert limits.check(THERE, "user0") == 0.0


def test_a_name_is_limited_wherever_it_is_tried_from(limits: LoginLimits, clock: Clock) -> None:
    for number in range(50):
        assert limits.check(f"192.0.2.{number}", "alice") == 0.0
        limits.failed(f"192.0.2.{number}", "alice")
    assert limits.check(THERE, "alice") == 2.0
    assert limits.check(THERE, "bob") == 0.0
    assert limits.check(THERE, "Alice") == 0.0
    clock.now += 2
    assert limits.check(THERE, "alice") == 0.0


def test_one_address_alone_cannot_keep_a_user_out(limits: LoginLimits, clock: Clock) -> None:
    for _ in range(3600 * 10):
        if limits.check(HERE, "alice") == 0.0:
            limits.failed(HERE, "alice")
        clock.now += 0.1
        assert limits.check(THERE, "alice") == 0.0


def test_who_has_logged_in_at_an_address_is_not_kept_out_there_by_failures_elsewhere(limits: LoginLimits) -> None:
    limits.succeeded(HERE, "alice")
    for number in range(60):
        limits.failed(f"203.0.113.{number}", "alice")
    assert limits.check(HERE, "alice") == 0.0
    assert limits.check(f"::ffff:{HERE}", "alice") == 0.0
    assert limits.check(THERE, "alice") == 22.0
    assert limits.check("203.0.113.1", "alice") == 22.0
    for number in range(60):
        limits.failed(f"203.0.113.{number}", "bob")
    assert limits.check(HERE, "bob") == 22.0


def test_a_right_login_does_not_lift_the_limit_of_its_own_address(limits: LoginLimits) -> None:
    limits.succeeded(HERE, "alice")
    fail(limits, HERE, "alice", 10)
    limits.succeeded(HERE, "alice")
    assert limits.check(HERE, "alice") == 6.0


def test_places_where_users_have_logged_in_are_bounded(limits: LoginLimits) -> None:
    for number in range(3 * module.MAX_HOMES):
        limits.succeeded(f"2001:db8:0:{number:x}::", "alice")
    assert len(limits._at_home) == module.MAX_HOMES


def test_the_longer_wait_counts(limits: LoginLimits) -> None:
    for number in range(60):
        limits.failed(f"203.0.113.{number}", "alice")
    fail(limits, HERE, "bob", 10)
    assert limits.check(THERE, "alice") == 22.0
    assert limits.check(HERE, "alice") == 22.0
    assert limits.check(HERE, "carol") == 6.0


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("2001:db8:1:2::1", "2001:db8:1:2:ffff:ffff:ffff:ffff", True),
        ("2001:db8:1:2::1", "2001:0DB8:1:2:0:0:0:1", True),
        ("2001:db8:1:2::1", "2001:db8:1:3::1", False),
        ("::ffff:192.0.2.1", "192.0.2.1", True),
        ("::ffff:192.0.2.1", "::ffff:192.0.2.2", False),
        ("::ffff:c000:201", "192.0.2.1", True),
        ("fe80::1%eth0", "fe80::1%eth1", True),
        ("fe80::1%eth0", "fe80::1", True),
        ("192.0.2.1", "192.0.2.2", False),
        ("", "unknown", False),
        ("unknown", "unknown", True),
        ("\0", "1::2\0", False),
    ],
)
def test_what_counts_as_one_address(limits: LoginLimits, one: str, other: str, same: bool) -> None:
    fail(limits, one, "alice", 10)
    assert (limits.check(other, "bob") > 0) is same


def test_names_that_are_no_utf8_or_very_long_are_names(limits: LoginLimits) -> None:
    for name in ("\ud800", "x" * 1_000_000, "", "a\0b"):
        limits.failed(HERE, name)
        assert limits.check(THERE, name) == 0.0


def test_who_has_to_wait_longer_still_does_when_others_are_through(limits: LoginLimits, clock: Clock) -> None:
    fail(limits, HERE, "alice", 13)
    fail(limits, THERE, "bob", 10)
    clock.now += 7
    assert limits.check(THERE, "bob") == 0.0
    assert limits.check(HERE, "alice") == 17.0


@given(
    st.lists(
        st.tuples(st.sampled_from(["check", "fail"]), st.integers(0, 3), st.integers(0, 2), st.floats(0, 20)),
        max_size=80,
    )
)
def test_it_is_two_plain_token_buckets(steps) -> None:
    clock = Clock()
    limits = LoginLimits(clock=clock)
    buckets: dict[tuple[str, int], tuple[float, float]] = {}  # tokens, and when that was

    def tokens(kind: str, key: int, burst: int, seconds: float) -> float:
        amount, then = buckets.get((kind, key), (float(burst), clock.now))
        return min(amount + (clock.now - then) / seconds, burst)

    kinds = (("address", ADDRESS_BURST, ADDRESS_SECONDS), ("user", USER_BURST, USER_SECONDS))
    for what, address, user, pause in steps:
        clock.now += pause
        for _ in range(5):
            keys = {"address": address, "user": user}
            have = {kind: (tokens(kind, keys[kind], burst, seconds), seconds) for kind, burst, seconds in kinds}
            if what == "check":
                expected = max(max((1 - amount) * seconds, 0.0) for amount, seconds in have.values())
                assert limits.check(f"192.0.2.{address}", f"user{user}") == pytest.approx(expected, abs=1e-6)
            else:
                limits.failed(f"192.0.2.{address}", f"user{user}")
                for kind, (amount, _) in have.items():
                    buckets[kind, keys[kind]] = amount - 1, clock.now


# Floods


def test_no_flood_of_addresses_or_names_makes_a_failure_forgotten(limits: LoginLimits, clock: Clock) -> None:
    fail(limits, HERE, "alice", 10)
    for number in range(20_000):
        limits.failed(f"2001:db8:{number // 65536:x}:{number % 65536:x}::1", f"user{number}")
    assert limits.check(HERE, "mallory") >= 6.0
    for number in range(50 * 20):
        limits.failed(f"10.0.{number // 250}.{number % 250}", "bob")
    for number in range(20_000):
        limits.failed(f"2001:db8:{number // 65536:x}:{number % 65536:x}::1", f"other{number}")
    assert limits.check(THERE, "bob") >= 2.0


def test_memory_does_not_grow(limits: LoginLimits) -> None:
    def flood(start: int) -> None:
        for number in range(start, start + 20_000):
            limits.failed(f"2001:db8:{number // 65536:x}:{number % 65536:x}::1", f"user{number}")
            limits.check(f"2001:db8:{number % 65536:x}::", f"name{number}")

    flood(0)
    tracemalloc.start()
    try:
        flood(20_000)
        grown, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert grown < 20_000
    assert sys.getsizeof(limits._addresses._full_at) < 200_000


def test_no_name_and_no_address_is_kept(limits: LoginLimits) -> None:
    fail(limits, HERE, "alice", 10)
    shown = repr([*vars(limits).values(), *(getattr(limits._users, name) for name in Buckets.__slots__)])
    assert "alice" not in shown
    assert HERE not in shown
    assert b"alice" not in limits._users._full_at.tobytes()


# Turns


async def test_one_address_has_a_few_logins_on_their_way_at_a_time(limits: LoginLimits) -> None:
    inside, most, go = 0, 0, asyncio.Event()

    async def login(address: str) -> None:
        nonlocal inside, most
        async with limits.turn(address):
            inside += 1
            most = max(most, inside)
            await go.wait()
            inside -= 1

    tasks = [asyncio.create_task(login(f"2001:db8::{number:x}")) for number in range(1, 100)]
    for _ in range(5):
        await asyncio.sleep(0)
    assert inside == TURNS
    other = asyncio.create_task(login(THERE))
    for _ in range(5):
        await asyncio.sleep(0)
    assert inside == TURNS + 1
    go.set()
    await asyncio.gather(*tasks, other)
    assert most == TURNS + 1
    assert limits._turns == limits._askers == {}


async def test_parallel_guesses_cannot_outrun_the_limit(limits: LoginLimits, clock: Clock) -> None:
    guesses, refused = 0, 0

    async def guess(number: int) -> None:
        nonlocal guesses, refused
        async with limits.turn(HERE):
            if limits.check(HERE, f"user{number}"):
                refused += 1
                return
            guesses += 1
            await asyncio.sleep(0)
            limits.failed(HERE, f"user{number}")

    await asyncio.gather(*(guess(number) for number in range(1000)))
    assert ADDRESS_BURST <= guesses <= 2 * ADDRESS_BURST - 1
    assert guesses + refused == 1000
    # What was too much is paid for.
    clock.now += (guesses - ADDRESS_BURST + 1) * ADDRESS_SECONDS - 0.1
    assert limits.check(HERE, "alice") > 0
    clock.now += 0.2
    assert limits.check(HERE, "alice") == 0.0


async def test_whoever_leaves_while_waiting_takes_no_turn_along(limits: LoginLimits) -> None:
    go = asyncio.Event()

    async def login() -> None:
        async with limits.turn(HERE):
            await go.wait()

    tasks = [asyncio.create_task(login()) for _ in range(TURNS + 20)]
    await asyncio.sleep(0)
    for task in (*tasks[:3], *tasks[TURNS : TURNS + 10]):
        task.cancel()
    go.set()
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    assert sum(isinstance(outcome, asyncio.CancelledError) for outcome in outcomes) == 13
    assert limits._turns == limits._askers == {}


async def test_a_login_that_breaks_gives_its_turn_back(limits: LoginLimits) -> None:
    for _ in range(TURNS + 1):
        with pytest.raises(RuntimeError):
            async with limits.turn(HERE):
                raise RuntimeError
    assert limits._turns == {}


def test_a_name_limit_is_more_than_one_address_can_use_up() -> None:
    assert module.USER_BURST >= 2 * ADDRESS_BURST
    assert module.USER_SECONDS < ADDRESS_SECONDS
