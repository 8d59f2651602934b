"""How many failed logins are told one by one."""

from __future__ import annotations

from nora.audit.entry import Entry
from nora.audit.flood import IN_ALL, MAX_WINDOW_SECONDS, PER_ADDRESS, WINDOW_SECONDS, Flood


def failed(address: str = "192.0.2.1", actor: str = "alice", at: str = "1", action: str = "login-failed") -> Entry:
    return Entry(at=at, action=action, actor=actor, address=address, request_id=f"r{at}")


def test_few_are_told_and_the_rest_is_one_entry():
    flood = Flood()
    assert [flood.admits(failed(at=str(number)), 0.5) for number in range(100)] == [True] * PER_ADDRESS + [False] * (
        100 - PER_ADDRESS
    )
    assert list(flood.ended(0.5 + WINDOW_SECONDS - 0.01)) == []
    assert flood.due == 0.5 + WINDOW_SECONDS
    (rest,) = flood.ended(0.5 + WINDOW_SECONDS)
    assert rest == Entry(at="99", action="login-failed", actor="alice", address="192.0.2.1", count=100 - PER_ADDRESS)
    assert flood.due is None


def test_what_is_counted_together_keeps_what_is_common():
    flood = Flood()
    for number in range(PER_ADDRESS + 2):
        flood.admits(failed(actor=f"user{number}"), 0)
    (rest,) = flood.ended(10)
    assert (rest.actor, rest.address, rest.count) == ("", "192.0.2.1", 2)


def test_addresses_and_actions_are_counted_apart():
    flood = Flood()
    for address in ("192.0.2.1", "192.0.2.2"):
        for action in ("login-failed", "login-limited"):
            assert [flood.admits(failed(address, action=action), 0) for _ in range(PER_ADDRESS + 1)] == [True] * PER_ADDRESS + [
                False
            ]
    assert {(rest.address, rest.action, rest.count) for rest in flood.ended(10)} == {
        (address, action, 1) for address in ("192.0.2.1", "192.0.2.2") for action in ("login-failed", "login-limited")
    }


def test_a_flood_of_addresses_is_one_entry_and_takes_no_memory():
    flood = Flood()
    told = sum(flood.admits(failed(f"2001:db8::{number:x}"), 0) for number in range(10_000))
    assert told == IN_ALL
    assert len(flood._counted) == IN_ALL + 1
    (rest,) = flood.ended(10)
    assert (rest.address, rest.count) == ("", 10_000 - IN_ALL)


def test_windows_grow_while_it_lasts_and_are_short_again_after_quiet():
    flood, now, lengths = Flood(), 0.0, []
    for _ in range(9):
        for _ in range(PER_ADDRESS + 1):
            flood.admits(failed(), now)
        lengths.append(flood.due - now)
        now = flood.due
        assert len(list(flood.ended(now))) == 1
    assert lengths == [1, 2, 4, 8, 16, 32, 60, 60, MAX_WINDOW_SECONDS]
    flood.admits(failed(), now + 60)
    assert flood.due == now + 61


def test_an_end_at_once_tells_the_rest():
    flood = Flood()
    assert list(flood.ended(0, at_once=True)) == []
    for _ in range(PER_ADDRESS + 3):
        flood.admits(failed(), 0)
    assert [rest.count for rest in flood.ended(0, at_once=True)] == [3]
    assert list(flood.ended(100, at_once=True)) == []
