"""What was found out about upstream files whose listing does not give a sha256.

A pin is written when such a file was first fetched, and never changed as long as the upstream announces the same file. It
says where the bytes are held and, for a file without any announced digest, what it must be for ever.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping

import msgspec

from nora.api import File
from nora.lru import BoundedCache
from nora.store.protocol import FORMAT, Store, segment

MAX_PINNED_FILES = 20_000
_KEY = re.compile(r"([0-9a-f]{40})\.(\d{1,9})\.json\Z", re.ASCII)


class Pin(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """``digests`` are those that the upstream announced when the file was fetched."""

    name: str
    sha256: str
    size: int
    digests: dict[str, str] = {}
    format: int = FORMAT


def fits(pin: Pin, file: File) -> bool:
    """Whether a pin speaks of this file: nothing that the upstream announces now differs from what it announced then.

    >>> pin = Pin(name="a", sha256="f" * 64, size=1, digests={"md5": "0"})
    >>> fits(pin, File(name="a", digests={"md5": "0"})), fits(pin, File(name="a", digests={"md5": "1"}))
    (True, False)
    """
    return all(pin.digests.get(algorithm, value) == value for algorithm, value in file.digests.items())


def apply(pin: Pin, file: File) -> File:
    """The file with what the pin adds: its sha256 and its size."""
    return msgspec.structs.replace(file, digests={**file.digests, "sha256": pin.sha256}, size=pin.size)


class Pins:
    """The pins of one upstream. ``prefix`` is where its cache is."""

    def __init__(self, store: Store, prefix: str) -> None:
        self._store = store
        self._prefix = f"{prefix}/pins"
        self._known: BoundedCache[str, dict[str, Pin]] = BoundedCache(MAX_PINNED_FILES)

    async def of(self, project: str) -> dict[str, Pin]:
        """The newest pin of each pinned file of a project, by the file's name."""
        folder = self._folder(project)
        if not await self._store.exists(folder):
            return {}
        newest: dict[str, tuple[int, str]] = {}
        for key in await self._store.names(folder):
            if match := _KEY.match(key):
                newest[match[1]] = max(newest.get(match[1], (0, "")), (int(match[2]), key))
        known = self._known.get(project) or {}
        pins: dict[str, Pin] = {}
        for _, key in newest.values():
            pin = known.get(key) or _decode(await self._store.get(f"{folder}/{key}"))
            if pin is not None:
                pins[key] = pin
        self._known.put(project, pins, weight=1 + len(pins))
        return {pin.name: pin for pin in pins.values()}

    async def add(self, project: str, pin: Pin) -> None:
        """Remember what was fetched; in place of what was remembered of another file of this name.

        What is stored is never changed: the newer pin gets the next number.
        """
        folder = self._folder(project)
        # Names of any length: the pin itself holds the name.
        name = hashlib.sha256(pin.name.encode("utf-8", "surrogatepass")).hexdigest()[:40]
        numbers = [int(match[2]) for key in await self._store.names(folder) if (match := _KEY.match(key)) and match[1] == name]
        key = f"{name}.{max(numbers, default=0) + 1}.json"
        await self._store.put(f"{folder}/{key}", msgspec.json.encode(pin))

    def _folder(self, project: str) -> str:
        return f"{self._prefix}/{segment(project)}"


def revision(pins: Mapping[str, Pin]) -> str:
    """Changes whenever what the pins add to a listing does; "" when there are none."""
    if not pins:
        return ""
    made_of = "\n".join(f"{name} {pin.sha256}" for name, pin in sorted(pins.items()))
    return hashlib.sha256(made_of.encode("utf-8", "surrogatepass")).hexdigest()[:16]


_decoder = msgspec.json.Decoder(Pin)


def _decode(data: bytes | None) -> Pin | None:
    if data is None:
        return None
    try:
        pin = _decoder.decode(data)
    except msgspec.MsgspecError:
        return None
    return pin if pin.format == FORMAT else None
