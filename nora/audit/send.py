"""Sends what is in the audit log to webhooks: signed, in order, again until it is taken.

The files of the log are the queue. An entry is passed only when it was answered with 2xx, so whatever ends in between, it is sent
again: at least once, each time with the same id.
"""

from __future__ import annotations

import asyncio
import logging
import math
import os
import secrets
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Protocol, TypeVar

from nora import metrics
from nora.api import UpstreamError
from nora.audit.cursor import Cursor, DamagedCursor, Reached
from nora.audit.file import FOLDER, day_of
from nora.audit.follow import Line, Position, end_of, follow
from nora.audit.webhook import PATIENCE_SECONDS, Meaning, Webhook, asked_seconds, meaning_of, signed_headers, wait_seconds
from nora.tasks import Tasks

log = logging.getLogger(__name__)

LOOK_SECONDS = 0.25
"""How often is looked for new entries, and whether it is this process's turn."""
SAVE_SECONDS = 5.0
"""How often all files are looked at though nothing seems to have come, and is kept how far it has got with what it does not want."""
SLICE_SECONDS = 10.0
"""How often the metric of how far it is behind is renewed during a longer wait."""
TELL_SECONDS = 60.0
"""The log says at most once in this time that something is wrong with a webhook."""
STOP_SECONDS = 3.0
"""For a delivery that is under way at a stop."""
BEGIN_SECONDS = 5.0
"""For so long a start waits for another process that just notes where a new webhook begins."""
_MAX_COMPLAINTS = 1000
_chance = secrets.SystemRandom().random
T = TypeVar("T")


class Answer(Protocol):
    """The head of an answer."""

    @property
    def status(self) -> int:
        """The status code."""

    @property
    def headers(self) -> Mapping[str, str]:
        """By lower-case name."""


class Post(Protocol):
    """Sends a body once, following no redirect, and returns any answer.

    Raises:
        UpstreamError: there was none in time.
    """

    def __call__(self, url: str, headers: Mapping[str, str], body: bytes, *, timeout_seconds: float) -> Awaitable[Answer]:
        """See above."""


class Sender:
    """Sends to one webhook, if and as long as no other process does.

    Args:
        root: The storage's directory.
        webhook: Where to, and what.
        post: Makes requests.
        clock: Seconds since the epoch.
        ticks: Seconds that only go forward.
        pause: Waits for so many seconds.
    """

    def __init__(
        self,
        root: Path,
        webhook: Webhook,
        post: Post,
        *,
        clock: Callable[[], float] = time.time,
        ticks: Callable[[], float] = time.monotonic,
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._audit, self._webhook, self._post = root / FOLDER, webhook, post
        self._clock, self._ticks, self._pause = clock, ticks, pause
        self._cursor = Cursor(self._audit, webhook.name)
        self._reached: Reached | None = None
        self._saved: Reached | None = None
        self._saved_at = self._told_at = self._looked_at = -math.inf
        self._seen = (0, 0)
        self._trouble_told = False
        self._complaints: set[str] = set()
        self._behind = metrics.WEBHOOK_BEHIND.labels(webhook.name)

    def begin(self) -> None:
        """Note where a new webhook begins, before anything happens that is to be sent. Waits for the disk.

        The turn, if it was free, is kept until :meth:`run` has ended.
        """
        end = time.monotonic() + BEGIN_SECONDS
        try:
            # Who has the turn notes it at once. Until then, what happens here might be before its "now".
            while not self._take() and self._cursor.load(self._clock()) is None and time.monotonic() < end:
                time.sleep(0.01)
        except DamagedCursor:
            pass  # not new, and up to who has the turn
        except OSError as error:
            self._tell("webhook cannot begin", error=error.strerror or repr(error))

    async def run(self) -> None:
        """Send until cancelled."""
        try:
            while True:
                try:
                    if await self._is_our_turn() and self._may_be_more():
                        await self._send_more()
                except Exception:
                    log.exception("webhook failed", extra={"webhook": self._webhook.name})
                await self._pause(LOOK_SECONDS)
        finally:
            self._cursor.close()

    async def _is_our_turn(self) -> bool:
        if self._cursor.is_ours() and self._reached is not None:
            return True
        try:
            return await _whole(asyncio.to_thread(self._take))
        except OSError as error:
            self._tell("webhook cannot be sent to", error=error.strerror or repr(error))
            return False

    def _take(self) -> bool:
        """Have the turn, and know how far it has got."""
        self._reached = self._saved = None
        if not self._cursor.take():
            return False
        now = self._clock()
        try:
            self._reached = self._saved = self._cursor.load(now)
        except DamagedCursor as damaged:
            self._reached = Reached(position=Position(day=damaged.since))
            self._error("webhook does not know how far it has got; entries are sent again", since=damaged.since)
        if self._reached is None:
            self._reached = Reached(position=end_of(self._audit, now, self._complain))
        if self._saved is None:
            self._save()
        return True

    def _may_be_more(self) -> bool:
        """Whether to look for more: the day's file has grown, or there was no look for a while."""
        try:
            found = os.stat(self._audit / f"{day_of(self._clock())}.jsonl")
            seen = found.st_ino, found.st_size
        except OSError:
            seen = 0, 0
        if seen == self._seen and self._ticks() < self._looked_at + SAVE_SECONDS:
            return False
        self._seen, self._looked_at = seen, self._ticks()
        return True

    async def _send_more(self) -> None:
        """Send what has come since the last time."""
        while self._reached is not None:
            now = self._clock()
            try:
                lines, after = await asyncio.to_thread(follow, self._audit, self._reached.position, now, self._complain)
            except OSError as error:
                self._tell("audit log cannot be read for a webhook", error=error.strerror or repr(error))
                return
            for line in lines:
                if self._webhook.wants(line.entry) and not await self._deliver(line):
                    return
                self._reached = Reached(position=line.after)
            if after != self._reached.position:
                self._reached = Reached(position=after)
            if self._saved != self._reached and self._ticks() >= self._saved_at + SAVE_SECONDS:
                await _whole(asyncio.to_thread(self._save))
            if not lines:
                self._behind.set(0)
                return

    async def _deliver(self, line: Line) -> bool:
        """Send an entry until it is taken, or passed over; ``False`` if this is not our turn any more."""
        tries = 0
        while True:
            assert self._reached is not None
            self._behind.set(self._age(line))
            meaning, asked, facts = await self._try(line)
            metrics.WEBHOOK_DELIVERIES.labels(self._webhook.name, meaning.value).inc()
            if meaning is Meaning.GONE:
                await self._end()
            if meaning is Meaning.DELIVERED:
                if self._trouble_told:
                    self._trouble_told = False
                    log.warning("webhook works again", extra={"webhook": self._webhook.name})
                return await self._pass(line)
            if meaning is Meaning.REFUSED:
                if not self._reached.refused_since:
                    self._reached = Reached(position=self._reached.position, refused_since=self._clock())
                    await _whole(asyncio.to_thread(self._save))
                elif self._clock() - self._reached.refused_since >= PATIENCE_SECONDS:
                    metrics.WEBHOOK_DELIVERIES.labels(self._webhook.name, "passed_over").inc()
                    self._error("webhook has refused an entry for days; it is passed over", message_id=line.id, **facts)
                    return await self._pass(line)
            tries += 1
            seconds = wait_seconds(tries, _chance(), asked)
            self._trouble_told |= self._tell("webhook does not take an entry", again_after_seconds=round(seconds, 1), **facts)
            await self._wait(seconds, line)
            if not self._cursor.is_ours():
                return False

    async def _try(self, line: Line) -> tuple[Meaning, float, dict[str, object]]:
        """Send an entry once: what came of it, what the receiver asks to wait for, and facts for the log."""
        webhook, now = self._webhook, self._clock()
        headers = signed_headers(webhook.key, line.id, int(now), line.body)
        step = asyncio.ensure_future(self._post(webhook.url, headers, line.body, timeout_seconds=webhook.timeout_seconds))
        try:
            await asyncio.wait([step])
        except asyncio.CancelledError:
            try:
                await asyncio.wait([step], timeout=STOP_SECONDS)
                if step.done() and step.exception() is None and meaning_of(step.result().status) is Meaning.DELIVERED:
                    self._reached = Reached(position=line.after)
                    self._save()
            finally:
                step.cancel()
                await asyncio.gather(step, return_exceptions=True)
            raise
        try:
            answer = step.result()
        except UpstreamError as error:
            return Meaning.FAILED, 0.0, {"error": error.reason}
        return (
            meaning_of(answer.status),
            asked_seconds(answer.headers.get("retry-after", ""), now),
            {"error": f"answered with status {answer.status}"},
        )

    async def _pass(self, line: Line) -> bool:
        """The entry is done with; whether this is still our turn."""
        self._reached = Reached(position=line.after)
        await _whole(asyncio.to_thread(self._save))
        return self._cursor.is_ours()

    async def _end(self) -> None:
        """Never return: the receiver does not want anything any more. The turn is kept, so that no other process asks again."""
        self._error(
            "webhook is gone (status 410) and gets nothing more until Nora is started again; remove it, or change its url"
        )
        while True:
            await self._pause(3600)

    async def _wait(self, seconds: float, line: Line) -> None:
        end = self._ticks() + seconds
        while (left := end - self._ticks()) > 0:
            await self._pause(min(left, SLICE_SECONDS))
            self._behind.set(self._age(line))

    def _save(self) -> None:
        """Keep how far it has got. Where that is not possible, sending goes on: entries may come twice, and none is missing."""
        if self._reached is None or not self._cursor.is_ours():
            return
        try:
            self._cursor.save(self._reached)
            self._saved = self._reached
        except OSError as error:
            self._tell("webhook cannot keep how far it has got", error=error.strerror or repr(error))
        self._saved_at = self._ticks()

    def _age(self, line: Line) -> float:
        try:
            return max(0.0, self._clock() - datetime.fromisoformat(line.entry.at).timestamp())
        except ValueError:
            return 0.0

    def _complain(self, text: str) -> None:
        if text not in self._complaints and len(self._complaints) < _MAX_COMPLAINTS:
            self._complaints.add(text)
            self._error("audit log cannot be sent in full", problem=text)

    def _error(self, message: str, **facts: object) -> None:
        log.error(message, extra={"webhook": self._webhook.name, **facts})

    def _tell(self, message: str, **facts: object) -> bool:
        """Log that something is wrong, unless that was done a moment ago; whether it was logged."""
        now = self._ticks()
        if now < self._told_at + TELL_SECONDS:
            return False
        self._told_at = now
        self._error(message, **facts)
        return True


class Webhooks:
    """All senders of this process. Nothing is sent before :meth:`start`."""

    def __init__(self, senders: Sequence[Sender], tasks: Tasks) -> None:
        self._senders, self._tasks = senders, tasks

    async def start(self) -> None:
        """Send from now on; to be called before anything happens that new webhooks are to be told."""
        for sender in self._senders:
            await asyncio.to_thread(sender.begin)
            self._tasks.spawn(sender.run(), "webhook")


async def _whole(work: Awaitable[T]) -> T:
    """The result of work that is not to be left half-done: when cancelled, it is waited for first."""
    step, cancelled = asyncio.ensure_future(work), None
    while not step.done():
        try:
            await asyncio.wait([step])
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        step.exception()  # so nobody says that it was not looked at
        raise cancelled
    return step.result()
