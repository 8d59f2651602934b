"""Requirements that only a running registry can show; docs/requirements.md says which test shows which."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import re
import zipfile
from collections.abc import Iterator
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from html.parser import HTMLParser
from typing import Any
from urllib.parse import urljoin

import httpx
import pytest
from selectolax.lexbor import LexborHTMLParser

from nora.testing.live import LiveServer
from nora.testing.packages import make_sdist, make_wheel
from nora.testing.upstream import Reply, ScriptedUpstream, sha256_of

JSON = "application/vnd.pypi.simple.v1+json"
HTML = "application/vnd.pypi.simple.v1+html"
TEXT_HTML = "text/html"
FORM = {":action": "file_upload", "protocol_version": "1", "metadata_version": "2.1"}
MOUNTS = ("/", "/team-a/", "/deep/er/")

EVIL = "<script>alert('é & \"☃\"')</script>&lt;"
ODD_TYPES: list[dict[str, Any]] = [
    {"yanked": 5, "gpg-sig": "yes", "provenance": 7, "core-metadata": "perhaps", "size": "12", "upload-time": "yesterday"},
    {"yanked": "", "gpg-sig": None, "provenance": "http://index.example/p", "core-metadata": 1, "size": -1, "upload-time": 5},
    {
        "yanked": True,
        "gpg-sig": True,
        "provenance": None,
        "core-metadata": True,
        "size": 12,
        "upload-time": "2024-01-02 03:04:05",
    },
    {
        "yanked": "why",
        "gpg-sig": False,
        "provenance": "https://index.example/p",
        "core-metadata": {"sha256": "0" * 64},
        "size": 1,
    },
    {
        "yanked": None,
        "core-metadata": False,
        "hashes": {"SHA256": "A" * 64},
        "upload-time": "2024-01-02T03:04:05.123456789+01:00",
    },
    {"hashes": None, "requires-python": ">=3", "newest": {"key": [1]}, "_own": 1},
]


@pytest.fixture(scope="module")
def upstream() -> Iterator[ScriptedUpstream]:
    scripted = ScriptedUpstream()
    with scripted.run_in_thread():
        yield scripted


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, upstream: ScriptedUpstream) -> Iterator[httpx.Client]:
    config = (
        '[pypi]\nproxy = ""\n[registries.team-a]\nformat = "pypi"\nproxy = ""\n'
        '[registries.other]\nformat = "pypi"\nproxy = ""\npath = "/deep/er"\n'
        f'[registries.up]\nformat = "pypi"\nproxy = "{upstream.simple_url}"\nmetadata_ttl = 0\n'
    )
    with LiveServer(tmp_path_factory.mktemp("site") / "store", config) as server, httpx.Client(base_url=server.url) as client:
        yield client


def publish(client: httpx.Client, address: str, built: tuple[str, bytes], name: str, **fields: str) -> httpx.Response:
    filename, content = built
    filetype = "bdist_wheel" if filename.endswith(".whl") else "sdist"
    form = FORM | {"name": name, "version": filename.split("-")[1].removesuffix(".tar.gz"), "filetype": filetype} | fields
    return client.post(address, data=form, files={"content": (filename, content)})


def json_page(client: httpx.Client, path: str) -> dict[str, Any]:
    answer = client.get(path, headers={"accept": JSON})
    assert answer.status_code == 200, answer.text
    page = answer.json()
    assert isinstance(page, dict)
    return page


def html_page(client: httpx.Client, path: str) -> str:
    answer = client.get(path, headers={"accept": TEXT_HTML})
    assert answer.status_code == 200, answer.text
    return answer.content.decode()


def odd_project(upstream: ScriptedUpstream) -> list[str]:
    """A project whose upstream page has every type wrong that can be; its files' names."""
    names = [f"odd-1.{number}.tar.gz" for number in range(len(ODD_TYPES))]
    files = [{"filename": name, "url": name, "hashes": {}} | keys for name, keys in zip(names, ODD_TYPES, strict=True)]
    page = {"meta": {"api-version": "1.9"}, "name": "Odd", "files": files, "versions": ["1.0", 7, None], "newer": 1}
    upstream.add("/simple/odd/", Reply(json.dumps(page).encode(), content_type=JSON))
    return names


# Names and addresses


def test_all_spellings_of_a_name_are_one_project(site: httpx.Client) -> None:
    # NAME-1, NAME-2, HTML-2, HTML-3, JSON-2, JSON-3
    built = [make_wheel("Odd.Name", "1.0"), make_sdist("odd-name", "1.1"), make_wheel("ODD__name", "1.2")]
    for file, spelling in zip(built, ("Odd.Name", "odd-name", "ODD__name"), strict=True):
        assert publish(site, "/", file, spelling).status_code == 200
    assert [project["name"] for project in json_page(site, "/simple/")["projects"]].count("odd-name") == 1
    anchors = LexborHTMLParser(html_page(site, "/simple/")).css("a")
    (link,) = [anchor.attributes["href"] for anchor in anchors if anchor.text() == "odd-name"]
    assert urljoin("/simple/", link or "") == "/simple/odd-name/"
    for spelling in ("odd-name", "Odd.Name", "ODD_-.NAME"):
        page = site.get(f"/simple/{spelling}/", headers={"accept": JSON}, follow_redirects=True).json()
        assert page["name"] == "odd-name"
        assert {file["filename"] for file in page["files"]} == {name for name, _ in built}


def test_only_what_the_page_lists_can_be_fetched(site: httpx.Client, upstream: ScriptedUpstream) -> None:
    # PROXY-14, FILE-10
    listed, hidden = make_wheel("some", "1.0"), make_wheel("some", "2.0")
    upstream.add_project("some", dict([listed]))
    upstream.add_project("else", dict([make_wheel("else", "1.0")]))
    upstream.add(f"/files/some/{hidden[0]}", Reply(hidden[1]))
    upstream.add(f"/simple/some/{hidden[0]}", Reply(hidden[1]))
    before = len(upstream.requests)
    for path in (f"some/{hidden[0]}", f"some/{hidden[0]}.metadata", f"else/{listed[0]}", "some/..%2f..%2fhealth"):
        assert site.get(f"/up/simple/{path}").status_code == 404
    assert not [request.path for request in upstream.requests[before:] if not request.path.startswith("/simple/")]
    assert site.get(f"/up/simple/some/{listed[0]}").content == listed[1]


# Pages


class Document(HTMLParser):
    """What is wrong with an HTML5 document of the few elements that index pages are made of."""

    VOID = frozenset({"meta", "br"})
    INSIDE = {
        "html": "",
        "head": "html",
        "body": "html",
        "title": "head",
        "meta": "head",
        "h1": "body",
        "a": "body",
        "br": "body",
    }

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=False)
        self.faults: list[str] = [] if text.startswith("<!DOCTYPE html>\n") else ["no doctype"]
        self.open: list[str] = []
        self.seen: list[str] = []
        self.feed(text)
        self.close()
        self.faults += [f"<{tag}> is not closed" for tag in self.open]
        self.faults += [
            f"{self.seen.count(tag)} <{tag}>" for tag in ("html", "head", "title", "body") if self.seen.count(tag) != 1
        ]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append(tag)
        if self.INSIDE.get(tag) != (self.open[-1] if self.open else ""):
            self.faults.append(f"<{tag}> in {self.open}")
        if len({name for name, _ in attrs}) < len(attrs):
            self.faults.append(f"<{tag}> has an attribute twice")
        written = self.get_starttag_text() or ""
        if not re.fullmatch(r"<\w+(?: [a-z-]+=\"(?:[^\"<>&]|&(?:amp|lt|gt|quot|#x27);)*\")*>", written):
            self.faults.append(f"{written!r} is not quoted and escaped")
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open.pop() != tag:
            self.faults.append(f"</{tag}> closes nothing")

    def handle_data(self, data: str) -> None:
        if "&" in data or "<" in data or (data.strip() and self.open and self.open[-1] not in ("title", "h1", "a")):
            self.faults.append(f"text {data!r} in {self.open}")

    def handle_entityref(self, name: str) -> None:
        if name not in ("amp", "lt", "gt", "quot"):
            self.faults.append(f"&{name};")

    def handle_comment(self, data: str) -> None:
        self.faults.append(f"comment {data!r}")


@pytest.mark.parametrize(
    "text",
    [
        "<html></html>",
        "<!DOCTYPE html>\n<html><head><title></title></head><body><a href=x></a></body></html>",
        '<!DOCTYPE html>\n<html><head><title></title></head><body><a href="x" href="x"></a></body></html>',
        '<!DOCTYPE html>\n<html><head><title></title></head><body><a href="?a&b"></a></body></html>',
        "<!DOCTYPE html>\n<html><head><title></title></head><body><a>a & b</a></body></html>",
        "<!DOCTYPE html>\n<html><head><title></title></head><body><a>a</body></html>",
        "<!DOCTYPE html>\n<html><head><title></title></head><body><script></script></body></html>",
        "<!DOCTYPE html>\n<html><head></head><body></body></html>",
    ],
)
def test_the_check_of_documents_finds_faults(text: str) -> None:
    assert Document(text).faults


def test_html_pages_are_valid_documents_with_an_anchor_for_each_file_and_no_other(
    site: httpx.Client, upstream: ScriptedUpstream
) -> None:
    # HTML-1, HTML-4, HTML-8, HTML-10, HTML-13, HTML-14, VER-1, VER-3, VER-5
    wheel = make_wheel("evil", "1.0")
    extra = {"yanked": EVIL, "requires-python": "<4,>=3", "x-newer": EVIL, "data-status": EVIL}
    upstream.add_project("evil", dict([wheel]), extra={wheel[0]: extra})
    upstream.add_project("evil-html", dict([wheel]), form="html", extra={wheel[0]: {"data-yanked": EVIL}})
    odd = odd_project(upstream)
    assert publish(site, "/", make_wheel("plain", "1.0", requires_python=">=3.8"), "plain").status_code == 200
    expected = {"/simple/plain/": ["plain-1.0-py3-none-any.whl"], "/up/simple/odd/": odd}
    expected |= {f"/up/simple/{project}/": [wheel[0]] for project in ("evil", "evil-html")}
    for path in (*expected, "/simple/", "/up/simple/"):
        text = html_page(site, path)
        assert Document(text).faults == []
        tree = LexborHTMLParser(text)
        names = expected.get(path) or [project["name"] for project in json_page(site, path)["projects"]]
        assert [anchor.text() for anchor in tree.css("a")] == names
        metas = {meta.attributes.get("name"): meta.attributes.get("content") for meta in tree.css("meta[name]")}
        # 1.4 is the newest version that HTML pages have, whatever the upstream's page says.
        assert re.fullmatch(r"1\.[0-4]", metas["pypi:repository-version"] or "")
        assert metas["pypi:repository-version"] == json_page(site, path)["meta"]["api-version"]
        known = {"href", "data-requires-python", "data-yanked", "data-core-metadata", "data-dist-info-metadata"}
        allowed = known | {"data-gpg-sig", "data-provenance", "data-status"}
        assert all(set(anchor.attributes) <= allowed for anchor in tree.css("a"))
        if "evil" in path:
            assert tree.css("a")[0].attributes["data-yanked"] == EVIL


def is_digests(value: Any) -> bool:
    return isinstance(value, dict) and all(name == name.lower() and re.fullmatch("[0-9a-f]+", value[name]) for name in value)


FILE_KEYS = {
    "filename": lambda value: isinstance(value, str),
    "url": lambda value: isinstance(value, str),
    "hashes": is_digests,
    "size": lambda value: type(value) is int and value >= 0,
    "upload-time": lambda value: re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,6})?Z", value),
    "requires-python": lambda value: value is None or isinstance(value, str),
    "yanked": lambda value: isinstance(value, bool) or (isinstance(value, str) and value),
    "core-metadata": lambda value: isinstance(value, bool) or is_digests(value),
    "gpg-sig": lambda value: isinstance(value, bool),
    "provenance": lambda value: value is None or isinstance(value, str),
}


def test_json_pages_have_the_types_of_the_standard_whatever_an_upstream_sends(
    site: httpx.Client, upstream: ScriptedUpstream
) -> None:
    # JSON-1 to JSON-7, JSON-9, JSON-11 to JSON-14, VER-2 to VER-4
    names = odd_project(upstream)
    upstream.add_project("sized", {"sized-1.0.tar.gz": b"x" * 12})
    for project, files in (("odd", names), ("sized", ["sized-1.0.tar.gz"])):
        page = json_page(site, f"/up/simple/{project}/")
        assert page["name"] == project
        assert [file["filename"] for file in page["files"]] == files
        for file in page["files"]:
            assert {"filename", "url", "hashes"} <= set(file)
            assert {key: value for key, value in file.items() if key in FILE_KEYS and not FILE_KEYS[key](value)} == {}
        sized = all("size" in file for file in page["files"])
        assert page["meta"]["api-version"] == ("1.4" if sized else "1.0")
        assert len(set(page["versions"])) == len(page["versions"])
        assert {file["filename"].split("-")[1].removesuffix(".tar.gz") for file in page["files"]} <= set(page["versions"])
    root = json_page(site, "/up/simple/")
    assert root["meta"]["api-version"].startswith("1.")
    assert all(isinstance(project["name"], str) for project in root["projects"])


def test_keys_of_our_own_begin_with_an_underscore(site: httpx.Client) -> None:  # JSON-15
    assert publish(site, "/", make_wheel("own-keys", "1.0"), "own-keys").status_code == 200
    page, root = json_page(site, "/simple/own-keys/"), json_page(site, "/simple/")
    standard = {
        "page": ({"meta", "name", "files", "versions", "project-status", "alternate-locations"}, [page]),
        "meta": ({"api-version", "tracks"}, [page["meta"], root["meta"]]),
        "file": (set(FILE_KEYS), page["files"]),
        "root": ({"meta", "projects"}, [root]),
        "project": ({"name"}, root["projects"]),
    }
    for known, found in standard.values():
        assert found
        assert {key for keys in found for key in keys if key not in known and not key.startswith("_")} == set()


def test_what_is_said_of_a_file_is_true_of_it(site: httpx.Client, upstream: ScriptedUpstream) -> None:
    # HTML-6, HTML-9, JSON-4 to JSON-6, JSON-10, NAME-8, NAME-9, FILE-1, FILE-11, HTTP-1, RPY-1
    # META-1 to META-4, META-6, CM-5, CM-6, PROXY-16
    wheel, sdist = make_wheel("true", "1!2.0+x.1", requires_python=">=3.8,<4"), make_sdist("true", "1.0")
    with zipfile.ZipFile(io.BytesIO(wheel[1])) as archive:
        metadata = archive.read(next(name for name in archive.namelist() if name.endswith("/METADATA")))
    for built in (wheel, sdist):
        assert publish(site, "/", built, "true").status_code == 200
    extra = {wheel[0]: {"requires-python": ">=3.8,<4"}}
    upstream.add_project("true", dict([wheel, sdist]), metadata={wheel[0]: metadata}, extra=extra)
    # A server that takes the ending for a coding of the transfer.
    upstream.add(f"/files/true/{sdist[0]}", Reply(sdist[1], headers={"Content-Encoding": "gzip"}))
    for path in ("/simple/true/", "/up/simple/true/"):
        entries = {file["filename"]: file for file in json_page(site, path)["files"]}
        anchors = {anchor.text(): anchor.attributes for anchor in LexborHTMLParser(html_page(site, path)).css("a")}
        for name, content in (wheel, sdist):
            entry, attributes = entries[name], anchors[name]
            with site.stream("GET", urljoin(path, entry["url"]), headers={"accept-encoding": "gzip"}) as answer:
                served = b"".join(answer.iter_raw())
            assert served == content
            assert "content-encoding" not in answer.headers
            assert "html" not in answer.headers["content-type"]
            assert entry["size"] == len(served)
            assert entry["hashes"]["sha256"] == sha256_of(served)
            assert (attributes["href"] or "").endswith(f"#sha256={sha256_of(served)}")
        assert entries[wheel[0]]["core-metadata"] == {"sha256": sha256_of(metadata)}
        assert (entries[wheel[0]]["requires-python"], entries[sdist[0]].get("requires-python")) == (">=3.8,<4", None)
        assert anchors[wheel[0]]["data-requires-python"] == ">=3.8,<4"
        assert 'data-requires-python="&gt;=3.8,&lt;4"' in html_page(site, path)
        announced = [anchors[wheel[0]][f"data-{name}-metadata"] for name in ("core", "dist-info")]
        assert announced == [f"sha256={sha256_of(metadata)}"] * 2
        assert "data-core-metadata" not in anchors[sdist[0]]
        address = urljoin(path, entries[wheel[0]]["url"]) + ".metadata"
        beside, head = site.get(address), site.head(address)
        assert beside.content == metadata
        assert "html" not in beside.headers["content-type"]
        volatile = ("date", "x-request-id")
        assert [(key, value) for key, value in head.headers.items() if key not in volatile] == [
            (key, value) for key, value in beside.headers.items() if key not in volatile
        ]


def test_pages_and_documents_carry_the_same_serial_which_grows(site: httpx.Client, upstream: ScriptedUpstream) -> None:
    # API-7
    serials = []
    for version in ("1.0", "1.1"):
        assert publish(site, "/", make_wheel("serial", version), "serial").status_code == 200
        paths = ("/simple/serial/", "/pypi/serial/json", f"/pypi/serial/{version}/json")
        answers = [site.get(path, headers={"accept": accept}) for path in paths for accept in (f"{JSON}, */*;q=0.1", "*/*")]
        answers.append(site.get("/simple/serial/", headers={"accept": TEXT_HTML}))
        assert {answer.status_code for answer in answers} == {200}
        (serial,) = {answer.headers["x-pypi-last-serial"] for answer in answers}
        assert site.get("/pypi/serial/json").json()["last_serial"] == int(serial)
        serials.append(int(serial))
    assert 0 < serials[0] < serials[1]
    upstream.add_project("serial", dict([make_wheel("serial", "1.0")]))
    for path in ("/up/simple/serial/", "/up/pypi/serial/json"):
        assert int(site.get(path).headers["x-pypi-last-serial"]) > 0


def test_an_uploader_cannot_say_where_else_a_project_is(site: httpx.Client) -> None:  # TRACK-1, TRACK-2
    url = "https://index.example/simple/claims/"
    claims = {"tracks": url, "meta.tracks": url, "alternate_locations": url, "alternate-locations": url}
    built = make_wheel("claims", "1.0", extra_metadata=[("Tracks", url), ("Alternate-Locations", url)])
    assert publish(site, "/", built, "claims", **claims).status_code == 200
    assert "index.example" not in json.dumps(json_page(site, "/simple/claims/"))
    assert "index.example" not in html_page(site, "/simple/claims/")


# Answers


def test_every_kind_of_answer_has_one_date(site: httpx.Client) -> None:  # HTTP-5
    name, content = make_wheel("dated", "1.0")
    assert publish(site, "/", (name, content), "dated").status_code == 200
    page, file = "/simple/dated/", f"/simple/dated/{name}"
    kinds: list[tuple[int, str, str, dict[str, str]]] = [
        (200, "GET", page, {}),
        (200, "HEAD", file, {}),
        (206, "GET", file, {"range": "bytes=0-0"}),
        (301, "GET", "/simple/Dated", {}),
        (304, "GET", page, {"if-none-match": "*"}),
        (304, "GET", file, {"if-none-match": "*"}),
        (400, "POST", "/legacy/", {}),
        (404, "GET", "/simple/dated/none", {}),
        (405, "DELETE", file, {}),
        (406, "GET", page, {"accept": "image/png"}),
        (416, "GET", file, {"range": f"bytes={len(content)}-"}),
    ]
    for status, method, path, headers in kinds:
        answer = site.request(method, path, headers=headers)
        assert (answer.status_code, len(answer.headers.get_list("date"))) == (status, 1), (method, path)
        sent = parsedate_to_datetime(answer.headers["date"])
        assert abs((datetime.now(UTC) - sent).total_seconds()) < 5


@pytest.mark.parametrize("path", ["/simple/%3Cscript%3Ealert(1)%3C%2Fscript%3E/", "/simple/a/%3Cb%3E.whl", "/%3Ci%3E"])
@pytest.mark.parametrize("accept", [TEXT_HTML, JSON])
def test_errors_are_plain_text_whatever_was_asked_for(site: httpx.Client, path: str, accept: str) -> None:  # HTTP-18
    answer = site.get(path, headers={"accept": accept})
    assert answer.status_code == 404
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    assert answer.headers["x-content-type-options"] == "nosniff"


# Uploads


@pytest.mark.parametrize("mount", MOUNTS)
def test_every_address_for_uploads_answers_without_a_redirect_and_the_file_is_there_at_once(
    site: httpx.Client, mount: str
) -> None:
    # UP-1, UP-2, UP-13, UP-22, CONF-4
    for number, address in enumerate(("", "simple/", "simple", "legacy/", "legacy")):
        name, content = make_wheel("alias", f"1.{number}")
        answer = publish(site, f"{mount}{address}", (name, content), "alias")
        assert (answer.status_code, answer.history) == (200, []), f"{mount}{address}: {answer.text}"
        assert name in [file["filename"] for file in json_page(site, f"{mount}simple/alias/")["files"]]
        for accept in (HTML, TEXT_HTML):
            page = site.get(f"{mount}simple/alias/", headers={"accept": accept})
            assert name in [anchor.text() for anchor in LexborHTMLParser(page.text).css("a")]
        assert site.get(f"{mount}simple/alias/{name}").content == content
        assert name in [file["filename"] for file in site.get(f"{mount}pypi/alias/1.{number}/json").json()["urls"]]


def test_spellings_of_a_version_are_one_version(site: httpx.Client) -> None:  # JSON-8, PEP440-1, PEP440-2
    first = make_wheel("spelled", "1.0rc1", extra_metadata=[("Version", "v1.0.RC1")])
    other = ("spelled-1.0.0rc1-py3-none-any.whl", make_wheel("spelled", "1.0rc1", size=9)[1])
    assert publish(site, "/", first, "spelled", version="1.0-c1").status_code == 200
    answer = publish(site, "/", other, "spelled")
    assert (answer.status_code, "already exists" in answer.text) == (409, True), answer.text
    page = json_page(site, "/simple/spelled/")
    assert (page["versions"], [file["filename"] for file in page["files"]]) == (["1.0rc1"], [first[0]])


BAD_CONTENT = [b"", b"\0", b"PK\3\4", gzip.compress(b"x"), b"<html>" * 1000, make_wheel("other", "3.0")[1][:-9]]


@pytest.mark.parametrize("filename", ["bad-1.0-py3-none-any.whl", "bad-1.0.tar.gz", "bad-1.0.exe", "../../x", "", "\x00"])
def test_a_bad_upload_is_told_so_and_never_a_5xx(site: httpx.Client, filename: str) -> None:
    # UP-12, UP-14: twine sends everything again after a 5xx
    for content in BAD_CONTENT:
        form = FORM | {"name": "bad", "version": "1.0", "filetype": "bdist_wheel" if "whl" in filename else "sdist"}
        answer = site.post("/legacy/", data=form, files={"content": (filename, content)})
        assert answer.status_code == 400, answer.text
        assert answer.headers["content-type"].startswith("text/plain")
        assert answer.text.count("\n") == 1
        assert "Traceback" not in answer.text
    assert site.get("/simple/bad/").status_code == 404


# Pulling through


def test_the_upstream_is_asked_for_the_normalized_name_and_for_both_formats(
    site: httpx.Client, upstream: ScriptedUpstream
) -> None:
    # PROXY-1, PROXY-2
    wheel = make_wheel("asked-for", "1.0")
    upstream.add_project("asked-for", dict([wheel]), form="html")
    before = len(upstream.requests)
    for spelling in ("Asked_For", "asked.-FOR/", "asked-for/"):
        answer = site.get(f"/up/simple/{spelling}", headers={"accept": JSON}, follow_redirects=True)
        assert [file["filename"] for file in answer.json()["files"]] == [wheel[0]]
    asked = upstream.requests[before:]
    assert asked
    for request in asked:
        assert request.path == "/simple/asked-for/"
        ranges = dict(part.strip().partition(";q=")[::2] for part in request.headers["accept"].split(","))
        assert [ranges[media_type] or "1" for media_type in (JSON, HTML, TEXT_HTML)] == ["1", "0.2", "0.1"]


def test_a_yank_is_followed_both_ways_and_the_file_stays_to_be_had(site: httpx.Client, upstream: ScriptedUpstream) -> None:
    # YANK-1, YANK-5, YANK-6
    name, content = make_wheel("yanked", "1.0")
    for yanked, json_value, html_value in (
        (True, True, ""),
        (False, None, None),
        ("broken", "broken", "broken"),
        (False, None, None),
    ):
        upstream.add_project("yanked", {name: content}, extra={name: {"yanked": yanked}})
        (file,) = json_page(site, "/up/simple/yanked/")["files"]
        (anchor,) = LexborHTMLParser(html_page(site, "/up/simple/yanked/")).css("a")
        assert file.get("yanked") == json_value
        assert ("data-yanked" in anchor.attributes) is (html_value is not None)
        assert (anchor.attributes.get("data-yanked") or "") == (html_value or "")
        answer = site.get(f"/up/simple/yanked/{name}")
        assert (answer.status_code, hashlib.sha256(answer.content).hexdigest()) == (200, sha256_of(content))
