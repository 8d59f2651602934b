"""The host's own API, served by a composed host."""

from __future__ import annotations

import asyncio
import itertools
import json
import re
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from sanic.response import text

from nora.api import Actor, File, Format, ProxyConfig, RegistryBlueprint, RegistryConfig, Right
from nora.auth.access import Access, Rules
from nora.compose import host
from nora.config.errors import ConfigurationError
from nora.config.load import load
from nora.config.settings import AuthSettings, RegistrySettings, ServerSettings, Settings, StorageSettings
from nora.http.api import api_routes
from nora.http.app import Mount, Readiness, build_app
from nora.http.dispatch import MAX_BUFFERED_BODY, Dispatcher
from nora.plugins import Plugins
from nora.testing.upstream import Reply, ScriptedUpstream
from tests.unit.http.serving import serving_client

API = "/api/v1/registries"
X = f"{API}/main/projects/x"


class Words(Format):
    """``PUT /<project>/<version>/<filename>``; names and versions are the same in every case."""

    name, title, api_version = "words", "Words", 1

    def project_name(self, text: str) -> str | None:
        return None if " " in text else text.lower()

    def version_key(self, version: str) -> str:
        return version.lower()

    def routes(self, registry: Any) -> RegistryBlueprint:
        blueprint = RegistryBlueprint()

        @blueprint.write("/<project>/<version>/<filename>", methods=["PUT"], stream=True)
        async def upload(request, project, version, filename):
            async with registry.receive(request) as incoming:
                await registry.publish(project, File(name=filename, version=version.removeprefix("-")), incoming)
            return text("published\n")

        @blueprint.read("/<project>/<filename>")
        async def download(request, project, filename):
            return await registry.open(project, filename)

        return blueprint


class Knows:
    """Everybody whose password is ``right``."""

    async def authenticate(self, username: str, password: str) -> Actor | None:
        return Actor(name=username) if password == "right" else None


@asynccontextmanager
async def running(settings: Settings, *formats: Format) -> AsyncIterator[httpx.AsyncClient]:
    plugins = Plugins(formats={format_.name: format_ for format_ in formats}, authenticators=[Knows()])
    async with host(settings, plugins, {}) as composed, serving_client(composed.app, composed.readiness) as client:
        yield client


def configured(tmp_path: Path, *more: RegistrySettings, **tables: Any) -> Settings:
    main = RegistrySettings(name="main", format="words", path="/main/", config=RegistryConfig())
    return Settings(storage=StorageSettings(path=str(tmp_path / "store")), registries=(main, *more), **tables)


@pytest.fixture
async def client(tmp_path) -> AsyncIterator[httpx.AsyncClient]:
    """Of a server that hosts versions 1.a and 2.a of project x, and a file without a version."""
    async with running(configured(tmp_path), Words()) as made:
        await filled(made)
        yield made


async def filled(client: httpx.AsyncClient) -> None:
    for place in ("1.a/x-1.whl", "1.A/x-1.tar", "2.a/x-2.whl", "-/notes.txt"):
        assert (await client.put(f"/main/x/{place}", content=place.encode())).status_code == 200


@pytest.fixture(scope="module")
def standing(tmp_path_factory) -> Iterator[httpx.Client]:
    """The same, of one server for all tests that change nothing."""
    started: list[tuple[str, asyncio.AbstractEventLoop, asyncio.Event]] = []
    ready = threading.Event()

    async def main() -> None:
        async with running(configured(tmp_path_factory.mktemp("standing")), Words()) as made:
            await filled(made)
            started.append((str(made.base_url), asyncio.get_running_loop(), asyncio.Event()))
            ready.set()
            await started[0][2].wait()

    thread = threading.Thread(target=asyncio.run, args=(main(),), daemon=True)
    thread.start()
    assert ready.wait(10)
    url, loop, end = started[0]
    with httpx.Client(base_url=url, trust_env=False) as made:
        yield made
        answer = made.get(X).json()
        latest = made.get(f"{X}/history").json()["events"][0]
        assert (latest["serial"], answer["status"]) == (4, "active"), "a test has changed something"
    loop.call_soon_threadsafe(end.set)
    thread.join(15)
    assert not thread.is_alive()


async def files(client: httpx.AsyncClient) -> dict[str, bool | str]:
    """Names and yanked marks, as the API tells them."""
    document = (await client.get(X)).json()
    return {file["name"]: file["yanked"] for version in document["versions"] for file in version["files"]}


def is_one_line(answer: httpx.Response) -> bool:
    plain = answer.headers["content-type"].startswith("text/plain")
    return plain and answer.text.endswith("\n") and answer.text.count("\n") == 1


# Reading


async def test_registries_are_listed_with_their_formats_and_paths(tmp_path):
    other = RegistrySettings(name="other", format="words", path="/deep/other/", config=RegistryConfig())
    async with running(configured(tmp_path, other), Words()) as client:
        answer = await client.get(API)
        assert (answer.status_code, answer.headers["content-type"]) == (200, "application/json")
        assert answer.json() == {
            "registries": [
                {"name": "main", "format": "words", "path": "/main/"},
                {"name": "other", "format": "words", "path": "/deep/other/"},
            ]
        }


async def test_a_project_is_shown_by_version(client):
    # NAME-2, PEP440-2
    await client.post(f"{X}/versions/2.a/yank", json={"reason": "why"})
    answer = await client.get(f"{API}/main/projects/X")
    document = answer.json()
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/json")
    versions = document.pop("versions")
    assert document.pop("serial") > 1_700_000_000
    assert document == {
        "registry": "main",
        "project": "x",
        "hosted": True,
        "status": "active",
        "status_reason": "",
    }
    assert [(version["version"], version["yanked"], len(version["files"])) for version in versions] == [
        ("1.a", False, 2),
        ("2.a", True, 1),
        ("", False, 1),
    ]
    (file,) = versions[1]["files"]
    assert file.pop("published").endswith("Z")
    assert re.fullmatch("[0-9a-f]{64}", file.pop("digests")["sha256"])
    assert file == {"name": "x-2.whl", "hosted": True, "size": 11, "yanked": "why", "yanked_by": "here"}
    assert "yanked_by" not in versions[0]["files"][0]


async def test_a_mark_is_said_to_be_ours_or_the_upstreams(tmp_path, toy_format):
    listed = {
        "project": "x",
        "status": "deprecated",
        "status_reason": "old",
        "files": [
            {"name": "x-1", "version": "1", "yanked": "theirs"},
            {"name": "x-2", "version": "2"},
            {"name": "x-3", "version": "3", "yanked": True},
        ],
    }
    async with ScriptedUpstream() as upstream:
        upstream.add("/x/", Reply(json.dumps(listed).encode()))
        config = ProxyConfig(proxy=f"{upstream.url}/", metadata_ttl=0)
        proxied = RegistrySettings(name="toys", format="toy", path="/toys/", config=config)
        async with running(configured(tmp_path, proxied), Words(), toy_format) as client:
            project = f"{API}/toys/projects/x"
            for version in "12":
                assert (await client.post(f"{project}/versions/{version}/yank")).status_code == 200
            document = (await client.get(project)).json()
            assert (document["hosted"], document["status"], document["status_reason"]) == (False, "deprecated", "old")
            shown = [file for version in document["versions"] for file in version["files"]]
            assert [(file["hosted"], file["yanked"], file.get("yanked_by")) for file in shown] == [
                (False, "theirs", "here"),
                (False, True, "here"),
                (False, True, "upstream"),
            ]
            answer = await client.request("DELETE", f"{project}/versions/3/yank")
            assert (answer.status_code, answer.text) == (
                400,
                "version 3 was yanked upstream, which cannot be taken back here\n",
            )
            answer = await client.put(f"{project}/status", json={"status": "archived"})
            assert answer.status_code == 403
            assert is_one_line(answer)
            upstream.offline = True
            answer = await client.get(f"{API}/toys/projects/unheard")
            # PROXY-10
            assert answer.status_code == 503
            assert answer.headers["retry-after"]


@pytest.mark.parametrize("address", [API, X, f"{X}/history"])
def test_head_is_get_without_a_body(standing, address):
    # HTTP-1, HTTP-2
    got, head = standing.get(address), standing.head(address)
    assert (head.status_code, head.content) == (200, b"")
    for name in ("content-type", "content-length"):
        assert head.headers[name] == got.headers[name]


# Yanking


async def test_a_version_is_yanked_and_comes_back(client):
    answer = await client.post(f"{X}/versions/1.a/yank", json={"reason": "why"}, headers={"x-request-id": "r-1"})
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/json")
    event = answer.json()["event"]
    assert answer.json()["changed"] is True
    assert event.pop("at").endswith("Z")
    assert event == {
        "action": "yank",
        "registry": "main",
        "project": "x",
        "version": "1.a",
        "reason": "why",
        "request_id": "r-1",
    }
    assert await files(client) == {"x-1.whl": "why", "x-1.tar": "why", "x-2.whl": False, "notes.txt": False}
    again = await client.post(f"{API}/main/projects/X/versions/1.A/yank?reason=why")
    assert (again.status_code, again.json()) == (200, {"changed": False, "event": None})
    # YANK-6
    assert (await client.get("/main/x/x-1.whl")).status_code == 200
    back = await client.delete(f"{X}/versions/1.a/yank")
    assert (back.json()["changed"], back.json()["event"]["action"]) == (True, "unyank")
    assert not any((await files(client)).values())
    assert (await client.delete(f"{X}/versions/1.a/yank")).json() == {"changed": False, "event": None}


async def test_one_file_is_yanked_by_body_or_address(client):
    answer = await client.post(f"{X}/versions/1.a/yank", json={"file": "x-1.tar"})
    assert answer.json()["event"]["files"] == ["x-1.tar"]
    assert await files(client) == {"x-1.whl": False, "x-1.tar": True, "x-2.whl": False, "notes.txt": False}
    answer = await client.request("DELETE", f"{X}/versions/1.a/yank", json={"file": "x-1.tar"})
    assert answer.json()["changed"] is True
    await client.post(f"{X}/versions/1.a/yank?file=x-1.whl&reason=a%20b%2Bc")
    assert (await files(client))["x-1.whl"] == "a b+c"
    answer = await client.delete(f"{X}/versions/1.a/yank", params={"file": "x-1.whl"})
    assert answer.json()["changed"] is True
    assert not any((await files(client)).values())
    assert (await client.delete(f"{X}/versions/1.a/yank?file=x-2.whl")).status_code == 404


# Deleting


async def test_a_version_is_deleted(client):
    answer = await client.delete(f"{X}/versions/1.A?reason=secret")
    assert answer.status_code == 200
    event = answer.json()["event"]
    assert (event["action"], event["files"], event["reason"]) == ("delete", ["x-1.tar", "x-1.whl"], "secret")
    assert list(await files(client)) == ["x-2.whl", "notes.txt"]
    assert (await client.get("/main/x/x-1.whl")).status_code == 404
    again = await client.delete(f"{X}/versions/1.A")
    assert (again.status_code, again.text) == (404, "no such hosted file: x version 1.A\n")
    assert (await client.put("/main/x/1.a/x-1.whl", content=b"other")).status_code == 409


async def test_one_file_is_deleted_with_or_without_its_version(client):
    for address in (f"{X}/versions/1.a/files/x-1.tar", f"{X}/files/notes.txt"):
        assert (await client.delete(address)).json()["changed"] is True
        assert (await client.delete(address)).status_code == 404
    assert list(await files(client)) == ["x-1.whl", "x-2.whl"]
    assert (await client.delete(f"{X}/versions/1.a/files/x-2.whl")).status_code == 404


# Status and history


async def test_a_status_is_set(client):
    # STAT-1
    answer = await client.put(f"{X}/status", json={"status": "archived", "reason": "see y"})
    assert (answer.status_code, answer.json()["event"]["reason"]) == (200, "archived: see y")
    document = (await client.get(X)).json()
    assert (document["status"], document["status_reason"]) == ("archived", "see y")
    assert (await client.put("/main/x/3/x-3", content=b"new")).status_code == 403
    again = await client.put(f"{X}/status", json={"status": "archived", "reason": "see y"})
    assert again.json() == {"changed": False, "event": None}
    assert (await client.put(f"{X}/status?status=active")).json()["changed"] is True
    answer = await client.put(f"{X}/status", json={"status": "gone"})
    assert answer.status_code == 400
    assert "active, archived, deprecated, quarantined" in answer.text


async def test_history_is_the_newest_first_and_bounded(client):
    await client.post(f"{X}/versions/1.a/yank", headers={"x-request-id": "r-2"})
    events = (await client.get(f"{X}/history")).json()["events"]
    assert [(event["serial"], event["hosted"], event["action"]) for event in events] == [
        (5, True, "yank"),
        *((serial, True, "publish") for serial in (4, 3, 2, 1)),
    ]
    assert (events[0]["version"], events[0]["request_id"]) == ("1.a", "r-2")
    for limit in (1, 3, 500):
        assert (await client.get(f"{X}/history?limit={limit}")).json()["events"] == events[:limit]
    for _ in range(60):
        for method in ("DELETE", "POST"):
            await client.request(method, f"{X}/versions/1.a/yank")
    assert len((await client.get(f"{X}/history")).json()["events"]) == 50
    for limit in ("0", "501", "-1", "x", "", "1.5", "9" * 30):
        answer = await client.get(f"{X}/history", params={"limit": limit})
        assert answer.status_code == 400, limit
        assert "limit" in answer.text


# What is refused


def serial(client: httpx.Client) -> int:
    return int(client.get(X).json()["serial"])


@pytest.mark.parametrize(
    ("content", "type_", "words"),
    [
        (b'{"reson": "x"}', "application/json", "reson"),
        (b'{"reason": 5}', "application/json", "reason"),
        (b'{"reason": null}', "application/json", "reason"),
        (b'{"reason": ["x"]}', "application/json", "reason"),
        (b'{"reason": "two\\nlines"}', "application/json", "reason"),
        (b'{"reason": "' + b"x" * 2001 + b'"}', "application/json", "2000"),
        (b'{"file": ""}', "application/json", "file"),
        (b'{"file": null}', "application/json", "file"),
        (b'{"file": {"name": "x"}}', "application/json", "file"),
        (b'{"reason": "\\ud800"}', "application/json", "JSON"),
        (b'{"reason": "\xff"}', "application/json", "JSON"),
        (b"{", "application/json", "JSON"),
        (b'{"reason": "x"} {}', "application/json", "JSON"),
        (b"[" * 50_000, "application/json", "JSON"),
        (b'{"reason":' * 50_000, "application/json", "JSON"),
        (b"[]", "application/json", "object"),
        (b'"x"', "application/json", "object"),
        (b"null", "application/json", "object"),
        (b"reason=x", "application/x-www-form-urlencoded", "application/json"),
        (b'{"reason": "x"}', "text/plain", "application/json"),
        (b'{"reason": "x"}', "", "application/json"),
        (b'{"reason": "x"}', "application/jsonp", "application/json"),
    ],
)
def test_a_body_that_is_not_understood_is_400_and_changes_nothing(standing, content, type_, words):
    before = serial(standing)
    headers = {"content-type": type_} if type_ else {}
    answer = standing.post(f"{X}/versions/1.a/yank", content=content, headers=headers)
    assert answer.status_code == 400
    assert is_one_line(answer)
    assert words in answer.text
    assert serial(standing) == before


@pytest.mark.parametrize(
    "type_", ["application/json", "Application/JSON", "application/json; charset=utf-8", "application/json ;"]
)
async def test_a_media_type_is_compared_as_such(client, type_):
    answer = await client.post(f"{X}/versions/1.a/yank", content=b'{"reason": "x"}', headers={"content-type": type_})
    assert answer.status_code == 200


@pytest.mark.parametrize(
    ("method", "address", "words"),
    [
        ("POST", "versions/1.a/yank?reson=x", "reson"),
        ("POST", "versions/1.a/yank?file=", "file"),
        ("DELETE", "versions/1.a/yank?file=", "file"),
        ("DELETE", "versions/1.a/yank?file", "file"),
        ("DELETE", "versions/1.a/yank?reason=x", "reason"),
        ("DELETE", "versions/1.a/yank?file=x-1.whl&file=x-1.tar", "file"),
        ("POST", "versions/1.a/yank?reason=%FF", "UTF-8"),
        ("POST", "versions/1.a/yank?reason=%0A", "reason"),
        ("POST", "versions/1.a/yank?" + "&".join(f"a{number}=x" for number in range(11)), "10 options"),
        ("DELETE", "versions/1.a?file=x-1.whl", "file"),
        ("DELETE", "versions/1.a?yes", "yes"),
        ("DELETE", "versions/1.a/files/x-1.whl?version=1", "version"),
        ("PUT", "status", "status"),
        ("PUT", "status?status=", "status"),
        ("PUT", "status?status=archived&until=x", "until"),
        ("GET", "history?before=3", "before"),
        ("GET", "?verbose=1", "verbose"),
    ],
)
def test_an_option_that_is_not_understood_is_400_and_changes_nothing(standing, method, address, words):
    # An option that is misspelt or empty must never mean more than it says: a version in the place of one file.
    before = serial(standing)
    answer = standing.request(method, f"{X}/{address}".replace("/?", "?"))
    assert answer.status_code == 400
    assert is_one_line(answer)
    assert words in answer.text
    assert serial(standing) == before


def test_an_option_in_two_places_is_400(standing):
    answer = standing.post(f"{X}/versions/1.a/yank?reason=a", json={"reason": "b"})
    assert (answer.status_code, answer.text) == (
        400,
        "'reason' is given twice, in the address and in the body; give it once\n",
    )


def test_a_body_beyond_the_limit_is_413(standing):
    content = b" " * (MAX_BUFFERED_BODY + 1)
    answer = standing.post(f"{X}/versions/1.a/yank", content=content, headers={"content-type": "application/json"})
    assert answer.status_code == 413
    assert is_one_line(answer)


@pytest.mark.parametrize(
    ("method", "address", "told"),
    [
        ("GET", f"{API}/other/projects/x", "no such registry: 'other'; there are main"),
        ("POST", f"{API}/other/projects/x/versions/1/yank", "no such registry: 'other'; there are main"),
        ("DELETE", f"{API}/other/projects/x/versions/1", "no such registry: 'other'; there are main"),
        ("PUT", f"{API}/other/projects/x/status?status=active", "no such registry: 'other'; there are main"),
        ("GET", f"{API}/other/projects/x/history", "no such registry: 'other'; there are main"),
        ("GET", f"{API}/main/projects/y", "no such project: y"),
        ("GET", f"{API}/main/projects/a%20b", "no such project: a b"),
        ("GET", f"{API}/main/projects/y/history", "no such project: y"),
        ("POST", f"{X}/versions/3/yank", "no such version: x 3"),
        ("DELETE", f"{X}/versions/3/yank", "no such version: x 3"),
        ("POST", f"{X}/versions/1.a/yank?file=y", "no such file: x y"),
        ("PUT", f"{API}/main/projects/y/status?status=archived", "no such project: y"),
        ("DELETE", f"{API}/main/projects/y/versions/1", "no such hosted file: y version 1"),
        ("DELETE", f"{X}/versions/..%2F1", "no such path: ..%2F1"),
        ("DELETE", f"{X}/versions/%0A", "no such path: %0A"),
        ("DELETE", f"{API}/main/projects/{'y' * 300}/versions/1", f"no such project: {'y' * 200}"),
        ("DELETE", f"{X}/versions/1.a/files", "not found"),
        ("DELETE", f"{X}/versions/1.a/files/", "not found"),
        ("DELETE", f"{X}/versions/1.a/", "not found"),
        ("GET", f"{API}/", "not found"),
        ("GET", "/api/v1", "not found"),
        ("GET", "/api/v2/registries", "not found"),
    ],
)
def test_what_is_not_there_is_404(standing, method, address, told):
    answer = standing.request(method, address)
    assert (answer.status_code, answer.text) == (404, told + "\n")
    assert is_one_line(answer)


@pytest.mark.parametrize(
    ("method", "address", "allowed"),
    [
        ("POST", API, {"GET", "HEAD"}),
        ("DELETE", X, {"GET", "HEAD"}),
        ("PUT", f"{X}/versions/1.a/yank", {"POST", "DELETE"}),
        ("GET", f"{X}/versions/1.a/yank", {"POST", "DELETE"}),
        ("GET", f"{X}/versions/1.a", {"DELETE"}),
        ("POST", f"{X}/status", {"PUT"}),
        ("POST", f"{X}/history", {"GET", "HEAD"}),
    ],
)
def test_a_method_that_is_not_allowed_is_405_with_those_that_are(standing, method, address, allowed):
    # HTTP-3
    answer = standing.request(method, address)
    assert answer.status_code == 405
    assert set(answer.headers["allow"].split(", ")) == allowed


# Rights

RIGHTS = {
    ("/registries", "GET"): Right.READ,
    ("/registries/<registry>/projects/<project>", "GET"): Right.READ,
    ("/registries/<registry>/projects/<project>/history", "GET"): Right.ADMIN,
    ("/registries/<registry>/projects/<project>/status", "PUT"): Right.ADMIN,
    ("/registries/<registry>/projects/<project>/files/<filename>", "DELETE"): Right.ADMIN,
    ("/registries/<registry>/projects/<project>/versions/<version>", "DELETE"): Right.ADMIN,
    ("/registries/<registry>/projects/<project>/versions/<version>/files/<filename>", "DELETE"): Right.ADMIN,
    ("/registries/<registry>/projects/<project>/versions/<version>/yank", "POST"): Right.WRITE,
    ("/registries/<registry>/projects/<project>/versions/<version>/yank", "DELETE"): Right.WRITE,
}


def test_every_route_needs_its_right():
    declared = {(route.rule, method): route.right for route in api_routes({}).routes for method in route.methods}
    assert {key: right for key, right in declared.items() if key[1] != "HEAD"} == RIGHTS


@pytest.mark.parametrize(("anonymous_read", "read"), [(True, (200, 404)), (False, (401, 401))])
async def test_who_does_not_log_in_reads_at_most(tmp_path, anonymous_read, read):
    # AUTH-2, AUTH-6, AUTH-7
    (tmp_path / "users").write_text("")
    auth = AuthSettings(enabled=True, anonymous_read=anonymous_read, htpasswd_file=str(tmp_path / "users"))
    proxied = ServerSettings(trusted_proxies=("127.0.0.1",))
    async with running(configured(tmp_path, auth=auth, server=proxied), Words()) as client:
        assert (await client.put("/main/x/1.a/x-1", content=b"data", auth=("ada", "right"))).status_code == 200
        count = itertools.count(1)
        for project, status in (("x", read[0]), ("y", read[1])):
            for (rule, method), right in RIGHTS.items():
                address = "/api/v1" + re.sub(
                    "<[a-z]+>", "1.a", rule.replace("<registry>", "main").replace("<project>", project)
                )
                answer = await client.request(method, address)
                expected = (200 if rule == "/registries" and anonymous_read else status) if right is Right.READ else 401
                assert answer.status_code == expected, (method, address)
                # Each time from somewhere else, so that no limit of failed logins is reached.
                elsewhere = {"x-forwarded-for": f"192.0.2.{next(count)}"}
                refused = await client.request(method, address, auth=("ada", "wrong"), headers=elsewhere)
                assert refused.status_code == 401
        answer = await client.post(f"{X}/versions/1.a/yank", auth=("ada", "right"))
        assert answer.json()["event"]["actor"] == "ada"
        events = (await client.get(f"{X}/history", auth=("ada", "right"))).json()["events"]
        assert [event["actor"] for event in events] == ["ada", "ada"]


# The host's own addresses


def mount_of(path: str, *rules: str) -> Mount:
    blueprint = RegistryBlueprint()
    for rule in rules or ("/<project>/<filename>",):

        @blueprint.read(rule)
        async def read(request: Any, **_: str) -> Any:
            return text("taken")

    return Mount("taker", path, blueprint.routes)


@pytest.mark.parametrize(
    "path", ["/health/", "/ready", "/metrics", "/ui/", "/ui", "/api/", "/api", "/api/v1", "/api/v1/registries/"]
)
def test_no_registry_is_configured_at_an_address_of_the_hosts(tmp_path, path, toy_format):
    (tmp_path / "config.toml").write_text(f'[registries.a]\nformat = "toy"\npath = "{path}"\n')
    with pytest.raises(ConfigurationError, match=r"registries\.a\.path: /[a-z]+/ is a path that Nora needs itself"):
        load(formats={"toy": toy_format}, environ={}, cwd=tmp_path)


@pytest.mark.parametrize("name", ["health", "ready", "metrics", "ui", "api"])
def test_no_registry_has_a_name_that_leads_to_an_address_of_the_hosts(tmp_path, name, toy_format):
    (tmp_path / "config.toml").write_text(f'[registries.{name}]\nformat = "toy"\n')
    with pytest.raises(ConfigurationError, match=rf"registries\.{name}: is a name that Nora needs itself"):
        load(formats={"toy": toy_format}, environ={}, cwd=tmp_path)


@pytest.mark.parametrize(
    ("path", "rule"),
    [
        ("/", "/api/v1/registries"),
        ("/api/", "/v1/registries"),
        ("/api/v1/", "/registries"),
        ("/api/v1/registries/", "/x"),
        ("/", "/health"),
        ("/", "/ready"),
        ("/", "/metrics"),
    ],
)
def test_no_plugin_takes_an_address_of_the_hosts(path, rule):
    mounts = [Mount("api", "/api/v1/", api_routes({}).routes), mount_of(path, rule)]
    with pytest.raises(ConfigurationError, match="taker"):
        build_app(mounts, Dispatcher(Access(False, Rules(), ()), access_log_enabled=False), Readiness(), body_limit_bytes=1)


@pytest.fixture
def plain(serving: Callable[..., Any]) -> Any:
    """A server whose registry at ``/`` answers every address of one or two segments."""
    blueprint = RegistryBlueprint()
    for rule in ("/<project>", "/<project>/<filename>"):

        @blueprint.read(rule)
        async def read(request: Any, **_: str) -> Any:
            return text("taken")

    return serving(blueprint)


@pytest.mark.parametrize("address", ["/health", "/ready", "/metrics"])
def test_the_hosts_addresses_win_over_a_registry_that_answers_everything(plain, address):
    answer = plain.ask("GET", address)
    assert (answer.status, answer.body == b"taken") == (200, False)
    assert plain.ask("GET", "/other").body == b"taken"
    assert plain.ask("POST", address, b"").status == 405
