"""A registry with all that is done to it from outside of its own routes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from nora.api import Format, NotFound
from nora.registry.curate import Curator, Target
from nora.registry.merge import Overview
from nora.registry.registry import HostRegistry

__all__ = ["ManagedRegistry", "Overview", "Target", "managed"]


@dataclass(frozen=True, slots=True)
class ManagedRegistry:
    """One registry of the running host, for the command line and the host's API."""

    registry: HostRegistry
    curator: Curator
    format: Format

    def project(self, text: str) -> str:
        """The normalized name of a project, however it is written.

        Raises:
            NotFound: no project can have this name.
        """
        # An argument of the command line may be no text at all.
        name = self.format.project_name(text) if _is_unicode(text) else None
        if name is None:
            raise NotFound("project", text[:200])
        return name


def managed(registries: Mapping[str, ManagedRegistry], name: str) -> ManagedRegistry:
    """The registry of this name.

    Raises:
        NotFound: there is none; the text names those that there are.
    """
    try:
        return registries[name]
    except KeyError:
        raise NotFound("registry", f"{name[:80]!r}; there are {', '.join(sorted(registries)) or 'none'}") from None


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
