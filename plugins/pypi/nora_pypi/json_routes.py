"""The JSON API: ``/pypi/{project}/json`` and ``/pypi/{project}/{version}/json``."""

from __future__ import annotations

import asyncio
import re
from collections import OrderedDict
from dataclasses import dataclass
from functools import partial
from typing import Any
from urllib.parse import quote

from sanic.request import Request
from sanic.response import HTTPResponse, text

from nora.api import (
    Forbidden,
    Invalid,
    Listing,
    NoraError,
    NotFound,
    Page,
    Registry,
    RegistryBlueprint,
    UpstreamInvalid,
)
from nora_pypi.archive import MAX_METADATA_BYTES
from nora_pypi.json_api import Material, Release, find, latest, releases_of, render, representative
from nora_pypi.json_upstream import KIND, Said
from nora_pypi.names import NormalizedName, normalize

CONTENT_TYPE = "application/json"
LAST_SERIAL = "X-PyPI-Last-Serial"

_MAX_KEYS = 10_000
_INLINE_FILES = 150
_INLINE_BYTES = 64 << 10
_MAX_HOST_LENGTH = 255 + len(":65535")
_HOST = re.compile(r"(?:[a-z0-9](?:[a-z0-9_.-]*[a-z0-9])?\.?|\[[0-9a-f:.]+\])(?::[0-9]{1,5})?", re.IGNORECASE | re.ASCII)


def register(bp: RegistryBlueprint, registry: Registry[Any]) -> None:
    """Declare the routes."""
    api = JsonApi(registry)
    bp.read("/pypi/<project>/json")(api.project)
    bp.read("/pypi/<project>/json/")(api.project_with_slash)
    bp.read("/pypi/<project>/<version>/json")(api.release)
    bp.read("/pypi/<project>/<version>/json/")(api.release_with_slash)


@dataclass(frozen=True, slots=True)
class Upstream:
    """What the upstream's own documents say: of a release, and of files. ``revision`` changes with them."""

    about: Said | None = None
    beside: Said | None = None
    revision: str = ""


class JsonApi:
    """Handlers of the JSON API."""

    def __init__(self, registry: Registry[Any]) -> None:
        self._registry = registry
        self._keys: OrderedDict[tuple[str, str], tuple[str, str]] = OrderedDict()

    async def project(self, request: Request, project: str) -> Page | HTTPResponse:
        """What a project's latest release is, and all files of all releases."""
        name = _known(project)
        if name != project:
            return _redirect(f"../{name}/json")  # API-6
        listing = await self._registry.listing(name)
        key = self._key(listing, "")
        if key is None:
            raise NotFound("release of project", name)
        return await self._answer(listing, key, self._base(request, depth=2), whole=True)

    async def project_with_slash(self, request: Request, project: str) -> HTTPResponse:
        """One hop to the address without it."""
        return _redirect(f"../../{_known(project)}/json")

    async def release(self, request: Request, project: str, version: str) -> Page | HTTPResponse:
        """One release, by a version in any spelling."""
        name = _known(project)
        if name != project:
            return _redirect(f"../../{name}/{quote(version, safe='')}/json")  # API-6
        listing = await self._registry.listing(name)
        key = self._key(listing, version)
        if key is None:
            raise NotFound("release", f"{name} {version[:200]}")
        return await self._answer(listing, key, self._base(request, depth=3), whole=False)

    async def release_with_slash(self, request: Request, project: str, version: str) -> HTTPResponse:
        """One hop to the address without it."""
        return _redirect(f"../../../{_known(project)}/{quote(version, safe='')}/json")

    def _key(self, listing: Listing, version: str) -> str | None:
        """The key of the release that a version means, "" being the latest; ``None`` if there is none.

        Remembered, since it takes milliseconds for a project with thousands of files.
        """
        asked = listing.project, version
        known = self._keys.get(asked)
        if known is not None and known[0] == listing.revision:
            self._keys.move_to_end(asked)
            return known[1]
        releases = releases_of(listing)
        found = find(releases, version) if version else latest(releases)
        if found is None:
            return None
        self._keys[asked] = listing.revision, found.key
        self._keys.move_to_end(asked)
        if len(self._keys) > _MAX_KEYS:
            self._keys.popitem(last=False)
        return found.key

    async def _answer(self, listing: Listing, key: str, base: str, *, whole: bool) -> Page:
        upstream = await self._upstream(listing, key, whole=whole)

        async def make(*, with_metadata: bool) -> bytes:
            releases = releases_of(listing)
            chosen = find(releases, key)
            assert chosen is not None, "its key comes from the same listing"
            metadata = await self._metadata(listing, chosen) if with_metadata and upstream.about is None else None
            material = Material(
                listing=listing,
                chosen=chosen,
                releases=releases if whole else None,
                base=base,
                metadata=metadata,
                about=upstream.about,
                beside=upstream.beside,
            )
            large = len(listing.files) > _INLINE_FILES or upstream.beside is not None or len(metadata or b"") > _INLINE_BYTES
            return await asyncio.to_thread(render, material) if large else render(material)

        name = (KIND, listing.project, "" if whole else key, base)
        revision = f"{listing.revision}|{listing.serial}|{upstream.revision}"
        page = partial(self._registry.page, fields={LAST_SERIAL: str(listing.serial)})  # API-7
        try:
            return await page((*name, "full"), revision, CONTENT_TYPE, partial(make, with_metadata=True))
        except NoraError:
            # What fails now may not fail next time, so the page without it has a place of its own.
            return await page((*name, "bare"), revision, CONTENT_TYPE, partial(make, with_metadata=False))

    async def _metadata(self, listing: Listing, chosen: Release) -> bytes | None:
        """Core metadata of a release; ``None`` if there is none that could be had later either.

        Raises:
            NoraError: not now.
        """
        best = representative(chosen)
        if best is None:
            return None
        file, suffix = best
        try:
            return await self._registry.read(listing.project, file.name, sidecar=suffix, max_bytes=MAX_METADATA_BYTES)
        except (NotFound, Invalid, Forbidden, UpstreamInvalid):
            return None

    async def _upstream(self, listing: Listing, key: str, *, whole: bool) -> Upstream:
        """What the upstream says of a release, in the first of its documents that is about it; of files in the first there is."""
        found = Upstream()
        if listing.hosted:
            return found
        for part in ("", key) if whole else (key, ""):
            try:
                related = await self._registry.related(listing.project, KIND, part)
            except NoraError:
                break
            if related is not None:
                said: Said = related.value
                about = said if said.is_about(key) else None
                found = Upstream(about, found.beside or said, f"{found.revision}|{part}={related.revision}")
            # Where a project has no document, its releases have none either.
            if found.about is not None or (related is None and not part):
                break
        return found

    def _base(self, request: Request, *, depth: int) -> str:
        """The registry's address for links: absolute, since scripts do not resolve them, if it can be told."""
        if self._registry.public_url:
            return self._registry.public_url
        hosts = request.headers.getall("host", ())
        # HTTP-16: what a client claims ends up in links, so it must at least be a host.
        if len(hosts) != 1 or len(hosts[0]) > _MAX_HOST_LENGTH or not _HOST.fullmatch(hosts[0]):
            return "../" * depth
        scheme = "https" if request.scheme in ("https", "wss") else "http"
        return f"{scheme}://{hosts[0].lower()}{self._registry.path}"


def _known(project: str) -> NormalizedName:
    name = normalize(project)
    if name is None:
        raise NotFound("project", project[:200])
    return name


def _redirect(target: str) -> HTTPResponse:
    # HTTP-16: relative, so it leads to this server below any prefix of a reverse proxy.
    return text("", status=301, headers={"location": target})
