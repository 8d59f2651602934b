"""What a plugin hands over: a registry format."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Generator, Sequence
from typing import Any, ClassVar

from nora.api.config import ProxyConfig, RegistryConfig
from nora.api.model import Document, File, Listing, Part, Read, UpstreamRequest
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

    def project_name(self, text: str) -> str | None:
        """The normalized name that a project written as ``text`` has; ``None`` if none can have it. Here: the text itself."""
        return text or None

    def version_key(self, version: str) -> str:
        """Equal for two spellings of one version. Here: the text itself."""
        return version


class SidecarReader(ABC):
    """Reads one kind of sidecar out of the files themselves, for upstreams that do not serve it.

    Attributes:
        suffix: What the sidecar's address adds to the file's, such as ``.metadata``.
    """

    suffix: ClassVar[str]

    @abstractmethod
    def applies(self, file: File) -> bool:
        """Whether this file has such a sidecar inside, as far as its listing tells. Pure and fast: called for every file."""

    @abstractmethod
    def read(self, project: str, file: File, *, held: bool) -> Generator[Read, Part, bytes]:
        """The sidecar's content. Yields the parts of the file that it has to see, one after another, and gets each in turn.

        The host takes them from the upstream by range requests, so ask for little; if the file is ``held``, from there, so check
        all that can be checked. Bound everything: the bytes are somebody else's. Does no I/O.

        Raises:
            Invalid: the file has no such content. That is remembered, and the sidecar no longer announced.
        """


class RelatedDocument(ABC):
    """One kind of document that an upstream may have about a project besides its listing.

    Attributes:
        kind: Short name, of lower-case letters, digits and ``-``.
    """

    kind: ClassVar[str]

    @abstractmethod
    def request(self, upstream_url: str, project: str, part: str) -> UpstreamRequest | None:
        """How to ask for it; ``None`` if this upstream can have none.

        ``part`` tells apart several documents of one project, such as a version; "" is the one about the project.
        """

    @abstractmethod
    def parse(self, project: str, document: Document) -> Any:
        """Read an answer. Pure.

        Raises:
            UpstreamInvalid: it is no such document. It is then not kept.
        """


class ProxyFormat(Format):
    """A format that can fetch from upstreams. Both methods are pure; the host does the rest.

    That is: caching, revalidation, one request for many clients, order of upstreams, ownership, policy and file transfer.

    Attributes:
        sidecar_readers: How sidecars are made that an upstream does not serve.
        related: Further documents that upstreams may have, see :meth:`nora.api.Registry.related`.
    """

    Config: ClassVar[type[ProxyConfig]] = ProxyConfig
    sidecar_readers: ClassVar[Sequence[SidecarReader]] = ()
    related: ClassVar[Sequence[RelatedDocument]] = ()

    @abstractmethod
    def listing_request(self, upstream_url: str, project: str) -> UpstreamRequest:
        """How to ask for a project's listing. ``upstream_url`` is as configured; ``project`` is normalized."""

    @abstractmethod
    def parse_listing(self, project: str, document: Document) -> Listing:
        """Read an upstream's answer; every file's ``url`` is absolute. Called in a thread when the document is large.

        Raises:
            UpstreamInvalid: it is no listing. It is then neither kept nor taken for an empty project.
        """
