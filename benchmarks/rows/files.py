"""Files that are held."""

from __future__ import annotations

from functools import partial

from benchmarks.bench import Bench, Job
from benchmarks.fleet import NGINX, NORA, Fleet
from benchmarks.loads import Figures, download, fetch
from benchmarks.results import Figure, Goal
from benchmarks.rows.pages import FIGURES, as_fast_as_nginx
from benchmarks.settings import size_text

NAME = "files"
CLIENTS = (1, 8)
MAX_HEALTH_MS, MAX_MEMORY_MB = 50, 120
WHY = {
    "proxpi": "a thread for each client does nothing else until the file is sent, so its other answers wait; Nora's threads come back "
    "after 20 ms",
}
BULK = (
    Figure("mb_per_second", "MB/s", 0, ratio=True),
    Figure("cpu_s_per_gb", "s CPU/GB", 3, ratio=True),
    Figure("ping_p99_ms", "ms p99 of /health meanwhile", 1),
    Figure("peak_mb", "MB peak", 0),
)


def measure(bench: Bench, fleet: Fleet) -> None:
    """Small ones by requests, large ones by bytes."""
    _measure_small(bench, fleet)
    note = "The client drops the bytes in the kernel. /health is asked every two milliseconds over a connection of its own."
    group = bench.group(NAME, "Large files that are held", BULK, baseline=NGINX, note=note)
    group.explain("mb_per_second", WHY)
    jobs: dict[str, dict[str, Job]] = {}
    for size in bench.setting.file_bytes:
        for clients in CLIENTS:
            title = f"{size_text(size)}, {_clients(clients)}"
            if bench.wants(NAME, title):
                jobs[title] = {name: partial(_download, bench, fleet, name, size, clients) for name in fleet.names()}
                goals = [Goal("mb_per_second", "at least", 0.9, ratio=True), Goal("peak_mb", "at most", MAX_MEMORY_MB)]
                goals += [Goal("ping_p99_ms", "at most", MAX_HEALTH_MS)] if clients > 1 else []
                group.expect(title, NORA, *goals)
    bench.interleave(group, jobs)


def _measure_small(bench: Bench, fleet: Fleet) -> None:
    group = bench.group(NAME, "Small files that are held", FIGURES, baseline=NGINX)
    jobs: dict[str, dict[str, Job]] = {}
    size = bench.setting.small_file_bytes
    for clients in CLIENTS:
        title = f"{size_text(size)}, {_clients(clients)}"
        if bench.wants(NAME, title):
            jobs[title] = {name: partial(_rate, bench, fleet, name, size, clients) for name in fleet.names()}
            group.expect(title, NORA, *as_fast_as_nginx(0.9))
    bench.interleave(group, jobs)


def _clients(count: int) -> str:
    return "one client" if count == 1 else f"{count} clients"


def _rate(bench: Bench, fleet: Fleet, name: str, size: int, clients: int) -> Figures:
    server, file = fleet.get(name), fleet.files[size].files[0]
    target = server.target(server.file(fleet.files[size].name, file.name), length=size)
    return bench.rate(name, target, clients=clients)


def _download(bench: Bench, fleet: Fleet, name: str, size: int, clients: int) -> Figures:
    server, file = fleet.get(name), fleet.files[size].files[0]
    target = server.target(server.file(fleet.files[size].name, file.name), length=size)
    ping = server.health if clients > 1 and server.health else None
    if (name, size) not in fleet.fetched:
        # A proxy that does not have it yet fetches it now, and the kernel reads it into its cache.
        fetch(target)
        fleet.fetched.add((name, size))
    return download(target, clients=clients, seconds=bench.setting.seconds, ping=ping)
