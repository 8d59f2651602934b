from __future__ import annotations

import asyncio
import base64
import hashlib
import logging
import os
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import bcrypt
import pytest

from nora.api import Actor
from nora.auth import htpasswd
from nora.auth.htpasswd import HtpasswdFile
from tests.unit.clock import Clock


def hashed(password: str, prefix: bytes = b"2b", cost: int = 4) -> str:
    made = bcrypt.hashpw(password.encode(), bcrypt.gensalt(cost))
    return made.replace(b"$2b$", b"$" + prefix + b"$", 1).decode()


ALICE = f"alice:{hashed('secret')}\n"
BOB = f"bob:{hashed('hunter2')}\n"


class Check:
    """The check, counted; it waits while ``gate`` is closed."""

    def __init__(self) -> None:
        self.hashes: list[bytes] = []
        self.gate = threading.Event()
        self.gate.set()

    def __call__(self, password: bytes, against: bytes) -> bool:
        self.hashes.append(against)
        assert self.gate.wait(10)
        return htpasswd.matches(password, against)

    @property
    def count(self) -> int:
        return len(self.hashes)


@pytest.fixture
def check() -> Check:
    return Check()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "users.htpasswd"


@pytest.fixture
def users(path: Path, clock: Clock, check: Check) -> Iterator[HtpasswdFile]:
    file = HtpasswdFile(path, clock=clock, check=check, threads=2)
    yield file
    check.gate.set()
    file.close()


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere no thread has a priority of its own")
async def test_checks_give_way_to_everything_else_that_the_process_does(path: Path) -> None:
    seen: list[int] = []

    def check(password: bytes, against: bytes) -> bool:
        seen.append(os.getpriority(os.PRIO_PROCESS, threading.get_native_id()))
        return False

    before = os.getpriority(os.PRIO_PROCESS, 0)
    path.write_text(ALICE)
    users = HtpasswdFile(path, check=check)
    assert await users.authenticate("alice", "guess") is None
    users.close()
    assert seen == [max(before, 10)]
    assert os.getpriority(os.PRIO_PROCESS, 0) == before


async def until(condition: Callable[[], bool]) -> None:
    for _ in range(1000):
        if condition():
            return
        await asyncio.sleep(0.005)
    raise AssertionError("it never happened")


@pytest.mark.parametrize("prefix", [b"2a", b"2b", b"2y"])
async def test_every_kind_of_bcrypt_hash_is_understood(users: HtpasswdFile, path: Path, prefix: bytes) -> None:
    path.write_text(f"alice:{hashed('pässwörd', prefix)}\n")
    assert users.problems() == ()
    assert await users.authenticate("alice", "pässwörd") == Actor(name="alice")
    assert await users.authenticate("alice", "password") is None


async def test_each_user_has_their_own_password(users: HtpasswdFile, path: Path) -> None:
    path.write_text(ALICE + BOB)
    assert await users.authenticate("bob", "hunter2") == Actor(name="bob")
    assert await users.authenticate("bob", "secret") is None
    assert await users.authenticate("Alice", "secret") is None


async def test_comments_blank_lines_and_windows_line_ends_are_read_over(users: HtpasswdFile, path: Path) -> None:
    path.write_bytes(("\ufeff# people\r\n\r\n  " + ALICE.strip() + "  \r\n#bob:x\r\n" + BOB.strip()).encode())
    assert users.problems() == ()
    assert await users.authenticate("alice", "secret") == Actor(name="alice")
    assert await users.authenticate("bob", "hunter2") == Actor(name="bob")


@pytest.mark.parametrize(
    "line",
    [
        "bob:$apr1$salt$abcdefghijklmnopqrstuv",
        "bob:{SHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g",
        "bob:{SSHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g=",
        "bob:$1$salt$GuZM6o/Uf1P7EFCrm0AZg0",
        "bob:$6$rounds=1000001$salt$" + "." * 86,
        "bob:rqXexS6ZhobKA",
        "bob:hunter2",
        "bob:",
        "bob:" + hashed("hunter2")[:-1],
        "bob:" + hashed("hunter2") + "x",
        "bob:" + hashed("hunter2").replace("$04$", "$03$"),
        "bob:" + hashed("hunter2").replace("$04$", "$31$"),
        "bob:" + hashed("hunter2").replace("$2b$", "$2x$"),
        "bob:$2b$04$" + "z" * 53,
        "bob",
        ":" + hashed("hunter2"),
        "b\x00ob:" + hashed("hunter2"),
        "b\x1bob:" + hashed("hunter2"),
        ":",
    ],
    ids=range(19),
)
async def test_a_line_of_no_use_is_named_and_never_matches(users: HtpasswdFile, path: Path, line: str) -> None:
    path.write_text(f"# people\n{ALICE}{line}\n")
    (problem,) = users.problems()
    assert problem.startswith("users.htpasswd: line 3 ")
    assert "$" not in problem
    assert "hunter2" not in problem
    for name in ("bob", "", "b\x00ob", "b\x1bob"):
        assert await users.authenticate(name, "hunter2") is None
        assert await users.authenticate(name, "") is None
    assert await users.authenticate("alice", "secret") == Actor(name="alice")


async def test_a_name_that_is_no_utf8_is_named_by_its_line(users: HtpasswdFile, path: Path) -> None:
    path.write_bytes(b"\xff\xfe:" + hashed("x").encode() + b"\n" + ALICE.encode())
    assert [problem.split(" is ")[0] for problem in users.problems()] == ["users.htpasswd: line 1"]
    assert await users.authenticate("\xff\xfe", "x") is None


async def test_the_fix_is_named() -> None:
    problems = htpasswd._parse(ALICE.encode() + b"bob:{SHA}abc\n", "users.htpasswd").problems
    said = "users.htpasswd: line 2 has plain text or a kind of hash that is not taken for user 'bob'; set the password again with htpasswd -B"
    assert problems == (said,)


# Kinds of hashes: "hunter2" by openssl; "password" by htpasswd -s.
WEAK = {
    "apr1": ("hunter2", "$apr1$12345678$PxJedScFj6O5L28rmTh.i0"),
    "SHA-1": ("password", "{SHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g="),
}
OTHERS = {
    **WEAK,
    "SHA-256": ("hunter2", "$5$saltstring$9JBjAeLRHX/Lm/1Njo98nbLiUsNRFEuARumLKkxJMm7"),
    "SHA-512": (
        "hunter2",
        "$6$rounds=1000$saltstring$nQhUEVFM4.wO/NDzhU1Z3SKBDfj1CGvaCmn.UXAw86EEDrSQlvwTO.RO5SNFizS6669f4a7VmoD8gVqsHyG97.",
    ),
}


@pytest.mark.parametrize("kind", OTHERS)
async def test_other_kinds_of_hashes_let_in_too(path: Path, clock: Clock, kind: str) -> None:
    password, text = OTHERS[kind]
    path.write_text(f"{ALICE}bob:{text}\n")
    users = HtpasswdFile(path, clock=clock)
    assert users.problems() == ()
    assert await users.authenticate("bob", password) == Actor(name="bob")
    assert await users.authenticate("bob", password + "x") is None
    assert await users.authenticate("alice", password) is None
    assert await users.authenticate("alice", "secret") == Actor(name="alice")
    assert await users.authenticate("carol", password) is None
    users.close()


@pytest.mark.parametrize("kind", WEAK)
async def test_each_weak_line_gives_one_warning_at_each_reading(
    users: HtpasswdFile, path: Path, clock: Clock, caplog: pytest.LogCaptureFixture, kind: str
) -> None:
    path.write_text(f"{ALICE}bob:{WEAK[kind][1]}\n")
    for _ in range(3):
        await users.authenticate("bob", "typo")
        clock.now += 5
    (warning,) = [record.warning for record in caplog.records if record.message == "htpasswd line is weak"]
    assert warning.startswith("users.htpasswd: line 2 has a")
    assert warning.endswith("whoever gets the file, for user 'bob'; set the password again with htpasswd -B")


async def test_a_file_without_weak_lines_warns_of_nothing(
    users: HtpasswdFile, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path.write_text(ALICE + "bob:" + OTHERS["SHA-256"][1])
    await users.authenticate("alice", "secret")
    assert [record.message for record in caplog.records if record.levelno >= logging.WARNING] == []


def hashed_like(kind: str) -> bytes:
    return OTHERS[kind][1].encode() if kind in OTHERS else hashed("hunter2", cost=int(kind)).encode()


@pytest.mark.parametrize(
    ("kinds", "dearest"),
    [
        (["SHA-1"], 0),
        (["SHA-1", "apr1"], 1),
        (["apr1", "4"], 1),
        (["5", "4", "apr1", "SHA-1"], 0),
        (["4", "SHA-256", "SHA-1"], 1),
        (["SHA-512", "8"], 1),
    ],
)
async def test_whoever_is_refused_was_checked_like_the_dearest_line(
    path: Path, clock: Clock, kinds: list[str], dearest: int
) -> None:
    hashes = [hashed_like(kind) for kind in kinds]
    path.write_bytes(b"".join(b"user%d:%b\n" % (number, text) for number, text in enumerate(hashes)))
    checked: list[bytes] = []
    users = HtpasswdFile(path, clock=clock, check=lambda _, text: bool(checked.append(text)))
    assert await users.authenticate("nobody", "typo") is None
    (decoy,) = checked
    assert htpasswd.read_hash(decoy).effort == htpasswd.read_hash(hashes[dearest]).effort
    for number, text in enumerate(hashes):
        checked.clear()
        assert await users.authenticate(f"user{number}", "typo") is None
        assert checked == ([text] if number == dearest else [text, decoy])
    users.close()


@pytest.mark.parametrize("name", ["alice", "bob", "nobody"])
async def test_a_password_that_is_too_long_for_bcrypt_takes_as_long_too(path: Path, clock: Clock, name: str) -> None:
    path.write_text(f"{ALICE}bob:{WEAK['SHA-1'][1]}\n")
    checked: list[tuple[int, bytes]] = []
    users = HtpasswdFile(path, clock=clock, check=lambda secret, text: bool(checked.append((len(secret), text[:4]))))
    assert await users.authenticate(name, "x" * 200) is None
    assert checked == ([(200, b"{SHA")] if name == "bob" else []) + [(72, b"$2b$")]
    users.close()


async def test_longer_passwords_fit_other_kinds_than_bcrypt(path: Path, clock: Clock) -> None:
    long = base64.b64encode(hashlib.sha1(b"x" * 256).digest()).decode()
    too_long = base64.b64encode(hashlib.sha1(b"x" * 257).digest()).decode()
    path.write_text(f"{ALICE}bob:{{SHA}}{long}\ncarol:{{SHA}}{too_long}\n")
    users = HtpasswdFile(path, clock=clock)
    assert await users.authenticate("bob", "x" * 256) == Actor(name="bob")
    assert await users.authenticate("carol", "x" * 257) is None
    users.close()


async def test_the_event_loop_never_hashes(path: Path, clock: Clock) -> None:
    path.write_text("".join(f"{kind}:{text}\n" for kind, (_, text) in OTHERS.items()) + ALICE)
    threads: set[int] = set()

    def check(secret: bytes, text: bytes) -> bool:
        threads.add(threading.get_ident())
        return htpasswd.matches(secret, text)

    users = HtpasswdFile(path, clock=clock, check=check)
    for name, password in (*((kind, password) for kind, (password, _) in OTHERS.items()), ("alice", "secret"), ("nobody", "x")):
        await users.authenticate(name, password)
    assert threads
    assert threading.get_ident() not in threads
    users.close()


async def test_of_two_entries_for_one_user_the_first_counts(users: HtpasswdFile, path: Path) -> None:
    path.write_text(ALICE + f"alice:{hashed('other')}\n")
    assert await users.authenticate("alice", "secret") == Actor(name="alice")
    assert await users.authenticate("alice", "other") is None
    assert "line 2 names user 'alice' again" in users.problems()[0]


@pytest.mark.parametrize("password", ["x" * 73, "ä" * 37, "x" * 1_000_000])
async def test_passwords_beyond_what_bcrypt_reads_are_refused(users: HtpasswdFile, path: Path, password: str) -> None:
    path.write_text(f"alice:{hashed(password.encode()[:72].decode())}\n")
    assert await users.authenticate("alice", password) is None


async def test_the_longest_password_works(users: HtpasswdFile, path: Path) -> None:
    path.write_text(f"alice:{hashed('x' * 72)}\n")
    assert await users.authenticate("alice", "x" * 72) == Actor(name="alice")


async def test_a_nul_cannot_move_the_border_between_name_and_password(users: HtpasswdFile, path: Path) -> None:
    path.write_bytes(b"a:" + bcrypt.hashpw(b"b\0c", bcrypt.gensalt(4)) + b"\n")
    assert await users.authenticate("a", "b\0c") == Actor(name="a")
    assert await users.authenticate("a\0b", "c") is None


async def test_what_is_known_of_a_login_says_nothing_of_another_border(users: HtpasswdFile, path: Path) -> None:
    path.write_bytes(b"a:" + bcrypt.hashpw(b"b\0c", bcrypt.gensalt(4)) + b"\n")
    assert await users.authenticate("a", "b\0c") == Actor(name="a")
    assert users.standing("a", "b\0c") is not None
    assert users.standing("a\0b", "c") is None


async def test_texts_that_have_no_utf8_are_refused(users: HtpasswdFile, path: Path) -> None:
    path.write_text(ALICE)
    assert await users.authenticate("alice", "\ud800") is None
    assert await users.authenticate("\ud800", "secret") is None


async def test_an_empty_file_lets_nobody_in(users: HtpasswdFile, path: Path) -> None:  # AUTH-9
    path.write_text("")
    assert users.problems() == ("users.htpasswd names no user that can log in; add one with htpasswd -B",)
    assert await users.authenticate("", "") is None
    assert await users.authenticate("alice", "secret") is None


# Cache


async def test_a_right_password_is_remembered_for_a_minute(users: HtpasswdFile, path: Path, clock: Clock, check: Check) -> None:
    path.write_text(ALICE)
    for _ in range(3):
        assert await users.authenticate("alice", "secret") == Actor(name="alice")
    clock.now += 59.9
    assert await users.authenticate("alice", "secret") == Actor(name="alice")
    assert check.count == 1
    clock.now += 0.1
    assert await users.authenticate("alice", "secret") == Actor(name="alice")
    assert check.count == 2


async def test_a_wrong_password_is_remembered_for_three_seconds(
    users: HtpasswdFile, path: Path, clock: Clock, check: Check
) -> None:
    path.write_text(ALICE)
    for _ in range(3):
        assert await users.authenticate("alice", "typo") is None
    clock.now += 2.9
    assert await users.authenticate("alice", "typo") is None
    assert check.count == 1
    clock.now += 0.1
    assert await users.authenticate("alice", "typo") is None
    assert check.count == 2


async def test_a_remembered_password_says_nothing_of_another(users: HtpasswdFile, path: Path) -> None:
    path.write_text(ALICE + BOB)
    assert await users.authenticate("alice", "secret") == Actor(name="alice")
    assert await users.authenticate("alice", "secret2") is None
    assert await users.authenticate("alicesecret", "") is None
    assert await users.authenticate("bob", "secret") is None


async def test_no_password_is_kept_in_memory(users: HtpasswdFile, path: Path) -> None:
    path.write_text(ALICE)
    await users.authenticate("alice", "secret")
    assert b"secret" not in repr(vars(users)).encode()
    assert b"secret" not in repr(users._users.verdicts._entries).encode()


async def test_the_cache_is_bounded(path: Path, clock: Clock) -> None:
    path.write_text(ALICE)
    calls: list[bytes] = []
    users = HtpasswdFile(path, clock=clock, check=lambda password, _: calls.append(password) is None and False)
    for number in range(htpasswd.CACHE_ENTRIES + 10):
        await users.authenticate("alice", str(number))
    assert len(users._users.verdicts) == htpasswd.CACHE_ENTRIES
    calls.clear()
    await users.authenticate("alice", str(htpasswd.CACHE_ENTRIES + 9))
    assert calls == []
    await users.authenticate("alice", "0")
    assert calls == [b"0"]
    users.close()


async def test_fifty_parallel_cold_requests_make_one_check(users: HtpasswdFile, path: Path, check: Check) -> None:
    path.write_text(ALICE)
    check.gate.clear()
    requests = [asyncio.create_task(users.authenticate("alice", "secret")) for _ in range(50)]
    await until(lambda: check.count > 0)
    check.gate.set()
    assert await asyncio.gather(*requests) == [Actor(name="alice")] * 50
    assert check.count == 1


async def test_the_first_of_several_may_leave(users: HtpasswdFile, path: Path, check: Check) -> None:
    path.write_text(ALICE)
    check.gate.clear()
    first, second = (asyncio.create_task(users.authenticate("alice", "secret")) for _ in range(2))
    await until(lambda: check.count > 0)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    check.gate.set()
    assert await second == Actor(name="alice")
    assert await users.authenticate("alice", "secret") == Actor(name="alice")
    assert check.count == 1


async def test_the_event_loop_goes_on_during_a_check(users: HtpasswdFile, path: Path, check: Check) -> None:
    path.write_text(ALICE)
    check.gate.clear()
    request = asyncio.create_task(users.authenticate("alice", "secret"))
    await until(lambda: check.count > 0)
    assert not request.done()
    check.gate.set()
    assert await request == Actor(name="alice")


async def test_a_check_that_fails_lets_nobody_in_and_is_not_remembered(path: Path, clock: Clock) -> None:
    path.write_text(ALICE)
    calls = 0

    def check(password: bytes, against: bytes) -> bool:
        nonlocal calls
        calls += 1
        raise MemoryError

    users = HtpasswdFile(path, clock=clock, check=check)
    for expected in (1, 2):
        with pytest.raises(MemoryError):
            await users.authenticate("alice", "secret")
        assert calls == expected
    users.close()


async def test_an_unknown_user_is_checked_at_the_same_cost(users: HtpasswdFile, path: Path, check: Check) -> None:
    path.write_text(f"alice:{hashed('secret', cost=6)}\n")
    assert await users.authenticate("mallory", "secret") is None
    assert await users.authenticate("alice", "typo") is None
    decoy, real = check.hashes
    assert decoy != real
    assert decoy[:7] == real[:7] == b"$2b$06$"
    assert not bcrypt.checkpw(b"secret", decoy)


async def test_an_unknown_user_is_refused_even_if_the_decoy_matched(path: Path, clock: Clock) -> None:
    path.write_text(ALICE)
    users = HtpasswdFile(path, clock=clock, check=lambda *_: True)
    assert await users.authenticate("mallory", "secret") is None
    users.close()


# Changes of the file


async def test_a_change_is_noticed_within_a_second(users: HtpasswdFile, path: Path, clock: Clock) -> None:
    path.write_text(ALICE)
    assert await users.authenticate("alice", "secret") == Actor(name="alice")
    path.write_text(f"alice:{hashed('changed')}\n{BOB}")
    clock.now += 1
    assert await users.authenticate("alice", "secret") is None
    assert await users.authenticate("alice", "changed") == Actor(name="alice")
    assert await users.authenticate("bob", "hunter2") == Actor(name="bob")


async def test_a_user_who_is_removed_is_out_although_remembered(users: HtpasswdFile, path: Path, clock: Clock) -> None:
    path.write_text(ALICE + BOB)
    assert await users.authenticate("bob", "hunter2") == Actor(name="bob")
    path.write_text(ALICE)
    clock.now += 1
    assert await users.authenticate("bob", "hunter2") is None


async def test_a_refusal_is_forgotten_when_the_file_changes(users: HtpasswdFile, path: Path, clock: Clock) -> None:
    path.write_text(ALICE)
    assert await users.authenticate("bob", "hunter2") is None
    path.write_text(ALICE + BOB)
    clock.now += 1
    assert await users.authenticate("bob", "hunter2") == Actor(name="bob")


async def test_a_file_put_in_its_place_with_the_same_size_and_time_is_noticed(
    users: HtpasswdFile, path: Path, clock: Clock
) -> None:
    path.write_text(ALICE)
    status = path.stat()
    assert await users.authenticate("alice", "secret") == Actor(name="alice")
    other = path.with_suffix(".new")
    other.write_text(f"alice:{hashed('changed')}\n")
    os.utime(other, ns=(status.st_atime_ns, status.st_mtime_ns))
    other.replace(path)
    clock.now += 1
    assert await users.authenticate("alice", "secret") is None


async def test_the_file_is_looked_at_once_a_second_at_most(
    users: HtpasswdFile, path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    path.write_text(ALICE)
    await users.authenticate("alice", "secret")
    looks: list[object] = []
    stat = os.stat
    monkeypatch.setattr(htpasswd.os, "stat", lambda target: looks.append(target) or stat(target))
    for _ in range(20):
        await users.authenticate("alice", "secret")
    clock.now += 0.9
    await users.authenticate("alice", "secret")
    assert looks == []
    clock.now += 0.1
    await users.authenticate("alice", "secret")
    assert looks == [str(path)]


async def test_a_check_that_began_before_a_change_is_not_remembered_after_it(
    users: HtpasswdFile, path: Path, clock: Clock, check: Check
) -> None:
    path.write_text(ALICE)
    check.gate.clear()
    before = asyncio.create_task(users.authenticate("alice", "secret"))
    await until(lambda: check.count == 1)
    path.write_text(BOB)
    clock.now += 1
    after = asyncio.create_task(users.authenticate("alice", "secret"))
    await until(lambda: check.count == 2)
    check.gate.set()
    await before
    assert await after is None
    assert await users.authenticate("alice", "secret") is None


async def test_a_missing_file_lets_nobody_in_until_it_is_there(
    users: HtpasswdFile, path: Path, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:  # AUTH-9
    for _ in range(5):
        assert await users.authenticate("alice", "secret") is None
        clock.now += 1
    assert len([record for record in caplog.records if record.levelno == logging.ERROR]) == 1
    assert users.problems() == (f"{path}: cannot be read: No such file or directory; nobody can log in",)
    path.write_text(ALICE)
    clock.now += 1
    assert await users.authenticate("alice", "secret") == Actor(name="alice")


@pytest.mark.parametrize("how", ["removed", "a directory", "a pipe"])
async def test_a_file_that_goes_away_lets_nobody_in(
    users: HtpasswdFile, path: Path, clock: Clock, caplog: pytest.LogCaptureFixture, how: str
) -> None:  # AUTH-9
    path.write_text(ALICE)
    assert await users.authenticate("alice", "secret") == Actor(name="alice")
    path.unlink()
    if how == "a directory":
        path.mkdir()
    elif how == "a pipe":
        os.mkfifo(path)
    for _ in range(3):
        clock.now += 1
        assert await users.authenticate("alice", "secret") is None
    assert len([record for record in caplog.records if record.levelno == logging.ERROR]) == 1
    (problem,) = users.problems()
    assert "nobody can log in" in problem


async def test_an_unreadable_file_lets_nobody_in(
    users: HtpasswdFile, path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    path.write_text(ALICE)
    assert await users.authenticate("alice", "secret") == Actor(name="alice")

    def refuse(*_: object) -> int:
        raise PermissionError(13, "Permission denied")

    # The superuser may read everything, so the refusal is played; the change of mode must be noticed all the same.
    path.chmod(0)
    monkeypatch.setattr(htpasswd.os, "open", refuse)
    clock.now += 1
    assert await users.authenticate("alice", "secret") is None


async def test_neither_logs_nor_problems_show_hashes(
    users: HtpasswdFile, path: Path, caplog: pytest.LogCaptureFixture
) -> None:  # AUTH-8
    caplog.set_level(logging.DEBUG)
    path.write_text(ALICE + "bob:{SHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g=\ncarol:{SSHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g=\n")
    await users.authenticate("alice", "secret")
    shown = " ".join(repr(vars(record)) for record in caplog.records)
    assert "htpasswd file has a problem" in shown
    assert "htpasswd line is weak" in shown
    for text in ("$2b$", "W6ph5", "secret"):
        assert text not in shown
