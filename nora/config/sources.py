"""Where values come from: command line, environment, TOML file; and how a problem names its source."""

from __future__ import annotations

import difflib
import json
import os
import re
import tomllib
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tomlkit
from tomlkit.exceptions import TOMLKitError

from nora.config.errors import ConfigurationError

PATH_VARIABLE = "NORA_CONFIG_PATH"
DEFAULT_FILE = "config.toml"


def variable(table_path: str, key: str) -> str:
    """The environment variable of a key; the keys of ``[server]`` and of registries go without ``server`` and ``registries``.

    >>> variable("server", "port"), variable("registries.team-a", "proxy_timeout"), variable("audit.webhooks.chat", "url")
    ('NORA_PORT', 'NORA_TEAM_A_PROXY_TIMEOUT', 'NORA_AUDIT_WEBHOOKS_CHAT_URL')
    """
    name = table_path.removeprefix("registries.")
    prefix = "" if name == "server" else f"{name}_"
    return f"NORA_{prefix}{key}".upper().replace("-", "_").replace(".", "_")


@dataclass(frozen=True, slots=True)
class File:
    """A configuration file that was read: ``label`` names it in problems; ``content`` is plain dicts, lists and scalars."""

    label: str
    content: Mapping[str, Any]


def read_file(config_path: str | None, environ: Mapping[str, str], cwd: Path) -> File:
    """Find and read the file: ``config_path``, else ``NORA_CONFIG_PATH``, else ``./config.toml`` if it is there, else nothing.

    Raises:
        ConfigurationError: a file that was asked for is not there, or it cannot be read, or is no TOML.
    """
    if config_path is not None:
        name, asked_by = config_path, "command line: --config: "
    elif environ.get(PATH_VARIABLE):
        name, asked_by = environ[PATH_VARIABLE], f"environment {PATH_VARIABLE}: "
    elif os.path.lexists(cwd / DEFAULT_FILE):  # A broken link was meant to be a configuration, too.
        name, asked_by = DEFAULT_FILE, ""
    else:
        return File(DEFAULT_FILE, {})
    try:
        text = (cwd / name).read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise ConfigurationError([f"{asked_by}{name}: cannot be read: {error.strerror}"]) from error
    except ValueError as error:
        raise ConfigurationError([f"{asked_by}{name}: cannot be read: {error}"]) from error
    return File(name, _parse(name, text))


def _parse(label: str, text: str) -> Mapping[str, Any]:
    try:
        return tomlkit.parse(f"{text}\n").unwrap()  # without a last line end it complains about characters that are not there
    except (TOMLKitError, ValueError, RecursionError) as error:
        line, column = getattr(error, "line", None), getattr(error, "col", None)
        reason = str(error).removesuffix(f" at line {line} col {column}")
        position = _position(text) if line is None or column is None else f"line {line}, column {column + 1}: "
        raise ConfigurationError([f"{label}: {position}{reason}"]) from error


def _position(text: str) -> str:
    """Where a text stops being TOML, as the standard library sees it: tomlkit does not say it of keys that are there twice."""
    try:
        tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        if found := re.search(r"\(at (line \d+, column \d+)\)", str(error)):
            return f"{found[1]}: "
    return ""


def dotted(*keys: str) -> str:
    """A key's path in a file, quoted where TOML needs it and on one line.

    >>> dotted("registries", "team-a", "pa th")
    'registries.team-a."pa th"'
    """
    return ".".join(key if re.fullmatch("[A-Za-z0-9_-]+", key) else json.dumps(key) for key in keys)


def closest(name: str, known: Collection[str]) -> str:
    """The known name that somebody probably meant, or "".

    >>> closest("page-TLL", ["page_ttl", "path"])
    'page_ttl'
    """

    def plain(text: str) -> str:
        # What all names have in common must not make them alike.
        return text.removeprefix("NORA_").lower().replace("-", "_")

    spellings = {plain(candidate): candidate for candidate in known}
    matches = difflib.get_close_matches(plain(name), spellings, n=1)
    return spellings[matches[0]] if matches else ""


def did_you_mean(name: str) -> str:
    """The end of a text about an unknown name: a hint, or "" when ``name`` is empty.

    >>> did_you_mean("port"), did_you_mean("")
    ('; did you mean port?', '')
    """
    return f"; did you mean {name}?" if name else ""


def unknown(kind: str, name: str, known: Collection[str]) -> str:
    """The text about a name that does not exist.

    >>> unknown("key", "prot", ["host", "port"]), unknown("key", "x", ["host", "port"])
    ('unknown key; did you mean port?', 'unknown key; known are host, port')
    """
    return f"unknown {kind}" + (did_you_mean(closest(name, known)) or f"; known are {', '.join(known) or 'none'}")
