"""Reading on from a place: every line once and in order, whatever happens to the files."""

from __future__ import annotations

import bz2
import fcntl
import gzip
import lzma
import os
import shutil
import tracemalloc

import pytest

from nora.audit import file as file_module
from nora.audit import follow as module
from nora.audit.entry import MAX_LINE_BYTES, Entry, line_of
from nora.audit.file import AuditFile
from nora.audit.follow import BATCH_BYTES, Followed, Position, end_of, follow
from tests.unit.audit.conftest import DAY, NOON

TODAY, TOMORROW = "2026-11-28.jsonl", "2026-11-29.jsonl"
BEGIN = Position(day="2026-11-28")


def line(project: str, **fields: object) -> bytes:
    return line_of(Entry(**{"at": "2026-11-28T12:00:00.000000Z", "action": "publish", "project": project, **fields}))  # type: ignore[arg-type]


class Reading:
    """Reads on as a sender does: after each line the place is all that is known."""

    def __init__(self, folder, position: Position = BEGIN) -> None:
        self.folder, self.position, self.now = folder, position, NOON
        self.complaints: list[str] = []
        self.ids: list[str] = []

    def once(self) -> Followed:
        found = follow(self.folder, self.position, self.now, self.complaints.append)
        self.ids += [each.id for each in found.lines]
        self.position = found.after
        return found

    def all(self) -> list[str]:
        found: list[str] = []
        while (batch := self.once()).lines:
            found += [each.entry.project for each in batch.lines]
        return found


@pytest.fixture
def read(folder):
    folder.mkdir()
    return Reading(folder)


def test_there_may_be_nothing_yet(folder):
    read = Reading(folder, end_of(folder, NOON, pytest.fail))
    assert read.all() == []
    AuditFile(folder, lambda: NOON).append(line("a"))
    assert read.all() == ["a"]
    assert read.all() == []
    assert read.complaints == []


def test_a_body_is_the_line_as_it_is_stored(read, folder):
    stored = line("a")[:-2] + b',"unknown":1}\n'
    (folder / TODAY).write_bytes(stored)
    (found,) = read.once().lines
    assert found.body == stored[:-1]
    assert found.entry.project == "a"


def test_lines_are_read_from_the_place_after_each_of_them(read, folder):
    (folder / TODAY).write_bytes(b"".join(line(f"p{n}") for n in range(5)))
    batch = read.once()
    for number, each in enumerate(batch.lines):
        rest = Reading(folder, each.after)
        assert rest.all() == [f"p{n}" for n in range(number + 1, 5)]
        assert rest.ids == [later.id for later in batch.lines[number + 1 :]], "the same ids when it is read again"
    assert len({each.id for each in batch.lines}) == 5


def test_equal_lines_have_ids_of_their_own(read, folder):
    (folder / TODAY).write_bytes(line("a") * 3)
    assert read.all() == ["a"] * 3
    assert len(set(read.ids)) == 3


def test_another_line_at_the_same_place_has_another_id(read, folder):
    (folder / TODAY).write_bytes(line("a"))
    read.once()
    (folder / TODAY).write_bytes(line("b"))
    other = Reading(folder)
    other.once()
    assert other.ids != read.ids


def test_a_new_follower_begins_at_the_end_and_before_a_half_line(folder):
    folder.mkdir()
    (folder / "2026-11-27.jsonl.1.gz").write_bytes(gzip.compress(line("a")))
    read = Reading(folder, end_of(folder, NOON, pytest.fail))
    assert read.all() == []
    (folder / TODAY).write_bytes(line("b") + line("c")[:9])
    assert read.all() == ["b"]
    new = Reading(folder, end_of(folder, NOON, pytest.fail))
    assert new.position == read.position
    assert new.all() == []
    with (folder / TODAY).open("ab") as file:
        file.write(line("c")[9:])
    assert new.all() == read.all() == ["c"]


def test_half_a_line_is_waited_for(read, folder):
    whole = line("a") + line("b")
    for length in range(len(whole) + 1):
        (folder / TODAY).write_bytes(whole[:length])
        read.all()
    assert read.complaints == []
    assert len(read.ids) == 2


def test_half_a_line_that_a_later_writer_ended_is_passed_over_and_told(read, folder):
    (folder / TODAY).write_bytes(line("a") + line("x")[:20])
    assert read.all() == ["a"]
    AuditFile(folder, lambda: NOON).append(line("b"))
    assert read.all() == ["b"]
    assert len(read.complaints) == 1
    assert "damaged" in read.complaints[0]


def test_half_a_line_at_the_end_of_a_day_is_passed_over_once(read, folder):
    (folder / TODAY).write_bytes(line("a") + line("x")[:20])
    read.now += DAY
    assert read.all() == ["a"]
    assert read.all() == []
    (folder / TOMORROW).write_bytes(line("b"))
    assert read.all() == ["b"]
    assert len(read.complaints) == 1


@pytest.mark.parametrize("damage", [b"{}\n", b"\n", b"\xff\xfe\n", b"[" * 5000 + b"\n", b"x" * (MAX_LINE_BYTES + 1) + b"\n"])
def test_a_damaged_line_is_passed_over_and_told(read, folder, damage):
    (folder / TODAY).write_bytes(line("a") + damage + line("b"))
    assert read.all() == ["a", "b"]
    assert len(read.complaints) == 1


def test_a_line_without_end_costs_no_memory_and_stops_nobody(read, folder):
    with (folder / TODAY).open("wb") as file:
        file.write(line("a"))
        for _ in range(100):
            file.write(b"x" * MAX_LINE_BYTES)
        file.write(b"\n" + line("b"))
    tracemalloc.start()
    found = []
    while read.position.offset < (folder / TODAY).stat().st_size:
        found += [each.entry.project for each in read.once().lines]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found == ["a", "b"]
    assert peak < 8 * BATCH_BYTES


def test_a_long_file_is_read_in_parts(read, folder):
    names = [f"p{n}" for n in range(3000)]
    (folder / TODAY).write_bytes(b"".join(line(name, reason="x" * 200) for name in names))
    assert len(read.once().lines) < 1500
    read.position = BEGIN
    assert read.all() == names
    assert read.complaints == []


# Midnight


def test_the_next_day_begins_when_the_day_is_over_for_all_writers(read, folder):
    (folder / TODAY).write_bytes(line("a"))
    (folder / TOMORROW).write_bytes(line("c"))
    read.now = NOON + DAY / 2 + 1
    assert read.all() == ["a"], "a writer whose clock is late may still come"
    with (folder / TODAY).open("ab") as file:
        file.write(line("b"))
    assert read.all() == ["b"]
    read.now += 60
    assert read.all() == ["c"]


def test_a_writer_that_waited_over_midnight_writes_to_the_new_day(folder, monkeypatch):
    now = [NOON + DAY / 2 - 1]
    file = AuditFile(folder, lambda: now[0])
    file.append(line("a"))
    real = file_module.lock

    def late(descriptor: int) -> None:
        real(descriptor)
        now[0] += 2

    monkeypatch.setattr(file_module, "lock", late)
    file.append(line("b"))
    file.close()
    assert (folder / TODAY).read_bytes() == line("a")
    assert (folder / TOMORROW).read_bytes() == line("b")


def test_quiet_days_move_the_place_on_so_that_no_old_file_is_needed(read, folder):
    (folder / TODAY).write_bytes(line("a"))
    assert read.all() == ["a"]
    read.now += 5 * DAY
    assert read.all() == []
    assert read.position == Position(day="2026-12-03")
    (folder / TODAY).unlink()
    (folder / "2026-12-03.jsonl").write_bytes(line("b"))
    assert read.all() == ["b"]
    assert read.complaints == []


def test_days_that_were_missed_are_read_in_order(read, folder):
    for day in (28, 29, 30):
        (folder / f"2026-11-{day}.jsonl").write_bytes(line(f"{day}a") + line(f"{day}b"))
    read.now += 10 * DAY
    assert read.all() == [f"{day}{end}" for day in (28, 29, 30) for end in "ab"]


# Rotation


def test_files_that_are_moved_and_compressed_are_read_on_where_it_was(read, folder):
    plain, moved = folder / TODAY, folder / f"{TODAY}.1"
    plain.write_bytes(line("a") + line("b"))
    first = read.once().lines[0]
    read.position = first.after
    plain.rename(moved)
    plain.write_bytes(line("c"))
    rest = Reading(folder, first.after)
    assert rest.all() == ["b", "c"]
    moved.rename(folder / f"{TODAY}.2")
    for end, compress in ((".gz", gzip.compress), (".bz2", bz2.compress), (".xz", lzma.compress)):
        packed = folder / f"{TODAY}.2{end}"
        packed.write_bytes(compress(line("a") + line("b")))
        assert read.all() == ["b", "c"], "as long as both are there, they count once"
        (folder / f"{TODAY}.2").unlink()
        read.position, read.ids = first.after, []
        assert read.all() == ["b", "c"]
        assert read.ids == rest.ids
        read.position = first.after
        packed.unlink()
        (folder / f"{TODAY}.2").write_bytes(line("a") + line("b"))
    assert read.complaints == []


def test_a_file_that_is_just_being_compressed_is_no_trouble(read, folder):
    (folder / f"{TODAY}.1").write_bytes(line("a") + line("b"))
    (folder / f"{TODAY}.1.gz").write_bytes(gzip.compress(line("a") + line("b"))[:12])
    assert read.all() == ["a", "b"]
    assert read.all() == []
    assert read.complaints == []


def test_a_file_that_is_copied_and_emptied_is_read_once(read, folder):
    plain, copy = folder / TODAY, folder / f"{TODAY}.1"
    plain.write_bytes(line("a") + line("b"))
    backlog = Reading(folder)
    read.position = read.once().lines[0].after
    copy.write_bytes(plain.read_bytes()[: len(line("a")) + 10])
    assert read.all() == ["b"]
    assert backlog.all() == ["a", "b"]
    shutil.copy(plain, copy)
    os.truncate(plain, 0)
    assert read.all() == backlog.all() == []
    plain.write_bytes(line("c"))
    assert read.all() == backlog.all() == ["c"]
    assert read.complaints == backlog.complaints == []


def test_a_damaged_compressed_file_is_told_and_the_rest_goes_on(read, folder):
    content = b"".join(line(f"p{n}", reason=os.urandom(300).hex()) for n in range(2000))
    (folder / f"{TODAY}.2.gz").write_bytes(gzip.compress(content)[:300_000])
    (folder / f"{TODAY}.1.zst").write_bytes(b"?")
    (folder / f"{TODAY}.0.gz").write_bytes(b"no gzip")
    (folder / TODAY).write_bytes(line("z"))
    assert read.all()[-1] == "z"
    assert len({text.partition(":")[0] for text in read.complaints}) == 3


@pytest.mark.parametrize("moment", range(12))
@pytest.mark.parametrize("reached", [0, 1])
def test_a_rotation_at_any_moment_costs_no_line_and_no_complaint(read, folder, monkeypatch, moment, reached):
    """Files are moved just before one of them is opened: what was listed under a name is another file by then."""
    for end, projects in ((".2", "ab"), (".1", "cd"), ("", "ef")):
        (folder / f"{TODAY}{end}").write_bytes(b"".join(line(project) for project in projects))
    if reached:
        read.position = read.once().after
    looked = []
    real = module.open_file

    def rotating(path):
        looked.append(path)
        if len(looked) == moment + 1:
            for number in (2, 1):
                (folder / f"{TODAY}.{number}").rename(folder / f"{TODAY}.{number + 1}")
            (folder / TODAY).rename(folder / f"{TODAY}.1")
            (folder / TODAY).write_bytes(line("g"))
        return real(path)

    monkeypatch.setattr(module, "open_file", rotating)
    assert "".join(read.all() + read.all()).removesuffix("g") == "abcdef"[2 * reached :]
    assert read.complaints == []


def test_files_that_are_moved_all_the_time_are_told(read, folder, monkeypatch):
    (folder / TODAY).write_bytes(line("a"))
    moves = iter(range(1000))
    real = module.open_file

    def moving(path):
        (folder / TODAY).rename(folder / f"{TODAY}.{1000 - next(moves)}")
        (folder / TODAY).write_bytes(line("b"))
        return real(path)

    monkeypatch.setattr(module, "open_file", moving)
    with pytest.raises(OSError, match="moved all the time"):
        read.once()


# What should not happen


def test_a_file_that_is_gone_is_told_and_the_next_begins(read, folder):
    (folder / TODAY).write_bytes(line("a"))
    assert read.all() == ["a"]
    (folder / TODAY).unlink()
    assert read.all() == []
    assert read.all() == []
    assert read.complaints == [f"{TODAY}: is gone; entries that had not been sent are lost"]
    (folder / TODAY).write_bytes(line("b"))
    assert read.all() == ["b"]


def test_a_file_that_lost_its_end_is_sent_again_rather_than_not(read, folder):
    (folder / TODAY).write_bytes(line("a") + line("b") + line("c"))
    assert read.all() == ["a", "b", "c"]
    first = list(read.ids)
    (folder / TODAY).write_bytes(line("a") + line("other") + line("d"))
    assert read.all() == ["a", "other", "d"]
    assert read.ids[3] == first[0], "whoever drops repetitions notices that it is one"
    assert read.ids[4] not in first
    assert len(read.complaints) == 1


def test_what_a_full_disk_takes_back_is_never_read(read, folder):
    """A reader that came while a batch is half-written would else send lines that are not there afterwards."""
    file = AuditFile(folder, lambda: NOON)
    file.append(line("a"))
    with (folder / TODAY).open("ab") as writer:
        fcntl.flock(writer, fcntl.LOCK_EX)
        writer.write(line("b"))
        writer.flush()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(file_module, "LOCK_SECONDS", 0)
            with pytest.raises(TimeoutError):
                read.once()
        writer.truncate(len(line("a")))
    assert read.all() == ["a"]
    file.close()


def test_a_folder_that_cannot_be_read_is_an_error(tmp_path):
    (tmp_path / "audit").write_text("")
    with pytest.raises(OSError, match="Not a directory"):
        Reading(tmp_path / "audit").once()
