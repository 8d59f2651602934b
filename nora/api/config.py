"""Typed configuration of a registry: what a format declares, and gets from TOML and the environment for free.

A format's ``Config`` is a subclass of :class:`RegistryConfig` or, if the format can proxy, of :class:`ProxyConfig`. Every field
is a TOML key of ``[registries.NAME]`` and an environment variable ``NORA_<NAME>_<KEY>``. Types may be ``bool``, ``int``,
``float``, ``str``, :class:`Secret` and tuples of ``str``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from ipaddress import ip_network
from typing import Any
from urllib.parse import urlsplit

import msgspec

_HOST_PATTERN = re.compile(r"(?:\*\.)?[a-z0-9](?:[a-z0-9._-]*[a-z0-9])?")
# Resolvers would take such a name for an address.
_NUMBER = re.compile(r"(?:.*\.)?(?:[0-9]+|0x[0-9a-f]*)")

MAX_CACHE_GB = 1_000_000_000
"""More than any disk has, and still a number of bytes."""


class Secret:
    """A text that does not show itself.

    >>> Secret("user:password")
    Secret('***')
    >>> Secret("user:password").reveal()
    'user:password'
    """

    __slots__ = ("_value",)

    def __init__(self, value: str = "") -> None:
        self._value = value

    def reveal(self) -> str:
        """The text itself. Pass it on to where it is needed and nowhere else."""
        return self._value

    def __bool__(self) -> bool:
        return bool(self._value)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._value == self._value

    def __hash__(self) -> int:
        return hash(self._value)

    def __repr__(self) -> str:
        return "Secret('***')" if self._value else "Secret('')"

    __str__ = __repr__


class RegistryConfig(msgspec.Struct, frozen=True, kw_only=True):
    """What every registry has.

    Attributes:
        enabled: Whether it is served.
        path: Where it is mounted; "" means ``/NAME/``.
        anonymous_read: Whether reading it needs no login although the rest does.
    """

    enabled: bool = True
    path: str = ""
    anonymous_read: bool = False

    def problems(self) -> Iterator[tuple[str, str]]:
        """Yield ``(key, what is wrong with its value)`` for everything that the types cannot say.

        Subclasses extend it: ``yield from super().problems()``.
        """
        if self.path and not self.path.startswith("/"):
            yield "path", "must begin with /"


class ProxyConfig(RegistryConfig, frozen=True, kw_only=True):
    """What a registry has that can fetch from upstreams.

    Attributes:
        proxy: The upstream's address; "" means hosted only.
        proxies: Several upstreams, asked in order; used instead of ``proxy`` when given.
        proxy_auth: ``user:password`` for the upstream; sent to its own host only.
        proxy_private_hosts: Hosts (``files.intern.example``, ``*.intern.example``), addresses and networks (``10.1.0.0/16``) that the
            upstreams' pages may lead to although they are not public. The upstreams themselves need not be named.
        proxy_timeout: Seconds of silence after which the upstream is given up; not a limit on a whole transfer.
        metadata_ttl: Seconds for which an upstream's answer is fresh; 0: always revalidate; -1: for ever.
        merge_upstream: Patterns (``team-*``) of hosted projects that upstream files may be added to.
        keep_withdrawn: Go on to list and serve held files of a project that the upstream withdrew.
        cache_max_gb: Room for files that were fetched, in units of 1024 * 1024 * 1024 bytes; 0: no limit.
    """

    proxy: str = ""
    proxies: tuple[str, ...] = ()
    proxy_auth: Secret = Secret()
    proxy_private_hosts: tuple[str, ...] = ()
    proxy_timeout: float = 30
    metadata_ttl: int = 300
    merge_upstream: tuple[str, ...] = ()
    keep_withdrawn: bool = False
    cache_max_gb: float = 0

    @property
    def upstreams(self) -> tuple[str, ...]:
        """Addresses of the upstreams, in the order in which they are asked."""
        return self.proxies or ((self.proxy,) if self.proxy else ())

    def problems(self) -> Iterator[tuple[str, str]]:
        """See :meth:`RegistryConfig.problems`."""
        yield from super().problems()
        if self.proxy and (problem := url_problem(self.proxy)):
            yield "proxy", problem
        for url in self.proxies:
            if problem := url_problem(url):
                yield "proxies", problem
        if self.proxy_auth and ":" not in self.proxy_auth.reveal():
            yield "proxy_auth", "must be user:password"
        for entry in self.proxy_private_hosts:
            if problem := _private_host_problem(entry):
                yield "proxy_private_hosts", problem
        if self.proxy_timeout <= 0:
            yield "proxy_timeout", "must be more than 0 seconds"
        if self.metadata_ttl < -1:
            yield "metadata_ttl", "must be -1 (for ever), 0 (always ask) or a number of seconds"
        if self.cache_max_gb < 0:
            yield "cache_max_gb", "must be 0 (no limit) or more"
        if self.cache_max_gb > MAX_CACHE_GB:
            yield "cache_max_gb", f"must be at most {MAX_CACHE_GB}; 0 is no limit"


def url_problem(url: Any) -> str | None:
    """What is wrong with an http(s) URL, or ``None``.

    >>> url_problem("ftp://x/")
    "'ftp://x/' is not an http:// or https:// URL"
    """
    try:
        parts = urlsplit(url)
        valid = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        valid = False
    if not valid or any(character.isspace() for character in url):
        shown = url if "@" not in url else "***@" + url.rpartition("@")[2]
        return f"{shown!r} is not an http:// or https:// URL"
    if parts.username or parts.password:
        return "must not hold a user or password; use proxy_auth"
    if parts.query or parts.fragment:
        return f"{url!r} must not have a query or fragment"
    return None


def _private_host_problem(entry: str) -> str | None:
    """What is wrong with an entry of ``proxy_private_hosts``, or ``None``.

    >>> _private_host_problem("*.intern.example"), _private_host_problem("10.1.0.0/16"), _private_host_problem("::1")
    (None, None, None)
    >>> _private_host_problem("http://files.example/")
    "'http://files.example/' is no host, address or network; write files.example, *.intern.example, 10.1.2.3 or 10.1.0.0/16"
    """
    text = entry.strip().lower()
    try:
        ip_network(text, strict=False)
    except ValueError:
        if not _HOST_PATTERN.fullmatch(text) or _NUMBER.fullmatch(text):
            return f"{entry!r} is no host, address or network; write files.example, *.intern.example, 10.1.2.3 or 10.1.0.0/16"
    return None
