"""Finding, loading and checking plugins: every mistake is one line that names the plugin."""

from __future__ import annotations

from importlib.metadata import EntryPoint
from types import SimpleNamespace
from typing import Any

import click
import pytest

from nora import plugins as module
from nora.api import API_VERSION, Format, Registry, RegistryBlueprint, hookimpl
from nora.plugins import PluginError, load_plugins


class Raw(Format):
    name, title = "raw", "Raw files"
    api_version = 1

    def routes(self, registry: Registry[Any]) -> RegistryBlueprint:
        return RegistryBlueprint()


class Registers:
    """A plugin that registers these formats."""

    def __init__(self, *formats: Any) -> None:
        self.formats = formats

    @hookimpl
    def nora_register_formats(self, register):
        for format_ in self.formats:
            register(format_)


@pytest.fixture(autouse=True)
def nothing_installed(monkeypatch):
    monkeypatch.setattr(module, "entry_points", lambda group: [])


def named(name: Any, **fields: Any) -> Format:
    return type("Named", (Raw,), {"name": name, **fields})()


def test_without_plugins_there_is_nothing():
    found = load_plugins()
    assert (found.formats, found.policies, found.authenticators, found.sinks, found.commands) == ({}, [], [], [], [])


def test_a_plugin_may_register_one_of_each():
    class Everything(Registers):
        @hookimpl
        def nora_register_policies(self, register):
            register("policy")

        @hookimpl
        def nora_register_authenticators(self, register):
            register("authenticator")

        @hookimpl
        def nora_register_sinks(self, register):
            register("sink")

        @hookimpl
        def nora_register_commands(self, register):
            register(click.Command("migrate"))

    raw = Raw()
    found = load_plugins([("everything 1.0", Everything(raw, named("other")))])
    assert set(found.formats) == {"raw", "other"}
    assert found.formats["raw"] is raw
    assert found.origins == {"raw": "everything 1.0", "other": "everything 1.0"}
    assert (found.policies, found.authenticators, found.sinks) == (["policy"], ["authenticator"], ["sink"])
    assert [command.name for command in found.commands] == ["migrate"]


def test_plugins_are_called_in_order_and_each_once():
    class Policies:
        def __init__(self, *policies):
            self.policies = policies

        @hookimpl
        def nora_register_policies(self, register):
            for policy in self.policies:
                register(policy)

    assert load_plugins([("a", Policies(1, 2)), ("b", Policies(3))]).policies == [1, 2, 3]


def test_a_misspelt_hook_is_an_error_that_names_it():
    class Misspelt:
        @hookimpl
        def nora_register_format(self, register):
            register(Raw())

    with pytest.raises(PluginError, match=r"plugin odd 1\.0: .*nora_register_format"):
        load_plugins([("odd 1.0", Misspelt())])


def test_a_hook_with_a_wrong_argument_is_an_error():
    class Wrong:
        @hookimpl
        def nora_register_formats(self, registry):
            """Never called."""

    with pytest.raises(PluginError, match="plugin odd: "):
        load_plugins([("odd", Wrong())])


def test_a_hook_that_raises_is_an_error_that_names_its_plugin():
    class Raises:
        @hookimpl
        def nora_register_formats(self, register):
            raise LookupError("no licence")

    with pytest.raises(PluginError, match="plugin odd: no licence"):
        load_plugins([("fine", Registers(Raw())), ("odd", Raises())])


@pytest.mark.parametrize("what", [Raw, None, "raw", object()], ids=["class", "none", "text", "object"])
def test_what_is_no_format_is_refused(what):
    with pytest.raises(PluginError, match=r"plugin odd registers .* which is no nora\.api\.Format"):
        load_plugins([("odd", Registers(what))])


@pytest.mark.parametrize("name", ["", "Raw", "raw files", "-raw", "raw-", "raw_files", "raw\n", "räw", "../raw", None, 7])
def test_a_format_name_is_of_lower_case_letters_digits_and_dashes(name):
    with pytest.raises(PluginError, match=r"plugin odd: format name .* must be"):
        load_plugins([("odd", Registers(named(name)))])


@pytest.mark.parametrize("name", ["r", "raw", "raw-2", "2", "a--b"])
def test_ordinary_format_names_are_taken(name):
    assert list(load_plugins([("fine", Registers(named(name)))]).formats) == [name]


def test_a_format_without_a_name_is_refused():
    class Nameless(Format):
        title = "x"

        def routes(self, registry: Registry[Any]) -> RegistryBlueprint:
            return RegistryBlueprint()

    with pytest.raises(PluginError, match="format name ''"):
        load_plugins([("odd", Registers(Nameless()))])


@pytest.mark.parametrize("version", [API_VERSION + 1, 0, "1"])
def test_another_api_version_is_refused_with_both_numbers(version):
    with pytest.raises(PluginError, match=f"version {version} of the plugin API, this Nora has version {API_VERSION}"):
        load_plugins([("odd", Registers(named("raw", api_version=version)))])


def test_two_formats_of_one_name_are_refused_and_both_plugins_named():
    with pytest.raises(PluginError, match=r"format raw is registered by one 1\.0 and by two 2\.0"):
        load_plugins([("one 1.0", Registers(Raw())), ("two 2.0", Registers(Raw()))])


# Entry points


def entry(name: str, value: str, dist: Any = None) -> Any:
    made = EntryPoint(name, value, "nora")
    return made._for(dist) if dist else made


def test_installed_plugins_are_loaded_by_name_and_shown_with_their_version(monkeypatch):
    plugins = {"b": Registers(named("bb")), "a": Registers(named("aa"))}
    entries = [
        SimpleNamespace(
            name=name, value="m", dist=SimpleNamespace(name=f"nora-{name}", version="1.2"), load=lambda name=name: plugins[name]
        )
        for name in plugins
    ]
    monkeypatch.setattr(module, "entry_points", lambda group: entries if group == "nora" else [])
    found = load_plugins([("extra", Registers(named("cc")))])
    assert list(found.formats) == ["aa", "bb", "cc"]
    assert found.origins["aa"] == "nora-a 1.2"


@pytest.mark.parametrize("value", ["no.such.module", "nora.lru:NoSuchName"])
def test_a_plugin_that_cannot_be_imported_is_an_error_that_names_it(monkeypatch, value):
    monkeypatch.setattr(module, "entry_points", lambda group: [entry("broken", value)])
    with pytest.raises(PluginError, match=r"plugin broken \(.*\) cannot be loaded: "):
        load_plugins()


def test_a_format_that_does_not_say_for_which_api_it_was_written_is_refused():
    class Silent(Format):
        name, title = "silent", "Says nothing"

        def routes(self, registry):
            return RegistryBlueprint()

    with pytest.raises(PluginError, match="written for version no of the plugin API"):
        load_plugins([("odd", Registers(Silent()))])
