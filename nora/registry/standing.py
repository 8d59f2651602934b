"""How long pages and files stand, so that they can be sent again without asking anything but clock and token."""

from __future__ import annotations

import asyncio
import functools
import math
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from nora.api import Content, Page
from nora.context import Standing, current_request
from nora.registry.sources import Source, stand_until
from nora.store.protocol import Store

if TYPE_CHECKING:
    from nora.registry.offer import Resolved

T = TypeVar("T")
Ask = Callable[[], float | None]
Holds = Callable[[], bool]

RECHECK_SECONDS = 1.0
"""After this a page is looked after even if no token has changed: files may have been removed or restored behind our back."""


@dataclass(frozen=True, slots=True)
class Look:
    """The moment before something is looked at."""

    token: bytes
    at: float


class Standings:
    """Notes what the pages and files of one registry rest on.

    ``resolve`` answers where a project's files come from at this moment. An ``Ask`` puts the question again that has led to an answer,
    waiting for nothing: until when nobody outside will be asked if the answer is the same, else ``None``. A ``Holds`` is what the
    process knows of that without a look.
    """

    def __init__(
        self,
        *,
        store: Store,
        sources: Sequence[Source],
        resolve: Callable[[str], Coroutine[Any, Any, Resolved]],
        clock: Callable[[], float],
    ) -> None:
        self._changes, self._sources = store.changes, sources
        self._resolve, self._clock = resolve, clock

    def question(self) -> None:
        """Count a question about a project, or for the list of projects, among those of the current request."""
        if (reliance := current_request.get().reliance) is not None:
            reliance.questions += 1

    def look(self) -> Look | None:
        """To be taken before anything is looked at; ``None`` if nobody wants to know how long the answer stands."""
        return self._look() if current_request.get().reliance is not None else None

    def note(
        self,
        look: Look | None,
        project: str,
        resolved: Resolved,
        answer: Page | Content,
        same: Callable[[Resolved], bool],
    ) -> None:
        """Note for the current request what its answer about a project rests on.

        ``same`` tells, waiting for nothing, whether what is resolved later leads to this answer again.
        """

        def ask() -> float | None:
            again = at_once(self._resolve(project))
            return self._fresh_until(project, again) if again is not None and same(again) else None

        self._note(look, answer, self._fresh_until(project, resolved), ask, None)

    def note_list(self, look: Look | None, page: Page, *, same: Callable[[], bool], holds: Holds) -> None:
        """The same for a page that was made of the list of projects. ``holds`` is what this process knows of it by itself."""
        self._note(look, page, math.inf, lambda: math.inf if same() else None, holds)

    def _note(self, look: Look | None, answer: Page | Content, fresh_until: float, ask: Ask, holds: Holds | None) -> None:
        if look is not None and (reliance := current_request.get().reliance) is not None:
            reliance.standings.append(self._standing(look, answer, fresh_until, ask, holds))

    def _look(self) -> Look | None:
        token = self._changes.checked_token() if self._changes is not None else None
        return Look(token, self._clock()) if token is not None else None

    def _fresh_until(self, project: str, resolved: Resolved) -> float:
        return stand_until(self._sources, project, resolved.owned) if resolved.asked else math.inf

    def _standing(
        self,
        look: Look,
        answer: Page | Content,
        fresh_until: float,
        ask: Ask,
        holds: Holds | None,
    ) -> Standing:
        renew = functools.partial(self._renew, answer, fresh_until, ask, holds)
        return Standing(answer, look.token, look.at, min(look.at + RECHECK_SECONDS, fresh_until), renew, holds)

    def _renew(
        self,
        answer: Page | Content,
        fresh_until: float,
        ask: Ask,
        holds: Holds | None,
    ) -> Standing | None:
        look = self._look()
        if look is None or look.at >= fresh_until:
            return None
        until = ask()
        return self._standing(look, answer, until, ask, holds) if until is not None else None


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
