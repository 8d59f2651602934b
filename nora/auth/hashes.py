"""Hashes of passwords, in the forms that htpasswd files have. Pure.

bcrypt is what new ones are made with. The others are there for the files that operators bring along, and are written out here from their
public definitions, which have not changed for decades: Apache's MD5 (``$apr1$``), SHA-1 without salt, and "Unix crypt using SHA-256 and
SHA-512" (Ulrich Drepper, version 0.6). Python has no crypt any more, and the library that goes on with it is installed under the
name of another one, so that either breaks the other.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import hmac
import itertools
import re
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import bcrypt

MAX_PASSWORD_BYTES = 256
"""Longer passwords are refused. ``htpasswd`` takes none that are."""
MAX_BCRYPT_PASSWORD_BYTES = 72
"""What bcrypt looks at. Longer passwords never match: cut off, other passwords would match, too."""
MAX_COST = 17
"""The largest bcrypt cost that is taken; a check then takes about ten seconds, and twice that for each step more."""
MAX_ROUNDS = 1_000_000
"""The most rounds of SHA-256 and SHA-512 that are taken; a check then takes half a second at least."""
MANY_ROUNDS = 20_000
"""More are warned of: they are counted in Python, so all other requests of the process go slower meanwhile."""

_AGAIN = "set the password again with htpasswd -B"
# Not all bits of a last character are used. One that has others is mistyped: no password leads there.
_BCRYPT = re.compile(rb"\$2[aby]\$(?P<cost>[0-9]{2})\$[./A-Za-z0-9]{21}[.Oeu][./A-Za-z0-9]{31}")
_APR1 = re.compile(rb"\$apr1\$(?P<salt>[./A-Za-z0-9]{1,8})\$[./A-Za-z0-9]{21}[./01]")
_SHA1 = re.compile(rb"\{SHA\}[A-Za-z0-9+/]{26}[AEIMQUYcgkosw048]=")
_CRYPT = re.compile(
    rb"(?P<start>\$(?P<size>[56])\$(?:rounds=(?P<rounds>[1-9][0-9]{3,8})\$)?)(?P<salt>[./A-Za-z0-9]{1,16})\$"
    rb"(?P<digest>[./A-Za-z0-9]{42}[./0-9A-D]|[./A-Za-z0-9]{85}[./01])"
)
_CRYPT_CHARACTERS = {b"5": 43, b"6": 86}
_ALPHABET = b"./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
# In which order the bytes of a digest are written, three by three.
_MD5_ORDER = (0, 6, 12, 1, 7, 13, 2, 8, 14, 3, 9, 15, 4, 10, 5, 11)
_SHA256_ORDER = (*((first + step) % 30 for first in range(0, 210, 21) for step in (0, 10, 20)), 31, 30)
_SHA512_ORDER = (*((first + step) % 63 for first in range(0, 462, 22) for step in (0, 21, 42)), 63)


@dataclass(frozen=True, slots=True)
class Hash:
    """One hash.

    Attributes:
        text: As in the file. Never shown.
        effort: About how many microseconds a check takes.
        longest: Bytes of the longest password that it may belong to.
        problem: Why it cannot be used, as words between "has" and the user's name, and what to do; empty if it can.
        warning: The same of one that can be used and should not be for long.
    """

    text: bytes = field(repr=False)
    effort: float = 0.0
    longest: int = MAX_PASSWORD_BYTES
    problem: tuple[str, str] | tuple[()] = ()
    warning: tuple[str, str] | tuple[()] = ()


def read_hash(text: bytes) -> Hash:
    """What is known of a hash without a password."""
    if found := _BCRYPT.fullmatch(text):
        cost = int(found["cost"])
        if not 4 <= cost <= MAX_COST:
            return Hash(text, problem=(f"a bcrypt cost of {cost}", f"{_AGAIN} -C 10"))
        return Hash(text, 60.0 * 2**cost, MAX_BCRYPT_PASSWORD_BYTES)
    if _APR1.fullmatch(text):
        return Hash(text, 600.0, warning=("an MD5 hash, which is guessed fast by whoever gets the file,", _AGAIN))
    if _SHA1.fullmatch(text):
        return Hash(
            text, 1.0, warning=("a SHA-1 hash without salt, which is guessed at once by whoever gets the file,", _AGAIN)
        )
    if (found := _CRYPT.fullmatch(text)) and len(found["digest"]) == _CRYPT_CHARACTERS[found["size"]]:
        rounds = int(found["rounds"] or 5000)
        many = (f"a hash of {rounds} rounds", _AGAIN)
        if rounds > MAX_ROUNDS:
            return Hash(text, problem=many)
        slow = (f"{many[0]}, during which all requests go slower,", _AGAIN) if rounds > MANY_ROUNDS else ()
        return Hash(text, 0.5 * rounds, warning=slow)
    return Hash(text, problem=("plain text or a kind of hash that is not taken", _AGAIN))


def decoy_of(text: bytes) -> bytes:
    """A hash that takes as long as another, which must be a good one, and that no password is known to match."""
    if text.startswith(b"$2"):
        return bcrypt.gensalt(int(text[4:6])) + b"." * 31
    if text.startswith(b"{"):
        return b"{SHA}" + base64.b64encode(secrets.token_bytes(20))
    start, _, digest = text.rpartition(b"$")
    start, _, salt = start.rpartition(b"$")
    return b"%b$%b$%b" % (start, secrets.token_hex(8).encode()[: len(salt)], b"." * len(digest))


def matches(password: bytes, text: bytes) -> bool:
    """Whether a password has this hash, which must be a good one. Takes a while, bcrypt without holding up other threads."""
    if text.startswith(b"$2"):
        return len(password) <= MAX_BCRYPT_PASSWORD_BYTES and bcrypt.checkpw(password, text)
    if found := _APR1.fullmatch(text):
        made = apr1(password, found["salt"])
    elif found := _CRYPT.fullmatch(text):
        made = sha_crypt(password, found["start"], found["salt"], int(found["rounds"] or 5000))
    else:
        made = b"{SHA}" + base64.b64encode(hashlib.sha1(password, usedforsecurity=False).digest())
    return hmac.compare_digest(made, text)


def apr1(password: bytes, salt: bytes) -> bytes:
    """Apache's hash of a password.

    >>> apr1(b"hunter2", b"salt")
    b'$apr1$salt$5kA8nwEF5tdGAnkXQIXKC/'
    """

    # The name says what it is; a Python that is told to use no MD5 for security still has to read such a file.
    md5 = functools.partial(hashlib.md5, usedforsecurity=False)
    once = _repeated(md5(password + salt + password).digest(), len(password))
    # A 0 byte for each 1 of the length, from the lowest on: a slip of the first author's that became the definition.
    bits = b"".join(b"\0" if len(password) >> bit & 1 else password[:1] for bit in range(len(password).bit_length()))
    first = md5(password + b"$apr1$" + salt + once + bits).digest()
    return b"$apr1$%b$%b" % (salt, _written(_stretched(md5, first, password, salt, 1000), _MD5_ORDER))


def sha_crypt(password: bytes, start: bytes, salt: bytes, rounds: int) -> bytes:
    """The hash of a password by SHA-256 (``start`` begins with ``$5$``) or SHA-512 (``$6$``).

    >>> sha_crypt(b"hunter2", b"$5$", b"saltstring", 5000)
    b'$5$saltstring$9JBjAeLRHX/Lm/1Njo98nbLiUsNRFEuARumLKkxJMm7'
    """
    sha, order = (hashlib.sha256, _SHA256_ORDER) if start.startswith(b"$5$") else (hashlib.sha512, _SHA512_ORDER)
    once = sha(password + salt + password).digest()
    bits = b"".join(once if len(password) >> bit & 1 else password for bit in range(len(password).bit_length()))
    first = sha(password + salt + _repeated(once, len(password)) + bits).digest()
    long_password = _repeated(sha(password * len(password)).digest(), len(password))
    long_salt = _repeated(sha(salt * (16 + first[0])).digest(), len(salt))
    return b"%b%b$%b" % (start, salt, _written(_stretched(sha, first, long_password, long_salt, rounds), order))


def _stretched(algorithm: Callable[[bytes], Any], digest: bytes, password: bytes, salt: bytes, rounds: int) -> bytes:
    """The rounds, which both have in common."""
    around = []  # what comes before and after the last digest; the same again after 2 * 3 * 7 rounds
    for turn in range(42):
        middle = (salt if turn % 3 else b"") + (password if turn % 7 else b"")
        around.append((password + middle, b"") if turn & 1 else (b"", middle + password))
    for before, after in itertools.islice(itertools.cycle(around), rounds):
        digest = algorithm(before + digest + after).digest()
    return digest


def _repeated(digest: bytes, length: int) -> bytes:
    return (digest * (length // len(digest) + 1))[:length]


def _written(digest: bytes, order: Sequence[int]) -> bytes:
    """A digest as text: 6 bits a character, the lowest first."""
    text = bytearray()
    for start in range(0, len(order), 3):
        group = bytes(digest[position] for position in order[start : start + 3])
        value = int.from_bytes(group, "big")
        text += bytes(_ALPHABET[value >> 6 * place & 63] for place in range(len(group) + 1))
    return bytes(text)
