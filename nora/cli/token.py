"""``nora token create``, ``list`` and ``revoke``: they work on the storage itself, whether a server runs or not."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import msgspec

from nora.api import Invalid, Right
from nora.audit.entry import TokenChange
from nora.audit.file import write_now
from nora.auth.record import DEFAULT_RIGHTS, shown, token_id
from nora.auth.tokens import Tokens
from nora.cli.curate import user_name
from nora.cli.serve import settings_and_plugins
from nora.config.settings import Settings
from nora.rights import EVERYTHING, Grant, matches
from nora.store.directory import DirectoryStore
from nora.tasks import Tasks

COLUMNS = ("id", "user", "rights", "registries", "projects", "created", "expires", "last use", "state", "note")


@dataclass(frozen=True, slots=True)
class Wanted:
    """A token that is to be made. No right is the usual ones; no pattern is everything; 0 days is for ever."""

    user: str
    rights: Sequence[str] = ()
    registries: Sequence[str] = ()
    projects: Sequence[str] = ()
    note: str = ""
    expires_days: int = 0

    @property
    def limit(self) -> Grant:
        """What it may do at most."""
        return Grant(
            rights=frozenset(map(Right, self.rights)) or DEFAULT_RIGHTS,
            registries=tuple(self.registries) or EVERYTHING,
            projects=tuple(self.projects) or EVERYTHING,
        )


def create(config: str | None, overrides: Mapping[str, str], wanted: Wanted) -> None:
    """Make a token and write its text to standard output, alone; what else there is to say goes to standard error.

    Raises:
        NoraError: what is wanted makes no sense, or there is no storage, or no room in it.
    """
    settings = _settings(config, overrides)
    if ":" in wanted.user:
        raise Invalid(
            "--user: no user's name has a colon, which ends it in Basic authentication; give the name as it is in the htpasswd file"
        )

    async def work() -> None:
        async with _opened(settings) as tokens:
            expires = tokens.expiry(wanted.expires_days)
            text, token = await tokens.create(wanted.user, note=wanted.note, limits=(wanted.limit,), expires=expires)
            _note(settings, "token-create", token.id, f"for {token.user}" + (f": {token.note}" if token.note else ""))
            until = f"until {_time(expires)}" if expires else "for ever, unless it is revoked"
            click.echo(f"token {token.id} of {token.user}, {until}; it is shown this once:", err=True)
            click.echo(text)

    asyncio.run(work())
    for hint in _hints(settings, wanted):
        click.echo(f"nora: warning: {hint}", err=True)


def show(config: str | None, overrides: Mapping[str, str], *, as_json: bool) -> None:
    """List all tokens, the oldest first."""
    settings = _settings(config, overrides)

    async def work() -> list[dict[str, Any]]:
        async with _opened(settings) as tokens:
            return [shown(listed, tokens.now()) for listed in await tokens.all()]

    documents = asyncio.run(work())
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(documents), indent=2))
    elif documents:
        click.echo("\n".join(_table([COLUMNS, *map(_row, documents)])))
    else:
        click.echo("there are no tokens", err=True)


def revoke(config: str | None, overrides: Mapping[str, str], named: str) -> None:
    """Revoke a token, named by its id or its text, and say so in one line.

    Raises:
        NotFound: there is none.
        StorageFull: it is not revoked.
    """
    settings = _settings(config, overrides)

    async def work() -> None:
        async with _opened(settings) as tokens:
            id_ = token_id(named) or named
            done = await tokens.revoke(id_)
            if done:
                _note(settings, "token-revoke", id_, "")
            click.echo(f"revoked token {id_}" if done else f"token {id_} is revoked already; nothing changed")

    asyncio.run(work())


def _settings(config: str | None, overrides: Mapping[str, str]) -> Settings:
    settings, _ = settings_and_plugins(config, overrides)
    # What matters is said in a line or two, and standard error is for people here.
    logging.getLogger().setLevel(logging.WARNING)
    # A token is no reason to make a storage.
    DirectoryStore.check_format(Path(settings.storage.path))
    return settings


@asynccontextmanager
async def _opened(settings: Settings) -> AsyncIterator[Tokens]:
    store, tasks = DirectoryStore.open(Path(settings.storage.path)), Tasks()
    try:
        yield Tokens(store, tasks)
    finally:
        await tasks.aclose()
        await store.aclose()


def _note(settings: Settings, action: TokenChange, token: str, reason: str) -> None:
    """Write it to the audit log. What is done is done, so that this is not possible is only said."""
    if not settings.audit.enabled:
        return
    try:
        write_now(Path(settings.storage.path), action, actor=f"cli:{user_name()}", token=token, reason=reason)
    except OSError as error:
        click.echo(f"nora: warning: the audit log cannot be written: {error.strerror or error}", err=True)


def _hints(settings: Settings, wanted: Wanted) -> list[str]:
    """What makes a token useless that is well-formed."""
    hints = []
    if not settings.auth.enabled:
        hints.append("nobody is asked for a token as long as auth.enabled is false")
    names = [registry.name for registry in settings.registries]
    unheard = [pattern for pattern in wanted.registries if not any(matches((pattern,), name) for name in names)]
    return hints + [f"no registry is called {pattern}; there are {', '.join(sorted(names)) or 'none'}" for pattern in unheard]


def _row(document: dict[str, Any]) -> tuple[str, ...]:
    def joined(kind: str) -> str:
        return "; ".join(",".join(limit[kind]) for limit in document["limits"])

    return (
        document["id"],
        document["user"],
        joined("rights"),
        joined("registries"),
        joined("projects"),
        _time(document["created"]),
        _time(document["expires"]) or "never",
        _time(document["last_used"]) or "never",
        document["state"],
        document["note"],
    )


def _time(text: str) -> str:
    """A stored time to the minute.

    >>> _time("2026-11-28T10:55:17.250000Z")
    '2026-11-28T10:55Z'
    """
    return f"{text[:16]}Z" if text else ""


def _table(rows: Sequence[Sequence[str]]) -> list[str]:
    # A record may have been edited: nothing in it must reach the terminal as a command.
    clean = [["".join(c if c.isprintable() else "?" for c in cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*clean, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in clean]
