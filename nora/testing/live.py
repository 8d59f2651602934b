"""A real server for a test: ``nora serve`` in a process of its own."""

from __future__ import annotations

import contextlib
import http.client
import os
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType

HOST = "127.0.0.1"
START_SECONDS = 30.0
STOP_SECONDS = 40.0
"""More than the default ``server.shutdown_timeout``."""
PORT_TRIES = 5
POLL_SECONDS = 0.02
TAIL_LINES = 30


class ServerError(Exception):
    """The server did not start, or did not stop. The text ends with the last lines of its log."""


class LiveServer:
    """``nora serve`` on a free port of the loopback interface, as a context manager.

    The process gets this one's environment without the variables that begin with ``NORA_``, so that a test means the same
    everywhere; loopback addresses are reached without a proxy. Its current directory is a temporary one: give absolute paths.

    Args:
        storage: Directory that holds everything; it outlives the server, so a second one goes on with it.
        config: TOML text. Host, port, storage path and number of workers are set by the command line and need not be there.
        env: Further environment variables, which win.
        workers: Number of processes.
        ca: PEM file of the authority to trust if the server is to be spoken to by HTTPS; ``config`` or ``env`` then names its
            certificate, which must be good for the address 127.0.0.1.

    Attributes:
        port: Where it listens; another one for each start.
    """

    def __init__(
        self,
        storage: Path,
        config: str = "",
        *,
        env: Mapping[str, str] | None = None,
        workers: int = 1,
        ca: Path | None = None,
    ) -> None:
        self._storage, self._config, self._workers = storage.absolute(), config, workers
        self._trust = None if ca is None else ssl.create_default_context(cafile=ca)
        self._environ = _environment(env or {})
        self._process: subprocess.Popen[bytes] | None = None
        self._directory: Path | None = None
        self._log = ""
        self._killed: dict[int, str] = {}
        self.port = 0

    def __enter__(self) -> LiveServer:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        try:
            self.stop()
        except ServerError:
            # What the test itself found is the better news.
            if error is None:
                raise

    @property
    def url(self) -> str:
        """Address of the server, without final slash."""
        return f"{'http' if self._trust is None else 'https'}://{HOST}:{self.port}"

    @property
    def pid(self) -> int:
        """Process id of ``nora serve``: the server itself, or the supervisor of several.

        Raises:
            ServerError: it does not run.
        """
        if self._process is None:
            raise ServerError("the server does not run")
        return self._process.pid

    def start(self) -> None:
        """Start, and return when ``/health`` answers.

        Raises:
            ServerError: it ended, or does not answer within 30 seconds.
        """
        assert self._process is None, "the server runs already"
        self._clean_up()
        self._directory = Path(tempfile.mkdtemp(prefix="nora-live-"))
        try:
            for last in (False,) * (PORT_TRIES - 1) + (True,):
                with _reserved_port() as self.port:
                    self._launch()
                    if self._becomes_healthy(port_may_be_taken=not last):
                        return
        except BaseException:
            self._clean_up()
            raise

    def stop(self, timeout: float = STOP_SECONDS) -> int:
        """Ask it to stop by SIGTERM; returns its exit status. When it does not run, 0.

        Raises:
            ServerError: it still runs after ``timeout`` seconds; then it was killed.
        """
        if self._process is None:
            self._clean_up()
            return 0
        self._process.terminate()
        try:
            return self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise ServerError(f"the server did not stop within {timeout:g} seconds{self._tail()}") from None
        finally:
            self._clean_up()

    def kill(self) -> None:
        """End it by SIGKILL, as a crash does. Of several processes only the supervisor; its workers are to notice."""
        assert self._process is not None, "the server does not run"
        self._killed = process_tree(self.pid)
        self._process.kill()
        self._process.wait()
        self._keep_log()
        self._process = None

    def log(self) -> str:
        """Everything that it wrote on standard output and standard error, also after its end."""
        if self._directory is not None:
            self._keep_log()
        return self._log

    def peak_memory_mb(self) -> float:
        """The largest resident memory that each of its processes ever had, in units of 1024 * 1024 bytes, summed. Linux only."""
        return sum(_peak_memory_kb(pid) for pid in process_tree(self.pid)) / 1024

    def worker_pids(self) -> list[int]:
        """Process ids of those that answer requests. Linux only if there are several."""
        return [pid for pid in process_tree(self.pid) if pid != self.pid] if self._workers > 1 else [self.pid]

    def _launch(self) -> None:
        assert self._directory is not None
        config = self._directory / "config.toml"
        config.write_text(self._config, encoding="utf-8")
        options = {"config": config, "storage": self._storage, "host": HOST, "port": self.port, "workers": self._workers}
        command = [sys.executable, "-m", "nora", "serve", *(f"--{name}={value}" for name, value in options.items())]
        with (self._directory / "log").open("wb") as log:
            self._process = subprocess.Popen(  # noqa: S603 - our own interpreter and arguments
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self._directory, env=self._environ
            )

    def _becomes_healthy(self, *, port_may_be_taken: bool) -> bool:
        """Whether it answers; ``False`` if another process took the port in between."""
        assert self._process is not None
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            if (status := self._process.poll()) is not None:
                self._process = None
                if port_may_be_taken and "cannot listen on" in self.log():
                    return False
                raise ServerError(f"the server ended with status {status}{self._tail()}")
            if self._is_healthy():
                return True
            time.sleep(POLL_SECONDS)
        raise ServerError(f"the server did not answer within {START_SECONDS:g} seconds{self._tail()}")

    def _is_healthy(self) -> bool:
        connection = (
            http.client.HTTPConnection(HOST, self.port, timeout=1)
            if self._trust is None
            else http.client.HTTPSConnection(HOST, self.port, timeout=1, context=self._trust)
        )
        try:
            connection.request("GET", "/health")
            return connection.getresponse().status == 200
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()

    def _tail(self) -> str:
        lines = self.log().splitlines()[-TAIL_LINES:]
        return "; its log ends with\n" + "\n".join(lines) if lines else "; its log is empty"

    def _keep_log(self) -> None:
        assert self._directory is not None
        with contextlib.suppress(FileNotFoundError):
            self._log = (self._directory / "log").read_text(encoding="utf-8", errors="replace")

    def _clean_up(self) -> None:
        """Leave nothing behind, whatever happened."""
        if self._process is not None:
            self._killed |= process_tree(self._process.pid)
            self._process.kill()
            self._process.wait()
        for pid, started in self._killed.items():
            if _start_time(pid) == started:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        self._process, self._killed = None, {}
        if self._directory is not None:
            self._keep_log()
            shutil.rmtree(self._directory, ignore_errors=True)
            self._directory = None


def process_tree(pid: int) -> dict[int, str]:
    """A process and all that descend from it, with what tells each from a later one of the same id. Empty without ``/proc``."""
    started = _start_time(pid)
    if started is None:
        return {}
    found = {pid: started}
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            for child in task.read_text().split():
                found |= process_tree(int(child))
    return found


def _start_time(pid: int) -> str | None:
    try:
        # The second field is the program's name in parentheses, which may hold anything.
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] == "Z" else fields[19]


def _peak_memory_kb(pid: int) -> int:
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1])
    return 0


@contextlib.contextmanager
def _reserved_port() -> Iterator[int]:
    """A free port. On Linux nobody else gets it meanwhile, and the server can still listen on it; elsewhere it is a good guess."""
    with socket.socket() as holder:
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        holder.bind((HOST, 0))
        port: int = holder.getsockname()[1]
        if sys.platform != "linux":
            holder.close()
        yield port


def _environment(changes: Mapping[str, str]) -> dict[str, str]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("NORA_")}
    direct = ",".join(filter(None, (inherited.get("no_proxy") or inherited.get("NO_PROXY"), HOST, "localhost")))
    return {**inherited, "no_proxy": direct, "NO_PROXY": direct, **changes}
