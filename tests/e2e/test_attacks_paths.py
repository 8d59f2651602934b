"""Attacks by what a request names: paths in every position and spelling, line breaks, and everything that is too long."""

from __future__ import annotations

import contextlib
import http.client
import json
import re
import socket
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import httpx
import pytest

from nora.http.api import api_routes
from nora.testing.harness import exchange
from nora.testing.live import LiveServer
from nora.testing.packages import make_wheel
from nora_pypi.routes import blueprint

SECRET = "do not tell"
CONFIG = '[pypi]\nproxy = ""\n[registries.team]\nformat = "pypi"\nproxy = ""\n'
FORM = {":action": "file_upload", "protocol_version": "1", "name": "demo", "version": "1.0", "filetype": "bdist_wheel"} | {
    "metadata_version": "2.1"
}
NAME, WHEEL = make_wheel("demo", "1.0")
GOOD = {"project": "demo", "version": "1.0", "filename": NAME, "registry": "pypi"}

DOTS = (
    "..",
    "%2e%2e",
    ".%2e",
    "%2E.",
    "%252e%252e",
    "%c0%ae%c0%ae",
    "%e0%80%ae%e0%80%ae",
    "%f0%80%80%ae",
    "..%00",
    "..%0a",
    "..;",
    "....",
)
SLASHES = ("/", "%2f", "%5c", "\\", "%252f", "%c0%af", "%e0%80%af", "%u2215", "%ef%bc%8f", "//", "/./", "%2f%2e%2f")
TARGETS = ("secret.txt", "storage/FORMAT", "etc/passwd", "storage/index/pypi/demo")
HOSTILE = (
    *(dots + slash + TARGETS[number % len(TARGETS)] for number, (dots, slash) in enumerate(product(DOTS, SLASHES))),
    *((dots + slash) * 8 + target for dots, slash, target in product(DOTS[:4], SLASHES[:3], TARGETS[:3])),
    *(
        "%2fetc%2fpasswd",
        "//etc/passwd",
        "%5cetc%5cpasswd",
        "C:%5csecret.txt",
        "%00",
        "demo%00.txt",
        "%00%2fetc%2fpasswd",
        "file:%2f%2f%2fetc%2fpasswd",
    ),
    *(
        "~",
        "~root",
        "%7eroot",
        "-",
        "--help",
        "*",
        "%25",
        "%",
        "%2",
        "%zz",
        "%ff",
        "%ed%a0%80",
        "%f4%90%80%80",
        "CON",
        "nul.",
        "demo.",
        "demo%20",
        "%20",
    ),
    *(
        "%0d%0aX-Evil:%20yes",
        "%0aX-Evil:yes",
        "%e5%98%8a%e5%98%8dX-Evil:yes",
        "a" * 300,
        "%41" * 300,
        ".",
        "%2e",
        "..",
        "%2e%2e",
        "/",
        "",
        "%2f",
        "%252f",
    ),
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("attacked")
    for place in (made, made.parent):
        (place / "secret.txt").write_text(SECRET)
    return made


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[LiveServer]:
    with LiveServer(folder / "storage", CONFIG) as running:
        (folder / "storage" / "secret.txt").write_text(SECRET)
        answer = httpx.post(f"{running.url}/simple/", data=FORM, files={"content": (NAME, WHEEL)})
        assert answer.status_code == 200, answer.text
        yield running
        assert httpx.get(f"{running.url}/simple/demo/{NAME}").content == WHEEL
    assert "Traceback" not in running.log()


def routes() -> Iterator[tuple[str, str]]:
    """Every route of the host's API and of both registries, as method and rule."""
    nobody = cast(Any, SimpleNamespace(public_url="", path="/"))
    for mount, found in (("", blueprint(nobody)), ("/team", blueprint(nobody)), ("/api/v1", api_routes({}))):
        for route in found.routes:
            # HEAD has GET's way; tests/unit/http say so.
            for method in set(route.methods) - {"HEAD"}:
                yield method, mount + route.rule
    yield from (("GET", path) for path in ("/health", "/ready", "/metrics"))


ROUTES = sorted(set(routes()))


def outline(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if "tmp" not in path.parts and path.name != "CHANGES"}


def hostile_paths(rule: str) -> Iterator[str]:
    """The rule with something hostile in place of each parameter, of each fixed part, and behind it."""
    names = re.findall(r"<(\w+)>", rule)
    filled = re.sub(r"<(\w+)>", lambda match: GOOD[match[1]], rule)
    for hostile in HOSTILE:
        for name in names:
            yield re.sub(
                r"<(\w+)>", lambda match, name=name, hostile=hostile: hostile if match[1] == name else GOOD[match[1]], rule
            )
        yield filled.rstrip("/") + "/" + hostile
    for hostile in HOSTILE[::5]:
        yield "/" + hostile + filled


class Asking:
    """Many requests over few connections, each as the very bytes that are given."""

    def __init__(self, server: LiveServer) -> None:
        self._server, self._socket = server, None

    def ask(self, method: str, path: str, fields: str = "") -> tuple[int, http.client.HTTPMessage, bytes]:
        wire = f"{method} {path} HTTP/1.1\r\nHost: nora\r\n{fields}\r\n".encode("latin-1")
        if self._socket is None:
            self._socket = socket.create_connection(("127.0.0.1", self._server.port), timeout=20)
        self._socket.sendall(wire)
        answer = http.client.HTTPResponse(self._socket, method=method)
        answer.begin()
        found = answer.status, answer.headers, answer.read()
        if answer.getheader("connection") != "keep-alive":
            self.close()
        return found

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None


@pytest.fixture
def asking(server: LiveServer) -> Iterator[Asking]:
    made = Asking(server)
    yield made
    made.close()


def test_every_route_is_attacked() -> None:
    # What keeps the test below from passing because it finds nothing to attack.
    rules = {rule for _, rule in ROUTES}
    assert {"/simple/<project>/<filename>", "/team/pypi/<project>/<version>/json", "/legacy/"} <= rules
    assert "/api/v1/registries/<registry>/projects/<project>/versions/<version>/files/<filename>" in rules
    assert all(set(re.findall(r"<(\w+)>", rule)) <= GOOD.keys() for rule in rules), "say what a good value of it is"


@pytest.mark.parametrize(("method", "rule"), ROUTES)
def test_no_path_leads_out_of_the_storage(asking: Asking, folder: Path, method: str, rule: str) -> None:
    # FILE-12, HTTP-16, HTTP-17, CWE-22, CWE-23, CWE-36, CWE-158, CWE-173, CWE-601
    before = outline(folder)
    changing = "DELETE" if method == "DELETE" else ""
    for path in (path for path in dict.fromkeys(hostile_paths(rule)) if not path.endswith("//")):
        # A page of another site: nothing may be changed, so what is there is left alone whatever the path means in the end.
        status, fields, body = asking.ask(method, path, "Sec-Fetch-Site: cross-site\r\n" if changing else "")
        told = f"{method} {path}: {status} {body[:200]!r}"
        assert 200 <= status < 500, told
        assert SECRET.encode() not in body, told
        assert b"root:" not in body, told
        assert "x-evil" not in {name.lower() for name in fields}, told
        for location in fields.get_all("location", []):
            assert not location.startswith(("/", "\\", "http")), f"{told}: redirects to {location}"
            assert "//" not in location.partition("?")[0], f"{told}: redirects to {location}"
    assert outline(folder) == before


UPLOADED_NAMES = (
    *(
        "../demo-1.0-py3-none-any.whl",
        "..\\demo-1.0-py3-none-any.whl",
        "/etc/demo-1.0-py3-none-any.whl",
        "C:\\demo-1.0-py3-none-any.whl",
    ),
    *(
        "a/../../demo-1.0-py3-none-any.whl",
        "%2e%2e%2fdemo-1.0-py3-none-any.whl",
        "demo-1.0-py3-none-any.whl/../x",
        "..",
        ".",
        "",
        "demo-1.0-py3-none-any.whl\0.txt",
    ),
    *(
        "demo-1.0-py3-none-any.whl\r\nX-Evil: yes",
        "demo-1.0-py3-none-any.whl\n",
        "démo-1.0-py3-none-any.whl",
        "\u202edemo-1.0-py3-none-any.whl",
        "d" * 300 + ".whl",
    ),
    *(
        'demo-1.0-py3-none-any.whl"; name="name',
        "demo-..-py3-none-any.whl",
        "~-1.0-py3-none-any.whl",
        "demo-1.0-py3-none-any.whl::$DATA",
    ),
)


@pytest.mark.parametrize("filename", UPLOADED_NAMES)
@pytest.mark.parametrize("style", ["quoted", "extended"])
def test_no_file_name_of_an_upload_becomes_a_path_or_a_field(
    server: LiveServer, folder: Path, filename: str, style: str
) -> None:
    # UP-8, CWE-22, CWE-73, CWE-93. Extended is filename*= of RFC 5987, which RFC 7578 forbids and some parsers prefer.
    before = outline(folder)
    boundary = "b0undary"
    parts = [
        f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n' for name, value in FORM.items()
    ]
    quoted = "".join(f"%{byte:02X}" for byte in filename.encode())
    written = f'filename="{filename}"' if style == "quoted" else f"filename=\"{NAME}\"; filename*=UTF-8''{quoted}"
    head = "".join(parts) + f'--{boundary}\r\nContent-Disposition: form-data; name="content"; {written}\r\n\r\n'
    other = make_wheel("demo", "1.0", size=10)[1]
    body = head.encode() + other + f"\r\n--{boundary}--\r\n".encode()
    answer = httpx.post(
        f"{server.url}/simple/", content=body, headers={"content-type": f"multipart/form-data; boundary={boundary}"}
    )
    # Either the name is refused, or it was cut to that of the file which is there, with other content.
    assert answer.status_code in (400, 409, 413), answer.text
    assert "x-evil" not in answer.headers
    assert answer.text.count("\n") == 1
    assert outline(folder) == before


# CWE-93, CWE-113, CWE-117
BREAKS = (
    "\r\nX-Evil: yes",
    "\nX-Evil: yes",
    "\rX-Evil: yes",
    "\x00",
    "\u2028X-Evil: yes",
    "\x85X-Evil: yes",
    "\x1b[31m",
    "嘊嘍X-Evil: yes",
)


@pytest.mark.parametrize("evil", BREAKS)
def test_what_a_client_says_makes_no_field_no_page_and_no_line_of_the_log(server: LiveServer, evil: str) -> None:
    # HTTP-18, HTML-8
    quoted = "".join(f"%{byte:02X}" for byte in evil.encode())
    version, project = "/api/v1/registries/pypi/projects/demo/versions/1.0", "/api/v1/registries/pypi/projects/demo"
    reason = f"broken{evil}<script>alert(1)</script>"
    with httpx.Client(base_url=server.url) as client:
        answers = [
            client.post(f"{version}/yank", json={"reason": reason}),
            client.get("/simple/demo/", headers={"accept": "text/html"}),
            client.get("/simple/demo/", headers={"accept": "application/vnd.pypi.simple.v1+json"}),
            client.get(f"{project}/history"),
            client.request("DELETE", f"{version}/yank"),
            client.put(f"{project}/status", json={"status": f"archived{evil}"}),
            client.put(f"{project}/status?status=active&reason={quoted}"),
            client.post(f"{version}/yank?file={quoted}"),
            client.get(f"/simple/demo{quoted}/"),
            client.get(f"/simple/Demo/?{quoted}"),
            client.get(f"/simple/demo?{quoted}"),
            client.get(f"/simple/demo/?format={quoted}"),
            client.get(f"/pypi/demo/{quoted}/json"),
            client.get("/simple/demo/", headers={"x-request-id": f"a{quoted}"}),
            client.post("/simple/", data=FORM | {"name": reason, "version": reason}, files={"content": (NAME, WHEEL)}),
            client.post("/simple/", data=FORM | {reason: reason}, files={reason: (reason, WHEEL)}),
        ]
    for answer in answers:
        told = f"{answer.request.method} {answer.request.url}: {answer.status_code} {answer.text[:300]}"
        assert answer.status_code < 500, told
        assert "x-evil" not in answer.headers, told
        assert not any(character in value for value in answer.headers.values() for character in "\r\n\0\x1b"), told
        if answer.headers.get("content-type", "").startswith("text/html"):
            assert "<script" not in answer.text, told
        elif answer.status_code >= 400:
            assert answer.headers["content-type"] == "text/plain; charset=utf-8", told
            assert answer.headers["x-content-type-options"] == "nosniff", told
            assert answer.text.count("\n") == 1, told
    log = server.log()
    assert "\nX-Evil" not in log
    assert "\rX-Evil" not in log
    assert not any(character in log for character in "\0\x1b\x85\u2028")


def test_raw_control_characters_in_a_request_stay_out_of_answer_and_log(server: LiveServer) -> None:
    # CWE-93, CWE-117: not percent-encoded, as no library would send them.
    for number in (*range(1, 32), 127, 128, 133, 160, 255):
        if number in (10, 13):
            continue
        odd = bytes([number])
        for wire in (
            b"GET /simple/de" + odd + b"mo/ HTTP/1.1\r\nHost: x\r\n\r\n",
            b"GET /simple/Demo/?a=" + odd + b" HTTP/1.1\r\nHost: x\r\n\r\n",
            b"G" + odd + b"ET /simple/demo/ HTTP/1.1\r\nHost: x\r\n\r\n",
            b"GET /simple/demo/ HTTP/1.1\r\nHost: x\r\nX-Request-ID: a" + odd + b"\r\n\r\n",
            b"GET /simple/demo/ HTTP/1.1\r\nHost: x\r\nAccept: text/html" + odd + b"\r\n\r\n",
            b"GET /simple/demo/ HTTP/1.1\r\nHost: x" + odd + b"\r\n\r\n",
        ):
            status, fields, _ = exchange(server, wire)
            assert 200 <= status < 500, wire
            assert all(value.isprintable() for value in fields.values()), wire
    log = server.log()
    assert all(line.isprintable() for line in log.splitlines()), [line for line in log.splitlines() if not line.isprintable()]


@pytest.mark.parametrize(
    "host",
    [
        'evil.example"><script>alert(1)</script>',
        "evil.example/../..",
        "evil.example\\@x",
        "[",
        "a:b:c",
        "",
        "localhost.evil.example",
        "x" * 5000,
    ],
)
def test_a_host_field_is_never_taken_for_ours(server: LiveServer, host: str) -> None:
    # CWE-644, CWE-79: it makes no link in a page, and no redirect.
    for path in ("/simple/demo/", "/simple/Demo", "/simple/", "/simple", "/pypi/Demo/json"):
        for accept in ("text/html", "application/vnd.pypi.simple.v1+json"):
            status, fields, body = exchange(server, f"GET {path} HTTP/1.1\r\nHost: {host}\r\nAccept: {accept}\r\n\r\n".encode())
            assert status < 500
            assert b"evil.example" not in body
            assert b"<script" not in body
            assert "evil.example" not in fields.get("location", "")


@pytest.mark.parametrize(
    ("what", "wire"),
    [
        ("path", b"GET /simple/" + b"a" * 1_000_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n"),
        ("query", b"GET /simple/?" + b"a=b&" * 250_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n"),
        ("segments", b"GET " + b"/a" * 500_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n"),
        ("encoded segments", b"GET /simple" + b"/%2e%2e" * 100_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n"),
        ("method", b"G" * 1_000_000 + b" / HTTP/1.1\r\nHost: x\r\n\r\n"),
        ("field", b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 1_000_000 + b"\r\n\r\n"),
        ("name of a field", b"GET / HTTP/1.1\r\nHost: x\r\n" + b"a" * 1_000_000 + b": x\r\n\r\n"),
        ("fields", b"GET / HTTP/1.1\r\nHost: x\r\n" + b"X: a\r\n" * 200_000 + b"\r\n"),
        ("credentials", b"GET /simple/ HTTP/1.1\r\nHost: x\r\nAuthorization: Basic " + b"YTph" * 250_000 + b"\r\n\r\n"),
        ("ranges", b"GET /simple/demo/x HTTP/1.1\r\nHost: x\r\nRange: bytes=" + b"0-0," * 250_000 + b"0-0\r\n\r\n"),
        ("cookies", b"GET /simple/ HTTP/1.1\r\nHost: x\r\nCookie: " + b"a=b;" * 250_000 + b"\r\n\r\n"),
        ("no line at all", b"\x00" * 1_000_000),
        ("nothing but line breaks", b"\r\n" * 500_000),
    ],
)
def test_a_head_that_is_too_large_is_refused_and_costs_little(server: LiveServer, what: str, wire: bytes) -> None:
    # HTTP-17, CWE-400, CWE-770
    before = server.peak_memory_mb()
    for _ in range(3):
        # A client that goes on sending may be cut before it reads the refusal.
        with contextlib.suppress(OSError, http.client.HTTPException):
            status, _, _ = exchange(server, wire)
            assert 400 <= status < 500
    assert server.peak_memory_mb() - before < 16
    assert httpx.get(f"{server.url}/health").status_code == 200


@pytest.mark.parametrize(
    ("path", "body", "fields"),
    [
        ("/yank", b"[" * 100_000, {}),
        ("/yank", b'{"reason":' * 50_000, {}),
        ("/yank", b'{"reason": "' + b"\\u0041" * 100_000 + b'"}', {}),
        ("/yank", b'{"reason": ' + b"9" * 100_000 + b"}", {}),
        ("/yank", b'{"reason": 1e999999999}', {}),
        ("/yank", b"\xff\xfe{\0}\0", {}),
        ("/yank", b"{" + b",".join(b'"%d":1' % number for number in range(50_000)) + b"}", {}),
        ("/yank", b'{"reason": "x"}', {"content-encoding": "gzip"}),
        ("/yank", json.dumps({"reason": "x" * 900_000}).encode(), {}),
        ("/yank?" + "&".join(f"a{number}=1" for number in range(900)), b"", {}),
    ],
)
def test_a_hostile_document_is_refused_or_harmless(server: LiveServer, path: str, body: bytes, fields: dict[str, str]) -> None:
    # CWE-400, CWE-674, CWE-1284
    url = f"{server.url}/api/v1/registries/pypi/projects/demo/versions/1.0{path}"
    answer = httpx.post(url, content=body, headers={"content-type": "application/json"} | fields)
    assert answer.status_code < 500, answer.text
    assert len(answer.content) < 10_000
    assert httpx.request("DELETE", f"{server.url}/api/v1/registries/pypi/projects/demo/versions/1.0/yank").status_code == 200
