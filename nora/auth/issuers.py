"""The keys of issuers: fetched when they are needed, kept for a while, and never asked for more often than is decent.

What somebody sends chooses only among the issuers of the configuration, so nobody can make us ask anything else. Where an issuer's
own documents may lead is for whoever fetches them to bound (CWE-918).
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

import msgspec

from nora.api import UpstreamError, UpstreamUnavailable
from nora.auth.publishers import Refused
from nora.auth.signed import Key, keys_of
from nora.tasks import SingleFlight, Tasks

log = logging.getLogger(__name__)

FetchDocument: TypeAlias = Callable[[str, str], Awaitable[bytes]]
"""Gets a document, given the issuer and its address: its bytes, a bounded number of them. Raises UpstreamError."""

FRESH_SECONDS = 3600.0
"""For so long nobody is asked about keys that are held."""
STALE_SECONDS = 24 * 3600.0
"""So old may keys be that cannot be renewed."""
UNKNOWN_SECONDS = 60.0
"""A key that is not held makes us ask at most once in this time."""
FAILED_SECONDS = 15.0
"""After a failure nobody is asked for so long."""
WAIT_SECONDS = 4.0
"""So long does a request wait for keys: some clients give up after five. What was begun goes on for the next one."""
FETCH_SECONDS = 20.0
"""So long may both documents take."""
DISCOVERY = "/.well-known/openid-configuration"
"""OpenID Connect Discovery 1.0, 4: below the issuer, without its final slash."""


@dataclass(slots=True)
class _Held:
    """What is known of an issuer, and since when. Seconds that only go forward."""

    keys: Mapping[tuple[str, str], Key] = field(default_factory=dict)
    had_at: float = -math.inf
    asked_at: float = -math.inf
    failed_at: float = -math.inf


class _Discovery(msgspec.Struct):
    issuer: str
    jwks_uri: str


class IssuerKeys:
    """The keys of one process. However many ask, an issuer is asked once.

    Args:
        fetch: Gets documents.
        tasks: For fetching, which belongs to no request.
        clock: Seconds that only go forward.
    """

    def __init__(self, fetch: FetchDocument, tasks: Tasks, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._fetch, self._clock = fetch, clock
        self._flights = SingleFlight(tasks)
        self._held: dict[str, _Held] = {}

    async def get(self, issuer: str, key_id: str, algorithm: str) -> Key:
        """A key of an issuer, which is one of the configuration.

        Raises:
            Refused: the issuer has no such key, as far as is known.
            UpstreamUnavailable: nothing is known of its keys, or only what is too old.
        """
        held = self._held.setdefault(issuer, _Held())
        wanted, now = (key_id, algorithm), self._clock()
        is_old = now >= held.had_at + FRESH_SECONDS
        is_unknown = wanted not in held.keys and now >= held.asked_at + UNKNOWN_SECONDS
        if (is_old or is_unknown) and now >= held.failed_at + FAILED_SECONDS:
            try:
                async with asyncio.timeout(WAIT_SECONDS):
                    await self._flights.run(issuer, lambda: self._renew(issuer, held))
            except TimeoutError:
                log.debug("not waiting for an issuer's keys any longer", extra={"issuer": issuer})
        if self._clock() >= held.had_at + STALE_SECONDS:
            raise UpstreamUnavailable(issuer, "its keys cannot be had now", math.ceil(FAILED_SECONDS))
        key = held.keys.get(wanted)
        if key is None:
            raise Refused(
                "invalid-token", "the token is signed with a key that its issuer does not have, or not since a minute ago"
            )
        return key

    async def _renew(self, issuer: str, held: _Held) -> None:
        try:
            async with asyncio.timeout(FETCH_SECONDS):
                keys = await self._keys(issuer)
        except (UpstreamError, ValueError, TimeoutError) as error:
            # As the time of an end: who comes meanwhile waits, too, and is not told that a key is unknown.
            held.failed_at = held.asked_at = self._clock()
            reason = str(error) or "not done in time"
            log.warning("keys of an issuer cannot be had", extra={"issuer": issuer, "error": reason, "held": len(held.keys)})
            return
        held.keys, held.failed_at = keys, -math.inf
        held.had_at = held.asked_at = self._clock()
        log.info("keys of an issuer fetched", extra={"issuer": issuer, "keys": len(keys)})

    async def _keys(self, issuer: str) -> dict[tuple[str, str], Key]:
        document = await self._fetch(issuer, issuer.removesuffix("/") + DISCOVERY)
        try:
            found = msgspec.json.decode(document, type=_Discovery)
        except (ValueError, RecursionError):
            raise ValueError(f"{DISCOVERY} is no JSON object with issuer and jwks_uri") from None
        # OpenID Connect Discovery 1.0, 4.3
        if found.issuer != issuer:
            raise ValueError(f"{DISCOVERY} is of another issuer; auth.trusted_publishers must name it as it names itself")
        return keys_of(await self._fetch(issuer, found.jwks_uri))
