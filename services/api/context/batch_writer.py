"""Writes for many requests at once: commands that arrive while a batch is written form the next batch."""

import asyncio
import contextlib
import itertools
from collections.abc import Callable, Sequence

import msgspec
from starlette.concurrency import run_in_threadpool

from events.device.commands import DeviceCommand, PatchTwin, ReplaceTwin
from events.log.errors import LogUnavailable
from events.log.port import Stored
from events.projection_store.port import CheckpointDamaged
from services.api.context.api_context import ApiContext
from services.api.context.batches import Batches, Job, finish
from services.api.context.callers import Author

BATCH_MAX = 256


class Written(msgspec.Struct, frozen=True):
    """A device's document after a write; `may_have_own`: a configuration may give something to its own twin."""

    document: Stored
    may_have_own: bool = True


class _Write(Job[Written], frozen=True, eq=False):
    command: DeviceCommand
    author: Author


class BatchWriter:
    """One thread that decides and appends; the more requests there are, the larger its batches."""

    def __init__(self, context: ApiContext) -> None:
        self._context = context
        self._batches = Batches(self._write_batch, name="writer", jobs_max=BATCH_MAX)

    async def do(self, command: DeviceCommand, author: Author) -> Written:
        """Write a command on a device.

        Raises:
            The refusal, LogUnavailable, ConflictPersists.
        """
        if author.preview_request is not None or author.key is not None:
            return await run_in_threadpool(self._do_apart, command, author)
        answer: asyncio.Future[Written] = asyncio.get_running_loop().create_future()
        self._batches.add(_Write(answer, command, author))
        return await answer

    def _do_apart(self, command: DeviceCommand, author: Author) -> Written:
        # A producer has one preview token and one key, and a batch has one producer.
        self._context.do(command, author)
        (stored,) = self._context.log.load([command.device_id])
        return Written(stored)

    def _write_batch(self, writes: list[_Write]) -> None:
        # A batch has one author. Only neighbours are grouped, so that two authors' writes on a device stay in order.
        groups = [
            list(writes_of_author) for _, writes_of_author in itertools.groupby(writes, key=lambda write: write.author)
        ]
        for number, group in enumerate(groups):
            try:
                results = self._written(group)
            except LogUnavailable as error:
                # The next batch would wait for the same timeout, and each one after it: their requests fail now.
                failed = [*itertools.chain(*groups[number:]), *self._batches.take_waiting()]
                finish(failed, [error] * len(failed))
                break
            except Exception as error:  # noqa: BLE001 - each request answers its own; the thread lives on
                finish(group, [error] * len(group))
            else:
                finish(group, results)

    def _written(self, writes: Sequence[_Write]) -> list[Written | Exception]:
        # Sent before the write, so that no answer waits for it. It has whatever a caller saw before its request.
        without_own = self._begin_without_own(writes)
        try:
            with self._context.producer(writes[0].author) as producer:
                results = producer.submit_each([write.command for write in writes])
        finally:
            devices = without_own()
        return [
            result if isinstance(result, Exception) else Written(result, write.command.device_id not in devices)
            for write, result in zip(writes, results, strict=True)
        ]

    def _begin_without_own(self, writes: Sequence[_Write]) -> Callable[[], frozenset[str]]:
        """The devices of writes on twins that have nothing from a configuration, where that can be read.

        Of the others, each request reads its own device's partition.
        """
        twins = {write.command.device_id for write in writes if isinstance(write.command, PatchTwin | ReplaceTwin)}
        if not twins:
            return frozenset
        try:
            answer = self._context.fleet_projection.begin_without_own(twins)
        except LogUnavailable:
            return frozenset

        def without_own() -> frozenset[str]:
            with contextlib.suppress(LogUnavailable, CheckpointDamaged):
                return answer()
            return frozenset()

        return without_own
