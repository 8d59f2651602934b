"""Configurations that cannot work, as an operator meets them (CONF-1)."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import pytest

BROKEN = {
    "unknown key": ("[server]\nprot = 1\n", ["server.prot"]),
    "unknown table": ("[sever]\nport = 1\n", ["sever"]),
    "wrong type": ('[pypi]\nmetadata_ttl = "soon"\n', ["pypi.metadata_ttl"]),
    "unknown format": ('[registries.x]\nformat = "npm"\n', ["registries.x.format"]),
    "two registries on one mount": (
        '[registries.a]\nformat = "pypi"\npath = "/x"\n[registries.b]\nformat = "pypi"\npath = "/x/"\n',
        ["/x/"],
    ),
    "a registry in another one's way": ('[registries.simple]\nformat = "pypi"\n', ["registries.simple"]),
    "port 0": ("[server]\nport = 0\n", ["server.port"]),
    "missing htpasswd file": ('[auth]\nenabled = true\nhtpasswd_file = "none"\n', ["auth.htpasswd_file"]),
    "bad URL": ('[pypi]\nproxy = "ftp://example.com"\n', ["pypi.proxy"]),
    "no TOML": ("[server\n", ["line 1"]),
    "time to live below -1": ("[pypi]\nmetadata_ttl = -2\n", ["pypi.metadata_ttl"]),
    "body limit 0": ("[server]\nbody_limit_mb = 0\n", ["server.body_limit_mb"]),
    "several at once": (
        '[server]\nport = 70000\nhost = ""\n[pypi]\nproxy_timeout = -1\nproxy = "nonsense"\nenabeld = false\n',
        ["server.port", "server.host", "pypi.proxy_timeout", "pypi.proxy", "pypi.enabeld"],
    ),
}


def free_port() -> str:
    """Other work on this machine may have the default one."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return str(one.getsockname()[1])


@pytest.mark.parametrize("case", BROKEN)
@pytest.mark.parametrize("command", ["serve", "check"])
def test_each_problem_is_one_line_and_the_start_stops_with_status_2(
    clients: Any, tmp_path: Path, command: str, case: str
) -> None:
    # CONF-1
    text, keys = BROKEN[case]
    config = tmp_path / "broken.toml"
    config.write_text(text)
    port = () if command == "check" or "port =" in text else ("--port", free_port())
    done = clients.tool("nora", command, "--config", str(config), "--storage", str(tmp_path / "store"), *port)
    assert done.status == 2, done.output
    assert "Traceback" not in done.output
    lines = done.output.strip().splitlines()
    assert len(lines) == len(keys), done.output
    for key in keys:
        assert any(key in line for line in lines), done.output


def test_a_taken_port_is_one_clear_line(clients: Any, tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = clients.tool("nora", "serve", "--port", str(port), "--storage", str(tmp_path / "store"))
    assert done.status == 2
    assert done.output.count("\n") == 1
    assert str(port) in done.output


def test_a_storage_that_is_something_else_is_refused(clients: Any, tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.jpg").write_bytes(b"x")
    done = clients.tool("nora", "serve", "--port", free_port(), "--storage", str(tmp_path / "photos"))
    assert done.status == 2
    assert done.output.count("\n") == 1
    assert "not a store" in done.output
