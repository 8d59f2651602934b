"""Threads for what would hold up the event loop."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from queue import SimpleQueue
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

Job = Callable[[], None]


class WarmThreads(ThreadPoolExecutor):
    """An executor whose jobs go to the thread that was busy last.

    The standard one wakes the thread that has slept longest. If several were needed once, each later job so runs on another one, on
    whichever processor that finds, with nothing in its caches: sending a large file to one client takes half as long again.

    A subclass because :meth:`asyncio.loop.set_default_executor` insists on it; nothing but the names is shared.
    """

    def __init__(self, max_workers: int, thread_name_prefix: str) -> None:
        super().__init__(max_workers, thread_name_prefix)
        self._lock = threading.Lock()
        self._most, self._prefix = max_workers, thread_name_prefix
        self._all: list[threading.Thread] = []
        self._idle: list[SimpleQueue[Job | None]] = []
        self._backlog: deque[Job] = deque()
        self._waiting: dict[Job, Future[Any]] = {}
        self._ended = False

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """See :class:`concurrent.futures.Executor`."""
        future: Future[T] = Future()
        # Taken out before it is called: an error leads to the job by its frame, and must not lead on to what the job was given.
        calls = [partial(fn, *args, **kwargs)]

        def job() -> None:
            if not future.set_running_or_notify_cancel():
                return
            try:
                result = calls.pop()()
            except BaseException as error:
                future.set_exception(error)
            else:
                future.set_result(result)

        with self._lock:
            if self._ended:
                raise RuntimeError("cannot schedule new futures after shutdown")
            if self._idle:
                self._idle.pop().put(job)
            elif len(self._all) < self._most:
                inbox: SimpleQueue[Job | None] = SimpleQueue()
                inbox.put(job)
                name = f"{self._prefix}_{len(self._all)}"
                thread = threading.Thread(target=self._work, args=(inbox,), name=name, daemon=True)
                self._all.append(thread)
                thread.start()
            else:
                self._backlog.append(job)
                self._waiting[job] = future
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """See :class:`concurrent.futures.Executor`."""
        with self._lock:
            self._ended = True
            cancelled = [self._waiting.pop(job) for job in self._backlog] if cancel_futures else []
            if cancel_futures:
                self._backlog.clear()
            for inbox in self._idle:
                inbox.put(None)
            self._idle.clear()
        for future in cancelled:
            future.cancel()
        if wait:
            for thread in self._all:
                thread.join()

    def _work(self, inbox: SimpleQueue[Job | None]) -> None:
        while (job := inbox.get()) is not None:
            job()
            del job  # and whatever it holds on to
            self._rest(inbox)

    def _rest(self, inbox: SimpleQueue[Job | None]) -> None:
        """The thread is free again: it gets a job that waits, or the end, or counts as idle."""
        with self._lock:
            if self._backlog:
                job = self._backlog.popleft()
                del self._waiting[job]
                inbox.put(job)
            elif self._ended:
                inbox.put(None)
            else:
                self._idle.append(inbox)
