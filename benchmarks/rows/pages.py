"""Pages that are held: of projects, and the list of projects."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

from benchmarks.bench import Bench, Job
from benchmarks.connection import CannotMeasureError, Request
from benchmarks.data import HeldFile, Project, StaticTree, Storage
from benchmarks.fleet import NGINX, NGINX_LOG, NORA, NORA_2, NORA_LOG, Fleet
from benchmarks.loads import probe
from benchmarks.results import Figure, Goal, Group
from benchmarks.servers import Nginx, Nora, Server

NAME, NAMES = "pages", "names"
FIGURES = (Figure("per_second", "requests/s", 0, ratio=True), Figure("cpu_us", "us CPU/request", 1, ratio=True))
MIN_GZIP_BYTES = 1024
REMOTE_SERVERS = (NORA, NORA_2, NGINX)


@dataclass(frozen=True)
class Wanted:
    """A page in one representation. ``repeated`` asks with the ETag of the answer, so that nothing needs to be sent."""

    title: str
    project: str
    form: str
    gzip: bool
    repeated: bool = False
    servers: tuple[str, ...] = ()


def measure(bench: Bench, fleet: Fleet) -> None:
    """Every page, in every representation."""
    note = (
        "Connections are kept, requests are pip's. Nora and nginx log no requests, but for the last measurement. nginx has the very bytes "
        "that Nora answers as files, compressed ones, too, and does not remember open files."
    )
    group = bench.group(NAME, "Project pages that are held", FIGURES, baseline=NGINX, note=note)
    jobs: dict[str, dict[str, Job]] = {}
    for wanted in _pages(bench):
        if bench.wants(NAME, wanted.title):
            servers = wanted.servers or tuple(fleet.names())
            jobs[wanted.title] = {
                name.removesuffix(", access log"): partial(_rate, bench, fleet, name, wanted)
                for name in servers
                if _there(bench, name)
            }
            _expect(group, wanted)
    bench.interleave(group, jobs)


def _there(bench: Bench, name: str) -> bool:
    return bool(bench.nginx) or not name.startswith(NGINX)


def _pages(bench: Bench) -> Iterator[Wanted]:
    for count in bench.setting.page_files:
        for form in ("JSON", "HTML"):
            for gzip in (False, True):
                yield Wanted(f"{count} files, {form}{', gzip' if gzip else ''}", f"page-{count}", form, gzip)
    for count in bench.setting.page_files[:2]:
        yield Wanted(f"{count} files of an upstream, JSON, gzip", f"remote-{count}", "JSON", True, servers=REMOTE_SERVERS)
    count = bench.setting.page_files[1]
    yield Wanted(f"{count} files, JSON, not modified (304)", f"page-{count}", "JSON", True, repeated=True)
    count = bench.setting.page_files[0]
    yield Wanted(f"{count} files, JSON, access log on", f"page-{count}", "JSON", False, servers=(NORA_LOG, NGINX_LOG))


def _expect(group: Group, wanted: Wanted) -> None:
    group.expect(wanted.title, NORA, *as_fast_as_nginx(1.0 if wanted.project.endswith("-6000") else 0.9))


def as_fast_as_nginx(part: float) -> tuple[Goal, Goal]:
    """So much of nginx's requests, by the clock and by the processor: the client may be too slow for either."""
    return Goal("per_second", "at least", part, ratio=True), Goal("cpu_us", "at most", 1 / part, ratio=True)


def _rate(bench: Bench, fleet: Fleet, name: str, wanted: Wanted) -> dict[str, float]:
    server = fleet.get(name)
    request = server.page(wanted.project, wanted.form, gzip=wanted.gzip)
    return measured(bench, server, request, repeated=wanted.repeated)


def measured(bench: Bench, server: Server, request: Request, *, repeated: bool = False) -> dict[str, float]:
    """Requests per second for a page whose representation is the one that was asked for."""
    fields, body = probe(server.port, request)
    if ("json" in fields.get("content-type", "")) is not (request.form == "JSON"):
        raise CannotMeasureError(f"answers {fields.get('content-type')}")
    # Bodies of a few hundred bytes may well be sent as they are.
    if request.gzip is not (fields.get("content-encoding") == "gzip") and len(body) >= MIN_GZIP_BYTES:
        raise CannotMeasureError("does not compress" if request.gzip else "compresses although it was not to")
    status, length = 200, len(body)
    if repeated:
        if "etag" not in fields:
            raise CannotMeasureError("gives no ETag")
        request = Request(request.path, request.form, request.gzip, {"If-None-Match": fields["etag"]})
        status, length = 304, 0
    target = server.target(request, status=status, length=length)
    return bench.rate(server.name, target, clients=bench.setting.clients)


def measure_names(bench: Bench, fleet: Fleet) -> None:
    """The list of projects, of everything that is held, and of longer ones."""
    group = bench.group(NAMES, "List of projects", FIGURES, baseline=NGINX)
    jobs: dict[str, dict[str, Job]] = {}
    for form in ("JSON", "HTML"):
        title = f"{bench.setting.held_projects} projects, {form}"
        if bench.wants(NAMES, title):
            jobs[title] = {name: partial(_list_rate, bench, fleet, name, form) for name in fleet.names()}
            group.expect(title, NORA, *as_fast_as_nginx(0.9))
    bench.interleave(group, jobs)
    for count in bench.setting.list_names:
        if bench.wants(NAMES, f"{count} projects, JSON"):
            _long_list(bench, fleet, group, count)


def _list_rate(bench: Bench, fleet: Fleet, name: str, form: str) -> dict[str, float]:
    server = fleet.get(name)
    return measured(bench, server, server.listing(form))


def _long_list(bench: Bench, fleet: Fleet, group: Group, count: int) -> None:
    """A list of so many projects: Nora, and nginx with the same bytes. The peers would need as many files."""
    bench.say(f"making {count} projects")
    storage = Storage(bench.folder / f"names-{count}")
    file = fleet.pages[0].files[0]
    for number in range(count):
        storage.hold(
            Project(f"listed-{number}", [HeldFile(file.name, file.version, file.size, file.sha256, file.path, file.metadata)])
        )
    with Nora(storage.root) as nora:
        jobs: dict[str, dict[str, Job]] = {}
        for form in ("JSON", "HTML"):
            servers: dict[str, Server] = {NORA: nora}
            request = nora.listing(form)
            requests = {NORA: request}
            if bench.nginx:
                nginx = fleet.get(NGINX)
                assert isinstance(nginx, Nginx)
                _, body = probe(nora.port, request)
                StaticTree(nginx.root).save(f"simple/all-{count}.{form.lower()}", body)
                servers[NGINX], requests[NGINX] = nginx, Request(f"/simple/all-{count}.{form.lower()}", form)
            jobs[f"{count} projects, {form}"] = {
                name: partial(measured, bench, server, requests[name]) for name, server in servers.items()
            }
            group.expect(f"{count} projects, {form}", NORA, *as_fast_as_nginx(0.9))
        bench.interleave(group, jobs)
