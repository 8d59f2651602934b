"""Who asks, when proxies are in between: X-Forwarded-For and X-Forwarded-Proto of proxies that are trusted. Pure.

Every proxy adds the address that it was asked from on the right, and passes on what it got, which a client can make up. So the fields are
read from the right, and only as far as trusted proxies have written them.

``Forwarded`` (RFC 7239) is not read. Common proxies write the other two and pass ``Forwarded`` on as the client sent it, so believing it,
too, would let clients name any address behind exactly those proxies.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Literal, TypeAlias

Address: TypeAlias = IPv4Address | IPv6Address
Network: TypeAlias = IPv4Network | IPv6Network

MAX_PARTS = 32
"""How many addresses are looked at, from the right. No chain of trusted proxies is that long."""
_MAX_PART = 100
# Some proxies add the client's port, and brackets to IPv6 addresses. Digits and letters are checked when it is read as an address.
_PART = re.compile(r"\[(?P<bracketed>[^\]]+)\](?::[0-9]{1,5})?|(?P<v4>[0-9.]+)(?::[0-9]{1,5})?|(?P<v6>[0-9A-Fa-f:.]+(?:%.+)?)")


def client_address(peer: str, forwarded: Sequence[str], trusted: Sequence[Network]) -> str:
    """The client's address: the last one on the way to us that is no trusted proxy's, as far as trusted proxies say.

    >>> from ipaddress import ip_network
    >>> client_address("10.0.0.1", ["6.6.6.6, 192.0.2.7", "10.0.0.2"], [ip_network("10.0.0.0/8")])
    '192.0.2.7'

    Args:
        peer: The connection's own address. It is the answer, as it is, if it is not trusted.
        forwarded: The values of X-Forwarded-For, in the order of the fields.
        trusted: The proxies.
    """
    if not trusted or not forwarded or not is_trusted(peer, trusted):
        return peer
    return forwarded_address(forwarded, trusted) or peer


def forwarded_address(forwarded: Sequence[str], trusted: Sequence[Network]) -> str | None:
    """What :func:`client_address` answers for any trusted peer; ``None`` stands for the peer's own address.

    What is no address, such as ``unknown`` or nothing, ends the walk: the one before it, to its right, is the last that is known.
    """
    found: Address | None = None
    for part in _from_the_right(forwarded):
        address = address_of(part)
        if address is None:
            break
        found = address
        if not _is_in(address, trusted):
            break
    return None if found is None else str(found)


def client_scheme(peer: str, values: Sequence[str], trusted: Sequence[Network]) -> Literal["http", "https"] | None:
    """How the client asked, by the values of X-Forwarded-Proto; ``None`` if no trusted proxy says so, or they do not agree.

    Where several proxies each add a value, the left ones may be the client's own, and the right ones are about the way between
    proxies: only one voice is believed.
    """
    if not trusted or not values or not is_trusted(peer, trusted):
        return None
    schemes = {part.strip(" \t").lower() for part in _from_the_right(values)}
    if schemes == {"https"}:
        return "https"
    return "http" if schemes == {"http"} else None


def is_trusted(peer: str, trusted: Sequence[Network]) -> bool:
    """Whether a connection comes from a trusted proxy. This stays the same as long as the connection lasts."""
    address = address_of(peer) if trusted else None
    return address is not None and _is_in(address, trusted)


def address_of(text: str) -> Address | None:
    """An address out of a field, with or without port and brackets; ``None`` if it is none.

    IPv4 that is written as IPv6 becomes IPv4, and a zone, which means something to the proxy alone, is left out.

    >>> [str(address_of(text)) for text in (" [2001:DB8::1]:443", "192.0.2.7:5000", "::ffff:192.0.2.7", "fe80::1%eth0", "unknown")]
    ['2001:db8::1', '192.0.2.7', '192.0.2.7', 'fe80::1', 'None']
    """
    if len(text) > _MAX_PART or (found := _PART.fullmatch(text.strip(" \t"))) is None:
        return None
    host = found["v4"] or (found["bracketed"] or found["v6"]).partition("%")[0]
    try:
        address = ip_address(host)
    except ValueError:
        return None
    if isinstance(address, IPv4Address):
        return address if found["v4"] else None
    return address.ipv4_mapped or address


def _is_in(address: Address, networks: Sequence[Network]) -> bool:
    return any(address in network for network in networks)


def _from_the_right(values: Sequence[str]) -> Iterator[str]:
    """The parts of all fields, last first, at most :data:`MAX_PARTS`."""
    left = MAX_PARTS
    for value in reversed(values):
        parts = value.rsplit(",", left)[-left:]
        yield from reversed(parts)
        left -= len(parts)
        if not left:
            return
