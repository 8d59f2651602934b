"""The neutral model that every format shares.

What a format needs beyond it lives in ``extra``, which the host stores and never reads. All values are immutable: to change
one, build another with ``msgspec.structs.replace``.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any

import msgspec


class Sidecar(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A small file that belongs to a file and is served at the file's address plus a suffix (``.metadata``, ``.asc``).

    Attributes:
        digests: Digests by hashlib's name of the algorithm, in lower-case hex; empty when none is announced.
        size: Length in bytes, if known.
        url: Where the upstream serves it, absolute; ``None`` when it is hosted here (then ``digests`` has its sha256) or derived.
        derived: It is read out of the file itself when somebody asks, see :class:`nora.api.SidecarReader`; its digest and size
            are known from then on.
    """

    digests: dict[str, str] = {}
    size: int | None = None
    url: str | None = None
    derived: bool = False


class File(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One file of a project.

    Attributes:
        name: File name, unique in its project; never a path.
        version: The version that it belongs to, as the format writes it; "" when the name does not tell.
        size: Length in bytes; ``None`` when the upstream does not say.
        digests: Digests by hashlib's name of the algorithm, in lower-case hex.
        published: When it was published, ``yyyy-mm-ddThh:mm:ss[.ffffff]Z``; never changes for a file.
        yanked: ``False``, ``True`` (yanked without a reason) or the reason.
        url: Where the upstream serves it, absolute; ``None`` when it is hosted here.
        sidecars: By suffix, dot included.
        identity: Two names with one identity cannot both be published (``x-1.0`` and ``x-1.0.0``); "" means the name itself.
        extra: The format's own fields, passed through unread.
    """

    name: str
    version: str = ""
    size: int | None = None
    digests: dict[str, str] = {}
    published: str | None = None
    yanked: bool | str = False
    url: str | None = None
    sidecars: dict[str, Sidecar] = {}
    identity: str = ""
    extra: dict[str, Any] = {}


class Listing(msgspec.Struct, frozen=True, kw_only=True, dict=True):
    """What a project offers: the answer to "which files are there?".

    Attributes:
        project: Normalized name.
        files: In the order in which they are shown.
        status: "active", "archived", "deprecated" or "quarantined" (PEP 792).
        status_reason: Why; may be empty.
        extra: The format's own fields, passed through unread.
        hosted: Whether any of it is hosted here.
        serial: A whole number above 0 that grows with every change that is known here; the host sets it.
        revision: Changes whenever any of the above changes; the host sets it.
    """

    project: str
    files: tuple[File, ...] = ()
    status: str = "active"
    status_reason: str = ""
    extra: dict[str, Any] = {}
    hosted: bool = False
    serial: int = 0
    revision: str = ""

    @cached_property
    def by_name(self) -> Mapping[str, File]:
        """The files by name."""
        return {file.name: file for file in self.files}


class UpstreamRequest(msgspec.Struct, frozen=True, kw_only=True):
    """How to ask an upstream for a project's listing: a GET of ``url`` (absolute) with ``headers``."""

    url: str
    headers: dict[str, str] = {}


class Document(msgspec.Struct, frozen=True, kw_only=True):
    """An upstream's answer.

    Attributes:
        url: The final URL, after redirects; relative links resolve against it.
        content_type: The Content-Type field's value, parameters included; "" when there was none.
        body: The content, with any Content-Encoding removed.
    """

    url: str
    content_type: str
    body: bytes


class Related(msgspec.Struct, frozen=True, kw_only=True):
    """An upstream's document about a project: what the format parsed it to. ``revision`` changes whenever the document does."""

    value: Any
    revision: str


class Read(msgspec.Struct, frozen=True):
    """A wish for bytes of a file: ``count`` of them from ``start``, which counts from the end when it is negative."""

    start: int
    count: int


class Part(msgspec.Struct, frozen=True):
    """Bytes of a file.

    Attributes:
        start: Position of the first byte.
        data: All that was wished for, or less where the file begins or ends.
        size: Length of the whole file.
    """

    start: int
    data: bytes
    size: int


class ProjectNames(msgspec.Struct, frozen=True, kw_only=True):
    """The projects of a registry: hosted ones, and upstream ones of which a page is held. ``names`` is sorted."""

    names: tuple[str, ...]
    revision: str


class Published(msgspec.Struct, frozen=True, kw_only=True):
    """The outcome of publishing: ``created`` is false when the same bytes were there already."""

    file: File
    created: bool


class Actor(msgspec.Struct, frozen=True, kw_only=True):
    """Who asks. ``name`` is "" for nobody in particular."""

    name: str = ""

    @property
    def is_anonymous(self) -> bool:
        """Whether nobody logged in."""
        return not self.name
