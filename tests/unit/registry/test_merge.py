"""Listings put together."""

from __future__ import annotations

import pytest

from nora.api import Event, File, Listing
from nora.index.manifest import Manifest, Removed
from nora.registry.merge import hosted_listing, merge, overview, with_yanks, without_refused

EVENT = Event(action="publish", registry="r", project="x")


def names(listing: Listing) -> list[str]:
    return [file.name for file in listing.files]


def test_a_manifests_listing_has_all_that_it_says():
    files = (File(name="x-1"), File(name="x-2"))
    manifest = Manifest(
        project="x", serial=3, event=EVENT, files=files, status="deprecated", status_reason="see y", extra={"a": 1}
    )
    listing = hosted_listing(manifest)
    assert (listing.project, listing.files, listing.hosted) == ("x", files, True)
    assert (listing.status, listing.status_reason, listing.extra) == ("deprecated", "see y", {"a": 1})


# MULTI-2
def test_a_hosted_file_beats_the_upstreams_of_the_same_name():
    hosted = Listing(project="x", files=(File(name="x-1", digests={"sha256": "a"}),), hosted=True)
    upstream = Listing(project="x", files=(File(name="x-1", digests={"sha256": "b"}), File(name="x-2")))
    merged = merge(hosted, upstream, {})
    assert names(merged) == ["x-1", "x-2"]
    assert merged.by_name["x-1"].digests == {"sha256": "a"}
    assert merged.hosted


def test_an_identity_that_is_taken_is_not_taken_twice():
    hosted = Listing(project="x", files=(File(name="x-1.0", identity="x-1"),))
    upstream = Listing(
        project="x", files=(File(name="x-1.0.0", identity="x-1"), File(name="x-2", identity="x-2"), File(name="x-3"))
    )
    assert names(merge(hosted, upstream, {})) == ["x-1.0", "x-2", "x-3"]


def test_the_hosted_projects_own_words_win():
    hosted = Listing(project="x", status="archived", status_reason="ours", extra={"a": "ours"})
    upstream = Listing(project="x", status="active", extra={"a": "theirs", "b": "theirs"}, files=(File(name="x-1"),))
    merged = merge(hosted, upstream, {})
    assert (merged.status, merged.status_reason, merged.extra) == ("archived", "ours", {"a": "ours", "b": "theirs"})
    assert names(merged) == ["x-1"]
    assert names(merge(Listing(project="x"), Listing(project="x"), {})) == []


def test_refused_files_go_with_their_reason_and_the_others_stay_in_order():
    listing = Listing(project="x", files=tuple(File(name=f"x-{number}") for number in range(4)), extra={"a": 1})
    left, refused = without_refused(listing, lambda file: "odd" if file.name[-1] in "13" else None)
    assert names(left) == ["x-0", "x-2"]
    assert refused == {"x-1": "odd", "x-3": "odd"}
    assert left.extra == {"a": 1}
    assert "x-1" not in left.by_name


def test_an_empty_reason_is_a_refusal_and_none_is_not():
    listing = Listing(project="x", files=(File(name="x-1"),))
    assert names(without_refused(listing, lambda file: "")[0]) == []
    assert without_refused(listing, lambda file: None) == (listing, {})


@pytest.mark.parametrize("status", ["archived", "deprecated", "active"])
def test_an_upstream_that_is_not_quarantined_adds_its_files(status):
    upstream = Listing(project="x", status=status, status_reason="theirs", files=(File(name="x-1"),))
    merged = merge(Listing(project="x", hosted=True, serial=3), upstream, {})
    assert (names(merged), merged.status, merged.status_reason) == (["x-1"], "active", "")


def test_a_quarantined_upstream_adds_nothing():
    # STAT-2
    upstream = Listing(project="x", status="quarantined", files=(File(name="x-1"),))
    assert names(merge(Listing(project="x", files=(File(name="x-2"),)), upstream, {})) == ["x-2"]


def test_a_removed_files_name_and_identity_stay_taken():
    removed = {"x-1": Removed(sha256="a", identity="i"), "x-2": Removed(sha256="b")}
    upstream = Listing(
        project="x",
        files=(File(name="x-1"), File(name="x-1.0", identity="i"), File(name="x-2"), File(name="x-3"), File(name="")),
    )
    assert names(merge(Listing(project="x"), upstream, removed)) == ["x-3", ""]


def test_the_serial_of_a_merged_listing_grows_with_both():
    for ours, theirs in ((1, 7), (2, 7), (2, 9)):
        merged = merge(Listing(project="x", serial=ours), Listing(project="x", serial=theirs), {})
        assert merged.serial == ours + theirs


# What was yanked here


def marks(versions: dict[str, bool | str] | None = None, files: dict[str, bool | str] | None = None) -> Manifest:
    return Manifest(project="x", serial=1, event=EVENT, yanked_versions=versions or {}, yanked_files=files or {})


def lowered(version: str) -> str:
    assert version, "no version has no key"
    return version.lower()


def yanked(listing: Listing) -> list[bool | str]:
    return [file.yanked for file in listing.files]


def test_a_version_is_yanked_in_every_spelling_and_files_without_one_are_not():
    listing = Listing(project="x", files=tuple(File(name=str(n), version=v) for n, v in enumerate(("A", "a", "b", ""))))
    assert yanked(with_yanks(listing, marks({"a": "why"}), lowered)) == ["why", "why", False, False]
    assert yanked(with_yanks(listing, marks({"c": True}), lowered)) == [False] * 4
    assert with_yanks(listing, marks(), lowered) is listing


def test_a_file_is_yanked_by_its_name():
    listing = Listing(project="x", files=(File(name="x-1", version="1"), File(name="x-2")))
    assert yanked(with_yanks(listing, marks(files={"x-2": "why", "x-3": True}), lowered)) == [False, "why"]


@pytest.mark.parametrize(
    ("file", "version", "upstream", "shown"),
    [
        ("f", "v", "u", "f"),
        (True, "v", "u", "v"),
        (False, "v", "u", "v"),
        (True, True, "u", "u"),
        (False, True, "u", "u"),
        (True, True, True, True),
        (False, True, False, True),
        (True, False, False, True),
        (False, False, "u", "u"),
        (False, False, True, True),
        (False, False, False, False),
    ],
)
def test_the_reason_nearest_to_the_file_is_shown(file, version, upstream, shown):
    # YANK-1
    listing = Listing(project="x", files=(File(name="x-1", version="1", yanked=upstream),))
    found = with_yanks(listing, marks({"1": version} if version else {}, {"x-1": file} if file else {}), str)
    assert yanked(found) == [shown]


def test_keys_are_made_once_for_each_version():
    asked = []

    def counted(version: str) -> str:
        asked.append(version)
        return version

    listing = Listing(project="x", files=tuple(File(name=f"x-{number}", version=str(number % 3)) for number in range(99)))
    assert sum(map(bool, yanked(with_yanks(listing, marks({"1": True}), counted)))) == 33
    assert sorted(asked) == ["0", "1", "2"]


def test_an_overview_groups_files_by_version_in_the_order_of_the_listing():
    listing = Listing(
        project="x", files=tuple(File(name=n, version=v) for n, v in (("1", "B"), ("2", "a"), ("3", "b"), ("4", "")))
    )
    seen = overview(listing, marks({"b": True}, {"4": "why"}), lowered)
    assert [[file.name for file in group] for group in seen.versions] == [["1", "3"], ["2"], ["4"]]
    assert seen.yanked_here == {"1", "3", "4"}
    assert overview(listing, None, lowered).yanked_here == frozenset()
    assert overview(Listing(project="x"), None, lowered).versions == ()
