"""``nora yank``, ``unyank``, ``delete`` and ``status``: they work on the storage itself, whether a server runs or not."""

from __future__ import annotations

import asyncio
import logging
import os
import pwd
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import click

from nora.api import Actor, File, Invalid, NoraError
from nora.cli.serve import settings_and_plugins
from nora.compose import host
from nora.config.settings import Settings
from nora.context import RequestContext, current_request
from nora.plugins import Plugins
from nora.registry.managed import ManagedRegistry, Target, managed
from nora.rights import ALL
from nora.store.directory import DirectoryStore

DECLINED = 1


class NotConfirmed(NoraError):
    """Nobody is there to be asked whether this is really meant."""


@dataclass(frozen=True, slots=True)
class Place:
    """A project of the configured host, as the command line names it."""

    settings: Settings
    plugins: Plugins
    registry: str
    project: str

    @classmethod
    def of(cls, config: str | None, overrides: Mapping[str, str], registry: str, project: str) -> Place:
        """Load the configuration.

        Raises:
            NoraError: it is wrong, or there is no storage.
        """
        settings, plugins = settings_and_plugins(config, overrides)
        # The result is one line on standard output, which says what the log would.
        logging.getLogger().setLevel(logging.WARNING)
        # A change is no reason to make a storage.
        DirectoryStore.check_format(Path(settings.storage.path))
        return cls(settings, plugins, registry, project)

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[tuple[ManagedRegistry, str]]:
        """The registry, and the project's normalized name; what is done with them is done by whoever runs this process.

        Raises:
            NotFound: no such registry, or no project can have this name.
        """
        async with host(self.settings, self.plugins, os.environ) as composed:
            found = managed(composed.registries, self.registry)
            current_request.set(RequestContext(actor=Actor(name=f"cli:{user_name()}"), grants=ALL))
            yield found, found.project(self.project)


def yank(place: Place, version: str, file: str | None, reason: str) -> None:
    """Yank, and say so in one line."""
    target = target_of(version, file)

    async def work() -> None:
        async with place.opened() as (found, project):
            event = await found.curator.yank(project, target, reason)
            where = f"{target} of {project} in {place.registry}"
            click.echo(f"yanked {where}" if event else f"{where} is yanked already, with this reason; nothing changed")

    asyncio.run(work())


def unyank(place: Place, version: str, file: str | None) -> None:
    """Take back a yank, and say so in one line."""
    target = target_of(version, file)

    async def work() -> None:
        async with place.opened() as (found, project):
            event = await found.curator.unyank(project, target)
            where = f"{target} of {project} in {place.registry}"
            click.echo(f"unyanked {where}" if event else f"{where} is not yanked; nothing changed")

    asyncio.run(work())


def delete(place: Place, version: str, file: str | None, reason: str, *, confirmed: bool) -> int:
    """Delete, after asking unless that is confirmed already, and say so in one line; returns the exit status.

    Raises:
        NotConfirmed: nobody can be asked.
    """
    target = target_of(version, file)
    if not confirmed:
        files, project = asyncio.run(_hosted_files(place, target))
        if not sys.stdin.isatty():
            raise NotConfirmed("deleting is for good and there is no terminal to ask at; give --yes to do it")
        click.echo(f"{target} of {project} in {place.registry} is deleted for good, with", err=True)
        for each in files:
            click.echo(f"  {each.name}", err=True)
        if not click.confirm("Delete?", err=True):
            click.echo("nothing was deleted")
            return DECLINED

    async def work() -> None:
        async with place.opened() as (found, project):
            event = await found.curator.delete(project, target, reason)
            click.echo(f"deleted {target} of {project} in {place.registry}: {', '.join(event.files)}")

    asyncio.run(work())
    return 0


def status(place: Place, new: str | None, reason: str) -> None:
    """Set the status and say so in one line; without a new one, show it."""
    if new is None and reason:
        raise Invalid("a reason is given with a new status; name the status, too")

    async def work() -> None:
        async with place.opened() as (found, project):
            if new is None:
                listing = await found.registry.listing(project)
                click.echo(f"{listing.status}: {listing.status_reason}" if listing.status_reason else listing.status)
                return
            event = await found.curator.set_status(project, new, reason)
            where = f"{project} in {place.registry}"
            click.echo(f"{where} is {new} now" if event else f"{where} is {new} already, with this reason; nothing changed")

    asyncio.run(work())


def target_of(version: str, file: str | None) -> Target:
    """What the command line means.

    Raises:
        Invalid: nothing in particular.
    """
    # As of a variable that is not set: the whole version must not go in the place of one file.
    if file == "":
        raise Invalid("--file must name a file")
    return Target(version, file or "")


def user_name() -> str:
    """Who runs this process, as the system knows them; the environment could say anything."""
    number = os.getuid()
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return str(number)


async def _hosted_files(place: Place, target: Target) -> tuple[tuple[File, ...], str]:
    async with place.opened() as (found, project):
        return await found.curator.hosted_files(project, target), project
