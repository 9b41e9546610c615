"""Writing for many requests at once: what comes in while a batch is written goes out together in the next one."""

import asyncio
import itertools
import queue
import threading
from collections.abc import Sequence

import msgspec
from starlette.concurrency import run_in_threadpool

from events.device.commands import DeviceCommand
from events.log.errors import LogUnavailable
from events.log.port import Stored
from services.api.context.api_context import ApiContext
from services.api.context.callers import Author

BATCH_MAX = 256


class _Job(msgspec.Struct, frozen=True, eq=False):
    command: DeviceCommand
    author: Author
    loop: asyncio.AbstractEventLoop
    answer: "asyncio.Future[Stored]"

    def tell(self, told: Stored | Exception) -> None:
        self.loop.call_soon_threadsafe(self._settle, told)

    def _settle(self, told: Stored | Exception) -> None:
        if self.answer.done():
            return  # Whoever asked is gone.
        if isinstance(told, Exception):
            self.answer.set_exception(told)
        else:
            self.answer.set_result(told)


class BatchWriter:
    """One thread that decides, appends and reads back; the more requests there are, the larger its batches."""

    def __init__(self, context: ApiContext) -> None:
        self._context = context
        self._jobs: queue.SimpleQueue[_Job] = queue.SimpleQueue()
        threading.Thread(target=self._run, name="writer", daemon=True).start()

    async def do(self, command: DeviceCommand, author: Author) -> Stored:
        """Write a command on a device; answers what the log knows of the device after it.

        Raises:
            Exception: the error that refuses it, LogUnavailable or ConflictPersists.
        """
        if author.asked is not None or author.key is not None:
            return await run_in_threadpool(self._do_apart, command, author)
        loop = asyncio.get_running_loop()
        job = _Job(command, author, loop, loop.create_future())
        self._jobs.put(job)
        return await job.answer

    def _do_apart(self, command: DeviceCommand, author: Author) -> Stored:
        """What comes with a preview, or with a key, is written apart from what others send."""
        self._context.do(command, author)
        (stored,) = self._context.log.load([command.device_id])
        return stored

    def _run(self) -> None:
        while True:
            jobs = [self._jobs.get(), *self._waiting(BATCH_MAX - 1)]
            try:
                self._write_all(jobs)
            except Exception as error:  # noqa: BLE001 - each request answers its own; the thread lives on
                # Who has waited meanwhile would only wait as long again.
                if isinstance(error, LogUnavailable):
                    jobs += self._waiting(self._jobs.qsize())
                for job in jobs:
                    job.tell(error)

    def _waiting(self, limit: int) -> list[_Job]:
        found: list[_Job] = []
        while len(found) < limit and not self._jobs.empty():
            found.append(self._jobs.get())
        return found

    def _write_all(self, jobs: Sequence[_Job]) -> None:
        # A batch has one author; who writes on one device several times is written in order all the same.
        for author, some in itertools.groupby(jobs, key=lambda job: job.author):
            self._write(author, list(some))

    def _write(self, author: Author, jobs: Sequence[_Job]) -> None:
        with self._context.producer(author) as producer:
            report = producer.submit(job.command for job in jobs)
        errors = {one.index: one.error for one in report.refused}
        names = list(dict.fromkeys(job.command.device_id for job in jobs))
        stored = dict(zip(names, self._context.log.load(names), strict=True))
        for index, job in enumerate(jobs):
            job.tell(errors.get(index) or stored[job.command.device_id])
