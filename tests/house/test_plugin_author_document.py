"""docs/plugin-author.md: its code is that of examples/plugin or is run here, and its tables are those of the code."""

from __future__ import annotations

import inspect
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

import nora.api
from nora.api import API_VERSION, Format, NoraError, Registry, RegistryBlueprint, hookimpl
from nora.api.hooks import Hooks
from nora.http.errors import STATUSES
from nora.plugins import load_plugins
from nora.testing import LiveServer
from nora.testing.replies import Reply
from nora.testing.upstream import ScriptedUpstream

ROOT = Path(__file__).parents[2]
PLUGIN = ROOT / "examples/plugin"
DOCUMENT = (ROOT / "docs/plugin-author.md").read_text(encoding="utf-8")
CODE = re.compile(
    r"(?:^<!-- (?P<kind>[a-z]+)(?:: (?P<target>\S+))? -->\n)?^```(?P<language>\w*)\n(?P<text>.*?)^```$", re.M | re.S
)


@dataclass(frozen=True)
class Block:
    """``kind`` is what the comment before it says: file, part, run, config or module; "" if there is none."""

    kind: str
    target: str
    language: str
    text: str


BLOCKS = [
    Block(found["kind"] or "", found["target"] or "", found["language"], found["text"]) for found in CODE.finditer(DOCUMENT)
]


def of_kind(kind: str) -> list[Block]:
    found = [block for block in BLOCKS if block.kind == kind]
    assert found, f"no block is marked {kind}"
    return found


def module_text(name: str) -> str:
    (block,) = [block for block in of_kind("module") if block.target == name]
    return block.text


def rows(header: str) -> list[list[str]]:
    """Cells of the table that begins with this header."""
    _, _, rest = DOCUMENT.partition(f"\n{header}\n")
    assert rest, f"there is no table {header}"
    lines = rest.splitlines()[1:]
    end = next(number for number, line in enumerate(lines) if not line.startswith("|"))
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[:end]]


def test_every_block_of_code_is_tested() -> None:
    marked = {"file", "part", "run", "config", "module"}
    assert [block.text for block in BLOCKS if block.language in ("python", "toml") and block.kind not in marked] == []
    assert DOCUMENT.count("```") == 2 * len(BLOCKS)
    assert DOCUMENT.count("<!-- ") == len([block for block in BLOCKS if block.kind])


def test_files_are_those_of_the_example() -> None:
    targets = {block.target for block in of_kind("file")}
    assert targets == {"examples/plugin/nora_raw/plugin.py", "examples/plugin/tests/test_contract.py"}
    for block in of_kind("file"):
        assert block.text == (ROOT / block.target).read_text(encoding="utf-8")
    for block in of_kind("part"):
        assert block.text in (ROOT / block.target).read_text(encoding="utf-8")


def test_example_stays_short() -> None:
    assert len((PLUGIN / "nora_raw/plugin.py").read_text().splitlines()) <= 80


# What a plugin's installer leaves behind, so far as the host looks at it.


def install(folder: Path, distribution: str, entry_points: dict[str, str]) -> None:
    metadata = folder / f"{distribution.replace('-', '_')}-1.0.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.0\n")
    lines = "".join(f"{name} = {value}\n" for name, value in entry_points.items())
    (metadata / "entry_points.txt").write_text(f"[nora]\n{lines}")


@pytest.fixture
def python_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The example and the plugins on the page, visible to every process that is started from here."""
    site = tmp_path / "site"
    install(site, "nora-raw", tomllib.loads((PLUGIN / "pyproject.toml").read_text())["project"]["entry-points"]["nora"])
    for block in of_kind("module"):
        (site / f"{block.target}.py").write_text(block.text)
        install(site, block.target.replace("_", "-"), {block.target: block.target})
    path = os.pathsep.join(filter(None, (str(site), str(PLUGIN), os.environ.get("PYTHONPATH"))))
    monkeypatch.setenv("PYTHONPATH", path)
    return path


def run_nora(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "nora", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def test_examples_on_the_page_run(python_path: str) -> None:
    for block in of_kind("run"):
        exec(compile(block.text, "docs/plugin-author.md", "exec"), {"__name__": "example"})


def test_configuration_on_the_page_is_good(python_path: str, tmp_path: Path) -> None:
    for number, block in enumerate(of_kind("config")):
        config = tmp_path / f"{number}.toml"
        config.write_text(block.text)
        checked = run_nora("check", "--config", config, "--storage", tmp_path / f"storage-{number}")
        assert checked.returncode == 0, checked.stderr
        assert "files: format raw at /files/" in checked.stdout
        config.write_text(block.text.replace("500", "0"))
        checked = run_nora("check", "--config", config, "--storage", tmp_path / f"storage-{number}")
        assert checked.returncode == 2
        assert "registries.files.max_file_size_mb: must be 1 or more" in checked.stderr


def test_mirror_on_the_page_fetches_checks_and_keeps(python_path: str, tmp_path: Path) -> None:
    with ScriptedUpstream().run_in_thread() as upstream:
        page = Reply(b"a b.bin\nescape/../c.bin\n", content_type="text/plain")
        upstream.add("/raw/demo/", page)
        upstream.add("/raw/demo/a%20b.bin", Reply(b"content"))
        upstream.add("/raw/page/", Reply(b"<h1>Sorry</h1>", content_type="text/html"))
        config = f'[registries.mirror]\nformat = "raw-mirror"\nproxy = "{upstream.url}/raw/"\n'
        with LiveServer(tmp_path / "storage", config) as server, httpx.Client(base_url=f"{server.url}/mirror/") as client:
            assert client.get("demo/").text == "a b.bin\n"
            for _ in range(2):
                assert client.get("demo/a%20b.bin").content == b"content"
            assert upstream.count("/raw/demo/a%20b.bin") == 1
            assert client.get("demo/c.bin").status_code == 404
            assert client.get("other/").status_code == 404
            answer = client.get("page/")
            assert answer.status_code == 502
            assert "the page of a project must be plain text" in answer.text


def test_titles_on_the_page_are_read_by_range_requests(python_path: str, tmp_path: Path) -> None:
    with ScriptedUpstream().run_in_thread() as upstream:
        upstream.add("/raw/demo/", Reply(b"a.txt\nb.bin\nc.txt\n", content_type="text/plain"))
        upstream.add("/raw/demo/a.txt", Reply(b"The title\n" + bytes(10_000), ranges=True))
        upstream.add("/raw/demo/c.txt", Reply(bytes(10_000), ranges=True))
        config = f'[registries.titles]\nformat = "raw-titles"\nproxy = "{upstream.url}/raw/"\n'
        with LiveServer(tmp_path / "storage", config) as server, httpx.Client(base_url=f"{server.url}/titles/demo/") as client:
            for _ in range(2):
                assert client.get("a.txt/title").content == b"The title"
                assert client.get("b.bin/title").status_code == 404
                assert client.get("c.txt/title").status_code == 404
            assert [request.headers.get("range") for request in upstream.requests if request.path.endswith(".txt")] == [
                "bytes=0-199",
                "bytes=0-199",
            ]


def test_house_rules_on_the_page_hold(python_path: str, tmp_path: Path) -> None:
    (tmp_path / "users").touch()
    config = f'[auth]\nenabled = true\nanonymous_read = true\nhtpasswd_file = "{tmp_path}/users"\n[registries.files]\nformat = "raw"\n'
    with LiveServer(tmp_path / "storage", config, env={"BUILD_TOKEN": "secret"}) as server:
        build = ("build", "secret")
        for path, auth, status in (
            ("a-1.bin", None, 401),
            ("a-1.bin", ("build", "wrong"), 401),
            ("a-1.bin", build, 201),
            ("a-2beta.bin", build, 201),
        ):
            answer = httpx.put(f"{server.url}/files/demo/{path}", content=b"content", auth=auth)
            assert answer.status_code == status, path
        assert httpx.get(f"{server.url}/files/demo/").text == "a-1.bin\n"
        refused = httpx.get(f"{server.url}/files/demo/a-2beta.bin")
        assert (refused.status_code, "betas are not offered here" in refused.text) == (403, True)
        assert "publish of a-1.bin by build" in server.log()
    assert run_nora("rules").stdout == "no betas\n"


def test_format_for_another_version_of_the_api_is_refused() -> None:
    class Later(Format):
        name, title = "later", "Later"
        api_version = API_VERSION + 1

        def routes(self, registry: Registry[Any]) -> RegistryBlueprint:
            return RegistryBlueprint()

    class Plugin:
        @hookimpl
        def nora_register_formats(self, register: Callable[[Format], None]) -> None:
            register(Later())

    with pytest.raises(NoraError, match="written for version"):
        load_plugins([("later", Plugin())])
    assert f"api_version = {API_VERSION}\n" in (PLUGIN / "nora_raw/plugin.py").read_text()


# The tables.


def test_table_of_hooks_is_complete() -> None:
    hooks = [name for name in vars(Hooks) if name.startswith("nora_")]
    assert [row[0].strip("`") for row in rows("| Hook | Registers | Which does |")] == hooks


def test_table_of_errors_is_that_of_the_host() -> None:
    documented = {row[0].strip("`"): int(row[1]) for row in rows("| Error | Status | Raise it when |")}
    assert documented == {error.__name__: status for error, status in STATUSES.items()}


def test_table_of_the_model_is_complete() -> None:
    for name, _, fields in rows("| Type | What it is | Fields |"):
        struct = getattr(nora.api, name.strip("`"))
        assert re.findall(r"`(\w+)`", fields) == [field.name for field in msgspec.structs.fields(struct)], name


def test_table_of_the_registry_is_complete() -> None:
    documented = {}
    for call, _ in rows("| Method | What |"):
        awaited, name, parameters = re.fullmatch(r"`(await )?(\w+)\((.*)\)`", call).groups()  # type: ignore[union-attr]
        documented[name] = (
            bool(awaited),
            [parameter.partition("=")[0] for parameter in re.split(", ", parameters) if parameter],
        )
    actual = {}
    for name in Registry.__abstractmethods__:
        method = getattr(Registry, name)
        actual[name] = (inspect.iscoroutinefunction(method), [*inspect.signature(method).parameters][1:])
    assert documented == actual


def test_table_of_decorators_is_complete() -> None:
    documented = {}
    for call, *_ in rows("| Decorator | Methods | Right |"):
        name, parameters = re.fullmatch(r"`bp\.(\w+)\((.*)\)`", call).groups()  # type: ignore[union-attr]
        documented[name] = re.findall(r"(?:^|, )(\w+)", parameters)
    decorators = {name: method for name, method in vars(RegistryBlueprint).items() if not name.startswith("_")}
    assert documented == {name: [*inspect.signature(method).parameters][1:] for name, method in decorators.items()}


def test_every_public_name_is_on_the_page() -> None:
    # What only appears in annotations of the API, or is the host's alone.
    unmentioned = {"ByteSource", "url_problem"}
    missing = {name for name in nora.api.__all__ if not re.search(rf"\b{name}\b", DOCUMENT)}
    assert missing == unmentioned
