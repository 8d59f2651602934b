"""An upstream that attacks: bombs, endless answers, hostile pages."""

from __future__ import annotations

import gzip
import html
import json
import re
import zlib
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from nora.testing.live import LiveServer
from nora.testing.packages import make_wheel
from nora.testing.upstream import Reply, ScriptedUpstream, Synthetic

JSON_TYPE = "application/vnd.pypi.simple.v1+json"
JSON = {"accept": JSON_TYPE}
HTML = {"accept": "text/html"}
NAME, WHEEL = make_wheel("demo", "1.0")
ROOM_MB = 400
"""What a page of the largest size that is allowed (64 MB) may take at most, received, decoded and refused. What is sent here would take gigabytes."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("hostile")
    (made / "secret.txt").write_text("do not tell")
    return made


@pytest.fixture(scope="module")
def server(folder: Path, scripted: ScriptedUpstream) -> Iterator[LiveServer]:
    config = f'[pypi]\nproxy = "{scripted.simple_url}"\nproxy_timeout = 2\nmetadata_ttl = 0\n'
    with LiveServer(folder / "store", config) as running:
        before = running.peak_memory_mb()
        yield running
        assert running.peak_memory_mb() - before < ROOM_MB
        scripted.add_project("good", {NAME.replace("demo", "good"): WHEEL})
        assert httpx.get(f"{running.url}/simple/good/", headers=JSON).status_code == 200
    assert "Traceback" not in running.log()


def repeated(coding: str, piece: bytes, count: int) -> bytes:
    """A piece so many times, compressed, without ever being in memory as a whole."""
    packer = zlib.compressobj(9, zlib.DEFLATED, {"gzip": 31, "deflate": 15, "raw": -15}[coding])
    return b"".join(packer.compress(piece) for _ in range(count)) + packer.flush()


ENTRY = b'{"filename":"demo-1.0-py3-none-any.whl","url":"x","hashes":{}},' * 1000
START = b'{"meta":{"api-version":"1.0"},"name":"demo","files":['
BOMBS = {
    # A page of about a MB that would be one of a GB, in each coding that is asked for; then in some that are not.
    "gzip": (gzip.compress(START) + repeated("gzip", ENTRY, 16_000), "gzip"),
    "gzip, spaces": (repeated("gzip", b" " * (1 << 20), 1024), "gzip"),
    "deflate": (repeated("deflate", b" " * (1 << 20), 1024), "deflate"),
    "raw deflate": (repeated("raw", b" " * (1 << 20), 1024), "deflate"),
    "gzip in gzip": (gzip.compress(repeated("gzip", b" " * (1 << 20), 1024)), "gzip, gzip"),
    "many members": (gzip.compress(b" " * 100) * 10_000, "gzip"),
    "zstd": (bytes.fromhex("28b52ffd") + bytes(1000), "zstd"),
    "br": (bytes(1000), "br"),
    "compress": (b"\x1f\x9d\x90" + bytes(1000), "compress"),
    "damaged": (gzip.compress(START)[:-9], "gzip"),
    "not what it says": (START + b"]}", "gzip"),
}


@pytest.mark.parametrize("bomb", BOMBS)
def test_a_page_that_would_fill_the_memory_is_refused(server: LiveServer, scripted: ScriptedUpstream, bomb: str) -> None:
    # PROXY-13, CWE-409
    body, coding = BOMBS[bomb]
    before = server.peak_memory_mb()
    scripted.add("/simple/bomb/", Reply(body, content_type=JSON_TYPE, headers={"Content-Encoding": coding}))
    answer = httpx.get(f"{server.url}/simple/bomb/", headers=JSON, timeout=60)
    assert answer.status_code == 502, answer.text
    assert answer.text.count("\n") == 1
    assert server.peak_memory_mb() - before < ROOM_MB
    # Only codings that can be bounded are asked for, so an honest upstream never comes into it.
    asked = next(request for request in reversed(scripted.requests) if request.path == "/simple/bomb/")
    assert asked.headers["accept-encoding"] == "gzip, deflate"


@pytest.mark.parametrize(
    "reply",
    [
        Reply(Synthetic(1 << 40), content_type=JSON_TYPE),
        Reply(Synthetic(1 << 40), content_type=JSON_TYPE, chunked=True),
        Reply(Synthetic(1 << 40), content_type=JSON_TYPE, headers={"Content-Encoding": "gzip"}, chunked=True),
        Reply(b"x", headers={f"X-{number}": "y" * 1000 for number in range(200)}),
        Reply(b"x", headers={"X": "y" * 1_000_000}),
        Reply(b"x", headers={"Content-Length": "9" * 30}),
        Reply(b"x", headers={"Content-Length": "-1"}),
        Reply(b"x", headers={"Transfer-Encoding": "chunked, gzip"}),
        Reply(status=200, headers={"Location": "x", "Content-Type": "text/html\nX-Evil: yes"}),
    ],
    ids=[
        "endless",
        "endless, chunked",
        "endless, compressed",
        "large head",
        "large field",
        "length of a novel",
        "no length",
        "odd coding",
        "split field",
    ],
)
def test_an_answer_without_end_is_given_up(server: LiveServer, scripted: ScriptedUpstream, reply: Reply) -> None:
    # PROXY-13, PROXY-20, CWE-770
    scripted.add("/simple/endless/", reply)
    answer = httpx.get(f"{server.url}/simple/endless/", headers=JSON, timeout=60)
    assert answer.status_code in (502, 503, 504), answer.text
    assert "x-evil" not in answer.headers


EVIL_NAMES = (
    *(
        "../../../secret.txt",
        "..%2f..%2fdemo-1.0.zip",
        "..\\..\\demo-1.0.zip",
        "/etc/demo-1.0.zip",
        "a/demo-1.0.zip",
        "demo-1.0\0.zip",
        "..",
        ".zip",
    ),
    *(
        "demo-1.0\r\nX-Evil: yes.zip",
        "demo-1.0\u202ezip.whl",
        "demo-1.0\u2028.zip",
        " demo-1.0.zip",
        "demo-" + "1" * 300 + ".zip",
    ),
)


@pytest.mark.parametrize("form", ["json", "html"])
def test_names_in_a_hostile_page_become_no_path_and_no_markup(
    server: LiveServer, scripted: ScriptedUpstream, folder: Path, form: str
) -> None:
    # PROXY-15, HTML-8, CWE-22, CWE-79, CWE-93
    script = '"><script>alert(1)</script><a href="javascript:alert(1)'
    names = [*EVIL_NAMES, f"demo-1.0{script.replace('/', '')}.zip", "demo-2.0.zip"]
    if form == "json":
        files = [
            {
                "filename": name,
                "url": f"/files/{script}",
                "hashes": {"sha256": script, script: "00"},
                "requires-python": script,
                "yanked": script,
            }
            for name in names
        ]
        page = {
            "meta": {"api-version": "1.0"},
            "name": script,
            "files": files,
            "versions": [script],
            "project-status": {"status": script, "reason": script},
        }
        body, kind = json.dumps(page).encode(), JSON_TYPE
    else:
        quoted = html.escape(script)
        links = "".join(
            f'<a href="/files/{html.escape(name)}#{quoted}" data-requires-python="{quoted}" data-yanked="{quoted}">{html.escape(name)}</a>'
            for name in names
        )
        body, kind = (
            f'<!DOCTYPE html><meta name="pypi:repository-version" content="1.0"><title>{quoted}</title>{links}'.encode(
                errors="replace"
            ),
            "text/html",
        )
    scripted.add("/simple/evil/", Reply(body, content_type=kind))
    before = {path for path in folder.rglob("*") if path.name == "secret.txt" or "evil" in path.name}
    for accept in (HTML, JSON):
        answer = httpx.get(f"{server.url}/simple/evil/", headers=accept)
        assert answer.status_code == 200
        assert "x-evil" not in answer.headers
        assert "demo-2.0.zip" in answer.text
        if accept is HTML:
            assert "<script" not in answer.text
            # Whatever the browser makes of them, they lead to below this page.
            for link in re.findall(r'href="([^"]*)"', answer.text):
                assert not link.lower().startswith(("javascript:", "/", "..%2f", "../", "//", "http"))
        else:
            listed = [file["filename"] for file in answer.json()["files"]]
            assert "demo-2.0.zip" in listed
            assert not any(set("/\\\r\n\0\u2028\u202e") & set(name) for name in listed), listed
    after = {path for path in folder.rglob("*") if path.name == "secret.txt" or "evil" in path.name}
    assert {path.name for path in after - before} <= {"evil"}, "the page's own record and nothing else"


SCHEMES = (
    *(
        "file:///etc/passwd",
        "ftp://127.0.0.1/x",
        "gopher://127.0.0.1:70/x",
        "data:,x",
        "javascript:alert(1)",
        "unix:///run/x",
        "http:///x",
        "http://",
        "//",
    ),
    *(
        "http://a b/x",
        "http://[::1/x",
        "http://127.0.0.1:99999/x",
        "http://127.0.0.1:0/x",
        "http://user@:80/x",
        "jar:http://127.0.0.1!/x",
        "\x00http://x/",
    ),
)


@pytest.mark.parametrize("address", SCHEMES)
def test_neither_a_link_nor_a_redirect_leads_to_another_scheme(
    server: LiveServer, scripted: ScriptedUpstream, address: str
) -> None:
    # PROXY-14, CWE-918, CWE-610
    page = {"meta": {"api-version": "1.0"}, "name": "schemes", "files": [{"filename": NAME, "url": address, "hashes": {}}]}
    scripted.add("/simple/schemes/", Reply(json.dumps(page).encode(), content_type=JSON_TYPE))
    answer = httpx.get(f"{server.url}/simple/schemes/{NAME}", timeout=20)
    assert answer.status_code in (404, 502, 503), answer.text
    assert b"root:" not in answer.content
    if not address.startswith("\0"):
        for path in ("/simple/schemes/", f"/files/{NAME}"):
            scripted.add_project("schemes", {NAME: WHEEL})
            scripted.add(f"/files/schemes/{NAME}", Reply(status=302, headers={"Location": address}))
            scripted.add(
                "/simple/schemes/", *([Reply(status=302, headers={"Location": address})] if path.startswith("/simple") else [])
            )
        answer = httpx.get(f"{server.url}/simple/schemes/{NAME}", timeout=20)
        assert answer.status_code >= 400, answer.text
        assert b"root:" not in answer.content


def test_a_redirect_takes_no_credentials_along_from_its_address(server: LiveServer, scripted: ScriptedUpstream) -> None:
    # AUTH-8, CWE-522: what stands before an @ is somebody else's choice, too.
    with_user = scripted.url.replace("http://", "http://evil:secret@")
    scripted.add_project("user", {NAME: WHEEL})
    scripted.add(f"/files/user/{NAME}", Reply(status=302, headers={"Location": f"{with_user}/moved"}))
    scripted.add("/moved", Reply(WHEEL))
    assert httpx.get(f"{server.url}/simple/user/{NAME}").content == WHEEL
    moved = next(request for request in scripted.requests if request.path == "/moved")
    assert "authorization" not in moved.headers
    assert "secret" not in server.log()


DEEP = {
    "nested JSON": (b'{"meta":{"api-version":"1.0"},"files":' + b"[" * 500_000, JSON_TYPE),
    "a nested value": (
        START + b'{"filename":"demo-1.0.zip","url":"x","hashes":{},"x":' + b'{"a":' * 100_000 + b"1" + b"}" * 100_000 + b"}]}",
        JSON_TYPE,
    ),
    "nested HTML": (b"<!DOCTYPE html>" + b"<div>" * 300_000 + b"<a href='demo-1.0.zip'>demo-1.0.zip</a>", "text/html"),
    "many attributes": (
        b"<!DOCTYPE html><a "
        + b"".join(b"a%d=1 " % number for number in range(100_000))
        + b"href='demo-1.0.zip'>demo-1.0.zip</a>",
        "text/html",
    ),
    "entities": (
        b'<!DOCTYPE html [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]><a href="demo-1.0.zip">' + b"&b;" * 100_000 + b"</a>",
        "text/html",
    ),
    "a long number": (
        b'{"meta":{"api-version":"1.0"},"files":[{"filename":"demo-1.0.zip","url":"x","hashes":{},"size":'
        + b"9" * 1_000_000
        + b"}]}",
        JSON_TYPE,
    ),
    "a long version": (b'{"meta":{"api-version":"1.' + b"9" * 1_000_000 + b'"},"files":[]}', JSON_TYPE),
    "many keys": (
        b'{"meta":{"api-version":"1.0"},"files":[],' + b",".join(b'"_%d":0' % number for number in range(200_000)) + b"}",
        JSON_TYPE,
    ),
}


@pytest.mark.parametrize("page", DEEP)
def test_a_page_of_an_evil_shape_is_read_or_refused(server: LiveServer, scripted: ScriptedUpstream, page: str) -> None:
    # CWE-674, CWE-776, CWE-1333
    body, kind = DEEP[page]
    scripted.add("/simple/deep/", Reply(body, content_type=kind))
    for accept in (JSON, HTML):
        assert httpx.get(f"{server.url}/simple/deep/", headers=accept, timeout=30).status_code in (200, 502)
    assert httpx.get(f"{server.url}/health").status_code == 200


def test_a_file_that_comes_compressed_is_kept_as_it_is(server: LiveServer, scripted: ScriptedUpstream) -> None:
    # PROXY-16, CWE-409: a bomb in the place of a file is so many bytes as it has, and never unpacked.
    bomb = repeated("gzip", bytes(1 << 20), 256)
    scripted.add_project("packed", {"packed-1.0.tar.gz": Reply(bomb, headers={"Content-Encoding": "gzip"})})
    before = server.peak_memory_mb()
    answer = httpx.get(f"{server.url}/simple/packed/packed-1.0.tar.gz", headers={"accept-encoding": "identity"})
    assert answer.content == bomb
    assert "content-encoding" not in answer.headers
    assert server.peak_memory_mb() - before < 32


WHEELS = {
    "metadata without end": b"",
    "no archive": b"x" * 100_000,
    "an end only": b"PK\5\6" + bytes(18),
}


def test_the_metadata_of_a_hostile_wheel_is_refused(server: LiveServer, scripted: ScriptedUpstream) -> None:
    # META-7, UP-20, CWE-409: read out of the upstream's own wheel, part by part.
    for number, content in enumerate(
        (b"x" * 100_000, b"PK\5\6" + bytes(18), WHEEL[:-1], WHEEL + b"evil", WHEEL.replace(b"PK\1\2", b"PK\1\3"))
    ):
        name = f"bad{number}-1.0-py3-none-any.whl"
        scripted.add_project(f"bad{number}", {name: content})
        answer = httpx.get(f"{server.url}/simple/bad{number}/{name}.metadata", timeout=20)
        assert answer.status_code in (404, 502), answer.text
