"""What processes cost: processor time and memory, from the kernel's own accounts. Linux only."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable
from pathlib import Path

from nora.testing.live import process_tree


def tree(roots: Iterable[int]) -> list[int]:
    """Process ids of these processes and of all that descend from them."""
    return sorted({pid for root in roots for pid in process_tree(root)})


def cpu_seconds(roots: Iterable[int]) -> float:
    """Processor time, user and system, of these processes and all their descendants that live.

    It is what ``utime`` and ``stime`` of ``/proc/PID/stat`` add up to, without their granularity of 10 ms.
    """
    total = 0.0
    for pid in tree(roots):
        with contextlib.suppress(OSError):
            # clock_getcpuclockid(3): the number of another process's clock is made from its id.
            total += time.clock_gettime((~pid << 3) | 2)
    return total


def resident_mb(roots: Iterable[int]) -> float:
    """Resident memory now, in units of 1024 * 1024 bytes, summed; pages that processes share count for each."""
    return sum(_status_kb(pid, "VmRSS:") for pid in tree(roots)) / 1024


def peak_mb(roots: Iterable[int]) -> float:
    """The largest resident memory of each process since :func:`forget_peaks`, summed."""
    return sum(_status_kb(pid, "VmHWM:") for pid in tree(roots)) / 1024


def forget_peaks(roots: Iterable[int]) -> None:
    """Let :func:`peak_mb` begin anew."""
    for pid in tree(roots):
        with contextlib.suppress(OSError):
            Path(f"/proc/{pid}/clear_refs").write_text("5")


def _status_kb(pid: int, field: str) -> int:
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith(field):
                return int(line.split()[1])
    return 0
