"""Sidecars that no upstream serves: read out of their files, kept, and compared when the file itself arrives."""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Generator
from typing import Any

import httpx
import pytest

from nora.api import File, Invalid, NotFound, Part, Read, Sidecar, SidecarReader, UpstreamUnavailable

A = "https://a.example/"
WHEEL = b"#" * 500 + b"meta:inside"


class TailReader(SidecarReader):
    """Whatever follows "meta:" in the last bytes of a file."""

    suffix = ".meta"

    def applies(self, file: File) -> bool:
        return file.name.endswith(".w")

    def read(self, project: str, file: File, *, held: bool) -> Generator[Read, Part, bytes]:
        part = yield Read(-20, 20)
        _, mark, content = part.data.partition(b"meta:")
        if not mark:
            raise Invalid("the file has no mark")
        return content


class Server:
    """Serves one file, whole or in parts, and counts."""

    def __init__(self, body: bytes, *, ranges: bool = True) -> None:
        self.body, self.ranges = body, ranges
        self.parts = self.wholes = 0

    def __call__(self, request: httpx.Request) -> httpx.Response:
        wanted = request.headers.get("range")
        if wanted is None or not self.ranges:
            self.wholes += wanted is None
            return httpx.Response(200, content=self.body)
        self.parts += 1
        start = len(self.body) - 20
        return httpx.Response(
            206, content=self.body[start:], headers={"content-range": f"bytes {start}-{len(self.body) - 1}/{len(self.body)}"}
        )


@pytest.fixture
def serve(world: Any) -> Any:
    world.readers = (TailReader(),)

    def make(body: bytes = WHEEL, *, sidecars: dict[str, Sidecar] | None = None, digests: Any = None, **fields: Any) -> Server:
        server = Server(body, **fields)
        file = File(
            name="x-1.w",
            url=f"{A}files/x-1.w",
            size=len(body),
            digests={"sha256": hashlib.sha256(body).hexdigest()} if digests is None else digests,
            sidecars=sidecars or {},
        )
        world.upstreams.lists(A, "x", file)
        world.upstreams.answers[f"{A}files/x-1.w"] = server
        return server

    return make


async def sidecar(registry: Any) -> Sidecar | None:
    found: Sidecar | None = (await registry.listing("x")).by_name["x-1.w"].sidecars.get(".meta")
    return found


async def settled(world: Any) -> None:
    """Downloads go on after their readers have everything."""
    for _ in range(200):
        if not world.tasks._running:
            return
        await asyncio.sleep(0.01)


# META-7
async def test_a_sidecar_is_announced_made_from_a_part_and_kept_for_good(world, serve, read):
    server = serve()
    registry = world.registry(A)
    assert await sidecar(registry) == Sidecar(derived=True)
    before = (await registry.listing("x")).revision
    assert await read(await registry.open("x", "x-1.w", sidecar=".meta")) == b"inside"
    assert (server.parts, server.wholes) == (1, 0)
    known = Sidecar(digests={"sha256": hashlib.sha256(b"inside").hexdigest()}, size=6, derived=True)
    for worker in (registry, world.registry(A)):
        assert await sidecar(worker) == known  # META-4
        assert (await worker.listing("x")).revision != before
        content = await worker.open("x", "x-1.w", sidecar=".meta")
        assert content.etag == known.digests["sha256"]
        assert await read(content) == b"inside"
    assert (server.parts, server.wholes) == (1, 0)


async def test_fifty_clients_at_once_cost_one_reading(world, serve, read):
    server = serve()
    registry = world.registry(A)
    contents = [await registry.open("x", "x-1.w", sidecar=".meta") for _ in range(50)]
    assert set(await asyncio.gather(*map(read, contents))) == {b"inside"}
    assert server.parts == 1


async def test_a_client_that_goes_away_does_not_end_the_reading_for_others(world, serve, read):
    serve()
    registry = world.registry(A)
    first = asyncio.create_task(read(await registry.open("x", "x-1.w", sidecar=".meta")))
    second = asyncio.create_task(read(await registry.open("x", "x-1.w", sidecar=".meta")))
    await asyncio.sleep(0)
    first.cancel()
    assert await second == b"inside"


async def test_without_ranges_the_whole_file_is_fetched_verified_and_kept(world, serve, read):
    server = serve(ranges=False)
    registry = world.registry(A)
    assert await read(await registry.open("x", "x-1.w", sidecar=".meta")) == b"inside"
    await settled(world)
    assert server.wholes == 1
    assert await read(await registry.open("x", "x-1.w")) == WHEEL
    assert server.wholes == 1


async def test_without_ranges_a_wrong_file_gives_no_sidecar(world, serve, read):
    server = serve(ranges=False)
    server.body = WHEEL[:-1] + b"!"
    registry = world.registry(A)
    with pytest.raises(Exception, match="sha256 is"):
        await read(await registry.open("x", "x-1.w", sidecar=".meta"))
    assert await sidecar(registry) == Sidecar(derived=True)


async def test_of_a_held_file_the_upstream_is_not_asked(world, serve, read):
    server = serve()
    registry = world.registry(A)
    assert await read(await registry.open("x", "x-1.w")) == WHEEL
    await settled(world)
    # Found out when it arrived, so that the page can say so.
    assert (await sidecar(registry)).size == 6
    assert await read(await registry.open("x", "x-1.w", sidecar=".meta")) == b"inside"
    assert (server.parts, server.wholes) == (0, 1)


# META-12
async def test_a_file_without_the_content_is_not_found_and_no_longer_announced(world, serve, read):
    server = serve(b"#" * 500)
    registry = world.registry(A)
    with pytest.raises(NotFound):
        await read(await registry.open("x", "x-1.w", sidecar=".meta"))
    for worker in (registry, world.registry(A)):
        assert await sidecar(worker) is None
        with pytest.raises(NotFound):
            await worker.open("x", "x-1.w", sidecar=".meta")
    assert server.parts == 1


async def test_an_upstream_that_fails_is_no_finding(world, serve, read):
    server = serve()
    world.upstreams.answers[f"{A}files/x-1.w"] = 503
    registry = world.registry(A)
    with pytest.raises(UpstreamUnavailable):
        await read(await registry.open("x", "x-1.w", sidecar=".meta"))
    world.upstreams.answers[f"{A}files/x-1.w"] = server
    assert await read(await registry.open("x", "x-1.w", sidecar=".meta")) == b"inside"


@pytest.mark.parametrize("digests", [None, {}])
async def test_when_the_file_arrives_and_differs_its_own_bytes_win(world, serve, read, caplog, digests):
    server = serve(digests=digests)
    server.body = WHEEL.replace(b"inside", b"forged")
    registry = world.registry(A)
    assert await read(await registry.open("x", "x-1.w", sidecar=".meta")) == b"forged"
    server.body = WHEEL
    assert await read(await registry.open("x", "x-1.w")) == WHEEL
    with caplog.at_level(logging.ERROR):
        await settled(world)
    assert "differs from what its file has inside" in caplog.text
    for worker in (registry, world.registry(A)):
        assert (await sidecar(worker)).digests == {"sha256": hashlib.sha256(b"inside").hexdigest()}
        assert await read(await worker.open("x", "x-1.w", sidecar=".meta")) == b"inside"


async def test_a_wrong_announcement_of_the_upstream_is_overruled_too(world, serve, read):
    announced = Sidecar(url=f"{A}files/x-1.w.meta", digests={"sha256": hashlib.sha256(b"forged").hexdigest()})
    serve(sidecars={".meta": announced})
    world.upstreams.answers[f"{A}files/x-1.w.meta"] = b"forged"
    registry = world.registry(A)
    # META-9: what the upstream offers is taken.
    assert await read(await registry.open("x", "x-1.w", sidecar=".meta")) == b"forged"
    await read(await registry.open("x", "x-1.w"))
    await settled(world)
    assert await read(await registry.open("x", "x-1.w", sidecar=".meta")) == b"inside"


async def test_a_right_announcement_of_the_upstream_stays_as_it_is(world, serve, read):
    announced = Sidecar(url=f"{A}files/x-1.w.meta", digests={"sha256": hashlib.sha256(b"inside").hexdigest()})
    serve(sidecars={".meta": announced})
    registry = world.registry(A)
    await read(await registry.open("x", "x-1.w"))
    await settled(world)
    assert await sidecar(registry) == announced


async def test_what_we_cannot_read_is_no_reason_to_withdraw_an_announcement(world, serve, read, caplog):
    # META-9: the upstream's tools may read what ours refuse, so its word stays.
    announced = Sidecar(url=f"{A}files/x-1.w.meta", digests={"sha256": hashlib.sha256(b"inside").hexdigest()})
    serve(b"#" * 500, sidecars={".meta": announced})
    world.upstreams.answers[f"{A}files/x-1.w.meta"] = b"inside"
    registry = world.registry(A)
    with caplog.at_level(logging.ERROR):
        await read(await registry.open("x", "x-1.w"))
        await settled(world)
    assert caplog.text == ""
    for worker in (registry, world.registry(A)):
        assert await sidecar(worker) == announced
        assert await read(await worker.open("x", "x-1.w", sidecar=".meta")) == b"inside"


async def test_a_replaced_file_is_read_anew(world, serve, read):
    serve()
    registry = world.registry(A, metadata_ttl=0)
    assert await read(await registry.open("x", "x-1.w", sidecar=".meta")) == b"inside"
    serve(WHEEL.replace(b"inside", b"second"))
    assert await sidecar(registry) == Sidecar(derived=True)
    assert await read(await registry.open("x", "x-1.w", sidecar=".meta")) == b"second"


async def test_an_announced_sidecar_without_digest_belongs_to_the_file_that_was_announced_then(world, serve, read):
    # META-8: other metadata of a replaced file is no mismatch, and the old one is not served for it.
    serve(sidecars={".meta": Sidecar(url=f"{A}files/x-1.w.meta")})
    world.upstreams.answers[f"{A}files/x-1.w.meta"] = b"inside"
    registry = world.registry(A, metadata_ttl=0)
    assert await read(await registry.open("x", "x-1.w", sidecar=".meta")) == b"inside"
    serve(WHEEL.replace(b"inside", b"second"), sidecars={".meta": Sidecar(url=f"{A}files/x-1.w.meta")})
    world.upstreams.answers[f"{A}files/x-1.w.meta"] = b"second"
    assert await read(await registry.open("x", "x-1.w", sidecar=".meta")) == b"second"


async def test_other_files_have_no_such_sidecar(world, serve):
    world.upstreams.lists(A, "y", File(name="y-1.txt", url=f"{A}files/y-1.txt"))
    world.readers = (TailReader(),)
    registry = world.registry(A)
    assert (await registry.listing("y")).files[0].sidecars == {}
    with pytest.raises(NotFound):
        await registry.open("y", "y-1.txt", sidecar=".meta")


# JSON-9
async def test_files_without_a_time_get_that_of_their_first_sight_for_good(world):
    def lists(*names: str) -> None:
        files = [File(name=name, url=f"{A}files/{name}") for name in names]
        dated = File(name="dated", url=f"{A}files/dated", published="2020-01-01T00:00:00Z")
        world.upstreams.lists(A, "x", *files, dated)

    async def times(worker: Any) -> dict[str, Any]:
        return {file.name: (file.published, file.extra) for file in (await worker.listing("x")).files}

    lists("x-1", "x-2")
    registry = world.registry(A, metadata_ttl=0)
    first = await times(registry)
    assert first["x-1"] == first["x-2"] == ("2027-01-15T08:00:00.000000Z", {"_upload-time": "first-seen"})
    assert first["dated"] == ("2020-01-01T00:00:00Z", {})
    world.clock.turn(3600)
    assert await times(registry) == first
    lists("x-0", "x-2", "x-3")
    second = await times(registry)
    assert second["x-2"] == first["x-2"]
    assert second["x-0"][0] == second["x-3"][0] == "2027-01-15T09:00:00.000000Z"
    world.clock.turn(3600)
    lists("x-0", "x-2", "x-3", "x-4")
    for worker in (world.registry(A, metadata_ttl=0), registry):
        third = await times(worker)
        assert {name: third[name] for name in second} == second
        assert third["x-4"][0] == "2027-01-15T10:00:00.000000Z"


async def test_the_serial_of_a_proxied_project_is_the_time_of_its_last_change(world):
    # API-7
    world.upstreams.lists(A, "x", File(name="x-1", url=f"{A}files/x-1"))
    registry = world.registry(A, metadata_ttl=0)
    first = (await registry.listing("x")).serial
    assert first == 1_800_000_000
    world.clock.turn(100)
    assert (await registry.listing("x")).serial == first
    world.upstreams.lists(A, "x", File(name="x-2", url=f"{A}files/x-2"))
    assert (await registry.listing("x")).serial == first + 100
