"""Long polls: devices that wait for their next change, by the thousand, without a thread each."""

import asyncio
import contextlib
from collections.abc import Iterator, Sequence

import msgspec
import numpy as np
import numpy.typing as npt
from prometheus_client import Gauge
from pyroaring import BitMap
from starlette.concurrency import run_in_threadpool

from events.log.keys import name
from events.processes.postponed import Postponed
from services.api.context.api_context import ApiContext
from services.api.context.commit_signals import COMMITS, CommitSignals
from services.api.context.recent_assignments import ASSIGNMENT_CHANGES_MAX


class _LastRead(msgspec.Struct):
    """How far a partition was read: its assignment changes, and how often desired properties were written by hand."""

    assignment_changes: int
    hand_writes: int
    hand_written: npt.NDArray[np.uint32]


class WaitingDevices:
    """Reads what changed for the devices of a partition after each of its commits, and wakes those that wait for it."""

    def __init__(self, context: ApiContext) -> None:
        self._context = context
        self._waiting: dict[int, dict[int, list[asyncio.Event]]] = {}
        self._signals = CommitSignals(context.client, partitions=context.log.partitions, of=(COMMITS,))
        self._last_reads: dict[int, _LastRead] = {}
        # Whatever goes wrong: without its read no device that waits would be answered before its time is over.
        self._postponed = Postponed(Exception)
        self.ended = False
        self.gauge = Gauge(
            "twinfold_waiting_devices", "Devices that wait for a change.", registry=None, multiprocess_mode="livesum"
        )

    async def run(self) -> None:
        """Read until cancelled; a partition that cannot be read is read again later."""
        self._signals.start()
        while True:
            if partitions := await self._signals.next() & self._waiting.keys():
                changed = await run_in_threadpool(self._changed, sorted(partitions))
                for number, ordinals in changed.items():
                    self._wake(number, ordinals)
                if unread := partitions - changed.keys():
                    self._signals.repeat(unread)
            await self._signals.pause()

    def _wake(self, partition: int, ordinals: BitMap | None) -> None:
        """Wake the waiting devices of these ordinals, or all of the partition."""
        by_ordinal = self._waiting.get(partition, {})
        for ordinal, events in by_ordinal.items():
            if ordinals is None or ordinal in ordinals:
                for event in events:
                    event.set()

    def _changed(self, partitions: Sequence[int]) -> dict[int, BitMap | None]:
        """What changed in each partition, as `_changed_in`, without the partitions that could not be read."""
        changed: dict[int, BitMap | None] = {}
        for number in partitions:
            # Each for itself: what was read of one partition is not read again, and must wake its devices although the next fails.
            with self._postponed.attempt(f"waking devices that wait in {name(number)}"):
                changed[number] = self._changed_in(number)
        return changed

    def _changed_in(self, number: int) -> BitMap | None:
        """The devices of a partition that got another assignment, or a desired property by hand, since its last read.

        `None` in place of the devices if that was too long ago: each of them reads its own version.
        """
        checkpoint = self._context.projections.checkpoint(number)
        last_read = self._last_reads.get(number)
        if last_read is None or checkpoint.assignment_changes - last_read.assignment_changes > ASSIGNMENT_CHANGES_MAX:
            self._last_reads[number] = _LastRead(
                checkpoint.assignment_changes, checkpoint.hand_writes, self._hand_written(number)
            )
            return None
        ordinals, hand_written = BitMap(), last_read.hand_written
        if checkpoint.assignment_changes > last_read.assignment_changes:
            for recorded in self._context.recent_assignments.recorded(
                number, after=last_read.assignment_changes, upto=checkpoint.assignment_changes
            ):
                ordinals |= BitMap().union(*(moved for _, moved in recorded.moves))
        if checkpoint.hand_writes != last_read.hand_writes:
            hand_written = self._hand_written(number)
            # The array grows with new devices; the versions of those were 0 before.
            previous = np.zeros_like(hand_written)
            previous[: len(last_read.hand_written)] = last_read.hand_written[: len(previous)]
            ordinals |= BitMap(np.flatnonzero(hand_written != previous).astype(np.uint32))
        self._last_reads[number] = _LastRead(checkpoint.assignment_changes, checkpoint.hand_writes, hand_written)
        return ordinals

    def _hand_written(self, number: int) -> npt.NDArray[np.uint32]:
        stored = self._context.projections.read(number, arrays=("hand_written",))
        return np.frombuffer(stored.arrays["hand_written"], dtype=np.uint32)

    def end(self) -> None:
        """Answer all devices that wait, and let no other wait: the process is about to end."""
        self.ended = True
        for partition in self._waiting:
            self._wake(partition, None)

    @contextlib.contextmanager
    def registered(self, partition: int, ordinal: int) -> Iterator[asyncio.Event]:
        """Yield an event that is set when something changes for the device.

        The caller reads the device after registering, and again after the event: a change before the registration sets none.
        """
        event = asyncio.Event()
        if self.ended:
            event.set()
        self._waiting.setdefault(partition, {}).setdefault(ordinal, []).append(event)
        try:
            with self.gauge.track_inprogress(), self._signals.needed():
                yield event
        finally:
            by_ordinal = self._waiting[partition]
            by_ordinal[ordinal] = [waiting for waiting in by_ordinal[ordinal] if waiting is not event]
            if not by_ordinal[ordinal]:
                del by_ordinal[ordinal]
            if not by_ordinal:
                del self._waiting[partition]
