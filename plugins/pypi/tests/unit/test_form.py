import asyncio
from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nora.api import Invalid, Spool, TooLarge
from nora_pypi.form import (
    MAX_FIELD_BYTES,
    MAX_FIELDS_BYTES,
    MAX_HEADER_BYTES,
    MAX_OVERHEAD_BYTES,
    MAX_PARTS,
    Form,
    read_form,
)

from .builders import BOUNDARY, CONTENT_TYPE, FakeSpool, body_of, part, pieces

CONTENT = bytes(range(256)) * 5 + b"\r\n--" + BOUNDARY.encode()[:-1] + b"\r\n--\r"
BODY = body_of(
    part(":action", "file_upload"),
    part("md5_digest", "00"),
    part("classifiers", "A :: \u00e9"),
    part("content", CONTENT, "foo-1.0.tar.gz", "Content-Type: application/octet-stream\r\n"),
    part("classifiers", ""),
    part("gpg_signature", b"-----\xff", "foo-1.0.tar.gz.asc"),
)


@pytest.fixture
def spool(tmp_path: Path) -> FakeSpool:
    return FakeSpool(tmp_path / "spool")


async def test_fields_file_and_signature_are_told_apart(spool: FakeSpool) -> None:
    # UP-1, UP-7, UP-18
    form = await read_form(pieces(BODY), CONTENT_TYPE, spool)
    assert form == Form(
        {":action": ["file_upload"], "md5_digest": ["00"], "classifiers": ["A :: \u00e9", ""]},
        "foo-1.0.tar.gz",
        {"gpg_signature": b"-----\xff"},
    )
    assert spool.content == CONTENT
    assert spool.finished


async def test_the_file_may_come_first(spool: FakeSpool) -> None:
    # UP-6
    body = body_of(part("content", CONTENT, "foo.whl"), part("md5_digest", "00"), part("name", "foo"))
    form = await read_form(pieces(body), CONTENT_TYPE, spool)
    assert (form.filename, form.first("name")) == ("foo.whl", "foo")
    assert spool.content == CONTENT
    assert spool.wanted == []


async def test_digests_announced_before_the_file_are_made_while_it_is_written(spool: FakeSpool) -> None:
    # UP-5, UP-6
    fields = (part("md5_digest", "00"), part("sha256_digest", ""), part("blake2_256_digest", "ff"))
    await read_form(pieces(body_of(*fields, part("content", b"x", "f"))), CONTENT_TYPE, spool)
    assert spool.wanted == ["md5", "blake2b_256"]


async def test_every_single_cut_gives_the_same_form(tmp_path: Path) -> None:
    expected = await outcome(BODY, (), tmp_path)
    assert expected[0] is Form
    for cut in range(len(BODY)):
        assert await outcome(BODY, (cut,), tmp_path) == expected


async def test_single_bytes_give_the_same_form(tmp_path: Path) -> None:
    assert await outcome(BODY, range(len(BODY)), tmp_path) == await outcome(BODY, (), tmp_path)


async def test_every_truncation_is_refused(tmp_path: Path) -> None:
    # UP-16
    end = len(BODY) - len("\r\n")
    for length in range(end):
        kind, text, _ = await outcome(BODY[:length], (length // 2,), tmp_path)
        assert kind is Invalid, length
        assert "missing" in text
    assert (await outcome(BODY[:end], (), tmp_path))[0] is Form


async def test_an_empty_form_has_nothing(spool: FakeSpool) -> None:
    assert await read_form(pieces(f"--{BOUNDARY}--\r\n".encode()), CONTENT_TYPE, spool) == Form()
    assert spool.size == 0


@pytest.mark.parametrize("body", [b"", b"\r\n", b"\n\n\n"])
async def test_an_empty_body_is_refused(spool: FakeSpool, body: bytes) -> None:
    with pytest.raises(Invalid, match="missing"):
        await read_form(pieces(body), CONTENT_TYPE, spool)


async def test_line_breaks_before_the_first_boundary_are_passed_over(tmp_path: Path) -> None:
    # distutils begins its body with one
    expected = await outcome(BODY, (), tmp_path)
    for cuts in ((), (1,), (2, 3), range(10)):
        assert await outcome(b"\r\n" + BODY, cuts, tmp_path) == expected


async def test_what_follows_the_closing_boundary_is_passed_over(tmp_path: Path) -> None:
    # RFC 2046 5.1.1
    late = BODY + part("name", "late") + b"x" * 100
    assert await outcome(late, (len(BODY),), tmp_path) == await outcome(BODY, (), tmp_path)


@pytest.mark.parametrize(
    "content_type",
    [
        *(
            "",
            "text/plain",
            "application/x-www-form-urlencoded",
            "multipart/mixed; boundary=x",
            "multipart/form-data-x; boundary=x",
        ),
        *("multipart/form-data", "multipart/form-data; boundary=", 'multipart/form-data; boundary=""', "boundary=x"),
        *(
            "multipart/form-data; boundary=" + "x" * 71,
            "multipart/form-data; boundary=\u20ac",
            'multipart/form-data; boundary="x "',
        ),
        *('multipart/form-data; boundary="a\r\nb"', "multipart/form-data; boundary=\udc80", "multipart/form-data; boundary*=x"),
        *("\u20ac", '"' * 100_000, ";" * 100_000, "x" * 100_000),
    ],
)
async def test_a_content_type_that_is_no_form_is_refused_with_a_fix(spool: FakeSpool, content_type: str) -> None:
    # UP-24
    with pytest.raises(Invalid, match="Content-Type") as caught:
        await read_form(pieces(BODY), content_type, spool)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize("boundary", ["x", "-" * 70, "a'()+_,-./:=?z", "a b", "--", BOUNDARY])
async def test_every_boundary_of_the_standard_works(spool: FakeSpool, boundary: str) -> None:
    body = body_of(part("name", "foo"), part("content", b"bytes\r\n-\r\n", "f")).replace(BOUNDARY.encode(), boundary.encode())
    form = await read_form(pieces(body), f'Multipart/Form-Data; charset=utf-8; boundary="{boundary}"', spool)
    assert form.fields == {"name": ["foo"]}
    assert spool.content == b"bytes\r\n-\r\n"


@pytest.mark.parametrize(
    "body",
    [
        b"preamble\r\n" + BODY,
        b"-" + BODY,
        BODY.replace(b"\r\n", b"\n"),
        BODY.replace(BOUNDARY.encode(), b"other"),
        b'{"name": "foo"}',
        f"--{BOUNDARY}\r\n\r\nvalue\r\n--{BOUNDARY}--\r\n".encode(),  # no header
        body_of(part("name", "x").replace(b"form-data", b"attachment")),
        body_of(part("name", "x").replace(b' name="name"', b"")),
        body_of(part("", "x")),
        body_of(part("name", "x").replace(b"Content-Disposition", b"Content-Description")),
        body_of(part("name", "x", extra='Content-Disposition: form-data; name="version"\r\n')),
        body_of(part("name", "x", extra="No colon\r\n")),
        body_of(part("name", "x", extra=": empty\r\n")),
        body_of(part("name", "x", extra="X: a\rb\r\n")),
        body_of(part("name", "x", extra="X: a\r\n folded\r\n")),
        body_of(part("n" * 1100, "x")),
    ],
)
async def test_a_malformed_body_is_refused(spool: FakeSpool, body: bytes) -> None:
    with pytest.raises(Invalid, match="twine") as caught:
        await read_form(pieces(body), CONTENT_TYPE, spool)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("name", ["base64", "quoted-printable", "x-gzip"])
async def test_encoded_parts_are_refused_rather_than_stored_encoded(spool: FakeSpool, name: str) -> None:
    body = body_of(part("content", b"Zm9v", "f", extra=f"Content-Transfer-Encoding: {name}\r\n"))
    with pytest.raises(Invalid, match="Transfer-Encoding"):
        await read_form(pieces(body), CONTENT_TYPE, spool)


async def test_parts_that_say_they_are_binary_are_read(spool: FakeSpool) -> None:
    body = body_of(part("content", b"\xff", "f", extra="Content-Transfer-Encoding: Binary\r\nContent-Type: x/y\r\n"))
    await read_form(pieces(body), CONTENT_TYPE, spool)
    assert spool.content == b"\xff"


async def test_two_files_are_refused(spool: FakeSpool) -> None:
    body = body_of(part("content", b"a", "a"), part("content", b"b", "b"))
    with pytest.raises(Invalid, match="one file"):
        await read_form(pieces(body), CONTENT_TYPE, spool)


async def test_two_signatures_are_refused(spool: FakeSpool) -> None:
    body = body_of(part("gpg_signature", b"a", "a"), part("gpg_signature", b"b", "b"))
    with pytest.raises(Invalid, match="gpg_signature"):
        await read_form(pieces(body), CONTENT_TYPE, spool)


@pytest.mark.parametrize("filename", [None, ""])
async def test_content_without_a_name_has_none(spool: FakeSpool, filename: str | None) -> None:
    form = await read_form(pieces(body_of(part("content", b"a", filename))), CONTENT_TYPE, spool)
    assert form.filename is None
    assert spool.content == b"a"


async def test_attestations_are_taken_as_a_field_or_a_file(spool: FakeSpool) -> None:
    # UP-18: twine sends a field
    form = await read_form(pieces(body_of(part("attestations", "[]"))), CONTENT_TYPE, spool)
    assert form.files == {"attestations": b"[]"}


async def test_unknown_files_are_passed_over_whatever_their_size(spool: FakeSpool) -> None:
    # UP-7
    extra = part("sbom", b"\xff" * (MAX_OVERHEAD_BYTES + 1), "sbom.bin")
    form = await read_form(pieces(body_of(extra, part("name", "foo"))), CONTENT_TYPE, spool)
    assert (form.fields, form.files, spool.size) == ({"name": ["foo"]}, {}, 0)


@pytest.mark.parametrize(
    "body",
    [
        body_of(part("summary", b"\xff")),
        body_of(part("NAME", b"x").replace(b"NAME", b"\xff")),
        body_of(part("content", b"x", "NAME").replace(b"NAME", b"\xff")),
    ],
)
async def test_text_that_is_not_utf_8_is_refused(spool: FakeSpool, body: bytes) -> None:
    with pytest.raises(Invalid, match="UTF-8"):
        await read_form(pieces(body), CONTENT_TYPE, spool)


async def test_names_in_errors_are_one_line_of_ascii(spool: FakeSpool) -> None:
    # UP-12
    with pytest.raises(Invalid) as caught:
        await read_form(pieces(body_of(part("a\u2028\x1b<b>\u00e9" * 40, b"\xff"))), CONTENT_TYPE, spool)
    text = str(caught.value)
    assert text.isascii()
    assert text.isprintable()
    assert len(text) < 500


# UP-19


@pytest.mark.parametrize(
    ("name", "filename", "limit"),
    [("description", None, MAX_FIELD_BYTES), ("gpg_signature", "x.asc", 64 << 10), ("attestations", "x", 1 << 20)],
)
async def test_a_part_may_reach_its_limit_and_not_pass_it(tmp_path: Path, name: str, filename: str | None, limit: int) -> None:
    # UP-19
    fits = body_of(part(name, b"x" * limit, filename))
    over = body_of(part(name, b"x" * (limit + 1), filename))
    assert (await outcome(fits, (limit // 2,), tmp_path))[0] is Form
    kind, text, _ = await outcome(over, (limit // 2,), tmp_path)
    assert (kind, name in text) == (TooLarge, True)


async def test_all_fields_together_are_limited(tmp_path: Path) -> None:
    # UP-19
    eight = [part(f"field{number}", b"x" * MAX_FIELD_BYTES) for number in range(MAX_FIELDS_BYTES // MAX_FIELD_BYTES)]
    assert (await outcome(body_of(*eight[1:]), (), tmp_path))[0] is Form
    assert (await outcome(body_of(*eight), (), tmp_path))[0] is TooLarge


async def test_the_number_of_parts_is_limited(tmp_path: Path) -> None:
    # UP-19
    assert (await outcome(body_of(*[part("c", "x")] * MAX_PARTS), (), tmp_path))[0] is Form
    assert (await outcome(body_of(*[part("c", "x")] * (MAX_PARTS + 1)), (), tmp_path))[0] is Invalid


async def test_the_header_of_a_part_is_limited(tmp_path: Path) -> None:
    line = "X: " + "x" * 4000 + "\r\n"
    assert (await outcome(body_of(part("a", "x", extra=line * 2)), (), tmp_path))[0] is Form
    for extra in (
        line * (MAX_HEADER_BYTES // 4000 + 1),
        "X: " + "x" * MAX_HEADER_BYTES + "\r\n",
        "X" * MAX_HEADER_BYTES,
        "X: y\r\n" * 5000,
    ):
        kind, _, _ = await outcome(body_of(part("a", "x", extra=extra)), (), tmp_path)
        assert issubclass(kind, Invalid)


@pytest.mark.parametrize(
    "filling",
    [
        pytest.param(b" ", id="spaces after a boundary"),
        pytest.param(f"\r\n--{BOUNDARY}x".encode(), id="boundaries in the content"),
    ],
)
async def test_what_makes_the_parser_slow_is_cut_short(spool: FakeSpool, filling: bytes, takes_at_most) -> None:
    # CWE-400
    async def body() -> AsyncIterator[bytes]:
        yield part("content", b"", "f")[:-2] + (f"\r\n--{BOUNDARY}".encode() if filling == b" " else b"")
        for _ in range(1 << 14):
            yield filling * ((1 << 16) // len(filling))

    with takes_at_most(10), pytest.raises(Invalid):
        await read_form(body(), CONTENT_TYPE, spool)


async def test_content_is_passed_on_in_the_pieces_that_arrive(spool: FakeSpool) -> None:
    # UP-19, FILE-13: memory is bounded by the pieces, and those of content alone are not copied
    piece = bytes(1 << 16)
    seen: list[bool] = []

    class Watching(FakeSpool):
        async def write(self, data: bytes) -> None:
            seen.append(data is piece)

    async def body() -> AsyncIterator[bytes]:
        yield part("content", b"", "f")[:-2]
        for _ in range(100):
            yield piece
        yield f"\r\n--{BOUNDARY}--\r\n".encode()

    await read_form(body(), CONTENT_TYPE, Watching(Path(spool.path)))
    assert seen.count(True) == 100


@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_cuts_never_change_the_result_for_mutated_bodies(tmp_path: Path, data: st.DataObject) -> None:
    body = mutated(BODY, data)
    cuts = data.draw(st.lists(st.integers(0, len(body)), max_size=12))
    whole = asyncio.run(outcome(body, (), tmp_path))
    assert asyncio.run(outcome(body, cuts, tmp_path)) == whole
    assert asyncio.run(outcome(body, range(len(body)), tmp_path)) == whole


FRAGMENTS = [
    *(
        b"--" + BOUNDARY.encode(),
        b"\r\n--" + BOUNDARY.encode(),
        b"\r\n",
        b"\r",
        b"\n",
        b"-",
        b"--",
        b" ",
        b"\t",
        b":",
        b"x",
        b"\xff",
    ),
    *(
        b'Content-Disposition: form-data; name="content"; filename="f"\r\n\r\n',
        b'Content-Disposition: form-data; name="a"',
        b"\r\n\r\n",
    ),
]


@settings(deadline=None, max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(fragments=st.lists(st.sampled_from(FRAGMENTS), max_size=25), cuts=st.lists(st.integers(0, 400), max_size=8))
def test_cuts_never_change_the_result_for_bodies_of_fragments(tmp_path: Path, fragments: list[bytes], cuts: list[int]) -> None:
    body = b"".join(fragments)
    for candidate in (body, b"--" + BOUNDARY.encode() + b"\r\n" + body):
        whole = asyncio.run(outcome(candidate, (), tmp_path))
        assert asyncio.run(outcome(candidate, cuts, tmp_path)) == whole
        assert asyncio.run(outcome(candidate, range(len(candidate)), tmp_path)) == whole


@settings(deadline=None, max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(body=st.binary(max_size=300), content_type=st.text(max_size=60))
def test_random_bytes_are_refused(tmp_path: Path, body: bytes, content_type: str) -> None:
    assert issubclass(asyncio.run(outcome(body, (), tmp_path))[0], Invalid)
    assert issubclass(asyncio.run(outcome(BODY, (), tmp_path, content_type))[0], Invalid)


def mutated(body: bytes, data: st.DataObject) -> bytes:
    """The body with a few places replaced, doubled or cut out."""
    changed = bytearray(body)
    for _ in range(data.draw(st.integers(0, 4))):
        start = data.draw(st.integers(0, len(changed)))
        length = data.draw(st.integers(0, 8))
        changed[start : start + length] = data.draw(st.one_of(st.binary(max_size=6), st.sampled_from(FRAGMENTS)))
    return bytes(changed)


async def outcome(body: bytes, cuts: Iterable[int], folder: Path, content_type: str = CONTENT_TYPE) -> tuple[type, str, Any]:
    """What comes out: a form with the content, or the error; nothing else may."""
    spool: Spool = FakeSpool(folder / "spool")
    try:
        form = await read_form(pieces(body, cuts), content_type, spool)
    except Invalid as error:
        return type(error), str(error), None
    return Form, "", (form, (folder / "spool").read_bytes())
