"""A fleet in virtual time: the real log contract, workers' projector, projections and scheduler in one process, and devices that report."""

import heapq
import itertools
import random
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import msgspec

from events import canonical
from events.deployment.commands import CreateDeployment
from events.deployment.events import NotStarted
from events.device.commands import PatchTags, RegisterDevice
from events.envelope import Principal
from events.fleet.assignments import NO_ASSIGNMENT, Assignment, AssignmentChange
from events.log.keys import FLEET
from events.log.memory import MemoryLog
from events.log.port import Proposed
from events.producer.errors import Command
from events.producer.producer import Producer
from events.projection_store.fleet_projection import FleetProjection
from events.projection_store.fleet_snapshot import FleetSnapshotReader
from events.projection_store.memory import MemoryProjectionStore
from events.rollout import state as rollout_state
from events.rollout.commands import CreateRollout, StartRollout
from events.rollout.events import RecordedCounts, RolloutEvent
from events.rollout.plan import RolloutPlan
from events.rollout.planner import Judgement
from events.rollout.rollout_counts import rollout_counts
from events.rollout.state import RolloutDocument
from events.stored_projection.partition_reader import ids_of
from services.scheduler.engine import SchedulerEngine
from tests.workers.system import answers_to, base
from workers.projector import Projector

PARTITIONS = 4
MINUTE, HOUR, DAY = 60_000, 3_600_000, 86_400_000
START = 1_763_726_400_000
"""2025-11-21T12:00:00Z"""

Behave = Callable[[str, str], tuple[int, int] | None]
"""(device, configuration) → (milliseconds until it answers, code), or `None` for silence."""


def well(_device: str, _configuration: str) -> tuple[int, int] | None:
    """Every device answers after half a minute that all is well."""
    return MINUTE // 2, 200


class Simulation:
    """The open ends of a simulated twinfold; `now` only moves by `run`, `step` and tests."""

    def __init__(self, devices: int = 0, *, behave: Behave = well, seed: int = 1, tags: Any = None) -> None:
        self.log, self.projections = MemoryLog(partitions=PARTITIONS), MemoryProjectionStore()
        self.fleet_projection = FleetProjection(self.projections, partitions=PARTITIONS)
        self.now = START
        self.behave = behave
        self.random = random.Random(seed)  # noqa: S311
        self._projector = Projector(self.log, self.projections, clock=lambda: self.now)
        self._seen = [0] * PARTITIONS
        self._ids: dict[int, list[str]] = {}
        self._reports: list[tuple[int, str, int, Assignment, int]] = []
        self._numbers = itertools.count()
        self._latest: dict[str, Assignment] = {}
        self.clock_back = 0
        self.fence: int | None = None
        self.stopped: frozenset[int] = frozenset()
        """Partitions whose worker does not run."""
        numbers = iter(range(10**9))
        self.producers = {
            by: Producer(self.log, by=Principal.parse(by), clock=lambda: self.now, ids=lambda: f"test:{next(numbers)}")
            for by in ("user:ada", "user:bo", "device:any")
        }
        self.engine = self.fresh_engine()
        names = [f"d{number}" for number in range(devices)]
        self.do(*(RegisterDevice(name) for name in names))
        self.do(*(PatchTags(name, tags(number)) for number, name in enumerate(names) if tags is not None))
        self.drain()

    def fresh_engine(self) -> SchedulerEngine:
        """A scheduler that knows nothing yet, as after a restart."""
        return SchedulerEngine(
            self.log, self.projections, clock=lambda: self.now - self.clock_back, settle=lambda _seconds: self.drain()
        )

    def do(self, *commands: Command, by: str = "user:ada") -> None:
        """Write commands; every one must go through."""
        self.producers[by].submit(commands).raise_if_refused()

    def create(self, name: str, plan: RolloutPlan, *, condition: str = "*", start: bool = True, **more: Any) -> None:
        """A deployment that is rolled out."""
        content = more.pop("content", base("m", image=f"example.com/{name}:1"))
        self.do(
            CreateDeployment(name, content, condition, more.pop("priority", 10), admission=NotStarted(), **more),
            CreateRollout(name, plan),
        )
        if start:
            self.do(StartRollout(name))

    def drain(self) -> None:
        """Let the workers apply everything, and the devices hear of it."""
        for number in sorted(set(range(PARTITIONS)) - self.stopped):
            while not self._projector.drain(number, go_on=lambda: True):
                pass
            self._hear(number)

    def _hear(self, number: int) -> None:
        for entry in self.projections.assignment_changes(number, after=self._seen[number], limit=10**6):
            self._seen[number] = entry.position
            for move in msgspec.json.decode(entry.data, type=AssignmentChange).moves:
                if move.after.tells_the_same_as(move.before):
                    continue
                for name in self._names(number, move.ordinals()):
                    answered = self.behave(name, ",".join(layer.id for layer in move.after.stack))
                    self._latest[name] = move.after
                    if answered is not None:
                        delay, code = answered
                        heapq.heappush(self._reports, (self.now + delay, name, next(self._numbers), move.after, code))

    def _names(self, number: int, ordinals: Iterable[int]) -> list[str]:
        names = self._ids.get(number, [])
        if any(ordinal >= len(names) for ordinal in ordinals):
            stored_partition = self.projections.load(number)
            every = range(stored_partition.checkpoint.ordinals)
            names = self._ids[number] = list(ids_of(every, stored_partition))  # type: ignore[arg-type]
        return [names[ordinal] for ordinal in ordinals]

    def report(self, name: str, code: int = 200, *, hub: int = 200, **statuses: str) -> None:
        """A device says now how it is, for the assignment that it heard of last."""
        self.do(
            *answers_to(
                name, self._latest.get(name, NO_ASSIGNMENT), code=code, hub=hub, **(statuses or {"m": "running"})
            ),
            by="device:any",
        )

    def step(self, milliseconds: int = MINUTE) -> int:
        """Let time pass, devices answer, workers apply, and the scheduler act once; answers how much it wrote."""
        self.now += milliseconds
        due: list[Command] = []
        while self._reports and self._reports[0][0] <= self.now:
            _, name, _, assignment, code = heapq.heappop(self._reports)
            due += answers_to(name, assignment, code=code, m="running" if code == 200 else "failed")
        if due:
            # One that was retired meanwhile is not heard any more.
            self.producers["device:any"].submit(due)
        self.drain()
        written = self.engine.tick(self.fence)
        self.drain()
        return written

    def run(self, *, until: Callable[[], bool], step: int = MINUTE, most: int = 10_000) -> None:
        """Step until something holds."""
        for _ in range(most):
            if until():
                return
            self.step(step)
        raise AssertionError("it never came to that")

    def document(self, name: str) -> RolloutDocument:
        """A rollout as it stands."""
        (stored,) = self.log.load([rollout_state.subject_of(name)], fleet=True)
        assert stored.snapshot is not None
        return rollout_state.decode(stored.snapshot)

    def judged(self, name: str) -> Judgement:
        """What the scheduler thinks of a rollout now."""
        self.drain()
        reader = FleetSnapshotReader(self.log, self.projections)
        reader.refresh(reader.heads())
        return reader.judged(name, self.document(name), self.now)

    def counts(self, name: str) -> RecordedCounts:
        """The counts of a rollout now."""
        self.drain()
        reader = FleetSnapshotReader(self.log, self.projections)
        assert reader.refresh(reader.heads())
        document = self.document(name)
        return rollout_counts(document, reader.of(name, document), self.now).counts

    def append_event(self, name: str, event: RolloutEvent, command_id: str) -> None:
        """An event of a rollout as the scheduler would write it."""
        subject, before = rollout_state.subject_of(name), self.document(name)
        after = rollout_state.evolve(before, event, version=before.version + 1, at=self.now)
        assert after is not None
        proposed = Proposed(subject, before.version, event, ((subject, canonical.encode(after)),))
        self.log.append([proposed], command_id=command_id, by=Principal.parse("system:scheduler"), at=self.now)

    def events(self, name: str) -> Sequence[RolloutEvent]:
        """What happened to a rollout."""
        subject = rollout_state.subject_of(name)
        return [
            envelope.event for envelope in self.log.read(FLEET, after=0, limit=10**6) if envelope.subject == subject
        ]  # type: ignore[misc]

    def kinds(self, name: str) -> list[str]:
        """The same by name."""
        return [type(event).__name__ for event in self.events(name)]

    def running(self, name: str) -> set[str]:
        """Who has a deployment."""
        return set(self.fleet_projection.members(name, "actual"))
