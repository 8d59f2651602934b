import doctest

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nora.http import conditional
from nora.http.conditional import Decision, Full, NotModified, Partial, PreconditionFailed, Unsatisfiable, decide

TAG = "abc"
DATE = "Sun, 06 Nov 1994 08:49:37 GMT"
TAGS = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E, exclude_characters='"'), min_size=1, max_size=12)


def ask(range_: str | None = None, *, size: int | None = 100, method: str = "GET", **more: str | None) -> Decision:
    return decide(method=method, range_=range_, size=size, etag=more.pop("etag", TAG) or "", **more)


def test_examples_in_the_docstrings_hold():
    assert doctest.testmod(conditional).failed == 0


def test_without_conditions_everything_is_sent():
    assert ask() == Full()
    assert decide(method="GET") == Full()


# If-None-Match


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize(
    "field",
    [
        '"abc"',
        'W/"abc"',
        "*",
        " * ",
        '"x", "abc"',
        '"x","abc" , "y"',
        '"x", W/"abc"',
        ', ,"abc",',
        '\t"abc"\t',
        '"a,b", "abc"',
        '"", "abc"',
        '"é", "abc"',
        '"abc", broken',
    ],
)
def test_matching_if_none_match_is_not_modified(method, field):
    # HTTP-7, FILE-8
    assert ask(method=method, if_none_match=field) == NotModified()


@pytest.mark.parametrize(
    "field",
    [
        "",
        " ",
        ",",
        '"x"',
        "abc",
        '"abc',
        'abc"',
        '"ABC"',
        'w/"abc"',
        'W/ "abc"',
        '"x,"abc"',
        '"x" "abc"',
        '"*"',
        '* , "x"',
        "'abc'",
        '"abc"x',
        'broken, "abc"',
        '"a b", "abc"',
        '"a\x00b", "abc"',
    ],
)
def test_other_if_none_match_sends_everything(field):
    assert ask(if_none_match=field) == Full()


def test_tag_with_a_comma_is_one_tag():
    assert ask(if_none_match='"a,b"', etag="a,b") == NotModified()
    assert ask(if_none_match='"a,b"', etag="a") == Full()


def test_content_without_a_tag_matches_only_the_star():
    assert ask(if_none_match='""', etag="") == Full()
    assert ask(if_none_match="*", etag="") == NotModified()


def test_if_none_match_comes_before_range():
    # FILE-8
    assert ask("bytes=0-1", if_none_match='"abc"') == NotModified()
    assert ask("bytes=500-", if_none_match='"abc"') == NotModified()
    assert ask("bytes=0-1", if_none_match='"x"') == Partial(0, 2)


@pytest.mark.parametrize("field", [None, '"x"'])
def test_dates_decide_nothing(field):
    # HTTP-10
    assert ask(if_none_match=field, if_modified_since=DATE, if_unmodified_since=DATE) == Full()


@given(tags=st.lists(TAGS, min_size=1, max_size=8), weak=st.booleans(), data=st.data())
def test_every_tag_of_a_list_is_found(tags, weak, data):
    # HTTP-7
    field = ", ".join(f'W/"{tag}"' if weak else f'"{tag}"' for tag in tags)
    assert ask(if_none_match=field, etag=data.draw(st.sampled_from(tags))) == NotModified()
    assert ask(if_none_match=field, etag="".join(tags) + "x") == Full()


# If-Match


@pytest.mark.parametrize("field", ['"abc"', "*", '"x", "abc"'])
def test_matching_if_match_changes_nothing(field):
    assert ask(if_match=field) == Full()
    assert ask("bytes=0-0", if_match=field) == Partial(0, 1)
    assert ask(if_match=field, if_none_match='"abc"') == NotModified()


@pytest.mark.parametrize("field", ['"x"', 'W/"abc"', "", "abc"])
def test_other_if_match_is_a_failed_precondition(field):
    assert ask(if_match=field) == PreconditionFailed()
    assert ask("bytes=0-0", if_match=field, if_none_match="*") == PreconditionFailed()


def test_content_without_a_tag_meets_no_particular_if_match():
    assert ask(if_match='""', etag="") == PreconditionFailed()
    assert ask(if_match="*", etag="") == Full()


# Range


@pytest.mark.parametrize(
    ("field", "expected"),
    [
        ("bytes=0-0", Partial(0, 1)),
        ("bytes=0-", Partial(0, 100)),
        ("bytes=10-19", Partial(10, 20)),
        ("bytes=99-", Partial(99, 100)),
        ("bytes=99-99", Partial(99, 100)),
        ("bytes=0-99", Partial(0, 100)),
        ("bytes=50-1000", Partial(50, 100)),
        ("bytes=-1", Partial(99, 100)),
        ("bytes=-100", Partial(0, 100)),
        ("bytes=-1000", Partial(0, 100)),
        ("BYTES=0-1", Partial(0, 2)),
        (" bytes=0-1 ", Partial(0, 2)),
        ("bytes= 0-1", Partial(0, 2)),
        ("bytes=,0-1,", Partial(0, 2)),
        ("bytes=0000000000000000000000-00000000000000000000000000001", Partial(0, 2)),
        ("bytes=5-" + "9" * 5000, Partial(5, 100)),
        ("bytes=-" + "9" * 5000, Partial(0, 100)),
    ],
)
def test_single_range_is_a_part(field, expected):
    # FILE-2
    assert ask(field) == expected


@pytest.mark.parametrize("field", ["bytes=100-", "bytes=100-200", "bytes=-0", "bytes=-000", "bytes=" + "9" * 5000 + "-"])
def test_range_outside_is_unsatisfiable(field):
    # FILE-4
    assert ask(field) == Unsatisfiable()


@pytest.mark.parametrize(
    "field",
    [
        "items=0-1",
        "byte=0-1",
        "bytes",
        "bytes=",
        "bytes=-",
        "bytes=a-b",
        "bytes=1",
        "bytes=2-1",
        "bytes=--1",
        "bytes=1-2-3",
        "",
        " ",
        "bytes=0x0-1",
        "bytes=+0-1",
        "bytes=0 - 1",
        "bytes =0-1",
        "bytes:0-1",
        "bytes=\u0660-\u0661",
        "bytes=1-²",
        "bytes=1_0-20",
    ],
)
def test_other_units_and_what_is_no_range_are_ignored(field):
    # FILE-3
    assert ask(field) == Full()


@pytest.mark.parametrize("field", ["bytes=0-1,3-4", "bytes=0-1, -1", "bytes=" + ",".join(["0-"] * 1000), "bytes=500-,0-1"])
def test_several_ranges_send_everything_once(field):
    # FILE-7
    assert ask(field) == Full()


@pytest.mark.parametrize("method", ["HEAD", "POST", "get"])
def test_range_is_for_get_only(method):
    # FILE-5
    assert ask("bytes=0-1", method=method) == Full()
    assert ask("bytes=500-", method=method) == Full()


def test_content_of_unknown_length_has_no_parts():
    assert ask("bytes=0-1", size=None) == Full()
    assert ask("bytes=-0", size=None) == Full()


@pytest.mark.parametrize(
    ("field", "expected"),
    [("bytes=0-", Unsatisfiable()), ("bytes=0-0", Unsatisfiable()), ("bytes=-0", Unsatisfiable()), ("bytes=-5", Full())],
)
def test_empty_content_has_no_parts(field, expected):
    assert ask(field, size=0) == expected


@given(size=st.integers(1, 10**12), first=st.integers(0, 10**13), length=st.integers(1, 10**13), open_=st.booleans())
def test_part_is_never_empty_and_never_outside(size, first, length, open_):
    # FILE-2, FILE-4
    decision = ask(f"bytes={first}-" + ("" if open_ else str(first + length - 1)), size=size)
    if first >= size:
        assert decision == Unsatisfiable()
    else:
        assert decision == Partial(first, size if open_ else min(size, first + length))


@given(size=st.integers(1, 10**12), suffix=st.integers(1, 10**13))
def test_suffix_is_the_end(size, suffix):
    assert ask(f"bytes=-{suffix}", size=size) == Partial(max(0, size - suffix), size)


# If-Range


def test_range_counts_while_if_range_matches():
    # FILE-6
    assert ask("bytes=0-1", if_range='"abc"') == Partial(0, 2)
    assert ask("bytes=0-1", if_range=' "abc" ') == Partial(0, 2)
    assert ask("bytes=500-", if_range='"abc"') == Unsatisfiable()


@pytest.mark.parametrize("field", ['W/"abc"', '"x"', "abc", "*", DATE, "", '"abc", "x"', '"abc'])
def test_range_is_ignored_when_if_range_does_not_match(field):
    # FILE-6
    assert ask("bytes=0-1", if_range=field) == Full()
    assert ask("bytes=500-", if_range=field) == Full()


def test_if_range_cannot_match_content_without_a_tag():
    assert ask("bytes=0-1", if_range='""', etag="") == Full()


def test_if_range_without_range_means_nothing():
    assert ask(if_range='"abc"') == Full()


# Whatever comes in

FIELDS = st.none() | st.text(max_size=60) | st.text(st.sampled_from('bytes=-,0123456789 "W/*abc'), max_size=60)


@given(
    range_=FIELDS,
    none=FIELDS,
    match=FIELDS,
    if_range=FIELDS,
    size=st.none() | st.integers(0, 1000),
    etag=st.sampled_from(["", "a", "abc"]),
)
def test_any_request_gets_a_decision_that_can_be_carried_out(range_, none, match, if_range, size, etag):
    decision = decide(method="GET", if_none_match=none, if_match=match, range_=range_, if_range=if_range, etag=etag, size=size)
    if isinstance(decision, Partial):
        assert size is not None
        assert 0 <= decision.start < decision.stop <= size


@pytest.mark.parametrize(
    "field",
    [
        '"' + "a" * 100_000,
        " " * 100_000,
        "," * 100_000,
        '"a",' * 30_000,
        'W/"a" ' * 20_000,
        "bytes=" + "0" * 100_000,
        "bytes=" + ", " * 50_000,
    ],
)
def test_long_fields_take_no_long_time(field, takes_at_most):
    with takes_at_most(0.5):
        ask(field, if_none_match=field, if_match=field + '"abc"', if_range=field)
        ask(field)
