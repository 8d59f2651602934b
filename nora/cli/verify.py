"""``nora verify``: a full check of the storage."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import click

from nora.cli.serve import settings_and_plugins
from nora.store.directory import DirectoryStore
from nora.verify import verify_storage


def run(config: str | None, overrides: Mapping[str, str]) -> int:
    """Read everything and report; 1 if anything is wrong."""
    settings, _ = settings_and_plugins(config, overrides)
    root = Path(settings.storage.path)
    DirectoryStore.check_format(root)
    report = verify_storage(root)
    for problem in report.problems:
        click.echo(problem)
    click.echo(
        f"{report.blobs} blobs ({report.bytes} bytes), {report.manifests} manifests, {report.pages} cached pages: "
        f"{len(report.problems)} problems"
    )
    return 1 if report.problems else 0
