"""Reads one table after another from all sources, and collects every problem."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Protocol, TypeVar, cast

import msgspec

from nora.config.fields import UNSET, BadValue, Key, from_text, from_toml, keys_of
from nora.config.sources import PATH_VARIABLE, File, closest, did_you_mean, dotted, unknown, variable


class Configurable(Protocol):
    """What a table's type has besides its fields."""

    def problems(self) -> Iterator[tuple[str, str]]:
        """Yield ``(key, what is wrong with its value)``."""


TableT = TypeVar("TableT", bound=msgspec.Struct)


class Reader:
    """Precedence: command line (``overrides``), then environment, then file, then default.

    Only the value that counts is looked at, so that a stronger source is a way out of a bad value in a weaker one.

    Attributes:
        problems: What was found so far, in order.
        file: The file that tables come from.
    """

    def __init__(self, file: File, environ: Mapping[str, str], overrides: Mapping[str, str]) -> None:
        self.file = file
        self.problems: list[str] = []
        self._environ, self._overrides = environ, overrides
        self._variables: dict[str, str] = {}  # paths of keys by their environment variables
        self._origins: dict[str, str] = {}  # how a problem with a value begins, by path of its key
        self._unreadable: set[str] = set()  # paths of keys

    def read(self, path: str, struct: type[TableT], given: Any) -> TableT | None:
        """The table at ``path``, with defaults in place of wrong values; ``None`` if that cannot be done.

        ``struct`` is :class:`Configurable`; ``given`` is what the file has there.
        """
        keys = keys_of(struct)
        if not isinstance(given, Mapping):
            self.problems.append(f"{self.file.label}: {path}: must be a table")
            given = {}
        for name in given:
            if name not in keys:
                self.problems.append(f"{self.file.label}: {path}.{dotted(name)}: {unknown('key', name, keys)}")
        values: dict[str, Any] = {}
        for key in keys.values():
            self._take(path, key, given, values)
        if any(key.default is UNSET and name not in values for name, key in keys.items()):
            return None
        table = struct(**values)
        for name, problem in cast(Configurable, table).problems():
            self.complain(path, name, problem)
        return table

    def complain(self, path: str, key: str, problem: str) -> None:
        """Add a problem with the value of a key of a table that was read; it names the source that the value came from.

        Nothing is added for a key whose value could not be read: the default that stands in for it is not what was configured.
        """
        if f"{path}.{key}" not in self._unreadable:
            self.problems.append(f"{self._origins.get(f'{path}.{key}', f'{path}.{key}')}: {problem}")

    def check_overrides(self) -> None:
        """After the last table: complain of values on the command line for keys that do not exist."""
        known = self._variables.values()
        for path in self._overrides:
            if path not in known:
                meant = closest(path, known)
                self.problems.append(f"command line: {dotted(*path.split('.'))}: unknown key" + did_you_mean(meant))

    def warnings(self) -> tuple[str, ...]:
        """After the last table: ``NORA_`` variables that mean nothing.

        They are no errors, since orchestrators add such variables for services that are called nora.
        """
        known = {PATH_VARIABLE, *self._variables}
        strange = sorted(name for name in self._environ if name.startswith("NORA_") and name not in known)
        return tuple(
            f"environment {dotted(name)}: unknown variable, ignored" + did_you_mean(closest(name, known)) for name in strange
        )

    def _take(self, path: str, key: Key, given: Mapping[str, Any], values: dict[str, Any]) -> None:
        """Put a key's value into ``values`` if anything sets it."""
        full_path, name = f"{path}.{key.name}", variable(path, key.name)
        other = self._variables.setdefault(name, full_path)
        if other != full_path:
            self.problems.append(f"environment {name}: would set both {other} and {full_path}; give the registry another name")
        if not key.supported:
            self.problems.append(f"{full_path}: its format declares a type that cannot be configured: {key.type}")
            return
        try:
            value = self._find(full_path, name, key, given)
        except BadValue as problem:
            self.complain(path, key.name, str(problem))
            self._unreadable.add(full_path)
            return
        if value is not UNSET:
            values[key.name] = value
        elif key.default is UNSET:
            self.problems.append(f"{full_path}: must be set, in the file or by {name}")

    def _find(self, full_path: str, name: str, key: Key, given: Mapping[str, Any]) -> Any:
        texts = (
            (self._overrides.get(full_path), f"command line: {full_path}"),
            (self._environ.get(name), f"environment {name}"),
        )
        for text, origin in texts:
            if text is not None:
                self._origins[full_path] = origin
                if (value := from_text(key, text)) is not UNSET:
                    return value
        if key.name not in given:
            self._origins[full_path] = full_path
            return UNSET
        self._origins[full_path] = f"{self.file.label}: {full_path}"
        return from_toml(key, given[key.name])
