"""A fleet in virtual time: recorded devices and commands, and the real scheduler, on a log and projections in memory."""

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
from events.fleet.assignments import MergeCache
from events.fleet.partition import Partition
from events.log.documents import FleetDocuments
from events.log.events import LogEvent
from events.log.fleet_events import FleetEventReader
from events.log.keys import FLEET
from events.log.memory import MemoryLog
from events.log.port import Event, Proposed
from events.producer.producer import Producer
from events.projection.driver import Driver, EventsInMemory
from events.projection_store.memory import MemoryProjectionStore
from events.rollout import commands, events
from events.rollout.state import ROLLOUT
from events.stored_projection.partition_codec import checkpoint_of, writes_of
from events.update.events import GroupEvent, UpdateEvent
from services.backtest.changes import Changes
from services.backtest.history import RecordedEntry, code_in, is_answer
from services.backtest.recorded_answers import RecordedAnswers
from services.backtest.timeline import Grant, Timeline, version_in
from services.scheduler.engine import AUTHOR, SchedulerEngine
from services.scheduler.scheduled_work import ScheduledWork

_DEVICE = Principal.parse("device:backtest")
_ALL = 10**9


class _Log(MemoryLog):
    """A log in memory that stores the fleet's events; those of `devices`, by partition, are dropped once they are applied."""

    def __init__(self, partitions: int) -> None:
        self.devices = [EventsInMemory(0) for _ in range(partitions)]
        super().__init__(partitions=partitions, epoch="backtest")

    @override
    def head(self, stream: int) -> int:
        """Position of the newest event of a stream."""
        return super().head(stream) if stream == FLEET else self.devices[stream].position


class _Due(msgspec.Struct, frozen=True):
    """An answer that a device is to send: an agent's report, or without `patch` that it received a module's section."""

    device: tuple[int, int]
    module_id: str
    version: int
    patch: dict[str, Any] | None


class VirtualFleet:
    """A whole system in one process. Its clock `now` (milliseconds) is set by the caller."""

    def __init__(
        self,
        partitions: int,
        really: Timeline,
        answers: RecordedAnswers,
        changes: Changes,
        fleet: Iterable[Envelope[Event]],
    ) -> None:
        """`really` and `answers` are what really happened.

        `fleet` are the recorded events of the fleet, whose conditions are indexed from the beginning.
        """
        self.timeline = Timeline()
        self.now = 0
        self.refused: list[str] = []
        """The recorded commands that the backtest refused, each with the reason."""
        self.unknown = 0
        """How often a device was given what it never had in reality, so that its answer is unknown."""
        self._really, self._answers, self._changes = really, answers, changes
        self._log, self._projections = _Log(partitions), MemoryProjectionStore()
        self._documents, self._documented = FleetDocuments(), 0
        self._fleet, self._acted = FleetEventReader(self._log), 0
        merge = MergeCache()
        self.partitions = [Partition(number, merge) for number in range(partitions)]
        self._drivers = [
            Driver(partition, events_ahead, self._fleet)
            for partition, events_ahead in zip(self.partitions, self._log.devices, strict=True)
        ]
        self._due: list[tuple[int, int, _Due]] = []
        self._numbers = itertools.count()
        self._engine = SchedulerEngine(
            self._log, self._projections, clock=lambda: self.now, settle=lambda _seconds: self._apply()
        )
        self._work = ScheduledWork(self._log)
        # Properties that conditions name are indexed before the first device is read. For a property that is named later
        # there are no documents to fill the index from, and the driver raises `PathsMissing` (decision 0053).
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
                yield Envelope(1, ROLLOUT + name, 1, 0, AUTHOR, "", events.RolloutCreated(deployed.plan, ""))

    # -- recorded entries

    def take(self, entry: RecordedEntry) -> None:
        """Apply a recorded event, unless it is one that the scheduler or a device produces anew in the backtest."""
        envelope = entry.event
        assert envelope is not None
        if entry.stream != FLEET:
            if not is_answer(envelope):
                self._log.devices[entry.stream].put(envelope)
        elif envelope.by != AUTHOR and not isinstance(envelope.event, LogEvent):
            event = self._changes.of(envelope)
            if event is not None:
                self._repeat(envelope, event)

    def add(self, name: str, *, at: int) -> None:
        """Create a deployment that the backtest adds at a time (milliseconds), and its rollout if it has a plan."""
        deployed = self._changes.deployments[name]
        self._do(deployed.command, AUTHOR, at=at)
        if deployed.plan is not None:
            self._do(commands.CreateRollout(name, deployed.plan), AUTHOR, at=at)
            self._do(commands.StartRollout(name), AUTHOR, at=at)

    def _repeat(self, envelope: Envelope[Event], event: Event) -> None:
        # Whether a command on a rollout is possible depends on the state that the backtest is in, so the decider must
        # judge it again. Events of deployments and groups are appended as they are: their own time orders a rollout.
        if isinstance(event, events.RolloutEvent) and not isinstance(
            event, events.RolloutCreated | events.RolloutDeleted
        ):
            command = _command_of(envelope.subject.removeprefix(ROLLOUT), event)
            if command is not None:
                self._do(command, envelope.by, at=envelope.at)
        elif isinstance(event, DeploymentEvent | events.RolloutEvent | UpdateEvent | GroupEvent):
            self._append(envelope, event)

    def _append(self, envelope: Envelope[Event], event: Event) -> None:
        self._document()
        subject = envelope.subject
        exists = self._documents.document(subject) is not None
        if (
            isinstance(event, DeploymentEvent | events.RolloutDeleted)
            and isinstance(event, DeploymentCreated) is exists
        ):
            self._refuse(type(event).__name__, subject, "it already exists" if exists else "it does not exist")
            return
        version = self._documents.head(subject).version
        # It keeps its own time, not that of the step: the order in which a rollout admits devices depends on its creation.
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
        """The time of the next answer of a device (milliseconds); `None` when none is due."""
        return self._due[0][0] if self._due else None

    @property
    def is_busy(self) -> bool:
        """Whether the scheduler can act without a new event: a deployment has a time, or a rollout is active."""
        self._work.refresh()
        return bool(self._work.timed) or any(rollout.is_active for rollout in self._work.rollouts.values())

    def step(self) -> None:
        """Send the answers that are due, apply all events, and run the scheduler until it writes no more."""
        while self._due and self._due[0][0] <= self.now:
            self._answer(heapq.heappop(self._due)[2])
        self._apply()
        while self._engine.tick():
            self._apply()

    def _answer(self, due: _Due) -> None:
        number, ordinal = due.device
        grant, module_id, patch = self.timeline.grants[due.device][-1], due.module_id, due.patch
        # A device that has another version by now, or is deleted, does not answer to the old one.
        if grant.versions.get(module_id) != due.version or ordinal not in self.partitions[number].directory.live:
            return
        device_id = self.partitions[number].directory.ids[ordinal]
        if patch is None:
            delivered = DesiredDelivered({module_id: due.version})
            self._log.devices[number].put(Envelope(0, device_id, 1, self.now, _DEVICE, "", delivered))
            return
        if version_in(patch) is not None:
            patch = {**patch, "lastDesiredVersion": due.version}
        self.timeline.answered(number, ordinal, grant, code_in(patch))
        subject = module_subject(device_id, module_id)
        self._log.devices[number].put(Envelope(0, subject, 1, self.now, _DEVICE, "", PropertiesReported(patch)))

    def _apply(self) -> None:
        self._fleet.refresh()
        for envelope in self._fleet.between(self._acted):
            self.timeline.acted(envelope)
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
        assert written, "the projections have a single writer"
        assert self._projections.checkpoint(partition.number) == checkpoint_of(partition)
        if assignment_change is not None:
            for ordinal, grant, changed in self.timeline.decided(partition.number, assignment_change, self.now):
                self._expect((partition.number, ordinal), grant, changed)

    def _expect(self, device: tuple[int, int], grant: Grant, changed: tuple[str, ...]) -> None:
        """Schedule the answers that the device really gave to the same configuration, each after the same delay."""
        answers_by_module = {
            name: self._answers.to(self._really, device, grant.configuration, name) for name in changed
        }
        self.unknown += not all(answers_by_module.values())
        for name, answers in answers_by_module.items():
            for answer in answers:
                due = _Due(device, name, grant.versions[name], answer.patch)
                # The number breaks ties: answers that are due at the same time cannot be compared.
                heapq.heappush(self._due, (self.now + answer.after_ms, next(self._numbers), due))


def _command_of(name: str, event: events.RolloutEvent) -> commands.RolloutCommand | None:
    """The command behind an event of a rollout; `None` for what the scheduler decided, or what is repeated as an event."""
    match event:
        case events.RolloutStarted():
            return commands.StartRollout(name)
        case events.RolloutPaused(reason):
            return commands.PauseRollout(name, reason)
        case events.RolloutResumed():
            return commands.ResumeRollout(name)
        case events.PhaseApproved(phase):
            return commands.ApprovePhase(name, phase)
        case events.PhasePassed(phase):
            return commands.SkipPhase(name, phase)
        case events.RetryAsked():
            return commands.RetryFailed(name)
        case events.RollbackAsked(reason):
            return commands.RollBack(name, reason)
        case events.RolloutAborted(reason):
            return commands.AbortRollout(name, reason)
        case events.RolloutCreated() | events.RolloutDeleted():
            return None
        case events.PhaseOpened() | events.DevicesAdmitted() | events.SoakBegan() | events.SoakBroken():
            return None
        case events.DevicesRetried() | events.RollbackBegan() | events.RollbackEnded():
            return None
        case events.RolloutCompleted() | events.ResultsRecorded():
            return None
        case _:
            assert_never(event)
