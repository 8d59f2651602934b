"""Pages and files that nobody has asked for before, against what the upstream itself needs for them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from statistics import median

from benchmarks import programs
from benchmarks.bench import Bench
from benchmarks.connection import HOST, Answer, CannotMeasureError, Connection
from benchmarks.data import Project
from benchmarks.fleet import NORA, NORA_COLD, SIMPLE_PROXY, Fleet
from benchmarks.loads import GRACE_SECONDS, Figures
from benchmarks.machine import have_free_memory
from benchmarks.results import Figure, Goal, Group
from benchmarks.servers import Server
from benchmarks.settings import MB, size_text

NAME = "cold"
PAGES = (
    Figure("first_ms", "ms to the first byte", 1),
    Figure("ms", "ms to the last", 1),
    Figure("over_ms", "ms over the upstream", 1),
)
FILES = (
    Figure("first_ms", "ms to the first byte", 1),
    Figure("over_ms", "ms over the upstream", 1),
    Figure("mb_per_second", "MB/s", 0, ratio=True),
)
LIBRARY = "upstream, by Nora's client library"
# The proxies of the field; a folder has nothing that it does not hold.
PROXIES = ("devpi-server", "proxpi", SIMPLE_PROXY)
LARGE_FROM_BYTES = MB
MAX_OVER_SMALL_MS, MAX_OVER_LARGE_MS, LARGE_PAGE_FILES = 5, 60, 1000
MAX_FIRST_BYTE_MS, LEAST_THROUGHPUT = 10, 0.6
WHY_PAGES = {
    "proxpi": "keeps pages in memory only, so nothing is there after a restart; Nora writes them first and asks whose name it is",
    "simple-repository-server": "keeps nothing, so it asks its upstream each time",
}
WHY_FILES = {
    "proxpi": "does not compare digests",
    "simple-repository-server": "keeps nothing and computes no digest; Nora would have to send bytes that it has not checked or stored",
    "devpi-server": "sends bytes before it has compared their digest",
}


def measure(bench: Bench, fleet: Fleet) -> None:
    """Pages, then files."""
    _measure_pages(bench, fleet)
    _measure_files(bench, fleet)


def _servers(fleet: Fleet) -> list[str]:
    return [NORA_COLD, *(name for name in PROXIES if name.partition(",")[0] in fleet.peers)]


def _measure_pages(bench: Bench, fleet: Fleet) -> None:
    note = "One after another over connections that are open already; JSON, not compressed. Each server asks the same upstream."
    group = bench.group(NAME, "Project pages that are not held", PAGES, note=note)
    group.explain("ms", WHY_PAGES)
    for number in bench.each_round():
        for count in bench.setting.cold_pages:
            title = f"{count} files"
            if not bench.wants(NAME, title):
                continue
            bench.say(f"{NAME} {number + 1}/{bench.rounds}: page of {title}")
            _page_round(bench, fleet, group, title, fleet.cold_pages[count, number])
            bound = MAX_OVER_LARGE_MS if count >= LARGE_PAGE_FILES else MAX_OVER_SMALL_MS
            group.expect(title, NORA, Goal("over_ms", "at most", bound))


def _page_round(bench: Bench, fleet: Fleet, group: Group, title: str, projects: Sequence[Project]) -> None:
    direct = median(answer.seconds for answer in _pages(fleet.upstream, projects))
    # The second time: what the kernel had to read from the disk is in its cache by then.
    answers = _pages(fleet.upstream, projects)
    direct = min(direct, median(answer.seconds for answer in answers))
    group.add(title, fleet.upstream.name, _times(answers))
    for name in _servers(fleet):

        def job(name: str = name) -> Figures:
            answers = _pages(fleet.get(name), projects)
            return {**_times(answers), "over_ms": (median(answer.seconds for answer in answers) - direct) * 1000}

        bench.attempt(group, title, _shown(name), job)


def _times(answers: Iterable[Answer]) -> Figures:
    answers = list(answers)
    first, last = (median(times) * 1000 for times in zip(*((a.first_seconds, a.seconds) for a in answers), strict=True))
    return {"first_ms": first, "ms": last}


def _pages(server: Server, projects: Iterable[Project]) -> list[Answer]:
    with Connection(server.port) as connection:
        connection.get(server.page("no-such-project", "JSON"))
        answers = [connection.get(server.page(project.name, "JSON")) for project in projects]
    return _successes(answers)


def _measure_files(bench: Bench, fleet: Fleet) -> None:
    note = (
        f"Their pages are held. Bytes go the whole way: upstream, Nora, disk and digest, client. '{LIBRARY}' is a process that only "
        "receives them with httpx over Nora's transport."
    )
    group = bench.group(NAME, "Files that are not held", FILES, baseline=LIBRARY, note=note)
    group.explain("first_ms", WHY_FILES)
    group.explain("mb_per_second", WHY_FILES)
    for number in bench.each_round():
        for size in bench.setting.cold_files:
            title = f"file of {size_text(size)}"
            if not bench.wants(NAME, title):
                continue
            bench.say(f"{NAME} {number + 1}/{bench.rounds}: {title}")
            _file_round(bench, fleet, group, title, fleet.cold_files[size, number])
            goals = [Goal("over_ms", "at most", MAX_FIRST_BYTE_MS)]
            goals += [Goal("mb_per_second", "at least", LEAST_THROUGHPUT, ratio=True)] if size >= LARGE_FROM_BYTES else []
            group.expect(title, NORA, *goals)


def _file_round(bench: Bench, fleet: Fleet, group: Group, title: str, projects: Sequence[Project]) -> None:
    upstream = fleet.upstream
    needed = 2 * sum(project.files[0].size for project in projects)
    _files(upstream, projects)
    direct = _files(upstream, projects)
    first = median(answer.first_seconds for answer in direct)
    group.add(title, upstream.name, _throughput(direct))
    urls = [f"http://{HOST}:{upstream.port}{upstream.file(p.name, p.files[0].name).path}" for p in projects]
    have_free_memory(needed)
    timed = programs.answer(programs.start("fetch", *urls), GRACE_SECONDS)
    fetched = {"first_ms": median(one["first_seconds"] for one in timed) * 1000}
    group.add(title, LIBRARY, {**fetched, "mb_per_second": median(one["bytes"] / one["seconds"] for one in timed) / 1e6})
    for name in _servers(fleet):

        def job(name: str = name) -> Figures:
            have_free_memory(needed)
            answers = _files(fleet.get(name), projects)
            return {**_throughput(answers), "over_ms": (median(answer.first_seconds for answer in answers) - first) * 1000}

        bench.attempt(group, title, _shown(name), job)


def _throughput(answers: Sequence[Answer]) -> Figures:
    speed = median(answer.length / answer.seconds for answer in answers) / 1e6
    return {"first_ms": median(answer.first_seconds for answer in answers) * 1000, "mb_per_second": speed}


def _files(server: Server, projects: Sequence[Project]) -> list[Answer]:
    with Connection(server.port) as connection:
        # The page first, as every client does: a server then knows where the file is.
        for project in projects:
            connection.get(server.page(project.name, "JSON"))
        requests = [server.file(project.name, project.files[0].name) for project in projects]
        answers = [connection.get(request) for request in requests]
    for answer, project in zip(answers, projects, strict=True):
        if answer.length != project.files[0].size and answer.status == 200:
            raise CannotMeasureError(f"{answer.length} bytes came of {project.files[0].size}")
    return _successes(answers)


def _successes(answers: list[Answer]) -> list[Answer]:
    for answer in answers:
        if answer.status != 200:
            raise CannotMeasureError(f"status {answer.status}")
    return answers


def _shown(name: str) -> str:
    return NORA if name == NORA_COLD else name.partition(",")[0]
