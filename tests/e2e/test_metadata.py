"""Resolvers are fast through Nora where the upstream offers no metadata."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest

from nora.testing.live import LiveServer
from nora.testing.packages import make_metadata, make_wheel
from nora.testing.replies import Reply
from nora.testing.upstream import ScriptedUpstream

LENGTH = 12
SIZE = 300_000
JSON = {"accept": "application/vnd.pypi.simple.v1+json"}


def chain(length: int = LENGTH) -> dict[str, tuple[str, bytes]]:
    """Packages, each of which needs the next."""
    built = {}
    for number in range(length):
        requires = [f"link{number + 1}>=1"] if number + 1 < length else []
        built[f"link{number}"] = make_wheel(f"link{number}", "1.0", requires=requires, requires_python=">=3.8", size=SIZE)
    return built


def offer(upstream: ScriptedUpstream, built: dict[str, tuple[str, bytes]], **reply: Any) -> None:
    for project, (name, wheel) in built.items():
        upstream.add_project(project, {name: Reply(wheel, **reply)})


def value_of(server: LiveServer, metric: str) -> float:
    lines = httpx.get(f"{server.url}/metrics").text.splitlines()
    return sum(float(line.rpartition(" ")[2]) for line in lines if re.match(rf"{metric}_total\b", line))


def asked(upstream: ScriptedUpstream, pattern: str) -> int:
    return sum(bool(re.search(pattern, request.path)) for request in upstream.requests)


# META-7
@pytest.mark.parametrize("workers", [1, 2])
def test_resolvers_download_no_wheel_and_nora_only_parts(
    clients: Any, tmp_path: Path, upstream: ScriptedUpstream, workers: int
) -> None:
    built = chain()
    offer(upstream, built, ranges=True)
    with LiveServer(tmp_path / "store", f'[pypi]\nproxy = "{upstream.simple_url}"\n', workers=workers) as server:
        index = f"{server.url}/simple/"
        done = clients.uv_install(clients.venv("uv"), index, "--dry-run", "link0")
        assert done.status == 0, done.output
        assert f"Would install {LENGTH} packages" in done.output
        parts, requests = value_of(server, "nora_range_bytes"), len(upstream.requests)
        assert 0 < parts < 0.02 * LENGTH * SIZE
        # All of them were asked for in parts, and nothing was asked for that the next client would need again.
        wholes = [request for request in upstream.requests if ".whl" in request.path and "range" not in request.headers]
        assert wholes == []
        for name, again in (("uv again", clients.uv_install), ("pip", clients.pip_install)):
            done = again(clients.venv(name), index, "--dry-run", "link0")
            assert done.status == 0, done.output
        # Each worker reads the disk for itself, and neither asks the upstream.
        assert len(upstream.requests) == requests
        assert value_of(server, "nora_range_bytes") == parts
        assert re.findall(r"path=\S+\.whl ", server.log()) == []
        for project, (name, wheel) in built.items():
            page = httpx.get(f"{index}{project}/", headers=JSON).json()
            served = httpx.get(f"{index}{project}/{name}.metadata")
            assert served.status_code == 200
            assert b"Requires-Python: >=3.8" in served.content
            assert page["files"][0]["core-metadata"].keys() == {"sha256"}  # META-4
            assert len(wheel) > SIZE


def test_without_ranges_each_file_is_fetched_once_and_kept(clients: Any, tmp_path: Path, upstream: ScriptedUpstream) -> None:
    built = chain(4)
    offer(upstream, built, ranges=False)
    with LiveServer(tmp_path / "store", f'[pypi]\nproxy = "{upstream.simple_url}"\n') as server:
        python = clients.venv("uv")
        done = clients.uv_install(python, f"{server.url}/simple/", "--dry-run", "link0")
        assert done.status == 0, done.output
        upstream.offline = True
        done = clients.uv_install(python, f"{server.url}/simple/", "link0")
        assert done.status == 0, done.output
        # Once for the try to get a part, once for the whole.
        assert asked(upstream, r"\.whl$") <= 2 * len(built)
        assert value_of(server, "nora_integrity_errors") == 0


# META-12
@pytest.mark.parametrize(
    "content", [b"", b"no zip at all", make_wheel("demo", "1.0")[1][:-30], make_wheel("other", "1.0")[1]], ids=range(4)
)
def test_a_wheel_without_readable_metadata_is_announced_no_more(
    tmp_path: Path, upstream: ScriptedUpstream, content: bytes
) -> None:
    name = make_wheel("demo", "1.0")[0]
    upstream.add_project("demo", {name: Reply(content, ranges=True)})
    with LiveServer(tmp_path / "store", f'[pypi]\nproxy = "{upstream.simple_url}"\n') as server:
        page = f"{server.url}/simple/demo/"
        for expected in (True, None):
            (file,) = httpx.get(page, headers=JSON).json()["files"]
            assert file.get("core-metadata") is expected
            assert httpx.get(f"{page}{name}.metadata").status_code == 404
            assert httpx.head(f"{page}{name}.metadata").status_code == 404
        assert "data-core-metadata" not in httpx.get(page, headers={"accept": "text/html"}).text
        whole = httpx.get(f"{page}{name}")
        assert (whole.status_code, whole.content) == (200, content)


def test_a_wheel_that_arrives_with_other_metadata_is_an_integrity_error_and_wins(
    tmp_path: Path, upstream: ScriptedUpstream
) -> None:
    name, good = make_wheel("demo", "1.0", requires=["honest"])
    _, forged = make_wheel("demo", "1.0", requires=["forged"])
    upstream.add_project("demo", {name: good}, digests={name: ""}, form="html")
    upstream.add(f"/files/demo/{quote(name)}", Reply(forged, ranges=True))
    with LiveServer(tmp_path / "store", f'[pypi]\nproxy = "{upstream.simple_url}"\n') as server:
        page = f"{server.url}/simple/demo/"
        assert b"forged" in httpx.get(f"{page}{name}.metadata").content
        upstream.add(f"/files/demo/{quote(name)}", Reply(good))
        assert httpx.get(f"{page}{name}").content == good
        for _ in range(100):
            served = httpx.get(f"{page}{name}.metadata").content
            if b"honest" in served:
                break
        assert b"honest" in served
        assert value_of(server, "nora_integrity_errors") == 1
        assert "differs from what its file has inside" in server.log()


@pytest.mark.parametrize("announced", [True, False])
def test_hosted_wheels_and_static_sdists_are_announced(tmp_path: Path, announced: bool) -> None:
    # META-5, META-6: an sdist only if building cannot change anything.
    from nora.testing.packages import make_sdist

    name, content = make_sdist("demo", "1.0", metadata_version="2.2", dynamic=() if announced else ("Requires-Dist",))
    form = {":action": "file_upload", "protocol_version": "1", "name": "demo", "version": "1.0", "filetype": "sdist"}
    with LiveServer(tmp_path / "store", '[pypi]\nproxy = ""\n') as server:
        answer = httpx.post(
            f"{server.url}/legacy/", data={**form, "metadata_version": "2.2"}, files={"content": (name, content)}
        )
        assert answer.status_code == 200, answer.text
        (file,) = httpx.get(f"{server.url}/simple/demo/", headers=JSON).json()["files"]
        assert ("core-metadata" in file) is announced
        served = httpx.get(f"{server.url}/simple/demo/{name}.metadata")
        assert served.status_code == (200 if announced else 404)
        if announced:
            assert served.content == make_metadata("demo", "1.0", extra=[("Metadata-Version", "2.2")])
