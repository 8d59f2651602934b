"""Who may publish from CI systems: ``[[auth.trusted_publishers]]``, which only the file can have."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

from nora.api import Right, url_problem
from nora.config.access import complain, is_names, read_patterns
from nora.config.checks import is_loopback
from nora.config.fields import shown
from nora.config.reader import Reader
from nora.config.settings import PublisherSettings, audience_problem
from nora.config.sources import dotted, unknown
from nora.rights import EVERYTHING, Grant

PUBLISHER_KEYS = ("issuer", "audience", "claims", "registries", "projects", "rights")
PUBLISHER_RIGHTS = (Right.READ.value, Right.WRITE.value)
OWN_CLAIMS = frozenset({"iss", "aud", "exp", "iat", "nbf", "jti"})
"""What is looked at anyway, and says nothing of whose identity it is."""
OWNERS = {
    # Not job_workflow_ref and ci_config_ref_uri: jobs of others may use somebody's workflow.
    "https://token.actions.githubusercontent.com": (
        "sub",
        "repository",
        "repository_id",
        "repository_owner",
        "repository_owner_id",
        "workflow_ref",
        "enterprise_id",
    ),
    "https://gitlab.com": ("sub", "project_path", "project_id", "namespace_path", "namespace_id"),
    "https://agent.buildkite.com": ("sub", "organization_slug", "organization_id"),
    "https://accounts.google.com": ("sub", "email"),
}
"""Issuers for all the world, and their claims that not everybody can have; the others each of their users can choose."""
OWNERLESS = frozenset({"", "repo:", "project_path:", "organization:"})
"""How such claims begin before they say whose they are."""
MAX_PATTERNS, MAX_CLAIMS, MAX_VALUES, MAX_TEXT = 100, 50, 100, 500


def read_publishers(reader: Reader, given: Any) -> tuple[PublisherSettings, ...]:
    """The publishers of the file. Problems go to ``reader``."""
    if not isinstance(given, Sequence) or isinstance(given, str) or not all(isinstance(each, Mapping) for each in given):
        complain(reader, "auth.trusted_publishers", "must be tables, each begun by [[auth.trusted_publishers]]")
        return ()
    found = [_publisher(reader, f"auth.trusted_publishers {number}", each) for number, each in enumerate(given, 1)]
    return tuple(publisher for publisher in found if publisher is not None)


def _publisher(reader: Reader, path: str, given: Mapping[str, Any]) -> PublisherSettings | None:
    before = len(reader.problems)
    for key in given:
        if key not in PUBLISHER_KEYS:
            complain(reader, f"{path}.{dotted(key)}", unknown("key", key, PUBLISHER_KEYS))
    issuer, audience = given.get("issuer"), given.get("audience", "")
    if problem := issuer_problem(issuer):
        complain(reader, f"{path}.issuer", problem)
    if not isinstance(audience, str) or (problem := audience_problem(audience)):
        complain(reader, f"{path}.audience", problem or "must be a text")
    for key, problem in _claim_problems(given.get("claims"), OWNERS.get(issuer, ()) if isinstance(issuer, str) else ()):
        complain(reader, f"{path}.{key}", problem)
    rights = given.get("rights", (Right.WRITE.value,))
    if not is_names(rights) or not rights:
        complain(reader, f"{path}.rights", f"must be a list of {', '.join(PUBLISHER_RIGHTS)}")
        rights = ()
    for right in rights:
        if right not in PUBLISHER_RIGHTS:
            complain(reader, f"{path}.rights", _right_problem(right))
    if "projects" not in given:
        complain(reader, f"{path}.projects", 'must be set: patterns of names, such as ["team-*"]; ["*"] is every project')
    patterns = {key: read_patterns(reader, path, key, given.get(key, EVERYTHING)) for key in ("registries", "projects")}
    for key, values in patterns.items():
        if len(values) > MAX_PATTERNS:
            complain(reader, f"{path}.{key}", f"must be at most {MAX_PATTERNS} patterns; use *, or another table")
    if len(reader.problems) > before:
        return None
    claims = {name: tuple(value) if isinstance(value, list) else (value,) for name, value in given["claims"].items()}
    grant = Grant(rights=frozenset(map(Right, rights)), **patterns)
    return PublisherSettings(issuer=str(issuer), audience=audience, claims=claims, grant=grant)


def issuer_problem(issuer: Any) -> str | None:
    """What is wrong with the address of an issuer, or ``None``.

    >>> issuer_problem("https://ci.example"), issuer_problem("http://127.0.0.1:8080")
    (None, None)
    >>> issuer_problem("http://ci.example")
    'must begin with https://; http:// is for this machine alone'
    """
    if not isinstance(issuer, str):
        return "must be the address of who signs identities, such as https://gitlab.example.com"
    if "@" in issuer:
        return "must not hold a user or password"
    if problem := url_problem(issuer):
        return problem
    parts = urlsplit(issuer)
    if parts.scheme != "https" and not is_loopback(parts.hostname or ""):
        return "must begin with https://; http:// is for this machine alone"
    return None


def _claim_problems(claims: Any, owners: Sequence[str]) -> Iterator[tuple[str, str]]:
    if not isinstance(claims, Mapping) or not claims:
        yield "claims", 'must be a table of what identities must say, such as { repository = "acme/demo" }'
        return
    if len(claims) > MAX_CLAIMS:
        yield "claims", f"must be at most {MAX_CLAIMS}"
    wrong = False
    for name, value in claims.items():
        values = value if isinstance(value, list) else [value]
        if name in OWN_CLAIMS:
            problem = "is looked at in every identity; there are keys for issuer and audience"
        elif not (0 < len(values) <= MAX_VALUES and all(map(_is_value, values))):
            problem = "must be a text, a whole number, true or false, or a list of these"
        else:
            continue
        wrong = True
        yield f"claims.{dotted(name)}", problem
    if wrong:
        return
    given = {name: value if isinstance(value, list) else [value] for name, value in claims.items()}
    if not any(all(map(_tells, values)) for values in given.values()):
        yield "claims", "must have a text that is not only *: else everybody whom this issuer knows could publish"
    elif owners and not any(all(map(_owns, given.get(name, ("",)))) for name in owners):
        names = ", ".join(owners)
        yield (
            "claims",
            f"must say whose the job is, by one of {names}, not beginning with *: the others everybody can choose there",
        )


def _is_value(value: Any) -> bool:
    return isinstance(value, bool | int) or (isinstance(value, str) and 0 < len(value) <= MAX_TEXT)


def _tells(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip("*"))


def _owns(value: Any) -> bool:
    return isinstance(value, str) and value.partition("*")[0] not in OWNERLESS


def _right_problem(right: str) -> str:
    if right == Right.ADMIN.value:
        return "admin is not for programs that publish; give it to users, by auth.rules"
    return f"{shown(right)}: {unknown('right', right, PUBLISHER_RIGHTS)}"
