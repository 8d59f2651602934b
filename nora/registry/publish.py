"""Publishing: bytes become a blob, then a manifest names them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack

import msgspec

from nora.api import AlreadyExists, File, Forbidden, Invalid, Published, Sidecar, Spool
from nora.index.index import Index, find_identity
from nora.index.manifest import Manifest
from nora.registry.journal import Journal
from nora.store.protocol import Store

Marks = dict[str, bool | str]

TOGETHER_BYTES = 1 << 20
"""Files up to this size are kept in one go with the manifest that names them."""
CLOSED = {"archived": "the project is archived", "quarantined": "the project is quarantined"}


class Publisher:
    """Publishes into one registry. ``overlay`` is what was decided here about the project when it was still an upstream's."""

    def __init__(self, *, store: Store, index: Index, overlay: Index, journal: Journal) -> None:
        self._store, self._index, self._overlay, self._journal = store, index, overlay, journal

    async def publish(self, project: str, file: File, content: Spool, sidecars: Mapping[str, bytes]) -> Published:
        """See :meth:`nora.api.Registry.publish`."""
        if not self._index.storable(project):
            raise Invalid("the project's name is too long", subject=file.name)
        await content.finish()
        sha256 = await content.digest("sha256")
        # Looked at before anything is stored, so that a refusal leaves nothing behind, and again for every try to store.
        if (held := _already(await self._index.newest(project), file, sha256)) is not None:
            return Published(file=held, created=False)
        async with AsyncExitStack() as stack:
            spools = {suffix: await self._spooled(data, stack) for suffix, data in sidecars.items()}
            published = msgspec.structs.replace(
                file,
                size=content.size,
                digests={**file.digests, "sha256": sha256},
                published=self._journal.now(),
                url=None,
                sidecars={
                    suffix: Sidecar(digests={"sha256": await spool.digest("sha256")}, size=spool.size)
                    for suffix, spool in spools.items()
                },
            )
            blobs = [content, *spools.values()]
            if content.size > TOGETHER_BYTES:
                # One at a time changes a project, and the others shall not wait until a large file is on the disk.
                await self._store.keep_blob(blobs.pop(0))
            return await self._announce(project, published, sha256, blobs)

    async def _announce(self, project: str, file: File, sha256: str, blobs: Sequence[Spool]) -> Published:
        held: File | None = None
        first = False
        event = self._journal.event("publish", project, files=(file.name,), version=file.version)
        decided = await self._overlay.newest(project)

        def step(current: Manifest | None, serial: int) -> Manifest | None:
            nonlocal held, first
            first = current is None
            held = _already(current, file, sha256)
            if held is not None:
                return None
            if current is None:
                # What was yanked stays yanked when the name becomes ours.
                versions, files = (decided.yanked_versions, decided.yanked_files) if decided is not None else ({}, {})
                return Manifest(
                    project=project,
                    serial=serial,
                    event=event,
                    since=self._journal.seconds(),
                    files=(file,),
                    yanked_versions=versions,
                    yanked_files=files,
                )
            return msgspec.structs.replace(current, serial=serial, event=event, files=(*current.files, file))

        await self._index.change(project, step, blobs)
        if held is not None:
            return Published(file=held, created=False)
        self._journal.tell(event)
        if first:
            await self._catch_up(project, decided)
        return Published(file=file, created=True)

    async def _catch_up(self, project: str, known: Manifest | None) -> None:
        """Take along what was decided between the look at the overlay and the first manifest: whoever decided it saw no manifest."""
        latest = await self._overlay.newest(project)
        if latest is None or latest.serial == (known.serial if known is not None else 0):
            return

        def step(current: Manifest | None, serial: int) -> Manifest | None:
            assert current is not None, "it has just been published"
            versions = _changed(current.yanked_versions, known.yanked_versions if known else {}, latest.yanked_versions)
            files = _changed(current.yanked_files, known.yanked_files if known else {}, latest.yanked_files)
            if (versions, files) == (current.yanked_versions, current.yanked_files):
                return None
            return msgspec.structs.replace(
                current, serial=serial, event=latest.event, yanked_versions=versions, yanked_files=files
            )

        await self._index.change(project, step)

    async def _spooled(self, data: bytes, stack: AsyncExitStack) -> Spool:
        spool = await stack.enter_async_context(self._store.spool())
        await spool.write(data)
        await spool.finish()
        return spool


def _changed(current: Marks, before: Marks, after: Marks) -> Marks:
    """The current marks with what changed from ``before`` to ``after``."""
    gone = before.keys() - after.keys()
    new = {name: mark for name, mark in after.items() if before.get(name) != mark}
    return {**{name: mark for name, mark in current.items() if name not in gone}, **new}


def _already(current: Manifest | None, file: File, sha256: str) -> File | None:
    """The file as hosted, if these very bytes are hosted under its name.

    Raises:
        AlreadyExists: the name or identity is, or was, used for other bytes.
        Forbidden: the project takes no uploads.
    """
    if current is None:
        return None
    if reason := CLOSED.get(current.status):
        raise Forbidden(f"{file.name}: {reason} and takes no uploads")
    held = find_identity(current, file)
    if held is not None:
        if held.name == file.name and held.digests.get("sha256") == sha256:
            return held
        hint = "" if held.name == file.name else f"it means the same as {held.name}, which is published"
        raise AlreadyExists(file.name, hint)
    for name, gone in current.removed.items():
        if (name == file.name or (gone.identity and gone.identity == file.identity)) and gone.sha256 != sha256:
            raise AlreadyExists(file.name, f"{name} was deleted, and its name cannot be used for other content")
    return None
