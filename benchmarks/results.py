"""What was measured, and what follows from it: medians, ratios within a round, targets."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from statistics import median
from typing import Any, Literal

NORA = "nora"


@dataclass(frozen=True)
class Figure:
    """A column: its key and heading, how many digits are shown, and whether it is also shown relative to the baseline's."""

    key: str
    heading: str
    digits: int = 0
    ratio: bool = False


@dataclass(frozen=True)
class Goal:
    """What a figure of Nora's has to be. With ``ratio`` it is the figure relative to the baseline's."""

    figure: str
    relation: Literal["at least", "at most"]
    bound: float
    ratio: bool = False

    def verdict(self, value: float) -> str:
        """In words, with the value.

        >>> Goal("per_second", "at least", 0.9, ratio=True).verdict(0.5)
        'at least 0.9 times: 0.50, **missed**'
        """
        met = value >= self.bound if self.relation == "at least" else value <= self.bound
        unit = " times" if self.ratio else ""
        return f"{self.relation} {self.bound:.3g}{unit}: {value:.2f}, {'met' if met else '**missed**'}"


@dataclass
class Line:
    """One server in one measurement: its figures of each round, or the reason why there are none."""

    rounds: list[Mapping[str, float]] = field(default_factory=list)
    reason: str = ""

    def median(self, key: str) -> float | None:
        """The median of a figure over the rounds that have it."""
        values = [figures[key] for figures in self.rounds if key in figures]
        return median(values) if values else None

    def ratio(self, key: str, base: Line) -> float | None:
        """The median of a figure's ratios to another line's, each within one round."""
        pairs = zip(self.rounds, base.rounds, strict=False)
        values = [ours[key] / theirs[key] for ours, theirs in pairs if key in ours and theirs.get(key)]
        return median(values) if values else None


@dataclass
class Group:
    """Measurements that belong together. ``baseline`` is the server that ratios are relative to."""

    name: str
    title: str
    figures: tuple[Figure, ...]
    baseline: str = ""
    note: str = ""
    lines: dict[str, dict[str, Line]] = field(default_factory=dict)
    goals: dict[tuple[str, str], tuple[Goal, ...]] = field(default_factory=dict)
    reasons: dict[str, dict[str, str]] = field(default_factory=dict)

    def declare(self, measurement: str, servers: Iterable[str]) -> None:
        """The order in which servers are shown, whoever is measured first."""
        for server in servers:
            self._line(measurement, server)

    def add(self, measurement: str, server: str, figures: Mapping[str, float]) -> None:
        """One round of one server."""
        self._line(measurement, server).rounds.append(dict(figures))

    def refuse(self, measurement: str, server: str, reason: str) -> None:
        """A server cannot do this."""
        self._line(measurement, server).reason = reason

    def refused(self, measurement: str, server: str) -> bool:
        """Whether it was found before that the server cannot do this."""
        return bool(self._line(measurement, server).reason)

    def expect(self, measurement: str, server: str, *goals: Goal) -> None:
        """What is to be reached."""
        self.goals[measurement, server] = goals

    def explain(self, figure: str, reasons: Mapping[str, str]) -> None:
        """Why servers may be ahead of Nora in a figure that should be small, or large if it is per second; by server."""
        self.reasons[figure] = dict(reasons)

    def remark(self, measurement: str, server: str) -> str:
        """Whether Nora's goals were reached, or why this server is ahead of Nora."""
        ours, headings = self.lines[measurement].get(NORA), {figure.key: figure.heading for figure in self.figures}
        ahead: dict[str, list[str]] = {}
        for figure, reasons in self.reasons.items():
            value = self.lines[measurement][server].median(figure)
            bound = ours.median(figure) if ours is not None else None
            if server not in reasons or value is None or bound is None:
                continue
            if value > bound if "per_second" in figure else value < bound:
                ahead.setdefault(reasons[server], []).append(headings[figure])
        said = [self.verdict(measurement, server)]
        said += [f"ahead in {' and '.join(figures)}: {reason}" for reason, figures in ahead.items()]
        return "; ".join(filter(None, said))

    def verdict(self, measurement: str, server: str) -> str:
        """Whether the goals were reached; "" if there are none, or nothing to compare."""
        line, base = self.lines[measurement][server], self.lines[measurement].get(self.baseline)
        headings = {figure.key: figure.heading for figure in self.figures}
        said = []
        for goal in self.goals.get((measurement, server), ()):
            value = line.median(goal.figure) if not goal.ratio else line.ratio(goal.figure, base) if base is not None else None
            if value is not None:
                said.append(f"{headings[goal.figure]} {goal.verdict(value)}")
        return "; ".join(said)

    def _line(self, measurement: str, server: str) -> Line:
        return self.lines.setdefault(measurement, {}).setdefault(server, Line())


@dataclass
class Results:
    """Everything of one run. ``about`` is what it was made with; ``servers`` says of each what it is, or that it is missing."""

    about: dict[str, str] = field(default_factory=dict)
    servers: dict[str, str] = field(default_factory=dict)
    groups: list[Group] = field(default_factory=list)

    def plain(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "about": self.about,
            "servers": self.servers,
            "groups": [
                {
                    "name": group.name,
                    "title": group.title,
                    "baseline": group.baseline,
                    "lines": [
                        {
                            "measurement": measurement,
                            "server": server,
                            "rounds": line.rounds,
                            "medians": {figure.key: line.median(figure.key) for figure in group.figures},
                            "reason": line.reason,
                            "remark": group.remark(measurement, server),
                        }
                        for measurement, servers in group.lines.items()
                        for server, line in servers.items()
                    ],
                }
                for group in self.groups
            ],
        }
