"""Trusted publishing: an identity that a CI system has signed is exchanged for an API token that soon expires.

tokens/<digest>.jwt   that an identity was used up, and until when it could have been used; removed after that by ``nora gc``
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeAlias

from nora.api import TooManyRequests
from nora.audit.entry import LoginProblem
from nora.auth.issuers import IssuerKeys
from nora.auth.limits import LoginLimits
from nora.auth.publishers import Refused, TrustedPublisher
from nora.auth.record import MAX_NAME, Token
from nora.auth.signed import Identity, said_by, verified
from nora.auth.tokens import Tokens
from nora.clock import timestamp
from nora.store.protocol import Store

MINTED_SECONDS = 15 * 60
"""For so long a token is valid; a job asks for one right before it publishes."""
NOTE = "trusted publishing"

Told: TypeAlias = Callable[[LoginProblem, str, str, str, str], None]
"""Hears of an exchange that was refused: how, whose identity it was, the address, the id of a token, which is "", and why.

Must not block.
"""


class Minted(NamedTuple):
    """A new token: its text, which is kept nowhere, and its record; ``expires`` is in seconds since the epoch."""

    text: str
    token: Token
    expires: int


class Exchange:
    """Exchanges identities for tokens. May be used by any number of processes at once; belongs to one event loop.

    Args:
        audience: What identities are to be for, if their publisher says nothing else.
        publishers: Whose identities are exchanged, and for what.
        keys: The keys of issuers.
        tokens: Makes tokens, and knows the time.
        store: Where it is kept which identities are used up.
        limits: How often an exchange may fail.
        told: Who wants to know of those that are refused.
    """

    def __init__(
        self,
        audience: str,
        publishers: Sequence[TrustedPublisher],
        keys: IssuerKeys,
        tokens: Tokens,
        store: Store,
        *,
        limits: LoginLimits | None = None,
        told: Told | None = None,
    ) -> None:
        self.audience = audience
        self._publishers, self._keys, self._tokens, self._store = tuple(publishers), keys, tokens, store
        self._limits, self._told = limits or LoginLimits(), told

    async def mint(self, text: str | None, client: str = "") -> Minted:
        """A token for an identity, which is used up thereby.

        ``None`` is a request without one; ``client`` is where it comes from.

        Raises:
            Refused: it is none that is exchanged here.
            TooManyRequests: too many logins have failed from this address.
            UpstreamUnavailable: the keys of its issuer cannot be had; it is not used up.
            StorageFull: no token was made; the identity may be used up.
        """
        if wait := self._limits.check(client, None):
            if self._told is not None:
                self._told("login-limited", "", client, "", NOTE)
            raise TooManyRequests("too many failed logins from this address; wait", math.ceil(wait))
        try:
            return await self._mint(text)
        except Refused as refused:
            self._limits.failed(client, None)
            if self._told is not None:
                reason = f"{NOTE}: {refused.description}" + (f" ({refused.detail})" if refused.detail else "")
                self._told("login-failed", refused.actor, client, "", reason)
            raise

    async def burn(self, text: str) -> Token | None:
        """Revoke a token that was made here, by its text; ``None`` if there was nothing to revoke.

        Raises:
            StorageFull: it is not revoked.
        """
        token = await self._tokens.verify(text)
        return token if token is not None and token.issuer and await self._tokens.revoke(token.id) else None

    async def _mint(self, text: str | None) -> Minted:
        if text is None:
            raise Refused("invalid-payload", 'the body must be a JSON object such as {"token": "<JWT>"}')
        said = said_by(text)
        of_issuer = [publisher for publisher in self._publishers if publisher.issuer == said.issuer]
        if not of_issuer:
            raise Refused("invalid-publisher", "no trusted publisher of this server has the token's issuer (iss)")
        key = await self._keys.get(said.issuer, said.key_id, said.algorithm)
        now = self._tokens.now()
        identity = verified(text, key, issuer=said.issuer, now=now)
        actor = actor_name(identity.subject)
        limits = dict.fromkeys(publisher.grant for publisher in self._matching(of_issuer, identity, actor))
        # Before the token is made: of several processes that are sent the same identity one gets past this line.
        if not await self._store.create(f"tokens/{identity.once}.jwt", timestamp(identity.expires).encode()):
            raise Refused("invalid-reuse-token", "the token was used before; ask for a new one each time", actor=actor)
        expires = int(now) + MINTED_SECONDS
        made, token = await self._tokens.create(
            actor, note=NOTE, limits=tuple(limits), expires=timestamp(expires), issuer=said.issuer
        )
        return Minted(made, token, expires)

    def _matching(self, of_issuer: Sequence[TrustedPublisher], identity: Identity, actor: str) -> list[TrustedPublisher]:
        meant = [publisher for publisher in of_issuer if publisher.audience in identity.audiences]
        if not meant:
            raise Refused(
                "invalid-token",
                f"the token is for another audience (aud) than its publisher's here; the usual one is {self.audience}",
                actor=actor,
            )
        unmet = [publisher.unmet(identity.claims) for publisher in meant]
        matching = [publisher for publisher, names in zip(meant, unmet, strict=True) if not names]
        if not matching:
            nearest = min(unmet, key=len)
            raise Refused(
                "invalid-publisher",
                "the token is valid, but no trusted publisher of this server has all of its claims; compare them with "
                "auth.trusted_publishers",
                actor=actor,
                detail=f"the nearest differs in {', '.join(nearest)}",
            )
        return matching


def actor_name(subject: str) -> str:
    """How logs name whoever has an identity: one line of bounded length.

    >>> actor_name("repo:acme/demo:ref:refs/heads/main")
    'oidc:repo:acme/demo:ref:refs/heads/main'
    """
    name = "oidc:" + "".join(c if c.isprintable() else "?" for c in subject[:MAX_NAME])
    return name if len(name) <= MAX_NAME else name[: MAX_NAME - 3] + "..."
