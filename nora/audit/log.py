"""The audit log of one process: takes entries without waiting, and has them written."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import time
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec

from nora.api import Event
from nora.audit.cursor import needed_day
from nora.audit.entry import Entry, LoginProblem, TokenChange, line_of
from nora.audit.file import DAY_SECONDS, FOLDER, NEEDED_DAYS, AuditFile, day_of, remove_old
from nora.audit.flood import Flood
from nora.clock import timestamp
from nora.context import current_request
from nora.tasks import Tasks

log = logging.getLogger(__name__)

MAX_QUEUED, MAX_QUEUED_BYTES = 10_000, 16 * 1024 * 1024
"""What may wait to be written."""
BATCH_BYTES = 256 * 1024
GATHER_SECONDS = 0.02
"""After a batch was written. What comes in this time is written together: a visit to a thread costs a small upload a tenth of its time."""
RETRY_SECONDS = 2.0
"""After the file could not be written."""
TELL_SECONDS = 60.0
"""The log says at most once in this time that something is wrong with the audit log."""
TIDY_SECONDS = 24 * 3600.0


class AuditLog:
    """Takes entries on the event loop, which never waits and gets no error, and has them written by a task in a thread.

    What cannot be written waits, and is tried again. When too much waits, later entries are dropped; how many is told in the log and by
    the next entry that is kept. Several processes may write for the same storage.

    Args:
        root: The storage's directory, which is there.
        keep_days: Entries are kept for so many days at least, and removed then; 0 is for ever.
        webhooks: Names of those that entries are sent to. For them files are kept longer, and lines made durable.
        clock: Seconds since the epoch.
        ticks: Seconds that only go forward.
    """

    def __init__(
        self,
        root: Path,
        *,
        keep_days: int = 0,
        webhooks: Sequence[str] = (),
        clock: Callable[[], float] = time.time,
        ticks: Callable[[], float] = time.monotonic,
    ) -> None:
        self._folder, self._keep_days, self._clock, self._ticks = root / FOLDER, keep_days, clock, ticks
        self._webhooks = webhooks
        self._file = AuditFile(self._folder, clock)
        self._flood = Flood()
        self._waiting: deque[bytes] = deque()
        self._waiting_bytes = 0
        self._dropped = self._untold = 0
        self._told_at, self._trouble_told = -math.inf, False
        self._wake = asyncio.Event()

    def start(self, tasks: Tasks) -> None:
        """Write from now on. ``tasks`` are to be closed before :meth:`aclose`, which writes what they did not get to."""
        tasks.spawn(self._run(), "audit log")
        if self._keep_days:
            tasks.spawn(self._tidy(), "removal of old audit files")

    def emit(self, event: Event) -> None:
        """Take note of a change, as :class:`nora.api.EventSink` has it."""
        fields = {name: getattr(event, name) for name in Event.__struct_fields__}
        self._note(**{**fields, "at": event.at or self._now()}, token=current_request.get().token)

    def token(self, action: TokenChange, token: str, reason: str = "") -> None:
        """Take note of what the current request has done to a token, given by its id."""
        request = current_request.get()
        self._note(
            at=self._now(), action=action, actor=request.actor.name, token=token, reason=reason, request_id=request.request_id
        )

    def login(self, action: LoginProblem, user: str, address: str, token: str = "", reason: str = "") -> None:
        """Take note that the current request could not log in as ``user``, or with the token of this id. Only counted if there are many."""
        entry = {"at": self._now(), "action": action, "actor": user, "token": token, "address": address, "reason": reason}
        self._note(**entry, request_id=current_request.get().request_id, may_be_many=True)

    async def aclose(self) -> None:
        """Write everything that waits, and close the file. What cannot be written now is lost, which the log tells."""
        self._take_counted(at_once=True)
        while self._waiting and await self._write():
            pass
        if self._dropped and not self._waiting:
            self._add(Entry(at=self._now(), action="dropped"))
            await self._write()
        if lost := self._untold + len(self._waiting):
            log.error("audit entries lost", extra={"entries": lost})
        self._file.close()

    def _note(self, *, may_be_many: bool = False, **fields: Any) -> None:
        try:
            entry = Entry(**{"address": current_request.get().address, **fields})
            if may_be_many:
                self._take_counted()
                waited_for = self._flood.due
                told = self._flood.admits(entry, self._ticks())
                if self._flood.due != waited_for:
                    self._wake.set()
                if not told:
                    return
            self._add(entry)
        except Exception as error:
            # Whatever this is, what was done is done, and is answered.
            self._drop(repr(error))

    def _add(self, entry: Entry) -> None:
        line = line_of(msgspec.structs.replace(entry, dropped=self._dropped) if self._dropped else entry)
        if len(self._waiting) >= MAX_QUEUED or self._waiting_bytes + len(line) > MAX_QUEUED_BYTES:
            self._drop("too many wait to be written")
            return
        self._dropped = 0
        self._waiting.append(line)
        self._waiting_bytes += len(line)
        self._wake.set()

    def _drop(self, reason: str) -> None:
        self._dropped += 1
        self._untold += 1
        self._tell("audit entries dropped", reason=reason)

    def _take_counted(self, *, at_once: bool = False) -> None:
        for entry in self._flood.ended(self._ticks(), at_once=at_once):
            self._add(entry)

    async def _run(self) -> None:
        while True:
            if not self._waiting:
                due = self._flood.due
                # Not wait_for: that of Python 3.11 may lose a cancellation.
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(None if due is None else max(due - self._ticks(), 0)):
                        await self._wake.wait()
                self._wake.clear()
            self._take_counted()
            if self._waiting:
                await asyncio.sleep(GATHER_SECONDS if await self._write() else RETRY_SECONDS)

    async def _write(self) -> bool:
        """Write a batch of what waits; returns whether that was possible. When cancelled, this is finished first."""
        lines: list[bytes] = []
        length = 0
        for line in self._waiting:
            if lines and length + len(line) > BATCH_BYTES:
                break
            lines.append(line)
            length += len(line)
        step = asyncio.ensure_future(asyncio.to_thread(self._append, b"".join(lines)))
        cancelled: asyncio.CancelledError | None = None
        while not step.done():  # else nobody would know whether it is written
            try:
                await asyncio.wait([step])
            except asyncio.CancelledError as error:
                cancelled = error
        self._settle(step, len(lines), length)
        if cancelled is not None:
            raise cancelled
        return step.exception() is None

    def _append(self, lines: bytes) -> None:
        self._file.append(lines)
        if self._webhooks:
            try:
                self._file.sync()
            except OSError as error:  # they are written all the same, and are not to be written twice
                log.error("audit log may not survive a power failure", extra={"error": error.strerror or repr(error)})

    def _settle(self, step: asyncio.Future[None], count: int, length: int) -> None:
        error = step.exception()
        if error is not None:
            reason = (error.strerror if isinstance(error, OSError) else None) or repr(error)
            told = self._tell("audit log cannot be written", error=reason, folder=str(self._folder))
            self._trouble_told = self._trouble_told or told
            return
        for _ in range(count):
            self._waiting.popleft()
        self._waiting_bytes -= length
        if self._trouble_told:
            self._trouble_told = False
            log.warning("audit log is written again")
        if self._untold:
            self._tell("audit entries dropped")

    def _tell(self, message: str, **facts: str) -> bool:
        now = self._ticks()
        if now < self._told_at + TELL_SECONDS:
            return False
        self._told_at = now
        log.error(message, extra={**facts, "waiting": len(self._waiting), "dropped": self._untold})
        self._untold = 0
        return True

    async def _tidy(self) -> None:
        while True:
            try:
                now = self._clock()
                needed = await asyncio.to_thread(needed_day, self._folder, self._webhooks, now)
                removed = await asyncio.to_thread(remove_old, self._folder, self._keep_days, now, needed)
                if removed and needed is not None and needed < day_of(now - (self._keep_days + NEEDED_DAYS) * DAY_SECONDS):
                    log.error("audit files removed that a webhook has not got", extra={"needed_since": needed})
                if removed:
                    log.info("old audit files removed", extra={"files": removed})
            except OSError as error:
                log.error("old audit files could not be removed", extra={"error": error.strerror or str(error)})
            await asyncio.sleep(TIDY_SECONDS)

    def _now(self) -> str:
        return timestamp(self._clock())
