"""Counts are kept in a fixed room, and a limit holds whatever else is counted."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from nora.rates import NUMBERS, Buckets, place_of

NOW = 1000.0


def test_a_burst_may_come_at_once_and_then_one_each_few_seconds() -> None:
    buckets = Buckets(3, 2.0)
    assert [buckets.take(b"a", NOW) for _ in range(4)] == [0.0, 0.0, 0.0, 2.0]
    assert buckets.take(b"a", NOW + 1.5) == 0.5
    assert [buckets.take(b"a", NOW + 2.0) for _ in range(2)] == [0.0, 2.0]
    assert [buckets.take(b"a", NOW + 100.0) for _ in range(4)] == [0.0, 0.0, 0.0, 2.0]


def test_what_may_not_be_done_is_not_counted() -> None:
    buckets = Buckets(1, 10.0)
    buckets.take(b"a", NOW)
    assert {buckets.take(b"a", NOW + 4.0) for _ in range(100)} == {6.0}
    assert buckets.take(b"a", NOW + 10.0) == 0.0


def test_what_is_counted_anyway_counts_beyond_the_limit() -> None:
    buckets = Buckets(2, 5.0)
    assert [buckets.add(b"a", NOW) for _ in range(4)] == [0.0, 5.0, 10.0, 15.0]
    assert buckets.wait(b"a", NOW + 1.0) == 14.0


def test_keys_count_for_themselves() -> None:
    buckets = Buckets(1, 60.0)
    buckets.take(b"a", NOW)
    assert buckets.take(b"b", NOW) == 0.0


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("192.0.2.1", "::ffff:192.0.2.1"),
        ("2001:db8:1:2::3", "2001:db8:1:2:ffff::"),
        ("fe80::1%eth0", "fe80::2%eth1"),
        ("unix", "unix"),
    ],
)
def test_what_is_one_address(one: str, other: str) -> None:
    assert place_of(one) == place_of(other)


@pytest.mark.parametrize(
    ("one", "other"), [("192.0.2.1", "192.0.2.2"), ("2001:db8:1:2::3", "2001:db8:1:3::3"), ("", "unix"), ("\udcff", "?")]
)
def test_what_is_not_one_address(one: str, other: str) -> None:
    assert place_of(one) != place_of(other)


def test_a_key_never_counts_for_less_than_it_has_done() -> None:
    buckets, chance, now = Buckets(10, 6.0), random.Random(1), 1000.0
    alone: dict[bytes, float] = {}
    for _ in range(60_000):
        key = b"%d" % chance.randrange(5000)
        now += 0.01
        buckets.add(key, now)
        alone[key] = max(alone.get(key, 0.0), now) + 6.0
    assert all(buckets.wait(key, now) >= full_at - now - 54 for key, full_at in alone.items())


def test_hundreds_at_their_limit_do_not_limit_others() -> None:
    buckets = Buckets(10, 6.0)
    for number in range(570):
        for _ in range(10):
            buckets.add(b"bad%d" % number, NOW)
    others = [buckets.wait(b"good%d" % number, NOW) for number in range(10_000)]
    # 4 are expected; 30 has a probability of 1e-16.
    assert sum(wait > 0 for wait in others) < 30


def test_thousands_who_do_a_little_do_not_limit_one_another() -> None:
    buckets = Buckets(10, 6.0)
    for number in [*range(2000)] * 3:
        buckets.add(b"%d" % number, NOW)
    assert sum(buckets.wait(b"%d" % number, NOW) > 0 for number in range(4000)) == 0


def test_which_numbers_are_shared_is_another_in_each_process() -> None:
    assert Buckets(10, 6.0)._places(b"a") != Buckets(10, 6.0)._places(b"a")


def test_all_numbers_are_used_alike() -> None:
    buckets = Buckets(10, 6.0)
    used = Counter(place for number in range(80_000) for place in buckets._places(b"%d" % number))
    assert set(used) == set(range(NUMBERS))
    assert max(used.values()) < 60, "20 on average"
