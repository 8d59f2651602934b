"""Registries and projects by the names that people give them."""

from __future__ import annotations

from typing import Any

import pytest

from nora.api import Format, NotFound, RegistryBlueprint
from nora.registry.managed import ManagedRegistry, managed


class Plain(Format):
    """Takes every name as it is."""

    name, title, api_version = "plain", "Plain", 1

    def routes(self, registry: Any) -> RegistryBlueprint:
        return RegistryBlueprint()


class Lower(Plain):
    """Names are lower-case; those with a space are none."""

    def project_name(self, text: str) -> str | None:
        return None if " " in text else text.lower()


def of(format_: Format) -> ManagedRegistry:
    return ManagedRegistry(registry=None, curator=None, format=format_)  # type: ignore[arg-type]


def test_a_project_has_the_name_that_its_format_says():
    # NAME-2
    assert of(Lower()).project("DEMO") == "demo"
    assert of(Plain()).project("DEMO/x") == "DEMO/x"


@pytest.mark.parametrize(
    ("format_", "text"), [(Plain(), ""), (Lower(), "a b"), (Plain(), "\udcff"), (Lower(), "\udcff"), (Lower(), " " * 5000)]
)
def test_what_is_no_name_is_not_found(format_, text):
    # NAME-4
    with pytest.raises(NotFound, match="no such project: ") as caught:
        of(format_).project(text)
    assert len(str(caught.value)) < 300


def test_a_registry_is_found_by_its_name_and_others_are_told():
    registries = {"b": of(Plain()), "a": of(Lower())}
    assert managed(registries, "b") is registries["b"]
    with pytest.raises(NotFound) as caught:
        managed(registries, "c\n")
    assert str(caught.value) == r"no such registry: 'c\n'; there are a, b"
    with pytest.raises(NotFound, match="there are none"):
        managed({}, "a")
    with pytest.raises(NotFound) as caught:
        managed({}, "a" * 5000)
    assert len(str(caught.value)) < 150
