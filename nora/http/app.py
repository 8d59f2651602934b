"""The Sanic application: routes of all registries, the host's own routes, error handling."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from sanic import Sanic
from sanic.exceptions import BadRequest, NotFound
from sanic.handlers import ErrorHandler
from sanic.request import Request
from sanic.response import HTTPResponse, json, raw
from sanic.router import Router
from sanic_routing.exceptions import RouteExists

from nora import __version__, metrics
from nora.api.routes import Handler, Route
from nora.config.errors import ConfigurationError
from nora.http.answers import response_answer
from nora.http.dispatch import HOST, Dispatcher
from nora.http.forwarded import client_scheme
from nora.http.limits import PROBES
from nora.http.publishing import OIDC_PATH, Publishing
from nora.http.strict import head_problem
from nora.http.wire import Outgoing

API_PATH = "/api/v1/"
"""Where the host's own API is mounted."""

OPEN_PLACES = (*PROBES, "/metrics", OIDC_PATH)
"""Where nobody looks at a login."""

App: TypeAlias = Sanic[Any, Any]


@dataclass(slots=True)
class Readiness:
    """Whether this process takes requests; false from the moment it is told to stop."""

    ready: bool = False


@dataclass(frozen=True, slots=True)
class Mount:
    """The routes of one registry, or of the host's API, and where they are: ``path`` begins and ends with ``/``."""

    name: str
    path: str
    routes: Iterable[Route]


class CheckedRequest(Request):
    """A request whose head is as the standard says.

    Sanic builds a stand-in (method ``NONE``) to answer one that it cannot read, out of the address that it cannot read.
    """

    def __init__(self, url_bytes: bytes, *args: Any, **kwargs: Any) -> None:
        stands_in = "head" not in kwargs
        if not stands_in and (problem := head_problem(kwargs["head"])):
            raise BadRequest(problem)
        super().__init__(b"/" if stands_in else url_bytes, *args, **kwargs)

    @property
    def scheme(self) -> str:
        """How the client has asked, "http" or "https": behind a trusted proxy that says so, the way from there to here does not count."""
        said = client_scheme(self.ip, self.headers.getall("x-forwarded-proto", ()), self.app.ctx.trusted)
        return said or str(super().scheme)


class FlatRouter(Router):
    """Sanic's takes final slashes off one by one, each a call deeper, which thousands of them make a server error (CWE-674)."""

    def get(self, path: str, method: str, host: str | None) -> Any:  # type: ignore[override]
        """See Sanic's; none of our addresses ends with more than one."""
        if path.endswith("//"):
            raise NotFound("not found")
        return super().get(path, method, host)


class PlainErrors(ErrorHandler):
    """Answers what went wrong before or outside of a handler."""

    def __init__(self, dispatcher: Dispatcher) -> None:
        super().__init__()
        self._dispatcher = dispatcher

    async def _answer(self, request: Request, exception: Exception) -> Outgoing:
        async def work() -> Outgoing:
            raise exception

        return await self._dispatcher.run(request, "", work)

    def response(self, request: Request, exception: Exception) -> HTTPResponse:
        """Sanic's entry; it awaits what it gets."""
        return self._answer(request, exception)  # type: ignore[return-value]


def build_app(
    mounts: Iterable[Mount],
    dispatcher: Dispatcher,
    readiness: Readiness,
    *,
    body_limit_bytes: int,
    publishing: Publishing | None = None,
) -> App:
    """The application. ``publishing`` exchanges identities for tokens; ``None`` says that nobody does.

    Raises:
        ConfigurationError: two registries want the same address.
    """
    app = Sanic(
        f"nora_{secrets.token_hex(4)}",
        configure_logging=False,
        strict_slashes=True,
        request_class=CheckedRequest,
        router=FlatRouter(),
    )
    app.error_handler = PlainErrors(dispatcher)
    app.config.update(
        {
            "ACCESS_LOG": False,
            "AUTO_EXTEND": False,
            "FALLBACK_ERROR_FORMAT": "text",
            "GRACEFUL_TCP_CLOSE_TIMEOUT": 30,  # a slow client still gets the last bytes of a page
            "MOTD": False,
            "REQUEST_MAX_SIZE": body_limit_bytes + 1024 * 1024,
            "RESPONSE_TIMEOUT": 900,  # of silence in both directions
            "TOUCHUP": True,
        }
    )
    app.ctx.held_pages = dispatcher.held
    app.ctx.trusted = dispatcher.trusted
    mounts = list(mounts)
    app.ctx.refusals = dispatcher.refusals([(mount.path, mount.name) for mount in mounts], OPEN_PLACES)
    if problems := shadowed([*mounts, Mount(HOST, OIDC_PATH, ())]):
        raise ConfigurationError(problems)
    _add_host_routes(app, dispatcher, readiness)
    _add_publishing_routes(app, dispatcher, publishing or Publishing(None))
    for mount in mounts:
        for rule, routes in by_rule(mount.routes).items():
            try:
                app.add_route(
                    _by_method(routes, mount.name, dispatcher),  # type: ignore[arg-type]
                    mount.path.rstrip("/") + rule,
                    methods=[method for route in routes for method in route.methods],
                    name=f"{mount.name.replace('-', '_')}_{secrets.token_hex(4)}",
                    stream=True,
                )
            except RouteExists:
                problems.append(
                    f"registries.{mount.name}.path: {mount.path} overlaps with addresses of another registry or the host"
                )
                break
    if problems:
        raise ConfigurationError(problems)
    return app


def by_rule(routes: Iterable[Route]) -> dict[str, list[Route]]:
    """The routes by their rules: one that is declared for several methods is one address, whose 405 names them all (HTTP-3)."""
    found: dict[str, list[Route]] = {}
    for route in routes:
        found.setdefault(route.rule, []).append(route)
    return found


def _by_method(routes: Sequence[Route], registry: str, dispatcher: Dispatcher) -> Handler:
    """The handler of one address, for all methods that it knows.

    Raises:
        RouteExists: a method is declared twice.
    """
    handlers: dict[str, Handler] = {}
    for route in routes:
        guarded = dispatcher.guard(route, registry)
        for method in route.methods:
            if method in handlers:
                raise RouteExists(f"{method} {route.rule} is declared twice")
            handlers[method] = guarded
    if len(routes) == 1:
        return guarded

    def handle(request: Request, **raw: Any) -> Any:
        return handlers[request.method](request, **raw)

    # See Dispatcher.guard.
    handle.is_stream = True  # type: ignore[attr-defined]
    return handle


def shadowed(mounts: Sequence[Mount]) -> list[str]:
    """Problems of registries that are mounted at an address which another registry answers, such as its ``/simple/``."""
    problems = []
    for outer in mounts:
        taken = {route.rule.split("/")[1] for route in outer.routes}
        for inner in mounts:
            if inner is outer or not inner.path.startswith(outer.path):
                continue
            segment = inner.path.removeprefix(outer.path).split("/")[0]
            if segment in taken and segment:
                problems.append(
                    f"registries.{outer.name}.path: its addresses below /{segment}/ are the host's; give it a path of its own"
                    if inner.name == HOST
                    else f"registries.{inner.name}.path: {inner.path} is an address of registry {outer.name}; give another path"
                )
    return problems


def _add_host_routes(app: App, dispatcher: Dispatcher, readiness: Readiness) -> None:
    async def health(request: Request) -> Outgoing:
        async def work() -> Outgoing:
            return response_answer(request, json({"status": "ok", "version": __version__}))

        return await dispatcher.run(request, "", work)

    async def ready(request: Request) -> Outgoing:
        async def work() -> Outgoing:
            state = "ready" if readiness.ready else "stopping"
            return response_answer(request, json({"status": state}, status=200 if readiness.ready else 503))

        return await dispatcher.run(request, "", work)

    async def shown_metrics(request: Request) -> Outgoing:
        async def work() -> Outgoing:
            if dispatcher.held is not None:
                dispatcher.held.flush()
            body = await asyncio.to_thread(metrics.exposition)
            return response_answer(request, raw(body, content_type=metrics.CONTENT_TYPE))

        return await dispatcher.run(request, "", work)

    app.add_route(shown_metrics, "/metrics", methods=["GET", "HEAD"], name="metrics")  # type: ignore[arg-type]
    app.add_route(health, "/health", methods=["GET", "HEAD"], name="health")  # type: ignore[arg-type]
    app.add_route(ready, "/ready", methods=["GET", "HEAD"], name="ready")  # type: ignore[arg-type]


def _add_publishing_routes(app: App, dispatcher: Dispatcher, publishing: Publishing) -> None:
    """Nobody has to log in for these: they are how a program gets what it logs in with."""

    def add(name: str, method: str, handler: Callable[[Request], Awaitable[HTTPResponse]]) -> None:
        async def handle(request: Request) -> Outgoing:
            async def work() -> Outgoing:
                return response_answer(request, await handler(request))

            return await dispatcher.run(request, "", work)

        methods, own = [method, "HEAD"] if method == "GET" else [method], f"oidc_{name}".replace("-", "_")
        # As a stream: Sanic itself would take in as large a body as uploads may be.
        app.add_route(handle, OIDC_PATH + name, methods=methods, name=own, stream=True)  # type: ignore[arg-type]

    add("audience", "GET", publishing.audience)
    add("mint-token", "POST", publishing.mint)
    add("burn-token", "POST", publishing.burn)
