"""What the tests of several folders share: a store, a toy format, an upstream that says what it is told to."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from typing import Any
from urllib.parse import urljoin

import httpx
import msgspec
import pytest
from pytest_httpx import HTTPXMock
from sanic.touchup.service import TouchUp

from nora.api import (
    Document,
    File,
    Listing,
    ProxyFormat,
    Registry,
    RegistryBlueprint,
    UpstreamInvalid,
    UpstreamRequest,
)
from nora.store.directory import DirectoryStore
from nora.tasks import Tasks
from nora.upstream import client as client_module
from nora.upstream.client import UpstreamClient
from tests.unit.clock import Clock


def _once(rewrite: Callable[[Any], None]) -> Callable[[Any], None]:
    """When an app starts, Sanic rewrites methods of its own from their source, for all apps of the process.

    Doing so again for a second app fails, since the rewritten ones have no source. All our apps are alike, so once is enough.
    """
    done: list[Any] = []

    def run(app: Any) -> None:
        if not done:
            rewrite(app)
            done.append(app)

    return run


TouchUp.run = _once(TouchUp.run)  # type: ignore[method-assign]


class ToyFormat(ProxyFormat):
    """Listings are JSON, the model as it is; a file's address may be relative."""

    name, title = "toy", "Toys"
    api_version = 1

    def routes(self, registry: Registry[Any]) -> RegistryBlueprint:
        return RegistryBlueprint()

    def listing_request(self, upstream_url: str, project: str) -> UpstreamRequest:
        return UpstreamRequest(url=f"{upstream_url}{project}/", headers={"Accept": "application/json"})

    def parse_listing(self, project: str, document: Document) -> Listing:
        try:
            listing = msgspec.json.decode(document.body, type=Listing)
        except msgspec.MsgspecError as error:
            raise UpstreamInvalid(document.url, f"is no listing: {error}") from error
        files = [msgspec.structs.replace(file, url=urljoin(document.url, file.url or file.name)) for file in listing.files]
        return msgspec.structs.replace(listing, files=tuple(files))


class Upstreams:
    """Answers by address. A value is a body, a status, an error to raise, or a function of the request; else 404."""

    def __init__(self) -> None:
        self.answers: dict[str, Any] = {}
        self.requests: list[httpx.Request] = []

    @property
    def asked(self) -> list[str]:
        """The addresses asked so far, in order."""
        return [str(request.url) for request in self.requests]

    def lists(self, base: str, project: str, *files: File, **headers: str) -> None:
        """``base`` has this project with these files from now on."""
        body = msgspec.json.encode(Listing(project=project, files=files))
        self.answers[f"{base}{project}/"] = lambda _: httpx.Response(200, content=body, headers=headers)

    async def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        # As on a real network, an answer takes a few turns of the loop.
        await asyncio.sleep(0.001)
        answer = self.answers.get(str(request.url), 404)
        if isinstance(answer, BaseException):
            raise answer
        if callable(answer):
            answer = answer(request)
            if asyncio.iscoroutine(answer):
                answer = await answer
        if isinstance(answer, int):
            return httpx.Response(answer)
        return httpx.Response(200, content=answer) if isinstance(answer, bytes) else answer


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def store(tmp_path) -> AsyncIterator[DirectoryStore]:
    opened = DirectoryStore.open(tmp_path / "store")
    yield opened
    await opened.aclose()


@pytest.fixture
async def tasks() -> AsyncIterator[Tasks]:
    made = Tasks()
    yield made
    await made.aclose()


@pytest.fixture
def toy_format() -> ToyFormat:
    return ToyFormat()


@pytest.fixture
def upstreams(httpx_mock: HTTPXMock) -> Upstreams:
    made = Upstreams()
    httpx_mock.add_callback(made, is_reusable=True, is_optional=True)
    return made


@pytest.fixture
async def upstream_client(upstreams: Upstreams, monkeypatch) -> AsyncIterator[UpstreamClient]:
    monkeypatch.setattr(client_module, "_RETRY_AFTER_SECONDS", (0, 0))
    made = UpstreamClient(None, "test")
    yield made
    await made.aclose()


@pytest.fixture
def open_files() -> Callable[[], list[str]]:
    """The store's blobs and temporary files that this process has open, by path."""

    def look() -> list[str]:
        found = []
        for name in os.listdir("/proc/self/fd"):
            try:
                target = os.readlink(f"/proc/self/fd/{name}")
            except OSError:
                continue
            if "/store/blobs/" in target or ("/store/tmp/" in target and not target.endswith(".lock")):
                found.append(target)
        return sorted(found)

    return look
