"""The names of a registry's projects: kept sorted in memory, and brought up to date by what changes.

A request costs a few looks at the times of folders. A folder is read only when its time shows a change that this process has not
made itself, in a thread, and so is everything else that grows with the number of names. What ``/simple/`` owes to whom, and why, is
in docs/rationale.md.
"""

from __future__ import annotations

import asyncio
import logging
import time
from bisect import bisect_left
from collections.abc import Awaitable, Callable, Iterable, Sequence, Set
from hashlib import sha256
from itertools import chain, compress
from urllib.parse import unquote

import msgspec

from nora.api import ProjectNames, StorageFull
from nora.index.index import Index
from nora.store.protocol import FORMAT, Step, Store, segment
from nora.tasks import SingleFlight
from nora.upstream.listings import UpstreamListings

log = logging.getLogger(__name__)

PAUSE_SECONDS_PER_NAME = 1e-5
MAX_PAUSE_SECONDS = 1.0
"""While many projects begin, the list is made again once in this time on average; those who ask wait for the next one."""
AT_ONCE = 3
"""So many times it is made without a pause if there were none before."""
HELD_SECONDS = 5.0
"""How late, at most, a page that another process has fetched is listed; a second more in a list that is given again."""
MIN_REMEMBERED = 1000
"""Looking at so many folders takes a few milliseconds."""
FEW = 100
INLINE_NAMES = 2000
RUN_NAMES = 1000
"""What is done with so many names at once takes a fraction of a millisecond, and other threads get their turn in between."""
MAX_STEPS = 1000


class _Source:
    """Where names come from.

    Attributes:
        names: As of the last look, and changed since by what this process has done.
        touched: Those whose presence has changed since somebody emptied this; not all if they were many, see ``replaced``.
        replaced: Whether many have changed.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self.names: set[str] = set()
        self.touched: set[str] = set()
        self.replaced = False
        self._marker: str | None = None
        self._meanwhile: dict[str, bool] | None = None

    def _note(self, name: str, present: bool) -> None:
        if self._meanwhile is not None:
            self._meanwhile[name] = present
        if present != (name in self.names):
            self.touched.add(name)
            (self.names.add if present else self.names.discard)(name)

    async def _replace(self, names: set[str]) -> None:
        """Take what a look has found, and over it what was noted since the look began."""
        changed = await asyncio.to_thread(_few_changes, self.names, names)
        if changed is None:
            self.replaced = True
        else:
            self.touched |= changed
        for name, present in (self._meanwhile or {}).items():
            (names.add if present else names.discard)(name)
        self.names, self._meanwhile = names, None


class HostedNames(_Source):
    """Projects that were ever hosted in one registry, exactly."""

    def __init__(self, store: Store, index: Index, remembered_key: str) -> None:
        super().__init__(store)
        self._index, self._remembered_key = index, remembered_key
        self._steps: dict[str, str | None] = {}
        self._latest_step: str | None = None
        self._was_read = False
        index.watch(self._begun)

    async def unchanged(self) -> bool:
        """Whether nothing has changed but what this process has changed itself."""
        return self._marker is not None and await self._store.marker(self._index.prefix, self._marker) == self._marker

    async def read(self) -> None:
        """Look at the folder; of those in it only at the ones that are new."""
        self._meanwhile = {}
        # From before the look: a change in between is seen next time.
        marker = await self._store.marker(self._index.prefix, self._latest_step)
        listed = await self._store.names(self._index.prefix)
        known = self.names if self._was_read else await self._remembered()
        names, others = await asyncio.to_thread(_split, listed, known)
        there = await self._index.begun(others)
        await asyncio.to_thread(names.update, map(_name, compress(others, there)))
        if len(others) >= MIN_REMEMBERED:
            await self._remember(names)
        await self._replace(names)
        self._marker, self._was_read = marker, True
        self._advance()

    def _begun(self, project: str, step: Step) -> None:
        self._note(project, True)
        if len(self._steps) >= MAX_STEPS:
            self._steps.clear()
        self._steps[step.before] = step.after
        self._latest_step = step.after
        self._advance()

    def _advance(self) -> None:
        """Go on by the changes that are ours; they may be told in another order than they were made."""
        while self._marker is not None and self._marker in self._steps:
            self._marker = self._steps.pop(self._marker)

    async def _remembered(self) -> Set[str]:
        """Projects that were begun when an earlier process looked, which they are for ever: nobody need look again."""
        data = await self._store.get(self._remembered_key)
        return await asyncio.to_thread(_decoded, data) if data is not None else set()

    async def _remember(self, names: Set[str]) -> None:
        try:
            await self._store.put(self._remembered_key, await asyncio.to_thread(_encoded, names))
        except (OSError, StorageFull, UnicodeEncodeError) as error:
            log.warning("names of projects could not be remembered", extra={"error": str(error)})


class HeldNames(_Source):
    """Projects of which a page of one upstream is held; those of other processes some seconds late."""

    def __init__(self, store: Store, listings: UpstreamListings, clock: Callable[[], float]) -> None:
        super().__init__(store)
        self.prefix, self._clock = listings.documents_prefix, clock
        self._read_at: float | None = None
        listings.watcher = self._note

    @property
    def was_read(self) -> bool:
        """Whether the folder was looked at once."""
        return self._read_at is not None

    async def due(self) -> bool:
        """Whether to look at the folder again. Its time tells little, since every page that is refreshed changes it."""
        if self._read_at is not None and self._clock() - self._read_at < HELD_SECONDS:
            return False
        return self._marker is None or await self._store.marker(self.prefix, self._marker) != self._marker

    async def read(self) -> None:
        """Look at the folder."""
        self._meanwhile = {}
        marker = await self._store.marker(self.prefix)
        listed = await self._store.names(self.prefix)
        await self._replace(await asyncio.to_thread(set, map(_name, listed)))
        self._marker, self._read_at = marker, self._clock()


class Names:
    """The names of one registry's projects, hosted and held."""

    def __init__(
        self,
        *,
        registry: str,
        store: Store,
        index: Index,
        listings: Sequence[UpstreamListings],
        flights: SingleFlight,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._registry, self._flights = registry, flights
        self._clock, self._sleep = clock, sleep
        self._hosted = HostedNames(store, index, f"cache/{segment(registry)}/names")
        self._held = [HeldNames(store, each, clock) for each in listings]
        self._sources: tuple[_Source, ...] = (self._hosted, *self._held)
        self._sorted: list[str] | None = None
        self._made: ProjectNames | None = None
        self._making = asyncio.Lock()
        self._turn = 0
        self._paced_until = 0.0

    async def current(self) -> ProjectNames:
        """The names as they are now; the same object as long as they are the same."""
        for held in self._held:
            if held.was_read and await held.due():
                self._flights.start(("names held", held.prefix), held.read)  # for those who ask later
        if await self._is_current():
            assert self._made is not None
            return self._made
        # Everybody who asks before the next look begins gets what it sees.
        return await self._flights.run(("names", self._registry, self._turn), self._make)

    def settled(self, names: ProjectNames) -> bool:
        """Whether these are the newest, as far as this process knows without a look at any folder."""
        return self._made is names and self._is_settled()

    def _is_settled(self) -> bool:
        return self._sorted is not None and not any(source.touched or source.replaced for source in self._sources)

    async def _is_current(self) -> bool:
        return self._is_settled() and await self._hosted.unchanged()

    async def _make(self) -> ProjectNames:
        async with self._making:
            if not await self._is_current():  # else the look before this one has seen it all
                await self._pause()
            # Whoever asks from now on may want to see what this look does not.
            self._turn += 1
            if not await self._hosted.unchanged():
                await self._hosted.read()
            for held in self._held:
                if not held.was_read:
                    await held.read()
            return await self._build()

    async def _pause(self) -> None:
        pause = min(MAX_PAUSE_SECONDS, PAUSE_SECONDS_PER_NAME * len(self._sorted or ()))
        await self._sleep(max(0.0, self._paced_until - (AT_ONCE - 1) * pause - self._clock()))
        self._paced_until = max(self._paced_until, self._clock()) + pause

    async def _build(self) -> ProjectNames:
        touched = set[str]().union(*(source.touched for source in self._sources))
        replaced = any(source.replaced for source in self._sources)
        for source in self._sources:
            source.touched, source.replaced = set(), False
        if self._made is not None and self._sorted is not None and not touched and not replaced:
            return self._made
        # Until all is done nothing is current, so nobody who asks meanwhile gets the names from before.
        before, self._sorted = self._sorted, None
        if before is not None and not replaced and len(touched) <= FEW:
            names = before
            for name in touched:
                _place(names, name, present=any(name in source.names for source in self._sources))
        else:
            names = await asyncio.to_thread(_in_order, self._sources)
        shown = tuple(names)
        revision = await asyncio.to_thread(_digest, shown) if len(shown) > INLINE_NAMES else _digest(shown)
        if self._made is None or self._made.revision != revision:
            self._made = ProjectNames(names=shown, revision=revision)
        self._sorted = names
        return self._made


def _encoded(names: Set[str]) -> bytes:
    """``cache/<registry>/names``: what spares a start from looking into each project's folder. A line has some of the names."""
    listed = list(names)
    runs = [listed[start : start + RUN_NAMES] for start in range(0, len(listed), RUN_NAMES)]
    return b"\n".join(map(msgspec.json.encode, [{"format": FORMAT}, *runs]))


def _decoded(data: bytes) -> set[str]:
    first, *runs = data.split(b"\n")
    names: set[str] = set()
    try:
        if msgspec.json.decode(first) != {"format": FORMAT}:
            return set()
        for run in runs:
            names.update(_decoder.decode(run))
    except msgspec.MsgspecError:
        return set()
    return names


_decoder = msgspec.json.Decoder(list[str])


def _name(folder: str) -> str:
    return unquote(folder) if "%" in folder else folder


def _split(listed: Iterable[str], known: Set[str]) -> tuple[set[str], list[str]]:
    """Folders by name: the projects that are known, and the folders to be looked at."""
    names: set[str] = set()
    others = []
    for folder in listed:
        if (name := _name(folder)) in known:
            names.add(name)
        else:
            others.append(folder)
    return names, others


def _few_changes(before: Set[str], after: Set[str]) -> Set[str] | None:
    changed = before ^ after
    return changed if len(changed) <= FEW else None


def _in_order(sources: Iterable[_Source]) -> list[str]:
    """All names, sorted in many small runs: one long sort would hold up all threads until it is done."""
    named = [list(source.names) for source in sources]
    bounds = sorted(name for names in named for name in names[::RUN_NAMES])
    runs: list[list[str]] = [[] for _ in range(len(bounds) + 1)]
    for name in chain.from_iterable(named):
        runs[bisect_left(bounds, name)].append(name)
    return list(chain.from_iterable(sorted(set(run)) for run in runs))


def _place(names: list[str], name: str, *, present: bool) -> None:
    at = bisect_left(names, name)
    there = at < len(names) and names[at] == name
    if present and not there:
        names.insert(at, name)
    elif there and not present:
        del names[at]


def _digest(names: Sequence[str]) -> str:
    return sha256("\n".join(names).encode("utf-8", "surrogatepass")).hexdigest()[:32]
