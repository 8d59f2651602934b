"""Sending something once to an address of the operator's choice."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass

import httpx

from nora.api import UpstreamTimeout
from nora.upstream.address import shown_url
from nora.upstream.failures import translating

READ_BYTES, READ_SECONDS = 4 * 1024, 1.0
"""So much of an answer's body is read, for so long, in the hope that the connection can be used again."""


@dataclass(frozen=True, slots=True)
class Posted:
    """The head of an answer; ``headers`` by lower-case name."""

    status: int
    headers: Mapping[str, str]


async def posted(
    client: httpx.AsyncClient, url: str, headers: Mapping[str, str], body: bytes, timeout_seconds: float
) -> Posted:
    """POST once and follow nothing. The address may be any, since it is none that an upstream has named.

    Args:
        timeout_seconds: For everything up to the head of the answer.

    Raises:
        UpstreamUnavailable: no connection, or it broke.
        UpstreamTimeout: no answer in time.
        UpstreamInvalid: an answer that is no HTTP.
    """
    sent = {**headers, "Accept-Encoding": "identity"}
    try:
        async with asyncio.timeout(timeout_seconds):
            with translating(url):
                request = client.build_request(
                    "POST", url, headers=sent, content=body, timeout=timeout_seconds, extensions={"networks": None}
                )
                response = await client.send(request, stream=True)
    except TimeoutError as error:
        raise UpstreamTimeout(shown_url(url), f"did not answer within {timeout_seconds:g} seconds") from error
    try:
        await _read_a_little(response)
        return Posted(response.status_code, {name.lower(): value for name, value in response.headers.items()})
    finally:
        await response.aclose()


async def _read_a_little(response: httpx.Response) -> None:
    received = 0
    with suppress(httpx.HTTPError, TimeoutError):
        async with asyncio.timeout(READ_SECONDS):
            async for piece in response.aiter_raw(READ_BYTES):
                received += len(piece)
                if received >= READ_BYTES:
                    return
