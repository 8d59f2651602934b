"""The host's own API below ``/api/v1/``: what is the same for every format."""

from __future__ import annotations

from collections.abc import Mapping

from nora.api import RegistryBlueprint
from nora.registry.managed import ManagedRegistry


def api_routes(registries: Mapping[str, ManagedRegistry]) -> RegistryBlueprint:
    """The routes, relative to where the API is mounted."""
    return RegistryBlueprint()
