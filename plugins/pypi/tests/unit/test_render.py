from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote, urljoin

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from selectolax.lexbor import LexborHTMLParser

from nora.api import Document, File, Listing, ProjectNames, Sidecar
from nora_pypi import parse_html, parse_json
from nora_pypi.names import NormalizedName, is_distribution, is_safe_filename, parse_version, version_of
from nora_pypi.parse import parse_listing
from nora_pypi.render import project_html, project_json, projects_html, projects_json

CORPUS = Path(__file__).parent.parent / "corpus"
PAGE = "https://nora.example/simple/foo/"
SHA256 = "ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb"
OTHER = "3e23e8160039594a33894f6564e1b1348bbd7a0088d42c4acb73eeaed59c009d"
UPSTREAM = "https://files.example/p/"


def page_json(listing: Listing, base: str = "", secure_base: str = "") -> dict[str, Any]:
    page: dict[str, Any] = msgspec.json.decode(project_json(listing, base, secure_base))
    return page


def page_html(listing: Listing, base: str = "", secure_base: str = "") -> LexborHTMLParser:
    return LexborHTMLParser(project_html(listing, base, secure_base))


def anchor(file: File, base: str = "", secure_base: str = "") -> dict[str, str | None]:
    (node,) = page_html(Listing(project="foo", files=(file,)), base, secure_base).css("a")
    return node.attributes


def meta(listing: Listing) -> dict[str, str | None]:
    return {n.attributes["name"] or "": n.attributes["content"] for n in page_html(listing).css("meta[name]")}


def upstream_file(name: str = "foo-1.0-py3-none-any.whl", **fields: Any) -> File:
    return File(name=name, url=UPSTREAM + quote(name, safe=""), **{"size": 1, **fields})


HOSTED = File(
    name="foo-1.0-py3-none-any.whl",
    version="1.0",
    size=1234,
    digests={"sha256": SHA256, "md5": "0c"},
    published="2024-01-02T03:04:05.678901Z",
    sidecars={".metadata": Sidecar(digests={"sha256": OTHER}, size=99)},
    extra={"requires-python": ">=3.8,<4", "summary": "Not for pages", "_note": 1},
)


def test_hosted_files_show_only_hashes_that_every_client_can_compute() -> None:  # JSON-5, HTML-7, PROXY-3
    digests = {"sha256": SHA256, "blake2b_256": OTHER}
    (hosted,) = page_json(Listing(project="foo", files=(msgspec.structs.replace(HOSTED, digests=digests),)))["files"]
    assert hosted["hashes"] == {"sha256": SHA256}
    (proxied,) = page_json(Listing(project="foo", files=(upstream_file(digests=digests),)))["files"]
    assert proxied["hashes"] == digests


def test_json_of_a_hosted_file() -> None:  # JSON-1, JSON-3 to JSON-10, META-4, META-6
    assert page_json(Listing(project="foo", files=(HOSTED,), hosted=True)) == {
        "meta": {"api-version": "1.4"},
        "name": "foo",
        "versions": ["1.0"],
        "files": [
            {
                "filename": "foo-1.0-py3-none-any.whl",
                "url": "foo-1.0-py3-none-any.whl",
                "hashes": {"sha256": SHA256, "md5": "0c"},
                "size": 1234,
                "upload-time": "2024-01-02T03:04:05.678901Z",
                "requires-python": ">=3.8,<4",
                "core-metadata": {"sha256": OTHER},
                "_note": 1,
            }
        ],
    }


def test_html_of_a_hosted_file() -> None:  # HTML-5, HTML-6, HTML-9, META-3, RPY-1
    page = project_html(Listing(project="foo", files=(HOSTED,), hosted=True), "").decode()
    assert page == (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="pypi:repository-version" content="1.4">\n<title>Links for foo</title>\n</head>\n'
        "<body>\n<h1>Links for foo</h1>\n"
        f'<a href="foo-1.0-py3-none-any.whl#sha256={SHA256}" data-requires-python="&gt;=3.8,&lt;4"'
        f' data-core-metadata="sha256={OTHER}" data-dist-info-metadata="sha256={OTHER}">foo-1.0-py3-none-any.whl</a><br>\n'
        "</body>\n</html>\n"
    )


def test_base_precedes_every_link() -> None:  # NAME-8, D11
    listing = Listing(project="foo", files=(upstream_file("foo-1.0+cu 1!.zip"),))
    base = "https://nora.example/a&b/simple/foo/"
    assert page_json(listing, base)["files"][0]["url"] == base + "foo-1.0%2Bcu%201%21.zip"
    assert [n.attributes["href"] for n in page_html(listing, base).css("a")] == [base + "foo-1.0%2Bcu%201%21.zip"]


def test_no_link_leads_to_the_upstream() -> None:  # PROXY-6
    sidecars = {suffix: Sidecar(url=f"{UPSTREAM}x{suffix}") for suffix in (".metadata", ".asc", ".provenance")}
    stale = {"provenance": UPSTREAM}
    listing = Listing(project="foo", files=(upstream_file(sidecars=sidecars), upstream_file("foo-2.zip", extra=stale)))
    for secure_base in ("", PAGE):
        assert b"files.example" not in project_json(listing, "", secure_base) + project_html(listing, "", secure_base)


@pytest.mark.parametrize(
    "name", ["foo-1.0+cu124.zip", "foo-1!2.zip", "a:b.zip", "é &<>\"'.zip", "a%2Fb.zip", "a#b?c.zip", "..a.zip"]
)
def test_text_of_an_anchor_is_the_end_of_its_link(name: str) -> None:  # HTML-5, HTML-8, NAME-9
    (node,) = page_html(Listing(project="foo", files=(upstream_file(name),))).css("a")
    url = urljoin(PAGE, node.attributes["href"] or "")
    assert url.startswith(PAGE)
    assert unquote(url.removeprefix(PAGE)) == name == node.text()


EVIL = "\"'><script>alert(1)</script>&amp;\0\x1b\r\n\u2028é\ufffe"


def test_nothing_in_a_listing_becomes_markup() -> None:  # HTML-8, PROXY-15
    file = upstream_file(
        f"{EVIL}.zip",
        yanked=EVIL,
        sidecars={".provenance": Sidecar(url=EVIL)},
        extra={"requires-python": EVIL, "provenance": EVIL, "data-x": EVIL, 'data-y"onload="x': "z"},
    )
    extra = {"meta": {"tracks": [EVIL]}, "alternate-locations": [EVIL]}
    listing = Listing(project=EVIL, files=(file,), status="archived", status_reason=EVIL, extra=extra)
    tree = page_html(listing, f"{EVIL}/", f"{EVIL}/")
    assert not tree.css("script")
    (node,) = tree.css("a")
    assert set(node.attributes) == {"href", "data-requires-python", "data-yanked", "data-provenance", "data-x"}
    assert node.attributes["data-yanked"] == EVIL.replace("\r\n", "\n").translate({0: 0xFFFD, 0x1B: 0xFFFD, 0xFFFE: 0xFFFD})
    assert page_json(listing)["files"][0]["yanked"] == EVIL
    list_tree = LexborHTMLParser(projects_html(ProjectNames(names=(EVIL,), revision=""), EVIL))
    assert not list_tree.css("script")
    assert len(list_tree.css("a")) == 1


@pytest.mark.parametrize("text", ["a\ud800b", "\x00\x01\x0b\x0e\x7f\x9f\ufdd0\uffff"])
def test_html_holds_no_character_that_html_forbids(text: str) -> None:  # HTML-1, HTML-10
    page = project_html(Listing(project="foo", files=(upstream_file(yanked=text),)), "").decode()
    assert not (set(text) - {"a", "b"}) & set(page)
    assert "\ufffd" in page


@pytest.mark.parametrize(
    ("digests", "fragment"),
    [
        ({}, ""),
        ({"md5": "0c"}, "#md5=0c"),
        ({"md5": "0c", "sha256": SHA256, "sha512": "ff"}, f"#sha256={SHA256}"),
        ({"md5": "0c", "sha1": "aa", "sha384": "bb", "sha512": "ff"}, "#sha512=ff"),
        ({"blake2b_256": "0f", "md5": "0c"}, "#md5=0c"),  # installers do not know the other
        ({"unheard_of": "0f"}, "#unheard_of=0f"),
    ],
)
def test_the_best_known_hash_is_in_the_link(digests: dict[str, str], fragment: str) -> None:  # HTML-6, HTML-7
    attributes = anchor(upstream_file(digests=digests, sidecars={".metadata": Sidecar(digests=digests)}))
    assert attributes["href"] == "foo-1.0-py3-none-any.whl" + fragment
    announced = fragment.removeprefix("#") or "true"
    assert attributes["data-core-metadata"] == attributes["data-dist-info-metadata"] == announced  # META-3, META-4


@pytest.mark.parametrize(
    ("yanked", "json", "html"),
    [(False, None, None), (True, True, ""), ("why", "why", "why"), ("", True, "")],
)
def test_yanked(yanked: bool | str, json: bool | str | None, html: str | None) -> None:  # YANK-1 to YANK-4
    file = upstream_file(yanked=yanked)
    assert page_json(Listing(project="foo", files=(file,)))["files"][0].get("yanked") == json
    assert anchor(file).get("data-yanked") == html
    assert ("data-yanked" in anchor(file)) is (html is not None)


def test_metadata_that_is_not_there_is_never_announced_in_html() -> None:  # META-1, CLIENT pip
    refused = upstream_file(extra={"core-metadata": False, "gpg-sig": False})
    entry = page_json(Listing(project="foo", files=(refused,)))["files"][0]
    assert entry["core-metadata"] is False
    assert entry["gpg-sig"] is False
    attributes = anchor(refused)
    assert attributes["data-gpg-sig"] == "false"  # HTML-12
    assert "data-core-metadata" not in attributes
    assert "data-dist-info-metadata" not in attributes


def test_metadata_that_we_serve_beats_what_the_upstream_says() -> None:  # META-7
    file = upstream_file(extra={"core-metadata": False}, sidecars={".metadata": Sidecar()})
    assert page_json(Listing(project="foo", files=(file,)))["files"][0]["core-metadata"] is True
    assert anchor(file)["data-core-metadata"] == "true"


def test_json_never_has_the_key_that_breaks_old_installers() -> None:  # META-13
    file = upstream_file(extra={"dist-info-metadata": True, "data-dist-info-metadata": True})
    (entry,) = page_json(Listing(project="foo", files=(file,)))["files"]
    assert "dist-info-metadata" not in entry
    assert "data-dist-info-metadata" not in entry
    assert "data-dist-info-metadata" not in anchor(file)


def test_signature_and_provenance() -> None:  # HTML-12, JSON-13, JSON-14
    foreign = {".asc": Sidecar(url="x"), ".provenance": Sidecar(url="https://index.example/p")}
    own = {suffix: Sidecar(digests={"sha256": OTHER}, size=1) for suffix in foreign}
    for file in (upstream_file(sidecars=foreign), msgspec.structs.replace(HOSTED, sidecars=own)):
        (entry,) = page_json(Listing(project="foo", files=(file,)), "", PAGE)["files"]
        assert (entry["gpg-sig"], entry["provenance"]) == (True, f"{PAGE}{file.name}.provenance")
        assert anchor(file, "", PAGE)["data-gpg-sig"] == "true"
        assert anchor(file, "", PAGE)["data-provenance"] == f"{PAGE}{file.name}.provenance"
    unsigned = upstream_file(extra={"provenance": None})
    assert page_json(Listing(project="foo", files=(unsigned,)), "", PAGE)["files"][0]["provenance"] is None
    assert "data-provenance" not in anchor(unsigned, "", PAGE)
    unknown = upstream_file()
    assert {"gpg-sig", "provenance"}.isdisjoint(page_json(Listing(project="foo", files=(unknown,)), "", PAGE)["files"][0])
    assert set(anchor(unknown, "", PAGE)) == {"href"}


@pytest.mark.parametrize("base", ["", "https://nora.example/simple/foo/"])
def test_provenance_has_a_whole_secure_address_or_none(base: str) -> None:  # PROV-1
    file = upstream_file("foo-1.0+cu 1!.zip", sidecars={".provenance": Sidecar(url=UPSTREAM)})
    secure = "https://other.example/a&b/foo/"
    (entry,) = page_json(Listing(project="foo", files=(file,)), base, secure)["files"]
    assert entry["provenance"] == anchor(file, base, secure)["data-provenance"] == secure + "foo-1.0%2Bcu%201%21.zip.provenance"
    assert entry["url"] == base + "foo-1.0%2Bcu%201%21.zip"
    (entry,) = page_json(Listing(project="foo", files=(file,)), base)["files"]
    assert "provenance" not in entry
    assert "data-provenance" not in anchor(file, base)


def test_unknown_attributes_of_an_upstream_survive_and_ours_stay_here() -> None:
    extra = {"data-x": "1", "data-yanked": "no", "data-core-metadata": "true", "data-y": 2}
    assert set(anchor(upstream_file(extra=extra))) == {"href", "data-x"}
    assert set(anchor(File(name="foo-1.0.zip", size=1, extra=extra))) == {"href"}


def test_extra_cannot_replace_what_the_model_says() -> None:
    extra = {"filename": "evil.zip", "url": "https://evil.example/", "hashes": {}, "size": 9, "yanked": "x", "upload-time": "x"}
    (entry,) = page_json(Listing(project="foo", files=(upstream_file(extra=extra),)))["files"]
    assert entry == {"filename": "foo-1.0-py3-none-any.whl", "url": "foo-1.0-py3-none-any.whl", "hashes": {}, "size": 1}
    page = {
        "name": "evil",
        "files": [1],
        "versions": ["1"],
        "project-status": {},
        "meta": {"api-version": "9"},
        "api-version": "9",
    }
    assert page_json(Listing(project="foo", extra=page)) == {
        "meta": {"api-version": "1.4"},
        "name": "foo",
        "versions": ["1"],
        "files": [],
    }


def test_a_page_claims_the_version_that_it_keeps() -> None:  # VER-1 to VER-5
    sized, unsized = upstream_file(), upstream_file("foo-2.0.zip", size=None)
    for files, version in (((sized,), "1.4"), ((sized, unsized), "1.0"), ((), "1.4")):
        listing = Listing(project="foo", files=files)
        assert page_json(listing)["meta"]["api-version"] == version
        assert meta(listing)["pypi:repository-version"] == version


def test_status_markers_are_of_version_1_4() -> None:  # STAT-1, STAT-4
    listing = Listing(project="foo", files=(upstream_file(size=None),), status="archived", status_reason='moved to "bar"')
    assert page_json(listing)["project-status"] == {"status": "archived", "reason": 'moved to "bar"'}
    assert page_json(listing)["meta"]["api-version"] == "1.0"  # VER-4: no size
    assert meta(listing) == {
        "pypi:repository-version": "1.4",
        "pypi:project-status": "archived",
        "pypi:project-status-reason": 'moved to "bar"',
    }
    plain = Listing(project="foo", status="deprecated")
    assert page_json(plain)["project-status"] == {"status": "deprecated"}
    assert "pypi:project-status-reason" not in meta(plain)
    assert "project-status" not in page_json(Listing(project="foo"))


@pytest.mark.parametrize(("status", "offered"), [("quarantined", 0), ("archived", 1), ("deprecated", 1), ("active", 1)])
def test_only_quarantine_hides_files(status: str, offered: int) -> None:  # STAT-2, STAT-3
    listing = Listing(project="foo", files=(upstream_file(version="1.0"),), status=status)
    assert len(page_json(listing)["files"]) == len(page_html(listing).css("a")) == offered
    assert page_json(listing)["versions"] == ["1.0"]


def test_versions_are_those_of_the_upstream_and_of_the_files() -> None:  # JSON-7, JSON-8, PEP440-2
    files = tuple(upstream_file(f"foo-{v}.zip", version=v) for v in ("1.0", "3.0", "2.0", "10.0", "1.0.0", ""))
    extra = {"versions": ["2.0.0", "1", "0.5", "0.5.0", "2004d", "2004d", 7]}
    assert page_json(Listing(project="foo", files=files, extra=extra))["versions"] == [
        "2.0.0",
        "1",
        "0.5",
        "0.5.0",  # the upstream's own list is passed on as it is, but for what is there twice to the letter
        "2004d",
        "3.0",
        "10.0",
    ]
    assert page_json(Listing(project="foo", files=files))["versions"] == ["1.0", "2.0", "3.0", "10.0"]
    odd = (*files, upstream_file("x.zip", version="zzz"))
    assert page_json(Listing(project="foo", files=odd, extra={"versions": "1.0"}))["versions"][0] == "zzz"


def test_a_hosted_project_names_no_other_places() -> None:  # TRACK-2
    extra = {
        "meta": {"tracks": ["https://index.example/simple/foo/"], "_last-serial": 5},
        "alternate-locations": ["https://index.example/simple/foo/"],
    }
    listing = Listing(project="foo", files=(HOSTED, upstream_file("foo-2.0.zip")), extra=extra)
    assert page_json(listing)["meta"] == {
        "api-version": "1.4",
        "_last-serial": 5,
        "tracks": ["https://index.example/simple/foo/"],
    }
    assert page_json(listing)["alternate-locations"] == ["https://index.example/simple/foo/"]
    assert {"pypi:tracks", "pypi:alternate-locations"} < set(meta(listing))
    mixed = msgspec.structs.replace(listing, hosted=True)
    assert page_json(mixed)["meta"] == {"api-version": "1.4", "_last-serial": 5}
    assert b"index.example" not in project_json(mixed, "") + project_html(mixed, "")


def test_lists_of_projects() -> None:  # HTML-2, HTML-3, HTML-11, JSON-2, NAME-5, VER-1, VER-2
    names = ProjectNames(names=("a", "foo-bar"), revision="1")
    assert msgspec.json.decode(projects_json(names)) == {
        "meta": {"api-version": "1.4"},
        "projects": [{"name": "a"}, {"name": "foo-bar"}],
    }
    for base in ("", "https://nora.example/simple/"):
        tree = LexborHTMLParser(projects_html(names, base))
        assert [(n.attributes["href"], n.text()) for n in tree.css("a")] == [(f"{base}a/", "a"), (f"{base}foo-bar/", "foo-bar")]
    assert b'content="1.4"' in projects_html(names, "")
    empty = ProjectNames(names=(), revision="0")
    assert msgspec.json.decode(projects_json(empty))["projects"] == []
    assert not LexborHTMLParser(projects_html(empty, "")).css("a")


def test_rendering_is_deterministic() -> None:  # D12
    listing = Listing(project="foo", files=(HOSTED, upstream_file("foo-2.0.zip", extra={"b": 1, "a": 2})))
    again = msgspec.msgpack.decode(msgspec.msgpack.encode(listing), type=Listing)
    assert project_json(listing, "") == project_json(again, "")
    assert project_html(listing, "") == project_html(again, "")


PAGES = {
    "bare_anchors.html": "loose",
    "comments_and_base.html": "relocated",
    "devpi.html": "acme-tools",
    "empty_project.html": "vacant",
    "entities.html": "entity",
    "full.json": "whole",
    "hashes.html": "hashed",
    "odd_fields.json": "odd",
    "old_metadata.html": "meta",
    "pytorch_flat.html": "tensor-kit",
    "status.html": "shelved",
    "unknown_keys.json": "novel",
    "upper_case.html": "old-thing",
    "version_1_0.json": "plain",
    "yanked.html": "yank",
}


def relocated(listing: Listing) -> tuple[File, ...]:
    """The files as they are after a round trip through pages below UPSTREAM."""
    return tuple(
        msgspec.structs.replace(
            file,
            url=UPSTREAM + quote(file.name, safe=""),
            sidecars={
                suffix: msgspec.structs.replace(sidecar, url=UPSTREAM + quote(file.name, safe="") + suffix)
                for suffix, sidecar in file.sidecars.items()
            },
        )
        for file in listing.files
    )


@pytest.mark.parametrize("name", PAGES)
def test_real_pages_survive_json(name: str) -> None:  # PROXY-3, "what passes through is lossless"
    project = PAGES[name]
    read = parse_listing(project, Document(url=PAGE, content_type="", body=(CORPUS / name).read_bytes()))
    body = project_json(read, UPSTREAM, UPSTREAM)
    again = parse_json.parse(project, Document(url=PAGE, content_type="", body=body))
    assert again.files == relocated(read)
    assert (again.status, again.status_reason) == (read.status, read.status_reason)
    computed = {"api-version", "versions"}
    assert {k: v for k, v in again.extra.items() if k not in computed} == {
        k: v for k, v in read.extra.items() if k not in computed
    }
    assert again.extra["versions"][: len(read.extra.get("versions", ()))] == read.extra.get("versions", [])


@pytest.mark.parametrize("name", [name for name in PAGES if name.endswith(".html")])
def test_real_html_pages_survive_html(name: str) -> None:  # PROXY-3
    project = PAGES[name]
    read = parse_listing(project, Document(url=PAGE, content_type="", body=(CORPUS / name).read_bytes()))
    again = parse_html.parse(project, Document(url=PAGE, content_type="", body=project_html(read, UPSTREAM, UPSTREAM)))
    expected = relocated(read)
    for file in expected:
        file.extra.pop("core-metadata", None)  # HTML has no word for "none"
    assert again.files == expected
    assert (again.status, again.status_reason) == (read.status, read.status_reason)
    assert {**again.extra, "api-version": ""} == {**read.extra, "api-version": ""}


hexes = st.text("0123456789abcdef", min_size=32, max_size=64)
algorithms = st.sampled_from(["sha256", "sha512", "md5", "blake2b_256", "sha3_256", "unheard_of"])
texts = st.text(max_size=12)
filenames = st.builds(
    lambda stem, suffix: f"{stem}{suffix}",
    st.text(max_size=20) | st.from_regex(r"foo-[0-9]\.[0-9](\+[a-z]{3})?", fullmatch=True),
    st.sampled_from([".whl", ".tar.gz", ".zip", ".egg", "-py3-none-any.whl"]),
).filter(lambda name: is_distribution(name) and is_safe_filename(name))
values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | texts,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(texts, inner, max_size=2),
    max_leaves=4,
)
times = st.datetimes().map(lambda moment: moment.isoformat() + "Z")
foreign_keys = texts.filter(
    lambda key: (
        key
        not in {
            *("filename", "url", "hashes", "size", "upload-time", "yanked", "core-metadata", "dist-info-metadata", "gpg-sig"),
            *("requires-python", "provenance", "data-dist-info-metadata"),
        }
    )
)


@st.composite
def files(draw: st.DrawFn, *, html: bool) -> File:
    """A file as a parser of that format makes it, below UPSTREAM."""
    name = draw(filenames)
    url = UPSTREAM + quote(name, safe="")
    text = st.text(st.characters(exclude_categories=["C"]), max_size=12) if html else texts
    digests = st.dictionaries(algorithms, hexes, max_size=1 if html else 3)
    extra: dict[str, Any] = {}
    sidecars = {}
    if draw(st.booleans()):
        sidecars[".metadata"] = Sidecar(url=f"{url}.metadata", digests=draw(digests))
    elif not html and draw(st.booleans()):
        extra["core-metadata"] = False
    if draw(st.booleans()):
        sidecars[".asc"] = Sidecar(url=f"{url}.asc")
    elif draw(st.booleans()):
        extra["gpg-sig"] = False
    if draw(st.booleans()):
        extra["requires-python"] = draw(text if html else st.none() | text)
    if draw(st.booleans()):
        sidecars[".provenance"] = Sidecar(url=f"{url}.provenance")
    elif not html and draw(st.booleans()):
        extra["provenance"] = None
    if html:
        extra |= draw(st.dictionaries(st.from_regex(r"data-x[a-z0-9-]{0,5}", fullmatch=True), text, max_size=2))
    else:
        extra |= draw(st.dictionaries(foreign_keys, values, max_size=2))
    return File(
        name=name,
        version=version_of(name, NormalizedName("foo")),
        url=url,
        size=None if html else draw(st.none() | st.integers(0, 2**63 - 1)),
        published=None if html else draw(st.none() | times),
        digests=draw(digests),
        yanked=draw(st.booleans() | text.filter(bool)),
        sidecars=sidecars,
        extra=extra,
    )


def listings(*, html: bool) -> st.SearchStrategy[Listing]:
    return st.builds(
        lambda files, status, reason: Listing(
            project="foo", files=tuple(files), status=status, status_reason="" if status == "active" else reason
        ),
        st.lists(files(html=html), max_size=4, unique_by=lambda file: file.name),
        st.sampled_from(["active", "archived", "deprecated"]),
        st.text(st.characters(exclude_categories=["C"]), max_size=12),
    )


@given(listings(html=False))
def test_any_listing_survives_json(listing: Listing) -> None:  # PROXY-3
    body = project_json(listing, UPSTREAM, UPSTREAM)
    again = parse_json.parse("foo", Document(url=PAGE, content_type="", body=body))
    assert again.files == listing.files
    assert (again.status, again.status_reason) == (listing.status, listing.status_reason)
    versions = again.extra["versions"]
    parsed = [parse_version(version) for version in versions]
    assert len(set(parsed)) == len(versions)
    assert {parse_version(file.version) for file in listing.files if file.version} == set(parsed)
    assert project_json(again, UPSTREAM, UPSTREAM) == body


@given(listings(html=True))
def test_any_listing_survives_html(listing: Listing) -> None:  # PROXY-3
    body = project_html(listing, UPSTREAM, UPSTREAM)
    again = parse_html.parse("foo", Document(url=PAGE, content_type="", body=body))
    assert again.files == listing.files
    assert (again.status, again.status_reason) == (listing.status, listing.status_reason)
    assert project_html(again, UPSTREAM, UPSTREAM) == body


@given(listings(html=False))
def test_both_formats_describe_the_same_files(listing: Listing) -> None:  # JSON-16, HTML-4
    anchors = page_html(listing, "", PAGE).css("a")
    entries = page_json(listing, "", PAGE)["files"]
    assert [a.text() for a in anchors] == [e["filename"] for e in entries]
    for attributes, entry in zip((a.attributes for a in anchors), entries, strict=True):
        assert (attributes["href"] or "").partition("#")[0] == entry["url"]
        assert ("data-yanked" in attributes) == bool(entry.get("yanked"))
        assert ("data-core-metadata" in attributes) == (entry.get("core-metadata", False) is not False)
        assert ("data-requires-python" in attributes) == (entry.get("requires-python") is not None)
        assert attributes.get("data-provenance") == entry.get("provenance")
        assert attributes.get("data-gpg-sig") == {True: "true", False: "false"}.get(entry.get("gpg-sig"))


def test_a_page_of_six_thousand_files_is_rendered_fast(takes_at_most) -> None:
    files = tuple(
        upstream_file(
            f"foo-{n // 12}.0-cp3{n % 12}-cp3{n % 12}-linux_x86_64.whl",
            version=f"{n // 12}.0",
            digests={"sha256": SHA256},
            published="2024-01-02T03:04:05.678901Z",
            sidecars={".metadata": Sidecar(url=UPSTREAM, digests={"sha256": OTHER})},
            extra={"requires-python": ">=3.8"},
        )
        for n in range(6000)
    )
    listing = Listing(project="foo", files=files)
    for render, parse in ((project_json, parse_json.parse), (project_html, parse_html.parse)):
        with takes_at_most(0.3):  # about 0.025 on a quiet machine
            body = render(listing, "")
        with takes_at_most(1.5):  # about 0.1
            again = parse("foo", Document(url=PAGE, content_type="", body=body))
        assert len(again.files) == 6000
