"""Who may do what."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol, TypeAlias

from nora.api import Actor, Authenticator, Forbidden, Right, StandingAuthenticator, TooManyRequests, Unauthorized
from nora.audit.entry import LoginProblem
from nora.auth.basic import Credentials, parse_credentials
from nora.auth.limits import LoginLimits
from nora.auth.record import token_id
from nora.rates import place_of
from nora.rights import ALL, EVERYBODY, USERS, Grant, Grants

MAX_REMEMBERED_USERS = 4096

Told: TypeAlias = Callable[[LoginProblem, str, str, str], None]
"""Hears of a login that was refused: how, the user name, the address, and the id of the token, if it was one. Must not block."""


Admitted: TypeAlias = Callable[[str], bool]
"""Whether a login still stands, for a request from this address. Must not block."""


@dataclass(frozen=True, slots=True)
class Login:
    """Who asks, what that allows, and the id of the token that was given, if it was one."""

    actor: Actor
    grants: Grants
    token: str = ""


class ApiToken(Protocol):
    """A token that is valid now."""

    @property
    def id(self) -> str:
        """Its name, which is no secret."""

    @property
    def user(self) -> str:
        """Whose it is."""

    @property
    def issuer(self) -> str:
        """Who vouches for whoever has it, who then is no user of ours; "" if it is a user's."""

    @property
    def limits(self) -> tuple[Grant, ...]:
        """What it may be used for, as far as its user may do that; if it is no user's, all of it."""


class TokenCheck(Protocol):
    """What knows tokens."""

    def is_token(self, text: str) -> bool:
        """Whether a text has the form of a token."""

    async def verify(self, text: str) -> ApiToken | None:
        """The token, if it is valid now."""

    def standing(self, text: str) -> Callable[[], bool] | None:
        """A cheap question, whether ``verify`` would still say so; ``None`` if that cannot be told."""


class Rules:
    """What users may do, by the rules of the configuration.

    Args:
        rules: Who, and what; they add up. With none, whoever has logged in may do everything.
        open_registries: Names of registries, or ``*``, that everybody may read.
    """

    def __init__(self, rules: Iterable[tuple[frozenset[str], Grant]] = (), open_registries: Sequence[str] = ()) -> None:
        self._rules = tuple(rules)
        self._open = (Grant(rights=frozenset({Right.READ}), registries=tuple(open_registries)),) if open_registries else ()
        self.of = lru_cache(MAX_REMEMBERED_USERS)(self._of)
        """The grants of a user by name; "" is nobody in particular."""

    def _of(self, user: str) -> Grants:
        if user and not self._rules:
            return ALL
        # What begins with @ is a group, whoever calls himself so.
        names = {EVERYBODY, *((USERS,) if user else ()), *(() if user.startswith("@") else (user,))}
        return Grants([*self._open, *(grant for who, grant in self._rules if not names.isdisjoint(who))])


class Access:
    """The one decision on who asks. What that allows for single projects is asked where those are known, see ``permit``.

    Args:
        enabled: Whether anybody has to log in for anything.
        rules: What users may do.
        authenticators: Asked in order until one knows the credentials. With none, nobody can log in.
        tokens: What knows API tokens, if there are any.
        limits: How often a login may fail.
        told: Who wants to know of logins that are refused.

    Attributes:
        pace: Of refusals because of a limit.
    """

    def __init__(
        self,
        enabled: bool,
        rules: Rules,
        authenticators: Sequence[Authenticator],
        tokens: TokenCheck | None = None,
        limits: LoginLimits | None = None,
        told: Told | None = None,
    ) -> None:
        self._told = told
        self._enabled, self._rules, self._tokens = enabled, rules, tokens
        self._limits = limits or LoginLimits()
        self.pace = self._limits.pace
        self._authenticators = tuple(authenticators)

    async def authorize(
        self, authorization: str | None, right: Right | None, registry: str | None = None, client: str = ""
    ) -> Login:
        """Who asks, given the value of the Authorization field, if that one may have ``right`` somewhere in a registry.

        ``right`` is ``None`` for what needs a login and no right; ``registry`` is ``None`` for what belongs to none; ``client`` is
        the address that the request comes from. Whether what is asked for exists plays no part, so a refusal does not tell. What an
        authenticator raises is passed on: a broken one lets nobody in.

        Raises:
            Unauthorized: a login is needed; or the one given is wrong, even where none would be needed, so that somebody who
                mistypes it learns of it here and not at the first upload.
            Forbidden: whoever has logged in has this right nowhere in the registry.
            TooManyRequests: too many logins have failed from this address, or with this name.
        """
        if not self._enabled:
            # Clients that insist on credentials (twine) get along with a server that has no users.
            return Login(Actor(), ALL)
        credentials = parse_credentials(authorization)
        login = Login(Actor(), self._rules.of("")) if credentials is None else await self._login(credentials, client)
        if not login.actor.is_anonymous if right is None else login.grants.allows_some(right, registry):
            return login
        if right is None or login.actor.is_anonymous:
            raise Unauthorized
        place = "here" if registry is None else f"in the registry {registry}"
        raise Forbidden(f"{login.actor.name} has no right to {right.value} anything {place}; ask whoever runs it for the right")

    def standing(self, authorization: str | None, right: Right) -> Admitted | None:
        """A cheap question, whether :meth:`authorize` would still answer as it has just done; ``None`` if that cannot be told.

        It is asked with the address that a request comes from. To be called only after ``authorize`` has let the same request pass.
        """
        if not self._enabled:
            return _always
        credentials = parse_credentials(authorization)
        if credentials is None:
            return _always if self._rules.of("").allows_some(right, None) else None
        if self._tokens is not None and self._tokens.is_token(credentials.password):
            stands = self._tokens.standing(credentials.password)
            return None if stands is None else lambda _: stands()
        return self._password_standing(credentials)

    def _password_standing(self, credentials: Credentials) -> Admitted | None:
        # Whoever is asked first and vouches decides alone. Not every authenticator can say for how long.
        first = self._authenticators[0] if self._authenticators else None
        if not isinstance(first, StandingAuthenticator):
            return None
        stands = first.standing(credentials.username, credentials.password)
        user, limits = credentials.username, self._limits
        # Over a limit it is asked the usual way, which refuses it: a prepared answer would tell that a guess is right.
        return None if stands is None else lambda client: not limits.check(client, user) and stands()

    def is_limiting(self) -> bool:
        """Whether :meth:`refusal` may have one for anybody."""
        return self._limits.is_limiting()

    def refusal(self, authorization: str, client: str) -> Callable[[], TooManyRequests] | None:
        """What :meth:`authorize` would raise after its turn in :attr:`pace` because too many logins have failed; ``None`` if it would not.

        Where a login is asked for, that is: it goes before anything else. It is told when it is called.
        """
        try:
            credentials = parse_credentials(authorization)
        except Unauthorized:
            return None
        if credentials is None or not credentials.username:
            return None
        if self._tokens is not None and self._tokens.is_token(credentials.password):
            return None
        if not (wait := self._limits.check(client, credentials.username)):
            return None

        def refuse() -> TooManyRequests:
            self._tell("login-limited", credentials, client)
            return _too_many(wait)

        return refuse

    async def _login(self, credentials: Credentials, client: str) -> Login:
        try:
            return await self._checked(credentials, client)
        except (Unauthorized, TooManyRequests) as error:
            self._tell("login-limited" if isinstance(error, TooManyRequests) else "login-failed", credentials, client)
            raise

    def _tell(self, problem: LoginProblem, credentials: Credentials, client: str) -> None:
        if self._told is not None:
            self._told(problem, credentials.username, client, token_id(credentials.password) or "")

    async def _checked(self, credentials: Credentials, client: str) -> Login:
        # Nobody guesses a token, and a look at one costs next to nothing, so tokens have no limits.
        if self._tokens is not None and self._tokens.is_token(credentials.password):
            token = await self._tokens.verify(credentials.password)
            if token is None:
                raise Unauthorized("the token is not valid: it is unknown, revoked or expired")
            # Rules are about users: whoever an issuer vouches for is none, whatever he is called.
            grants = Grants(token.limits) if token.issuer else self._rules.of(token.user).within(token.limits)
            return Login(Actor(name=token.user), grants, token.id)
        if not credentials.username:
            raise Unauthorized("the token is not valid: it is none of this server's")
        async with self._limits.turn(client):
            if wait := self._limits.check(client, credentials.username):
                await self.pace.turn(place_of(client))
                raise _too_many(wait)
            try:
                login = await self._by_password(credentials)
            except (Unauthorized, asyncio.CancelledError):
                # Who leaves before the answer has caused the same work, and could so cause any amount of it.
                self._limits.failed(client, credentials.username)
                raise
            # Not before the limits: over them a right guess must look like a wrong one, even of what was found right before.
            self._limits.succeeded(client, credentials.username)
            return login

    async def _by_password(self, credentials: Credentials) -> Login:
        for authenticator in self._authenticators:
            actor = await authenticator.authenticate(credentials.username, credentials.password)
            # An actor without a name is nobody, whoever vouches for it.
            if actor is not None and not actor.is_anonymous:
                return Login(actor, self._rules.of(actor.name))
        raise Unauthorized("wrong user name or password")


def _too_many(wait_seconds: float) -> TooManyRequests:
    return TooManyRequests("too many failed logins from this address or with this user name; wait", math.ceil(wait_seconds))


def open_registries(anonymous_read: bool, registries: Mapping[str, bool]) -> tuple[str, ...]:
    """The registries that everybody may read: all of them, or those that say so for themselves."""
    return ("*",) if anonymous_read else tuple(name for name, is_open in registries.items() if is_open)


def _always(_: str) -> bool:
    return True
