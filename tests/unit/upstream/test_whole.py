"""Documents that are collected, and how many at once."""

from __future__ import annotations

import asyncio
import gzip
import threading
import tracemalloc
import zlib
from collections.abc import AsyncIterator

import pytest

from nora.upstream import whole
from nora.upstream.encoding import UndecodableBody
from nora.upstream.whole import DECODERS, LARGE_AT_ONCE, LARGE_BYTES, WholeBodies

LIMIT = 8 * LARGE_BYTES


async def pieces(*parts: bytes) -> AsyncIterator[bytes]:
    for part in parts:
        yield part


async def test_bodies_come_whole_and_decoded() -> None:
    bodies, text = WholeBodies(), b"text" * 500_000
    assert await bodies.collect("a", pieces(b"te", b"xt"), "", LIMIT) == b"text"
    assert await bodies.collect("a", pieces(text), "", LIMIT) == text
    packed = gzip.compress(text)
    assert await bodies.collect("a", pieces(packed[:9], packed[9:]), "gzip", LIMIT) == text
    with pytest.raises(UndecodableBody):
        await bodies.collect("a", pieces(b"text"), "gzip", LIMIT)


async def test_a_body_in_tiny_pieces_takes_little_more_than_itself() -> None:
    body = bytes(range(256)) * 1000

    async def tiny() -> AsyncIterator[bytes]:
        for start in range(0, len(body), 2):
            yield body[start : start + 2]

    tracemalloc.start()
    try:
        assert await WholeBodies().collect("a", tiny(), "", LIMIT) == body
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 4 * len(body)


@pytest.mark.parametrize("size", [LIMIT + 1, 3 * LIMIT])
async def test_what_is_too_large_is_refused_and_gives_its_turn_back(size: int) -> None:
    bodies = WholeBodies()
    for _ in range(LARGE_AT_ONCE + 1):
        with pytest.raises(OverflowError):
            await bodies.collect("a", pieces(*[bytes(LARGE_BYTES)] * (size // LARGE_BYTES), b"x"), "", LIMIT)
        with pytest.raises(OverflowError):
            await bodies.collect("a", pieces(zlib.compress(bytes(64 * LARGE_BYTES))), "deflate", LIMIT)
    assert await bodies.collect("a", pieces(bytes(2 * LARGE_BYTES)), "", LIMIT) == bytes(2 * LARGE_BYTES)


async def test_only_some_large_bodies_are_collected_at_once_of_each_upstream() -> None:
    # CWE-409, CWE-770
    bodies, gate = WholeBodies(), asyncio.Event()
    begun: list[str] = []

    async def large(whose: str) -> AsyncIterator[bytes]:
        yield bytes(LARGE_BYTES + 1)
        begun.append(whose)
        await gate.wait()
        yield b"end"

    waiting = [asyncio.create_task(bodies.collect(whose, large(whose), "", LIMIT)) for whose in "aaaaabb"]
    # Small ones of the same upstream wait for nobody.
    assert await bodies.collect("a", pieces(b"small"), "", LIMIT) == b"small"
    for _ in range(10):
        await asyncio.sleep(0)
    assert sorted(begun) == ["a"] * LARGE_AT_ONCE + ["b"] * 2
    waiting[0].cancel()
    for _ in range(10):
        await asyncio.sleep(0)
    assert begun.count("a") == LARGE_AT_ONCE + 1
    gate.set()
    done = await asyncio.gather(*waiting, return_exceptions=True)
    assert isinstance(done[0], asyncio.CancelledError)
    assert all(len(body) == LARGE_BYTES + 4 for body in done[1:] if isinstance(body, bytes))


async def test_bombs_go_off_in_few_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    # A few kilobytes each, so that only decoding tells; what is counted is how many are decoded at the same time.
    running, most, lock = 0, 0, threading.Lock()
    original = whole.decoded

    def counted(raw: bytes, encoding: str, max_bytes: int) -> bytes:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        try:
            return original(raw, encoding, max_bytes)
        finally:
            with lock:
                running -= 1

    monkeypatch.setattr(whole, "decoded", counted)
    bodies, bomb = WholeBodies(), zlib.compress(bytes(32 * LARGE_BYTES), 9)
    assert whole.INLINE_DECODE_BYTES < len(bomb) < LARGE_BYTES
    done = await asyncio.gather(
        *(bodies.collect("a", pieces(bomb), "deflate", LIMIT) for _ in range(12)), return_exceptions=True
    )
    assert [type(error) for error in done] == [OverflowError] * 12
    assert most <= DECODERS
