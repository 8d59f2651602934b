"""Reading what is there in order, and what comes then."""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
import tracemalloc

import pytest

from nora.api import Invalid
from nora.audit.entry import MAX_LINE_BYTES, Entry, line_of
from nora.audit.file import AuditFile
from nora.audit.read import QUIET_LOOKS, AuditReader, AuditUnreadable, Wanted, time_of
from tests.unit.audit.conftest import DAY

TODAY, TOMORROW = "2026-11-28.jsonl", "2026-11-29.jsonl"


def line(project: str, **fields: object) -> bytes:
    return line_of(Entry(**{"at": "2026-11-28T12:00:00.000000Z", "action": "publish", "project": project, **fields}))  # type: ignore[arg-type]


class Reading:
    """A reader, and what it complains of."""

    def __init__(self, folder, wanted: Wanted = Wanted()) -> None:  # noqa: B008 - it is frozen
        self.complaints: list[str] = []
        self.reader = AuditReader(folder, wanted, self.complaints.append)

    def past(self, *, follow: bool = False) -> list[str]:
        return [found.entry.project for found in self.reader.past(follow=follow)]

    def more(self) -> list[str]:
        return [found.entry.project for found in self.reader.more()]


@pytest.fixture
def read(folder):
    folder.mkdir()
    made = Reading(folder)
    yield made
    made.reader.close()


def test_there_may_be_nothing_yet(folder):
    reading = Reading(folder)
    assert reading.past(follow=True) == []
    assert reading.more() == []
    AuditFile(folder).append(line("a"))
    assert reading.more() == ["a"]
    assert reading.complaints == []


def test_files_are_read_in_order_moved_and_compressed_ones_too(read, folder):
    (folder / "2026-11-27.jsonl.10").write_bytes(line("a"))
    (folder / "2026-11-27.jsonl.2.gz").write_bytes(gzip.compress(line("b")))
    (folder / "2026-11-27.jsonl.1.bz2").write_bytes(bz2.compress(line("c")))
    (folder / "2026-11-27.jsonl").write_bytes(line("d"))
    (folder / "2026-11-28.jsonl-20261128.xz").write_bytes(lzma.compress(line("e")))
    (folder / "2026-11-28.jsonl-20261129").write_bytes(line("f"))
    (folder / "2026-11-28.jsonl").write_bytes(line("g"))
    (folder / "2026-11-28.json").write_bytes(line("other"))
    (folder / "2026-11-26.jsonl.old").write_bytes(line("0"))
    assert read.past() == ["0", *"abcdefg"]
    assert read.complaints == []


def test_a_line_is_given_as_it_is_stored(read, folder):
    stored = b'{"at":"2026","action":"publish","colour":"red"}\n'
    (folder / TODAY).write_bytes(stored)
    assert [found.line for found in read.reader.past()] == [stored]


def test_damaged_lines_are_told_with_their_place_and_hide_no_other(read, folder):
    (folder / TODAY).write_bytes(
        line("a") + b"\x00\x00\n" + line("b") + b'{"at":\n\n' + b"x" * (3 * MAX_LINE_BYTES) + b"\n" + line("c") + line("d")[:-2]
    )
    assert read.past() == ["a", "b", "c"]
    assert [text.removeprefix(str(folder)).partition(": passed over: ")[0] for text in read.complaints] == [
        f"/{TODAY}:{number}" for number in (2, 4, 5, 6, 8)
    ]
    assert read.complaints[-1].endswith("the last line is cut off")
    assert all(len(text) < 300 for text in read.complaints)


def test_a_line_that_is_too_long_is_none_even_if_it_could_be_read(read, folder):
    (folder / TODAY).write_bytes(b'{"at":"","action":"", "more": "' + b"x" * MAX_LINE_BYTES + b'"}\n' + line("a"))
    assert read.past() == ["a"]
    assert read.complaints[0].endswith(f"{TODAY}:1: passed over: the line is damaged: too long")


def test_a_file_that_cannot_be_read_hides_no_other(read, folder):
    (folder / "2026-11-25.jsonl").mkdir()
    (folder / "2026-11-26.jsonl.1.gz").write_bytes(gzip.compress(line("a") + os.urandom(1000).hex().encode())[:-400])
    (folder / "2026-11-26.jsonl.2.gz").write_bytes(b"no gzip")
    (folder / "2026-11-26.jsonl.3.xz").write_bytes(b"no xz")
    (folder / "2026-11-26.jsonl.4.zst").write_bytes(b"")
    (folder / TODAY).write_bytes(line("b"))
    assert read.past() in (["a", "b"], ["b"])
    assert len(read.complaints) == 5


def test_a_folder_that_cannot_be_read_is_told(folder):
    folder.touch()
    with pytest.raises(AuditUnreadable, match="audit: Not a directory"):
        Reading(folder).past()


def test_memory_is_the_same_for_any_length(read, folder):
    with open(folder / TODAY, "wb") as file:
        for _ in range(40):
            file.write(line("a", reason="x" * 900) * 500)
        file.write(b"\x00" * 20_000_000)
    tracemalloc.start()
    try:
        assert sum(1 for _ in read.reader.past()) == 20_000
        assert tracemalloc.get_traced_memory()[1] < 2_000_000
    finally:
        tracemalloc.stop()


# Filters


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        (Wanted(), ["a", "b", "c"]),
        (Wanted(actions=frozenset({"yank", "delete"})), ["b", "c"]),
        (Wanted(registry="pypi"), ["a"]),
        (Wanted(project="b"), ["b"]),
        (Wanted(actor="alice"), ["b"]),
        (Wanted(actor=""), ["a", "c"]),
        (Wanted(address="192.0.2.1"), ["c"]),
        (Wanted(since="2026-11-28T12:00:01.000000Z"), ["b", "c"]),
        (Wanted(until="2026-11-28T12:00:01.000000Z"), ["a"]),
        (Wanted(since="2026-11-28T12:00:01.000000Z", until="2026-11-28T12:00:02.000000Z"), ["b"]),
        (Wanted(since="2026-11-29T00:00:00.000000Z"), []),
        (Wanted(actions=frozenset({"yank"}), actor="bob"), []),
    ],
)
def test_entries_are_chosen(folder, wanted, found):
    folder.mkdir()
    (folder / TODAY).write_bytes(
        line("a", registry="pypi")
        + line("b", action="yank", actor="alice", at="2026-11-28T12:00:01.000000Z")
        + line("c", action="delete", address="192.0.2.1", at="2026-11-28T12:00:02.000000Z")
    )
    assert Reading(folder, wanted).past() == found


def test_what_was_written_after_its_day_is_found(folder):
    folder.mkdir()
    (folder / TOMORROW).write_bytes(line("late"))
    assert Reading(folder, Wanted(since="2026-11-28T11:00:00.000000Z", until="2026-11-28T13:00:00.000000Z")).past() == ["late"]


def test_days_before_are_not_looked_at(folder):
    folder.mkdir()
    (folder / "2026-11-20.jsonl").write_bytes(b"damaged\n")
    (folder / TODAY).write_bytes(line("a"))
    reading = Reading(folder, Wanted(since="2026-11-28T12:00:00.000000Z"))
    assert (reading.past(), reading.complaints) == (["a"], [])


@pytest.mark.parametrize(
    ("text", "time"),
    [
        ("90s", "2026-11-28T11:58:30.000000Z"),
        ("30m", "2026-11-28T11:30:00.000000Z"),
        ("2h", "2026-11-28T10:00:00.000000Z"),
        ("7d", "2026-11-21T12:00:00.000000Z"),
        ("1w", "2026-11-21T12:00:00.000000Z"),
        ("2026-11-28T11:00", "2026-11-28T11:00:00.000000Z"),
        ("2026-11-28T11:00:00.25Z", "2026-11-28T11:00:00.250000Z"),
        ("2026-11-28 11:00-02:00", "2026-11-28T13:00:00.000000Z"),
    ],
)
def test_times_are_understood(text, time):
    assert time_of(text, 1_795_867_200.0) == time


@pytest.mark.parametrize(
    "text", ["", "yesterday", "2x", "-2h", "2026-13-01", "0000-01-01", "999999w", "0001-01-01T00:00+23:00", "٢h"]
)
def test_what_is_no_time_is_told(text):
    with pytest.raises(Invalid, match="is no time: write how long ago"):
        time_of(text, 1_795_867_200.0)


# Following


@pytest.fixture
def file(folder, clock):
    made = AuditFile(folder, clock)
    yield made
    made.close()


def test_what_comes_is_told_once(read, file):
    file.append(line("a"))
    assert read.past(follow=True) == ["a"]
    assert read.more() == []
    file.append(line("b") + line("c"))
    assert read.more() == ["b", "c"]
    assert read.more() == []


def test_midnight_is_no_gap(read, file, folder, clock):
    file.append(line("a"))
    assert read.past(follow=True) == ["a"]
    clock.now += DAY
    file.append(line("c"))
    with open(folder / TODAY, "ab") as late:
        late.write(line("b"))
    assert read.more() == ["b", "c"]
    with open(folder / TODAY, "ab") as late:
        late.write(line("later"))
    file.append(line("d"))
    assert read.more() == ["later", "d"]
    clock.now += DAY
    file.append(line("e"))
    assert read.more() == ["e"]
    clock.now += DAY
    for _ in range(QUIET_LOOKS + 2):
        assert read.more() == []
    assert len(read.reader._tails) == 2
    assert read.reader._leaving == []
    file.append(line("f"))
    assert read.more() == ["f"]
    assert read.complaints == []


def test_rotation_is_no_gap_and_nothing_is_told_twice(read, file, folder):
    file.append(line("a"))
    assert read.past(follow=True) == ["a"]
    for number in range(10):
        file.append(line(f"{number}-before"))
        os.rename(folder / TODAY, folder / f"{TODAY}.{100 - number}")
        with open(folder / f"{TODAY}.{100 - number}", "ab") as late:
            late.write(line(f"{number}-late"))
        file.append(line(f"{number}-after"))
        assert read.more() == [f"{number}-before", f"{number}-late", f"{number}-after"]
    for number in range(QUIET_LOOKS + 1):
        file.append(line(f"{number}"))
        assert read.more() == [f"{number}"]
    assert read.reader._leaving == []
    assert read.complaints == []


def test_a_file_that_is_moved_while_older_ones_are_read_is_read(read, file, folder):
    (folder / "2026-11-26.jsonl").write_bytes(line("a"))
    (folder / "2026-11-27.jsonl").write_bytes(line("b"))
    file.append(line("c"))
    past = read.reader.past()
    assert next(past).entry.project == "a"
    os.rename(folder / TODAY, folder / f"{TODAY}.1")
    file.append(line("d"))
    assert [found.entry.project for found in past] == ["b", "c"]


def test_half_a_line_is_waited_for(read, folder):
    whole = line("b")
    (folder / TODAY).write_bytes(line("a") + whole[:9])
    assert read.past(follow=True) == ["a"]
    assert read.more() == []
    with open(folder / TODAY, "ab") as file:
        file.write(whole[9:])
    assert read.more() == ["b"]
    assert read.complaints == []


def test_a_damaged_line_is_told_while_following(read, file, folder):
    (folder / TODAY).write_bytes(line("a") + line("b")[:9])
    assert read.past(follow=True) == ["a"]
    file.append(line("c"))
    assert read.more() == ["c"]
    assert [text.startswith(f"{folder}/{TODAY}:2: passed over: the line is damaged") for text in read.complaints] == [True]


def test_what_a_writer_takes_back_is_no_reason_to_begin_anew(read, file, folder):
    file.append(line("a"))
    assert read.past(follow=True) == ["a"]
    size = (folder / TODAY).stat().st_size
    with open(folder / TODAY, "ab") as full:
        full.write(line("b")[:20])
    assert read.more() == []
    os.truncate(folder / TODAY, size)
    file.append(line("c"))
    assert read.more() == ["c"]
    os.truncate(folder / TODAY, size)
    assert read.more() == []
    file.append(line("d"))
    assert read.more() == ["d"]
    assert read.complaints == []


def test_a_file_whose_content_was_copied_elsewhere_is_read_from_its_new_beginning(read, file, folder):
    file.append(line("a") * 3)
    assert read.past(follow=True) == ["a"] * 3
    os.truncate(folder / TODAY, 0)
    file.append(line("b"))
    assert read.more() == ["b"]
    file.append(line("c"))
    assert read.more() == ["c"]


def test_a_file_that_was_removed_is_nothing_to_complain_of(read, file, folder):
    file.append(line("a"))
    assert read.past(follow=True) == ["a"]
    (folder / TODAY).unlink()
    assert read.more() == []
    file.append(line("b"))
    assert read.more() == ["b"]
    assert read.complaints == []
