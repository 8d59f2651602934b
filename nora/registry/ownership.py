"""Who owns a name. One pure decision that serves listing, file and sidecar alike."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from fnmatch import fnmatchcase


class Owner(enum.Enum):
    """Where a project's files may come from."""

    HOSTED = "hosted"
    UPSTREAM = "upstream"
    BOTH = "both"


def owner_of(project: str, *, hosted: bool, merge_upstream: Sequence[str]) -> Owner:
    """Decide. ``hosted``: something was ever published here under this name.

    The first origin of a name owns it, so that nobody can add files to a private project by publishing its name elsewhere.

    >>> owner_of("team-tool", hosted=True, merge_upstream=())
    <Owner.HOSTED: 'hosted'>
    >>> owner_of("team-tool", hosted=True, merge_upstream=("team-*",))
    <Owner.BOTH: 'both'>
    """
    if not hosted:
        return Owner.UPSTREAM
    if any(fnmatchcase(project, pattern.lower()) for pattern in merge_upstream):
        return Owner.BOTH
    return Owner.HOSTED
