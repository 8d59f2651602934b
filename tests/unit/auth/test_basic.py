from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nora.api import Unauthorized
from nora.auth.basic import parse_basic


def basic(credentials: bytes | str, scheme: str = "Basic") -> str:
    data = credentials.encode() if isinstance(credentials, str) else credentials
    return f"{scheme} {base64.b64encode(data).decode()}"


def test_no_field_is_no_credentials() -> None:
    assert parse_basic(None) is None


def test_the_first_colon_ends_the_user_name() -> None:  # AUTH-4
    assert parse_basic(basic("alice:a:b:")) == ("alice", "a:b:")


def test_names_and_passwords_may_be_empty_here() -> None:
    assert parse_basic(basic(":")) == ("", "")
    assert parse_basic(basic("alice:")) == ("alice", "")


@pytest.mark.parametrize("scheme", ["Basic", "basic", "BASIC", "bAsIc"])
def test_the_scheme_has_no_case(scheme: str) -> None:  # AUTH-5
    assert parse_basic(basic("alice:secret", scheme)) == ("alice", "secret")


def test_more_spaces_are_allowed() -> None:
    assert parse_basic("  Basic    YWxpY2U6YTpi \t") == ("alice", "a:b")


def test_utf8_is_understood() -> None:  # AUTH-4
    assert parse_basic(basic("zoë:pässwörd €")) == ("zoë", "pässwörd €")


def test_latin1_is_understood_where_it_is_no_utf8() -> None:
    assert parse_basic(basic("zoë:naïve".encode("latin-1"))) == ("zoë", "naïve")


@pytest.mark.parametrize(
    "value",
    [
        "",
        "   ",
        "Basic",
        "Basic ",
        "Basic YWxpY2U6YTp",  # padding is missing
        "Basic YWxpY2U6YTpi====",
        "Basic YWxp Y2U6YTpi",
        "Basic !!!!",
        "Basic \xff\xff\xff\xff",
        "Basic \ud800",
        "Basic YWxpY2U=",  # no colon
        "Basic\tYWxpY2U6YTpi",
        "Basic, YWxpY2U6YTpi",
        "Bearer YWxpY2U6YTpi",
        "Digest username=alice",
        "YWxpY2U6YTpi",
        basic("alice:a\0b"),
        basic("alice\r\nX-Actor: root:a"),
        basic("alice:\x7f"),
        "Basic " + "A" * 1_000_001,
    ],
)
def test_malformed_and_foreign_credentials_are_refused(value: str) -> None:  # AUTH-3
    with pytest.raises(Unauthorized):
        parse_basic(value)


def test_a_refusal_does_not_repeat_the_credentials() -> None:  # AUTH-8
    with pytest.raises(Unauthorized) as caught:
        parse_basic(basic("hunter2"))
    assert "hunter2" not in str(caught.value)
    assert "aHVudGVyM" not in str(caught.value)


@given(st.text())
def test_any_text_is_parsed_or_refused(value: str) -> None:  # AUTH-3
    for text in (value, f"Basic {value}"):
        try:
            parsed = parse_basic(text)
        except Unauthorized:
            continue
        assert parsed is not None


@given(
    st.text(st.characters(exclude_characters=":", exclude_categories=["Cc", "Cs"])),
    st.text(st.characters(exclude_categories=["Cc", "Cs"])),
)
def test_what_a_client_encodes_is_what_is_read(username: str, password: str) -> None:  # AUTH-4
    assert parse_basic(basic(f"{username}:{password}")) == (username, password)
