"""Several processes that share one listening socket."""

from __future__ import annotations

import logging
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping

from nora.config.certificates import ServedCertificate
from nora.config.settings import Settings

log = logging.getLogger(__name__)

RESTART_SECONDS = 1.0
"""Pause before a process that died is started again; doubled, up to the maximum, for each further death within a minute."""
MAX_RESTART_SECONDS = 60.0
KILL_AFTER_SECONDS = 10.0
"""What a process gets beyond the shutdown limit before it is killed."""


class Supervisor:
    """Starts ``server.workers`` processes, replaces those that die, and ends them all.

    A process learns that its supervisor is gone, even by ``kill -9``, from the end of a pipe that only the supervisor holds.
    """

    def __init__(self, sock: socket.socket, settings: Settings, config: str | None, overrides: Mapping[str, str]) -> None:
        self._sock, self._settings = sock, settings
        self._lifeline, self._held_end = os.pipe()
        self._command = [sys.executable, "-m", "nora", "worker", "--socket", str(sock.fileno())]
        self._command += ["--lifeline", str(self._lifeline), "--storage", settings.storage.path]
        if config is not None:
            self._command += ["--config", config]
        # In it the processes add up what they count; it goes with the supervisor.
        self._counts = tempfile.TemporaryDirectory(prefix="nora-metrics-")
        self._environ = {**os.environ, **_as_environment(overrides), "PROMETHEUS_MULTIPROC_DIR": self._counts.name}
        self._workers: dict[int, subprocess.Popen[bytes]] = {}
        self._due: dict[int, float] = {}
        self._pause = RESTART_SECONDS
        self._last_death = -MAX_RESTART_SECONDS
        self._stopping = self._hung_up = False
        self._certificate = ServedCertificate.of(settings.server)

    def run(self, on_listening: Callable[[], None]) -> int:
        """Until SIGTERM or SIGINT; returns the exit status."""
        wake_read, wake_write = os.pipe()
        os.set_blocking(wake_write, False)
        signal.set_wakeup_fd(wake_write)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._stop)
        signal.signal(signal.SIGHUP, self._hang_up)
        signal.signal(signal.SIGCHLD, lambda *_: None)  # only to be woken
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGHUP})
        for slot in range(self._settings.server.workers):
            self._start(slot)
        on_listening()
        while not self._stopping:
            waits = [max(0.0, at - time.monotonic()) for at in self._due.values()]
            select.select([wake_read], [], [], min([1.0, *waits]))
            _empty(wake_read)
            self._pass_on()
            self._bury()
            self._replace()
        return self._end()

    def _pass_on(self) -> None:
        """Tell the processes to read the certificate again, if they would take it: so one line, and not one each, says why not."""
        if not self._hung_up:
            return
        self._hung_up = False
        if self._certificate is None:
            log.info("nothing to reload: the server has no certificate")
        elif self._certificate.reload():
            for worker in self._workers.values():
                worker.send_signal(signal.SIGHUP)

    def _bury(self) -> None:
        """Notice processes that died, and decide when others take their places."""
        for slot, worker in list(self._workers.items()):
            if worker.poll() is None or self._stopping:
                continue
            del self._workers[slot]
            now = time.monotonic()
            quick = now - self._last_death < MAX_RESTART_SECONDS
            self._pause = min(2 * self._pause, MAX_RESTART_SECONDS) if quick else RESTART_SECONDS
            self._last_death = now
            self._due[slot] = now + self._pause
            log.error("worker died and is replaced", extra={"status": worker.returncode, "pause_seconds": self._pause})

    def _replace(self) -> None:
        for slot, at in list(self._due.items()):
            if at <= time.monotonic() and not self._stopping:
                del self._due[slot]
                self._start(slot)

    def _start(self, slot: int) -> None:
        descriptors = (self._sock.fileno(), self._lifeline)
        # A process inherits what waits: until it can take a SIGHUP, that must not end it.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})
        try:
            self._workers[slot] = subprocess.Popen(  # noqa: S603 - our own interpreter and arguments
                self._command, pass_fds=descriptors, env=self._environ, start_new_session=True
            )
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def _hang_up(self, *_: object) -> None:
        self._hung_up = True

    def _stop(self, *_: object) -> None:
        self._stopping = True

    def _end(self) -> int:
        self._sock.close()
        for worker in self._workers.values():
            worker.terminate()
        deadline = time.monotonic() + self._settings.server.shutdown_timeout + KILL_AFTER_SECONDS
        for worker in self._workers.values():
            try:
                worker.wait(max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                log.error("worker did not stop and is killed", extra={"pid": worker.pid})
                worker.kill()
                worker.wait()
        self._counts.cleanup()
        log.info("stopped")
        return 0


def _as_environment(overrides: Mapping[str, str]) -> dict[str, str]:
    """Command-line values as the variables that the processes read them from."""
    prefixes = {"server": "NORA_", "storage": "NORA_STORAGE_"}
    named = {path: path.split(".", 1) for path in overrides}
    return {prefixes[table] + key.upper(): overrides[path] for path, (table, key) in named.items()}


def _empty(descriptor: int) -> None:
    while select.select([descriptor], [], [], 0)[0]:
        os.read(descriptor, 4096)
