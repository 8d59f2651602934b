"""A registry with all that is done to it from outside of its own routes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from nora.api import Format, Invalid, NotFound
from nora.registry.curate import Curator
from nora.registry.registry import HostRegistry


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
        name = self.format.project_name(text)
        if name is None:
            raise NotFound("project", text[:200])
        return name


def managed(registries: Mapping[str, ManagedRegistry], name: str) -> ManagedRegistry:
    """The registry of this name.

    Raises:
        Invalid: there is none; the text names those that there are.
    """
    try:
        return registries[name]
    except KeyError:
        raise Invalid(f"no such registry: {name[:80]!r}; there are {', '.join(sorted(registries)) or 'none'}") from None
