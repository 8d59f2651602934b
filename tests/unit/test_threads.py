"""Jobs go to the thread that was busy last; none is lost, whatever happens to it."""

from __future__ import annotations

import asyncio
import gc
import threading
import weakref
from concurrent.futures import CancelledError, wait

import pytest

from nora.threads import WarmThreads


@pytest.fixture
def threads():
    made = WarmThreads(4, "test")
    yield made
    made.shutdown()


def name() -> str:
    return threading.current_thread().name


class Gate:
    """A job that stays in its thread until it is let go."""

    def __init__(self, threads: WarmThreads) -> None:
        self._begun, self._free = threading.Event(), threading.Event()
        self._job = threads.submit(self._run)
        assert self._begun.wait(10)

    def _run(self) -> str:
        self._begun.set()
        assert self._free.wait(10)
        return name()

    def open(self) -> str:
        """Let it end; the thread that it was in."""
        self._free.set()
        return self._job.result(10)


def settle(threads: WarmThreads, idle: int) -> None:
    """A job has its result a moment before its thread is idle again."""
    deadline = threading.Event()
    while len(threads._idle) < idle:
        assert not deadline.wait(0.001)


def test_results_and_errors_come_back(threads):
    assert threads.submit(divmod, 7, 2).result(10) == (3, 1)
    assert threads.submit(dict, a=1).result(10) == {"a": 1}
    with pytest.raises(ZeroDivisionError):
        threads.submit(lambda: 1 / 0).result(10)
    assert threads.submit(name).result(10).startswith("test_")


def test_the_thread_that_was_busy_last_gets_the_next_job(threads):
    gates = [Gate(threads) for _ in range(3)]
    names = []
    for count, gate in enumerate(gates, start=1):
        names.append(gate.open())
        settle(threads, count)
    assert len(set(names)) == 3
    for _ in range(5):
        assert threads.submit(name).result(10) == names[-1]
        settle(threads, 3)


def test_there_are_never_more_threads_and_what_waits_is_done_in_order(threads):
    gates, done = [Gate(threads) for _ in range(4)], []
    waiting = [threads.submit(done.append, number) for number in range(10)]
    assert not any(job.done() for job in waiting)
    gates[0].open()
    wait(waiting, timeout=10)
    assert done == list(range(10))
    assert len(threads._all) == 4
    for gate in gates[1:]:
        gate.open()


def test_what_is_cancelled_while_it_waits_is_not_done(threads):
    gates, done = [Gate(threads) for _ in range(4)], []
    first, second = threads.submit(done.append, 1), threads.submit(done.append, 2)
    assert first.cancel()
    for gate in gates:
        gate.open()
    second.result(10)
    assert done == [2]


def test_shutdown_does_what_waits_and_takes_no_more():
    threads, done = WarmThreads(2, "test"), []
    gates = [Gate(threads), Gate(threads)]
    threads.submit(done.append, 1)
    ending = threading.Thread(target=threads.shutdown)
    ending.start()
    for gate in gates:
        gate.open()
    ending.join(10)
    assert done == [1]
    assert not any(thread.is_alive() for thread in threads._all)
    with pytest.raises(RuntimeError):
        threads.submit(name)
    threads.shutdown()


def test_shutdown_can_cancel_what_waits():
    threads = WarmThreads(1, "test")
    gate = Gate(threads)
    waiting = threads.submit(name)
    threads.shutdown(wait=False, cancel_futures=True)
    gate.open()
    with pytest.raises(CancelledError):
        waiting.result(10)
    threads.shutdown()


def test_a_job_is_let_go_when_it_is_done(threads):
    class Large:
        pass

    large = Large()
    seen = weakref.ref(large)
    threads.submit(id, large).result(10)
    settle(threads, 1)
    del large
    gc.collect()
    assert seen() is None


async def test_an_event_loop_takes_it():
    loop = asyncio.get_running_loop()
    loop.set_default_executor(WarmThreads(2, "test"))
    assert (await asyncio.gather(*(asyncio.to_thread(name) for _ in range(20))))[0].startswith("test_")


def test_many_jobs_from_many_threads_are_all_done(threads):
    done: list[int] = []

    def submit(base: int) -> None:
        wait([threads.submit(done.append, base + number) for number in range(500)], timeout=30)

    senders = [threading.Thread(target=submit, args=(base * 1000,)) for base in range(6)]
    for sender in senders:
        sender.start()
    for sender in senders:
        sender.join(30)
    assert sorted(done) == sorted(base * 1000 + number for base in range(6) for number in range(500))
