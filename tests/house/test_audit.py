"""The supply chain: what bandit says of our code, and what is known of the packages that we are built on."""

from __future__ import annotations

import ast
import io
import json
import os
import re
import subprocess
import sys
import tokenize
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = ("nora", "plugins/pypi/nora_pypi", "examples/plugin")
# Asserts state what the types cannot, and nothing of safety hangs on them; ruff is told the same of its S101.
SKIPPED = "B101"

EXPLAINED: Mapping[tuple[str, str], str] = {
    ("nora/audit/log.py", "B107"): "a token's id, which is no secret, and none is the empty text",
    ("nora/cli/supervisor.py", "B404"): "the supervisor starts its workers",
    ("nora/cli/supervisor.py", "B603"): "our own interpreter, with arguments of our own as a list, so without a shell",
    ("nora/config/settings.py", "B104"): "the address is compared with, so that a problem can be worded; nothing is bound",
    ("nora/http/fast.py", "B311"): "the id of a request, for the log: nobody gains anything by guessing it",
    ("nora/testing/contract.py", "B404"): "the test kit runs the command `nora`",
    ("nora/testing/contract.py", "B603"): "our own interpreter, with arguments of our own as a list, so without a shell",
    ("nora/testing/live.py", "B404"): "the test kit starts servers",
    ("nora/testing/live.py", "B603"): "our own interpreter, with arguments of our own as a list, so without a shell",
    ("nora/upstream/client.py", "B311"): "a pause of some tenths of a second, so that not everybody comes back at once",
}
"""Findings of bandit that are none, by file and test, and why."""

IGNORED: Mapping[str, str] = {}
"""Advisories that do not concern us, by their id, and why: what of the package we do not use."""

MIN_REASON_WORDS = 4


# bandit


def bandit_faults(results: Iterable[Mapping[str, Any]], explained: Mapping[tuple[str, str], str]) -> Iterator[str]:
    """Findings without an explanation, and explanations without a finding."""
    left = dict(explained)
    for result in results:
        key = str(Path(result["filename"])), result["test_id"]
        if key not in explained:
            yield f"{key[0]}:{result['line_number']}: {key[1]} {result['issue_text']}"
        left.pop(key, None)
    for file, test in left:
        yield f"{file}: {test} is explained, and is not found"


def bare_marks(text: str) -> list[int]:
    """Lines whose mark makes bandit silent without saying which test, or without a reason."""
    return [
        token.start[0]
        for token in tokenize.generate_tokens(io.StringIO(text).readline)
        if token.type == tokenize.COMMENT
        and re.search(r"#\s*nosec\b", token.string)
        and not re.search(r"#\s*nosec:? B[0-9]{3}(,\s*B[0-9]{3})* - (\w+\W+){3}\w+", token.string)
    ]


def test_bandit_finds_nothing_that_is_not_explained() -> None:
    command = [sys.executable, "-m", "bandit", "-q", "-r", *SOURCES, "-f", "json", "--skip", SKIPPED]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode in (0, 1), done.stderr
    report = json.loads(done.stdout)
    assert report["errors"] == []
    assert len(report["metrics"]) > 100, "the sources were not found"
    assert list(bandit_faults(report["results"], EXPLAINED)) == []


def test_what_silences_bandit_has_a_reason() -> None:
    found = {
        str(path.relative_to(ROOT)): lines
        for folder in SOURCES
        for path in (ROOT / folder).rglob("*.py")
        if (lines := bare_marks(path.read_text(encoding="utf-8")))
    }
    assert found == {}


@pytest.mark.parametrize("reason", [*EXPLAINED.values(), *IGNORED.values()])
def test_explanations_explain(reason: str) -> None:
    assert len(re.findall(r"\w{2,}", reason)) >= MIN_REASON_WORDS


# pip-audit


def audit_faults(report: Mapping[str, Any], ignored: Mapping[str, str]) -> list[str]:
    """Known weaknesses of packages; and advisories that are ignored and concern nothing that is there."""
    faults, seen = [], set()
    for package in report["dependencies"]:
        for found in package.get("vulns", ()):
            ids = {found["id"], *found.get("aliases", ())}
            seen |= ids
            if not ids & ignored.keys():
                fixed = ", ".join(found.get("fix_versions", ())) or "no version"
                faults.append(f"{package['name']} {package['version']}: {found['id']}, fixed in {fixed}")
    return faults + [f"{advisory} is ignored, and concerns nothing" for advisory in ignored if advisory not in seen]


def unaudited(report: Mapping[str, Any]) -> list[str]:
    """Packages that nobody could say anything of."""
    return [package["name"] for package in report["dependencies"] if "skip_reason" in package]


@pytest.mark.public_index
def test_no_package_has_a_known_weakness() -> None:
    """Of all in constraints.txt, which is what CI installs; each is looked up as it is pinned, and nothing is installed."""
    names = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if line]
    # A requirement whose marker is for another system is not looked up.
    here = [line for line in names if ";" not in line]
    reasons = []
    for service in ("pypi", "osv"):
        report = advisories(service)
        if isinstance(report, str):
            reasons.append(f"{service}: {report}")
            continue
        assert len(report["dependencies"]) >= len(here), "packages were left out"
        assert unaudited(report) == []
        assert audit_faults(report, IGNORED) == []
        return
    unreachable(reasons)


def advisories(service: str) -> dict[str, Any] | str:
    """The report that pip-audit makes with one of its services; why there is none if it cannot be reached."""
    command = [sys.executable, "-m", "pip_audit", "-r", "constraints.txt", "--no-deps", "--disable-pip", "-f", "json"]
    command += ["--vulnerability-service", service, "--progress-spinner", "off"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    if not done.stdout.startswith("{"):
        return done.stderr.strip().splitlines()[-1] if done.stderr.strip() else f"status {done.returncode}"
    report: dict[str, Any] = json.loads(done.stdout)
    if len(unaudited(report)) == len(report["dependencies"]):
        return str(report["dependencies"][0]["skip_reason"])
    return report


def unreachable(why: list[str]) -> None:
    """As of every test that needs the public index: a skip that says so, a failure where it is required."""
    reason = f"no advisories can be had from here: {'; '.join(why)}"
    if os.environ.get("NORA_TEST_REQUIRE_PUBLIC_INDEX"):
        pytest.fail(reason)
    pytest.skip(reason)


# SECURITY.md


def missing_tests(document: str, root: Path) -> list[str]:
    """Tests that a document names, as pytest does, and that are not there."""
    missing = []
    for path, name in re.findall(r"`([\w/.-]+\.py)::([\w:]+)`", document):
        there = _functions(ast.parse((root / path).read_text(encoding="utf-8"))) if (root / path).exists() else set()
        if tuple(name.split("::")) not in there:
            missing.append(f"{path}::{name}")
    return missing


def _functions(tree: ast.Module) -> set[tuple[str, ...]]:
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    classes = [node for node in tree.body if isinstance(node, ast.ClassDef)]
    return {(node.name,) for node in tree.body if isinstance(node, kinds)} | {
        (outer.name, node.name) for outer in classes for node in outer.body if isinstance(node, kinds)
    }


def test_whatever_is_said_to_be_defended_has_its_test() -> None:
    document = (ROOT / "SECURITY.md").read_text(encoding="utf-8")
    rows = [line for line in document.splitlines() if line.startswith("| ") and not line.startswith("| Attack |")]
    assert len(rows) > 20, "the tables were not found"
    assert [row for row in rows if "::" not in row] == []
    assert missing_tests(document, ROOT) == []


# The guards themselves.


FOUND = {"filename": "nora/x.py", "test_id": "B602", "line_number": 7, "issue_text": "a shell"}


def test_guard_finds_what_is_not_explained() -> None:
    assert list(bandit_faults([FOUND], {("nora/x.py", "B602"): "reason"})) == []
    assert list(bandit_faults([FOUND], {})) == ["nora/x.py:7: B602 a shell"]
    assert len(list(bandit_faults([FOUND], {("nora/x.py", "B603"): "reason"}))) == 2
    assert list(bandit_faults([], {("nora/x.py", "B602"): "reason"})) == ["nora/x.py: B602 is explained, and is not found"]


@pytest.mark.parametrize(
    ("comment", "faults"),
    [
        ("# nosec B602 - the command is a constant of ours", 0),
        ("# nosec B602, B603 - the command is a constant of ours", 0),
        ("# noqa: S602 - the command is ours", 0),
        ("# nosec", 1),
        ("#nosec", 1),
        ("# nosec B602", 1),
        ("# nosec B602 - fine", 1),
        ("# nosec - the command is a constant of ours", 1),
    ],
)
def test_guard_finds_a_mark_without_a_reason(comment: str, faults: int) -> None:
    assert len(bare_marks(f"call()  {comment}\n")) == faults


def test_guard_finds_a_weak_package() -> None:
    weak = {"name": "x", "version": "1", "vulns": [{"id": "A-1", "aliases": ["CVE-1"], "fix_versions": ["2"]}]}
    good = {"name": "y", "version": "1", "vulns": []}
    report = {"dependencies": [weak, good]}
    assert audit_faults(report, {}) == ["x 1: A-1, fixed in 2"]
    assert audit_faults(report, {"CVE-1": "reason"}) == []
    assert audit_faults({"dependencies": [good]}, {"CVE-1": "reason"}) == ["CVE-1 is ignored, and concerns nothing"]
    assert unaudited({"dependencies": [good, {"name": "z", "skip_reason": "not found"}]}) == ["z"]


def test_guard_finds_a_test_that_is_not_there(tmp_path: Path) -> None:
    (tmp_path / "test_a.py").write_text("def test_b(): ...\n\nclass C:\n    async def test_d(self): ...\n")
    assert missing_tests("`test_a.py::test_b` `test_a.py::C::test_d`", tmp_path) == []
    assert missing_tests("`test_a.py::test_x` `test_x.py::test_b` `test_a.py::test_d`", tmp_path) == [
        "test_a.py::test_x",
        "test_x.py::test_b",
        "test_a.py::test_d",
    ]
