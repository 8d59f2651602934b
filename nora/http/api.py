"""The host's own API below ``/api/v1/``: what is the same for every format. JSON in, JSON out, errors as one line of text.

Options go into the body, as a JSON object, or into the query: ``{"reason": "broken"}`` is ``?reason=broken``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, TypeVar
from urllib.parse import parse_qsl

import msgspec
from sanic.request import Request
from sanic.response import HTTPResponse, raw

from nora.api import Event, File, Invalid, RegistryBlueprint
from nora.registry.managed import ManagedRegistry, Overview, Target, managed

MAX_EVENTS = 500
MAX_OPTIONS = 10
PROJECT = "/registries/<registry>/projects/<project>"
VERSION = f"{PROJECT}/versions/<version>"

# An empty text must not pass for a text that is not given: a whole version would go in the place of one file.
FileName = Annotated[str, msgspec.Meta(min_length=1)]


class Options(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a request may say besides its address."""


class NoOptions(Options, frozen=True, kw_only=True):
    """Nothing."""


class UnyankOptions(Options, frozen=True, kw_only=True):
    """``file`` makes it one file of the version."""

    file: FileName | msgspec.UnsetType = msgspec.UNSET


class YankOptions(UnyankOptions, frozen=True, kw_only=True):
    """The same, and why."""

    reason: str = ""


class DeleteOptions(Options, frozen=True, kw_only=True):
    """Why."""

    reason: str = ""


class StatusOptions(Options, frozen=True, kw_only=True):
    """The new status, and why."""

    status: str
    reason: str = ""


class HistoryOptions(Options, frozen=True, kw_only=True):
    """How many events at most."""

    limit: Annotated[int, msgspec.Meta(ge=1, le=MAX_EVENTS)] = 50


OptionsT = TypeVar("OptionsT", bound=Options)


def api_routes(registries: Mapping[str, ManagedRegistry]) -> RegistryBlueprint:
    """The routes, relative to where the API is mounted."""
    bp, api = RegistryBlueprint(), Api(registries)
    bp.read("/registries")(api.registries)
    bp.read(PROJECT)(api.project)
    bp.write(f"{VERSION}/yank", methods=("POST", "DELETE"))(api.yank)
    bp.admin(VERSION, methods=("DELETE",))(api.delete)
    bp.admin(f"{VERSION}/files/<filename>", methods=("DELETE",))(api.delete)
    # For formats whose files have no version.
    bp.admin(f"{PROJECT}/files/<filename>", methods=("DELETE",))(api.delete)
    bp.admin(f"{PROJECT}/status", methods=("PUT",))(api.set_status)
    # Events name who did what, which is not for everybody who may install.
    bp.admin(f"{PROJECT}/history", methods=("GET", "HEAD"))(api.history)
    return bp


class Api:
    """The handlers. A registry or project that does not exist is not found, also for who looks after it."""

    def __init__(self, registries: Mapping[str, ManagedRegistry]) -> None:
        self._registries = registries

    async def registries(self, request: Request) -> HTTPResponse:
        """All registries."""
        _options(request, NoOptions)
        entries = [
            {"name": name, "format": found.format.name, "path": found.registry.path} for name, found in self._registries.items()
        ]
        return _json({"registries": entries})

    async def project(self, request: Request, registry: str, project: str) -> HTTPResponse:
        """What there is of a project."""
        _options(request, NoOptions)
        found = managed(self._registries, registry)
        return _json({"registry": registry, **shown(await found.curator.overview(found.project(project)))})

    async def yank(self, request: Request, registry: str, project: str, version: str) -> HTTPResponse:
        """Yank a version, or one file of it; by DELETE, take that back."""
        found = managed(self._registries, registry)
        name = found.project(project)
        if request.method == "DELETE":
            which = _options(request, UnyankOptions)
            return _outcome(await found.curator.unyank(name, Target(version, which.file or "")))
        options = _options(request, YankOptions)
        return _outcome(await found.curator.yank(name, Target(version, options.file or ""), options.reason))

    async def delete(
        self, request: Request, registry: str, project: str, version: str = "", filename: str = ""
    ) -> HTTPResponse:
        """Delete a version, or one file."""
        options = _options(request, DeleteOptions)
        found = managed(self._registries, registry)
        return _outcome(await found.curator.delete(found.project(project), Target(version, filename), options.reason))

    async def set_status(self, request: Request, registry: str, project: str) -> HTTPResponse:
        """Set the project's status."""
        options = _options(request, StatusOptions)
        found = managed(self._registries, registry)
        return _outcome(await found.curator.set_status(found.project(project), options.status, options.reason))

    async def history(self, request: Request, registry: str, project: str) -> HTTPResponse:
        """The latest events, the newest first."""
        options = _options(request, HistoryOptions)
        found = managed(self._registries, registry)
        told = await found.curator.history(found.project(project), options.limit)
        events = [{"serial": entry.serial, "hosted": entry.hosted, **msgspec.to_builtins(entry.event)} for entry in told]
        return _json({"events": events})


def shown(overview: Overview) -> dict[str, Any]:
    """A project for its JSON document."""

    def file(file: File) -> dict[str, Any]:
        by = {"yanked_by": "here" if file.name in overview.yanked_here else "upstream"} if file.yanked is not False else {}
        return {
            "name": file.name,
            "hosted": file.url is None,
            "size": file.size,
            "digests": file.digests,
            "published": file.published,
            "yanked": file.yanked,
            **by,
        }

    listing = overview.listing
    return {
        "project": listing.project,
        "hosted": listing.hosted,
        "serial": listing.serial,
        "status": listing.status,
        "status_reason": listing.status_reason,
        "versions": [
            {
                "version": group[0].version,
                "yanked": all(each.yanked is not False for each in group),
                "files": list(map(file, group)),
            }
            for group in overview.versions
        ],
    }


def _outcome(event: Event | None) -> HTTPResponse:
    return _json({"changed": event is not None, "event": event})


def _json(document: dict[str, Any]) -> HTTPResponse:
    return raw(msgspec.json.encode(document), content_type="application/json")


def _options(request: Request, kind: type[OptionsT]) -> OptionsT:
    """The options of a request.

    Raises:
        Invalid: they are not of this kind; the text names the one that is wrong.
    """
    query, body = _query(request), _body(request)
    if twice := sorted(query.keys() & body.keys()):
        raise Invalid(f"{twice[0]!r} is given twice, in the address and in the body; give it once")
    try:
        # Not strict: a number in the address is a text.
        return msgspec.convert({**query, **body}, kind, strict=False)
    except msgspec.ValidationError as error:
        known = ", ".join(kind.__struct_fields__) or "none"
        raise Invalid(f"{error}; options are: {known}") from None


def _query(request: Request) -> dict[str, str]:
    try:
        pairs = parse_qsl(request.query_string, keep_blank_values=True, max_num_fields=MAX_OPTIONS, errors="strict")
    except ValueError:
        raise Invalid(f"the address must have at most {MAX_OPTIONS} options after its '?', in UTF-8") from None
    found: dict[str, str] = {}
    for name, value in pairs:
        if name in found:
            raise Invalid(f"{name[:80]!r} is given twice in the address; give it once")
        found[name] = value
    return found


def _body(request: Request) -> dict[str, Any]:
    if not request.body:
        return {}
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type != "application/json":
        raise Invalid(f"the body has the Content-Type {media_type[:80]!r}; send a JSON object as application/json, or no body")
    try:
        decoded = msgspec.json.decode(request.body)
    except (ValueError, RecursionError):  # also bytes that are no UTF-8, and nesting without end
        raise Invalid("the body is no well-formed JSON; send an object") from None
    if not isinstance(decoded, dict):
        raise Invalid("the body must be a JSON object")
    return decoded
