"""Trusted publishers: which identities of which CI systems may publish what, and how others are refused. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

from nora.api import NoraError
from nora.rights import Grant

ClaimValue: TypeAlias = str | int | bool


class Refused(NoraError):
    """An identity is exchanged for nothing.

    Attributes:
        code: Why, in a word for programs.
        description: Why, for whoever has sent it. Holds nothing of the identity.
        actor: Whose it is, if that is proven.
        detail: What else the operator may want to know.
    """

    def __init__(self, code: str, description: str, *, actor: str = "", detail: str = "") -> None:
        super().__init__(description)
        self.code, self.description, self.actor, self.detail = code, description, actor, detail


@dataclass(frozen=True, slots=True)
class TrustedPublisher:
    """Who may have a token, and for what.

    Attributes:
        issuer: Who must have signed, as the identity names it, letter for letter.
        audience: What the identity must be for.
        claims: What it must say: for each name, values of which one must be there. ``*`` in a text stands for any characters.
        grant: What the token may then be used for.
    """

    issuer: str
    audience: str
    claims: Mapping[str, tuple[ClaimValue, ...]]
    grant: Grant

    def unmet(self, claims: Mapping[str, object]) -> list[str]:
        """The names of the claims that are not as they must be."""
        return [name for name, wanted in self.claims.items() if not claim_matches(wanted, claims.get(name))]


def claim_matches(wanted: tuple[ClaimValue, ...], given: object) -> bool:
    """Whether a claim has one of the values. Its kind counts: ``true``, ``1`` and ``"1"`` are three; a list is none of them.

    >>> claim_matches(("acme/*", 7), "acme/demo"), claim_matches(("1",), 1), claim_matches((1,), True)
    (True, False, False)
    """
    return any(
        text_matches(value, given)
        if isinstance(value, str) and isinstance(given, str)
        else type(value) is type(given) and value == given
        for value in wanted
    )


def text_matches(pattern: str, text: str) -> bool:
    """Whether a text is as a pattern has it. Takes time in proportion to the text, whatever the pattern.

    >>> text_matches("repo:acme/*:ref:*", "repo:acme/demo:ref:refs/heads/main"), text_matches("a*a", "a")
    (True, False)
    """
    first, *rest = pattern.split("*")
    if not rest:
        return text == pattern
    *between, last = rest
    at, end = len(first), len(text) - len(last)
    if at > end or not text.startswith(first) or not text.endswith(last):
        return False
    for part in between:
        # The earliest place leaves most to what follows.
        found = text.find(part, at, end)
        if found < 0:
            return False
        at = found + len(part)
    return True
