"""The settings that everything else is built from: valid, complete and immutable.

Field names are the TOML keys; the tables here are described to operators in ``docs/configuration.md``, which a test compares
with them.
"""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Annotated, Literal

import msgspec

from nora.api import RegistryConfig, url_problem
from nora.config.networks import network_problem
from nora.config.webhooks import NamedWebhook
from nora.rights import Grant

MAX_AUDIENCE = 200


class Table(msgspec.Struct, frozen=True, kw_only=True):
    """One of the host's own tables."""

    def problems(self) -> Iterator[tuple[str, str]]:
        """Yield ``(key, what is wrong with its value)`` for what the types cannot say. Looks at no file and no network."""
        yield from ()


def _cpu_count() -> int:
    return os.cpu_count() or 1


WorkerCount = Annotated[int, msgspec.Meta(extra={"words": {"auto": _cpu_count}})]
"""A number of processes; a configuration may also say "auto" for one per processor."""


MAX_REQUESTS_PER_MINUTE = 10_000_000


class ServerSettings(Table, frozen=True, kw_only=True):
    """``[server]``.

    Attributes:
        host: Address or name to listen on.
        port: TCP port, 1 to 65535.
        public_url: Address under which clients reach the server, without final slash; "" when links are to be relative.
        workers: Number of processes.
        body_limit_mb: Largest request body, in units of 1024 * 1024 bytes.
        shutdown_timeout: Seconds that requests in flight are given at stop.
        trusted_proxies: Addresses and networks of proxies whose X-Forwarded-For is believed.
        requests_per_minute: Requests of one address that each process answers in a minute; 0 is any number.
        page_cache_mb: Memory of each process for prepared answers, in units of 1024 * 1024 bytes; 0 turns that cache off.
        tls_cert: PEM file with the server's certificate and those between it and its authority, absolute once loaded; "" is HTTP.
        tls_key: PEM file with the key of that certificate, absolute once loaded; set if and only if ``tls_cert`` is.
    """

    host: str = "127.0.0.1"
    port: int = 4000
    public_url: str = ""
    workers: WorkerCount = 1
    body_limit_mb: int = 2048
    shutdown_timeout: int = 30
    trusted_proxies: tuple[str, ...] = ()
    requests_per_minute: int = 0
    page_cache_mb: int = 64
    tls_cert: str = ""
    tls_key: str = ""

    def problems(self) -> Iterator[tuple[str, str]]:
        """See :meth:`Table.problems`."""
        if problem := host_problem(self.host):
            yield "host", problem
        if not 1 <= self.port <= 65535:
            yield "port", "must be from 1 to 65535"
        if self.public_url and (problem := public_url_problem(self.public_url, self.host)):
            yield "public_url", problem
        if self.workers < 1:
            yield "workers", 'must be 1 or more, or "auto"'
        if self.body_limit_mb < 1:
            yield "body_limit_mb", "must be 1 or more"
        if self.shutdown_timeout < 0:
            yield "shutdown_timeout", "must be 0 or more seconds"
        for text in self.trusted_proxies:
            if problem := network_problem(text):
                yield "trusted_proxies", problem
        if not 0 <= self.requests_per_minute <= MAX_REQUESTS_PER_MINUTE:
            yield "requests_per_minute", f"must be from 0 to {MAX_REQUESTS_PER_MINUTE}; 0 sets no limit"
        if self.page_cache_mb < 0:
            yield "page_cache_mb", "must be 0 or more; 0 turns the cache off"
        if self.tls_cert and not self.tls_key:
            yield "tls_key", "must be set, too, when tls_cert is"
        if self.tls_key and not self.tls_cert:
            yield "tls_cert", "must be set, too, when tls_key is"


class StorageSettings(Table, frozen=True, kw_only=True):
    """``[storage]``. ``path`` is the directory that holds everything, absolute once loaded."""

    path: str = "data/storage"

    def problems(self) -> Iterator[tuple[str, str]]:
        """See :meth:`Table.problems`."""
        if not self.path:
            yield "path", "must name a directory"


class AuthSettings(Table, frozen=True, kw_only=True):
    """``[auth]``.

    Attributes:
        enabled: Whether anybody has to log in for anything.
        htpasswd_file: File of users, absolute once loaded; it is there and readable when ``enabled``.
        anonymous_read: Whether reading needs no login although writing does; a registry can say so for itself.
        allow_unauthenticated_writes: That nobody has to log in although others than this machine can reach the server.
        oidc_audience: What identities of CI systems are to be for; "" is ``server.public_url``.
    """

    enabled: bool = False
    htpasswd_file: str = "users.htpasswd"
    anonymous_read: bool = False
    allow_unauthenticated_writes: bool = False
    oidc_audience: str = ""

    def problems(self) -> Iterator[tuple[str, str]]:
        """See :meth:`Table.problems`."""
        if not self.htpasswd_file:
            yield "htpasswd_file", "must name a file"
        if problem := audience_problem(self.oidc_audience):
            yield "oidc_audience", problem


class TlsSettings(Table, frozen=True, kw_only=True):
    """``[tls]``. ``ca_cert`` is a PEM file, absolute once loaded, of authorities trusted besides the system's; "" is none."""

    ca_cert: str = ""


class LoggingSettings(Table, frozen=True, kw_only=True):
    """``[logging]``.

    Attributes:
        level: The least severe level that is written.
        format: "text" for people, "json" for one object per line.
        access: Whether each request is logged.
    """

    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["text", "json"] = "text"
    access: bool = True


class AuditSettings(Table, frozen=True, kw_only=True):
    """``[audit]``.

    Attributes:
        enabled: Whether changes and failed logins are written to the audit log.
        keep_days: For how many days; 0 is for ever.
    """

    enabled: bool = True
    keep_days: int = 365

    def problems(self) -> Iterator[tuple[str, str]]:
        """See :meth:`Table.problems`."""
        if not 0 <= self.keep_days <= 36500:
            yield "keep_days", "must be from 0 to 36500; 0 keeps entries for ever"


class RegistrySettings(msgspec.Struct, frozen=True, kw_only=True):
    """One enabled registry.

    Attributes:
        name: Unique name.
        format: Name of its format.
        path: Where it is mounted, ``/`` or ``/a/`` or ``/a/b/``; unique.
        config: Instance of the format's ``Config``.
    """

    name: str
    format: str
    path: str
    config: RegistryConfig


class AccessRule(msgspec.Struct, frozen=True, kw_only=True):
    """One of ``[[auth.rules]]``. ``who`` are names of users, ``@users`` or ``@everybody``; members stand in place of other groups."""

    who: frozenset[str]
    grant: Grant


class PublisherSettings(msgspec.Struct, frozen=True, kw_only=True):
    """One of ``[[auth.trusted_publishers]]``.

    Attributes:
        issuer: Address of who signs identities, as they name it.
        audience: What they must be for; "" is what they usually are.
        claims: What they must say, by name; any of the values, in which ``*`` in a text stands for any characters.
        grant: What that allows.
    """

    issuer: str
    audience: str = ""
    claims: Mapping[str, tuple[str | int | bool, ...]]
    grant: Grant


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that is configured.

    Attributes:
        registries: At least one; implicit ones first, then in the order of the file.
        rules: Who may do what; with none, whoever has logged in may do everything.
        webhooks: Those that entries of the audit log are sent to.
        publishers: Which jobs of CI systems may have tokens.
        warnings: What was ignored and may be a slip, one line each.
    """

    server: ServerSettings = ServerSettings()
    storage: StorageSettings = StorageSettings()
    auth: AuthSettings = AuthSettings()
    tls: TlsSettings = TlsSettings()
    logging: LoggingSettings = LoggingSettings()
    audit: AuditSettings = AuditSettings()
    registries: tuple[RegistrySettings, ...] = ()
    rules: tuple[AccessRule, ...] = ()
    webhooks: tuple[NamedWebhook, ...] = ()
    publishers: tuple[PublisherSettings, ...] = ()
    warnings: tuple[str, ...] = ()


HOST_TABLES: Mapping[str, type[Table]] = MappingProxyType(
    {
        "server": ServerSettings,
        "storage": StorageSettings,
        "auth": AuthSettings,
        "tls": TlsSettings,
        "logging": LoggingSettings,
        "audit": AuditSettings,
    }
)
"""The host's tables by their TOML names, which are also fields of :class:`Settings`."""


def host_problem(host: str) -> str | None:
    """What is wrong with an address to listen on, or ``None``. Names are not looked up.

    >>> host_problem("localhost:4000")
    "'localhost:4000' is not an address or host name; a port goes into port"
    """
    try:
        ipaddress.ip_address(host)
    except ValueError:
        if not host or not all(character.isalnum() or character in "-._" for character in host):
            return f"{host!r} is not an address or host name; a port goes into port"
    return None


def audience_problem(audience: str) -> str | None:
    """What is wrong with the audience of identities, or ``None``.

    >>> audience_problem("https://registry.example"), audience_problem("a b")
    (None, 'must be 1 to 200 printable characters without spaces, such as the address of this server')
    """
    if len(audience) <= MAX_AUDIENCE and audience.isprintable() and " " not in audience:
        return None
    return f"must be 1 to {MAX_AUDIENCE} printable characters without spaces, such as the address of this server"


def public_url_problem(url: str, host: str) -> str | None:
    """What is wrong with the public address of a server that listens on ``host``, or ``None``.

    >>> public_url_problem("/registry", "0.0.0.0")
    "'/registry' is not an http:// or https:// URL; 0.0.0.0 cannot stand in for it, clients need a real address"
    """
    if "@" in url:
        return "must not hold a user or password"
    problem = url_problem(url)
    if problem and host in ("0.0.0.0", "::"):  # noqa: S104 - compared, not bound
        return f"{problem}; {host} cannot stand in for it, clients need a real address"
    return problem
