"""What tests of commands share: where they are run."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from nora.store.directory import DirectoryStore


@pytest.fixture
def place(tmp_path, monkeypatch) -> Iterator[Path]:
    """The folder that commands are run in, without variables of Nora's. The log is afterwards as it was before, whatever they make of it."""
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("NORA_")]:
        monkeypatch.delenv(name)
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield tmp_path
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.fixture
def storage(tmp_path) -> Path:
    """An empty one."""
    DirectoryStore.open(tmp_path / "store")
    return tmp_path / "store"
