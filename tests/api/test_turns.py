"""Turns: how many requests of one caller run at once, and that others do not wait for them."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from services.api.http.errors import TooManyAtOnce
from services.api.http.turns import THREADS, TURNS, Fairness, RequestKind

LONG_RUNNING_MAX, LONG_WAITING_MAX = TURNS[RequestKind.LONG]


class Crowd:
    """Requests of callers that run until they are let go, and in which order they came to run."""

    def __init__(self) -> None:
        self.fairness = Fairness()
        self.running: list[str] = []
        self._ends: dict[str, asyncio.Event] = {}

    def send(self, caller: str, number: int, work: RequestKind = RequestKind.LONG) -> "asyncio.Task[None]":
        return asyncio.create_task(self._run(caller, f"{caller}{number}", work))

    async def _run(self, caller: str, name: str, work: RequestKind) -> None:
        end = self._ends[name] = asyncio.Event()
        async with self.fairness.turn(caller, work):
            self.running.append(name)
            await end.wait()

    def end(self, name: str) -> None:
        self._ends[name].set()


async def settled() -> None:
    """Let everything run that can."""
    for _ in range(10):
        await asyncio.sleep(0)


def run(story: Callable[[Crowd], Awaitable[None]]) -> None:
    async def told() -> None:
        await story(Crowd())

    asyncio.run(told())


def test_so_many_of_one_caller_run_and_the_next_in_the_order_they_came() -> None:
    async def story(crowd: Crowd) -> None:
        tasks = [crowd.send("a", number) for number in range(LONG_RUNNING_MAX + 2)]
        await settled()
        first = [f"a{number}" for number in range(LONG_RUNNING_MAX)]
        assert crowd.running == first
        for number in range(LONG_RUNNING_MAX + 2):
            crowd.end(f"a{number}")
            await settled()
            assert crowd.running == [f"a{each}" for each in range(min(LONG_RUNNING_MAX + number + 1, len(tasks)))]
        await asyncio.gather(*tasks)

    run(story)


def test_another_caller_and_another_kind_of_work_do_not_wait() -> None:
    async def story(crowd: Crowd) -> None:
        tasks = [crowd.send("a", number) for number in range(LONG_RUNNING_MAX + 5)]
        tasks += [crowd.send("b", 0), crowd.send("a", 100, RequestKind.READ), crowd.send("a", 101, RequestKind.NONE)]
        await settled()
        assert {"b0", "a100", "a101"} <= set(crowd.running)
        for task in tasks:
            task.cancel()

    run(story)


def test_more_than_may_wait_are_refused_and_told_to_come_again() -> None:
    async def story(crowd: Crowd) -> None:
        tasks = [crowd.send("a", number) for number in range(LONG_RUNNING_MAX + LONG_WAITING_MAX)]
        await settled()
        with pytest.raises(TooManyAtOnce, match=f"{LONG_RUNNING_MAX} requests of this kind run at once"):
            await crowd.send("a", 1000)
        for task in tasks:
            task.cancel()

    run(story)


def test_a_client_that_leaves_while_it_waits_or_just_as_its_turn_comes_takes_no_turn_with_it() -> None:
    async def story(crowd: Crowd) -> None:
        tasks = [crowd.send("a", number) for number in range(LONG_RUNNING_MAX + 3)]
        await settled()
        waits, next_one, last = tasks[LONG_RUNNING_MAX:]
        crowd.end("a0")
        tasks[0].add_done_callback(lambda _: waits.cancel())
        next_one.cancel()
        await settled()
        assert crowd.running[-1] == f"a{LONG_RUNNING_MAX + 2}"
        for number in (*range(1, LONG_RUNNING_MAX), LONG_RUNNING_MAX + 2):
            crowd.end(f"a{number}")
        await asyncio.gather(*tasks[:LONG_RUNNING_MAX], last)
        again = [crowd.send("a", 50 + number) for number in range(LONG_RUNNING_MAX)]
        await settled()
        assert crowd.running[-LONG_RUNNING_MAX:] == [f"a{50 + number}" for number in range(LONG_RUNNING_MAX)]
        for task in again:
            task.cancel()

    run(story)


def test_one_caller_leaves_threads_for_others() -> None:
    assert 2 * sum(running_max for running_max, _ in TURNS.values()) < THREADS + 8
