"""Every route of the host and of every plugin, asked by everybody. A route without a row here is a failure."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import bcrypt
import httpx
import pytest

from nora.api import Right
from nora.auth.tokens import Tokens, token_id
from nora.compose import API_PATH, host
from nora.config.load import load
from nora.http.dispatch import HOST
from nora.plugins import load_plugins
from nora.rights import Grant
from nora.store.directory import DirectoryStore
from nora.tasks import Tasks
from nora.testing.live import LiveServer
from nora.testing.packages import make_wheel

DEMO, DEMO_WHEEL = make_wheel("demo", "1.0")
PASSWORD = "s3c:ret"
USERS = ("reader", "other", "writer", "uploader", "guest", "boss")
TOKENS = ("token", "token for others", "token of a job", "boss's token", "revoked token", "expired token")
CONFIG = """
[server]
trusted_proxies = ["127.0.0.1"]

[auth]
enabled = true
htpasswd_file = "{users}"

[auth.groups]
team = ["writer", "boss"]

[[auth.rules]]
who = ["reader"]
rights = ["read"]

[[auth.rules]]
who = ["other"]
projects = ["other-*"]
rights = ["read", "write", "admin"]

[[auth.rules]]
who = ["uploader"]
rights = ["write"]

[[auth.rules]]
who = ["@team"]
rights = ["read", "write"]

[[auth.rules]]
who = ["boss"]
rights = ["admin"]

[pypi]
proxy = ""
"""


@dataclass(frozen=True)
class Row:
    """One route as it is asked, and what is answered to who may do that. ``hidden``: what who may only see other projects is told."""

    path: str
    allowed: int
    hidden: int
    request: dict[str, Any] = field(default_factory=dict)


def upload(name: str = "demo", *, content: tuple[str, bytes] = (DEMO, DEMO_WHEEL)) -> dict[str, Any]:
    form = {":action": "file_upload", "protocol_version": "1", "name": name, "version": "1.0"}
    return {"data": {**form, "filetype": "bdist_wheel", "metadata_version": "2.1"}, "files": {"content": content}}


PROJECT = "/api/v1/registries/pypi/projects/demo"
# By registry ("" is the host), method and rule. The expected statuses of who has logged in and has the right, and of who has it elsewhere.
ROWS: dict[tuple[str, str, str], Row] = {
    ("pypi", "GET", "/simple/"): Row("/simple/", 200, 200),
    ("pypi", "GET", "/"): Row("/", 301, 301),
    ("pypi", "GET", "/simple"): Row("/simple", 301, 301),
    ("pypi", "GET", "/simple/<project>/"): Row("/simple/demo/", 200, 404),
    ("pypi", "GET", "/simple/<project>"): Row("/simple/demo", 301, 301),
    ("pypi", "GET", "/simple/<project>/<filename>"): Row(f"/simple/demo/{DEMO}", 200, 404),
    ("pypi", "POST", "/simple/"): Row("/simple/", 200, 403, upload()),
    ("pypi", "POST", "/simple"): Row("/simple", 200, 403, upload()),
    ("pypi", "POST", "/legacy/"): Row("/legacy/", 200, 403, upload()),
    ("pypi", "POST", "/legacy"): Row("/legacy", 200, 403, upload()),
    ("pypi", "POST", "/"): Row("/", 200, 403, upload()),
    ("pypi", "GET", "/pypi/<project>/json"): Row("/pypi/demo/json", 200, 404),
    ("pypi", "GET", "/pypi/<project>/json/"): Row("/pypi/demo/json/", 301, 301),
    ("pypi", "GET", "/pypi/<project>/<version>/json"): Row("/pypi/demo/1.0/json", 200, 404),
    ("pypi", "GET", "/pypi/<project>/<version>/json/"): Row("/pypi/demo/1.0/json/", 301, 301),
    ("", "GET", "/tokens"): Row("/api/v1/tokens", 200, 200),
    ("", "POST", "/tokens"): Row("/api/v1/tokens", 201, 201),
    ("", "DELETE", "/tokens/<token>"): Row("/api/v1/tokens/000000000000", 404, 404),
    ("", "GET", "/registries"): Row("/api/v1/registries", 200, 200),
    ("", "GET", "/registries/<registry>/projects/<project>"): Row(PROJECT, 200, 404),
    ("", "POST", "/registries/<registry>/projects/<project>/versions/<version>/yank"): Row(
        f"{PROJECT}/versions/1.0/yank", 200, 403
    ),
    ("", "DELETE", "/registries/<registry>/projects/<project>/versions/<version>/yank"): Row(
        f"{PROJECT}/versions/1.0/yank", 200, 403
    ),
    ("", "DELETE", "/registries/<registry>/projects/<project>/versions/<version>"): Row(f"{PROJECT}/versions/9.9", 404, 403),
    ("", "DELETE", "/registries/<registry>/projects/<project>/versions/<version>/files/<filename>"): Row(
        f"{PROJECT}/versions/1.0/files/none.whl", 404, 403
    ),
    ("", "DELETE", "/registries/<registry>/projects/<project>/files/<filename>"): Row(f"{PROJECT}/files/none.whl", 404, 403),
    ("", "PUT", "/registries/<registry>/projects/<project>/status"): Row(
        f"{PROJECT}/status", 200, 403, {"json": {"status": "active"}}
    ),
    ("", "GET", "/registries/<registry>/projects/<project>/history"): Row(f"{PROJECT}/history", 200, 403),
}


# Nobody has to log in for these; the statuses that everybody is answered with.
OPEN = {
    ("GET", "/health"): 200,
    ("GET", "/ready"): 200,
    ("GET", "/metrics"): 200,
    ("GET", "/_/oidc/audience"): 404,
    ("POST", "/_/oidc/mint-token"): 404,
    ("POST", "/_/oidc/burn-token"): 404,
}


async def declared(tmp_path: Path) -> dict[tuple[str, str, str], str]:
    """What there is: registry, method and rule of every route, with the right that it needs; "" is a login and no right.

    Those that are :data:`OPEN` are left out, after a look whether there are any others.
    """
    plugins = load_plugins()
    names = [name for name, format_ in plugins.formats.items() if not format_.implicit]
    (tmp_path / "all.toml").write_text(
        "[pypi]\nproxy = ''\n" + "".join(f"[registries.{name}]\nformat = '{name}'\n" for name in names)
    )
    settings = load(
        formats=plugins.formats,
        config_path=str(tmp_path / "all.toml"),
        environ={},
        cwd=tmp_path,
        overrides={"storage.path": str(tmp_path / "declared")},
    )
    async with host(settings, plugins, {}) as running:
        found = {
            ("" if mount.name == HOST else mount.name, method, route.rule): route.right.value if route.right else ""
            for mount in running.mounts
            for route in mount.routes
            for method in route.methods
        }
        paths = {mount.name: mount.path.rstrip("/") for mount in running.mounts}
        known = {(method, paths[name or HOST] + rule) for name, method, rule in found}
        there = {
            (method, "/" + re.sub(r"<([a-z_]+):[^>]*>", r"<\1>", route.path))
            for route in running.app.router.routes
            for method in route.methods
        }
        assert {key for key in there - known if key[0] != "HEAD"} == OPEN.keys()
    return {key: right for key, right in found.items() if key[1] != "HEAD"}


async def test_every_route_has_a_row(tmp_path: Path) -> None:
    routes = await declared(tmp_path)
    assert API_PATH == "/api/v1/"
    assert routes.keys() == ROWS.keys()


@dataclass(frozen=True)
class Guarded:
    """A running server, what everybody logs in with, and the id of a token of somebody else's."""

    url: str
    logins: dict[str, tuple[str, str] | None]
    elses_token: str


async def made_tokens(storage: Path) -> dict[str, tuple[str, str]]:
    """Texts of tokens, with a user name.

    Those of the writer's are one that is as good as his password, one for other projects, and two that are over; the boss has one, and
    somebody who does nothing here; and one is a job's, for which no rule for users counts.
    """
    store, tasks = DirectoryStore.open(storage), Tasks()
    everything = (Grant(rights=frozenset(Right)),)
    elsewhere = (Grant(rights=frozenset(Right), projects=("other-*",)),)
    texts = {}
    tokens = Tokens(store, tasks)
    texts["token"], _ = await tokens.create("writer", note="", limits=everything, expires="")
    texts["token for others"], _ = await tokens.create("writer", note="", limits=elsewhere, expires=tokens.expiry(1))
    texts["boss's token"], _ = await tokens.create("boss", note="", limits=everything, expires="")
    texts["else"], _ = await tokens.create("somebody", note="", limits=everything, expires="")
    own = (Grant(rights=frozenset({Right.WRITE}), projects=("demo",)),)
    texts["token of a job"], _ = await tokens.create("boss", note="", limits=own, expires="", issuer="https://ci.example")
    texts["revoked token"], revoked = await tokens.create("writer", note="", limits=everything, expires="")
    await tokens.revoke(revoked.id)
    long_ago = Tokens(store, tasks, clock=lambda: time.time() - 2 * 24 * 3600)
    texts["expired token"], _ = await long_ago.create("writer", note="", limits=everything, expires=long_ago.expiry(1))
    await tasks.aclose()
    await store.aclose()
    return {name: ("__token__", text) for name, text in texts.items()}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    folder = tmp_path_factory.mktemp("matrix")
    users = folder / "users.htpasswd"
    hashed = bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(4)).decode()
    users.write_text("".join(f"{user}:{hashed}\n" for user in USERS))
    logins: dict[str, tuple[str, str] | None] = {user: (user, PASSWORD) for user in USERS}
    logins |= {"anonymous": None, "wrong password": ("boss", "guess"), "unknown user": ("nobody", PASSWORD)}
    logins |= (tokens := asyncio.run(made_tokens(folder / "store")))
    with LiveServer(folder / "store", CONFIG.format(users=users)) as running:
        answer = httpx.post(f"{running.url}/legacy/", auth=("writer", PASSWORD), **upload())
        assert answer.status_code == 200, answer.text
        yield Guarded(running.url, logins, token_id(tokens["else"][1]) or "")


def expected(who: str, right: str, row: Row) -> int:
    """The status that somebody is answered with."""
    match who, right:
        case (("anonymous" | "wrong password" | "unknown user" | "revoked token" | "expired token"), _):
            return 401
        case (("token" | "token for others" | "token of a job" | "boss's token"), ""):
            return 403  # whatever it may do, it makes no others, sees none, and revokes none but itself
        case (_, ""):
            return row.allowed
        case ("token of a job", "write"):
            return row.allowed  # and nothing of what a user may do, though it is called like one
        case ("other", _) | ("token for others", "read" | "write"):
            return row.hidden
        case ("reader", "read") | ("uploader", "write") | ("writer" | "token", "read" | "write") | ("boss" | "boss's token", _):
            return row.allowed
    return 403


EVERYBODY = ("anonymous", "wrong password", "unknown user", *USERS, *TOKENS)


@pytest.mark.parametrize("who", EVERYBODY)
async def test_everybody_gets_what_is_his_and_nothing_else(who: str, server: Guarded, tmp_path: Path) -> None:
    # AUTH-1, AUTH-2, AUTH-7
    routes = await declared(tmp_path)
    with httpx.Client(base_url=server.url, auth=server.logins[who]) as client:
        for number, ((registry, method, rule), row) in enumerate(ROWS.items()):
            # Each time from somewhere else, so that no limit of failed logins is reached.
            client.headers["x-forwarded-for"] = f"192.0.2.{number}"
            answer = client.request(method, row.path, **row.request)
            wanted = expected(who, routes[registry, method, rule], row)
            assert answer.status_code == wanted, (who, method, row.path, answer.text)
            assert ("www-authenticate" in answer.headers) == (wanted == 401)
            if method == "GET":
                assert client.head(row.path).status_code == wanted


@pytest.mark.parametrize("who", EVERYBODY)
def test_what_is_open_is_so_to_everybody(who: str, server: Guarded) -> None:
    for (method, path), status in OPEN.items():
        assert httpx.request(method, server.url + path, auth=server.logins[who]).status_code == status, (who, method, path)


@pytest.mark.parametrize("who", EVERYBODY)
def test_others_tokens_are_for_who_administers_everything(who: str, server: Guarded) -> None:
    for method, path, refused in (
        ("GET", "/api/v1/tokens?all=true", 403),
        ("DELETE", f"/api/v1/tokens/{server.elses_token}", 404),
    ):
        answer = httpx.request(
            method, server.url + path, auth=server.logins[who], headers={"x-forwarded-for": f"198.51.100.{len(who)}"}
        )
        wanted = expected(who, "", Row(path, 200 if who == "boss" else refused, 0))
        assert answer.status_code == wanted, (who, method, answer.text)


@pytest.mark.parametrize(
    "path", ["/simple/{}/", "/simple/{}/demo-1.0.tar.gz", "/pypi/{}/json", "/api/v1/registries/pypi/projects/{}"]
)
def test_a_project_that_one_may_not_see_looks_like_one_that_is_not_there(server: Guarded, path: str) -> None:
    # AUTH-7
    answers = []
    for project in ("demo", "none"):
        answer = httpx.get(server.url + path.format(project), auth=("other", PASSWORD))
        answers.append((answer.status_code, re.sub(project, "X", answer.text), sorted(answer.headers)))
    assert answers[0] == answers[1]
    assert answers[0][0] == 404


def test_the_list_of_projects_shows_what_one_may_see(server: Guarded) -> None:
    json_type = {"accept": "application/vnd.pypi.simple.v1+json"}
    name, wheel = make_wheel("other-thing", "1.0")
    assert (
        httpx.post(
            f"{server.url}/legacy/", auth=("other", PASSWORD), **upload("other-thing", content=(name, wheel))
        ).status_code
        == 200
    )
    for _ in range(3):  # from memory, too
        seen = {
            user: [
                each["name"]
                for each in httpx.get(f"{server.url}/simple/", auth=(user, PASSWORD), headers=json_type).json()["projects"]
            ]
            for user in ("reader", "other", "boss")
        }
        assert seen == {"reader": ["demo", "other-thing"], "other": ["other-thing"], "boss": ["demo", "other-thing"]}
