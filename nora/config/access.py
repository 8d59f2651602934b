"""Who may do what: ``[auth.groups]`` and ``[[auth.rules]]``, which only the file can have."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from nora.api import Right
from nora.config.reader import Reader
from nora.config.settings import AccessRule
from nora.config.sources import unknown
from nora.rights import EVERYBODY, EVERYTHING, USERS, Grant, pattern_problem

RULE_KEYS = ("who", "rights", "registries", "projects")


def read_access(reader: Reader, groups: Any, rules: Any) -> tuple[AccessRule, ...]:
    """The rules of the file, with the members of groups in place of their names. Problems go to ``reader``."""
    members = dict(_groups(reader, groups))
    if not isinstance(rules, Sequence) or isinstance(rules, str) or not all(isinstance(rule, Mapping) for rule in rules):
        complain(reader, "auth.rules", "must be tables, each begun by [[auth.rules]]")
        return ()
    return tuple(
        [
            found
            for number, rule in enumerate(rules, 1)
            if (found := _rule(reader, f"auth.rules {number}", rule, members)) is not None
        ]
    )


def _groups(reader: Reader, groups: Any) -> Iterator[tuple[str, tuple[str, ...]]]:
    if not isinstance(groups, Mapping):
        complain(reader, "auth.groups", "must be a table of lists of user names")
        return
    for name, users in groups.items():
        if f"@{name}" in (USERS, EVERYBODY):
            complain(reader, f"auth.groups.{name}", f"is a group that there is anyway: @{name}; choose another name")
        elif not is_names(users) or any(user.startswith("@") for user in users):
            complain(reader, f"auth.groups.{name}", 'must be a list of user names, such as ["alice", "bob"]')
        else:
            yield f"@{name}", tuple(users)


def _rule(reader: Reader, path: str, rule: Mapping[str, Any], members: Mapping[str, tuple[str, ...]]) -> AccessRule | None:
    before = len(reader.problems)
    for key in rule:
        if key not in RULE_KEYS:
            complain(reader, f"{path}.{key}", unknown("key", key, RULE_KEYS))
    who = rule.get("who")
    names: list[str] = []
    if not is_names(who) or not who:
        complain(
            reader,
            f"{path}.who",
            f'must be a list of user names and groups, such as ["alice", "@team"], "{USERS}" or "{EVERYBODY}"',
        )
    else:
        for name in who:
            if name.startswith("@") and name not in (USERS, EVERYBODY, *members):
                complain(reader, f"{path}.who", unknown("group", name, [USERS, EVERYBODY, *members]))
            names += members.get(name, (name,))
    grant = _grant(reader, path, rule)
    return AccessRule(who=frozenset(names), grant=grant) if len(reader.problems) == before else None


def _grant(reader: Reader, path: str, rule: Mapping[str, Any]) -> Grant:
    known = [right.value for right in Right]
    rights = rule.get("rights")
    if not is_names(rights) or not rights:
        complain(reader, f"{path}.rights", f"must be a list of {', '.join(known)}")
        rights = []
    for right in rights:
        if right not in known:
            complain(reader, f"{path}.rights", unknown("right", right, known))
    return Grant(
        rights=frozenset(Right(right) for right in rights if right in known),
        **{key: read_patterns(reader, path, key, rule.get(key, EVERYTHING)) for key in ("registries", "projects")},
    )


def read_patterns(reader: Reader, path: str, key: str, given: Any) -> tuple[str, ...]:
    """Patterns of names in the table at ``path``. Problems go to ``reader``."""
    if not is_names(given) or not given:
        complain(reader, f"{path}.{key}", 'must be a list of patterns of names, such as ["team-*"]')
        return ()
    for pattern in given:
        if problem := pattern_problem(pattern):
            complain(reader, f"{path}.{key}", problem)
    return tuple(given)


def is_names(value: Any) -> bool:
    """Whether a value is a list of texts that are not empty."""
    return isinstance(value, Sequence) and not isinstance(value, str) and all(isinstance(each, str) and each for each in value)


def complain(reader: Reader, path: str, problem: str) -> None:
    """Add a problem with what the file has at ``path``."""
    reader.problems.append(f"{reader.file.label}: {path}: {problem}")
