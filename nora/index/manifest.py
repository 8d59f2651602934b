"""Manifests: what a project holds, as one immutable document per change."""

from __future__ import annotations

from typing import Any

import msgspec

from nora.api import Event, File
from nora.store.protocol import FORMAT


class Manifest(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A project after its ``serial``-th change.

    Attributes:
        format: Number of the layout.
        project: Normalized name.
        serial: 1 for the first change, and so on without a gap.
        event: The change that led here.
        files: Hosted files.
        removed: Files that were removed: file name to sha256. Their names cannot be used for other bytes.
        status, status_reason: See :class:`nora.api.Listing`.
        extra: The format's own fields.
    """

    project: str
    serial: int
    event: Event
    format: int = FORMAT
    files: tuple[File, ...] = ()
    removed: dict[str, str] = {}
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
