import doctest
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nora.upstream import freshness
from nora.upstream.freshness import Fresh, Miss, Revalidate, judge, negative_ttl

TIMES = st.floats(min_value=0, max_value=1e11)
TTLS = st.integers(min_value=-1, max_value=10**9)


def test_examples_in_the_docstrings_hold():
    assert doctest.testmod(freshness).failed == 0


@pytest.mark.parametrize(
    ("age", "ttl_seconds", "expected"),
    [
        (0, 300, Fresh()),
        (299.999, 300, Fresh()),
        (300, 300, Revalidate()),
        (1e9, 300, Revalidate()),
        (0, 0, Revalidate()),
        (0, 1, Fresh()),
        (0, -1, Fresh()),
        (1e9, -1, Fresh()),
        (-1e9, -1, Fresh()),
        (-299, 300, Fresh()),
        (-301, 300, Revalidate()),
    ],
)
def test_age_decides(age, ttl_seconds, expected):
    # CACHE-1
    assert judge(validated_at=2e9, now=2e9 + age, ttl_seconds=ttl_seconds) == expected


@given(now=TIMES, ttl_seconds=TTLS)
def test_nothing_held_is_a_miss(now, ttl_seconds):
    assert judge(validated_at=None, now=now, ttl_seconds=ttl_seconds) == Miss()


@given(validated_at=TIMES, now=TIMES)
def test_zero_always_asks_and_minus_one_never(validated_at, now):
    # CACHE-1
    assert judge(validated_at=validated_at, now=now, ttl_seconds=0) == Revalidate()
    assert judge(validated_at=validated_at, now=now, ttl_seconds=-1) == Fresh()


@given(validated_at=TIMES, ttl_seconds=st.integers(min_value=0, max_value=10**9), later=TIMES)
def test_what_is_stale_stays_stale(validated_at, ttl_seconds, later):
    stale_from = validated_at + ttl_seconds
    now = max(stale_from, math.nextafter(stale_from, math.inf)) + later
    assert judge(validated_at=validated_at, now=now, ttl_seconds=ttl_seconds) == Revalidate()


@given(ttl_seconds=TTLS)
def test_absence_is_remembered_for_a_minute_at_most_and_never_longer_than_presence(ttl_seconds):
    # CACHE-5
    seconds = negative_ttl(ttl_seconds)
    assert 0 <= seconds <= 60
    assert ttl_seconds < 0 or seconds <= ttl_seconds
