from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any

import msgspec
import pytest

from nora.api import Format, ProxyConfig, Registry, RegistryBlueprint, RegistryConfig, Secret
from nora.config.errors import ConfigurationError
from nora.config.load import load
from nora.config.settings import Settings

Configure = Callable[..., Settings]
Problems = Callable[..., list[str]]


def format_of(config: type[RegistryConfig], format_name: str = "raw", is_implicit: bool = False) -> dict[str, Format]:
    class Made(Format):
        name, title, Config, implicit = format_name, "Made", config, is_implicit

        def routes(self, registry: Registry[Any]) -> RegistryBlueprint:
            return RegistryBlueprint()

    return {format_name: Made()}


def load_text(tmp_path: Path, formats: dict[str, Format], toml: str, **environ: str) -> Settings:
    (tmp_path / "config.toml").write_text(toml)
    return load(formats=formats, environ=environ, cwd=tmp_path)


def mounts(settings: Settings) -> list[tuple[str, str, str]]:
    return [(registry.name, registry.format, registry.path) for registry in settings.registries]


def test_an_implicit_registry_is_mounted_at_the_root(configure: Configure) -> None:
    settings = configure("[pypi]\nproxy_timeout = 7")
    assert mounts(settings) == [("pypi", "pypi", "/")]
    config: Any = settings.registries[0].config
    assert isinstance(config, ProxyConfig)
    assert config.proxy == "https://index.example/simple/"
    assert config.proxy_timeout == 7
    assert isinstance(config.proxy_timeout, float)


def test_registries_are_mounted_by_their_names_or_paths(configure: Configure) -> None:  # CONF-4
    toml = """
    [registries.team-b]
    format = "pypi"
    path = "/python/team_b"
    [registries.files]
    format = "raw"
    kinds = ["a", "b"]
    token = "hunter2"
    ratio = 2
    """
    settings = configure(toml)
    assert mounts(settings) == [("pypi", "pypi", "/"), ("team-b", "pypi", "/python/team_b/"), ("files", "raw", "/files/")]
    config: Any = settings.registries[2].config
    assert (config.kinds, config.token, config.ratio, config.max_file_size_mb) == (("a", "b"), Secret("hunter2"), 2.0, 100)


@pytest.mark.parametrize("toml", ["[pypi]\nenabled = false", "[pypi]\nenabled = false\npath = '/x'"])
def test_disabled_registries_are_left_out(configure: Configure, toml: str) -> None:
    both = f"{toml}\n[registries.files]\nformat = 'raw'\n[registries.old]\nformat = 'raw'\nenabled = false\npath = '/files/'"
    assert mounts(configure(both)) == [("files", "raw", "/files/")]


def test_disabled_registries_are_checked_all_the_same(problems: Problems) -> None:  # CONF-1
    toml = "[registries.old]\nformat = 'raw'\nenabled = false\nratio = 'x'\nbogus = 1\npath = '/UPPER'"
    assert problems(toml) == [
        "config.toml: registries.old.bogus: unknown key; known are enabled, path, anonymous_read, max_file_size_mb, ratio, token, kinds",
        "config.toml: registries.old.ratio: must be a number, not a text",
        "config.toml: registries.old.path: '/UPPER/' is no path for a registry: "
        "use segments of a-z, 0-9 and . _ ~ -, such as /python/team-a/",
    ]


def test_no_registry_at_all_is_an_error(problems: Problems, tmp_path: Path) -> None:
    text = "config.toml: no registry is enabled; add a table [registries.NAME] with a format, or enable one"
    assert problems("[pypi]\nenabled = false") == [text]
    assert problems("", NORA_PYPI_ENABLED="off") == [text]
    with pytest.raises(ConfigurationError, match="no registry is enabled"):
        load(formats={}, environ={}, cwd=tmp_path / "elsewhere")


def test_a_wrong_registry_is_not_also_reported_as_missing(problems: Problems) -> None:
    assert problems("[pypi]\nenabled = false\n[registries.a]\nformat = 'rwa'") == [
        "config.toml: registries.a.format: unknown format; did you mean raw?"
    ]


@pytest.mark.parametrize(
    ("toml", "problem"),
    [
        ("[registries.a]", 'registries.a.format: must be set, such as format = "pypi"'),
        ("[registries.a]\nformat = 1", 'registries.a.format: must be set, such as format = "pypi"'),
        ("[registries.a]\nformat = 'npm'", "registries.a.format: unknown format; known are pypi, raw"),
        ("[registries]\na = 'pypi'", "registries.a: must be a table"),
        ("[[registries.a]]\nformat = 'pypi'", "registries.a: must be a table"),
        ("registries = []", "registries: must be a table of tables, [registries.NAME]"),
        ("[registries.a]\nformat = 'raw'\nratoi = 1", "registries.a.ratoi: unknown key; did you mean ratio?"),
        ("[registries.a]\nformat = 'raw'\nmax_file_size_mb = 0", "registries.a.max_file_size_mb: must be a whole number (Expected `int` >= 1)"),
        ("[registries.a]\nformat = 'raw'\npath = 'x'", "registries.a.path: must begin with /"),
        ("[registries.a]\nformat = 'raw'\npath = 1", "registries.a.path: must be a text, not a whole number"),
        ("[registries.a]\nformat = 'raw'\ntoken = 1", "registries.a.token: must be a text, not a whole number"),
        ("[pypi]\nformat = 'pypi'", "pypi.format: unknown key; known are enabled, path, anonymous_read, proxy, proxies, proxy_auth, proxy_private_hosts, "
         "proxy_timeout, metadata_ttl, merge_upstream, keep_withdrawn, cache_max_gb"),
    ],
)  # fmt: skip
def test_wrong_tables_are_named(problems: Problems, toml: str, problem: str) -> None:  # CONF-1
    assert problems(toml) == [f"config.toml: {problem}"]


@pytest.mark.parametrize("name", ["a", "7", "a-b", "a--b", "0-0", "a" * 64])
def test_names_of_registries(configure: Configure, name: str) -> None:
    assert configure(f"[registries.{name}]\nformat = 'raw'").registries[1].name == name


@pytest.mark.parametrize("name", ["", "A", "a_b", "-a", "a-", "a b", "a.b", "é", "a/b", "..", "a" * 65, "a\\n"])
def test_what_is_no_name_is_refused(problems: Problems, name: str) -> None:
    (problem,) = problems(f"[registries.\"{name}\"]\nformat = 'raw'")
    assert problem.endswith(": is no name for a registry: use 1 to 64 of a-z, 0-9 and -, with a letter or digit at both ends")


@pytest.mark.parametrize(
    "name",
    [
        *("health", "ready", "metrics", "api", "ui", "api-docs"),
        *("server", "storage", "auth", "tls", "logging", "audit", "plugins", "config", "registries"),
    ],
)
def test_names_that_the_host_needs_are_refused(problems: Problems, tmp_path: Path, name: str) -> None:
    assert problems(f"[registries.{name}]\nformat = 'raw'\npath = '/x/'") == [
        f"config.toml: registries.{name}: is a name that Nora needs itself"
    ]
    with pytest.raises(ConfigurationError, match=f"format {name}: is a name that Nora needs itself"):
        load_text(tmp_path, format_of(RegistryConfig, name, True), "")


@pytest.mark.parametrize(
    ("path", "mounted"),
    [
        ("/x", "/x/"),
        ("/x/", "/x/"),
        ("/", "/"),
        ("/a/b~c/d.e/_f/-", "/a/b~c/d.e/_f/-/"),
        ("/apis", "/apis/"),
        ("/x/api", "/x/api/"),
    ],
)
def test_paths_get_their_final_slash(configure: Configure, path: str, mounted: str) -> None:
    settings = configure(f"[pypi]\nenabled = false\n[registries.a]\nformat = 'raw'\npath = '{path}'")
    assert settings.registries[0].path == mounted


@pytest.mark.parametrize(
    "path",
    ["//", "//x", "/x//y", "/..", "/x/../y", "/.", "/X", "/a b", "/%61", "/a?b", "/a#b", "/é", "/<x>", "/a\\\\b", "/a\\n"],
)
def test_what_is_no_path_is_refused(problems: Problems, path: str) -> None:
    (problem,) = problems(f"[registries.a]\nformat = 'raw'\npath = \"{path}\"")
    assert problem.startswith("config.toml: registries.a.path: ")
    assert "is no path for a registry" in problem


@pytest.mark.parametrize("path", ["/api", "/api/v1/", "/health/", "/ready", "/metrics", "/ui/x", "/api-docs"])
def test_paths_of_the_host_are_refused(problems: Problems, path: str) -> None:
    (problem,) = problems(f"[registries.a]\nformat = 'raw'\npath = '{path}'")
    assert problem == f"config.toml: registries.a.path: /{path.split('/')[1]}/ is a path that Nora needs itself"


def test_two_registries_on_one_path_are_refused(problems: Problems) -> None:
    toml = "[registries.a]\nformat = 'raw'\npath = '/x'\n[registries.b]\nformat = 'pypi'\npath = '/x/'"
    assert problems(toml) == ["config.toml: registries.b.path: /x/ is where registries.a is mounted already"]


def test_a_path_that_another_name_implies_is_refused(problems: Problems) -> None:
    toml = "[registries.a]\nformat = 'raw'\n[registries.b]\nformat = 'raw'\npath = '/a'"
    assert problems(toml) == ["config.toml: registries.b.path: /a/ is where registries.a is mounted already"]
    toml = "[registries.b]\nformat = 'raw'\npath = '/a'\n[registries.a]\nformat = 'raw'"
    assert problems(toml) == ["registries.a.path: /a/ is where registries.b is mounted already"]


def test_the_root_belongs_to_the_implicit_registry_until_it_goes(problems: Problems, configure: Configure) -> None:
    toml = "[registries.main]\nformat = 'pypi'\npath = '/'\n"
    assert problems(toml) == [
        "config.toml: registries.main.path: / is where pypi is mounted already; to do without pypi, set pypi.enabled = false"
    ]
    assert mounts(configure(toml + "[pypi]\nenabled = false")) == [("main", "pypi", "/")]


def test_an_implicit_registry_is_configured_in_one_table_only(problems: Problems, configure: Configure) -> None:
    toml = "[registries.pypi]\nformat = 'pypi'\nproxy = 'https://other.example/'\n"
    assert problems(f"[pypi]\n{toml}") == [
        "config.toml: registries.pypi: [pypi] configures a registry of this name already; use [pypi] only, or rename this one"
    ]
    settings = configure(toml, NORA_PYPI_PROXY_TIMEOUT="5")
    assert mounts(settings) == [("pypi", "pypi", "/pypi/")]
    config: Any = settings.registries[0].config
    assert (config.proxy, config.proxy_timeout) == ("https://other.example/", 5)


def test_a_name_may_be_that_of_a_format_that_is_not_implicit(configure: Configure) -> None:
    assert mounts(configure("[registries.raw]\nformat = 'raw'"))[1] == ("raw", "raw", "/raw/")


def test_variables_that_would_set_two_keys_are_refused(problems: Problems, tmp_path: Path) -> None:
    class UrlConfig(RegistryConfig, frozen=True, kw_only=True):
        url: str = ""

    with pytest.raises(ConfigurationError) as caught:
        load_text(tmp_path, format_of(UrlConfig), "[registries.public]\nformat = 'raw'")
    assert str(caught.value) == (
        "environment NORA_PUBLIC_URL: would set both server.public_url and registries.public.url; give the registry another name"
    )


# What a format may declare


def test_a_key_without_default_must_be_set(tmp_path: Path) -> None:
    class NeedyConfig(RegistryConfig, frozen=True, kw_only=True):
        bucket: str
        size: int = 1

    formats = format_of(NeedyConfig)
    with pytest.raises(ConfigurationError) as caught:
        load_text(tmp_path, formats, "[registries.a]\nformat = 'raw'\nsize = 'x'")
    assert list(caught.value.problems) == [
        "registries.a.bucket: must be set, in the file or by NORA_A_BUCKET",
        "config.toml: registries.a.size: must be a whole number, not a text",
    ]
    settings = load_text(tmp_path, formats, "[registries.a]\nformat = 'raw'", NORA_A_BUCKET="b")
    assert getattr(settings.registries[0].config, "bucket", None) == "b"


def test_a_type_that_cannot_be_configured_is_named(tmp_path: Path) -> None:
    class OddConfig(RegistryConfig, frozen=True, kw_only=True):
        limits: dict[str, int] = {}

    with pytest.raises(
        ConfigurationError, match=r"^registries.a.limits: its format declares a type that cannot be configured: "
    ):
        load_text(tmp_path, format_of(OddConfig), "[registries.a]\nformat = 'raw'")


def test_a_format_checks_its_own_values(tmp_path: Path) -> None:
    class PickyConfig(RegistryConfig, frozen=True, kw_only=True):
        pattern: Annotated[str, msgspec.Meta(max_length=3)] = ""
        low: int = 0
        high: int = 9

        def problems(self) -> Iterator[tuple[str, str]]:
            yield from super().problems()
            if self.low > self.high:
                yield "high", "must not be\nless than low"

    with pytest.raises(ConfigurationError) as caught:
        load_text(tmp_path, format_of(PickyConfig), "[registries.a]\nformat = 'raw'\nlow = 10\npattern = 'abcd'")
    assert list(caught.value.problems) == [
        "config.toml: registries.a.pattern: must be a text (Expected `str` of length <= 3)",
        "registries.a.high: must not be less than low",
    ]


def test_many_registries_are_read(configure: Configure) -> None:
    toml = "".join(f"[registries.r{number}]\nformat = 'raw'\n" for number in range(100))
    assert len(configure(toml).registries) == 101
