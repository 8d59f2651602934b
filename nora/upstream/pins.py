"""What was found out about upstream files whose listing does not give a sha256.

A pin is written when such a file was first fetched, and never changed as long as the upstream announces the same file. It
says where the bytes are held and, for a file without any announced digest, what it must be for ever.
"""

from __future__ import annotations

import msgspec

from nora.api import File
from nora.store.protocol import FORMAT, Store, segment


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
        self._known: dict[str, dict[str, Pin]] = {}

    async def of(self, project: str) -> dict[str, Pin]:
        """All pins of a project, by the pinned file's name."""
        folder = f"{self._prefix}/{segment(project)}"
        if not await self._store.exists(folder):
            return {}
        known = self._known.setdefault(project, {})
        for key in set(await self._store.names(folder)) - known.keys():
            data = await self._store.get(f"{folder}/{key}")
            if data is not None and (pin := _decode(data)) is not None:
                known[key] = pin
        return {pin.name: pin for pin in known.values()}

    async def add(self, project: str, pin: Pin) -> None:
        """Remember what was fetched."""
        key = segment(pin.name)
        await self._store.put(f"{self._prefix}/{segment(project)}/{key}", msgspec.json.encode(pin))
        self._known.setdefault(project, {})[key] = pin


_decoder = msgspec.json.Decoder(Pin)


def _decode(data: bytes) -> Pin | None:
    try:
        pin = _decoder.decode(data)
    except msgspec.MsgspecError:
        return None
    return pin if pin.format == FORMAT else None
