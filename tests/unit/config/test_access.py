"""Rules: who may do what, and every way to write them wrongly."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from nora.api import Right
from nora.config.settings import Settings

RULE = """
[auth.groups]
team = ["alice", "bob"]
[[auth.rules]]
who = ["@team", "carol", "@everybody"]
registries = ["pypi", "team-*"]
projects = ["team-*"]
rights = ["read", "write"]
"""


def test_a_rule_has_the_members_of_its_groups(configure: Callable[..., Settings]) -> None:
    (rule,) = configure(RULE).rules
    assert rule.who == {"alice", "bob", "carol", "@everybody"}
    assert rule.grant.rights == {Right.READ, Right.WRITE}
    assert (rule.grant.registries, rule.grant.projects) == (("pypi", "team-*"), ("team-*",))


def test_a_rule_is_about_everything_unless_it_says_otherwise(configure: Callable[..., Settings]) -> None:
    (rule,) = configure('[[auth.rules]]\nwho = ["@users"]\nrights = ["admin"]').rules
    assert (rule.grant.registries, rule.grant.projects) == (("*",), ("*",))


def test_rules_without_logins_are_warned_of(configure: Callable[..., Settings]) -> None:
    (warning,) = configure(RULE).warnings
    assert warning == "auth.rules: mean nothing as long as nobody has to log in; set auth.enabled = true"
    assert configure("").warnings == ()


def test_without_rules_there_are_none(configure: Callable[..., Settings]) -> None:
    assert configure().rules == ()
    assert configure("[auth]\nanonymous_read = true").rules == ()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("auth.rules = 1", "auth.rules: must be tables, each begun by [[auth.rules]]"),
        ('auth.rules = ["x"]', "auth.rules: must be tables, each begun by [[auth.rules]]"),
        ("auth.groups = 1", "auth.groups: must be a table of lists of user names"),
        ('auth.groups.team = "alice"', 'auth.groups.team: must be a list of user names, such as ["alice", "bob"]'),
        ('auth.groups.team = ["@other"]', 'auth.groups.team: must be a list of user names, such as ["alice", "bob"]'),
        ('auth.groups.users = ["a"]', "auth.groups.users: is a group that there is anyway: @users; choose another name"),
    ],
)
def test_wrong_tables(problems: Callable[..., list[str]], text: str, expected: str) -> None:  # CONF-1
    assert problems(text) == [f"config.toml: {expected}"]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ('who = "alice"', "who: must be a list"),
        ("who = []", "who: must be a list"),
        ('who = ["@teem"]', "who: unknown group; did you mean @team?"),
        ("rights = []", "rights: must be a list of read, write, admin"),
        ('rights = ["reed"]', "rights: unknown right; did you mean read?"),
        ('projects = "team-*"', "projects: must be a list of patterns"),
        ('projects = ["Team A"]', "projects: 'Team A' is no pattern of names"),
        ("registries = []", "registries: must be a list of patterns"),
        ('project = ["x"]', "project: unknown key; did you mean projects?"),
    ],
)
def test_wrong_rules_name_what_is_wrong_and_where(
    problems: Callable[..., list[str]], line: str, expected: str
) -> None:  # CONF-1
    key = line.partition(" ")[0]
    right = {"who": 'who = ["alice"]', "rights": 'rights = ["read"]'}
    lines = [text for name, text in right.items() if name != key]
    found = problems("\n".join(["[auth.groups]", "team = ['alice']", "[[auth.rules]]", *lines, line]))
    assert len(found) == 1
    assert found[0].startswith(f"config.toml: auth.rules 1.{expected}")


# Others than this machine


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "registry.example"])
def test_a_server_that_others_can_reach_wants_logins(problems: Callable[..., list[str]], host: str) -> None:
    (problem,) = problems(f'[server]\nhost = "{host}"')
    assert problem == (
        f"config.toml: server.host: {host} can be reached from other machines, and nobody has to log in: set auth.enabled = true and "
        "auth.htpasswd_file, or, if everybody may publish and delete, auth.allow_unauthenticated_writes = true"
    )


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "::1", "localhost"])
def test_on_this_machine_nobody_has_to_log_in(configure: Callable[..., Any], host: str) -> None:
    assert configure(f'[server]\nhost = "{host}"').server.host == host


def test_an_operator_can_decide_otherwise(configure: Callable[..., Any]) -> None:
    assert configure('[server]\nhost = "0.0.0.0"\n[auth]\nallow_unauthenticated_writes = true').server.host == "0.0.0.0"
    assert configure(NORA_HOST="0.0.0.0", NORA_AUTH_ALLOW_UNAUTHENTICATED_WRITES="true").server.host == "0.0.0.0"
