"""HTTPS by Nora itself: real clients, large files, stops, and certificates that are exchanged while it runs."""

from __future__ import annotations

import datetime
import http.client
import os
import re
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
import trustme

from nora.testing.live import LiveServer
from nora.testing.packages import make_sdist, make_wheel
from nora.testing.upstream import Reply, ScriptedUpstream, Synthetic, sha256_of

HOSTED_ONLY = '[pypi]\nproxy = ""\n'
CREDENTIALS = ("-u", "somebody", "-p", "secret")
GIGABYTE = 1_000_000_000
MAX_MEMORY_MB = 150
WHEEL = "demo-1.0-py3-none-any.whl"


class Certificate:
    """Files of a certificate for this machine's servers, and of the authority that clients are to trust."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self._authority = trustme.CA()
        self.cert, self.key, self.ca = folder / "fullchain.pem", folder / "privkey.pem", folder / "ca.pem"
        self._authority.cert_pem.write_to_path(str(self.ca))
        self.issue("first.example")

    def issue(self, name: str, **options: Any) -> None:
        """Write a certificate that tells itself from others by this name."""
        made = self._authority.issue_cert("127.0.0.1", name, **options)
        self.cert.write_bytes(b"".join(blob.bytes() for blob in made.cert_chain_pems))
        self.key.write_bytes(made.private_key_pem.bytes())
        self.key.chmod(0o600)

    def server(self, storage: Path, config: str = HOSTED_ONLY, **options: Any) -> LiveServer:
        env = {"NORA_TLS_CERT": str(self.cert), "NORA_TLS_KEY": str(self.key), **options.pop("env", {})}
        return LiveServer(storage, config, env=env, ca=self.ca, **options)

    @property
    def trust(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=self.ca)

    def client(self, server: LiveServer, **options: Any) -> httpx.Client:
        return httpx.Client(base_url=server.url, verify=self.trust, timeout=30, **options)

    def connect(self, server: LiveServer) -> ssl.SSLSocket:
        return self.trust.wrap_socket(
            socket.create_connection(("127.0.0.1", server.port), timeout=60), server_hostname="127.0.0.1"
        )

    def shown(self, server: LiveServer) -> str:
        """The name in the certificate that a new connection gets to see."""
        with self.connect(server) as connection:
            names = (connection.getpeercert() or {})["subjectAltName"]
        return next(name for kind, name in names if kind == "DNS")


@pytest.fixture
def certificate(tmp_path: Path) -> Certificate:
    return Certificate(tmp_path / "certificate")


@pytest.fixture(autouse=True)
def no_authority_by_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Clients trust what their options say: these variables would win."""
    for name in ("REQUESTS_CA_BUNDLE", "SSL_CERT_FILE", "SSL_CERT_DIR"):
        monkeypatch.delenv(name, raising=False)


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, "it did not come about"
        time.sleep(0.02)


# Clients


def test_twine_uploads_and_pip_and_uv_install(clients: Any, tmp_path: Path, dist: Path, certificate: Certificate) -> None:
    files = []
    for name, content in (make_wheel("demo", "1.0", size=3_000_000), make_sdist("only-source", "2.0")):
        (dist / name).write_bytes(content)
        files.append(str(dist / name))
    ca = str(certificate.ca)
    with certificate.server(tmp_path / "store") as server:
        index = f"{server.url}/simple/"
        uploading = ("upload", "--disable-progress-bar", "--cert", ca, *CREDENTIALS, "--repository-url", index, *files)
        done = clients.tool("twine", *uploading)
        assert done.status == 0, done.output
        python = clients.venv("pip")
        done = clients.pip(python, "install", "--cert", ca, "--index-url", index, "demo", "only-source")
        assert done.status == 0, done.output
        python = clients.venv("uv")
        installing = ("pip", "install", "--no-cache", "--no-config", "--python", str(python), "--index-url", index)
        done = clients.tool("uv", *installing, "demo", "only-source", env={"SSL_CERT_FILE": ca})
        assert done.status == 0, done.output
        shown = clients.run(str(python), "-c", "import demo, only_source; print(demo.__version__)")
        assert shown.output.strip() == "1.0"
        # A client that does not trust the authority gets nothing.
        python = clients.venv("distrustful")
        assert clients.pip(python, "install", "--retries", "0", "--index-url", index, "demo").status != 0


def test_pages_keep_relative_links_and_the_json_api_says_https(tmp_path: Path, certificate: Certificate) -> None:
    name, content = make_wheel("demo", "1.0")
    form = {":action": "file_upload", "protocol_version": "1", "name": "demo", "version": "1.0"}
    form |= {"filetype": "bdist_wheel", "metadata_version": "2.1"}
    with certificate.server(tmp_path / "store") as server, certificate.client(server) as client:
        assert client.post("/simple/", data=form, files={"content": (name, content)}).status_code == 200
        page = client.get("/simple/demo/", headers={"accept": "application/vnd.pypi.simple.v1+json"}).json()
        assert [file["url"] for file in page["files"]] == [name]
        described = client.get("/pypi/demo/json").json()
        assert [file["url"] for file in described["urls"]] == [f"{server.url}/simple/demo/{name}"]
        answer = client.get(f"/simple/demo/{name}")
        assert answer.content == content
        again = client.get(f"/simple/demo/{name}", headers={"if-none-match": answer.headers["etag"]})
        assert (again.status_code, again.content) == (304, b"")
        part = client.get(f"/simple/demo/{name}", headers={"range": "bytes=10-19"})
        assert (part.status_code, part.content) == (206, content[10:20])
        assert client.get("/simple/demo").headers["location"] == "demo/"
        log = server.log()
        assert f"url=https://127.0.0.1:{server.port}/ " in log
        assert f"path=/simple/demo/{name} status=206" in log


def test_a_page_that_is_asked_for_again_is_the_same_and_comes_whole_to_who_reads_slowly(
    tmp_path: Path, upstream: ScriptedUpstream, certificate: Certificate
) -> None:
    """By the cache of prepared answers, which encrypted connections use, too."""
    wheel = make_wheel("demo", "1.0")[1]
    upstream.add_project("demo", {f"demo-1.{number}-py3-none-any.whl": wheel for number in range(1200)})
    config = f'[pypi]\nproxy = "{upstream.simple_url}"\nmetadata_ttl = 3600\n'
    request = b"GET /simple/demo/ HTTP/1.1\r\nHost: x\r\nAccept: application/vnd.pypi.simple.v1+json\r\n\r\n"
    of_the_moment = re.compile(rb"\r\n(?:date|x-request-id): [^\r]+")

    def answer(connection: ssl.SSLSocket) -> bytes:
        received = b""
        while b"\r\n\r\n" not in received:
            received += connection.recv(1000)
        head, _, body = received.partition(b"\r\n\r\n")
        length = int(re.search(rb"content-length: ([0-9]+)", head)[1])  # type: ignore[index]
        while len(body) < length:
            body += connection.recv(1000)
        return of_the_moment.sub(b"", head) + body

    with certificate.server(tmp_path / "store", config) as server, certificate.client(server) as client:
        with certificate.connect(server) as connection:
            answers = []
            for _ in range(6):
                connection.sendall(request)
                answers.append(answer(connection))
        assert len(set(answers)) == 1
        assert 200_000 < len(answers[0]) < 512 * 1024
        slow = socket.socket()
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        slow.connect(("127.0.0.1", server.port))
        with certificate.trust.wrap_socket(slow, server_hostname="127.0.0.1") as connection:
            # Nothing is read until others were answered.
            connection.sendall(request)
            assert {client.get("/simple/demo/").status_code for _ in range(20)} == {200}
            assert answer(connection) == answers[0]
        hits = re.search(r"^nora_page_cache_hits_total\{.*\} ([0-9.]+)$", client.get("/metrics").text, re.MULTILINE)
        assert hits is not None
        assert float(hits[1]) >= 5


def test_a_link_to_provenance_says_https(tmp_path: Path, upstream: ScriptedUpstream, certificate: Certificate) -> None:
    # PROV-1: such links are whole, and on this machine they lead to the address that was asked.
    upstream.add_project("demo", {WHEEL: b"x" * 100}, extra={WHEEL: {"provenance": f"{upstream.url}/provenance"}})
    config = f'[pypi]\nproxy = "{upstream.simple_url}"\n'
    with certificate.server(tmp_path / "store", config) as server, certificate.client(server) as client:
        (file,) = client.get("/simple/demo/", headers={"accept": "application/vnd.pypi.simple.v1+json"}).json()["files"]
        assert file["provenance"] == f"{server.url}/simple/demo/{WHEEL}.provenance"


# Large and growing files


def test_a_file_comes_while_it_is_fetched(
    tmp_path: Path, upstream: ScriptedUpstream, certificate: Certificate, download: Any
) -> None:
    body = Synthetic(20_000_000)
    upstream.add_project("demo", {WHEEL: body})
    upstream.add(f"/files/demo/{WHEEL}", Reply(body, pause_seconds=0.002))
    with certificate.server(tmp_path / "store", f'[pypi]\nproxy = "{upstream.simple_url}"\n') as server:
        with ThreadPoolExecutor(8) as pool:
            done = pool.map(lambda _: download(certificate.connect(server), f"/simple/demo/{WHEEL}"), range(8))
            assert set(done) == {(body.size, sha256_of(body))}
        assert upstream.count(f"/files/demo/{WHEEL}") == 1


@pytest.mark.slow
def test_memory_stays_bounded_while_clients_fetch_a_gigabyte_or_do_not_read_it(
    tmp_path: Path, upstream: ScriptedUpstream, certificate: Certificate, download: Any
) -> None:
    body = Synthetic(GIGABYTE)
    upstream.add_project("demo", {WHEEL: body})
    digest = sha256_of(body)
    path = f"/simple/demo/{WHEEL}"
    with certificate.server(tmp_path / "store", f'[pypi]\nproxy = "{upstream.simple_url}"\n') as server:
        stalled = [certificate.connect(server) for _ in range(50)]
        for connection in stalled:
            connection.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        for _ in ("cold", "warm"):
            with ThreadPoolExecutor(4) as pool:
                results = list(pool.map(lambda _: download(certificate.connect(server), path), range(4)))
            assert set(results) == {(GIGABYTE, digest)}
            assert server.peak_memory_mb() < MAX_MEMORY_MB
        for connection in stalled:
            connection.close()
        assert upstream.count(f"/files/demo/{WHEEL}") == 1


# Stopping


@pytest.mark.parametrize("workers", [1, 2])
def test_a_stop_lets_a_download_in_flight_finish_and_waits_for_nobody_else(
    tmp_path: Path, upstream: ScriptedUpstream, certificate: Certificate, workers: int
) -> None:
    # DUR-3
    body = Synthetic(5_000_000)
    upstream.add_project("demo", {WHEEL: body})
    upstream.add(f"/files/demo/{WHEEL}", Reply(body, pause_seconds=0.05))
    config = f'[server]\nshutdown_timeout = 600\n[pypi]\nproxy = "{upstream.simple_url}"\n'
    with (
        certificate.server(tmp_path / "store", config, workers=workers) as server,
        socket.create_connection(("127.0.0.1", server.port)) as hanging,
        certificate.client(server) as idle,
        certificate.client(server) as busy,
    ):
        hanging.sendall(b"\x16\x03\x01")
        assert idle.get("/health").status_code == 200
        with busy.stream("GET", f"/simple/demo/{WHEEL}") as answer:
            pieces = answer.iter_raw(4096)
            received = next(pieces)
            os.kill(server.pid, signal.SIGTERM)
            received += b"".join(pieces)
        assert received == body.read(0, body.size)
        assert server.stop(timeout=30) == 0


# Another certificate


@pytest.mark.parametrize("workers", [1, 2])
def test_sighup_exchanges_the_certificate_and_a_bad_one_leaves_the_first_in_place(
    tmp_path: Path, certificate: Certificate, workers: int
) -> None:
    def many() -> set[str]:
        # The kernel chooses the process for a connection.
        return {certificate.shown(server) for _ in range(20)}

    with certificate.server(tmp_path / "store", workers=workers) as server, certificate.client(server) as client:
        assert many() == {"first.example"}
        assert client.get("/health").status_code == 200
        certificate.issue("second.example")
        assert many() == {"first.example"}
        os.kill(server.pid, signal.SIGHUP)
        until(lambda: many() == {"second.example"})
        # On the connection from before.
        assert client.get("/health").status_code == 200
        good = certificate.key.read_bytes()
        certificate.key.write_bytes(b"nonsense")
        os.kill(server.pid, signal.SIGHUP)
        until(lambda: "not reloaded" in server.log())
        assert many() == {"second.example"}
        certificate.key.write_bytes(good)
        expired = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=1)
        certificate.issue("third.example", not_before=expired - datetime.timedelta(days=9), not_after=expired)
        os.kill(server.pid, signal.SIGHUP)
        until(lambda: server.log().count("not reloaded") == 2)
        assert many() == {"second.example"}
        assert client.get("/health").status_code == 200
        assert server.stop() == 0
    # One line for each, also of several processes; and no part of a key in any.
    told = [line for line in server.log().splitlines() if "not reloaded" in line]
    assert len(told) == 2
    assert f"'{certificate.key}' holds no PEM private key" in told[0]
    assert "certificate has expired" in told[1]
    assert "nonsense" not in server.log()


@pytest.mark.parametrize("workers", [1, 2])
def test_sighup_without_a_certificate_harms_nothing(tmp_path: Path, workers: int) -> None:
    with LiveServer(tmp_path / "store", HOSTED_ONLY, workers=workers) as server:
        before = server.worker_pids()
        for pid in {server.pid, *before}:
            os.kill(pid, signal.SIGHUP)
        until(lambda: server.log().count("nothing to reload") == len({server.pid, *before}))
        assert httpx.get(f"{server.url}/health").status_code == 200
        assert server.worker_pids() == before
        assert server.stop() == 0


@pytest.mark.parametrize("workers", [1, 2])
def test_sighup_at_any_moment_of_the_start_harms_nothing(tmp_path: Path, certificate: Certificate, workers: int) -> None:
    holder = socket.socket()
    holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    holder.bind(("127.0.0.1", 0))
    port = holder.getsockname()[1]
    options = ("--host=127.0.0.1", f"--port={port}", f"--workers={workers}", f"--storage={tmp_path / 'store'}")
    environ = {name: value for name, value in os.environ.items() if not name.startswith("NORA_")}
    environ |= {"NORA_TLS_CERT": str(certificate.cert), "NORA_TLS_KEY": str(certificate.key), "NORA_PYPI_PROXY": ""}
    log = tmp_path / "log"

    def healthy() -> bool:
        connection = http.client.HTTPSConnection("127.0.0.1", port, timeout=1, context=certificate.trust)
        with suppress(OSError):
            connection.request("GET", "/health")
            return connection.getresponse().status == 200
        return False

    def ignored() -> bool:
        blocked, caught = (
            int(line.split()[1], 16)
            for line in Path(f"/proc/{server.pid}/status").read_text().splitlines()
            if line.startswith(("SigBlk", "SigCgt"))
        )
        return bool((blocked | caught) & 1)

    with log.open("wb") as output:
        command = [sys.executable, "-m", "nora", "serve", *options]
        server = subprocess.Popen(command, stdout=output, stderr=output, cwd=tmp_path, env=environ)
    try:
        # Before its first line Python runs, it is a process like any other.
        until(ignored)
        while not healthy():
            assert server.poll() is None, log.read_text()
            server.send_signal(signal.SIGHUP)
        server.terminate()
        assert server.wait(30) == 0
        assert "worker died" not in log.read_text()
        assert "certificate reloaded" in log.read_text()
    finally:
        server.kill()
        server.wait()
        holder.close()


# Configurations that cannot work


@pytest.mark.parametrize("command", ["serve", "check"])
@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda made: made.key.unlink(), "server.tls_key: '{key}' cannot be read: No such file or directory"),
        (lambda made: made.cert.write_bytes(b""), "server.tls_cert: '{cert}' holds no PEM certificate"),
        (
            lambda made: made.key.write_bytes(trustme.CA().issue_cert("x").private_key_pem.bytes()),
            "server.tls_key: '{key}' is not the key",
        ),
    ],
    ids=["missing", "empty", "another key"],
)
def test_what_cannot_work_is_one_line_and_the_start_stops_with_status_2(
    clients: Any, tmp_path: Path, certificate: Certificate, command: str, spoil: Callable[[Certificate], None], said: str
) -> None:
    # CONF-1
    spoil(certificate)
    config = tmp_path / "broken.toml"
    config.write_text(f'[server]\ntls_cert = "{certificate.cert}"\ntls_key = "{certificate.key}"\n')
    done = clients.tool("nora", command, "--config", str(config), "--storage", str(tmp_path / "store"))
    assert done.status == 2, done.output
    assert done.output.count("\n") == 1
    assert said.format(cert=certificate.cert, key=certificate.key) in done.output


def test_a_key_that_everybody_can_read_is_warned_of_and_works(clients: Any, tmp_path: Path, certificate: Certificate) -> None:
    certificate.key.chmod(0o644)
    with certificate.server(tmp_path / "store") as server:
        assert "is open to all users of this machine" in server.log()
    config = tmp_path / "good.toml"
    config.write_text(f'[server]\ntls_cert = "{certificate.cert}"\ntls_key = "{certificate.key}"\n')
    done = clients.tool("nora", "check", "--config", str(config), "--storage", str(tmp_path / "store"))
    assert done.status == 0, done.output
    assert "nora: warning: server.tls_key: " in done.output
