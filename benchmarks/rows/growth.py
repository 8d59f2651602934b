"""The same with more and more projects held."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from statistics import median

from benchmarks.bench import Bench
from benchmarks.connection import Connection
from benchmarks.data import Maker, Storage
from benchmarks.fleet import Fleet
from benchmarks.loads import Figures, fetch
from benchmarks.results import Figure, Goal, Group
from benchmarks.servers import Nora
from benchmarks.uploads import one_after_another, small_uploads
from benchmarks.usage import cpu_seconds, resident_mb

NAME = "growth"
FIGURES = (Figure("value", "figure", 1, ratio=True), Figure("cpu_us", "us CPU", 1, ratio=True))
SAMPLES = 50
FIRST_FILES = 6
CHANGE = 1.2
Measure = Callable[[Nora, int], Figures]


def measure(bench: Bench, fleet: Fleet) -> None:
    """For each number of projects a storage of its own; they take turns."""
    sizes = bench.setting.growth
    note = "One worker. Ratios are to the smallest number of projects. The first line of a measurement is the baseline."
    group = bench.group(NAME, "With more and more projects held", FIGURES, baseline=_shown(sizes[0]), note=note)
    storages = {size: _storage(bench, size) for size in sizes}
    os.sync()
    for number in bench.each_round():
        for size in sizes:
            bench.say(f"{NAME} {number + 1}/{bench.rounds}: {size} projects")
            _measure_one(bench, group, storages[size], size, number)
    for title in ("start, ms", "page, us between answers", "file, us between answers", "upload, ms"):
        for size in sizes[1:]:
            if title in group.lines:
                goals = (Goal(figure.key, "at most", CHANGE, ratio=True) for figure in FIGURES)
                group.expect(title, _shown(size), *goals)


def _shown(size: int) -> str:
    return f"{size:,} projects"


def _storage(bench: Bench, size: int) -> Storage:
    bench.say(f"making {size} projects")
    maker = Maker(bench.folder / f"growth-files-{size}")
    storage = Storage(bench.folder / f"growth-{size}")
    for number in range(size):
        # Without the files themselves, but with a blob for the metadata of each.
        storage.hold(maker.listed(f"project-{number}", 1 if number else FIRST_FILES))
    storage.hold(maker.padded("with-a-file", bench.setting.small_file_bytes))
    return storage


def _measure_one(bench: Bench, group: Group, storage: Storage, size: int, number: int) -> None:
    measures: dict[str, Measure] = {
        "start, ms": _start,
        "page, us between answers": partial(_page, bench),
        "page that was not asked for since the start, us": _first_pages,
        "file, us between answers": partial(_file, bench),
        "list of projects, first time, ms": _first_list,
        "list of projects, held, us between answers": partial(_list, bench),
        "upload, ms": partial(_uploads, bench, number),
        "list of projects after an upload, ms": _first_list,
        "memory after all that, MB": _memory,
    }
    with ExitStack() as stack:
        nora = stack.enter_context(Nora(storage.root))
        for title, work in measures.items():
            if bench.wants(NAME, title):
                bench.attempt(group, title, _shown(size), partial(work, nora, size))


def _start(nora: Nora, _: int) -> Figures:
    return {"value": nora.start_seconds * 1000, "cpu_us": cpu_seconds(nora.roots()) * 1e6}


def _page(bench: Bench, nora: Nora, _: int) -> Figures:
    return _between(bench.rate(nora.name, nora.target(nora.page("project-0", "JSON")), clients=bench.setting.clients))


def _file(bench: Bench, nora: Nora, _: int) -> Figures:
    request = nora.file("with-a-file", "with_a_file-1.0-py3-none-any.whl")
    return _between(bench.rate(nora.name, nora.target(request), clients=bench.setting.clients))


def _list(bench: Bench, nora: Nora, _: int) -> Figures:
    return _between(bench.rate(nora.name, nora.target(nora.listing("JSON")), clients=bench.setting.clients))


def _between(figures: Figures) -> Figures:
    return {"value": 1e6 / figures["per_second"], "cpu_us": figures["cpu_us"]}


def _first_pages(nora: Nora, size: int) -> Figures:
    """Pages all over the storage, each once."""
    samples = min(SAMPLES, size - 1)
    before = cpu_seconds(nora.roots())
    with Connection(nora.port) as connection:
        projects = [f"project-{1 + at * (size - 1) // samples}" for at in range(samples)]
        answers = [connection.get(nora.page(project, "JSON")) for project in projects]
    assert {answer.status for answer in answers} == {200}, "a project is missing"
    spent = cpu_seconds(nora.roots()) - before
    return {"value": median(answer.seconds for answer in answers) * 1e6, "cpu_us": spent / samples * 1e6}


def _first_list(nora: Nora, _: int) -> Figures:
    before = cpu_seconds(nora.roots())
    seconds = fetch(nora.target(nora.listing("JSON")))
    return {"value": seconds * 1000, "cpu_us": (cpu_seconds(nora.roots()) - before) * 1e6}


def _uploads(bench: Bench, number: int, nora: Nora, size: int) -> Figures:
    uploads = small_uploads(f"grown-{size}-{number}", bench.setting.growth_uploads)
    before = cpu_seconds(nora.roots())
    seconds = one_after_another(nora.port, nora.upload_path, uploads)
    spent = cpu_seconds(nora.roots()) - before
    return {"value": seconds / len(uploads) * 1000, "cpu_us": spent / len(uploads) * 1e6}


def _memory(nora: Nora, _: int) -> Figures:
    return {"value": resident_mb(nora.roots())}
