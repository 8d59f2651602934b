import functools
import io
import random
import re
import struct
import tracemalloc
import zipfile
import zlib
from collections.abc import Callable
from contextlib import suppress
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nora.api import File, Invalid, Part, Read
from nora.testing.packages import make_wheel
from nora_pypi import archive, zips
from nora_pypi.names import normalize
from nora_pypi.remote import MAX_READS, WheelMetadata

from .builders import core_metadata, record_line, wheel, wheel_members, zip_of
from .test_archive import with_central, with_zip64_end

WHEEL = "Foo.Bar-1.0-py3-none-any.whl"
DIST_INFO = "foo_bar-1.0.dist-info"
METADATA = f"{DIST_INFO}/METADATA"
RECORD = f"{DIST_INFO}/RECORD"
TAIL = 3072
# Directory, METADATA and RECORD at their limits, with the headers of both.
MOST_BYTES = 11 << 20


class Answer(NamedTuple):
    metadata: bytes
    reads: int
    asked: int


Change = Callable[[int, Part], Part]


def read(
    content: bytes,
    filename: str = WHEEL,
    *,
    project: str | None = None,
    held: bool = False,
    change: Change = lambda _, part: part,
) -> Answer:
    """Read METADATA out of these bytes as a host would, and be strict about what is asked for."""
    name = normalize(filename.partition("-")[0]) if project is None else project
    assert name is not None
    reading = WheelMetadata().read(name, File(name=filename), held=held)
    known: list[range] = []
    asked = 0
    try:
        wish = next(reading)
        assert wish.start == -wish.count, "the first wish is a suffix"
        while True:
            part = answered(content, wish)
            span = range(part.start, part.start + len(part.data))
            assert wish.start < 0 or len(span) == wish.count, "asked for more than there is"
            assert all(span.stop <= other.start or other.stop <= span.start for other in known), "asked for it again"
            known.append(span)
            asked += len(span)
            assert len(known) <= MAX_READS
            assert asked <= MOST_BYTES
            wish = reading.send(change(len(known), part))
    except StopIteration as done:
        return Answer(done.value, len(known), asked)


def answered(content: bytes, wish: Read) -> Part:
    start = wish.start if wish.start >= 0 else max(0, len(content) + wish.start)
    assert wish.count > 0
    return Part(start, content[start : start + wish.count], len(content))


def refused(content: bytes, filename: str = WHEEL, **arguments: object) -> str:
    with pytest.raises(Invalid) as caught:
        read(content, filename, **arguments)  # type: ignore[arg-type]
    text = str(caught.value)
    assert text.isascii()
    assert text.isprintable()
    assert "upload" not in text
    return text


def by_zipfile(content: bytes) -> bytes:
    with zipfile.ZipFile(io.BytesIO(content)) as file:
        (name,) = [name for name in file.namelist() if re.fullmatch(r"[^/]+\.dist-info/METADATA", name)]
        return file.read(name)


def noise(size: int, seed: int = 1) -> bytes:
    return random.Random(seed).randbytes(size)


def many(count: int, width: int = 60) -> dict[str, bytes]:
    return {f"foo_bar/{number:0{width}}.py": b"" for number in range(count)}


@functools.cache
def wheel_of(
    members: int = 1,
    *,
    metadata: bytes | None = None,
    record: bytes | None = None,
    between: int = 0,
    compression: int = zipfile.ZIP_DEFLATED,
) -> bytes:
    """A wheel with its ``.dist-info`` last, whose RECORD is preceded by a licence of ``between`` bytes."""
    own = wheel_members(metadata)
    contents = {**many(members), METADATA: own[METADATA], f"{DIST_INFO}/WHEEL": own[f"{DIST_INFO}/WHEEL"]}
    if between:
        contents[f"{DIST_INFO}/LICENSE"] = noise(between)
    contents[RECORD] = record_line(METADATA, own[METADATA]).encode() + (record or b"")
    return zip_of(contents, compression)


@functools.cache
def with_metadata_first(members: int) -> bytes:
    own = wheel_members()
    return zip_of({METADATA: own.pop(METADATA), **own, **many(members)})


def with_comment(content: bytes, size: int) -> bytes:
    buffer = io.BytesIO(content)
    with zipfile.ZipFile(buffer, "a") as file:
        file.comment = b"c" * size
    return buffer.getvalue()


def with_64_bit_fields() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in {**many(100), **wheel_members()}.items():
            with file.open(name, "w", force_zip64=True) as member:
                member.write(content)
    return with_zip64_end(buffer.getvalue())


def with_long_headers(members: dict[str, bytes], extra_sizes: dict[str, int]) -> bytes:
    """An archive of stored members, some of which have an extra field that the directory does not have."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        for name, content in members.items():
            info = zipfile.ZipInfo(name)
            if size := extra_sizes.get(name):
                info.extra = struct.pack("<HH", 0xCAFE, size - 4) + bytes(size - 4)
            file.writestr(info, content)
            info.extra = b""
    return buffer.getvalue()


def small() -> bytes:
    return make_wheel("Foo.Bar", "1.0", requires=["other>=2"])[1]


# What is asked for


@pytest.mark.parametrize(
    ("make", "most_reads", "most_bytes"),
    [
        pytest.param(lambda: small(), 1, TAIL, id="small"),
        pytest.param(lambda: make_wheel("Foo.Bar", "1.0", size=2_000_000)[1], 1, TAIL, id="padded"),
        pytest.param(
            lambda: make_wheel("Foo.Bar", "1.0", modules={f"foo/m{number}.py": "" for number in range(3000)})[1],
            2,
            120_000,
            id="modules",
        ),
        pytest.param(lambda: wheel_of(5000), 2, TAIL + 1000, id="members in front"),
        pytest.param(lambda: wheel_of(70_000), 2, TAIL + 1000, id="more members than 16 bits count"),
        pytest.param(lambda: wheel_of(5000, compression=zipfile.ZIP_STORED), 2, TAIL + 1000, id="stored"),
        pytest.param(lambda: wheel_of(5000, metadata=noise(50_000)), 2, TAIL + 51_000, id="large METADATA"),
        pytest.param(lambda: wheel_of(5000, record=noise(240_000)), 2, TAIL + 1000, id="huge RECORD"),
        pytest.param(lambda: wheel_of(5000, record=noise(20_000)), 2, TAIL + 21_000, id="large RECORD"),
        pytest.param(lambda: wheel_of(5000, record=noise(20_000), between=60_000), 3, TAIL + 21_000, id="RECORD far away"),
        pytest.param(lambda: wheel_of(5000, between=60_000), 3, TAIL + 1000, id="small RECORD far away"),
        pytest.param(lambda: with_metadata_first(40), 3, 7000, id="METADATA first"),
        pytest.param(lambda: with_metadata_first(300), 3, 52_000, id="METADATA first of some"),
        pytest.param(lambda: with_metadata_first(5000), 4, 640_000, id="METADATA first of many"),
        pytest.param(lambda: with_64_bit_fields(), 2, TAIL + 1000, id="64 bit fields"),
        pytest.param(lambda: with_zip64_end(wheel(), in_directory=True), 1, TAIL, id="64 bit fields in the directory"),
        pytest.param(lambda: with_comment(wheel_of(100), 1000), 2, TAIL + 1000, id="comment"),
        pytest.param(lambda: with_comment(wheel_of(100), TAIL - 22), 2, 67_000, id="comment as long as the tail"),
        pytest.param(lambda: with_comment(wheel_of(5000), 65535), 4, 700_000, id="longest comment"),
        pytest.param(lambda: noise(50_000) + wheel_of(100), 2, TAIL + 1000, id="bytes in front"),
        pytest.param(lambda: noise(50_000) + with_64_bit_fields(), 2, TAIL + 1000, id="bytes in front, 64 bit fields"),
    ],
)
def test_metadata_is_what_zipfile_reads_and_costs_little(make: Callable[[], bytes], most_reads: int, most_bytes: int) -> None:
    # META-1, META-7
    content = make()
    answer = read(content)
    assert answer.metadata == by_zipfile(content)
    assert answer.reads <= most_reads
    assert answer.asked <= most_bytes


class Shape(NamedTuple):
    """A published wheel in numbers: all bytes, members, METADATA and RECORD compressed, bytes between them."""

    size: int
    members: int
    metadata: int
    record: int
    between: int


# The wheels that an installer looks at for an application of middle size, largest first.
SHAPES = """
17334944 1057 5888 55250 1215; 10196845 1119 750 45681 524; 4885980 5626 8453 242079 224; 3074375 289 545 13444 388;
1250147 349 1016 15413 6184; 950335 27 2693 1350 33628; 875050 115 1753 4386 174; 828016 28 879 1140 256;
785946 60 7557 2653 254; 649819 194 1703 8633 348; 534470 113 1057 4539 257; 394641 128 3290 5300 1191;
392288 152 2665 6959 250; 375426 9 1691 476 4062; 348210 633 655 19226 231; 269972 25 15708 1020 430;
262094 131 3177 5993 1357; 217807 34 967 1503 421; 165109 61 10400 1872 8732; 155560 18 6802 769 256;
135717 42 2847 1939 864; 134899 31 1394 1448 0; 134521 53 1882 2335 326; 134047 12 992 555 250; 129956 29 1340 1353 0;
123184 58 1419 2542 1027; 113151 46 918 2067 336; 110184 44 3334 2050 1282; 109924 21 1616 1006 2344;
107025 37 3109 1561 225; 95786 43 3047 1964 375; 94267 22 2052 1045 52817; 92853 26 2850 1206 4733;
90630 43 2373 2003 960; 86211 29 4182 1336 1029; 79849 54 1495 2312 1201; 78784 36 7941 1601 1024;
77513 71 786 3281 558; 73517 29 2718 1338 1109; 73075 26 2050 1205 233; 70398 46 823 2103 343; 69583 16 3053 762 0;
68797 15 3000 706 0; 67548 35 3475 1503 869; 64494 37 749 1657 259; 63772 24 1037 1108 231; 62600 13 4042 636 232;
60197 40 2164 1945 1033; 59792 13 1735 625 872; 45571 5 1347 267 0; 37515 17 3776 804 218; 34809 14 10025 668 335;
29393 13 3409 634 234; 29032 16 572 768 1195; 28702 15 2202 733 1033; 28442 18 700 863 251; 28404 14 1146 657 0;
26766 19 967 862 845; 26650 9 2984 325 190; 25604 16 11274 753 240; 25288 14 2735 678 1153; 24521 12 6112 575 237;
22961 14 1253 560 268; 19512 20 2351 964 1168; 18437 28 967 1337 877; 17832 12 2091 576 234; 17436 19 1639 904 357;
15884 14 1810 786 1030; 14988 15 966 734 259; 14905 11 965 552 12404; 14657 13 1645 628 887; 14154 12 2587 592 961;
13993 8 643 389 0; 13704 14 2286 716 1059; 13307 16 1712 787 1031; 12569 9 3617 437 219; 11893 11 2314 546 234;
11321 18 2506 840 244; 11140 11 2760 540 243; 11050 6 757 289 222; 10562 9 875 464 247; 10045 7 4057 353 234;
9534 9 929 463 0; 8745 7 1333 359 0; 8663 6 3324 301 249; 8543 6 2636 307 246; 8074 6 616 310 0; 8046 9 2910 460 857;
7294 7 1667 351 1004; 4242 7 699 355 261; 3490 7 626 354 261
"""


def test_a_whole_application_costs_less_than_one_and_a_half_per_cent() -> None:
    # META-7
    shapes = [Shape(*map(int, row.split())) for row in SHAPES.split(";")]
    asked = reads = 0
    for shape in shapes:
        own = wheel_of(shape.members, metadata=noise(shape.metadata), record=noise(shape.record, seed=2), between=shape.between)
        # What else is in it is never looked at.
        answer = read(bytes(max(0, shape.size - len(own))) + own)
        assert answer.metadata == noise(shape.metadata)
        assert answer.reads <= 3
        asked, reads = asked + answer.asked, reads + answer.reads
    assert len(shapes) == 91
    assert asked < 0.015 * sum(shape.size for shape in shapes)
    assert reads <= 2 * len(shapes)


def test_content_is_asked_for_to_the_byte() -> None:
    content = wheel_of(5000)
    with zipfile.ZipFile(io.BytesIO(content)) as file:
        wanted = file.start_dir - file.getinfo(METADATA).header_offset
    assert read(content).asked == TAIL + wanted


def test_a_record_at_its_limit_is_asked_for_and_a_larger_one_is_not() -> None:
    for size, is_read in ((32 << 10, True), ((32 << 10) + 1, False)):
        content = wheel_of(100)
        grown = zip_of({**many(100), METADATA: core_metadata(), RECORD: noise(size)}, zipfile.ZIP_STORED)
        assert (read(grown).asked - read(content).asked > 30_000) == is_read


@pytest.mark.parametrize(("extra", "reads"), [(0, 2), (64, 2), (65, 3), (60_000, 3)])
def test_a_member_whose_own_header_is_longer_than_usual_takes_one_more_read(extra: int, reads: int) -> None:
    content = with_long_headers({**many(100), METADATA: noise(5000)}, {METADATA: extra})
    assert by_zipfile(content) == noise(5000)
    answer = read(content)
    assert (answer.metadata, answer.reads) == (noise(5000), reads)


def test_the_worst_wheel_that_is_read_takes_as_many_reads_as_are_allowed() -> None:
    contents = {METADATA: noise(archive.MAX_METADATA_BYTES), **many(60, 60_000), RECORD: noise(32_000), **many(60, 60_001)}
    content = with_comment(with_long_headers(contents, {METADATA: 65_000, RECORD: 65_000}), 65_535)
    answer = read(content)
    assert answer.metadata == noise(archive.MAX_METADATA_BYTES)
    assert answer.reads == MAX_READS


def test_no_more_than_the_end_of_an_enormous_directory_is_asked_for() -> None:
    asked: list[int] = []
    contents = {METADATA: core_metadata(), **many(160, 60_000)}
    assert "no METADATA" in refused(zip_of(contents), change=lambda _, part: asked.append(len(part.data)) or part)
    assert (8 << 20) <= sum(asked) <= (8 << 20) + TAIL
    assert read(zip_of(dict(reversed(contents.items())))).metadata == core_metadata()


# Which wheels apply


@pytest.mark.parametrize(
    ("name", "applies"),
    [
        *((WHEEL, True), ("foo.whl", True), ("FOO-1.0-py3-none-any.WHL", True), ("foo-latest.whl", True)),
        *((".whl", False), ("", False), ("foo-1.0.tar.gz", False), ("foo-1.0-py3-none-any.whl.metadata", False)),
    ],
)
def test_what_is_named_as_a_wheel_applies(name: str, applies: bool) -> None:
    assert WheelMetadata().applies(File(name=name)) is applies


@pytest.mark.parametrize("missing", ["WHEEL", "RECORD"])
def test_a_wheel_without_one_of_its_other_files_is_read(missing: str) -> None:
    members = wheel_members()
    del members[f"{DIST_INFO}/{missing}"]
    assert read(zip_of(members)).metadata == core_metadata()


@pytest.mark.parametrize("dist_info", ["Foo.Bar-1.0.dist-info", "foo_bar-1.0.0.dist-info", "Foo-Bar-v1.0.dist-info"])
def test_other_spellings_of_the_dist_info_directory_fit(dist_info: str) -> None:
    assert read(wheel(dist_info=dist_info)).metadata == core_metadata()


@pytest.mark.parametrize("filename", ["Foo.Bar-latest-py3-none-any.whl", "foo_bar-1.0.whl", "FOO_BAR-1.0-py3-none-any.WHL"])
def test_only_the_projects_name_counts_when_the_file_name_is_not_strict(filename: str) -> None:
    for dist_info in ("foo_bar-1.0.dist-info", "Foo.Bar-latest.dist-info"):
        assert read(wheel(dist_info=dist_info), filename, project="foo-bar").metadata == core_metadata()
    assert "no METADATA" in refused(wheel(dist_info="foo-1.0.dist-info"), filename, project="foo-bar")


@pytest.mark.parametrize(
    "other",
    [
        *("other-1.0.dist-info/METADATA", "foo_bar-1.1.dist-info/METADATA"),
        *("foo_bar/_vendor/foo_bar-1.0.dist-info/METADATA", f"{DIST_INFO}/foo_bar-1.0.dist-info/METADATA"),
    ],
)
def test_metadata_of_something_else_is_passed_over(other: str) -> None:
    for members in ({other: b"x", **wheel_members()}, {**wheel_members(), other: b"x"}):
        assert read(zip_of(members)).metadata == core_metadata()


def test_what_is_odd_about_other_members_does_not_matter() -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        for name, extra in (
            ("a", struct.pack("<HHBL", 0x7075, 5 + 1, 1, zlib.crc32(b"a")) + b"b"),
            ("c", b"xyz"),
            ("../d", b""),
        ):
            info = zipfile.ZipInfo(name)
            info.extra = extra
            file.writestr(info, b"")
        for name, content in wheel_members().items():
            file.writestr(name, content)
    odd = with_central(buffer.getvalue(), "foo_bar/__init__.py", flags=1, method=99)
    assert read(odd).metadata == by_zipfile(odd) == core_metadata()


# What is refused

# Ends that state a 64 bit record for which there is no room.
LOCATORS = [bytes(size) + b"PK\6\7" + bytes(16) + b"PK\5\6" + bytes(18) for size in (0, 10, 40, 55, 56)]


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\0",
        b"<html>",
        b"PK\5\6",
        b"PK\5\6" + bytes(18),
        bytes(30),
        bytes(10_000),
        bytes(100_000),
        b"PK\5\6" * 50_000,
        *LOCATORS,
    ],
)
def test_what_is_no_archive_is_refused(content: bytes) -> None:
    # META-12
    refused(content)


@pytest.mark.parametrize(
    "dist_info", ["foo-1.0.dist-info", "foo_bar-1.1.dist-info", "foo_bar.dist-info", "foo_bar-x.dist-info"]
)
def test_a_dist_info_directory_of_something_else_is_refused(dist_info: str) -> None:
    # WHL-5
    assert "no METADATA" in refused(wheel(dist_info=dist_info))
    assert "no METADATA" in refused(zip_of({**many(5000), f"{dist_info}/METADATA": b""}))


def test_a_wheel_without_metadata_is_refused() -> None:
    # META-12
    for members in (
        {},
        many(1),
        many(5000),
        {"METADATA": b""},
        {f"sub/{METADATA}": b""},
        {METADATA.lower(): b""},
        {RECORD: b""},
    ):
        assert "no METADATA" in refused(zip_of(members))


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("second", [METADATA, "Foo.Bar-1.0.0.dist-info/METADATA", RECORD])
def test_two_that_fit_are_refused(second: str) -> None:
    # WHL-5
    assert "more than one" in refused(zip_of([*wheel_members().items(), (second, b"other")]))


@pytest.mark.parametrize("name", [METADATA, RECORD])
@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"flags": 1}, "encrypted"),
        ({"method": 12}, "method 12"),
        ({"size": 5}, "damaged"),
        ({"size": 100_000}, "damaged"),
        ({"crc": 1}, "damaged"),
        ({"compressed": 5}, "damaged"),
        ({"compressed": 2000}, "damaged"),
        ({"offset": 0}, "damaged"),
        ({"offset": 1}, "damaged"),
        ({"offset": 1 << 31}, "damaged"),
        ({"offset": 0xFFFFFFFE}, "damaged"),
    ],
)
def test_fields_that_lie_are_refused(name: str, values: dict[str, int], reason: str) -> None:
    assert reason in refused(with_central(wheel(), name, **values))
    assert reason in refused(with_central(wheel_of(5000), name, **values))


@pytest.mark.parametrize(
    ("name", "values"),
    [
        *((METADATA, {"size": 1 << 31}), (METADATA, {"size": 0xFFFFFFFF})),
        *((METADATA, {"compressed": 200_000}), (METADATA, {"compressed": 1 << 31}), (METADATA, {"compressed": 0xFFFFFFFF})),
        *((METADATA, {"offset": 1 << 31}), (METADATA, {"offset": 0xFFFFFFFF})),
        *((METADATA, {"flags": 1}), (METADATA, {"method": 12}), (RECORD, {"flags": 1}), (RECORD, {"method": 12})),
    ],
)
def test_what_the_directory_tells_is_refused_before_content_is_asked_for(name: str, values: dict[str, int]) -> None:
    asked: list[Part] = []
    content = with_central(wheel_of(5000, metadata=noise(10_000)), name, **values)
    refused(content, change=lambda _, part: asked.append(part) or part)
    assert len(asked) == 1


def test_64_bit_fields_that_lie_are_refused() -> None:
    whole = with_zip64_end(wheel(), in_directory=True)
    end = len(whole) - 22 - 20 - 56
    for back, value in ((24, 1 << 40), (32, 1 << 40), (40, 1 << 63), (40, 1), (48, 1 << 63), (48, 1), (4, 45), (20, 1)):
        changed = bytearray(whole)
        struct.pack_into("<Q", changed, end + back, value)
        refused(bytes(changed))
    for value in (0, 1 << 40, 1 << 63):
        changed = bytearray(whole)
        struct.pack_into("<Q", changed, len(whole) - 22 - 20 + 8, value)
        assert "damaged" in refused(bytes(changed))


def test_64_bit_sizes_of_a_member_that_nobody_needs_may_lie() -> None:
    whole = with_zip64_end(wheel(), in_directory=True)
    changed = bytearray(whole)
    struct.pack_into("<QQ", changed, whole.index(struct.pack("<HH", 1, 16)) + 4, 1 << 63, (1 << 64) - 1)
    assert read(bytes(changed)).metadata == by_zipfile(bytes(changed)) == core_metadata()


def test_metadata_with_64_bit_sizes_that_lie_is_refused() -> None:
    plain = zip_of({METADATA: core_metadata(), "z": b""})
    whole = with_zip64_end(plain, in_directory=True)
    assert read(whole).metadata == core_metadata()
    extra = whole.index(struct.pack("<HH", 1, 16))
    for at in (extra + 4, extra + 12):
        for value in (0, 1, 1 << 31, 1 << 32, 1 << 63, (1 << 64) - 1):
            changed = bytearray(whole)
            struct.pack_into("<Q", changed, at, value)
            refused(bytes(changed))


@pytest.mark.parametrize("compression", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_exotic_compression_is_refused(compression: int) -> None:
    assert "compressed by method" in refused(wheel(compression=compression))


def test_metadata_may_reach_its_limit_and_not_pass_it() -> None:
    limit = archive.MAX_METADATA_BYTES
    assert read(wheel(noise(limit))).metadata == noise(limit)
    assert "larger" in refused(wheel(bytes(limit + 1)))


def test_metadata_that_inflates_beyond_its_stated_size_is_refused_within_little_memory() -> None:
    # CWE-409
    lying = with_central(wheel(bytes(100 << 20)), METADATA, size=1000)
    tracemalloc.start()
    try:
        assert "damaged" in refused(lying)
        assert tracemalloc.get_traced_memory()[1] < 10 << 20
    finally:
        tracemalloc.stop()


def test_metadata_that_record_contradicts_is_refused() -> None:
    # WHL-7
    for front, between in ((1, 0), (5000, 0), (5000, 60_000)):
        content = wheel_of(front, between=between, record=record_line(METADATA, b"other").encode())
        assert "RECORD" in refused(content)


def test_a_record_too_large_to_be_read_proves_nothing() -> None:
    record = noise(33_000) + b"\n" + record_line(METADATA, b"other").encode()
    assert read(wheel_of(5000, record=record)).metadata == core_metadata()
    bomb = bytes(9 << 20) + b"\n" + record_line(METADATA, b"other").encode()
    assert read(wheel_of(5000, record=bomb)).metadata == core_metadata()


@pytest.mark.parametrize(("at", "value"), [(0, 0), (6, 1), (8, 0), (8, 12), (26, 5), (26, 0xFFFF), (28, 0xFFFF), (30, 0x2F2F)])
def test_a_members_own_header_must_agree(at: int, value: int) -> None:
    for front in (1, 5000):
        content = bytearray(wheel_of(front))
        struct.pack_into("<H", content, content.index(METADATA.encode()) - 30 + at, value)
        assert "damaged" in refused(bytes(content))


def test_members_that_overlap_are_refused() -> None:
    # CWE-409: one stretch of bytes as the content of many.
    content = wheel_of(1, compression=zipfile.ZIP_STORED)
    at = content.index(METADATA.encode()) - 30
    for offset in (at + 1, at + 40, at + 30 + len(METADATA) + len(core_metadata()) - 1):
        assert "damaged" in refused(with_central(content, "foo_bar/" + "0" * 60, offset=offset))


@pytest.mark.parametrize("volumes", [(1, 0, 4), (0, 1, 4), (0, 0, 3)])
def test_one_volume_of_several_is_refused(volumes: tuple[int, int, int]) -> None:
    content = bytearray(wheel())
    struct.pack_into("<HHH", content, len(content) - 18, *volumes)
    assert "volumes" in refused(bytes(content))


@pytest.mark.parametrize("members", [1, 5000])
def test_a_directory_that_cannot_have_the_entries_that_it_says_is_refused(members: int) -> None:
    # The tail has 27 of these entries.
    for count in (*((0, 1, 3, 0xFFFF) if members == 1 else (*range(28), 0xFFFF)),):
        content = bytearray(wheel_of(members))
        struct.pack_into("<HH", content, len(content) - 14, count, count)
        assert "damaged" in refused(bytes(content))


def test_a_directory_with_something_else_in_it_is_refused() -> None:
    for content in (with_metadata_first(5000), wheel()):
        size, offset = struct.unpack_from("<LL", content, len(content) - 10)
        for at in (offset, offset + size):
            changed = bytearray(content[:at] + b"PK\5\5\0\0" + content[at:])
            struct.pack_into("<L", changed, len(changed) - 10, size + 6)
            assert "damaged" in refused(bytes(changed))


def test_a_last_entry_that_is_longer_than_the_directory_is_refused() -> None:
    for members in (1, 5000):
        content = bytearray(zip_of({**many(members), METADATA: b"", "last": b""}))
        struct.pack_into("<H", content, len(content) - 22 - 50 + 32, 1)
        assert "damaged" in refused(bytes(content))


def test_no_more_entries_are_read_than_the_end_states() -> None:
    content = bytearray(wheel())
    struct.pack_into("<HH", content, len(content) - 14, 2, 2)
    members = zips.members(io.BytesIO(content))
    assert [next(members).name, next(members).name] == ["foo_bar/__init__.py", METADATA]
    with pytest.raises(Invalid):
        next(members)


def hidden_in_a_comment(front: int, behind: int, *, width: int = 50, reaching_behind: bool = False) -> bytes:
    """A wheel with a false entry for METADATA in the comment of a true entry, which leads to other content.

    With ``reaching_behind`` the false entry's own comment takes up the true one of METADATA.
    """
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        for name in many(front, 70):
            file.writestr(name, b"")
        at = buffer.tell()
        file.writestr(METADATA, b"false")
        crc = zlib.crc32(b"false")
        name_size = len(METADATA)
        comment = 0
        if reaching_behind:
            comment = 46 + name_size
        false = struct.pack("<4s6H3L5H2L", b"PK\1\2", 20, 20, 0, 0, 0, 0, crc, 5, 5, name_size, 0, comment, 0, 0, 0, at)
        # Forget it: only the comment tells of it.
        file.filelist.pop()
        del file.NameToInfo[METADATA]
        carrier = zipfile.ZipInfo("carrier")
        carrier.comment = false + METADATA.encode()
        file.writestr(carrier, b"")
        if behind or reaching_behind:
            file.writestr(METADATA, core_metadata())
        for name in many(behind, width):
            file.writestr(name, b"")
    return buffer.getvalue()


def test_a_false_entry_inside_of_another_entry_does_not_count() -> None:
    # The tail alone can be divided in two ways, so the whole directory has to tell.
    for behind in (0, 5, 200, 2000):
        content = hidden_in_a_comment(1000, behind)
        if behind:
            assert read(content).metadata == by_zipfile(content) == core_metadata()
        else:
            assert "no METADATA" in refused(content)
    # The tail begins before, in and behind the true entry that holds the false one.
    for width in range(50, 64):
        content = hidden_in_a_comment(1000, 25, width=width, reaching_behind=True)
        assert read(content).metadata == by_zipfile(content) == core_metadata()


def test_a_directory_that_is_full_of_signatures_is_refused_quickly(takes_at_most) -> None:
    for filler in (b"PK\1\2", b"PK\1\2" + bytes(42), b"PK\1\2" + bytes(24) + b"\1\0\0\0\0\0" + bytes(12) + b"P"):
        directory = filler * ((9 << 20) // len(filler))
        end = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 0xFFFF, 0xFFFF, len(directory), 0, 0)
        with takes_at_most(10):
            refused(directory + end)


# Damage


def assert_read_or_refused(content: bytes, right: bytes) -> None:
    with suppress(Invalid):
        assert read(content).metadata == right


@pytest.mark.parametrize("content", [small(), wheel_of(100), with_comment(wheel_of(60), 4000), with_64_bit_fields()])
def test_every_truncation_is_refused(content: bytes) -> None:
    for length in range(len(content)):
        refused(content[:length])


@pytest.mark.parametrize(
    "content",
    [small(), wheel(compression=zipfile.ZIP_STORED), with_zip64_end(wheel(), in_directory=True)],
    ids=["small", "stored", "64 bit"],
)
def test_every_wrong_byte_is_harmless_or_refused(content: bytes) -> None:
    # META-1, META-12
    right = by_zipfile(content)
    changed = bytearray(content)
    for at, byte in enumerate(content):
        for value in {0, 255, byte ^ 1, byte ^ 128, (byte + 1) % 256}:
            changed[at] = value
            assert_read_or_refused(bytes(changed), right)
        changed[at] = byte


def test_every_wrong_byte_of_metadata_is_refused() -> None:
    content = zip_of({METADATA: core_metadata()})
    start = content.index(METADATA.encode())
    for at in range(start, content.index(b"PK\1\2")):
        refused(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])


LARGE = wheel_of(150, between=9000)


@settings(deadline=None, max_examples=400)
@given(data=st.data())
def test_a_mutated_wheel_is_read_or_refused(data: st.DataObject) -> None:
    content = data.draw(st.sampled_from([small(), with_zip64_end(wheel(), in_directory=True), LARGE, with_comment(LARGE, 50)]))
    changed = bytearray(content)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(max(0, len(changed) - 4000), len(changed) - 1))
        changed[at : at + data.draw(st.integers(0, 4))] = data.draw(st.binary(max_size=4))
    assert_read_or_refused(bytes(changed), by_zipfile(content))


@settings(deadline=None, max_examples=400)
@given(
    fields=st.lists(
        st.tuples(
            st.sampled_from([METADATA, RECORD]),
            st.sampled_from(["flags", "method", "crc", "compressed", "size", "offset"]),
            st.integers(0, 0xFFFF) | st.integers(0, 0xFFFFFFFF) | st.integers(len(LARGE) - 20_000, len(LARGE)),
        ),
        min_size=1,
        max_size=4,
    )
)
def test_fields_of_any_value_are_read_or_refused(fields: list[tuple[str, str, int]]) -> None:
    content = LARGE
    for name, field, value in fields:
        content = with_central(content, name, **{field: value & 0xFFFF if field in ("flags", "method") else value})
    assert_read_or_refused(content, core_metadata())


@settings(deadline=None, max_examples=200)
@given(content=st.binary(max_size=5000))
def test_random_bytes_are_refused(content: bytes) -> None:
    refused(content)
    refused(content + b"PK\5\6" + bytes(18))


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda part: Part(part.start, part.data[:-1], part.size), id="cut"),
        pytest.param(lambda part: Part(part.start, b"", part.size), id="empty"),
        pytest.param(lambda part: Part(part.start, part.data + b"x", part.size), id="longer"),
        pytest.param(lambda part: Part(part.start + 1, part.data, part.size), id="elsewhere"),
        pytest.param(lambda part: Part(part.start, part.data, part.size + 1), id="of a larger file"),
        pytest.param(lambda part: Part(part.start, part.data, -1), id="of no file"),
    ],
)
@pytest.mark.parametrize(
    "make",
    [lambda: wheel_of(5000, between=60_000), lambda: with_metadata_first(5000), lambda: with_comment(wheel_of(99), 9999)],
)
def test_a_part_that_is_not_what_was_asked_for_is_refused(make: Callable[[], bytes], change: Callable[[Part], Part]) -> None:
    content = make()
    reads = read(content).reads
    assert reads >= 2
    for number in range(1, reads + 1):
        assert "changed" in refused(content, change=lambda at, part, n=number: change(part) if at == n else part)


def test_of_a_held_wheel_the_whole_directory_counts() -> None:
    # What lies before the end is not seen from afar, but when the wheel has come.
    own = wheel_members()
    forged = own[METADATA] + b"Requires-Dist: forged\n"
    buffer = io.BytesIO(with_metadata_first(500))
    with zipfile.ZipFile(buffer, "a", zipfile.ZIP_DEFLATED) as file, pytest.warns(UserWarning, match="Duplicate name"):
        file.writestr(METADATA, forged)
    content = buffer.getvalue()
    assert read(content).metadata == forged
    assert "more than one METADATA" in refused(content, held=True)


def test_of_a_held_wheel_a_large_record_is_checked_too() -> None:
    padding = "".join(f"foo_bar/{number}.py,sha256={noise(32, number).hex()},1\n" for number in range(4000)).encode()
    right = wheel_of(record=padding)
    for held in (False, True):
        assert read(right, held=held).metadata == by_zipfile(right)
    changed = wheel_members()[METADATA] + b"Requires-Dist: forged\n"
    members = {METADATA: changed, RECORD: record_line(METADATA, wheel_members()[METADATA]).encode() + padding}
    wrong = zip_of({**members, f"{DIST_INFO}/WHEEL": b""})
    assert read(wrong).metadata == changed
    assert "RECORD" in refused(wrong, held=True)
