"""Who asks for what is being done now."""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass

from nora.api import Actor

ANONYMOUS = Actor()


@dataclass(frozen=True, slots=True)
class RequestContext:
    """The request that the current task works for; the default stands for work that no request asked for."""

    request_id: str = ""
    actor: Actor = ANONYMOUS


NO_REQUEST = RequestContext()
current_request: ContextVar[RequestContext] = ContextVar("current_request", default=NO_REQUEST)
