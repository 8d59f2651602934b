"""The composition: settings and plugins become a host, and all of it is closed again."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import asynccontextmanager
from typing import Any

import pytest
from sanic.response import text

from nora.api import File, Format, ProxyConfig, RegistryBlueprint, RegistryConfig, Right, Secret
from nora.compose import host
from nora.config.errors import ConfigurationError
from nora.config.settings import (
    AuthSettings,
    PublisherSettings,
    RegistrySettings,
    ServerSettings,
    Settings,
    StorageSettings,
    TlsSettings,
)
from nora.plugins import Plugins
from nora.rights import Grant
from nora.store.directory import StoreError
from tests.unit.http.serving import serving_client


class Raw(Format):
    """Files by project and name; remembers the registries that it was given."""

    name, title = "raw", "Raw files"
    api_version = 1

    def __init__(self, prefix: str = "/files") -> None:
        self.prefix = prefix
        self.registries: list[Any] = []

    def routes(self, registry: Any) -> RegistryBlueprint:
        self.registries.append(registry)
        blueprint = RegistryBlueprint()

        @blueprint.read(self.prefix + "/<project>/<filename>")
        async def download(request, project, filename):
            return await registry.open(project, filename)

        @blueprint.write(self.prefix + "/<project>/<filename>", methods=["PUT"], stream=True)
        async def upload(request, project, filename):
            async with registry.receive(request) as incoming:
                done = await registry.publish(project, File(name=filename), incoming)
            return text("created\n" if done.created else "known\n", status=201)

        return blueprint


class Broken(Raw):
    name = "broken"

    def routes(self, registry: Any) -> RegistryBlueprint:
        raise LookupError("no licence")


def configured(name: str, format_: str = "raw", path: str = "", config: RegistryConfig | None = None) -> RegistrySettings:
    return RegistrySettings(name=name, format=format_, path=path or f"/{name}/", config=config or RegistryConfig())


def settings(tmp_path, *registries: RegistrySettings, **tables: Any) -> Settings:
    return Settings(storage=StorageSettings(path=str(tmp_path / "store")), registries=registries, **tables)


def plugins(*formats: Format, **more: Any) -> Plugins:
    return Plugins(formats={format_.name: format_ for format_ in formats}, **more)


def left(tmp_path) -> list[str]:
    return os.listdir(tmp_path / "store" / "tmp")


@asynccontextmanager
async def running(configuration: Settings, found: Plugins):
    """A client of the host, which serves."""
    async with host(configuration, found, {}) as composed, serving_client(composed.app, composed.readiness) as client:
        yield client


async def test_a_host_serves_its_registries_apart(tmp_path):
    events = []

    class Sink:
        def emit(self, event):
            events.append((event.registry, event.project, event.files, event.request_id))

    async with running(
        settings(tmp_path, configured("a"), configured("b", path="/deep/b/")), plugins(Raw(), sinks=[Sink()])
    ) as client:
        done = await client.put("/a/files/x/x-1", content=b"data", headers={"X-Request-ID": "r-1"})
        assert (done.status_code, done.text) == (201, "created\n")
        assert (await client.get("/a/files/x/x-1")).content == b"data"
        assert (await client.get("/deep/b/files/x/x-1")).status_code == 404
        assert (await client.put("/deep/b/files/x/x-1", content=b"else")).status_code == 201
        assert (await client.get("/deep/b/files/x/x-1")).content == b"else"
        assert (await client.put("/a/files/x/x-1", content=b"else")).status_code == 409
        assert (await client.get("/health")).json()["status"] == "ok"
    assert events[0] == ("a", "x", ("x-1",), "r-1")
    assert left(tmp_path) == []


@pytest.mark.parametrize(
    ("auth", "audience"),
    [
        ({"enabled": True}, "https://nora.example"),
        ({"enabled": True, "oidc_audience": "registry"}, "registry"),
        ({"enabled": False}, None),
    ],
)
async def test_trusted_publishing_is_for_servers_with_logins(tmp_path, auth, audience):
    (tmp_path / "users").touch()
    grant = Grant(rights=frozenset({Right.WRITE}))
    publisher = PublisherSettings(issuer="https://ci.example", claims={"repository": ("acme/demo",)}, grant=grant)
    tables = {
        "server": ServerSettings(public_url="https://nora.example"),
        "auth": AuthSettings(htpasswd_file=str(tmp_path / "users"), **auth),
    }
    async with running(settings(tmp_path, configured("a"), **tables, publishers=(publisher,)), plugins(Raw())) as client:
        answer = await client.get("/_/oidc/audience")
        assert answer.status_code == (404 if audience is None else 200)
        assert audience is None or answer.json() == {"audience": audience}
    async with running(settings(tmp_path, configured("a"), **tables), plugins(Raw())) as client:
        assert (await client.get("/_/oidc/audience")).status_code == 404


async def test_a_registry_has_its_name_place_and_configuration(tmp_path):
    format_, config = Raw(), ProxyConfig(metadata_ttl=7)
    server = ServerSettings(public_url="https://nora.example/sub")
    async with host(settings(tmp_path, configured("a", config=config), server=server), plugins(format_), {}):
        registry = format_.registries[0]
        assert (registry.name, registry.path, registry.config) == ("a", "/a/", config)
        assert registry.public_url == "https://nora.example/sub/a/"
    async with host(settings(tmp_path, configured("a")), plugins(format_), {}):
        assert format_.registries[1].public_url == ""


async def test_a_proxying_registry_has_its_upstreams_in_order_with_their_credentials(tmp_path, toy_format):
    config = ProxyConfig(
        proxies=("https://a.example/", "https://b.example/"), proxy_auth=Secret("u:p"), merge_upstream=("m-*",)
    )
    given = []
    toy_format.routes = lambda registry: given.append(registry) or RegistryBlueprint()
    async with host(settings(tmp_path, configured("r", "toy", config=config)), plugins(toy_format), {}):
        upstreams = [source.listings.upstream for source in given[0]._sources]
        assert [upstream.url for upstream in upstreams] == ["https://a.example/", "https://b.example/"]
        assert {upstream.auth for upstream in upstreams} == {Secret("u:p")}
        assert len({source.listings.prefix for source in given[0]._sources}) == 2


async def test_a_hosted_only_registry_has_no_upstreams(tmp_path, toy_format):
    given = []
    toy_format.routes = lambda registry: given.append(registry) or RegistryBlueprint()
    async with host(settings(tmp_path, configured("r", "toy", config=ProxyConfig())), plugins(toy_format), {}):
        assert list(given[0]._sources) == []


async def test_the_first_policy_that_refuses_gives_the_reason(tmp_path):
    class Policy:
        def __init__(self, reason: str | None) -> None:
            self.reason = reason

        def refusal(self, registry: str, project: str, file: File) -> str | None:
            return self.reason and f"{self.reason} {registry}/{project}/{file.name}"

    policies = [Policy(None), Policy("first"), Policy("second")]
    async with running(settings(tmp_path, configured("a")), plugins(Raw(), policies=policies)) as client:
        await client.put("/a/files/x/x-1", content=b"data")
        answer = await client.get("/a/files/x/x-1")
        assert (answer.status_code, answer.text) == (403, "x-1: first a/x/x-1\n")


# AUTH-9
@pytest.mark.parametrize("users", ["", "# nobody\n"])
async def test_a_login_that_nobody_has_is_no_open_access(tmp_path, users):
    (tmp_path / "users").write_text(users)
    auth = AuthSettings(enabled=True, htpasswd_file=str(tmp_path / "users"))
    async with running(settings(tmp_path, configured("a"), auth=auth), plugins(Raw())) as client:
        for login in (None, ("ada", ""), ("", "")):
            assert (await client.get("/a/files/x/x-1", auth=login)).status_code == 401
            assert (await client.put("/a/files/x/x-1", content=b"data", auth=login)).status_code == 401
        assert (await client.get("/health")).status_code == 200


async def test_plugins_authenticators_are_asked(tmp_path):
    from nora.api import Actor

    class Knows:
        async def authenticate(self, username: str, password: str) -> Actor | None:
            return Actor(name=username) if password == "right" else None

    (tmp_path / "users").write_text("")
    auth = AuthSettings(enabled=True, htpasswd_file=str(tmp_path / "users"))
    async with running(settings(tmp_path, configured("a"), auth=auth), plugins(Raw(), authenticators=[Knows()])) as client:
        assert (await client.get("/a/files/x/x-1", auth=("ada", "right"))).status_code == 404
        assert (await client.get("/a/files/x/x-1", auth=("ada", "wrong"))).status_code == 401


async def test_the_body_limit_is_that_of_the_settings(tmp_path):
    server = ServerSettings(body_limit_mb=1)
    async with running(settings(tmp_path, configured("a"), server=server), plugins(Raw())) as client:
        assert (await client.put("/a/files/x/x-1", content=b"x" * 1024 * 1024)).status_code == 201
        assert (await client.put("/a/files/x/x-2", content=b"x" * (1024 * 1024 + 1))).status_code == 413


# What does not fit together, CONF-1


async def composing(configuration: Settings, found: Plugins, environ: dict[str, str] | None = None) -> ConfigurationError:
    with pytest.raises(ConfigurationError) as caught:
        async with host(configuration, found, environ or {}):
            raise AssertionError
    return caught.value


async def test_every_plugin_that_cannot_give_its_routes_is_named_and_the_store_is_let_go(tmp_path):
    error = await composing(
        settings(tmp_path, configured("a"), configured("b", "broken"), configured("c", "broken")), plugins(Raw(), Broken())
    )
    assert "registries.b: format broken failed to give its routes" in str(error)
    assert "registries.c: format broken failed to give its routes" in str(error)
    assert "no licence" in str(error)
    assert left(tmp_path) == []


async def test_registries_in_each_others_way_are_an_error(tmp_path):
    # CONF-1
    error = await composing(settings(tmp_path, configured("a", path="/"), configured("b", path="/")), plugins(Raw()))
    assert "registries.b.path" in str(error)
    error = await composing(settings(tmp_path, configured("a", path="/"), configured("b", path="/files/")), plugins(Raw()))
    assert "registries.b.path: /files/ is an address of registry a" in str(error)
    assert left(tmp_path) == []


@pytest.mark.parametrize("address", ["/health", "/ready"])
async def test_a_plugin_in_the_hosts_way_is_an_error_and_no_traceback(tmp_path, address):
    class InTheWay(Raw):
        def routes(self, registry: Any) -> RegistryBlueprint:
            blueprint = RegistryBlueprint()

            @blueprint.read(address)
            async def read(request):
                return text("ok")

            return blueprint

    assert "registries.a" in str(await composing(settings(tmp_path, configured("a", path="/")), plugins(InTheWay())))
    assert left(tmp_path) == []


async def test_a_certificate_file_that_cannot_be_read_is_an_error_that_names_its_setting(tmp_path):
    tls = TlsSettings(ca_cert=str(tmp_path / "missing.pem"))
    assert "ca_cert" in str(await composing(settings(tmp_path, configured("a"), tls=tls), plugins(Raw())))
    environ = {"SSL_CERT_FILE": str(tmp_path / "missing.pem")}
    assert "SSL_CERT_FILE" in str(await composing(settings(tmp_path, configured("a")), plugins(Raw()), environ))
    assert left(tmp_path) == []


async def test_a_foreign_directory_is_an_error(tmp_path):
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "photo.jpg").write_bytes(b"")
    with pytest.raises(StoreError):
        async with host(settings(tmp_path, configured("a")), plugins(Raw()), {}):
            raise AssertionError


async def test_whatever_happens_inside_everything_is_closed(tmp_path, open_files):
    with pytest.raises(LookupError):
        async with host(settings(tmp_path, configured("a")), plugins(Raw()), {}):
            raise LookupError
    assert (left(tmp_path), open_files()) == ([], [])


def test_what_only_some_need_is_not_loaded_at_every_start() -> None:
    program = "import nora.cli.serve, sys; print(sorted({'jwt', 'nora.auth.exchange'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
