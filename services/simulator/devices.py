"""A crowd of simulated devices: sees what they should run in the views, and reports for them through the log."""

import heapq
import itertools
import time
from collections.abc import Callable, Iterable

import msgspec

from events.canonical import JsonObject
from events.fleet.rows import NO_ROW, Row
from events.log.errors import LogUnavailable
from events.producer.producer import Producer
from events.view_store.port import Selection, ViewStore
from events.views.reading import row_numbers, rows_of
from services.simulator.report import Answer, answers, report
from services.simulator.temperament import Habit, Temperament

_HASHES = ("configurations", "ids", "rows")
POLL_SECONDS = 0.1


class Device:
    """What one simulated device remembers."""

    __slots__ = ("answered", "given", "modules")

    def __init__(self) -> None:
        self.given, self.answered = NO_ROW, NO_ROW
        self.modules: frozenset[str] = frozenset()


class Crowd:
    """The devices of some partitions. One thread answers for all of them."""

    def __init__(
        self,
        views: ViewStore,
        producer: Producer,
        *,
        partitions: Iterable[int],
        habit_of: Callable[[str], Habit],
    ) -> None:
        self._views = views
        self._producer = producer
        self._partitions = tuple(partitions)
        self._habit_of = habit_of
        self._devices: dict[str, Device] = {}
        self._due: list[tuple[float, str, int, Row, dict[str, JsonObject]]] = []
        self._numbers = itertools.count()

    def run(self, *, go_on: Callable[[], bool]) -> None:
        """Look and answer until told to stop; a Redis that is away is waited for."""
        while go_on():
            try:
                for number in self._partitions:
                    self._look(number)
                self._answer()
            except LogUnavailable:
                pass
            time.sleep(POLL_SECONDS)

    def _look(self, number: int) -> None:
        kept = self._views.read(number, Selection(hashes=_HASHES, arrays=("row_of",)))
        if not kept.hashes["ids"]:
            return
        rows = rows_of(kept)
        row_of = row_numbers(kept)
        ids: list[str] = []
        for page in range(len(kept.hashes["ids"])):
            ids += msgspec.json.decode(kept.hashes["ids"][str(page)], type=list[str])
        sections: dict[str, dict[str, JsonObject]] = {}
        for device_id, row_number in zip(ids, row_of.tolist(), strict=False):
            row = rows.get(row_number, NO_ROW)
            device = self._devices.get(device_id)
            if row.tells_the_same_as(NO_ROW if device is None else device.given):
                continue
            if device is None:
                device = self._devices[device_id] = Device()
            device.given = row
            digest = row.configuration
            if digest not in sections:
                sections[digest] = msgspec.json.decode(kept.hashes["configurations"].get(digest, b"{}"))
            habit = self._habit_of(device_id)
            if habit.temperament is not Temperament.SILENT:
                due = (time.monotonic() + habit.delay_seconds, device_id, next(self._numbers), row, sections[digest])
                heapq.heappush(self._due, due)

    def _answer(self) -> None:
        now = time.monotonic()
        commands: list[Answer] = []
        while self._due and self._due[0][0] <= now:
            _, device_id, _, row, sections = heapq.heappop(self._due)
            device = self._devices[device_id]
            if device.given is not row:
                continue
            patch, device.modules = report(
                sections,
                version=row.agent_version,
                former=device.modules,
                temperament=self._habit_of(device_id).temperament,
            )
            commands += answers(device_id, row, patch, former=device.answered)
            device.answered = row
        if commands:
            self._producer.submit(commands)
