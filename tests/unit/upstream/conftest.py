"""Listings of one upstream, with a clock that the test turns; files that come as slowly or badly as the test wants."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from nora.api import ProxyConfig
from nora.upstream.client import Upstream
from nora.upstream.listings import UpstreamListings

BASE = "https://index.example/simple/"


@pytest.fixture
def make_listings(store, tasks, upstream_client, toy_format, clock) -> Callable[..., UpstreamListings]:
    """One more worker's view of the same upstream and the same store."""

    def make(url: str = BASE, **config) -> UpstreamListings:
        return UpstreamListings(
            store=store,
            client=upstream_client,
            tasks=tasks,
            format_=toy_format,
            upstream=Upstream(url),
            position=0,
            registry="r",
            config=ProxyConfig(proxy=url, **config),
            clock=clock,
        )

    return make


class ScriptedAnswer:
    """An upstream's answer to a request for a file.

    ``script`` is what comes, in order: bytes, an event to wait for, or an error to raise.
    """

    def __init__(
        self, *script: Any, status: int = 200, length: int | None = None, headers: dict[str, str] | None = None
    ) -> None:
        self.script, self.status, self.content_length = script, status, length
        self.url, self.headers = "https://files.example/", headers or {}

    async def chunks(self) -> AsyncIterator[bytes]:
        for step in self.script:
            if isinstance(step, BaseException):
                raise step
            if isinstance(step, asyncio.Event):
                await step.wait()
            else:
                yield step
                await asyncio.sleep(0)


class ScriptedFiles:
    """Stands in for :class:`nora.upstream.client.UpstreamClient`: each request gets the next answer."""

    def __init__(self) -> None:
        self.answers: list[Any] = []
        self.asked: list[str] = []
        self.open = 0

    def will(self, *script: Any, **fields: Any) -> None:
        """The next request gets this answer."""
        self.answers.append(ScriptedAnswer(*script, **fields))

    @asynccontextmanager
    async def stream(self, upstream, url, headers, *, timeout_seconds) -> AsyncIterator[ScriptedAnswer]:
        self.asked.append(url)
        answer = self.answers.pop(0)
        await asyncio.sleep(0.001)
        if isinstance(answer, asyncio.Event):  # not even a head
            await answer.wait()
        if isinstance(answer, BaseException):
            raise answer
        self.open += 1
        try:
            yield answer
        finally:
            self.open -= 1


@pytest.fixture
def files() -> ScriptedFiles:
    return ScriptedFiles()
