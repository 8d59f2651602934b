"""What somebody may do with which projects of which registries. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache

import msgspec

from nora.api import Right

EVERYTHING = ("*",)
USERS, EVERYBODY = "@users", "@everybody"
"""Groups that there are anyway: whoever has logged in; and whoever asks, logged in or not."""


class Grant(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Some rights on some projects.

    Attributes:
        rights: Each stands for itself: who may write may not read thereby.
        registries: Patterns of names of registries, in which ``*`` stands for any characters.
        projects: The same for normalized names of projects.
    """

    rights: frozenset[Right]
    registries: tuple[str, ...] = EVERYTHING
    projects: tuple[str, ...] = EVERYTHING

    def covers(self, right: Right, registry: str | None) -> bool:
        """Whether there may be projects in a registry (``None``: in any) for which this gives ``right``."""
        return right in self.rights and (registry is None or matches(self.registries, registry))


class Grants:
    """All that somebody may do: what at least one grant of each layer allows. A layer without grants allows nothing.

    A user has one layer; a token has that of its user, and its own, so it never allows more than its user may do.
    """

    __slots__ = ("_layers", "key")

    def __init__(self, *layers: Iterable[Grant]) -> None:
        self._layers = tuple(tuple(layer) for layer in layers)
        self.key = repr(self._layers)
        """Equal for grants that allow the same, for memories of what was made for somebody."""

    def allows(self, right: Right, registry: str, project: str) -> bool:
        """Whether ``right`` on a project is among them. ``project`` is its normalized name."""
        return all(
            any(grant.covers(right, registry) and matches(grant.projects, project) for grant in layer) for layer in self._layers
        )

    def allows_some(self, right: Right, registry: str | None) -> bool:
        """Whether there may be projects in a registry (``None``: in any) for which ``right`` is among them."""
        return all(any(grant.covers(right, registry) for grant in layer) for layer in self._layers)

    def allows_all(self, right: Right, registry: str) -> bool:
        """Whether ``right`` is among them for every project of a registry, by a grant for ``*``."""
        return all(any(grant.covers(right, registry) and "*" in grant.projects for grant in layer) for layer in self._layers)

    def allows_everywhere(self, right: Right) -> bool:
        """Whether ``right`` is among them for every project of every registry, by a grant for ``*`` in ``*``."""
        return all(
            any(right in grant.rights and "*" in grant.registries and "*" in grant.projects for grant in layer)
            for layer in self._layers
        )

    def within(self, limits: Iterable[Grant]) -> Grants:
        """What these allow and ``limits`` allow, too."""
        return Grants(*self._layers, limits)


ALL = Grants((Grant(rights=frozenset(Right)),))
"""Of whoever has the machine, such as on the command line; and of everybody where nobody has to log in."""
NOTHING = Grants(())


def matches(patterns: Iterable[str], name: str) -> bool:
    """Whether one of the patterns is of a name.

    >>> matches(("team-*", "other"), "team-a"), matches(("team-*",), "a-team-b")
    (True, False)
    """
    return any(
        pattern in ("*", name) or ("*" in pattern and _compiled(pattern).fullmatch(name) is not None) for pattern in patterns
    )


def pattern_problem(pattern: str) -> str | None:
    """What is wrong with a pattern, or ``None``.

    >>> pattern_problem("Team A")
    "'Team A' is no pattern of names: use a-z, 0-9, '.', '-', '_' and *, such as team-*"
    """
    if re.fullmatch(r"[a-z0-9._*-]{1,200}", pattern) and pattern.count("*") <= 4:
        return None
    return f"{pattern[:80]!r} is no pattern of names: use a-z, 0-9, '.', '-', '_' and *, such as team-*"


@lru_cache(maxsize=4096)
def _compiled(pattern: str) -> re.Pattern[str]:
    # Few stars, and names are short: no pattern takes long.
    return re.compile(".*".join(map(re.escape, pattern.split("*"))), re.DOTALL)
