"""What ``nora token`` does with a storage and says about it; how it is typed is tested with the commands."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from nora.api import Invalid, NoraError, NotFound, Right
from nora.auth.record import DEFAULT_DAYS, DEFAULT_RIGHTS, MAX_DAYS, new_text, seconds_of, token_id
from nora.auth.tokens import Listed, Token, Tokens
from nora.cli import token as commands
from nora.cli.token import Wanted
from nora.clock import timestamp
from nora.rights import Grant
from nora.store.directory import DirectoryStore, StoreError
from nora.tasks import Tasks

LOGIN_NEEDED = '[auth]\nenabled = true\nhtpasswd_file = "users"\n[registries.other]\nformat = "pypi"\nproxy = ""\n'


class Said:
    """What a command wrote."""

    def __init__(self, captured: Any) -> None:
        self.out, self.err = captured.out, captured.err

    @property
    def line(self) -> str:
        """The only one, on standard output."""
        assert self.err == ""
        assert self.out.count("\n") == 1
        return str(self.out).rstrip("\n")

    @property
    def text(self) -> str:
        """The token's, alone on standard output."""
        assert token_id(self.out.rstrip("\n")), self.out
        assert self.out.rstrip("\n") not in self.err
        return str(self.out).rstrip("\n")


@pytest.fixture
def run(storage, place, capsys) -> Callable[..., Said]:
    """Calls a command, and returns what it said."""
    (place / "config.toml").write_text(LOGIN_NEEDED)
    (place / "users").write_text("")

    def call(command: Callable[..., None], *arguments: Any, path: str = "store", **options: Any) -> Said:
        command(None, {"storage.path": path}, *arguments, **options)
        return Said(capsys.readouterr())

    return call


def in_store(storage: Path, work: Callable[[Tokens], Any]) -> Any:
    async def do() -> Any:
        store, tasks = DirectoryStore.open(storage), Tasks()
        try:
            return await work(Tokens(store, tasks))
        finally:
            await tasks.aclose()
            await store.aclose()

    return asyncio.run(do())


def kept(storage: Path) -> list[Listed]:
    found: list[Listed] = in_store(storage, lambda tokens: tokens.all())
    return found


def verified(storage: Path, text: str) -> Token | None:
    found: Token | None = in_store(storage, lambda tokens: tokens.verify(text))
    return found


# Making


def test_the_text_is_alone_on_standard_output_and_lets_in(run, storage):
    said = run(commands.create, Wanted("alice"))
    token = verified(storage, said.text)
    assert (token.user, token.note, token.expires) == ("alice", "", "")
    assert token.limits == (Grant(rights=DEFAULT_RIGHTS),)
    assert said.err == f"token {token.id} of alice, for ever, unless it is revoked; it is shown this once:\n"


def test_a_token_is_made_as_it_is_wanted(run, storage):
    wanted = Wanted(
        "alice",
        rights=("admin", "read"),
        registries=("other", "py*"),
        projects=("team-*",),
        note="for CI",
        expires_days=DEFAULT_DAYS,
    )
    said = run(commands.create, wanted)
    token = verified(storage, said.text)
    limit = Grant(rights=frozenset({Right.READ, Right.ADMIN}), registries=("other", "py*"), projects=("team-*",))
    assert (token.note, token.limits) == ("for CI", (limit,))
    assert token.expires_at > 0
    assert f"until {token.expires[:16]}Z;" in said.err


@pytest.mark.parametrize(
    ("wanted", "problem"),
    [
        (Wanted(""), "a user's name has 1 to 200 printable characters"),
        (Wanted("\udcff"), "a user's name has 1 to 200 printable characters"),
        (Wanted("a:b"), "no user's name has a colon"),
        (Wanted("alice", note="a\nb"), "a note is one line of at most 200 printable characters"),
        (Wanted("alice", registries=("Py",)), "'Py' is no pattern of names"),
        (Wanted("alice", projects=("Team_A",)), "'Team_A' is no pattern of names: use a-z, 0-9"),
        (Wanted("alice", projects=("",)), "'' is no pattern of names"),
    ],
    ids=str,
)
def test_a_token_that_makes_no_sense_is_not_made(run, storage, wanted, problem):
    with pytest.raises(Invalid, match=problem.replace("*", r"\*")):
        run(commands.create, wanted)
    assert kept(storage) == []


def test_what_makes_a_token_useless_is_said_and_it_is_made(run, storage, tmp_path):
    said = run(commands.create, Wanted("alice", registries=("pypi", "pipy", "o*")))
    assert said.text
    assert said.err.splitlines()[1:] == ["nora: warning: no registry is called pipy; there are other, pypi"]
    (tmp_path / "config.toml").write_text("")
    said = run(commands.create, Wanted("alice"))
    assert said.text
    assert said.err.splitlines()[1:] == ["nora: warning: nobody is asked for a token as long as auth.enabled is false"]
    assert len(kept(storage)) == 2


# Listing


def test_a_list_of_nothing_is_empty(run):
    said = run(commands.show, as_json=False)
    assert (said.out, said.err) == ("", "there are no tokens\n")
    assert run(commands.show, as_json=True).line == "[]"


def test_tokens_are_listed_in_columns(run, storage):
    first = run(commands.create, Wanted("alice", note="for CI", projects=("team-*", "other"))).text
    run(commands.create, Wanted("bob", rights=("read",), registries=("pypi",), expires_days=30))
    assert verified(storage, first)
    in_store(storage, lambda tokens: tokens.revoke(token_id(first)))
    said = run(commands.show, as_json=False)
    assert said.err == ""
    head, alice, bob = said.out.splitlines()
    assert head.split("  ")[0] == "id"
    columns = [head.index(name) for name in commands.COLUMNS]
    cells = [
        [line[start:end].strip() for start, end in zip(columns, [*columns[1:], None], strict=True)] for line in (alice, bob)
    ]
    (one, two) = kept(storage)
    assert cells[0][:5] == [token_id(first), "alice", "read,write", "*", "team-*,other"]
    assert cells[0][5:] == [f"{one.token.created[:16]}Z", "never", cells[0][7], "revoked", "for CI"]
    assert cells[1][:5] == [two.token.id, "bob", "read", "pypi", "*"]
    assert cells[1][5:] == [f"{two.token.created[:16]}Z", f"{two.token.expires[:16]}Z", "never", "valid", ""]
    assert "digest" not in said.out


def test_tokens_are_listed_for_programs(run, storage):
    text = run(commands.create, Wanted("alice", rights=("write", "read"), note="ü", expires_days=1)).text
    said = run(commands.show, as_json=True)
    (listed,) = kept(storage)
    assert json.loads(said.out) == [
        {
            "id": token_id(text),
            "user": "alice",
            "issuer": "",
            "note": "ü",
            "state": "valid",
            "limits": [{"rights": ["read", "write"], "registries": ["*"], "projects": ["*"]}],
            "created": listed.token.created,
            "expires": listed.token.expires,
            "revoked": "",
            "last_used": "",
        }
    ]
    assert listed.token.digest not in said.out


def test_what_an_edited_record_says_is_no_command_to_the_terminal(run, storage):
    text = run(commands.create, Wanted("alice")).text
    path = storage / f"tokens/{token_id(text)}.json"
    path.write_bytes(path.read_bytes().replace(b'"note":""', b'"note":"\\u001b[2J"'))
    assert "?[2J" in run(commands.show, as_json=False).out
    assert "\x1b" not in run(commands.show, as_json=True).out


def test_a_record_that_is_of_no_use_is_told_and_hides_no_other(run, storage):
    good, bad = (token_id(run(commands.create, Wanted("alice")).text) for _ in range(2))
    (storage / f"tokens/{bad}.json").write_text("{")
    said = run(commands.show, as_json=False)
    assert good in said.out
    assert bad not in said.out
    assert said.err.count("\n") == 1
    assert f"token={bad}" in said.err
    assert run(commands.revoke, bad).line == f"revoked token {bad}"


# Revoking


def test_a_token_is_revoked_by_its_id_or_its_text(run, storage):
    by_id, by_text = (run(commands.create, Wanted("alice")).text for _ in range(2))
    id_ = token_id(by_id)
    assert run(commands.revoke, id_).line == f"revoked token {id_}"
    assert run(commands.revoke, id_).line == f"token {id_} is revoked already; nothing changed"
    assert run(commands.revoke, by_text).line == f"revoked token {token_id(by_text)}"
    assert verified(storage, by_id) is None
    assert verified(storage, by_text) is None
    assert [listed.token.state(0) for listed in kept(storage)] == ["revoked", "revoked"]


@pytest.mark.parametrize("named", ["0" * 12, "", "../../FORMAT", "\udcff", new_text()[:-1], new_text()], ids=range(6))
def test_what_is_no_token_is_not_found_and_no_secret_is_repeated(run, storage, named):
    text = run(commands.create, Wanted("alice")).text
    with pytest.raises(NotFound) as told:
        run(commands.revoke, named)
    assert named[20:] not in str(told.value) or not named[20:]
    assert verified(storage, text)


# The storage


@pytest.mark.parametrize(
    "command",
    [(commands.create, Wanted("alice")), (commands.revoke, "0" * 12), (commands.show,)],
    ids=["create", "revoke", "list"],
)
def test_a_storage_that_is_not_there_is_not_made(run, tmp_path, command):
    options = {"as_json": False} if command[0] is commands.show else {}
    with pytest.raises(StoreError, match="there is no storage"):
        run(*command, path="elsewhere", **options)
    assert not (tmp_path / "elsewhere").exists()


def test_a_wrong_configuration_is_told(run, tmp_path, storage):
    (tmp_path / "config.toml").write_text("[pypi]\nproxi = 1\n")
    with pytest.raises(NoraError, match=r"pypi\.proxi: unknown key"):
        run(commands.create, Wanted("alice"))
    assert kept(storage) == []


def test_the_log_is_silent_unless_something_is_wrong(run, storage, tmp_path):
    (tmp_path / "config.toml").write_text(LOGIN_NEEDED + '[logging]\nlevel = "debug"\n')
    said = run(commands.create, Wanted("alice"))
    assert said.text
    assert said.err.count("\n") == 1


def test_days_are_days(run, storage):
    for days in (1, MAX_DAYS):
        run(commands.create, Wanted("alice", expires_days=days))
        token = kept(storage)[-1].token
        made = seconds_of(token.created)
        assert 0 <= token.expires_at - made - days * 24 * 3600 + 1 < 2
        assert timestamp(token.expires_at) == token.expires
