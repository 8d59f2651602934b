"""A storage, its audit log, and what is in it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from nora.audit.log import AuditLog
from nora.tasks import Tasks
from tests.unit.clock import Clock

NOON = 1_795_867_200.0
"""2026-11-28T12:00:00Z."""
DAY = 24 * 3600.0


@pytest.fixture
def clock() -> Clock:
    return Clock(NOON)


@pytest.fixture
def ticks() -> Clock:
    return Clock(1000.0)


@pytest.fixture
def folder(tmp_path) -> Path:
    return tmp_path / "audit"


def kept(folder: Path) -> list[dict[str, Any]]:
    """The entries of the plain files."""
    return [json.loads(line) for path in sorted(folder.glob("*.jsonl")) for line in path.read_bytes().splitlines()]


async def until(question: Callable[[], object]) -> None:
    """Return when the answer is yes."""
    async with asyncio.timeout(20):
        while not question():
            await asyncio.sleep(0.001)


@pytest.fixture
async def started(tmp_path, clock, ticks) -> AsyncIterator[tuple[AuditLog, Callable[[], Awaitable[None]]]]:
    """A log that is being written, and what stops it as the host does."""
    tasks, made = Tasks(), AuditLog(tmp_path, clock=clock, ticks=ticks)
    made.start(tasks)

    async def stop() -> None:
        await tasks.aclose()
        await made.aclose()

    yield made, stop
    await tasks.aclose()
