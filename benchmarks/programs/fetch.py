"""Downloads with the client library that Nora itself uses, and does nothing with the bytes.

    python -m benchmarks.programs.fetch URL...

What is fetched through Nora cannot come faster than this. Prints, for each address, bytes, seconds to the first byte of the body,
and seconds altogether, as JSON.
"""

from __future__ import annotations

import asyncio
import json
import ssl
import sys
import time

import httpx

from nora.upstream.transport import AiohttpTransport

Timed = dict[str, float]


async def fetch(client: httpx.AsyncClient, url: str) -> Timed:
    """One download."""
    started = time.perf_counter()
    first, length = 0.0, 0
    async with client.stream("GET", url, headers={"accept-encoding": "identity"}) as answer:
        answer.raise_for_status()
        async for piece in answer.aiter_raw():
            first = first or time.perf_counter() - started
            length += len(piece)
    return {"bytes": length, "first_seconds": first, "seconds": time.perf_counter() - started}


async def main(urls: list[str]) -> list[Timed]:
    """One after another, over one connection that is open already."""
    transport = AiohttpTransport(ssl.create_default_context())
    async with httpx.AsyncClient(transport=transport, timeout=60, trust_env=False) as client:
        await client.get(httpx.URL(urls[0]).join("/"))
        return [await fetch(client, url) for url in urls]


if __name__ == "__main__":
    try:
        import uvloop
    except ImportError:
        print(json.dumps(asyncio.run(main(sys.argv[1:]))))
    else:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            print(json.dumps(runner.run(main(sys.argv[1:]))))
