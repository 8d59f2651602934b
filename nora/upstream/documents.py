"""What one upstream says: cached, revalidated, shared among waiting clients, kept for when the upstream fails."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Generic, ParamSpec, TypeVar, assert_never

import msgspec

from nora.api import Document, NoraError, NotFound, ProxyConfig, UpstreamError, UpstreamInvalid, UpstreamRequest
from nora.lru import BoundedCache
from nora.store.protocol import MAX_SEGMENT_BYTES, Store, segment
from nora.tasks import SingleFlight, Tasks
from nora.upstream.client import Upstream, UpstreamClient, UpstreamResponse, check_status, let_go, shown_url
from nora.upstream.freshness import Fresh, Miss, Revalidate, judge, negative_ttl
from nora.upstream.pause import without_collection
from nora.upstream.stored import Head, decode, encode
from nora.upstream.writes import Writes

log = logging.getLogger(__name__)

STALE_WAIT_SECONDS = 5.0
"""How long a client that could have a stale page waits for a fresh one; the refresh goes on. pip gives up after 15 s."""
OUTAGE_SECONDS = 15.0
"""After a failure, stale pages are served for this long without asking."""
INLINE_PARSE_BYTES = 128 * 1024
"""Documents shorter than this are read on the event loop: a millisecond or two."""
MAX_HEADS = 20_000
LET_GO_SECONDS = 0.2
"""What is pushed out of memory is kept for so long, so that nobody waits while it is taken apart."""

T = TypeVar("T")
R = TypeVar("R")
P = ParamSpec("P")


class UpstreamDocuments(ABC, Generic[T]):
    """One kind of document of one upstream, for one registry, by name; ``T`` is what they are parsed to.

    What is held belongs to the upstream's place in the configuration, not to its address: when the operator changes the address,
    what the old one said is no longer fresh, but still there in case that the new one fails.

    ``kind`` is the name of the folder that holds them; ``max_weight`` bounds the parsed ones in memory, see :meth:`weigh`.
    """

    def __init__(
        self,
        *,
        kind: str,
        store: Store,
        client: UpstreamClient,
        tasks: Tasks,
        upstream: Upstream,
        registry: str,
        position: int,
        config: ProxyConfig,
        max_weight: int,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.upstream = upstream
        self._store, self._client = store, client
        self._config, self._clock = config, clock
        self.prefix = f"cache/{segment(registry)}/{position}"
        self.documents_prefix = f"{self.prefix}/{kind}"
        self._heads: BoundedCache[str, Head] = BoundedCache(MAX_HEADS)
        self._parsed: BoundedCache[str, tuple[str, T]] = BoundedCache(max_weight)
        self._absent_until: BoundedCache[str, float] = BoundedCache(MAX_HEADS)
        self._flights = SingleFlight(tasks)
        self._writes = Writes(store, tasks)
        self._down_until = 0.0
        self.watcher: Callable[[str, bool], None] = lambda name, held: None
        """Called with each name of which this process has stored an answer, or removed it (then with ``False``)."""

    @abstractmethod
    def request(self, name: str) -> UpstreamRequest | None:
        """How to ask for the document; ``None`` if this upstream can have none."""

    @abstractmethod
    def parse(self, name: str, document: Document) -> T:
        """Read an answer. Called in a thread when it is large.

        Raises:
            UpstreamInvalid: it is no such document.
        """

    @abstractmethod
    def weigh(self, value: T) -> int:
        """How much of the memory for parsed documents one takes; at least 1."""

    async def head(self, project: str) -> Head | None:
        """What the upstream says of a project, as fresh as the configuration asks; ``None`` if it does not know it.

        Raises:
            UpstreamError: it failed, and nothing is held.
        """
        if len(segment(project)) > MAX_SEGMENT_BYTES:
            return None
        now = self._clock()
        known = self._heads.get(project)
        if known is not None and isinstance(self._judge(known, now), Fresh):
            return known
        if known is None:
            if self._is_absent(project, now):
                return None
            # After a restart, or in a worker that has not served the project yet.
            known = await self._flights.run(("held", project), lambda: self._held(project))
        refresh = self._flights.start(("refresh", project), lambda: self._refresh(project))
        if known is None:
            return await asyncio.shield(refresh)
        done, _ = await asyncio.wait([refresh], timeout=STALE_WAIT_SECONDS)
        return refresh.result() if done else known

    async def value(self, project: str, head: Head) -> tuple[Head, T]:
        """What an answer says, and the head that it was made from: a newer one if the answer has changed since.

        Raises:
            NotFound: the stored answer is gone, and the upstream does not know the project any more.
            UpstreamError: the stored answer is gone, and the upstream failed.
        """
        parsed = self._parsed.get(project)
        if parsed is not None and parsed[0] == head.revision:
            return head, parsed[1]
        current = await self._stored_value(project)
        if current is None:
            # Removed or damaged behind our back: as if it had never been held.
            self._heads.discard(project)
            asked = await self._ask(project, None)
            if asked is None:
                raise NotFound("project", project)
            refreshed, value = asked
            return (refreshed, value) if value is not None else await self.value(project, refreshed)
        self._remember(project, *current)
        return current

    async def held_value(self, project: str, head: Head) -> T | None:
        """What an earlier answer said, if that can still be told without asking the upstream."""
        parsed = self._parsed.get(project)
        if parsed is not None and parsed[0] == head.revision:
            return parsed[1]
        try:
            stored = await self._stored_value(project)
        except UpstreamInvalid:
            return None
        return stored[1] if stored is not None else None

    async def knows(self, project: str) -> bool:
        """Whether an answer of this very upstream is held, of whatever age."""
        head = self._heads.get(project) or await self._held(project)
        return head is not None and head.upstream == self.upstream.url

    def _key(self, project: str) -> str:
        return f"{self.documents_prefix}/{segment(project)}"

    def _judge(self, head: Head | None, now: float) -> Fresh | Revalidate | Miss:
        if head is not None and head.upstream != self.upstream.url:
            return Revalidate()
        validated_at = head.validated_at if head else None
        return judge(validated_at=validated_at, now=now, ttl_seconds=self._config.metadata_ttl)

    def _is_absent(self, project: str, now: float) -> bool:
        until = self._absent_until.get(project)
        # A clock that was set back must not make an absence last longer.
        return until is not None and 0 < until - now <= negative_ttl(self._config.metadata_ttl)

    async def _held(self, project: str) -> Head | None:
        if len(segment(project)) > MAX_SEGMENT_BYTES:
            return None
        stored = await self._stored(project)
        return stored[0] if stored else None

    async def _stored(self, project: str) -> tuple[Head, bytes] | None:
        await self._writes.settled(self._key(project))
        data = await self._store.get(self._key(project))
        if data is None:
            return None
        return decode(data) if len(data) < INLINE_PARSE_BYTES else await asyncio.to_thread(decode, data)

    async def _stored_value(self, project: str) -> tuple[Head, T] | None:
        stored = await self._stored(project)
        if stored is None:
            return None
        head, body = stored
        document = Document(url=head.url, content_type=head.content_type, body=body)
        return head, await self._off_loop(document, self._parsed_now, project, document)

    async def _refresh(self, project: str) -> Head | None:
        # Another worker may have asked meanwhile, so the disk is looked at first.
        held = await self._held(project)
        now = self._clock()
        verdict = self._judge(held, now)
        match verdict:
            case Fresh():
                assert held is not None
                self._heads.put(project, held)
                return held
            # A clock that was set back must not make an outage last longer.
            case Revalidate() if 0 < self._down_until - now <= OUTAGE_SECONDS:
                assert held is not None
                return held
            case Revalidate() | Miss():
                pass
            case _:
                assert_never(verdict)
        try:
            asked = await self._ask(project, held)
            return asked[0] if asked is not None else None
        except UpstreamError as error:
            let_go(error)
            if held is None:
                log.warning("upstream failed", extra={"project": project, "error": str(error)})
                raise
            self._down_until = self._clock() + OUTAGE_SECONDS
            self._heads.put(project, held)
            log.warning("upstream failed, serving a stale listing", extra={"project": project, "error": str(error)})
            return held

    async def _ask(self, project: str, held: Head | None) -> tuple[Head, T | None] | None:
        """What the upstream says now, parsed if it said anything new; ``None`` if it does not know the project."""
        request = self.request(project)
        if request is None:
            return await self._absent(project, held)
        headers = dict(request.headers)
        if held is not None and not held.withdrawn and held.upstream == self.upstream.url:
            if held.etag:
                headers["If-None-Match"] = held.etag
            if held.last_modified:
                headers["If-Modified-Since"] = held.last_modified
        response = await self._client.get_document(
            self.upstream, request.url, headers, timeout_seconds=self._config.proxy_timeout
        )
        if response.status in (404, 410):
            return await self._absent(project, held)
        if response.status == 304 and held is not None:
            return await self._validated(project, held)
        check_status(response.status, response.url, response.headers)
        return await self._answered(project, held, response)

    async def _answered(self, project: str, held: Head | None, response: UpstreamResponse) -> tuple[Head, T]:
        content_type = response.headers.get("content-type", "")
        document = Document(url=response.url, content_type=content_type, body=response.body)
        # Parsed before it is kept: what is no such document must not replace one.
        value, digest = await self._off_loop(document, self._parsed_with_digest, project, document)
        now = self._clock()
        head = Head(
            upstream=self.upstream.url,
            url=response.url,
            content_type=content_type,
            digest=digest,
            validated_at=now,
            changed_at=held.changed_at if held is not None and held.digest == digest else now,
            etag=response.headers.get("etag", ""),
            last_modified=response.headers.get("last-modified", ""),
        )
        head = await self.observed(project, held, head, value)
        await self._keep(project, head, response.body)
        self._remember(project, head, value)
        self._down_until = 0.0
        return head, value

    async def observed(self, project: str, held: Head | None, head: Head, value: T) -> Head:
        """The head of a new answer with what is to be remembered besides; ``held`` is that of the one before."""
        return head

    async def _validated(self, project: str, held: Head) -> tuple[Head, T | None] | None:
        stored = await self._stored(project)
        if stored is None or stored[0].digest != held.digest:
            return await self._ask(project, None)
        head = msgspec.structs.replace(held, validated_at=self._clock())
        await self._keep(project, head, stored[1])
        self._heads.put(project, head)
        self._down_until = 0.0
        return head, None

    async def _absent(self, project: str, held: Head | None) -> tuple[Head, None] | None:
        ours = held is not None and held.upstream == self.upstream.url
        if ours and self._config.keep_withdrawn and (stored := await self._stored(project)):
            head = msgspec.structs.replace(stored[0], validated_at=self._clock(), withdrawn=True)
            await self._keep(project, head, stored[1])
            self._heads.put(project, head)
            return head, None
        if held is not None:
            log.warning("project was withdrawn upstream", extra={"project": project, "upstream": shown_url(self.upstream.url)})
            await self._writes.settled(self._key(project))
            await self._store.delete(self._key(project))
            self.watcher(project, False)
        self._heads.discard(project)
        self._parsed.discard(project)
        self._absent_until.put(project, self._clock() + negative_ttl(self._config.metadata_ttl))
        return None

    async def _keep(self, project: str, head: Head, body: bytes) -> None:
        await self._writes.put(self._key(project), encode(head, body), lambda: self.watcher(project, True))

    async def _off_loop(self, document: Document, work: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Work on a document: in a thread if that is large."""
        if len(document.body) < INLINE_PARSE_BYTES:
            return work(*args, **kwargs)
        return await asyncio.to_thread(work, *args, **kwargs)

    def _parsed_with_digest(self, project: str, document: Document) -> tuple[T, str]:
        return self._parsed_now(project, document), hashlib.sha256(document.body).hexdigest()

    def _parsed_now(self, project: str, document: Document) -> T:
        try:
            if len(document.body) < INLINE_PARSE_BYTES:
                return self.parse(project, document)
            with without_collection():
                return self.parse(project, document)
        except NoraError:
            raise
        except Exception as error:
            # A format's mistake with somebody else's bytes: theirs is the answer that cannot be used.
            log.exception("format failed to read an answer", extra={"project": project})
            raise UpstreamInvalid(shown_url(document.url), "its answer could not be read") from error

    def _remember(self, project: str, head: Head, value: T) -> None:
        self._heads.put(project, head)
        self._absent_until.discard(project)
        if gone := self._parsed.put(project, (head.revision, value), weight=self.weigh(value)):
            asyncio.get_running_loop().call_later(LET_GO_SECONDS, gone.clear)
