"""Events of one registry: made for each change, told to the sinks when it is durable, and found again in the manifests."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from nora import metrics
from nora.api import Event, EventSink
from nora.clock import timestamp
from nora.context import current_request
from nora.index.index import Index

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Recorded:
    """An event as it was stored: with which manifest, and whether that is of the hosted project or about an upstream's."""

    serial: int
    hosted: bool
    event: Event


class Journal:
    """Makes and tells the events of one registry."""

    def __init__(self, registry: str, sinks: Sequence[EventSink] = (), clock: Callable[[], float] = time.time) -> None:
        self.registry = registry
        self._sinks, self._clock = sinks, clock

    def now(self) -> str:
        """The time, as it is stored."""
        return timestamp(self._clock())

    def seconds(self) -> int:
        """The time, in seconds since the epoch."""
        return int(self._clock())

    def event(self, action: str, project: str, **details: Any) -> Event:
        """An event of the request that is being served; ``details`` are further fields of :class:`nora.api.Event`."""
        request = current_request.get()
        return Event(
            action=action,
            registry=self.registry,
            project=project,
            actor=request.actor.name,
            at=self.now(),
            request_id=request.request_id,
            **details,
        )

    def tell(self, event: Event) -> None:
        """The change is durable: log it, count it, and tell everybody who wants to know."""
        details = {"files": ",".join(event.files), "version": event.version, "reason": event.reason, "actor": event.actor}
        extra = {"registry": event.registry, "project": event.project, **{k: v for k, v in details.items() if v}}
        log.info("%s", event.action, extra=extra)
        metrics.EVENTS.labels(event.registry, event.action).inc()
        for sink in self._sinks:
            try:
                sink.emit(event)
            except Exception:
                log.exception("event sink failed", extra={"sink": type(sink).__name__})


async def recorded(index: Index, project: str, limit: int, *, hosted: bool) -> list[Recorded]:
    """The latest events of a project's manifests, at most ``limit``; the newest first. ``hosted`` says what the index is of."""
    newest = await index.newest(project)
    found = [] if newest is None else [Recorded(newest.serial, hosted, newest.event)]
    for serial in range(newest.serial - 1 if newest else 0, 0, -1):
        if len(found) >= limit:
            break
        manifest = await index.at(project, serial)
        if manifest is None:
            break  # there is no gap in a sound storage; what is there can be told all the same
        found.append(Recorded(serial, hosted, manifest.event))
        await asyncio.sleep(0)  # small manifests are read inline, and others get their turn
    return found
