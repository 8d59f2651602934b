"""Docstrings, the list of public names, and the sizes of modules and functions."""

from __future__ import annotations

import ast
import importlib
import inspect
import pkgutil
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import nora.api
import nora.testing

ROOT = Path(__file__).parents[2]
FOLDERS = (ROOT / "nora", ROOT / "plugins/pypi/nora_pypi", ROOT / "examples/plugin/nora_raw")
SOURCES = {str(path.relative_to(ROOT)): path for folder in FOLDERS for path in sorted(folder.rglob("*.py"))}

MAX_MODULE_LINES = 330
MAX_FUNCTION_LINES = 60
LONGER: dict[str, str] = {}
"""Exceptions: "path" or "path: function" and the reason."""


def public(name: str) -> bool:
    return not name.startswith("_")


def submodules(package: ModuleType) -> list[ModuleType]:
    return [importlib.import_module(f"{package.__name__}.{found.name}") for found in pkgutil.iter_modules(package.__path__)]


def own_names(module: ModuleType) -> dict[str, Any]:
    """Public classes and functions that a module defines."""
    return {
        name: value
        for name, value in vars(module).items()
        if public(name) and (inspect.isclass(value) or inspect.isfunction(value)) and value.__module__ == module.__name__
    }


def undocumented_members(name: str, value: Any) -> Iterator[str]:
    """The name itself and its public methods, where a docstring is missing; inherited ones do not count."""
    if not (value.__doc__ or "").strip() or (value.__doc__ or "").startswith(f"{value.__name__}("):  # dataclasses make one up
        yield name
    if inspect.isclass(value):
        for member, found in vars(value).items():
            function = found.fget if isinstance(found, property) else getattr(found, "func", getattr(found, "__func__", found))
            if public(member) and inspect.isfunction(function) and not (function.__doc__ or "").strip():
                yield f"{name}.{member}"


def undocumented_definitions(source: str) -> Iterator[str]:
    """Module, public classes and functions of a source without docstring; what is inside of functions is nobody's business."""
    tree = ast.parse(source)
    if not (ast.get_docstring(tree) or "").strip():
        yield "module"
    yield from _undocumented(tree, "")


def _undocumented(node: ast.Module | ast.ClassDef, prefix: str) -> Iterator[str]:
    for child in node.body:
        if isinstance(child, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and public(child.name):
            if not (ast.get_docstring(child) or "").strip():
                yield prefix + child.name
            if isinstance(child, ast.ClassDef):
                yield from _undocumented(child, f"{prefix}{child.name}.")


def too_long(path: str, source: str) -> Iterator[str]:
    """Modules and functions over the limits; a function's length goes from its first decorator to its last line."""
    if (lines := len(source.splitlines())) > MAX_MODULE_LINES:
        yield f"{path}: {lines} lines"
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
            if (lines := (node.end_lineno or first) - first + 1) > MAX_FUNCTION_LINES:
                yield f"{path}: {node.name}: {lines} lines"


@pytest.mark.parametrize("package", [nora.api, nora.testing], ids=["api", "testing"])
def test_public_list_is_sorted_and_every_name_in_it_is_documented(package: ModuleType) -> None:
    listed = package.__all__
    assert list(listed) == sorted(set(listed))
    missing = [
        problem
        for name in listed
        if inspect.isclass(value := getattr(package, name)) or inspect.isfunction(value)
        for problem in undocumented_members(name, value)
    ]
    assert missing == []


def test_api_lists_everything_that_it_defines_for_plugins() -> None:
    # What the host alone needs: the record behind a blueprint's decorators, and the specifications behind the hooks.
    host_only = {"Route", "Hooks"}
    defined = {name for module in submodules(nora.api) for name in own_names(module)} - host_only
    assert defined <= set(nora.api.__all__), "public names that nora.api does not offer"
    offered = {name for name in vars(nora.api) if public(name) and not inspect.ismodule(getattr(nora.api, name))}
    assert offered == set(nora.api.__all__)


def test_every_name_of_the_test_kit_is_documented() -> None:
    modules = submodules(nora.testing)
    assert len(modules) >= 3
    found = [
        f"{module.__name__}: {problem}"
        for module in modules
        for name, value in own_names(module).items()
        for problem in undocumented_members(name, value)
    ]
    assert found == []


def test_every_public_definition_is_documented() -> None:
    assert len(SOURCES) > 70, "the sources were not found"
    found = [f"{path}: {name}" for path, source in SOURCES.items() for name in undocumented_definitions(source.read_text())]
    assert found == []


def test_modules_and_functions_stay_small() -> None:
    found = [problem for path, source in SOURCES.items() for problem in too_long(path, source.read_text())]
    excused = {key for key in LONGER for problem in found if problem.startswith(f"{key}: ")}
    assert [problem for problem in found if not any(problem.startswith(f"{key}: ") for key in LONGER)] == []
    assert excused == set(LONGER), "exceptions that nothing needs any more"


def test_guard_finds_a_missing_docstring() -> None:
    source = (
        "class A:\n    '''It.'''\n    def f(self): ...\n    def _g(self): ...\ndef h():\n    def inner(): ...\nclass B: ...\n"
    )
    assert list(undocumented_definitions(source)) == ["module", "A.f", "h", "B"]
    assert list(undocumented_definitions("''' '''\nasync def f():\n    ''''''\n")) == ["module", "f"]

    class Sample:
        """It."""

        @property
        def size(self) -> int:
            return 0

        @staticmethod
        def make() -> None:
            pass

    assert list(undocumented_members("Sample", Sample)) == ["Sample.size", "Sample.make"]


def test_guard_finds_what_is_too_long() -> None:
    body = "    pass\n" * (MAX_FUNCTION_LINES - 1)
    assert list(too_long("m", f"def f():\n{body}")) == []
    assert list(too_long("m", f"@x\ndef f():\n{body}")) == ["m: f: 61 lines"]
    assert list(too_long("m", "\n" * (MAX_MODULE_LINES + 1))) == [f"m: {MAX_MODULE_LINES + 1} lines"]
