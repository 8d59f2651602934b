"""Which proxied files are noted as used, and which hosted ones never are."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Generator
from typing import Any

import pytest

from nora.api import File, Part, Read, Sidecar, SidecarReader
from nora.registry.registry import HostRegistry
from nora.store.protocol import blob_key
from nora.upstream.used import UsedFiles

A = "https://a.example/"


class Tail(SidecarReader):
    suffix = ".meta"

    def applies(self, file: File) -> bool:
        return file.name.endswith(".w")

    def read(self, project: str, file: File, *, held: bool) -> Generator[Read, Part, bytes]:
        part = yield Read(-4, 4)
        return part.data


@pytest.fixture
def registry(world: Any) -> HostRegistry:
    world.readers = (Tail(),)
    made: HostRegistry = world.registry(A, merge_upstream=("*",))
    made._files._used = UsedFiles(world.store, world.tasks, "main")
    return made


async def noted(world: Any) -> set[str]:
    while world.tasks._running:
        await asyncio.sleep(0.001)
    return {path.parent.name + path.name for path in (world.store.root / "used/main").glob("*/*")}


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


async def test_a_file_is_noted_when_it_is_fetched_and_when_it_is_sent(world, registry, read):
    world.upstreams.lists(A, "x", world.upstream_file(A, "x-1", b"data"))
    assert await read(await registry.open("x", "x-1")) == b"data"
    assert await noted(world) == {digest(b"data")}
    path = world.store.root / "used/main" / digest(b"data")[:2] / digest(b"data")[2:]
    path.unlink()
    other = world.registry(A)  # after a restart
    other._files._used = UsedFiles(world.store, world.tasks, "main")
    assert await read(await other.open("x", "x-1")) == b"data"
    assert await noted(world) == {digest(b"data")}


async def test_a_file_that_was_evicted_is_fetched_and_noted_again(world, registry, read):
    world.upstreams.lists(A, "x", world.upstream_file(A, "x-1", b"data"))
    await read(await registry.open("x", "x-1"))
    await noted(world)
    for path in (world.store.root / blob_key(digest(b"data")), *(world.store.root / "used/main").glob("*/*")):
        path.unlink()
    assert await read(await registry.open("x", "x-1")) == b"data"
    assert await noted(world) == {digest(b"data")}
    assert world.upstreams.asked.count(f"{A}files/x-1") == 2


async def test_sidecars_are_noted_whether_they_were_fetched_or_read_out_of_their_file(world, registry, read):
    world.upstreams.answers[f"{A}files/x-1.sig"] = b"signature"
    file = world.upstream_file(A, "x-1.w", b"data with tail")
    signature = Sidecar(url=f"{A}files/x-1.sig", digests={"sha256": digest(b"signature")})
    world.upstreams.lists(
        A, "x", File(name=file.name, url=file.url, digests=file.digests, size=file.size, sidecars={".sig": signature})
    )
    assert await read(await registry.open("x", "x-1.w", sidecar=".sig")) == b"signature"
    assert await noted(world) == {digest(b"signature")}
    assert await read(await registry.open("x", "x-1.w", sidecar=".meta")) == b"tail"
    assert await noted(world) == {digest(b"signature"), digest(b"tail"), digest(b"data with tail")}


async def test_a_file_without_an_announced_sha256_is_noted_by_its_own(world, registry, read):
    world.upstreams.lists(A, "x", world.upstream_file(A, "x-1", b"data", digest="md5"))
    assert await read(await registry.open("x", "x-1")) == b"data"
    assert await noted(world) == {digest(b"data")}


async def test_hosted_files_are_never_noted(world, registry, read):
    await world.publish(registry, "x", "x-1", b"ours", sidecars={".meta": b"m"})
    await read(await registry.open("x", "x-1"))
    await read(await registry.open("x", "x-1", sidecar=".meta"))
    assert await noted(world) == set()
