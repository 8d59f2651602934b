"""What a plugin hands over: a registry format."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar

from nora.api.config import ProxyConfig, RegistryConfig
from nora.api.model import Document, Listing, UpstreamRequest
from nora.api.registry import Registry
from nora.api.routes import RegistryBlueprint

API_VERSION = 1
"""The version of this API. A format declares the one it was written for; the host refuses others."""


class Format(ABC):
    """A kind of registry.

    Attributes:
        name: What ``format = "..."`` says in a configuration; lower-case letters, digits and ``-``.
        title: For people.
        Config: Typed configuration of one registry of this format.
        api_version: The :data:`API_VERSION` that it was written for, as a number. There is no default: it would always be right.
        implicit: Whether a registry of this name exists at ``/`` without a ``[registries.NAME]`` table.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    Config: ClassVar[type[RegistryConfig]] = RegistryConfig
    api_version: ClassVar[int]
    implicit: ClassVar[bool] = False

    @abstractmethod
    def routes(self, registry: Registry[Any]) -> RegistryBlueprint:
        """The routes of one registry. Called once per registry at start; does no I/O."""


class ProxyFormat(Format):
    """A format that can fetch from upstreams. Both methods are pure; the host does the rest.

    That is: caching, revalidation, one request for many clients, order of upstreams, ownership, policy and file transfer.
    """

    Config: ClassVar[type[ProxyConfig]] = ProxyConfig

    @abstractmethod
    def listing_request(self, upstream_url: str, project: str) -> UpstreamRequest:
        """How to ask for a project's listing. ``upstream_url`` is as configured; ``project`` is normalized."""

    @abstractmethod
    def parse_listing(self, project: str, document: Document) -> Listing:
        """Read an upstream's answer; every file's ``url`` is absolute. Called in a thread when the document is large.

        Raises:
            UpstreamInvalid: it is no listing. It is then neither kept nor taken for an empty project.
        """
