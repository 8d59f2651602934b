"""The API tokens of a store: shown once, kept as digests, closed at once.

    tokens/<id>.json      what a token is; never changed
    tokens/<id>.revoked   when it was revoked; that it is there closes the token, whatever it says
    tokens/<id>.used      when it was last used, as known to ten minutes; may be removed at any time

A revocation is a key of its own, so nothing is ever rewritten: creating a key durably is all that it takes, which every store can
do, nobody can read half of it, and no two processes can undo what the other did.

What is dead is removed by :mod:`nora.room.tokens`.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import logging
import re
import secrets
import time
from collections.abc import Callable, Sequence

import msgspec

from nora.api import Invalid, NotFound, StorageFull
from nora.auth.record import Listed, Token, decode, digest_of, is_id, new_text, problems, seconds_of, stamp, token_id
from nora.clock import timestamp
from nora.lru import BoundedCache
from nora.rights import Grant
from nora.store.protocol import ChangeMark, Store
from nora.tasks import Tasks

__all__ = ["Listed", "Token", "Tokens", "token_id"]

log = logging.getLogger(__name__)

REMEMBERED_SECONDS = 1.0
"""For so long a record need not be read again. Bounds what a process that died before it could tell of its change can hide."""
NOTED_SECONDS = 600.0
"""A use is noted at most once in this time."""
MAX_REMEMBERED = 4096

_PREFIX = "tokens"
_RECORD = re.compile(r"([a-z0-9]+)\.json\Z")
_STEP = 50
_DAY_SECONDS = 24 * 3600
_NO_DIGEST = "-" * 64
"""Stands in for that of a token that does not exist; no text has it."""


class _Admission:
    """That a text was found to let in, and for how long that needs no other proof than a look at clock and mark.

    One for all requests with the same text: whoever looks again does it for all.
    """

    __slots__ = ("_change", "_changes", "_clock", "_since", "_until", "token")

    def __init__(self, token: Token, changes: ChangeMark, clock: Callable[[], float]) -> None:
        self.token, self._changes, self._clock = token, changes, clock
        self.end()

    def renew(self, change: bytes, since: float) -> None:
        self._change, self._since = change, since
        self._until = min(since + REMEMBERED_SECONDS, self.token.expires_at)

    def end(self) -> None:
        self._change, self._since, self._until = b"", 0.0, 0.0

    def stands(self) -> bool:
        # A clock that was set back is outside, too.
        return self._since <= self._clock() < self._until and self._changes.token() == self._change


class Tokens:
    """The tokens of a store. May be used by any number of processes at once; belongs to one event loop.

    What was found out about a text is remembered for a second, and only while nothing at all has changed in the store, see
    :class:`nora.store.protocol.ChangeMark`: so a revocation closes a token everywhere before it returns. For that the store must
    be watched; if it is not, the record is read for each request. Texts that do not let in are not remembered: they take no memory.

    Args:
        store: Where the tokens are kept.
        tasks: For notes of use.
        clock: Seconds since the epoch.
    """

    def __init__(self, store: Store, tasks: Tasks, *, clock: Callable[[], float] = time.time) -> None:
        self._store, self._tasks, self._clock = store, tasks, clock
        self._key = secrets.token_bytes(32)
        self._admissions: BoundedCache[bytes, _Admission] = BoundedCache(MAX_REMEMBERED)
        self._noted: BoundedCache[str, float] = BoundedCache(MAX_REMEMBERED)
        self._complained: BoundedCache[str, bool] = BoundedCache(MAX_REMEMBERED)

    def now(self) -> float:
        """The time by the clock that tokens expire by."""
        return self._clock()

    def expiry(self, days: int) -> str:
        """When a token expires that is made now and lasts for some days; 0 is for ever."""
        return timestamp(self._clock() + days * _DAY_SECONDS) if days else ""

    async def create(
        self, user: str, *, note: str, limits: Sequence[Grant], expires: str, issuer: str = ""
    ) -> tuple[str, Token]:
        """Make a token, durably: its text, which is kept nowhere, and its record.

        ``issuer`` is who vouches for somebody who is no user of ours.

        Raises:
            Invalid: with every problem.
            StorageFull: nothing was made.
        """
        if wrong := list(problems(user, note, limits, expires, self._clock())):
            raise Invalid(*wrong)
        while True:
            text = new_text()
            token = Token(
                id=token_id(text) or "",
                user=user,
                note=note,
                created=timestamp(self._clock()),
                expires=expires,
                digest=digest_of(text),
                limits=tuple(limits),
                issuer=issuer,
            )
            if await self._store.create(_record_key(token.id), msgspec.json.encode(token)):
                return text, token

    async def all(self, user: str | None = None) -> list[Listed]:
        """All tokens, or those of a user, the oldest first; without those whose record is of no use, which the log tells."""
        names = set(await self._store.names(_PREFIX))
        found = []
        for number, name in enumerate(sorted(names)):
            if number % _STEP == 0:
                await asyncio.sleep(0)  # small reads are done inline, and others want to be served meanwhile
            match = _RECORD.match(name)
            token = await self._found(match[1]) if match else None
            if token is not None and user in (None, token.user):
                found.append(await self._listed(token, revoked=f"{token.id}.revoked" in names))
        return sorted(found, key=lambda listed: (listed.token.created, listed.token.id))

    async def find(self, id_: str) -> Listed | None:
        """One token; ``None`` if there is none, or its record is of no use."""
        token = await self._found(id_) if is_id(id_) else None
        return None if token is None else await self._listed(token, revoked=await self._store.exists(_revoked_key(id_)))

    async def revoke(self, id_: str) -> bool:
        """Close a token for good, durably; ``False`` if it was revoked before. What it has begun is finished.

        Raises:
            NotFound: there is no such token. One whose record is of no use is there.
            StorageFull: it is not revoked.
        """
        if not is_id(id_):
            # Not repeated: somebody may have given the whole token, with its secret.
            raise NotFound("token", "an id has 12 characters of a-z and 0-9")
        if not await self._store.exists(_record_key(id_)):
            raise NotFound("token", id_)
        return await self._store.create(_revoked_key(id_), timestamp(self._clock()).encode())

    def is_token(self, text: str) -> bool:
        """Whether a text has the form of a token; no password should."""
        return token_id(text) is not None

    async def verify(self, text: str) -> Token | None:
        """The token that has this text; ``None`` if there is none, or it is expired or revoked.

        For an unknown id the same keys are looked up and the same comparison is made as for a wrong secret. More is not needed:
        that an id exists helps nobody to guess its secret.
        """
        id_ = token_id(text)
        if id_ is None:
            return None
        admission = self._admissions.get(self._credential(text))
        token = admission.token if admission is not None and admission.stands() else await self._look(id_, text)
        if token is not None:
            self._used(id_)
        return token

    def standing(self, text: str) -> Callable[[], bool] | None:
        """A cheap question, whether :meth:`verify` would still say yes; ``None`` if that takes a look at the store to tell.

        The answer is no as well when something has changed in the store or the last look was a second ago; the next
        :meth:`verify` by anybody with the same text may turn it to yes again.
        """
        admission = self._admissions.get(self._credential(text)) if token_id(text) is not None else None
        return admission.stands if admission is not None and admission.stands() else None

    async def _look(self, id_: str, text: str) -> Token | None:
        changes, credential = self._store.changes, self._credential(text)
        # Both from before the look: what changes meanwhile is seen the next time.
        since, change = self._clock(), changes.checked_token() if changes is not None else None
        token = await self._read(id_)
        revoked = await self._store.exists(_revoked_key(id_))
        right = hmac.compare_digest(digest_of(text), _NO_DIGEST if token is None else token.digest)
        admission = self._admissions.get(credential)
        if admission is not None and admission.token != token:
            admission.end()
            self._admissions.discard(credential)
            admission = None
        if token is None or not right or revoked or token.state(self._clock()) != "valid":
            if admission is not None:
                admission.end()
                self._admissions.discard(credential)
            return None
        if changes is not None and change is not None:
            if admission is None:
                admission = _Admission(token, changes, self._clock)
                self._admissions.put(credential, admission)
            admission.renew(change, since)
        return token

    async def _read(self, id_: str) -> Token | None:
        try:
            data = await self._store.get(_record_key(id_))
            return None if data is None else decode(id_, data)
        except PermissionError as error:  # made by another user of the system; other errors may be gone the next time
            self._complain(id_, error.strerror or str(error))
        except (msgspec.MsgspecError, ValueError, RecursionError) as error:
            self._complain(id_, str(error))
        return None

    async def _found(self, id_: str) -> Token | None:
        """The same where one record that cannot be had must not hide the others."""
        try:
            return await self._read(id_)
        except OSError as error:
            self._complain(id_, error.strerror or str(error))
            return None

    def _complain(self, id_: str, reason: str) -> None:
        if self._complained.get(id_) is None:
            self._complained.put(id_, True)
            log.error("record of a token is of no use, the token does not let in", extra={"token": id_, "reason": reason})

    async def _listed(self, token: Token, *, revoked: bool) -> Listed:
        if revoked:
            token = msgspec.structs.replace(token, revoked=await self._time(_revoked_key(token.id)) or token.created)
        return Listed(token, await self._time(_used_key(token.id)))

    async def _time(self, key: str) -> str:
        try:
            return stamp(await self._store.get(key))
        except OSError:
            return ""

    def _credential(self, text: str) -> bytes:
        return hashlib.blake2b(text.encode(), key=self._key, digest_size=32).digest()

    def _used(self, id_: str) -> None:
        noted, now = self._noted.get(id_), self._clock()
        if noted is None or not noted <= now < noted + NOTED_SECONDS:
            self._noted.put(id_, now)
            self._tasks.spawn(self._note(id_, now), "note of a token's use")

    async def _note(self, id_: str, now: float) -> None:
        # A time that is written, since nobody can ask a store for that of a key that was touched.
        try:
            last = stamp(await self._store.get(_used_key(id_)))
            if last and (noted := seconds_of(last)) <= now < noted + NOTED_SECONDS:
                self._noted.put(id_, noted)  # by another process
            else:
                await self._store.put(_used_key(id_), timestamp(now).encode())
        except (OSError, StorageFull) as error:
            log.warning("use of a token could not be noted", extra={"token": id_, "error": str(error)})


def _record_key(id_: str) -> str:
    return f"{_PREFIX}/{id_}.json"


def _revoked_key(id_: str) -> str:
    return f"{_PREFIX}/{id_}.revoked"


def _used_key(id_: str) -> str:
    return f"{_PREFIX}/{id_}.used"
