"""Users in an htpasswd file, as Apache's ``htpasswd`` writes it.

Hashes should be bcrypt's (``htpasswd -B``). Older kinds (``hashes.py``) are taken with a warning; plain text and DES are not.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import functools
import hashlib
import logging
import os
import secrets
import stat
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TypeAlias

from nora.api import Actor
from nora.auth.hashes import MAX_PASSWORD_BYTES, Hash, decoy_of, matches, read_hash
from nora.lru import BoundedCache

log = logging.getLogger(__name__)

STAT_INTERVAL_SECONDS = 1.0
SUCCESS_SECONDS = 60.0
FAILURE_SECONDS = 3.0
CACHE_ENTRIES = 4096
THREADS = max(1, min(4, (os.cpu_count() or 1) // 2))
"""Half of the processors, so that guesses, however many, leave the others to everybody else."""
_NICENESS = 10

_Signature: TypeAlias = tuple[int, int, int, int]


@dataclass(slots=True)
class _Users:
    """One state of the file, with all that was found out about it. Replaced as a whole, so nothing outlives a change."""

    hashes: Mapping[str, Hash] = field(default_factory=dict)
    decoy: Hash = field(default_factory=lambda: Hash(b""))  # takes as long as the dearest of the hashes, and matches nothing
    problems: Sequence[str] = ()
    warnings: Sequence[str] = ()
    # By credential: until when it is valid, and whether the password is right.
    verdicts: BoundedCache[bytes, tuple[float, bool]] = field(default_factory=lambda: BoundedCache(CACHE_ENTRIES))
    checks: dict[bytes, asyncio.Future[bool]] = field(default_factory=dict)  # by credential, while they run


class HtpasswdFile:
    """An :class:`~nora.api.Authenticator` for the users of a file. Belongs to one event loop; close it at the end.

    The file is read again when it has changed, which is noticed within a second. While it cannot be read nobody gets in.
    Checks run in threads, once for any number of parallel requests with the same credentials, and their outcome is remembered
    for 60 seconds, failures for 3. An unknown user takes as long as a wrong password for the dearest hash in the file, and no other
    wrong password takes less.

    Args:
        path: The file.
        clock: Seconds that only go forward.
        check: Whether a password matches a hash; for tests.
        threads: How many passwords are checked at a time.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        clock: Callable[[], float] = time.monotonic,
        check: Callable[[bytes, bytes], bool] = matches,
        threads: int = THREADS,
    ) -> None:
        self._path, self._clock, self._check = os.fspath(path), clock, check
        self._key = secrets.token_bytes(32)
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="nora-password", initializer=_give_way)
        self._users = _Users()
        self._signature: _Signature | None = None
        self._looked_at: float | None = None
        self._was_refusing = False

    def problems(self) -> Sequence[str]:
        """What is wrong with the file as it is now: itself, or single lines, each with the fix. Never shows a hash."""
        self._looked_at = None
        return self._current().problems

    def close(self) -> None:
        """Let go of the threads. Checks that have not begun are cancelled, and with them the requests that wait for them."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    async def authenticate(self, username: str, password: str) -> Actor | None:
        """See :class:`~nora.api.Authenticator`."""
        users = self._current()
        secret = password.encode(errors="surrogatepass")
        if not users.hashes or not _can_be(username) or len(secret) > MAX_PASSWORD_BYTES:
            return None
        key = self._credential(username, secret)
        verdict = users.verdicts.get(key)
        if verdict is not None and self._clock() < verdict[0]:
            right = verdict[1]
        else:
            right = await self._checked(users, key, username, secret)
        return Actor(name=username) if right else None

    def standing(self, username: str, password: str) -> Callable[[], bool] | None:
        """See :class:`~nora.api.Authenticator`: ``None`` if these credentials do not let in without another check."""
        users = self._current()
        if not _can_be(username):
            return None
        verdict = users.verdicts.get(self._credential(username, password.encode(errors="surrogatepass")))
        if verdict is None or not verdict[1]:
            return None
        until = verdict[0]
        return lambda: self._current() is users and self._clock() < until

    def _credential(self, username: str, secret: bytes) -> bytes:
        return hashlib.blake2b(username.encode(errors="surrogatepass") + b"\0" + secret, key=self._key).digest()

    async def _checked(self, users: _Users, key: bytes, username: str, secret: bytes) -> bool:
        future = users.checks.get(key)
        if future is None:
            run = asyncio.get_running_loop().run_in_executor
            future = run(self._pool, self._matches, secret, users.hashes.get(username), users.decoy)
            users.checks[key] = future
            future.add_done_callback(functools.partial(self._settle, users, key))
        # Whoever came first may leave; the others still wait.
        return await asyncio.shield(future)

    def _matches(self, secret: bytes, known: Hash | None, decoy: Hash) -> bool:
        checked = known is not None and len(secret) <= known.longest
        if known is not None and checked and self._check(secret, known.text):
            return True
        if known is None or not checked or known.effort < decoy.effort:
            self._check(secret[: decoy.longest], decoy.text)
        return False

    def _settle(self, users: _Users, key: bytes, future: asyncio.Future[bool]) -> None:
        del users.checks[key]
        if future.cancelled() or future.exception() is not None:
            return
        right = future.result()
        users.verdicts.put(key, (self._clock() + (SUCCESS_SECONDS if right else FAILURE_SECONDS), right))

    def _current(self) -> _Users:
        """The users, after a look at the file if the last one was a second ago."""
        now = self._clock()
        if self._looked_at is None or now - self._looked_at >= STAT_INTERVAL_SECONDS:
            self._looked_at = now
            self._refresh()
        return self._users

    def _refresh(self) -> None:
        try:
            if self._signature is not None and _signature(os.stat(self._path)) == self._signature:
                return
            self._signature, content = _read(self._path)
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            self._signature = None
            self._users = _Users(problems=(f"{self._path}: cannot be read: {reason}; nobody can log in",))
            if not self._was_refusing:
                log.error("htpasswd file cannot be read, nobody can log in", extra={"path": self._path, "reason": reason})
            self._was_refusing = True
            return
        self._users = _parse(content, os.path.basename(self._path))
        self._was_refusing = False
        log.info("htpasswd file read", extra={"path": self._path, "users": len(self._users.hashes)})
        for problem in self._users.problems:
            log.warning("htpasswd file has a problem", extra={"problem": problem})
        for warning in self._users.warnings:
            log.warning("htpasswd line is weak", extra={"warning": warning})


def _give_way() -> None:
    """Let everything else go before this thread, which computes for a quarter of a second without a break.

    A thread that has computed for long is taken off a processor only after some milliseconds. With as many guesses under way as there are
    processors, each other request would wait for that.
    """
    # Elsewhere it would be the whole process, or some other one.
    if sys.platform == "linux":
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), max(_NICENESS, os.getpriority(os.PRIO_PROCESS, 0)))


def _signature(status: os.stat_result) -> _Signature:
    # ctime, since a file that may no longer be read is otherwise the same.
    return status.st_mtime_ns, status.st_ctime_ns, status.st_size, status.st_ino


def _read(path: str) -> tuple[_Signature, bytes]:
    """The content, and the signature of exactly the file that it was read from."""
    # Without O_NONBLOCK, opening a pipe would wait for somebody to write.
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    with open(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise ValueError("not a file")
        return _signature(status), file.read()


def _parse(content: bytes, label: str) -> _Users:
    hashes: dict[str, Hash] = {}
    problems: list[str] = []
    warnings: list[str] = []
    for number, line in _lines(content):
        name, text = _entry(line)
        found = read_hash(text)
        start = f"{label}: line {number}"
        if not name:
            problems.append(f"{start} is not user:hash in UTF-8; correct it, or put # before it")
        elif name in hashes:
            problems.append(f"{start} names user {name!r} again, only the first entry counts; remove one")
        elif found.problem:
            what, fix = found.problem
            problems.append(f"{start} has {what} for user {name!r}; {fix}")
        else:
            hashes[name] = found
            if found.warning:
                what, fix = found.warning
                warnings.append(f"{start} has {what} for user {name!r}; {fix}")
    if not hashes:
        problems.append(f"{label} names no user that can log in; add one with htpasswd -B")
        return _Users(problems=tuple(problems))
    dearest = max(hashes.values(), key=lambda found: found.effort)
    decoy = dataclasses.replace(dearest, text=decoy_of(dearest.text))
    return _Users(hashes=hashes, decoy=decoy, problems=tuple(problems), warnings=tuple(warnings))


def _can_be(username: str) -> bool:
    """Whether there may be a user of this name. Without a NUL, name and password are told apart in what is remembered."""
    return bool(username) and "\0" not in username


def _lines(content: bytes) -> Iterator[tuple[int, bytes]]:
    """Lines that say something, with their numbers from 1."""
    for number, raw in enumerate(content.removeprefix(b"\xef\xbb\xbf").split(b"\n"), 1):
        line = raw.strip()
        if line and not line.startswith(b"#"):
            yield number, line


def _entry(line: bytes) -> tuple[str, bytes]:
    """User name and hash; the name is "" when the line has none that could be sent."""
    name, _, hashed = line.partition(b":")
    try:
        text = name.decode()
    except UnicodeDecodeError:
        return "", b""
    return (text, hashed.strip()) if text.isprintable() and b":" in line else ("", b"")
