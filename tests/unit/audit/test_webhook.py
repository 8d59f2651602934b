"""Which entries a webhook gets, how they are signed, and how long is waited."""

from __future__ import annotations

import pytest

from nora.audit.entry import Entry
from nora.audit.webhook import MAX_WAIT_SECONDS, MIN_WAIT_SECONDS, Webhook, asked_seconds, signed_headers, wait_seconds

AT = "2026-11-28T12:00:00.000000Z"


def wants(action: str, registry: str = "", project: str = "", **which: object) -> bool:
    webhook = Webhook(name="chat", url="https://hooks.example/", key=b"k" * 24, **which)  # type: ignore[arg-type]
    return webhook.wants(Entry(at=AT, action=action, registry=registry, project=project))


def test_a_delivery_is_signed_as_standard_webhooks_has_it():
    body = b'{"at":"2026-11-28T12:00:00.000000Z","action":"publish"}'
    headers = signed_headers(bytes(range(32)), "msg_00112233445566778899aabbccddeeff", 1_795_867_200, body)
    assert headers == {
        "content-type": "application/json",
        "webhook-id": "msg_00112233445566778899aabbccddeeff",
        "webhook-timestamp": "1795867200",
        # Base64 of HMAC-SHA256 over "<id>.<timestamp>.<body>", computed by other means.
        "webhook-signature": "v1,5gLlY78AcFvYpUwX75Zohoq7JUnIJ0cLslZwsCdKcPk=",
    }


def test_without_a_choice_everything_is_sent():
    assert wants("publish", "pypi", "demo")
    assert wants("login-failed")
    assert wants("something-new", "pypi", "demo")


def test_entries_are_chosen_by_action_registry_and_project():
    assert wants("publish", "pypi", "demo", actions=frozenset({"publish"}))
    assert not wants("yank", "pypi", "demo", actions=frozenset({"publish"}))
    assert wants("yank", "team-a", "demo", registries=("team-*",))
    assert not wants("yank", "pypi", "demo", registries=("team-*",))
    assert wants("yank", "pypi", "demo", projects=("d*o",))
    assert not wants("yank", "pypi", "other", projects=("d*o",))


def test_an_entry_of_no_project_is_not_for_who_wants_some_projects():
    assert not wants("login-failed", projects=("demo",))
    assert not wants("token-create", registries=("pypi",))


def test_that_entries_are_missing_is_for_everybody():
    assert wants("dropped", actions=frozenset({"publish"}), registries=("pypi",), projects=("demo",))


def test_neither_address_nor_key_is_shown():
    shown = repr(Webhook(name="chat", url="https://hooks.example/T0/secret", key=b"confidential-confidential"))
    assert "secret" not in shown
    assert "confidential" not in shown


def test_waits_grow_and_are_bounded():
    for tries in range(1, 5000):
        assert MIN_WAIT_SECONDS <= wait_seconds(tries, 0.0) <= wait_seconds(tries, 1.0) <= MAX_WAIT_SECONDS
    assert wait_seconds(1, 0.0) < wait_seconds(3, 0.0) < wait_seconds(9, 0.0)


@pytest.mark.parametrize(
    ("field", "seconds"),
    [
        ("120", 120.0),
        (" 7 ", 7.0),
        ("", 0.0),
        ("-1", 0.0),
        ("1.5", 0.0),
        ("9" * 400, 999999999.0),
        ("Sat, 28 Nov 2026 12:00:30 GMT", 30.0),
        ("Sat, 28 Nov 2026 11:00:00 GMT", 0.0),
        ("Sat, 99 Nov 2026 12:00:30 GMT", 0.0),
        ("x" * 10000, 0.0),
        ("\u0663", 0.0),
    ],
)
def test_retry_after_is_read_in_both_forms(field, seconds):
    assert asked_seconds(field, 1_795_867_200.0) == seconds
    assert wait_seconds(1, 0.0, seconds) <= 3600
