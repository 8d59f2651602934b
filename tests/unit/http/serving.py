"""An application that serves on loopback, and a client of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx

from nora.http.app import App, Readiness
from nora.http.runner import listening_socket, serve


@asynccontextmanager
async def serving_client(app: App, readiness: Readiness) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the application, which serves as long as that is used."""
    stop, ready, sock = asyncio.Event(), asyncio.Event(), listening_socket("127.0.0.1", 0)
    serving = asyncio.create_task(serve(app, sock, stop, readiness, shutdown_timeout_seconds=5, on_ready=ready.set))
    await asyncio.wait_for(ready.wait(), 5)
    try:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{sock.getsockname()[1]}", trust_env=False) as client:
            yield client
    finally:
        stop.set()
        await asyncio.wait_for(serving, 10)
