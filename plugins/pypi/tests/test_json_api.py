"""The JSON API of a running registry, read as its clients read it."""

from __future__ import annotations

import hashlib
import http.client
import json
import re
from collections.abc import Iterator
from datetime import datetime
from typing import Any
from urllib.parse import urljoin, urlsplit

import httpx
import pytest

from nora.testing.live import LiveServer
from nora.testing.packages import make_metadata, make_sdist, make_wheel
from nora.testing.upstream import Reply, ScriptedUpstream, sha256_of

FORM = {":action": "file_upload", "protocol_version": "1", "metadata_version": "2.1"}
JSON = "application/vnd.pypi.simple.v1+json"
WHEEL = make_wheel("my.demo", "1.0", requires=["other>=2", 'extra-one; extra == "x"'], requires_python=">=3.8,<4")
SDIST = make_sdist("my.demo", "1.0")
LOCAL = make_wheel("my.demo", "1.0.post1+cu124")
PRE = make_wheel("my.demo", "2.0rc1")
OLD = make_wheel("cold", "1.0")
NEW = make_wheel("cold", "2.0", requires=["other"])
NEW_METADATA = make_metadata("cold", "2.0", requires=["other"], extra=[("Summary", "out of its metadata")])
WARM_METADATA = make_metadata("warm", "1.0", requires=["other"], extra=[("Summary", "out of its metadata")])
VULNERABILITY = {
    "id": "TEST-2024-1",
    "aliases": ["CVE-2024-1"],
    "details": "bad",
    "fixed_in": ["3.0"],
    "link": "https://advisories.example/1",
    "summary": None,
    "withdrawn": None,
}


def entry_of(file: tuple[str, bytes], **more: Any) -> dict[str, Any]:
    name, content = file
    digests = {"sha256": sha256_of(content), "md5": hashlib.md5(content).hexdigest()}
    return {
        "filename": name,
        "digests": digests,
        "packagetype": "bdist_wheel",
        "python_version": "py3",
        "size": len(content),
        "upload_time": "2020-01-02T03:04:05",
        "upload_time_iso_8601": "2020-01-02T03:04:05.5Z",
        "url": f"https://files.example/{name}",
        "yanked": False,
        "comment_text": "from upstream",
        **more,
    }


def info_of(name: str, version: str) -> dict[str, Any]:
    return {
        "name": name,
        "version": version,
        "summary": "from upstream",
        "requires_dist": ["other"],
        "requires_python": ">=3.6",
        "home_page": "https://home.example/",
        "project_urls": {"Source": "https://code.example/"},
        "author": None,
    }


@pytest.fixture(scope="module")
def upstream() -> Iterator[ScriptedUpstream]:
    """``cold`` has documents, ``warm`` has none, ``plain`` has not even metadata; ``broken`` has a document that is none."""
    scripted = ScriptedUpstream()
    with scripted.run_in_thread():
        scripted.add_project("cold", dict([OLD, NEW]), metadata={NEW[0]: NEW_METADATA}, extra={OLD[0]: {"yanked": "old"}})
        releases = {"1.0": [entry_of(OLD)], "2.0": [entry_of(NEW)], "9.0": [entry_of(make_wheel("cold", "9.0"))]}
        whole = {
            "info": info_of("Cold", "2.0"),
            "releases": releases,
            "urls": releases["2.0"],
            "last_serial": 5,
            "vulnerabilities": [VULNERABILITY],
            "ownership": {"organization": None, "roles": []},
        }
        old = {"info": info_of("Cold", "1.0") | {"summary": "the old one"}, "urls": releases["1.0"], "vulnerabilities": []}
        for path, document in (("cold", whole), ("cold/1.0", old)):
            scripted.add(f"/pypi/{path}/json", Reply(json.dumps(document).encode(), content_type="application/json"))
        wheel = make_wheel("warm", "1.0")
        scripted.add_project("warm", dict([wheel]), metadata={wheel[0]: WARM_METADATA})
        scripted.add_project("plain", {"plain-1.0.tar.gz": b"x"}, form="html", digests={"plain-1.0.tar.gz": ""})
        wheel = make_wheel("broken", "1.0")
        scripted.add_project("broken", dict([wheel]), metadata={wheel[0]: b"\xff\xfe\0 no metadata"})
        scripted.add("/pypi/broken/json", Reply(b"<html>captive portal</html>", content_type="text/html"))
        yield scripted


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, upstream: ScriptedUpstream) -> Iterator[httpx.Client]:
    config = f'[pypi]\nproxy = ""\n[registries.up]\nformat = "pypi"\nproxy = "{upstream.simple_url}"\n'
    with LiveServer(tmp_path_factory.mktemp("site") / "store", config) as server, httpx.Client(base_url=server.url) as client:
        for version, filetype, (name, content) in (
            ("1.0", "bdist_wheel", WHEEL),
            ("1.0", "sdist", SDIST),
            ("1.0.post1+cu124", "bdist_wheel", LOCAL),
            ("2.0rc1", "bdist_wheel", PRE),
        ):
            form = FORM | {"name": "my.demo", "version": version, "filetype": filetype}
            form |= {"md5_digest": hashlib.md5(content).hexdigest()}
            answer = client.post("/legacy/", data=form, files={"content": (name, content)})
            assert answer.status_code == 200, answer.text
        yield client


def document_of(site: httpx.Client, path: str) -> dict[str, Any]:
    answer = site.get(path)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/json"
    document = answer.json()
    assert re.fullmatch("[1-9][0-9]*", answer.headers["x-pypi-last-serial"])  # API-7
    assert answer.headers["x-pypi-last-serial"] == str(document["last_serial"])
    assert isinstance(document, dict)
    return document


def test_a_hosted_project_has_a_document(site: httpx.Client) -> None:  # API-1, API-2, API-3
    document = document_of(site, "/pypi/my-demo/json")
    assert set(document) == {"info", "last_serial", "releases", "urls", "vulnerabilities"}
    assert list(document["releases"]) == ["1.0", "1.0.post1+cu124", "2.0rc1"]
    assert document["info"]["version"] == "1.0.post1+cu124"
    (file,) = document["urls"]
    assert file["digests"]["sha256"] == sha256_of(LOCAL[1])
    assert file["md5_digest"] == file["digests"]["md5"] == hashlib.md5(LOCAL[1]).hexdigest()
    assert file["size"] == len(LOCAL[1])
    assert document["vulnerabilities"] == []


def test_the_document_describes_the_files_of_the_index_page(site: httpx.Client) -> None:  # API-3
    page = {file["filename"]: file for file in site.get("/simple/my-demo/", headers={"accept": JSON}).json()["files"]}
    files = [file for files in document_of(site, "/pypi/my-demo/json")["releases"].values() for file in files]
    assert {file["filename"] for file in files} == set(page)
    for file in files:
        listed = page[file["filename"]]
        assert listed["hashes"].items() <= file["digests"].items()
        assert file["requires_python"] == listed.get("requires-python")
        assert (file["size"], file["upload_time_iso_8601"]) == (listed["size"], listed["upload-time"])


@pytest.mark.parametrize("path", ["/pypi/my-demo/json", "/pypi/my-demo/1.0/json", "/pypi/my-demo/1.0.post1+cu124/json"])
def test_links_lead_to_the_files(site: httpx.Client, path: str) -> None:  # API-5
    contents = dict([WHEEL, SDIST, LOCAL, PRE])
    for file in document_of(site, path)["urls"]:
        assert file["url"].startswith(str(site.base_url))
        assert site.get(file["url"]).content == contents[file["filename"]]


@pytest.mark.parametrize("host", ["", "evil.example/x", "a b"])
def test_without_a_usable_host_links_lead_from_the_document(site: httpx.Client, host: str) -> None:  # API-5, HTTP-16
    address = urlsplit(str(site.base_url))
    connection = http.client.HTTPConnection(address.hostname or "", address.port)
    for path in ("/up/pypi/cold/json", "/up/pypi/cold/1.0/json"):
        connection.putrequest("GET", path, skip_host=True, skip_accept_encoding=True)
        connection.putheader("Host", host)
        connection.endheaders()
        answer = connection.getresponse()
        body = answer.read()
        assert answer.status == 200
        url = json.loads(body)["urls"][0]["url"]
        assert not urlsplit(url).netloc
        assert site.get(urljoin(str(site.base_url.join(path)), url)).status_code == 200
    connection.close()


@pytest.mark.parametrize(
    ("asked", "target"),
    [
        ("/pypi/My._Demo/json", "/pypi/my-demo/json"),
        ("/pypi/my-demo/json/", "/pypi/my-demo/json"),
        ("/pypi/My-Demo/1.0.post1+cu124/json", "/pypi/my-demo/1.0.post1%2Bcu124/json"),
        ("/pypi/My-Demo/1.0/json/", "/pypi/my-demo/1.0/json"),
        ("/up/pypi/COLD/json", "/up/pypi/cold/json"),
    ],
)
def test_other_spellings_lead_to_the_document_in_one_hop(site: httpx.Client, asked: str, target: str) -> None:  # API-6
    answer = site.get(asked)
    assert answer.status_code == 301
    assert urljoin(str(answer.url), answer.headers["location"]) == str(site.base_url.join(target))
    assert site.get(asked, follow_redirects=True).status_code == 200


@pytest.mark.parametrize("version", ["1.0", "1", "v1.0.0", "1.00"])
def test_a_release_has_a_document_by_any_spelling_of_its_version(site: httpx.Client, version: str) -> None:  # API-4, PEP440-2
    document = document_of(site, f"/pypi/my-demo/{version}/json")
    assert "releases" not in document
    assert document["info"]["version"] == "1.0"
    assert {file["filename"] for file in document["urls"]} == {WHEEL[0], SDIST[0]}


@pytest.mark.parametrize(
    "path",
    [
        *("/pypi/my-demo/3.0/json", "/pypi/my-demo/nonsense/json", "/pypi/nothing/json", "/up/pypi/nothing/json"),
        *(
            "/pypi/-/json",
            "/pypi/my-demo/..%2f1.0/json",
            "/pypi/my-demo/1.0%0a/json",
            "/pypi/%ff/json",
            "/up/pypi/cold/9.0/json",
        ),
    ],
)
def test_what_is_not_there_is_404(site: httpx.Client, path: str) -> None:  # API-4, NAME-7
    assert site.get(path).status_code == 404


def test_an_upstreams_document_is_passed_on_with_links_of_ours(site: httpx.Client) -> None:  # PROXY-3, PROXY-6
    document = document_of(site, "/up/pypi/cold/json")
    assert (document["info"]["name"], document["info"]["summary"]) == ("Cold", "from upstream")
    assert (document["vulnerabilities"], document["ownership"]) == ([VULNERABILITY], {"organization": None, "roles": []})
    assert list(document["releases"]) == ["1.0", "2.0"]
    assert "files.example" not in json.dumps(document)
    (old,), (new,) = document["releases"].values()
    assert (old["yanked"], old["yanked_reason"]) == (True, "old")
    assert (new["comment_text"], new["upload_time"]) == ("from upstream", "2020-01-02T03:04:05")
    assert new["md5_digest"] == hashlib.md5(NEW[1]).hexdigest()
    assert site.get(new["url"]).content == NEW[1]
    old_one = document_of(site, "/up/pypi/cold/1.0.0/json")
    assert (old_one["info"]["summary"], old_one["vulnerabilities"]) == ("the old one", [])


def test_without_the_upstreams_document_metadata_tells(site: httpx.Client, upstream: ScriptedUpstream) -> None:
    for _ in range(2):
        document = document_of(site, "/up/pypi/warm/json")
        assert (document["info"]["summary"], document["info"]["requires_dist"]) == ("out of its metadata", ["other"])
    assert upstream.count("/pypi/warm/json") == 1
    assert upstream.count(f"/files/warm/{make_wheel('warm', '1.0')[0]}.metadata") == 1


@pytest.mark.parametrize("project", ["plain", "broken"])
def test_odd_upstreams_do_no_harm(site: httpx.Client, project: str) -> None:
    document = document_of(site, f"/up/pypi/{project}/json")
    assert (document["info"]["name"], document["info"]["version"], document["info"]["summary"]) == (project, "1.0", None)
    assert len(document["urls"]) == 1


def test_a_document_is_sent_once(site: httpx.Client) -> None:  # HTTP-1, HTTP-7
    full = site.get("/pypi/my-demo/json")
    head = site.head("/pypi/my-demo/json")
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-length"] == full.headers["content-length"]
    again = site.get("/pypi/my-demo/json", headers={"if-none-match": full.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")


def test_an_upload_shows_at_once(site: httpx.Client) -> None:  # MULTI-3
    serials = []
    for version in ("1.0", "1.1"):
        name, content = make_wheel("growing", version)
        form = FORM | {"name": "growing", "version": version, "filetype": "bdist_wheel"}
        assert site.post("/", data=form, files={"content": (name, content)}).status_code == 200
        document = document_of(site, "/pypi/growing/json")
        assert document["info"]["version"] == version
        serials.append(document["last_serial"])
    assert serials[0] < serials[1]


def test_an_sdist_that_may_not_announce_metadata_is_described_all_the_same(site: httpx.Client) -> None:  # API-2, META-5
    name, content = make_sdist("dynamic", "1.0", requires=["other"], metadata_version="2.2", dynamic=["Requires-Dist"])
    form = FORM | {"name": "dynamic", "version": "1.0", "filetype": "sdist"}
    assert site.post("/", data=form, files={"content": (name, content)}).status_code == 200
    info = document_of(site, "/pypi/dynamic/json")["info"]
    assert (info["summary"], info["requires_dist"], info["dynamic"]) == ("made for a test", ["other"], ["Requires-Dist"])
    (file,) = site.get("/simple/dynamic/", headers={"accept": JSON}).json()["files"]
    assert "core-metadata" not in file
    for suffix in (".metadata", ".pkg-info"):
        assert site.get(f"/simple/dynamic/{name}{suffix}").status_code == 404


def test_documents_need_a_login_when_pages_do(tmp_path: Any) -> None:  # AUTH-2
    (tmp_path / "users").write_text("")
    config = f'[pypi]\nproxy = ""\n[auth]\nenabled = true\nhtpasswd_file = "{tmp_path}/users"\nanonymous_read = false\n'
    with LiveServer(tmp_path / "store", config) as server:
        for path in ("/simple/x/", "/pypi/x/json", "/pypi/X/json", "/pypi/x/1.0/json", "/pypi/x/json/"):
            assert httpx.get(server.url + path).status_code == 401, path


# What clients read.


def test_poetry_resolves_from_it(site: httpx.Client) -> None:  # CLIENT poetry before 1.8
    versions = document_of(site, "/pypi/my-demo/json")["releases"]
    assert "1.0" in versions
    release = document_of(site, "/pypi/my-demo/1.0/json")
    info = release["info"]
    assert (info["name"], info["version"], info["summary"]) == ("my.demo", "1.0", "made for a test")
    assert info["requires_dist"] == ["other>=2", 'extra-one; extra == "x"']
    assert (info["requires_python"], info["yanked"]) == (">=3.8,<4", False)
    assert info["platform"] is None or isinstance(info["platform"], str)
    by_type = {file["packagetype"]: file for file in release["urls"]}
    assert set(by_type) == {"bdist_wheel", "sdist"}
    assert by_type["bdist_wheel"]["python_version"] == "py3"
    assert by_type["sdist"]["python_version"] == "source"
    for name, content in (WHEEL, SDIST):
        (file,) = [file for file in release["urls"] if file["filename"] == name]
        assert file["digests"]["sha256"] == hashlib.sha256(content).hexdigest()
        assert hashlib.md5(site.get(file["url"]).content).hexdigest() == file["digests"]["md5"]


def test_a_scanner_finds_versions_and_vulnerabilities(site: httpx.Client) -> None:  # CLIENT pip-audit
    document = document_of(site, "/up/pypi/cold/json")
    newest = document["info"]["version"]
    assert newest in document["releases"]
    assert not any(file["yanked"] for file in document["releases"][newest])
    assert not any(file["yanked"] for file in document["urls"])
    assert all(file["yanked"] for file in document["releases"]["1.0"])
    (vulnerability,) = document_of(site, "/up/pypi/cold/2.0/json")["vulnerabilities"]
    assert (vulnerability["id"], vulnerability["aliases"], vulnerability["fixed_in"]) == (
        "TEST-2024-1",
        ["CVE-2024-1"],
        ["3.0"],
    )
    assert vulnerability["withdrawn"] is None
    assert document_of(site, "/pypi/my-demo/1.0/json")["vulnerabilities"] == []


def test_renovate_finds_sources_and_dates(site: httpx.Client) -> None:  # CLIENT Renovate
    # Its registry address ends in /pypi/, and it resolves "<project>/json" against it.
    cold = site.get(urljoin(str(site.base_url.join("/up/pypi/")), "cold/json")).json()
    assert cold["info"]["home_page"] == "https://home.example/"
    assert cold["info"]["project_urls"]["Source"] == "https://code.example/"
    for document in (cold, document_of(site, "/pypi/my-demo/json")):
        for files in document["releases"].values():
            assert datetime.fromisoformat(files[0]["upload_time"]).tzinfo is None
            assert files[0]["requires_python"] is None or isinstance(files[0]["requires_python"], str)
            assert isinstance(files[0]["yanked"], bool)
    hosted = document_of(site, "/pypi/my-demo/json")["info"]
    assert (hosted["home_page"], hosted["project_urls"]) == (None, None)
