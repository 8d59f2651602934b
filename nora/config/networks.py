"""Addresses and networks in a configuration. Pure."""

from __future__ import annotations

import re
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import TypeAlias

Network: TypeAlias = IPv4Network | IPv6Network


def network_of(text: str) -> Network:
    """A network, or a single address as a network of one.

    >>> str(network_of("10.0.0.0/8")), str(network_of("2001:db8::1"))
    ('10.0.0.0/8', '2001:db8::1/128')

    Raises:
        ValueError: it is none, see :func:`network_problem`.
    """
    if problem := network_problem(text):
        raise ValueError(problem)
    return ip_network(text)


def network_problem(text: str) -> str | None:
    """What is wrong with an address or network of trusted proxies, or ``None``. Names are not looked up.

    >>> network_problem("10.1.0.0/8")
    "'10.1.0.0/8' has an address inside of the network; write 10.0.0.0/8, or one address without /"
    """
    shown = repr(text[:80])
    address_text, slash, length = text.partition("/")
    if text == "unix" or text.startswith("unix:"):
        return f"{shown}: Nora listens on no Unix sockets; give the address or network of the proxies, such as 10.0.0.0/8"
    try:
        address = ip_address(address_text)
        if "%" in address_text or (slash and not re.fullmatch(r"[0-9]{1,3}", length, re.ASCII)):
            raise ValueError(text)
        network = ip_network(text, strict=False)
    except ValueError:
        return f"{shown} is no address and no network; write it as 10.0.0.1, 10.0.0.0/8, 2001:db8::1 or 2001:db8::/32"
    if address.version == 6 and address.ipv4_mapped is not None:
        return (
            f"{shown} is IPv4 written as IPv6, which is taken for IPv4 everywhere; write it as such, like {address.ipv4_mapped}"
        )
    if network.prefixlen == 0:
        return f"{shown} would trust everybody, so anybody could pass for any address; give the network of the proxies alone"
    if network.network_address != address:
        return f"{shown} has an address inside of the network; write {network}, or one address without /"
    return None
