"""Pages rendered once per change and representation."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import Awaitable, Callable, Hashable, Mapping
from dataclasses import dataclass, field

from nora.api import Page
from nora.lru import BoundedCache
from nora.tasks import SingleFlight
from nora.upstream.pause import without_collection

MIN_GZIP_BYTES = 1024
INLINE_BYTES = 64 * 1024
"""Bodies up to this length are compressed on the event loop: a millisecond."""
PAGE_MAX_AGE_SECONDS = 0
"""Clients ask each time and get a 304: an upload must be seen at once."""
GZIP_LEVEL = 3  # Three quarters of level 9's gain for a quarter of its time.


class PageCache:
    """The rendered pages of one registry, within a total of ``max_bytes``."""

    def __init__(self, max_bytes: int = 32 * 1024 * 1024) -> None:
        self._pages: BoundedCache[Hashable, tuple[str, Page]] = BoundedCache(max_bytes)

    def get(self, key: Hashable, revision: str) -> Page | None:
        """The page, if it was made of this revision."""
        cached = self._pages.get(key)
        return cached[1] if cached is not None and cached[0] == revision else None

    def put(self, key: Hashable, revision: str, page: Page) -> None:
        """Remember."""
        # What may still be compressed counts from now on, with more than pages usually come to.
        compressed = len(page.gzip_body) if page.gzip_body is not None else len(page.body) // 4 if page.gzip_later else 0
        self._pages.put(key, (revision, page), weight=len(page.body) + compressed + 512)


@dataclass(frozen=True, slots=True)
class Rendering:
    """How a page is made: what gives its body, of which revision, and whether that takes long enough for a thread."""

    render: Callable[[], bytes]
    revision: str
    in_thread: bool
    headers: Mapping[str, str] = field(default_factory=dict)


class Pages:
    """Makes the pages of one registry, each once per revision however many wait for it."""

    def __init__(self, registry: str, flights: SingleFlight) -> None:
        self._registry, self._flights = registry, flights
        self._cache = PageCache()

    async def page(
        self,
        key: tuple[str, ...],
        revision: str,
        content_type: str,
        vary: tuple[str, ...],
        make: Callable[[], Awaitable[Rendering]],
    ) -> Page:
        """The page of this key and revision; ``make`` is asked if there is none yet."""
        if (known := self._cache.get(key, revision)) is not None:
            return known

        async def made() -> Page:
            rendering = await make()
            page = await render_page(
                rendering.render,
                content_type,
                vary=vary,
                max_age_seconds=PAGE_MAX_AGE_SECONDS,
                in_thread=rendering.in_thread,
                headers=rendering.headers,
            )
            self._cache.put(key, rendering.revision, page)
            return page

        return await self._flights.run(("page", self._registry, key, revision), made)

    def held(self, key: tuple[str, ...], revision: str) -> Page | None:
        """The page of this key and revision if it is there already."""
        return self._cache.get(key, revision)


class Compression:
    """The gzip form of a page, made when it is first asked for, and once however many ask meanwhile.

    A page that goes out as it is need not wait for it, and many are never asked for in the other form.
    """

    def __init__(self, body: bytes) -> None:
        self._body = body
        self._made: asyncio.Future[bytes] | None = None

    async def __call__(self) -> bytes:
        """The compressed body: the same bytes whenever it is made."""
        if len(self._body) <= INLINE_BYTES:
            return _compressed(self._body)
        if self._made is None:
            self._made = asyncio.get_running_loop().run_in_executor(None, _compressed, self._body)
        try:
            # A client that leaves must not take it from the others.
            return await asyncio.shield(self._made)
        except Exception:
            self._made = None
            raise


def _compressed(body: bytes) -> bytes:
    return gzip.compress(body, GZIP_LEVEL, mtime=0)


async def render_page(
    render: Callable[[], bytes],
    content_type: str,
    *,
    vary: tuple[str, ...],
    max_age_seconds: int,
    in_thread: bool,
    headers: Mapping[str, str] | None = None,
) -> Page:
    """Render; off the event loop when that takes more than a few milliseconds."""

    def make() -> Page:
        body = render()
        later = Compression(body) if len(body) >= MIN_GZIP_BYTES else None
        return Page(body, content_type, vary=vary, max_age_seconds=max_age_seconds, gzip_later=later, headers=headers or {})

    def make_large() -> Page:
        with without_collection():
            return make()

    return await asyncio.to_thread(make_large) if in_thread else make()
