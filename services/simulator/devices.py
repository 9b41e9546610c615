"""Simulated devices: reads from the projections what they should run, and reports for them through the log."""

import contextlib
import heapq
import itertools
import time
from collections.abc import Callable, Iterable

import msgspec

from events.canonical import JsonObject
from events.fleet.assignments import NO_ASSIGNMENT, Assignment
from events.log.errors import LogUnavailable
from events.producer.producer import Producer
from events.projection_store.port import ProjectionSelection, ProjectionStore
from events.stored_projection.partition_reader import assignment_numbers, assignments_of
from events.stored_projection.stored_partition import all_device_ids
from services.simulator.behaviour import Behaviour, BehaviourKind
from services.simulator.report import Answer, answers, report

_HASHES = ("configurations", "ids", "assignments")
POLL_SECONDS = 0.1


class Device:
    """The memory of a simulated device: its assignment, the last one that it answered, and its modules."""

    __slots__ = ("answered", "assignment", "modules")

    def __init__(self) -> None:
        self.assignment, self.answered = NO_ASSIGNMENT, NO_ASSIGNMENT
        self.modules: frozenset[str] = frozenset()


class SimulatedDevices:
    """The devices of some partitions. One thread answers for all of them."""

    def __init__(
        self,
        projections: ProjectionStore,
        producer: Producer,
        *,
        partitions: Iterable[int],
        behaviour_of: Callable[[str], Behaviour],
    ) -> None:
        self._projections = projections
        self._producer = producer
        self._partitions = tuple(partitions)
        self._behaviour_of = behaviour_of
        self._devices: dict[str, Device] = {}
        self._due: list[tuple[float, str, int, Assignment, dict[str, JsonObject]]] = []
        self._numbers = itertools.count()

    def run(self, *, go_on: Callable[[], bool]) -> None:
        """Read assignments and answer them while `go_on` is true; retries while Redis does not answer."""
        while go_on():
            with contextlib.suppress(LogUnavailable):
                for number in self._partitions:
                    self._read(number)
                self._answer()
            time.sleep(POLL_SECONDS)

    def _read(self, number: int) -> None:
        stored = self._projections.read(number, ProjectionSelection(hashes=_HASHES, arrays=("assignment_of",)))
        if not stored.hashes["ids"]:
            return
        assignments = assignments_of(stored)
        assignment_of = assignment_numbers(stored)
        sections: dict[str, dict[str, JsonObject]] = {}
        for device_id, assignment_number in zip(
            all_device_ids(stored.hashes["ids"]), assignment_of.tolist(), strict=False
        ):
            assignment = assignments.get(assignment_number, NO_ASSIGNMENT)
            device = self._devices.get(device_id)
            if assignment.tells_the_same_as(NO_ASSIGNMENT if device is None else device.assignment):
                continue
            if device is None:
                device = self._devices[device_id] = Device()
            device.assignment = assignment
            digest = assignment.configuration
            if digest not in sections:
                sections[digest] = msgspec.json.decode(stored.hashes["configurations"].get(digest, b"{}"))
            behaviour = self._behaviour_of(device_id)
            if behaviour.kind is not BehaviourKind.SILENT:
                due_at = time.monotonic() + behaviour.delay_seconds
                # The number breaks ties: two assignments have no order.
                heapq.heappush(self._due, (due_at, device_id, next(self._numbers), assignment, sections[digest]))

    def _answer(self) -> None:
        now = time.monotonic()
        commands: list[Answer] = []
        while self._due and self._due[0][0] <= now:
            _, device_id, _, assignment, sections = heapq.heappop(self._due)
            device = self._devices[device_id]
            # A newer assignment arrived before the device answered this one.
            if device.assignment is not assignment:
                continue
            patch, device.modules = report(
                sections,
                version=assignment.agent_version,
                previous_modules=device.modules,
                kind=self._behaviour_of(device_id).kind,
            )
            commands += answers(device_id, assignment, patch, previous=device.answered)
            device.answered = assignment
        if commands:
            self._producer.submit(commands)
