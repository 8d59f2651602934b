"""Every form of hash, by what other programs make of passwords."""

from __future__ import annotations

import shutil
import subprocess

import bcrypt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nora.auth.hashes import MANY_ROUNDS, MAX_ROUNDS, decoy_of, matches, read_hash

# By "openssl passwd -apr1", "-5", "-6"; those with rounds by crypt(3).
LONG = "a long pass word that is beyond sixty-four bytes, the block of sha512, indeed far beyond it"
VECTORS = [
    ("hunter2", "$apr1$salt$5kA8nwEF5tdGAnkXQIXKC/"),
    ("hunter2", "$apr1$12345678$PxJedScFj6O5L28rmTh.i0"),
    ("hunter2", "$apr1$a$sgGdISpUqGuzVgqrSu71E/"),
    ("", "$apr1$salt$AnXM5PAEa9T4ruYbwPoUh/"),
    ("", "$apr1$12345678$sHuPAw7VA9xjRbJz7zKV7/"),
    ("pässwörd", "$apr1$salt$Me1Ldlv5bVEKCy3ny1jpv1"),
    ("a long pass word that is beyond sixteen bytes of md5", "$apr1$12345678$1q4HmxfvaHk3z4dvB4wBk/"),
    ("0123456789abcdef", "$apr1$salt$CpZlDoa2rEnrKkHpXoKwT1"),
    ("0123456789abcdef", "$apr1$a$khwFEGycQESUBHFR0UD/c."),
    ("hunter2", "$5$saltstring$9JBjAeLRHX/Lm/1Njo98nbLiUsNRFEuARumLKkxJMm7"),
    ("pässwörd", "$5$saltstring$bWOoCRTKNT.aiY/gJjvk1HjBYuRpcYQmcc5hqf6H4T4"),
    (LONG, "$5$saltstring$JtXGrfPK0tl9xu1AG42OW5P8kW40xhsnEBQIFxNPOw5"),
    ("hunter2", "$5$rounds=1000$saltstring$IhyNdYfjHLVQiIuCBCHcb1nX2F3aMUjFToGS7TERNj6"),
    (
        "hunter2",
        "$6$saltstring$q2.778Y7vt0Ij2OIl01VlxEE6SEh8ZCtgFbyJX8fYkl5S7gx32QO24FVg.rs4DkoAs9t6R19x4z8g69teXFxA0",
    ),
    (
        "pässwörd",
        "$6$saltstring$6PSVl254uv0cWCoUS0qzSX5NenRA/YFCwPzGA9ONu.MmmxqXTWHerEzD8WyuBl3ukfIZZU9uxLD6Bn6p7S3rG.",
    ),
    (LONG, "$6$saltstring$wb4X8VHMLpTDUfuUwncaWSG4fqlz/iJQFUXuqv/C4v.6larT1ujCcAQYIx4gypae89E7JuASxuLu3w9..lokB0"),
    (
        "hunter2",
        "$6$rounds=1000$saltstring$nQhUEVFM4.wO/NDzhU1Z3SKBDfj1CGvaCmn.UXAw86EEDrSQlvwTO.RO5SNFizS6669f4a7VmoD8gVqsHyG97.",
    ),
    ("password", "{SHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g="),
    ("", "{SHA}2jmj7l5rSw0yVb/vlWAYkK/YBwk="),
]
EACH = {
    "bcrypt": bcrypt.hashpw(b"hunter2", bcrypt.gensalt(4)),
    "apr1": b"$apr1$salt$5kA8nwEF5tdGAnkXQIXKC/",
    "SHA-1": b"{SHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g=",
    "SHA-256": VECTORS[12][1].encode(),
    "SHA-512": VECTORS[16][1].encode(),
}


@pytest.mark.parametrize(("password", "text"), VECTORS)
def test_what_other_programs_make_is_understood(password: str, text: str) -> None:
    assert read_hash(text.encode()).problem == ()
    assert matches(password.encode(), text.encode())
    for wrong in (password + "x", password[:-1] or "y", password.upper() + "X", "hunter3"):
        assert not matches(wrong.encode(), text.encode())


@pytest.mark.parametrize("kind", ["-apr1", "-5", "-6"])
@settings(max_examples=15, deadline=None)
@given(
    password=st.text(st.characters(codec="utf-8", exclude_characters="\0\r\n"), min_size=1, max_size=60),
    salt=st.from_regex(r"[./A-Za-z0-9]{1,8}", fullmatch=True),
)
def test_openssl_makes_the_same(kind: str, password: str, salt: str) -> None:
    program = shutil.which("openssl")
    if program is None:
        pytest.skip("openssl is not installed; the fixed hashes above were made with it")
    command = [program, "passwd", kind, "-salt", salt, "-stdin"]
    made = subprocess.run(command, input=password.encode() + b"\n", capture_output=True, check=True).stdout.strip()
    assert matches(password.encode(), made)
    assert not matches(password.encode() + b"x", made)


@pytest.mark.parametrize("name", EACH)
def test_a_changed_hash_is_another_or_none(name: str) -> None:
    text = EACH[name]
    password = b"password" if name == "SHA-1" else b"hunter2"
    assert matches(password, text)
    digest = text.rfind(b"}" if name == "SHA-1" else b"$") + 1
    for position in range(digest, len(text)):
        for character in b"./Ab19+=":
            changed = text[:position] + bytes([character]) + text[position + 1 :]
            if changed == text or read_hash(changed).problem:
                continue
            if name not in ("bcrypt", "SHA-512") or position % 10 == 0:
                assert not matches(password, changed)


@pytest.mark.parametrize("name", EACH)
def test_a_decoy_is_as_dear_and_another_each_time(name: str) -> None:
    decoy = decoy_of(EACH[name])
    real, made = read_hash(EACH[name]), read_hash(decoy)
    assert (made.effort, made.longest, made.problem) == (real.effort, real.longest, ())
    assert decoy != EACH[name]
    assert decoy_of(EACH[name]) != decoy
    for password in (b"hunter2", b"password", b""):
        assert not matches(password, decoy)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "hunter2",
        "rqXexS6ZhobKA",
        "$1$salt$GuZM6o/Uf1P7EFCrm0AZg0",
        "$apr1$salt$",
        "$apr1$$5kA8nwEF5tdGAnkXQIXKC/",
        "$apr1$123456789$5kA8nwEF5tdGAnkXQIXKC/",
        "$apr1$sa:t$5kA8nwEF5tdGAnkXQIXKC/",
        "$apr1$salt$5kA8nwEF5tdGAnkXQIXKCz",
        "$apr1$salt$5kA8nwEF5tdGAnkXQIXKC/x",
        "$APR1$salt$5kA8nwEF5tdGAnkXQIXKC/",
        "{SHA}abc",
        "{SHA}W6ph5Mm5Pz8GgiULbPgzG37mj9h=",
        "{SHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g",
        "{sha}W6ph5Mm5Pz8GgiULbPgzG37mj9g=",
        "{SSHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g=",
        "$5$saltstring$9JBjAeLRHX/Lm/1Njo98nbLiUsNRFEuARumLKkxJMm",
        "$6$saltstring$9JBjAeLRHX/Lm/1Njo98nbLiUsNRFEuARumLKkxJMm7",
        "$5" + VECTORS[13][1][2:],
        "$5$saltstring$9JBjAeLRHX/Lm/1Njo98nbLiUsNRFEuARumLKkxJMmz",
        "$5$rounds=999$saltstring$9JBjAeLRHX/Lm/1Njo98nbLiUsNRFEuARumLKkxJMm7",
        "$5$rounds=01000$saltstring$9JBjAeLRHX/Lm/1Njo98nbLiUsNRFEuARumLKkxJMm7",
        "$5$rounds=9999999999$saltstring$9JBjAeLRHX/Lm/1Njo98nbLiUsNRFEuARumLKkxJMm7",
        "$7$saltstring$9JBjAeLRHX/Lm/1Njo98nbLiUsNRFEuARumLKkxJMm7",
        "$argon2id$v=19$m=65536,t=3,p=4$c29tZXNhbHQ$9JBjAeLRHX",
    ],
)
def test_what_is_no_hash_that_is_taken(text: str) -> None:
    assert read_hash(text.encode()).problem == (
        "plain text or a kind of hash that is not taken",
        "set the password again with htpasswd -B",
    )


def test_dear_hashes_have_a_limit() -> None:
    text = "$6$rounds=%d" + VECTORS[13][1][2:]
    assert read_hash((text % MANY_ROUNDS).encode()).warning == ()
    assert "20001 rounds" in read_hash((text % (MANY_ROUNDS + 1)).encode()).warning[0]
    assert read_hash((text % MAX_ROUNDS).encode()).problem == ()
    assert read_hash((text % (MAX_ROUNDS + 1)).encode()).problem[0] == "a hash of 1000001 rounds"
    assert read_hash(EACH["bcrypt"].replace(b"$04$", b"$18$")).problem[0] == "a bcrypt cost of 18"


def test_weak_hashes_are_warned_of_and_others_are_not() -> None:
    warned = {name for name, text in EACH.items() if read_hash(text).warning}
    assert warned == {"apr1", "SHA-1"}


def test_the_dearest_is_known_without_trying() -> None:
    dear = EACH["bcrypt"].replace(b"$04$", b"$12$")
    in_order = (EACH["SHA-1"], EACH["apr1"], EACH["bcrypt"], VECTORS[9][1].encode(), dear)
    efforts = [read_hash(text).effort for text in in_order]
    assert efforts == sorted(set(efforts))


def test_bcrypt_matches_no_password_longer_than_it_looks_at() -> None:
    text = bcrypt.hashpw(b"x" * 72, bcrypt.gensalt(4))
    assert matches(b"x" * 72, text)
    assert not matches(b"x" * 73, text)


@pytest.mark.parametrize("name", EACH)
def test_a_hash_is_never_shown(name: str) -> None:
    shown = repr(read_hash(EACH[name]))
    assert EACH[name].decode() not in shown
    assert "$" not in shown
    assert "}" not in shown
