"""The registry facade: all that a format works with."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Generic, TypeVar

from sanic.request import Request

from nora.api.config import RegistryConfig
from nora.api.content import Content, Page
from nora.api.model import File, Listing, ProjectNames, Published, Related

ConfigT = TypeVar("ConfigT", bound=RegistryConfig)


class Spool(ABC):
    """A temporary file that is hashed while it is written; gone with its ``async with`` unless it was published.

    Bytes are written and hashed off the event loop, at most two megabytes wait in memory.
    """

    @property
    @abstractmethod
    def size(self) -> int:
        """Bytes written so far."""

    @property
    @abstractmethod
    def path(self) -> str:
        """Path of the temporary file, complete once :meth:`finish` returned. To read from, not to keep."""

    @abstractmethod
    def want(self, *algorithms: str) -> None:
        """Ask for digests by hashlib's names, before the first write; sha256 is always made."""

    @abstractmethod
    async def write(self, data: bytes) -> None:
        """Append.

        Raises:
            StorageFull: no room left.
        """

    @abstractmethod
    async def finish(self) -> None:
        """Say that all is written. Idempotent."""

    @abstractmethod
    async def digest(self, algorithm: str) -> str:
        """Lower-case hex digest of all bytes, after :meth:`finish`; read again from disk if it was not asked for before."""


class Registry(ABC, Generic[ConfigT]):
    """One registry: a format with a name, a place in the URL space and a configuration.

    Attributes:
        name: Key of its configuration table.
        path: Where it is mounted, ``/`` or ``/name/``.
        config: Its typed configuration.
        public_url: Absolute address of ``path`` as configured, with final slash; "" when links are to be relative.
    """

    name: str
    path: str
    config: ConfigT
    public_url: str

    @abstractmethod
    async def projects(self) -> ProjectNames:
        """Names of the projects that are hosted or held here."""

    @abstractmethod
    async def listing(self, project: str) -> Listing:
        """The files of a project, by its normalized name.

        Raises:
            NotFound: neither hosted here nor known to an upstream.
            UpstreamError: not hosted, nothing held, and an upstream failed.
        """

    @abstractmethod
    async def project_page(
        self,
        project: str,
        content_type: str,
        render: Callable[[Listing], bytes],
        *,
        variant: str = "",
        vary: tuple[str, ...] = (),
        fields: Callable[[Listing], Mapping[str, str]] | None = None,
    ) -> Page:
        """The project's page in one representation, rendered once per change.

        ``render`` is called only when the listing has changed, maybe in a thread, so it must be pure: the same listing gives the
        same bytes. Representations are told apart by ``content_type`` and ``variant``. ``fields`` gives further response fields.

        A request with the same head may get the same answer without the handler being called, so a handler chooses the page by
        nothing but the head of the request, without its X-Request-ID: not by the time, the client's address or what it remembers.

        Raises:
            NotFound, UpstreamError: as :meth:`listing`.
        """

    @abstractmethod
    async def projects_page(
        self, content_type: str, render: Callable[[ProjectNames], bytes], *, vary: tuple[str, ...] = ()
    ) -> Page:
        """The list of projects in one representation, rendered once per change.

        It may be given again by the request's head alone, as :meth:`project_page`.
        """

    @abstractmethod
    async def page(
        self,
        key: tuple[str, ...],
        revision: str,
        content_type: str,
        make: Callable[[], Awaitable[bytes]],
        *,
        vary: tuple[str, ...] = (),
        fields: Mapping[str, str] | None = None,
    ) -> Page:
        """A page of the format's own making: ``make`` is called once per ``key`` and ``revision``, which says what it is made of."""

    @abstractmethod
    async def related(self, project: str, kind: str, part: str = "") -> Related | None:
        """What the upstream that owns a project says in a document of this kind; ``None`` if nobody does.

        Cached, revalidated and kept as listings are.

        Raises:
            UpstreamError: it failed, and nothing is held.
        """

    @abstractmethod
    async def read(self, project: str, filename: str, *, sidecar: str = "", max_bytes: int) -> bytes:
        """The whole of a small file or sidecar, fetched if it is not held.

        Raises:
            NotFound, UpstreamError: as :meth:`open`.
            TooLarge: it has more than ``max_bytes`` bytes.
        """

    @abstractmethod
    async def open(self, project: str, filename: str, *, sidecar: str = "") -> Content:
        """A file, or with ``sidecar`` (a suffix such as ``.metadata``) what belongs to it; fetched from upstream if not held.

        The same decision as :meth:`listing` makes it: a file that is not listed is not found. It may be given again by the
        request's head alone, as :meth:`project_page`; that goes for ``content_type`` and ``headers`` that the handler sets, too.

        Raises:
            NotFound: not listed.
            UpstreamError: not held here, and the upstream failed.
        """

    @abstractmethod
    def body(self, request: Request) -> AsyncIterator[bytes]:
        """The request's body in pieces as they arrive, for routes with ``stream=True``.

        Raises:
            TooLarge: it is, or grows, over the configured limit.
            Invalid: it broke off.
        """

    @abstractmethod
    def spool(self) -> AbstractAsyncContextManager[Spool]:
        """A new, empty temporary file."""

    @abstractmethod
    def receive(self, request: Request) -> AbstractAsyncContextManager[Spool]:
        """The whole body of a request in a temporary file, limited as :meth:`body`."""

    @abstractmethod
    async def publish(
        self, project: str, file: File, content: Spool, *, sidecars: Mapping[str, bytes] | None = None
    ) -> Published:
        """Make a received file part of a project, durably and visible at once on every worker.

        Of ``file`` the host takes name, version, identity, digests and extra; it sets size, sha256 and time itself. From then on
        the project is owned: it is no longer looked up upstream, even if its last file goes.

        Raises:
            AlreadyExists: the name or identity is, or was, used for other bytes.
            Forbidden: the project's status takes no uploads.
            StorageFull: no room left; nothing was stored.
        """
