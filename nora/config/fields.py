"""Keys of a table, and their values: from TOML, which has types, and from text, which has none.

A value is never repeated in a problem when its key is a :class:`~nora.api.Secret`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, TypeAlias, get_args, get_origin

import msgspec

from nora.api import Secret

Unset: TypeAlias = msgspec.UnsetType
UNSET = msgspec.UNSET

_EXPECTED = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "a text",
    Secret: "a text",
    tuple: "a list of texts",
}
_TOML_KINDS = {
    bool: "true or false",
    int: "a whole number",
    float: "a number with a fraction",
    str: "a text",
    list: "a list",
    dict: "a table",
}
_BOOLEANS = {"true": True, "1": True, "yes": True, "on": True, "false": False, "0": False, "no": False, "off": False}
_LONGEST_SHOWN = 80


class BadValue(ValueError):
    """A value does not fit its key; the text says why, in words that follow ``key:``."""


@dataclass(frozen=True, slots=True)
class Key:
    """One key of a table.

    Attributes:
        name: As in TOML.
        type: ``bool``, ``int``, ``float``, ``str``, ``Secret``, ``tuple[str, ...]`` or a ``Literal`` of texts; other types are
            declared by mistake, see :attr:`supported`.
        default: Its value when nothing sets it; ``UNSET`` when something has to.
        constraints: The declared type with its ``Annotated`` constraints.
        words: Texts that stand for a value which is computed.
    """

    name: str
    type: Any
    default: Any
    constraints: Any
    words: Mapping[str, Callable[[], Any]] = field(default_factory=dict)

    @property
    def supported(self) -> bool:
        """Whether values of this type can be configured."""
        if get_origin(self.type) is Literal:
            return all(isinstance(word, str) for word in get_args(self.type))
        return self.type in (bool, int, float, str, Secret, tuple[str, ...])

    @property
    def expected(self) -> str:
        """What a value must be, in words."""
        if get_origin(self.type) is Literal:
            return "one of " + ", ".join(get_args(self.type))
        words = "".join(f' or "{word}"' for word in self.words)
        return _EXPECTED[get_origin(self.type) or self.type] + words


def keys_of(struct: type[msgspec.Struct]) -> dict[str, Key]:
    """The keys of a table by name, in order of declaration."""
    return {info.name: _key(info) for info in msgspec.structs.fields(struct)}


def _key(info: msgspec.structs.FieldInfo) -> Key:
    declared, words = info.type, {}
    if get_origin(declared) is Annotated:
        declared, *annotations = get_args(declared)
        for annotation in annotations:
            if isinstance(annotation, msgspec.Meta):
                words.update((annotation.extra or {}).get("words", {}))
    default = UNSET
    if info.default is not msgspec.NODEFAULT:
        default = info.default
    elif info.default_factory is not msgspec.NODEFAULT:
        default = info.default_factory()
    return Key(name=info.name, type=declared, default=default, constraints=info.type, words=words)


def from_toml(key: Key, value: Any) -> Any:
    """The value of a key out of a TOML file.

    Raises:
        BadValue: it has another type.
    """
    if isinstance(value, str) and value in key.words:
        return key.words[value]()
    try:
        converted = msgspec.convert(value, key.constraints, strict=True, dec_hook=_decode)
    except (msgspec.ValidationError, TypeError) as error:
        raise BadValue(_mismatch(key, value, str(error))) from None
    if isinstance(converted, float) and not math.isfinite(converted):
        raise BadValue(f"must be {key.expected}, and finite")
    return converted


def from_text(key: Key, text: str) -> Any:
    """The value of a key out of an environment variable or a command line; ``UNSET`` when the text is empty and cannot be one.

    Lists are separated by commas. Truth is ``true``, ``1``, ``yes``, ``on``, falsehood ``false``, ``0``, ``no``, ``off``.

    >>> number = Key("port", int, 4000, int)
    >>> from_text(number, "5000"), from_text(number, "")
    (5000, UNSET)

    Raises:
        BadValue: it cannot be read as such a value.
    """
    if key.type not in (str, Secret) and not text.strip():
        return UNSET
    value = text if text in key.words else _read(key, text)
    if value is UNSET:
        raise BadValue(f"{shown(text)} is not {key.expected}{_cause(text)}")
    return from_toml(key, value)


def shown(text: str) -> str:
    """A text for a problem: quoted, on one line, and not too long.

    >>> shown("a" + chr(10))
    "'a\\\\n'"
    """
    return repr(text if len(text) <= _LONGEST_SHOWN else text[:_LONGEST_SHOWN] + "...")


def _read(key: Key, text: str) -> Any:
    stripped = text.strip()
    if key.type is bool:
        return _BOOLEANS.get(stripped.lower(), UNSET)
    # Python would also take "1_000", other scripts' digits and numbers of any length.
    if key.type is int:
        return int(stripped) if re.fullmatch(r"[+-]?[0-9]{1,18}", stripped) else UNSET
    if key.type is float:
        return float(stripped) if re.fullmatch(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?", stripped) else UNSET
    if key.type == tuple[str, ...]:
        return [part.strip() for part in text.split(",") if part.strip()]
    if get_origin(key.type) is Literal:
        return stripped if stripped in get_args(key.type) else UNSET
    return text


def _cause(text: str) -> str:
    if re.match(r"(tcp|udp|sctp)://", text):
        return (
            "; Kubernetes sets this variable for a service of that name: "
            "rename the service, or set enableServiceLinks: false in the pod"
        )
    return ""


def _decode(kind: type, value: object) -> Any:
    """msgspec's hook for types that it does not know."""
    if kind is Secret and isinstance(value, str):
        return Secret(value)
    raise TypeError(f"not a {kind.__name__}")


def _mismatch(key: Key, value: object, reason: str) -> str:
    origin = get_origin(key.type)
    if isinstance(value, str) and origin is Literal:
        return f"{shown(value)} is not {key.expected}"
    if isinstance(value, list) and origin is tuple:
        return f"must be {key.expected} and nothing else"
    if origin is None and type(value) is key.type:
        # msgspec names the constraint that is not met, and never the value.
        return f"must be {key.expected} ({reason})"
    kind = next((words for kind, words in _TOML_KINDS.items() if isinstance(value, kind)), "a date or time")
    return f"must be {key.expected}, not {kind}"
