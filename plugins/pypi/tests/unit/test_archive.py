import gzip
import io
import struct
import tarfile
import tracemalloc
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nora.api import Invalid
from nora_pypi import archive, tars, zips
from nora_pypi.archive import MAX_METADATA_BYTES, read_metadata
from nora_pypi.filenames import parse

from .builders import core_metadata, record_line, sdist, tar_gz_of, tar_of, wheel, wheel_members, zip_of

WHEEL = "Foo.Bar-1.0-py3-none-any.whl"
SDIST = "foo_bar-1.0.tar.gz"
ZIP = "Foo-Bar-1.0.zip"
EGG = "Foo_Bar-1.0-py3.8.egg"
DIST_INFO = "foo_bar-1.0.dist-info"

Read = Callable[[str, bytes], bytes]


@pytest.fixture
def read(tmp_path: Path) -> Read:
    """Write a file and read the metadata out of it."""

    def read(filename: str, content: bytes) -> bytes:
        path = tmp_path / "spool"
        path.write_bytes(content)
        return read_metadata(str(path), parse(filename))

    return read


def refused(read: Read, filename: str, content: bytes) -> str:
    with pytest.raises(Invalid) as caught:
        read(filename, content)
    text = str(caught.value)
    assert text.isascii()
    assert text.isprintable()
    assert "/tmp" not in text  # UP-12
    return text


# What tools make


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_metadata_of_a_wheel_is_read_byte_for_byte(read: Read, compression: int) -> None:
    # META-1, CM-5
    document = core_metadata() + b"\r\nodd \xff bytes\r"
    assert read(WHEEL, wheel(document, compression=compression)) == document


@pytest.mark.parametrize("dist_info", ["Foo.Bar-1.0.dist-info", "foo_bar-1.0.0.dist-info", "Foo-Bar-v1.0.dist-info"])
def test_other_spellings_of_the_dist_info_directory_fit(read: Read, dist_info: str) -> None:
    # WHL-2, WHL-3, WHL-5
    assert read(WHEEL, wheel(dist_info=dist_info)) == core_metadata()


def test_a_version_with_a_dash_is_written_with_an_underscore_by_older_tools(read: Read) -> None:
    document = core_metadata("foo", "1.0-1")
    assert read("foo-1.0.post1-py3-none-any.whl", wheel(document, dist_info="foo-1.0_1.dist-info")) == document


def test_a_wheel_written_as_a_stream_is_read(read: Read) -> None:
    class Unseekable(io.BytesIO):
        def seekable(self) -> bool:
            return False

        def seek(self, *_: int) -> int:
            raise OSError

        def tell(self) -> int:
            raise OSError

    buffer = Unseekable()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in wheel_members().items():
            file.writestr(name, content)
    assert read(WHEEL, buffer.getvalue()) == core_metadata()


def test_a_wheel_with_64_bit_fields_is_read(read: Read) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in wheel_members().items():
            with file.open(name, "w", force_zip64=True) as member:
                member.write(content)
    assert read(WHEEL, buffer.getvalue()) == core_metadata()
    assert read(WHEEL, with_zip64_end(buffer.getvalue())) == core_metadata()
    assert read(WHEEL, with_zip64_end(wheel(), in_directory=True)) == core_metadata()


def test_a_wheel_with_a_comment_is_read(read: Read) -> None:
    buffer = io.BytesIO(wheel())
    with zipfile.ZipFile(buffer, "a") as file:
        file.comment = b"c" * 65535
    assert read(WHEEL, buffer.getvalue()) == core_metadata()


def test_a_wheel_with_70000_files_is_read(read: Read) -> None:
    many = zip_of({**{f"foo/{number}": b"" for number in range(70_000)}, **wheel_members()}, zipfile.ZIP_STORED)
    assert read(WHEEL, many) == core_metadata()


@pytest.mark.parametrize("tar_format", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_pkg_info_of_a_tar_is_read_in_every_format(read: Read, tar_format: int) -> None:
    # SDIST-3
    long_name = (
        "foo_bar-1.0/" + "d" * 90 + "/" + "x" * 50 + ("" if tar_format == tarfile.USTAR_FORMAT else "y" * 200 + "\u00e9")
    )
    directory = tarfile.TarInfo("foo_bar-1.0")
    directory.type = tarfile.DIRTYPE
    members = [(directory, b""), (long_name, b"x" * 1000), ("foo_bar-1.0/PKG-INFO", core_metadata()), ("foo_bar-1.0/z", b"z")]
    assert read(SDIST, tar_gz_of(members, tar_format)) == core_metadata()


def test_pkg_info_itself_may_have_a_long_name(read: Read) -> None:
    top = "foo_bar-1.0" + "x" * 120
    for tar_format in (tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        assert read(SDIST, tar_gz_of([(f"{top}/PKG-INFO", core_metadata()), (f"{top}/a", b"")], tar_format)) == core_metadata()


def test_names_that_begin_with_a_dot_and_a_global_header_are_read(read: Read) -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz", pax_headers={"comment": "0123456789abcdef"}) as file:
        for name, content in ((".", None), ("./foo-1.0", None), ("./foo-1.0/PKG-INFO", core_metadata())):
            info = tarfile.TarInfo(name)
            info.type = tarfile.DIRTYPE if content is None else tarfile.REGTYPE
            info.size = len(content or b"")
            file.addfile(info, io.BytesIO(content or b""))
    assert read(SDIST, buffer.getvalue()) == core_metadata()


def test_links_and_devices_in_a_tar_are_passed_over(read: Read) -> None:
    # SDIST-4
    members: list[tuple[tarfile.TarInfo | str, bytes]] = [("foo/PKG-INFO", core_metadata())]
    for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE):
        info = tarfile.TarInfo("foo/x")
        info.type, info.linkname = kind, "/etc/passwd"
        members.append((info, b""))
    assert read(SDIST, tar_gz_of(members)) == core_metadata()


def test_a_tar_without_end_marks_or_with_padding_is_read(read: Read) -> None:
    plain = tar_of([("foo/PKG-INFO", core_metadata())])
    content = plain.rstrip(b"\0")
    content += bytes(-len(content) % 512)
    assert read(SDIST, gzip.compress(content)) == core_metadata()
    assert read(SDIST, gzip.compress(plain) + bytes(100_000)) == core_metadata()


def test_pkg_info_of_a_zip_and_of_an_egg_is_read(read: Read) -> None:
    # SDIST-3
    assert (
        read(ZIP, zip_of({"Foo-Bar-1.0/": b"", "Foo-Bar-1.0/a": b"", "Foo-Bar-1.0/PKG-INFO": core_metadata()}))
        == core_metadata()
    )
    assert read(EGG, zip_of({"a.py": b"", "EGG-INFO/PKG-INFO": core_metadata()})) == core_metadata()


def test_nothing_is_written(read: Read, tmp_path: Path) -> None:
    for filename, content in ((WHEEL, wheel()), (SDIST, sdist())):
        read(filename, content)
    assert [path.name for path in tmp_path.iterdir()] == ["spool"]


# What is not as it should be


@pytest.mark.parametrize("filename", [WHEEL, SDIST, ZIP, EGG])
@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\0",
        b"<html>",
        b"PK",
        b"PK\5\6",
        b"PK\5\6" + bytes(18),
        b"\x1f\x8b",
        gzip.compress(b""),
        gzip.compress(b"x" * 600),
        bytes(10_000),
    ],
)
def test_what_is_no_archive_is_refused(read: Read, filename: str, content: bytes) -> None:
    # UP-23
    refused(read, filename, content)


@pytest.mark.parametrize(
    ("filename", "content"),
    [(WHEEL, sdist()), (SDIST, wheel()), (ZIP, sdist()), (EGG, wheel()), (SDIST, tar_of([("a/PKG-INFO", b"")]))],
)
def test_an_archive_of_another_kind_is_refused(read: Read, filename: str, content: bytes) -> None:
    # UP-23
    refused(read, filename, content)


@pytest.mark.parametrize(
    ("filename", "content"),
    [
        (WHEEL, wheel()),
        (SDIST, sdist()),
        (ZIP, zip_of({"a/PKG-INFO": core_metadata()})),
        (EGG, zip_of({"EGG-INFO/PKG-INFO": b"x"})),
    ],
)
def test_every_truncation_is_refused(read: Read, filename: str, content: bytes) -> None:
    # UP-20, UP-23
    for length in range(len(content)):
        refused(read, filename, content[:length])


@pytest.mark.parametrize("missing", ["METADATA", "WHEEL", "RECORD"])
def test_a_wheel_without_one_of_its_files_is_refused(read: Read, missing: str) -> None:
    # WHL-5
    members = wheel_members()
    del members[f"{DIST_INFO}/{missing}"]
    assert f"no {missing}" in refused(read, WHEEL, zip_of(members))


@pytest.mark.parametrize(
    "dist_info", ["foo-1.0.dist-info", "foo_bar-1.1.dist-info", "foo_bar.dist-info", ".dist-info", "foo_bar-x.dist-info"]
)
def test_a_dist_info_directory_of_something_else_is_refused(read: Read, dist_info: str) -> None:
    # WHL-5
    assert "does not fit" in refused(read, WHEEL, wheel(dist_info=dist_info))


@pytest.mark.parametrize("second", ["foo_bar-1.0.0.dist-info/METADATA", "other-1.0.dist-info/METADATA", "x.dist-info/"])
def test_a_second_dist_info_directory_is_refused(read: Read, second: str) -> None:
    # WHL-5: pip and uv refuse it
    assert "more than one" in refused(read, WHEEL, zip_of({**wheel_members(), second: core_metadata()}))


def test_a_wheel_without_dist_info_is_refused(read: Read) -> None:
    for members in ({}, {"foo/METADATA": b""}, {"sub/foo_bar-1.0.dist-info/METADATA": b""}):
        assert "no .dist-info" in refused(read, WHEEL, zip_of(members))


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("name", ["METADATA", "WHEEL", "RECORD"])
def test_a_file_that_is_there_twice_is_refused(read: Read, name: str) -> None:
    members = [*wheel_members().items(), (f"{DIST_INFO}/{name}", b"other")]
    assert "twice" in refused(read, WHEEL, zip_of(members))


@pytest.mark.parametrize("name", ["../x", "/x", "a/../../x", "foo/.."])
def test_members_that_lead_out_of_the_archive_are_refused(read: Read, name: str) -> None:
    # SDIST-4, CWE-22
    assert "leads out" in refused(read, WHEEL, zip_of({**wheel_members(), name: b""}))
    assert "leads out" in refused(read, SDIST, tar_gz_of([("foo/PKG-INFO", core_metadata()), (name, b"")]))


def test_metadata_that_record_contradicts_is_refused(read: Read) -> None:
    # WHL-7
    members = wheel_members()
    for line in (
        record_line(f"{DIST_INFO}/METADATA", b"other"),
        f'"{DIST_INFO}/METADATA","sha512=AAAA","5"\n',
        f"x,,\r\n{DIST_INFO}/METADATA,sha384=AAAA==,5\r\n",
        "x" * 600_000 + "\n" + record_line(f"{DIST_INFO}/METADATA", b"other"),
    ):
        members[f"{DIST_INFO}/RECORD"] = line.encode()
        assert "RECORD" in refused(read, WHEEL, zip_of(members))


def test_a_record_line_across_the_border_of_two_pieces_counts(read: Read) -> None:
    members = wheel_members()
    line = "\n" + record_line(f"{DIST_INFO}/METADATA", b"other")
    for shift in (1, 20, 60, 90):
        members[f"{DIST_INFO}/RECORD"] = b"y" * ((1 << 18) - shift) + line.encode()
        assert "RECORD" in refused(read, WHEEL, zip_of(members))


@pytest.mark.parametrize(
    "record",
    [
        *(b"", b"\xff\n", f"{DIST_INFO}/METADATA,,\n".encode(), f"{DIST_INFO}/METADATA,md5=AAAA,1\n".encode()),
        *(f"x{DIST_INFO}/METADATA,sha256=AAAA,1\n".encode(), f"{DIST_INFO}/METADATA.txt,sha256=AAAA,1\n".encode()),
        f'"{DIST_INFO}/METADATA",'.encode() + record_line("", core_metadata())[1:].encode(),
    ],
)
def test_a_record_that_proves_nothing_else_passes(read: Read, record: bytes) -> None:
    members = wheel_members()
    members[f"{DIST_INFO}/RECORD"] = record
    assert read(WHEEL, zip_of(members)) == core_metadata()


def test_a_record_of_one_endless_line_is_read_within_little_memory(read: Read) -> None:
    content = zip_of({**wheel_members(), f"{DIST_INFO}/RECORD": b"x" * (40 << 20)})
    with little_memory():
        assert read(WHEEL, content) == core_metadata()


def test_a_record_over_its_limit_is_left_alone(read: Read, monkeypatch: pytest.MonkeyPatch) -> None:
    members = wheel_members()
    members[f"{DIST_INFO}/RECORD"] = record_line(f"{DIST_INFO}/METADATA", b"other").encode()
    monkeypatch.setattr(archive, "MAX_RECORD_BYTES", 10)
    assert read(WHEEL, zip_of(members)) == core_metadata()


@pytest.mark.parametrize(
    "names", [["foo/a"], ["PKG-INFO"], ["foo/a", "bar/PKG-INFO"], ["foo/PKG-INFO", "a"], ["foo/sub/PKG-INFO"], ["foo/pkg-info"]]
)
def test_an_sdist_without_one_top_directory_with_pkg_info_is_refused(read: Read, names: list[str]) -> None:
    # SDIST-3
    refused(read, SDIST, tar_gz_of([(name, core_metadata()) for name in names]))
    refused(read, ZIP, zip_of(dict.fromkeys(names, core_metadata())))


def test_an_old_sdist_without_pkg_info_is_told_how_to_get_one(read: Read) -> None:
    assert "python -m build" in refused(read, SDIST, tar_gz_of([("foo/setup.py", b"")]))
    assert "python -m build" in refused(read, SDIST, gzip.compress(bytes(1024)))


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_pkg_info_that_is_there_twice_is_refused(read: Read) -> None:
    twice = [("foo/PKG-INFO", core_metadata()), ("foo/./PKG-INFO", b"")]
    assert "twice" in refused(read, SDIST, tar_gz_of(list(twice)))
    assert "twice" in refused(read, ZIP, zip_of(twice))
    assert "more than one" in refused(read, EGG, zip_of([("EGG-INFO/PKG-INFO", b""), ("EGG-INFO/PKG-INFO", b"")]))


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.DIRTYPE, tarfile.FIFOTYPE, b"Z"])
def test_pkg_info_that_is_no_file_is_refused(read: Read, kind: bytes) -> None:
    # SDIST-4
    info = tarfile.TarInfo("foo/PKG-INFO")
    info.type, info.linkname = kind, "/etc/passwd"
    assert "regular file" in refused(read, SDIST, tar_gz_of([(info, b"")]))


# Limits. UP-20, CWE-409


def test_metadata_may_reach_its_limit_and_not_pass_it(read: Read) -> None:
    fits, over = b"x" * MAX_METADATA_BYTES, b"x" * (MAX_METADATA_BYTES + 1)
    assert read(WHEEL, wheel(fits)) == fits
    assert read(SDIST, sdist(fits)) == fits
    assert read(ZIP, zip_of({"foo/PKG-INFO": fits})) == fits
    assert read(EGG, zip_of({"EGG-INFO/PKG-INFO": fits})) == fits
    assert "larger" in refused(read, WHEEL, wheel(over))
    assert "larger" in refused(read, SDIST, sdist(over))
    assert "larger" in refused(read, ZIP, zip_of({"foo/PKG-INFO": over}))
    assert "larger" in refused(read, EGG, zip_of({"EGG-INFO/PKG-INFO": over}))


def test_metadata_that_inflates_beyond_its_stated_size_is_refused_within_little_memory(read: Read) -> None:
    # UP-20
    bomb = wheel(bytes(100 << 20))
    lying = with_central(bomb, f"{DIST_INFO}/METADATA", size=1000)
    with little_memory():
        refused(read, WHEEL, lying)


@pytest.mark.parametrize(
    "change",
    [
        {"size": 5},
        {"size": 100_000},
        {"crc": 1},
        {"compressed": 5},
        {"compressed": 400},
        {"compressed": 1 << 31},
        {"offset": 1},
        {"offset": 1 << 31},
        {"method": 0},
        {"size": 0xFFFFFFFF},
    ],
)
@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_directory_that_lies_is_refused(read: Read, change: dict[str, int], compression: int) -> None:
    # UP-20
    if (change, compression) == ({"method": 0}, zipfile.ZIP_STORED):
        change = {"method": 8}
    refused(read, WHEEL, with_central(wheel(compression=compression), f"{DIST_INFO}/METADATA", **change))


@pytest.mark.parametrize("flags", [0x1, 0x40, 0x41])
def test_encrypted_members_are_refused(read: Read, flags: int) -> None:
    # UP-20
    assert "encrypted" in refused(read, WHEEL, with_central(wheel(), f"{DIST_INFO}/METADATA", flags=flags))
    assert "encrypted" in refused(read, WHEEL, with_central(wheel(), "foo_bar/__init__.py", flags=flags))


@pytest.mark.parametrize("compression", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_other_compression_of_metadata_is_refused(read: Read, compression: int) -> None:
    # UP-20
    assert "method" in refused(read, WHEEL, wheel(compression=compression))


def test_an_unknown_compression_is_refused(read: Read) -> None:
    content = wheel().replace(b"\x08\x00", b"\x63\x00")
    refused(read, WHEEL, content)


@pytest.mark.parametrize("content", [b"#!/bin/sh\n" + wheel(), wheel() + b"\n", wheel() + wheel()])
def test_bytes_around_a_zip_are_refused(read: Read, content: bytes) -> None:
    refused(read, WHEEL, content)


def test_a_member_whose_own_header_has_another_name_is_refused(read: Read) -> None:
    content = wheel()
    first = content.index(f"{DIST_INFO}/METADATA".encode())
    refused(read, WHEEL, content[:first] + b"F" + content[first + 1 :])


def test_a_member_with_a_second_name_in_an_extra_field_is_refused(read: Read) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        info = zipfile.ZipInfo("x")
        info.extra = struct.pack("<HHBL", 0x7075, 5 + 3, 1, zlib.crc32(b"x")) + b"abc"
        file.writestr(info, b"")
        for name, content in wheel_members().items():
            file.writestr(name, content)
    assert "two names" in refused(read, WHEEL, buffer.getvalue())


def test_a_name_with_a_zero_byte_is_refused(read: Read) -> None:
    # zipfile ends the name there, other readers do not
    refused(read, WHEEL, wheel().replace(b"foo_bar/__init__.py", b"foo_bar/__in\0t__.py"))


def test_too_many_members_are_refused_before_they_are_read(read: Read, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zips, "MAX_MEMBERS", 3)
    assert "more than 3 members" in refused(read, WHEEL, wheel())
    monkeypatch.setattr(zips, "MAX_MEMBERS", 4)
    monkeypatch.setattr(zips, "MAX_DIRECTORY_BYTES", 100)
    assert "100 bytes" in refused(read, WHEEL, wheel())


def test_a_directory_with_other_numbers_of_members_than_stated_is_refused(read: Read) -> None:
    for count in (0, 3, 5, 0xFFFF):
        content = bytearray(wheel())
        struct.pack_into("<HH", content, len(content) - 14, count, count)
        assert "damaged" in refused(read, WHEEL, bytes(content))


@pytest.mark.parametrize(
    ("layout", "back", "value"),
    [
        pytest.param("<L", 98, 0, id="signature of the end"),
        pytest.param("<Q", 94, 45, id="size of the end"),
        pytest.param("<Q", 94, 1 << 63, id="huge size of the end"),
        pytest.param("<Q", 34, 0, id="address of the end"),
        pytest.param("<Q", 34, 1 << 63, id="huge address of the end"),
        pytest.param("<Q", 50, 1 << 63, id="huge address of the directory"),
        pytest.param("<Q", 58, 1, id="size of the directory"),
    ],
)
def test_64_bit_fields_that_lie_are_refused(read: Read, layout: str, back: int, value: int) -> None:
    content = bytearray(with_zip64_end(wheel()))
    struct.pack_into(layout, content, len(content) - back, value)
    assert "damaged" in refused(read, WHEEL, bytes(content))


def test_a_64_bit_extra_field_without_the_values_is_refused(read: Read) -> None:
    content = with_zip64_end(wheel(), in_directory=True)
    shortened = content.replace(struct.pack("<HH", 1, 16), struct.pack("<HH", 1, 8))
    assert shortened != content
    assert "damaged" in refused(read, WHEEL, shortened)


@pytest.mark.parametrize(("at", "value"), [(6, 1), (8, 0), (8, 12)])
def test_a_members_own_header_must_agree_on_method_and_encryption(read: Read, at: int, value: int) -> None:
    content = bytearray(wheel())
    struct.pack_into("<H", content, content.index(f"{DIST_INFO}/METADATA".encode()) - 30 + at, value)
    assert "damaged" in refused(read, WHEEL, bytes(content))


@pytest.mark.parametrize("volumes", [(1, 0, 4), (0, 1, 4), (0, 0, 3)])
def test_one_volume_of_several_is_refused(read: Read, volumes: tuple[int, int, int]) -> None:
    content = bytearray(wheel())
    struct.pack_into("<HHH", content, len(content) - 18, *volumes)
    assert "volumes" in refused(read, WHEEL, bytes(content))


def test_an_empty_deflate_stream_without_end_is_refused_at_once(read: Read, takes_at_most) -> None:
    # Stored blocks of length 0: input without output.
    padding = b"\x00\x00\x00\xff\xff" * 2_000_000
    content = with_raw_member(padding + zlib.compress(core_metadata(), 9, -15), core_metadata())
    with takes_at_most(1):
        assert "damaged" in refused(read, WHEEL, content)


def test_a_gzip_bomb_is_refused_quickly_and_within_little_memory(read: Read, takes_at_most) -> None:
    # UP-20
    bomb = gzip.compress(tar_of([("foo/big", bytes(150 << 20)), ("foo/PKG-INFO", core_metadata())]))
    with takes_at_most(2), little_memory():
        assert "inflates to more" in refused(read, SDIST, bomb)


@pytest.mark.parametrize(
    "kind", [tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK, tarfile.SOLARIS_XHDTYPE]
)
def test_an_extended_header_that_would_fill_the_memory_is_refused(read: Read, kind: bytes) -> None:
    info = tarfile.TarInfo("x")
    info.type, info.size = kind, 1 << 33
    content = gzip.compress(info.tobuf(tarfile.GNU_FORMAT) + bytes(50 << 20))
    with little_memory():
        assert "extended headers" in refused(read, SDIST, content)


def test_extended_headers_together_are_limited(read: Read, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tars, "MAX_EXTENDED_TOTAL_BYTES", 1000)
    members = [(f"foo/{number}" + "x" * 150, b"") for number in range(10)]
    assert "extended headers" in refused(read, SDIST, tar_gz_of(list(members)))


def test_too_many_members_of_a_tar_are_refused(read: Read, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tars, "MAX_HEADERS", 10)
    assert "members" in refused(read, SDIST, tar_gz_of([(f"foo/{number}", b"") for number in range(11)]))


def pax_record(key: bytes, value: bytes) -> bytes:
    rest = b" " + key + b"=" + value + b"\n"
    length = len(rest) + len(str(len(rest) + 2))
    return str(length).encode() + rest


@pytest.mark.parametrize(
    "records",
    [
        *(
            b"x",
            b"5\n",
            b"0 path=x\n",
            b"-1 path=x\n",
            b"99 path=x\n",
            b"9999999999999 path=x\n",
            b"8 path=x\n",
            b"10 path=x",
            b" path=x\n",
        ),
        *(pax_record(b"size", value) for value in (b"-1", b"1x", b"\xd9\xa1", b"0x1", b"1" * 5000, b"9" * 16)),
        pax_record(b"path", b"foo/x")[:-1] + b"x",
        pax_record(b"path", b"foo/x") + b"rest",
    ],
)
def test_a_broken_pax_header_is_refused(read: Read, records: bytes) -> None:
    info = tarfile.TarInfo("pax")
    info.type, info.size = tarfile.XHDTYPE, len(records)
    content = info.tobuf() + records + bytes(-len(records) % 512) + tar_of([("foo/x", b""), ("foo/PKG-INFO", core_metadata())])
    assert "damaged" in refused(read, SDIST, gzip.compress(content))


def test_the_path_of_a_pax_header_is_the_name(read: Read) -> None:
    info = tarfile.TarInfo("pax")
    records = pax_record(b"path", b"foo/PKG-INFO") + pax_record(b"mtime", b"1.5")
    for kind in (tarfile.XHDTYPE, tarfile.XGLTYPE):
        info.type, info.size = kind, len(records)
        content = info.tobuf() + records + bytes(-len(records) % 512) + tar_of([("other", core_metadata())])
        assert read(SDIST, gzip.compress(content)) == core_metadata()


def test_a_pax_header_may_state_the_size(read: Read) -> None:
    document = core_metadata()
    info = tarfile.TarInfo("foo/PKG-INFO")
    info.size = 0
    info.pax_headers = {"size": str(len(document))}
    content = info.tobuf(tarfile.PAX_FORMAT) + document + bytes(-len(document) % 512) + bytes(1024)
    assert read(SDIST, gzip.compress(content)) == document


@pytest.mark.parametrize("size", [-1, -(1 << 40), 1 << 40, 1 << 80])
def test_a_lying_size_in_a_tar_is_refused(read: Read, size: int) -> None:
    # UP-20
    for name in ("foo/x", "foo/PKG-INFO"):
        info = tarfile.TarInfo(name)
        info.size = size
        content = info.tobuf(tarfile.GNU_FORMAT) + tar_of([("foo/PKG-INFO", core_metadata())])
        text = refused(read, SDIST, gzip.compress(content))
        assert "damaged" in text or "larger" in text


@pytest.mark.parametrize("tar_format", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_a_tar_cut_short_inside_a_complete_gzip_is_refused(read: Read, tar_format: int) -> None:
    # Only between two members nobody can tell, because old tools write no end.
    content = tar_of([("foo/PKG-INFO", core_metadata()), ("foo/" + "x" * 200, b"y" * 600)], tar_format)
    last = len(content.rstrip(b"\0"))
    for length in {*range(1, last - 1, 7), *range(512, last - 1, 512)}:
        if length != 1024:
            assert "damaged" in refused(read, SDIST, gzip.compress(content[:length], 1))


def test_headers_of_old_and_large_files_are_read(read: Read) -> None:
    document = core_metadata()
    info = tarfile.TarInfo("foo/PKG-INFO")
    info.size = len(document)
    header = bytearray(info.tobuf(tarfile.USTAR_FORMAT))
    header[124:136] = b"\x80" + len(document).to_bytes(11, "big")  # GNU: a size in binary
    header[300] = 0xE9
    header[148:156] = b" " * 8
    for signed in (False, True):
        checksum = sum(header) - (256 * sum(byte > 127 for byte in header) if signed else 0)
        block = bytes(header[:148]) + f"{checksum:06o}\0 ".encode() + bytes(header[156:])
        assert read(SDIST, gzip.compress(block + document + bytes(-len(document) % 512))) == document
    refused(read, SDIST, gzip.compress(bytes(header) + document + bytes(-len(document) % 512)))


def test_an_old_directory_is_one_by_its_final_slash(read: Read) -> None:
    info = tarfile.TarInfo("foo/")
    info.type = tarfile.AREGTYPE
    content = info.tobuf(tarfile.USTAR_FORMAT) + tar_of([("foo/PKG-INFO", core_metadata())])
    assert read(SDIST, gzip.compress(content)) == core_metadata()


def test_sparse_members_are_refused(read: Read) -> None:
    info = tarfile.TarInfo("foo/x")
    info.type = tarfile.GNUTYPE_SPARSE
    content = info.tobuf(tarfile.GNU_FORMAT) + tar_of([("foo/PKG-INFO", core_metadata())])
    assert "damaged" in refused(read, SDIST, gzip.compress(content))


@pytest.mark.parametrize("tail", [b"x", gzip.compress(b"second stream"), bytes(100_000) + b"x"])
def test_bytes_after_a_gzip_stream_are_refused(read: Read, tail: bytes) -> None:
    assert "after its end" in refused(read, SDIST, sdist() + tail)


def test_a_wrong_checksum_of_a_gzip_stream_is_refused(read: Read) -> None:
    content = sdist()
    refused(read, SDIST, content[:-8] + b"\0\0\0\0" + content[-4:])


@settings(deadline=None, max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_mutated_archive_is_read_or_refused(read: Read, data: st.DataObject) -> None:
    filename, content = data.draw(
        st.sampled_from(
            [
                (WHEEL, wheel()),
                (WHEEL, with_zip64_end(wheel(), in_directory=True)),
                (WHEEL, wheel(compression=zipfile.ZIP_STORED)),
                (SDIST, sdist()),
                (SDIST, tar_of([("foo/" + "x" * 150, b"1"), ("foo/PKG-INFO", core_metadata())])),
                (EGG, zip_of({"EGG-INFO/PKG-INFO": core_metadata()})),
            ]
        )
    )
    changed = bytearray(content)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(changed) - 1))
        changed[at : at + data.draw(st.integers(0, 4))] = data.draw(st.binary(max_size=4))
    mutated = bytes(changed)
    if filename == SDIST and mutated[:2] != b"\x1f\x8b":
        mutated = gzip.compress(mutated, 1)
    with suppress(Invalid):
        read(filename, mutated)


@settings(deadline=None, max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    pieces=st.lists(
        st.sampled_from([b" ", b"=", b"\n", b"0", b"1", b"12", b"18 path=foo/12345\n", b"10 size=1\n", b"path", b"size"]),
        max_size=12,
    )
)
def test_a_pax_header_of_fragments_is_read_or_refused(read: Read, pieces: list[bytes]) -> None:
    records = b"".join(pieces)
    info = tarfile.TarInfo("pax")
    info.type, info.size = tarfile.XHDTYPE, len(records)
    with suppress(Invalid):
        read(SDIST, gzip.compress(info.tobuf() + records + bytes(-len(records) % 512) + tar_of([("foo/x", b"1")]), 1))


@settings(deadline=None, max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.binary(max_size=2000))
def test_random_bytes_are_refused(read: Read, content: bytes) -> None:
    for filename in (WHEEL, SDIST, ZIP, EGG):
        refused(read, filename, content)
    refused(read, SDIST, gzip.compress(content + b"x", 1))
    refused(read, WHEEL, content + b"PK\5\6" + bytes(18))


@contextmanager
def little_memory() -> Iterator[None]:
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < 10 << 20
    finally:
        tracemalloc.stop()


FIELDS = {
    "flags": (8, "<H"),
    "method": (10, "<H"),
    "crc": (16, "<L"),
    "compressed": (20, "<L"),
    "size": (24, "<L"),
    "offset": (42, "<L"),
}


def with_central(content: bytes, name: str, **values: int) -> bytes:
    """The archive with fields of one directory entry overwritten."""
    entry = content.rindex(b"PK\1\2", 0, content.rindex(name.encode()))
    changed = bytearray(content)
    for field, value in values.items():
        at, layout = FIELDS[field]
        struct.pack_into(layout, changed, entry + at, value)
    return bytes(changed)


def with_zip64_end(content: bytes, *, in_directory: bool = False) -> bytes:
    """The archive with the 64 bit forms of its end, and of one directory entry's sizes if asked for."""
    end = content.rindex(b"PK\5\6")
    count, size, offset = struct.unpack_from("<HLL", content, end + 10)
    directory = content[offset : offset + size]
    if in_directory:
        compressed, plain = struct.unpack_from("<LL", directory, 20)
        name_size = struct.unpack_from("<H", directory, 28)[0]
        extra = struct.pack("<HHQQ", 1, 16, plain, compressed)
        head = bytearray(directory[:46])
        struct.pack_into("<LL", head, 20, 0xFFFFFFFF, 0xFFFFFFFF)
        struct.pack_into("<H", head, 30, len(extra))
        directory = bytes(head) + directory[46 : 46 + name_size] + extra + directory[46 + name_size :]
    at = offset + len(directory)
    end64 = struct.pack("<4sQ2H2L4Q", b"PK\6\6", 44, 45, 45, 0, 0, count, count, len(directory), offset)
    locator = struct.pack("<4sLQL", b"PK\6\7", 0, at, 1)
    short = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 0xFFFF, 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF, 0)
    return content[:offset] + directory + end64 + locator + short


def with_raw_member(compressed: bytes, content: bytes) -> bytes:
    """A wheel whose METADATA is this deflate stream."""
    members = wheel_members(b"\xaa" * len(compressed))
    stored = zip_of(members, zipfile.ZIP_STORED)
    stored = stored.replace(b"\xaa" * len(compressed), compressed)
    name = f"{DIST_INFO}/METADATA"
    local = bytearray(stored)
    struct.pack_into("<H", local, stored.index(name.encode()) - 30 + 8, 8)
    return with_central(bytes(local), name, method=8, crc=zlib.crc32(content), size=len(content))


def test_the_helper_for_raw_members_makes_readable_wheels(read: Read) -> None:
    document = core_metadata()
    content = with_raw_member(zlib.compress(document, 9, -15), document)
    with zipfile.ZipFile(io.BytesIO(content)) as file:
        assert file.read(f"{DIST_INFO}/METADATA") == document
    assert "RECORD" in refused(read, WHEEL, content)  # which is of the raw bytes
