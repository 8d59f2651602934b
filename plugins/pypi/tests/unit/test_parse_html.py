from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from nora.api import Document, File, Listing, Sidecar, UpstreamInvalid
from nora_pypi.parse_html import parse

CORPUS = Path(__file__).parent.parent / "corpus"
SHA256 = "ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb"
MD5 = "0cc175b9c0f1b6a831c399e269772661"


def document(body: str | bytes, project: str = "foo", content_type: str = "text/html") -> Document:
    raw = body if isinstance(body, bytes) else body.encode()
    return Document(url=f"https://index.example/simple/{project}/", content_type=content_type, body=raw)


def corpus(name: str, project: str) -> Listing:
    return parse(project, document((CORPUS / name).read_bytes(), project))


def one(attributes: str) -> File:
    """The one file of a page, whose anchor has these attributes."""
    (file,) = parse("foo", document(f"<a href='foo-1.0-py3-none-any.whl' {attributes}>foo</a>")).files
    return file


def test_flat_layout_with_absolute_paths_and_local_versions() -> None:  # NAME-9, PROXY-4
    listing = corpus("pytorch_flat.html", "tensor-kit")
    assert [(file.name, file.version) for file in listing.files] == [
        ("tensor_kit-2.4.0+cu124-cp311-cp311-linux_x86_64.whl", "2.4.0+cu124"),
        ("tensor_kit-2.4.0+cu124-cp311-cp311-win_amd64.whl", "2.4.0+cu124"),
        ("tensor_kit-2.5.0.dev20240612+cpu.cxx11.abi-cp312-cp312-linux_x86_64.whl", "2.5.0.dev20240612+cpu.cxx11.abi"),
    ]
    first, second, _ = listing.files
    assert first.url == "https://index.example/whl/cu124/tensor_kit-2.4.0%2Bcu124-cp311-cp311-linux_x86_64.whl"
    assert first.digests == {"sha256": "2cb28155635e3d3f1c2e4bd4dd8c94de6aa3a71c9d3a1a3a2a8fb3f3c1f0a001"}
    assert first.sidecars == {}
    assert second.digests == {}
    assert second.sidecars[".metadata"] == Sidecar(
        url="https://index.example/whl/cu124/tensor_kit-2.4.0%2Bcu124-cp311-cp311-win_amd64.whl.metadata",
        digests={"sha256": "11b28155635e3d3f1c2e4bd4dd8c94de6aa3a71c9d3a1a3a2a8fb3f3c1f0a002"},
    )
    assert listing.extra == {"api-version": "1.0"}


def test_relative_links_lead_from_the_final_address_of_the_page() -> None:  # PROXY-4
    body = (CORPUS / "devpi.html").read_bytes()
    url = "https://devpi.example/team/dev/+simple/acme-tools/"
    listing = parse("acme-tools", Document(url=url, content_type="text/html; charset=utf-8", body=body))
    assert [file.url for file in listing.files] == [
        "https://devpi.example/team/dev/+f/1d4/a3ac9a2f5a1d7/acme_tools-1.2-py3-none-any.whl",
        "https://devpi.example/team/dev/+f/2e5/b4bd0b306b2e8/acme-tools-1.2.tar.gz",
        "https://devpi.example/root/mirror/+e/https_files.example_packages/acme-tools-1.0.zip",
        "https://devpi.example/root/mirror/+f/3f6/c5ce1c417c3f9/acme-tools-1.1.tar.gz",
    ]
    assert listing.files[0].extra == {"requires-python": ">=3.7"}
    assert listing.files[2].digests == {"md5": MD5}


def test_upper_case_odd_quoting_and_other_links_of_a_directory_listing() -> None:  # PROXY-5
    listing = corpus("upper_case.html", "old-thing")
    assert [(file.name, file.version) for file in listing.files] == [
        ("Old.Thing-0.9.tar.gz", "0.9"),
        ("Old.Thing-1.0.TAR.GZ", "1.0"),
        ("Old.Thing-1.0.win32-py2.6.exe", "1.0"),
        ("old_thing-1.1-py2.py3-none-any.whl", "1.1"),
        ("old_thing-1.1-py2.6.egg", "1.1"),
    ]
    assert listing.files[3].extra == {"requires-python": "<3"}


def test_comments_templates_and_anchors_without_href_are_no_files() -> None:  # PROXY-4, PROXY-5, PROXY-14, PROXY-15
    listing = corpus("comments_and_base.html", "relocated")
    assert [file.url for file in listing.files] == [
        "https://files.example/pool/relocated/relocated-1.0.tar.gz",
        "https://files.example/pool/relocated/relocated-1.1.tar.gz",
        "https://files.example/other/relocated-1.2.tar.gz",
        "https://files.example/pool/relocated/relocated-1.3.tar.gz",
        "https://files.example/pool/relocated/win/relocated-1.4.zip",
    ]
    assert listing.files[0].digests == {}  # the first of two wins


@pytest.mark.parametrize("base", ["ftp://files.example/", "http://[broken", ""])
def test_a_base_that_leads_nowhere_is_ignored(base: str) -> None:
    (file,) = parse("foo", document(f"<base href='{base}'><a href='foo-1.0.zip'>")).files
    assert file.url == "https://index.example/simple/foo/foo-1.0.zip"


def test_metadata_under_its_old_name() -> None:  # META-10
    plain, hashed, refused, odd, signed_url = corpus("old_metadata.html", "meta").files
    assert plain.sidecars == {".metadata": Sidecar(url=f"{plain.url}.metadata")}
    assert hashed.sidecars == {
        ".metadata": Sidecar(url=f"{hashed.url}.metadata", digests={"sha256": "b" * 64}),
        ".asc": Sidecar(url=f"{hashed.url}.asc"),
    }
    assert refused.sidecars == {}  # the new name beats the old one
    assert refused.extra == {"core-metadata": False, "gpg-sig": False}
    assert odd.sidecars == {".provenance": Sidecar(url="https://files.example/m/1.3.provenance")}
    assert odd.extra == {"data-build-farm": 'ring "two"'}
    assert signed_url.url == "https://files.example/m/meta-1.4-py3-none-any.whl?X-Signature=ab/cd&Expires=60"
    assert signed_url.sidecars[".metadata"].url == (
        "https://files.example/m/meta-1.4-py3-none-any.whl.metadata?X-Signature=ab/cd&Expires=60"
    )


def test_hashes_of_any_algorithm_and_fragments_that_are_none() -> None:  # PROXY-3, HTML-6
    files = corpus("hashes.html", "hashed").files
    assert [file.digests for file in files] == [
        {},
        {"md5": MD5},
        {"sha256": SHA256},
        {
            "sha512": "1f40fc92da241694750979ee6cf582f2d5d7d28e18335de05abc54d0560e0f5302860c652bf08d560252aa5e74210546f369fbbbce8c12cfc7957b2652fe9a75"
        },
        {},
        {"md5": MD5},
        {},
        {"blake2b_256": "0f1b6a831c399e2697726610cc175b9c0f1b6a831c399e2697726610cc175b9c"},
        {},
    ]
    assert all("#" not in (file.url or "#") for file in files)


@pytest.mark.parametrize(
    ("fragment", "digests"),
    [
        (f"sha256={SHA256}&egg=foo", {"sha256": SHA256}),
        (f"sha256={SHA256}&md5={MD5}", {"sha256": SHA256, "md5": MD5}),
        (f"egg=foo&sha256={SHA256}", {"sha256": SHA256}),
        (f"tomorrow={SHA256}", {"tomorrow": SHA256}),  # a hash that nobody knows yet
        ("tomorrow=abcdef", {}),
        (f"egg={SHA256}", {}),
        ("sha1=ab", {"sha1": "ab"}),
        ("md5=", {}),
        ("=", {}),
        ("&&", {}),
        (SHA256, {}),
    ],
)
def test_fragments(fragment: str, digests: dict[str, str]) -> None:
    (file,) = parse("foo", document(f"<a href='foo-1.0.zip#{fragment}'>foo</a>")).files
    assert file.digests == digests


def test_entities_encodings_and_names_that_are_no_names() -> None:  # PROXY-5, PROXY-15, HTML-10
    files = corpus("entities.html", "entity").files
    assert [file.name for file in files] == [
        "entity-1.0.tar.gz",
        "entity-1.1+local.1-py3-none-any.whl",
        "entity-1!2.0.tar.gz",
        "entity-3.0.tar.gz",
        "entity 4.0.tar.gz",
    ]
    assert files[0].url == "https://index.example/simple/entity/entity-1.0.tar.gz?a=1&b=2"
    assert files[0].digests == {"sha256": SHA256}
    assert files[0].yanked == "a <b> & \"c\" 'd' é é"
    assert [file.extra.get("requires-python") for file in files[:2]] == [">=3.6,<4", ">=3.6, <4"]
    assert files[4].url == "https://index.example/simple/entity/entity%204.0.tar.gz"


def test_presence_alone_means_yanked() -> None:  # YANK-2
    assert [file.yanked for file in corpus("yanked.html", "yank").files] == [True, True, "broken on <3.8", "false", False]


def test_status_tracks_and_locations() -> None:  # STAT-1, TRACK-1, TRACK-2, VER-7
    listing = corpus("status.html", "shelved")
    assert (listing.status, listing.status_reason) == ("archived", 'moved to "newer"')
    assert listing.extra == {
        "api-version": "1.7",
        "meta": {"tracks": ["https://index.example/simple/shelved/"]},
        "alternate-locations": ["https://index.example/simple/shelved/", "https://mirror.example/simple/shelved/"],
    }


def test_a_status_that_nobody_knows_is_active() -> None:
    page = '<meta name="pypi:project-status" content="frozen"><meta name="pypi:project-status-reason" content="x"><a href=foo-1.zip>'
    listing = parse("foo", document(page))
    assert (listing.status, listing.status_reason) == ("active", "")


def test_a_bare_list_of_anchors_is_a_page() -> None:
    assert [file.name for file in corpus("bare_anchors.html", "loose").files] == [
        "loose-1.0-py3-none-any.whl",
        "loose-1.0.tar.gz",
    ]


@pytest.mark.parametrize(
    ("attributes", "sidecars", "extra"),
    [
        ("data-core-metadata=TRUE", {".metadata"}, {}),
        ("data-core-metadata", set(), {}),  # no word of what it is
        ("data-core-metadata=''", set(), {}),
        ("data-gpg-sig", set(), {}),
        ("data-gpg-sig=True", {".asc"}, {}),
        ("data-requires-python", set(), {"requires-python": ""}),
        ("data-requires-python='' data-x data-X=2", set(), {"requires-python": "", "data-x": ""}),
        ("data-provenance=http://index.example/p", set(), {}),  # PROV-1
        ("data-provenance", set(), {}),
        ("data-provenance='https://['", set(), {}),
        ("data-provenance=https://index.example/p", {".provenance"}, {}),
        ("class=x rel=internal", set(), {}),
    ],
)
def test_odd_attributes(attributes: str, sidecars: set[str], extra: dict[str, str]) -> None:
    file = one(attributes)
    assert set(file.sidecars) == sidecars
    assert file.extra == extra


@pytest.mark.parametrize("name", ["empty_project.html", "empty_autoindex.html"])
def test_an_index_without_files_is_an_empty_project(name: str) -> None:
    assert corpus(name, "vacant").files == ()


@pytest.mark.parametrize(
    "page",
    [
        "<html><body></body></html>",
        "<html><head><title>Foo</title></head><body><h1>foo</h1><a href='../'>up</a></body></html>",
        "<html><title>Simple index</title><body><p>Nothing here.</body></html>",
        "<html><body><h1>Links\n for foo</h1>None yet</body></html>",
        "<html><head><meta name='PyPI:Repository-Version' content='1.0'></head><body>No files <form></form></body></html>",
    ],
)
def test_what_looks_like_an_index_may_be_empty(page: str) -> None:
    assert parse("foo", document(page)).files == ()


@pytest.mark.parametrize("name", ["login.html", "captive_portal.html", "error_page.html"])
def test_other_pages_are_no_empty_projects(name: str) -> None:  # PROXY-13
    with pytest.raises(UpstreamInvalid, match="no index page"):
        corpus(name, "foo")


@pytest.mark.parametrize(
    "page",
    [
        "<html><body>It works!</body></html>",
        "<html><head><title>Sign in</title></head><body></body></html>",
        "<html><body><h1>Error</h1><a href='/'>home</a></body></html>",
        "<html><title>Index</title><body><input type=password></body></html>",
        "<html><title>Index</title><body><form action=/login><button>Go</button></form></body></html>",
        "<html><title>Index</title><body><iframe src=/portal></iframe></body></html>",
        "<html><title>Index</title><frameset><frame src=/portal></frameset></html>",
        "<html><title>Index</title><meta http-equiv=REFRESH content='0;url=/'><body></body></html>",
        "<html><title>Reindexing</title><body>Please wait</body></html>",
        "<html><body>Get the <a href='client-setup.exe'>client</a></body></html>",
        "just text with a > and </body>",
        '{"files": []}</body>',
    ],
)
def test_what_does_not_look_like_an_index_is_refused(page: str) -> None:  # PROXY-13
    with pytest.raises(UpstreamInvalid, match="no index page"):
        parse("foo", document(page))


def test_a_page_of_odd_files_needs_to_look_like_an_index() -> None:
    anchors = "<a href='foo-latest.zip'>foo-latest.zip</a>"
    with pytest.raises(UpstreamInvalid):
        parse("foo", document(f"<html><title>Downloads</title><body>{anchors}</body></html>"))
    assert (
        parse("foo", document(f"<html><title>Links for foo</title><body>{anchors}</body></html>")).files[0].name
        == "foo-latest.zip"
    )
    assert parse("foo", document(anchors)).files[0].version == ""


@pytest.mark.parametrize("name", ["devpi.html", "empty_project.html", "upper_case.html", "status.html", "login.html"])
def test_every_part_of_a_page_is_refused(name: str) -> None:  # PROXY-13
    whole = (CORPUS / name).read_bytes()
    for end in range(whole.lower().index(b"</body>") + len(b"</body>")):
        with pytest.raises(UpstreamInvalid):
            parse("shelved", document(whole[:end], "shelved"))


def test_a_bare_list_cut_within_a_tag_is_refused() -> None:  # PROXY-13
    with pytest.raises(UpstreamInvalid, match="breaks off"):
        parse("foo", document("<a href='foo-1.0.zip'>foo-1.0.zip</a><a href='foo-1.1.z"))


def test_a_long_tail_after_the_page_does_not_matter() -> None:
    page = f"<html><body><a href='foo-1.0.zip'>foo</a></body></html><!--{'x' * 100_000}-->"
    assert len(parse("foo", document(page)).files) == 1


@pytest.mark.parametrize("body", [b"", b" \r\n\t"])
def test_nothing_is_no_page(body: bytes) -> None:  # PROXY-13
    with pytest.raises(UpstreamInvalid, match="empty"):
        parse("foo", document(body))


def test_another_major_version_is_refused() -> None:  # VER-6
    with pytest.raises(UpstreamInvalid, match=r"2\.0"):
        corpus("version_2.html", "later")


YANKED = "<html><head>{}</head><body><a href='foo-1.0.zip' data-yanked='é'>foo</a></body></html>"


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (YANKED.format("").encode(), "text/html"),
        (YANKED.format("").encode("utf-8-sig"), "text/html; charset=latin-1"),
        (YANKED.format("").encode("latin-1"), "text/html; charset=ISO-8859-1"),
        (YANKED.format("").encode("latin-1"), 'text/html;charset="windows-1252"'),
        (YANKED.format("<meta charset=iso-8859-1>").encode("latin-1"), "text/html"),
        (YANKED.format('<meta http-equiv="x" content="text/html; charset=iso-8859-1">').encode("latin-1"), ""),
        (YANKED.format("<meta charset=utf-16>").encode(), "text/html"),
        (YANKED.format("<meta charset=no-such-thing>").encode(), "text/html"),
        (YANKED.format("<meta charset=punycode>").encode(), "text/html"),
        (YANKED.format("<meta charset=iso-8859-99>").encode(), "text/html"),
        (YANKED.format("").encode("utf-16"), "text/html"),
    ],
)
def test_texts_arrive_intact_in_any_encoding(body: bytes, content_type: str) -> None:  # HTML-10
    assert parse("foo", document(body, content_type=content_type)).files[0].yanked == "é"


def test_deep_nesting_and_many_anchors_are_read() -> None:
    page = "<div>" * 50_000 + "".join(f"<a href='foo-{n}.zip'>" for n in range(2000))
    assert len(parse("foo", document(page)).files) == 2000


tokens = st.sampled_from(
    [
        *(
            "<a href='",
            "foo-1.0.zip",
            "'>",
            "</a>",
            "<!--",
            "-->",
            "<base href='",
            "<html>",
            "</html>",
            "<body>",
            "</body>",
            "\0",
            "&#0;",
        ),
        *(
            "#sha256=",
            SHA256,
            " data-yanked",
            " data-core-metadata='sha256=",
            "<meta name='pypi:repository-version' content='",
            "1.0",
            "é",
        ),
        *(
            "<title>",
            "Links for foo",
            "</title>",
            "<template>",
            "<svg>",
            "]]>",
            "<![CDATA[",
            "http://[",
            "//",
            "..",
            "%ff",
            "\U0001f600",
        ),
    ]
)


@given(
    st.lists(tokens, max_size=20).map("".join).map(str.encode) | st.binary(max_size=60),
    st.sampled_from(["", "text/html", "x; charset=big5"]),
)
@example(b"\xff\xfe<", "")
def test_no_page_makes_another_error(body: bytes, content_type: str) -> None:
    try:
        listing = parse("foo", document(body, content_type=content_type))
    except UpstreamInvalid:
        return
    assert all(file.url and file.url.startswith(("http://", "https://")) for file in listing.files)
