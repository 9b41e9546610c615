"""A thread that does the work of many requests at once: jobs that arrive during a batch form the next batch."""

import asyncio
import queue
import threading
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

import msgspec

R = TypeVar("R")
J = TypeVar("J", bound="Job")  # type: ignore[type-arg]


class Job(msgspec.Struct, Generic[R], frozen=True, eq=False):
    """Work of one request, which waits for its answer."""

    answer: "asyncio.Future[R]"

    def settle(self, result: R | Exception) -> None:
        """Answer the request, in the event loop."""
        if self.answer.done():
            return  # The client closed the connection, and its request was cancelled.
        if isinstance(result, Exception):
            self.answer.set_exception(result)
        else:
            self.answer.set_result(result)


class Batches(Generic[J]):
    """The jobs of one event loop, and the thread that does them."""

    def __init__(self, do: Callable[[list[J]], None], *, name: str, jobs_max: int) -> None:
        """Start the thread. `do` answers each job of a batch of at most `jobs_max`, by `finish`."""
        self._do, self._jobs_max = do, jobs_max
        self._added: list[J] = []
        self._handed_over: queue.SimpleQueue[list[J]] = queue.SimpleQueue()
        self._waiting: list[J] = []
        threading.Thread(target=self._run, name=name, daemon=True).start()

    def add(self, job: J) -> None:
        """Add a job; for the event loop."""
        # Handed over once for each step of the loop: to wake a thread takes longer than to add a job, and the thread would
        # begin with the first job alone.
        if not self._added:
            job.answer.get_loop().call_soon(self._hand_over)
        self._added.append(job)

    def take_waiting(self) -> list[J]:
        """Take all jobs that wait; for the thread."""
        jobs, self._waiting = self._waiting, []
        while not self._handed_over.empty():
            jobs += self._handed_over.get()
        return jobs

    def _hand_over(self) -> None:
        added, self._added = self._added, []
        self._handed_over.put(added)

    def _run(self) -> None:
        while True:
            jobs = self.take_waiting() or self._handed_over.get()
            self._waiting = jobs[self._jobs_max :]
            self._do(jobs[: self._jobs_max])


def finish(jobs: Sequence[Job[R]], results: Sequence[R | Exception]) -> None:
    """Answer jobs, each with its result; for the thread."""
    # Once for a batch: each call wakes the event loop by a write to a pipe.
    if jobs:
        jobs[0].answer.get_loop().call_soon_threadsafe(_settle, jobs, results)


def _settle(jobs: Sequence[Job[R]], results: Sequence[R | Exception]) -> None:
    for job, result in zip(jobs, results, strict=True):
        job.settle(result)
