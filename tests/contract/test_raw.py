"""The plugin of examples/plugin, found through its entry point and held to the contract, with no edit in nora/."""

from __future__ import annotations

import importlib.util
import os
import sys
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType

import pytest

PLUGIN = Path(__file__).parents[2] / "examples/plugin"


def load(name: str, path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.path.insert(0, str(PLUGIN))
    try:
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(PLUGIN))
    return module


def install(folder: Path) -> None:
    """What an installer writes of the plugin's pyproject.toml, so far as entry points go."""
    project = tomllib.loads((PLUGIN / "pyproject.toml").read_text())["project"]
    metadata = folder / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n")
    groups = "".join(
        f"[{group}]\n" + "".join(f"{name} = {value}\n" for name, value in entries.items())
        for group, entries in project["entry-points"].items()
    )
    (metadata / "entry_points.txt").write_text(groups)


example = load("nora_raw_contract", PLUGIN / "tests/test_contract.py")


@pytest.fixture(scope="module", autouse=True)
def _installed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    folder = tmp_path_factory.mktemp("site")
    install(folder)
    TestRaw.python_path = os.pathsep.join((str(folder), str(PLUGIN), os.environ.get("PYTHONPATH", ""))).rstrip(os.pathsep)
    yield
    TestRaw.python_path = ""


class TestRaw(example.TestRaw):
    python_path = ""

    def env(self) -> Mapping[str, str]:
        return {"PYTHONPATH": self.python_path}
