"""What a handler may return besides a Sanic response. The host does the HTTP part: HEAD, Range, ETag, 304, compression."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol


class ByteSource(Protocol):
    """Bytes that are on disk or can be fetched. Made and read by the host only."""

    @property
    def size(self) -> int | None:
        """Length in bytes; ``None`` until it is known."""

    async def start(self) -> None:
        """Begin to fetch what is not held; return when the first bytes may be sent. Needed before all that follows.

        Raises:
            NotFound, UpstreamError, StorageFull: it cannot be had; nothing was sent yet, so the client can be told.
        """

    def available(self) -> int:
        """How many bytes from the beginning may be sent now."""

    async def wait(self, beyond: int) -> None:
        """Return when more than ``beyond`` bytes are available or the source is complete.

        Raises:
            UpstreamError: the rest will never come. Whoever has sent a part must break the connection.
        """

    @property
    def complete(self) -> bool:
        """Whether ``available()`` is final."""

    def open(self) -> int:
        """A new file descriptor to read from, which the caller closes."""

    async def aclose(self) -> None:
        """Let go of the source."""


@dataclass(slots=True)
class Content:
    """A file, held or being fetched; returned from :meth:`Registry.open`.

    Its last bytes are released only after its digest has matched.

    Attributes:
        name: File name.
        source: Where the bytes come from; for the host.
        etag: Opaque tag without quotes, or "" when the content's digest is not known beforehand.
        content_type: Media type of the answer.
        headers: Further fields of the answer.
    """

    name: str
    source: ByteSource
    etag: str = ""
    content_type: str = "application/octet-stream"
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class Page:
    """A small document that is rendered once and sent many times.

    Attributes:
        body: The content.
        content_type: Its media type, with parameters.
        vary: Request fields that the choice of this representation depended on.
        max_age_seconds: How long a client may use it without asking again.
        etag: Opaque tag without quotes; made from the body when empty.
        gzip_body: The content gzip-encoded, or ``None`` when that is not worth it, or not made yet.
        headers: Further fields of the answer.
        gzip_later: Makes ``gzip_body`` when a client first wants it; for the host.
    """

    body: bytes
    content_type: str
    vary: tuple[str, ...] = ()
    max_age_seconds: int = 0
    etag: str = ""
    gzip_body: bytes | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    gzip_later: Callable[[], Awaitable[bytes]] | None = field(default=None, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not self.etag:
            tagged = hashlib.sha256(self.content_type.encode())
            tagged.update(self.body)
            self.etag = tagged.hexdigest()[:32]
