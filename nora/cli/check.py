"""``nora check``."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping

import click

from nora.cli.serve import settings_and_plugins
from nora.compose import host


def run(config: str | None, overrides: Mapping[str, str]) -> None:
    """Do all that a start does, except listening.

    Raises:
        NoraError: with every problem in its text.
    """
    settings, plugins = settings_and_plugins(config, overrides)

    async def compose() -> None:
        async with host(settings, plugins, os.environ):
            pass

    asyncio.run(compose())
    for warning in settings.warnings:
        click.echo(f"nora: warning: {warning}", err=True)
    for registry in settings.registries:
        click.echo(f"{registry.name}: format {registry.format} at {registry.path}")
    click.echo("the configuration is good")
