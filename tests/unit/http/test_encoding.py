"""NEG-7, NEG-9 and HTTP-11 for Accept-Encoding."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nora.http.encoding import accepts_gzip


@pytest.mark.parametrize(
    ("field", "welcome"),
    [
        (None, False),
        ("", False),
        (" ", False),
        ("gzip", True),
        ("gzip, deflate", True),
        ("deflate,gzip", True),
        ("deflate", False),
        ("br, zstd", False),
        ("identity", False),
        ("GZip", True),
        (" gzip ;  Q=0.5 ", True),
        ("gzip;q=1.000", True),
        ("gzip;q=0.001", True),
        ("gzip;q=0", False),
        ("gzip;q=0.0", False),
        ("gzip;q=0.000, *", False),  # the more specific one wins
        ("*", True),
        ("*;q=0", False),
        ("*;q=0, gzip", True),
        ("x-gzip", True),
        ("gzip;q=", False),
        ("gzip;q=nonsense", False),
        ("gzip;q=nan", False),
        ("gzip;level=9", True),
        ("gzip;level=9;q=0", False),
        ("gzipped", False),
        (",,,gzip,,", True),
        (";q=1", False),
        ("identity;q=1, *;q=0", False),
    ],
)
def test_gzip_is_sent_where_it_is_welcome(field, welcome):
    # NEG-7, NEG-9, HTTP-11
    assert accepts_gzip(field) is welcome


@given(st.text(alphabet=st.characters(max_codepoint=255), max_size=60))
def test_no_field_is_an_error(field):
    # NEG-15
    assert accepts_gzip(field) in (True, False)
