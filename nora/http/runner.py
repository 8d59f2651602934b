"""One serving process: from a bound socket to a graceful end.

Sanic's own manager loses a SIGTERM that comes at the wrong moment, so Nora runs Sanic's public ``create_server`` itself.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
from collections.abc import Callable
from typing import Any

from nora.http.app import App, Readiness
from nora.http.fast import HeldPages
from nora.http.patient import PatientProtocol
from nora.http.protocol import HeldProtocol
from nora.http.tls import Encrypting

log = logging.getLogger(__name__)

BACKLOG = 1024
POLL_SECONDS = 0.05


def listening_socket(host: str, port: int) -> socket.socket:
    """A bound, listening TCP socket.

    Raises:
        OSError: the address is taken or is none of this machine's.
    """
    family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6 and host == "::":
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        sock.bind(address)
        sock.listen(BACKLOG)
        sock.setblocking(False)
    except OSError:
        sock.close()
        raise
    return sock


async def serve(
    app: App,
    sock: socket.socket,
    stop: asyncio.Event,
    readiness: Readiness,
    *,
    shutdown_timeout_seconds: float,
    on_ready: Callable[[], None] = lambda: None,
    tls: Callable[[], ssl.SSLContext] | None = None,
) -> None:
    """Serve until ``stop`` is set, then let requests in flight finish within the limit.

    ``tls`` gives what a connection that begins is encrypted by; without it there is no encryption.
    """
    held: HeldPages | None = app.ctx.held_pages
    protocol = PatientProtocol if held is None else HeldProtocol
    encrypting = None if tls is None else Encrypting(protocol, tls)
    server: Any = await app.create_server(
        sock=sock,
        return_asyncio_server=True,
        backlog=BACKLOG,
        asyncio_server_kwargs={"start_serving": False},
        protocol=encrypting or protocol,  # type: ignore[arg-type]
    )
    await server.startup()
    await server.before_start()
    await server.start_serving()
    await server.after_start()
    readiness.ready = True
    on_ready()
    try:
        await stop.wait()
    finally:
        readiness.ready = False
        if held is not None:
            held.close()
            app.ctx.refusals.flush()
        await server.before_stop()
        server.close()
        if encrypting is not None:
            encrypting.abort_handshakes()
        await _drain(server.connections, shutdown_timeout_seconds)
        await server.after_stop()


async def _drain(connections: set[Any], limit_seconds: float) -> None:
    deadline = asyncio.get_running_loop().time() + limit_seconds
    while connections:
        for connection in list(connections):
            connection.close_if_idle()
        if asyncio.get_running_loop().time() >= deadline:
            log.warning("transfers cut at the shutdown limit", extra={"count": len(connections)})
            break
        await asyncio.sleep(POLL_SECONDS)
    for connection in list(connections):
        connection.abort()
    # Cancelled handlers run their cleanup before the loop ends.
    for _ in range(100):
        if not connections:
            return
        await asyncio.sleep(POLL_SECONDS / 5)
