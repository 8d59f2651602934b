"""What twine and uv send beside a file: signatures and attestations."""

from __future__ import annotations

import hashlib
import json
from base64 import b64encode
from pathlib import Path
from typing import Any

import httpx
import pytest

from nora.testing.live import LiveServer
from nora.testing.packages import make_sdist, make_wheel

HOSTED_ONLY = '[pypi]\nproxy = ""\n'
CREDENTIALS = ("-u", "somebody", "-p", "secret")
FILES = [make_wheel("demo", "1.0"), make_sdist("demo", "1.0")]
SIGNATURE = b"-----BEGIN PGP SIGNATURE-----\r\n\n\xff\0=\n-----END PGP SIGNATURE-----"


def attestation(filename: str, content: bytes, predicate: str = "https://slsa.dev/provenance/v1") -> dict[str, Any]:
    subject = {"name": filename, "digest": {"sha256": hashlib.sha256(content).hexdigest()}}
    statement = {"_type": "https://in-toto.io/Statement/v1", "subject": [subject], "predicateType": predicate}
    encoded = (b"\x30\x03\x02\x01\x01", json.dumps(statement).encode(), b"signed")
    certificate, stated, signature = (b64encode(part).decode() for part in encoded)
    material = {"certificate": certificate, "transparency_entries": [{"logIndex": "1", "envelope": "\u2014"}]}
    envelope = {"statement": stated, "signature": signature}
    return {"version": 1, "verification_material": material, "envelope": envelope}


def write(dist: Path, *, wrong: bool = False) -> list[str]:
    """The files, and beside each two attestations and a signature, as signing tools leave them."""
    for filename, content in FILES:
        (dist / filename).write_bytes(content)
        (dist / f"{filename}.asc").write_bytes(SIGNATURE)
        for kind in ("publish", "slsa"):
            made = attestation(filename, content + b"!" if wrong else content, f"https://index.example/{kind}")
            (dist / f"{filename}.{kind}.attestation").write_text(json.dumps(made, indent=2), encoding="utf-8")
    return sorted(str(path) for path in dist.iterdir())


def served(server: LiveServer, filename: str, suffix: str) -> bytes | None:
    answer = httpx.get(f"{server.url}/simple/demo/{filename}{suffix}")
    assert answer.status_code in (200, 404)
    return answer.content if answer.status_code == 200 else None


def attested(provenance: bytes | None, filename: str, content: bytes) -> bool:
    """Whether a provenance object holds both attestations of a file, in whatever order."""
    assert provenance is not None
    (bundle,) = json.loads(provenance)["attestation_bundles"]
    predicates = ("https://index.example/publish", "https://index.example/slsa")
    expected = [attestation(filename, content, predicate) for predicate in predicates]
    return sorted(bundle["attestations"], key=str) == sorted(expected, key=str)


def test_twine_uploads_signatures_and_attestations(clients: Any, tmp_path: Path, dist: Path) -> None:
    # UP-18, PROV-1, HTML-12
    inputs = write(dist)
    with LiveServer(tmp_path / "store", HOSTED_ONLY) as server:
        arguments = (
            "upload",
            "--disable-progress-bar",
            "--attestations",
            *CREDENTIALS,
            "--repository-url",
            f"{server.url}/legacy/",
        )
        done = clients.tool("twine", *arguments, *inputs)
        assert done.status == 0, done.output
        for filename, content in FILES:
            assert served(server, filename, ".asc") == SIGNATURE
            provenance = served(server, filename, ".provenance")
            assert attested(provenance, filename, content)
            # twine reads and writes the JSON; what it writes is kept to the byte.
            assert json.dumps(attestation(filename, content, "https://index.example/slsa")).encode() in (provenance or b"")
        python = clients.venv("installed")
        assert clients.pip_install(python, f"{server.url}/simple/", "demo").status == 0


def test_twine_uploads_signatures_alone(clients: Any, tmp_path: Path, dist: Path) -> None:
    # UP-18
    inputs = [path for path in write(dist) if not path.endswith(".attestation")]
    with LiveServer(tmp_path / "store", HOSTED_ONLY) as server:
        arguments = ("upload", "--disable-progress-bar", *CREDENTIALS, "--repository-url", f"{server.url}/simple/")
        done = clients.tool("twine", *arguments, *inputs)
        assert done.status == 0, done.output
        for filename, _ in FILES:
            assert served(server, filename, ".asc") == SIGNATURE
            assert served(server, filename, ".provenance") is None


def test_uv_publishes_attestations(clients: Any, tmp_path: Path, dist: Path) -> None:
    # UP-18, PROV-1
    write(dist)
    with LiveServer(tmp_path / "store", HOSTED_ONLY) as server:
        arguments = ("publish", "--no-config", *CREDENTIALS, "--publish-url", f"{server.url}/legacy/")
        done = clients.tool("uv", *arguments, cwd=dist.parent)  # as a rule it publishes dist/*
        assert done.status == 0, done.output
        for filename, content in FILES:
            assert attested(served(server, filename, ".provenance"), filename, content)
            assert served(server, filename, ".asc") is None  # uv sends no signatures
        assert clients.uv_install(clients.venv("installed"), f"{server.url}/simple/", "demo").status == 0


@pytest.mark.parametrize("tool", ["twine", "uv"])
def test_clients_tell_why_attestations_are_refused(clients: Any, tmp_path: Path, dist: Path, tool: str) -> None:
    # PROV-2, UP-12
    inputs = write(dist, wrong=True)
    with LiveServer(tmp_path / "store", HOSTED_ONLY) as server:
        url = f"{server.url}/legacy/"
        commands = {
            "twine": ("upload", "--disable-progress-bar", "--verbose", "--attestations", "--repository-url", url, *inputs),
            "uv": ("publish", "--no-config", "--publish-url", url, *inputs),
        }
        done = clients.tool(tool, *commands[tool][:1], *CREDENTIALS, *commands[tool][1:], cwd=dist.parent)
        assert done.status != 0, done.output
        assert "attestation 1 is of a file with the sha256" in " ".join(done.output.split())
        assert httpx.get(f"{server.url}/simple/demo/").status_code == 404
