"""Trusted publishers: who they are, and every way to write them wrongly."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from nora.api import Right
from nora.config.settings import Settings

AUTH = '[auth]\nenabled = true\noidc_audience = "nora"\n'
LINES = {
    "issuer": 'issuer = "https://ci.example"',
    "claims": 'claims = { repository = "acme/demo" }',
    "projects": 'projects = ["demo"]',
}
PUBLISHER = "\n".join(["[[auth.trusted_publishers]]", *LINES.values()])


@pytest.fixture(autouse=True)
def users(tmp_path) -> None:
    (tmp_path / "users.htpasswd").touch()


def test_a_publisher_may_write_its_projects(configure: Callable[..., Settings]) -> None:
    settings = configure(AUTH + PUBLISHER)
    (publisher,) = settings.publishers
    assert (publisher.issuer, publisher.audience) == ("https://ci.example", "")
    assert publisher.claims == {"repository": ("acme/demo",)}
    assert publisher.grant.rights == {Right.WRITE}
    assert (publisher.grant.registries, publisher.grant.projects) == (("*",), ("demo",))
    assert settings.warnings == ()


def test_a_publisher_says_more(configure: Callable[..., Settings]) -> None:
    toml = """
    [[auth.trusted_publishers]]
    issuer = "http://127.0.0.1:8080/ci"
    audience = "other"
    registries = ["pypi", "team-*"]
    projects = ["team-*"]
    rights = ["read", "write"]
    [auth.trusted_publishers.claims]
    project_path = ["team/*", "team-b/demo"]
    "https://ci.example/kind" = "release"
    project_id = [1, 2]
    ref_protected = true
    """
    (publisher,) = configure(AUTH + toml).publishers
    assert publisher.audience == "other"
    assert publisher.claims == {
        "project_path": ("team/*", "team-b/demo"),
        "https://ci.example/kind": ("release",),
        "project_id": (1, 2),
        "ref_protected": (True,),
    }
    assert publisher.grant.rights == {Right.READ, Right.WRITE}
    assert publisher.grant.registries == ("pypi", "team-*")


def test_without_publishers_there_are_none(configure: Callable[..., Settings]) -> None:
    assert configure().publishers == ()
    assert configure("[auth]\nanonymous_read = true").publishers == ()


def test_publishers_without_logins_are_warned_of(configure: Callable[..., Settings]) -> None:
    (warning,) = configure(PUBLISHER, NORA_AUTH_OIDC_AUDIENCE="nora").warnings
    assert warning == "auth.trusted_publishers: mean nothing as long as nobody has to log in; set auth.enabled = true"


def test_an_audience_has_to_be_set_somewhere(configure: Callable[..., Settings], problems: Callable[..., list[str]]) -> None:
    (problem,) = problems("[auth]\nenabled = true\n" + PUBLISHER)
    assert problem == (
        "auth.oidc_audience: must be set when there are auth.trusted_publishers, or server.public_url, which is used then: a text that "
        "no other server uses, such as this one's address"
    )
    public = '[server]\npublic_url = "https://registry.example/"\n[auth]\nenabled = true\n'
    assert configure(public + PUBLISHER).server.public_url == "https://registry.example"
    assert configure("[auth]\nenabled = true\n").auth.oidc_audience == ""


@pytest.mark.parametrize("audience", ["a b", "a\\u0007", "x" * 201])
def test_an_audience_is_a_word(problems: Callable[..., list[str]], audience: str) -> None:
    (problem,) = problems(f'[auth]\noidc_audience = "{audience}"')
    assert "auth.oidc_audience: must be 1 to 200 printable characters" in problem


@pytest.mark.parametrize("value", ["1", '["x"]', '"x"', "{ a = 1 }"])
def test_publishers_are_tables(problems: Callable[..., list[str]], value: str) -> None:
    found = problems(f"auth.trusted_publishers = {value}")
    assert found == ["config.toml: auth.trusted_publishers: must be tables, each begun by [[auth.trusted_publishers]]"]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("issuer = 1", "issuer: must be the address of who signs identities"),
        ('issuer = "ci.example"', "issuer: 'ci.example' is not an http:// or https:// URL"),
        ('issuer = "http://ci.example"', "issuer: must begin with https://; http:// is for this machine alone"),
        ('issuer = "http://10.0.0.1"', "issuer: must begin with https://"),
        ('issuer = "https://ada:pw@ci.example"', "issuer: must not hold a user or password"),
        ('issuer = "https://ci.example?x=1"', "issuer: 'https://ci.example?x=1' must not have a query"),
        ("audience = 1", "audience: must be a text"),
        ('audience = "a b"', "audience: must be 1 to 200 printable characters"),
        ("claims = {}", "claims: must be a table of what identities must say"),
        ('claims = "acme/demo"', "claims: must be a table of what identities must say"),
        (
            'claims = { repository = "" }',
            "claims.repository: must be a text, a whole number, true or false, or a list of these",
        ),
        ("claims = { repository = [] }", "claims.repository: must be a text, a whole number"),
        ("claims = { repository = 1.5 }", "claims.repository: must be a text, a whole number"),
        ("claims = { repository = { a = 1 } }", "claims.repository: must be a text, a whole number"),
        ("claims = { repository = 2026-11-28 }", "claims.repository: must be a text, a whole number"),
        ('claims = { aud = "x" }', "claims.aud: is looked at in every identity; there are keys for issuer and audience"),
        ('claims = { iss = "https://ci.example" }', "claims.iss: is looked at in every identity"),
        ("projects = []", "projects: must be a list of patterns of names"),
        ('projects = ["Team A"]', "projects: 'Team A' is no pattern of names"),
        ('registries = "pypi"', "registries: must be a list of patterns of names"),
        (f"registries = {['a'] * 101}", "registries: must be at most 100 patterns"),
        ("rights = []", "rights: must be a list of read, write"),
        ('rights = ["wright"]', "rights: 'wright': unknown right; did you mean write?"),
        ('rights = ["write", "admin"]', "rights: admin is not for programs that publish; give it to users, by auth.rules"),
        ('claim = "x"', "claim: unknown key; did you mean claims?"),
    ],
)
def test_a_wrong_publisher_is_told_with_what_is_wrong(problems: Callable[..., list[str]], line: str, expected: str) -> None:
    key = line.partition(" ")[0]
    lines = [text for name, text in LINES.items() if name != key]
    (problem,) = problems(AUTH + "\n".join(["[[auth.trusted_publishers]]", *lines, line]))
    assert problem.startswith(f"config.toml: auth.trusted_publishers 1.{expected}")


@pytest.mark.parametrize(
    "claims",
    [
        '{ repository = "*" }',
        '{ repository = "***", ref = "*" }',
        '{ repository = ["acme/demo", "*"] }',
        '{ repository = ["acme/demo", 1] }',
        "{ ref_protected = true, project_id = 1 }",
    ],
)
def test_a_publisher_that_anybody_could_be_is_refused(problems: Callable[..., list[str]], claims: str) -> None:
    lines = [LINES["issuer"], f"claims = {claims}", LINES["projects"]]
    assert problems(AUTH + "\n".join(["[[auth.trusted_publishers]]", *lines])) == [
        "config.toml: auth.trusted_publishers 1.claims: must have a text that is not only *: else everybody whom this issuer knows "
        "could publish"
    ]


GITHUB, GITLAB = "https://token.actions.githubusercontent.com", "https://gitlab.com"


@pytest.mark.parametrize(
    ("issuer", "claims"),
    [
        (GITHUB, '{ environment = "release" }'),
        (GITHUB, '{ repository = "*/demo" }'),
        (GITHUB, '{ repository = ["acme/demo", "*/demo"] }'),
        (GITHUB, '{ sub = "repo:*:environment:release" }'),
        (GITHUB, '{ job_workflow_ref = "acme/demo/.github/workflows/publish.yml@*" }'),
        (GITLAB, '{ ref_protected = "true", ref = "main" }'),
        (GITLAB, '{ sub = "project_path:*:ref_type:tag:ref:v1" }'),
        ("https://accounts.google.com", '{ hd = "example.com" }'),
    ],
)
def test_at_an_issuer_for_all_the_world_it_must_be_said_whose_a_job_is(
    problems: Callable[..., list[str]], issuer: str, claims: str
) -> None:
    lines = [f'issuer = "{issuer}"', f"claims = {claims}", LINES["projects"]]
    (problem,) = problems(AUTH + "\n".join(["[[auth.trusted_publishers]]", *lines]))
    assert problem.startswith("config.toml: auth.trusted_publishers 1.claims: must say whose the job is, by one of sub, ")
    assert problem.endswith(", not beginning with *: the others everybody can choose there")


@pytest.mark.parametrize(
    ("issuer", "claims"),
    [
        (GITHUB, '{ repository = "acme/*" }'),
        (GITHUB, '{ repository_id = "123", environment = "*" }'),
        (GITHUB, '{ sub = "repo:acme/demo:*" }'),
        (GITHUB, '{ workflow_ref = "acme/demo/.github/workflows/publish.yml@*" }'),
        (GITLAB, '{ namespace_path = "acme", ref_protected = "true" }'),
        ("https://ci.example", '{ environment = "release" }'),
    ],
)
def test_whose_a_job_is_can_be_said_in_many_ways(configure: Callable[..., Settings], issuer: str, claims: str) -> None:
    lines = [f'issuer = "{issuer}"', f"claims = {claims}", LINES["projects"]]
    assert configure(AUTH + "\n".join(["[[auth.trusted_publishers]]", *lines])).publishers


@pytest.mark.parametrize("missing", LINES)
def test_what_is_missing_is_told(problems: Callable[..., list[str]], missing: str) -> None:
    lines = [text for name, text in LINES.items() if name != missing]
    (problem,) = problems(AUTH + "\n".join(["[[auth.trusted_publishers]]", *lines]))
    assert problem.startswith(f"config.toml: auth.trusted_publishers 1.{missing}: must be ")


def test_all_problems_of_all_publishers_are_told_at_once(problems: Callable[..., list[str]]) -> None:
    found = problems(AUTH + '[[auth.trusted_publishers]]\n[[auth.trusted_publishers]]\nissuer = "x"\n')
    assert [problem.split(":")[1] for problem in found] == [
        f" auth.trusted_publishers {number}.{key}" for number in (1, 2) for key in ("issuer", "claims", "projects")
    ]


def test_no_registry_is_at_the_addresses_of_trusted_publishing(problems: Callable[..., list[str]]) -> None:
    (problem,) = problems('[registries.team-a]\nformat = "raw"\npath = "/_/"')
    assert problem == "config.toml: registries.team-a.path: /_/ is a path that Nora needs itself"


OPERATIONS = (Path(__file__).parents[3] / "docs/operations.md").read_text()
EXAMPLES = re.findall(r"^```toml\n(\[\[auth\.trusted_publishers\]\]\n.*?)^```", OPERATIONS, re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("example", EXAMPLES)
def test_the_examples_for_operators_work(configure: Callable[..., Settings], example: str) -> None:
    (publisher,) = configure(AUTH + example).publishers
    assert publisher.grant.projects == ("demo",)


def test_there_are_examples_for_operators() -> None:
    assert len(EXAMPLES) == 2
