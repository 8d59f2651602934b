"""``nora token``, as an operator types it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import pytest
from click.testing import CliRunner, Result

from nora.auth.record import DEFAULT_DAYS, DEFAULT_RIGHTS, MAX_DAYS, seconds_of, token_id
from nora.cli.main import cli, token_create
from nora.store.directory import DirectoryStore

LOGIN_NEEDED = '[auth]\nenabled = true\nhtpasswd_file = "users"\n'


@pytest.fixture
def run(place) -> Callable[..., Result]:
    """Runs ``nora token`` with these arguments, against the storage."""
    DirectoryStore.open(place / "store")
    (place / "config.toml").write_text(LOGIN_NEEDED)
    (place / "users").write_text("")

    def call(command: str, *arguments: str, storage: str = "store") -> Result:
        return CliRunner().invoke(cli, ["token", command, "--storage", storage, *arguments], prog_name="nora")

    return call


def listed(run: Callable[..., Result]) -> list[dict[str, Any]]:
    result = run("list", "--json")
    assert (result.exit_code, result.stderr) == (0, "")
    found: list[dict[str, Any]] = json.loads(result.stdout)
    return found


def test_a_token_is_made_listed_and_revoked(run):
    result = run("create", "--user", "alice", "--note", "for CI")
    assert result.exit_code == 0
    text = result.stdout.removesuffix("\n")
    assert token_id(text)
    assert text not in result.stderr
    (document,) = listed(run)
    assert (document["id"], document["user"], document["note"]) == (token_id(text), "alice", "for CI")
    assert document["limits"] == [{"rights": ["read", "write"], "registries": ["*"], "projects": ["*"]}]
    assert abs(seconds_of(document["expires"]) - seconds_of(document["created"]) - DEFAULT_DAYS * 24 * 3600) < 1
    table = run("list")
    assert (table.exit_code, table.stdout.count("\n")) == (0, 2)
    assert token_id(text) in table.stdout
    result = run("revoke", token_id(text))
    assert (result.exit_code, result.stdout, result.stderr) == (0, f"revoked token {token_id(text)}\n", "")
    assert listed(run)[0]["state"] == "revoked"


def test_options_are_given_again_for_more(run):
    options = ["--right", "read", "--right", "admin", "--registry", "pypi", "--project", "team-*", "--project", "other"]
    assert run("create", "--user", "alice", "--expires-days", "0", *options).exit_code == 0
    (document,) = listed(run)
    assert document["limits"] == [{"rights": ["read", "admin"], "registries": ["pypi"], "projects": ["team-*", "other"]}]
    assert document["expires"] == ""


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("create",), "Missing option '--user'"),
        (("create", "--user", "alice", "--right", "fly"), "'fly' is not one of 'read', 'write', 'admin'"),
        (("create", "--user", "alice", "--expires-days", "-1"), "is not in the range"),
        (("create", "--user", "alice", "--expires-days", str(MAX_DAYS + 1)), "is not in the range"),
        (("create", "--user", "alice", "--project", "Team"), "nora: 'Team' is no pattern of names: use a-z"),
        (("create", "--user", "alice", "--registry", ""), "nora: '' is no pattern of names"),
        (("create", "--user", ""), "nora: a user's name has 1 to 200 printable characters"),
        (("revoke",), "Missing argument 'ID'"),
        (("revoke", "0" * 12), "nora: no such token: 000000000000"),
        (("revoke", "x"), "nora: no such token: an id has 12 characters"),
    ],
)
def test_what_cannot_be_done_ends_with_2_and_makes_nothing(run, arguments, words):
    result = run(*arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert words in result.stderr
    assert listed(run) == []


@pytest.mark.parametrize("arguments", [("create", "--user", "alice"), ("list",), ("revoke", "0" * 12)])
def test_a_storage_that_is_not_there_is_not_made(run, tmp_path, arguments):
    result = run(*arguments, storage="elsewhere")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "there is no storage" in result.stderr
    assert not (tmp_path / "elsewhere").exists()


def test_the_help_says_what_is_done_without_an_option():
    # Commands do not import what their defaults come from, so that help answers at once.
    defaults = {parameter.name: parameter.default for parameter in token_create.params}
    assert defaults["expires_days"] == DEFAULT_DAYS
    assert set(defaults["rights"]) == {right.value for right in DEFAULT_RIGHTS}
    said = re.sub(r"\s+", " ", CliRunner().invoke(cli, ["token", "create", "--help"]).stdout)
    assert f"[default: {DEFAULT_DAYS}; 0<=x<={MAX_DAYS}]" in said
    assert "normalized form" in said
