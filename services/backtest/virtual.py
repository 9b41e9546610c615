"""The fleet in virtual time: its recorded devices, what people did, and the real scheduler, on a log and projections of its own."""

import heapq
import itertools
from collections.abc import Iterable
from typing import Any, assert_never

import msgspec
from typing_extensions import override

from events.deployment.events import DeploymentCreated, DeploymentEvent
from events.device.events import DesiredDelivered, PropertiesReported
from events.device.identifiers import module_subject
from events.envelope import Envelope, Principal, Vector
from events.fleet.merge_cache import MergeCache
from events.fleet.partition import Partition
from events.log.documents import FleetDocuments
from events.log.events import LogEvent
from events.log.fleet_events import FleetEventReader
from events.log.keys import FLEET
from events.log.memory import MemoryLog
from events.log.port import Event, Proposed
from events.producer.producer import Producer
from events.projection.driver import Driver
from events.projection.in_memory import EventsInMemory
from events.projection_store.memory import MemoryProjectionStore
from events.rollout.commands import (
    AbortRollout,
    ApprovePhase,
    CreateRollout,
    PauseRollout,
    ResumeRollout,
    RetryFailed,
    RollBack,
    RolloutCommand,
    SkipPhase,
    StartRollout,
)
from events.rollout.events import (
    DevicesAdmitted,
    DevicesRetried,
    PhaseApproved,
    PhaseOpened,
    PhasePassed,
    ResultsRecorded,
    RetryAsked,
    RollbackAsked,
    RollbackBegan,
    RollbackEnded,
    RolloutAborted,
    RolloutCompleted,
    RolloutCreated,
    RolloutDeleted,
    RolloutEvent,
    RolloutPaused,
    RolloutResumed,
    RolloutStarted,
    SoakBegan,
    SoakBroken,
)
from events.rollout.state import ROLLOUT
from events.stored_projection.partition_codec import checkpoint_of, writes_of
from events.update.events import GroupEvent, UpdateEvent
from services.backtest.changes import Changes
from services.backtest.course import Course, Given, version_in
from services.backtest.recorded import Happened, code_in, is_answer
from services.backtest.recorded_answers import RecordedAnswers
from services.scheduler.engine import AUTHOR, SchedulerEngine
from services.scheduler.scheduled_work import ScheduledWork

_DEVICE = Principal.parse("device:backtest")
_ALL = 10**9


class _Log(MemoryLog):
    """Events of the fleet alone: those of `devices`, by partition, are forgotten as soon as they are applied."""

    def __init__(self, partitions: int) -> None:
        self.devices = [EventsInMemory(0) for _ in range(partitions)]
        super().__init__(partitions=partitions, epoch="backtest")

    @override
    def head(self, stream: int) -> int:
        """Position of the newest event of a stream."""
        return super().head(stream) if stream == FLEET else self.devices[stream].position


class _Due(msgspec.Struct, frozen=True):
    """What a device is to answer: a report of a system module, or that it has a module's section (`patch` is `None`)."""

    location: tuple[int, int]
    module_id: str
    version: int
    patch: dict[str, Any] | None


class Virtual:
    """A twinfold of its own in one process; `now` (milliseconds) moves by `step` alone."""

    def __init__(
        self,
        partitions: int,
        really: Course,
        answers: RecordedAnswers,
        changes: Changes,
        fleet: Iterable[Envelope[Event]],
    ) -> None:
        """`really` and `answers` are what really happened.

        `fleet` are the recorded events of the fleet, whose conditions are indexed from the beginning.
        """
        self.course = Course()
        self.now = 0
        self.refused: list[str] = []
        """What people did that was not possible here, each with the reason."""
        self.unknown = 0
        """How often a device was given what it never had in reality, so that nobody knows what it would have said."""
        self._really, self._answers, self._changes = really, answers, changes
        self._log, self._projections = _Log(partitions), MemoryProjectionStore()
        self._documents, self._documented = FleetDocuments(), 0
        self._fleet, self._acted = FleetEventReader(self._log), 0
        merge = MergeCache()
        self.partitions = [Partition(number, merge) for number in range(partitions)]
        self._drivers = [
            Driver(partition, events, self._fleet)
            for partition, events in zip(self.partitions, self._log.devices, strict=True)
        ]
        self._due: list[tuple[int, int, _Due]] = []
        self._numbers = itertools.count()
        self._engine = SchedulerEngine(
            self._log, self._projections, clock=lambda: self.now, settle=lambda _seconds: self._apply()
        )
        self._status = ScheduledWork(self._log)
        named = [*self._changed(fleet), *self._own_events()]
        for partition in self.partitions:
            partition.hold_paths_of(named)

    def _changed(self, fleet: Iterable[Envelope[Event]]) -> Iterable[Envelope[Event]]:
        for envelope in fleet:
            if (event := self._changes.of(envelope)) is not None:
                yield msgspec.structs.replace(envelope, event=event)

    def _own_events(self) -> Iterable[Envelope[Event]]:
        for name, deployed in self._changes.deployments.items():
            command = deployed.command
            created = DeploymentCreated(command.content, command.target_condition, command.priority)
            yield Envelope(1, name, 1, 0, AUTHOR, "", created)
            if deployed.plan is not None:
                yield Envelope(1, ROLLOUT + name, 1, 0, AUTHOR, "", RolloutCreated(deployed.plan, ""))

    # -- what comes in

    def take(self, entry: Happened) -> None:
        """Take a recorded event in, as far as it is still one: what the scheduler and the agents did, they do anew."""
        envelope = entry.event
        assert envelope is not None
        if entry.stream != FLEET:
            if not is_answer(envelope):
                self._put(entry.stream, envelope)
        elif envelope.by != AUTHOR and not isinstance(envelope.event, LogEvent):
            event = self._changes.of(envelope)
            if event is not None:
                self._again(envelope, event)

    def add(self, name: str, *, at: int) -> None:
        """Create a deployment of the backtest's own at a time (milliseconds), and its rollout if it has a plan."""
        deployed = self._changes.deployments[name]
        self._do(deployed.command, AUTHOR, at=at)
        if deployed.plan is not None:
            self._do(CreateRollout(name, deployed.plan), AUTHOR, at=at)
            self._do(StartRollout(name), AUTHOR, at=at)

    def _put(self, number: int, envelope: Envelope[Any]) -> None:
        self._log.devices[number].put(envelope)

    def _again(self, envelope: Envelope[Event], event: Event) -> None:
        """What somebody did: deployments and groups as they did it, acts on a rollout as the commands that they were."""
        if isinstance(event, RolloutEvent) and not isinstance(event, RolloutCreated | RolloutDeleted):
            command = _command_of(envelope.subject.removeprefix(ROLLOUT), event)
            if command is not None:
                self._do(command, envelope.by, at=envelope.at)
        elif isinstance(event, DeploymentEvent | RolloutEvent | UpdateEvent | GroupEvent):
            self._append(envelope, event)

    def _append(self, envelope: Envelope[Event], event: Event) -> None:
        self._document()
        subject = envelope.subject
        exists = self._documents.document(subject) is not None
        if isinstance(event, DeploymentEvent | RolloutDeleted) and isinstance(event, DeploymentCreated) is exists:
            self._refuse(type(event).__name__, subject, "it is there already" if exists else "it is not there")
            return
        version = self._documents.head(subject).version
        # With its own time, and not the step's: the order in which a rollout takes devices comes from when it was made.
        again = msgspec.structs.replace(envelope, version=version + 1, event=event)
        self._documents.apply(again)
        self._documented += 1
        snapshot = (subject, self._documents.document(subject))
        proposed = Proposed(subject, version, event, (snapshot,))
        self._log.append(
            [proposed], command_id=f"recorded:{envelope.position}", by=envelope.by, at=envelope.at, cause=envelope.cause
        )

    def _do(self, command: Any, by: Principal, *, at: int) -> None:
        for refused in Producer(self._log, by=by, clock=lambda: at).submit([command]).refused:
            self._refuse(type(command).__name__, command.deployment_id, str(refused.error))

    def _refuse(self, what: str, subject: str, why: str) -> None:
        self.refused.append(f"{what} of {subject}: {why}")

    def _document(self) -> None:
        for envelope in self._log.read(FLEET, after=self._documented, limit=_ALL):
            self._documents.apply(envelope)
            self._documented = envelope.position

    # -- time

    @property
    def next_due(self) -> int | None:
        """When the next device is to answer."""
        return self._due[0][0] if self._due else None

    @property
    def is_busy(self) -> bool:
        """Whether the clock alone can make something happen."""
        self._status.refresh()
        return bool(self._status.timed) or any(rollout.is_active for rollout in self._status.rollouts.values())

    def step(self) -> None:
        """Let devices answer that are due, apply everything, and let the scheduler act until it has nothing more to do."""
        while self._due and self._due[0][0] <= self.now:
            self._answer(heapq.heappop(self._due)[2])
        self._apply()
        while self._engine.tick():
            self._apply()

    def _answer(self, due: "_Due") -> None:
        number, ordinal = due.location
        grant, module_id, patch = self.course.given[due.location][-1], due.module_id, due.patch
        # One that was given something else meanwhile, or is gone, says nothing about what it had.
        if grant.versions.get(module_id) != due.version or ordinal not in self.partitions[number].directory.live:
            return
        device_id = self.partitions[number].directory.ids[ordinal]
        if patch is None:
            delivered = DesiredDelivered({module_id: due.version})
            self._put(number, Envelope(0, device_id, 1, self.now, _DEVICE, "", delivered))
            return
        if version_in(patch) is not None:
            patch = {**patch, "lastDesiredVersion": due.version}
        self.course.answered(number, ordinal, grant, code_in(patch))
        subject = module_subject(device_id, module_id)
        self._put(number, Envelope(0, subject, 1, self.now, _DEVICE, "", PropertiesReported(patch)))

    def _apply(self) -> None:
        self._fleet.refresh()
        for envelope in self._fleet.between(self._acted):
            self.course.acted(envelope)
        self._acted = self._fleet.position
        for driver in self._drivers:
            vector = driver.read_ahead()
            if vector != driver.partition.vector:
                self._decide(driver, vector)

    def _decide(self, driver: Driver, vector: Vector) -> None:
        partition = driver.partition
        expected = self._projections.checkpoint(partition.number)
        assignment_change = driver.decide(vector)
        written = self._projections.commit(partition.number, writes_of(partition, assignment_change, expected=expected))
        assert written, "nobody else writes here"
        assert self._projections.checkpoint(partition.number) == checkpoint_of(partition)
        if assignment_change is not None:
            for ordinal, grant, changed in self.course.decided(partition.number, assignment_change, self.now):
                self._expect((partition.number, ordinal), grant, changed)

    def _expect(self, location: tuple[int, int], grant: Given, changed: tuple[str, ...]) -> None:
        """Have a device answer for what changed as it did when it really had the same."""
        answers_by_module = {
            name: self._answers.to(self._really, location, grant.configuration, name) for name in changed
        }
        self.unknown += not all(answers_by_module.values())
        for name, answers in answers_by_module.items():
            for answer in answers:
                due = _Due(location, name, grant.versions[name], answer.patch)
                heapq.heappush(self._due, (self.now + answer.after_ms, next(self._numbers), due))


def _command_of(name: str, event: RolloutEvent) -> RolloutCommand | None:
    """What somebody asked for, of whom an event of a rollout is; nothing where it followed by itself."""
    match event:
        case RolloutStarted():
            return StartRollout(name)
        case RolloutPaused(reason):
            return PauseRollout(name, reason)
        case RolloutResumed():
            return ResumeRollout(name)
        case PhaseApproved(phase):
            return ApprovePhase(name, phase)
        case PhasePassed(phase):
            return SkipPhase(name, phase)
        case RetryAsked():
            return RetryFailed(name)
        case RollbackAsked(reason):
            return RollBack(name, reason)
        case RolloutAborted(reason):
            return AbortRollout(name, reason)
        case RolloutCreated() | RolloutDeleted():
            return None
        case PhaseOpened() | DevicesAdmitted() | SoakBegan() | SoakBroken() | DevicesRetried():
            return None
        case RollbackBegan() | RollbackEnded() | RolloutCompleted() | ResultsRecorded():
            return None
        case _:
            assert_never(event)
