"""``nora gc``: make room."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path

import click

from nora.cli.serve import settings_and_plugins
from nora.compose import cache_limits, listing_parsers
from nora.room.blobs import Tally
from nora.room.collect import Collected, collecting
from nora.room.evict import Evicted, Limit, evicting, sole_evictor
from nora.room.named import Parsers
from nora.room.tokens import remove_dead
from nora.store.directory import DirectoryStore
from nora.store.scratch import remove_abandoned

DAY_SECONDS = 24 * 3600


def run(config: str | None, overrides: Mapping[str, str], *, dry_run: bool, keep_deleted_days: int) -> None:
    """Remove what nobody needs, and say what and how much.

    Raises:
        NoraError: there is no storage, or it cannot be told what is needed; then nothing was removed.
    """
    settings, plugins = settings_and_plugins(config, overrides)
    root = Path(settings.storage.path)
    DirectoryStore.check_format(root)
    limits, parsers, now = cache_limits(settings), listing_parsers(settings, plugins), time.time()
    result = Collected()
    for _ in collecting(
        root,
        now,
        result,
        limits=limits,
        parsers=parsers,
        keep_deleted_seconds=keep_deleted_days * DAY_SECONDS,
        dry_run=dry_run,
    ):
        pass
    removed = "would be removed" if dry_run else "removed"
    _report(result, removed)
    dead = remove_dead(root, now, dry_run=dry_run)
    click.echo(f"dead tokens: {dead.tokens} {removed}; identities that were used up: {dead.identities} {removed}")
    if not dry_run:
        click.echo(f"left behind by processes that died: temporary files of {remove_abandoned(root / 'tmp')} removed")
    _evict(root, limits, parsers, now, result, dry_run=dry_run)


def _report(result: Collected, removed: str) -> None:
    click.echo(f"contents of deleted files: {_shown(result.deleted)} {removed}")
    click.echo(f"contents that nothing names: {_shown(result.unnamed)} {removed}")
    click.echo(f"kept: {_shown(result.hosted)} hosted, {_shown(result.cached)} cached")
    if result.young.count or result.busy.count:
        click.echo(f"kept: {_shown(result.young)} written within the last hour, {_shown(result.busy)} used meanwhile")


def _evict(root: Path, limits: Sequence[Limit], parsers: Parsers, now: float, done: Collected, *, dry_run: bool) -> None:
    if not limits or not (root / "used").is_dir():
        return
    with nullcontext(True) if dry_run else sole_evictor(root) as ours:
        if not ours:
            click.echo("caches: left to a server that is looking after their limits at this moment")
            return
        for limit in limits:
            result = Evicted()
            for _ in evicting(root, limit, now, result, parsers=parsers, dry_run=dry_run, gone=done.gone):
                pass
            click.echo(
                f"cache of {limit.registry}: {_shown(result.files)} {'would be evicted' if dry_run else 'evicted'}, "
                f"{_shown(result.held)} {'would be left' if dry_run else 'left'} of at most {limit.max_bytes} bytes"
            )


def _shown(tally: Tally) -> str:
    return f"{tally.count} ({tally.bytes} bytes)"
