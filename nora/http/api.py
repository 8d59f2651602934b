"""The host's own API below ``/api/v1/``: what is the same for every format. JSON in, JSON out, errors as one line of text.

What a request may say besides its address is in :mod:`nora.http.options`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import msgspec
from sanic.request import Request
from sanic.response import HTTPResponse, raw

from nora.api import Event, File, RegistryBlueprint, Right
from nora.context import current_request, permit
from nora.http.options import NoOptions, Options, options_of
from nora.registry.managed import ManagedRegistry, Overview, Target, managed

MAX_EVENTS = 500
PROJECT = "/registries/<registry>/projects/<project>"
VERSION = f"{PROJECT}/versions/<version>"

# An empty text must not pass for a text that is not given: a whole version would go in the place of one file.
FileName = Annotated[str, msgspec.Meta(min_length=1)]


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
        """All registries of which the actor may read something."""
        options_of(request, NoOptions)
        grants = current_request.get().grants
        entries = [
            {"name": name, "format": found.format.name, "path": found.registry.path}
            for name, found in self._registries.items()
            if grants.allows_some(Right.READ, name)
        ]
        return _json({"registries": entries})

    async def project(self, request: Request, registry: str, project: str) -> HTTPResponse:
        """What there is of a project."""
        options_of(request, NoOptions)
        found, name = self._project(Right.READ, registry, project)
        return _json({"registry": registry, **shown(await found.curator.overview(name))})

    async def yank(self, request: Request, registry: str, project: str, version: str) -> HTTPResponse:
        """Yank a version, or one file of it; by DELETE, take that back."""
        found, name = self._project(Right.WRITE, registry, project)
        if request.method == "DELETE":
            which = options_of(request, UnyankOptions)
            return _outcome(await found.curator.unyank(name, Target(version, which.file or "")))
        options = options_of(request, YankOptions)
        return _outcome(await found.curator.yank(name, Target(version, options.file or ""), options.reason))

    async def delete(
        self, request: Request, registry: str, project: str, version: str = "", filename: str = ""
    ) -> HTTPResponse:
        """Delete a version, or one file."""
        options = options_of(request, DeleteOptions)
        found, name = self._project(Right.ADMIN, registry, project)
        return _outcome(await found.curator.delete(name, Target(version, filename), options.reason))

    async def set_status(self, request: Request, registry: str, project: str) -> HTTPResponse:
        """Set the project's status."""
        options = options_of(request, StatusOptions)
        found, name = self._project(Right.ADMIN, registry, project)
        return _outcome(await found.curator.set_status(name, options.status, options.reason))

    async def history(self, request: Request, registry: str, project: str) -> HTTPResponse:
        """The latest events, the newest first."""
        options = options_of(request, HistoryOptions)
        found, name = self._project(Right.ADMIN, registry, project)
        told = await found.curator.history(name, options.limit)
        events = [{"serial": entry.serial, "hosted": entry.hosted, **msgspec.to_builtins(entry.event)} for entry in told]
        return _json({"events": events})

    def _project(self, right: Right, registry: str, project: str) -> tuple[ManagedRegistry, str]:
        """The registry, and the normalized name of a project on which the actor has ``right``.

        Raises:
            NotFound, Unauthorized, Forbidden: see :func:`nora.context.permit`. A registry of which nothing may be read is as one
                that is not there.
        """
        grants = current_request.get().grants
        visible = {name: found for name, found in self._registries.items() if any(grants.allows_some(r, name) for r in Right)}
        found = managed(visible, registry)
        name = found.project(project)
        permit(right, registry, name)
        return found, name


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
