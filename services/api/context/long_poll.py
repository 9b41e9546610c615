"""Long polls: devices that wait for their next change, by the thousand, without a thread each."""

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
from services.api.context.api_context import ApiContext

POLL_SECONDS = 0.1


class _Seen(msgspec.Struct):
    """How far a partition was read: its assignment changes, and how often desired properties were written by hand."""

    assignment_changes: int
    hand_writes: int
    hand_written: npt.NDArray[np.uint32]


class WaitingDevices:
    """Reads ten times a second what changed for the devices of every partition, and wakes those that wait for it."""

    def __init__(self, context: ApiContext) -> None:
        self._context = context
        self._waiting: dict[tuple[int, int], list[asyncio.Event]] = {}
        self._seen: dict[int, _Seen] = {}
        self.ended = False

    def __len__(self) -> int:
        return sum(map(len, self._waiting.values()))

    async def run(self) -> None:
        """Read until cancelled; retries while Redis does not answer."""
        postponed = Postponed(LogError)
        while True:
            with postponed.attempt("waking devices that wait"):
                changed, failure = await run_in_threadpool(self._changed)
                for number, ordinals in changed:
                    for (partition, ordinal), events in self._waiting.items():
                        if partition == number and ordinal in ordinals:
                            for event in events:
                                event.set()
                if failure is not None:
                    raise failure
            await asyncio.sleep(POLL_SECONDS)

    def _changed(self) -> tuple[list[tuple[int, BitMap]], LogError | None]:
        """The devices by partition that `_changed_in` names, and why a partition could not be read."""
        changed: list[tuple[int, BitMap]] = []
        failure: LogError | None = None
        for number in range(self._context.log.partitions):
            # Each for itself: what was read of one is noted as seen, and must wake its devices although the next one fails.
            try:
                ordinals = self._changed_in(number)
            except LogError as error:
                failure = error
                continue
            if ordinals:
                changed.append((number, ordinals))
        return changed, failure

    def _changed_in(self, number: int) -> BitMap:
        """The devices of a partition that got another assignment, or a desired property by hand, since its last read."""
        checkpoint = self._context.projections.checkpoint(number)
        seen = self._seen.get(number)
        if seen is None:
            self._seen[number] = _Seen(
                checkpoint.assignment_changes, checkpoint.hand_writes, self._hand_written(number)
            )
            return BitMap()
        ordinals, hand_written = BitMap(), seen.hand_written
        if checkpoint.assignment_changes > seen.assignment_changes:
            for recorded in self._context.recent_assignments.recorded(
                number, after=seen.assignment_changes, upto=checkpoint.assignment_changes
            ):
                ordinals |= BitMap().union(*(moved for _, moved in recorded.moves))
        if checkpoint.hand_writes != seen.hand_writes:
            hand_written = self._hand_written(number)
            # The array grows with new devices; the versions of those were 0 before.
            previous = np.zeros_like(hand_written)
            previous[: len(seen.hand_written)] = seen.hand_written[: len(previous)]
            ordinals |= BitMap(np.flatnonzero(hand_written != previous).astype(np.uint32))
        self._seen[number] = _Seen(checkpoint.assignment_changes, checkpoint.hand_writes, hand_written)
        return ordinals

    def _hand_written(self, number: int) -> npt.NDArray[np.uint32]:
        stored = self._context.projections.read(number, arrays=("hand_written",))
        return np.frombuffer(stored.arrays["hand_written"], dtype=np.uint32)

    def end(self) -> None:
        """Answer all devices that wait, and let no other wait: the process is about to end."""
        self.ended = True
        for events in self._waiting.values():
            for event in events:
                event.set()

    @contextlib.contextmanager
    def registered(self, partition: int, ordinal: int) -> Iterator[asyncio.Event]:
        """Yield an event that is set when something changes for the device.

        The caller reads the device after registering, and again after the event: a change before the registration sets none.
        """
        event = asyncio.Event()
        if self.ended:
            event.set()
        self._waiting.setdefault((partition, ordinal), []).append(event)
        try:
            yield event
        finally:
            left = [waiting for waiting in self._waiting.pop((partition, ordinal), []) if waiting is not event]
            if left:
                self._waiting[partition, ordinal] = left
