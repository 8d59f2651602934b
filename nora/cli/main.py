"""The command line. Only click is imported here, so that ``nora --help`` answers at once; commands import what they need."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import click

from nora import __version__

USAGE_ERROR = 2


class NoraCommands(click.Group):
    """The commands of this package, and those of plugins."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Ours; a plugin's are found by name, since loading plugins to show help would make it slow."""
        return sorted(super().list_commands(ctx))

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Ours, else a plugin's."""
        return super().get_command(ctx, cmd_name) or _plugin_command(cmd_name)


def _plugin_command(name: str) -> click.Command | None:
    from nora.plugins import load_plugins

    with clear_errors():
        return next((command for command in load_plugins().commands if command.name == name), None)


@click.group(cls=NoraCommands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="nora", message="%(prog)s %(version)s")
def cli() -> None:
    """Nora, a package registry. Start with: nora serve"""


@contextmanager
def clear_errors() -> Iterator[None]:
    """Turn errors that the operator can mend into lines on standard error and exit status 2."""
    from nora.api import NoraError

    try:
        yield
    except NoraError as error:
        for line in str(error).splitlines():
            click.echo(f"nora: {line}", err=True)
        sys.exit(USAGE_ERROR)


def configured(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options of commands that read the configuration."""
    for option in (
        click.option("--storage", metavar="DIR", help="Where everything is kept; same as storage.path."),
        click.option("--config", metavar="FILE", help="Configuration file; else NORA_CONFIG_PATH, else ./config.toml."),
    ):
        command = option(command)
    return command


def _storage(path: str | None) -> dict[str, str]:
    return {} if path is None else {"storage.path": path}


@cli.command()
@configured
@click.option("--host", metavar="ADDRESS", help="Address to listen on; same as server.host.")
@click.option("--port", metavar="PORT", help="Port to listen on; same as server.port.")
@click.option("--workers", metavar="N", help="Number of processes; same as server.workers.")
def serve(config: str | None, storage: str | None, host: str | None, port: str | None, workers: str | None) -> None:
    """Run the registry until SIGTERM or SIGINT."""
    from nora.cli.serve import run

    with clear_errors():
        overrides = {"server.host": host, "server.port": port, "server.workers": workers, "storage.path": storage}
        sys.exit(run(config, {path: value for path, value in overrides.items() if value is not None}))


@cli.command()
@configured
def check(config: str | None, storage: str | None) -> None:
    """Check the configuration and all plugins, without listening."""
    from nora.cli.check import run

    with clear_errors():
        run(config, _storage(storage))


@cli.command()
def plugins() -> None:
    """List the formats that are installed."""
    from nora.plugins import load_plugins

    with clear_errors():
        found = load_plugins()
        for name, format_ in sorted(found.formats.items()):
            click.echo(f"{name}\t{format_.title}\t{found.origins[name]}")


@cli.command()
@configured
def verify(config: str | None, storage: str | None) -> None:
    """Read everything in the storage and compare it with its digests; exit status 1 if anything is wrong."""
    from nora.cli.verify import run

    with clear_errors():
        sys.exit(run(config, _storage(storage)))


@cli.command()
@configured
@click.option("--dry-run", is_flag=True, help="Only say what would be removed.")
@click.option(
    "--keep-deleted-days",
    metavar="N",
    type=click.IntRange(0, 36500),
    default=0,
    help="Keep the contents of files that were deleted in the last N days; else none.",
)
def gc(config: str | None, storage: str | None, dry_run: bool, keep_deleted_days: int) -> None:
    """Remove contents that nothing names any more, and bring caches within their limits; servers may run."""
    from nora.cli.gc import run

    with clear_errors():
        run(config, _storage(storage), dry_run=dry_run, keep_deleted_days=keep_deleted_days)


def about_files(command: Callable[..., Any]) -> Callable[..., Any]:
    """The arguments of commands that change a version or one file."""
    for parameter in (
        click.option("--file", metavar="NAME", help="One file only; then VERSION may be left out."),
        click.argument("version", default=""),
        click.argument("project"),
        click.argument("registry"),
    ):
        command = parameter(command)
    return command


because = click.option("--reason", metavar="TEXT", default="", help="Why, in one line.")


@cli.command()
@configured
@about_files
@because
def yank(
    config: str | None, storage: str | None, registry: str, project: str, version: str, file: str | None, reason: str
) -> None:
    """Mark a version or file, hosted or proxied, as not to be installed any more unless it is pinned."""
    from nora.cli.curate import Place, yank

    with clear_errors():
        yank(Place.of(config, _storage(storage), registry, project), version, file, reason)


@cli.command()
@configured
@about_files
def unyank(config: str | None, storage: str | None, registry: str, project: str, version: str, file: str | None) -> None:
    """Take back a yank."""
    from nora.cli.curate import Place, unyank

    with clear_errors():
        unyank(Place.of(config, _storage(storage), registry, project), version, file)


@cli.command()
@configured
@about_files
@because
@click.option("--yes", is_flag=True, help="Do not ask.")
def delete(
    config: str | None, storage: str | None, registry: str, project: str, version: str, file: str | None, reason: str, yes: bool
) -> None:
    """Delete a hosted version or file for good; its name cannot be used for other content."""
    from nora.cli.curate import Place, delete

    with clear_errors():
        sys.exit(delete(Place.of(config, _storage(storage), registry, project), version, file, reason, confirmed=yes))


@cli.command()
@configured
@click.argument("registry")
@click.argument("project")
@click.argument("status", required=False)
@because
def status(config: str | None, storage: str | None, registry: str, project: str, status: str | None, reason: str) -> None:
    """Set a hosted project's STATUS: active, archived, deprecated or quarantined; without one, show it."""
    from nora.cli.curate import Place
    from nora.cli.curate import status as run

    with clear_errors():
        run(Place.of(config, _storage(storage), registry, project), status, reason)


@cli.group()
def token() -> None:
    """API tokens: credentials for programs, which may do no more than their user and what they were made for."""


@token.command("create")
@configured
@click.option("--user", metavar="NAME", required=True, help="Who it stands for.")
@click.option(
    "--right",
    "rights",
    type=click.Choice(["read", "write", "admin"]),
    multiple=True,
    default=("read", "write"),
    show_default=True,
    help="What it may do, if its user may. Can be given again.",
)
@click.option(
    "--registry", "registries", metavar="PATTERN", multiple=True, help="Names of registries; * is any characters. Else all."
)
@click.option(
    "--project",
    "projects",
    metavar="PATTERN",
    multiple=True,
    help="Names of projects in normalized form (of Python projects: lower case, with -); * is any characters. Else all.",
)
@click.option("--note", metavar="TEXT", default="", help="What it is for, in one line.")
@click.option(
    "--expires-days",
    metavar="N",
    type=click.IntRange(0, 3650),
    default=365,
    show_default=True,
    help="How long it is valid; 0 is for ever.",
)
def token_create(config: str | None, storage: str | None, **wanted: Any) -> None:
    """Make a token and write it to standard output: it is kept nowhere and cannot be shown again."""
    from nora.cli.token import Wanted, create

    with clear_errors():
        create(config, _storage(storage), Wanted(**wanted))


@token.command("list")
@configured
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def token_list(config: str | None, storage: str | None, as_json: bool) -> None:
    """List all tokens, the revoked and expired ones as well."""
    from nora.cli.token import show

    with clear_errors():
        show(config, _storage(storage), as_json=as_json)


@token.command("revoke")
@configured
@click.argument("token", metavar="ID")
def token_revoke(config: str | None, storage: str | None, token: str) -> None:
    """Close the token with this ID for good, at once and in all processes; the token itself will do for its ID."""
    from nora.cli.token import revoke

    with clear_errors():
        revoke(config, _storage(storage), token)


@cli.command()
@configured
@click.option(
    "--action", "actions", metavar="A", multiple=True, help="Such as publish, delete or login-failed; may be repeated."
)
@click.option("--registry", metavar="R", help="Name of a registry.")
@click.option("--project", metavar="P", help="Normalized name of a project.")
@click.option("--actor", metavar="A", help="Name of a user; cli:NAME is one of the system.")
@click.option("--address", metavar="IP", help="Where requests came from.")
@click.option("--since", metavar="TIME", help="At or after: 2h or 7d ago, or such as 2026-11-28T10:30, in UTC.")
@click.option("--until", metavar="TIME", help="Before; as for --since.")
@click.option("--follow", is_flag=True, help="Go on with what comes.")
@click.option("--json", "as_json", is_flag=True, help="Lines of JSON, as they are stored.")
@click.option("--limit", metavar="N", type=click.IntRange(0, 1_000_000), help="Only the last N of those that are there.")
def audit(
    config: str | None,
    storage: str | None,
    actions: tuple[str, ...],
    since: str | None,
    until: str | None,
    follow: bool,
    as_json: bool,
    limit: int | None,
    **filters: str | None,
) -> None:
    """Show who changed what, and who could not log in; servers may run."""
    from nora.cli.audit import run, wanted

    with clear_errors():
        run(config, _storage(storage), wanted(actions, since, until, **filters), follow=follow, as_json=as_json, limit=limit)


@cli.command(hidden=True)
@click.option("--socket", "socket_descriptor", type=int, required=True)
@click.option("--lifeline", "lifeline_descriptor", type=int, required=True)
@configured
def worker(config: str | None, storage: str | None, socket_descriptor: int, lifeline_descriptor: int) -> None:
    """One process of several; started by ``nora serve``."""
    from nora.cli.serve import run_worker

    with clear_errors():
        run_worker(config, _storage(storage), socket_descriptor, lifeline_descriptor)


def main() -> None:
    """Entry point of the ``nora`` command."""
    cli(prog_name="nora")
