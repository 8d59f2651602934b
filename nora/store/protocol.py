"""The one protocol between Nora and whatever keeps its bytes.

Keys are relative POSIX paths whose segments are safe file names (see :func:`segment`). Shared state changes only by
*create-if-absent*: no backend offers more than that everywhere.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import NamedTuple, Protocol
from urllib.parse import quote

from nora.api import ByteSource, Spool

FORMAT = 1
"""Number of the layout; written into every stored document."""

MAX_SEGMENT_BYTES = 255
"""What file systems take; longer names cannot be stored."""
SHA256_PATTERN = re.compile(r"[0-9a-f]{64}\Z")


@functools.lru_cache(maxsize=4096)
def segment(name: str) -> str:
    """Any name as one segment of a key, reversibly.

    >>> segment("@scope/name"), segment(".."), segment("numpy")
    ('%40scope%2Fname', '%2E.', 'numpy')
    """
    quoted = quote(name, safe="+!=,")
    return "%2E" + quoted[1:] if quoted.startswith(".") else quoted


def blob_key(sha256: str) -> str:
    """Key of the blob with this digest.

    >>> blob_key("ab" + "c" * 62)[:19]
    'blobs/sha256/ab/ccc'

    Raises:
        ValueError: that is no sha256 in lower-case hex.
    """
    if not SHA256_PATTERN.match(sha256):
        raise ValueError(f"not a sha256: {sha256!r}")
    return f"blobs/sha256/{sha256[:2]}/{sha256[2:]}"


def used_key(registry: str, sha256: str) -> str:
    """Key of the note that a registry uses a blob that came from an upstream.

    >>> used_key("main", "ab" + "c" * 62)[:17]
    'used/main/ab/cccc'
    """
    return f"used/{segment(registry)}/{sha256[:2]}/{sha256[2:]}"


class ChangeMark(Protocol):
    """Tells whether anything was changed in a store, by whichever process.

    Every change of what is stored under keys counts, but not new blobs: their keys say what is in them.
    """

    def watch(self) -> bool:
        """Begin; ``False`` if it is not possible here, which the log then says."""

    def token(self) -> bytes | None:
        """What differs from every earlier token after each change that has returned; ``None`` when that cannot be told now.

        Whoever wants to know whether something that was looked at may have changed since takes a token *before* the look. It
        costs next to nothing. Changes from outside of Nora do not show, nor may the last one of a process that was killed.
        """

    def checked_token(self) -> bytes | None:
        """The same, after making sure that the store still is the one that is being watched. To be called once in a while."""


class Step(NamedTuple):
    """One change of the names below a prefix: its markers right before and right after, with nothing of Nora's in between.

    ``after`` is ``None`` if the store cannot tell.
    """

    before: str
    after: str | None


class Store(Protocol):
    """What keeps the bytes. Every method may be called from many tasks and processes at once.

    All writing methods raise StorageFull when there is no room; nothing half-written is ever visible under a key.
    """

    @property
    def changes(self) -> ChangeMark | None:
        """Tells whether anything has changed; ``None`` if this store cannot, such as one that other machines write to."""

    async def get(self, key: str) -> bytes | None:
        """The whole value, or ``None``."""

    async def put(self, key: str, data: bytes) -> None:
        """Write or replace, atomically; not necessarily surviving a power failure. For caches."""

    async def create(self, key: str, data: bytes, *, blobs: Sequence[Spool] = ()) -> bool:
        """Write durably if the key is absent; ``False`` if it was there (then nothing changed).

        ``blobs`` are what the value names, finished: they are kept first, as by :meth:`keep_blob`, and durable before the key can
        be seen, whether or not it was there. All of it together takes little longer than one of them.
        """

    async def begin(self, key: str, data: bytes, *, blobs: Sequence[Spool] = ()) -> Step | None:
        """Like :meth:`create`, for the first key of a prefix of its own: nobody sees the prefix without it.

        Returns how that changed the prefix above, or ``None`` if the key was there.
        """

    async def touch(self, key: str) -> None:
        """Make sure that the key is there, without a value, and that its time is now."""

    async def existing(self, keys: Iterable[str]) -> list[bool]:
        """Which of many keys are there; they are made as they are looked at, off the event loop."""

    async def exists(self, key: str) -> bool:
        """Whether the key is there."""

    async def names(self, prefix: str) -> list[str]:
        """Names of the next segments below ``prefix``, in no order; empty when there is nothing."""

    async def marker(self, prefix: str, known: str | None = None) -> str | None:
        """Something that changes whenever :meth:`names` of this prefix does; ``None`` when that cannot be told right now.

        ``known``: what this method or a :class:`Step` gave before; it can be told at any time that this is still so.
        """

    async def delete(self, key: str) -> None:
        """Remove the key if it is there."""

    async def open_blob(self, sha256: str) -> ByteSource | None:
        """The blob with this digest, or ``None``. The caller closes it."""

    async def keep_blob(self, spool: Spool) -> str:
        """Make a finished spool's bytes a blob, durably; returns its sha256. The spool itself is not consumed."""

    async def room_for(self, size: int) -> bool:
        """Whether ``size`` more bytes fit, as far as can be known."""

    def spool(self, *, eager: bool = False) -> AbstractAsyncContextManager[Spool]:
        """A new temporary file. ``eager``: bytes go to disk as they come, for readers that follow."""

    async def aclose(self) -> None:
        """Let go of everything, and remove temporary files."""
