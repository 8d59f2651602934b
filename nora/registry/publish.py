"""Publishing: bytes become a blob, then a manifest names them."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence

import msgspec

from nora.api import AlreadyExists, Event, EventSink, File, Forbidden, Invalid, Published, Sidecar, Spool
from nora.clock import timestamp
from nora.context import current_request
from nora.index.index import Index, find_identity
from nora.index.manifest import Manifest
from nora.store.protocol import Store

log = logging.getLogger(__name__)

CLOSED = {"archived": "the project is archived", "quarantined": "the project is quarantined"}


class Publisher:
    """Publishes into one registry."""

    def __init__(
        self,
        *,
        registry: str,
        store: Store,
        index: Index,
        sinks: Sequence[EventSink] = (),
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._registry, self._store, self._index = registry, store, index
        self._sinks, self._clock = sinks, clock

    async def publish(self, project: str, file: File, content: Spool, sidecars: Mapping[str, bytes]) -> Published:
        """See :meth:`nora.api.Registry.publish`."""
        if not self._index.storable(project):
            raise Invalid("the project's name is too long", subject=file.name)
        await content.finish()
        sha256 = await content.digest("sha256")
        # Looked at before anything is stored, so that a refusal leaves nothing behind, and again for every try to store.
        if (held := _already(await self._index.newest(project), file, sha256)) is not None:
            return Published(file=held, created=False)
        await self._store.keep_blob(content)
        stored = dict(zip(sidecars, await asyncio.gather(*map(self._keep_sidecar, sidecars.values())), strict=True))
        published = msgspec.structs.replace(
            file,
            size=content.size,
            digests={**file.digests, "sha256": sha256},
            published=timestamp(self._clock()),
            url=None,
            sidecars=stored,
        )
        return await self._announce(project, published, sha256)

    async def _announce(self, project: str, file: File, sha256: str) -> Published:
        held: File | None = None
        event = self._event("publish", project, file)

        def step(current: Manifest | None, serial: int) -> Manifest | None:
            nonlocal held
            held = _already(current, file, sha256)
            if held is not None:
                return None
            if current is None:
                return Manifest(project=project, serial=serial, event=event, files=(file,))
            return msgspec.structs.replace(current, serial=serial, event=event, files=(*current.files, file))

        await self._index.change(project, step)
        if held is not None:
            return Published(file=held, created=False)
        log.info("published", extra={"registry": self._registry, "project": project, "file": file.name, "actor": event.actor})
        self._tell(event)
        return Published(file=file, created=True)

    async def _keep_sidecar(self, data: bytes) -> Sidecar:
        async with self._store.spool() as spool:
            await spool.write(data)
            await spool.finish()
            return Sidecar(digests={"sha256": await self._store.keep_blob(spool)}, size=len(data))

    def _event(self, action: str, project: str, file: File) -> Event:
        request = current_request.get()
        return Event(
            action=action,
            registry=self._registry,
            project=project,
            files=(file.name,),
            actor=request.actor.name,
            at=timestamp(self._clock()),
            request_id=request.request_id,
        )

    def _tell(self, event: Event) -> None:
        for sink in self._sinks:
            try:
                sink.emit(event)
            except Exception:
                log.exception("event sink failed", extra={"sink": type(sink).__name__})


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
    if current.removed.get(file.name, sha256) != sha256:
        raise AlreadyExists(file.name, "it was removed, and its name cannot be used for other content")
    return None
