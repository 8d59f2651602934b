"""How long a project's page stands, so that it can be sent again without asking anything but clock and token."""

from __future__ import annotations

import asyncio
import functools
import math
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from nora.api import Page
from nora.context import Standing, current_request
from nora.registry.pages import Pages
from nora.registry.sources import Source, stand_until
from nora.store.protocol import Store

if TYPE_CHECKING:
    from nora.registry.registry import Resolved

T = TypeVar("T")

RECHECK_SECONDS = 1.0
"""After this a page is looked after even if no token has changed: files may have been removed or restored behind our back."""


@dataclass(frozen=True, slots=True)
class Look:
    """The moment before something is looked at."""

    token: bytes
    at: float


class Standings:
    """Notes what the pages of one registry rest on. ``resolve`` answers where a project's files come from at this moment."""

    def __init__(
        self,
        *,
        store: Store,
        sources: Sequence[Source],
        pages: Pages,
        resolve: Callable[[str], Coroutine[Any, Any, Resolved]],
        clock: Callable[[], float],
    ) -> None:
        self._changes, self._sources, self._pages = store.changes, sources, pages
        self._resolve, self._clock = resolve, clock

    def question(self) -> None:
        """Count a question about a project among those of the current request."""
        if (reliance := current_request.get().reliance) is not None:
            reliance.questions += 1

    def look(self) -> Look | None:
        """To be taken before a page's project is resolved; ``None`` if nobody wants to know how long the page stands."""
        return self._look() if current_request.get().reliance is not None else None

    def note(self, look: Look | None, project: str, key: tuple[str, ...], resolved: Resolved, page: Page) -> None:
        """Note for the current request what its page rests on. ``key`` is that of :meth:`Pages.page`."""
        reliance = current_request.get().reliance
        if look is not None and reliance is not None:
            reliance.standings.append(self._standing(look, project, key, resolved, resolved.revision, page))

    def _look(self) -> Look | None:
        token = self._changes.checked_token() if self._changes is not None else None
        return Look(token, self._clock()) if token is not None else None

    def _standing(
        self, look: Look, project: str, key: tuple[str, ...], resolved: Resolved, revision: str, page: Page
    ) -> Standing:
        fresh_until = stand_until(self._sources, project, resolved.owned) if resolved.asked else math.inf
        renew = functools.partial(self._renew, project, key, revision, page, fresh_until)
        return Standing(page, look.token, look.at, min(look.at + RECHECK_SECONDS, fresh_until), renew)

    def _renew(self, project: str, key: tuple[str, ...], revision: str, page: Page, fresh_until: float) -> Standing | None:
        look = self._look()
        if look is None or look.at >= fresh_until:
            return None
        resolved = at_once(self._resolve(project))
        if resolved is None or resolved.revision != revision or self._pages.held(key, revision) is not page:
            return None
        return self._standing(look, project, key, resolved, revision, page)


def at_once(work: Coroutine[Any, Any, T]) -> T | None:
    """The result of a coroutine that has nothing to wait for; ``None`` if it has, or fails.

    So that the same code decides here and where somebody can wait.
    """
    try:
        work.send(None)
    except StopIteration as done:
        result: T = done.value
        return result
    except (Exception, asyncio.CancelledError):
        # Whoever asks in full gets the same, and reports it.
        return None
    finally:
        work.close()
    return None
