"""Real packages of the public index through Nora."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urljoin

import httpx
import pytest

from nora.testing.live import LiveServer
from nora_pypi.plugin import ACCEPT, DEFAULT_UPSTREAM

pytestmark = pytest.mark.public_index

JSON = "application/vnd.pypi.simple.v1+json"
PROJECTS = (
    *("requests", "pandas", "jupyterlab", "docopt", "numpy", "pip", "setuptools", "sampleproject", "cryptography", "pyyaml"),
    *("zope-interface", "ruamel-yaml", "backports-zoneinfo", "django", "lxml", "pywin32", "twine", "attrs", "six", "boto3"),
)
# "url" leads through Nora, and "data-dist-info-metadata" is the public index's own spelling of "core-metadata" (META-13).
REWRITTEN = frozenset({"url", "data-dist-info-metadata"})


@pytest.fixture(scope="module")
def public_index() -> str:
    try:
        httpx.get(f"{DEFAULT_UPSTREAM}pip/", headers={"accept": ACCEPT}, timeout=15).raise_for_status()
    except httpx.HTTPError as error:
        if os.environ.get("NORA_TEST_REQUIRE_PUBLIC_INDEX"):
            raise
        pytest.skip(f"the public index cannot be reached from here: {error!r}")
    return DEFAULT_UPSTREAM


@pytest.mark.parametrize("project", PROJECTS)
def test_a_proxied_page_loses_nothing(public_index: str, server: LiveServer, project: str) -> None:
    # PROXY-3
    theirs = httpx.get(f"{public_index}{project}/", headers={"accept": JSON}, timeout=60, follow_redirects=True).json()
    page_url = f"{server.url}/simple/{project}/"
    ours = httpx.get(page_url, headers={"accept": JSON}, timeout=60).json()
    compared = theirs.keys() - {"meta", "files", "versions"}
    assert {key: ours[key] for key in compared} == {key: theirs[key] for key in compared}
    # JSON-7 asks for the version of every file, which the public index forgets here and there.
    assert ours["versions"][: len(theirs["versions"])] == theirs["versions"]
    without_version = [{key: value for key, value in page["meta"].items() if key != "api-version"} for page in (ours, theirs)]
    assert without_version[0] == without_version[1]
    found = {file["filename"]: file for file in ours["files"]}
    assert len(found) == len(ours["files"])
    for file in theirs["files"]:
        expected = {key: value for key, value in file.items() if key not in REWRITTEN}
        if expected.get("yanked") is False:
            # Not yanked is the default; it is said by silence.
            del expected["yanked"]
        if file["filename"].endswith(".whl"):
            # META-7
            expected.setdefault("core-metadata", True)
        mine = found.pop(file["filename"])
        assert {key: value for key, value in mine.items() if key not in REWRITTEN} == expected
        # PROXY-6
        assert urljoin(page_url, mine["url"]).startswith(page_url)
    assert not found


@pytest.fixture(scope="module")
def server(public_index: str, tmp_path_factory: pytest.TempPathFactory) -> Any:
    with LiveServer(tmp_path_factory.mktemp("public") / "store") as running:
        yield running


@pytest.mark.slow
@pytest.mark.parametrize("tool", ["pip", "uv"])
def test_real_packages_install_and_install_again_without_the_upstream(
    public_index: str, clients: Any, tmp_path: Path, tool: str
) -> None:
    # CACHE-8. docopt is published as an sdist only.
    install = {"pip": clients.pip_install, "uv": clients.uv_install}[tool]
    packages = ("requests", "pandas", "jupyterlab", "docopt")
    with LiveServer(tmp_path / "store") as running:
        done = install(clients.venv("cold"), f"{running.url}/simple/", *packages)
        assert done.status == 0, done.output
    with LiveServer(tmp_path / "store", env={"NORA_PYPI_PROXY": "http://127.0.0.1:9/simple/"}) as running:
        done = install(clients.venv("offline"), f"{running.url}/simple/", *packages)
        assert done.status == 0, done.output


def test_resolving_a_real_application_costs_a_fraction_of_its_wheels(
    public_index: str, clients: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # META-7, META-9
    def counted(server: LiveServer, metric: str) -> float:
        lines = httpx.get(f"{server.url}/metrics").text.splitlines()
        return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(f"{metric}_total"))

    with LiveServer(tmp_path / "store") as server:
        index = f"{server.url}/simple/"
        wanted = tmp_path / "wanted.in"
        wanted.write_text("jupyterlab\n")
        python = clients.venv("pip")
        compiling = ("uv", "pip", "compile", "--no-cache", "--no-config", "--index-url", index, str(wanted))
        runs = [
            lambda: clients.tool(*compiling),
            lambda: clients.pip_install(python, index, "--dry-run", "jupyterlab"),
        ]
        for number, run in enumerate(runs + runs):
            before = counted(server, "nora_upstream_requests")
            done = run()
            assert done.status == 0, done.output
            if number >= len(runs):
                assert counted(server, "nora_upstream_requests") == before
        read = set(re.findall(r"path=/simple/([^/ ]+)/([^/ ]+\.whl)\.metadata ", server.log()))
        assert len(read) > 50
        assert re.findall(r"path=\S+\.(?:whl|tar\.gz) ", server.log()) == []
        pages = {project: httpx.get(f"{index}{project}/", headers={"accept": JSON}).json() for project, _ in read}
        sizes = {(project, file["filename"]): file["size"] for project, page in pages.items() for file in page["files"]}
        wheels = sum(sizes[project, unquote(name)] for project, name in read)
        fetched = counted(server, "nora_range_bytes")
        with capsys.disabled():
            print(
                f"\n{len(read)} wheels of {wheels} bytes; fetched for their metadata: {fetched:.0f} bytes, {fetched / wheels:.2%}"
            )
        assert fetched < 0.02 * wheels
