"""Who may do what."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from nora.api import Actor, Authenticator, Right, Unauthorized
from nora.auth.basic import parse_basic
from nora.auth.htpasswd import HtpasswdFile


class Access:
    """The one decision on every request to a registry.

    Args:
        enabled: Whether anybody has to log in for anything.
        anonymous_read: Whether reading needs no login although the rest does.
        authenticators: Asked in order until one knows the credentials. With none, nobody can log in.
    """

    def __init__(self, enabled: bool, anonymous_read: bool, authenticators: Sequence[Authenticator]) -> None:
        self._enabled, self._anonymous_read = enabled, anonymous_read
        self._authenticators = tuple(authenticators)

    async def authorize(self, authorization: str | None, right: Right) -> Actor:
        """Who asks, given the value of the Authorization field, if that one has ``right``.

        Everybody who can log in has every right. Whether what is asked for exists plays no part, so a refusal does not tell.
        What an authenticator raises is passed on: a broken one lets nobody in.

        Raises:
            Unauthorized: a login is needed; or the one given is wrong, even where none would be needed, so that somebody who
                mistypes it learns of it here and not at the first upload.
        """
        if not self._enabled:
            # Clients that insist on credentials (twine) get along with a server that has no users.
            return Actor()
        credentials = parse_basic(authorization)
        if credentials is None:
            if right is Right.READ and self._anonymous_read:
                return Actor()
            raise Unauthorized
        for authenticator in self._authenticators:
            actor = await authenticator.authenticate(*credentials)
            # An actor without a name is nobody, whoever vouches for it.
            if actor is not None and not actor.is_anonymous:
                return actor
        raise Unauthorized("wrong user name or password")

    def standing(self, authorization: str | None, right: Right) -> Callable[[], bool] | None:
        """A cheap question, whether :meth:`authorize` would still answer as it has just done; ``None`` if that cannot be told.

        To be called only after ``authorize`` has let the same request pass.
        """
        if not self._enabled:
            return _always
        credentials = parse_basic(authorization)
        if credentials is None:
            return _always if right is Right.READ and self._anonymous_read else None
        # Whoever is asked first and vouches decides alone; others than the file cannot say for how long.
        first = self._authenticators[0] if self._authenticators else None
        return first.standing(*credentials) if isinstance(first, HtpasswdFile) else None


def _always() -> bool:
    return True
