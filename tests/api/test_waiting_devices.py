"""Devices that wait, while a part of Redis does not answer."""

import asyncio
import threading
from types import SimpleNamespace
from typing import Any

from pyroaring import BitMap

from events.log.errors import LogUnavailable
from services.api.context.long_poll import WaitingDevices
from tests import waiting


class _Projections:
    """Two partitions. Once the second does not answer, the first has a change."""

    def __init__(self) -> None:
        self.are_read, self.is_down = threading.Event(), False

    def checkpoint(self, number: int) -> Any:
        if number == 1 and self.is_down:
            raise LogUnavailable("its master does not answer")
        if number == 1:
            self.are_read.set()
        return SimpleNamespace(assignment_changes=int(self.is_down), hand_writes=0)

    def read(self, _number: int, **_what: Any) -> Any:
        return SimpleNamespace(arrays={"hand_written": b""})


def test_a_change_wakes_its_device_although_another_partition_cannot_be_read() -> None:
    projections, move = _Projections(), SimpleNamespace(moves=((None, BitMap([5])),))
    recent = SimpleNamespace(recorded=lambda *_where, **_range: [move])
    log = SimpleNamespace(partitions=2)
    context: Any = SimpleNamespace(log=log, projections=projections, recent_assignments=recent)

    async def wait() -> None:
        devices = WaitingDevices(context)
        with devices.registered(0, 5) as event:
            task = asyncio.create_task(devices.run())
            assert await asyncio.to_thread(projections.are_read.wait, waiting.seconds())
            projections.is_down = True
            await asyncio.wait_for(event.wait(), waiting.seconds())
            task.cancel()

    asyncio.run(wait())
