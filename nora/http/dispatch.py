"""The way of every request: identity, rights, handler, answer, log line."""

from __future__ import annotations

import asyncio
import math
import re
import secrets
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Any
from urllib.parse import unquote_to_bytes

from sanic.request import Request

from nora import metrics
from nora.api import Actor, Content, Forbidden, NoraError, NotFound, Right, TooLarge, TooManyRequests
from nora.api.routes import Handler, Route
from nora.auth.access import Access
from nora.context import Reliance, RequestContext, current_request
from nora.http.answers import answer_with
from nora.http.body import check_chunk_header
from nora.http.errors import error_answer, reason_of
from nora.http.fast import HeldPages
from nora.http.forwarded import Network, client_address
from nora.http.heads import REQUEST_ID
from nora.http.limits import PROBES, RequestLimits
from nora.http.log import log_answer
from nora.http.refusals import Refusals
from nora.http.wire import Outgoing, is_head

MAX_BUFFERED_BODY = 1024 * 1024
"""What a handler without ``stream`` may be sent."""
HOST = "api"
"""Stands in place of a registry for what is the host's own; no registry has this name."""
_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\\]")


class Dispatcher:
    """Wraps handlers, so that what must never be forgotten is done for all of them.

    ``held`` gets the answers that can be given again; ``None`` if there is to be no such cache. ``trusted`` are the proxies whose word
    on the client's address counts. ``limits`` are asked before anything else is.
    """

    def __init__(
        self,
        access: Access,
        *,
        access_log_enabled: bool,
        held: HeldPages | None = None,
        trusted: Sequence[Network] = (),
        limits: RequestLimits | None = None,
    ) -> None:
        self._access, self.trusted, self._limits = access, trusted, limits
        self._logs = access_log_enabled
        self.held = held

    def refusals(self, places: Sequence[tuple[str, str]], open_places: Sequence[str]) -> Refusals:
        """What refuses logins that are over a limit ahead of this way; see there."""
        return Refusals(
            self._access, places, open_places=open_places, trusted=self.trusted, limits=self._limits, logs=self._logs
        )

    def guard(self, route: Route, registry: str) -> Handler:
        """The handler that Sanic calls for a declared route. ``registry`` is a name for the log, and whose rights count."""
        place = None if registry == HOST else registry

        async def guarded(request: Request, **raw: Any) -> Outgoing:
            wanted = self.held is not None and route.right is Right.READ and self.held.wants(request)
            reliance = Reliance() if wanted else None
            return await self.run(request, registry, lambda: self._serve(request, route, place, raw, reliance))

        # Sanic must not read the body before the rights are known; whoever may not write sends nothing into memory.
        guarded.is_stream = True  # type: ignore[attr-defined]
        return guarded  # type: ignore[return-value]

    async def run(self, request: Request, registry: str, work: Callable[[], Awaitable[Outgoing]]) -> Outgoing:
        """Do ``work`` for a request and see its answer off, whatever happens."""
        started = time.perf_counter()
        request_id = _request_id(request)
        client = client_address(request.ip, request.headers.getall("x-forwarded-for", []), self.trusted)
        token = current_request.set(RequestContext(request_id, address=client))
        try:
            if self._limits is not None and request.path not in PROBES and (wait := self._limits.take(client)):
                raise TooManyRequests("too many requests from this address; wait", math.ceil(wait))
            outgoing = await work()
        except asyncio.CancelledError:
            raise
        except Exception as error:
            outgoing = error_answer(error, head_only=is_head(request))
            if isinstance(error, NoraError) and request.method not in _SAFE_METHODS:
                outgoing.reason = reason_of(error)
        actor = current_request.get().actor
        current_request.reset(token)
        outgoing.fields.append(("x-request-id", request_id))
        _count(registry, request.method, outgoing.status)
        if self.held is not None and outgoing.standing is not None:
            admitted = self._access.standing(request.headers.get("authorization"), Right.READ)
            self.held.keep(request, outgoing, outgoing.standing, admitted=admitted, registry=registry, actor=actor)
        if self._logs:
            outgoing.on_sent = lambda sent: _log(
                request, sent, registry, request_id, actor, client, time.perf_counter() - started
            )
        return outgoing

    async def _serve(
        self, request: Request, route: Route, registry: str | None, raw: dict[str, Any], reliance: Reliance | None
    ) -> Outgoing:
        before = current_request.get()
        login = await self._access.authorize(request.headers.get("authorization"), route.right, registry, before.address)
        changes = route.right not in (None, Right.READ) or request.method not in _SAFE_METHODS
        if changes:
            check_site(request)
        known = replace(before, actor=login.actor, reliance=reliance, grants=login.grants, token=login.token)
        current_request.set(known)
        parameters = {
            name: decode_parameter(value, path=f"<{name}:path>" in route.rule) if isinstance(value, str) else value
            for name, value in raw.items()
        }
        if changes and not route.stream:
            await buffer_body(request)
        result = await route.handler(request, **parameters)
        try:
            outgoing = await answer_with(request, result)
        except BaseException:
            if isinstance(result, Content):
                await result.source.aclose()
            raise
        if reliance is not None:
            outgoing.standing = reliance.standing_of(result)
        return outgoing


def decode_parameter(raw: str, *, path: bool = False) -> str:
    """A path parameter, percent-decoded.

    >>> decode_parameter("torch-2.6.0%2Bcu124.whl")
    'torch-2.6.0+cu124.whl'

    Raises:
        NotFound: it hides a separator, a control character or bytes that are no UTF-8: no name here has any.
    """
    shown = raw[:200]
    try:
        text = unquote_to_bytes(raw).decode()
    except UnicodeDecodeError:
        raise NotFound("path", shown) from None
    if _CONTROL.search(text) or text.count("/") != (raw.count("/") if path else 0):
        raise NotFound("path", shown)
    if any(segment in ("", ".", "..") for segment in text.split("/")):
        raise NotFound("path", shown)
    return text


def _request_id(request: Request) -> str:
    given = request.headers.get("x-request-id", "")
    return given if REQUEST_ID.match(given) else secrets.token_hex(8)


def check_site(request: Request) -> None:
    """CSRF: a browser brings along credentials and its address, but also says whose page made it ask. Programs say no such thing.

    Raises:
        Forbidden: it was a page of another site.
    """
    if request.headers.get("sec-fetch-site", "none") not in ("none", "same-origin"):
        raise Forbidden("pages of other sites may not change anything here")


async def buffer_body(request: Request, max_bytes: int = MAX_BUFFERED_BODY) -> None:
    """Read a body that was left in the connection, for handlers that want all of it at once.

    Raises:
        TooLarge: it is larger than that.
    """
    stream: Any = request.stream
    pieces, total = [], 0
    while stream.request_body:
        await check_chunk_header(stream)
        if (piece := await stream.read()) is None:
            break
        total += len(piece)
        if total > max_bytes:
            raise TooLarge("the body", max_bytes)
        pieces.append(piece)
    request.body = b"".join(pieces)


def _count(registry: str, method: str, status: int) -> None:
    # A method is the client's to invent, and each label is kept for ever.
    shown = method if method in _METHODS else "other"
    metrics.REQUESTS.labels(registry, shown, str(status)).inc()


def _log(request: Request, sent: Outgoing, registry: str, request_id: str, actor: Actor, client: str, seconds: float) -> None:
    log_answer(
        method=request.method,
        path=request.path,
        status=sent.status,
        bytes_sent=sent.bytes_sent,
        seconds=seconds,
        client=client,
        registry=registry,
        request_id=request_id,
        actor=actor,
        broken=sent.broken,
    )
