"""Jobs of CI systems publish with identities instead of secrets: real clients, two processes, and those who are nobody's job."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import hmac
import json
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import bcrypt
import httpx
import pytest
import trustme
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from nora.api import Right
from nora.auth.exchange import MINTED_SECONDS
from nora.auth.tokens import Tokens
from nora.rights import Grant
from nora.store.directory import DirectoryStore
from nora.tasks import Tasks
from nora.testing.live import LiveServer
from nora.testing.packages import make_wheel
from tests.issuer import AUDIENCE, DISCOVERY, KEYS, REPOSITORY, ScriptedIssuer, b64, private_key

MINT, BURN = "/_/oidc/mint-token", "/_/oidc/burn-token"
CONFIG = """
[auth]
enabled = true
htpasswd_file = "{users}"
oidc_audience = "{audience}"

[[auth.rules]]
who = ["@users"]
rights = ["read"]

[[auth.trusted_publishers]]
issuer = "{issuer}"
claims = {{ repository = "{repository}", environment = "release" }}
projects = ["demo", "acme-*"]

[[auth.trusted_publishers]]
issuer = "{neighbour}"
claims = {{ repository = "{repository}" }}
projects = ["other"]

[server]
trusted_proxies = ["127.0.0.1"]

[pypi]
proxy = ""
"""


@dataclass
class Site:
    """A server of two processes with HTTPS, and the issuer that it trusts. Each request comes from another address."""

    server: LiveServer
    issuer: ScriptedIssuer
    neighbour: ScriptedIssuer
    ca: Path
    storage: Path
    addresses: Iterator[int]

    def client(self) -> httpx.Client:
        return httpx.Client(base_url=self.server.url, verify=ssl.create_default_context(cafile=self.ca), timeout=30)

    def post(self, path: str, client: httpx.Client | None = None, **options: Any) -> httpx.Response:
        headers = {"x-forwarded-for": f"2001:db8:{next(self.addresses):x}::1", **options.pop("headers", {})}
        if client is not None:
            return client.post(path, headers=headers, **options)
        with self.client() as own:
            return own.post(path, headers=headers, **options)

    def mint(self, identity: Any, **options: Any) -> httpx.Response:
        return self.post(MINT, json={"token": identity}, **options)

    def refusal(self, identity: Any) -> tuple[int, str]:
        """Status and code of what an identity is answered with, in the form that clients print."""
        answer = self.mint(identity)
        document = answer.json()
        assert document.keys() == {"message", "errors"}, answer.text
        assert all(isinstance(each["description"], str) and each["description"] for each in document["errors"])
        return answer.status_code, document["errors"][0]["code"]

    def upload(self, token: str, name: str) -> int:
        filename, content = make_wheel(name, "1.0")
        form = {":action": "file_upload", "protocol_version": "1", "name": name, "version": "1.0", "metadata_version": "2.1"}
        with self.client() as client:
            auth = ("__token__", token)
            data = {**form, "filetype": "bdist_wheel"}
            return client.post("/legacy/", data=data, files={"content": (filename, content)}, auth=auth).status_code

    def audited(self, action: str) -> list[dict[str, Any]]:
        """The entries of the audit log; those of the last moment may be missing."""
        lines = [line for file in sorted((self.storage / "audit").glob("*.jsonl")) for line in file.read_text().splitlines()]
        return [entry for entry in map(json.loads, lines) if entry["action"] == action]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("trusted")
    users = folder / "users.htpasswd"
    users.write_text(f"ada:{bcrypt.hashpw(b'secret', bcrypt.gensalt(4)).decode()}\n")
    authority = trustme.CA()
    issued = authority.issue_cert("127.0.0.1")
    authority.cert_pem.write_to_path(str(folder / "ca.pem"))
    issued.private_key_and_cert_chain_pem.write_to_path(str(folder / "server.pem"))
    env = {"NORA_TLS_CERT": str(folder / "server.pem"), "NORA_TLS_KEY": str(folder / "server.pem")}
    with ScriptedIssuer().run() as issuer, ScriptedIssuer().run() as neighbour:
        config = CONFIG.format(
            users=users, audience=AUDIENCE, issuer=issuer.url, neighbour=neighbour.url, repository=REPOSITORY
        )
        with LiveServer(folder / "store", config, env=env, workers=2, ca=folder / "ca.pem") as server:
            yield Site(server, issuer, neighbour, folder / "ca.pem", folder / "store", iter(range(1, 60_000)))


@pytest.fixture(autouse=True)
def as_it_was(site: Site) -> Iterator[None]:
    yield
    site.issuer.answers.clear()


@pytest.fixture(autouse=True)
def no_authority_by_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Clients trust what their options say: these variables would win."""
    for name in ("REQUESTS_CA_BUNDLE", "SSL_CERT_FILE", "SSL_CERT_DIR"):
        monkeypatch.delenv(name, raising=False)


def until(condition: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + 20
    while not (found := condition()):
        assert time.monotonic() < deadline, "it did not come about"
        time.sleep(0.02)
    return found


# Clients


def test_uv_publishes_without_any_secret_and_burns_its_token(site: Site, clients: Any, dist: Path) -> None:
    for name in ("demo", "acme-tool"):
        filename, content = make_wheel(name, "3.0")
        (dist / filename).write_bytes(content)
    publishing = ("publish", "--no-config", "--trusted-publishing", "always", "--publish-url", f"{site.server.url}/legacy/")
    env = {**site.issuer.environment(), "SSL_CERT_FILE": str(site.ca), "UV_NO_CACHE": "1"}
    done = clients.tool("uv", *publishing, *map(str, dist.iterdir()), env=env)
    assert done.status == 0, done.output
    with site.client() as client:
        for name in ("demo", "acme-tool"):
            assert client.get(f"/simple/{name}/", auth=("ada", "secret")).text.count("3.0") > 0
    subject = f"oidc:repo:{REPOSITORY}:ref:refs/heads/main"
    published = until(lambda: [entry for entry in site.audited("publish") if entry["version"] == "3.0"][1:])
    token = published[0]["token"]
    (made,) = [entry for entry in site.audited("token-create") if entry["token"] == token]
    assert (made["actor"], made["reason"]) == (subject, f"trusted publishing by {site.issuer.url}")
    assert {entry["actor"] for entry in published} == {subject}
    assert until(lambda: [entry for entry in site.audited("token-revoke") if entry["token"] == token])


def test_uv_publishes_in_a_job_of_gitlab(site: Site, clients: Any, dist: Path) -> None:
    filename, content = make_wheel("demo", "6.0")
    (dist / filename).write_bytes(content)
    publishing = ("publish", "--no-config", "--trusted-publishing", "always", "--publish-url", f"{site.server.url}/legacy/")
    env = {"GITLAB_CI": "true", "HTTPS___REGISTRY_EXAMPLE_ID_TOKEN": site.issuer.identity()}
    done = clients.tool("uv", *publishing, str(dist / filename), env={**env, "SSL_CERT_FILE": str(site.ca), "UV_NO_CACHE": "1"})
    assert done.status == 0, done.output
    assert until(lambda: [entry for entry in site.audited("publish") if entry["version"] == "6.0"])


def test_uv_prints_why_it_may_not(site: Site, clients: Any, dist: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    filename, content = make_wheel("demo", "4.0")
    (dist / filename).write_bytes(content)
    real = site.issuer.claims
    monkeypatch.setattr(site.issuer, "claims", lambda **changes: real(**{**changes, "environment": "other"}))
    publishing = ("publish", "--no-config", "--trusted-publishing", "always", "--publish-url", f"{site.server.url}/legacy/")
    env = {**site.issuer.environment(), "SSL_CERT_FILE": str(site.ca), "UV_NO_CACHE": "1"}
    done = clients.tool("uv", *publishing, str(dist / filename), env=env)
    assert done.status != 0
    assert "invalid-publisher" in done.output
    assert "no trusted publisher of this server has all of its claims" in " ".join(done.output.split())


TWINE = """
import sys
from twine import auth, exceptions
try:
    print("TOKEN", auth.Resolver({"repository": sys.argv[1]}, auth.CredentialInput()).make_trusted_publishing_token())
except exceptions.TrustedPublishingFailure as failure:
    print("FAILURE", failure)
"""


def test_twines_own_exchange_gets_a_token_that_twine_uploads_with(
    site: Site, clients: Any, dist: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # `twine upload` tries it for the public index alone (auth.Resolver.is_pypi), so its exchange is called by itself.
    env = {**site.issuer.environment(), "REQUESTS_CA_BUNDLE": str(site.ca)}
    index = f"{site.server.url}/legacy/"
    done = clients.tool("python", "-c", TWINE, index, env=env)
    assert done.status == 0, done.output
    token = done.output.partition("TOKEN ")[2].strip()
    assert token.startswith("nora_"), done.output
    filename, content = make_wheel("demo", "5.0")
    (dist / filename).write_bytes(content)
    uploading = ("upload", "--disable-progress-bar", "--non-interactive", "--cert", str(site.ca), "--repository-url", index)
    done = clients.tool("twine", *uploading, str(dist / filename), env={"TWINE_USERNAME": "__token__", "TWINE_PASSWORD": token})
    assert done.status == 0, done.output
    real = site.issuer.claims
    monkeypatch.setattr(site.issuer, "claims", lambda **changes: real(**{**changes, "repository": "evil/demo"}))
    done = clients.tool("python", "-c", TWINE, index, env=env)
    assert "FAILURE" in done.output
    assert "* `invalid-publisher`: the token is valid, but no trusted publisher" in done.output


# What a token is good for


def test_a_token_is_for_its_projects_and_for_a_quarter_of_an_hour(site: Site) -> None:
    answer = site.mint(site.issuer.identity())
    assert answer.status_code == 200, answer.text
    document = answer.json()
    assert document.keys() == {"success", "token", "expires"}
    assert 0 < document["expires"] - time.time() <= MINTED_SECONDS
    token = document["token"]
    assert [site.upload(token, name) for name in ("acme-one", "other", "numpy")] == [200, 403, 403]
    with site.client() as client:
        auth = ("__token__", token)
        assert client.get("/simple/acme-one/", auth=auth).status_code == 403  # it may write, and that is all
        assert client.post("/api/v1/tokens", json={}, auth=auth).status_code == 403
        assert client.get("/api/v1/tokens", auth=auth).status_code == 403
        assert client.delete("/api/v1/registries/pypi/projects/acme-one/versions/1.0", auth=auth).status_code == 403
        assert client.get("/_/oidc/audience").json() == {"audience": AUDIENCE}


def test_both_kinds_of_keys_are_taken(site: Site) -> None:
    assert site.mint(site.issuer.identity(key="curve", kind="EC")).status_code == 200


# Attacks


def hs256(site: Site) -> str:
    public = private_key("RSA", "first").public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    signed = f"{b64({'alg': 'HS256', 'typ': 'JWT', 'kid': 'first'})}.{b64(site.issuer.claims())}"
    return f"{signed}.{b64(hmac.new(public, signed.encode(), hashlib.sha256).digest())}"


def unsigned(site: Site) -> str:
    return f"{b64({'alg': 'none', 'typ': 'JWT', 'kid': 'first'})}.{b64(site.issuer.claims())}."


def cut(site: Site) -> str:
    return site.issuer.identity()[:-20]


def changed(site: Site) -> str:
    head, _, signature = site.issuer.identity().split(".")
    return f"{head}.{b64(site.issuer.claims(run_number=8))}.{signature}"


def past(site: Site) -> str:
    return site.issuer.identity(exp=int(time.time()) - 3600, iat=int(time.time()) - 7200)


def future(site: Site) -> str:
    at = int(time.time()) + 3600
    return site.issuer.identity(iat=at, nbf=at, exp=at + 300)


def of_the_neighbour(site: Site) -> str:
    """Its key has the same name, and another publisher trusts it."""
    return site.issuer.identity(iss=site.neighbour.url, key="attacker", kid="first")


FORGERIES: dict[str, tuple[Callable[[Site], str], str]] = {
    "unsigned": (unsigned, "invalid-token"),
    "signed with the public key as a secret": (hs256, "invalid-token"),
    "signed by somebody else": (lambda site: site.issuer.identity(key="attacker", kid="first"), "invalid-token"),
    "with a key of its own": (lambda site: site.issuer.identity(key="attacker"), "invalid-token"),
    "of another issuer": (of_the_neighbour, "invalid-token"),
    "of an unknown issuer": (lambda site: site.issuer.identity(iss="https://evil.example"), "invalid-publisher"),
    "of a similar issuer": (lambda site: site.issuer.identity(iss=f"{site.issuer.url}/"), "invalid-publisher"),
    "of another repository": (lambda site: site.issuer.identity(repository="evil/demo"), "invalid-publisher"),
    "of a similar repository": (lambda site: site.issuer.identity(repository=f"{REPOSITORY}2"), "invalid-publisher"),
    "of another environment": (lambda site: site.issuer.identity(environment=None), "invalid-publisher"),
    "for another server": (lambda site: site.issuer.identity(aud="https://other.example"), "invalid-token"),
    "for nobody": (lambda site: site.issuer.identity(aud=None), "invalid-token"),
    "expired": (past, "invalid-token"),
    "of a time to come": (future, "invalid-token"),
    "that never expires": (lambda site: site.issuer.identity(exp=None), "invalid-token"),
    "that never began": (lambda site: site.issuer.identity(iat=None), "invalid-token"),
    "of nobody": (lambda site: site.issuer.identity(sub=None), "invalid-token"),
    "changed": (changed, "invalid-token"),
    "cut": (cut, "invalid-token"),
    "too large": (lambda site: site.issuer.identity(filler="x" * 16_384), "invalid-token"),
    "empty": (lambda site: "", "invalid-token"),
    "no token": (lambda site: "nora_" + "a" * 12 + "_" + "b" * 43, "invalid-token"),
}


@pytest.mark.parametrize("forgery", FORGERIES)
def test_a_forged_or_foreign_identity_gets_nothing(site: Site, forgery: str) -> None:
    make, code = FORGERIES[forgery]
    assert site.refusal(make(site)) == (422, code)


def test_a_body_that_is_no_request_gets_nothing(site: Site) -> None:
    nested = b'{"token": ' + b"[" * 10_000 + b"]" * 10_000 + b"}"
    for body in (b"", b"a.b.c", b"[1]", b'{"token": 1}', nested, b"\xff" * 100):
        answer = site.post(MINT, content=body)
        assert (answer.status_code, answer.json()["errors"][0]["code"]) == (422, "invalid-payload")
    assert site.post(MINT, content=b'{"token": "' + b"x" * 40_000 + b'"}').status_code == 413


def test_addresses_in_an_identity_are_never_asked(site: Site) -> None:
    neighbour = site.neighbour.url
    before = list(site.neighbour.asked)
    for header in ({"jku": f"{neighbour}/jku"}, {"x5u": f"{neighbour}/x5u"}, {"jku": f"{neighbour}/jku", "kid": "theirs"}):
        assert site.refusal(site.issuer.identity(key="attacker", kid="first", header=header))[0] == 422
    for address in (f"{neighbour}/ssrf", f"{neighbour}/", "http://169.254.169.254"):
        assert site.refusal(site.issuer.identity(iss=address)) == (422, "invalid-publisher")
    assert site.neighbour.asked == before


def test_an_identity_is_used_once_also_by_two_processes_at_once(site: Site) -> None:
    identity = site.issuer.identity()
    clients = [site.client() for _ in range(12)]
    for client in clients:
        client.get("/health")  # connected, some to this process and some to that
    with ThreadPoolExecutor(len(clients)) as pool:
        answers = list(pool.map(lambda client: site.mint(identity, client=client), clients))
    for client in clients:
        client.close()
    assert sorted(answer.status_code for answer in answers) == [200] + [422] * 11
    codes = {answer.json()["errors"][0]["code"] for answer in answers if answer.status_code == 422}
    assert codes == {"invalid-reuse-token"}
    assert site.refusal(identity) == (422, "invalid-reuse-token")


def test_a_flood_of_made_up_keys_asks_the_issuer_once_in_a_while(site: Site) -> None:
    site.mint(site.issuer.identity())
    before = len(site.issuer.asked)
    with ThreadPoolExecutor(8) as pool, contextlib.ExitStack() as stack:
        clients = [stack.enter_context(site.client()) for _ in range(8)]

        def flood(client: httpx.Client) -> set[int]:
            head = site.issuer.identity(key="attacker")
            forged = [head.replace(head.partition(".")[0], b64({"alg": "RS256", "kid": f"made-up-{n}"})) for n in range(25)]
            return {site.mint(each, client=client).status_code for each in forged}

        assert set().union(*pool.map(flood, clients)) == {422}
    # Two documents at most for each of two processes, within the minute that this takes at most.
    assert len(site.issuer.asked) - before <= 4


def test_an_address_that_fails_is_limited_and_others_are_not(site: Site) -> None:
    here = {"x-forwarded-for": "192.0.2.77"}
    statuses = [site.post(MINT, json={"token": "x"}, headers=here).status_code for _ in range(30)]
    assert set(statuses) == {422, 429}
    limited = site.post(MINT, json={"token": site.issuer.identity()}, headers=here)
    while limited.status_code != 429:  # the other process had not counted as many
        limited = site.post(MINT, json={"token": "x"}, headers=here)
    assert int(limited.headers["retry-after"]) > 0
    assert limited.json()["errors"][0]["code"] == "too-many-requests"
    assert site.mint(site.issuer.identity()).status_code == 200
    entries = until(lambda: [entry for entry in site.audited("login-limited") if entry.get("address") == "192.0.2.77"])
    assert entries[0]["reason"] == "trusted publishing"


# Each of these has a server that knows no keys yet and has refused nobody


@pytest.fixture
def fresh(site: Site, tmp_path: Path) -> Iterator[Site]:
    """A server of one process without TLS, with an issuer of its own."""
    users = tmp_path / "users.htpasswd"
    users.touch()
    with ScriptedIssuer().run() as issuer:
        config = CONFIG.format(
            users=users, audience=AUDIENCE, issuer=issuer.url, neighbour=site.neighbour.url, repository=REPOSITORY
        )
        with LiveServer(tmp_path / "store", config) as server:
            yield Site(server, issuer, site.neighbour, site.ca, tmp_path / "store", iter(range(1, 60_000)))


def test_failures_are_audited_and_no_log_has_what_was_sent(fresh: Site) -> None:
    identity = fresh.issuer.identity(repository="evil/s3cret-repository", sub="repo:evil/demo")
    assert fresh.refusal(identity) == (422, "invalid-publisher")
    entry = until(lambda: [each for each in fresh.audited("login-failed") if each.get("actor") == "oidc:repo:evil/demo"])[-1]
    assert entry["reason"].endswith("(the nearest differs in repository)")
    forged = fresh.issuer.identity(key="attacker", kid="first", repository="s3cret")
    assert fresh.refusal(forged)[0] == 422
    minted = fresh.mint(fresh.issuer.identity(jti="s3cret-id"))
    assert minted.status_code == 200
    until(lambda: [each for each in fresh.audited("token-create") if each["token"] in minted.json()["token"]])
    written = fresh.server.log() + "".join(file.read_text() for file in (fresh.storage / "audit").glob("*"))
    for secret in ("s3cret", *identity.split(".")[1:], *forged.split("."), minted.json()["token"].rpartition("_")[2]):
        assert secret not in written
    assert "s3cret" not in "".join(path.name for path in (fresh.storage / "tokens").iterdir())


def test_an_issuer_that_leads_to_a_private_address_is_not_followed(fresh: Site) -> None:
    before = list(fresh.neighbour.asked)
    fresh.issuer.answers[DISCOVERY] = fresh.issuer.redirect(f"{fresh.neighbour.url}{DISCOVERY}")
    assert fresh.refusal(fresh.issuer.identity()) == (503, "unavailable")
    assert fresh.neighbour.asked == before
    assert "is at a private address" in fresh.server.log()


def test_an_issuer_that_hangs_holds_nobody_up_for_long_and_an_identity_is_still_good(fresh: Site) -> None:
    identity = fresh.issuer.identity()
    fresh.issuer.answers[KEYS] = fresh.issuer.hang
    answers: list[tuple[int, str]] = []
    threads = [threading.Thread(target=lambda: answers.append(fresh.refusal(identity))) for _ in range(5)]
    for thread in threads:
        thread.start()
    until(lambda: KEYS in fresh.issuer.asked)
    assert httpx.get(f"{fresh.server.url}/health").status_code == 200
    for thread in threads:
        thread.join(30)
    assert answers == [(503, "unavailable")] * 5
    assert fresh.refusal(identity) == (503, "unavailable")  # remembered, so at once
    assert fresh.issuer.asked == [DISCOVERY, KEYS]
    assert "keys of an issuer cannot be had" in fresh.server.log()


def test_nora_gc_removes_what_is_dead(fresh: Site, clients: Any, tmp_path: Path) -> None:
    minted = fresh.mint(fresh.issuer.identity())
    assert minted.status_code == 200
    live = minted.json()["token"]

    async def old_ones() -> None:
        store, tasks = DirectoryStore.open(fresh.storage), Tasks()
        long_ago = Tokens(store, tasks, clock=lambda: time.time() - 60 * 24 * 3600)
        grant = Grant(rights=frozenset({Right.WRITE}))
        _, token = await long_ago.create("ada", note="", limits=(grant,), expires=long_ago.expiry(1))
        await long_ago.revoke(token.id)
        await store.create(f"tokens/{'a' * 64}.jwt", b"2020-01-01T00:00:00.000000Z")
        await tasks.aclose()
        await store.aclose()

    asyncio.run(old_ones())
    done = clients.tool("nora", "gc", "--storage", str(fresh.storage), cwd=tmp_path)
    assert "dead tokens: 1 removed; identities that were used up: 1 removed" in done.output
    kinds = sorted(path.suffix for path in (fresh.storage / "tokens").iterdir())
    assert kinds == [".json", ".jwt"]
    assert fresh.post(BURN, json={"token": live}).status_code == 202
