"""Pages: rendered, compressed, remembered."""

from __future__ import annotations

import asyncio
import gc
import gzip
import threading
import time

import pytest

from nora.api import Page
from nora.registry import pages as pages_module
from nora.registry.pages import INLINE_BYTES, MIN_GZIP_BYTES, PageCache, _compressed, render_page


async def rendered(body: bytes, *, in_thread: bool = False, content_type: str = "text/plain") -> Page:
    return await render_page(lambda: body, content_type, vary=("Accept",), max_age_seconds=7, in_thread=in_thread)


@pytest.mark.parametrize("in_thread", [False, True])
async def test_a_page_has_its_body_its_gzip_form_and_a_tag(in_thread, monkeypatch):
    body = b"<a>link</a>\n" * 1000
    page = await rendered(body, in_thread=in_thread)
    assert page.body == body
    compressed = await page.gzip_later()
    assert gzip.decompress(compressed) == body
    assert len(compressed) < len(body) / 10
    assert (page.content_type, page.vary, page.max_age_seconds) == ("text/plain", ("Accept",), 7)
    monkeypatch.setattr(time, "time", lambda: 86400.0)
    again = await rendered(body, in_thread=in_thread)
    # D12: the same bytes on every worker, whenever they were made.
    assert (page.etag, compressed) == (again.etag, await again.gzip_later())


async def test_small_pages_are_not_compressed():
    assert (await rendered(b"x" * (MIN_GZIP_BYTES - 1))).gzip_later is None
    assert (await rendered(b"x" * MIN_GZIP_BYTES)).gzip_later is not None


@pytest.fixture
def compressions(monkeypatch) -> list[threading.Thread]:
    """The thread of each compression so far."""
    seen: list[threading.Thread] = []

    def compress(body: bytes) -> bytes:
        seen.append(threading.current_thread())
        time.sleep(0.02)
        return _compressed(body)

    monkeypatch.setattr(pages_module, "_compressed", compress)
    return seen


@pytest.mark.parametrize(("size", "inline"), [(INLINE_BYTES, True), (INLINE_BYTES + 1, False)])
async def test_a_page_is_compressed_when_it_is_first_wanted_so_and_a_large_one_in_a_thread(compressions, size, inline):
    page = await rendered(b"x" * size)
    assert not compressions
    assert gzip.decompress(await page.gzip_later()) == page.body
    assert [thread is threading.main_thread() for thread in compressions] == [inline]


async def test_a_large_page_is_compressed_once_however_many_wait_and_whoever_leaves(compressions):
    page = await rendered(b"x" * (INLINE_BYTES + 1))
    waiting = [asyncio.create_task(page.gzip_later()) for _ in range(5)]
    await asyncio.sleep(0)
    waiting[0].cancel()
    first, *others = await asyncio.gather(*waiting, return_exceptions=True)
    assert isinstance(first, asyncio.CancelledError)
    assert {gzip.decompress(body) for body in others} == {page.body}
    assert len(compressions) == 1


async def test_a_failed_compression_is_tried_again(monkeypatch):
    outcomes = iter([MemoryError(), b"compressed"])

    def compress(body: bytes) -> bytes:
        outcome = next(outcomes)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    monkeypatch.setattr(pages_module, "_compressed", compress)
    page = await rendered(b"x" * (INLINE_BYTES + 1))
    with pytest.raises(MemoryError):
        await page.gzip_later()
    assert await page.gzip_later() == b"compressed"


# NEG-16, HTTP-9
async def test_other_content_or_another_type_has_another_tag():
    pages = [await rendered(b"a"), await rendered(b"b"), await rendered(b"a", content_type="text/html")]
    assert len({page.etag for page in pages}) == 3


@pytest.mark.parametrize("in_thread", [False, True])
async def test_only_what_is_told_to_renders_in_a_thread(in_thread):
    threads = []

    def render() -> bytes:
        threads.append(threading.current_thread())
        return b"x"

    await render_page(render, "a/b", vary=(), max_age_seconds=0, in_thread=in_thread)
    assert (threads[0] is threading.main_thread()) is not in_thread


@pytest.mark.parametrize("in_thread", [False, True])
async def test_what_rendering_raises_is_passed_on(in_thread):
    def fails() -> bytes:
        raise LookupError("no")

    with pytest.raises(LookupError):
        await render_page(fails, "a/b", vary=(), max_age_seconds=0, in_thread=in_thread)


async def test_a_remembered_page_is_of_one_revision_and_one_key():
    cache, page = PageCache(), await rendered(b"x")
    cache.put(("x", "a/b"), "1", page)
    assert cache.get(("x", "a/b"), "1") is page
    assert cache.get(("x", "a/b"), "2") is None
    assert cache.get(("y", "a/b"), "1") is None
    cache.put(("x", "a/b"), "2", page)
    assert cache.get(("x", "a/b"), "1") is None


async def test_remembered_pages_are_bounded_by_their_bytes():
    cache = PageCache(max_bytes=100_000)
    for number in range(100):
        cache.put(number, "1", Page(bytes(10_000), "a/b", gzip_body=bytes(5_000)))
    assert sum(cache.get(number, "1") is not None for number in range(100)) == 6
    cache.put("huge", "1", Page(bytes(100_001), "a/b"))
    assert cache.get("huge", "1") is None


async def test_room_is_kept_for_what_may_still_be_compressed():
    cache = PageCache(max_bytes=100_000)
    for number in range(100):
        cache.put(number, "1", await rendered(bytes(10_000)))
    assert sum(cache.get(number, "1") is not None for number in range(100)) == 7


@pytest.mark.parametrize("in_thread", [False, True])
async def test_a_page_that_is_made_in_a_thread_is_made_without_collections(in_thread):
    enabled = []

    def render() -> bytes:
        enabled.append(gc.isenabled())
        return b"x"

    await render_page(render, "text/plain", vary=(), max_age_seconds=0, in_thread=in_thread)
    assert (enabled, gc.isenabled()) == ([not in_thread], True)
