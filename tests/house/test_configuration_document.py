"""docs/configuration.md and the example files against the types that they describe."""

from __future__ import annotations

import importlib
import re
from importlib import metadata
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import msgspec
import pytest

from nora.api import Format, ProxyConfig, Registry, RegistryBlueprint, RegistryConfig, Secret
from nora.config.errors import ConfigurationError
from nora.config.fields import Key, keys_of
from nora.config.load import load
from nora.config.registries import RESERVED_NAMES, RESERVED_SEGMENTS
from nora.config.settings import HOST_TABLES
from nora.config.sources import PATH_VARIABLE, variable
from nora.config.webhooks import WebhookSettings

ROOT = Path(__file__).parents[2]
DOCUMENT = (ROOT / "docs/configuration.md").read_text()
EXAMPLES = {"one-registry.toml": ["/"], "several-registries.toml": ["/", "/team-a/", "/python/mirror/"]}
TOML_BLOCKS = re.findall(r"^```toml\n(.*?)^```", DOCUMENT, re.MULTILINE | re.DOTALL)


class StandIn(Format):
    """The PyPI format as far as this host's API defines it, where the plugin is not installed."""

    name, title, Config, implicit = "pypi", "Python packages", ProxyConfig, True

    def routes(self, registry: Registry[Any]) -> RegistryBlueprint:
        return RegistryBlueprint()


def pypi_format() -> Format:
    for entry_point in metadata.entry_points(group="nora", name="pypi"):
        try:
            plugin = importlib.import_module(entry_point.module)
        except ModuleNotFoundError as error:
            if error.name != entry_point.module:
                raise
            continue
        formats: list[Format] = []
        plugin.nora_register_formats(formats.append)
        return next(format_ for format_ in formats if format_.name == "pypi")
    return StandIn()


PYPI = pypi_format()
TABLES = {**HOST_TABLES, "audit.webhooks.NAME": WebhookSettings, "pypi": PYPI.Config}
ALL_KEYS = [(table, key) for table, struct in TABLES.items() for key in keys_of(struct).values()]


def documented(table: str) -> dict[str, list[str]]:
    """Rows of a section by key: type, default, variable, meaning."""
    section = DOCUMENT.split(f"\n## `[{table}]`\n", 1)[1].split("\n## ", 1)[0]
    rows = [re.split(r" ?\| ?", line.strip().strip("|").strip()) for line in section.splitlines() if line.startswith("| `")]
    names = [row[0].strip("`") for row in rows]
    assert len(set(names)) == len(names), f"a key of [{table}] is there twice"
    return {name: row[1:] for name, row in zip(names, rows, strict=True)}


def type_in_words(key: Key) -> str:
    if key.type is Secret:
        return "secret"
    if get_origin(key.type) is Literal:
        return "one of " + ", ".join(f"`{word}`" for word in get_args(key.type))
    return re.sub(r'"\w+"', r"`\g<0>`", key.expected.removeprefix("a "))


def default_in_toml(value: object) -> str:
    match value:
        case msgspec.UnsetType():
            return "none, required"
        case bool():
            return f"`{str(value).lower()}`"
        case Secret():
            return '`""`' if not value else "a secret default must not be documented"
        case tuple():
            return f"`{list(value)}`".replace("'", '"')
        case str():
            return f'`"{value}"`'
        case _:
            return f"`{value}`"


def named(keys: list[tuple[str, Key]]) -> list[str]:
    return [f"{table}.{key.name}" for table, key in keys]


@pytest.mark.parametrize("table", TABLES)
def test_the_document_has_the_keys_that_there_are(table: str) -> None:
    assert list(documented(table)) == list(keys_of(TABLES[table]))


@pytest.mark.parametrize(("table", "key"), ALL_KEYS, ids=named(ALL_KEYS))
def test_a_key_is_described_as_it_is(table: str, key: Key) -> None:
    type_, default, environment, meaning = documented(table)[key.name]
    assert type_ == type_in_words(key)
    assert environment == f"`{variable(table, key.name)}`"
    assert meaning.endswith(".")
    if (table, key.name) == ("pypi", "path"):
        assert default == "`/`"
    elif (table, key.name) == ("pypi", "proxy"):
        assert default == "the public Python index"
    else:
        assert default == default_in_toml(key.default)


@pytest.mark.parametrize("struct", [RegistryConfig, ProxyConfig])
def test_the_keys_of_the_api_are_those_of_the_pypi_format(struct: type[RegistryConfig]) -> None:
    assert set(keys_of(struct)) <= set(documented("pypi"))


def test_the_table_of_a_registry_has_its_format() -> None:
    assert list(documented("registries.NAME")) == ["format"]


def test_every_variable_in_the_document_exists() -> None:
    known = {variable(table, key.name) for table, key in ALL_KEYS} | {PATH_VARIABLE}
    known |= {variable("registries.team-a", key) for key in keys_of(PYPI.Config)}
    assert set(re.findall(r"NORA_[A-Z_]*[A-Z]", DOCUMENT)) <= known


def test_every_section_is_of_a_table_that_exists() -> None:
    assert set(re.findall(r"^#+ `\[(.*)\]`$", DOCUMENT, re.MULTILINE)) == {*TABLES, "registries.NAME"}


def test_reserved_names_and_paths_are_listed() -> None:
    names = re.search(r"The names (.*?) are taken\.", DOCUMENT, re.DOTALL)
    segments = re.search(r"first segment is none of\s(.*?)\.", DOCUMENT, re.DOTALL)
    assert names is not None
    assert segments is not None
    assert set(re.findall(r"`(.*?)`", names[1])) == RESERVED_NAMES
    assert set(re.findall(r"`(.*?)`", segments[1])) == RESERVED_SEGMENTS


@pytest.mark.parametrize("toml", TOML_BLOCKS)
def test_the_examples_in_the_document_work(toml: str, tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text(toml)
    (tmp_path / "users.htpasswd").touch()
    settings = load(formats={"pypi": PYPI}, environ={}, cwd=tmp_path)
    assert settings.warnings == ()


def test_the_document_has_examples() -> None:
    assert len(TOML_BLOCKS) >= 3


def test_the_problems_in_the_document_are_what_is_printed(tmp_path: Path) -> None:
    toml = "[server]\nprot = 1\n[registries.team-a]\nformat = 'pypi'\nmetadata_ttl = '300'\n"
    (tmp_path / "config.toml").write_text(toml)
    with pytest.raises(ConfigurationError) as caught:
        load(formats={"pypi": PYPI}, environ={"NORA_WORKERS": "many"}, cwd=tmp_path)
    for problem in caught.value.problems:
        assert f"\n{problem}\n" in DOCUMENT
    assert len(caught.value.problems) == DOCUMENT.count("\nconfig.toml: ") + DOCUMENT.count("\nenvironment ") == 3


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_example_files_work_as_they_are(name: str, tmp_path: Path) -> None:
    settings = load(formats={"pypi": PYPI}, config_path=str(ROOT / "examples" / name), environ={}, cwd=tmp_path)
    assert settings.warnings == ()
    assert [registry.path for registry in settings.registries] == EXAMPLES[name]
