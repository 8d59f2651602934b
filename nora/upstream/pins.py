"""What was found out about upstream files and their sidecars that the listing does not say.

A pin is written when a file without an announced sha256 was first fetched, and never changed as long as the upstream announces
the same file. It says where the bytes are held and, for a file without any announced digest, what it must be for ever. A sidecar
that was read out of the file itself is pinned, too, and so is the finding that it cannot be.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping

import msgspec

from nora.api import File, Sidecar
from nora.lru import BoundedCache
from nora.store.protocol import FORMAT, Store, segment

MAX_PINNED_FILES = 20_000
_KEY = re.compile(r"([0-9a-f]{40})\.(\d{1,9})\.json\Z", re.ASCII)


class Pin(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What was found out about a file or a sidecar.

    Attributes:
        name: The file's name; a sidecar's ends with its suffix.
        sha256, size: What it is. "" and 0: it does not exist, see ``refusal``.
        digests: Those that the upstream announced for it when it was fetched.
        of: Of a sidecar: the digests that were announced for its file then.
        derived: It was read out of the file itself.
        refusal: Why a derived one cannot be had.
    """

    name: str
    sha256: str
    size: int
    digests: dict[str, str] = {}
    of: dict[str, str] = {}
    derived: bool = False
    refusal: str = ""
    format: int = FORMAT


def fits(pin: Pin, file: File) -> bool:
    """Whether a pin speaks of this file: nothing that the upstream announces now differs from what it announced then.

    >>> pin = Pin(name="a", sha256="f" * 64, size=1, digests={"md5": "0"})
    >>> fits(pin, File(name="a", digests={"md5": "0"})), fits(pin, File(name="a", digests={"md5": "1"}))
    (True, False)
    """
    return _agree(pin.digests, file.digests)


def fits_sidecar(pin: Pin, file: File, announced: Sidecar | None) -> bool:
    """Whether a sidecar's pin speaks of this file's sidecar; ``announced`` is what the upstream says of it.

    A derived pin was compared with the file itself, and stands against whatever is announced.
    """
    return _agree(pin.of, file.digests) and (pin.derived or (announced is not None and _agree(pin.digests, announced.digests)))


def _agree(then: Mapping[str, str], now: Mapping[str, str]) -> bool:
    return all(then.get(algorithm, value) == value for algorithm, value in now.items())


def apply(pin: Pin, file: File) -> File:
    """The file with what the pin adds: its sha256 and its size."""
    return msgspec.structs.replace(file, digests={**file.digests, "sha256": pin.sha256}, size=pin.size)


class Pinned(dict[str, Pin]):
    """The pins of one project at one moment, by the name of what they speak of.

    Attributes:
        marker: What tells whether they are still the newest, see :meth:`nora.store.protocol.Store.marker`.
        by_key: The same by the last segment of their keys.
        revision: Changes whenever what they add to a listing does; "" when there are none.
    """

    def __init__(self, marker: str | None, by_key: Mapping[str, Pin]) -> None:
        super().__init__((pin.name, pin) for pin in by_key.values())
        self.marker, self.by_key = marker, by_key
        self.revision = _revision(self)


class Pins:
    """The pins of one upstream. ``prefix`` is where its cache is."""

    def __init__(self, store: Store, prefix: str) -> None:
        self._store = store
        self._prefix = f"{prefix}/pins"
        self._known: BoundedCache[str, Pinned] = BoundedCache(MAX_PINNED_FILES)

    async def of(self, project: str) -> Pinned:
        """The newest pin of each pinned file and sidecar of a project."""
        folder = self._folder(project)
        # From before the folder is read: a change in between is seen next time.
        marker = await self._store.marker(folder)
        if marker == "absent":
            return NOTHING_PINNED
        known = self._known.get(project)
        if known is not None and marker is not None and known.marker == marker:
            return known
        newest: dict[str, tuple[int, str]] = {}
        for key in await self._store.names(folder):
            if match := _KEY.match(key):
                newest[match[1]] = max(newest.get(match[1], (0, "")), (int(match[2]), key))
        by_key: dict[str, Pin] = {}
        for _, key in newest.values():
            pin = (known.by_key.get(key) if known is not None else None) or _decode(await self._store.get(f"{folder}/{key}"))
            if pin is not None:
                by_key[key] = pin
        pinned = Pinned(marker, by_key)
        self._known.put(project, pinned, weight=1 + len(by_key))
        return pinned

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


def _revision(pins: Mapping[str, Pin]) -> str:
    if not pins:
        return ""
    made_of = "\n".join(f"{name} {pin.sha256} {pin.derived}" for name, pin in sorted(pins.items()))
    return hashlib.sha256(made_of.encode("utf-8", "surrogatepass")).hexdigest()[:16]


NOTHING_PINNED = Pinned("absent", {})

_decoder = msgspec.json.Decoder(Pin)


def _decode(data: bytes | None) -> Pin | None:
    if data is None:
        return None
    try:
        pin = _decoder.decode(data)
    except msgspec.MsgspecError:
        return None
    return pin if pin.format == FORMAT else None
