"""Results as a document in Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from benchmarks.results import Figure, Group, Line, Results


def document(results: Results) -> str:
    """The whole document."""
    parts = [
        "# Results\n",
        _table(["", ""], results.about.items(), right=()),
        _table(["Server", "What it is"], results.servers.items()),
    ]
    for group in results.groups:
        if group.lines:
            parts.append(f"## {group.title}\n")
            if group.note:
                parts.append(f"{group.note}\n")
            parts.append(_group(group))
    return "\n".join(parts)


def _group(group: Group) -> str:
    headings, right = ["Measurement", "Server"], []
    for figure in group.figures:
        right.append(len(headings))
        headings.append(figure.heading)
        if figure.ratio and group.baseline:
            right.append(len(headings))
            headings.append(f"÷ {group.baseline}")
    if group.goals or group.reasons:
        headings.append("Goal, or why it is ahead" if group.reasons else "Goal")
    rows = []
    for measurement, servers in group.lines.items():
        shown = measurement
        for server, line in servers.items():
            rows.append([shown, server, *_cells(group, measurement, server, line)])
            shown = ""
    return _table(headings, rows, right=right)


def _cells(group: Group, measurement: str, server: str, line: Line) -> list[str]:
    base = group.lines[measurement].get(group.baseline)
    cells = []
    for figure in group.figures:
        cells.append(_number(line.median(figure.key), figure))
        if figure.ratio and group.baseline:
            ratio = line.ratio(figure.key, base) if base is not None and server != group.baseline else None
            cells.append("" if ratio is None else f"{ratio:.2f}")
    if group.goals or group.reasons:
        cells.append(group.remark(measurement, server))
    if line.reason and not line.rounds:
        cells[-1] = line.reason
    return cells


def _number(value: float | None, figure: Figure) -> str:
    return "" if value is None else f"{value:,.{figure.digits}f}"


def _table(headings: Sequence[str], rows: Iterable[Sequence[str]], right: Sequence[int] = ()) -> str:
    """A table; the columns in ``right`` are numbers."""
    lines = [headings, ["---:" if column in right else "---" for column in range(len(headings))], *rows]
    return "".join(f"| {' | '.join(cell.replace('|', '/') for cell in line)} |\n" for line in lines)
