"""Signed identities (JSON Web Tokens) of CI systems: read, and compared with a key and the time. Does no I/O.

Specs: RFC 7515 (signatures), RFC 7517 and 7518 (keys), RFC 7519 (claims), RFC 8725 (what goes wrong with them).
"""

from __future__ import annotations

import base64
import hashlib
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jwt
import msgspec
from jwt.types import JWKDict

from nora.auth.publishers import Refused

MAX_BYTES = 16 * 1024
"""Of a whole identity."""
LEEWAY_SECONDS = 30.0
"""By so much our clock and an issuer's may differ."""
MAX_AHEAD_SECONDS = 31 * 24 * 3600.0
"""No job lasts longer, and what was used up has to be remembered until it expires."""
MAX_KEYS, MAX_KEY_ID = 100, 256
RSA_BITS = range(2048, 8192 + 1)
"""Less can be broken; more takes long to compute, which nobody needs."""

_FORM = re.compile(r"([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)")
_MAX_EXPONENT = "AQAAAAAA"
_MAX_TIME = 1e12
_ALGORITHMS = {("RSA", None): "RS256", ("EC", "P-256"): "ES256"}
"""By kind and curve of a key: the one that it is used with, and nothing else ever (RFC 8725 3.1)."""


@dataclass(frozen=True, slots=True)
class Said:
    """What an identity says of itself, which proves nothing: who issued it, and which key to look for."""

    issuer: str
    key_id: str
    algorithm: str


@dataclass(frozen=True, slots=True)
class Identity:
    """What an issuer has signed, and is true now.

    Attributes:
        claims: All that it says.
        subject: Whose it is.
        audiences: Whom it is for.
        expires: Until when it may be used, in seconds since the epoch, our leeway included.
        once: The same for the same identity of the same issuer, however it is sent again; in hex.
    """

    claims: Mapping[str, object]
    subject: str
    audiences: tuple[str, ...]
    expires: float
    once: str


@dataclass(frozen=True, slots=True)
class Key:
    """A key of an issuer, and the one algorithm that it is used with."""

    algorithm: str
    public: jwt.PyJWK


class _Header(msgspec.Struct):
    alg: str
    kid: str
    # RFC 7515 4.1.11: what must be understood, and is not. RFC 7797: a payload that is not what it looks like.
    crit: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    b64: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


class _Payload(msgspec.Struct):
    iss: str


class _KeySet(msgspec.Struct):
    keys: list[dict[str, Any]]


def said_by(text: str) -> Said:
    """Read an identity without believing it. Keys that it brings along, or says where to get (jwk, jku, x5u), are not looked at.

    Raises:
        Refused: it is none that could ever be exchanged.
    """
    if len(text) > MAX_BYTES:
        raise Refused("invalid-token", f"the token is larger than {MAX_BYTES} bytes")
    parts = _FORM.fullmatch(text)
    if parts is None:
        raise Refused("invalid-token", "the token is no signed JSON Web Token: three parts of base64url with dots between")
    try:
        header = msgspec.json.decode(_decoded(parts[1]), type=_Header)
        payload = msgspec.json.decode(_decoded(parts[2]), type=_Payload)
    except (ValueError, RecursionError):
        raise Refused("invalid-token", "the token's parts are no JSON objects with alg, kid and iss") from None
    if header.alg not in _ALGORITHMS.values():
        known = " or ".join(_ALGORITHMS.values())
        raise Refused("invalid-token", f"the token is not signed in a way that is accepted here, which is {known}")
    if header.crit is not msgspec.UNSET or header.b64 is not msgspec.UNSET:
        raise Refused("invalid-token", "the token's header asks for extensions that are not known here")
    return Said(payload.iss, header.kid, header.alg)


def keys_of(document: bytes) -> dict[tuple[str, str], Key]:
    """The keys of a JSON Web Key Set that we can use, by id and algorithm; the first of several that are called the same.

    Raises:
        ValueError: it is none, or holds too many keys. The text is for people.
    """
    try:
        given = msgspec.json.decode(document, type=_KeySet).keys
    except (ValueError, RecursionError):
        raise ValueError("its keys are no JSON Web Key Set") from None
    if len(given) > MAX_KEYS:
        raise ValueError(f"it has more than {MAX_KEYS} keys")
    found: dict[tuple[str, str], Key] = {}
    for each in given:
        id_, key = each.get("kid"), _key(each)
        if isinstance(id_, str) and len(id_) <= MAX_KEY_ID and key is not None:
            found.setdefault((id_, key.algorithm), key)
    return found


def verified(text: str, key: Key, *, issuer: str, now: float) -> Identity:
    """The identity in a text, if the key has signed it for this issuer and it is true at this time, in seconds since the epoch.

    Raises:
        Refused: it is not.
    """
    try:
        payload = jwt.PyJWS().decode(text, key.public, algorithms=[key.algorithm])
        claims = msgspec.json.decode(payload)
    except jwt.InvalidSignatureError:
        raise Refused("invalid-token", "the token's signature is wrong") from None
    except (jwt.PyJWTError, ValueError, RecursionError):
        raise Refused("invalid-token", "the token is malformed") from None
    if not isinstance(claims, dict) or claims.get("iss") != issuer:
        raise Refused("invalid-token", "the token's issuer (iss) is not the one that has signed it")
    expires, issued, begins = _time(claims, "exp"), _time(claims, "iat"), _time(claims, "nbf", required=False)
    if now >= expires + LEEWAY_SECONDS:
        raise Refused("invalid-token", "the token has expired (exp); ask for a new one right before it is used")
    if max(issued, begins) > now + LEEWAY_SECONDS:
        raise Refused("invalid-token", "the token is of a time to come (iat, nbf); compare the clocks")
    if expires > now + MAX_AHEAD_SECONDS:
        raise Refused("invalid-token", "the token expires too late (exp): no more than 31 days are accepted")
    subject = claims.get("sub")
    if not isinstance(subject, str) or not subject:
        raise Refused("invalid-token", "the token does not say whose it is (sub)")
    given = claims.get("aud")
    audiences = tuple(each for each in (given if isinstance(given, list) else [given]) if isinstance(each, str) and each)
    if not audiences:
        raise Refused("invalid-token", "the token does not say whom it is for (aud)")
    return Identity(claims, subject, audiences, expires + LEEWAY_SECONDS, _once(text, claims, issuer))


def _once(text: str, claims: Mapping[str, object], issuer: str) -> str:
    id_ = claims.get("jti")
    # Not a digest of all of it: a signature can be written in several ways, what is signed cannot.
    kind, own = ("jti", id_) if isinstance(id_, str) and id_ else ("signed", text.rpartition(".")[0])
    return hashlib.sha256(msgspec.json.encode([issuer, kind, own])).hexdigest()


def _time(claims: Mapping[str, object], name: str, *, required: bool = True) -> float:
    value = claims.get(name)
    if value is None and not required:
        return -math.inf
    # JSON has numbers that no clock has, and some that no float can be.
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < _MAX_TIME:
        raise Refused("invalid-token", f"the token has no time {name}, in seconds since the epoch")
    return value


def _key(given: Mapping[str, Any]) -> Key | None:
    """A key that is for signatures of a kind that we know, and no other. A private part, and what else it holds, is left out."""
    kind, curve = given.get("kty"), given.get("crv")
    algorithm = next((name for (of, on), name in _ALGORITHMS.items() if kind == of and on in (None, curve)), None)
    operations = given.get("key_ops", ["verify"])
    if (
        algorithm is None
        or given.get("alg", algorithm) != algorithm
        or given.get("use", "sig") != "sig"
        or not isinstance(operations, list)
        or "verify" not in operations
    ):
        return None
    parts: JWKDict = {name: given.get(name) for name in (("n", "e") if kind == "RSA" else ("crv", "x", "y"))}
    if not all(isinstance(part, str) for part in parts.values()) or len(parts.get("e", "")) > len(_MAX_EXPONENT):
        return None
    try:
        public = jwt.PyJWK({"kty": kind, **parts}, algorithm=algorithm)
    except (jwt.PyJWTError, ValueError):
        return None
    return None if kind == "RSA" and public.key.key_size not in RSA_BITS else Key(algorithm, public)


def _decoded(part: str) -> bytes:
    return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))
