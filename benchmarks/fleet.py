"""What is held, and the servers that serve it. Each is made, and started, when a measurement first asks for it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from functools import cached_property

from benchmarks.bench import Bench
from benchmarks.connection import CannotMeasureError
from benchmarks.data import Maker, Project, StaticTree, Storage, add_to_upstream
from benchmarks.loads import probe
from benchmarks.peers import PEERS, Devpi, Proxpi, Pypiserver, SimpleRepository, installed
from benchmarks.servers import Nginx, Nora, Server, Upstream

NORA, NORA_2, NORA_LOG, NORA_COLD = "nora", "nora, 2 workers", "nora, access log", "nora, cold"
NGINX, NGINX_LOG = "nginx", "nginx, access log"
SIMPLE_PROXY = "simple-repository-server, proxy"
INSTALL_ROOT = "bench-install"


class Fleet:
    """The servers of one run, by name; stopped when the stack is closed."""

    def __init__(self, bench: Bench, stack: ExitStack) -> None:
        self._bench, self._stack = bench, stack
        self._made: dict[str, Server] = {}
        self._running: dict[str, Server] = {}
        self._broken: dict[str, str] = {}
        self.fetched: set[tuple[str, int]] = set()
        self.maker = Maker(bench.folder / "files")
        self.peers = {peer.distribution: found for peer in PEERS if (found := installed(peer, bench.peers)) is not None}

    @cached_property
    def pages(self) -> list[Project]:
        """Projects whose pages are measured, hosted."""
        return [self.maker.small(f"page-{count}", count) for count in self._bench.setting.page_files]

    @cached_property
    def remote_pages(self) -> list[Project]:
        """The same of an upstream's; the largest one is left out."""
        return [self.maker.small(f"remote-{count}", count) for count in self._bench.setting.page_files[:2]]

    @cached_property
    def files(self) -> dict[int, Project]:
        """Projects whose file is measured, by its size."""
        sizes = (self._bench.setting.small_file_bytes, *self._bench.setting.file_bytes)
        return {size: self.maker.padded(f"file-{size}", size) for size in sizes}

    @cached_property
    def packages(self) -> list[Project]:
        """What an installer gets: the first one requires all others, and they each other in a chain of tens."""
        names = [f"bench-package-{number}" for number in range(self._bench.setting.packages - 1)]
        chained = [self.maker.installable(name, names[at + 1 : at + 2] if at % 10 else ()) for at, name in enumerate(names)]
        return [self.maker.installable(INSTALL_ROOT, names), *chained]

    @cached_property
    def held(self) -> list[Project]:
        """Everything that is hosted. Only what the wanted measurements need is made."""
        bench = self._bench
        projects = list(self.pages)
        if bench.wants_group("files"):
            projects += self.files.values()
        if bench.wants_group("install"):
            projects += self.packages
        others = bench.setting.held_projects - len(projects)
        return projects + [self.maker.small(f"held-{number}", 1) for number in range(others)]

    @cached_property
    def storage(self) -> Storage:
        """Nora's storage with all that."""
        self._bench.say("making what is held")
        storage = Storage(self._bench.folder / "nora")
        for project in self.held:
            storage.hold(project)
        return storage

    @cached_property
    def cold_pages(self) -> dict[tuple[int, int], list[Project]]:
        """Projects of the upstream whose pages are asked for once, by number of files and round."""
        wanted = self._bench.setting.cold_pages.items() if self._bench.wants_group("cold") else ()
        rounds = range(self._bench.rounds)
        return {
            (count, number): [self.maker.listed(f"cold-{count}-{number}-{sample}", count) for sample in range(samples)]
            for count, samples in wanted
            for number in rounds
        }

    @cached_property
    def cold_files(self) -> dict[tuple[int, int], list[Project]]:
        """The same for files, by size and round."""
        wanted = self._bench.setting.cold_files.items() if self._bench.wants_group("cold") else ()
        rounds = range(self._bench.rounds)
        return {
            (size, number): [self.maker.padded(f"cold-{size}-bytes-{number}-{sample}", size) for sample in range(samples)]
            for size, samples in wanted
            for number in rounds
        }

    @cached_property
    def upstream_tree(self) -> StaticTree:
        """What the upstream serves: the same for those who only proxy, and what nobody has yet.

        All of it from the beginning, since some proxies believe the list of projects that they got first.
        """
        self._bench.say("making what the upstream has")
        tree = StaticTree(self._bench.folder / "upstream")
        cold = [project for projects in (self.cold_pages, self.cold_files) for some in projects.values() for project in some]
        add_to_upstream(tree, [*self.remote_pages, *cold, *(self.held if self.peers else ())])
        return tree

    @cached_property
    def upstream(self) -> Upstream:
        """The upstream, running."""
        return self._stack.enter_context(Upstream(self.upstream_tree.root))

    def names(self, *, warm: bool = True) -> list[str]:
        """The servers that there are: one that holds, or several beside each other."""
        ours = [NORA, NORA_2, *([NGINX] if self._bench.nginx else [])] if warm else [NORA_COLD]
        return [*ours, *self.peers]

    def get(self, name: str) -> Server:
        """A server, running.

        Raises:
            CannotMeasureError: it does not start; said again each time.
        """
        if name in self._broken:
            raise CannotMeasureError(self._broken[name])
        if name not in self._running:
            server = self.server(name)
            try:
                self._stack.enter_context(server)
                if isinstance(server, Devpi):
                    server.make_indexes()
            except CannotMeasureError as error:
                self._broken[name] = f"does not start: {error}"
                raise
            self._running[name] = server
            if isinstance(server, Nginx):
                self._fill(server)
        return self._running[name]

    def server(self, name: str) -> Server:
        """A server, which may not run yet."""
        if name not in self._made:
            self._made[name] = self._make(name)
        return self._made[name]

    def _make(self, name: str) -> Server:
        folder = self._bench.folder
        match name:
            case "nora" | "nora, 2 workers" | "nora, access log":
                workers, logs = (2 if name == NORA_2 else 1), name == NORA_LOG
                return Nora(self.storage.root, upstream=self.upstream.url, workers=workers, access_log=logs, name=name)
            case "nora, cold":
                return Nora(folder / "cold", upstream=self.upstream.url, name="nora")
            case "nginx" | "nginx, access log":
                return Nginx(
                    folder / "static",
                    self._bench.nginx,
                    access_log=name == NGINX_LOG,
                    name=name.replace(", ", "-").replace(" ", "-"),
                )
            case "pypiserver":
                return Pypiserver(folder / name, self.peers[name], self.held)
            case "devpi-server":
                return Devpi(folder / name, self.peers[name], self.upstream.url)
            case "proxpi":
                return Proxpi(folder / name, self.peers[name], self.upstream.url)
            case "simple-repository-server":
                return SimpleRepository(folder / name, self.peers[name], self.held)
            case "simple-repository-server, proxy":
                binaries = self.peers["simple-repository-server"]
                return SimpleRepository(folder / "simple-proxy", binaries, upstream=self.upstream.url)
        raise ValueError(f"no server is called {name!r}")

    def _fill(self, nginx: Nginx) -> None:
        """Give nginx the very bytes that Nora answers."""
        nora, tree = self.get(NORA), StaticTree(nginx.root)
        shown = [*self.pages, *self.remote_pages]
        if self._bench.wants_group("install"):
            shown += self.packages
        for form, gzip in _representations():
            for project in shown:
                _, body = probe(nora.port, nora.page(project.name, form, gzip=gzip))
                tree.save(nginx.page(project.name, form, gzip=gzip).path.lstrip("/"), body)
            _, body = probe(nora.port, nora.listing(form, gzip=gzip))
            tree.save(nginx.listing(form, gzip=gzip).path.lstrip("/"), body)
        with_files = [*self.files.values()] if self._bench.wants_group("files") else []
        with_files += self.packages if self._bench.wants_group("install") else []
        for project in with_files:
            for file in project.files:
                tree.link(nginx.file(project.name, file.name).path.lstrip("/"), file)
                tree.save(f"{nginx.file(project.name, file.name).path.lstrip('/')}.metadata", file.metadata)


def _representations() -> Iterator[tuple[str, bool]]:
    for form in ("HTML", "JSON"):
        yield form, False
        yield form, True
