"""Devices that wait, while a part of Redis does not answer."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from pyroaring import BitMap

from events.log.errors import LogUnavailable
from services.api.context.commit_signals import CommitSignals
from services.api.context.long_poll import WaitingDevices


class _Projections:
    """Two partitions; the second one can be made unreachable."""

    def __init__(self) -> None:
        self.changes, self.is_down = 0, False

    def checkpoint(self, number: int) -> Any:
        if number == 1 and self.is_down:
            raise LogUnavailable("its master does not answer")
        return SimpleNamespace(assignment_changes=self.changes, hand_writes=0)

    def read(self, _number: int, **_what: Any) -> Any:
        return SimpleNamespace(arrays={"hand_written": b""})


def test_a_change_wakes_its_device_although_another_partition_cannot_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    projections, calls = _Projections(), list[frozenset[int]]()
    move = SimpleNamespace(moves=((None, BitMap([5])),))
    recent = SimpleNamespace(recorded=lambda *_where, **_range: [move])
    log = SimpleNamespace(partitions=2)
    context: Any = SimpleNamespace(client=None, log=log, projections=projections, recent_assignments=recent)
    monkeypatch.setattr(CommitSignals, "start", lambda _signals: None)

    async def next_signal(_signals: CommitSignals) -> frozenset[int]:
        calls.append(frozenset({0, 1}))
        if len(calls) == 2:
            projections.changes, projections.is_down = 1, True
        elif len(calls) > 2:
            await asyncio.sleep(60)
        return calls[-1]

    monkeypatch.setattr(CommitSignals, "next", next_signal)

    async def wait() -> None:
        waiting = WaitingDevices(context)
        with waiting.registered(0, 5) as event, waiting.registered(1, 5):
            task = asyncio.create_task(waiting.run())
            await asyncio.wait_for(event.wait(), 5)
            event.clear()
            await asyncio.wait_for(event.wait(), 5)
            task.cancel()

    asyncio.run(wait())
