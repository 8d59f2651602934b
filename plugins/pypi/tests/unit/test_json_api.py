"""Documents of the JSON API, and the handlers that give them."""

from __future__ import annotations

import threading
from collections.abc import Awaitable, Callable, Mapping
from types import SimpleNamespace
from typing import Any, cast
from urllib.parse import urljoin

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from packaging.version import Version
from sanic.compat import Header
from sanic.request import Request
from sanic.response import HTTPResponse

from nora.api import (
    DigestMismatch,
    Document,
    File,
    Forbidden,
    Invalid,
    Listing,
    NoraError,
    NotFound,
    Page,
    Registry,
    Related,
    Sidecar,
    TooLarge,
    UpstreamTimeout,
    UpstreamUnavailable,
)
from nora_pypi import json_routes
from nora_pypi.json_api import PKG_INFO, Material, Release, find, latest, releases_of, render, representative
from nora_pypi.json_api import _kind as kind_of
from nora_pypi.json_routes import JsonApi
from nora_pypi.json_upstream import JsonApiDocument, Said
from nora_pypi.names import NormalizedName, version_of
from nora_pypi.render import project_json

from .builders import core_metadata

SHA256, OTHER, MD5, BLAKE = "ab" * 32, "cd" * 32, "ef" * 16, "12" * 32
BASE = "https://nora.example/"
TIME = "2024-01-02T03:04:05.678000Z"
METADATA = {".metadata": Sidecar(digests={"sha256": OTHER})}


def upstream_file(name: str, **fields: Any) -> File:
    defaults = {
        "version": version_of(name, NormalizedName("foo")),
        "url": f"https://files.example/{name}",
        "digests": {"sha256": SHA256},
        "size": 10,
        "published": TIME,
    }
    return File(name=name, **(defaults | fields))


def listing_of(*files: File | str, **fields: Any) -> Listing:
    made = tuple(upstream_file(file) if isinstance(file, str) else file for file in files)
    return Listing(**({"project": "foo", "files": made, "serial": 7, "revision": "r1"} | fields))


def said_of(version: str = "1.0", *entries: Mapping[str, Any], **more: Any) -> Said:
    info = {"name": "Foo", "version": version, "summary": "theirs"} | more.pop("info", {})
    page = {"info": info, "urls": entries, **more}
    found = JsonApiDocument().parse("foo", Document(url="", content_type="", body=msgspec.json.encode(page)))
    assert isinstance(found, Said)
    return found


def rendered(listing: Listing, *, whole: bool = True, **material: Any) -> dict[str, Any]:
    releases = releases_of(listing)
    chosen = latest(releases)
    assert chosen is not None
    document = msgspec.json.decode(
        render(Material(listing=listing, chosen=chosen, releases=releases if whole else None, base=BASE, **material))
    )
    assert isinstance(document, dict)
    return document


# Which releases there are, and which is the latest.


@pytest.mark.parametrize(
    ("versions", "yanked", "expected"),
    [
        (["1.0", "1.10", "1.9"], [], "1.10"),
        (["1.0", "2.0rc1", "2.0.dev1"], [], "1.0"),
        (["2.0rc1", "2.0.dev1", "2.0a5"], [], "2.0rc1"),
        (["1.0", "2.0"], ["2.0"], "1.0"),
        (["1.0", "2.0"], ["1.0", "2.0"], "2.0"),
        (["1.0rc1", "2.0"], ["2.0"], "1.0rc1"),
        (["1.0", "1.0+cu124", "1.0.post1"], [], "1.0.post1"),
        (["1!0.1", "2.0"], [], "1!0.1"),
    ],
)
def test_the_latest_release_is_final_and_not_yanked_if_there_is_one(  # PEP440-3
    versions: list[str], yanked: list[str], expected: str
) -> None:
    files = [upstream_file(f"foo-{version}.zip", yanked=version in yanked and "bad") for version in versions]
    for order in (files, files[::-1]):
        document = rendered(listing_of(*order))
        assert document["info"]["version"] == expected
        assert [file["filename"] for file in document["urls"]] == [f"foo-{expected}.zip"]
        assert (document["info"]["yanked"], document["info"]["yanked_reason"]) == (
            (True, "bad") if expected in yanked else (False, None)
        )


def test_a_release_is_yanked_when_all_its_files_are() -> None:
    half = listing_of(upstream_file("foo-1.0.zip", yanked=True), "foo-1.0.tar.gz")
    assert not rendered(half)["info"]["yanked"]
    whole = listing_of(upstream_file("foo-1.0.zip", yanked=True), upstream_file("foo-1.0.tar.gz", yanked="why"))
    assert (rendered(whole)["info"]["yanked"], rendered(whole)["info"]["yanked_reason"]) == (True, "why")


def test_a_release_without_files_is_listed_but_never_the_latest_when_another_has_some() -> None:
    document = rendered(listing_of("foo-1.0.zip", extra={"versions": ["1.0", "2.0"]}))
    assert document["releases"]["2.0"] == []
    assert document["info"]["version"] == "1.0"
    assert rendered(listing_of(extra={"versions": ["1.0", "2.0"]}))["info"]["version"] == "2.0"
    yanked = upstream_file("foo-1.0.zip", yanked=True)
    assert rendered(listing_of(yanked, extra={"versions": ["1.0", "2.0"]}))["info"]["version"] == "1.0"


@pytest.mark.parametrize("written", ["1.0", "1.0.0", "v1", "1.00", " 1.0 "])
def test_a_release_is_found_by_any_spelling(written: str) -> None:  # PEP440-2
    releases = releases_of(listing_of("foo-1.0.zip", "foo-1.0.1.zip", extra={"versions": ["2004d"]}))
    found = find(releases, written)
    assert found is not None
    assert found.key == "1.0"


@pytest.mark.parametrize("written", ["1.1", "1", "latest", "2004D", "", "1" * 300])
def test_an_unknown_release_is_not_found(written: str) -> None:  # API-4
    assert find(releases_of(listing_of("foo-1.0.1.zip", extra={"versions": ["2004d"]})), written) is None


def test_releases_have_the_versions_of_the_index_page_in_rising_order() -> None:  # API-3, JSON-7
    listing = listing_of(
        *("foo-1.10.zip", "foo-1.9.zip", "foo-0.12.1.zip", "foo-3.0a1.zip", "foo-2004d.tar.gz"),
        extra={"versions": ["0.12.1", "0.12.01", "1.9", "2.0", "3.0-alpha1", "2004d", "2004", 5]},
    )
    releases = rendered(listing)["releases"]
    assert list(releases) == ["2004d", "0.12.1", "0.12.01", "1.9", "1.10", "2.0", "3.0-alpha1", "2004"]
    assert set(releases) == set(msgspec.json.decode(project_json(listing, ""))["versions"])
    assert {key for key, files in releases.items() if not files} == {"0.12.01", "2.0", "2004"}
    assert releases["2004d"][0]["filename"] == "foo-2004d.tar.gz"
    swapped = rendered(listing_of("foo-0.12.1.zip", extra={"versions": ["0.12.01", "0.12.1"]}))
    assert (swapped["info"]["version"], len(swapped["releases"]["0.12.1"])) == ("0.12.1", 1)


def test_a_version_that_is_none_is_known_by_the_listing_only() -> None:  # PEP440-4
    names = ("foo-bar-2004d-x.zip", "foo-2004d.1.zip", "foo-2004dd.zip", "bar-2004d.zip", "foo-1.0.zip")
    releases = releases_of(listing_of(*names, extra={"versions": ["2004d", "2004d.1"]}))
    assert {release.key: [file.name for file in release.files] for release in releases} == {
        "2004d": [],
        "2004d.1": ["foo-2004d.1.zip"],
        "1.0": ["foo-1.0.zip"],
    }
    assert [release.key for release in releases_of(listing_of("foo-2004d.zip"))] == []


def test_a_quarantined_project_offers_no_file() -> None:  # STAT-2
    document = rendered(listing_of("foo-1.0.zip", status="quarantined"), about=said_of(), beside=said_of())
    assert (document["releases"], document["urls"]) == ({"1.0": []}, [])


# What is said of files.


def test_a_hosted_file_has_all_that_is_known_of_it() -> None:  # API-3, API-5
    file = File(
        name="foo-1.0+cu124-py2.py3-none-any.whl",
        version="1.0+cu124",
        size=123,
        digests={"sha256": SHA256, "md5": MD5, "blake2b_256": BLAKE},
        published=TIME,
        yanked="broken",
        sidecars={".asc": Sidecar(digests={"sha256": OTHER}), **METADATA},
        extra={"requires-python": ">=3.8", "_own": 1},
    )
    document = rendered(listing_of(file, hosted=True))
    assert document["urls"] == document["releases"]["1.0+cu124"]
    assert document["urls"] == [
        {
            "comment_text": "",
            "digests": {"sha256": SHA256, "md5": MD5, "blake2b_256": BLAKE},
            "downloads": -1,
            "filename": file.name,
            "has_sig": True,
            "md5_digest": MD5,
            "packagetype": "bdist_wheel",
            "python_version": "py2.py3",
            "requires_python": ">=3.8",
            "size": 123,
            "upload_time": "2024-01-02T03:04:05",
            "upload_time_iso_8601": TIME,
            "url": f"{BASE}simple/foo/foo-1.0%2Bcu124-py2.py3-none-any.whl",
            "yanked": True,
            "yanked_reason": "broken",
        }
    ]


def test_of_a_bare_file_the_rest_is_null() -> None:
    (file,) = rendered(listing_of(upstream_file("foo-1.0.zip", size=None, digests={}, published=None)))["urls"]
    absent = ("md5_digest", "requires_python", "size", "upload_time", "upload_time_iso_8601", "yanked_reason")
    assert [file[key] for key in absent] == [None] * 6
    assert (file["digests"], file["yanked"], file["has_sig"]) == ({}, False, False)


def test_what_the_listing_does_not_know_comes_from_the_upstream() -> None:
    entry = {
        "filename": "foo-1.0.zip",
        "digests": {"sha256": SHA256, "md5": MD5, "blake2b_256": BLAKE},
        "comment_text": "a comment",
        "packagetype": "bdist_dumb",
        "python_version": "2.7",
        "requires_python": ">=2.7",
        "size": 77,
        "upload_time_iso_8601": "2020-01-01T00:00:00Z",
        "upload_time": "2020-01-01T00:00:00",
        "newest_key": [1],
        "url": "https://evil.example/foo-1.0.zip",
        "yanked": True,
        "yanked_reason": "x",
        "has_sig": True,
    }
    gone = entry | {"filename": "foo-9.0.zip"}
    bare = upstream_file("foo-1.0.zip", size=None, published=None)
    document = rendered(listing_of(bare, "foo-1.0.tar.gz"), beside=said_of("1.0", entry, gone))
    taken, built = document["urls"]
    assert taken == entry | {
        "md5_digest": MD5,
        "downloads": -1,
        "has_sig": False,
        "url": f"{BASE}simple/foo/foo-1.0.zip",
        "yanked": False,
        "yanked_reason": None,
    }
    assert built["filename"] == "foo-1.0.tar.gz"
    assert list(document["releases"]) == ["1.0"]

    known = upstream_file("foo-1.0.zip", extra={"requires-python": None}, yanked="ours")
    (file,) = rendered(listing_of(known), beside=said_of("1.0", entry))["urls"]
    assert (file["size"], file["upload_time_iso_8601"], file["requires_python"]) == (10, TIME, None)
    assert (file["yanked"], file["yanked_reason"], file["comment_text"]) == (True, "ours", "a comment")


def test_an_entry_about_other_content_is_not_taken() -> None:
    entry = {"filename": "foo-1.0.zip", "digests": {"sha256": OTHER, "md5": MD5}, "comment_text": "x", "size": 5}
    (file,) = rendered(listing_of("foo-1.0.zip"), beside=said_of("1.0", entry))["urls"]
    assert (file["digests"], file["comment_text"], file["size"]) == ({"sha256": SHA256}, "", 10)


def test_hashes_are_taken_only_beside_one_that_is_known_to_be_right() -> None:  # JSON-5
    entry = {"filename": "foo-1.0.zip", "digests": {"sha256": SHA256, "md5": MD5}, "comment_text": "x"}
    (file,) = rendered(listing_of(upstream_file("foo-1.0.zip", digests={})), beside=said_of("1.0", entry))["urls"]
    assert (file["digests"], file["md5_digest"], file["comment_text"]) == ({}, None, "x")


def test_of_a_hosted_file_the_upstream_says_nothing() -> None:
    entry = {"filename": "foo-1.0.zip", "digests": {"sha256": SHA256, "md5": MD5}, "comment_text": "x"}
    hosted = upstream_file("foo-1.0.zip", url=None)
    (file,) = rendered(listing_of(hosted, hosted=True), beside=said_of("1.0", entry))["urls"]
    assert (file["digests"], file["comment_text"]) == ({"sha256": SHA256}, "")


def test_the_upstreams_time_goes_before_the_one_when_a_file_was_first_seen() -> None:
    seen = upstream_file("foo-1.0.zip", extra={"_upload-time": "first-seen"})
    entry = {"filename": "foo-1.0.zip", "upload_time_iso_8601": "2020-01-01T00:00:00.5Z"}
    (file,) = rendered(listing_of(seen), beside=said_of("1.0", entry))["urls"]
    assert (file["upload_time"], file["upload_time_iso_8601"]) == ("2020-01-01T00:00:00", "2020-01-01T00:00:00.5Z")
    (file,) = rendered(listing_of(seen), beside=said_of())["urls"]
    assert file["upload_time_iso_8601"] == TIME


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("foo-1.0-1-cp311-cp311-linux_x86_64.whl", ("bdist_wheel", "cp311")),
        ("foo.whl", ("bdist_wheel", "any")),
        ("foo-1.0.tar.gz", ("sdist", "source")),
        ("foo-1.0.zip", ("sdist", "source")),
        ("foo-1.0-py2.7-linux-x86_64.egg", ("bdist_egg", "2.7")),
        ("foo-1.0.win-amd64-py3.4.exe", ("bdist_wininst", "3.4")),
        ("foo-1.0.win32.exe", ("bdist_wininst", "any")),
        ("foo-1.0.win32.msi", ("bdist_msi", "any")),
        ("foo-1.0-1.noarch.rpm", ("bdist_rpm", "any")),
        ("foo-1.0.linux-x86_64.tar.gz", ("bdist_dumb", "any")),
        ("foo-1.0.macosx-10.9-x86_64.tar.gz", ("bdist_dumb", "any")),
    ],
)
def test_the_kind_of_a_file_is_told_by_its_name(name: str, expected: tuple[str, str]) -> None:
    assert kind_of(name) == expected


# What is said of the release.


def test_info_is_the_core_metadata() -> None:  # API-2, CM-8, CM-9
    more = [
        *("Summary: short", "Keywords: a,b", "Home-page: https://home.example/", "Download-URL: https://dl.example/"),
        *("Author: A", "Author-email: a@mail.example", "Maintainer: M", "Maintainer-email: m@mail.example", "License: MIT"),
        *("License-Expression: MIT", "License-File: LICENSE", "Platform: any", "Platform: linux", "Classifier: Topic :: A"),
        *("Requires-Python: >=3.9", "Requires-Dist: bar>=1", "Provides-Extra: x", "Dynamic: License-File"),
        *("Description-Content-Type: text/markdown", "Project-URL: Source, https://code.example/"),
    ]
    document = rendered(listing_of("foo-1.0.zip"), metadata=core_metadata("Foo", more=more))
    assert document["info"] == {
        "author": "A",
        "author_email": "a@mail.example",
        "bugtrack_url": None,
        "classifiers": ["Topic :: A"],
        "description": "The description: not a field.\n",
        "description_content_type": "text/markdown",
        "docs_url": None,
        "download_url": "https://dl.example/",
        "downloads": {"last_day": -1, "last_month": -1, "last_week": -1},
        "dynamic": ["License-File"],
        "home_page": "https://home.example/",
        "keywords": "a, b",
        "license": "MIT",
        "license_expression": "MIT",
        "license_files": ["LICENSE"],
        "maintainer": "M",
        "maintainer_email": "m@mail.example",
        "name": "Foo",
        "package_url": f"{BASE}simple/foo/",
        "platform": "any,linux",
        "project_url": f"{BASE}simple/foo/",
        "project_urls": {
            "Homepage": "https://home.example/",
            "Download": "https://dl.example/",
            "Source": "https://code.example/",
        },
        "provides_extra": ["x"],
        "release_url": f"{BASE}simple/foo/",
        "requires_dist": ["bar>=1"],
        "requires_python": ">=3.9",
        "summary": "short",
        "version": "1.0",
        "yanked": False,
        "yanked_reason": None,
    }
    assert (document["last_serial"], document["vulnerabilities"]) == (7, [])


def test_an_older_field_gives_way_to_a_label_that_means_the_same() -> None:  # CM-9
    more = ["Home-page: https://old.example/", "Project-URL: home page, https://new.example/"]
    document = rendered(listing_of("foo-1.0.zip"), metadata=core_metadata("foo", more=more))
    assert document["info"]["project_urls"] == {"home page": "https://new.example/"}
    assert document["info"]["home_page"] == "https://old.example/"


@pytest.mark.parametrize(
    "metadata",
    [None, b"", b"\xff\xfe", b"<html>", b"Name: -\nVersion: x\n\n", b"".join(b"X%d: y\n" % n for n in range(999))],
)
def test_without_readable_metadata_the_listing_tells_what_it_can(metadata: bytes | None) -> None:
    listing = listing_of(upstream_file("foo-1.0.zip", extra={"requires-python": ">=3.8"}))
    info = rendered(listing, metadata=metadata)["info"]
    assert (info["name"], info["version"], info["requires_python"]) == ("foo", "1.0", ">=3.8")
    texts = {"author", "home_page", "keywords", "license", "requires_dist", "project_urls", "summary", "platform"}
    assert {info[key] for key in texts} == {None}
    assert (info["classifiers"], info["description"]) == ([], "")


def test_metadata_of_another_project_is_not_taken() -> None:  # CM-6
    info = rendered(listing_of("foo-1.0.zip"), metadata=core_metadata("Bar", more=["Summary: bar"]))["info"]
    assert (info["name"], info["summary"], info["description"]) == ("foo", None, "")


@given(st.binary(max_size=400) | st.text(max_size=400).map(lambda text: text.encode("utf-8", "surrogatepass")))
def test_no_metadata_is_odd_enough_to_fail(raw: bytes) -> None:
    document = rendered(listing_of("foo-1.0.zip"), metadata=b"Name: foo\n" + raw)
    assert document["info"]["version"] == "1.0"


def test_the_upstreams_info_is_taken_but_not_what_the_listing_decides() -> None:
    info = {
        "yanked": True,
        "yanked_reason": "x",
        "version": "v1.0.0",
        "classifiers": None,
        "newest_key": 1,
        "package_url": "https://index.example/project/foo/",
        "requires_python": None,
    }
    said = said_of("1.0", info=info, vulnerabilities=[{"id": "V"}], ownership={"roles": []}, last_serial=99)
    document = rendered(listing_of("foo-1.0.zip"), about=said, beside=said)
    taken = document["info"]
    assert (taken["name"], taken["summary"], taken["newest_key"]) == ("Foo", "theirs", 1)
    assert (taken["version"], taken["yanked"], taken["yanked_reason"], taken["classifiers"]) == ("1.0", False, None, [])
    assert taken["package_url"] == "https://index.example/project/foo/"
    assert (taken["author"], taken["requires_dist"]) == (None, None)
    assert (document["vulnerabilities"], document["ownership"], document["last_serial"]) == ([{"id": "V"}], {"roles": []}, 7)


def test_what_the_upstream_says_of_another_release_is_not_said_of_this_one() -> None:
    said = said_of("2.0", vulnerabilities=[{"id": "V"}], ownership={"roles": []})
    document = rendered(listing_of("foo-1.0.zip"), beside=said)
    assert (document["vulnerabilities"], document["ownership"]) == ([], {"roles": []})
    assert document["info"]["summary"] is None


def test_a_releases_document_has_no_releases() -> None:  # API-1, API-4
    listing = listing_of("foo-1.0.zip", "foo-2.0.zip")
    whole, one = rendered(listing), rendered(listing, whole=False)
    assert set(whole) == {"info", "last_serial", "releases", "urls", "vulnerabilities"}
    assert one == {key: value for key, value in whole.items() if key != "releases"}


def test_a_wheels_metadata_stands_for_its_release() -> None:
    derived = {".metadata": Sidecar(derived=True)}
    files = [
        upstream_file("foo-1.0.zip", sidecars={PKG_INFO: Sidecar()}),
        upstream_file("foo-1.0.tar.gz", sidecars=METADATA),
        upstream_file("foo-1.0-py2-none-any.whl", sidecars=derived),
        upstream_file("foo-1.0-py3-none-any.whl", sidecars=METADATA),
        upstream_file("foo-1.0-cp3-none-any.whl", sidecars=METADATA),
        upstream_file("foo-1.0-1-py3-none-any.whl"),
        upstream_file("foo-1.0-2-py3-none-any.whl", sidecars={PKG_INFO: Sidecar()}),
    ]
    found = []
    while (best := representative(Release("1.0", Version("1.0"), files))) is not None:
        found.append((best[0].name.removeprefix("foo-1.0"), best[1]))
        files.remove(best[0])
    assert found == [
        ("-py3-none-any.whl", ".metadata"),
        ("-cp3-none-any.whl", ".metadata"),
        ("-py2-none-any.whl", ".metadata"),
        (".tar.gz", ".metadata"),
        ("-2-py3-none-any.whl", PKG_INFO),
        (".zip", PKG_INFO),
    ]


def test_six_thousand_files_are_rendered_in_no_time(takes_at_most) -> None:
    names = [f"foo-{number // 20}.0-cp3{number % 20}-cp3{number % 20}-linux_x86_64.whl" for number in range(6000)]
    listing = listing_of(*(upstream_file(name, version=f"{number // 20}.0") for number, name in enumerate(names)))
    entries = [{"filename": name, "digests": {"sha256": SHA256, "md5": MD5}, "comment_text": ""} for name in names]
    said = said_of("299.0", *entries)
    with takes_at_most(1):  # five times about 0.05, half of it for reading it back
        for _ in range(5):
            document = rendered(listing, about=said, beside=said)
    assert sum(map(len, document["releases"].values())) == 6000


# The handlers.


class FakeRegistry:
    """One project, with pages kept as the host keeps them."""

    def __init__(self, listing: Listing, *, path: str = "/", public_url: str = "") -> None:
        self.path, self.public_url = path, public_url
        self.current = listing
        self.documents: dict[str, Related | NoraError] = {}
        self.metadata: dict[str, bytes | NoraError] = {}
        self.calls: list[tuple[str, ...]] = []
        self.pages: dict[tuple[str, ...], tuple[str, Page]] = {}

    async def listing(self, project: str) -> Listing:
        if project != self.current.project:
            raise NotFound("project", project)
        return self.current

    async def related(self, project: str, kind: str, part: str = "") -> Related | None:
        assert (project, kind) == (self.current.project, "json-api")
        self.calls.append(("related", part))
        found = self.documents.get(part)
        if isinstance(found, NoraError):
            raise found
        return found

    async def read(self, project: str, filename: str, *, sidecar: str = "", max_bytes: int) -> bytes:
        assert (project, max_bytes) == (self.current.project, 2 << 20)
        self.calls.append(("read", filename + sidecar))
        found = self.metadata[filename + sidecar]
        if isinstance(found, NoraError):
            raise found
        return found

    async def page(
        self,
        key: tuple[str, ...],
        revision: str,
        content_type: str,
        make: Callable[[], Awaitable[bytes]],
        *,
        vary: tuple[str, ...] = (),
        fields: Mapping[str, str] | None = None,
    ) -> Page:
        assert all(type(part) is str for part in key)
        if key not in self.pages or self.pages[key][0] != revision:
            self.calls.append(("make",))
            page = Page(await make(), content_type, vary=vary, headers=fields or {})
            self.pages[key] = (revision, page)
        return self.pages[key][1]


def request_for(*hosts: str, scheme: str = "http") -> Request:
    return cast("Request", SimpleNamespace(headers=Header([("host", host) for host in hosts]), scheme=scheme))


REQUEST = request_for("nora.example:8000")
BUILT = core_metadata("foo", more=["Summary: built"])


def api_of(registry: FakeRegistry) -> JsonApi:
    return JsonApi(cast("Registry[Any]", registry))


def decoded(answer: Page | HTTPResponse) -> dict[str, Any]:
    assert isinstance(answer, Page)
    assert answer.content_type == "application/json"  # API-1
    document = msgspec.json.decode(answer.body)
    assert answer.headers == {"X-PyPI-Last-Serial": str(document["last_serial"])}  # API-7
    assert isinstance(document, dict)
    return document


def with_metadata(*names: str, **fields: Any) -> FakeRegistry:
    files = [upstream_file(name, sidecars=METADATA) for name in names]
    registry = FakeRegistry(listing_of(*files, **fields))
    registry.metadata = {f"{name}.metadata": BUILT for name in names}
    return registry


async def test_other_spellings_of_the_name_lead_there_in_one_hop() -> None:  # API-6, HTTP-16
    api = api_of(with_metadata("foo-1.0.zip"))
    for answer, asked in [
        (await api.project(REQUEST, "F_o.O"), "/x/pypi/F_o.O/json"),
        (await api.project_with_slash(REQUEST, "F_o.O"), "/x/pypi/F_o.O/json/"),
    ]:
        assert isinstance(answer, HTTPResponse)
        assert (answer.status, urljoin(f"http://h{asked}", answer.headers["location"])) == (301, "http://h/x/pypi/f-o-o/json")
    for answer, asked in [
        (await api.release(REQUEST, "Foo", "1.0+cpu"), "/x/pypi/Foo/1.0+cpu/json"),
        (await api.release_with_slash(REQUEST, "Foo", "1.0+cpu"), "/x/pypi/Foo/1.0+cpu/json/"),
    ]:
        assert isinstance(answer, HTTPResponse)
        assert urljoin(f"http://h{asked}", answer.headers["location"]) == "http://h/x/pypi/foo/1.0%2Bcpu/json"
    for name in ("-x", "a\u212a", "x" * 300):
        with pytest.raises(NotFound):
            await api.project(REQUEST, name)


async def test_what_is_not_there_is_not_found() -> None:  # API-4
    api = api_of(with_metadata("foo-1.0.zip"))
    with pytest.raises(NotFound):
        await api.project(REQUEST, "bar")
    for version in ("2.0", "nonsense", "x" * 999):
        with pytest.raises(NotFound) as caught:
            await api.release(REQUEST, "foo", version)
        assert len(str(caught.value)) < 300
    with pytest.raises(NotFound):
        await api_of(FakeRegistry(listing_of())).project(REQUEST, "foo")


async def test_any_spelling_of_a_version_gives_the_same_document() -> None:  # PEP440-2
    registry = with_metadata("foo-1.0.zip", "foo-2.0.zip")
    first = await api_of(registry).release(REQUEST, "foo", "1.0")
    assert await api_of(registry).release(REQUEST, "foo", "v1.0.0") is first
    assert decoded(first)["info"]["version"] == "1.0"


@pytest.mark.parametrize(
    ("hosts", "scheme", "expected"),
    [
        (["nora.example"], "http", "http://nora.example/x/"),
        (["Nora.Example:8080"], "https", "https://nora.example:8080/x/"),
        (["nora_1.internal."], "http", "http://nora_1.internal./x/"),
        (["10.0.0.1:80"], "ws", "http://10.0.0.1:80/x/"),
        (["[2001:db8::1]:8000"], "wss", "https://[2001:db8::1]:8000/x/"),
        ([], "http", "{up}"),
        (["a.example", "b.example"], "http", "{up}"),
        ([""], "http", "{up}"),
        (["evil.example/x"], "http", "{up}"),
        (["user@evil.example"], "http", "{up}"),
        (["evil.example:80:80"], "http", "{up}"),
        (['"><script>'], "http", "{up}"),
        (["a b"], "http", "{up}"),
        (["n\u00f6.example"], "http", "{up}"),
        (["a.example\n"], "http", "{up}"),
        (["-"], "http", "{up}"),
        (["x" * 300], "http", "{up}"),
    ],
)
async def test_links_begin_with_the_hosts_address_or_lead_from_the_document(  # API-5, HTTP-16
    hosts: list[str], scheme: str, expected: str
) -> None:
    registry = with_metadata("foo-1.0.zip")
    registry.path = "/x/"
    request = request_for(*hosts, scheme=scheme)
    whole = decoded(await api_of(registry).project(request, "foo"))
    one = decoded(await api_of(registry).release(request, "foo", "1.0"))
    assert whole["urls"][0]["url"] == expected.format(up="../../") + "simple/foo/foo-1.0.zip"
    assert one["urls"][0]["url"] == expected.format(up="../../../") + "simple/foo/foo-1.0.zip"
    assert urljoin("http://h/x/pypi/foo/json", whole["urls"][0]["url"]).endswith("/x/simple/foo/foo-1.0.zip")
    assert urljoin("http://h/x/pypi/foo/1.0/json", one["urls"][0]["url"]).endswith("/x/simple/foo/foo-1.0.zip")


async def test_a_configured_address_goes_before_the_requests() -> None:
    registry = with_metadata("foo-1.0.zip")
    registry.public_url = "https://public.example/y/"
    assert decoded(await api_of(registry).project(REQUEST, "foo"))["urls"][0]["url"].startswith(
        "https://public.example/y/simple/"
    )


async def test_clients_that_use_different_addresses_do_not_get_each_others_links() -> None:
    api = api_of(with_metadata("foo-1.0.zip"))
    for _ in range(2):
        for host in ("a.example", "b.example"):
            url = decoded(await api.project(request_for(host), "foo"))["urls"][0]["url"]
            assert url == f"http://{host}/simple/foo/foo-1.0.zip"


async def test_a_document_is_made_once_and_again_when_something_changed() -> None:
    registry = with_metadata("foo-1.0.zip")
    api = api_of(registry)
    for _ in range(3):
        await api.project(REQUEST, "foo")
    assert registry.calls.count(("make",)) == 1
    registry.documents[""] = Related(value=said_of("1.0"), revision="a")
    assert decoded(await api.project(REQUEST, "foo"))["info"]["summary"] == "theirs"
    registry.documents[""] = Related(value=said_of("1.0", info={"summary": "newer"}), revision="b")
    assert decoded(await api.project(REQUEST, "foo"))["info"]["summary"] == "newer"
    registry.current = msgspec.structs.replace(registry.current, serial=8)
    assert decoded(await api.project(REQUEST, "foo"))["last_serial"] == 8
    registry.current = listing_of("foo-1.0.zip", "foo-2.0.zip", revision="r2", serial=9)
    assert decoded(await api.project(REQUEST, "foo"))["info"]["version"] == "2.0"


async def test_which_release_is_meant_is_found_out_once_for_a_listing(monkeypatch: pytest.MonkeyPatch) -> None:
    looks = []

    def recorded(listing: Listing) -> list[Release]:
        looks.append(listing.revision)
        return releases_of(listing)

    monkeypatch.setattr(json_routes, "releases_of", recorded)
    registry = with_metadata("foo-1.0.zip")
    api = api_of(registry)
    for _ in range(3):
        await api.project(REQUEST, "foo")
        await api.release(REQUEST, "foo", "v1")
    assert len(looks) == 4  # to find the release, and to make the page; for each of two addresses
    registry.current = listing_of("foo-1.0.1.zip", revision="r2")
    assert decoded(await api.project(REQUEST, "foo"))["info"]["version"] == "1.0.1"
    with pytest.raises(NotFound):
        await api.release(REQUEST, "foo", "v1")


async def test_the_metadata_of_one_file_is_read() -> None:
    registry = with_metadata("foo-1.0-py3-none-any.whl", "foo-1.0.zip", "foo-0.9.zip")
    assert decoded(await api_of(registry).project(REQUEST, "foo"))["info"]["summary"] == "built"
    assert [call for call in registry.calls if call[0] == "read"] == [("read", "foo-1.0-py3-none-any.whl.metadata")]


async def test_hosted_files_without_announced_metadata_have_it_too() -> None:
    file = upstream_file("foo-1.0.zip", url=None, sidecars={PKG_INFO: Sidecar(digests={"sha256": OTHER})})
    registry = FakeRegistry(listing_of(file, hosted=True))
    registry.metadata[f"foo-1.0.zip{PKG_INFO}"] = BUILT
    assert decoded(await api_of(registry).project(REQUEST, "foo"))["info"]["summary"] == "built"


@pytest.mark.parametrize(
    ("error", "reads"),
    [
        (NotFound("file", "x"), 1),
        (Invalid("odd"), 1),
        (TooLarge("x", 5), 1),
        (Forbidden("quarantined"), 1),
        (DigestMismatch("u", "sha256", "a", "b"), 1),
        (UpstreamUnavailable("u", "down"), 2),
        (UpstreamTimeout("u", "silent"), 2),
    ],
)
async def test_metadata_that_cannot_be_read_is_missing_and_asked_for_again_if_it_may_come(error: NoraError, reads: int) -> None:
    registry = with_metadata("foo-1.0.zip")
    registry.metadata["foo-1.0.zip.metadata"] = error
    api = api_of(registry)
    for _ in range(2):
        document = decoded(await api.project(REQUEST, "foo"))
        assert (document["info"]["summary"], len(document["urls"])) == (None, 1)
    assert registry.calls.count(("read", "foo-1.0.zip.metadata")) == reads
    registry.metadata["foo-1.0.zip.metadata"] = BUILT
    summary = decoded(await api.project(REQUEST, "foo"))["info"]["summary"]
    assert summary == ("built" if reads > 1 else None)


async def test_when_the_upstream_fails_the_document_is_made_here() -> None:
    registry = with_metadata("foo-1.0.zip")
    registry.documents[""] = registry.documents["1.0"] = UpstreamTimeout("u", "silent")
    api = api_of(registry)
    assert decoded(await api.project(REQUEST, "foo"))["info"]["summary"] == "built"
    assert decoded(await api.release(REQUEST, "foo", "1.0"))["info"]["summary"] == "built"
    assert [call for call in registry.calls if call[0] == "related"] == [("related", ""), ("related", "1.0")]


async def test_the_upstreams_document_about_the_latest_release_is_asked_for_if_its_first_is_about_another() -> None:
    registry = with_metadata("foo-1.0.zip", "foo-2.0.zip")
    entry = {"filename": "foo-1.0.zip", "digests": {"sha256": SHA256}, "comment_text": "from the first"}
    registry.documents[""] = Related(value=said_of("1.0", entry, vulnerabilities=[{"id": "old"}]), revision="a")
    registry.documents["2.0"] = Related(
        value=said_of("2.0", info={"summary": "second"}, vulnerabilities=[{"id": "new"}]), revision="b"
    )
    document = decoded(await api_of(registry).project(REQUEST, "foo"))
    assert (document["info"]["version"], document["info"]["summary"]) == ("2.0", "second")
    assert document["vulnerabilities"] == [{"id": "new"}]
    assert document["releases"]["1.0"][0]["comment_text"] == "from the first"
    assert ("read", "foo-2.0.zip.metadata") not in registry.calls
    # Its changes show, too.
    registry.documents["2.0"] = Related(value=said_of("2.0", vulnerabilities=[{"id": "newer"}]), revision="c")
    assert decoded(await api_of(registry).project(REQUEST, "foo"))["vulnerabilities"] == [{"id": "newer"}]
    # Without it, metadata tells of the release, and nothing about another release gets in.
    del registry.documents["2.0"]
    document = decoded(await api_of(registry).project(REQUEST, "foo"))
    assert (document["info"]["summary"], document["vulnerabilities"]) == ("built", [])


async def test_a_releases_document_is_made_of_the_upstreams_or_else_of_the_projects() -> None:
    registry = with_metadata("foo-1.0.zip", "foo-2.0.zip")
    api = api_of(registry)
    entry = {"filename": "foo-1.0.zip", "digests": {"sha256": SHA256}, "comment_text": "from the project's"}
    registry.documents[""] = Related(value=said_of("2.0", entry, vulnerabilities=[{"id": "V2"}]), revision="a")
    document = decoded(await api.release(REQUEST, "foo", "1.0"))
    assert (document["info"]["summary"], document["urls"][0]["comment_text"]) == ("built", "from the project's")
    assert document["vulnerabilities"] == []
    document = decoded(await api.release(REQUEST, "foo", "2"))
    assert (document["info"]["summary"], document["vulnerabilities"]) == ("theirs", [{"id": "V2"}])
    registry.documents["1.0"] = Related(value=said_of("1.0.0", vulnerabilities=[{"id": "V1"}]), revision="b")
    registry.calls.clear()
    document = decoded(await api.release(REQUEST, "foo", "1.0"))
    assert (document["info"]["summary"], document["vulnerabilities"]) == ("theirs", [{"id": "V1"}])
    assert registry.calls == [("related", "1.0"), ("make",)]


async def test_an_upstream_without_a_json_api_is_asked_once() -> None:
    registry = with_metadata("foo-1.0.zip")
    await api_of(registry).project(REQUEST, "foo")
    assert [call for call in registry.calls if call[0] == "related"] == [("related", "")]


async def test_a_hosted_project_asks_nobody() -> None:
    registry = with_metadata("foo-1.0.zip", hosted=True)
    registry.documents[""] = Related(value=said_of("1.0"), revision="a")
    assert decoded(await api_of(registry).project(REQUEST, "foo"))["info"]["summary"] == "built"
    assert not [call for call in registry.calls if call[0] == "related"]


@pytest.mark.parametrize(("count", "elsewhere"), [(10, False), (400, True)])
async def test_long_documents_are_made_off_the_event_loop(monkeypatch: pytest.MonkeyPatch, count: int, elsewhere: bool) -> None:
    threads = []

    def recorded(material: Material) -> bytes:
        threads.append(threading.get_ident())
        return render(material)

    monkeypatch.setattr(json_routes, "render", recorded)
    registry = FakeRegistry(listing_of(*(f"foo-1.{number}.zip" for number in range(count))))
    await api_of(registry).project(REQUEST, "foo")
    assert [thread != threading.get_ident() for thread in threads] == [elsewhere]
