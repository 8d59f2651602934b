"""Log records as lines."""

from __future__ import annotations

import json
import logging
import math
import sys
import time
from typing import Any

from nora.context import current_request

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


def facts(record: logging.LogRecord) -> dict[str, Any]:
    """What a record holds besides its message: the ``extra`` of the call, and the request that it was written for."""
    found = {name: value for name, value in vars(record).items() if name not in _STANDARD}
    request_id = current_request.get().request_id
    if request_id and "request_id" not in found:
        found["request_id"] = request_id
    return found


def _time(record: logging.LogRecord) -> str:
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(record.created))}.{int(record.msecs):03d}Z"


class TextFormatter(logging.Formatter):
    """For people: time, level, logger, message, facts."""

    def format(self, record: logging.LogRecord) -> str:
        """One line, and a traceback if there is one."""
        pairs = " ".join(f"{name}={_quoted(value)}" for name, value in facts(record).items())
        line = f"{_time(record)} {record.levelname.lower():7} {record.name}: {_one_line(record.getMessage())} {pairs}".rstrip()
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


class JsonFormatter(logging.Formatter):
    """For machines: one JSON object per line."""

    def format(self, record: logging.LogRecord) -> str:
        """One line, whatever the record holds."""
        entry = {
            "time": _time(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **facts(record),
        }
        if record.exc_info:
            entry["traceback"] = self.formatException(record.exc_info)
        return json.dumps({name: _json_value(value) for name, value in entry.items()})


def configure(level: str, form: str) -> None:
    """Send everything to standard error; ``form`` is "text" or "json"."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if form == "json" else TextFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    # Sanic's own words are about its own machinery; ours tell what happened.
    logging.getLogger("sanic").setLevel(logging.WARNING)
    logging.getLogger("asyncio").setLevel(logging.WARNING)


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
