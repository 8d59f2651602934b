"""Documents of upstreams in memory: whole, decoded, and only a few large ones at a time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack

from nora.upstream.encoding import decoded

LARGE_BYTES = 1024 * 1024
"""Received documents above this size wait for their turn."""
LARGE_AT_ONCE = 2
"""Of each upstream, so that one that sends nothing but large ones holds up nobody else."""
MAX_PIECES = 1024
"""So many are joined at once, which is quicker than to add each to the others; an upstream may send single bytes, which take 40 each."""
DECODERS = 2
INLINE_DECODE_BYTES = 16 * 1024


class WholeBodies:
    """Collects bodies. A megabyte may be 64 when it is decoded (CWE-409), and clients may ask for many at once.

    Decoding has few threads of its own: what a thread has once used for large blocks the C library keeps for that thread.
    """

    def __init__(self) -> None:
        self._turns: dict[str, asyncio.Semaphore] = {}
        self._decoders = ThreadPoolExecutor(DECODERS, "nora-decode")

    async def collect(self, whose: str, pieces: AsyncIterator[bytes], encoding: str, max_bytes: int) -> bytes:
        """The decoded body. ``whose`` is the upstream's address as configured, so there are few of them.

        Raises:
            OverflowError: larger than ``max_bytes``, as it is sent or decoded.
            UndecodableBody: see :func:`decoded`.
        """
        received: list[bytes] = []
        size = 0
        async with AsyncExitStack() as stack:
            waits = True
            async for piece in pieces:
                received.append(piece)
                size += len(piece)
                if len(received) == MAX_PIECES:
                    received = [b"".join(received)]
                if size > max_bytes:
                    raise OverflowError
                if waits and size > LARGE_BYTES:
                    await stack.enter_async_context(self._turns.setdefault(whose, asyncio.Semaphore(LARGE_AT_ONCE)))
                    waits = False
            raw = b"".join(received)
            received.clear()
            if not encoding or size <= INLINE_DECODE_BYTES:
                return decoded(raw, encoding, max_bytes)
            return await asyncio.get_running_loop().run_in_executor(self._decoders, decoded, raw, encoding, max_bytes)

    def close(self) -> None:
        """Let the threads go."""
        self._decoders.shutdown(wait=False, cancel_futures=True)
