"""The directions of imports and the doors to libraries, read from the sources.

``cli -> compose -> (http auth registry upstream index store config plugins) -> api``; small shared modules hang below all of
them. The tables are complete: an edge or a door that is not written here fails, and so does a line that nothing uses any more.
"""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PLUGINS = {"nora_pypi": ROOT / "plugins/pypi", "nora_raw": ROOT / "examples/plugin"}

# What each part may import: a whole part, or one module of it. "nora" is the package itself, for its version.
SHARED = {
    "clock": set(),
    "context": {"api", "rights"},
    "rights": {"api"},
    "lru": set(),
    "rates": set(),
    "tasks": set(),
    "threads": set(),
    "metrics": set(),
}
ALLOWED: dict[str, set[str]] = {
    **SHARED,
    "logs": {"context"},  # each line names the request that it was written for
    "api": set(),
    "auth": {
        "api",
        "audit.entry",
        "clock",
        "lru",
        "rates",
        "rights",
        "tasks",
        "store.protocol",
    },  # tokens are kept in the store
    "audit": {"api", "clock", "context", "metrics", "rights", "store.durable", "tasks"},  # it is handed what reaches webhooks
    "config": {"api", "rights"},
    "plugins": {"api"},
    "store": {"api", "threads"},
    "index": {"api", "lru", "store.protocol"},
    "upstream": {"api", "lru", "metrics", "tasks", "store.protocol", "store.spool"},  # a download is read while its spool grows
    "registry": {"api", "clock", "metrics", "context", "lru", "rights", "tasks", "index", "store.protocol", "upstream"},
    "http": {
        "nora",
        "api",
        "clock",
        "context",
        "logs",
        "lru",
        "metrics",
        "rates",
        "rights",
        "audit.entry",
        "auth.access",
        "auth.exchange",  # its type only
        "auth.publishers",
        "auth.record",
        "auth.tokens",
        "config.errors",
        "registry.managed",
    },
    "room": {
        "api",
        "auth.record",
        "index.manifest",
        "store.durable",
        "store.protocol",
        "store.spool",
        "upstream.pins",
        "upstream.stored",
    },  # like verify, it looks at the storage from outside
    "verify": {"api", "index.manifest", "store.protocol", "upstream.stored"},
    "compose": {
        "nora",
        "api",
        "audit",
        "tasks",
        "threads",
        "auth",
        "config",
        "http",
        "index",
        "plugins",
        "registry",
        "room",
        "store",
        "upstream",
    },
    "cli": {
        "nora",
        "api",
        "audit",
        "auth.record",
        "auth.tokens",
        "context",
        "rights",
        "tasks",
        "logs",
        "registry.managed",
        "config",
        "plugins",
        "http.runner",
        "store.directory",
        "store.scratch",
        "compose",
        "room",
        "verify",
    },
    "__main__": {"cli"},
    "testing": {"api"},
}
LAYERS = (
    {"__main__"},
    {"cli", "testing"},
    {"compose"},
    {"verify", "room"},
    {"http", "audit", "auth", "registry", "upstream", "index", "store", "config", "plugins", "logs"},
    {"clock", "context", "lru", "rates", "rights", "tasks", "threads", "metrics"},
    {"api"},
)

# Who may import a library: a part or a module; what follows a colon is the only module of the library that may be used there.
ANYWHERE = "*"
DOORS: dict[str, set[str]] = {
    "aiohttp": {"upstream.transport"},
    "bcrypt": {"auth"},
    "click": {"cli"},
    "httpx": {"upstream", "testing"},
    "jwt": {"auth"},
    "msgspec": {ANYWHERE},
    "prometheus_client": {"metrics"},
    "pluggy": {"api.hooks", "plugins"},
    "sanic": {"http", "api", "registry.registry:sanic.request"},
    "sanic_routing": {"http.app"},
    "tomlkit": {"config"},
    "uvloop": {"cli.serve"},
    "yarl": {"upstream.transport"},
}
TYPES_ONLY = {"click": {"api.hooks", "plugins"}}
"""Doors that only a type checker goes through."""
COMES_WITH = {"jwt": "pyjwt", "sanic_routing": "sanic", "uvloop": "sanic"}
"""Libraries that come with a distribution of another name."""

PLUGIN_LIBRARIES = {"nora_pypi": {"msgspec", "packaging", "python_multipart", "selectolax"}, "nora_raw": set()}
PLUGIN_DOORS = {"nora.api", "sanic.request", "sanic.response"}


@dataclass(frozen=True)
class Import:
    module: str
    line: int
    types_only: bool


def imports_of(source: str, package: str, modules: set[str]) -> Iterator[Import]:
    """Every import of a source, wherever it stands; ``package`` is where relative ones start, ``modules`` are those there are."""
    tree = ast.parse(source)
    for_types = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING")
        for statement in node.body
        for inner in ast.walk(statement)
    }
    for node in ast.walk(tree):
        for name in _named(node, package, modules):
            yield Import(name, getattr(node, "lineno", 0), id(node) in for_types)


def _named(node: ast.AST, package: str, modules: set[str]) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        base = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
        target = ".".join([*base, *([node.module] if node.module else [])])
        for alias in node.names:
            # "from nora import logs" is an import of nora.logs, "from nora import __version__" one of nora.
            yield f"{target}.{alias.name}" if f"{target}.{alias.name}" in modules else target
    elif isinstance(node, ast.Call) and ast.unparse(node.func) in ("import_module", "importlib.import_module", "__import__"):
        first = node.args[0] if node.args else None
        yield first.value if isinstance(first, ast.Constant) and isinstance(first.value, str) else "?"


def modules_of(package: str, folder: Path) -> dict[str, Path]:
    found = {}
    for path in sorted((folder / package).rglob("*.py")):
        parts = path.relative_to(folder).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


HOST = modules_of("nora", ROOT)


def within(module: str, places: set[str]) -> bool:
    return any(module == place or module.startswith(f"{place}.") for place in places)


def host_problems(module: str, source: str, *, is_package: bool = False) -> list[str]:
    """What a module of the host imports and may not. ``module`` is its name, ``nora.`` included."""
    package = module if is_package else module.rpartition(".")[0]
    own = module.partition(".")[2]
    part = own.partition(".")[0]
    problems = []
    for found in imports_of(source, package, set(HOST)):
        top = found.module.partition(".")[0]
        if top == "nora":
            target = found.module.partition(".")[2] or "nora"
            if target.partition(".")[0] != part and not within(target, ALLOWED.get(part, set())):
                problems.append(f"{module}:{found.line}: {part or 'nora'} must not import {target}")
        elif top not in sys.stdlib_module_names and not _door_is_open(own, found):
            problems.append(f"{module}:{found.line}: {found.module} has no door here")
    return problems


def _door_is_open(own: str, found: Import) -> bool:
    top = found.module.partition(".")[0]
    if found.types_only and within(own, TYPES_ONLY.get(top, set())):
        return True
    for door in DOORS.get(top, set()):
        place, _, only = door.partition(":")
        if (place == ANYWHERE or within(own, {place})) and (not only or found.module == only):
            return True
    return False


def plugin_problems(package: str, module: str, source: str, modules: set[str], *, is_package: bool = False) -> list[str]:
    """What a module of a plugin imports and may not."""
    start = module if is_package else module.rpartition(".")[0]
    problems = []
    for found in imports_of(source, start, {*HOST, *modules}):
        top = found.module.partition(".")[0]
        if top in (package, *PLUGIN_LIBRARIES[package]) or top in sys.stdlib_module_names or found.module in PLUGIN_DOORS:
            continue
        problems.append(f"{module}:{found.line}: a plugin must not import {found.module}")
    return problems


def test_host_imports_in_one_direction_and_by_the_doors() -> None:
    assert len(HOST) > 60, "the sources were not found"
    problems = [
        problem
        for module, path in HOST.items()
        for problem in host_problems(module, path.read_text(), is_package=path.name == "__init__.py")
    ]
    assert problems == []


@pytest.mark.parametrize("package", PLUGINS)
def test_plugin_imports_nothing_of_the_host_but_its_api(package: str) -> None:
    modules = modules_of(package, PLUGINS[package])
    assert modules, "the sources were not found"
    problems = [
        problem
        for module, path in modules.items()
        for problem in plugin_problems(package, module, path.read_text(), set(modules), is_package=path.name == "__init__.py")
    ]
    assert problems == []


def test_every_allowed_edge_is_used() -> None:
    used: dict[str, set[str]] = {part: set() for part in ALLOWED}
    for module, path in HOST.items():
        package = module if path.name == "__init__.py" else module.rpartition(".")[0]
        for found in imports_of(path.read_text(), package, set(HOST)):
            if found.module.partition(".")[0] == "nora":
                used.setdefault(module.split(".")[1] if "." in module else "nora", set()).add(
                    found.module.partition(".")[2] or "nora"
                )
    unused = {f"{part} -> {edge}" for part, edges in ALLOWED.items() for edge in edges if not _covers(edge, used[part])}
    assert unused == set()


def _covers(edge: str, used: set[str]) -> bool:
    return any(within(target, {edge}) for target in used)


def test_every_door_is_used() -> None:
    used = {
        (found.module, module.partition(".")[2])
        for module, path in HOST.items()
        for found in imports_of(path.read_text(), module, set(HOST))
    }
    for doors in (DOORS, TYPES_ONLY):
        for library, places in doors.items():
            for place in (door.partition(":")[0] for door in places):
                hits = [name for name, own in used if within(name, {library}) and (place == ANYWHERE or within(own, {place}))]
                assert hits, f"{library} is not used in {place}"


def test_allowed_edges_lead_down_the_layers() -> None:
    order = [part for _, part in sorted((number, part) for number, layer in enumerate(LAYERS) for part in layer)]
    assert sorted(order) == sorted(ALLOWED), "each part has its layer"
    layer_of = {part: number for number, layer in enumerate(LAYERS) for part in layer}
    for part, edges in ALLOWED.items():
        for target in {edge.partition(".")[0] for edge in edges} - {"nora"}:
            assert layer_of[part] <= layer_of[target], f"{part} -> {target} leads up"
    graph = {part: {edge.partition(".")[0] for edge in edges} - {"nora"} for part, edges in ALLOWED.items()}
    assert list(TopologicalSorter(graph).static_order())  # raises CycleError


def test_libraries_are_declared_dependencies() -> None:
    for folder, libraries in (
        (ROOT, {COMES_WITH.get(library, library) for library in DOORS}),
        *((PLUGINS[package], libraries) for package, libraries in PLUGIN_LIBRARIES.items()),
    ):
        project = tomllib.loads((folder / "pyproject.toml").read_text())["project"]
        declared = {re.match(r"[A-Za-z0-9_-]+", text)[0].replace("-", "_") for text in project["dependencies"]}  # type: ignore[index]
        assert declared - {"nora_registry"} == libraries, folder


# The guard itself: each kind of wrong import, and the right ones beside them.


@pytest.mark.parametrize(
    ("module", "source", "problem"),
    [
        ("nora.api.model", "from nora.lru import BoundedCache", "api must not import lru"),
        ("nora.api.model", "import nora.config.settings", "api must not import config.settings"),
        ("nora.store.directory", "from nora.index.index import Index", "store must not import index.index"),
        ("nora.index.index", "from nora.store.directory import DirectoryStore", "index must not import store.directory"),
        ("nora.http.app", "from nora.config.settings import Settings", "http must not import config.settings"),
        ("nora.http.app", "from nora.registry.registry import HostRegistry", "http must not import registry.registry"),
        ("nora.registry.merge", "from nora.compose import host", "registry must not import compose"),
        ("nora.compose", "from nora.cli.serve import run", "compose must not import cli.serve"),
        ("nora.lru", "from nora.tasks import Tasks", "lru must not import tasks"),
        ("nora.plugins", "from nora.config.errors import ConfigurationError", "plugins must not import config.errors"),
        ("nora.cli.serve", "from nora.testing import LiveServer", "cli must not import testing"),
        ("nora.testing.live", "from nora.http.app import App", "testing must not import http.app"),
        ("nora.unheard", "from nora.api import File", "unheard must not import api"),
        ("nora", "from nora.api import File", "nora must not import api"),
        # Wherever and however it is written.
        ("nora.store.directory", "from nora import logs", "store must not import logs"),
        ("nora.store.directory", "from ..index import index", "store must not import index.index"),
        ("nora.store.directory", "from .. import tasks", "store must not import tasks"),
        ("nora.store.directory", "def f():\n    import nora.http.app as x", "store must not import http.app"),
        ("nora.store.directory", "import importlib\nimportlib.import_module('nora.index')", "store must not import index"),
        ("nora.store.directory", "if TYPE_CHECKING:\n    from nora.tasks import Tasks", "store must not import tasks"),
        # Second doors.
        ("nora.cli.serve", "import sanic", "sanic has no door here"),
        ("nora.compose", "from sanic import Sanic", "sanic has no door here"),
        ("nora.registry.registry", "from sanic.response import text", "sanic.response has no door here"),
        ("nora.registry.publish", "from sanic.request import Request", "sanic.request has no door here"),
        ("nora.http.app", "import httpx", "httpx has no door here"),
        ("nora.upstream.client", "import aiohttp.web", "aiohttp.web has no door here"),
        ("nora.cli.check", "from tomlkit.exceptions import TOMLKitError", "tomlkit.exceptions has no door here"),
        ("nora.http.dispatch", "import bcrypt", "bcrypt has no door here"),
        ("nora.api.hooks", "import click", "click has no door here"),
        ("nora.compose", "if TYPE_CHECKING:\n    import click", "click has no door here"),
        ("nora.plugins", "if TYPE_CHECKING:\n    pass\nelse:\n    import click", "click has no door here"),
        ("nora.http.app", "import jinja2", "jinja2 has no door here"),
        ("nora.plugins", "import nora_pypi", "nora_pypi has no door here"),
        ("nora.plugins", "__import__('nora_pypi.plugin')", "nora_pypi.plugin has no door here"),
        ("nora.store.directory", "import importlib\nimportlib.import_module(name)", "? has no door here"),
    ],
)
def test_guard_finds_a_wrong_import(module: str, source: str, problem: str) -> None:
    problems = host_problems(module, source)
    assert len(problems) == 1
    assert problems[0].endswith(f": {problem}")


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("nora.http.app", "import sanic\nfrom nora import __version__\nfrom nora.config.errors import ConfigurationError"),
        ("nora.api.hooks", "if TYPE_CHECKING:\n    import click"),
        ("nora.plugins", "import typing\nif typing.TYPE_CHECKING:\n    import click"),
        ("nora.registry.registry", "from sanic.request import Request\nfrom . import merge"),
        ("nora.upstream.transport", "import aiohttp, httpx, ssl"),
        ("nora.index.index", "from nora.store.protocol import Store\nimport asyncio.subprocess"),
    ],
)
def test_guard_lets_a_right_import_pass(module: str, source: str) -> None:
    assert host_problems(module, source) == []


@pytest.mark.parametrize(
    ("source", "problem"),
    [
        ("from nora.store.directory import DirectoryStore", "nora.store.directory"),
        ("from nora.api.routes import Route", "nora.api.routes"),
        ("from nora.api import routes", "nora.api.routes"),
        ("from nora import __version__", "nora"),
        ("import nora.testing", "nora.testing"),
        ("from sanic import Sanic", "sanic"),
        ("def f():\n    import httpx", "httpx"),
        ("from nora_raw.plugin import Raw", "nora_raw.plugin"),
    ],
)
def test_guard_finds_a_wrong_import_of_a_plugin(source: str, problem: str) -> None:
    problems = plugin_problems("nora_pypi", "nora_pypi.names", source, set())
    assert [text.rpartition(" ")[2] for text in problems] == [problem]


def test_guard_lets_a_plugin_import_the_api() -> None:
    source = "import re\nfrom nora.api import File\nfrom sanic.response import text\nfrom nora_pypi.names import normalize"
    assert plugin_problems("nora_pypi", "nora_pypi.names", source + "\nfrom .names import normalize", set()) == []
