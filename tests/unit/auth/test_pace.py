"""Turns: one at a time, places one after the other, and nobody waits for who has left."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from nora.auth.pace import Pace

HERE, THERE = b"here", b"there"


class Timer:
    """Remembers what is to be called later, and calls it when told to."""

    def __init__(self) -> None:
        self.asked: list[float] = []
        self.call: Callable[[], None] | None = None

    def __call__(self, seconds: float, call: Callable[[], None]) -> None:
        assert self.call is None, "one at a time"
        self.asked.append(seconds)
        self.call = call

    async def ring(self) -> None:
        call, self.call = self.call, None
        assert call is not None
        call()
        await asyncio.sleep(0)


@pytest.fixture
def timer() -> Timer:
    return Timer()


@pytest.fixture
def pace(timer: Timer) -> Pace:
    return Pace(0.5, later=timer)


@pytest.fixture
def gone() -> list[str]:
    return []


async def test_each_comes_a_while_after_the_one_before_and_the_first_too(pace: Pace, timer: Timer, gone: list[str]) -> None:
    for name in "ab":
        pace.call(HERE, lambda name=name: gone.append(name))
    assert gone == []
    assert timer.asked == [0.5]
    await timer.ring()
    assert gone == ["a"]
    await timer.ring()
    assert gone == ["a", "b"]
    assert (timer.call, timer.asked, len(pace)) == (None, [0.5, 0.5], 0)
    pace.call(HERE, lambda: gone.append("c"))
    assert gone == ["a", "b"]
    await timer.ring()
    assert gone == ["a", "b", "c"]


async def test_places_take_turns_however_many_wait_at_one_of_them(pace: Pace, timer: Timer, gone: list[str]) -> None:
    for number in range(1000):
        pace.call(HERE, lambda number=number: gone.append(f"here {number}"))
    pace.call(THERE, lambda: gone.append("there"))
    for _ in range(4):
        await timer.ring()
    assert gone == ["here 0", "there", "here 1", "here 2"]


async def test_who_leaves_takes_no_turn_and_no_memory(pace: Pace, timer: Timer, gone: list[str]) -> None:
    leave = [pace.call(HERE, lambda number=number: gone.append(str(number))) for number in range(1000)]
    pace.call(THERE, lambda: gone.append("there"))
    for number in (*range(500), *range(501, 1000)):
        leave[number]()
        leave[number]()
    assert len(pace) == 2
    await timer.ring()
    await timer.ring()
    assert gone == ["500", "there"]
    leave[500]()
    assert len(pace) == 0


async def test_when_all_have_left_the_next_one_waits_like_a_first(pace: Pace, timer: Timer, gone: list[str]) -> None:
    pace.call(HERE, lambda: gone.append("a"))()
    await timer.ring()
    assert (gone, timer.call) == ([], None)
    pace.call(HERE, lambda: gone.append("b"))
    await timer.ring()
    assert gone == ["b"]


async def test_what_breaks_stops_nobody(pace: Pace, timer: Timer, gone: list[str]) -> None:
    def broken() -> None:
        raise RuntimeError

    told: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context["exception"]))
    pace.call(HERE, broken)
    pace.call(HERE, lambda: gone.append("b"))
    await timer.ring()
    await timer.ring()
    assert gone == ["b"]
    assert len(told) == 1


async def test_tasks_wait_for_their_turns_and_take_none_when_cancelled(pace: Pace, timer: Timer) -> None:
    first, leaving, second, third = (asyncio.create_task(pace.turn(HERE)) for _ in range(4))
    await asyncio.sleep(0)
    leaving.cancel()
    await asyncio.sleep(0)
    await timer.ring()
    await first
    await timer.ring()
    # Also who leaves while it is his.
    second.cancel()
    await timer.ring()
    await third
    assert leaving.cancelled()
    assert len(pace) == 0


async def test_the_event_loop_has_the_time(gone: list[str]) -> None:
    pace = Pace(0.01)
    begun = asyncio.get_running_loop().time()
    await asyncio.gather(*(pace.turn(HERE) for _ in range(5)))
    assert asyncio.get_running_loop().time() - begun >= 0.049
