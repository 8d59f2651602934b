from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from nora.api import Secret
from nora.config.settings import Settings

Configure = Callable[..., Settings]
Problems = Callable[..., list[str]]


@pytest.mark.parametrize(
    ("name", "text", "table", "key", "value"),
    [
        ("NORA_HOST", "127.0.0.2", "server", "host", "127.0.0.2"),
        ("NORA_PORT", "5000", "server", "port", 5000),
        ("NORA_PORT", " +5000 ", "server", "port", 5000),
        ("NORA_PUBLIC_URL", "https://registry.example", "server", "public_url", "https://registry.example"),
        ("NORA_WORKERS", "3", "server", "workers", 3),
        ("NORA_BODY_LIMIT_MB", "7", "server", "body_limit_mb", 7),
        ("NORA_SHUTDOWN_TIMEOUT", "0", "server", "shutdown_timeout", 0),
        ("NORA_TRUSTED_PROXIES", "10.0.0.0/8, ::1", "server", "trusted_proxies", ("10.0.0.0/8", "::1")),
        ("NORA_REQUESTS_PER_MINUTE", "600", "server", "requests_per_minute", 600),
        ("NORA_PAGE_CACHE_MB", "0", "server", "page_cache_mb", 0),
        ("NORA_STORAGE_PATH", "/srv/nora", "storage", "path", "/srv/nora"),
        ("NORA_AUTH_ALLOW_UNAUTHENTICATED_WRITES", "true", "auth", "allow_unauthenticated_writes", True),
        ("NORA_AUTH_ANONYMOUS_READ", "on", "auth", "anonymous_read", True),
        ("NORA_AUTH_HTPASSWD_FILE", "/etc/users", "auth", "htpasswd_file", "/etc/users"),
        ("NORA_LOGGING_LEVEL", "debug", "logging", "level", "debug"),
        ("NORA_LOGGING_FORMAT", "json", "logging", "format", "json"),
        ("NORA_LOGGING_ACCESS", "no", "logging", "access", False),
        ("NORA_AUDIT_ENABLED", "no", "audit", "enabled", False),
        ("NORA_AUDIT_KEEP_DAYS", "0", "audit", "keep_days", 0),
    ],
)
def test_every_key_of_the_host_has_its_variable(
    configure: Configure, name: str, text: str, table: str, key: str, value: Any
) -> None:
    settings = configure(**{name: text})
    assert getattr(getattr(settings, table), key) == value
    assert settings.warnings == ()


def test_the_variables_of_the_pypi_registry(configure: Configure) -> None:
    (registry,) = configure(
        NORA_PYPI_ENABLED="true",
        NORA_PYPI_PROXY="https://other.example/simple/",
        NORA_PYPI_PROXY_AUTH="user:pa,ss",
        NORA_PYPI_PROXY_TIMEOUT="2.5",
        NORA_PYPI_METADATA_TTL="-1",
        NORA_PYPI_MERGE_UPSTREAM="team-*, x ,,",
        NORA_PYPI_PATH="/python",
    ).registries
    config: Any = registry.config
    assert config.proxy == "https://other.example/simple/"
    assert config.proxy_auth == Secret("user:pa,ss")
    assert config.proxy_timeout == 2.5
    assert config.metadata_ttl == -1
    assert config.merge_upstream == ("team-*", "x")
    assert registry.path == "/python/"


def test_a_registry_with_a_dash_in_its_name(configure: Configure) -> None:
    toml = "[registries.team-a]\nformat = 'pypi'\nproxy = ''"
    settings = configure(
        toml, NORA_TEAM_A_PROXY="https://other.example/", NORA_TEAM_A_PROXIES="https://a.example/,https://b.example/"
    )
    config: Any = settings.registries[1].config
    assert config.proxy == "https://other.example/"
    assert config.proxies == ("https://a.example/", "https://b.example/")
    assert settings.warnings == ()


@pytest.mark.parametrize("text", ["true", "TRUE", "True", "1", "yes", "Yes", "on", "ON", " on "])
def test_words_for_true(configure: Configure, text: str) -> None:
    assert configure(NORA_AUTH_ANONYMOUS_READ=text).auth.anonymous_read


@pytest.mark.parametrize("text", ["false", "FALSE", "0", "no", "No", "off", "OFF"])
def test_words_for_false(configure: Configure, text: str) -> None:
    assert not configure("[auth]\nanonymous_read = true", NORA_AUTH_ANONYMOUS_READ=text).auth.anonymous_read


@pytest.mark.parametrize(
    ("name", "text", "problem"),
    [
        ("NORA_AUTH_ENABLED", "maybe", "'maybe' is not true or false"),
        ("NORA_AUTH_ENABLED", "2", "'2' is not true or false"),
        ("NORA_PORT", "4000.0", "'4000.0' is not a whole number"),
        ("NORA_PORT", "4_000", "'4_000' is not a whole number"),
        ("NORA_PORT", "0x10", "'0x10' is not a whole number"),
        ("NORA_PORT", "٤٠٠٠", "'٤٠٠٠' is not a whole number"),
        ("NORA_PORT", "4000\n4001", "'4000\\n4001' is not a whole number"),
        ("NORA_PORT", "9" * 5000, "'" + "9" * 80 + "...' is not a whole number"),
        ("NORA_PORT", "99999", "must be from 1 to 65535"),
        ("NORA_WORKERS", "all", "'all' is not a whole number or \"auto\""),
        ("NORA_PYPI_PROXY_TIMEOUT", "nan", "'nan' is not a number"),
        ("NORA_PYPI_PROXY_TIMEOUT", "inf", "'inf' is not a number"),
        ("NORA_PYPI_PROXY_TIMEOUT", "1e999", "must be a number, and finite"),
        ("NORA_PYPI_PROXY_TIMEOUT", "30s", "'30s' is not a number"),
        ("NORA_PYPI_PROXY_TIMEOUT", "0", "must be more than 0 seconds"),
        ("NORA_LOGGING_LEVEL", "INFO", "'INFO' is not one of debug, info, warning, error"),
        ("NORA_PYPI_PROXIES", "https://a.example/,b", "'b' is not an http:// or https:// URL"),
    ],
)
def test_a_text_that_does_not_fit_is_refused(problems: Problems, name: str, text: str, problem: str) -> None:  # CONF-1
    assert problems(**{name: text}) == [f"environment {name}: {problem}"]


@pytest.mark.parametrize("text", ["5e-1", ".5", "0.50", "5.e-1"])
def test_numbers_may_have_a_fraction_and_an_exponent(configure: Configure, text: str) -> None:
    config: Any = configure(NORA_PYPI_PROXY_TIMEOUT=text).registries[0].config
    assert config.proxy_timeout == 0.5


@pytest.mark.parametrize("text", ["", "  "])
def test_an_empty_variable_is_not_set_where_empty_means_nothing(configure: Configure, text: str) -> None:
    toml = "[server]\nport = 5000\n[auth]\nanonymous_read = true\n[logging]\nlevel = 'error'\n[pypi]\nproxy_timeout = 2\nproxies = ['https://a.example/']"
    names = ("NORA_PORT", "NORA_AUTH_ANONYMOUS_READ", "NORA_LOGGING_LEVEL", "NORA_PYPI_PROXY_TIMEOUT", "NORA_PYPI_PROXIES")
    assert configure(toml, **dict.fromkeys(names, text)) == configure(toml)


def test_an_empty_variable_is_the_empty_text_where_there_is_one(configure: Configure) -> None:
    toml = "[server]\npublic_url = 'https://a.example'\n[pypi]\nproxy = 'https://a.example/'\nproxy_auth = 'a:b'"
    settings = configure(toml, NORA_PUBLIC_URL="", NORA_PYPI_PROXY="", NORA_PYPI_PROXY_AUTH="")
    config: Any = settings.registries[0].config
    assert (settings.server.public_url, config.proxy, config.proxy_auth) == ("", "", Secret(""))


def test_an_empty_variable_that_is_wrong_is_named(problems: Problems) -> None:
    assert problems("[storage]\npath = 'data'", NORA_STORAGE_PATH="") == [
        "environment NORA_STORAGE_PATH: must name a directory"
    ]


def test_a_problem_in_the_file_is_not_blamed_on_an_empty_variable(problems: Problems) -> None:
    assert problems("[server]\nport = 0", NORA_PORT="") == ["config.toml: server.port: must be from 1 to 65535"]


def test_a_clash_with_kubernetes_is_explained(problems: Problems) -> None:
    (problem,) = problems(NORA_PORT="tcp://10.0.0.1:4000")
    assert problem == (
        "environment NORA_PORT: 'tcp://10.0.0.1:4000' is not a whole number; Kubernetes sets this variable for a service "
        "of that name: rename the service, or set enableServiceLinks: false in the pod"
    )


def test_unknown_variables_are_warned_of(configure: Configure) -> None:
    warnings = configure(
        NORA_PROT="1",
        NORA_AUTH_ENABLE="true",
        NORA_SERVICE_HOST="10.0.0.1",
        NORA_TEAM_A_PROXY="x",
        NORAH_PORT="1",
        HOME="/root",
        nora_port="1",
    ).warnings
    assert "environment NORA_PROT: unknown variable, ignored; did you mean NORA_PORT?" in warnings
    assert "environment NORA_AUTH_ENABLE: unknown variable, ignored; did you mean NORA_AUTH_ENABLED?" in warnings
    assert [warning.split(":")[0].removeprefix("environment ") for warning in warnings] == [
        "NORA_AUTH_ENABLE",
        "NORA_PROT",
        "NORA_SERVICE_HOST",
        "NORA_TEAM_A_PROXY",
    ]


def test_the_prefix_does_not_make_variables_alike(configure: Configure) -> None:
    assert configure(NORA_TOKEN="1").warnings == ("environment NORA_TOKEN: unknown variable, ignored",)


def test_a_warning_does_not_show_the_value(configure: Configure) -> None:
    (warning,) = configure(NORA_PYPI_PROXY_AUHT="user:hunter2").warnings
    assert warning == "environment NORA_PYPI_PROXY_AUHT: unknown variable, ignored; did you mean NORA_PYPI_PROXY_AUTH?"


def test_a_variable_name_cannot_break_a_line(configure: Configure) -> None:
    (warning,) = configure(**{"NORA_X\nY": "1"}).warnings
    assert "\n" not in warning


def test_a_disabled_registry_still_owns_its_variables(configure: Configure) -> None:
    toml = "[registries.team]\nformat = 'raw'"
    assert configure(toml, NORA_PYPI_ENABLED="false", NORA_PYPI_PROXY="https://a.example/").warnings == ()


def test_the_command_line_gives_text_too(configure: Configure) -> None:
    settings = configure(
        "", {"auth.anonymous_read": "yes", "pypi.proxies": "https://a.example/,https://b.example/", "server.port": ""}
    )
    config: Any = settings.registries[0].config
    assert settings.auth.anonymous_read
    assert settings.server.port == 4000
    assert config.upstreams == ("https://a.example/", "https://b.example/")


@pytest.mark.parametrize(
    ("toml", "environ"),
    [
        ("[pypi]\nproxy_auth = 'hunter2'", {}),
        ("[pypi]\nproxy_auth = ['hunter2']", {}),
        ("[pypi]\nproxy_auth = {hunter2 = 1}", {}),
        ("", {"NORA_PYPI_PROXY_AUTH": "hunter2"}),
        ("", {"NORA_PYPI_PROXY_AUTH": "tcp://hunter2"[6:]}),
        ("[pypi]\nproxy = 'https://joe:hunter2@index.example/'", {}),
        ("[pypi]\nproxy = 'ftp://joe:hunter2@index.example/'", {}),
        ("[server]\npublic_url = 'ftp://joe:hunter2@index.example/'", {}),
        ("[pypi]\nproxy_auht = 'joe:hunter2'", {}),
        ("proxy_auth = 'joe:hunter2'", {}),
        ("[pypi]\nproxy_auth = hunter2", {}),
        ("[pypi]\nproxy_auth = 'joe:hunter2", {}),
    ],
)
def test_a_secret_is_never_shown(problems: Problems, toml: str, environ: dict[str, str]) -> None:  # AUTH-8
    found = problems(toml, **environ)
    assert found
    assert "hunter2" not in " ".join(found)


def test_settings_do_not_show_secrets(configure: Configure) -> None:  # AUTH-8
    assert "hunter2" not in repr(configure(NORA_PYPI_PROXY_AUTH="joe:hunter2"))
