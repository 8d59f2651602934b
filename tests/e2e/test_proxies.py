"""Nora behind nginx, by the example that users are given."""

from __future__ import annotations

import os
import re
import shutil
import socket
import ssl
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import trustme

from nora.testing.live import LiveServer
from nora.testing.packages import make_wheel
from nora.testing.upstream import Reply, ScriptedUpstream

pytestmark = pytest.mark.nginx

EXAMPLE = Path(__file__).parents[2] / "examples/nginx.conf"
HOSTED_ONLY = '[pypi]\nproxy = ""\n'
CREDENTIALS = ("-u", "somebody", "-p", "secret")


@pytest.fixture(scope="module")
def nginx() -> str:
    """The program. Debian has it where only root looks."""
    found = shutil.which("nginx", path=os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin")))
    if found is None:
        reason = "nginx is not installed: apt-get install nginx-light"
        if os.environ.get("NORA_TEST_REQUIRE_NGINX"):
            pytest.fail(reason)
        pytest.skip(reason)
    return found


@pytest.fixture(autouse=True)
def no_authority_by_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Clients trust what their options say: these variables would win."""
    for name in ("REQUESTS_CA_BUNDLE", "SSL_CERT_FILE", "SSL_CERT_DIR"):
        monkeypatch.delenv(name, raising=False)


class Proxy:
    """nginx, as the example has it, in front of a server."""

    def __init__(self, port: int, plain_port: int, ca: Path, log: Path) -> None:
        self.url, self.plain_url = f"https://127.0.0.1:{port}", f"http://127.0.0.1:{plain_port}"
        self.ca, self._log = ca, log

    def client(self) -> httpx.Client:
        return httpx.Client(base_url=self.url, verify=ssl.create_default_context(cafile=self.ca), timeout=60)

    def log(self) -> str:
        """What nginx had to complain of: nothing, as a rule."""
        return self._log.read_text()


@pytest.fixture
def proxied(nginx: str, tmp_path: Path) -> Callable[..., Any]:
    """``with proxied(port) as proxy``: nginx in front of the server on this port of the loopback interface.

    ``changes`` are parts of the example that are to be others.
    """

    @contextmanager
    def start(upstream_port: int, changes: Mapping[str, str] = {}) -> Iterator[Proxy]:
        folder = tmp_path / "nginx"
        folder.mkdir()
        authority = trustme.CA()
        issued = authority.issue_cert("127.0.0.1")
        authority.cert_pem.write_to_path(str(folder / "ca.pem"))
        (folder / "fullchain.pem").write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
        issued.private_key_pem.write_to_path(str(folder / "privkey.pem"))
        with ExitStack() as stack:
            secure, plain = (stack.enter_context(reserved_port()) for _ in range(2))
            replaced = {
                "server 127.0.0.1:4000;": f"server 127.0.0.1:{upstream_port};",
                "listen 80;": f"listen 127.0.0.1:{plain};",
                "listen 443 ssl;": f"listen 127.0.0.1:{secure} ssl;",
                "/etc/ssl/registry.example.com/": f"{folder}/",
                **changes,
                "http {\n": "http {\n" + "".join(f"    {kind}_temp_path {folder}/{kind};\n" for kind in TEMPORARY),
            }
            text = EXAMPLE.read_text()
            for old, new in replaced.items():
                assert old in text, f"the example has no {old!r} any more"
                text = text.replace(old, new)
            (folder / "nginx.conf").write_text(text)
            log = folder / "error.log"
            settings = f"daemon off; pid {folder}/nginx.pid; error_log {log} warn;"
            if os.geteuid() == 0:
                settings += " user root;"
            command = [nginx, "-p", str(folder), "-e", str(log), "-c", str(folder / "nginx.conf"), "-g", settings]
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL)
            try:
                wait_for(plain, process, log)
                yield Proxy(secure, plain, folder / "ca.pem", log)
            finally:
                process.terminate()
                assert process.wait(30) == 0

    return start


TEMPORARY = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")


@contextmanager
def reserved_port() -> Iterator[int]:
    """A port that on Linux nobody else gets, and that nginx can listen on all the same."""
    with socket.socket() as holder:
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        holder.bind(("127.0.0.1", 0))
        yield holder.getsockname()[1]


def wait_for(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 30
    while True:
        assert process.poll() is None, log.read_text()
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.02)


def test_clients_upload_and_install_through_it(clients: Any, tmp_path: Path, dist: Path, proxied: Any) -> None:
    name, content = make_wheel("large", "1.0", size=60_000_000)
    (dist / name).write_bytes(content)
    with LiveServer(tmp_path / "store", HOSTED_ONLY) as server, proxied(server.port) as proxy:
        index, ca = f"{proxy.url}/simple/", str(proxy.ca)
        uploading = ("upload", "--disable-progress-bar", "--cert", ca, *CREDENTIALS, "--repository-url", index)
        done = clients.tool("twine", *uploading, str(dist / name))
        assert done.status == 0, done.output
        done = clients.pip(clients.venv("pip"), "install", "--cert", ca, "--index-url", index, "large")
        assert done.status == 0, done.output
        python = clients.venv("uv")
        installing = ("pip", "install", "--no-cache", "--no-config", "--python", str(python), "--index-url", index)
        done = clients.tool("uv", *installing, "large", env={"SSL_CERT_FILE": ca})
        assert done.status == 0, done.output
        with proxy.client() as client:
            path = f"/simple/large/{name}"
            answer = client.get(path)
            assert answer.content == content
            again = client.get(path, headers={"if-none-match": answer.headers["etag"]})
            assert (again.status_code, again.content) == (304, b"")
            for asked, part in (
                ("0-9", content[:10]),
                ("50000000-55999999", content[50_000_000:56_000_000]),
                ("-5", content[-5:]),
            ):
                ranged = client.get(path, headers={"range": f"bytes={asked}", "if-range": answer.headers["etag"]})
                assert (ranged.status_code, ranged.content) == (206, part)
            assert client.head(path).headers["content-length"] == str(len(content))
            page = client.get("/simple/large/", headers={"accept-encoding": "gzip"})
            assert page.status_code == 200
            revalidated = client.get(
                "/simple/large/", headers={"accept-encoding": "gzip", "if-none-match": page.headers["etag"]}
            )
            assert revalidated.status_code == 304
            # Links are relative, and so are redirects.
            assert client.get("/simple/large").headers["location"] == "large/"
            assert client.get("/metrics").status_code == 200
        # It would say so if anything had been put on its disk.
        assert proxy.log() == ""


def test_whole_links_are_those_of_the_public_address(tmp_path: Path, dist: Path, proxied: Any) -> None:
    name, content = make_wheel("demo", "1.0")
    form = {":action": "file_upload", "protocol_version": "1", "name": "demo", "version": "1.0"}
    form |= {"filetype": "bdist_wheel", "metadata_version": "2.1"}
    config = '[server]\npublic_url = "https://registry.example.com"\n' + HOSTED_ONLY
    with LiveServer(tmp_path / "store", config) as server, proxied(server.port) as proxy, proxy.client() as client:
        assert client.post("/simple/", data=form, files={"content": (name, content)}).status_code == 200
        urls = [file["url"] for file in client.get("/pypi/demo/json").json()["urls"]]
        assert urls == [f"https://registry.example.com/simple/demo/{name}"]


def test_what_nora_is_told_of_a_request(upstream: ScriptedUpstream, proxied: Any) -> None:
    upstream.add("/x", Reply(b"here"))
    port = int(upstream.url.rpartition(":")[2])
    with proxied(port) as proxy, proxy.client() as client:
        spoofed = {"x-forwarded-for": "198.51.100.7", "x-forwarded-proto": "http", "host": "registry.example.com"}
        assert client.get("/x", headers=spoofed).content == b"here"
        assert client.get("/x").content == b"here"
    first, second = (request.headers for request in upstream.requests)
    assert (first["x-forwarded-for"], first["x-forwarded-proto"]) == ("127.0.0.1", "https")
    assert first["host"] == "registry.example.com"
    assert second["host"] == proxy.url.removeprefix("https://")
    # Without these, nginx would speak HTTP/1.0 and close after each request.
    assert "connection" not in first


def test_nora_knows_the_clients_address_as_the_examples_comment_has_it(tmp_path: Path, proxied: Any) -> None:
    settings = re.findall(r"^#   (trusted_proxies = \[.*?\])", EXAMPLE.read_text(), re.MULTILINE)
    assert len(settings) == 1
    with LiveServer(tmp_path / "store", f"[server]\n{settings[0]}\n{HOSTED_ONLY}") as server, proxied(server.port) as proxy:
        trust = ssl.create_default_context(cafile=proxy.ca)
        transport = httpx.HTTPTransport(verify=trust, local_address="127.0.0.2")
        with httpx.Client(base_url=proxy.url, transport=transport) as client:
            assert client.get("/simple/", headers={"x-forwarded-for": "198.51.100.7"}).status_code == 200
        # The line is written when the answer is gone, which its reader may know before.
        for _ in range(200):
            if lines := [line for line in server.log().splitlines() if "path=/simple/ " in line]:
                break
            time.sleep(0.02)
        assert [" client=127.0.0.2 " in line for line in lines] == [True]


def test_uploads_flow_through_while_they_are_sent(tmp_path: Path, proxied: Any) -> None:
    """The server sees the head of a request before its body has left the client."""
    with socket.create_server(("127.0.0.1", 0)) as listener, proxied(listener.getsockname()[1]) as proxy:
        listener.settimeout(30)
        trust = ssl.create_default_context(cafile=proxy.ca)
        port = int(proxy.url.rpartition(":")[2])
        with trust.wrap_socket(socket.create_connection(("127.0.0.1", port)), server_hostname="127.0.0.1") as client:
            client.sendall(b"POST /simple/ HTTP/1.1\r\nHost: x\r\nContent-Length: 5000000000\r\n\r\nbegun")
            connection, _ = listener.accept()
            with connection:
                connection.settimeout(30)
                received = b""
                while not received.endswith(b"begun"):
                    received += connection.recv(65536)
                assert b"\r\nContent-Length: 5000000000\r\n" in received
                connection.sendall(b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
                client.settimeout(30)
                assert client.recv(65536).startswith(b"HTTP/1.1 413")


def test_plain_http_leads_to_https(tmp_path: Path, proxied: Any) -> None:
    with LiveServer(tmp_path / "store", HOSTED_ONLY) as server, proxied(server.port) as proxy:
        answer = httpx.get(f"{proxy.plain_url}/simple/?x=1", headers={"host": "registry.example.com"})
        assert (answer.status_code, answer.headers["location"]) == (301, "https://registry.example.com/simple/?x=1")


def test_trusted_publishing_is_passed_on_at_the_root_beside_a_server_with_a_path(
    proxied: Callable[..., Any], tmp_path: Path
) -> None:
    location = re.search(r"^#   (location /_/oidc/ \{ .*? \})", EXAMPLE.read_text(), re.MULTILINE)
    assert location is not None
    users = tmp_path / "users"
    users.touch()
    config = f"""
    [server]
    public_url = "https://registry.example.com/nora"
    [auth]
    enabled = true
    htpasswd_file = "{users}"
    [[auth.trusted_publishers]]
    issuer = "https://ci.example"
    claims = {{ repository = "acme/demo" }}
    projects = ["demo"]
    [pypi]
    proxy = ""
    """
    changes = {
        "location / {\n            proxy_pass http://nora;": f"{location[1]}\n location /nora/ {{\n proxy_pass http://nora/;"
    }
    with LiveServer(tmp_path / "store", config) as server, proxied(server.port, changes) as proxy, proxy.client() as client:
        assert client.get("/_/oidc/audience").json() == {"audience": "https://registry.example.com/nora"}
        answer = client.post("/_/oidc/mint-token", json={"token": "a.b.c"})
        assert (answer.status_code, answer.json()["errors"][0]["code"]) == (422, "invalid-token")
        assert client.get("/nora/health").status_code == 200
        assert client.get("/nora/simple/").status_code == 401
        assert client.get("/simple/").status_code == 404
