"""Yanking, deleting and project status, as pip, uv and twine see them: on two workers, at once."""

from __future__ import annotations

import json
import os
import pty
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest

from nora.testing.harness import MAX_CONNECTIONS, open_sockets
from nora.testing.live import LiveServer
from nora.testing.packages import make_sdist, make_wheel, wheel_name
from nora.testing.upstream import JSON_TYPE, Reply, ScriptedUpstream

HOSTED_ONLY = '[pypi]\nproxy = ""\n'
FORM = {":action": "file_upload", "protocol_version": "1", "metadata_version": "2.1"}
DEMO = "/api/v1/registries/pypi/projects/demo"
REASON = 'it is <broken> & "bad"'
ESCAPED = "it is &lt;broken&gt; &amp; &quot;bad&quot;"


@contextmanager
def each_worker(server: LiveServer) -> Iterator[list[httpx.Client]]:
    """Clients whose connections are known to be held by different processes."""
    workers = server.worker_pids()
    with ExitStack() as stack:
        found: dict[int, httpx.Client] = {}
        for _ in range(MAX_CONNECTIONS):
            before = {pid: open_sockets(pid) for pid in workers}
            client = stack.enter_context(httpx.Client(base_url=server.url, trust_env=False, timeout=30))
            assert client.get("/health").status_code == 200
            for pid in workers:
                if open_sockets(pid) > before[pid]:
                    found.setdefault(pid, client)
            if len(found) == len(workers):
                yield list(found.values())
                return
        raise AssertionError(f"{MAX_CONNECTIONS} connections reached {list(found)} of the processes {workers}")


def upload(client: httpx.Client, name: str, version: str, content: bytes | None = None, filename: str = "") -> httpx.Response:
    """Publish a wheel of this version, or what is given."""
    built_name, built = make_wheel(name, version)
    filename = filename or built_name
    form = FORM | {"name": name, "version": version, "filetype": "bdist_wheel" if filename.endswith(".whl") else "sdist"}
    return client.post("/legacy/", data=form, files={"content": (filename, content or built)})


def published(client: httpx.Client, name: str, version: str, **more: Any) -> None:
    answer = upload(client, name, version, **more)
    assert answer.status_code == 200, answer.text


def page(client: httpx.Client, project: str = "demo", **headers: str) -> httpx.Response:
    return client.get(f"/simple/{project}/", headers={"accept": JSON_TYPE, **headers})


def html(client: httpx.Client, project: str = "demo", **headers: str) -> httpx.Response:
    return client.get(f"/simple/{project}/", headers={"accept": "text/html", **headers})


def yanked(client: httpx.Client, project: str = "demo") -> dict[str, bool | str]:
    """The marks of all files, by name; the same in both formats, or this fails."""
    marks = {file["filename"]: file.get("yanked", False) for file in page(client, project).json()["files"]}
    text = html(client, project).text
    for name, mark in marks.items():
        (line,) = (line for line in text.splitlines() if f">{name}<" in line)
        # YANK-2, JSON-16
        assert ("data-yanked" in line) == (mark is not False), line
    return marks


def done(answer: httpx.Response) -> dict[str, Any]:
    """The document of a change that changed something."""
    assert answer.status_code == 200, answer.text
    document: dict[str, Any] = answer.json()
    assert document["changed"] is True
    return document


def nora(store: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """A command beside the server, with a configuration like its own."""
    config = store.parent / "beside.toml"
    config.write_text(HOSTED_ONLY)
    command, *rest = arguments
    environ = {name: value for name, value in os.environ.items() if not name.startswith("NORA_")}
    return subprocess.run(
        [sys.executable, "-m", "nora", command, "--config", str(config), "--storage", str(store), *rest],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        env=environ,
        cwd=store.parent,
        timeout=60,
    )


def installed(clients: Any, python: Path) -> str:
    shown = clients.run(str(python), "-c", "import demo; print(demo.__version__)")
    return str(shown.output.strip())


# YANK-1 to YANK-6


def test_a_yanked_version_is_skipped_unless_pinned_and_comes_back_at_once(clients: Any, tmp_path: Path) -> None:
    with LiveServer(tmp_path / "store", HOSTED_ONLY, workers=2) as server, each_worker(server) as workers:
        one, other = workers
        for version in ("1.0", "1.1.0"):
            published(one, "demo", version)
        wheels = [wheel_name("demo", version) for version in ("1.0", "1.1.0")]
        before = [(page(worker).headers["etag"], html(worker).headers["etag"]) for worker in workers]
        # PEP440-2: the version in another spelling.
        event = done(one.post(f"{DEMO}/versions/1.1/yank", json={"reason": REASON}))["event"]
        assert (event["action"], event["reason"]) == ("yank", REASON)
        for worker, (json_tag, html_tag) in zip(workers, before, strict=True):
            # HTTP-9: at once, also for who has the page.
            assert page(worker, **{"if-none-match": json_tag}).status_code == 200
            shown = html(worker, **{"if-none-match": html_tag})
            assert shown.status_code == 200
            # YANK-3
            assert f'data-yanked="{ESCAPED}"' in shown.text
            assert yanked(worker) == {wheels[0]: False, wheels[1]: REASON}
            assert page(worker).headers["etag"] != json_tag
            # YANK-6
            assert worker.get(f"/simple/demo/{wheels[1]}").status_code == 200
        for install in (clients.pip_install, clients.uv_install):
            python = clients.venv(f"{install.__name__}-yanked")
            ran = install(python, f"{server.url}/simple/", "demo")
            assert ran.status == 0, ran.output
            assert installed(clients, python) == "1.0"
            ran = install(python, f"{server.url}/simple/", "demo==1.1")
            assert ran.status == 0, ran.output
            assert installed(clients, python) == "1.1.0"
            assert REASON in " ".join(ran.output.split()), ran.output
        done(other.delete(f"{DEMO}/versions/1.1.0/yank"))
        for worker, tags in zip(workers, before, strict=True):
            assert yanked(worker) == dict.fromkeys(wheels, False)
            # The same page again, so what a client has of it is good again.
            assert (page(worker).headers["etag"], html(worker).headers["etag"]) == tags
        for install in (clients.pip_install, clients.uv_install):
            python = clients.venv(f"{install.__name__}-back")
            ran = install(python, f"{server.url}/simple/", "demo")
            assert ran.status == 0, ran.output
            assert installed(clients, python) == "1.1.0"


def test_a_yanked_file_is_skipped_and_its_versions_others_are_not(clients: Any, tmp_path: Path) -> None:
    with LiveServer(tmp_path / "store", HOSTED_ONLY, workers=2) as server, each_worker(server) as (one, other):
        published(one, "demo", "1.0")
        published(one, "demo", "1.1")
        name, sdist = make_sdist("demo", "1.1")
        published(one, "demo", "1.1", content=sdist, filename=name)
        wheel = wheel_name("demo", "1.1")
        done(other.post(f"{DEMO}/versions/1.1/yank", json={"file": wheel}))
        # YANK-4
        assert yanked(one) == {wheel_name("demo", "1.0"): False, wheel: True, name: False}
        assert 'data-yanked=""' in html(one).text
        python = clients.venv("wheels")
        ran = clients.pip_install(python, f"{server.url}/simple/", "--only-binary", ":all:", "demo")
        assert ran.status == 0, ran.output
        assert installed(clients, python) == "1.0"
        python = clients.venv("sources")
        ran = clients.uv_install(python, f"{server.url}/simple/", "demo")
        assert ran.status == 0, ran.output
        assert installed(clients, python) == "1.1"
        done(one.delete(f"{DEMO}/versions/1.1/yank?file={wheel}"))
        assert set(yanked(other).values()) == {False}


@pytest.mark.parametrize("form", ["json", "html"])
def test_a_proxied_version_that_is_yanked_here_stays_the_upstreams(
    clients: Any, tmp_path: Path, upstream: ScriptedUpstream, form: Any
) -> None:
    wheels = [make_wheel("demo", version) for version in ("1.0", "1.1", "1.2", "1.3")]
    names = [name for name, _ in wheels]
    key = "yanked" if form == "json" else "data-yanked"
    theirs = {names[0]: {key: "theirs"}}
    upstream.add_project("demo", dict(wheels[:3]), form=form, extra=theirs)
    config = f'[pypi]\nproxy = "{upstream.simple_url}"\nmetadata_ttl = 0\n'
    with LiveServer(tmp_path / "store", config, workers=2) as server, each_worker(server) as (one, other):
        # YANK-1
        assert yanked(one) == yanked(other) == {names[0]: "theirs", names[1]: False, names[2]: False}
        done(one.post(f"{DEMO}/versions/1.2.0/yank", json={"reason": REASON}))
        done(one.post(f"{DEMO}/versions/1.0/yank"))
        ours = {names[0]: "theirs", names[1]: False, names[2]: REASON}
        assert yanked(one) == yanked(other) == ours
        document = other.get(DEMO).json()
        assert document["hosted"] is False
        assert [version["files"][0].get("yanked_by") for version in document["versions"]] == ["here", None, "here"]
        done(other.delete(f"{DEMO}/versions/1.0/yank"))
        # What the upstream yanked cannot be unyanked here.
        answer = one.delete(f"{DEMO}/versions/1.0/yank")
        assert answer.status_code == 400
        assert "yanked upstream" in answer.text
        assert answer.text.count("\n") == 1
        for install in (clients.pip_install, clients.uv_install):
            python = clients.venv(install.__name__)
            ran = install(python, f"{server.url}/simple/", "demo")
            assert ran.status == 0, ran.output
            assert installed(clients, python) == "1.1"
        # YANK-6
        assert one.get(f"/simple/demo/{names[2]}").content == wheels[2][1]
    # YANK-5: what changes upstream is followed, what was decided here survives a restart.
    upstream.add_project("demo", dict(wheels), form=form)
    with LiveServer(tmp_path / "store", config, workers=2) as server, each_worker(server) as (one, other):
        followed = {names[0]: False, names[1]: False, names[2]: REASON, names[3]: False}
        assert yanked(one) == yanked(other) == followed
        assert one.get(f"/simple/demo/{names[3]}").content == wheels[3][1]
        # The first upload makes the name ours, and takes the decision along.
        published(one, "demo", "1.2")
        published(one, "demo", "1.4")
        assert yanked(other) == {names[2]: REASON, wheel_name("demo", "1.4"): False}
        done(other.delete(f"{DEMO}/versions/1.2/yank"))
        assert set(yanked(one).values()) == {False}
    assert "0 problems" in nora(tmp_path / "store", "verify").stdout


# Deleting


@pytest.mark.parametrize("merged", [False, True])
def test_a_deleted_version_is_gone_at_once_and_its_name_stays_taken(
    tmp_path: Path, upstream: ScriptedUpstream, merged: bool
) -> None:
    theirs = [make_wheel("demo", version, size=9) for version in ("1.0", "9.0")]
    upstream.add_project("demo", dict(theirs))
    config = f'[pypi]\nproxy = "{upstream.simple_url}"\nmetadata_ttl = 0\n'
    config += 'merge_upstream = ["demo"]\n' if merged else ""
    ours, added = wheel_name("demo", "1.0"), [wheel_name("demo", "9.0")] if merged else []
    with LiveServer(tmp_path / "store", config, workers=2) as server, each_worker(server) as (one, other):
        published(one, "demo", "1.0")
        published(one, "demo", "2.0")
        for worker in (one, other):
            assert list(yanked(worker)) == [ours, wheel_name("demo", "2.0"), *added]
            assert worker.get(f"/simple/demo/{ours}").status_code == 200
        event = done(one.delete(f"{DEMO}/versions/1.0.0?reason=leaked"))["event"]
        assert (event["files"], event["reason"]) == ([ours], "leaked")
        for worker in (other, one):
            assert list(yanked(worker)) == [wheel_name("demo", "2.0"), *added]
            for suffix in ("", ".metadata"):
                assert worker.get(f"/simple/demo/{ours}{suffix}").status_code == 404
        done(other.delete(f"{DEMO}/versions/2.0/files/{wheel_name('demo', '2.0')}"))
        asked = len(upstream.requests)
        for worker in (one, other):
            # The name stays ours: nothing of the upstream's takes its place.
            assert list(yanked(worker)) == added
        if not merged:
            assert len(upstream.requests) == asked
        # UP-11, PEP440-2: other bytes never, in no spelling of the version; the same bytes again.
        for version in ("1.0", "1.0.0"):
            refused = upload(one, "demo", version, content=make_wheel("demo", version, size=99)[1])
            assert refused.status_code == 409
            assert "was deleted" in refused.text
            assert "already exists" in refused.text
        published(other, "demo", "1.0")
        assert list(yanked(one)) == [ours, *added]
        assert one.get(f"/simple/demo/{ours}").content == make_wheel("demo", "1.0")[1]
    assert "0 problems" in nora(tmp_path / "store", "verify").stdout


def test_an_upstreams_file_cannot_be_deleted(tmp_path: Path, upstream: ScriptedUpstream) -> None:
    name, wheel = make_wheel("demo", "1.0")
    upstream.add_project("demo", {name: wheel})
    with LiveServer(tmp_path / "store", f'[pypi]\nproxy = "{upstream.simple_url}"\n') as server:
        answer = httpx.delete(f"{server.url}{DEMO}/versions/1.0")
        assert (answer.status_code, answer.text) == (404, "no such hosted file: demo version 1.0\n")
        assert httpx.get(f"{server.url}/simple/demo/{name}").content == wheel


# STAT-1 to STAT-4


def test_a_status_is_shown_in_both_formats_and_decides_on_uploads_and_files(clients: Any, tmp_path: Path, dist: Path) -> None:
    name, wheel = make_wheel("demo", "9.0")
    (dist / name).write_bytes(wheel)
    ours = wheel_name("demo", "1.0")
    with LiveServer(tmp_path / "store", HOSTED_ONLY, workers=2) as server, each_worker(server) as (one, other):
        published(one, "demo", "1.0")
        for status in ("archived", "quarantined", "deprecated"):
            done(one.put(f"{DEMO}/status", json={"status": status, "reason": REASON}))
            for worker in (one, other):
                document = page(worker).json()
                assert document["project-status"] == {"status": status, "reason": REASON}
                assert document["meta"]["api-version"] == "1.4"
                text = html(worker).text
                assert '<meta name="pypi:repository-version" content="1.4">' in text
                assert f'<meta name="pypi:project-status" content="{status}">' in text
                assert f'<meta name="pypi:project-status-reason" content="{ESCAPED}">' in text
                offered = status != "quarantined"
                assert [file["filename"] for file in document["files"]] == ([ours] if offered else [])
                assert (f">{ours}<" in text) == offered
                for suffix in ("", ".metadata"):
                    assert worker.get(f"/simple/demo/{ours}{suffix}").status_code == (200 if offered else 403)
            if status == "deprecated":
                continue
            refused = upload(other, "demo", "2.0")
            assert refused.status_code == 403
            assert f"the project is {status}" in refused.text
            arguments = (
                "upload",
                "--verbose",
                "--disable-progress-bar",
                "-u",
                "x",
                "-p",
                "y",
                "--repository-url",
                f"{server.url}/legacy/",
            )
            ran = clients.tool("twine", *arguments, str(dist / name))
            assert ran.status != 0
            assert f"the project is {status}" in " ".join(ran.output.split())
        published(other, "demo", "2.0")
        done(other.put(f"{DEMO}/status", json={"status": "active"}))
        for worker in (one, other):
            assert "project-status" not in page(worker).json()
            assert "pypi:project-status" not in html(worker).text


@pytest.mark.parametrize("status", ["archived", "quarantined", "deprecated"])
def test_an_upstreams_status_is_passed_on_and_cannot_be_changed(
    tmp_path: Path, upstream: ScriptedUpstream, status: str
) -> None:
    name, wheel = make_wheel("demo", "1.0")
    upstream.add_project("demo", {name: wheel})
    listed = {
        "meta": {"api-version": "1.4"},
        "name": "demo",
        "versions": ["1.0"],
        "project-status": {"status": status, "reason": "theirs"},
        "files": [{"filename": name, "url": f"../../files/demo/{name}", "hashes": {}, "size": len(wheel)}],
    }
    upstream.add("/simple/demo/", Reply(json.dumps(listed).encode(), content_type=JSON_TYPE))
    with (
        LiveServer(tmp_path / "store", f'[pypi]\nproxy = "{upstream.simple_url}"\n') as server,
        httpx.Client(base_url=server.url) as client,
    ):
        assert page(client).json()["project-status"] == {"status": status, "reason": "theirs"}
        assert f'<meta name="pypi:project-status" content="{status}">' in html(client).text
        offered = status != "quarantined"
        assert [file["filename"] for file in page(client).json()["files"]] == ([name] if offered else [])
        assert client.get(f"/simple/demo/{name}").status_code == (200 if offered else 403)
        answer = client.put(f"{DEMO}/status", json={"status": "active"})
        assert answer.status_code == 403
        assert "upstream" in answer.text


# At the same time


def test_parallel_changes_of_one_project_lose_nothing(tmp_path: Path) -> None:
    # CONC-1
    with LiveServer(tmp_path / "store", HOSTED_ONLY, workers=2) as server, httpx.Client(base_url=server.url) as client:
        for number in range(12):
            published(client, "demo", f"1.{number}")
        for number in range(6, 12):
            done(client.post(f"{DEMO}/versions/1.{number}/yank"))
        before = len(client.get(f"{DEMO}/history?limit=500").json()["events"])
        assert before == 18

        def change(number: int) -> None:
            with httpx.Client(base_url=server.url, timeout=60) as own:
                if number < 6:
                    done(own.post(f"{DEMO}/versions/1.{number}/yank", json={"reason": f"reason {number}"}))
                elif number < 12:
                    done(own.delete(f"{DEMO}/versions/1.{number}/yank"))
                elif number < 19:
                    published(own, "demo", f"2.{number}")
                else:
                    ran = nora(tmp_path / "store", "status", "pypi", "demo", "deprecated")
                    assert ran.returncode == 0, ran.stderr

        with ThreadPoolExecutor(20) as pool:
            list(pool.map(change, range(20)))
        expected: dict[str, bool | str] = {wheel_name("demo", f"1.{n}"): f"reason {n}" if n < 6 else False for n in range(12)}
        expected |= {wheel_name("demo", f"2.{n}"): False for n in range(12, 19)}
        assert yanked(client) == expected
        events = client.get(f"{DEMO}/history?limit=500").json()["events"]
        assert [event["serial"] for event in events] == list(range(before + 20, 0, -1))
        what = [(event["action"], event.get("version", "")) for event in events[:20]]
        assert sorted(what) == sorted(
            [
                *(("yank", f"1.{n}") for n in range(6)),
                *(("unyank", f"1.{n}") for n in range(6, 12)),
                *(("publish", f"2.{n}") for n in range(12, 19)),
                ("status", ""),
            ]
        )


# The command line


def test_the_command_line_works_beside_a_running_server_and_without_one(tmp_path: Path) -> None:
    store = tmp_path / "store"
    with LiveServer(store, HOSTED_ONLY, workers=2) as server, each_worker(server) as (one, other):
        published(one, "demo", "1.0")
        published(one, "demo", "2.0")
        for worker in (one, other):
            assert set(yanked(worker).values()) == {False}
        ran = nora(store, "yank", "pypi", "Demo", "1", "--reason", REASON)
        assert (ran.returncode, ran.stdout, ran.stderr) == (0, "yanked version 1 of demo in pypi\n", "")
        for worker in (one, other):
            assert yanked(worker)[wheel_name("demo", "1.0")] == REASON
        (event,) = one.get(f"{DEMO}/history?limit=1").json()["events"]
        assert event["actor"].startswith("cli:")
        ran = nora(store, "delete", "pypi", "demo", "2.0")
        assert (ran.returncode, ran.stdout, ran.stderr.count("\n")) == (2, "", 1)
        assert ran.stderr.startswith("nora: ")
        ran = nora(store, "delete", "pypi", "demo", "2.0", "--yes")
        assert (ran.returncode, ran.stderr) == (0, "")
        for worker in (one, other):
            assert list(yanked(worker)) == [wheel_name("demo", "1.0")]
    ran = nora(store, "unyank", "pypi", "demo", "1.0")
    assert (ran.returncode, ran.stdout) == (0, "unyanked version 1.0 of demo in pypi\n")
    assert nora(store, "status", "pypi", "demo", "archived", "--reason", "done").returncode == 0
    assert nora(store, "status", "pypi", "demo").stdout == "archived: done\n"
    with LiveServer(store, HOSTED_ONLY) as server, httpx.Client(base_url=server.url) as client:
        assert yanked(client) == {wheel_name("demo", "1.0"): False}
        assert page(client).json()["project-status"] == {"status": "archived", "reason": "done"}
    assert "0 problems" in nora(store, "verify").stdout


@pytest.mark.parametrize(
    ("typed", "status", "left"), [("y\n", 0, 0), ("n\n", 1, 1), ("\x03", 1, 1)], ids=["yes", "no", "break"]
)
def test_at_a_terminal_a_deletion_is_asked_about(tmp_path: Path, typed: str, status: int, left: int) -> None:
    store = tmp_path / "store"
    with LiveServer(store, HOSTED_ONLY) as server, httpx.Client(base_url=server.url) as client:
        published(client, "demo", "1.0")
        (tmp_path / "config.toml").write_text(HOSTED_ONLY)
        pid, terminal = pty.fork()
        if pid == 0:
            # A shell starts what runs in its background with breaks ignored, and that is inherited.
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            os.chdir(tmp_path)
            arguments = ["-m", "nora", "delete", "--storage", str(store), "pypi", "demo", "1.0"]
            os.execv(sys.executable, [sys.executable, *arguments])
        shown = b""
        while b"Delete? [y/N]" not in shown:
            shown += os.read(terminal, 4096)
        assert wheel_name("demo", "1.0").encode() in shown
        os.write(terminal, typed.encode())
        # Linux says the end of a terminal by an error.
        with suppress(OSError):
            while True:
                if select.select([terminal], [], [], 2)[0]:
                    shown += os.read(terminal, 4096)
                else:
                    os.write(terminal, typed.encode())  # a break that comes right before the reading begins is not noticed
        os.close(terminal)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == status, shown
        assert (b"deleted version 1.0 of demo" in shown) == (status == 0)
        assert len(yanked(client)) == left
