"""Devices that wait for their next change, thousands of them, without a thread each."""

import asyncio
import contextlib
from collections.abc import Iterator

import msgspec
import numpy as np
import numpy.typing as npt
from pyroaring import BitMap
from starlette.concurrency import run_in_threadpool

from events.log.errors import LogError
from events.processes.postponed import Postponed
from events.projection_store.port import ProjectionSelection
from services.api.context.api_context import ApiContext

POLL_SECONDS = 0.1


class _Seen(msgspec.Struct):
    """How far a partition was looked at: its assignment changes, and how often desired properties were written by hand."""

    assignment_changes: int
    hand_writes: int
    hand_written: npt.NDArray[np.uint32]


class WaitingDevices:
    """Looks ten times a second at what every partition's devices are told, and wakes those that it changed for."""

    def __init__(self, context: ApiContext) -> None:
        self._context = context
        self._waiting: dict[tuple[int, int], list[asyncio.Event]] = {}
        self._seen: dict[int, _Seen] = {}
        self.ended = False

    def __len__(self) -> int:
        return sum(map(len, self._waiting.values()))

    async def run(self) -> None:
        """Look until cancelled; a Redis that is away is waited for."""
        postponed = Postponed(LogError)
        while True:
            try:
                for number, ordinals in await run_in_threadpool(self._look):
                    self._tell(number, ordinals)
                postponed.worked("waking devices that wait")
            except LogError as error:
                postponed.failed("waking devices that wait", error)
            await asyncio.sleep(POLL_SECONDS)

    def _look(self) -> list[tuple[int, BitMap]]:
        """By partition, whom something was decided for, or written by hand, since the last look."""
        news = []
        for number in range(self._context.log.partitions):
            checkpoint = self._context.projections.checkpoint(number)
            seen = self._seen.get(number)
            if seen is None:
                self._seen[number] = _Seen(
                    checkpoint.assignment_changes, checkpoint.hand_writes, self._hand_written(number)
                )
                continue
            ordinals = BitMap()
            if checkpoint.assignment_changes > seen.assignment_changes:
                for recorded in self._context.recent.recorded(
                    number, after=seen.assignment_changes, upto=checkpoint.assignment_changes
                ):
                    ordinals |= BitMap().union(*(change.members for change in recorded.changes))
                seen.assignment_changes = checkpoint.assignment_changes
            if checkpoint.hand_writes != seen.hand_writes:
                hand_written = self._hand_written(number)
                former = np.zeros_like(hand_written)
                former[: len(seen.hand_written)] = seen.hand_written[: len(former)]
                ordinals |= BitMap(np.flatnonzero(hand_written != former).astype(np.uint32))
                seen.hand_writes, seen.hand_written = checkpoint.hand_writes, hand_written
            if ordinals:
                news.append((number, ordinals))
        return news

    def _hand_written(self, number: int) -> npt.NDArray[np.uint32]:
        kept = self._context.projections.read(number, ProjectionSelection(arrays=("hand_written",)))
        return np.frombuffer(kept.arrays["hand_written"], dtype=np.uint32)

    def _tell(self, number: int, ordinals: BitMap) -> None:
        for (partition, ordinal), events in self._waiting.items():
            if partition == number and ordinal in ordinals:
                for event in events:
                    event.set()

    def end(self) -> None:
        """Let everybody go who waits, and nobody wait from here on: the process is about to end."""
        self.ended = True
        for events in self._waiting.values():
            for event in events:
                event.set()

    @contextlib.contextmanager
    def registered(self, partition: int, ordinal: int) -> Iterator[asyncio.Event]:
        """An event that is set when the device is told something else; whoever waits looks again before, and after."""
        event = asyncio.Event()
        if self.ended:
            event.set()
        self._waiting.setdefault((partition, ordinal), []).append(event)
        try:
            yield event
        finally:
            left = [one for one in self._waiting.pop((partition, ordinal), []) if one is not event]
            if left:
                self._waiting[partition, ordinal] = left
