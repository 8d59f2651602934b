"""Dead API tokens, and identities that were used up and could not be used any more anyway: :mod:`nora.auth.tokens`, ``exchange``.

A token's record goes first, and is gone for good before what closes the token does. So a token that was revoked never comes alive
again, also when this is interrupted, the power fails, or the clock is set back.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import msgspec

from nora.auth.record import decode, is_id, seconds_of, stamp
from nora.store.durable import sync_folder

EXPIRED_SECONDS = 30 * 24 * 3600.0
"""So long is it remembered what a token was that has expired, and that one was revoked."""
MINTED_SECONDS = 24 * 3600.0
"""The same of those that were made for an identity; there may be many, and the audit log names them, too."""
USED_UP_SECONDS = 3600.0
"""So long after it has expired is it remembered that an identity was used up: clocks differ."""


@dataclass(slots=True)
class Dead:
    """How much of it there was."""

    tokens: int = 0
    identities: int = 0


def remove_dead(root: Path, now: float, *, dry_run: bool = False) -> Dead:
    """Remove it, and count it. Safe beside running servers. What cannot be read stays.

    Raises:
        OSError: something cannot be removed.
    """
    folder, dead = root / "tokens", Dead()
    names = set(os.listdir(folder)) if folder.is_dir() else set()
    expired = [name for name in _named(names, ".json") if _is_expired(folder / name, now)]
    dead.tokens = len(expired)
    used_up = [name for name in _named(names, ".jwt") if _is_past(folder / name, now - USED_UP_SECONDS)]
    dead.identities = len(used_up)
    if dry_run:
        return dead
    _remove(folder, [*expired, *used_up])
    if expired:
        sync_folder(folder)
    _remove(folder, _left(folder, names, {name.removesuffix(".json") for name in expired}, now))
    return dead


def _named(names: Iterable[str], kind: str) -> Iterator[str]:
    return (name for name in names if name.endswith(kind))


def _is_expired(path: Path, now: float) -> bool:
    try:
        token = decode(path.stem, path.read_bytes()) if is_id(path.stem) else None
    except (OSError, msgspec.MsgspecError, ValueError, RecursionError):
        return False
    return token is not None and token.expires_at + (MINTED_SECONDS if token.issuer else EXPIRED_SECONDS) <= now


def _is_past(path: Path, then: float) -> bool:
    """Whether a file holds a time before another one."""
    try:
        time = stamp(path.read_bytes())
    except OSError:
        return False
    return bool(time) and seconds_of(time) < then


def _left(folder: Path, names: Iterable[str], expired: set[str], now: float) -> Iterator[str]:
    """What belongs to tokens whose records are gone: by this run, or since one that was interrupted."""
    for name in names:
        path = folder / name
        if path.suffix not in (".used", ".revoked") or not is_id(path.stem) or (folder / f"{path.stem}.json").exists():
            continue
        # Of others somebody may just be putting back a copy of the storage, file by file.
        if path.suffix == ".used" or path.stem in expired or _is_past(path, now - EXPIRED_SECONDS):
            yield name


def _remove(folder: Path, names: Iterable[str]) -> None:
    for name in names:
        with suppress(FileNotFoundError):
            os.unlink(folder / name)
