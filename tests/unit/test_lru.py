from __future__ import annotations

from collections import Counter, OrderedDict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nora.lru import BoundedCache


def test_the_least_recently_used_goes_first():
    cache: BoundedCache[str, int] = BoundedCache(3)
    for number, key in enumerate("abc"):
        cache.put(key, number)
    assert cache.get("a") == 0
    cache.put("d", 3)
    assert ("a" in cache, "b" in cache, "c" in cache, "d" in cache) == (True, False, True, True)
    assert cache.get("b") is None


def test_asking_whether_it_is_there_is_no_use_of_it():
    cache: BoundedCache[str, int] = BoundedCache(2)
    cache.put("a", 1)
    cache.put("b", 2)
    assert "a" in cache
    cache.put("c", 3)
    assert "a" not in cache


def test_a_new_value_takes_the_weight_of_the_old_one():
    cache: BoundedCache[str, int] = BoundedCache(10)
    for weight in (9, 1, 5, 9, 1):
        cache.put("a", weight, weight=weight)
    cache.put("b", 2, weight=9)
    assert (cache.get("a"), cache.get("b"), len(cache)) == (1, 2, 2)


def test_what_is_too_heavy_is_not_remembered_and_its_old_value_is_forgotten():
    cache: BoundedCache[str, int] = BoundedCache(10)
    cache.put("a", 1)
    cache.put("b", 2)
    cache.put("a", 3, weight=11)
    assert (cache.get("a"), cache.get("b")) == (None, 2)


def test_forgetting_frees_the_weight():
    cache: BoundedCache[str, int] = BoundedCache(10)
    cache.put("a", 1, weight=10)
    cache.discard("a")
    cache.discard("a")
    cache.put("b", 2, weight=10)
    assert (len(cache), cache.get("b")) == (1, 2)


def test_a_none_value_is_told_from_absence():
    cache: BoundedCache[str, int | None] = BoundedCache(1)
    cache.put("a", None)
    assert "a" in cache
    assert cache.get("a") is None


@pytest.mark.parametrize("weight", [0, 1])
def test_an_empty_cache_holds_nothing_but_the_weightless(weight):
    cache: BoundedCache[str, int] = BoundedCache(0)
    cache.put("a", 1, weight=weight)
    assert ("a" in cache) is (weight == 0)


operations = st.lists(st.tuples(st.sampled_from(["put", "get", "discard"]), st.integers(0, 5), st.integers(0, 6)), max_size=60)


@given(operations)
def test_it_is_a_plain_ordered_dict_with_a_limit(steps):
    cache: BoundedCache[int, int] = BoundedCache(8)
    model: OrderedDict[int, int] = OrderedDict()  # key to weight
    for what, key, weight in steps:
        if what == "put":
            before = Counter(model.values())
            gone = cache.put(key, weight, weight=weight)
            model.pop(key, None)
            model[key] = weight
            while sum(model.values()) > 8:
                model.popitem(last=False)
            assert Counter(gone) == before + Counter([weight]) - Counter(model.values())
        elif what == "get":
            assert cache.get(key) == model.get(key)
            if key in model:
                model.move_to_end(key)
        else:
            assert cache.discard(key) == ([model.pop(key)] if key in model else [])
        assert len(cache) == len(model)
        assert all(key in cache for key in model)
