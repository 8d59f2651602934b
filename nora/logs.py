"""Log records as lines."""

from __future__ import annotations

import functools
import json
import logging
import math
import select
import sys
import time
from typing import Any, TextIO

from nora.context import current_request

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


def facts(record: logging.LogRecord) -> dict[str, Any]:
    """What a record holds besides its message: the ``extra`` of the call, and the request that it was written for."""
    found = {name: value for name, value in vars(record).items() if name not in _STANDARD}
    request_id = current_request.get().request_id
    if request_id and "request_id" not in found:
        found["request_id"] = request_id
    return found


def time_text(seconds: float) -> str:
    """A time in seconds since the epoch as lines have it.

    >>> time_text(1_800_000_000.25)
    '2027-01-15T08:00:00.250Z'
    """
    second = int(seconds)
    return f"{_second_text(second)}.{int((seconds - second) * 1000):03d}Z"


@functools.lru_cache(maxsize=4)
def _second_text(second: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))


class TextFormatter(logging.Formatter):
    """For people: time, level, logger, message, facts."""

    def format(self, record: logging.LogRecord) -> str:
        """One line, and a traceback if there is one."""
        pairs = " ".join(f"{name}={_quoted(value)}" for name, value in facts(record).items())
        line = f"{time_text(record.created)} {record.levelname.lower():7} {record.name}: {_one_line(record.getMessage())} {pairs}".rstrip()
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


class JsonFormatter(logging.Formatter):
    """For machines: one JSON object per line."""

    def format(self, record: logging.LogRecord) -> str:
        """One line, whatever the record holds."""
        entry = {
            "time": time_text(record.created),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **facts(record),
        }
        if record.exc_info:
            entry["traceback"] = self.formatException(record.exc_info)
        return json.dumps({name: _json_value(value) for name, value in entry.items()})


class LineHandler(logging.StreamHandler[TextIO]):
    """Writes records at once, as its base does, and lines that are ready a moment later, many in one write.

    Order is kept: what waits is written before any record that comes later, and when the handler is flushed, as it is at the end
    of the process. May be used from any thread.
    """

    def __init__(self, stream: TextIO) -> None:
        super().__init__(stream)
        self._waiting: list[str] = []
        self._length = 0

    def write_soon(self, line: str) -> None:
        """Have a line written with the next :meth:`flush`, or before."""
        self.acquire()
        try:
            # Several processes may write to one pipe, which takes so many bytes as a whole, however many write at once.
            if self._length + len(line) >= select.PIPE_BUF:
                self._write_waiting()
            self._waiting.append(line)
            self._length += len(line) + 1
        finally:
            self.release()

    def emit(self, record: logging.LogRecord) -> None:
        """See :class:`logging.Handler`."""
        self._write_waiting()
        super().emit(record)

    def flush(self) -> None:
        """Write everything that waits."""
        self.acquire()
        try:
            self._write_waiting()
        finally:
            self.release()
        super().flush()

    def _write_waiting(self) -> None:
        if not self._waiting:
            return
        lines, self._waiting, self._length = self._waiting, [], 0
        try:
            self.stream.write("\n".join(lines) + "\n")
            self.stream.flush()
        except Exception:
            self.handleError(logging.makeLogRecord({"msg": "%d lines", "args": (len(lines),)}))


def only_handler(logger: logging.Logger, level: int) -> LineHandler | None:
    """The handler that gets a logger's records of this level, if it is one of ours, alone, and nothing filters or changes them."""
    if not logger.isEnabledFor(level) or logger.filters or logging.getLogRecordFactory() is not logging.LogRecord:
        return None
    handlers: list[logging.Handler] = []
    current: logging.Logger | None = logger
    while current is not None:
        handlers += current.handlers
        current = current.parent if current.propagate else None
    handler = handlers[0] if len(handlers) == 1 else None
    if type(handler) is not LineHandler or handler.filters or level < handler.level:
        return None
    return handler if type(handler.formatter) in (TextFormatter, JsonFormatter) else None


def configure(level: str, form: str) -> None:
    """Send everything to standard error; ``form`` is "text" or "json"."""
    handler = LineHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if form == "json" else TextFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    # Sanic's own words are about its own machinery; ours tell what happened.
    logging.getLogger("sanic").setLevel(logging.WARNING)
    logging.getLogger("sanic.error").addFilter(_is_an_error)
    logging.getLogger("asyncio").setLevel(logging.WARNING)


def _is_an_error(record: logging.LogRecord) -> bool:
    # RFC 9110 9.3.1: a GET may have a body, which means nothing. Sanic writes an error for each, as many as somebody wants to send.
    return not str(record.msg).endswith(" body not consumed.")


def _json_value(value: Any) -> Any:
    """The value itself if it is a plain one in JSON's sense, else as text."""
    if value is None or isinstance(value, str | bool | int) or (isinstance(value, float) and math.isfinite(value)):
        return value
    return str(value)


def _one_line(text: str) -> str:
    return text if text.isprintable() else text.encode("unicode_escape").decode()


def _quoted(value: Any) -> str:
    text = str(value)
    return text if text and text.isprintable() and " " not in text and '"' not in text else json.dumps(text)
