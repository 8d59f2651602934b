from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nora.api import Document, File, Listing, Sidecar, UpstreamInvalid
from nora_pypi.parse_json import parse

CORPUS = Path(__file__).parent.parent / "corpus"
SHA256 = "ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb"


def document(body: Any, project: str = "foo") -> Document:
    raw = body if isinstance(body, bytes) else msgspec.json.encode(body)
    return Document(url=f"https://index.example/simple/{project}/", content_type="application/json", body=raw)


def corpus(name: str, project: str) -> Listing:
    return parse(project, document((CORPUS / name).read_bytes(), project))


def one(**fields: Any) -> File:
    """The one file of a page, which has these fields."""
    entry = {
        "filename": "foo-1.0-py3-none-any.whl",
        "url": "https://files.example/foo-1.0-py3-none-any.whl",
        "hashes": {},
    } | fields
    (file,) = parse("foo", document({"meta": {"api-version": "1.1"}, "files": [entry]})).files
    return file


def test_a_full_page_is_read_without_loss() -> None:  # PROXY-3
    listing = corpus("full.json", "whole")
    assert listing.project == "whole"
    assert (listing.status, listing.status_reason) == ("deprecated", "use <other> instead")
    assert listing.extra == {
        "api-version": "1.4",
        "versions": ["2.0", "1.0", "0.1", "not a version"],
        "meta": {"_last-serial": 24888689, "tracks": ["https://index.example/simple/whole/"]},
        "alternate-locations": ["https://index.example/simple/whole/"],
    }
    assert not listing.hosted
    sdist, wheel = listing.files
    assert sdist == File(
        name="whole-1.0.tar.gz",
        version="1.0",
        url="https://files.example/aa/whole-1.0.tar.gz",
        size=1234,
        digests={"sha256": SHA256, "blake2b_256": "0f1b6a831c399e26"},
        published="2024-02-03T04:05:06.789012Z",
        yanked='leaks "keys" & more',
        extra={"requires-python": None, "provenance": None, "core-metadata": False},
    )
    assert wheel.size == 0
    assert wheel.yanked is False
    assert wheel.sidecars == {
        ".metadata": Sidecar(
            url="https://files.example/bb/whole-2.0-py3-none-any.whl.metadata",
            digests={"sha256": "2e7d2c03a9507ae265ecf5b5356885a53393a2029d241394997265a1a25aefc6"},
        ),
        ".asc": Sidecar(url="https://files.example/bb/whole-2.0-py3-none-any.whl.asc"),
        ".provenance": Sidecar(url="https://index.example/integrity/whole/v1/provenance"),
    }
    assert wheel.extra["requires-python"] == ">=3.9"
    assert "provenance" not in wheel.extra
    assert "gpg-sig" not in wheel.extra


def test_a_page_of_version_1_0_lacks_sizes() -> None:  # VER-7
    listing = corpus("version_1_0.json", "plain")
    sdist, wheel, archive = listing.files
    assert listing.extra == {"api-version": "1.0"}
    assert [file.size for file in listing.files] == [None] * 3
    assert sdist.url == "https://index.example/packages/plain-1.0.tar.gz"  # PROXY-4
    assert sdist.digests == {}
    assert wheel.url == "https://index.example/packages/plain-1.0-py3-none-any.whl"
    assert wheel.digests == {"sha256": SHA256}
    assert wheel.sidecars[".metadata"].digests == {}  # META-10
    assert wheel.extra == {"requires-python": ">=3.6", "gpg-sig": False}
    assert wheel.yanked is False  # YANK-4: "" is false
    assert archive.yanked is True
    assert archive.url == "https://files.example/plain-0.9.zip"


def test_unknown_keys_survive() -> None:  # VER-7
    listing = corpus("unknown_keys.json", "novel")
    assert listing.extra == {
        "api-version": "1.9",
        "meta": {"_host": {"rack": 7}},
        "_generator": ["static", 3, None, True, 1.5],
        "namespace": {"owner": "somebody"},
    }
    assert listing.files[0].extra == {"variants": {"x": [1, 2]}, "_downloads": 99, "note": None}


def test_odd_fields_cost_a_field_or_a_file_and_never_the_page() -> None:
    listing = corpus("odd_fields.json", "odd")
    assert listing.extra["versions"] == ["1.0", "1.1"]
    first, second, third = listing.files
    assert first == File(name="odd-1.0.tar.gz", version="1.0", url="https://index.example/simple/odd/odd-1.0.tar.gz")
    assert second.digests == {"sha1": "ab"}
    assert (second.size, second.published, second.yanked, second.extra) == (None, None, False, {})
    assert second.sidecars[".metadata"].digests == {}
    assert third.published == "2024-01-02T02:04:05Z"
    assert third.size is None
    assert third.sidecars[".metadata"].digests == {"sha256": SHA256}
    assert third.url == "https://index.example/simple/odd/odd-1.2.tar.gz"  # the first of two wins


@pytest.mark.parametrize(
    ("value", "yanked"), [(True, True), (False, False), ("", False), ("why", "why"), (None, False), (1, False)]
)
def test_yanked(value: object, yanked: bool | str) -> None:  # JSON-11, YANK-4
    assert one(yanked=value).yanked is yanked or one(yanked=value).yanked == yanked != ""
    assert one().yanked is False


def test_the_new_name_of_the_metadata_key_beats_the_old_ones() -> None:  # META-10
    assert not one(**{"core-metadata": False, "dist-info-metadata": True, "data-dist-info-metadata": True}).sidecars
    assert one(**{"core-metadata": True, "dist-info-metadata": False}).sidecars
    assert one(**{"dist-info-metadata": {"sha256": SHA256}}).sidecars[".metadata"].digests == {"sha256": SHA256}
    assert one(**{"data-dist-info-metadata": {"sha256": SHA256}}).sidecars[".metadata"].digests == {"sha256": SHA256}


def test_of_three_keys_that_tell_of_metadata_one_is_kept() -> None:  # META-13
    file = one(**{"dist-info-metadata": False, "data-dist-info-metadata": True})
    assert file.extra == {"core-metadata": False}


def test_sizes_and_numbers_that_nothing_can_hold_are_dropped() -> None:
    assert one(size=2**63 - 1).size == 2**63 - 1
    assert one(size=2**63).size is None
    assert one(size=5.0).size is None
    assert one(_big=2**64, _small=1).extra == {"_small": 1}


def test_unsafe_provenance_is_dropped() -> None:  # PROV-1
    for value in (
        *("http://index.example/p", "", "p", "//index.example/p", "https://", "https://[", "https://x:99999/", "ftp://x/"),
        *("javascript:alert(1)", "https://index.example/a b", " https://index.example/p", True, 7, [], {"url": "https://x/"}),
    ):
        file = one(provenance=value)
        assert (file.extra, file.sidecars) == ({}, {}), value
    file = one(provenance=None)
    assert (file.extra, file.sidecars) == ({"provenance": None}, {})


def test_provenance_may_be_anywhere() -> None:  # PEP 740
    for value, url in (
        ("https://index.example/integrity/p?a=b", "https://index.example/integrity/p?a=b"),
        ("HTTPS://Index.example/p#x", "https://Index.example/p"),
        ("https://index.example/\u00e9/%C3%A9/<", "https://index.example/%C3%A9/%C3%A9/%3C"),
        ("http://127.0.0.1:8080/p", "http://127.0.0.1:8080/p"),
    ):
        file = one(provenance=value)
        assert file.sidecars == {".provenance": Sidecar(url=url)}
        assert file.extra == {}


@pytest.mark.parametrize(
    ("value", "status"),
    [
        ({"status": "active"}, ("active", "")),
        ({"status": "quarantined", "reason": "malware"}, ("quarantined", "malware")),
        ({"status": "Archived", "reason": None}, ("archived", "")),
        ({"status": "frozen", "reason": "cold"}, ("active", "")),
        *((odd, ("active", "")) for odd in (None, "archived", {}, {"status": None}, {"status": ["archived"]}, [])),
    ],
)
def test_status(value: object, status: tuple[str, str]) -> None:  # STAT-1
    listing = parse("foo", document({"files": [], "project-status": value}))
    assert (listing.status, listing.status_reason) == status


@pytest.mark.parametrize("meta", [None, [], {}, {"api-version": "1.3"}, {"api-version": 1.0}, {"api-version": 1}])
def test_a_missing_or_lower_version_is_read(meta: object) -> None:  # VER-7
    assert parse("foo", document({"meta": meta, "files": []})).files == ()
    assert parse("foo", document({"files": [], "api-version": "9.0"})).extra == {"api-version": "1.0"}


@pytest.mark.parametrize("version", ["2.0", 2.0, "latest", None, [1]])
def test_another_major_version_is_refused(version: object) -> None:  # VER-6
    with pytest.raises(UpstreamInvalid, match="version"):
        parse("foo", document({"meta": {"api-version": version}, "files": []}))
    with pytest.raises(UpstreamInvalid, match=r"2\.0"):
        corpus("version_2.json", "later")


@pytest.mark.parametrize(
    "body",
    [
        *(
            b"",
            b" ",
            b"null",
            b"[]",
            b'"x"',
            b"{}",
            b'{"files": null}',
            b'{"files": {}}',
            b'{"files": [',
            b"<html></html>",
            b"\xff{}",
        ),
        *(b'{"files": []', b'{"files": []} trailing', b'{"files": [1e999]}', b'{"files": ["\\ud800"]}', b'{"files": ["\xff"]}'),
        *(b'{"files": ' + b"[" * 100_000, b'{"files": [' + b'{"a":' * 100_000, b'{"files": [1' + b"0" * 5000 + b"]}"),
    ],
)
def test_what_is_no_page_is_refused(body: bytes) -> None:  # PROXY-13
    with pytest.raises(UpstreamInvalid) as caught:
        parse("foo", document(body))
    assert caught.value.url == "https://index.example/simple/foo/"
    with pytest.raises(UpstreamInvalid):
        corpus("error.json", "error")


def test_every_part_of_a_page_is_refused() -> None:  # PROXY-13
    whole = (CORPUS / "full.json").read_bytes().rstrip()
    for end in range(len(whole)):
        with pytest.raises(UpstreamInvalid):
            parse("whole", document(whole[:end]))


def test_a_byte_order_mark_is_no_part_of_the_page() -> None:
    assert parse("foo", document(b'\xef\xbb\xbf{"files": []}')).files == ()


def test_what_is_read_can_be_stored() -> None:
    deep: object = 0
    for _ in range(200):
        deep = [deep]
    page = {"files": [{"filename": "foo-1.zip", "url": "foo-1.zip", "x": deep, "y": 2**100}], "x": deep, "meta": {"z": 2**64}}
    listing = parse("foo", document(page))
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(listing), type=Listing) == listing
    assert listing.extra == {"api-version": "1.0"}


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
keys = st.sampled_from(
    [
        *("hashes", "size", "upload-time", "yanked", "core-metadata", "dist-info-metadata", "gpg-sig", "requires-python"),
        *("provenance", "filename", "url", "x"),
    ]
)
entries = st.dictionaries(keys, anything).map(lambda entry: {"filename": "foo-1.0.zip", "url": "foo-1.0.zip"} | entry)
pages = st.dictionaries(st.sampled_from(["meta", "name", "versions", "project-status", "alternate-locations", "y"]), anything)


@given(pages, st.lists(entries | anything, max_size=4))
def test_no_page_makes_another_error(page: dict[str, Any], files: list[Any]) -> None:
    try:
        listing = parse("foo", document(page | {"files": files}))
    except UpstreamInvalid:
        return
    assert msgspec.msgpack.encode(listing)
    assert len(listing.by_name) == len(listing.files)
