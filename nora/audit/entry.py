"""One entry of the audit log, and the line that it is kept as. Pure."""

from __future__ import annotations

import re
from typing import Literal

import msgspec

LoginProblem = Literal["login-failed", "login-limited"]
TokenChange = Literal["token-create", "token-revoke"]
"""The actions that are no :class:`nora.api.Event`; whoever has one to tell of takes its name from here."""

MAX_LINE_BYTES = 64 * 1024
"""Of a line with its end, as it is written."""
MAX_TEXT, MAX_NAME, MAX_FILES = 1000, 256, 200
"""Characters of a reason and of every other text; names of files."""
CUT = "[cut]"
"""Ends what was longer."""

# A token's text may be sent as a user name, or be pasted into a reason. Its id is no secret.
_TOKEN = re.compile(r"(nora_[a-z0-9]{12}_)[A-Za-z0-9]+")


class Entry(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What happened.

    Attributes:
        at: When, as :func:`nora.clock.timestamp` writes it.
        action: An action of :class:`nora.api.Event`, a :data:`LoginProblem`, a :data:`TokenChange`; or "dropped", which only says that
            entries are missing before it.
        registry, project, version, files: As :class:`nora.api.Event` has them.
        reason: The same; of a token its note, and before that whose it is where that is not the actor.
        actor: Who did it, or the name that somebody could not log in with; "" is nobody in particular.
        token: Id of the token that is made or revoked, else of the one that the actor has logged in with.
        address: Where the request came from; "" when there was none, or there were several.
        request_id: The request; "" when there was none, or there were several.
        count: How many times; above 1 there were too many to be told one by one, and the other fields are what they had in common.
        dropped: How many entries before this one could not be kept.
    """

    at: str
    action: str
    registry: str = ""
    project: str = ""
    version: str = ""
    files: tuple[str, ...] = ()
    reason: str = ""
    actor: str = ""
    token: str = ""
    address: str = ""
    request_id: str = ""
    count: int = 1
    dropped: int = 0


def line_of(entry: Entry) -> bytes:
    """The entry as a line with its end, at most :data:`MAX_LINE_BYTES`; what is too long is cut, with a mark. Holds no token's secret.

    >>> line_of(Entry(at="2026-11-28T11:00:00.000000Z", action="publish", project="demo"))
    b'{"at":"2026-11-28T11:00:00.000000Z","action":"publish","project":"demo"}\\n'
    """
    bounded = msgspec.structs.replace(
        entry,
        **{name: _bounded(getattr(entry, name), MAX_NAME) for name in _TEXTS},
        reason=_bounded(entry.reason, MAX_TEXT),
        files=_first(tuple(_bounded(name, MAX_NAME) for name in entry.files[: MAX_FILES + 1]), entry, MAX_FILES),
    )
    line, limit = _encoded(bounded), MAX_FILES
    # JSON takes up to six bytes for a character, so what is rarely long cannot be bounded by characters alone.
    while len(line) > MAX_LINE_BYTES:
        limit //= 2
        line = _encoded(msgspec.structs.replace(bounded, files=_first(bounded.files, entry, limit)))
    return line


def entry_of(line: bytes) -> Entry:
    """The entry that a line holds. Fields that this Nora does not know are passed over.

    Raises:
        ValueError: the line is damaged.
    """
    try:
        return msgspec.json.decode(line, type=Entry)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(str(error)) from error


_TEXTS = tuple(name for name in Entry.__struct_fields__ if name not in ("reason", "files", "count", "dropped"))


def _first(files: tuple[str, ...], entry: Entry, limit: int) -> tuple[str, ...]:
    left = len(entry.files) - limit
    return files if left <= 0 else (*files[:limit], f"{left} more {CUT}")


def _bounded(text: str, limit: int) -> str:
    shown = _TOKEN.sub(r"\1***", text[: limit + 100])
    if len(shown) > limit or len(text) > limit + 100:
        shown = shown[: limit - len(CUT)] + CUT
    # A file name of the system may hold what is no text.
    return shown if shown.isascii() else shown.encode(errors="backslashreplace").decode()


def _encoded(entry: Entry) -> bytes:
    return msgspec.json.encode(entry) + b"\n"
