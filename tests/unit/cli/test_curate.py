"""``nora yank``, ``unyank``, ``delete`` and ``status``, as an operator types them."""

from __future__ import annotations

import asyncio
import os
import pwd
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from nora.api import Event, File
from nora.cli.curate import user_name
from nora.cli.main import cli
from nora.index.index import Index
from nora.index.manifest import Manifest
from nora.store.directory import DirectoryStore

HOSTED_ONLY = '[pypi]\nproxy = ""\n[registries.other]\nformat = "pypi"\nproxy = ""\n'


def hosted(name: str, version: str) -> File:
    return File(name=name, version=version, size=4, digests={"sha256": "0" * 64})


FILES = (
    hosted("demo-1.0-py3-none-any.whl", "1.0"),
    hosted("demo-1.0.tar.gz", "1.0"),
    hosted("demo-2.0-py3-none-any.whl", "2.0"),
)


def newest(storage: Path, project: str = "demo", area: str = "index") -> Manifest | None:
    async def read() -> Manifest | None:
        store = DirectoryStore.open(storage)
        found = await Index(store, "pypi", area=area).newest(project)
        await store.aclose()
        return found

    return asyncio.run(read())


@pytest.fixture
def storage(tmp_path) -> Path:
    """Where version 1.0 of demo is hosted in two files, and 2.0 in one."""
    event = Event(action="publish", registry="pypi", project="demo")

    async def fill() -> None:
        store = DirectoryStore.open(tmp_path / "store")
        manifest = Manifest(project="demo", serial=1, event=event, files=FILES)
        await Index(store, "pypi").change("demo", lambda *_: manifest)
        await store.aclose()

    asyncio.run(fill())
    return tmp_path / "store"


@pytest.fixture
def run(place) -> Callable[..., Result]:
    """Runs ``nora`` with these arguments, against the storage."""
    (place / "config.toml").write_text(HOSTED_ONLY)

    def call(*arguments: str, storage: str = "store", **options: Any) -> Result:
        command, *rest = arguments
        return CliRunner().invoke(cli, [command, "--storage", storage, *rest], prog_name="nora", **options)

    return call


def said(result: Result) -> str:
    """The one line on standard output of a command that was a success, and said nothing else."""
    assert result.exit_code == 0, result.output
    assert result.stderr == ""
    assert result.stdout.count("\n") == 1
    return result.stdout.rstrip("\n")


def complained(result: Result) -> str:
    """The one line of a command that could not be done."""
    assert (result.exit_code, result.stdout) == (2, ""), result.output
    assert result.stderr.count("\n") == 1
    assert result.stderr.startswith("nora: ")
    return result.stderr.removeprefix("nora: ").rstrip("\n")


# Yanking


def test_a_version_is_yanked_and_unyanked(run, storage):
    assert said(run("yank", "pypi", "Demo", "1.0.0", "--reason", "it is broken")) == "yanked version 1.0.0 of demo in pypi"
    manifest = newest(storage)
    assert manifest.yanked_versions == {"1": "it is broken"}
    event = manifest.event
    assert (event.action, event.version, event.reason) == ("yank", "1.0.0", "it is broken")
    assert (event.actor, event.request_id) == (f"cli:{pwd.getpwuid(os.getuid()).pw_name}", "")
    again = said(run("yank", "pypi", "demo", "1.0", "--reason", "it is broken"))
    assert again == "version 1.0 of demo in pypi is yanked already, with this reason; nothing changed"
    assert said(run("unyank", "pypi", "demo", "1")) == "unyanked version 1 of demo in pypi"
    assert said(run("unyank", "pypi", "demo", "1")) == "version 1 of demo in pypi is not yanked; nothing changed"
    assert (newest(storage).serial, newest(storage).yanked_versions) == (3, {})


@pytest.mark.parametrize("version", [("1.0",), ()])
def test_one_file_is_yanked_with_or_without_its_version(run, storage, version):
    name = "demo-1.0.tar.gz"
    assert said(run("yank", "pypi", "demo", *version, "--file", name)) == f"yanked {name} of demo in pypi"
    assert newest(storage).yanked_files == {name: True}
    assert newest(storage).event.version == "1.0"
    assert said(run("unyank", "pypi", "demo", *version, "--file", name)) == f"unyanked {name} of demo in pypi"


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (("yank", "pip", "demo", "1.0"), "no such registry: 'pip'; there are other, pypi"),
        (("yank", "other", "demo", "1.0"), "no such project: demo"),
        (("yank", "pypi", "de mo", "1.0"), "no such project: de mo"),
        (("yank", "pypi", "demo", "3"), "no such version: demo 3"),
        (("yank", "pypi", "demo", "1.0", "--file", "x"), "no such file: demo x"),
        (("yank", "pypi", "demo", "2.0", "--file", "demo-1.0.tar.gz"), "no such file: demo demo-1.0.tar.gz"),
        (("yank", "pypi", "demo"), "name a version or a file"),
        (("yank", "pypi", "demo", ""), "name a version or a file"),
        (("yank", "pypi", "demo", "1.0", "--file", ""), "--file must name a file"),
        (("unyank", "pypi", "demo", "1.0", "--file", ""), "--file must name a file"),
        (("delete", "pypi", "demo", "1.0", "--yes", "--file", ""), "--file must name a file"),
        (("delete", "pypi", "demo", "--yes"), "name a version or a file"),
        (("delete", "pypi", "demo", "3", "--yes"), "no such hosted file: demo version 3"),
        (("delete", "pypi", "demo", "3"), "no such hosted file: demo version 3"),
        (
            ("yank", "pypi", "demo", "1.0", "--reason", "a\nb"),
            "a reason is one line of at most 2000 printable characters",
        ),
        (("status", "pypi", "demo", "gone"), "no such status: 'gone'; one of active, archived, deprecated, quarantined"),
        (("status", "pypi", "demo", ""), "no such status: ''; one of active, archived, deprecated, quarantined"),
        (("status", "pypi", "demo", "--reason", "x"), "a reason is given with a new status; name the status, too"),
        (("status", "pypi", "other"), "no such project: other"),
        # What a shell passes on need not be text.
        (("yank", "pypi", "demo", "\udcff"), "no such version: demo \\udcff"),
        (("yank", "pypi", "\udcff", "1"), "no such project: \\udcff"),
        (("yank", "\udcff", "demo", "1"), "no such registry: '\\udcff'; there are other, pypi"),
    ],
)
def test_what_cannot_be_done_is_one_line_and_changes_nothing(run, storage, arguments, problem):
    assert complained(run(*arguments)) == problem
    assert newest(storage).serial == 1
    assert not (storage / "overlay").exists()


def test_a_storage_that_is_not_there_is_not_made(run, tmp_path):
    hint = "there is no storage; give its directory with --storage or storage.path"
    assert complained(run("yank", "pypi", "demo", "1.0", storage="elsewhere")) == f"{tmp_path}/elsewhere: {hint}"
    assert not (tmp_path / "elsewhere").exists()
    (tmp_path / "empty").mkdir()
    assert "is no storage of Nora's" in complained(run("status", "pypi", "demo", storage="empty"))
    assert list((tmp_path / "empty").iterdir()) == []


def test_a_wrong_configuration_is_told(run, tmp_path, storage):
    (tmp_path / "config.toml").write_text("[pypi]\nproxi = 1\n")
    assert "pypi.proxi: unknown key" in complained(run("yank", "pypi", "demo", "1.0"))
    (tmp_path / "other.toml").write_text(HOSTED_ONLY)
    assert said(run("yank", "--config", "other.toml", "pypi", "demo", "1.0"))


# Deleting


def test_nothing_is_deleted_without_a_terminal_unless_that_is_meant(run, storage):
    told = complained(run("delete", "pypi", "demo", "1.0", input="y\n"))
    assert told == "deleting is for good and there is no terminal to ask at; give --yes to do it"
    assert newest(storage).serial == 1
    told = said(run("delete", "pypi", "demo", "1.0", "--yes", "--reason", "secret"))
    assert told == "deleted version 1.0 of demo in pypi: demo-1.0-py3-none-any.whl, demo-1.0.tar.gz"
    manifest = newest(storage)
    assert [file.name for file in manifest.files] == ["demo-2.0-py3-none-any.whl"]
    assert (manifest.event.action, manifest.event.reason) == ("delete", "secret")
    assert manifest.event.actor.startswith("cli:")
    assert complained(run("delete", "pypi", "demo", "1.0", "--yes")) == "no such hosted file: demo version 1.0"


@pytest.mark.parametrize(("answer", "serial", "status"), [("y", 2, 0), ("n", 1, 1), ("", 1, 1)])
def test_at_a_terminal_it_is_said_what_will_go_and_asked(run, storage, monkeypatch, answer, serial, status):
    monkeypatch.setattr("click.testing._NamedTextIOWrapper.isatty", lambda _: True, raising=False)
    result = run("delete", "pypi", "demo", "--file", "demo-1.0.tar.gz", input=f"{answer}\n")
    assert result.exit_code == status
    assert "demo-1.0.tar.gz of demo in pypi is deleted for good, with\n  demo-1.0.tar.gz\n" in result.stderr
    assert "Delete? [y/N]" in result.stderr
    assert newest(storage).serial == serial
    deleted = "deleted demo-1.0.tar.gz of demo in pypi: demo-1.0.tar.gz\n"
    assert result.stdout == (deleted if status == 0 else "nothing was deleted\n")


# Status


def test_a_status_is_shown_and_set(run, storage):
    assert said(run("status", "pypi", "demo")) == "active"
    assert said(run("status", "pypi", "Demo", "archived", "--reason", "see other")) == "demo in pypi is archived now"
    assert said(run("status", "pypi", "demo")) == "archived: see other"
    again = said(run("status", "pypi", "demo", "archived", "--reason", "see other"))
    assert again == "demo in pypi is archived already, with this reason; nothing changed"
    assert said(run("status", "pypi", "demo", "quarantined")) == "demo in pypi is quarantined now"
    assert said(run("status", "pypi", "demo")) == "quarantined"
    manifest = newest(storage)
    assert (manifest.serial, manifest.status, manifest.event.reason) == (3, "quarantined", "quarantined")
    assert manifest.event.actor == f"cli:{user_name()}"


def test_the_log_is_silent_unless_something_is_wrong(run, storage, tmp_path):
    (tmp_path / "config.toml").write_text(HOSTED_ONLY + '[logging]\nlevel = "debug"\n')
    assert said(run("yank", "pypi", "demo", "1.0"))


def test_a_user_without_a_name_is_a_number(monkeypatch):
    def unknown(_: int) -> None:
        raise KeyError

    monkeypatch.setattr(pwd, "getpwuid", unknown)
    monkeypatch.setenv("USER", "root")
    assert user_name() == str(os.getuid())
