from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nora.config.networks import network_of, network_problem


@pytest.mark.parametrize(
    ("text", "network"),
    [
        ("127.0.0.1", "127.0.0.1/32"),
        ("10.0.0.0/8", "10.0.0.0/8"),
        ("10.0.0.1/32", "10.0.0.1/32"),
        ("::1", "::1/128"),
        ("2001:DB8::/32", "2001:db8::/32"),
        ("fe80::/10", "fe80::/10"),
    ],
)
def test_addresses_and_networks_of_both_families_are_read(text: str, network: str) -> None:
    assert network_problem(text) is None
    assert str(network_of(text)) == network


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "/",
        "/8",
        "10.0.0.0/",
        "10.0.0.0/33",
        "2001:db8::/129",
        "10.0.0.0/-1",
        "10.0.0.0/+8",
        "10.0.0.0/8/8",
        "10.0.0.0/255.0.0.0",
        "10.0.0.0/0.255.255.255",
        "10.0.0.0/٨",
        " 10.0.0.1",
        "10.0.0.1 ",
        "010.0.0.1",
        "10.1",
        "167772161",
        "0x0a000001",
        "10.0.0.1:80",
        "[::1]",
        "[::1]:80",
        "fe80::1%eth0",
        "fe80::%eth0/64",
        "proxy.example.com",
        "localhost",
        "*",
        "10.0.0.0/8,192.0.2.1",
        "x" * 10_000,
        "10.0.0.1\n",
        "\ud800",
    ],
)
def test_what_is_none_is_said_in_one_line_with_the_way_to_write_it(text: str) -> None:
    problem = network_problem(text)
    assert problem is not None
    assert "write it as 10.0.0.1, 10.0.0.0/8" in problem
    assert len(problem) < 300
    assert "\n" not in problem
    with pytest.raises(ValueError, match="is no address and no network"):
        network_of(text)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("unix", "no Unix sockets"),
        ("unix:/run/nora.sock", "no Unix sockets"),
        ("0.0.0.0/0", "would trust everybody"),
        ("::/0", "would trust everybody"),
        ("10.1.2.3/0", "would trust everybody"),
        ("10.1.2.3/8", "write 10.0.0.0/8, or one address without /"),
        ("2001:db8::1/32", "write 2001:db8::/32, or one address without /"),
        ("::ffff:10.0.0.1", "like 10.0.0.1"),
        ("::ffff:10.0.0.0/104", "like 10.0.0.0"),
    ],
)
def test_what_would_mean_something_else_is_refused_with_the_fix(text: str, said: str) -> None:
    assert said in (network_problem(text) or "")
    with pytest.raises(ValueError, match=r"^'"):
        network_of(text)


@given(st.text(max_size=30) | st.ip_addresses().map(str) | st.from_regex(r"[0-9a-f.:]{1,20}(/[0-9]{1,3})?"))
def test_a_text_has_a_problem_or_is_a_network(text: str) -> None:
    if network_problem(text) is None:
        assert network_problem(str(network_of(text))) is None
