"""The repository as a whole: which hosts its files name, what its constraints hold, and where its links lead."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote

import pytest

ROOT = Path(__file__).parents[2]
NOT_OURS = {
    ".git",
    ".venv",
    "__pycache__",
    ".pytest_cache",
    ".mypy_cache",
    ".ruff_cache",
    ".hypothesis",
    "build",
    "dist",
    "data",
}
NOT_OURS_EITHER = {"uv.lock"}  # ignored by git for this very reason

# In pieces, so that this file does not name them either. Hosts below them count, too.
PUBLIC_INDEXES = [
    "".join(pieces)
    for pieces in (
        ("pyp", "i.", "org"),
        ("pyt", "ho", "nhosted.org"),
        ("pyp", "i.", "python.org"),
        ("npm", "js", ".org"),
        ("npm", "js", ".com"),
        ("yar", "np", "kg.com"),
        ("cra", "te", "s.io"),
        ("rub", "yg", "ems.org"),
        ("doc", "ke", "r.io"),
        ("doc", "ke", "r.com"),
        ("ghc", "r.", "io"),
        ("qua", "y.", "io"),
        ("pro", "xy", ".golang.org"),
        ("mav", "en", ".org"),
        ("mav", "en", ".apache.org"),
        ("nug", "et", ".org"),
        ("pac", "ka", "gist.org"),
        ("ana", "co", "nda.org"),
        ("hac", "ka", "ge.haskell.org"),
        ("hex", ".pm"),
        ("pub", ".d", "ev"),
        ("cpa", "n.", "org"),
    )
]
_HOST = re.compile("|".join(rf"(?<![\w-]){re.escape(host)}(?![\w-])" for host in PUBLIC_INDEXES), re.IGNORECASE | re.ASCII)

DEFAULT_UPSTREAM_FILE = "plugins/pypi/nora_pypi/plugin.py"
ONCE = {DEFAULT_UPSTREAM_FILE, "README.md"}
"""Files that may name one index, once: where the default upstream is defined, and where a user is told of it."""


def present_files() -> list[str]:
    """Paths of all files that are there and ours, and of whatever git tracks besides."""
    found = set()
    for folder, folders, files in os.walk(ROOT):
        folders[:] = [name for name in folders if name not in NOT_OURS and not name.endswith(".egg-info")]
        found |= {str((Path(folder) / name).relative_to(ROOT)) for name in files if name not in NOT_OURS_EITHER}
    if (ROOT / ".git").exists():
        listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True)
        found |= set(filter(None, listed.stdout.decode().split("\0")))
    return sorted(path for path in found if (ROOT / path).is_file() and not path.endswith((".pyc", ".pyo")))


def named_indexes(text: str) -> list[str]:
    """The lines of a text that name a public index, once for each time."""
    return [line.strip() for line in text.splitlines() for _ in _HOST.finditer(line)]


FILES = present_files()


def test_no_file_names_a_public_index() -> None:
    assert len(FILES) > 100, "the files were not found"
    named = {path: named_indexes((ROOT / path).read_bytes().decode("utf-8", "replace")) for path in FILES}
    assert {path: lines[:3] for path, lines in named.items() if lines and path not in ONCE} == {}
    assert len(named["README.md"]) <= 1, named["README.md"]
    assert [line.partition(" = ")[0] for line in named[DEFAULT_UPSTREAM_FILE]] == ["DEFAULT_UPSTREAM"]


def test_no_file_name_names_a_public_index() -> None:
    assert [path for path in FILES if named_indexes(path)] == []


@pytest.mark.parametrize("host", PUBLIC_INDEXES)
def test_guard_finds_an_index(host: str) -> None:
    for text in (f"https://{host}/simple/", f"index = '{host.upper()}'", f"//files.{host}:443", f"see {host}."):
        assert len(named_indexes(text)) == 1, text
    assert len(named_indexes(f"{host} and {host}\n{host}")) == 3


def test_guard_lets_other_hosts_pass() -> None:
    assert named_indexes("https://index.example/simple/ my-pypi.organisation pypiserver docs.python.org github.com") == []


def test_constraints_hold_no_addresses() -> None:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    assert lines
    assert [line for line in lines if "://" in line or " @ " in line or line.lstrip().startswith("-")] == []


# Links in documents.

_FENCE = re.compile(r"^(```+|~~~+).*?^\1[ \t]*$", re.MULTILINE | re.DOTALL)
_CODE = re.compile(r"`[^`\n]*`")
_LINK = re.compile(r"\]\(\s*<?([^)\s>]+)>?[^)]*\)|^\[[^\]]+\]:\s*<?(\S+?)>?\s*$|(?:href|src)=\"([^\"]+)\"", re.MULTILINE)


def links(document: str) -> Iterator[str]:
    """Targets of a document's links and images, those in code left out."""
    for match in _LINK.finditer(_CODE.sub("``", _FENCE.sub("", document))):
        yield match[1] or match[2] or match[3]


def anchors(document: str) -> set[str]:
    """Names of a document's headings, as renderers of Markdown make them."""
    found: set[str] = set()
    for heading in re.findall(r"^#{1,6}\s+(.+?)\s*#*$", _FENCE.sub("", document), re.MULTILINE):
        plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower()
        name = re.sub(r"[^\w\- ]", "", plain).strip().replace(" ", "-")
        number = 0
        while (candidate := f"{name}-{number}" if number else name) in found:
            number += 1
        found.add(candidate)
    return found


def broken_links(path: Path, root: Path) -> list[str]:
    """Relative links of a document that lead to no file, or to no heading of a document."""
    broken = []
    for target in links(path.read_text(encoding="utf-8")):
        if re.match(r"[a-z][a-z0-9+.-]*:|//", target, re.IGNORECASE):
            continue
        file, _, anchor = unquote(target).partition("#")
        there = (root / file.lstrip("/") if file.startswith("/") else path.parent / file) if file else path
        missing = not there.exists() or not there.resolve().is_relative_to(root.resolve())
        if missing or (anchor and there.suffix == ".md" and anchor not in anchors(there.read_text(encoding="utf-8"))):
            broken.append(target)
    return broken


DOCUMENTS = [path for path in FILES if path.endswith(".md")]


@pytest.mark.parametrize("path", DOCUMENTS)
def test_links_lead_to_what_is_there(path: str) -> None:
    assert broken_links(ROOT / path, ROOT) == []


def test_guard_finds_a_broken_link(tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "other.md").write_text("# Other things, `too`\n## A\n## A\n```\n# no heading\n```\n")
    document = tmp_path / "docs/here.md"
    document.write_text(
        "# Here\n[a](../other.md) [b](../other.md#other-things-too) ![c](/other.md#a-1) [d](#here) [e](https://x.example/no)\n"
        "```md\n[f](no.md)\n```\n`[g](no.md)`\n[h]: ../other.md\n"
    )
    assert broken_links(document, tmp_path) == []
    document.write_text(
        '[a](no.md) [b](../other.md#no) [c](/docs/no.md) [d](#no) ![e](no.png "title") [f](../../etc) [g](../other.md#no-heading)\n'
        '[h]: no.md\n<img src="no.svg">\n'
    )
    assert broken_links(document, tmp_path) == [
        "no.md",
        "../other.md#no",
        "/docs/no.md",
        "#no",
        "no.png",
        "../../etc",
        "../other.md#no-heading",
        "no.md",
        "no.svg",
    ]
