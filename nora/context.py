"""Who asks for what is being done now, and what the answer rests on."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass, field

from nora.api import Actor, Content, Forbidden, NotFound, Page, Right, Unauthorized
from nora.rights import ALL, NOTHING, Grants

ANONYMOUS = Actor()


@dataclass(frozen=True, slots=True)
class Standing:
    """That a page or a file is the right answer, and how long that needs no other proof than a look at clock and token.

    Attributes:
        answer: The very object that was answered.
        token: The store's token from before anything was looked at, see :class:`nora.store.protocol.ChangeMark`.
        since, until: Seconds since the epoch. Outside of them the page may have to be asked for again; a clock that was set back
            is outside, too.
        renew: Looks again whether this still is the answer, waiting for nothing: the new standing, or ``None`` if it is not or
            that cannot be told at once.
        holds: What this process knows without a look; ``False`` is as if the token had changed.
    """

    answer: Page | Content
    token: bytes
    since: float
    until: float
    renew: Callable[[], Standing | None]
    holds: Callable[[], bool] | None = None


@dataclass(slots=True)
class Reliance:
    """What the answer to a request has relied on so far.

    Attributes:
        standings: Of the pages that were made, and of the files that were opened.
        questions: How many times a registry was asked about a project, or for the list of projects.
    """

    standings: list[Standing] = field(default_factory=list)
    questions: int = 0

    def standing_of(self, answer: object) -> Standing | None:
        """The standing of a page or a file, if nothing else was asked for that its choice could depend on."""
        if self.questions != 1 or len(self.standings) != 1:
            return None
        return self.standings[0] if self.standings[0].answer is answer else None


@dataclass(frozen=True, slots=True)
class RequestContext:
    """The request that the current task works for.

    Attributes:
        request_id: Its name in logs and events.
        actor: Who asks.
        reliance: There if somebody wants to know.
        grants: What the actor may do; nothing until that is known.
        token: Id of the token that logged in; "" if none did.
        address: Where the request comes from; "" if that is not known.
    """

    request_id: str = ""
    actor: Actor = ANONYMOUS
    reliance: Reliance | None = None
    grants: Grants = NOTHING
    token: str = ""
    address: str = ""


NO_REQUEST = RequestContext(grants=ALL)
"""Work that no request asked for, such as that of the command line."""
current_request: ContextVar[RequestContext] = ContextVar("current_request", default=NO_REQUEST)


def permit(right: Right, registry: str, project: str) -> None:
    """Return if the current request's actor has ``right`` on a project. What the project is, and whether, plays no part.

    Raises:
        Unauthorized: nobody has logged in, so a login may help.
        NotFound: the actor may not read it, so must not learn whether it is there.
        Forbidden: the actor may not change it, whether it is there or not.
    """
    request = current_request.get()
    if request.grants.allows(right, registry, project):
        return
    if request.actor.is_anonymous:
        raise Unauthorized
    if right is Right.READ:
        raise NotFound("project", project)
    raise Forbidden(f"{request.actor.name} has no right to {right.value} {project}; ask whoever runs this registry for it")
