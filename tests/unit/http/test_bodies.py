"""Bodies of held answers: what they count for, and the files in memory that some are sent from."""

from __future__ import annotations

import os

import pytest

from nora.http import bodies
from nora.http.bodies import FILED_BYTES, MAX_FILES, SHARED_BYTES, Bodies


def body(number: int, size: int = FILED_BYTES.start) -> bytes:
    return b"%08d" % number + bytes(size - 8)


def is_open(descriptor: int) -> bool:
    try:
        os.fstat(descriptor)
    except OSError:
        return False
    return True


@pytest.fixture
def clock(monkeypatch):
    now = [1000.0]
    monkeypatch.setattr(bodies.time, "monotonic", lambda: now[0])
    return now


def test_a_body_counts_once_and_no_more_when_the_last_entry_is_gone():
    held, first = Bodies(), body(1, 100)
    assert held.add(first) is first
    assert held.add(bytes(bytearray(first))) is first, "equal ones are one"
    assert held.size == 100
    held.remove(first)
    assert held.size == 100
    held.remove(first)
    assert held.size == 0
    assert held._counts == held._shared == {}


def test_long_bodies_are_not_compared_but_counted_by_themselves():
    held, first, second = Bodies(), body(1, SHARED_BYTES + 1), body(1, SHARED_BYTES + 1)
    assert held.add(first) is first
    assert held.add(second) is second
    assert held.size == 4 * (SHARED_BYTES + 1), "each may be in a file, too"
    held.remove(first)
    held.remove(second)
    assert held.size == 0


def test_nothing_is_held_of_an_empty_body():
    held = Bodies()
    held.add(b"")
    held.remove(b"")
    assert held.size == 0


def test_a_file_has_the_body_and_is_closed_with_the_last_entry():
    held, kept = Bodies(), body(7)
    held.add(kept)
    held.add(kept)
    descriptor = held.file(kept)
    assert descriptor is not None
    assert held.file(kept) == descriptor
    assert os.pread(descriptor, len(kept) + 1, 0) == kept
    held.remove(kept)
    assert is_open(descriptor)
    held.remove(kept)
    assert not is_open(descriptor)
    assert held.file(kept) is None, "of what is not held there is none"


def test_the_file_that_was_not_used_for_longest_makes_room(clock):
    held, kept = Bodies(), [body(number) for number in range(MAX_FILES + 2)]
    for each in kept:
        held.add(each)
    found = [held.file(each) for each in kept[:MAX_FILES]]
    assert held.file(kept[MAX_FILES]) is None, "all are busy"
    clock[0] += 2
    assert held.file(kept[0]) == found[0]
    assert held.file(kept[MAX_FILES]) is not None
    assert len(held._files) == MAX_FILES
    assert held.file(kept[0]) == found[0], "the second one was closed"
    assert held.file(kept[1]) is not None, "and is made again for the third"
    for each in kept:
        held.remove(each)
    assert held._files == {}


def test_where_no_file_can_be_made_there_is_none(monkeypatch):
    def refuse(*_: object) -> int:
        raise OSError(24, "too many open files")

    monkeypatch.setattr(os, "memfd_create", refuse)
    held, kept = Bodies(), body(1)
    held.add(kept)
    assert held.file(kept) is None
    monkeypatch.undo()
    monkeypatch.delattr(os, "memfd_create")
    assert held.file(kept) is None
