"""Formats that the tests of configuration load, and the loading itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any

import msgspec
import pytest

from nora.api import (
    Document,
    Format,
    Listing,
    ProxyConfig,
    ProxyFormat,
    Registry,
    RegistryBlueprint,
    RegistryConfig,
    Secret,
    UpstreamRequest,
)
from nora.config.errors import ConfigurationError
from nora.config.load import load
from nora.config.settings import Settings


class PypiConfig(ProxyConfig, frozen=True, kw_only=True):
    proxy: str = "https://index.example/simple/"


class FakePypi(ProxyFormat):
    name, title, Config, implicit = "pypi", "Python packages", PypiConfig, True

    def routes(self, registry: Registry[Any]) -> RegistryBlueprint:
        return RegistryBlueprint()

    def listing_request(self, upstream_url: str, project: str) -> UpstreamRequest:
        return UpstreamRequest(url=upstream_url + project)

    def parse_listing(self, project: str, document: Document) -> Listing:
        return Listing(project=project)


class RawConfig(RegistryConfig, frozen=True, kw_only=True):
    max_file_size_mb: Annotated[int, msgspec.Meta(ge=1)] = 100
    ratio: float = 0.5
    token: Secret = Secret()
    kinds: tuple[str, ...] = ("zip",)


class FakeRaw(Format):
    name, title, Config = "raw", "Raw files", RawConfig

    def routes(self, registry: Registry[Any]) -> RegistryBlueprint:
        return RegistryBlueprint()


@pytest.fixture
def formats() -> dict[str, Format]:
    return {"pypi": FakePypi(), "raw": FakeRaw()}


@pytest.fixture
def configure(tmp_path: Path, formats: dict[str, Format]) -> Callable[..., Settings]:
    """``configure(toml, overrides, NORA_PORT="1")``: settings from such a config.toml in ``tmp_path``; no file when ``None``."""

    def configure(toml: str | None = None, overrides: Mapping[str, str] = {}, **environ: str) -> Settings:
        if toml is not None:
            (tmp_path / "config.toml").write_text(toml)
        return load(formats=formats, environ=environ, cwd=tmp_path, overrides=overrides)

    return configure


@pytest.fixture
def problems(configure: Callable[..., Settings]) -> Callable[..., list[str]]:
    """Called as ``configure``, for a configuration that is wrong: what is wrong with it."""

    def problems(*args: Any, **environ: str) -> list[str]:
        with pytest.raises(ConfigurationError) as caught:
            configure(*args, **environ)
        assert str(caught.value) == "\n".join(caught.value.problems)
        assert all(len(problem.splitlines()) == 1 for problem in caught.value.problems)
        return list(caught.value.problems)

    return problems
