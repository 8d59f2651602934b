"""Signed identities: those that hold, and every forgery that we can think of."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from jwt.algorithms import OKPAlgorithm, RSAAlgorithm

from nora.auth.publishers import Refused
from nora.auth.signed import LEEWAY_SECONDS, MAX_BYTES, Identity, Key, keys_of, said_by, verified
from tests.issuer import AUDIENCE, ScriptedIssuer, b64, private_key, public_jwk

ISSUER = "https://ci.example"


@pytest.fixture
def issuer() -> ScriptedIssuer:
    made = ScriptedIssuer()
    made.url = ISSUER
    return made


@pytest.fixture
def keys(issuer: ScriptedIssuer) -> dict[tuple[str, str], Key]:
    return keys_of(json.dumps({"keys": list(issuer.keys.values())}).encode())


def check(text: str, keys: dict[tuple[str, str], Key], now: float | None = None) -> Identity:
    """As the exchange does it."""
    said = said_by(text)
    key = keys.get((said.key_id, said.algorithm))
    if key is None:
        raise Refused("no-key", "no such key")
    issued = json.loads(base64.urlsafe_b64decode(text.split(".")[1] + "==")).get("iat")
    return verified(text, key, issuer=said.issuer, now=issued if now is None else now)


def refusal(text: str, keys: dict[tuple[str, str], Key], now: float | None = None) -> str:
    with pytest.raises(Refused) as caught:
        check(text, keys, now)
    assert "\n" not in str(caught.value)
    assert text not in str(caught.value) or not text
    return caught.value.description


@pytest.mark.parametrize(("key", "kind"), [("first", "RSA"), ("curve", "EC")])
def test_what_an_issuer_has_signed_holds(issuer: ScriptedIssuer, keys, key: str, kind: str) -> None:
    identity = check(issuer.identity(key=key, kind=kind, jti="j1"), keys)
    assert identity.claims["repository"] == "acme/demo"
    assert identity.subject == "repo:acme/demo:ref:refs/heads/main"
    assert identity.audiences == (AUDIENCE,)
    assert identity.expires == identity.claims["exp"] + LEEWAY_SECONDS
    assert len(identity.once) == 64


# Form


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x",
        "..",
        "a.b",
        "a.b.",
        ".b.c",
        "a.b.c.d",
        "a b.c.d",
        "a.b.c\n",
        "ä.b.c",
        "a=.b.c",
        "a.b.c",
        f"{b64({'alg': 'RS256'})}.{b64({'iss': 'x'})}.AA",
        f"{b64({'alg': 'RS256', 'kid': 1})}.{b64({'iss': 'x'})}.AA",
        f"{b64({'alg': 'RS256', 'kid': 'a'})}.{b64({'iss': 1})}.AA",
        f"{b64({'alg': 'RS256', 'kid': 'a'})}.{b64(b'[]')}.AA",
        f"{b64(b'[' * 4000)}.{b64(b'[' * 4000)}.AA",
        f"{b64(b'{' + b'x' * 100)}.{b64({'iss': 'x'})}.AA",
        f"{b64(bytes(range(128, 256)))}.{b64({'iss': 'x'})}.AA",
    ],
)
def test_what_is_no_token_is_refused(keys, text: str) -> None:
    assert refusal(text, keys).startswith("the token")


def test_a_token_has_a_limit(issuer: ScriptedIssuer, keys) -> None:
    assert check(issuer.identity(filler="x" * (MAX_BYTES // 2)), keys)
    assert refusal(issuer.identity(filler="x" * MAX_BYTES), keys) == f"the token is larger than {MAX_BYTES} bytes"


def test_deep_claims_are_refused_and_do_no_harm(issuer: ScriptedIssuer, keys) -> None:
    deep: list[Any] = []
    for _ in range(400):
        deep = [deep]
    assert check(issuer.identity(deep=deep), keys).claims["deep"]
    payload = b'{"iss":"' + ISSUER.encode() + b'","deep":' + b"[" * 5000 + b"]" * 5000 + b"}"
    text = jwt.PyJWS().encode(payload, private_key("RSA", "first"), "RS256", {"kid": "first"})
    with pytest.raises(Refused):
        said_by(text)


# Algorithms: RFC 8725, 3.1 and 3.2


@pytest.mark.parametrize("algorithm", ["none", "None", "NONE", "nOnE", ""])
def test_an_unsigned_token_is_refused(issuer: ScriptedIssuer, keys, algorithm: str) -> None:
    head = b64({"alg": algorithm, "kid": "first", "typ": "JWT"})
    for signature in ("", "AA", issuer.identity().rpartition(".")[2]):
        assert refusal(f"{head}.{b64(issuer.claims())}.{signature}", keys)


@pytest.mark.parametrize("algorithm", ["HS256", "HS384", "HS512"])
def test_a_public_key_is_no_secret_to_sign_with(issuer: ScriptedIssuer, keys, algorithm: str) -> None:
    public = private_key("RSA", "first").public_key()
    secrets = [public.public_bytes(encoding, PublicFormat.SubjectPublicKeyInfo) for encoding in (Encoding.PEM, Encoding.DER)]
    secrets += [json.dumps(issuer.keys["first"]).encode(), issuer.keys["first"]["n"].encode(), b""]
    for secret in secrets:
        signed = f"{b64({'alg': algorithm, 'kid': 'first'})}.{b64(issuer.claims())}"
        signature = hmac.new(secret, signed.encode(), getattr(hashlib, f"sha{algorithm[2:]}")).digest()
        assert refusal(f"{signed}.{b64(signature)}", keys).startswith("the token is not signed in a way that is accepted here")


@pytest.mark.parametrize("algorithm", ["RS384", "RS512", "PS256", "ES384", "EdDSA", "RS256 "])
def test_other_algorithms_are_refused(issuer: ScriptedIssuer, keys, algorithm: str) -> None:
    head, payload, signature = issuer.identity().split(".")
    head = b64({"alg": algorithm, "kid": "first"})
    assert refusal(f"{head}.{payload}.{signature}", keys).endswith("which is RS256 or ES256")


def test_a_key_is_used_with_its_own_algorithm_only(issuer: ScriptedIssuer, keys) -> None:
    for kid, algorithm in (("curve", "RS256"), ("first", "ES256")):
        _, payload, signature = issuer.identity().split(".")
        assert refusal(f"{b64({'alg': algorithm, 'kid': kid})}.{payload}.{signature}", keys) == "no such key"


def test_another_key_under_the_same_name_is_refused(issuer: ScriptedIssuer, keys) -> None:
    assert refusal(issuer.identity(key="attacker", kid="first"), keys) == "the token's signature is wrong"


@pytest.mark.parametrize("field", ["jwk", "jku", "x5u", "x5c"])
def test_a_key_that_a_token_brings_along_is_not_looked_at(issuer: ScriptedIssuer, keys, field: str) -> None:
    brought = {
        "jwk": public_jwk("RSA", "attacker"),
        "jku": "https://evil.example/keys",
        "x5u": "https://evil.example/c",
        "x5c": ["AA"],
    }
    header = {field: brought[field]}
    assert refusal(issuer.identity(key="attacker", kid="first", header=header), keys) == "the token's signature is wrong"
    assert refusal(issuer.identity(key="attacker", header=header), keys) == "no such key"
    assert check(issuer.identity(header=header), keys)


@pytest.mark.parametrize("header", [{"crit": ["exp"], "exp": 1}, {"crit": []}, {"b64": False, "crit": ["b64"]}, {"b64": True}])
def test_extensions_that_must_be_understood_are_refused(issuer: ScriptedIssuer, keys, header: dict[str, Any]) -> None:
    text = f"{b64({'alg': 'RS256', 'kid': 'first', **header})}.{b64(issuer.claims())}.AA"
    assert refusal(text, keys) == "the token's header asks for extensions that are not known here"


def test_a_changed_token_is_refused(issuer: ScriptedIssuer, keys) -> None:
    head, payload, signature = issuer.identity().split(".")
    other = b64(issuer.claims(repository="evil/demo"))
    for text in (f"{head}.{other}.{signature}", f"{b64({'alg': 'RS256', 'kid': 'first'})}.{payload}.{signature}"):
        assert refusal(text, keys) == "the token's signature is wrong"
    for cut in (signature[:-8], signature[:8], "A" * len(signature), "A"):
        assert refusal(f"{head}.{payload}.{cut}", keys) in ("the token's signature is wrong", "the token is malformed")


# Claims


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"exp": None}, "the token has no time exp"),
        ({"exp": "soon"}, "the token has no time exp"),
        ({"exp": True}, "the token has no time exp"),
        ({"exp": [1]}, "the token has no time exp"),
        ({"exp": 10**10}, "the token expires too late"),
        ({"exp": 10**30}, "the token has no time exp"),
        ({"exp": 10**400}, "the token has no time exp"),
        ({"exp": 9e307}, "the token has no time exp"),
        ({"exp": 0}, "the token has expired"),
        ({"exp": -1e9}, "the token has expired"),
        ({"exp": -1e300}, "the token has no time exp"),
        ({"nbf": "now"}, "the token has no time nbf"),
        ({"nbf": 9e11}, "the token is of a time to come"),
        ({"nbf": -(10**400)}, "the token has no time nbf"),
        ({"sub": None}, "the token does not say whose it is"),
        ({"sub": ""}, "the token does not say whose it is"),
        ({"sub": 1}, "the token does not say whose it is"),
        ({"aud": None}, "the token does not say whom it is for"),
        ({"aud": ""}, "the token does not say whom it is for"),
        ({"aud": []}, "the token does not say whom it is for"),
        ({"aud": [1, None]}, "the token does not say whom it is for"),
        ({"aud": {"a": 1}}, "the token does not say whom it is for"),
    ],
)
def test_claims_that_must_be_there_are_wanted(issuer: ScriptedIssuer, keys, changes: dict[str, Any], expected: str) -> None:
    assert refusal(_signed({**issuer.claims(), **changes}), keys).startswith(expected)


@pytest.mark.parametrize("value", [None, "now", True])
def test_a_token_says_when_it_was_issued(issuer: ScriptedIssuer, keys, value: object) -> None:
    claims = issuer.claims()
    assert refusal(_signed({**claims, "iat": value}), keys, claims["iat"]).startswith("the token has no time iat")


def test_a_number_that_is_none_is_refused(issuer: ScriptedIssuer, keys) -> None:
    for said in ("NaN", "Infinity", "1e999"):
        payload = json.dumps(issuer.claims()).replace('"exp": ', f'"exp": {said}, "was": ').encode()
        text = jwt.PyJWS().encode(payload, private_key("RSA", "first"), "RS256", {"kid": "first"})
        with pytest.raises(Refused):
            check(text, keys, now=issuer.claims()["iat"])


def test_times_have_a_little_leeway(issuer: ScriptedIssuer, keys) -> None:
    at = 1_800_000_000
    text = _signed(issuer.claims(iat=at, nbf=at, exp=at + 300))
    assert check(text, keys, at - LEEWAY_SECONDS)
    assert check(text, keys, at + 300 + LEEWAY_SECONDS - 0.1)
    assert refusal(text, keys, at + 300 + LEEWAY_SECONDS).startswith("the token has expired (exp)")
    assert refusal(text, keys, at - LEEWAY_SECONDS - 0.1).startswith("the token is of a time to come")
    for changes in ({"iat": at + 100}, {"nbf": at + 100}):
        later = _signed({**issuer.claims(iat=at, nbf=at, exp=at + 300), **changes})
        assert refusal(later, keys, at).startswith("the token is of a time to come")


def test_a_fraction_of_a_second_and_no_beginning_are_fine(issuer: ScriptedIssuer, keys) -> None:
    assert check(_signed(issuer.claims(iat=1000.5, nbf=None, exp=1300.5)), keys, 1001)


def test_an_issuer_speaks_for_itself_only(issuer: ScriptedIssuer, keys) -> None:
    text = issuer.identity(iss="https://other.example")
    with pytest.raises(Refused, match="issuer"):
        verified(text, keys["first", "RS256"], issuer=ISSUER, now=issuer.claims()["iat"])
    # Said twice, the first time for who reads it without belief.
    payload = json.dumps(issuer.claims()).replace("{", '{"iss": "https://other.example", ', 1).encode()
    text = jwt.PyJWS().encode(payload, private_key("RSA", "first"), "RS256", {"kid": "first"})
    assert check(text, keys).claims["iss"] == said_by(text).issuer


# Once


def test_the_same_token_is_the_same_however_it_is_signed(issuer: ScriptedIssuer, keys) -> None:
    claims = issuer.claims(jti=None)
    texts = {jwt.encode(claims, private_key("EC", "curve"), "ES256", headers={"kid": "curve"}) for _ in range(2)}
    assert len(texts) == 2  # each ECDSA signature is another one
    assert len({check(text, keys).once for text in texts}) == 1
    assert check(_signed({**claims, "run_number": 8}), keys).once != check(_signed(claims), keys).once


def test_an_id_counts_with_its_issuer(issuer: ScriptedIssuer, keys) -> None:
    one = check(issuer.identity(jti="a", run_number=1), keys).once
    assert check(issuer.identity(jti="a", run_number=2), keys).once == one
    assert check(issuer.identity(jti="b"), keys).once != one
    other = ScriptedIssuer()
    other.url = "https://other.example"
    assert check(other.identity(jti="a"), keys).once != one


@pytest.mark.parametrize("jti", [7, "", ["a"], {"a": 1}, True])
def test_an_id_of_another_kind_is_none(issuer: ScriptedIssuer, keys, jti: object) -> None:
    texts = [issuer.identity(jti=jti, run_number=number) for number in (1, 2)]
    assert len({check(text, keys).once for text in texts}) == 2


# Keys


def _set(*keys: Any) -> bytes:
    return json.dumps({"keys": keys}).encode()


@pytest.mark.parametrize(
    "document", [b"", b"{}", b"[]", b'{"keys": {}}', b'{"keys": [1]}', b'{"keys": ' + b"[" * 100_000, b"\xff"]
)
def test_what_is_no_key_set_is_told(document: bytes) -> None:
    with pytest.raises(ValueError, match="no JSON Web Key Set"):
        keys_of(document)


def test_a_key_set_has_a_limit() -> None:
    key = public_jwk("RSA", "first")
    assert len(keys_of(_set(*({**key, "kid": str(number)} for number in range(100))))) == 100
    with pytest.raises(ValueError, match="more than 100 keys"):
        keys_of(_set(*({**key, "kid": str(number)} for number in range(101))))


def _octets() -> dict[str, Any]:
    return {"kty": "oct", "k": b64(b"secret" * 8), "kid": "first", "alg": "HS256"}


def _ed() -> dict[str, Any]:
    return {**OKPAlgorithm.to_jwk(ed25519.Ed25519PrivateKey.generate().public_key(), as_dict=True), "kid": "first"}


def _small() -> dict[str, Any]:
    return {**RSAAlgorithm.to_jwk(rsa.generate_private_key(65537, 1024).public_key(), as_dict=True), "kid": "first"}


@pytest.mark.parametrize(
    "change",
    [
        {"use": "enc"},
        {"alg": "RS512"},
        {"alg": "HS256"},
        {"alg": "none"},
        {"alg": 1},
        {"kty": "oct"},
        {"kty": None},
        {"kty": ["RSA"]},
        {"kid": None},
        {"kid": 1},
        {"kid": "x" * 257},
        {"n": None},
        {"n": 1},
        {"n": "AQAB"},
        {"n": "!"},
        {"n": b64(b"\xff" * 2048)},
        {"e": b64(b"\xff" * 64)},
        {"e": ""},
        {"key_ops": ["sign"]},
        {"key_ops": "verify"},
    ],
)
def test_a_key_that_is_for_something_else_is_left_out(change: dict[str, Any]) -> None:
    other = public_jwk("EC", "curve")
    assert keys_of(_set({**public_jwk("RSA", "first"), **change}, other)).keys() == {("curve", "ES256")}


@pytest.mark.parametrize("make", [_octets, _ed, _small])
def test_a_key_of_another_kind_is_left_out(make: Any) -> None:
    assert keys_of(_set(make(), {})) == {}


def test_a_curve_point_that_is_not_on_its_curve_is_left_out() -> None:
    key = public_jwk("EC", "curve")
    for change in ({"y": key["x"]}, {"crv": "P-521"}, {"crv": "secp256k1"}, {"crv": ["P-256"]}, {"crv": None}):
        assert keys_of(_set({**key, **change})) == {}


def test_of_a_private_key_only_the_public_part_is_taken() -> None:
    private = {**RSAAlgorithm.to_jwk(private_key("RSA", "first"), as_dict=True), "kid": "first"}
    private.pop("key_ops", None)
    (key,) = keys_of(_set(private)).values()
    assert isinstance(key.public.key, rsa.RSAPublicKey)


def test_the_first_of_two_keys_of_a_name_counts() -> None:
    keys = keys_of(_set(public_jwk("RSA", "first"), {**public_jwk("RSA", "attacker"), "kid": "first"}))
    assert keys["first", "RS256"].public.key.public_numbers() == private_key("RSA", "first").public_key().public_numbers()


def _signed(claims: dict[str, Any]) -> str:
    payload = json.dumps({name: value for name, value in claims.items() if value is not None}).encode()
    return jwt.PyJWS().encode(payload, private_key("RSA", "first"), "RS256", {"kid": "first"})
