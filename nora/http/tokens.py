"""``/api/v1/tokens``: everybody's own API tokens. Whoever has logged in may have some, whatever their rights are.

    POST    makes one: {"note": "CI", "rights": ["read"], "registries": ["*"], "projects": ["team-*"], "expires_days": 30}
    GET     lists one's own; with ?all=true everybody's
    DELETE  /api/v1/tokens/<id> revokes one of one's own, or anybody's

Others' tokens are for administrators: who may administer every project of every registry, so could take away what these tokens are
good for. Nobody makes a token for somebody else, which would be a way to act in another's name.

A token may do no more than its user, so nothing has to be compared when it is made. But it must not make others, which would
outlive its expiry and its revocation, nor see them; it may only put an end to itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Annotated, Any, TypeAlias

import msgspec
from sanic.request import Request
from sanic.response import HTTPResponse, raw

from nora.api import Forbidden, Invalid, NotFound, Right, Unauthorized
from nora.api.routes import Route
from nora.audit.entry import TokenChange
from nora.auth.record import DEFAULT_DAYS, DEFAULT_RIGHTS, MAX_DAYS, Listed, shown, whose
from nora.auth.tokens import Tokens
from nora.clock import timestamp
from nora.context import current_request
from nora.http.options import NoOptions, Options, options_of
from nora.rights import EVERYTHING, Grant

Noted: TypeAlias = Callable[[TokenChange, str, str], None]
"""Hears of what the current request has done to a token: its id, and its note, after whose it is if that is somebody else. Must not block."""
MAX_OWN_TOKENS = 100
"""Of one user's tokens, those that are valid or were made within a day; the command line makes more."""
_DAY_SECONDS = 24 * 3600


class TokenOptions(Options, frozen=True, kw_only=True):
    """A token that is to be made; 0 days is for ever."""

    note: str = ""
    rights: frozenset[Right] = DEFAULT_RIGHTS
    registries: tuple[str, ...] = EVERYTHING
    projects: tuple[str, ...] = EVERYTHING
    expires_days: Annotated[int, msgspec.Meta(ge=0, le=MAX_DAYS)] = DEFAULT_DAYS


class ListOptions(Options, frozen=True, kw_only=True):
    """Whose."""

    all: bool = False


def token_routes(tokens: Tokens, noted: Noted | None = None) -> list[Route]:
    """The routes, relative to where the API is mounted. They need a login and no right: who may only write has tokens, too."""
    api = TokenApi(tokens, noted)
    return [
        Route("/tokens", ("GET", "HEAD"), None, api.listed, stream=False),
        Route("/tokens", ("POST",), None, api.create, stream=False),
        Route("/tokens/<token>", ("DELETE",), None, api.revoke, stream=False),
    ]


class TokenApi:
    """The handlers. They know who asks from :mod:`nora.context`."""

    def __init__(self, tokens: Tokens, noted: Noted | None = None) -> None:
        self._tokens, self._noted = tokens, noted
        self._creating = asyncio.Lock()

    async def listed(self, request: Request) -> HTTPResponse:
        """One's own tokens, or everybody's, the oldest first."""
        user = _user_without_token("list")
        wants_all = options_of(request, ListOptions).all
        if wants_all and not _is_administrator():
            raise Forbidden(
                "others' tokens are for who may administer all projects of all registries; leave out all for your own"
            )
        now, found = self._tokens.now(), await self._tokens.all(None if wants_all else user)
        return unkept_json({"tokens": [shown(listed, now) for listed in found]})

    async def create(self, request: Request) -> HTTPResponse:
        """Make one; no other answer ever has its text."""
        user = _user_without_token("make")
        wanted = options_of(request, TokenOptions)
        limit = Grant(rights=wanted.rights, registries=wanted.registries, projects=wanted.projects)
        async with self._creating:
            await self._check_number(user)
            expires = self._tokens.expiry(wanted.expires_days)
            text, token = await self._tokens.create(user, note=wanted.note, limits=(limit,), expires=expires)
        if self._noted is not None:
            self._noted("token-create", token.id, token.note)
        return unkept_json({"token": text, **shown(Listed(token, ""), self._tokens.now())}, status=201)

    async def revoke(self, request: Request, token: str) -> HTTPResponse:
        """Revoke one of one's own; as an administrator, anybody's."""
        user, by = _user(), current_request.get().token
        options_of(request, NoOptions)
        if by and by != token:
            raise Forbidden("a token may revoke no other token; log in with the password")
        found = await self._tokens.find(token)
        is_own = found is not None and found.token.user == user
        if not is_own and not _is_administrator():
            # Not repeated: somebody may have sent the whole token, with its secret.
            raise NotFound("token", "none of yours has this id")
        # Also one whose record is of no use, so that nobody knows whose it is.
        changed = await self._tokens.revoke(token)
        if changed and self._noted is not None:
            self._noted("token-revoke", token, "" if found is None else found.token.note if is_own else whose(found.token))
        return unkept_json({"changed": changed})

    async def _check_number(self, user: str) -> None:
        now = self._tokens.now()
        yesterday = timestamp(now - _DAY_SECONDS)
        own = [listed.token for listed in await self._tokens.all(user)]
        if sum(token.state(now) == "valid" or token.created > yesterday for token in own) >= MAX_OWN_TOKENS:
            raise Invalid(
                f"you have made {MAX_OWN_TOKENS} tokens that are valid or less than a day old; revoke some, or wait for a day"
            )


def _user() -> str:
    actor = current_request.get().actor
    if actor.is_anonymous:
        raise Unauthorized("tokens belong to users; log in")
    return actor.name


def _is_administrator() -> bool:
    """Whether the current request may administer everything. A token may not, whatever it was made for."""
    request = current_request.get()
    return not request.token and request.grants.allows_everywhere(Right.ADMIN)


def _user_without_token(verb: str) -> str:
    user = _user()
    if current_request.get().token:
        raise Forbidden(f"a token may not {verb} tokens; log in with the password")
    return user


def unkept_json(document: dict[str, Any], *, status: int = 200, headers: Mapping[str, str] = {}) -> HTTPResponse:
    """A document that no cache between here and there has any business with."""
    fields = {"cache-control": "no-store", **headers}
    return raw(msgspec.json.encode(document), status=status, headers=fields, content_type="application/json")
