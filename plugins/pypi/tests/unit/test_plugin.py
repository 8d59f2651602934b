"""The format as the host sees it."""

from __future__ import annotations

import pytest

from nora.api import Document
from nora_pypi.plugin import PyPI, PyPIConfig


def test_patterns_of_names_are_written_as_people_write_names() -> None:
    # NAME-2
    config = PyPIConfig(merge_upstream=("My.Tool", "team__*", "x-[ab]"))
    assert config.merge_upstream == ("my-tool", "team-*", "x-[ab]")
    assert list(config.problems()) == []


@pytest.mark.parametrize(
    ("one", "other"), [("1.0", "1.0.0"), ("v1.0-RC.1", "1rc1"), ("1.0-1", "1.0.post1"), ("2004d", "2004d"), ("", "")]
)
def test_versions_are_one_by_pep_440(one: str, other: str) -> None:
    # PEP440-2
    assert PyPI().version_key(one) == PyPI().version_key(other)


def test_other_versions_are_others() -> None:
    keys = [
        PyPI().version_key(version) for version in ("1.0", "1.0+cpu", "1!1.0", "1.0rc1", "1.0.post1", "1.0.dev1", "2004d", "")
    ]
    assert len(set(keys)) == len(keys)


@pytest.mark.parametrize(("text", "name"), [("My__Tool", "my-tool"), ("x", "x"), ("-", None), ("", None), ("a/b", None)])
def test_project_names_are_normalized_or_none(text: str, name: str | None) -> None:
    assert PyPI().project_name(text) == name


@pytest.mark.parametrize(
    ("stated", "serial"),
    [("123", 123), ('"123"', 123), ("0", 0), ("-1", 0), ('"x"', 0), ("null", 0), ("1.5", 0), ("[]", 0), ("9" * 30, 0)],
)
def test_an_upstreams_serial_is_taken_if_it_is_one(stated: str, serial: int) -> None:
    # API-7
    body = f'{{"meta": {{"api-version": "1.1", "_last-serial": {stated}}}, "name": "x", "files": []}}'.encode()
    document = Document(url="https://index.example/x/", content_type="application/vnd.pypi.simple.v1+json", body=body)
    assert PyPI().parse_listing("x", document).serial == serial
