"""What holds of every conditional request, range and Accept-Encoding, by a slow reading of RFC 9110.

``NORA_TEST_CASES`` says how many cases each test tries, see CONTRIBUTING.md.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

from hypothesis import example, given
from hypothesis import strategies as st

from nora.http.conditional import Decision, Full, NotModified, Partial, PreconditionFailed, Unsatisfiable, decide
from nora.http.encoding import accepts_gzip

DATE = "Sun, 06 Nov 1994 08:49:37 GMT"
LONGEST_SECONDS = 5

# RFC 9110 8.8.3: etagc. Some tags are likely to be the content's.
tags = st.sampled_from(["abc", "a,b", "W/", "é", "*", "abc-gzip"]) | st.text(
    st.characters(min_codepoint=0x21, max_codepoint=0xFF, exclude_characters='"\x7f'), min_size=1, max_size=6
)
ows = st.sampled_from(["", " ", "\t", "  "])
separators = st.builds(lambda before, after, more: f"{before},{after}{more}", ows, ows, st.sampled_from(["", "", ", ", ",,"]))


@dataclass
class Tags:
    """A list of entity tags: what is written, and what it means. ``any_`` is ``*``."""

    written: str
    tags: list[tuple[bool, str]]
    any_: bool = False


@st.composite
def lists_of_tags(draw: st.DrawFn) -> Tags:
    if draw(st.integers(0, 4)) == 0:
        return Tags(draw(ows) + "*" + draw(ows), [], any_=True)
    listed = draw(st.lists(st.tuples(st.booleans(), tags), min_size=1, max_size=4))
    items = [f'W/"{tag}"' if weak else f'"{tag}"' for weak, tag in listed]
    written = items[0] + "".join(draw(separators) + item for item in items[1:])
    return Tags(draw(ows) + written + draw(ows), listed)


@dataclass
class Range:
    """A Range field; ``parts`` are the byte ranges, of which at least one bound is given, ``None`` if it is to be ignored."""

    written: str
    parts: list[tuple[int | None, int | None]] | None


bounds = st.integers(0, 30) | st.sampled_from([10**17, 10**20, 10**30])


@st.composite
def ranges(draw: st.DrawFn) -> Range:
    if draw(st.integers(0, 4)) == 0:
        return Range(
            draw(st.sampled_from(["lines=0-1", "bytes", "bytes=", "bytes 0-1", "bytes=a-b", "0-1", "bytes=-", "none"])), None
        )
    parts = draw(st.lists(st.tuples(st.none() | bounds, st.none() | bounds).filter(any_bound), min_size=1, max_size=2))
    zeros = st.sampled_from(["", "", "000"])
    written = [f"{'' if a is None else draw(zeros) + str(a)}-{'' if b is None else draw(zeros) + str(b)}" for a, b in parts]
    unit = draw(st.sampled_from(["bytes", "Bytes", "BYTES"]))
    return Range(f"{draw(ows)}{unit}={draw(ows)}{', '.join(written)}{draw(ows)}", parts)


def any_bound(part: tuple[int | None, int | None]) -> bool:
    return part != (None, None)


def part_of(wanted: Range, size: int) -> Decision:
    """What of ``size`` bytes is wanted, byte for byte (RFC 9110 14.1.2, 14.2)."""
    if wanted.parts is None or len(wanted.parts) > 1:
        return Full()
    ((first, last),) = wanted.parts
    if first is not None and last is not None and last < first:
        return Full()
    if first is None:
        assert last is not None
        positions = [at for at in range(size) if at >= size - last]
        if last and not size:
            return Full()
    else:
        positions = [at for at in range(size) if at >= first and (last is None or at <= last)]
    return Partial(positions[0], positions[-1] + 1) if positions else Unsatisfiable()


@given(ranges(), st.integers(0, 40))
def test_a_range_is_cut_out_byte_for_byte(wanted: Range, size: int) -> None:  # FILE-2, FILE-4, FILE-7
    assert decide(method="GET", range_=wanted.written, etag="abc", size=size) == part_of(wanted, size)


@given(
    method=st.sampled_from(["GET", "GET", "GET", "HEAD", "POST"]),
    match=st.none() | lists_of_tags(),
    none_match=st.none() | lists_of_tags(),
    if_range=st.none() | st.tuples(st.sampled_from(["strong", "weak", "date", "bare"]), tags),
    wanted=st.none() | ranges(),
    etag=st.just("") | tags,
    size=st.none() | st.integers(0, 40),
)
def test_a_request_is_decided_in_the_order_of_the_standard(
    method: str,
    match: Tags | None,
    none_match: Tags | None,
    if_range: tuple[str, str] | None,
    wanted: Range | None,
    etag: str,
    size: int | None,
) -> None:  # HTTP-7, HTTP-10, FILE-2 to FILE-8
    form, tag = if_range or ("", "")
    decision = decide(
        method=method,
        if_match=match and match.written,
        if_none_match=none_match and none_match.written,
        if_modified_since=DATE,
        if_unmodified_since=DATE,
        range_=wanted and wanted.written,
        if_range={"strong": f'"{tag}"', "weak": f'W/"{tag}"', "date": DATE, "bare": tag, "": None}[form],
        etag=etag,
        size=size,
    )
    # RFC 9110 13.2.2, step by step.
    if match and not match.any_ and not (etag and (False, etag) in match.tags):
        assert decision == PreconditionFailed()
    elif none_match and method != "POST" and (none_match.any_ or etag in [tag for _, tag in none_match.tags]):
        assert decision == NotModified()
    elif wanted is None or method != "GET" or size is None or (if_range and not (form == "strong" and tag == etag)):
        assert decision == Full()
    else:
        assert decision == part_of(wanted, size)


def test_a_range_that_ends_before_it_begins_is_ignored_however_large() -> None:
    # RFC 9110 14.1.2
    assert decide(method="GET", range_=f"bytes={10**30}-{10**20}", etag="abc", size=10) == Full()


TOKENS = [*'bytes=-,0123456789 "W/*abc\t;', "bytes=0-", '"abc"', 'W/"abc"', "é", "\0", "\u0661"]
fields = st.none() | st.text(max_size=40) | st.lists(st.sampled_from(TOKENS), max_size=20).map("".join)


@given(fields, fields, fields, fields, st.sampled_from(["", "abc"]), st.none() | st.integers(0, 1000))
@example("bytes=" + "9" * 200_000, '"' * 200_000, ',"' * 100_000, None, "abc", 10)
@example("bytes=" + "\t," * 100_000, 'W/"a",' * 40_000, "W/" * 100_000, "," * 200_000, "abc", 10)
def test_any_fields_are_decided(
    range_: str | None, match: str | None, none_match: str | None, if_range: str | None, etag: str, size: int | None
) -> None:
    begun = time.process_time()
    decision = decide(
        method="GET", range_=range_, if_match=match, if_none_match=none_match, if_range=if_range, etag=etag, size=size
    )
    assert time.process_time() - begun < LONGEST_SECONDS
    if isinstance(decision, Partial):
        assert size is not None
        assert 0 <= decision.start < decision.stop <= size
    if isinstance(decision, NotModified):
        assert none_match is not None
        assert none_match.strip() == "*" or f'"{etag}"' in none_match


# Accept-Encoding

CODINGS = ["gzip", "x-gzip", "*", "br", "deflate", "identity", "zstd"]


@st.composite
def weighted(draw: st.DrawFn, coding: str) -> tuple[str, str, int]:
    """A coding as RFC 9110 12.5.3 writes it, its name, and its weight in thousandths."""
    weight = draw(st.none() | st.integers(0, 1000) | st.just(0))
    written = draw(st.sampled_from([coding, coding.upper(), coding.title()]))
    if weight is not None:
        shortest = f"{weight / 1000:.3f}".rstrip("0").rstrip(".")
        number = draw(st.sampled_from([shortest, f"{weight / 1000:.3f}"]))
        written += f"{draw(ows)};{draw(ows)}{draw(st.sampled_from('qQ'))}={number}"
    return written, coding, 1000 if weight is None else weight


@given(st.lists(st.sampled_from(CODINGS), max_size=5, unique=True), st.data())
def test_gzip_is_sent_exactly_where_it_is_acceptable(codings: list[str], data: st.DataObject) -> None:  # NEG-7, HTTP-11
    items = [data.draw(weighted(coding)) for coding in codings]
    field = "".join(written + data.draw(separators) for written, _, _ in items)
    weights = {coding: weight for _, coding, weight in items}
    # RFC 9110 8.4.1.3: x-gzip is another name for it. 12.5.3: "*" stands for what is not listed.
    expected = weights.get("gzip", weights.get("x-gzip", weights.get("*", 0)))
    assert accepts_gzip(field) is (expected > 0)


@given(
    fields | st.lists(st.sampled_from([*CODINGS, ",", ";", "q=", "q", "0", "1.", "nan", "inf", "1e-9", "-1", " "])).map("".join)
)
@example("gzip;" + "q" * 200_000)
@example(",;" * 100_000)
def test_any_accept_encoding_is_understood(field: str | None) -> None:  # NEG-15
    begun = time.process_time()
    welcome = accepts_gzip(field)
    assert time.process_time() - begun < LONGEST_SECONDS
    assert isinstance(welcome, bool)
    if welcome:
        assert field is not None
        assert "gzip" in field.lower() or "*" in field
