"""Pages and files of a running registry, as the specifications want them."""

from __future__ import annotations

import gzip
import hashlib
import io
import zipfile
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urljoin

import httpx
import pytest
from selectolax.lexbor import LexborHTMLParser

from nora.testing.live import LiveServer
from nora.testing.packages import make_sdist, make_wheel
from nora.testing.upstream import ScriptedUpstream, Synthetic

JSON = "application/vnd.pypi.simple.v1+json"
HTML = "application/vnd.pypi.simple.v1+html"
TEXT_HTML = "text/html"
FORM = {":action": "file_upload", "protocol_version": "1", "metadata_version": "2.1"}
LOCAL = make_wheel("my.demo", "1.0+cu124", requires_python=">=3.8,<4")
SDIST = make_sdist("my.demo", "1.0")
COLD = "cold-1.0-py3-none-any.whl"
COLD_BODY = Synthetic(400_000)


@pytest.fixture(scope="module")
def upstream() -> Iterator[ScriptedUpstream]:
    scripted = ScriptedUpstream()
    with scripted.run_in_thread():
        scripted.add_project(
            "cold", {COLD: COLD_BODY}, extra={COLD: {"yanked": 'bad <b>"x"</b>', "requires-python": "<4,>3", "_odd": [1]}}
        )
        yield scripted


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, upstream: ScriptedUpstream) -> Iterator[httpx.Client]:
    config = f'[pypi]\nproxy = ""\n[registries.up]\nformat = "pypi"\nproxy = "{upstream.simple_url}"\nmetadata_ttl = 0\n'
    with LiveServer(tmp_path_factory.mktemp("site") / "store", config) as server, httpx.Client(base_url=server.url) as client:
        for version, filetype, (name, content) in (("1.0+cu124", "bdist_wheel", LOCAL), ("1.0", "sdist", SDIST)):
            form = FORM | {"name": "my.demo", "version": version, "filetype": filetype}
            answer = client.post("/legacy/", data=form, files={"content": (name, content)})
            assert answer.status_code == 200, answer.text
        yield client


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        (None, JSON),  # NEG-2, NEG-12
        ("*/*", JSON),
        (TEXT_HTML, TEXT_HTML),  # NEG-3
        (HTML, HTML),  # NEG-4
        ("application/vnd.pypi.simple.latest+json", JSON),  # NEG-5
        (f"{JSON};q=0.1, {TEXT_HTML};q=0.9", TEXT_HTML),  # NEG-6
        (f"{JSON};q=0, */*", HTML),  # NEG-7
        ("application/vnd.pypi.simple.v2+json", None),  # NEG-11
        ("image/png", None),
    ],
)
@pytest.mark.parametrize("path", ["/simple/", "/simple/my-demo/"])
def test_the_representation_is_negotiated(site: httpx.Client, path: str, accept: str | None, expected: str | None) -> None:
    headers = {} if accept is None else {"accept": accept}
    request = site.build_request("GET", path, headers=headers)
    if accept is None:
        del request.headers["accept"]
    answer = site.send(request)
    assert "accept" in answer.headers["vary"].lower()  # NEG-14
    if expected is None:
        assert answer.status_code == 406
        assert answer.headers["content-type"].startswith("text/plain")
    else:
        assert (answer.status_code, answer.headers["content-type"].partition(";")[0]) == (200, expected)  # NEG-1


def test_the_format_parameter_wins_over_accept(site: httpx.Client) -> None:  # NEG-13
    for written in (HTML, HTML.replace("+", "%2B")):
        answer = site.get(f"/simple/my-demo/?format={written}", headers={"accept": JSON})
        assert answer.headers["content-type"].startswith(HTML)
    assert site.get("/simple/my-demo/?format=nonsense").status_code == 406


@pytest.mark.parametrize(
    ("asked", "target"),
    [
        ("/simple", "/simple/"),
        ("/simple/my-demo", "/simple/my-demo/"),
        ("/simple/My._-Demo", "/simple/my-demo/"),
        ("/simple/My._-Demo/", "/simple/my-demo/"),
        ("/up/simple/Cold", "/up/simple/cold/"),
    ],
)
def test_other_spellings_lead_to_the_page_in_one_hop(site: httpx.Client, asked: str, target: str) -> None:
    # NAME-1, NAME-3, NAME-5, NAME-6, NEG-14, HTTP-16
    answer = site.get(asked)
    assert answer.status_code == 301
    assert urljoin(str(answer.url), answer.headers["location"]) == str(site.base_url.join(target))
    assert "accept" in answer.headers["vary"].lower()
    kept = site.get(f"{asked}?format={JSON}")
    assert "format=" in kept.headers["location"]


@pytest.mark.parametrize(("asked", "target"), [("/", "simple/"), ("/?format=text/html", "simple/?format=text/html")])
def test_the_registrys_own_address_leads_to_what_is_there(site: httpx.Client, asked: str, target: str) -> None:
    answer = site.get(asked)
    assert (answer.status_code, answer.headers["location"]) == (301, target)


@pytest.mark.parametrize(
    "path", ["/simple//evil.example/", "/simple/..%2f..%2fetc/", "/simple/a%0d%0ab", "/simple/%ff/", "/simple/-x/"]
)
def test_hostile_paths_are_not_found_and_lead_nowhere(site: httpx.Client, path: str) -> None:  # HTTP-16, HTTP-17
    answer = site.get(path)
    assert answer.status_code == 404
    assert "location" not in answer.headers


def test_both_formats_describe_the_same_files(site: httpx.Client) -> None:  # JSON-16, NAME-8, NAME-9
    url = str(site.base_url.join("/simple/my-demo/"))
    page = site.get(url, headers={"accept": JSON}).json()
    tree = LexborHTMLParser(site.get(url, headers={"accept": TEXT_HTML}).text)
    anchors = {anchor.text(): anchor.attributes for anchor in tree.css("a")}
    assert set(anchors) == {file["filename"] for file in page["files"]} == {LOCAL[0], SDIST[0]}
    assert page["versions"] == ["1.0", "1.0+cu124"]
    assert page["meta"]["api-version"] == "1.4"
    contents = dict([LOCAL, SDIST])
    for file in page["files"]:
        attributes = anchors[file["filename"]]
        href, _, fragment = (attributes["href"] or "").partition("#")
        assert fragment == f"sha256={file['hashes']['sha256']}"
        assert urljoin(url, href) == urljoin(url, file["url"])
        assert site.get(urljoin(url, href)).content == contents[file["filename"]]
        assert attributes.get("data-requires-python") == file.get("requires-python")
        assert file["size"] == len(contents[file["filename"]])
        assert file["upload-time"].endswith("Z")
    # The plus sign may come raw, too.
    assert site.get(f"/simple/my-demo/{LOCAL[0]}").content == LOCAL[1]


def test_the_metadata_of_a_hosted_wheel_is_its_own_byte_for_byte(site: httpx.Client) -> None:  # META-1 to META-4, META-6
    page = site.get("/simple/my-demo/", headers={"accept": JSON}).json()
    entry = next(file for file in page["files"] if file["filename"] == LOCAL[0])
    served = site.get(f"/simple/my-demo/{LOCAL[0]}.metadata")
    with zipfile.ZipFile(io.BytesIO(LOCAL[1])) as wheel:
        (member,) = [name for name in wheel.namelist() if name.endswith(".dist-info/METADATA")]
        assert served.content == wheel.read(member)
    assert entry["core-metadata"] == {"sha256": hashlib.sha256(served.content).hexdigest()}
    assert "dist-info-metadata" not in entry  # META-13
    assert site.get(f"/simple/my-demo/{LOCAL[0]}.metadata.metadata").status_code == 404


def test_what_an_upstream_says_is_escaped_and_survives(site: httpx.Client) -> None:
    # HTML-8, HTML-9, JSON-10, YANK-1, YANK-3, PROXY-3
    text = site.get("/up/simple/cold/", headers={"accept": TEXT_HTML}).text
    assert 'data-yanked="bad &lt;b&gt;&quot;x&quot;&lt;/b&gt;"' in text
    assert 'data-requires-python="&lt;4,&gt;3"' in text
    file = site.get("/up/simple/cold/", headers={"accept": JSON}).json()["files"][0]
    assert (file["yanked"], file["requires-python"], file["_odd"]) == ('bad <b>"x"</b>', "<4,>3", [1])


@pytest.mark.parametrize("accept", [JSON, TEXT_HTML])
@pytest.mark.parametrize("encoding", ["identity", "gzip"])
def test_a_page_is_sent_once(site: httpx.Client, accept: str, encoding: str) -> None:
    # HTTP-1, HTTP-6, HTTP-7, HTTP-8, NEG-14
    headers = {"accept": accept, "accept-encoding": encoding}
    full = site.get("/up/simple/cold/", headers=headers)
    assert full.status_code == 200
    head = site.head("/up/simple/cold/", headers=headers)
    volatile = {"date", "x-request-id"}
    assert {key: full.headers[key] for key in full.headers if key not in volatile} == {
        key: head.headers[key] for key in head.headers if key not in volatile
    }
    again = site.get("/up/simple/cold/", headers=headers | {"if-none-match": f'"x", W/{full.headers["etag"]}'})
    assert (again.status_code, again.content) == (304, b"")
    for field in ("etag", "vary", "cache-control"):
        assert again.headers[field] == full.headers[field]


def test_representations_and_codings_have_etags_of_their_own(site: httpx.Client) -> None:  # NEG-16, HTTP-11
    for number in range(30):
        name, content = make_wheel("many", f"1.{number}")
        form = FORM | {"name": "many", "version": f"1.{number}", "filetype": "bdist_wheel"}
        assert site.post("/", data=form, files={"content": (name, content)}).status_code == 200
    tags, bodies = set(), {}
    for accept in (JSON, HTML, TEXT_HTML):
        for encoding in ("identity", "gzip"):
            with site.stream("GET", "/simple/many/", headers={"accept": accept, "accept-encoding": encoding}) as answer:
                raw = b"".join(answer.iter_raw())
                assert answer.headers.get("content-encoding") == ("gzip" if encoding == "gzip" else None)
                tags.add(answer.headers["etag"])
            bodies[accept, encoding] = gzip.decompress(raw) if encoding == "gzip" else raw
    assert len(tags) == 6
    for accept in (JSON, HTML, TEXT_HTML):
        assert bodies[accept, "gzip"] == bodies[accept, "identity"]
    before = site.get("/simple/many/").headers["etag"]
    name, content = make_wheel("many", "2.0")
    form = FORM | {"name": "many", "version": "2.0", "filetype": "bdist_wheel"}
    assert site.post("/", data=form, files={"content": (name, content)}).status_code == 200
    assert site.get("/simple/many/", headers={"if-none-match": before}).status_code == 200  # HTTP-9


@pytest.mark.parametrize("temperature", ["cold", "held"])
def test_ranges_and_head_are_right_before_and_after_the_file_is_held(
    tmp_path: Path, upstream: ScriptedUpstream, temperature: str
) -> None:  # FILE-2 to FILE-8, PROXY-17
    path, whole = f"/simple/cold/{COLD}", COLD_BODY.read(0, COLD_BODY.size)
    before = upstream.count(f"/files/cold/{COLD}")
    with (
        LiveServer(tmp_path / "store", f'[pypi]\nproxy = "{upstream.simple_url}"\n') as server,
        httpx.Client(base_url=server.url) as client,
    ):
        if temperature == "held":
            assert client.get(path).content == whole
        asked = upstream.count(f"/files/cold/{COLD}")
        head = client.head(path, headers={"range": "bytes=0-9"})  # FILE-5
        assert (head.status_code, head.headers["content-length"]) == (200, str(len(whole)))
        assert client.get(path, headers={"if-none-match": head.headers["etag"]}).status_code == 304
        assert upstream.count(f"/files/cold/{COLD}") == asked
        size = len(whole)
        for written, start, stop in (
            ("bytes=0-9", 0, 10),
            ("bytes=399990-", 399_990, size),
            ("bytes=-5", size - 5, size),
            ("bytes=100-999999999", 100, size),
        ):
            part = client.get(path, headers={"range": written})
            assert (part.status_code, part.content) == (206, whole[start:stop])
            assert part.headers["content-range"] == f"bytes {start}-{stop - 1}/{size}"
        assert client.get(path, headers={"range": f"bytes={size}-"}).headers["content-range"] == f"bytes */{size}"  # FILE-4
        for ignored in ({"range": "lines=1-2"}, {"range": "bytes=0-1,5-6"}, {"range": "bytes=0-9", "if-range": '"other"'}):
            assert client.get(path, headers=ignored).content == whole
        full = client.get(path)
        assert full.content == whole
        assert full.headers["etag"] == head.headers["etag"]
        assert "immutable" in full.headers["cache-control"]  # FILE-9
        assert upstream.count(f"/files/cold/{COLD}") == before + 1


def test_an_empty_index_is_a_valid_page(tmp_path: Path) -> None:  # HTML-11, NAME-7
    with LiveServer(tmp_path / "store", '[pypi]\nproxy = ""\n') as server, httpx.Client(base_url=server.url) as client:
        assert client.get("/simple/", headers={"accept": JSON}).json()["projects"] == []
        page = client.get("/simple/", headers={"accept": TEXT_HTML})
        assert page.status_code == 200
        assert "<a" not in page.text
        assert client.get("/simple/none/").status_code == 404


@pytest.mark.parametrize("public_url", ["https://registry.example.com", "https://example.com/nora/"])
def test_links_are_absolute_below_the_public_url(tmp_path: Path, upstream: ScriptedUpstream, public_url: str) -> None:
    # NAME-8
    config = f'[pypi]\nproxy = "{upstream.simple_url}"\n[registries.up]\nformat = "pypi"\nproxy = "{upstream.simple_url}"\n'
    with (
        LiveServer(tmp_path / "store", config, env={"NORA_PUBLIC_URL": public_url}) as server,
        httpx.Client(base_url=server.url) as client,
    ):
        for mount in ("/", "/up/"):
            expected = f"{public_url.rstrip('/')}{mount}simple/cold/{COLD}"
            page = client.get(f"{mount}simple/cold/", headers={"accept": JSON}).json()
            assert page["files"][0]["url"] == expected
            assert f'href="{expected}#' in client.get(f"{mount}simple/cold/", headers={"accept": TEXT_HTML}).text
            listed = client.get(f"{mount}simple/", headers={"accept": TEXT_HTML}).text
            assert f'href="{public_url.rstrip("/")}{mount}simple/cold/"' in listed
