"""The hooks, and the objects that they register.

A plugin is a distribution with an entry point in the group ``nora``, whose module has functions marked with :data:`hookimpl`.
Hooks are called once, at start, and only register objects; the work is done by these objects.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import pluggy

from nora.api.events import Event
from nora.api.format import Format
from nora.api.model import Actor, File

if TYPE_CHECKING:
    import click

hookspec = pluggy.HookspecMarker("nora")
hookimpl = pluggy.HookimplMarker("nora")


class Policy(Protocol):
    """Decides which files a registry offers. One decision serves listing, file and sidecar alike."""

    def refusal(self, registry: str, project: str, file: File) -> str | None:
        """Why this file is not offered, or ``None`` if it is. Pure and fast: called for every file of a listing.

        ``registry`` and ``project`` are the registry's name and the project's normalized name.
        """


class Authenticator(Protocol):
    """Turns credentials into an actor."""

    async def authenticate(self, username: str, password: str) -> Actor | None:
        """Who this is, or ``None`` if these credentials mean nothing here. Slow checks leave the event loop."""


@runtime_checkable
class StandingAuthenticator(Authenticator, Protocol):
    """An authenticator that can say for how long its word stands. Only whom such a one knows gets prepared answers."""

    def standing(self, username: str, password: str) -> Callable[[], bool] | None:
        """A cheap question, whether :meth:`authenticate` would still say what it has just said; ``None`` if that cannot be told.

        The question is asked for each request instead of ``authenticate``. It waits for nothing, raises nothing, and is answered with
        ``False`` from the moment when the credentials might mean nothing any more, or somebody else; ``authenticate`` is asked then.
        """


class EventSink(Protocol):
    """Hears of every change."""

    def emit(self, event: Event) -> None:
        """Take note. Called after the change is durable; must not block; what it raises is logged and changes nothing."""


class Hooks:
    """The specifications."""

    @hookspec
    def nora_register_formats(self, register: Callable[[Format], None]) -> None:
        """Call ``register`` with each format of this plugin."""

    @hookspec
    def nora_register_policies(self, register: Callable[[Policy], None]) -> None:
        """Call ``register`` with each policy of this plugin."""

    @hookspec
    def nora_register_authenticators(self, register: Callable[[Authenticator], None]) -> None:
        """Call ``register`` with each authenticator; they are asked in order after the htpasswd file."""

    @hookspec
    def nora_register_sinks(self, register: Callable[[EventSink], None]) -> None:
        """Call ``register`` with each event sink of this plugin."""

    @hookspec
    def nora_register_commands(self, register: Callable[[click.Command], None]) -> None:
        """Call ``register`` with each command to add to the ``nora`` command line."""
