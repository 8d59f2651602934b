"""An upstream's answer as it is stored: a line that says what it is, then the body as it came."""

from __future__ import annotations

import hashlib

import msgspec

from nora.store.protocol import FORMAT


class Head(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What is known of a stored answer; the first line of its file. All times are in seconds since the epoch.

    Attributes:
        upstream: The upstream's address as configured then.
        url: The final address, without user info.
        digest: The body's sha256.
        validated_at: When the upstream last confirmed it.
        changed_at: When the upstream first gave this body.
        seen_at, seen_later: When files were first seen whose listing does not date them: the first ones, and by name all others.
        withdrawn: The upstream has answered 404 or 410 since, and the project is kept all the same.
    """

    upstream: str
    url: str
    content_type: str
    digest: str
    validated_at: float
    changed_at: float = 0
    seen_at: float = 0
    seen_later: dict[str, float] = {}
    etag: str = ""
    last_modified: str = ""
    withdrawn: bool = False
    format: int = FORMAT

    @property
    def revision(self) -> str:
        """Changes whenever the listing made from the answer changes; links depend on the final address, too."""
        made_of = f"{self.digest} {self.url} {self.content_type} {self.withdrawn} {self.seen_at}"
        return hashlib.sha256(made_of.encode()).hexdigest()[:32]


_head_decoder = msgspec.json.Decoder(Head)


def encode(head: Head, body: bytes) -> bytes:
    """An answer as it is stored: the head in a line, then the body."""
    return msgspec.json.encode(head) + b"\n" + body


def decode(stored: bytes) -> tuple[Head, bytes] | None:
    """The inverse of :func:`encode`; ``None`` when the file is damaged or of another format."""
    line, _, body = stored.partition(b"\n")
    try:
        head = _head_decoder.decode(line)
    except msgspec.MsgspecError:
        return None
    if head.format != FORMAT or hashlib.sha256(body).hexdigest() != head.digest:
        return None
    return head, body
