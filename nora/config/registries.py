"""The registries: which there are, their names, and where they are mounted."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from nora.api import Format
from nora.config.reader import Reader
from nora.config.settings import HOST_TABLES, RegistrySettings
from nora.config.sources import dotted, unknown

RESERVED_SEGMENTS = frozenset({"health", "ready", "metrics", "api", "ui", "api-docs", "_"})
"""First path segments that are the host's own."""

RESERVED_NAMES = frozenset({*RESERVED_SEGMENTS, *HOST_TABLES, "plugins", "config", "registries"})
"""Names that no registry has: paths of the host, or tables whose environment variables would clash."""


@dataclass(frozen=True, slots=True)
class _Candidate:
    name: str
    format: Format
    path: str  # of its table
    given: Any
    default_mount: str


def read_registries(reader: Reader, content: Mapping[str, Any], formats: Mapping[str, Format]) -> tuple[RegistrySettings, ...]:
    """The enabled registries: implicit ones, then those of ``[registries.NAME]`` in the file's order.

    Disabled ones are checked as the others are, but left out. Problems go to ``reader``.
    """
    problems_before = len(reader.problems)
    tables = content.get("registries", {})
    if not isinstance(tables, Mapping):
        reader.problems.append(f"{reader.file.label}: registries: must be a table of tables, [registries.NAME]")
        tables = {}
    found: dict[str, RegistrySettings] = {}
    by_mount: dict[str, _Candidate] = {}
    for candidate in (*_implicit(reader, content, tables, formats), *_named(reader, content, tables, formats)):
        settings = _read(reader, candidate)
        if settings is None:
            continue
        other = by_mount.setdefault(settings.path, candidate)
        if other is not candidate:
            hint = (
                ""
                if other.given or other.path != other.name
                else f"; to do without {other.path}, set {other.path}.enabled = false"
            )
            reader.complain(candidate.path, "path", f"{settings.path} is where {other.path} is mounted already{hint}")
        found[candidate.name] = settings
    if not found and len(reader.problems) == problems_before:
        reader.problems.append(
            f"{reader.file.label}: no registry is enabled; add a table [registries.NAME] with a format, or enable one"
        )
    return tuple(found.values())


def name_problem(name: str) -> str | None:
    """What is wrong with the name of a registry, or ``None``.

    >>> name_problem("Team A")
    'is no name for a registry: use 1 to 64 of a-z, 0-9 and -, with a letter or digit at both ends'
    """
    if not re.fullmatch(r"[a-z0-9]([a-z0-9-]{0,62}[a-z0-9])?", name):
        return "is no name for a registry: use 1 to 64 of a-z, 0-9 and -, with a letter or digit at both ends"
    return "is a name that Nora needs itself" if name in RESERVED_NAMES else None


def mount_problem(path: str) -> str | None:
    """What is wrong with a path to mount a registry at, given with both slashes, or ``None``.

    >>> mount_problem("/python/team-a/"), mount_problem("/")
    (None, None)
    >>> mount_problem("/api/python/")
    '/api/ is a path that Nora needs itself'
    """
    segments = path.split("/")[1:-1]
    for segment in segments:
        if not re.fullmatch(r"[a-z0-9._~-]+", segment) or segment in (".", ".."):
            return f"{path!r} is no path for a registry: use segments of a-z, 0-9 and . _ ~ -, such as /python/team-a/"
    return f"/{segments[0]}/ is a path that Nora needs itself" if segments and segments[0] in RESERVED_SEGMENTS else None


def _implicit(
    reader: Reader, content: Mapping[str, Any], tables: Mapping[str, Any], formats: Mapping[str, Format]
) -> Iterator[_Candidate]:
    """Registries that exist because their format says so; one in ``[registries]`` of the same name takes their place."""
    for name, format_ in formats.items():
        if not format_.implicit:
            continue
        if problem := name_problem(name):
            reader.problems.append(f"format {dotted(name)}: {problem}, and it asks for one")
        elif name in content or name not in tables:
            yield _Candidate(name, format_, name, content.get(name, {}), "/")


def _named(
    reader: Reader, content: Mapping[str, Any], tables: Mapping[str, Any], formats: Mapping[str, Format]
) -> Iterator[_Candidate]:
    for name, given in tables.items():
        path = dotted("registries", name)
        where = f"{reader.file.label}: {path}"
        if problem := name_problem(name):
            reader.problems.append(f"{where}: {problem}")
        elif not isinstance(given, Mapping):
            reader.problems.append(f"{where}: must be a table")
        elif name in content and name in formats and formats[name].implicit:
            reader.problems.append(
                f"{where}: [{name}] configures a registry of this name already; use [{name}] only, or rename this one"
            )
        elif not isinstance(format_name := given.get("format"), str):
            reader.problems.append(f'{where}.format: must be set, such as format = "{next(iter(formats), "")}"')
        elif format_name not in formats:
            reader.problems.append(f"{where}.format: {unknown('format', format_name, formats)}")
        else:
            rest = {key: value for key, value in given.items() if key != "format"}
            yield _Candidate(name, formats[format_name], path, rest, f"/{name}/")


def _read(reader: Reader, candidate: _Candidate) -> RegistrySettings | None:
    """The settings of a registry, or ``None`` if it is disabled or cannot be made."""
    config = reader.read(candidate.path, candidate.format.Config, candidate.given)
    if config is None:
        return None
    mount = candidate.default_mount
    if config.path.startswith("/"):  # The config itself has complained of one that does not.
        mount = config.path if config.path.endswith("/") else f"{config.path}/"
        if problem := mount_problem(mount):
            reader.complain(candidate.path, "path", problem)
    if not config.enabled:
        return None
    return RegistrySettings(name=candidate.name, format=candidate.format.name, path=mount, config=config)
