"""D8: who owns a name."""

from __future__ import annotations

import pytest

from nora.registry.ownership import Owner, owner_of


@pytest.mark.parametrize("patterns", [(), ("team-tool",), ("*",)])
def test_what_was_never_published_here_is_the_upstreams(patterns):
    assert owner_of("team-tool", hosted=False, merge_upstream=patterns) is Owner.UPSTREAM


@pytest.mark.parametrize(
    ("patterns", "owner"),
    [
        ((), Owner.HOSTED),
        (("",), Owner.HOSTED),
        (("team",), Owner.HOSTED),
        (("other-*",), Owner.HOSTED),
        (("*-team",), Owner.HOSTED),
        (("team-tool",), Owner.BOTH),
        (("team-*",), Owner.BOTH),
        (("Team-*",), Owner.BOTH),
        (("other-*", "team-????"), Owner.BOTH),
        (("*",), Owner.BOTH),
    ],
)
def test_what_was_published_here_is_ours_unless_a_pattern_names_it_as_a_whole(patterns, owner):
    assert owner_of("team-tool", hosted=True, merge_upstream=patterns) is owner
