"""One API token: its text, what is kept of it, and how it is shown. Pure."""

from __future__ import annotations

import hashlib
import math
import re
import secrets
import string
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Annotated, Any, Literal, NamedTuple

import msgspec

from nora.api import Right
from nora.rights import Grant, pattern_problem
from nora.store.protocol import FORMAT

MAX_NAME, MAX_NOTE, MAX_PATTERNS = 200, 200, 100
"""Characters of a user's name and of a note; patterns of one kind in a token."""
DEFAULT_DAYS, MAX_DAYS = 365, 3650
DEFAULT_RIGHTS = frozenset({Right.READ, Right.WRITE})

_ID_LENGTH, _SECRET_LENGTH = 12, 43
_ID_LETTERS = string.ascii_lowercase + string.digits
# None of them means anything in an address, a netrc file, .pypirc or a shell; 43 have 256 bits.
_SECRET_LETTERS = string.ascii_letters + string.digits
_TEXT = re.compile(rf"nora_([a-z0-9]{{{_ID_LENGTH}}})_[A-Za-z0-9]{{{_SECRET_LENGTH}}}\Z")
_TEXT_LENGTH = len("nora_") + _ID_LENGTH + len("_") + _SECRET_LENGTH
_ID = re.compile(rf"[a-z0-9]{{{_ID_LENGTH}}}\Z")

State = Literal["valid", "expired", "revoked"]


class Token(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is kept of a token. A field that this Nora does not know makes the record unusable: it might limit the token.

    Attributes:
        id: What it is called; no secret.
        user: Who it stands for.
        note: What it is for, in the words of whoever made it.
        created, expires: Times as :func:`nora.clock.timestamp` writes them; ``expires`` is "" for never.
        digest: sha256 of its secret, in hex. A slow hash protects secrets that can be guessed; nobody guesses 256 random bits, and
            a fast one can be computed for each request.
        limits: What it may do at most; what its user may not do it may not do either.
        issuer: Who vouched for whoever has it, see :mod:`nora.auth.exchange`: then ``user`` is no user of ours, no rule is about
            him, and the limits are what he may do. "" for a user's token.
        revoked: When it was revoked, or "". Not in the stored record, which is never changed.
    """

    id: Annotated[str, msgspec.Meta(pattern=rf"\A{_ID.pattern}")]
    user: Annotated[str, msgspec.Meta(min_length=1)]
    note: str
    created: str
    expires: str
    digest: Annotated[str, msgspec.Meta(pattern=r"\A[0-9a-f]{64}\Z")]
    limits: tuple[Grant, ...]
    issuer: str = ""
    revoked: str = ""
    format: int = FORMAT

    def __repr__(self) -> str:
        return f"Token(id={self.id!r}, user={self.user!r})"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        return [("id", self.id), ("user", self.user)]

    @property
    def expires_at(self) -> float:
        """Seconds since the epoch; infinite for never."""
        return seconds_of(self.expires) if self.expires else math.inf

    def state(self, now: float) -> State:
        """Whether it lets in at that time, in seconds since the epoch."""
        if self.revoked:
            return "revoked"
        return "valid" if now < self.expires_at else "expired"


class Listed(NamedTuple):
    """A token, and when it was last used: a time, at most ten minutes before the last use, or "" for never."""

    token: Token
    last_used: str


def token_id(text: str) -> str | None:
    """The id in a token's text; ``None`` if the text has not the form of a token.

    >>> token_id("nora_0123456789ab_" + "x" * 43), token_id("secret")
    ('0123456789ab', None)
    """
    if len(text) != _TEXT_LENGTH:
        return None
    match = _TEXT.match(text)
    return match[1] if match else None


def is_id(text: str) -> bool:
    """Whether a token may have this id.

    >>> is_id("0123456789ab"), is_id("../0123456789")
    (True, False)
    """
    return _ID.match(text) is not None


def new_text() -> str:
    """The text of a new token."""
    return f"nora_{_random(_ID_LETTERS, _ID_LENGTH)}_{_random(_SECRET_LETTERS, _SECRET_LENGTH)}"


def digest_of(text: str) -> str:
    """The digest of a token's secret, which is behind the last ``_`` of its text."""
    return hashlib.sha256(text.rpartition("_")[2].encode()).hexdigest()


def shown(listed: Listed, now: float) -> dict[str, Any]:
    """A token for a JSON document: everything but its digest."""
    token = listed.token
    return {
        "id": token.id,
        "user": token.user,
        "issuer": token.issuer,
        "note": token.note,
        "state": token.state(now),
        "limits": [
            {
                "rights": [right.value for right in Right if right in grant.rights],
                "registries": grant.registries,
                "projects": grant.projects,
            }
            for grant in token.limits
        ],
        "created": token.created,
        "expires": token.expires,
        "revoked": token.revoked,
        "last_used": listed.last_used,
    }


def whose(token: Token) -> str:
    """Whose a token is and what for, for the audit log, where it was not its user who did something with it."""
    return f"of {token.user}" + (f": {token.note}" if token.note else "")


def problems(user: str, note: str, limits: Sequence[Grant], expires: str, now: float) -> Iterator[str]:
    """What is wrong with a token that somebody wants, each with the fix."""
    if not 0 < len(user) <= MAX_NAME or not user.isprintable():
        yield f"a user's name has 1 to {MAX_NAME} printable characters"
    if len(note) > MAX_NOTE or not note.isprintable():
        yield f"a note is one line of at most {MAX_NOTE} printable characters"
    if not limits or not all(grant.rights for grant in limits):
        yield f"a token needs at least one right of {', '.join(right.value for right in Right)}"
    for grant in limits:
        for kind, patterns in (("registries", grant.registries), ("projects", grant.projects)):
            if 0 < len(patterns) <= MAX_PATTERNS:
                yield from (problem for pattern in patterns if (problem := pattern_problem(pattern)) is not None)
            else:
                yield f"a token needs 1 to {MAX_PATTERNS} patterns of {kind}; * is all of them"
    if expires and (not stamp(expires.encode()) or seconds_of(expires) <= now):
        yield "a token expires at a time to come, such as 2031-05-17T00:00:00.000000Z, or never"


def decode(id_: str, data: bytes) -> Token:
    """A stored record.

    Raises:
        msgspec.MsgspecError, ValueError, RecursionError: it is of no use.
    """
    if (form := msgspec.json.decode(data, type=_Form).format) != FORMAT:
        raise ValueError(f"it has format {form}, this Nora knows {FORMAT}")
    token = msgspec.json.decode(data, type=Token)
    if token.id != id_ or token.revoked:
        raise ValueError("it is not as it was written")
    for time in filter(None, (token.created, token.expires)):
        seconds_of(time)
    return token


class _Form(msgspec.Struct):
    format: int


def stamp(data: bytes | None) -> str:
    """A stored time; "" if there is none, or something else."""
    text = (data or b"")[:40].decode("ascii", "replace").strip()
    try:
        seconds_of(text)
    except ValueError:
        return ""
    return text


def seconds_of(text: str) -> float:
    """A time as :func:`nora.clock.timestamp` writes it, in seconds since the epoch.

    Raises:
        ValueError: it is none, or could be meant in any zone.
    """
    parsed = datetime.fromisoformat(text)
    if parsed.tzinfo is None:
        raise ValueError("a time without a zone")
    return parsed.timestamp()


def _random(letters: str, length: int) -> str:
    return "".join(secrets.choice(letters) for _ in range(length))
