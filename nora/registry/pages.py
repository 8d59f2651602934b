"""Pages rendered once per change and representation."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import Callable, Hashable, Mapping

from nora.api import Page
from nora.lru import BoundedCache

MIN_GZIP_BYTES = 1024
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
        self._pages.put(key, (revision, page), weight=len(page.body) + len(page.gzip_body or b"") + 512)


async def render_page(
    render: Callable[[], bytes],
    content_type: str,
    *,
    vary: tuple[str, ...],
    max_age_seconds: int,
    in_thread: bool,
    headers: Mapping[str, str] | None = None,
) -> Page:
    """Render and compress; off the event loop when that takes more than a few milliseconds."""

    def make() -> Page:
        body = render()
        compressed = gzip.compress(body, GZIP_LEVEL, mtime=0) if len(body) >= MIN_GZIP_BYTES else None
        return Page(body, content_type, vary=vary, max_age_seconds=max_age_seconds, gzip_body=compressed, headers=headers or {})

    return await asyncio.to_thread(make) if in_thread else make()
