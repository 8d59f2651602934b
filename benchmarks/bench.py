"""One run: what is wanted, with which tools, and how measurements take turns."""

from __future__ import annotations

import fnmatch
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.connection import CannotMeasureError
from benchmarks.loads import Figures, Target, rate
from benchmarks.peers import PEERS
from benchmarks.results import Figure, Group, Results
from benchmarks.settings import Setting

PEER_PART = 0.4
"""Of the time that a measurement takes for others."""

Job = Callable[[], Figures]
Jobs = dict[str, dict[str, Job]]


@dataclass
class Bench:
    """A run.

    Attributes:
        folder: Where everything goes; removed at the end.
        wrk, nginx: Programs; "" if they are not there.
        peers: Where the peers are installed.
        pattern: Which measurements are wanted: ``GROUP`` or ``GROUP/MEASUREMENT``, with wildcards.
        deadline: By :func:`time.monotonic`; after it nothing is measured a second time.
    """

    setting: Setting
    rounds: int
    folder: Path
    wrk: str = ""
    nginx: str = ""
    peers: Path | None = None
    pattern: str = "*"
    deadline: float = float("inf")
    results: Results = field(default_factory=Results)
    failures: list[str] = field(default_factory=list)

    def group(self, name: str, title: str, figures: tuple[Figure, ...], *, baseline: str = "", note: str = "") -> Group:
        """A new group of the results."""
        group = Group(name, title, figures, baseline, note)
        self.results.groups.append(group)
        return group

    def wants_group(self, name: str) -> bool:
        """Whether anything of a group can be wanted."""
        return fnmatch.fnmatchcase(name, self.pattern.partition("/")[0])

    def wants(self, group: str, measurement: str) -> bool:
        """Whether a measurement is wanted."""
        wanted = self.pattern.partition("/")[2]
        return self.wants_group(group) and (not wanted or fnmatch.fnmatchcase(measurement, wanted))

    def say(self, text: str) -> None:
        """Tell on standard error how far it is."""
        print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)

    def each_round(self) -> Iterable[int]:
        """The rounds; the first one always, the others while there is time."""
        for number in range(self.rounds):
            if number and time.monotonic() > self.deadline:
                self.results.about["Cut short"] = "the time was over before all rounds were done"
                return
            yield number

    def interleave(self, group: Group, jobs: Jobs) -> None:
        """Do all jobs in turn, round by round, so that whatever disturbs the machine disturbs everybody.

        Each round begins with another server, since whoever comes first finds the machine idle, and its caches with something else.
        """
        for measurement, servers in jobs.items():
            group.declare(measurement, servers)
        for number in self.each_round():
            for measurement, servers in jobs.items():
                self.say(f"{group.name} {number + 1}/{self.rounds}: {measurement}")
                order = [*servers.items()]
                first = number % len(order)
                for server, job in order[first:] + order[:first]:
                    self.attempt(group, measurement, server, job)

    def attempt(self, group: Group, measurement: str, server: str, job: Job) -> None:
        """Do a job, unless it was found before that this server cannot."""
        if group.refused(measurement, server):
            return
        try:
            group.add(measurement, server, job())
        except (CannotMeasureError, OSError) as error:
            self.refuse(group, measurement, server, str(error))

    def rate(self, server: str, target: Target, *, clients: int) -> Figures:
        """The load by requests that fits a server.

        Peers are slower than the built-in client, and take turns with many others, so they get less time.
        """
        if _is_peer(server):
            return rate(target, clients=clients, seconds=self.setting.seconds * PEER_PART)
        return rate(target, clients=clients, seconds=self.setting.seconds, wrk=self.wrk)

    def refuse(self, group: Group, measurement: str, server: str, reason: str) -> None:
        """Note that a server cannot do this. Only peers may be unable; with others something is wrong."""
        group.refuse(measurement, server, reason)
        if not _is_peer(server):
            self.failures.append(f"{group.name}/{measurement}: {server}: {reason}")


def _is_peer(server: str) -> bool:
    return server.startswith(tuple(peer.distribution for peer in PEERS))
