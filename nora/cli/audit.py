"""``nora audit``: shows the audit log, whether a server runs or not."""

from __future__ import annotations

import logging
import os
import select
import sys
import time
from collections import deque
from collections.abc import Iterable, Mapping
from contextlib import suppress
from ipaddress import ip_address
from pathlib import Path

import click

from nora.api import Invalid
from nora.audit.entry import Entry
from nora.audit.file import FOLDER
from nora.audit.read import AuditReader, Found, Wanted, time_of
from nora.cli.serve import settings_and_plugins
from nora.config.sources import unknown
from nora.config.webhooks import ACTIONS
from nora.store.directory import DirectoryStore

LOOK_MILLISECONDS = 300
"""How often ``--follow`` looks whether there is more."""


def wanted(actions: Iterable[str], since: str | None, until: str | None, **filters: str | None) -> Wanted:
    """What the options ask for; ``filters`` are further fields of :class:`nora.audit.read.Wanted`.

    Raises:
        Invalid: a time, an action or an address is none.
    """
    now = time.time()
    actions = frozenset(actions)
    problems = [f"--action: {unknown('action', action, ACTIONS)}" for action in sorted(actions - {*ACTIONS, "dropped"})]
    if address := filters.get("address"):
        try:
            ip_address(address)
        except ValueError:
            problems.append(f"--address: {address} is no IP address; give one such as 192.0.2.1")
    if problems:
        raise Invalid(*problems)
    return Wanted(
        actions=actions or None,
        since=None if since is None else time_of(since, now),
        until=None if until is None else time_of(until, now),
        **filters,
    )


def run(
    config: str | None, overrides: Mapping[str, str], which: Wanted, *, follow: bool, as_json: bool, limit: int | None
) -> None:
    """Write entries to standard output, a line each; at most the last ``limit`` of those that are there.

    Raises:
        NoraError: there is no storage, or its audit log cannot be read.
    """
    settings, _ = settings_and_plugins(config, overrides)
    logging.getLogger().setLevel(logging.WARNING)
    root = Path(settings.storage.path)
    DirectoryStore.check_format(root)
    reader = AuditReader(root / FOLDER, which, lambda text: click.echo(f"nora: {text}", err=True))
    try:
        past: Iterable[Found] = reader.past(follow=follow)
        _show(past if limit is None else deque(past, limit), as_json=as_json)
        while follow:
            _wait()
            _show(reader.more(), as_json=as_json)
    except BrokenPipeError:
        _close_output()
    except KeyboardInterrupt:
        pass
    finally:
        reader.close()


def shown(entry: Entry) -> str:
    """An entry for people, on one line that holds nothing which a terminal takes for a command.

    >>> shown(Entry(at="2026-11-28T11:00:00.250000Z", action="yank", registry="pypi", project="demo", version="1.0", actor="alice"))
    '2026-11-28T11:00:00Z yank pypi/demo 1.0 by alice'
    """
    more = len(entry.files) - 1
    place = "/".join(filter(None, (entry.registry, entry.project)))
    parts = [
        f"{entry.at[:19]}Z",
        entry.action,
        f"{entry.count} times" if entry.count != 1 else "",
        place,
        entry.version,
        *entry.files[:1],
        f"and {more} more" if more > 0 else "",
        f"by {entry.actor}" if entry.actor else "",
        f"from {entry.address}" if entry.address else "",
        f"token {entry.token}" if entry.token else "",
        f"request {entry.request_id}" if entry.request_id else "",
        f"because: {entry.reason}" if entry.reason else "",
        f"({entry.dropped} entries before this one are missing)" if entry.dropped else "",
    ]
    return "".join(c if c.isprintable() else "?" for c in " ".join(filter(None, parts)))


def _show(found: Iterable[Found], *, as_json: bool) -> None:
    out = sys.stdout.buffer
    for entry, line in found:
        # As it is stored, so that nothing is lost which this Nora does not know.
        out.write(line if as_json else f"{shown(entry)}\n".encode())
    out.flush()


def _wait() -> None:
    """Wait for a moment.

    Raises:
        BrokenPipeError: nobody reads what is written; nothing has to be written to notice.
    """
    poll = select.poll()
    poll.register(sys.stdout.fileno(), 0)
    if poll.poll(LOOK_MILLISECONDS):
        raise BrokenPipeError


def _close_output() -> None:
    # What waits in the buffer would raise the error again when Python ends.
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
