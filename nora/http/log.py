"""The access log: one line for each answer, however it was made."""

from __future__ import annotations

import asyncio
import logging
import re
import secrets
import time
from typing import Any

from nora.api import Actor
from nora.logs import LineHandler, only_handler, time_text

access_log = logging.getLogger("nora.access")

MESSAGE = "request"
FLUSH_SECONDS = 0.2
"""How late a line may be written, and a change of how logs are handled be noticed."""
# What changes from one line to the next, where a line is prepared: nothing of a request can look like these.
_CLIENT, _REQUEST_ID = secrets.token_hex(16), secrets.token_hex(16)
_MS = secrets.randbelow(10**12) + 10**12 + 0.5
# What both formats show as it is.
_PLAIN = re.compile(r"[0-9A-Za-z.:%_-]+\Z", re.ASCII)


def log_answer(
    *,
    method: str,
    path: str,
    status: int,
    bytes_sent: int,
    seconds: float,
    client: str,
    registry: str,
    request_id: str,
    actor: Actor,
    broken: bool = False,
) -> None:
    """Write the line of an answer that was sent, or broken off in its middle."""
    told = Told(method, path, status, bytes_sent, registry, actor, broken)
    access_log.info(MESSAGE, extra=told.facts(_ms(seconds), client, request_id))


class Told:
    """What the access log tells of an answer, but for what is another each time that it is given."""

    __slots__ = ("_formatter", "_parts", "actor", "broken", "bytes_sent", "method", "path", "registry", "status")

    def __init__(
        self, method: str, path: str, status: int, bytes_sent: int, registry: str, actor: Actor, broken: bool = False
    ) -> None:
        self.method, self.path, self.status, self.bytes_sent = method, path, status, bytes_sent
        self.registry, self.actor, self.broken = registry, actor, broken
        self._formatter: logging.Formatter | None = None
        self._parts: tuple[str, str, str, str, str] | None = None

    def facts(self, ms: float, client: str, request_id: str) -> dict[str, Any]:
        """The facts of the line, in their order."""
        return {
            "method": self.method,
            "path": self.path,
            "status": self.status,
            "bytes": self.bytes_sent,
            "ms": ms,
            "client": client,
            "registry": self.registry,
            "request_id": request_id,
            **({"actor": self.actor.name} if self.actor.name else {}),
            **({"broken": True} if self.broken else {}),
        }

    def line(self, formatter: logging.Formatter, seconds: float, client: str, request_id: str) -> str | None:
        """The line that ``formatter`` would make now; ``None`` if that is not known."""
        if self._formatter is not formatter:
            self._formatter, self._parts = formatter, self._prepared(formatter)
        if self._parts is None or not _PLAIN.match(client) or not _PLAIN.match(request_id):
            return None
        start, to_ms, to_client, to_id, end = self._parts
        return f"{start}{time_text(time.time())}{to_ms}{_ms(seconds)}{to_client}{client}{to_id}{request_id}{end}"

    def _prepared(self, formatter: logging.Formatter) -> tuple[str, str, str, str, str] | None:
        """The line's parts around what changes, as the formatter itself makes them."""
        facts = self.facts(_MS, _CLIENT, _REQUEST_ID)
        record = access_log.makeRecord(access_log.name, logging.INFO, "", 0, MESSAGE, (), None, extra=facts)
        record.created = record.msecs = 0.0
        parts, rest = [], formatter.format(record)
        for mark in (time_text(0.0), str(_MS), _CLIENT, _REQUEST_ID):
            part, found, rest = rest.partition(mark)
            if not found:
                return None
            parts.append(part)
        start, to_ms, to_client, to_id = parts
        # Lengths are counted in characters.
        return (start, to_ms, to_client, to_id, rest) if "".join([*parts, rest]).isascii() else None


class Lines:
    """Lines of answers that were given before, at a fraction of the cost, and the same characters.

    They are written by a :class:`nora.logs.LineHandler`, several at once, and the usual way wherever it is not alone.
    """

    def __init__(self) -> None:
        self._handler: LineHandler | None = None
        self._flushing: asyncio.TimerHandle | None = None

    def write(self, told: Told, seconds: float, client: str, request_id: str) -> None:
        """The line of one answer, within a moment."""
        if self._flushing is None:
            self._handler = only_handler(access_log, logging.INFO)
            self._flushing = asyncio.get_running_loop().call_later(FLUSH_SECONDS, self.flush)
        if (handler := self._handler) is not None:
            assert handler.formatter is not None
            line = told.line(handler.formatter, seconds, client, request_id)
            if line is not None:
                handler.write_soon(line)
                return
        access_log.info(MESSAGE, extra=told.facts(_ms(seconds), client, request_id))

    def flush(self) -> None:
        """Write what is waiting."""
        if self._flushing is not None:
            self._flushing.cancel()
            self._flushing = None
        if self._handler is not None:
            self._handler.flush()


def _ms(seconds: float) -> float:
    return round(seconds * 1000, 1)
