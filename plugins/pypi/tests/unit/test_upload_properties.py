"""What holds of every upload: of core metadata, forms and archives, valid, mutated and arbitrary.

``NORA_TEST_CASES`` says how many cases each test tries, see CONTRIBUTING.md.
"""

from __future__ import annotations

import gzip
import io
import re
import tarfile
import zipfile
from collections.abc import Coroutine, Iterable
from contextlib import suppress
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from packaging.version import Version

from nora.api import Invalid
from nora_pypi import filenames, metadata
from nora_pypi.archive import read_metadata
from nora_pypi.form import DIGEST_FIELDS, FILE_LIMITS, Form, read_form
from nora_pypi.names import normalize

from .builders import (
    BOUNDARY,
    CONTENT_TYPE,
    FakeSpool,
    body_of,
    core_metadata,
    part,
    pieces,
    tar_of,
    wheel,
    wheel_members,
    zip_of,
)
from .strategies import bounded_time, changed, check_refusal, spellings, texts, versions

# Core metadata

lines = st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1, max_size=20)
public_versions = versions.filter(lambda version: "+" not in version)
requirements = st.builds(lambda name, version: f"{name}>={version}", spellings, public_versions)


@given(
    st.tuples(spellings, versions, st.sampled_from(["1.0", "1.2", "2.1", "2.2", "2.4", "2.99"])),
    st.lists(lines, max_size=3),
    st.tuples(st.lists(requirements, max_size=3), st.lists(spellings, max_size=2)),
    st.lists(st.sampled_from(["Requires-Dist", "Summary", "license"]), max_size=2),
    st.tuples(
        st.text(max_size=40) | st.just("\nName: other\nRequires-Dist: other"),
        st.sampled_from(["\n", "\r\n", "\r"]),
        st.randoms(use_true_random=False),
    ),
)
def test_core_metadata_says_what_was_written(
    identity: tuple[str, str, str],
    summary: list[str],
    resolved: tuple[list[str], list[str]],
    dynamic: list[str],
    writing: tuple[str, str, Random],
) -> None:  # CM-1 to CM-5
    (name, version, number), (requires, extras), (description, line_end, random) = identity, resolved, writing
    fields = [("Metadata-Version", number), ("Name", name), ("Version", version)]
    fields += [("X-Unknown", "é: x"), ("Requires-Python", ">=3.8,\n <4")]
    fields += [("Summary", "\n        ".join(summary))] if summary else []
    fields += [("Requires-Dist", requirement) for requirement in requires] + [("Provides-Extra", extra) for extra in extras]
    fields += [("Dynamic", field) for field in dynamic]
    random.shuffle(fields)
    text = "".join(f"{random.choice([label, label.upper()])}: {value}\n" for label, value in fields)
    found = metadata.parse(f"{text}\n{description}".replace("\n", line_end).encode("utf-8", "replace"))
    assert (found.name, found.project, found.version) == (name, normalize(name), Version(version))
    assert found.metadata_version == tuple(map(int, number.split(".")))
    assert found.requires_python == ">=3.8, <4"
    assert sorted(found.requires_dist) == sorted(requires)
    assert sorted(found.provides_extra) == sorted(extras)
    assert found.dynamic == {field.lower() for field in dynamic}
    assert found.summary.split() == " ".join(summary).split()


LABELS = ["Metadata-Version: 2.1", "Name: foo", "Version: 1.0", "Requires-Dist: foo", "Requires-Python: >3", "Dynamic: name"]
SEPARATORS = [
    "\n",
    "\n\n",
    "\r",
    "\r\n",
    " ",
    "\t",
    ":",
    ";",
    "Content-Type: multipart/x; boundary=",
    "\0",
    "\x85",
    "\u2028",
    ": x",
]
documents = st.lists(st.sampled_from([*LABELS, *SEPARATORS]) | texts, max_size=20).map(
    lambda tokens: "".join(tokens).encode("utf-8", "replace")
)
LINE_FRAGMENTS = [b"\r", b"\n", b"\r\n", b"\0", b"\xff", b":", b" ", b"-", b"(", b"[", b";", b"\xef\xbb\xbf"]


@given(documents | st.binary(max_size=100), st.data())
def test_any_core_metadata_is_read_or_refused(raw: bytes, data: st.DataObject) -> None:  # CM-2, UP-12
    valid = core_metadata(more=["Requires-Dist: a (>=1); python_version > '3'", "Dynamic: x", "Requires-Python: >=3"])
    for document in (raw, core_metadata() + raw, changed(data.draw, valid, LINE_FRAGMENTS)):
        try:
            with bounded_time():
                found = metadata.parse(document)
        except Invalid as error:
            check_refusal(error)
        else:
            assert normalize(found.name) == found.project
            assert "\n" not in found.name + found.requires_python


# Forms


class Written(FakeSpool):
    """A spool that keeps in memory what is written."""

    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.wanted = []
        self.finished = False

    @property
    def size(self) -> int:
        return sum(map(len, self.written))

    @property
    def content(self) -> bytes:
        return b"".join(self.written)

    async def write(self, data: bytes) -> None:
        assert type(data) is bytes
        assert not self.finished
        self.written.append(data)

    async def finish(self) -> None:
        self.finished = True


def run(coroutine: Coroutine[Any, Any, Form]) -> Form:
    """The result of a coroutine that waits for nothing."""
    try:
        coroutine.send(None)
    except StopIteration as stop:
        result: Form = stop.value
        return result
    raise AssertionError("it waits")


def outcome(body: bytes, cuts: Iterable[int] = ()) -> tuple[Any, ...]:
    """What comes of a form: itself, the content and the digests that were wanted, or the refusal; nothing else may."""
    spool = Written()
    try:
        form = run(read_form(pieces(body, cuts), CONTENT_TYPE, spool))
    except Invalid as error:
        check_refusal(error)
        return type(error), str(error)
    assert spool.finished
    return form, spool.content, spool.wanted


DELIMITER = b"\r\n--" + BOUNDARY.encode()
CONTENT_TOKENS = [b"\r\n", b"--", b"\r\n--", DELIMITER[:-1], DELIMITER.lower(), b"-", b"\r"]
contents = (
    st.lists(st.binary(max_size=12) | st.sampled_from(CONTENT_TOKENS), max_size=6)
    .map(b"".join)
    .filter(lambda value: DELIMITER not in b"\r\n" + value)
)
field_names = st.sampled_from(["name", "version", *DIGEST_FIELDS, "classifiers", ":action", "é"])
field_texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
PART_HEADERS = ["", "Content-Type: text/plain; charset=utf-8\r\n", "content-transfer-encoding: 8BIT\r\n", "X:\r\n"]


@st.composite
def forms(draw: st.DrawFn) -> tuple[bytes, Form, bytes, list[str]]:
    """A body in one of the ways in which clients write it, and what it means."""
    written: list[bytes] = []
    fields: dict[str, list[str]] = {}
    files: dict[str, bytes] = {}
    filename, content, wanted = None, b"", []
    kinds = draw(st.lists(st.sampled_from(["content", *FILE_LIMITS, "unknown"]), max_size=4, unique=True))
    for kind in draw(st.permutations([*kinds, *["field"] * draw(st.integers(0, 3))])):
        value, given_name, header = (
            draw(contents),
            draw(st.sampled_from(["", "f", "é.whl"])),
            draw(st.sampled_from(PART_HEADERS)),
        )
        if kind == "field":
            name, text = draw(field_names), draw(field_texts)
            written.append(part(name, text, extra=header))
            fields.setdefault(name, []).append(text)
        elif kind == "content":
            content, filename = value, given_name or None
            wanted = [algorithm for field, algorithm in DIGEST_FIELDS.items() if any(fields.get(field, ()))]
            written.append(part("content", value, given_name, header))
        elif kind in FILE_LIMITS:
            files[kind] = value
            written.append(part(kind, value, given_name if draw(st.booleans()) else None, header))
        else:
            written.append(part("sbom", value, "sbom", header))
    before, after = draw(st.sampled_from([b"", b"\r\n", b"\n\r"])), draw(st.sampled_from([b"", b"\r\n", b"epilogue\r\n--"]))
    return before + body_of(*written) + after, Form(fields, filename, files), content, wanted


def cuts_of(draw: st.DrawFn, body: bytes) -> Iterable[int]:
    """Where the pieces of a body begin: anywhere, everywhere, or at some distance from each of its boundaries."""
    at = draw(st.sampled_from(["anywhere", "anywhere", "everywhere", "boundaries"]))
    if at == "everywhere":
        return range(len(body))
    if at == "anywhere":
        return draw(st.lists(st.integers(0, len(body)), max_size=8))
    distance = draw(st.integers(-3, 40))
    return [match.start() + distance for match in re.finditer(rb"\r?\n?--", body) if match.start() + distance >= 0]


@given(forms(), st.data())
def test_a_form_means_the_same_wherever_it_is_cut(form: tuple[bytes, Form, bytes, list[str]], data: st.DataObject) -> None:
    # UP-1, UP-5, UP-6, UP-7
    body, *expected = form
    assert outcome(body, cuts_of(data.draw, body)) == tuple(expected)


FORM_FRAGMENTS = [
    *(DELIMITER, DELIMITER + b"\r\n", DELIMITER + b"--", DELIMITER[2:], b"\r\n\r\n", b"\r\n", b"\r", b"\n", b"-", b"--", b"\t"),
    *(b" ", b":", b";", b'"', b"=", b"\\", b"\0", b"\xff", b'name="a"', b"filename*=utf-8''x", b"form-data", b"boundary", b"a"),
    *(b'Content-Disposition: form-data; name="content"; filename="f"\r\n\r\n', b"Content-Transfer-Encoding: base64\r\n"),
]
_DISPOSITION = re.compile(
    rb'^content-disposition: form-data; name="([^"\\;]*)"(?:; filename="[^"\\;]*")?\r?$', re.IGNORECASE | re.MULTILINE
)


def plainly_read(body: bytes) -> dict[str, list[bytes]] | None:
    """The values of a body by name, found by nothing but its boundaries (RFC 2046 5.1.1); ``None`` where that is too simple."""
    _, *parts = (b"\r\n" + body.lstrip(b"\r\n")).split(DELIMITER)
    found: dict[str, list[bytes]] = {}
    for piece in parts:
        if piece.startswith(b"--"):
            return found
        line, _, rest = piece.partition(b"\r\n")
        assert not line.strip(b" \t"), "a boundary that is none"
        head, _, value = rest.partition(b"\r\n\r\n")
        names = _DISPOSITION.findall(head)
        if len(names) != 1 or head.lower().count(b"content-disposition") != 1:
            return None
        found.setdefault(names[0].decode("utf-8", "replace"), []).append(value)
    return None


@given(forms(), st.data())
def test_a_mutated_form_is_read_or_refused_wherever_it_is_cut(
    form: tuple[bytes, Form, bytes, list[str]], data: st.DataObject
) -> None:  # UP-16, UP-19
    body = changed(data.draw, form[0], FORM_FRAGMENTS)
    with bounded_time():
        whole = outcome(body)
    assert outcome(body, cuts_of(data.draw, body)) == whole
    if isinstance(whole[0], Form) and (plain := plainly_read(body)) is not None:
        assert plain.get("content", [b""]) == [whole[1]]
        assert {name: [value.encode() for value in values] for name, values in whole[0].fields.items()} == {
            name: values for name, values in plain.items() if name in whole[0].fields
        }


@pytest.mark.parametrize("cuts", [(), range(400)])
@pytest.mark.parametrize(
    "body",
    [
        pytest.param(body_of(part("content", b"a" + DELIMITER + b"x\r\nb", "f")), id="goes on"),
        pytest.param(body_of(part("content", b"a" + DELIMITER + b"\rb", "f")), id="carriage return"),
        pytest.param(body_of(part("name", b"").removesuffix(b"\r\n"), part("content", b"a", "f")), id="after the header"),
    ],
)
def test_a_boundary_in_a_part_is_refused(body: bytes, cuts: Iterable[int]) -> None:  # RFC 2046 5.1.1
    kind, text = outcome(body, cuts)
    assert (kind, "a boundary" in text) == (Invalid, True)


@pytest.mark.parametrize("header", ["X: a\nb\r\n", "X: a\0b\r\n", "Content-Type: text/plain\n\r\n"])
def test_a_header_that_readers_divide_differently_is_refused(header: str) -> None:  # RFC 9110 5.5
    assert outcome(body_of(part("name", "foo", extra="X: a b\r\n")))[0] == Form({"name": ["foo"]})
    kind, text = outcome(body_of(part("name", "foo", extra=header)))
    assert (kind, "header fields are broken" in text) == (Invalid, True)


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"x" + body_of(part("name", "foo")), id="boundary"),
        pytest.param(body_of(part("name", "foo", extra="\0: x\r\n")), id="header"),
    ],
)
def test_a_malformed_form_is_told_to_the_client_and_not_to_the_log(body: bytes, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("DEBUG"):
        assert outcome(body)[0] is Invalid
    assert not caplog.records


# Archives

WHEEL, SDIST, ZIP, EGG = "Foo.Bar-1.0-py3-none-any.whl", "foo_bar-1.0.tar.gz", "Foo-Bar-1.0.zip", "Foo_Bar-1.0-py3.8.egg"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("archives")


def metadata_of(folder: Path, filename: str, content: bytes) -> bytes | None:
    """What is read out of an archive; ``None`` if it is refused, and nothing else may happen."""
    path = folder / "archive"
    path.write_bytes(content)
    try:
        with bounded_time():
            return read_metadata(str(path), filenames.parse(filename))
    except Invalid as error:
        check_refusal(error)
        return None


ZIPS = [
    (WHEEL, wheel()),
    (WHEEL, wheel(compression=zipfile.ZIP_STORED)),
    (WHEEL, zip_of({**wheel_members(), "foo/déjà.py": b"x" * 100, "foo/": b""})),
    (EGG, zip_of({"EGG-INFO/PKG-INFO": core_metadata()})),
    (ZIP, zip_of({"foo-bar-1.0/PKG-INFO": core_metadata(), "foo-bar-1.0/setup.py": b"x" * 300})),
]
ZIP_FRAGMENTS = [
    *(b"PK\1\2", b"PK\3\4", b"PK\5\6", b"PK\6\6", b"PK\6\7", b"PK\7\x08", b"\xff\xff\xff\xff", b"\0\0", b"\1\0", b"\x08\0"),
    *(b"foo_bar-1.0.dist-info/METADATA", b"foo_bar-1.0.dist-info/RECORD", b"../", b"/", b"\0", b"\1\0\x10\0", b"\x75\x70\5\0"),
]
ZIP_STRUCTURES = re.compile(b"PK(?:\1\2|\3\4|\5\6)")
odd_bytes = st.sampled_from([0, 1, 8, 9, 12, 20, 45, 0x7F, 0x80, 0xFF]) | st.integers(0, 255)


def changed_zip(draw: st.DrawFn, content: bytes) -> bytes:
    """An archive with a few bytes of its structures set to others, or changed in any other way."""
    if draw(st.integers(0, 3)) == 0:
        return changed(draw, content, ZIP_FRAGMENTS)
    result = bytearray(content)
    starts = [match.start() for match in ZIP_STRUCTURES.finditer(content)]
    for _ in range(draw(st.integers(1, 3))):
        at = min(draw(st.sampled_from(starts)) + draw(st.integers(4, 80)), len(result) - 1)
        result[at] = draw(odd_bytes)
    return bytes(result)


@given(st.sampled_from(ZIPS), st.data())
def test_a_mutated_zip_is_refused_or_read_as_others_read_it(
    folder: Path, original: tuple[str, bytes], data: st.DataObject
) -> None:  # UP-20, META-1
    filename, content = original[0], changed_zip(data.draw, original[1])
    found = metadata_of(folder, filename, content)
    if found is not None:
        document = "METADATA" if filename == WHEEL else "PKG-INFO"
        # The name of some other member is no UTF-8, or it needs a later version of ZIP.
        with suppress(NotImplementedError, UnicodeDecodeError), zipfile.ZipFile(io.BytesIO(content)) as archive:
            (name,) = (name for name in archive.namelist() if name.rpartition("/")[2] == document)
            assert archive.read(name) == found


def test_a_wheel_with_a_name_that_is_no_utf_8_is_refused_as_installers_do(folder: Path) -> None:
    broken = zip_of({**wheel_members(), "foo/é.py": b""}).replace("é".encode(), b"\xff\xfe")
    with pytest.raises(UnicodeDecodeError):
        zipfile.ZipFile(io.BytesIO(broken))
    assert metadata_of(folder, WHEEL, broken) is None


TAR_FORMATS = [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT]
TAR_OFFSETS = [0, 99, 100, 124, 130, 135, 148, 156, 157, 257, 263, 345, 511]
TAR_VALUES = [
    b"\0",
    b"\x80",
    b"\xff",
    b"7",
    b" ",
    b"/",
    b"..",
    b"x",
    b"g",
    b"L",
    b"K",
    b"5",
    b"2",
    b"S",
    b"foo_bar-1.0/PKG-INFO\0",
]


def written_tar(draw: st.DrawFn) -> bytes:
    """A source distribution in one of the formats of tar."""
    long_name = draw(st.sampled_from(["x", "x" * 120, "d/" * 60 + "x", "é"]))
    members: list[tuple[tarfile.TarInfo | str, bytes]] = [
        ("foo_bar-1.0/PKG-INFO", core_metadata()),
        (f"foo_bar-1.0/{long_name}", b"y" * 600),
    ]
    return tar_of(draw(st.permutations(members)), draw(st.sampled_from(TAR_FORMATS)))


def with_sum(block: bytes) -> bytes:
    """A header block with the right sum."""
    return block[:148] + b"%06o\0 " % (sum(block[:148]) + 8 * 32 + sum(block[156:])) + block[156:]


def changed_tar(draw: st.DrawFn, content: bytes) -> bytes:
    """An archive with some bytes changed, those of headers mostly so that the header's sum is right, and blocks repeated."""
    result = bytearray(content)
    for _ in range(draw(st.integers(1, 3))):
        block = draw(st.integers(0, len(result) // 512 - 1)) * 512
        at = block + draw(st.sampled_from(TAR_OFFSETS) | st.integers(0, 511))
        value = draw(st.sampled_from(TAR_VALUES) | st.binary(min_size=1, max_size=3))
        result[at : at + len(value)] = value[: block + 512 - at]
        if b"ustar" in result[block + 257 : block + 263] and draw(st.booleans()):
            result[block : block + 512] = with_sum(bytes(result[block : block + 512]))
    if draw(st.booleans()):
        to, start = (draw(st.integers(0, len(result) // 512)) * 512 for _ in range(2))
        result[to:to] = result[start : start + draw(st.sampled_from([512, 1024]))]
    return bytes(result[: draw(st.integers(0, len(result)))] if draw(st.integers(0, 9)) == 0 else result)


@given(st.data())
def test_a_mutated_tar_is_refused_or_read_as_others_read_it(folder: Path, data: st.DataObject) -> None:  # UP-20, META-1
    content = gzip.compress(changed_tar(data.draw, written_tar(data.draw)), 1, mtime=0)
    if data.draw(st.integers(0, 4)) == 0:
        content = changed(data.draw, content, [b"\x1f\x8b\x08", b"\0", b"\xff"])
    found = metadata_of(folder, SDIST, content)
    if found is not None:
        assert tarfiles_view(content) == [found]


def tarfiles_view(content: bytes) -> list[bytes]:
    """The contents of all that the standard library, and so an installer, takes for PKG-INFO."""
    with tarfile.open(fileobj=io.BytesIO(content), mode="r:gz") as archive:
        members = [member for member in archive.getmembers() if path_of(member)[1:] == ["PKG-INFO"]]
        return [file.read() for member in members if (file := archive.extractfile(member))]


def path_of(member: tarfile.TarInfo) -> list[str]:
    return [step for step in member.name.split("/") if step not in ("", ".")]


OTHER = core_metadata("other")


def blocks(kind: bytes, content: bytes, *, name: str = "foo_bar-1.0/x", size: int | None = None, **fields: bytes) -> bytes:
    """A member's blocks; ``fields`` are bytes that overwrite those of its header at ``at_{offset}``."""
    info = tarfile.TarInfo(name)
    info.type, info.size = kind, len(content) if size is None else size
    header = bytearray(
        info.tobuf(tarfile.GNU_FORMAT if kind in (tarfile.GNUTYPE_LONGNAME, tarfile.REGTYPE) else tarfile.USTAR_FORMAT)
    )
    for field, value in fields.items():
        at = int(field.removeprefix("at_"))
        header[at : at + len(value)] = value
    return with_sum(bytes(header)) + content + bytes(-len(content) % 512)


def record(key: str, value: str) -> bytes:
    """A record of a pax header."""
    rest = f" {key}={value}\n"
    length = len(rest) + len(str(len(rest) + 1))
    return f"{length}{rest}".encode()


PKG_INFO, PAX, LONG = "foo_bar-1.0/PKG-INFO", tarfile.XHDTYPE, tarfile.GNUTYPE_LONGNAME
PATH, FILE = record("path", PKG_INFO), blocks(tarfile.REGTYPE, OTHER)
TRUE = blocks(tarfile.REGTYPE, core_metadata(), name=PKG_INFO)
DISAGREEMENTS = {
    **{f"no number at {at}": blocks(tarfile.REGTYPE, b"x", **{f"at_{at}": b"9"}) for at in (100, 108, 116, 136, 329, 337)},
    "prefix in a GNU header": blocks(tarfile.REGTYPE, b"x", at_345=b"y"),
    "record after the size": blocks(PAX, record("a", "b") + PATH, size=6) + FILE,
    "long name after the size": blocks(LONG, b"foo_bar-1.0/yz", size=13) + FILE,
    "two pax headers": blocks(PAX, PATH) + blocks(PAX, record("path", "foo_bar-1.0/y")) + FILE,
    "long name and pax header": blocks(LONG, PKG_INFO.encode() + b"\0") + blocks(PAX, record("path", "foo_bar-1.0/y")) + FILE,
    "name of a sparse file": blocks(PAX, record("GNU.sparse.name", PKG_INFO)) + FILE,
    "empty path": blocks(PAX, record("path", "")) + FILE,
    "empty size": blocks(PAX, record("size", "")) + FILE,
}


@pytest.mark.parametrize("name", DISAGREEMENTS)
def test_a_tar_in_which_tools_see_different_files_is_refused(folder: Path, name: str) -> None:  # UP-20, META-1
    assert metadata_of(folder, SDIST, gzip.compress(DISAGREEMENTS[name] + TRUE + bytes(1024), mtime=0)) is None


AGREEMENTS = {
    "time before 1970": blocks(tarfile.REGTYPE, b"x", at_136=b"\xff" * 12),
    "large owner": blocks(tarfile.REGTYPE, b"x", at_108=b"\x80\0\0\0\xff\xff\xff\xff"),
    "spaces around a number": blocks(tarfile.REGTYPE, b"x", at_100=b"   644 \0", at_329=bytes(16)),
    "pax header": blocks(PAX, record("comment", "x") + record("mtime", "1.5")) + FILE,
    "global pax header": blocks(tarfile.XGLTYPE, record("comment", "x")) + FILE,
    "long name": blocks(LONG, b"foo_bar-1.0/" + b"y" * 150 + b"\0") + FILE,
    "prefix in a ustar header": blocks(tarfile.DIRTYPE, b"", name="d/", at_345=b"foo_bar-1.0"),
}


@pytest.mark.parametrize("name", AGREEMENTS)
def test_what_tools_agree_on_is_read(folder: Path, name: str) -> None:
    content = gzip.compress(AGREEMENTS[name] + TRUE + bytes(1024), mtime=0)
    assert metadata_of(folder, SDIST, content) == core_metadata()
    assert tarfiles_view(content) == [core_metadata()]
