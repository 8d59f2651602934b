"""Routes of a registry, each with the right that it needs."""

from __future__ import annotations

import enum
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import TypeAlias

from sanic.response import HTTPResponse

from nora.api.content import Content, Page

Answer: TypeAlias = HTTPResponse | Content | Page
Handler: TypeAlias = Callable[..., Awaitable[Answer]]


class Right(enum.Enum):
    """What a request wants to do to a registry."""

    READ = "read"
    WRITE = "write"
    ADMIN = "admin"


@dataclass(frozen=True, slots=True)
class Route:
    """One declared route; ``rule`` is relative to where the registry is mounted and begins with ``/``.

    A ``right`` of ``None`` is for the host's own routes about whoever has logged in: they need a login, whatever its rights are.
    """

    rule: str
    methods: tuple[str, ...]
    right: Right | None
    handler: Handler
    stream: bool


class RegistryBlueprint:
    """The routes of one registry.

    It looks like a Sanic blueprint, but each decorator names the right that the route needs, so no route can be without one.
    Handlers are coroutines ``handler(request, **path_parameters)``; parameters are percent-decoded and hold no ``/`` (except
    ``<name:path>``), backslash or control character. A handler returns :class:`Content`, :class:`Page` or a Sanic response.

    Shape of a rule: Sanic's, ``/simple/<project>/<filename>``.
    """

    def __init__(self) -> None:
        self.routes: list[Route] = []

    def read(self, rule: str, methods: Iterable[str] = ("GET", "HEAD")) -> Callable[[Handler], Handler]:
        """Register a handler that needs the right to read."""
        return self._declare(rule, tuple(methods), Right.READ, stream=False)

    def write(self, rule: str, methods: Iterable[str] = ("POST",), stream: bool = False) -> Callable[[Handler], Handler]:
        """Register a handler that needs the right to write.

        With ``stream`` the body is not read beforehand: take it from :meth:`Registry.body` or :meth:`Registry.receive`.
        """
        return self._declare(rule, tuple(methods), Right.WRITE, stream=stream)

    def admin(self, rule: str, methods: Iterable[str] = ("POST",)) -> Callable[[Handler], Handler]:
        """Register a handler that needs the right to administer."""
        return self._declare(rule, tuple(methods), Right.ADMIN, stream=False)

    def _declare(self, rule: str, methods: tuple[str, ...], right: Right, *, stream: bool) -> Callable[[Handler], Handler]:
        if not rule.startswith("/"):
            raise ValueError(f"rule {rule!r} must begin with /")

        def register(handler: Handler) -> Handler:
            self.routes.append(Route(rule, methods, right, handler, stream))
            return handler

        return register
