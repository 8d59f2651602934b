"""Events: what changed, who did it and when. Every stored change carries its own."""

from __future__ import annotations

import msgspec


class Event(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One change.

    Attributes:
        action: What happened: "publish", "yank", "unyank", "delete" or "status".
        registry: Name of the registry.
        project: Normalized name of the project.
        files: Names of the files concerned; none means a whole version, or the project.
        version: The version concerned, if it is one.
        reason: Why, in the words of whoever did it; of "status" the new status comes first.
        actor: Who did it; "" is nobody in particular.
        at: When, ``yyyy-mm-ddThh:mm:ss.ffffffZ``.
        request_id: The request that did it; "" when it was no request.
    """

    action: str
    registry: str
    project: str
    files: tuple[str, ...] = ()
    version: str = ""
    reason: str = ""
    actor: str = ""
    at: str = ""
    request_id: str = ""
