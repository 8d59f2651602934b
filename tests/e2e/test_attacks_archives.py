"""Attacks by what is uploaded: archives that unpack to more than there is room for, or to where nobody wants them."""

from __future__ import annotations

import gzip
import io
import json
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from nora.testing.live import LiveServer
from nora.testing.packages import make_metadata, make_wheel, wheel_name

INFO = "demo-1.0.dist-info"
NAME = wheel_name("demo", "1.0")
SDIST = "demo-1.0.tar.gz"
METADATA = make_metadata("demo", "1.0")
WHEEL = b"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
FORM = {":action": "file_upload", "protocol_version": "1", "name": "demo", "version": "1.0", "metadata_version": "2.1"}
ROOM_MB = 96
"""How much memory a server may need at most that reads all of the archives below, besides what it needs anyway."""


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("archives") / "store"


@pytest.fixture(scope="module")
def server(store: Path) -> Iterator[LiveServer]:
    with LiveServer(store, '[pypi]\nproxy = ""\n[server]\nbody_limit_mb = 64\n') as running:
        name, good = make_wheel("other", "1.0")
        assert upload(running, name, good, project="other").status_code == 200
        before = running.peak_memory_mb()
        yield running
        assert running.peak_memory_mb() - before < ROOM_MB
        # It still takes what is right.
        name, good = make_wheel("demo", "1.0")
        assert upload(running, name, good).status_code == 200
    assert "Traceback" not in running.log()


def upload(
    server: LiveServer, name: str, content: bytes, *, project: str = "demo", **files: tuple[str, bytes]
) -> httpx.Response:
    form = FORM | {"name": project, "filetype": "bdist_wheel" if name.endswith(".whl") else "sdist"}
    return httpx.post(f"{server.url}/simple/", data=form, files={"content": (name, content), **files}, timeout=60)


def contents(store: Path) -> set[str]:
    return {str(path.relative_to(store)) for path in store.rglob("*") if path.is_file() and path.suffix != ".lock"}


def wheel(
    members: dict[str, bytes] | None = None, *, metadata: bytes = METADATA, compression: int = zipfile.ZIP_DEFLATED
) -> bytes:
    """A wheel with these members besides its own."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        for name, content in (
            {f"{INFO}/METADATA": metadata, f"{INFO}/WHEEL": WHEEL, f"{INFO}/RECORD": b""} | (members or {})
        ).items():
            archive.writestr(name, content)
    return buffer.getvalue()


def with_directory(content: bytes, name: str, change: Callable[[bytearray, int], None]) -> bytes:
    """The archive with the directory's entry of a member changed; the function gets all bytes, and where the entry begins."""
    data = bytearray(content)
    at = data.rfind(b"PK\1\2", 0, data.rindex(name.encode()))
    change(data, at)
    return bytes(data)


def claims(size: int) -> Callable[[bytearray, int], None]:
    return lambda data, at: struct.pack_into("<L", data, at + 24, size)


def tar(*entries: tuple[tarfile.TarInfo, bytes], kind: int = tarfile.PAX_FORMAT) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz", format=kind) as archive:
        for entry, content in entries:
            archive.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


def entry(name: str, size: int = 0, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    made = tarfile.TarInfo(name)
    made.size, made.type, made.linkname = size, kind, link
    return made


PKG_INFO = (entry("demo-1.0/PKG-INFO", len(METADATA)), METADATA)


def zeros(count: int) -> bytes:
    """So many zeros as one gzip stream, made in pieces."""
    packer, piece = zlib.compressobj(9, zlib.DEFLATED, 31), bytes(1 << 20)
    return b"".join(packer.compress(piece) for _ in range(count >> 20)) + packer.flush()


def header_of_a_huge_member() -> bytes:
    made = entry("demo-1.0/zeros", 4 << 30)
    return gzip.compress(made.tobuf(tarfile.GNU_FORMAT)) + b""


def overlapping(count: int) -> bytes:
    """Every entry of the directory is the same member: a small file that unpacks to a large one (as in 42.zip's successors)."""
    plain = wheel({"demo/zeros.bin": bytes(10 << 20)})
    start = plain.index(b"PK\1\2")
    end = plain.rindex(b"PK\5\6")
    at = plain.rfind(b"PK\1\2", 0, end)
    directory = plain[start:end] + plain[at:end] * count
    entries = 4 + count
    return (
        plain[:start]
        + directory
        + struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, entries & 0xFFFF, entries & 0xFFFF, len(directory), start, 0)
    )


def nested(depth: int) -> bytes:
    content = bytes(10 << 20)
    for level in range(depth):
        content = wheel({f"{level}.zip": content})
    return content


BOMBS: dict[str, Callable[[], tuple[str, bytes]]] = {
    # UP-20, CWE-409
    "metadata of a gigabyte": lambda: (
        NAME,
        with_directory(wheel(metadata=METADATA + bytes(40 << 20)), f"{INFO}/METADATA", claims(100)),
    ),
    "metadata as large as it says": lambda: (NAME, wheel(metadata=METADATA + b"\n" + bytes(8 << 20))),
    "record that unpacks without end": lambda: (
        NAME,
        with_directory(wheel({f"{INFO}/RECORD": bytes(100 << 20)}), f"{INFO}/RECORD", claims(10)),
    ),
    "a size field of four gigabytes": lambda: (NAME, with_directory(wheel(), f"{INFO}/METADATA", claims(0xFFFFFFFE))),
    "bzip2": lambda: (NAME, wheel(compression=zipfile.ZIP_BZIP2)),
    "lzma": lambda: (NAME, wheel(compression=zipfile.ZIP_LZMA)),
    "an sdist of zeros": lambda: (SDIST, zeros(512 << 20)),
    "an sdist of archives of zeros": lambda: (SDIST, gzip.compress(zeros(256 << 20))),
    "a member that is not there": lambda: (SDIST, header_of_a_huge_member()),
    "a name of a gigabyte": lambda: (
        SDIST,
        gzip.compress(entry("././@LongLink", 1 << 30, tarfile.GNUTYPE_LONGNAME).tobuf(tarfile.GNU_FORMAT)) + zeros(64 << 20),
    ),
    "an extended header of a gigabyte": lambda: (
        SDIST,
        gzip.compress(entry("x", 1 << 30, tarfile.XHDTYPE).tobuf(tarfile.GNU_FORMAT) + bytes(4 << 20)),
    ),
    "a gzip stream in each of many": lambda: (SDIST, gzip.compress(b"") * 200_000),
    "a directory that says it has 65535 entries": lambda: (
        NAME,
        wheel()[:-22] + struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 65535, 65535, 0xFFFFFFF0, 0, 0),
    ),
    "pkg-info without end": lambda: (SDIST, tar((entry("demo-1.0/PKG-INFO", 64 << 20), bytes(64 << 20)))),
    "a sparse file": lambda: (
        SDIST,
        gzip.compress(entry("demo-1.0/PKG-INFO", 512, tarfile.GNUTYPE_SPARSE).tobuf(tarfile.GNU_FORMAT) + bytes(2048)),
    ),
}


@pytest.mark.parametrize("bomb", BOMBS)
def test_a_bomb_is_refused_before_it_goes_off(server: LiveServer, store: Path, bomb: str) -> None:
    # UP-20, CWE-400, CWE-409. How much memory all of them took is looked at when the server ends.
    name, content = BOMBS[bomb]()
    before = contents(store)
    answer = upload(server, name, content)
    assert answer.status_code == 400, answer.text
    assert answer.text.count("\n") == 1
    assert contents(store) == before


@pytest.mark.parametrize("content", [overlapping(1000), nested(3)], ids=["overlapping members", "archives in archives"])
def test_a_bomb_that_would_go_off_elsewhere_is_never_unpacked_here(server: LiveServer, content: bytes) -> None:
    # CWE-409: what an index does not have to read, it does not read. Installers decide what they unpack.
    project, version = "bomb", "1.0"
    renamed = content.replace(b"demo-1.0.dist-info", b"bomb-1.0.dist-info").replace(b"Name: demo", b"Name: bomb")
    before = server.peak_memory_mb()
    answer = upload(server, wheel_name(project, version), renamed, project=project)
    assert answer.status_code in (200, 400), answer.text
    assert server.peak_memory_mb() - before < 32


# UP-20, SDIST-4, CWE-22, CWE-59, CWE-61
ESCAPES = ("../evil", "a/../../evil", "/etc/evil", "demo/../../../evil", f"{INFO}/../../evil")


@pytest.mark.parametrize("path", ESCAPES)
def test_a_member_that_leads_out_of_a_wheel_is_refused(server: LiveServer, store: Path, path: str) -> None:
    before = contents(store)
    answer = upload(server, NAME, wheel({path: b"evil"}))
    assert answer.status_code == 400
    assert "leads out" in answer.text
    assert contents(store) == before
    assert not list(store.parent.parent.rglob("evil"))


@pytest.mark.parametrize("path", ["../evil", "demo-1.0/../../evil", "/etc/evil", "demo-1.0/../evil"])
def test_a_member_that_leads_out_of_an_sdist_is_refused(server: LiveServer, store: Path, path: str) -> None:
    before = contents(store)
    answer = upload(server, SDIST, tar(PKG_INFO, (entry(path, 4), b"evil")))
    assert answer.status_code == 400
    assert "leads out" in answer.text
    assert contents(store) == before


@pytest.mark.parametrize(
    "kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE, tarfile.DIRTYPE]
)
def test_a_link_or_device_in_the_place_of_pkg_info_is_not_followed(server: LiveServer, store: Path, kind: bytes) -> None:
    # The link leads to a file of the server's, which would be shown as metadata.
    before = contents(store)
    for target in (str(store / "FORMAT"), "/etc/passwd", "../../../../../../../etc/passwd", "demo-1.0/PKG-INFO"):
        answer = upload(server, SDIST, tar((entry("demo-1.0/PKG-INFO", 0, kind, target), b"")))
        assert answer.status_code == 400, answer.text
        assert "root:" not in answer.text
    assert contents(store) == before


def test_a_link_within_a_wheel_is_not_followed(server: LiveServer, store: Path) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        link = zipfile.ZipInfo(f"{INFO}/METADATA")
        link.external_attr, link.create_system = 0o120777 << 16, 3
        archive.writestr(link, "/etc/passwd")
        archive.writestr(f"{INFO}/WHEEL", WHEEL)
        archive.writestr(f"{INFO}/RECORD", "")
    before = contents(store)
    answer = upload(server, NAME, buffer.getvalue())
    assert answer.status_code == 400
    assert "root:" not in answer.text
    assert contents(store) == before


CONFUSING = {
    # Two readers see different files: what is checked here would not be what is installed. CWE-436
    "bytes in front": lambda: b"#!/bin/sh\n" + wheel(),
    "bytes behind": lambda: wheel() + b"evil",
    "two archives": lambda: wheel() + wheel({"evil.py": b""}),
    "metadata twice": lambda: wheel().replace(f"{INFO}/RECORD".encode(), f"{INFO}/RECORD".encode()) + b"",
    "another name in the member's own header": lambda: wheel().replace(
        f"{INFO}/METADATA".encode(), f"{INFO}/METADAT_".encode(), 1
    ),
    "encrypted": lambda: with_directory(wheel(), f"{INFO}/METADATA", lambda data, at: struct.pack_into("<H", data, at + 8, 1)),
    "a zero byte in a name": lambda: wheel({"evil.py\0.txt": b""}).replace(b"evil.py", b"evil\0py"),
    "a second dist-info": lambda: wheel({"other-1.0.dist-info/METADATA": METADATA}),
    "a sdist that calls itself a wheel": lambda: tar(PKG_INFO),
    "nothing": lambda: b"",
    "an end without a beginning": lambda: b"PK\5\6" + bytes(18),
}
del CONFUSING["metadata twice"]


@pytest.mark.parametrize("archive", CONFUSING)
def test_an_archive_that_can_be_read_in_two_ways_is_refused(server: LiveServer, store: Path, archive: str) -> None:
    before = contents(store)
    answer = upload(server, NAME, CONFUSING[archive]())
    assert answer.status_code == 400, answer.text
    assert contents(store) == before


HOSTILE_METADATA = {
    "a name with a line break": b"Metadata-Version: 2.1\nName: demo\n evil\nVersion: 1.0\n",
    "two names": METADATA + b"Name: evil\n",
    "two versions": METADATA + b"Version: 9.9\n",
    "requires-python that is markup": METADATA + b'Requires-Python: "><script>alert(1)</script>\n',
    "no text": b"\xff\xfe\x00\x00",
    "a header line without end": b"Metadata-Version: 2.1\nName: " + b"demo" * 400_000 + b"\nVersion: 1.0\n",
    "very many fields": METADATA + b"Classifier: a\n" * 140_000 + b"Name: evil\n",
}


@pytest.mark.parametrize("metadata", HOSTILE_METADATA)
def test_hostile_metadata_is_refused(server: LiveServer, store: Path, metadata: str) -> None:
    # CM-2, CM-6, CWE-79, CWE-20
    before = contents(store)
    answer = upload(server, NAME, wheel(metadata=HOSTILE_METADATA[metadata]))
    assert answer.status_code == 400, answer.text
    assert "<script" not in answer.text or answer.headers["content-type"].startswith("text/plain")
    assert contents(store) == before


@pytest.mark.parametrize(
    "attestations",
    [
        b"[" * 500_000,
        b'[{"a":' * 100_000,
        json.dumps([{}] * 100_000).encode(),
        b'["' + b"\\u0000" * 100_000 + b'"]',
        b"9" * 900_000,
        b"[1e400]",
    ],
    ids=["nested lists", "nested objects", "very many", "escapes", "a long number", "a large number"],
)
def test_hostile_attestations_are_refused(server: LiveServer, store: Path, attestations: bytes) -> None:
    # UP-18, UP-19, CWE-674
    before = contents(store)
    name, good = make_wheel("demo", "1.0")
    answer = upload(server, name, good, attestations=("attestations", attestations))
    assert answer.status_code == 400, answer.text
    assert len(answer.text) < 5_000
    assert contents(store) == before


FORMS = {
    "a field of 3 MB": (b'Content-Disposition: form-data; name="description"\r\n\r\n' + b"x" * 3_000_000, 413),
    "10,000 fields": (
        b'Content-Disposition: form-data; name="classifiers"\r\n\r\nx\r\n--b\r\n' * 10_000
        + b'Content-Disposition: form-data; name="a"\r\n\r\n',
        400,
    ),
    "a header of a part without end": (
        b"X: " + b"x" * 1_000_000 + b'\r\nContent-Disposition: form-data; name="a"\r\n\r\n',
        400,
    ),
    "a name without end": (b'Content-Disposition: form-data; name="' + b"x" * 10_000 + b'"\r\n\r\n', 400),
    "10,000 parameters": (b"Content-Disposition: form-data; " + b'a="b"; ' * 2_000 + b'name="a"\r\n\r\n', 400),
    "quotes without end": (b'Content-Disposition: form-data; name="' + b'\\"' * 8_000 + b"\r\n\r\n", 400),
    "a boundary within a part": (
        b'Content-Disposition: form-data; name="content"; filename="x"\r\n\r\n' + b"\r\n--bx" * 50_000,
        400,
    ),
    "beginnings of a boundary": (
        b'Content-Disposition: form-data; name="content"; filename="x"\r\n\r\n' + b"\r\n--\r\n-" * 500_000,
        400,
    ),
}


@pytest.mark.parametrize("form", FORMS)
def test_a_hostile_form_is_refused(server: LiveServer, store: Path, form: str) -> None:
    # UP-16, UP-19, CWE-400, CWE-1333
    body, status = FORMS[form]
    before = contents(store)
    whole = b"--b\r\n" + body + b"\r\n--b--\r\n"
    answer = httpx.post(
        f"{server.url}/simple/", content=whole, headers={"content-type": "multipart/form-data; boundary=b"}, timeout=60
    )
    assert answer.status_code in (400, 413), (answer.status_code, answer.text)
    assert answer.status_code == status
    assert contents(store) == before
