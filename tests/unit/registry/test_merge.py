"""Listings put together."""

from __future__ import annotations

from nora.api import Event, File, Listing
from nora.index.manifest import Manifest
from nora.registry.merge import hosted_listing, merge, without_refused

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
    merged = merge(hosted, upstream)
    assert names(merged) == ["x-1", "x-2"]
    assert merged.by_name["x-1"].digests == {"sha256": "a"}
    assert merged.hosted


def test_an_identity_that_is_taken_is_not_taken_twice():
    hosted = Listing(project="x", files=(File(name="x-1.0", identity="x-1"),))
    upstream = Listing(
        project="x", files=(File(name="x-1.0.0", identity="x-1"), File(name="x-2", identity="x-2"), File(name="x-3"))
    )
    assert names(merge(hosted, upstream)) == ["x-1.0", "x-2", "x-3"]


def test_the_hosted_projects_own_words_win():
    hosted = Listing(project="x", status="archived", status_reason="ours", extra={"a": "ours"})
    upstream = Listing(project="x", status="active", extra={"a": "theirs", "b": "theirs"}, files=(File(name="x-1"),))
    merged = merge(hosted, upstream)
    assert (merged.status, merged.status_reason, merged.extra) == ("archived", "ours", {"a": "ours", "b": "theirs"})
    assert names(merged) == ["x-1"]
    assert names(merge(Listing(project="x"), Listing(project="x"))) == []


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
