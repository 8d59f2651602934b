"""Manifests: what a project holds, as one immutable document per change."""

from __future__ import annotations

from typing import Any

import msgspec

from nora.api import Event, File
from nora.store.protocol import FORMAT


class Removed(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A file that was removed; see :class:`nora.api.File` for ``identity``."""

    sha256: str
    identity: str = ""


class Manifest(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A project after its ``serial``-th change.

    Attributes:
        format: Number of the layout.
        project: Normalized name.
        serial: 1 for the first change, and so on without a gap.
        event: The change that led here.
        since: Seconds since the epoch of the first change. An upstream's serial of the project, which the host counts from a time,
            too, was lower, so the serial that clients see does not fall when a name becomes ours.
        files: Hosted files.
        removed: Files that were removed, by name. Their names and identities cannot be used for other bytes.
        yanked_versions: Versions that were yanked here, by their keys (:meth:`nora.api.Format.version_key`): the reason, or ``True``.
        yanked_files: The same for single files, by name.
        status, status_reason: See :class:`nora.api.Listing`.
        extra: The format's own fields.
    """

    project: str
    serial: int
    event: Event
    format: int = FORMAT
    since: int = 0
    files: tuple[File, ...] = ()
    removed: dict[str, Removed] = {}
    yanked_versions: dict[str, bool | str] = {}
    yanked_files: dict[str, bool | str] = {}
    status: str = "active"
    status_reason: str = ""
    extra: dict[str, Any] = {}

    def encode(self) -> bytes:
        """As stored."""
        return msgspec.json.encode({"format": self.format, **msgspec.to_builtins(self)})


_decoder = msgspec.json.Decoder(Manifest)


def decode(data: bytes) -> Manifest:
    """Read a stored manifest.

    Raises:
        msgspec.MsgspecError: it is damaged.
        ValueError: a newer Nora wrote it.
    """
    manifest = _decoder.decode(data)
    if manifest.format != FORMAT:
        raise ValueError(f"manifest has format {manifest.format}, this Nora knows {FORMAT}")
    return manifest
