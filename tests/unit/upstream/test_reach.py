"""Where requests to upstreams may go."""

from __future__ import annotations

import socket
from ipaddress import ip_address, ip_network
from typing import Any

import httpx
import pytest

from nora.upstream.reach import NOWHERE, OutOfReach, Reach, is_reachable, resolve

PUBLIC = (
    "8.8.8.8",
    "1.1.1.1",
    "2001:4860:4860::8888",
    "::ffff:8.8.8.8",
    "64:ff9b::808:808",
    "2002:808:808::1",
    # For examples, and in closed test networks for public names.
    "192.0.2.1",
    "198.51.100.1",
    "203.0.113.1",
    "2001:db8::1",
)
PRIVATE = (
    # This machine, this link, this network: RFC 1122, 3927, 1918, 6598, 4193, 4291.
    *("127.0.0.1", "127.1.2.3", "0.0.0.0", "0.1.2.3", "169.254.169.254", "10.0.0.1", "172.16.0.1", "192.168.1.1", "100.64.0.1"),
    *("::1", "::", "fe80::1", "fe80::1%1", "fc00::1", "fd00:ec2::254", "fec0::1"),
    # Nobody's: for documents, tests, broadcast, groups, and what is reserved.
    *("198.18.0.1", "255.255.255.255", "224.0.0.1", "239.1.2.3", "240.0.0.1"),
    *("ff02::1", "ff0e::1", "2001::1", "4000::1"),
    # IPv4 within IPv6: mapped, compatible, translated, tunnelled, and a network's own translator.
    *("::ffff:127.0.0.1", "::ffff:a9fe:a9fe", "::127.0.0.1", "64:ff9b::7f00:1", "64:ff9b:1::808:808", "2002:7f00:1::1"),
    *("::ffff:10.0.0.1", "::ffff:168.63.129.16"),
    # Services of a cloud for its machines.
    *("168.63.129.16", "100.100.100.200"),
)


@pytest.mark.parametrize("address", PUBLIC)
def test_public_addresses_are_reachable(address: str) -> None:
    assert is_reachable(ip_address(address))
    NOWHERE.check(httpx.URL(f"https://{f'[{address}]' if ':' in address else address}/x"))


@pytest.mark.parametrize("address", PRIVATE)
def test_other_addresses_are_not(address: str) -> None:
    # CWE-918
    assert not is_reachable(ip_address(address))
    if "%" not in address:
        with pytest.raises(OutOfReach, match="private address"):
            NOWHERE.check(httpx.URL(f"https://{f'[{address}]' if ':' in address else address}/x"))


@pytest.mark.parametrize(
    "host",
    [
        *("2130706433", "127.1", "0177.0.0.01", "0x7f.0.0.1", "0x7f000001", "017700000001", "127.0.0.1.", "127.0.0.01"),
        *(
            "1.2.3.4.5",
            "a.0x1",
            "0x",
            "foo.256",
            "[::ffff:7f00:1]",
            "[fe80::1%25eth0]",
            "127。0。0。1",
            "\uff11\uff12\uff17.0.0.1",
            "①②⑦.0.0.1",
        ),
    ],
)
def test_no_spelling_of_an_address_is_taken_for_a_name(host: str) -> None:
    # CWE-918, CWE-1389
    with pytest.raises((OutOfReach, httpx.InvalidURL)):
        NOWHERE.check(httpx.URL(f"http://{host}/"))


@pytest.mark.parametrize(
    "host", ["localhost", "files.example", "1e100.example", "0x7f.example", "xn--bcher-kva.example", "a.b.c1"]
)
def test_names_pass_until_they_are_looked_up(host: str) -> None:
    NOWHERE.check(httpx.URL(f"http://{host}/"))


@pytest.mark.parametrize(
    ("port", "passes"), [(80, True), (443, True), (8443, True), (1024, True), (22, False), (25, False), (1023, False)]
)
def test_ports_of_other_protocols_are_refused(port: int, passes: bool) -> None:
    url = httpx.URL(f"https://files.example:{port}/")
    if passes:
        NOWHERE.check(url)
    else:
        with pytest.raises(OutOfReach, match=f"port {port}"):
            NOWHERE.check(url)


def test_an_upstream_may_be_private_itself_at_its_own_port_only() -> None:
    reach = Reach.of(["http://127.0.0.1:8081/simple/", "http://nexus.intern/simple/", "http://[fd00::1]:90/"])
    for given in (
        "http://127.0.0.1:8081/x",
        "https://127.0.0.1:8081/",
        "http://NEXUS.intern./",
        "https://nexus.intern/",
        "http://[fd00::1]:90/",
    ):
        assert reach.is_given(httpx.URL(given)), given
        reach.check(httpx.URL(given))
    for other in (
        "http://127.0.0.1:8082/",
        "http://127.0.0.1/",
        "http://127.0.0.2:8081/",
        "http://[fd00::1]:91/",
        "http://[::ffff:127.0.0.1]:8081/",
    ):
        assert not reach.is_given(httpx.URL(other)), other
        with pytest.raises(OutOfReach):
            reach.check(httpx.URL(other))
    # By name nobody can tell before it is looked up, and then nothing private counts.
    for other in ("http://nexus.intern:8080/", "http://a.nexus.intern/"):
        assert not reach.is_given(httpx.URL(other)), other


def test_the_operator_may_open_hosts_and_networks() -> None:
    reach = Reach.of([], ["files.intern", " *.CDN.intern", "10.1.0.0/16", "192.168.1.7", "fd00::/8"])
    for given in ("http://files.intern:22/", "http://a.cdn.intern/", "https://a.b.cdn.intern:8443/"):
        assert reach.is_given(httpx.URL(given)), given
        reach.check(httpx.URL(given))
    for other in ("http://cdn.intern/", "http://xcdn.intern/", "http://a.files.intern/", "http://files.intern.evil/"):
        assert not reach.is_given(httpx.URL(other)), other
    for passed in ("http://10.1.2.3/", "http://192.168.1.7/", "http://[fd12::1]/", "http://[::ffff:10.1.2.3]/"):
        reach.check(httpx.URL(passed))
    for refused in ("http://10.2.0.1/", "http://192.168.1.8/", "http://[fe80::1]/"):
        with pytest.raises(OutOfReach):
            reach.check(httpx.URL(refused))


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[str]]:
    """What names mean; the system's own look-up is replaced."""
    known: dict[str, list[str]] = {}

    def look_up(host: str, port: int, *_: Any, **__: Any) -> list[Any]:
        if host not in known:
            raise socket.gaierror(socket.EAI_NONAME, "unknown")
        family = {4: socket.AF_INET, 6: socket.AF_INET6}
        return [
            (family[ip_address(shown).version], socket.SOCK_STREAM, 6, "", (shown, port, *([0, 0] if ":" in shown else [])))
            for shown in known[host]
        ]

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    return known


async def test_of_a_names_addresses_only_the_public_ones_are_left(names: dict[str, list[str]]) -> None:
    names["mixed.example"] = ["127.0.0.1", "8.8.8.8", "fe80::1%eth0", "::ffff:10.0.0.1", "2001:4860:4860::8888"]
    found = await resolve("mixed.example", 443, socket.AF_UNSPEC, ())
    assert [(one["host"], one["port"], one["hostname"]) for one in found] == [
        ("8.8.8.8", 443, "mixed.example"),
        ("2001:4860:4860::8888", 443, "mixed.example"),
    ]
    # What comes out is connected to as it is: nobody looks it up again.
    assert all(one["flags"] & socket.AI_NUMERICHOST for one in found)


@pytest.mark.parametrize(
    "address", ["127.0.0.1", "169.254.169.254", "::1", "::ffff:127.0.0.1", "fe80::1%eth0", "168.63.129.16"]
)
async def test_a_name_with_private_addresses_only_is_refused(names: dict[str, list[str]], address: str) -> None:
    names["inward.example"] = [address]
    with pytest.raises(OutOfReach) as refused:
        await resolve("inward.example", 80, socket.AF_UNSPEC, ())
    assert address not in str(refused.value), "it would tell how our network is made"


async def test_a_name_may_lead_into_an_open_network(names: dict[str, list[str]]) -> None:
    names["files.example"] = ["10.1.2.3", "10.2.2.3"]
    found = await resolve("files.example", 80, socket.AF_UNSPEC, [ip_network("10.1.0.0/16"), ip_network("fd00::/8")])
    assert [one["host"] for one in found] == ["10.1.2.3"]


async def test_an_unknown_name_is_the_systems_error(names: dict[str, list[str]]) -> None:
    with pytest.raises(OSError, match="unknown"):
        await resolve("nowhere.example", 80, socket.AF_UNSPEC, ())


async def test_this_machines_own_name_is_private() -> None:
    with pytest.raises(OutOfReach):
        await resolve("localhost", 80, socket.AF_UNSPEC, ())
