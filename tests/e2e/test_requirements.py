"""Requirements that take restarts, logins or many clients at once; docs/requirements.md says which test shows which."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
from prometheus_client.parser import text_string_to_metric_families
from selectolax.lexbor import LexborHTMLParser

from nora.testing.live import LiveServer
from nora.testing.packages import make_sdist, make_wheel
from nora.testing.upstream import sha256_of

JSON = {"accept": "application/vnd.pypi.simple.v1+json"}
TEXT_HTML = {"accept": "text/html"}
HOSTED_ONLY = '[pypi]\nproxy = ""\n'
FORM = {":action": "file_upload", "protocol_version": "1", "metadata_version": "2.1", "filetype": "bdist_wheel"}
# "secret", with the least cost that bcrypt has.
ADA = "ada:$2b$04$z5XxWMfbHw35/LAAwOJucuVaBHWPxr1kdl5oYs.x/ukannda/ym1a\n"
LOGIN = ("ada", "secret")


def publish(client: httpx.Client, name: str, version: str, content: tuple[str, bytes], **fields: str) -> None:
    form = FORM | {"name": name, "version": version} | fields
    answer = client.post("/legacy/", data=form, files={"content": content})
    assert answer.status_code == 200, answer.text


def test_a_restart_keeps_files_metadata_upload_times_and_hashes(tmp_path: Path) -> None:
    # DUR-4, JSON-9
    wheel, sdist = make_wheel("kept", "1.0", requires_python=">=3.8"), make_sdist("kept", "1.0")
    pages, files = ["/simple/", "/simple/kept/"], [wheel[0], f"{wheel[0]}.metadata", sdist[0]]
    seen: list[list[Any]] = []
    for attempt in range(2):
        with LiveServer(tmp_path / "store", HOSTED_ONLY) as server, httpx.Client(base_url=server.url) as client:
            if attempt == 0:
                publish(client, "kept", "1.0", wheel)
                publish(client, "kept", "1.0", sdist, filetype="sdist")
            answers = [client.get(path, headers=accept) for path in pages for accept in (JSON, TEXT_HTML)]
            answers += [client.get(f"/simple/kept/{name}") for name in files]
            assert {answer.status_code for answer in answers} == {200}
            seen.append([(answer.content, answer.headers["etag"]) for answer in answers])
            entries = client.get("/simple/kept/", headers=JSON).json()["files"]
            assert all(entry["upload-time"] and entry["hashes"]["sha256"] for entry in entries)
    assert seen[0] == seen[1]


def test_monitors_read_health_and_metrics(tmp_path: Path) -> None:
    # CONF-3
    with LiveServer(tmp_path / "store", HOSTED_ONLY) as server, httpx.Client(base_url=server.url) as client:
        health = client.get("/health")
        assert (health.status_code, health.json()["status"]) == (200, "ok")
        assert health.headers["content-type"] == "application/json"
        uploads = []
        for version in ("1.0", "1.1"):
            publish(client, "counted", version, make_wheel("counted", version))
            answer = client.get("/metrics")
            assert answer.status_code == 200
            assert answer.headers["content-type"].startswith("text/plain; version=")
            families = {family.name: family for family in text_string_to_metric_families(answer.text)}
            labels = {"registry": "pypi", "method": "POST", "status": "200"}
            uploads.append([sample.value for sample in families["nora_requests"].samples if sample.labels == labels])
        assert uploads == [[1.0], [2.0]]


def test_no_answer_to_a_login_is_for_shared_caches(tmp_path: Path) -> None:
    # AUTH-10. RFC 9111 3.5: must-revalidate allows them to keep it, so with it they have to ask again each time.
    (tmp_path / "users").write_text(ADA)
    config = f'[auth]\nenabled = true\nhtpasswd_file = "{tmp_path / "users"}"\n{HOSTED_ONLY}'
    wheel = make_wheel("private", "1.0")
    with (
        LiveServer(tmp_path / "store", config) as server,
        httpx.Client(base_url=server.url, auth=LOGIN) as client,
    ):
        publish(client, "private", "1.0", wheel)
        page, file = "/simple/private/", f"/simple/private/{wheel[0]}"
        requests: list[tuple[str, dict[str, str], int]] = [
            *((path, accept, 200) for path in ("/simple/", page) for accept in (JSON, TEXT_HTML)),
            *((path, {}, 200) for path in (file, f"{file}.metadata", "/pypi/private/json", "/pypi/private/1.0/json")),
            (file, {"range": "bytes=0-9"}, 206),
            *((path, {"if-none-match": "*"}, 304) for path in (page, file)),
            ("/simple/none/", {}, 404),
            ("/simple/Private/", {}, 301),
        ]
        for path, headers, status in requests:
            for method in ("GET", "HEAD"):
                if (method, status) == ("HEAD", 206):
                    continue
                answer = client.request(method, path, headers=headers)
                assert answer.status_code == status, path
                directives = {part.strip() for part in answer.headers.get("cache-control", "").lower().split(",")}
                assert "public" not in directives
                assert not [part for part in directives if part.startswith("s-maxage")]
                assert "must-revalidate" not in directives or "max-age=0" in directives


def test_whoever_reads_while_files_are_published_sees_whole_pages_of_files_that_are_there(tmp_path: Path) -> None:
    # CONC-3
    wheels = [make_wheel("busy", f"1.{number}", size=50_000) for number in range(25)]
    contents, done, rounds = dict(wheels), threading.Event(), []

    def read() -> None:
        known: set[str] = set()
        finished = False
        while not finished:
            finished = done.is_set()
            # Connections of their own, so that all workers are asked.
            with httpx.Client(base_url=server.url, headers={"connection": "close"}) as client:
                for accept in (JSON, TEXT_HTML):
                    answer = client.get("/simple/busy/", headers=accept)
                    if answer.status_code == 404 and not known:
                        continue
                    assert answer.status_code == 200
                    names = names_on(answer)
                    assert known <= names
                    for name in names - known:
                        assert sha256_of(client.get(f"/simple/busy/{name}").content) == sha256_of(contents[name])
                        assert client.get(f"/simple/busy/{name}.metadata").status_code == 200
                    known |= names
            rounds.append(len(known))
        assert known == set(contents)

    def write(number: int) -> None:
        with httpx.Client(base_url=server.url, timeout=30) as client:
            publish(client, "busy", f"1.{number}", wheels[number])

    with LiveServer(tmp_path / "store", HOSTED_ONLY, workers=2) as server, ThreadPoolExecutor(5) as pool:
        readers = [pool.submit(read) for _ in range(3)]
        try:
            list(pool.map(write, range(len(wheels))))
        finally:
            done.set()
        for reader in readers:
            reader.result()
    assert len(set(rounds)) > 3, "nobody read while files were published"


def names_on(answer: httpx.Response) -> set[str]:
    """Names of the files that a page lists; it must be whole."""
    if answer.headers["content-type"].startswith(JSON["accept"]):
        return {file["filename"] for file in answer.json()["files"]}
    assert answer.text.endswith("</html>\n")
    return {anchor.text() for anchor in LexborHTMLParser(answer.text).css("a")}
