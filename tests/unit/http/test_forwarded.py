"""A client is who trusted proxies say it is, and nobody can pass for another."""

from __future__ import annotations

from ipaddress import ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nora.http.forwarded import (
    MAX_PARTS,
    _from_the_right,
    address_of,
    client_address,
    client_scheme,
    forwarded_address,
    is_trusted,
)

TRUSTED = [ip_network("10.0.0.0/8"), ip_network("127.0.0.1"), ip_network("2001:db8:ffff::/48"), ip_network("fe80::/10")]
PROXY, CLIENT, OTHER = "10.0.0.1", "192.0.2.7", "198.51.100.9"


@pytest.mark.parametrize(
    ("forwarded", "client"),
    [
        ([], PROXY),
        ([CLIENT], CLIENT),
        ([f"{CLIENT}, 10.0.0.2"], CLIENT),
        ([f"{CLIENT},10.0.0.2 ,\t127.0.0.1"], CLIENT),
        # Whatever is left of the first that is not trusted may be made up.
        ([f"{OTHER}, {CLIENT}"], CLIENT),
        ([f"10.0.0.9, {CLIENT}, 10.0.0.2"], CLIENT),
        ([f"127.0.0.1, {CLIENT}"], CLIENT),
        ([f"garbage, {CLIENT}, 10.0.0.2"], CLIENT),
        # Several fields are one list.
        ([OTHER, CLIENT], CLIENT),
        ([f"{OTHER}, {CLIENT}", "10.0.0.2"], CLIENT),
        ([CLIENT, "10.0.0.3, 10.0.0.2"], CLIENT),
        # A request that a trusted proxy itself makes.
        (["10.0.0.3, 10.0.0.2"], "10.0.0.3"),
        # What is no address ends the walk.
        (["unknown"], PROXY),
        ([""], PROXY),
        ([","], PROXY),
        ([f"{CLIENT},"], PROXY),
        ([CLIENT, ""], PROXY),
        (["", CLIENT], CLIENT),
        ([f"{CLIENT}, unknown, 10.0.0.2"], "10.0.0.2"),
        ([f"{CLIENT}, , 10.0.0.2"], "10.0.0.2"),
        ([f"{CLIENT}, _hidden, 10.0.0.3, 10.0.0.2"], "10.0.0.3"),
        (["unix:"], PROXY),
        ([f"for={CLIENT}"], PROXY),
        ([f'"{CLIENT}"'], PROXY),
        ([f"{CLIENT} 10.0.0.2"], PROXY),
        # Ports, brackets, zones, IPv4 as IPv6.
        ([f"{CLIENT}:5000"], CLIENT),
        ([f"{CLIENT}:5000, 10.0.0.2:80"], CLIENT),
        (["2001:DB8::7"], "2001:db8::7"),
        (["[2001:db8::7]"], "2001:db8::7"),
        (["[2001:db8::7]:5000, [2001:db8:ffff::1]:80"], "2001:db8::7"),
        ([f"::ffff:{CLIENT}"], CLIENT),
        ([f"[::ffff:{CLIENT}]:80"], CLIENT),
        ([f"{CLIENT}, ::ffff:10.0.0.2"], CLIENT),
        ([f"{CLIENT}, fe80::1%eth0"], CLIENT),
        (["fe80::1%eth0"], "fe80::1"),
        (["2001:db8::7%6.6.6.6"], "2001:db8::7"),
    ],
)
def test_the_first_from_the_right_that_is_no_proxy_is_the_client(forwarded: list[str], client: str) -> None:
    assert client_address(PROXY, forwarded, TRUSTED) == client


@pytest.mark.parametrize("peer", [OTHER, "2001:db8::1", "::ffff:198.51.100.9", "", "unknown", "unix:"])
@pytest.mark.parametrize("trusted", [TRUSTED, []])
def test_nobody_else_is_believed(peer: str, trusted: list) -> None:
    assert client_address(peer, [CLIENT], trusted) == peer
    assert client_scheme(peer, ["https"], trusted) is None
    assert not is_trusted(peer, trusted)


def test_without_configured_proxies_not_even_loopback_is_believed() -> None:
    assert client_address("127.0.0.1", [CLIENT], []) == "127.0.0.1"
    assert client_address("::1", [CLIENT], []) == "::1"


@pytest.mark.parametrize("peer", ["10.0.0.1", "::ffff:10.0.0.1", "127.0.0.1", "2001:db8:ffff::1", "fe80::1%eth0"])
def test_a_proxy_is_trusted_however_its_address_is_written(peer: str) -> None:
    assert is_trusted(peer, TRUSTED)
    assert client_address(peer, [CLIENT], TRUSTED) == CLIENT
    assert client_address(peer, ["unknown"], TRUSTED) == peer


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "1.2.3",
        "1.2.3.4.5",
        "1.2.3.256",
        "01.2.3.4",
        "1.2.3.4/8",
        "1.2.3.4:",
        "1.2.3.4:123456",
        "1.2.3.4:http",
        "16909060",
        "0x1020304",
        "[1.2.3.4]",
        "[::1",
        "::1]",
        "[]",
        "[::1]80",
        "[::1]:",
        "[[::1]]",
        "1::2::3",
        ":",
        "::1%",
        "%eth0",
        "1.2.3.4%eth0",
        "1.2.3.4\r",
        "1.2.3.4\x00",
        "١.2.3.4",  # noqa: RUF001
        "::1" + "0" * 1000,
        "\udcff",
        "example.com",
    ],
)
def test_what_is_no_address(text: str) -> None:
    assert address_of(text) is None


@given(st.ip_addresses())
def test_every_address_is_read_as_proxies_write_it(address) -> None:
    expected = getattr(address, "ipv4_mapped", None) or ip_address(str(address).partition("%")[0])
    texts = [str(address), str(address).upper() if "%" not in str(address) else str(address)]
    texts += [f"{address}:80"] if address.version == 4 else [f"[{address}]", f"[{address}]:65535", address.exploded]
    for text in texts:
        assert address_of(text) == expected


parts = st.sampled_from([CLIENT, OTHER, "10.0.0.2", "10.0.0.3", "::ffff:10.0.0.4", "2001:db8:ffff::1", "unknown", ""])


@given(
    made_up=st.lists(parts | st.text(max_size=20), max_size=5),
    proxies=st.lists(parts.filter(lambda p: p.startswith("10.")), max_size=5),
)
def test_what_a_client_sends_along_changes_nothing(made_up: list[str], proxies: list[str]) -> None:
    field = ",".join([*made_up, CLIENT, *proxies])
    assert client_address(PROXY, [field], TRUSTED) == CLIENT
    assert client_address(PROXY, [*made_up, CLIENT, *proxies], TRUSTED) == CLIENT


@given(st.lists(st.text(max_size=30) | parts, max_size=6), st.sampled_from([PROXY, CLIENT, "x"]))
def test_any_fields_give_an_address_or_the_peer(forwarded: list[str], peer: str) -> None:
    client = client_address(peer, forwarded, TRUSTED)
    assert client == peer or str(ip_address(client)) == client
    if peer == PROXY:
        assert client == (forwarded_address(forwarded, TRUSTED) or peer)


def test_a_long_row_of_trusted_addresses_is_looked_at_from_the_right_only() -> None:
    row = [f"10.1.0.{number % 250}" for number in range(1000)]
    assert client_address(PROXY, [", ".join([CLIENT, *row])], TRUSTED) == row[-MAX_PARTS]
    assert client_address(PROXY, [CLIENT, *row], TRUSTED) == row[-MAX_PARTS]
    assert client_address(PROXY, [CLIENT, ", ".join(row[:10]), *row[10:15]], TRUSTED) == CLIENT


@pytest.mark.parametrize("text", [",", " ,", "10.0.0.2,", "[", "%", ":", "1", "10.0.0.2:", "9" * 99 + ","])
def test_of_large_fields_no_more_than_a_few_parts_are_looked_at(text: str) -> None:
    field = text * (1024 * 1024 // len(text))
    looked_at = list(_from_the_right([field, field]))
    assert len(looked_at) <= MAX_PARTS
    assert client_address(PROXY, [field], TRUSTED) == PROXY
    assert client_scheme(PROXY, [field], TRUSTED) is None


@pytest.mark.parametrize(
    ("values", "scheme"),
    [
        (["https"], "https"),
        (["http"], "http"),
        ([" HTTPS\t"], "https"),
        (["https, https"], "https"),
        (["https", "https"], "https"),
        # Nobody can tell which of them is the client's own word.
        (["https, http"], None),
        (["http", "https"], None),
        ([], None),
        ([""], None),
        (["https,"], None),
        (["ftp"], None),
        (["httpsx"], None),
        (['"https"'], None),
    ],
)
def test_the_scheme_is_what_all_say(values: list[str], scheme: str | None) -> None:
    assert client_scheme(PROXY, values, TRUSTED) == scheme
