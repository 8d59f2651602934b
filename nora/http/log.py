"""The access log: one line for each answer, however it was made."""

from __future__ import annotations

import logging

from nora.api import Actor

access_log = logging.getLogger("nora.access")


def log_answer(
    *,
    method: str,
    path: str,
    status: int,
    bytes_sent: int,
    seconds: float,
    client: str,
    registry: str,
    request_id: str,
    actor: Actor,
    broken: bool = False,
) -> None:
    """Write the line of an answer that was sent, or broken off in its middle."""
    access_log.info(
        "request",
        extra={
            "method": method,
            "path": path,
            "status": status,
            "bytes": bytes_sent,
            "ms": round(seconds * 1000, 1),
            "client": client,
            "registry": registry,
            "request_id": request_id,
            **({"actor": actor.name} if actor.name else {}),
            **({"broken": True} if broken else {}),
        },
    )
