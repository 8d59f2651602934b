"""Find, load and check plugins."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any

import pluggy

from nora.api import API_VERSION, Authenticator, EventSink, Format, NoraError, Policy
from nora.api.hooks import Hooks

if TYPE_CHECKING:
    import click

GROUP = "nora"
_NAME = re.compile(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?\Z")


class PluginError(NoraError):
    """A plugin cannot be used; the text names it and says why."""


@dataclass(slots=True)
class Plugins:
    """Everything that the plugins registered."""

    formats: dict[str, Format] = field(default_factory=dict)
    origins: dict[str, str] = field(default_factory=dict)
    policies: list[Policy] = field(default_factory=list)
    authenticators: list[Authenticator] = field(default_factory=list)
    sinks: list[EventSink] = field(default_factory=list)
    commands: list[click.Command] = field(default_factory=list)


def load_plugins(extra: Sequence[tuple[str, Any]] = ()) -> Plugins:
    """Load the plugins of all installed distributions, and ``extra`` ones as (name, module or object).

    Raises:
        PluginError: one cannot be imported, registers something unusable, or implements a hook that does not exist.
    """
    found: list[tuple[str, Any]] = []
    for entry in sorted(entry_points(group=GROUP), key=lambda entry: entry.name):
        origin = f"{entry.dist.name} {entry.dist.version}" if entry.dist else entry.value
        try:
            found.append((origin, entry.load()))
        except Exception as error:
            raise PluginError(f"plugin {entry.name} ({origin}) cannot be loaded: {error!r}") from error
    plugins = Plugins()
    for origin, plugin in [*found, *extra]:
        _register(plugins, origin, plugin)
    return plugins


def _register(plugins: Plugins, origin: str, plugin: Any) -> None:
    # A manager for each plugin: one whose hook raises would keep pluggy from calling the hooks of the others, and an error can
    # be said with the plugin's name.
    manager = pluggy.PluginManager("nora")
    manager.add_hookspecs(Hooks)
    try:
        manager.register(plugin, name=origin)
        manager.check_pending()
        manager.hook.nora_register_formats(register=lambda format_: _add_format(plugins, origin, format_))
        manager.hook.nora_register_policies(register=plugins.policies.append)
        manager.hook.nora_register_authenticators(register=plugins.authenticators.append)
        manager.hook.nora_register_sinks(register=plugins.sinks.append)
        manager.hook.nora_register_commands(register=plugins.commands.append)
    except PluginError:
        raise
    except Exception as error:
        raise PluginError(f"plugin {origin}: {error}") from error


def _add_format(plugins: Plugins, origin: str, format_: Format) -> None:
    if not isinstance(format_, Format):
        raise PluginError(f"plugin {origin} registers {format_!r}, which is no nora.api.Format")
    name = getattr(format_, "name", "")
    if not isinstance(name, str) or not _NAME.match(name):
        raise PluginError(f"plugin {origin}: format name {name!r} must be of lower-case letters, digits and -")
    version = getattr(format_, "api_version", "no")
    if version != API_VERSION:
        raise PluginError(
            f"plugin {origin}: format {name} is written for version {version} of the plugin API, "
            f"this Nora has version {API_VERSION}"
        )
    if name in plugins.formats:
        raise PluginError(f"format {name} is registered by {plugins.origins[name]} and by {origin}; uninstall one of them")
    plugins.formats[name] = format_
    plugins.origins[name] = origin
