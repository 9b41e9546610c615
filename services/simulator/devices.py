"""A crowd of simulated devices: sees what they should run in the views, and reports for them through the log."""

import heapq
import time
from collections.abc import Callable, Iterable

import msgspec
import numpy as np

from events import ReportProperties
from events.canonical import JsonObject
from events.fleet.configuration import AGENT
from events.fleet.rows import Row
from events.log.errors import LogUnavailable
from events.producer.producer import Producer
from events.view_store.port import Selection, ViewStore
from services.simulator.report import report
from services.simulator.temperament import Habit, Temperament

_HASHES = ("configurations", "ids", "rows")
POLL_SECONDS = 0.1


class Device:
    """What one simulated device remembers."""

    __slots__ = ("agent_version", "modules")

    def __init__(self) -> None:
        self.agent_version = 0
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
        self._due: list[tuple[float, str, int, dict[str, JsonObject]]] = []

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
        rows = {int(name): msgspec.json.decode(data, type=Row) for name, data in kept.hashes["rows"].items()}
        versions = {name: row.agent_version for name, row in rows.items()}
        row_of = np.frombuffer(kept.arrays["row_of"], dtype=np.uint32)
        ids: list[str] = []
        for page in range(len(kept.hashes["ids"])):
            ids += msgspec.json.decode(kept.hashes["ids"][str(page)], type=list[str])
        sections: dict[str, dict[str, JsonObject]] = {}
        for device_id, row_number in zip(ids, row_of.tolist(), strict=False):
            version = versions.get(row_number, 0)
            device = self._devices.get(device_id)
            if version == 0 or (device is not None and device.agent_version == version):
                continue
            if device is None:
                device = self._devices[device_id] = Device()
            device.agent_version = version
            digest = rows[row_number].configuration
            if digest not in sections:
                sections[digest] = msgspec.json.decode(kept.hashes["configurations"][digest])
            habit = self._habit_of(device_id)
            if habit.temperament is not Temperament.SILENT:
                heapq.heappush(
                    self._due, (time.monotonic() + habit.delay_seconds, device_id, version, sections[digest])
                )

    def _answer(self) -> None:
        now = time.monotonic()
        commands = []
        while self._due and self._due[0][0] <= now:
            _, device_id, version, sections = heapq.heappop(self._due)
            device = self._devices[device_id]
            if device.agent_version != version:
                continue
            patch, device.modules = report(
                sections,
                version=version,
                former=device.modules,
                temperament=self._habit_of(device_id).temperament,
            )
            commands.append(ReportProperties(device_id=device_id, module_id=AGENT, patch=patch))
        if commands:
            self._producer.submit(commands)
