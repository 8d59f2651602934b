"""Uploads: small ones one after another and in parallel, and a large one."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from benchmarks.bench import Bench
from benchmarks.fleet import NORA, NORA_2, Fleet
from benchmarks.loads import Figures
from benchmarks.machine import have_free_memory
from benchmarks.peers import Pypiserver
from benchmarks.results import Figure, Goal
from benchmarks.servers import Nora, Server
from benchmarks.settings import size_text
from benchmarks.uploads import (
    Upload,
    bare_calls,
    bare_copy,
    bare_loop,
    in_parallel,
    large_upload,
    one_after_another,
    small_uploads,
)
from benchmarks.usage import cpu_seconds, forget_peaks, peak_mb

NAME = "uploads"
PARALLEL = 8
BARE, BARE_FOLDER, BARE_CALLS = "bare loop", "bare loop, folder synced", "system calls of an upload"
BARE_COPY = "bare copy with sha256"
SMALL = (
    Figure("ms", "ms/upload", 2, ratio=True),
    Figure("parallel_ms", f"ms/upload, {PARALLEL} in parallel", 2),
    Figure("gain", "gain of parallel", 2),
    Figure("cpu_ms", "ms CPU/upload", 2),
)
LARGE = (Figure("mb_per_second", "MB/s", 0, ratio=True), Figure("cpu_s_per_gb", "s CPU/GB", 2), Figure("peak_mb", "MB peak", 0))
DURABILITY = {
    NORA: "durable",
    NORA_2: "durable",
    "pypiserver": "not durable: no fsync",
    "devpi-server": "not durable: no fsync",
}
NOT_DURABLE = "no fsync: what it has answered may be lost with the power"
WHY = {"pypiserver": NOT_DURABLE, "devpi-server": NOT_DURABLE}


def measure(bench: Bench, fleet: Fleet) -> None:
    """Small wheels, then one large one."""
    if bench.wants(NAME, "small"):
        _measure_small(bench, fleet)
    if bench.wants(NAME, "large"):
        _measure_large(bench, fleet)


def _new_servers(bench: Bench, fleet: Fleet, number: int) -> dict[str, Callable[[], Server]]:
    """What makes servers that hold nothing yet, by name; devpi-server is the one that runs anyway."""
    folder = bench.folder / f"uploads-{number}"
    servers: dict[str, Callable[[], Server]] = {
        NORA: lambda: Nora(folder / "nora"),
        NORA_2: lambda: Nora(folder / "nora-2", workers=2, name=NORA_2),
    }
    if "pypiserver" in fleet.peers:
        servers["pypiserver"] = lambda: Pypiserver(folder / "pypiserver", fleet.peers["pypiserver"], ())
    return servers


def _measure_small(bench: Bench, fleet: Fleet) -> None:
    count = bench.setting.wheels
    note = (
        "The bare loop writes, syncs and renames each file twice; the next one syncs the folder, too, without which a name may be lost. "
        f"'{BARE_CALLS}' are those by which Nora keeps wheel, metadata and manifest, and nothing else. "
        "Each server has had one upload before. "
        f"{_durability()}"
    )
    group = bench.group(NAME, f"{count} uploads of small wheels", SMALL, baseline=BARE, note=note)
    title = "one after another"
    group.explain("ms", WHY)
    group.explain("parallel_ms", WHY)
    group.expect(title, NORA, Goal("ms", "at most", 2.5, ratio=True), Goal("gain", "at least", 1.5))
    for number in bench.each_round():
        bench.say(f"{NAME} {number + 1}/{bench.rounds}: small")
        uploads = small_uploads(f"bench-up-{number}", count)
        more = small_uploads(f"bench-side-{number}", count)
        first = small_uploads(f"bench-first-{number}", 1)
        folder = bench.folder / f"uploads-{number}"
        os.sync()
        for name, sync_folder in ((BARE, False), (BARE_FOLDER, True)):
            seconds = bare_loop(folder / f"bare-{sync_folder}", uploads, sync_folder=sync_folder)
            group.add(title, name, {"ms": seconds / count * 1000})
        group.add(title, BARE_CALLS, {"ms": bare_calls(folder / "bare-calls", uploads) / count * 1000})
        for name, make in _new_servers(bench, fleet, number).items():
            bench.attempt(group, title, name, partial(_started, make, partial(_small, first, uploads, more)))
        if "devpi-server" in fleet.peers:
            bench.attempt(group, title, "devpi-server", partial(_running, fleet, partial(_small, first, uploads, more)))
        shutil.rmtree(folder)


def _started(make: Callable[[], Server], work: Callable[[Server], Figures]) -> Figures:
    with make() as server:
        return work(server)


def _running(fleet: Fleet, work: Callable[[Server], Figures]) -> Figures:
    return work(fleet.get("devpi-server"))


def _small(first: Sequence[Upload], uploads: Sequence[Upload], more: Sequence[Upload], server: Server) -> Figures:
    one_after_another(server.port, server.upload_path, first)
    before = cpu_seconds(server.roots())
    seconds = one_after_another(server.port, server.upload_path, uploads)
    spent = cpu_seconds(server.roots()) - before
    parallel = in_parallel(server.port, server.upload_path, more, PARALLEL)
    count = len(uploads)
    return {
        "ms": seconds / count * 1000,
        "parallel_ms": parallel / count * 1000,
        "gain": seconds / parallel,
        "cpu_ms": spent / count * 1000,
    }


def _measure_large(bench: Bench, fleet: Fleet) -> None:
    size = bench.setting.upload_bytes
    note = f"'{BARE_COPY}' reads the file from memory, hashes, writes and syncs it. {_durability()}"
    group = bench.group(NAME, "One large upload", LARGE, baseline=BARE_COPY, note=note)
    title = size_text(size)
    goals = Goal("mb_per_second", "at least", 0.5, ratio=True), Goal("peak_mb", "at most", 120)
    group.expect(title, NORA, *goals)
    wheel_folder = bench.folder / "large"
    wheel_folder.mkdir()
    upload = large_upload(wheel_folder, size)
    for number in bench.each_round():
        bench.say(f"{NAME} {number + 1}/{bench.rounds}: large")
        folder = bench.folder / f"uploads-{number}"
        folder.mkdir()
        os.sync()
        have_free_memory(size)
        group.add(title, BARE_COPY, {"mb_per_second": size / bare_copy(folder / "copy", upload) / 1e6})
        (folder / "copy").unlink()
        for name, make in _new_servers(bench, fleet, number).items():
            if name != NORA_2:
                bench.attempt(group, title, name, partial(_started, make, partial(_large, upload)))
                _make_room(folder)
        if "devpi-server" in fleet.peers:
            bench.attempt(group, title, "devpi-server", partial(_running, fleet, partial(_large, upload)))
        shutil.rmtree(folder)
    shutil.rmtree(wheel_folder)


def _make_room(folder: Path) -> None:
    """Remove what a server kept, so that the next one does not wait for the disk to take it."""
    for kept in folder.iterdir():
        shutil.rmtree(kept)


def _large(upload: Upload, server: Server) -> Figures:
    have_free_memory(upload.size)
    forget_peaks(server.roots())
    before = cpu_seconds(server.roots())
    seconds = one_after_another(server.port, server.upload_path, [upload])
    spent = cpu_seconds(server.roots()) - before
    size = upload.size
    return {"mb_per_second": size / seconds / 1e6, "cpu_s_per_gb": spent / size * 1e9, "peak_mb": peak_mb(server.roots())}


def _durability() -> str:
    """What an answer promises, in words; read in the peers' code."""
    return "; ".join(f"{name}: {promise}" for name, promise in DURABILITY.items() if name != NORA_2) + "."
