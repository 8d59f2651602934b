"""Eviction: the least recently used go, never what is hosted, and other registries keep theirs."""

from __future__ import annotations

import os

import pytest

from nora.room import evict as module
from nora.room.evict import Evicted, Limit, evicting, sole_evictor
from nora.room.named import Unreadable
from nora.store.protocol import blob_key, used_key
from nora.verify import verify_storage
from tests.unit.room.conftest import DAY, HOUR, NOW, Disk, digest


def evict(disk: Disk, max_bytes: int, registry: str = "main", *, keep_withdrawn: bool = False, **options) -> Evicted:
    result = Evicted()
    for _ in evicting(disk.root, Limit(registry, max_bytes, keep_withdrawn), NOW, result, **options):
        pass
    return result


def data(number: int) -> bytes:
    return bytes([number]) * 100


def filled(disk: Disk, count: int = 10) -> None:
    """Files of 100 bytes; number 0 was used last."""
    for number in range(count):
        disk.cached(data(number), HOUR * (number + 1))


def left(disk: Disk, count: int = 10) -> list[int]:
    return [number for number in range(count) if disk.holds(data(number))[0]]


def test_within_the_limit_nothing_goes(disk):
    filled(disk)
    before = disk.everything()
    result = evict(disk, 1000)
    assert disk.everything() == before
    assert (result.held.count, result.held.bytes, result.files.count) == (10, 1000, 0)


def test_beyond_it_what_was_not_used_for_longest_goes_until_a_tenth_is_free(disk):
    filled(disk)
    result = evict(disk, 999)
    assert left(disk) == [0, 1, 2, 3, 4, 5, 6, 7]  # 800 <= 899
    assert (result.files.count, result.files.bytes, result.freed.bytes) == (2, 200, 200)
    assert (result.held.count, result.held.bytes) == (8, 800)
    assert disk.notes() == {digest(data(number)) for number in left(disk)}


def test_the_note_decides_and_not_when_the_blob_was_written(disk):
    for number, (written, used) in enumerate([(9 * DAY, HOUR), (DAY, 3 * HOUR), (5 * DAY, 2 * HOUR)]):
        disk.blob(data(number), written)
        disk.note(data(number), used)
    evict(disk, 250)
    assert left(disk, 3) == [0, 2]


def test_a_blob_without_a_note_is_no_caches(disk):
    disk.blob(b"somebody's" * 100, DAY)
    filled(disk, 3)
    assert evict(disk, 300).files.count == 0


def test_what_was_written_in_the_last_minutes_stays(disk):
    disk.cached(data(0), 60)
    disk.cached(data(1), 300)
    disk.cached(data(2), HOUR)
    result = evict(disk, 100)
    assert left(disk, 3) == [0, 1]
    assert result.held.bytes == 200


def test_what_was_used_later_does_not_go_in_the_place_of_what_may_not_go_yet(disk):
    for number in range(3):
        disk.cached(data(number), 300)  # fetched once
        disk.cached(data(number + 3), DAY)
        disk.note(data(number + 3), 60)  # and used by everybody
    assert evict(disk, 400).files.count == 0
    assert evict(disk, 200).files.count == 2


def test_a_hosted_file_never_goes_and_does_not_count(disk):
    filled(disk, 4)
    disk.manifest(data(3), sidecars=[data(2)], registry="other")
    result = evict(disk, 150)
    assert left(disk, 4) == [0, 2, 3]
    assert disk.notes() == {digest(data(0))}
    assert (result.held.bytes, result.files.count) == (100, 1)
    assert verify_storage(disk.root).problems == []


def test_room_that_hosted_files_did_not_make_is_made_by_others(disk):
    filled(disk, 10)
    disk.manifest(*(data(number) for number in range(5, 10)))
    evict(disk, 350)
    assert left(disk) == [0, 1, 2, 5, 6, 7, 8, 9]


def test_nothing_goes_when_a_manifest_cannot_be_read(disk):
    filled(disk)
    disk.manifest(b"hosted").write_bytes(b"")
    before = disk.everything()
    with pytest.raises(Unreadable):
        evict(disk, 100)
    assert disk.everything() == before


def test_a_file_that_two_registries_use_goes_with_the_last_of_them(disk):
    filled(disk, 3)
    disk.note(data(2), HOUR, "other")
    result = evict(disk, 250)
    assert left(disk, 3) == [0, 1, 2]
    assert disk.notes() == {digest(data(0)), digest(data(1))}
    assert (result.files.bytes, result.freed.bytes, result.held.bytes) == (100, 0, 200)
    evict(disk, 0, "other")
    assert left(disk, 3) == [0, 1]


def test_caches_of_other_registries_are_not_touched(disk):
    filled(disk, 3)
    disk.cached(b"theirs" * 100, DAY, "other")
    evict(disk, 0)
    assert disk.blobs() == disk.notes("other") == {digest(b"theirs" * 100)}


@pytest.mark.parametrize("keep_withdrawn", [True, False])
def test_files_of_withdrawn_projects_stay_if_they_are_kept(disk, keep_withdrawn):
    filled(disk, 6)
    disk.page(data(5), withdrawn=True, project="gone")
    disk.pin(data(4), project="gone")
    disk.page(data(3), project="there")
    disk.page(data(2), withdrawn=True, project="gone", registry="other")
    evict(disk, 450, keep_withdrawn=keep_withdrawn)
    assert left(disk, 6) == ([0, 1, 4, 5] if keep_withdrawn else [0, 1, 2, 3])


def test_room_that_withdrawn_projects_did_not_make_is_made_by_others(disk, monkeypatch):
    monkeypatch.setattr(module, "AT_ONCE", 3)
    filled(disk, 9)
    disk.page(*(data(number) for number in range(4, 9)), withdrawn=True, project="gone")
    evict(disk, 700, keep_withdrawn=True)
    assert left(disk, 9) == [0, 4, 5, 6, 7, 8]


def test_a_file_that_is_used_while_we_look_stays(disk):
    filled(disk, 3)
    steps = evicting(disk.root, Limit("main", 100), NOW, Evicted())
    original = module._spare_hosted

    def used_meanwhile(*args, **options):
        yield from original(*args, **options)
        disk.note(data(2), 0)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_spare_hosted", used_meanwhile)
        for _ in steps:
            pass
    assert 2 in left(disk, 3)


def test_a_file_that_is_published_while_we_look_stays(disk):
    filled(disk, 3)
    original = module._spare_hosted

    def published_meanwhile(*args, **options):
        yield from original(*args, **options)
        os.utime(disk.root / blob_key(digest(data(2))))  # as a writer does first
        disk.manifest(data(2))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_spare_hosted", published_meanwhile)
        evict(disk, 100)
    assert 2 in left(disk, 3)
    assert verify_storage(disk.root).problems == []


def test_notes_of_what_is_gone_are_removed_when_they_are_old(disk):
    disk.note(b"gone", DAY)
    disk.note(b"being fetched", 60)
    evict(disk, 100)
    assert disk.notes() == {digest(b"being fetched")}


def test_more_than_one_round_can_find(disk, monkeypatch):
    monkeypatch.setattr(module, "AT_ONCE", 3)
    filled(disk)
    disk.manifest(data(9), data(8))
    result = evict(disk, 333)
    assert left(disk) == [0, 1, 8, 9]
    assert result.held.bytes == 200


def test_a_dry_run_says_the_same_and_changes_nothing(disk, monkeypatch):
    monkeypatch.setattr(module, "AT_ONCE", 3)
    filled(disk)
    disk.note(b"gone", DAY)
    disk.manifest(data(9), data(8))
    disk.note(data(7), DAY, "other")
    before = disk.everything()
    said = evict(disk, 333, dry_run=True)
    assert disk.everything() == before
    assert said == evict(disk, 333)


def test_what_counts_as_gone_already_does_not_count(disk):
    filled(disk, 3)
    gone = {digest(data(2))}
    assert evict(disk, 200, dry_run=True, gone=gone).files.count == 0
    assert gone == {digest(data(2))}


def test_wherever_it_is_broken_off_it_can_be_taken_up(tmp_path, monkeypatch):
    for step in ("STEP", "READING_STEP"):
        monkeypatch.setattr(module, step, 1)

    def steps(disk):
        filled(disk, 6)
        disk.manifest(data(5))
        return evicting(disk.root, Limit("main", 300), NOW, Evicted())

    whole = Disk(tmp_path / "whole")
    count = sum(1 for _ in steps(whole))
    assert count >= 10
    for end in range(count):
        disk = Disk(tmp_path / str(end))
        begun = steps(disk)
        for _ in range(end):
            next(begun)
        begun.close()
        assert verify_storage(disk.root).problems == []
        assert evict(disk, 300).held.bytes <= 300
        assert disk.notes() == {sha256 for sha256 in disk.blobs() if sha256 != digest(data(5))}
        assert disk.blobs() >= whole.blobs()


def test_the_blob_goes_before_its_note(disk, monkeypatch):
    # A note without its blob is found again, a blob without its note is not.
    filled(disk, 1)
    note = disk.root / used_key("main", digest(data(0)))
    seen = []
    original = module.remove

    def looked_at(root, blob):
        seen.append(note.exists())
        return original(root, blob)

    monkeypatch.setattr(module, "remove", looked_at)
    evict(disk, 0)
    assert (seen, note.exists()) == ([True], False)


def test_one_evicts_at_a_time(disk):
    with sole_evictor(disk.root) as first, sole_evictor(disk.root) as second:
        assert (first, second) == (True, False)
    with sole_evictor(disk.root) as third:
        assert third
