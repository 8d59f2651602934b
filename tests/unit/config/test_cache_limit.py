"""The limit of a cache: every number that makes sense, and none that does not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest


@pytest.mark.parametrize(("text", "value"), [("0", 0), ("20", 20), ("0.5", 0.5)])
def test_it_is_a_number_with_or_without_a_fraction(configure: Callable[..., Any], text: str, value: float) -> None:
    (registry,) = configure(f"[pypi]\ncache_max_gb = {text}").registries
    assert registry.config.cache_max_gb == value
    (registry,) = configure(NORA_PYPI_CACHE_MAX_GB=text).registries
    assert registry.config.cache_max_gb == value


def test_there_is_none_unless_it_is_asked_for(configure: Callable[..., Any]) -> None:
    (registry,) = configure().registries
    assert registry.config.cache_max_gb == 0


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("-1", "must be 0 (no limit) or more"),
        ("1e300", "must be at most 1000000000; 0 is no limit"),
        ("nan", "must be a number, and finite"),
        ("inf", "must be a number, and finite"),
        ('"1"', "must be a number, not a text"),
    ],
)
def test_other_values_are_refused(problems: Callable[..., list[str]], text: str, reason: str) -> None:  # CONF-1
    assert problems(f"[pypi]\ncache_max_gb = {text}") == [f"config.toml: pypi.cache_max_gb: {reason}"]
