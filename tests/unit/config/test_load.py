from __future__ import annotations

import os
import ssl
from collections.abc import Callable
from pathlib import Path

import pytest

from nora.api import Format, NoraError
from nora.config.errors import ConfigurationError
from nora.config.load import load
from nora.config.settings import AuthSettings, LoggingSettings, ServerSettings, Settings, TlsSettings

Configure = Callable[..., Settings]
Problems = Callable[..., list[str]]

OPEN = {"NORA_AUTH_ALLOW_UNAUTHENTICATED_WRITES": "true"}
"""For hosts that others can reach."""


def test_without_anything_the_defaults_hold(configure: Configure, tmp_path: Path) -> None:
    settings = configure()
    assert settings.server == ServerSettings(
        host="127.0.0.1", port=4000, public_url="", workers=1, body_limit_mb=2048, shutdown_timeout=30
    )
    assert settings.storage.path == str(tmp_path / "data/storage")
    assert settings.auth == AuthSettings(enabled=False, htpasswd_file=str(tmp_path / "users.htpasswd"), anonymous_read=False)
    assert settings.tls == TlsSettings(ca_cert="")
    assert settings.logging == LoggingSettings(level="info", format="text", access=True)
    assert [registry.name for registry in settings.registries] == ["pypi"]
    assert settings.warnings == ()


@pytest.mark.parametrize("toml", ["", "\n", "# nothing\n", "[server]\n", "[registries]\n", "\ufeff[server]\r\n"])
def test_an_empty_file_changes_nothing(configure: Configure, toml: str) -> None:
    assert configure(toml).server == ServerSettings()


def test_the_order_is_command_line_environment_file_default(configure: Configure) -> None:  # CONF-2
    toml = "[server]\nport = 1001\nbody_limit_mb = 1002\nshutdown_timeout = 1003\n"
    server = configure(toml, {"server.port": "3001"}, NORA_PORT="2001", NORA_BODY_LIMIT_MB="2002", NORA_WORKERS="").server
    assert (server.port, server.body_limit_mb, server.shutdown_timeout, server.workers) == (3001, 2002, 1003, 1)


def test_the_order_of_files_is_command_line_environment_current_directory(
    formats: dict[str, Format], tmp_path: Path
) -> None:  # CONF-2
    for port, name in ((1001, "config.toml"), (1002, "b.toml"), (1003, "c.toml")):
        (tmp_path / name).write_text(f"[server]\nport = {port}\n")

    def port_of(config_path: str | None, **environ: str) -> int:
        return load(formats=formats, config_path=config_path, environ=environ, cwd=tmp_path).server.port

    assert port_of(None) == 1001
    assert port_of(None, NORA_CONFIG_PATH="") == 1001
    assert port_of(None, NORA_CONFIG_PATH="b.toml") == 1002
    assert port_of(None, NORA_CONFIG_PATH=str(tmp_path / "b.toml")) == 1002
    assert port_of("c.toml", NORA_CONFIG_PATH="b.toml") == 1003
    assert port_of("c.toml", NORA_CONFIG_PATH="missing.toml") == 1003


def test_a_file_that_was_asked_for_must_be_there(
    formats: dict[str, Format], tmp_path: Path, problems: Problems
) -> None:  # CONF-1
    assert problems(NORA_CONFIG_PATH="x.toml") == [
        "environment NORA_CONFIG_PATH: x.toml: cannot be read: No such file or directory"
    ]
    with pytest.raises(ConfigurationError, match=r"^command line: --config: y.toml: cannot be read: No such file"):
        load(formats=formats, config_path="y.toml", environ={}, cwd=tmp_path)


def test_a_broken_link_or_directory_is_not_taken_for_no_configuration(problems: Problems, tmp_path: Path) -> None:
    (tmp_path / "config.toml").symlink_to("gone.toml")
    assert problems() == ["config.toml: cannot be read: No such file or directory"]
    (tmp_path / "config.toml").unlink()
    (tmp_path / "config.toml").mkdir()
    assert problems() == ["config.toml: cannot be read: Is a directory"]


@pytest.mark.parametrize(
    ("toml", "start"),
    [
        ("[server]\nport = \n", "config.toml: line 2, column 8: Unexpected character"),
        ("[server\n", "config.toml: line 1, column "),
        ("a", "config.toml: line 1, column "),
        ("garbage =", "config.toml: line 1, column 10: Unexpected character: '\\n'"),
        ("[server]\nport = 1\nport = 2\n", 'config.toml: line 3, column 9: Key "port" already exists'),
        ("[server]\nx = 1\n[server.x]\ny = 1\n", 'config.toml: line 3, column 10: Key "x" already exists'),
        ("a = " + "[" * 5000, "config.toml: line 1, column "),
        ("a = " + "9" * 5000, "config.toml: line 1, column "),
        ("\0", "config.toml: line 1, column 1"),
    ],
)
def test_what_is_no_toml_is_named_by_its_place(problems: Problems, toml: str, start: str) -> None:  # CONF-1
    (problem,) = problems(toml)
    assert problem.startswith(start)
    assert " at line " not in problem


def test_what_is_no_utf8_is_refused(problems: Problems, tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_bytes(b"[server]\nhost = '\xff'\n")
    (problem,) = problems()
    assert problem.startswith("config.toml: cannot be read: 'utf-8' codec can't decode byte 0xff")


def test_all_problems_are_reported_together(problems: Problems) -> None:  # CONF-1
    toml = """
    debug = true
    [server]
    port = 0
    prot = 1
    body_limit_mb = "2"
    [storge]
    [pypi]
    metadata_ttl = -2
    [registries.team-a]
    format = "pipy"
    """
    assert problems(toml, {"server.hots": "x"}, NORA_WORKERS="-1", NORA_LOGGING_LEVEL="loud") == [
        "config.toml: debug: keys belong into tables",
        "config.toml: storge: unknown table; did you mean storage?",
        "config.toml: server.prot: unknown key; did you mean port?",
        "config.toml: server.body_limit_mb: must be a whole number, not a text",
        "config.toml: server.port: must be from 1 to 65535",
        'environment NORA_WORKERS: must be 1 or more, or "auto"',
        "environment NORA_LOGGING_LEVEL: 'loud' is not one of debug, info, warning, error",
        "config.toml: registries.team-a.format: unknown format; known are pypi, raw",
        "config.toml: pypi.metadata_ttl: must be -1 (for ever), 0 (always ask) or a number of seconds",
        "command line: server.hots: unknown key; did you mean server.host?",
    ]


def test_a_configuration_error_is_one_of_noras_errors() -> None:
    error = ConfigurationError(["a: b\nc", "d"])
    assert isinstance(error, NoraError)
    assert error.problems == ("a: b c", "d")
    assert str(error) == "a: b c\nd"


@pytest.mark.parametrize(
    ("toml", "problem"),
    [
        ("server = 1", "server: must be a table"),
        ("[[server]]", "server: must be a table"),
        ("pypi = true", "pypi: must be a table"),
        ("port = 4000", "port: keys belong into tables; did you mean server.port?"),
        ("level = 'info'", "level: keys belong into tables; did you mean logging.level?"),
        ("[raw]", 'raw: a registry of this format is a table [registries.NAME] with format = "raw"'),
        ("[zzz]", "zzz: unknown table; known are server, storage, auth, tls, logging, audit, pypi, registries"),
        (
            "['a\\u000ab']\n",
            '"a\\\\u000ab": unknown table; known are server, storage, auth, tls, logging, audit, pypi, registries',
        ),
        ("[server]\npublic-url = ''", "server.public-url: unknown key; did you mean public_url?"),
        ("[server]\nPORT = 1", "server.PORT: unknown key; did you mean port?"),
        (
            "[server.tls]",
            "server.tls: unknown key; did you mean tls_key?",
        ),
        ("[pypi]\npage_tll = 1\nmetadata_tll = 1", "pypi.metadata_tll: unknown key; did you mean metadata_ttl?"),
    ],
)
def test_unknown_keys_and_tables_are_refused_with_the_nearest_name(
    problems: Problems, toml: str, problem: str
) -> None:  # CONF-1
    assert f"config.toml: {problem}" in problems(toml)


@pytest.mark.parametrize(
    ("toml", "problem"),
    [
        ("[server]\nport = true", "server.port: must be a whole number, not true or false"),
        ("[server]\nport = 4000.0", "server.port: must be a whole number, not a number with a fraction"),
        ("[server]\nport = '4000'", "server.port: must be a whole number, not a text"),
        ("[server]\nport = [4000]", "server.port: must be a whole number, not a list"),
        ("[server]\nport = {}", "server.port: must be a whole number, not a table"),
        ("[server]\nport = 2020-01-01", "server.port: must be a whole number, not a date or time"),
        ("[server]\nhost = 1", "server.host: must be a text, not a whole number"),
        ("[server]\nworkers = 'all'", 'server.workers: must be a whole number or "auto", not a text'),
        ("[auth]\nenabled = 1", "auth.enabled: must be true or false, not a whole number"),
        ("[auth]\nenabled = 'yes'", "auth.enabled: must be true or false, not a text"),
        ("[logging]\nformat = 'xml'", "logging.format: 'xml' is not one of text, json"),
        ("[logging]\nformat = 1", "logging.format: must be one of text, json, not a whole number"),
        ("[pypi]\nproxy_timeout = true", "pypi.proxy_timeout: must be a number, not true or false"),
        ("[pypi]\nproxy_timeout = nan", "pypi.proxy_timeout: must be a number, and finite"),
        ("[pypi]\nproxy_timeout = inf", "pypi.proxy_timeout: must be a number, and finite"),
        ("[pypi]\nproxies = 'https://a.example/'", "pypi.proxies: must be a list of texts, not a text"),
        ("[pypi]\nproxies = ['https://a.example/', 1]", "pypi.proxies: must be a list of texts and nothing else"),
    ],
)
def test_wrong_types_are_refused(problems: Problems, toml: str, problem: str) -> None:  # CONF-1
    assert problems(toml) == [f"config.toml: {problem}"]


@pytest.mark.parametrize(
    ("toml", "problem"),
    [
        ("port = 0", "port: must be from 1 to 65535"),
        ("port = -1", "port: must be from 1 to 65535"),
        ("port = 65536", "port: must be from 1 to 65535"),
        ("port = 99999999999999999999999999", "port: must be from 1 to 65535"),
        ("body_limit_mb = 0", "body_limit_mb: must be 1 or more"),
        ("workers = 0", 'workers: must be 1 or more, or "auto"'),
        ("shutdown_timeout = -1", "shutdown_timeout: must be 0 or more seconds"),
        ("requests_per_minute = -1", "requests_per_minute: must be from 0 to 10000000; 0 sets no limit"),
        ("requests_per_minute = 10000001", "requests_per_minute: must be from 0 to 10000000; 0 sets no limit"),
        ("page_cache_mb = -1", "page_cache_mb: must be 0 or more; 0 turns the cache off"),
        ("host = ''", "host: '' is not an address or host name; a port goes into port"),
        ("host = '127.0.0.1:80'", "host: '127.0.0.1:80' is not an address or host name; a port goes into port"),
        ("host = '[::1]'", "host: '[::1]' is not an address or host name; a port goes into port"),
        ("host = 'http://x'", "host: 'http://x' is not an address or host name; a port goes into port"),
        ("public_url = 'registry.example'", "public_url: 'registry.example' is not an http:// or https:// URL"),
        ("public_url = '/nora'", "public_url: '/nora' is not an http:// or https:// URL"),
        ("public_url = '//a.example/'", "public_url: '//a.example/' is not an http:// or https:// URL"),
        ("public_url = 'https://'", "public_url: 'https://' is not an http:// or https:// URL"),
        ("public_url = 'https://a b/'", "public_url: 'https://a b/' is not an http:// or https:// URL"),
        ("public_url = 'https://a.example/?x=1'", "public_url: 'https://a.example/?x=1' must not have a query or fragment"),
        ("public_url = 'https://joe:pw@a.example/'", "public_url: must not hold a user or password"),
    ],
)
def test_wrong_values_are_refused(problems: Problems, toml: str, problem: str) -> None:  # CONF-1
    assert problems(f"[server]\n{toml}") == [f"config.toml: server.{problem}"]


@pytest.mark.parametrize("host", ["0.0.0.0", "::"])
def test_a_wildcard_host_does_not_make_a_public_url(problems: Problems, configure: Configure, host: str) -> None:
    assert problems(f"[server]\nhost = '{host}'\npublic_url = '/nora'", **OPEN) == [
        f"config.toml: server.public_url: '/nora' is not an http:// or https:// URL; "
        f"{host} cannot stand in for it, clients need a real address"
    ]
    assert configure(f"[server]\nhost = '{host}'", **OPEN).server.host == host
    assert configure(f"[server]\nhost = '{host}'\npublic_url = 'https://a.example'", **OPEN).server.host == host


@pytest.mark.parametrize("host", ["localhost", "nora.internal", "my_host", "::1", "fe80::1%eth0", "10.0.0.1"])
def test_addresses_and_names_are_hosts(configure: Configure, host: str) -> None:
    assert configure(f"[server]\nhost = '{host}'", **OPEN).server.host == host


@pytest.mark.parametrize("written", ["https://a.example/nora", "https://a.example/nora/"])
def test_the_public_url_may_end_in_a_slash(configure: Configure, written: str) -> None:
    assert configure(f"[server]\npublic_url = '{written}'").server.public_url == "https://a.example/nora"


def test_auto_is_one_worker_for_each_processor(configure: Configure) -> None:
    assert configure("[server]\nworkers = 'auto'").server.workers == os.cpu_count()
    assert configure("", NORA_WORKERS="auto").server.workers == os.cpu_count()


def test_a_problem_names_the_source_of_the_value(problems: Problems) -> None:
    assert problems("[server]\nport = 0") == ["config.toml: server.port: must be from 1 to 65535"]
    assert problems("[server]\nport = 1", NORA_PORT="0") == ["environment NORA_PORT: must be from 1 to 65535"]
    assert problems("", {"server.port": "0"}, NORA_PORT="1") == ["command line: server.port: must be from 1 to 65535"]


def test_the_file_is_called_what_it_was_called(problems: Problems, tmp_path: Path) -> None:
    (tmp_path / "other.toml").write_text("[server]\nport = 0")
    assert problems(NORA_CONFIG_PATH="other.toml") == ["other.toml: server.port: must be from 1 to 65535"]


def test_a_stronger_source_is_a_way_out_of_a_bad_value(configure: Configure) -> None:
    assert configure("[server]\nport = 'x'", {"server.port": "5000"}, NORA_PORT="tcp://10.0.0.1:4000").server.port == 5000


def test_an_unknown_key_on_the_command_line_is_refused(problems: Problems) -> None:
    assert problems("", {"server.prot": "1", "pypi.prox": "", "zzz\n": "1"}) == [
        "command line: server.prot: unknown key; did you mean server.port?",
        "command line: pypi.prox: unknown key; did you mean pypi.proxy?",
        'command line: "zzz\\n": unknown key',
    ]


# Files


def test_relative_paths_start_at_the_current_directory(formats: dict[str, Format], tmp_path: Path) -> None:
    elsewhere = tmp_path / "etc"
    elsewhere.mkdir()
    (elsewhere / "nora.toml").write_text("[storage]\npath = 'a/b'\n[auth]\nhtpasswd_file = '/etc/users'\n")
    settings = load(formats=formats, config_path="etc/nora.toml", environ={}, cwd=tmp_path)
    assert settings.storage.path == str(tmp_path / "a/b")
    assert settings.auth.htpasswd_file == "/etc/users"
    assert load(formats=formats, environ={"NORA_STORAGE_PATH": "c"}, cwd=tmp_path).storage.path == str(tmp_path / "c")


def test_nothing_is_created(configure: Configure, tmp_path: Path) -> None:
    configure()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("path", ["store", "store/below/it"])
def test_storage_cannot_be_a_file_or_in_one(problems: Problems, tmp_path: Path, path: str) -> None:
    (tmp_path / "store").touch()
    assert problems(NORA_STORAGE_PATH=path) == [f"environment NORA_STORAGE_PATH: '{tmp_path / 'store'}' is not a directory"]


def test_storage_behind_a_broken_link_is_refused(problems: Problems, tmp_path: Path) -> None:
    (tmp_path / "store").symlink_to("not-mounted")
    assert problems("[storage]\npath = 'store'") == [f"config.toml: storage.path: '{tmp_path / 'store'}' is not a directory"]


def test_storage_must_have_a_path_that_can_be_one(problems: Problems) -> None:
    assert problems("[storage]\npath = ''") == ["config.toml: storage.path: must name a directory"]
    for path in (r"a\u0000b", "a" * 1000):
        (problem,) = problems(f'[storage]\npath = "{path}"')
        assert problem.startswith("config.toml: storage.path: '")


def test_authentication_needs_its_file(problems: Problems, configure: Configure, tmp_path: Path) -> None:  # AUTH-9
    path = tmp_path / "users.htpasswd"
    (problem,) = problems("[auth]\nenabled = true")
    assert problem == (
        f"auth.htpasswd_file: missing htpasswd file: '{path}' cannot be read: No such file or directory; "
        "create it, or set auth.enabled = false"
    )
    path.touch()
    assert configure("[auth]\nenabled = true").auth.enabled
    assert not configure("[auth]\nhtpasswd_file = 'missing'").auth.enabled


@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo])
def test_the_htpasswd_file_must_be_a_file(problems: Problems, tmp_path: Path, make: Callable[[Path], None]) -> None:  # AUTH-9
    make(tmp_path / "users")
    (problem,) = problems("", NORA_AUTH_ENABLED="true", NORA_AUTH_HTPASSWD_FILE="users")
    assert problem.startswith(
        f"environment NORA_AUTH_HTPASSWD_FILE: missing htpasswd file: '{tmp_path / 'users'}' is not a file"
    )


def test_no_htpasswd_file_at_all_is_refused(problems: Problems) -> None:  # AUTH-9
    for source in ("[auth]\nenabled = true\nhtpasswd_file = ''", "[auth]\nhtpasswd_file = ''"):
        assert problems(source) == ["config.toml: auth.htpasswd_file: must name a file"]


def test_an_unreadable_file_is_refused(problems: Problems, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # AUTH-9
    (tmp_path / "users.htpasswd").touch()

    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("nora.config.checks.Path.open", refuse)  # The superuser may read everything.
    (problem,) = problems(NORA_AUTH_ENABLED="true")
    assert "cannot be read: Permission denied" in problem


def test_a_key_of_the_wrong_type_is_one_problem_only(problems: Problems) -> None:
    assert problems("[auth]\nenabled = true\nhtpasswd_file = 5") == [
        "config.toml: auth.htpasswd_file: must be a text, not a whole number"
    ]


def test_the_certificate_file_must_hold_one(problems: Problems, configure: Configure, tmp_path: Path) -> None:
    path = tmp_path / "ca.pem"
    toml = "[tls]\nca_cert = 'ca.pem'"
    assert problems(toml) == [f"config.toml: tls.ca_cert: '{path}' cannot be read: No such file or directory"]
    certificate = some_certificate()
    for content in ("", "hello", REVOCATIONS, certificate[:200], certificate.replace("CERTIFICATE", "PRIVATE KEY")):
        path.write_text(content)
        assert problems(toml) == [f"config.toml: tls.ca_cert: '{path}' holds no PEM certificate"]
    path.write_text(f"# our own\n{certificate}")
    assert configure(toml).tls.ca_cert == str(path)


# PEM as well, and no certificate.
REVOCATIONS = """
-----BEGIN X509 CRL-----
MIGCMDYCAQEwBQYDK2VwMAwxCjAIBgNVBAMMAWEXDTIwMDEwMTAwMDAwMFoXDTQw
MDEwMTAwMDAwMFowBQYDK2VwA0EAA3QnIQWakEv/8w2YJ+gQST5om3cP+WTuNHRm
MUAubii9z29J6KV4EqQOjg1XVIHZobyZ59v3M4uUcCitSYYbDQ==
-----END X509 CRL-----
"""


def some_certificate() -> str:
    authorities = ssl.create_default_context().get_ca_certs(binary_form=True)
    return ssl.DER_cert_to_PEM_cert(authorities[0])
