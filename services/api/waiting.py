"""Devices that wait for their next change, thousands of them, without a thread each."""

import asyncio
import contextlib
from collections.abc import Iterator, Sequence

from starlette.concurrency import run_in_threadpool

from events.log.errors import LogError
from events.processes.postponed import Postponed
from services.api.recent import Recorded
from services.api.room import Room

LOOK_SECONDS = 0.1


class Waiting:
    """Looks at every partition's outcomes ten times a second, and wakes whom they are about."""

    def __init__(self, room: Room) -> None:
        self._room = room
        self._waiting: dict[tuple[int, int], list[asyncio.Event]] = {}
        self._seen: dict[int, int] = {}
        self._ended = False

    def __len__(self) -> int:
        return sum(map(len, self._waiting.values()))

    async def run(self) -> None:
        """Look until cancelled; a Redis that is away is waited for."""
        postponed = Postponed(LogError)
        while True:
            try:
                for number, outcomes in await run_in_threadpool(self._look):
                    self._tell(number, outcomes)
                postponed.worked("waking devices that wait")
            except LogError as error:
                postponed.failed("waking devices that wait", error)
            await asyncio.sleep(LOOK_SECONDS)

    def _look(self) -> list[tuple[int, list[Recorded]]]:
        news = []
        for number in range(self._room.log.partitions):
            newest = self._room.views.checkpoint(number).outcomes
            seen = self._seen.get(number)
            self._seen[number] = newest
            if seen is not None and newest > seen:
                news.append((number, list(self._room.recent.recorded(number, after=seen, upto=newest))))
        return news

    def _tell(self, number: int, outcomes: Sequence[Recorded]) -> None:
        waiting = [key for key in self._waiting if key[0] == number]
        for recorded in outcomes:
            for change in recorded.changes:
                for key in waiting:
                    if key[1] in change.members:
                        for event in self._waiting.get(key, ()):
                            event.set()

    def end(self) -> None:
        """Let everybody go who waits, and nobody wait from here on: the process is about to end."""
        self._ended = True
        for events in self._waiting.values():
            for event in events:
                event.set()

    @contextlib.contextmanager
    def registered(self, partition: int, ordinal: int) -> Iterator[asyncio.Event]:
        """An event that an outcome about this device sets; whoever waits looks again before, and after."""
        event = asyncio.Event()
        if self._ended:
            event.set()
        self._waiting.setdefault((partition, ordinal), []).append(event)
        try:
            yield event
        finally:
            left = [one for one in self._waiting.pop((partition, ordinal), []) if one is not event]
            if left:
                self._waiting[partition, ordinal] = left
