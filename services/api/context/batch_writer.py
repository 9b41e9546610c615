"""Writes for many requests at once: commands that arrive while a batch is written form the next batch."""

import asyncio
import contextlib
import itertools
import queue
import threading
from collections.abc import Sequence

import msgspec
from starlette.concurrency import run_in_threadpool

from events.device.commands import DeviceCommand, PatchTwin, ReplaceTwin
from events.log.errors import LogUnavailable
from events.log.port import Stored
from events.projection_store.port import CheckpointDamaged
from services.api.context.api_context import ApiContext
from services.api.context.callers import Author

BATCH_MAX = 256


class Written(msgspec.Struct, frozen=True):
    """A device's document after a write; `may_have_own`: a configuration may give something to its own twin."""

    document: Stored
    may_have_own: bool = True


class _Job(msgspec.Struct, frozen=True, eq=False):
    command: DeviceCommand
    author: Author
    answer: "asyncio.Future[Written]"

    def finish(self, result: "Written | Exception") -> None:
        self.answer.get_loop().call_soon_threadsafe(self._settle, result)

    def _settle(self, result: "Written | Exception") -> None:
        if self.answer.done():
            return  # The client closed the connection, and its request was cancelled.
        if isinstance(result, Exception):
            self.answer.set_exception(result)
        else:
            self.answer.set_result(result)


class BatchWriter:
    """One thread that decides and appends; the more requests there are, the larger its batches."""

    def __init__(self, context: ApiContext) -> None:
        self._context = context
        self._jobs: queue.SimpleQueue[_Job] = queue.SimpleQueue()
        threading.Thread(target=self._run, name="writer", daemon=True).start()

    async def do(self, command: DeviceCommand, author: Author) -> Written:
        """Write a command on a device.

        Raises:
            The refusal, LogUnavailable, ConflictPersists.
        """
        if author.preview_request is not None or author.key is not None:
            return await run_in_threadpool(self._do_apart, command, author)
        answer: asyncio.Future[Written] = asyncio.get_running_loop().create_future()
        self._jobs.put(_Job(command, author, answer))
        return await answer

    def _do_apart(self, command: DeviceCommand, author: Author) -> Written:
        # A producer has one preview token and one key, and a batch has one producer.
        self._context.do(command, author)
        (stored,) = self._context.log.load([command.device_id])
        return Written(stored)

    def _run(self) -> None:
        while True:
            jobs = [self._jobs.get(), *self._waiting(BATCH_MAX - 1)]
            # A batch has one author. Only neighbours are grouped, so that two authors' writes on a device stay in order.
            groups = [list(jobs_of_author) for _, jobs_of_author in itertools.groupby(jobs, key=lambda job: job.author)]
            for number, group in enumerate(groups):
                try:
                    self._write(group[0].author, group)
                except LogUnavailable as error:
                    # The next batch would wait for the same timeout, and each one after it: their requests fail now.
                    for job in itertools.chain(*groups[number:], self._waiting(self._jobs.qsize())):
                        job.finish(error)
                    break
                except Exception as error:  # noqa: BLE001 - each request answers its own; the thread lives on
                    for job in group:
                        job.finish(error)

    def _waiting(self, limit: int) -> list[_Job]:
        jobs: list[_Job] = []
        while len(jobs) < limit and not self._jobs.empty():
            jobs.append(self._jobs.get())
        return jobs

    def _write(self, author: Author, jobs: Sequence[_Job]) -> None:
        with self._context.producer(author) as producer:
            results = producer.submit_each([job.command for job in jobs])
        # Read after the write, once per batch: what an earlier request read could be older than what its caller has seen.
        twins = {job.command.device_id for job in jobs if isinstance(job.command, PatchTwin | ReplaceTwin)}
        without_own = frozenset[str]()
        # The write is done: without an answer, each request reads its own device's partition.
        with contextlib.suppress(LogUnavailable, CheckpointDamaged):
            without_own = self._context.fleet_projection.without_own(twins) if twins else without_own
        for job, result in zip(jobs, results, strict=True):
            if isinstance(result, Exception):
                job.finish(result)
            else:
                job.finish(Written(result, job.command.device_id not in without_own))
