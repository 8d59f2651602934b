"""The addresses of a PyPI registry."""

from __future__ import annotations

import re
from functools import partial
from typing import Any
from urllib.parse import quote

from sanic.request import Request
from sanic.response import HTTPResponse, text

from nora.api import Content, Listing, NotFound, Page, Registry, RegistryBlueprint
from nora_pypi.form import read_form
from nora_pypi.json_routes import register as register_json_api
from nora_pypi.model import METADATA, PROVENANCE, SIGNATURE, is_secure_url
from nora_pypi.names import NormalizedName, normalize
from nora_pypi.negotiate import Representation, choose
from nora_pypi.render import project_html, project_json, projects_html, projects_json
from nora_pypi.upload import validate

VARY = ("Accept",)
SIDECARS = {
    METADATA: "application/octet-stream",
    SIGNATURE: "application/pgp-signature",
    PROVENANCE: "application/vnd.pypi.integrity.v1+json",
}
"""Content types by suffix."""
_FORWARDING = ("forwarded", "via", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "x-real-ip")
# On such an address a plain connection is as good as a secure one.
_LOOPBACK = re.compile(r"(?:localhost|127\.0\.0\.1|\[::1\])(?::[0-9]{1,5})?", re.IGNORECASE)


def blueprint(registry: Registry[Any]) -> RegistryBlueprint:
    """All routes of one registry."""
    bp = RegistryBlueprint()
    pages, uploads = Pages(registry), Uploads(registry)
    bp.read("/simple/")(pages.projects)
    bp.read("/simple")(pages.projects_without_slash)
    bp.read("/")(pages.root)
    bp.read("/simple/<project>/")(pages.project)
    bp.read("/simple/<project>")(pages.project_without_slash)
    bp.read("/simple/<project>/<filename>")(pages.file)
    register_json_api(bp, registry)
    # UP-13, UP-22: every address that a client may be configured with, with and without its final slash.
    for rule in ("/simple/", "/simple", "/legacy/", "/legacy", "/"):
        bp.write(rule, stream=True)(uploads.upload)
    return bp


class Pages:
    """Index pages and files."""

    def __init__(self, registry: Registry[Any]) -> None:
        self._registry = registry
        self._base = f"{registry.public_url}simple/" if registry.public_url else ""

    async def projects(self, request: Request) -> Page:
        """The project list."""
        chosen = _representation(request)
        render = projects_json if chosen is Representation.JSON else partial(projects_html, base=self._base)
        return await self._registry.projects_page(chosen.value, render, vary=VARY)

    async def root(self, request: Request) -> HTTPResponse:
        """Whoever opens the registry's own address wants to see what is there."""
        return _redirect(request, "simple/")

    async def projects_without_slash(self, request: Request) -> HTTPResponse:
        """NAME-6."""
        return _redirect(request, "simple/")

    async def project(self, request: Request, project: str) -> Page | HTTPResponse:
        """The files of a project."""
        name = _known(project)
        if name != project:
            return _redirect(request, f"../{name}/")
        chosen = _representation(request)
        base = f"{self._base}{name}/" if self._base else ""
        secure = self._secure_base(request)
        render = partial(
            project_json if chosen is Representation.JSON else project_html,
            base=base,
            secure_base=f"{secure}{name}/" if secure else "",
        )
        return await self._registry.project_page(name, chosen.value, render, variant=secure, vary=VARY, fields=serial_field)

    async def project_without_slash(self, request: Request, project: str) -> HTTPResponse:
        """NAME-3, NAME-6: one hop to the normalized address."""
        return _redirect(request, f"{_known(project)}/")

    async def file(self, request: Request, project: str, filename: str) -> Content:
        """A file, or what belongs to it."""
        name = _known(project)
        for suffix, content_type in SIDECARS.items():
            if filename.endswith(suffix):
                content = await self._registry.open(name, filename.removesuffix(suffix), sidecar=suffix)
                content.content_type = content_type
                return content
        return await self._registry.open(name, filename)

    def _secure_base(self, request: Request) -> str:
        """Address of the project list, if it is a secure one for this client; "" otherwise. For links that must be (PROV-1)."""
        if self._base:
            return self._base if is_secure_url(self._base) else ""
        # Only a client on this machine has this address for us. A reverse proxy on this machine may use it, too, on behalf of others.
        direct = request.version == "1.1" and not any(name in request.headers for name in _FORWARDING)
        local = direct and _LOOPBACK.fullmatch(request.host) is not None
        scheme = "https" if request.scheme in ("https", "wss") else "http"
        return f"{scheme}://{request.host}{self._registry.path}simple/" if local else ""


def serial_field(listing: Listing) -> dict[str, str]:
    """API-7: mirrors want to know when a project changed."""
    return {"x-pypi-last-serial": str(listing.serial)}


class Uploads:
    """The legacy upload API, as twine, uv, poetry, hatch, flit and pdm speak it."""

    def __init__(self, registry: Registry[Any]) -> None:
        self._registry = registry

    async def upload(self, request: Request) -> HTTPResponse:
        """One file with its form."""
        async with self._registry.spool() as spool:
            form = await read_form(self._registry.body(request), request.headers.get("content-type", ""), spool)
            upload = await validate(form, spool)
            published = await self._registry.publish(upload.project, upload.file, spool, sidecars=upload.sidecars)
        outcome = "published" if published.created else "already here with the same content"
        return text(f"{published.file.name}: {outcome}\n")


def _known(project: str) -> NormalizedName:
    name = normalize(project)
    if name is None:
        raise NotFound("project", project[:200])
    return name


def _representation(request: Request) -> Representation:
    accept = tuple(request.headers.getall("accept", ()))
    return choose(accept, request.args.get("format") if request.query_string else None)


def _redirect(request: Request, target: str) -> HTTPResponse:
    # HTTP-16: a relative reference of our own making cannot lead to another server, and works below any prefix of a reverse proxy.
    query = f"?{quote(request.query_string, safe='=&+%/;.*')}" if request.query_string else ""
    return text("", status=301, headers={"location": target + query, "vary": "Accept"})
