"""The plugin's entry point: the format ``pypi``."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import msgspec
from packaging.utils import canonicalize_version

from nora.api import (
    Document,
    Format,
    Listing,
    ProxyConfig,
    ProxyFormat,
    Registry,
    RegistryBlueprint,
    UpstreamRequest,
    hookimpl,
)
from nora_pypi.json_upstream import JsonApiDocument
from nora_pypi.names import normalize, parse_version
from nora_pypi.parse import parse_listing
from nora_pypi.remote import WheelMetadata
from nora_pypi.routes import blueprint

_SERIAL_DIGITS = 19
DEFAULT_UPSTREAM = "https://pypi.org/simple/"
# PROXY-2: JSON first, since it alone tells sizes and upload times.
ACCEPT = "application/vnd.pypi.simple.v1+json, application/vnd.pypi.simple.v1+html;q=0.2, text/html;q=0.1"


class PyPIConfig(ProxyConfig, frozen=True, kw_only=True):
    """Configuration of a ``pypi`` registry; a ``[registries.NAME]`` of this format has the public index as its upstream, too."""

    proxy: str = DEFAULT_UPSTREAM

    def __post_init__(self) -> None:
        # NAME-2: patterns are written as people write names.
        patterns = tuple(re.sub(r"[-_.]+", "-", pattern).lower() for pattern in self.merge_upstream)
        msgspec.structs.force_setattr(self, "merge_upstream", patterns)

    def problems(self) -> Iterator[tuple[str, str]]:
        """See :meth:`nora.api.RegistryConfig.problems`."""
        yield from super().problems()
        for pattern in self.merge_upstream:
            if not pattern:
                yield "merge_upstream", "must not hold an empty pattern"


class PyPI(ProxyFormat):
    """The Simple repository API, with uploads and transparent proxying."""

    name, title = "pypi", "Python packages"
    api_version = 1
    Config = PyPIConfig
    implicit = True

    sidecar_readers = (WheelMetadata(),)
    related = (JsonApiDocument(),)

    def project_name(self, text: str) -> str | None:
        """See :class:`nora.api.Format`."""
        return normalize(text)

    def version_key(self, version: str) -> str:
        """See :class:`nora.api.Format`: PEP 440 equality.

        >>> PyPI().version_key("v1.0.0") == PyPI().version_key("1")
        True
        """
        parsed = parse_version(version)
        return version if parsed is None else canonicalize_version(parsed)

    def routes(self, registry: Registry[Any]) -> RegistryBlueprint:
        """See :class:`nora.api.Format`."""
        return blueprint(registry)

    def listing_request(self, upstream_url: str, project: str) -> UpstreamRequest:
        """See :class:`nora.api.ProxyFormat`.

        >>> PyPI().listing_request("https://index.example/simple", "numpy").url
        'https://index.example/simple/numpy/'
        """
        # PROXY-1
        return UpstreamRequest(url=f"{upstream_url.rstrip('/')}/{project}/", headers={"Accept": ACCEPT})

    def parse_listing(self, project: str, document: Document) -> Listing:
        """See :class:`nora.api.ProxyFormat`."""
        listing = parse_listing(project, document)
        return msgspec.structs.replace(listing, serial=_serial(listing))


def _serial(listing: Listing) -> int:
    """The upstream's own serial of the project, 0 if it does not tell."""
    meta = listing.extra.get("meta")
    serial = str(meta.get("_last-serial", "")) if isinstance(meta, Mapping) else ""
    return int(serial) if serial.isascii() and serial.isdecimal() and len(serial) < _SERIAL_DIGITS else 0


@hookimpl
def nora_register_formats(register: Callable[[Format], None]) -> None:
    """Register the format."""
    register(PyPI())
