"""The manifests of one registry: read, change, enumerate."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Sequence
from weakref import WeakValueDictionary

from nora.api import File, Spool
from nora.index.manifest import Manifest, decode
from nora.lru import BoundedCache
from nora.store.protocol import MAX_SEGMENT_BYTES, Step, Store, segment

_MANIFEST = re.compile(r"\d{12}\.json\Z", re.ASCII)


class Index:
    """What is hosted in one registry; in the area ``overlay``, what was decided here about projects of upstreams.

    Manifests are never changed and their serials have no gap, so whether a remembered one is still the newest is one question:
    does the next serial exist? The answer is exact, whichever process wrote it and however coarse file times are.
    """

    def __init__(self, store: Store, registry: str, *, area: str = "index", max_files: int = 50_000) -> None:
        self._store = store
        self.prefix = f"{area}/{segment(registry)}"
        self._newest: BoundedCache[str, Manifest | None] = BoundedCache(max_files)
        self._watchers: list[Callable[[str, Step], None]] = []
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def newest(self, project: str) -> Manifest | None:
        """The project as it is now; ``None`` if nothing was ever hosted under this name."""
        folder = self._folder(project)
        if folder is None:
            return None
        known = self._newest.get(project)
        serial = known.serial if known else 0
        if project not in self._newest:
            serials = [int(name[:-5]) for name in await self._store.names(folder) if _MANIFEST.match(name)]
            serial = max(serials, default=0)
            known = await self._read(folder, serial) if serial else None
        elif not await self._store.exists(self._key(folder, serial + 1)):
            return known
        while (following := await self._read(folder, serial + 1)) is not None:
            known, serial = following, serial + 1
        self._newest.put(project, known, weight=1 + len(known.files if known else ()))
        return known

    async def at(self, project: str, serial: int) -> Manifest | None:
        """The project as it was after its ``serial``-th change."""
        folder = self._folder(project)
        return None if folder is None else await self._read(folder, serial)

    async def change(
        self, project: str, step: Callable[[Manifest | None, int], Manifest | None], blobs: Sequence[Spool] = ()
    ) -> Manifest | None:
        """Apply ``step`` to the newest manifest and store the result.

        ``step`` gets the newest manifest and the serial to give to the next one. It is called again when another writer was
        first. It may return ``None``: nothing to change. ``blobs`` are kept with the result and before it, see :meth:`Store.create`.

        Raises:
            whatever ``step`` raises; then nothing was changed.
        """
        folder = self._folder(project)
        assert folder is not None, "callers check names before they store"
        lock = self._locks.setdefault(project, asyncio.Lock())
        async with lock:
            while True:
                current = await self.newest(project)
                changed = step(current, current.serial + 1 if current else 1)
                if changed is None:
                    return current
                if await self._stored(project, folder, changed, blobs):
                    self._newest.put(project, changed, weight=1 + len(changed.files))
                    return changed
                blobs = ()  # they are kept by now

    def watch(self, begun: Callable[[str, Step], None]) -> None:
        """Have ``begun`` called for each project whose first manifest is stored here, with how that changed :attr:`prefix`."""
        self._watchers.append(begun)

    async def begun(self, folders: Sequence[str]) -> list[bool]:
        """Which of the folders below :attr:`prefix` hold a project.

        A folder and its first manifest appear together. One without it was not made by Nora, or comes from a broken copy.
        """
        return await self._store.existing(self._key(f"{self.prefix}/{folder}", 1) for folder in folders)

    def storable(self, project: str) -> bool:
        """Whether a project of this name can be stored."""
        return self._folder(project) is not None

    def _folder(self, project: str) -> str | None:
        name = segment(project)
        return f"{self.prefix}/{name}" if 0 < len(name) <= MAX_SEGMENT_BYTES else None

    def _key(self, folder: str, serial: int) -> str:
        return f"{folder}/{serial:012d}.json"

    async def _stored(self, project: str, folder: str, manifest: Manifest, blobs: Sequence[Spool]) -> bool:
        key = self._key(folder, manifest.serial)
        if manifest.serial > 1:
            return await self._store.create(key, manifest.encode(), blobs=blobs)
        step = await self._store.begin(key, manifest.encode(), blobs=blobs)
        if step is None:
            return False
        for begun in self._watchers:
            begun(project, step)
        return True

    async def _read(self, folder: str, serial: int) -> Manifest | None:
        data = await self._store.get(self._key(folder, serial))
        return None if data is None else decode(data)


def find_identity(manifest: Manifest | None, file: File) -> File | None:
    """The hosted file that has ``file``'s name or identity, if any."""
    if manifest is None:
        return None
    identity = file.identity or file.name
    return next((held for held in manifest.files if held.name == file.name or (held.identity or held.name) == identity), None)
