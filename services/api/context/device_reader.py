"""Reads of single devices for many requests at once: those that arrive while a batch is read form the next batch."""

import asyncio
from collections.abc import Callable, Sequence
from typing import TypeVar

from redis.cluster import RedisCluster
from starlette.concurrency import run_in_threadpool

from events.log.errors import LogUnavailable
from events.log.keys import partition_of
from events.projection_store.fleet_projection import Effective
from events.projection_store.port import StoredDevice
from services.api.context.api_context import ApiContext
from services.api.context.batches import Batches, Job, finish

BATCH_MAX = 16
"""Few, so that a read never waits for the configurations of many other devices."""

_BYTES_AT_ONCE_MAX = 16 * 1024
"""Larger configurations are decoded in a thread, in which no other request waits for them."""

R = TypeVar("R")


class _Read(Job[StoredDevice | None], frozen=True, eq=False):
    partition: int
    device_id: str


class DeviceReader:
    """One thread with one connection, which reads a batch of devices in one round trip.

    Each of these reads costs Redis the same few lookups. A read that may take longer has a thread of its own.
    """

    def __init__(self, context: ApiContext) -> None:
        self._context = context
        # Partitions of a cluster are on several servers: one that does not answer would hold up the devices of the others.
        self._has_batches = not isinstance(context.client, RedisCluster)
        self._batches = Batches(self._read_batch, name="device reader", jobs_max=BATCH_MAX)

    async def answer(self, context: ApiContext, device_id: str, answer: Callable[[Effective | None], R]) -> R:
        """What `answer` makes of a device with its effective configuration, in the present or past of a context.

        `answer` gets `None` for an unknown device. It runs in a thread if the configuration is large.

        Raises:
            LogUnavailable: Redis did not answer.
            As `answer`.
        """
        projection = context.fleet_projection
        if not self._has_batches or context.point_in_time is not None:
            return await run_in_threadpool(lambda: answer(projection.effective(device_id)))
        device = await self._device(device_id)
        if device is None:
            return answer(None)
        is_small = len(device.configuration) + len(device.own) <= _BYTES_AT_ONCE_MAX
        effective = projection.effective_from(device) if is_small else None
        if effective is not None:
            return answer(effective)
        return await run_in_threadpool(
            lambda: answer(projection.effective_from(device) or projection.effective(device_id))
        )

    async def _device(self, device_id: str) -> StoredDevice | None:
        answer: asyncio.Future[StoredDevice | None] = asyncio.get_running_loop().create_future()
        self._batches.add(_Read(answer, partition_of(device_id, self._context.log.partitions), device_id))
        return await answer

    def _read_batch(self, reads: list[_Read]) -> None:
        devices: Sequence[StoredDevice | Exception | None]
        try:
            devices = self._context.projections.devices([(read.partition, read.device_id) for read in reads])
        except LogUnavailable as error:
            # The next batch would wait for the same timeout, and each one after it: their requests fail now.
            reads += self._batches.take_waiting()
            devices = [error] * len(reads)
        except Exception:  # noqa: BLE001 - a damaged document is an error of its device alone, and lost scripts are sent again
            devices = [self._alone(read) for read in reads]
        finish(reads, devices)

    def _alone(self, read: _Read) -> StoredDevice | Exception | None:
        try:
            return self._context.projections.device(read.partition, read.device_id)
        except Exception as error:  # noqa: BLE001 - its request answers it
            return error
