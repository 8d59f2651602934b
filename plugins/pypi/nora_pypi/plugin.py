"""The plugin's entry point: the format ``pypi``."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

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
from nora_pypi.parse import parse_listing
from nora_pypi.routes import blueprint

DEFAULT_UPSTREAM = "https://pypi.org/simple/"
# PROXY-2: JSON first, since it alone tells sizes and upload times.
ACCEPT = "application/vnd.pypi.simple.v1+json, application/vnd.pypi.simple.v1+html;q=0.2, text/html;q=0.1"


class PyPIConfig(ProxyConfig, frozen=True, kw_only=True):
    """Configuration of a ``pypi`` registry; a ``[registries.NAME]`` of this format has the public index as its upstream, too."""

    proxy: str = DEFAULT_UPSTREAM

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
        return parse_listing(project, document)


@hookimpl
def nora_register_formats(register: Callable[[Format], None]) -> None:
    """Register the format."""
    register(PyPI())
