"""Attacks by amount and by patience: clients that never end, never begin, never read; names that take long to look at."""

from __future__ import annotations

import contextlib
import html
import json
import os
import select
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import quote

import httpx
import pytest

from nora.testing.harness import open_sockets
from nora.testing.live import LiveServer
from nora.testing.packages import make_wheel
from nora.testing.upstream import Reply, ScriptedUpstream

JSON = {"accept": "application/vnd.pypi.simple.v1+json"}
FORM = {":action": "file_upload", "protocol_version": "1", "name": "demo", "version": "1.0", "filetype": "bdist_wheel"} | {
    "metadata_version": "2.1"
}
NAME, WHEEL = make_wheel("demo", "1.0")
BIG_NAME, BIG_WHEEL = make_wheel("big", "1.0", size=12_000_000)
HEAD = b"GET /simple/demo/ HTTP/1.1\r\nHost: x\r\n"
UPLOAD = b"POST /simple/ HTTP/1.1\r\nHost: x\r\nContent-Type: multipart/form-data; boundary=b\r\n"
PART = b'--b\r\nContent-Disposition: form-data; name="content"; filename="demo-1.0.zip"\r\n\r\n'


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("load") / "store"


@pytest.fixture(scope="module")
def server(store: Path, scripted: ScriptedUpstream) -> Iterator[LiveServer]:
    config = f'[pypi]\nproxy = "{scripted.simple_url}"\nproxy_timeout = 5\nmetadata_ttl = 0\n[server]\nbody_limit_mb = 32\n'
    with LiveServer(store, config) as running:
        for project, name, content in (("demo", NAME, WHEEL), ("big", BIG_NAME, BIG_WHEEL)):
            answer = httpx.post(f"{running.url}/simple/", data=FORM | {"name": project}, files={"content": (name, content)})
            assert answer.status_code == 200, answer.text
        yield running
        assert_served(running)
    assert "Traceback" not in running.log()


def assert_served(server: LiveServer) -> None:
    """Somebody else gets a page and a file, while whatever goes on goes on."""
    with httpx.Client(base_url=server.url, timeout=10) as client:
        assert client.get("/simple/demo/", headers=JSON).status_code == 200
        assert client.get(f"/simple/demo/{NAME}").content == WHEEL


def connected(server: LiveServer) -> socket.socket:
    return socket.create_connection(("127.0.0.1", server.port), timeout=20)


def wait_until(holds: Callable[[], bool], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.02)


def spools(store: Path) -> list[Path]:
    return [path for path in (store / "tmp").rglob("*") if path.is_file() and path.suffix != ".lock"]


@contextlib.contextmanager
def many(server: LiveServer, count: int, wire: bytes) -> Iterator[list[socket.socket]]:
    """So many connections that have said this much."""
    with contextlib.ExitStack() as stack:
        found = []
        for _ in range(count):
            connection = stack.enter_context(connected(server))
            if wire:
                connection.sendall(wire)
            found.append(connection)
        yield found


UNFINISHED = {
    "nothing": b"",
    "half a line": b"GET /sim",
    "half a head": HEAD + b"X-Slow: ",
    "an upload without its body": UPLOAD + b"Content-Length: 1000000\r\n\r\n",
    "a chunked upload without its end": UPLOAD + b"Transfer-Encoding: chunked\r\n\r\n5\r\n--b\r\n\r\n",
    "a chunk without its content": UPLOAD + b"Transfer-Encoding: chunked\r\n\r\nfffffff\r\n",
    "a page with a body to come": HEAD + b"Content-Length: 1000000\r\n\r\n",
    "an expectation": UPLOAD + b"Content-Length: 1000000\r\nExpect: 100-continue\r\n\r\n",
}


@pytest.mark.parametrize("unfinished", UNFINISHED)
def test_others_are_served_while_a_thousand_connections_say(server: LiveServer, store: Path, unfinished: str) -> None:
    # FILE-13, CWE-400, CWE-770. Slow clients are a matter of time, see tests/unit/http/test_requirements.py; here of numbers.
    before, sockets = server.peak_memory_mb(), open_sockets(server.pid)
    count = 1000 if unfinished == "nothing" else 300
    with many(server, count, UNFINISHED[unfinished]):
        wait_until(lambda: open_sockets(server.pid) >= sockets + count * 9 // 10)
        assert_served(server)
    assert server.peak_memory_mb() - before < 60
    # When they leave, nothing of them is left, in memory or on the disk.
    wait_until(lambda: open_sockets(server.pid) <= sockets + 2)
    wait_until(lambda: not spools(store))


def test_a_client_that_dribbles_holds_up_nobody(server: LiveServer, store: Path) -> None:
    # Slowloris in the head, in the body, and R.U.D.Y.: a byte at a time, while the loop has other things to do.
    stop = threading.Event()

    def dribble(wire: bytes) -> None:
        with contextlib.suppress(OSError), connected(server) as connection:
            for byte in wire * 100:
                if stop.is_set():
                    return
                connection.sendall(bytes([byte]))
                stop.wait(0.01)

    wires = (HEAD + b"X: a\r\n" * 1000, UPLOAD + b"Content-Length: 9999999\r\n\r\n" + PART + b"x" * 10_000)
    with ThreadPoolExecutor(20) as pool:
        for number in range(20):
            pool.submit(dribble, wires[number % 2])
        try:
            for _ in range(20):
                assert_served(server)
        finally:
            stop.set()
    wait_until(lambda: not spools(store))


@pytest.mark.parametrize("path", [f"/simple/big/{BIG_NAME}", "/simple/big/"])
def test_clients_that_do_not_read_take_no_memory_and_no_thread(server: LiveServer, path: str) -> None:
    # CWE-400: each asks for more than the system's buffers hold, again and again, and takes none of it.
    before = server.peak_memory_mb()
    with contextlib.ExitStack() as stack:
        for _ in range(60):
            connection = stack.enter_context(socket.socket())
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            connection.connect(("127.0.0.1", server.port))
            connection.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode() * 50)
        for _ in range(5):
            assert_served(server)
    assert server.peak_memory_mb() - before < 60


def test_connections_that_are_reset_in_every_state_leave_nothing(server: LiveServer, store: Path) -> None:
    # CWE-772
    sockets = open_sockets(server.pid)
    for _ in range(20):
        for wire in (*UNFINISHED.values(), HEAD + b"\r\n", f"GET /simple/big/{BIG_NAME} HTTP/1.1\r\nHost: x\r\n\r\n".encode()):
            connection = connected(server)
            connection.sendall(wire)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            connection.close()
    wait_until(lambda: open_sockets(server.pid) <= sockets + 2)
    wait_until(lambda: not spools(store))
    assert_served(server)


ENDLESS = {
    # Routes that take a body, of known length and of none, and routes that take none.
    "an upload": (UPLOAD + b"Transfer-Encoding: chunked\r\n\r\n", PART, True),
    "an upload with a length": (UPLOAD + b"Content-Length: 99999999999\r\n\r\n", PART, False),
    "a document": (
        b"POST /api/v1/registries/pypi/projects/demo/versions/1.0/yank HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"{",
        True,
    ),
    "a page": (HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"x", True),
    "a page with a length": (HEAD + b"Content-Length: 99999999999\r\n\r\n", b"x", False),
    "no address": (b"POST /nowhere HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n", b"x", True),
    "health": (b"GET /health HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n", b"x", True),
}


@pytest.mark.parametrize("endless", ENDLESS)
def test_a_body_without_end_fills_neither_memory_nor_disk(server: LiveServer, store: Path, endless: str) -> None:
    # UP-15, UP-19, HTTP-19, CWE-400, CWE-770: it is refused as soon as it is over the limit, and what comes after that is dropped.
    head, begin, chunked = ENDLESS[endless]
    before = server.peak_memory_mb()
    piece = b"x" * (1 << 20)
    framed = b"%x\r\n%b\r\n" % (len(piece), piece) if chunked else piece
    start = b"%x\r\n%b\r\n" % (len(begin), begin) if chunked else begin
    with connected(server) as connection:
        connection.sendall(head + start)
        answered = b""
        for _ in range(100):
            try:
                connection.sendall(framed)
            except ConnectionError:
                break
            if not answered and select.select([connection], [], [], 0)[0]:
                answered = connection.recv(65536)
            assert sum(path.stat().st_size for path in spools(store)) < 48 << 20
        if not answered:
            with contextlib.suppress(OSError):
                answered = connection.recv(65536)
    assert answered[9:12] in (b"413", b"404", b"200", b"400", b""), answered[:200]
    assert answered[9:12] != b"200" or head.startswith(b"GET")
    assert server.peak_memory_mb() - before < 60
    wait_until(lambda: not spools(store))


def test_many_uploads_at_once_take_little_memory(server: LiveServer, store: Path) -> None:
    # UP-19, CWE-770
    before = server.peak_memory_mb()
    with contextlib.ExitStack() as stack:
        for _ in range(50):
            connection = stack.enter_context(connected(server))
            connection.sendall(UPLOAD + b"Content-Length: 30000000\r\n\r\n" + PART + b"x" * 500_000)
        assert_served(server)
    assert server.peak_memory_mb() - before < 80
    wait_until(lambda: not spools(store))


# ReDoS: names that make patterns try everything. What they cost the server is compared with what a plain name of the same length costs.


def cpu_seconds(server: LiveServer) -> float:
    fields = Path(f"/proc/{server.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def cost(server: LiveServer, work: Callable[[], object]) -> float:
    """CPU seconds that the server takes; a tick of its clock at least."""
    before = cpu_seconds(server)
    work()
    return max(cpu_seconds(server) - before, 0.02)


FACTOR = 12
SHAPES = (
    *(
        "-" * 250,
        "a" + "-" * 250,
        "-_." * 80 + "!",
        "a-" * 120 + "!",
        "a_" * 125,
        "A." * 120 + "-",
        "1" * 250,
        "1." * 125,
        "1!" * 120,
        "0" * 250 + "x",
    ),
    *(
        "1.0" + "-1" * 120,
        "1.0" + ".dev" * 60,
        "1.0+" + "a." * 120 + "!",
        "1.0" + "rc" * 120,
        "v" * 250,
        "1" + "_" * 240 + "1",
        " " * 250,
        "\t" * 100 + "x",
    ),
    *(
        "(" * 250,
        "[" * 250,
        "%" * 250,
        "\\" * 250,
        "a" * 249 + "\u212a",
        "\u0130" * 60,
        "*" * 250,
        "?" * 250,
        "." * 250,
        "x" + ".linux" * 40,
    ),
)


def test_no_name_in_a_path_costs_much_more_than_another(server: LiveServer) -> None:
    # CWE-1333
    with httpx.Client(base_url=server.url, timeout=30) as client:

        def ask(shape: str) -> None:
            for rule in (
                "/simple/{}/",
                "/simple/{}",
                "/simple/demo/{}",
                "/simple/demo/{}.whl",
                "/simple/demo/{}.tar.gz",
                "/pypi/demo/{}/json",
            ):
                assert client.get(rule.format(quote(shape, safe="")), headers=JSON).status_code < 500

        plain = cost(server, lambda: [ask(f"{number:a>250}") for number in range(len(SHAPES))])
        assert cost(server, lambda: [ask(shape) for shape in SHAPES]) < FACTOR * plain


def test_no_field_of_a_head_costs_much_more_than_another(server: LiveServer) -> None:
    # CWE-1333, NEG-15
    values = (
        *(
            "text/html;" * 700,
            "text/html;q=0." + "0" * 7000,
            ",".join(["*/*;q=0.1"] * 700),
            "," * 7000,
            ";" * 7000,
            '"' * 7000,
            'a/b;c="' + "\\" * 7000,
            "a" + " " * 7000 + "x",
        ),
        *(
            "application/vnd.pypi.simple." + "v1+" * 2000,
            "bytes=" + "0-1," * 1500,
            "bytes=" + "0" * 7000,
            'W/"' * 2000,
            '"a", ' * 1400,
            "gzip;q=" * 900,
            "gzip, " * 1100,
        ),
    )
    with httpx.Client(base_url=server.url, timeout=30) as client:

        def ask(value: str) -> None:
            for name in (
                "accept",
                "accept-encoding",
                "if-none-match",
                "range",
                "if-range",
                "authorization",
                "content-type",
                "x-request-id",
            ):
                for path in ("/simple/demo/", f"/simple/demo/{NAME}"):
                    assert client.get(path, headers={name: value.strip()}).status_code < 500

        plain = cost(server, lambda: [ask("a" * 7000) for _ in values])
        assert cost(server, lambda: [ask(value) for value in values]) < FACTOR * plain


def test_no_name_in_an_upload_costs_much_more_than_another(server: LiveServer) -> None:
    # CWE-1333, UP-8
    with httpx.Client(base_url=server.url, timeout=30) as client:

        def send(shape: str) -> None:
            for form, filename in (
                ({"name": shape, "version": "1.0"}, NAME),
                ({"name": "demo", "version": shape}, NAME),
                ({"name": shape, "version": shape}, f"{shape}-{shape}.tar.gz"[:250]),
                ({"name": "demo", "version": "1.0"}, f"demo-{shape}-py3-none-any.whl"),
                (
                    {"name": "demo", "version": "1.0"},
                    "demo-1.0-" + ".".join(["py3"] * 50) + "-" + ".".join(["none"] * 40) + "-any.whl",
                ),
            ):
                assert client.post("/simple/", data=FORM | form, files={"content": (filename, WHEEL)}).status_code == 400

        plain = cost(server, lambda: [send(f"{number:a>240}!") for number in range(len(SHAPES))])
        assert cost(server, lambda: [send(shape) for shape in SHAPES]) < FACTOR * plain


@pytest.mark.parametrize("form", ["json", "html"])
def test_no_name_in_an_upstreams_page_costs_much_more_than_another(
    server: LiveServer, scripted: ScriptedUpstream, form: str
) -> None:
    # CWE-1333, PROXY-5, PROXY-15: thousands of them in one page.
    def page(names: list[str]) -> None:
        if form == "json":
            files = [
                {"filename": name, "url": f"x/{name}", "hashes": {"sha256": name}, "upload-time": name, "requires-python": name}
                for name in names
            ]
            body = json.dumps({"meta": {"api-version": "1.0"}, "name": "redos", "files": files, "versions": names}).encode()
            reply = Reply(body, content_type="application/vnd.pypi.simple.v1+json")
        else:
            links = "".join(
                f'<a href="{html.escape(name)}#sha256={html.escape(name)}" data-requires-python="{html.escape(name)}">{html.escape(name)}</a>\n'
                for name in names
            )
            reply = Reply(f"<!DOCTYPE html>{links}".encode(errors="replace"), content_type="text/html")
        scripted.add("/simple/redos/", reply)
        for accept in ("text/html", JSON["accept"]):
            assert httpx.get(f"{server.url}/simple/redos/", headers={"accept": accept}, timeout=60).status_code == 200

    def named(shapes: tuple[str, ...]) -> list[str]:
        endings = (".whl", ".tar.gz", ".zip", ".exe", ".egg", ".linux-x86_64.tar.gz", "-py3-none-any.whl")
        return [
            f"{start}{shape[:200]}{number}{ending}"
            for number, shape in enumerate(shapes * 8)
            for ending in endings
            for start in ("redos-", "re_dos-", "")
        ]

    plain = cost(server, lambda: page(named(tuple(f"{number:a>200}" for number in range(len(SHAPES))))))
    assert cost(server, lambda: page(named(SHAPES))) < FACTOR * plain
