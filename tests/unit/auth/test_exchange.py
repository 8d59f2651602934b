"""The exchange of identities for tokens: for whom, for what, and once."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from nora.api import Right, StorageFull, TooManyRequests, UpstreamUnavailable
from nora.auth.access import Access, Rules
from nora.auth.exchange import Exchange, actor_name
from nora.auth.issuers import IssuerKeys
from nora.auth.limits import ADDRESS_BURST, LoginLimits
from nora.auth.publishers import Refused, TrustedPublisher
from nora.auth.tokens import Tokens
from nora.rights import ALL, Grant
from nora.store.directory import DirectoryStore
from nora.tasks import Tasks
from nora.testing import FakeClock
from tests.issuer import AUDIENCE, ScriptedIssuer

ISSUER, OTHER = "https://ci.example", "https://other.example"
HERE = "192.0.2.1"


def grant(*projects: str, rights: frozenset[Right] = frozenset({Right.WRITE})) -> Grant:
    return Grant(rights=rights, projects=projects)


PUBLISHERS = (
    TrustedPublisher(ISSUER, AUDIENCE, {"repository": ("acme/demo",)}, grant("demo")),
    TrustedPublisher(ISSUER, AUDIENCE, {"repository": ("acme/*",), "environment": ("release",)}, grant("acme-*", "demo")),
    TrustedPublisher(ISSUER, "own", {"repository": ("acme/own",)}, grant("own")),
    TrustedPublisher(OTHER, AUDIENCE, {"repository": ("acme/demo", "evil/demo")}, grant("elsewhere")),
)


class Issuers:
    """Two issuers with keys of the same names, and what is asked of them."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.down = False

    async def __call__(self, issuer: str, url: str) -> bytes:
        self.asked.append(url)
        if self.down:
            raise UpstreamUnavailable(url, "cannot be reached")
        if url.endswith("configuration"):
            return json.dumps({"issuer": issuer, "jwks_uri": f"{issuer}/keys"}).encode()
        made = ScriptedIssuer()
        if issuer == OTHER:
            made.rotate("first", "theirs")
            made.keys["first"] = {**made.keys["theirs"], "kid": "first"}
        return json.dumps({"keys": list(made.keys.values())}).encode()


class Site:
    """One process: an exchange, what it tells, and who gets in with its tokens."""

    def __init__(self, store: DirectoryStore, tasks: Tasks, clock: FakeClock) -> None:
        self.told: list[tuple[str, ...]] = []
        self.issuers = Issuers()
        self.limits = LoginLimits(clock=clock)
        self.tokens = Tokens(store, tasks, clock=clock)
        keys = IssuerKeys(self.issuers, tasks, clock=clock)
        self.exchange = Exchange(
            AUDIENCE, PUBLISHERS, keys, self.tokens, store, limits=self.limits, told=lambda *said: self.told.append(said)
        )
        self.rules = Rules([(frozenset({"@users"}), Grant(rights=frozenset(Right)))], ["*"])
        self.access = Access(True, self.rules, (), self.tokens)

    async def refused(self, text: str | None, client: str = HERE) -> str:
        with pytest.raises(Refused) as caught:
            await self.exchange.mint(text, client)
        return caught.value.code


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock(1_800_000_000.0)


@pytest.fixture
def site(store: DirectoryStore, tasks: Tasks, clock: FakeClock) -> Site:
    return Site(store, tasks, clock)


@pytest.fixture
def issuer(clock: FakeClock) -> ScriptedIssuer:
    made = ScriptedIssuer()
    made.url = ISSUER
    return made


@pytest.fixture
async def second_site(tmp_path: Any, tasks: Tasks, clock: FakeClock, store: DirectoryStore) -> AsyncIterator[Site]:
    opened = DirectoryStore.open(tmp_path / "store")
    yield Site(opened, tasks, clock)
    await opened.aclose()


def identity(issuer: ScriptedIssuer, **changes: Any) -> str:
    """One that is true by the clock of these tests."""
    at = 1_800_000_000
    return issuer.identity(**{"iat": at, "nbf": at, "exp": at + 300, **changes})


async def test_an_identity_gets_what_all_of_its_publishers_may(site: Site, issuer: ScriptedIssuer, clock: FakeClock) -> None:
    minted = await site.exchange.mint(identity(issuer), HERE)
    assert minted.expires == clock() + 900
    assert (minted.token.user, minted.token.issuer) == ("oidc:repo:acme/demo:ref:refs/heads/main", ISSUER)
    login = await site.access.authorize(f"Bearer {minted.text}", Right.WRITE, "pypi", HERE)
    assert login.actor.name == minted.token.user
    assert [login.grants.allows(Right.WRITE, "pypi", name) for name in ("demo", "acme-x", "own", "elsewhere", "numpy")] == [
        True,
        True,
        False,
        False,
        False,
    ]
    # Neither what all users may nor what everybody may.
    assert not login.grants.allows(Right.READ, "pypi", "demo")
    assert not login.grants.allows_some(Right.ADMIN, None)
    assert site.told == []


async def test_rules_for_users_neither_restrict_nor_extend_it(site: Site, issuer: ScriptedIssuer) -> None:
    minted = await site.exchange.mint(identity(issuer))
    for rules in (Rules(), Rules([(frozenset({"someone"}), Grant(rights=frozenset({Right.READ})))])):
        access = Access(True, rules, (), site.tokens)
        login = await access.authorize(f"Bearer {minted.text}", Right.WRITE, "pypi", HERE)
        assert login.grants.allows(Right.WRITE, "pypi", "demo")
        assert not login.grants.allows(Right.READ, "pypi", "demo")


async def test_a_users_token_is_as_before(site: Site) -> None:
    text, token = await site.tokens.create("oidc:somebody", note="", limits=(grant("demo"),), expires="")
    assert token.issuer == ""
    access = Access(True, Rules([(frozenset({"other"}), Grant(rights=frozenset(Right)))]), (), site.tokens)
    with pytest.raises(Exception, match="has no right"):
        await access.authorize(f"Bearer {text}", Right.WRITE, "pypi", HERE)
    assert Rules().of("x") is ALL


async def test_a_token_is_over_after_a_quarter_of_an_hour(site: Site, issuer: ScriptedIssuer, clock: FakeClock) -> None:
    minted = await site.exchange.mint(identity(issuer))
    clock.advance(899)
    assert await site.tokens.verify(minted.text) is not None
    clock.advance(1)
    assert await site.tokens.verify(minted.text) is None


async def test_claims_of_one_publisher_do_not_count_for_another(site: Site, issuer: ScriptedIssuer) -> None:
    minted = await site.exchange.mint(identity(issuer, environment="test"))
    assert [each.projects for each in minted.token.limits] == [("demo",)]
    minted = await site.exchange.mint(identity(issuer, repository="acme/x"))
    assert [each.projects for each in minted.token.limits] == [("acme-*", "demo")]


@pytest.mark.parametrize("changes", [{"repository": "evil/demo"}, {"repository": None}, {"repository": ["acme/demo"]}])
async def test_whom_no_publisher_means_gets_nothing(site: Site, issuer: ScriptedIssuer, changes: dict[str, Any]) -> None:
    assert await site.refused(identity(issuer, **changes)) == "invalid-publisher"
    ((action, actor, address, token, reason),) = site.told
    assert (action, actor, address, token) == ("login-failed", "oidc:repo:acme/demo:ref:refs/heads/main", HERE, "")
    assert reason.endswith("(the nearest differs in repository)")


async def test_an_issuer_vouches_for_its_own_only(site: Site, issuer: ScriptedIssuer) -> None:
    # Signed by the key that the other one calls the same, too.
    assert await site.refused(identity(issuer, iss=OTHER)) == "invalid-token"
    issuer.url = OTHER
    minted = await site.exchange.mint(identity(issuer, key="theirs"))
    assert [each.projects for each in minted.token.limits] == [("elsewhere",)]
    issuer.url = ISSUER
    assert await site.refused(identity(issuer, key="theirs", kid="first")) == "invalid-token"


async def test_issuers_that_are_not_configured_are_never_asked(site: Site, issuer: ScriptedIssuer) -> None:
    for url in (f"{ISSUER}/", f"{ISSUER}.evil.example", ISSUER.upper(), "http://169.254.169.254", "file:///etc/passwd", ""):
        issuer.url = url
        assert await site.refused(identity(issuer), f"198.51.100.{len(url)}") == "invalid-publisher"
    assert site.issuers.asked == []


async def test_an_audience_is_the_publishers_or_the_usual_one(site: Site, issuer: ScriptedIssuer) -> None:
    for audience in ("other", ["other"], AUDIENCE + "/", AUDIENCE.upper()):
        assert await site.refused(identity(issuer, aud=audience)) == "invalid-token"
    assert AUDIENCE in site.told[0][-1]
    assert (await site.exchange.mint(identity(issuer, aud=["other", AUDIENCE]))).token
    assert (await site.exchange.mint(identity(issuer, aud="own", repository="acme/own"))).token
    # A publisher's own audience counts for itself alone, and instead of the usual one.
    assert await site.refused(identity(issuer, aud="own")) == "invalid-publisher"
    assert await site.refused(identity(issuer, repository="acme/own", environment="x")) == "invalid-publisher"


async def test_an_identity_is_good_for_one_token(site: Site, issuer: ScriptedIssuer, clock: FakeClock) -> None:
    text = identity(issuer)
    await site.exchange.mint(text)
    assert await site.refused(text) == "invalid-reuse-token"
    assert len(await site.tokens.all()) == 1
    clock.advance(299)
    assert await site.refused(text) == "invalid-reuse-token"
    clock.advance(31)
    assert await site.refused(text) == "invalid-token"  # expired


async def test_of_many_at_once_in_two_processes_one_gets_a_token(site: Site, second_site: Site, issuer: ScriptedIssuer) -> None:
    text = identity(issuer, jti=None)
    sites = [site, second_site] * 4
    done = await asyncio.gather(*(each.exchange.mint(text) for each in sites), return_exceptions=True)
    assert sum(not isinstance(each, Refused) for each in done) == 1
    assert len(await site.tokens.all()) == 1


async def test_what_is_refused_is_not_used_up(site: Site, issuer: ScriptedIssuer, clock: FakeClock) -> None:
    text = identity(issuer, nbf=1_800_000_100)
    assert await site.refused(text) == "invalid-token"
    clock.advance(100)
    assert await site.exchange.mint(text)


async def test_an_issuer_that_is_down_uses_nothing_up_and_is_nobodys_fault(
    site: Site, issuer: ScriptedIssuer, clock: FakeClock
) -> None:
    site.issuers.down = True
    text = identity(issuer)
    for _ in range(ADDRESS_BURST + 5):
        with pytest.raises(UpstreamUnavailable):
            await site.exchange.mint(text, HERE)
    assert site.told == []
    site.issuers.down = False
    clock.advance(20)
    assert await site.exchange.mint(text, HERE)


async def test_a_full_disk_makes_no_token(site: Site, issuer: ScriptedIssuer, store: DirectoryStore, monkeypatch) -> None:
    async def full(*_: Any, **__: Any) -> bool:
        raise StorageFull

    monkeypatch.setattr(store, "create", full)
    with pytest.raises(StorageFull):
        await site.exchange.mint(identity(issuer))
    assert await site.tokens.all() == []


# Limits


async def test_failures_of_an_address_are_limited_and_others_go_on(site: Site, issuer: ScriptedIssuer) -> None:
    for _ in range(ADDRESS_BURST):
        assert await site.refused("x") == "invalid-token"
    with pytest.raises(TooManyRequests) as caught:
        await site.exchange.mint(identity(issuer), HERE)
    assert caught.value.retry_after_seconds > 0
    assert site.told[-1][:3] == ("login-limited", "", HERE)
    assert await site.exchange.mint(identity(issuer), "198.51.100.7")


async def test_failures_from_everywhere_keep_nobody_out(site: Site, issuer: ScriptedIssuer) -> None:
    for number in range(200):
        assert await site.refused(None, f"198.51.100.{number}") == "invalid-payload"
    assert site.limits.check(HERE, "") == 0.0
    assert await site.exchange.mint(identity(issuer), HERE)


async def test_neither_the_identity_nor_its_claims_are_told(site: Site, issuer: ScriptedIssuer) -> None:
    text = identity(issuer, key="attacker", kid="first", repository="s3cret/repository", sub="s3cret-subject")
    await site.refused(text)
    await site.refused(identity(issuer, repository="s3cret/repository", ref="s3cret"))
    await site.refused(text[:-10] + "s3cret")
    assert "s3cret" not in repr(site.told)
    assert not any(part in repr(site.told) for part in text.split("."))


# Burning


async def test_a_token_that_was_minted_can_be_burnt_by_who_has_it(site: Site, issuer: ScriptedIssuer) -> None:
    minted = await site.exchange.mint(identity(issuer))
    burnt = await site.exchange.burn(minted.text)
    assert burnt is not None
    assert burnt.id == minted.token.id
    assert await site.tokens.verify(minted.text) is None
    assert await site.exchange.burn(minted.text) is None


async def test_nothing_else_can_be_burnt(site: Site) -> None:
    text, token = await site.tokens.create("ada", note="", limits=(grant("demo"),), expires="")
    for given in (text, "", "x", f"nora_{token.id}_{'x' * 43}"):
        assert await site.exchange.burn(given) is None
    assert await site.tokens.verify(text) is not None


# Names


@pytest.mark.parametrize(
    ("subject", "name"),
    [
        ("repo:acme/demo", "oidc:repo:acme/demo"),
        ("a\nb\x1b[2J\u202e", "oidc:a?b?[2J?"),
        ("x" * 10_000, "oidc:" + "x" * 192 + "..."),
        ("x" * 195, "oidc:" + "x" * 195),
    ],
)
def test_a_name_in_logs_is_one_bounded_line(subject: str, name: str) -> None:
    assert actor_name(subject) == name
    assert len(name) <= 200


async def test_a_hostile_subject_is_still_a_name(site: Site, issuer: ScriptedIssuer) -> None:
    minted = await site.exchange.mint(identity(issuer, sub="\n" * 2000))
    assert minted.token.user == "oidc:" + "?" * 192 + "..."
