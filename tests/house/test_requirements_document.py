"""docs/requirements.md: every requirement has a test that names it, or a reason why it has none."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCUMENT = ROOT / "docs/requirements.md"
CHECKLIST = ROOT.parent / "shared/SPEC.md"

PREFIXES = (
    *("NAME", "HTML", "VER", "JSON", "NEG", "HTTP", "FILE", "META", "YANK", "RPY", "TRACK", "PROV", "STAT", "WHL", "SDIST"),
    *("EGG", "PEP440", "CM", "UP", "AUTH", "API", "PROXY", "CACHE", "MULTI", "CONF", "DUR", "CONC", "FUT"),
)
STRENGTHS = ("MUST", "SHOULD", "MAY", "PRODUCT", "CLIENT", "FUTURE")
MAX_TESTS = 3
MIN_REASON_WORDS = 5

_NUMBER = re.compile(rf"(?<![\w-])({'|'.join(PREFIXES)})-([1-9]\d*)(?: to \1-([1-9]\d*))?(?![\w-])")
_ROW = re.compile(
    r"\| (?P<number>[A-Z][A-Z0-9]*-[1-9]\d*) \| (?P<strength>[A-Z]+(?:, [A-Z]+)*) "
    r"\| (?P<summary>[^|]*\w[^|]*) \| (?P<shown>[^|]+) \|"
)
_SHOWN = re.compile(r"(?P<tests>`[^`]+`(?:, `[^`]+`)*)?(?:(?:^|; )(?P<kind>not shown|not yet): (?P<reason>.+))?")
_TEST = re.compile(r"(?P<path>[\w./-]+\.py)::(?P<name>(?:\w+::)?test_\w+)")


@dataclass(frozen=True)
class Row:
    """A requirement. ``tests`` are ``path::name``; ``reason`` tells why there is none, or what they leave out."""

    number: str
    strength: str
    tests: tuple[str, ...] = ()
    reason: str = ""

    @property
    def prefix(self) -> str:
        return self.number.rpartition("-")[0]


def numbers_in(text: str) -> set[str]:
    """Numbers of requirements in a text, those of ranges ("JSON-3 to JSON-10") included."""
    found = set()
    for prefix, first, last in _NUMBER.findall(text):
        found |= {f"{prefix}-{number}" for number in range(int(first), int(last or first) + 1)}
    return found


# The document


def table_lines(document: str) -> Iterator[str]:
    for line in document.splitlines():
        if line.startswith("|") and not line.startswith(("| Number |", "|---")):
            yield line


def rows_of(document: str) -> list[Row]:
    """The rows that can be read."""
    return [row for line in table_lines(document) if isinstance(row := read_row(line), Row)]


def read_row(line: str) -> Row | str:
    """A line of a table, or what is wrong with it."""
    if (match := _ROW.fullmatch(line.strip())) is None:
        return "is not: number, strength, summary, tests or reason"
    if unknown := set(match["strength"].split(", ")) - set(STRENGTHS):
        return f"unknown strength {sorted(unknown)}"
    shown = _SHOWN.fullmatch(match["shown"])
    if shown is None or not match["shown"].strip():
        return "its last column is neither tests nor a reason"
    tests = tuple(re.findall(r"`([^`]+)`", shown["tests"] or ""))
    if odd := [test for test in tests if _TEST.fullmatch(test) is None]:
        return f"not path::test_name: {odd}"
    if len(tests) > MAX_TESTS or len(set(tests)) < len(tests):
        return f"name at most {MAX_TESTS} tests, each once"
    return Row(match["number"], match["strength"], tests, shown["reason"] or "")


def form_faults(document: str) -> Iterator[str]:
    for line in table_lines(document):
        if isinstance(fault := read_row(line), str):
            yield f"{line[:60]}: {fault}"


def numbering_faults(rows: Iterable[Row]) -> Iterator[str]:
    """Every prefix is there, and each is counted from 1 without a gap and in order, so no number is there twice."""
    counted: dict[str, list[int]] = {prefix: [] for prefix in PREFIXES}
    for row in rows:
        counted.setdefault(row.prefix, []).append(int(row.number.rpartition("-")[2]))
    for prefix, numbers in counted.items():
        if prefix not in PREFIXES:
            yield f"{prefix}: unknown prefix"
        elif not numbers:
            yield f"{prefix}: not in the document"
        for before, number in pairwise([0, *numbers]):
            if number != before + 1:
                yield (
                    f"{prefix}-{number} comes after {prefix}-{before}" if before else f"{prefix} begins with {prefix}-{number}"
                )


def reason_faults(rows: Iterable[Row]) -> Iterator[str]:
    """A reason has some words; what must be done and is not shown has something in its place that the reason names."""
    for row in rows:
        reason, _, instead = row.reason.partition("; instead: ")
        if row.reason and len(re.findall(r"\w{2,}", reason)) < MIN_REASON_WORDS:
            yield f"{row.number}: a reason of at least {MIN_REASON_WORDS} words"
        if row.reason and "MUST" in row.strength and len(re.findall(r"\w{2,}", instead)) < MIN_REASON_WORDS:
            yield f"{row.number}: it must be done, so say '; instead: ' and what stands in its place"


# The tests


@dataclass(frozen=True)
class Source:
    """Numbers that a file names in comments and docstrings: in each of its tests, and anywhere."""

    tests: Mapping[str, set[str]]
    anywhere: set[str]


def read_source(text: str) -> Source:
    """A test's are those in its lines, from its first decorator on, and in the comment lines directly above."""
    if not numbers_in(text) and "test_" not in text:
        return Source({}, set())
    comments = {
        token.start[0]: token.string
        for token in tokenize.generate_tokens(io.StringIO(text).readline)
        if token.type == tokenize.COMMENT
    }
    tree, lines = ast.parse(text), text.splitlines()
    tests = {
        name: numbers_in(f"{ast.get_docstring(node) or ''}\n{comments_of(node, comments, lines)}")
        for name, node in definitions(tree)
    }
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    docstrings = [ast.get_docstring(node) or "" for node in ast.walk(tree) if isinstance(node, documented)]
    return Source(tests, numbers_in("\n".join([*comments.values(), *docstrings])))


def definitions(tree: ast.Module) -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]]:
    """Tests as pytest finds them: ``test_name`` of a module, ``TestClass::test_name`` of a class."""
    for node in tree.body:
        members = [(f"{node.name}::", child) for child in node.body] if isinstance(node, ast.ClassDef) else [("", node)]
        for prefix, member in members:
            if isinstance(member, ast.FunctionDef | ast.AsyncFunctionDef) and member.name.startswith("test_"):
                yield prefix + member.name, member


def comments_of(node: ast.FunctionDef | ast.AsyncFunctionDef, comments: Mapping[int, str], lines: list[str]) -> str:
    first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
    while first > 1 and lines[first - 2].lstrip().startswith("#"):
        first -= 1
    return "\n".join(comments.get(line, "") for line in range(first, (node.end_lineno or first) + 1))


def reference_faults(rows: Iterable[Row], sources: Mapping[str, Source]) -> Iterator[str]:
    """Tests that are named in the document are there, and name the requirement themselves."""
    for row in rows:
        for test in row.tests:
            path, _, name = test.partition("::")
            if path not in sources or name not in sources[path].tests:
                yield f"{row.number}: there is no {test}"
            elif row.number not in sources[path].tests[name]:
                yield f"{row.number}: {test} does not name it"


def unlisted_numbers(rows: Iterable[Row], sources: Mapping[str, Source]) -> Iterator[str]:
    listed = {row.number for row in rows}
    for path, source in sources.items():
        for number in sorted(source.anywhere - listed):
            yield f"{path}: {number} is not in the document"


# The checklist


def checklist_strengths(checklist: str) -> dict[str, str]:
    """Numbers and strengths of a checklist, whose lines begin ``- **NAME-1** MUST.``

    >>> checklist_strengths("- **UP-1** RECOMMENDED, PRODUCT. So.\\n- **UP-2** MUST/SHOULD. A MAY.\\n- **FUT-1** PEP 2: MUST.")
    {'UP-1': 'SHOULD, PRODUCT', 'UP-2': 'MUST, SHOULD', 'FUT-1': 'FUTURE'}
    """
    strengths = {}
    for number, line in re.findall(r"^- \*\*(\S+)\*\* (.*)$", checklist, re.MULTILINE):
        # RFC 2119: RECOMMENDED is another word for SHOULD.
        words = [word.replace("RECOMMENDED", "SHOULD") for word in re.findall(r"[A-Z]{3,}", line.partition(".")[0])]
        known = [word for word in words if word in STRENGTHS]
        strengths[number] = "FUTURE" if number.startswith("FUT-") else ", ".join(dict.fromkeys(known))
    return strengths


def checklist_faults(rows: Iterable[Row], checklist: str) -> Iterator[str]:
    wanted, found = checklist_strengths(checklist), {row.number: row.strength for row in rows}
    for number in sorted(wanted.keys() | found.keys()):
        if wanted.get(number) != found.get(number):
            yield f"{number}: {found.get(number)} here, {wanted.get(number)} in the checklist"


# What is checked


@pytest.fixture(scope="module")
def rows() -> list[Row]:
    return rows_of(DOCUMENT.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def sources() -> dict[str, Source]:
    paths = [path for folder in ("nora", "plugins", "tests", "examples") for path in sorted((ROOT / folder).rglob("*.py"))]
    return {str(path.relative_to(ROOT)): read_source(path.read_text(encoding="utf-8")) for path in paths}


def test_every_row_has_a_known_form(rows: list[Row]) -> None:
    assert list(form_faults(DOCUMENT.read_text(encoding="utf-8"))) == []
    assert len(rows) > 200, "the tables were not found"


def test_the_numbers_of_each_prefix_have_no_gap(rows: list[Row]) -> None:
    assert list(numbering_faults(rows)) == []


def test_what_is_not_shown_has_a_reason(rows: list[Row]) -> None:
    assert list(reason_faults(rows)) == []


def test_tests_that_the_document_names_are_there_and_name_the_requirement(rows: list[Row], sources: dict[str, Source]) -> None:
    assert list(reference_faults(rows, sources)) == []


def test_every_requirement_that_the_code_names_is_in_the_document(rows: list[Row], sources: dict[str, Source]) -> None:
    assert len([path for path, source in sources.items() if source.anywhere]) > 50, "the tests were not found"
    assert list(unlisted_numbers(rows, sources)) == []


def test_numbers_and_strengths_are_those_of_the_checklist(rows: list[Row]) -> None:
    """An addition to the checks above, which need nothing but the repository: the checklist is not part of it.

    Where it is kept beside the checkout, the document is compared with it; where it is not, this passes.
    """
    if CHECKLIST.exists():
        assert list(checklist_faults(rows, CHECKLIST.read_text(encoding="utf-8"))) == []


# The checkers, with faults


GOOD = "| UP-1 | MUST | a form | `tests/test_a.py::test_b` |"
REASON = "not yet: there is no page for people so far"
SOURCES = {
    "tests/test_a.py": read_source(
        """
# UP-9

# UP-1: why
@pytest.mark.parametrize("x", [1])  # UP-2, UP-4 to UP-6
async def test_b(x):  # UP-7
    '''UP-8.'''
    x = "UP-10"
    assert x  # UP-11

    # UP-12
    def inner(): ...


class TestC:
    # UP-3
    def test_d(self): ...


def test_e():
    assert [
        1,  # UP-13
    ]


# UP-14
"""
    )
}


def test_numbers_are_read_out_of_comments_and_docstrings_of_a_test() -> None:
    (source,) = SOURCES.values()
    assert source.tests == {
        "test_b": {f"UP-{number}" for number in (1, 2, 4, 5, 6, 7, 8, 11, 12)},
        "TestC::test_d": {"UP-3"},
        "test_e": {"UP-13"},
    }
    assert source.anywhere == {f"UP-{number}" for number in range(1, 15)} - {"UP-10"}


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("# NEG-7, HTTP-11: why", {"NEG-7", "HTTP-11"}),
        ("# JSON-3 to JSON-5", {"JSON-3", "JSON-4", "JSON-5"}),
        ("# JSON-3 to HTML-5", {"JSON-3", "HTML-5"}),
        ("PEP440-2 CWE-22 UTF-8 X-UP-1 UP-1x UP-1-2 UP-0 SUP-1", {"PEP440-2"}),
    ],
)
def test_numbers_are_found_in_a_text(text: str, numbers: set[str]) -> None:
    assert numbers_in(text) == numbers


@pytest.mark.parametrize(
    "shown",
    [
        "`tests/test_a.py::test_b`",
        "`tests/test_a.py::test_b`, `tests/test_a.py::TestC::test_d`",
        REASON,
        f"`tests/test_a.py::test_b`; {REASON}",
        "not shown: `pip` does it, and so do others; instead: a look at it",
    ],
)
def test_guard_lets_good_rows_pass(shown: str) -> None:
    assert list(form_faults(f"| Number | Strength |\n|---|---|\n| UP-1 | MUST, PRODUCT | what | {shown} |\ntext\n")) == []


@pytest.mark.parametrize(
    "line",
    [
        "| UP-1 | MUST | a form |",
        "| UP-1 | MUST |  | `tests/test_a.py::test_b` |",
        "| UP-1 | MUST | a form | `tests/test_a.py::test_b` | more |",
        "| UP-01 | MUST | a form | `tests/test_a.py::test_b` |",
        "| UP | MUST | a form | `tests/test_a.py::test_b` |",
        "| UP-1 | must | a form | `tests/test_a.py::test_b` |",
        "| UP-1 | OUGHT | a form | `tests/test_a.py::test_b` |",
        "| UP-1 | MUST | a form | tests/test_a.py::test_b |",
        "| UP-1 | MUST | a form | `tests/test_a.py` |",
        "| UP-1 | MUST | a form | `tests/test_a.py::test_b[1]` |",
        "| UP-1 | MUST | a form | `tests/test_a.py::helper` |",
        "| UP-1 | MUST | a form | `tests/test_a.py::test_b` `tests/test_a.py::test_c` |",
        "| UP-1 | MUST | a form | `tests/test_a.py::test_b`, `tests/test_a.py::test_b` |",
        "| UP-1 | MUST | a form | " + ", ".join(f"`tests/test_a.py::test_{number}`" for number in range(4)) + " |",
        "| UP-1 | MUST | a form | not: there is none |",
        "| UP-1 | MUST | a form | not shown |",
        "| UP-1 | MUST | a form | perhaps |",
        "| UP-1 | MUST | a form |   |",
        "|UP-1|MUST|a form|`tests/test_a.py::test_b`|",
    ],
)
def test_guard_finds_a_row_of_another_form(line: str) -> None:
    assert len(list(form_faults(f"{GOOD}\n{line}\n"))) == 1


@pytest.mark.parametrize(
    ("numbers", "fault"),
    [
        (["UP-1", "UP-3"], "UP-3 comes after UP-1"),
        (["UP-2"], "UP begins with UP-2"),
        (["UP-1", "UP-1"], "UP-1 comes after UP-1"),
        (["UP-1", "UP-2", "UP-1"], "UP-1 comes after UP-2"),
        (["UP-1", "UQ-1"], "UQ: unknown prefix"),
        ([], "UP: not in the document"),
    ],
)
def test_guard_finds_gaps_and_repetitions(numbers: list[str], fault: str) -> None:
    others = [Row(f"{prefix}-1", "MUST") for prefix in PREFIXES if prefix != "UP"]
    assert list(numbering_faults([*others, Row("UP-1", "MUST"), Row("UP-2", "MUST")])) == []
    assert list(numbering_faults([*others, *(Row(number, "MUST") for number in numbers)])) == [fault]


@pytest.mark.parametrize(
    ("strength", "shown", "faults"),
    [
        ("SHOULD", REASON, 0),
        ("MUST", f"{REASON}; instead: a person may read the JSON page", 0),
        ("SHOULD", "not shown: to do", 1),
        ("SHOULD", "not yet: . . . . . . . .", 1),
        ("SHOULD", "not shown: no; instead: a person may read the JSON page", 1),
        ("MUST", REASON, 1),
        ("MUST, SHOULD", REASON, 1),
        ("MUST", f"{REASON}; instead: nothing", 1),
        ("MUST", f"`tests/test_a.py::test_b`; {REASON}", 1),
    ],
)
def test_guard_finds_a_reason_that_is_none(strength: str, shown: str, faults: int) -> None:
    rows = rows_of(f"| UP-1 | {strength} | what | {shown} |")
    assert len(rows) == 1
    assert len(list(reason_faults(rows))) == faults


@pytest.mark.parametrize(
    ("number", "test", "faults"),
    [
        ("UP-1", "tests/test_a.py::test_b", 0),
        ("UP-5", "tests/test_a.py::test_b", 0),
        ("UP-3", "tests/test_a.py::TestC::test_d", 0),
        ("UP-13", "tests/test_a.py::test_e", 0),
        ("UP-9", "tests/test_a.py::test_b", 1),
        ("UP-10", "tests/test_a.py::test_b", 1),
        ("UP-14", "tests/test_a.py::test_e", 1),
        ("UP-3", "tests/test_a.py::test_d", 1),
        ("UP-1", "tests/test_a.py::test_x", 1),
        ("UP-1", "tests/test_x.py::test_b", 1),
    ],
)
def test_guard_finds_a_test_that_is_not_there_or_does_not_name_its_requirement(number: str, test: str, faults: int) -> None:
    assert len(list(reference_faults([Row(number, "MUST", (test,))], SOURCES))) == faults


def test_guard_finds_a_number_that_is_not_in_the_document() -> None:
    rows = [Row(f"UP-{number}", "MUST") for number in range(1, 14)]
    assert list(unlisted_numbers(rows, SOURCES)) == ["tests/test_a.py: UP-14 is not in the document"]


def test_guard_finds_another_strength_than_the_checklists() -> None:
    checklist = "# Title\n- **UP-1** MUST NOT. No. (PEP 1)\n- **UP-2** SHOULD, PRODUCT 301. So.\n- **UP-3** MAY check. Well.\n"
    rows = [Row("UP-1", "MUST"), Row("UP-2", "SHOULD, PRODUCT"), Row("UP-3", "MAY")]
    assert list(checklist_faults(rows, checklist)) == []
    assert len(list(checklist_faults([*rows[:2], Row("UP-3", "MUST")], checklist))) == 1
    assert len(list(checklist_faults(rows[:2], checklist))) == 1
    assert len(list(checklist_faults([*rows, Row("UP-4", "MUST")], checklist))) == 1
