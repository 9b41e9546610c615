"""Simulated devices: reads from the projections what they should run, and reports for them through the log."""

import contextlib
import heapq
import itertools
import time
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import msgspec

from events import AcknowledgeDesired, ReportProperties
from events.canonical import JsonObject
from events.fleet.assignments import NO_ASSIGNMENT, Assignment
from events.fleet.configuration import AGENT, HUB
from events.log.errors import LogUnavailable
from events.producer.producer import Producer
from events.projection_store.port import ProjectionStore
from events.stored_projection.partition_reader import assignment_numbers, assignments_of
from events.stored_projection.stored_partition import all_device_ids

POLL_SECONDS = 0.1
OK = 200
FAILED = 500

_PROMPT_SECONDS = 0.2
_SLOW_SECONDS = 2.0

Answer = ReportProperties | AcknowledgeDesired


class Device:
    """A simulated device: its assignment, the last one that it answered, its modules, and how it behaves.

    1 device in 100 answers slowly, 1 in 100 fails, the others answer soon.
    """

    __slots__ = ("answered", "assignment", "delay_seconds", "fails", "modules")

    def __init__(self, device_id: str) -> None:
        self.assignment, self.answered = NO_ASSIGNMENT, NO_ASSIGNMENT
        self.modules: frozenset[str] = frozenset()
        # A checksum, as Python's hash() of a text differs in each process: the same id behaves the same in every run.
        draw = zlib.crc32(device_id.encode())
        self.fails = draw % 100 == 1
        self.delay_seconds = (_SLOW_SECONDS if draw % 100 == 0 else _PROMPT_SECONDS) * (1 + (draw >> 16) / 0xFFFF)


class SimulatedDevices:
    """The devices of some partitions. One thread answers for all of them but the silent ones."""

    def __init__(
        self, projections: ProjectionStore, producer: Producer, *, partitions: Iterable[int], silent: frozenset[str]
    ) -> None:
        self._projections, self._producer = projections, producer
        self._partitions, self._silent = tuple(partitions), silent
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
        stored = self._projections.read(
            number, hashes=("configurations", "ids", "assignments"), arrays=("assignment_of",)
        )
        if not stored.hashes["ids"]:
            return
        assignments = assignments_of(stored)
        sections: dict[str, dict[str, JsonObject]] = {}
        numbers = assignment_numbers(stored).tolist()
        for device_id, assignment_number in zip(all_device_ids(stored.hashes["ids"]), numbers, strict=False):
            assignment = assignments.get(assignment_number, NO_ASSIGNMENT)
            device = self._devices.get(device_id)
            if assignment.tells_the_same_as(NO_ASSIGNMENT if device is None else device.assignment):
                continue
            if device is None:
                device = self._devices[device_id] = Device(device_id)
            device.assignment = assignment
            digest = assignment.configuration
            if digest not in sections:
                sections[digest] = msgspec.json.decode(stored.hashes["configurations"].get(digest, b"{}"))
            if device_id not in self._silent:
                due_at = time.monotonic() + device.delay_seconds
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
            patch, device.modules = _report(
                sections, version=assignment.agent_version, previous_modules=device.modules, fails=device.fails
            )
            commands += _answers(device_id, assignment, patch, previous=device.answered)
            device.answered = assignment
        if commands:
            self._producer.submit(commands)


def _answers(device_id: str, assignment: Assignment, patch: JsonObject, *, previous: Assignment) -> Iterator[Answer]:
    """The answers (contract/edge.md §1.2) for each section that changed; `patch` is what `_report` returned."""
    if assignment.agent_version != previous.agent_version:
        yield ReportProperties(device_id=device_id, module_id=AGENT, patch=patch)
    hub = assignment.versions.get(HUB, 0)
    if hub != previous.versions.get(HUB, 0):
        answered = {"lastDesiredVersion": hub, "lastDesiredStatus": {"code": OK, "description": ""}}
        yield ReportProperties(device_id=device_id, module_id=HUB, patch=answered)
    if assignment.deliverable != previous.deliverable:
        yield AcknowledgeDesired(device_id=device_id, versions=assignment.deliverable)


def _report(
    sections: Mapping[str, JsonObject], *, version: int, previous_modules: frozenset[str], fails: bool
) -> tuple[JsonObject, frozenset[str]]:
    """The merge patch to the `$edgeAgent` twin's reported properties, and the names of the modules that it reports.

    `previous_modules` are the modules reported before; a module that is gone is removed with a null. A failing device answers
    500 if it has modules to run, and its first module has failed.
    """
    agent = sections.get(AGENT, {})
    modules = agent.get("modules") or {}
    failing = fails and bool(modules)
    statuses = {name: str(module.get("status", "running")) for name, module in modules.items()}
    if failing:
        statuses[min(statuses)] = "failed"
    reported: dict[str, Any] = {name: {"runtimeStatus": status} for name, status in statuses.items()}
    reported |= dict.fromkeys(previous_modules - statuses.keys())
    system = agent.get("systemModules") or {}
    patch = {
        "schemaVersion": "1.1",
        "lastDesiredVersion": version,
        "lastDesiredStatus": {"code": FAILED, "description": "a module did not start"}
        if failing
        else {"code": OK, "description": ""},
        "systemModules": {key: {"runtimeStatus": "running"} for key in ("edgeAgent", "edgeHub") if key in system},
        "modules": reported,
    }
    return patch, frozenset(statuses)
