"""A webhook: which entries it gets, how they are signed, and what its answers mean. Pure.

Spec: Standard Webhooks, "Webhook metadata" and "Signature scheme".
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from enum import Enum

from nora.audit.entry import Entry
from nora.rights import EVERYTHING, matches

MIN_WAIT_SECONDS, MAX_WAIT_SECONDS = 1.0, 600.0
"""Before an entry is sent again."""
MAX_ASKED_SECONDS = 3600.0
"""For so long Retry-After is heeded at most."""
PATIENCE_SECONDS = 3 * 24 * 3600.0
"""For so long an entry that is refused is sent again."""
_ABOUT_THE_MOMENT = frozenset({408, 425, 429})


@dataclass(frozen=True, slots=True)
class Webhook:
    """Where entries go, and which.

    Attributes:
        name: Of its table.
        url: Address of the receiver; it may hold a secret.
        key: What entries are signed with.
        timeout_seconds: For a whole delivery.
        actions: Which; none is all.
        registries, projects: Patterns of names. An entry that is of none, such as a failed login, is only matched by ``*``.
    """

    name: str
    url: str = field(repr=False)
    key: bytes = field(repr=False)
    timeout_seconds: float = 15
    actions: frozenset[str] = frozenset()
    registries: tuple[str, ...] = EVERYTHING
    projects: tuple[str, ...] = EVERYTHING

    def wants(self, entry: Entry) -> bool:
        """Whether the entry is to be sent. That entries are missing is for everybody: nobody knows whose they were."""
        if entry.action == "dropped":
            return True
        return (
            (not self.actions or entry.action in self.actions)
            and matches(self.registries, entry.registry)
            and matches(self.projects, entry.project)
        )


class Meaning(Enum):
    """What the status of an answer means. The values name outcomes in metrics."""

    DELIVERED = "delivered"
    REFUSED = "refused"
    FAILED = "failed"
    GONE = "gone"


def meaning_of(status: int) -> Meaning:
    """What a status means.

    >>> [meaning_of(status).value for status in (204, 302, 404, 410, 429, 503)]
    ['delivered', 'failed', 'refused', 'gone', 'failed', 'failed']
    """
    if 200 <= status < 300:
        return Meaning.DELIVERED
    if status == 410:
        return Meaning.GONE
    return Meaning.REFUSED if 400 <= status < 500 and status not in _ABOUT_THE_MOMENT else Meaning.FAILED


def signed_headers(key: bytes, message_id: str, seconds: int, body: bytes) -> dict[str, str]:
    """The fields of a delivery at a time in seconds since the epoch. The id is the same for each try, the rest is not.

    >>> signed_headers(b"key", "msg_1", 1_800_000_000, b"{}")["webhook-signature"]
    'v1,D6DRRJLC8soj8bgTK1SJSuhT5tCaVtKrmqAtUfehPNc='
    """
    signed = hmac.new(key, f"{message_id}.{seconds}.".encode() + body, hashlib.sha256).digest()
    return {
        "content-type": "application/json",
        "webhook-id": message_id,
        "webhook-timestamp": str(seconds),
        "webhook-signature": f"v1,{base64.b64encode(signed).decode()}",
    }


def wait_seconds(tries: int, chance: float, asked: float = 0.0) -> float:
    """How long to wait after so many tries in vain; ``chance`` is from 0 to 1, ``asked`` what the receiver asks for.

    >>> [wait_seconds(tries, 1.0) for tries in (1, 2, 9, 10, 100)], wait_seconds(1, 0.0), wait_seconds(1, 0.5, 1e9)
    ([2.0, 4.0, 512.0, 600.0, 600.0], 1.0, 3600.0)
    """
    longest = min(MIN_WAIT_SECONDS * (1 << min(tries, 30)), MAX_WAIT_SECONDS)
    return max(longest * (1 + chance) / 2, min(asked, MAX_ASKED_SECONDS))


def asked_seconds(retry_after: str, now: float) -> float:
    """What a Retry-After field asks for; 0 if that is nothing, or cannot be understood. Spec: RFC 9110 10.2.3.

    >>> asked_seconds("120", 0), asked_seconds("Thu, 01 Jan 1970 00:01:40 GMT", 40), asked_seconds("soon", 0)
    (120.0, 60.0, 0.0)
    """
    text = retry_after.strip()
    if text.isascii() and text.isdecimal():
        return float(text[:9])
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - now)
    except (ValueError, OverflowError, OSError):
        return 0.0
