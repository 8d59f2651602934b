"""Which claims a publisher wants, and which it has."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nora.api import Right
from nora.auth.publishers import TrustedPublisher, claim_matches, text_matches
from nora.rights import Grant

GRANT = Grant(rights=frozenset({Right.WRITE}), projects=("demo",))


@pytest.mark.parametrize(
    ("pattern", "text", "matches"),
    [
        ("acme/demo", "acme/demo", True),
        ("acme/demo", "acme/demo2", False),
        ("acme/demo", "Acme/demo", False),
        ("acme/demo", "acme/demo\n", False),
        ("acme/*", "acme/demo", True),
        ("acme/*", "acme/", True),
        ("acme/*", "evil/acme/demo", False),
        ("acme/*", "acme-evil/demo", False),
        ("*/demo", "acme/demo", True),
        ("*/demo", "acme/demo/x", False),
        ("a*a", "a", False),
        ("a*a", "aa", True),
        ("a*b*c", "a-b-c", True),
        ("a*b*c", "a-c-b", False),
        ("*b*b*", "b", False),
        ("*b*b*", "xbxbx", True),
        ("refs/tags/v*", "refs/tags/v1\nrefs/heads/x", True),
        ("a.c", "abc", False),
        ("[a-z]*", "abc", False),
        ("**", "", True),
    ],
)
def test_a_star_stands_for_any_characters_and_nothing_else_for_others(pattern: str, text: str, matches: bool) -> None:
    assert text_matches(pattern, text) is matches


@given(st.text("ab*", max_size=8), st.text("ab", max_size=12))
def test_patterns_properties(pattern: str, text: str) -> None:
    regular = ".*".join(map(re.escape, pattern.split("*")))
    assert text_matches(pattern, text) == (re.fullmatch(regular, text, re.DOTALL) is not None)


def test_no_text_makes_a_pattern_try_everything() -> None:
    pattern, text = "*".join(["a"] * 200) + "b", "a" * 16_000
    assert not text_matches(pattern, text)  # by trying everything it would not be done before the end of the world


@pytest.mark.parametrize(
    ("wanted", "said", "matches"),
    [
        (("a", "b"), "b", True),
        (("a", "b"), "c", False),
        ((7,), 7, True),
        ((7,), "7", False),
        (("7",), 7, False),
        ((1,), True, False),
        ((True,), 1, False),
        ((True,), "true", False),
        ((False,), False, True),
        ((0,), None, False),
        ((1,), 1.0, False),
        (("a",), ["a"], False),
        (("*",), ["a"], False),
        (("*",), None, False),
        (("*",), "anything", True),
        (("a",), {"a": 1}, False),
    ],
)
def test_the_kind_of_a_claim_counts(wanted: tuple[str | int | bool, ...], said: object, matches: bool) -> None:
    assert claim_matches(wanted, said) is matches


def test_every_claim_has_to_be_as_it_must() -> None:
    publisher = TrustedPublisher(
        "https://ci.example", "nora", {"repository": ("acme/demo",), "ref": ("refs/tags/*", "refs/heads/main")}, GRANT
    )
    assert publisher.unmet({"repository": "acme/demo", "ref": "refs/tags/v1", "more": 1}) == []
    assert publisher.unmet({"repository": "acme/demo", "ref": "refs/heads/other"}) == ["ref"]
    assert publisher.unmet({"ref": "refs/heads/main"}) == ["repository"]
    assert publisher.unmet({}) == ["repository", "ref"]
