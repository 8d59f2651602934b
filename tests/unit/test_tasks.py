"""Background tasks, and work that is done once."""

from __future__ import annotations

import asyncio
import logging

import pytest

from nora.tasks import SingleFlight


async def test_a_spawned_task_gives_its_result_and_its_error_to_whoever_waits(tasks):
    async def fails():
        raise LookupError("no")

    assert await tasks.spawn(asyncio.sleep(0, "done"), "a") == "done"
    with pytest.raises(LookupError):
        await tasks.spawn(fails(), "b")


async def test_an_error_that_nobody_waits_for_is_logged_and_not_complained_of(tasks, caplog):
    caplog.set_level(logging.DEBUG)

    async def fails():
        raise LookupError("no")

    tasks.spawn(fails(), "lonely")
    await asyncio.sleep(0.01)
    assert [record.task for record in caplog.records if record.message == "background task failed"] == ["lonely"]
    assert "never retrieved" not in caplog.text


async def test_a_failing_task_leaves_the_others_alone(tasks):
    async def fails():
        raise LookupError("no")

    other = tasks.spawn(asyncio.sleep(0.02, "done"), "other")
    tasks.spawn(fails(), "failing")
    assert await other == "done"


async def test_closing_cancels_everything_and_waits_until_it_has_cleaned_up(tasks):
    cleaned = []

    async def works(number):
        try:
            await asyncio.sleep(3600)
        finally:
            await asyncio.sleep(0.01)
            cleaned.append(number)

    running = [tasks.spawn(works(number), str(number)) for number in range(5)]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    await tasks.aclose()
    assert sorted(cleaned) == [0, 1, 2, 3, 4]
    assert all(task.cancelled() for task in running)
    await tasks.aclose()


async def test_closing_reaches_tasks_that_are_spawned_meanwhile(tasks):
    ended = []

    async def first():
        try:
            await asyncio.sleep(3600)
        finally:
            tasks.spawn(second(), "second")
            await asyncio.sleep(0.01)
            ended.append("first")

    async def second():
        try:
            await asyncio.sleep(3600)
        finally:
            ended.append("second")

    tasks.spawn(first(), "first")
    await asyncio.sleep(0)
    await asyncio.wait_for(tasks.aclose(), 5)
    assert ended == ["first", "second"]


async def test_fifty_callers_share_one_flight(tasks):
    flights, calls = SingleFlight(tasks), []

    async def work():
        calls.append(1)
        await asyncio.sleep(0.01)
        return object()

    results = await asyncio.gather(*(flights.run("key", work) for _ in range(50)))
    assert len(calls) == len(set(results)) == 1


async def test_other_keys_and_later_calls_are_other_flights(tasks):
    flights, calls = SingleFlight(tasks), []

    async def work():
        calls.append(1)
        await asyncio.sleep(0)
        return len(calls)

    await asyncio.gather(flights.run("a", work), flights.run("b", work))
    assert len(calls) == 2
    assert await flights.run("a", work) == 3
    assert flights._flights == {}


async def test_an_error_is_everybodys_and_is_not_remembered(tasks):
    flights, calls = SingleFlight(tasks), []

    async def work():
        calls.append(1)
        await asyncio.sleep(0)
        if len(calls) == 1:
            raise LookupError("no")
        return "done"

    outcomes = await asyncio.gather(*(flights.run("a", work) for _ in range(5)), return_exceptions=True)
    assert {type(outcome) for outcome in outcomes} == {LookupError}
    assert await flights.run("a", work) == "done"


async def test_the_first_caller_may_leave_and_the_others_get_the_result(tasks):
    flights, go = SingleFlight(tasks), asyncio.Event()

    async def work():
        await go.wait()
        return "done"

    first, second = (asyncio.create_task(flights.run("a", work)) for _ in range(2))
    await asyncio.sleep(0)
    first.cancel()
    await asyncio.wait([first])
    go.set()
    assert await asyncio.wait_for(second, 5) == "done"


async def test_all_callers_may_leave_and_the_work_goes_on(tasks):
    flights, done = SingleFlight(tasks), []

    async def work():
        await asyncio.sleep(0.01)
        done.append(1)

    caller = asyncio.create_task(flights.run("a", work))
    await asyncio.sleep(0)
    caller.cancel()
    await asyncio.sleep(0.05)
    assert done == [1]


async def test_closing_ends_waiting_callers(tasks):
    flights = SingleFlight(tasks)
    callers = [asyncio.create_task(flights.run("a", lambda: asyncio.sleep(3600))) for _ in range(3)]
    await asyncio.sleep(0)
    await tasks.aclose()
    done, _ = await asyncio.wait(callers, timeout=5)
    assert len(done) == 3
