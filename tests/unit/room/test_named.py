"""What names blobs: nothing that does is overlooked."""

from __future__ import annotations

import pytest

from nora.api import Document, File, Listing, Sidecar
from nora.room.named import Unreadable, hex_digests, hosted, pages, pinned, pins
from tests.unit.room.conftest import DAY, HOUR, NOW, digest


def needed(disk, since=None) -> set[str]:
    return set().union(*(named.needed for named in hosted(disk.root, since)))


def test_a_projects_files_and_their_sidecars_are_needed(disk):
    disk.manifest(b"one", b"two", sidecars=[b"meta", b"signature"])
    disk.manifest(b"other", registry="second", project="ü/..")
    assert needed(disk) == {digest(data) for data in (b"one", b"two", b"meta", b"signature", b"other")}


def test_only_the_newest_manifest_counts_and_what_it_removed_is_told(disk):
    disk.manifest(b"one", b"two", serial=1)
    disk.manifest(b"two", serial=2, removed=[b"one"])
    (named,) = hosted(disk.root)
    assert (named.needed, named.deleted) == ({digest(b"two")}, {digest(b"one")})


def test_what_was_decided_about_an_upstreams_project_is_read_too(disk):
    disk.manifest(b"one", area="overlay")
    assert needed(disk) == {digest(b"one")}


def test_files_that_were_deleted_lately_are_needed_if_that_is_asked_for(disk):
    disk.manifest(b"a", b"b", b"c", serial=1, age=40 * DAY)
    disk.manifest(b"b", b"c", serial=2, age=30 * DAY, removed=[b"a"])
    disk.manifest(b"b", b"c", b"d", serial=3, age=20 * DAY, removed=[b"a"])
    disk.manifest(b"c", b"d", serial=4, age=10 * DAY, removed=[b"a", b"b"])
    assert needed(disk) == {digest(b"c"), digest(b"d")}
    assert needed(disk, NOW - 5 * DAY) == {digest(b"c"), digest(b"d")}
    assert needed(disk, NOW - 10 * DAY - HOUR) == {digest(data) for data in (b"b", b"c", b"d")}
    assert needed(disk, NOW - 30 * DAY - HOUR) == {digest(data) for data in (b"a", b"b", b"c", b"d")}


def test_a_deletion_without_a_readable_time_is_of_just_now(disk):
    disk.manifest(b"a", serial=1)
    path = disk.manifest(serial=2, removed=[b"a"])
    path.write_bytes(path.read_bytes().replace(b'"at":"2', b'"at":"?'))
    assert needed(disk, NOW) == {digest(b"a")}


@pytest.mark.parametrize("damage", [b"", b'{"half', b"[]", b'{"format":99,"project":"x","serial":2,"event":{}}'])
def test_a_manifest_that_cannot_be_read_is_an_error_that_names_it(disk, damage):
    disk.manifest(b"one", serial=1)
    disk.manifest(b"one", serial=2).write_bytes(damage)
    with pytest.raises(Unreadable, match=r"000000000002\.json: cannot be read, so nothing is removed"):
        needed(disk)


def test_an_earlier_manifest_that_cannot_be_read_is_an_error_only_if_it_is_needed(disk):
    disk.manifest(b"one", serial=1).write_bytes(b"")
    disk.manifest(serial=2, removed=[b"one"], age=DAY)
    assert needed(disk) == set()
    with pytest.raises(Unreadable):
        needed(disk, NOW - 2 * DAY)


def test_what_is_no_project_is_passed_over(disk):
    disk.manifest(b"one")
    (disk.root / "index/main/empty").mkdir()
    (disk.root / "index/main/file").write_bytes(b"")
    (disk.root / "index/stray").write_bytes(b"")
    (disk.root / "index/main/x/000000000009.json~").write_bytes(b"")
    assert needed(disk) == {digest(b"one")}


def test_a_storage_without_anything_names_nothing(disk):
    assert needed(disk) == set()
    assert list(pages(disk.root)) == list(pins(disk.root)) == []


# Pages


def test_a_page_names_whatever_looks_like_a_digest(disk):
    disk.page(b"one", digest(b"two").upper(), f"#sha256%3D{digest(b'three')}", "ab" * 64)
    (page,) = pages(disk.root)
    found = page.digests({})
    assert found >= {digest(b"one"), digest(b"two"), digest(b"three")}
    assert "ab" * 32 not in found  # a sha512


def test_the_head_of_a_stored_page_names_nothing(disk):
    disk.page("nothing")
    (page,) = pages(disk.root)
    assert page.digests({}) == set()


def test_pages_of_all_registries_and_upstreams_or_of_one_registry_are_found(disk):
    disk.page(b"1", registry="main", position=0)
    disk.page(b"2", registry="main", position=1, project="ü/..")
    disk.page(b"3", registry="other")
    disk.write("cache/main/names", b"{}", 0)
    disk.write("cache/main/0/json/y", digest(b"4").encode(), 0)
    found = [(page.registry, page.folder.name, page.project) for page in pages(disk.root)]
    assert sorted(found) == [("main", "0", "y"), ("main", "1", "%C3%BC%2F.."), ("other", "0", "y")]
    assert [page.registry for page in pages(disk.root, "other")] == ["other"]


def test_a_damaged_page_still_names_what_can_be_read_in_it(disk):
    disk.write("cache/main/0/pages/y", b"half a head\n" + digest(b"one").encode(), 0)
    (page,) = pages(disk.root)
    assert page.digests({}) == {digest(b"one")}
    assert not page.withdrawn


@pytest.mark.parametrize("withdrawn", [True, False])
def test_a_page_tells_whether_its_project_was_withdrawn(disk, withdrawn):
    disk.page(b"one", '"withdrawn":true', withdrawn=withdrawn)
    (page,) = pages(disk.root)
    assert page.withdrawn is withdrawn


def test_pages_that_do_not_show_digests_are_read_as_their_format_reads_them(disk):
    asked = []

    def parse(project: str, document: Document) -> Listing:
        asked.append((project, document.url, document.body))
        meta = Sidecar(digests={"sha256": digest(b"meta")})
        return Listing(
            project=project,
            files=(
                File(name="f", digests={"sha256": digest(b"one")}, sidecars={".m": meta}),
                File(name="g", digests={"md5": "0"}),
            ),
        )

    disk.page("base64", project="ü/..")
    (page,) = pages(disk.root)
    assert page.digests({"other": parse}) == set()
    assert page.digests({"main": parse}) == {digest(b"one"), digest(b"meta")}
    assert asked == [("ü/..", "https://up.example/ü/../", b"base64")]


def test_a_page_that_its_format_cannot_read_names_nothing(disk):
    def parse(project: str, document: Document) -> Listing:
        raise KeyError("a mistake")

    disk.page("nothing")
    (page,) = pages(disk.root)
    assert page.digests({"main": parse}) == set()


def test_digests_in_a_text_are_found_wherever_they_begin():
    sha256 = digest(b"one")
    for before in ("", "0", "3D", "x", "0" * 16):
        assert sha256 in hex_digests(f"{before}{sha256}".encode())
        assert sha256 in hex_digests(f"{sha256}{before}".encode())


# Pins


def test_the_newest_pin_of_each_file_names_a_blob(disk):
    disk.pin(b"old", name="f", number=9)
    disk.pin(b"new", name="f", number=10)
    disk.pin(b"else", name="g")
    disk.pin(b"third", name="f", project="z", registry="other")
    assert dict(pins(disk.root)) == {
        "main": {digest(b"new"), digest(b"else")},
        "other": {digest(b"third")},
    }


def test_pins_that_are_damaged_or_say_that_there_is_nothing_name_nothing(disk):
    disk.pin(b"one")
    folder = disk.root / "cache/main/0/pins/y"
    (folder / f"{'0' * 40}.1.json").write_bytes(b"{")
    (folder / f"{'1' * 40}.1.json").write_bytes(b'{"name":"g","sha256":"","size":0,"refusal":"none"}')
    (folder / "stray").write_bytes(b"")
    assert pinned(folder) == {digest(b"one")}
