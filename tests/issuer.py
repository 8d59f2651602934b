"""A CI system as far as it vouches for its jobs: an HTTP server with real keys that signs what a test wants, and does wrong when told.

It stands in for the issuer (``/.well-known/openid-configuration``, ``/keys``) and for the address where a job of GitHub Actions gets
its identity (``/identity?audience=...``, see :meth:`ScriptedIssuer.environment`).
"""

from __future__ import annotations

import base64
import json
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from jwt.algorithms import ECAlgorithm, RSAAlgorithm

DISCOVERY, KEYS, IDENTITY = "/.well-known/openid-configuration", "/keys", "/identity"
AUDIENCE = "https://registry.example"
REPOSITORY = "acme/demo"
REQUEST_TOKEN = "asks-for-an-identity"


@lru_cache
def private_key(kind: str, name: str) -> Any:
    """A key that is made once for all tests; RSA ones take a while."""
    return ec.generate_private_key(ec.SECP256R1()) if kind == "EC" else rsa.generate_private_key(65537, 2048)


def public_jwk(kind: str, name: str) -> dict[str, Any]:
    """What an issuer publishes of a key."""
    public = private_key(kind, name).public_key()
    made = ECAlgorithm.to_jwk(public, as_dict=True) if kind == "EC" else RSAAlgorithm.to_jwk(public, as_dict=True)
    return {**{key: value for key, value in made.items() if key != "key_ops"}, "kid": name, "use": "sig"}


def b64(data: bytes | dict[str, Any]) -> str:
    """As the parts of a JSON Web Token are written."""
    raw = data if isinstance(data, bytes) else json.dumps(data).encode()
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


class ScriptedIssuer:
    """Use :meth:`run`.

    Attributes:
        url: Its address, which is its name, too.
        asked: The paths that were asked for, in order.
        keys: The public keys that it tells, by id.
        answers: What is answered instead, by path: a status, a body, or a function that gets the handler and writes the answer.
    """

    def __init__(self) -> None:
        self.url = "http://127.0.0.1:1"
        self.asked: list[str] = []
        self.keys = {"first": public_jwk("RSA", "first"), "curve": public_jwk("EC", "curve")}
        self.answers: dict[str, int | bytes | Callable[[BaseHTTPRequestHandler], None]] = {}
        self.over = threading.Event()

    @contextmanager
    def run(self) -> Iterator[ScriptedIssuer]:
        issuer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                issuer.asked.append(self.path)
                issuer._answer(self)

            def log_message(self, *_: Any) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.daemon_threads = True
        self.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        try:
            yield self
        finally:
            self.over.set()
            server.shutdown()
            server.server_close()
            thread.join(10)

    def rotate(self, *names: str) -> None:
        """Have other keys from now on."""
        self.keys = {name: public_jwk("RSA", name) for name in names}

    def hang(self, handler: BaseHTTPRequestHandler) -> None:
        """An answer that does not come."""
        self.over.wait(30)
        handler.close_connection = True

    def redirect(self, target: str) -> Callable[[BaseHTTPRequestHandler], None]:
        """An answer that leads elsewhere."""

        def answer(handler: BaseHTTPRequestHandler) -> None:
            handler.send_response(302)
            handler.send_header("Location", target)
            handler.send_header("Content-Length", "0")
            handler.end_headers()

        return answer

    def claims(self, **changes: Any) -> dict[str, Any]:
        """What a job's identity says; ``None`` takes a claim out."""
        now = int(time.time())
        said = {
            "iss": self.url,
            "aud": AUDIENCE,
            "sub": f"repo:{REPOSITORY}:ref:refs/heads/main",
            "jti": secrets.token_hex(8),
            "iat": now,
            "nbf": now,
            "exp": now + 300,
            "repository": REPOSITORY,
            "ref": "refs/heads/main",
            "environment": "release",
            "run_number": 7,
            **changes,
        }
        return {name: value for name, value in said.items() if value is not None}

    def identity(
        self,
        *,
        key: str = "first",
        kind: str = "RSA",
        kid: str | None = None,
        header: dict[str, Any] | None = None,
        **changes: Any,
    ) -> str:
        """A signed identity; ``kid`` is what it says of its key, ``header`` is what its head holds besides."""
        algorithm = "ES256" if kind == "EC" else "RS256"
        fields = {"kid": key if kid is None else kid, **(header or {})}
        return jwt.encode(self.claims(**changes), private_key(kind, key), algorithm, headers=fields)

    def environment(self) -> dict[str, str]:
        """Variables of a job in GitHub Actions that may ask for its identity."""
        asking = {
            "ACTIONS_ID_TOKEN_REQUEST_URL": f"{self.url}{IDENTITY}?job=1",
            "ACTIONS_ID_TOKEN_REQUEST_TOKEN": REQUEST_TOKEN,
        }
        return {"GITHUB_ACTIONS": "true", **asking}

    def _answer(self, handler: BaseHTTPRequestHandler) -> None:
        address = urlsplit(handler.path)
        answer = self.answers.get(address.path)
        if callable(answer):
            answer(handler)
            return
        if answer is None:
            answer = self._document(address.path, address.query, handler.headers.get("Authorization", ""))
        status, body = (answer, b"") if isinstance(answer, int) else (200, answer)
        handler.send_response(status)
        handler.send_header("Content-Type", "application/json")
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)

    def _document(self, path: str, query: str, authorization: str) -> int | bytes:
        if path == DISCOVERY:
            return json.dumps({"issuer": self.url, "jwks_uri": f"{self.url}{KEYS}", "other": [1]}).encode()
        if path == KEYS:
            return json.dumps({"keys": list(self.keys.values())}).encode()
        if path == IDENTITY:
            if authorization.lower() != f"bearer {REQUEST_TOKEN}":
                return 401
            return json.dumps({"value": self.identity(aud=parse_qs(query)["audience"][0])}).encode()
        return 404
