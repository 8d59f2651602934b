"""Users in an htpasswd file with bcrypt hashes, as ``htpasswd -B`` writes it."""

from __future__ import annotations

import asyncio
import functools
import hashlib
import logging
import os
import re
import secrets
import stat
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TypeAlias

import bcrypt

from nora.api import Actor
from nora.lru import BoundedCache

log = logging.getLogger(__name__)

STAT_INTERVAL_SECONDS = 1.0
SUCCESS_SECONDS = 60.0
FAILURE_SECONDS = 3.0
CACHE_ENTRIES = 4096
MAX_PASSWORD_BYTES = 72
"""What bcrypt looks at. Longer passwords are refused: cut off, other passwords would match, too."""

MAX_COST = 17
"""The largest bcrypt cost that is taken; a check then takes about ten seconds, and twice that for each step more."""

_THREADS = 2
# bcrypt's base64 leaves four bits of the salt's last character unused; libraries refuse any but these.
_HASH = re.compile(rb"\$2[aby]\$([0-9]{2})\$[./A-Za-z0-9]{21}[.Oeu][./A-Za-z0-9]{31}")

_Signature: TypeAlias = tuple[int, int, int, int]


@dataclass(slots=True)
class _Users:
    """One state of the file, with all that was found out about it. Replaced as a whole, so nothing outlives a change."""

    hashes: Mapping[str, bytes] = field(default_factory=dict)
    decoy: bytes = b""
    problems: Sequence[str] = ()
    # By credential: until when it is valid, and whether the password is right.
    verdicts: BoundedCache[bytes, tuple[float, bool]] = field(default_factory=lambda: BoundedCache(CACHE_ENTRIES))
    checks: dict[bytes, asyncio.Future[bool]] = field(default_factory=dict)  # by credential, while they run


class HtpasswdFile:
    """An :class:`~nora.api.Authenticator` for the users of a file. Belongs to one event loop; close it at the end.

    The file is read again when it has changed, which is noticed within a second. While it cannot be read nobody gets in.
    Checks run in threads, once for any number of parallel requests with the same credentials, and their outcome is remembered
    for 60 seconds, failures for 3. An unknown user takes as long as a wrong password.

    Args:
        path: The file.
        clock: Seconds that only go forward.
        check: Whether a password matches a hash; for tests.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        clock: Callable[[], float] = time.monotonic,
        check: Callable[[bytes, bytes], bool] = bcrypt.checkpw,
    ) -> None:
        self._path, self._clock, self._check = os.fspath(path), clock, check
        self._key = secrets.token_bytes(32)
        self._pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="nora-bcrypt")
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
        if not users.hashes or not username or "\0" in username or len(secret) > MAX_PASSWORD_BYTES:
            return None
        key = self._credential(username, secret)
        verdict = users.verdicts.get(key)
        if verdict is not None and self._clock() < verdict[0]:
            right = verdict[1]
        else:
            right = await self._checked(users, key, username, secret)
        return Actor(name=username) if right else None

    def standing(self, username: str, password: str) -> Callable[[], bool] | None:
        """A cheap question, whether these credentials still let in without another check; ``None`` if they do not now."""
        users = self._current()
        verdict = users.verdicts.get(self._credential(username, password.encode(errors="surrogatepass")))
        if verdict is None or not verdict[1]:
            return None
        until = verdict[0]
        return lambda: self._current() is users and self._clock() < until

    def _credential(self, username: str, secret: bytes) -> bytes:
        # The user name has no NUL, so different credentials never join to the same bytes.
        return hashlib.blake2b(username.encode(errors="surrogatepass") + b"\0" + secret, key=self._key).digest()

    async def _checked(self, users: _Users, key: bytes, username: str, secret: bytes) -> bool:
        future = users.checks.get(key)
        if future is None:
            known = users.hashes.get(username)
            run = asyncio.get_running_loop().run_in_executor
            future = run(self._pool, self._matches, secret, known or users.decoy, known is not None)
            users.checks[key] = future
            future.add_done_callback(functools.partial(self._settle, users, key))
        # Whoever came first may leave; the others still wait.
        return await asyncio.shield(future)

    def _matches(self, secret: bytes, hashed: bytes, known: bool) -> bool:
        return self._check(secret, hashed) and known

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
            log.warning("htpasswd line is of no use", extra={"problem": problem})


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
    hashes: dict[str, bytes] = {}
    problems: list[str] = []
    costs = [4]
    for number, line in _lines(content):
        name, hashed = _entry(line)
        found = _HASH.fullmatch(hashed)
        text = ""
        if not name:
            text = "is not user:hash in UTF-8; correct it, or put # before it"
        elif name in hashes:
            text = f"names user {name!r} again, only the first entry counts; remove one"
        elif found is None:
            text = f"has no bcrypt hash for user {name!r}; set the password again with htpasswd -B"
        elif not 4 <= int(found[1]) <= MAX_COST:
            text = f"has a bcrypt cost of {int(found[1])} for user {name!r}; set the password again with htpasswd -B -C 10"
        else:
            hashes[name] = hashed
            costs.append(int(found[1]))
        if text:
            problems.append(f"{label}: line {number} {text}")
    # Never matches: no user has it, and its digest belongs to no password that anybody could find.
    decoy = bcrypt.gensalt(max(costs)) + b"." * 31
    return _Users(hashes=hashes, decoy=decoy, problems=tuple(problems))


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
