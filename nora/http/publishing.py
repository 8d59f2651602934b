"""Trusted publishing over HTTP, below ``/_/oidc/``, as twine and uv ask for it. Nobody logs in for it.

    GET   audience    {"audience": "..."}: what a CI system's identity is to be for
    POST  mint-token  {"token": "<JWT>"}; answered {"success": true, "token": "nora_...", "expires": <seconds since the epoch>}
    POST  burn-token  {"token": "nora_..."}, when it is not needed any more; answered 202, whatever becomes of it

What goes wrong is ``{"message": "...", "errors": [{"code": "...", "description": "..."}]}``, which is what these clients print.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import msgspec
from sanic.request import Request
from sanic.response import HTTPResponse

from nora.api import Actor, NoraError, NotFound, TooManyRequests, UpstreamUnavailable
from nora.audit.entry import TokenChange
from nora.auth.publishers import Refused
from nora.context import current_request
from nora.http.dispatch import buffer_body, check_site
from nora.http.errors import status_of
from nora.http.tokens import Noted, unkept_json

if TYPE_CHECKING:
    from nora.auth.exchange import Exchange

OIDC_PATH = "/_/oidc/"
MAX_BODY_BYTES = 32 * 1024
REFUSED_STATUS = 422


class _Body(msgspec.Struct):
    token: str


class Publishing:
    """The handlers.

    Args:
        exchange: Makes tokens; ``None`` if nobody may have one.
        noted: Hears of tokens that were made or revoked.
    """

    def __init__(self, exchange: Exchange | None, noted: Noted | None = None) -> None:
        self._exchange, self._noted = exchange, noted

    async def audience(self, request: Request) -> HTTPResponse:
        """What identities are to be for."""
        return unkept_json({"audience": self._configured(request).audience})

    async def mint(self, request: Request) -> HTTPResponse:
        """Exchange an identity for a token."""
        exchange = self._configured(request)
        check_site(request)
        try:
            minted = await exchange.mint(await _token_of(request), current_request.get().address)
        except NoraError as error:
            return _failure(error)
        _act_as(minted.token.user)
        self._note("token-create", minted.token.id, f"trusted publishing by {minted.token.issuer}")
        return unkept_json({"success": True, "token": minted.text, "expires": minted.expires})

    async def burn(self, request: Request) -> HTTPResponse:
        """Revoke a token that was made here. The answer does not tell whether it was one."""
        exchange = self._configured(request)
        check_site(request)
        try:
            token = await exchange.burn(await _token_of(request) or "")
        except NoraError as error:
            return _failure(error)
        if token is not None:
            _act_as(token.user)
            self._note("token-revoke", token.id, "trusted publishing is done")
        return unkept_json({}, status=202)

    def _configured(self, request: Request) -> Exchange:
        if self._exchange is None:
            raise NotFound("address", request.path)
        return self._exchange

    def _note(self, action: TokenChange, token: str, reason: str) -> None:
        if self._noted is not None:
            self._noted(action, token, reason)


async def _token_of(request: Request) -> str | None:
    """What the body holds; ``None`` if it is nothing of the kind. Not every client says that it is JSON."""
    await buffer_body(request, MAX_BODY_BYTES)
    try:
        return msgspec.json.decode(request.body, type=_Body).token
    except (ValueError, RecursionError):
        return None


def _act_as(name: str) -> None:
    """Who has proven who he is has the rest of the request in the logs."""
    current_request.set(replace(current_request.get(), actor=Actor(name=name)))


def _failure(error: NoraError) -> HTTPResponse:
    status, code, text, headers = status_of(error), "unavailable", str(error), {}
    if isinstance(error, Refused):
        status, code = REFUSED_STATUS, error.code
    elif isinstance(error, TooManyRequests):
        code, headers = "too-many-requests", {"retry-after": str(error.retry_after_seconds)}
    elif isinstance(error, UpstreamUnavailable):
        text = "the keys of the token's issuer cannot be had now; try again in a moment, with the same token"
        headers = {"retry-after": str(error.retry_after_seconds)}
    elif status < 500:
        code = "invalid-payload"
    document = {"message": f"no token: {text}", "errors": [{"code": code, "description": text}]}
    return unkept_json(document, status=status, headers=headers)
