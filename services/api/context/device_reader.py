"""Reads of single devices for many requests at once: those that arrive while a batch is read form the next batch."""

import asyncio
import queue
import threading
from collections.abc import Callable, Sequence
from typing import TypeVar

import msgspec
from redis.cluster import RedisCluster
from starlette.concurrency import run_in_threadpool

from events.log.errors import LogUnavailable
from events.log.keys import partition_of
from events.projection_store.fleet_projection import Effective
from events.projection_store.port import StoredDevice
from services.api.context.api_context import ApiContext

BATCH_MAX = 16
"""Few, so that a read never waits for the configurations of many other devices."""

_BYTES_AT_ONCE_MAX = 16 * 1024
"""Larger configurations are decoded in a thread, in which no other request waits for them."""

R = TypeVar("R")
_Result = StoredDevice | Exception | None


class _Read(msgspec.Struct, frozen=True, eq=False):
    partition: int
    device_id: str
    answer: "asyncio.Future[StoredDevice | None]"

    def settle(self, result: _Result) -> None:
        if self.answer.done():
            return  # The client closed the connection, and its request was cancelled.
        if isinstance(result, Exception):
            self.answer.set_exception(result)
        else:
            self.answer.set_result(result)


class DeviceReader:
    """One thread with one connection, which reads a batch of devices in one round trip.

    Each of these reads costs Redis the same few lookups. A read that may take longer has a thread of its own.
    """

    def __init__(self, context: ApiContext) -> None:
        self._context = context
        # Partitions of a cluster are on several servers: one that does not answer would hold up the devices of the others.
        self._has_batches = not isinstance(context.client, RedisCluster)
        self._reads: queue.SimpleQueue[_Read] = queue.SimpleQueue()
        if self._has_batches:
            threading.Thread(target=self._run, name="device reader", daemon=True).start()

    async def answer(self, context: ApiContext, device_id: str, answer: Callable[[Effective | None], R]) -> R:
        """What `answer` makes of a device with its effective configuration, in the present or past of a context.

        `answer` gets `None` for an unknown device. It runs in a thread if the configuration is large.

        Raises:
            LogUnavailable: Redis did not answer.
            As `answer`.
        """
        if self._has_batches and context.point_in_time is None:
            device = await self._device(device_id)
            if device is None:
                return answer(None)
            is_small = len(device.configuration) + len(device.own) <= _BYTES_AT_ONCE_MAX
            effective = context.fleet_projection.effective_from(device) if is_small else None
            if effective is not None:
                return answer(effective)
        return await run_in_threadpool(lambda: answer(context.fleet_projection.effective(device_id)))

    async def _device(self, device_id: str) -> StoredDevice | None:
        answer: asyncio.Future[StoredDevice | None] = asyncio.get_running_loop().create_future()
        self._reads.put(_Read(partition_of(device_id, self._context.log.partitions), device_id, answer))
        return await answer

    def _run(self) -> None:
        while True:
            reads = [self._reads.get()]
            while len(reads) < BATCH_MAX and not self._reads.empty():
                reads.append(self._reads.get())
            results = self._results(reads)
            # Once for a batch: each call wakes the event loop by a write to a pipe.
            reads[0].answer.get_loop().call_soon_threadsafe(_settle, reads, results)

    def _results(self, reads: list[_Read]) -> Sequence[_Result]:
        projections = self._context.projections
        try:
            return projections.devices([(read.partition, read.device_id) for read in reads])
        except LogUnavailable as error:
            # The next batch would wait for the same timeout, and each one after it: their requests fail now.
            reads += [self._reads.get() for _ in range(self._reads.qsize())]
            return [error] * len(reads)
        except Exception:  # noqa: BLE001 - a damaged document of one device is no error of another
            return [self._alone(read) for read in reads]

    def _alone(self, read: _Read) -> _Result:
        try:
            return self._context.projections.device(read.partition, read.device_id)
        except Exception as error:  # noqa: BLE001 - its request answers it
            return error


def _settle(reads: Sequence[_Read], results: Sequence[_Result]) -> None:
    for read, result in zip(reads, results, strict=True):
        read.settle(result)
