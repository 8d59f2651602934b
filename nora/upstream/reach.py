"""Where requests to upstreams may go. What an upstream's page names, or redirects to, is somebody else's choice (CWE-918).

The operator's word opens any address: the registry's own upstreams, each with its port, and what ``proxy_private_hosts`` names.
Everything else has to be public, by the address that is really connected to: names are looked up once, what comes is looked at,
and only what has passed is left to connect to. So a name that means something else the next time (DNS rebinding) gains nothing.

Not to be told here: what an HTTP proxy on the way connects to, since the proxy looks names up itself.
"""

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import TypeAlias, TypedDict

import httpx

Address: TypeAlias = IPv4Address | IPv6Address
Network: TypeAlias = IPv4Network | IPv6Network

DEFAULT_PORTS = {"http": 80, "https": 443}
"""By scheme; the schemes that we speak."""
WEB_PORTS = frozenset(DEFAULT_PORTS.values())
FIRST_FREE_PORT = 1024
"""Ports below it belong to other protocols, but for those of the web."""

# RFC 6052: IPv6 networks that reach IPv4 through a translator, and RFC 3056: one that holds the IPv4 address in its second to
# sixth byte. What they lead to is what counts.
_NAT64 = IPv6Network("64:ff9b::/96")
_SIX_TO_FOUR = IPv6Network("2002::/16")
# RFC 8215 is for the network's own use; RFC 4291 2.5.5.1 is IPv4 in another spelling, which nothing public has.
_INWARD = (IPv6Network("64:ff9b:1::/48"), IPv6Network("::/96"), IPv6Network("fec0::/10"))
# RFC 5737, RFC 3849: for examples. Nobody's network has them, and closed test networks answer for public names there.
_EXAMPLES = tuple(map(ip_network, ("192.0.2.0/24", "198.51.100.0/24", "203.0.113.0/24", "2001:db8::/32")))
# A cloud's own service for its machines, though the address is one of the public ones.
_SERVICES = frozenset({IPv4Address("168.63.129.16")})
# WHATWG URL, "ends in a number": resolvers take 2130706433, 0177.1 and 0x7f.1 for addresses.
_NUMBER = re.compile(r"(?:.*\.)?(?:[0-9]+|0[xX][0-9a-fA-F]*)", re.DOTALL)


class OutOfReach(httpx.TransportError):
    """The address is none that a request may go to. The text is for people, and tells nothing of our network."""


class Resolved(TypedDict):
    """An address to connect to, as aiohttp's resolvers give it."""

    hostname: str
    host: str
    port: int
    family: int
    proto: int
    flags: int


@dataclass(frozen=True, slots=True)
class Reach:
    """What a registry's requests may reach besides public addresses; made by :meth:`of`.

    Attributes:
        origins: Hosts and ports of its upstreams.
        hosts: Names, in lower case; ``*.`` in front stands for all below.
        networks: Addresses, wherever they come from.
    """

    origins: frozenset[tuple[str, int]] = frozenset()
    hosts: tuple[str, ...] = ()
    networks: tuple[Network, ...] = ()

    @classmethod
    def of(cls, upstreams: Iterable[str], private_hosts: Iterable[str] = ()) -> Reach:
        """By the addresses of the upstreams and the entries of ``proxy_private_hosts``, all valid.

        >>> Reach.of(["http://index.example/simple/"]).origins == {("index.example", 80), ("index.example", 443)}
        True
        """
        origins = set()
        for url in map(httpx.URL, upstreams):
            port = url.port or DEFAULT_PORTS[url.scheme]
            origins.add((_host(url), port))
            if port == DEFAULT_PORTS["http"]:
                # Which a server that can do better redirects to.
                origins.add((_host(url), DEFAULT_PORTS["https"]))
        entries = [entry.strip().lower() for entry in private_hosts]
        networks = {entry: network for entry in entries if (network := _network(entry)) is not None}
        return cls(frozenset(origins), tuple(entry for entry in entries if entry not in networks), tuple(networks.values()))

    def is_given(self, url: httpx.URL) -> bool:
        """Whether the operator named this very place, so that nobody has to look at its address."""
        host = _host(url)
        if (host, url.port or DEFAULT_PORTS.get(url.scheme, 0)) in self.origins:
            return True
        return any(host == name or (name.startswith("*.") and host.endswith(name[1:])) for name in self.hosts)

    def check(self, url: httpx.URL) -> None:
        """Refuse what can be refused before anything is looked up.

        Raises:
            OutOfReach: a private address, a number in an odd spelling, or a port that is not for the web.
        """
        if self.is_given(url):
            return
        host, port = _host(url), url.port or DEFAULT_PORTS.get(url.scheme, 0)
        address = _literal(host)
        if address is None and (_NUMBER.fullmatch(host) or ":" in host or "%" in host):
            raise OutOfReach("spells an address in a way that is not allowed")
        if address is not None and not is_reachable(address, self.networks):
            raise OutOfReach(REFUSAL)
        if port < FIRST_FREE_PORT and port not in WEB_PORTS:
            raise OutOfReach(
                f"is at port {port}, which is not for the web; if that is meant, name its host in proxy_private_hosts"
            )


NOWHERE = Reach()
"""Public addresses only."""
REFUSAL = "is at a private address, where no upstream may lead; if that is meant, name its host in proxy_private_hosts"


def is_reachable(address: Address, networks: Iterable[Network] = ()) -> bool:
    """Whether an address is public, or in one of the networks.

    >>> is_reachable(ip_address("2001:4860:4860::8888")), is_reachable(ip_address("::ffff:169.254.169.254"))
    (True, False)
    """
    meant = _meant(address)
    if any(one in network for network in networks for one in {address, meant} if one.version == network.version):
        return True
    if isinstance(meant, IPv6Address) and any(meant in network for network in _INWARD):
        return False
    if any(meant in network for network in _EXAMPLES if network.version == meant.version):
        return True
    return meant.is_global and not (meant.is_multicast or meant.is_reserved) and meant not in _SERVICES


async def resolve(host: str, port: int, family: int, networks: Iterable[Network]) -> list[Resolved]:
    """The addresses of a name that may be connected to, in the system's order.

    Raises:
        OutOfReach: it has addresses, but none of this kind.
        OSError: it has none.
    """
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM, family=family, flags=socket.AI_ADDRCONFIG)
    networks = tuple(networks)
    reachable: list[Resolved] = []
    for kind, _, proto, _, (shown, *_) in found:
        # A zone belongs to a link, and nothing on our own link is public.
        address = _literal(str(shown).partition("%")[0])
        if address is not None and "%" not in str(shown) and is_reachable(address, networks):
            flags = socket.AI_NUMERICHOST | socket.AI_NUMERICSERV
            reachable.append(
                Resolved(hostname=host, host=str(address), port=port, family=int(kind), proto=proto, flags=int(flags))
            )
    if found and not reachable:
        raise OutOfReach(REFUSAL)
    return reachable


def _meant(address: Address) -> Address:
    """The address that an address leads to: IPv4 has several places within IPv6."""
    if isinstance(address, IPv4Address):
        return address
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    if address in _NAT64:
        return IPv4Address(int(address) & 0xFFFFFFFF)
    if address in _SIX_TO_FOUR:
        return IPv4Address(int(address) >> 80 & 0xFFFFFFFF)
    return address


def _host(url: httpx.URL) -> str:
    """As it is asked for; a final dot changes nothing."""
    return url.raw_host.decode("ascii").lower().removesuffix(".")


def _literal(host: str) -> Address | None:
    try:
        return ip_address(host)
    except ValueError:
        return None


def _network(text: str) -> Network | None:
    try:
        return ip_network(text, strict=False)
    except ValueError:
        return None
