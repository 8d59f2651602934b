"""``python -m benchmarks``: see README.md beside this file."""

from __future__ import annotations

import argparse
import json
import os
import shlex
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from benchmarks.bench import Bench
from benchmarks.fleet import Fleet
from benchmarks.machine import describe, load_average
from benchmarks.peers import PEERS, installed, version
from benchmarks.rows import cold, files, growth, guessing, installing, pages, starting, uploading
from benchmarks.settings import SETTINGS
from benchmarks.table import document

GROUPS: dict[str, Callable[[Bench, Fleet], None]] = {
    starting.NAME: starting.measure,
    pages.NAME: pages.measure,
    pages.NAMES: pages.measure_names,
    files.NAME: files.measure,
    installing.NAME: installing.measure,
    cold.NAME: cold.measure,
    uploading.NAME: uploading.measure,
    guessing.NAME: guessing.measure,
    growth.NAME: growth.measure,
}


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description="Measure Nora beside nginx and other package indexes."
    )
    parser.add_argument(
        "--setting", choices=SETTINGS, default="normal", help="how much is measured; normal takes a quarter of an hour"
    )
    parser.add_argument(
        "--only",
        metavar="PATTERN",
        default="*",
        help=f"GROUP or GROUP/MEASUREMENT, with wildcards; groups: {', '.join(GROUPS)}",
    )
    parser.add_argument("--rounds", type=int, metavar="N", help="how often everything is measured; the tables show medians")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every single figure there")
    parser.add_argument("--output", type=Path, metavar="FILE", help="write the tables there, and not to standard output")
    parser.add_argument("--peers", type=Path, metavar="FOLDER", help="where the peers' virtual environments are")
    parser.add_argument("--nginx", default=_found("nginx"), metavar="PROGRAM", help='"" for none')
    parser.add_argument("--wrk", default=_found("wrk"), metavar="PROGRAM", help='"" for the load generator that is built in')
    parser.add_argument("--folder", type=Path, help="where temporary data go; on the disk that is to be measured")
    parser.add_argument("--minutes", type=float, help="after so many no further round is begun; each setting has its own")
    return parser.parse_args()


def _found(program: str) -> str:
    return shutil.which(program, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin") or ""


def main() -> int:
    """Measure, and write what was found.

    Returns 1 if Nora or nginx could not do something, 2 if nothing was asked for.
    """
    options = arguments()
    # A stop is an ordinary end: every server that was started is stopped, and the folder removed.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    with tempfile.TemporaryDirectory(prefix="nora-benchmarks-", dir=options.folder) as folder:
        setting = SETTINGS[options.setting]
        rounds, deadline = options.rounds or setting.rounds, time.monotonic() + (options.minutes or setting.minutes) * 60
        bench = Bench(setting, rounds, Path(folder), options.wrk, options.nginx, options.peers, options.only, deadline)
        # Paths by their last part: where things are on this machine tells nobody anything.
        words = [Path(word).name if word.startswith("/") else word for word in sys.argv[1:]]
        command = shlex.join(["python", "-m", "benchmarks", *words])
        bench.results.about.update(describe(command, bench.folder, wrk=options.wrk, nginx=options.nginx))
        _name_servers(bench)
        _measure(bench)
        if not any(group.lines for group in bench.results.groups):
            print(f"benchmarks: --only {options.only}: nothing is called so; groups: {', '.join(GROUPS)}", file=sys.stderr)
            return 2
        _write(bench, options)
        bench.say("removing temporary files")
    for failure in bench.failures:
        print(f"benchmarks: {failure}", file=sys.stderr)
    return 1 if bench.failures else 0


def _measure(bench: Bench) -> None:
    """All groups that are wanted, one after another; their servers are stopped at the end."""
    started = time.monotonic()
    with ExitStack() as stack:
        fleet = Fleet(bench, stack)
        for name, measure in GROUPS.items():
            if bench.wants_group(name):
                measure(bench, fleet)
    bench.results.about["Load after the run"] = load_average()
    bench.results.about["Took"] = f"{(time.monotonic() - started) / 60:.1f} minutes, {bench.rounds} rounds"


def _write(bench: Bench, options: argparse.Namespace) -> None:
    text = document(bench.results)
    if options.output:
        options.output.write_text(text)
    else:
        print(text, flush=True)
    if options.json:
        options.json.write_text(json.dumps(bench.results.plain(), indent=1))


def _name_servers(bench: Bench) -> None:
    """Say what each server is, and which are missing."""
    servers = bench.results.servers
    servers["nora"] = 'one worker; "nora, 2 workers": two of them beside a supervisor'
    servers["nginx"] = "one worker, sendfile, static files" if bench.nginx else "not installed"
    for peer in PEERS:
        found = installed(peer, bench.peers)
        servers[peer.distribution] = "not installed" if found is None else f"{version(peer, found)}: {peer.description}"


if __name__ == "__main__":
    sys.exit(main())
