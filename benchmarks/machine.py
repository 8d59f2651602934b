"""What a run was made with."""

from __future__ import annotations

import mmap
import os
import platform
import re
import subprocess
import time
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import median

from benchmarks.programs import ROOT

LIBRARIES = ("sanic", "uvloop", "httpx", "aiohttp", "msgspec", "uv")


def describe(command: str, folder: Path, *, wrk: str, nginx: str) -> dict[str, str]:
    """Machine, versions, date and command."""
    memory_gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1024**3
    return {
        "Date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "Command": f"`{command}`",
        "Nora": f"{_version('nora-registry')}, commit {_commit()}",
        "Machine": f"{os.cpu_count()} processors ({_processor()}), {memory_gib:.0f} GiB, {platform.system()} {platform.release()}",
        "Disk": f"{_file_system(folder)}, {disk_sync_ms(folder):.1f} ms for a write of 4 KB with fsync",
        "Load before the run": load_average(),
        "Python": f"{platform.python_version()}, {', '.join(f'{name} {_version(name)}' for name in LIBRARIES)}",
        "Load generator": _first_line([wrk, "-v"])
        if wrk
        else "not installed: wrk; the slower one of benchmarks/loads.py instead",
        "nginx": _first_line([nginx, "-v"]) if nginx else "not installed",
    }


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


def load_average() -> str:
    """Of the last one, five and fifteen minutes."""
    return ", ".join(f"{load:.2f}" for load in os.getloadavg())


def have_free_memory(size: int) -> None:
    """Get so many bytes of memory and let go of them.

    A virtual machine may hand free memory back to its host within seconds, and then waits for it several times longer than writing
    a file into it takes. Called before each measurement that fills much memory, so that it is none of that.
    """
    with mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | getattr(mmap, "MAP_POPULATE", 0)):
        pass


def disk_sync_ms(folder: Path) -> float:
    """Median time of a small durable write."""
    times = []
    for number in range(9):
        started = time.perf_counter()
        with (folder / f"sync-{number}").open("wb", buffering=0) as file:
            file.write(bytes(4096))
            os.fsync(file.fileno())
        times.append((time.perf_counter() - started) * 1000)
        (folder / f"sync-{number}").unlink()
    return median(times)


def _commit() -> str:
    try:
        found = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=True)
        changed = subprocess.run(
            ["git", "status", "--porcelain", "nora", "plugins"], cwd=ROOT, capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return found.stdout.strip() + (" and changes" if changed.stdout.strip() else "")


def _processor() -> str:
    try:
        found = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    except OSError:
        found = None
    return found[1] if found else platform.machine()


def _file_system(folder: Path) -> str:
    """The type of the file system that a folder is on."""
    best = ("", "unknown")
    for line in Path("/proc/mounts").read_text().splitlines():
        _, place, kind = line.split()[:3]
        if folder.is_relative_to(place) and len(place) >= len(best[0]):
            best = (place, kind)
    return best[1]


def _first_line(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    lines = (done.stdout + done.stderr).splitlines()
    return lines[0].strip() if lines else command[0]
