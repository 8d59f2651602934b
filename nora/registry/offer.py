"""Where a project's files come from, and what of them is offered."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from nora.api import Listing
from nora.index.manifest import Manifest
from nora.registry.sources import Owned


@dataclass(frozen=True, slots=True)
class Resolved:
    """Where a project's files come from at this moment.

    ``manifest`` is what is hosted, ``marks`` what was decided here about files, hosted ones or the upstream's. ``asked``:
    whether upstreams had a say in it.
    """

    project: str
    manifest: Manifest | None
    marks: Manifest | None
    owned: Owned | None
    asked: bool

    @property
    def revision(self) -> str:
        """Changes whenever the listing does."""
        hosted, marks = (part.serial if part else 0 for part in (self.manifest, self.marks))
        return f"{hosted}.{marks}.{self.owned.revision if self.owned else ''}"


@dataclass(frozen=True, slots=True)
class Offer:
    """What a project offers, and the reasons why some of its files are not offered."""

    listing: Listing
    refused: Mapping[str, str]
    owned: Owned | None
