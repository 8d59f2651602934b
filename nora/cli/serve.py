"""``nora serve``: one process, or a supervisor with several."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import sys
from collections.abc import Mapping
from pathlib import Path

from nora import __version__, logs
from nora.api import NoraError
from nora.cli.supervisor import Supervisor
from nora.compose import host
from nora.config.certificates import ServedCertificate
from nora.config.load import load
from nora.config.settings import Settings
from nora.http.runner import listening_socket, serve
from nora.plugins import Plugins, load_plugins
from nora.store.directory import DirectoryStore

log = logging.getLogger("nora")


class CannotListen(NoraError):
    """The address cannot be listened on; the text says why."""


def settings_and_plugins(config: str | None, overrides: Mapping[str, str]) -> tuple[Settings, Plugins]:
    """Load plugins and configuration, and set up logging.

    Raises:
        ConfigurationError, PluginError: with every problem in its text.
    """
    plugins = load_plugins()
    settings = load(formats=plugins.formats, config_path=config, environ=os.environ, cwd=Path.cwd(), overrides=dict(overrides))
    logs.configure(settings.logging.level, settings.logging.format)
    return settings, plugins


def run(config: str | None, overrides: Mapping[str, str]) -> int:
    """Serve until told to stop; returns the exit status."""
    # Until the loop takes over, a stop is an ordinary end: there is nothing in flight.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    hold_back_hangups()
    settings, plugins = settings_and_plugins(config, overrides)
    for warning in settings.warnings:
        log.warning("configuration", extra={"warning": warning})
    clean_up(settings)
    sock = bind(settings)
    if settings.server.workers > 1:
        return Supervisor(sock, settings, config, overrides).run(lambda: announce(settings, "listening"))
    _run_loop(settings, plugins, sock, None)
    return 0


def run_worker(config: str | None, overrides: Mapping[str, str], socket_descriptor: int, lifeline_descriptor: int) -> None:
    """Serve as one of several processes; ends when the supervisor does."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    hold_back_hangups()
    settings, plugins = settings_and_plugins(config, overrides)
    _run_loop(settings, plugins, socket.socket(fileno=socket_descriptor), lifeline_descriptor)


def hold_back_hangups() -> None:
    """Let SIGHUP wait until somebody takes it: by itself it ends a process, and what it asks for must not be forgotten."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})


def clean_up(settings: Settings) -> None:
    """Open the storage once, before anything listens, and remove what processes that died left behind."""
    store = DirectoryStore.open(Path(settings.storage.path))
    try:
        removed = store.clean_up()
    finally:
        asyncio.run(store.aclose())
    if removed:
        log.info("removed temporary files of processes that died", extra={"processes": removed})


def bind(settings: Settings) -> socket.socket:
    """The listening socket.

    Raises:
        CannotListen: the address is taken, or not ours.
    """
    server = settings.server
    try:
        return listening_socket(server.host, server.port)
    except OSError as error:
        reason = error.strerror or str(error)
        raise CannotListen(
            f"cannot listen on {server.host} port {server.port}: {reason}; set server.host, server.port"
        ) from error


def announce(settings: Settings, state: str) -> None:
    """Say where everything is, and whether it is "ready" or only "listening"."""
    server = settings.server
    scheme = "https" if server.tls_cert else "http"
    shown = f"[{server.host}]" if ":" in server.host else server.host
    for registry in settings.registries:
        extra = {"url": f"{scheme}://{shown}:{server.port}{registry.path}", "format": registry.format}
        log.info("registry %s", registry.name, extra=extra)
    log.info(state, extra={"version": __version__, "storage": settings.storage.path, "workers": server.workers})


def reload(certificate: ServedCertificate | None) -> None:
    """What SIGHUP asks for. The configuration itself is not read again."""
    if certificate is None:
        log.info("nothing to reload: the server has no certificate")
    else:
        certificate.reload()


def _run_loop(settings: Settings, plugins: Plugins, sock: socket.socket, lifeline: int | None) -> None:
    loop_factory = asyncio.new_event_loop
    with contextlib.suppress(ImportError):  # comes with Sanic where it exists; everything works without, more slowly
        import uvloop

        loop_factory = uvloop.new_event_loop
    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(_serve(settings, plugins, sock, lifeline))


async def _serve(settings: Settings, plugins: Plugins, sock: socket.socket, lifeline: int | None) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    certificate = ServedCertificate.of(settings.server)
    loop.add_signal_handler(signal.SIGHUP, reload, certificate)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGHUP})
    if lifeline is not None:
        # The other end is the supervisor's and never written to: readable means that the supervisor is gone.
        loop.add_reader(lifeline, stop.set)
    async with host(settings, plugins, os.environ) as composed:
        await composed.webhooks.start()
        await serve(
            composed.app,
            sock,
            stop,
            composed.readiness,
            shutdown_timeout_seconds=settings.server.shutdown_timeout,
            tls=None if certificate is None else certificate.context,
            on_ready=(lambda: announce(settings, "ready")) if lifeline is None else (lambda: log.info("worker ready")),
        )
    log.info("stopped")
