"""Clients that choose by date, and those with a lock file of their own, against hosted and proxied projects."""

from __future__ import annotations

import datetime
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from nora.testing.live import LiveServer
from nora.testing.packages import make_wheel
from nora.testing.upstream import ScriptedUpstream

OLD, NEW = make_wheel("demo", "1.0"), make_wheel("demo", "2.0", requires=["helper"])
HELPER = make_wheel("helper", "1.0")
FORM = {":action": "file_upload", "protocol_version": "1", "metadata_version": "2.1", "filetype": "bdist_wheel"}
KINDS = ("hosted", "json", "html")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    """Three registries with the same packages: hosted ones, an upstream with dates, one without."""
    scripted = ScriptedUpstream()
    with scripted.run_in_thread():
        times = {OLD[0]: {"upload-time": "2020-01-01T00:00:00Z"}, NEW[0]: {"upload-time": "2024-01-01T00:00:00Z"}}
        scripted.add_project("demo", dict([OLD, NEW]), extra=times)
        scripted.add_project("helper", dict([HELPER]), extra={HELPER[0]: {"upload-time": "2019-01-01T00:00:00Z"}})
        plain = ScriptedUpstream()
        with plain.run_in_thread():
            plain.add_project("demo", dict([OLD, NEW]), form="html")
            plain.add_project("helper", dict([HELPER]), form="html")
            tables = {"hosted": "", "json": scripted.simple_url, "html": plain.simple_url}
            config = "".join(f'[registries.{name}]\nformat = "pypi"\nproxy = "{url}"\n' for name, url in tables.items())
            with LiveServer(tmp_path_factory.mktemp("site") / "store", f"[pypi]\nenabled = false\n{config}") as server:
                for project, version, (name, content) in (
                    ("demo", "1.0", OLD),
                    ("demo", "2.0", NEW),
                    ("helper", "1.0", HELPER),
                ):
                    form = {**FORM, "name": project, "version": version}
                    answer = httpx.post(f"{server.url}/hosted/legacy/", data=form, files={"content": (name, content)})
                    assert answer.status_code == 200, answer.text
                yield server


def days_from_now(days: float) -> str:
    return (datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=days)).strftime("%Y-%m-%dT%H:%M:%SZ")


# JSON-9
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("tool", ["pip", "uv"])
def test_cool_downs_are_kept(clients: Any, site: LiveServer, kind: str, tool: str) -> None:
    index = f"{site.url}/{kind}/simple/"
    install, option = {"pip": (clients.pip_install, "--uploaded-prior-to"), "uv": (clients.uv_install, "--exclude-newer")}[tool]
    done = install(clients.venv("later"), index, "--dry-run", option, days_from_now(1), "demo")
    assert done.status == 0, done.output
    assert "2.0" in done.output
    # What no upstream dates counts from the day on which it was first seen here, which is the safe side.
    done = install(clients.venv("earlier"), index, "--dry-run", option, "2022-01-01T00:00:00Z", "demo")
    if kind == "json":
        assert done.status == 0, done.output
        assert "1.0" in done.output
        assert "2.0" not in done.output
    else:
        assert done.status != 0
        assert "does not provide" not in done.output


@pytest.mark.parametrize("kind", KINDS)
def test_poetry_adds_and_locks(clients: Any, site: LiveServer, tmp_path: Path, kind: str) -> None:
    project = tmp_path / "project"
    project.mkdir()
    (project / "pyproject.toml").write_text(
        '[project]\nname = "mine"\nversion = "1.0"\nrequires-python = ">=3.9"\ndependencies = []\n'
        "[tool.poetry]\npackage-mode = false\n"
        f'[[tool.poetry.source]]\nname = "nora"\nurl = "{site.url}/{kind}/simple/"\npriority = "primary"\n'
    )
    env = {"POETRY_VIRTUALENVS_IN_PROJECT": "true", "POETRY_CACHE_DIR": str(tmp_path / "cache")}
    done = clients.tool("poetry", "add", "--no-interaction", "demo", env=env, cwd=project)
    assert done.status == 0, done.output
    lock = (project / "poetry.lock").read_text()
    assert 'name = "helper"' in lock
    assert "sha256:" in lock
    python = project / ".venv" / "bin" / "python"
    assert clients.run(str(python), "-c", "import demo, helper; print(demo.__version__)").output.strip() == "2.0"


@pytest.fixture(scope="module")
def pdm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """pdm in an environment of its own: beside other HTTP clients its current releases do not work, nor with hishel 2."""
    folder = tmp_path_factory.mktemp("pdm")
    uv = Path(sys.executable).parent / "uv"
    for command in (
        ("venv", "--allow-existing", "--python", sys.executable, "."),
        ("pip", "install", "--python", "bin/python", "pdm>=2.26", "hishel<2"),
    ):
        done = subprocess.run(
            [str(uv), *command, "--no-config", "--quiet"], cwd=folder, capture_output=True, text=True, timeout=300
        )
        if done.returncode and not os.environ.get("NORA_TEST_REQUIRE_PUBLIC_INDEX"):
            pytest.skip(f"pdm cannot be installed from here: {done.stderr[-500:]}")
        assert done.returncode == 0, done.stderr
    return folder / "bin" / "pdm"


@pytest.mark.public_index
@pytest.mark.parametrize("kind", KINDS)
def test_pdm_adds_and_locks(clients: Any, site: LiveServer, tmp_path: Path, pdm: Path, kind: str) -> None:
    project = tmp_path / "project"
    project.mkdir()
    (project / "pyproject.toml").write_text(
        '[project]\nname = "mine"\nversion = "1.0"\nrequires-python = ">=3.11"\ndependencies = []\n'
        "[tool.pdm]\ndistribution = false\n"
        f'[[tool.pdm.source]]\nname = "pypi"\nurl = "{site.url}/{kind}/simple/"\n'
    )
    env = {"PDM_CHECK_UPDATE": "0", "PDM_CACHE_DIR": str(tmp_path / "cache")}
    done = clients.run(str(pdm), "add", "demo", env=env, cwd=project)
    assert done.status == 0, done.output
    lock = (project / "pdm.lock").read_text()
    assert 'name = "helper"' in lock
    assert "sha256:" in lock
    python = project / ".venv" / "bin" / "python"
    assert clients.run(str(python), "-c", "import demo, helper; print(demo.__version__)").output.strip() == "2.0"
