"""The list of projects, for whoever may not see all of them."""

from __future__ import annotations

import asyncio
import hashlib

from nora.api import ProjectNames, Right
from nora.context import current_request
from nora.lru import BoundedCache
from nora.registry.names import Names
from nora.rights import Grants

INLINE_NAMES = 500
"""So many are looked at on the event loop: a millisecond."""
MAX_REMEMBERED_NAMES = 1_000_000


class ReadableNames:
    """What the actor of the current request may know of a registry's names. Made once for all with the same grants."""

    def __init__(self, registry: str, names: Names) -> None:
        self._registry, self._names = registry, names
        self._made: BoundedCache[str, tuple[str, ProjectNames]] = BoundedCache(MAX_REMEMBERED_NAMES)

    def view(self) -> str:
        """What tells the names that this actor sees from those that others see; "" is all of them."""
        grants = current_request.get().grants
        return "" if grants.allows_all(Right.READ, self._registry) else grants.key

    async def current(self) -> ProjectNames:
        """The names that may be shown; the very object of :class:`Names` if these are all."""
        names, grants = await self._names.current(), current_request.get().grants
        if not self.view():
            return names
        made = self._made.get(grants.key)
        if made is None or made[0] != names.revision:
            if len(names.names) > INLINE_NAMES:
                made = names.revision, await asyncio.to_thread(self._shown, names, grants)
            else:
                made = names.revision, self._shown(names, grants)
            self._made.put(grants.key, made, weight=1 + len(made[1].names))
        return made[1]

    def _shown(self, names: ProjectNames, grants: Grants) -> ProjectNames:
        shown = tuple([name for name in names.names if grants.allows(Right.READ, self._registry, name)])
        # By what is shown: a change of projects that are hidden does not show either.
        return ProjectNames(names=shown, revision=hashlib.sha256("/".join(shown).encode()).hexdigest())
