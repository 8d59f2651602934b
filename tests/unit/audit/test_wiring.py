"""What the host tells the audit log of logins."""

from __future__ import annotations

import base64

import pytest

from nora.api import Actor, Right, TooManyRequests, Unauthorized
from nora.auth.access import Access, Rules
from nora.auth.record import new_text, token_id


class Alice:
    """Knows one user."""

    async def authenticate(self, username: str, password: str) -> Actor | None:
        return Actor(name="alice") if (username, password) == ("alice", "right") else None


class NoTokens:
    """There is none."""

    def is_token(self, text: str) -> bool:
        return token_id(text) is not None

    async def verify(self, text: str) -> None:
        return None

    def standing(self, text: str) -> None:
        return None


def basic(user: str, password: str) -> str:
    return f"Basic {base64.b64encode(f'{user}:{password}'.encode()).decode()}"


async def test_logins_that_are_refused_are_told_without_what_was_guessed():
    told: list[tuple[str, ...]] = []
    access = Access(True, Rules(), (Alice(),), NoTokens(), told=lambda *what: told.append(what))

    async def ask(authorization: str | None) -> None:
        await access.authorize(authorization, Right.READ, "pypi", "192.0.2.1")

    await ask(basic("alice", "right"))
    with pytest.raises(Unauthorized):
        await ask(None)
    assert told == [], "who does not try has not failed"
    text = new_text()
    with pytest.raises(Unauthorized):
        await ask(f"Bearer {text}")
    assert told.pop() == ("login-failed", "", "192.0.2.1", token_id(text))
    with pytest.raises(Unauthorized):
        await ask(basic("bob", "guess"))
    assert told == [("login-failed", "bob", "192.0.2.1", "")]
    for _ in range(20):
        with pytest.raises((Unauthorized, TooManyRequests)):
            await ask(basic("bob", "guess"))
    assert told[-1] == ("login-limited", "bob", "192.0.2.1", "")
    assert not any("guess" in word for what in told for word in what)
