from urllib.parse import urljoin

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from nora.api import Sidecar, UpstreamInvalid
from nora_pypi.model import (
    Links,
    announced_metadata,
    beside,
    check_version,
    clean_digests,
    clean_time,
    filename_of,
    is_plain,
    is_secure_url,
    urljoin_or_none,
)

PAGE = "https://index.example/root/simple/foo/"
SHA256 = "ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb"


@pytest.mark.parametrize(
    ("link", "url"),
    [
        ("a.zip", "https://index.example/root/simple/foo/a.zip"),
        ("./a.zip", "https://index.example/root/simple/foo/a.zip"),
        ("../../p/a.zip", "https://index.example/root/p/a.zip"),
        ("../../../../../../p/a.zip", "https://index.example/p/a.zip"),
        ("../" * 12 + "a.zip", "https://index.example/a.zip"),
        ("x/../a.zip", "https://index.example/root/simple/foo/a.zip"),
        ("/p/a.zip", "https://index.example/p/a.zip"),
        ("/p/./../a.zip", "https://index.example/a.zip"),
        ("//files.example/a.zip", "https://files.example/a.zip"),
        ("http://files.example:8080/p/a.zip", "http://files.example:8080/p/a.zip"),
        ("HTTPS://files.example/a.zip", "https://files.example/a.zip"),
        ("http://[::1]:8080/a.zip", "http://[::1]:8080/a.zip"),
        ("https://files.example", "https://files.example/"),
        ("a.zip#sha256=00", "https://index.example/root/simple/foo/a.zip"),
        ("a.zip?x=/../y&z#q", "https://index.example/root/simple/foo/a.zip?x=/../y&z"),
        ("?x=1", "https://index.example/root/simple/foo/?x=1"),
        ("a b.zip", "https://index.example/root/simple/foo/a%20b.zip"),
        (" \n a\n.zip\t", "https://index.example/root/simple/foo/a.zip"),
        ("é.zip", "https://index.example/root/simple/foo/%C3%A9.zip"),
        ("a%2Bb.zip", "https://index.example/root/simple/foo/a%2Bb.zip"),
        ("a+b!c.zip", "https://index.example/root/simple/foo/a+b!c.zip"),
        ("..\\..\\p\\a.zip", "https://index.example/root/p/a.zip"),
        ("\\\\files.example\\a.zip", "https://files.example/a.zip"),
    ],
)
def test_links_resolve_as_in_a_browser(link: str, url: str) -> None:  # PROXY-4
    assert Links(PAGE).resolve(link) == url
    assert urljoin_or_none(PAGE, link) == url


@pytest.mark.parametrize(
    "link",
    [
        *("ftp://files.example/a.zip", "file:///etc/a.zip", "javascript:a.zip", "data:,a.zip", "mailto:a@b.zip", "foo:a.zip"),
        *(
            "http://",
            "http:///a.zip",
            "http://[broken/a.zip",
            "http://files.example:port/a.zip",
            "http://files.example:99999/a.zip",
        ),
        *("https://:443/a.zip", "http://files.example:-1/a.zip"),
    ],
)
def test_links_to_nothing_on_the_web_resolve_to_nothing(link: str) -> None:  # PROXY-14
    assert Links(PAGE).resolve(link) is None


def test_links_of_a_page_without_path() -> None:
    assert Links("https://index.example").resolve("a.zip") == "https://index.example/a.zip"
    assert Links("https://index.example").resolve("../a.zip") == "https://index.example/a.zip"
    assert Links("https://index.example/simple/foo").resolve("a.zip") == "https://index.example/simple/a.zip"
    assert Links("https://index.example/simple/foo/?page=1").resolve("a.zip") == "https://index.example/simple/foo/a.zip"


segments = st.lists(
    st.sampled_from(["..", ".", "", "a", "b.c", ".d", "...", "e%20f", "g~", "h+1", "i:j", "k;l", "m@n"]), max_size=6
).map("/".join)


@given(
    segments.filter(bool),
    st.sampled_from([PAGE, "https://index.example", "http://h.example:81/x", "https://index.example/a//b/"]),
)
@example("../", PAGE)
@example("..", PAGE)
@example("/", PAGE)
def test_the_fast_ways_lead_where_the_slow_one_does(link: str, base: str) -> None:
    resolved = Links(base).resolve(link)
    assert resolved == urljoin_or_none(base, link)
    if resolved is not None:
        assert resolved.rstrip("/") == urljoin(base, link).rstrip("/")


@given(st.text(), st.text())
@example("https://[", "a.zip")
@example("", "")
def test_no_link_makes_an_exception(base: str, link: str) -> None:
    resolved = Links(base).resolve(link)
    assert resolved is None or (resolved.startswith(("http://", "https://")) and resolved.isprintable() and "#" not in resolved)


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("https://h.example/a.zip", "a.zip"),
        ("https://h.example/a%2Bb%21.zip?x=/y", "a+b!.zip"),
        ("https://h.example/", ""),
        ("https://h.example/..%2Fa.zip", "../a.zip"),  # refused as unsafe afterwards
        ("https://h.example/%FF.zip", None),
        ("https://h.example/100%.zip", "100%.zip"),
    ],
)
def test_name_of_a_file_is_the_end_of_its_path(url: str, name: str | None) -> None:
    assert filename_of(url) == name


@pytest.mark.parametrize(
    ("hashes", "digests"),
    [
        ({}, {}),
        (None, {}),
        ("sha256", {}),
        ([["sha256", SHA256]], {}),
        ({"sha256": SHA256}, {"sha256": SHA256}),
        ({"SHA256": SHA256.upper()}, {"sha256": SHA256}),
        ({"sha256": SHA256.upper()}, {"sha256": SHA256}),
        ({"sha256": SHA256[:-1]}, {"sha256": SHA256[:-1]}),  # kept, so that the file fails instead of going unchecked
        ({"md5": "0c", "blake2b_256": "0f", "shake-128": "aa"}, {"md5": "0c", "blake2b_256": "0f", "shake-128": "aa"}),
        ({"sha256": "", "md5": "zz", "sha1": 5, "a b": "00", "": "00", "sha512": "00\n"}, {}),
    ],
)
def test_only_digests_count_as_digests(hashes: object, digests: dict[str, str]) -> None:  # JSON-5, PROXY-3
    assert clean_digests(hashes) == digests


URL = "https://files.example/a.whl"


@pytest.mark.parametrize(
    ("value", "announced"),
    [
        (True, Sidecar(url=f"{URL}.metadata")),
        ("true", Sidecar(url=f"{URL}.metadata")),
        (" True", Sidecar(url=f"{URL}.metadata")),
        ({}, Sidecar(url=f"{URL}.metadata")),
        ({"sha256": SHA256}, Sidecar(url=f"{URL}.metadata", digests={"sha256": SHA256})),
        (f"sha256={SHA256}", Sidecar(url=f"{URL}.metadata", digests={"sha256": SHA256})),
        (f"SHA512={SHA256.upper()}", Sidecar(url=f"{URL}.metadata", digests={"sha512": SHA256})),
        (False, False),
        ("false", False),
        *((odd, None) for odd in (None, "", "sha256=", "sha256=xyz", "yes", 1, 0, [], "=")),
    ],
)
def test_metadata_announcements_of_both_formats(value: object, announced: Sidecar | bool | None) -> None:  # META-10, JSON-12
    result = announced_metadata(value, URL)
    assert result == announced
    assert type(result) is type(announced)


def test_what_is_beside_a_file_keeps_its_query() -> None:  # META-1
    assert beside(URL, ".metadata") == f"{URL}.metadata"
    assert beside(f"{URL}?key=a/b?c", ".asc") == f"{URL}.asc?key=a/b?c"


@pytest.mark.parametrize(
    ("written", "time"),
    [
        ("2024-01-02T03:04:05Z", "2024-01-02T03:04:05Z"),
        ("2024-01-02T03:04:05.6Z", "2024-01-02T03:04:05.6Z"),  # JSON-9: never changes, so kept as it is
        ("2024-01-02T03:04:05.678901Z", "2024-01-02T03:04:05.678901Z"),
        ("2024-01-02T03:04:05.678901234Z", "2024-01-02T03:04:05.678901Z"),
        ("2024-01-02T03:04:05+00:00", "2024-01-02T03:04:05Z"),
        ("2024-01-02T01:04:05-02:00", "2024-01-02T03:04:05Z"),
        ("2024-01-02 03:04:05", "2024-01-02T03:04:05Z"),
        *(
            (odd, None)
            for odd in (None, 5, "", "yesterday", "2024-13-02T03:04:05Z", "2024-01-02T25:04:05Z", "0001-01-01T00:00:00+23:00")
        ),
    ],
)
def test_times_are_utc_or_nothing(written: object, time: str | None) -> None:  # JSON-9
    assert clean_time(written) == time


@pytest.mark.parametrize(
    "url", ["https://index.example/p", "https://index.example", "http://127.0.0.1:8080/p", "http://localhost/p"]
)
def test_secure_origins(url: str) -> None:  # PROV-1
    assert is_secure_url(url)


@pytest.mark.parametrize(
    "url", ["http://index.example/p", "/p", "", "https://", "javascript:x", "http://localhost.example/", "https://a b"]
)
def test_other_origins_are_not_secure(url: str) -> None:  # PROV-1
    assert not is_secure_url(url)


def test_values_that_cannot_be_stored_are_recognized() -> None:
    nested: object = 0
    for _ in range(33):
        nested = [{"x": nested}]
    assert is_plain({"a": [1, -(2**63), 1.5, None, "x", True, {"b": []}]})
    assert not is_plain(nested)
    assert not is_plain({"a": [2**63]})
    assert not is_plain(-(2**63) - 1)


@pytest.mark.parametrize("version", ["1", "1.0", "1.4", "1.99", " 1.0 "])
def test_any_minor_version_is_understood(version: str) -> None:  # VER-7
    check_version(version, PAGE)


@pytest.mark.parametrize("version", ["2.0", "2", "0.9", "10.0", "", "one", "-1.0", "\u0661.0", "1" * 5000])
def test_other_major_versions_are_refused(version: str) -> None:  # VER-6
    with pytest.raises(UpstreamInvalid) as caught:
        check_version(version, PAGE)
    assert caught.value.url == PAGE
    assert len(str(caught.value)) < 200


PIECES = (
    "../",
    "./",
    "/",
    "//",
    "..",
    ".",
    "a.whl",
    "b-1.0.tar.gz",
    "files/",
    "x/.y",
    ":",
    "https://index.example/",
    "http://other.example:80/",
    "ftp:",
)


@given(
    st.lists(st.lists(st.sampled_from(PIECES), min_size=1, max_size=4).map("".join), min_size=1, max_size=6),
    st.sampled_from(PIECES),
)
def test_links_of_a_page_are_resolved_together_as_one_by_one(links: list[str], beginning: str) -> None:
    resolver = Links(PAGE)
    for together in (links, [beginning + link for link in links]):
        assert list(resolver.resolve_all_clean(together)) == [resolver.resolve_clean(link) for link in together]


@pytest.mark.parametrize("beginning", ["", "../../files/ab/", "https://files.example/", "/files/"])
@pytest.mark.parametrize(
    "odd", ["x", "../x", "./x", "/x", "a//x", "a/../x", "a/.x", "a:x", "https://other.example/x", "http://[/x", "a//../b"]
)
def test_one_odd_link_among_many_is_resolved_as_by_itself(beginning: str, odd: str) -> None:
    resolver = Links(PAGE)
    links = [f"{beginning}a-{number}.zip" for number in range(20)]
    links[7] = beginning + odd
    links[9] = odd
    assert list(resolver.resolve_all_clean(links)) == [resolver.resolve_clean(link) for link in links]
