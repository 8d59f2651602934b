"""Garbage collection: what nothing names goes, everything else stays, whatever happens meanwhile and wherever it ends."""

from __future__ import annotations

import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nora.api import File
from nora.room import blobs as blobs_module
from nora.room.blobs import all_blobs, look, remove
from nora.room.collect import Collected, collecting
from nora.room.evict import Limit
from nora.room.named import Unreadable
from nora.store.directory import DirectoryStore
from nora.store.protocol import blob_key
from nora.verify import verify_storage
from tests.unit.room.conftest import DAY, HOUR, NOW, Disk, digest


def collect(disk: Disk, **options) -> Collected:
    result = Collected()
    for _ in collecting(disk.root, NOW, result, **options):
        pass
    return result


def filled(disk: Disk) -> None:
    """Blobs that are named in each way, and some that are not."""
    for data in (b"hosted", b"meta", b"listed", b"pinned", b"deleted", b"garbage", b"garbage 2"):
        disk.blob(data)
    disk.manifest(b"hosted", b"deleted", sidecars=[b"meta"], serial=1)
    disk.manifest(b"hosted", sidecars=[b"meta"], serial=2, removed=[b"deleted"])
    disk.page(b"listed")
    disk.pin(b"pinned")


def test_what_nothing_names_goes_and_the_rest_stays(disk):
    filled(disk)
    result = collect(disk)
    assert disk.holds(b"hosted", b"meta", b"listed", b"pinned") == [True] * 4
    assert disk.holds(b"deleted", b"garbage", b"garbage 2") == [False] * 3
    assert (result.deleted.count, result.deleted.bytes) == (1, len(b"deleted"))
    assert (result.unnamed.count, result.unnamed.bytes) == (2, len(b"garbage" + b"garbage 2"))
    assert (result.hosted.count, result.cached.count, result.young.count) == (2, 2, 0)
    assert verify_storage(disk.root).problems == []


def test_a_second_time_finds_nothing(disk):
    filled(disk)
    collect(disk)
    result = collect(disk)
    assert (result.deleted.count, result.unnamed.count, result.hosted.count, result.cached.count) == (0, 0, 2, 2)


def test_nothing_but_blobs_and_their_notes_is_changed(disk):
    filled(disk)
    disk.note(b"garbage", DAY)
    before = disk.everything()
    collect(disk)
    gone = before.items() - disk.everything().items()
    assert {name for name, _ in gone} == {
        *(blob_key(digest(data)) for data in (b"deleted", b"garbage", b"garbage 2")),
        f"used/main/{digest(b'garbage')[:2]}/{digest(b'garbage')[2:]}",
    }
    assert disk.everything().keys() <= before.keys()


def test_a_dry_run_says_the_same_and_changes_nothing(disk):
    filled(disk)
    disk.note(b"gone already", DAY)
    before = disk.everything()
    limits = [Limit("main", 1)]
    said = collect(disk, dry_run=True, limits=limits)
    assert disk.everything() == before
    assert said == collect(disk, limits=limits)


def test_what_was_written_lately_stays(disk):
    disk.blob(b"young", HOUR / 2)
    disk.blob(b"of a clock that was set back", -DAY)
    disk.blob(b"old", 2 * HOUR)
    result = collect(disk)
    assert disk.holds(b"young", b"of a clock that was set back", b"old") == [True, True, False]
    assert result.young.count == 2


def test_contents_of_files_that_were_deleted_lately_stay_if_that_is_asked_for(disk):
    disk.blob(b"deleted")
    disk.blob(b"its metadata")
    disk.manifest(b"deleted", sidecars=[b"its metadata"], serial=1, age=10 * DAY)
    disk.manifest(serial=2, removed=[b"deleted"], age=2 * DAY)
    collect(disk, keep_deleted_seconds=3 * DAY)
    assert disk.holds(b"deleted", b"its metadata") == [True, True]
    collect(disk, keep_deleted_seconds=1 * DAY)
    assert disk.holds(b"deleted", b"its metadata") == [False, False]


def test_a_deleted_file_that_is_hosted_elsewhere_or_again_stays(disk):
    for data in (b"elsewhere", b"again"):
        disk.blob(data)
    disk.manifest(removed=[b"elsewhere"], project="one")
    disk.manifest(b"elsewhere", project="two", registry="other")
    disk.manifest(b"again", removed=[b"again"], project="three")
    result = collect(disk)
    assert disk.holds(b"elsewhere", b"again") == [True, True]
    assert result.deleted.count == 0


def test_nothing_is_removed_when_a_manifest_cannot_be_read(disk):
    filled(disk)
    disk.manifest(b"hosted", project="broken").write_bytes(b"")
    before = disk.everything()
    with pytest.raises(Unreadable):
        collect(disk)
    assert disk.everything() == before


def test_what_lies_among_the_blobs_and_is_none_is_left_alone(disk):
    disk.blob(b"garbage")
    for stray in ("blobs/notes", "blobs/sha256/notes", "blobs/sha256/ab/short", "blobs/sha256/abc/" + "0" * 62):
        disk.write(stray, b"x", DAY)
    (disk.root / "blobs/sha256/ab" / ("1" * 62)).mkdir()
    before = disk.everything().keys()
    collect(disk)
    assert before - disk.everything().keys() == {blob_key(digest(b"garbage"))}


# Whatever happens meanwhile


def steps_of(disk: Disk, **options):
    result = Collected()
    return collecting(disk.root, NOW, result, **options), result


@pytest.fixture
def small_steps(monkeypatch) -> None:
    """A step after each look at a file."""
    monkeypatch.setattr("nora.room.collect.STEP", 1)


@pytest.mark.usefixtures("small_steps")
def test_wherever_it_is_broken_off_the_storage_is_sound(tmp_path):
    whole = Disk(tmp_path / "whole")
    filled(whole)
    count = sum(1 for _ in steps_of(whole)[0])
    assert count > 20
    for end in range(count):
        disk = Disk(tmp_path / str(end))
        filled(disk)
        steps, _ = steps_of(disk)
        for _ in range(end):
            next(steps)
        steps.close()
        assert disk.holds(b"hosted", b"meta", b"listed", b"pinned") == [True] * 4
        assert verify_storage(disk.root).problems == []
        collect(disk)
        assert disk.blobs() == whole.blobs()


@pytest.mark.usefixtures("small_steps")
async def test_whenever_a_writer_comes_that_uses_what_is_there_it_is_kept(tmp_path, monkeypatch):
    """Publishing, as it is done: the blob first, then the manifest; at each point of a collection one of them, or both."""

    async def keep(store: DirectoryStore, data: bytes) -> None:
        async with store.spool() as spool:
            await spool.write(data)
            await spool.finish()
            await store.keep_blob(spool)
        at = (NOW - 1) * 1e9  # the test's time
        os.utime(store.root / blob_key(digest(data)), ns=(int(at), int(at)))

    whole = Disk(tmp_path / "whole")
    filled(whole)
    count = sum(1 for _ in steps_of(whole)[0])
    for first in range(count):
        for gap in (0, 1, 3, count):
            disk = Disk(tmp_path / f"{first}-{gap}")
            filled(disk)
            store = DirectoryStore(disk.root)
            steps, _ = steps_of(disk)
            for number in range(count + 1):
                if number == first:
                    await keep(store, b"garbage")
                if number == first + gap:
                    disk.manifest(b"garbage", project="new", age=0)
                next(steps, None)
            if first + gap > count:
                disk.manifest(b"garbage", project="new", age=0)
            for _ in steps:
                pass
            assert disk.holds(b"garbage") == [True], (first, gap)
            assert verify_storage(disk.root).problems == [], (first, gap)
            await store.aclose()


def test_a_blob_that_was_used_since_it_was_seen_is_not_removed(disk):
    disk.blob(b"data")
    seen = look(disk.root, digest(b"data"))
    os.utime(disk.root / blob_key(seen.sha256))
    assert not remove(disk.root, seen)
    assert disk.holds(b"data") == [True]
    assert remove(disk.root, look(disk.root, digest(b"data")))
    assert not remove(disk.root, seen)


async def test_a_writer_that_comes_between_the_last_look_and_the_removal_waits_and_makes_the_blob_anew(disk, monkeypatch):
    store = DirectoryStore(disk.root)
    disk.blob(b"data")
    seen = look(disk.root, digest(b"data"))
    path = disk.root / blob_key(seen.sha256)
    async with store.spool() as spool:
        await spool.write(b"data")
        await spool.finish()
        unlink, writing = os.unlink, []

        def slow(target, *args, **kwargs):
            if str(target) == str(path) and not writing:
                import threading

                writing.append(threading.Thread(target=store._keep_blobs, args=([(spool, path)],)))
                writing[0].start()
                writing[0].join(0.2)
                assert writing[0].is_alive()  # it found the blob, and waits to be let at it
            unlink(target, *args, **kwargs)

        monkeypatch.setattr(os, "unlink", slow)
        assert remove(disk.root, seen)
        writing[0].join(10)
    assert path.read_bytes() == b"data"
    await store.aclose()


def test_a_blob_that_goes_while_all_are_listed_is_passed_over(disk, monkeypatch):
    for data in (b"one", b"two"):
        disk.blob(data)
    sharded = blobs_module.sharded

    def vanishing(folder):
        for sha256, entry in sharded(folder):
            if sha256 == digest(b"one"):
                os.unlink(entry.path)
            yield sha256, entry

    monkeypatch.setattr(blobs_module, "sharded", vanishing)
    assert [blob.sha256 for blob in all_blobs(disk.root)] == [digest(b"two")]


# Notes of use


def test_notes_go_with_their_blobs_and_young_ones_wait(disk):
    disk.cached(b"garbage", DAY)
    disk.note(b"gone long ago", DAY, "other")
    disk.note(b"being fetched", HOUR / 2)
    collect(disk)
    assert disk.notes() == {digest(b"being fetched")}
    assert disk.notes("other") == set()


def test_what_was_fetched_before_there_were_notes_is_noted_for_registries_with_a_limit(disk):
    for data in (b"listed", b"pinned", b"noted", b"hosted"):
        disk.blob(data, 3 * DAY)
    disk.page(b"listed", b"noted", b"hosted", "absent")
    disk.page(b"listed", registry="unlimited")
    disk.pin(b"pinned")
    disk.note(b"noted", HOUR, "unlimited")
    disk.manifest(b"hosted")
    collect(disk, limits=[Limit("main", 1), Limit("another", 1)])
    assert disk.notes() == {digest(b"listed"), digest(b"pinned")}
    assert disk.notes("another") == set()
    assert disk.notes("unlimited") == {digest(b"noted")}
    note = disk.root / "used/main" / digest(b"listed")[:2] / digest(b"listed")[2:]
    assert note.stat().st_mtime == NOW - 3 * DAY


# Any storage

CONTENTS = [bytes([65 + number]) for number in range(8)]


@st.composite
def storages(draw):
    some = st.sets(st.sampled_from(CONTENTS))
    return {
        "blobs": draw(st.dictionaries(st.sampled_from(CONTENTS), st.sampled_from([0.0, HOUR / 2, DAY]))),
        "projects": draw(st.lists(st.lists(some, min_size=1, max_size=3), max_size=3)),
        "pages": draw(st.lists(some, max_size=2)),
        "pins": draw(st.lists(st.sampled_from(CONTENTS), max_size=2)),
    }


@settings(max_examples=60)
@given(storages())
def test_of_any_storage_exactly_what_is_old_and_named_by_nothing_goes(tmp_path_factory, storage):
    disk = Disk(tmp_path_factory.mktemp("any") / "store")
    for data, age in storage["blobs"].items():
        disk.blob(data, age)
    named = set()
    for number, serials in enumerate(storage["projects"]):
        for serial, contents in enumerate(serials, start=1):
            removed = set().union(*serials[:serial]) - contents
            disk.manifest(*sorted(contents), project=f"p{number}", serial=serial, removed=removed)
        named |= serials[-1]
    for number, listed in enumerate(storage["pages"]):
        disk.page(*sorted(listed), project=f"y{number}")
        named |= listed
    for number, data in enumerate(storage["pins"]):
        disk.pin(data, name=f"f{number}")
        named.add(data)
    collect(disk)
    young = {data for data, age in storage["blobs"].items() if age < HOUR}
    assert disk.blobs() == {digest(data) for data in storage["blobs"].keys() & (named | young)}


def test_a_page_of_a_format_that_writes_digests_otherwise_is_read_by_it(disk):
    from nora.api import Listing

    disk.blob(b"listed")
    disk.page("base64")
    listing = Listing(project="y", files=(File(name="f", digests={"sha256": digest(b"listed")}),))
    collect(disk, parsers={"main": lambda project, document: listing})
    assert disk.holds(b"listed") == [True]
    collect(disk)
    assert disk.holds(b"listed") == [False]
