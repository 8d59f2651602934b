"""What the property tests of several modules are made of."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from hypothesis import strategies as st

from nora_pypi.names import is_distribution, is_safe_filename

LONGEST_SECONDS = 5
"""Cases take milliseconds; only what takes time out of proportion to its size takes so long."""

texts = st.text(max_size=12)
spellings = st.from_regex(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,12}[A-Za-z0-9])?", fullmatch=True)
versions = st.builds(
    lambda epoch, release, more, local: f"{epoch}{'.'.join(map(str, release))}{more}{local}",
    st.sampled_from(["", "", "1!"]),
    st.lists(st.integers(0, 2024), min_size=1, max_size=4),
    st.sampled_from(["", "", "a1", "rc2", ".post1", ".dev0", "b3.post4.dev5"]),
    st.sampled_from(["", "", "+cu124", "+g1a2b.d20240102"]),
)
odd_names = st.builds(
    lambda stem, suffix: stem + suffix, st.text(max_size=20), st.sampled_from([".whl", ".tar.gz", ".zip", ".egg"])
).filter(lambda name: is_distribution(name) and is_safe_filename(name))
"""Names that a listing may hold, whatever they mean."""


@contextmanager
def bounded_time() -> Iterator[None]:
    """Fails when what is done within takes too long."""
    begun = time.process_time()
    yield
    assert time.process_time() - begun < LONGEST_SECONDS


def check_refusal(error: Exception) -> None:
    """Every refusal is one short line (UP-12)."""
    assert str(error).isprintable()
    assert len(str(error)) < 2000


def changed(draw: st.DrawFn, body: bytes, fragments: Sequence[bytes]) -> bytes:
    """The body with a few places replaced, cut out, moved or repeated, and sometimes its end missing."""
    result = bytearray(body)
    for _ in range(draw(st.integers(1, 5))):
        start = draw(st.integers(0, len(result)))
        stop = min(len(result), start + draw(st.sampled_from([0, 1, 2, 8, 100, 1000])))
        way = draw(st.sampled_from(["any", "fragment", "repeat", "move"]))
        if way == "any":
            piece = draw(st.binary(max_size=4))
        elif way == "fragment":
            piece = draw(st.sampled_from(fragments))
        elif way == "repeat":
            piece = bytes(result[start:stop])[:200] * draw(st.integers(2, 50))
        else:
            other = draw(st.integers(0, len(result)))
            piece = bytes(result[other : other + stop - start])
        result[start:stop] = piece
    return bytes(result[: draw(st.integers(0, len(result)))] if draw(st.integers(0, 9)) == 0 else result)
