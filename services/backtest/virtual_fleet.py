"""A fleet in virtual time: recorded devices and commands, and the real scheduler, on a log and projections in memory."""

import heapq
import itertools
from collections.abc import Callable
from typing import Any, NamedTuple, assert_never

import msgspec
from typing_extensions import override

from events.deployment.events import DeploymentCreated, DeploymentEvent
from events.device.events import DesiredDelivered, PropertiesReported
from events.device.identifiers import module_subject
from events.envelope import Envelope, Principal
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
from services.backtest.history import History, Recorded, RecordedEntry, code_in, is_answer
from services.backtest.timeline import Grant, Timeline, version_in
from services.scheduler.engine import AUTHOR, SchedulerEngine
from services.scheduler.scheduled_work import ScheduledWork

_DEVICE = Principal.parse("device:backtest")
_ALL = 10**9

ReportProgress = Callable[[int, int], None]
"""Called with the virtual time reached and the time of the end (milliseconds)."""


class _Log(MemoryLog):
    """A log in memory that stores the fleet's events; those of `devices`, by partition, are dropped once they are applied."""

    def __init__(self, partitions: int) -> None:
        self.devices = [EventsInMemory(0) for _ in range(partitions)]
        super().__init__(partitions=partitions, epoch="backtest")

    @override
    def head(self, stream: int) -> int:
        """Position of the newest event of a stream."""
        return super().head(stream) if stream == FLEET else self.devices[stream].position


class _Due(NamedTuple):
    """An answer that a device is to send: an agent's report, or without `patch` that it received a module's section."""

    at: int
    number: int
    """It breaks ties: answers that are due at the same time cannot be compared."""
    device: tuple[int, int]
    module_id: str
    version: int
    patch: dict[str, Any] | None


class VirtualFleet:
    """A whole system in one process, at the virtual time `now` (milliseconds)."""

    def __init__(self, history: History, recorded: Recorded, changes: Changes) -> None:
        """The conditions in all events of the history are indexed from the beginning."""
        self.timeline = Timeline()
        self.now = 0
        self.refused: list[str] = []
        """The recorded commands that the backtest refused, each with the reason."""
        self.unknown = 0
        """How often a device was given what it never had in reality, so that its answer is unknown."""
        self._history, self._recorded, self._changes = history, recorded, changes
        self._log, self._projections = _Log(history.partitions), MemoryProjectionStore()
        self._documents, self._documented = FleetDocuments(), 0
        self._fleet, self._acted = FleetEventReader(self._log), 0
        merge = MergeCache()
        self.partitions = [Partition(number, merge) for number in range(history.partitions)]
        self._drivers = [
            Driver(partition, events_ahead, self._fleet)
            for partition, events_ahead in zip(self.partitions, self._log.devices, strict=True)
        ]
        self._due: list[_Due] = []
        self._numbers = itertools.count()
        self._engine = SchedulerEngine(
            self._log, self._projections, clock=lambda: self.now, settle=lambda _seconds: self._apply()
        )
        # Properties that conditions name are indexed before the first device is read. For a property that is named later
        # there are no documents to fill the index from, and the driver raises `PathsMissing` (decision 0053).
        named = [
            msgspec.structs.replace(envelope, event=event)
            for envelope in history.fleet()
            if (event := changes.of(envelope)) is not None
        ]
        for name, deployed in changes.deployments.items():
            command = deployed.command
            created = DeploymentCreated(command.content, command.target_condition, command.priority)
            named.append(Envelope(1, name, 1, 0, AUTHOR, "", created))
            if deployed.plan is not None:
                rolled_out = events.RolloutCreated(deployed.plan, "")
                named.append(Envelope(1, ROLLOUT + name, 1, 0, AUTHOR, "", rolled_out))
        for partition in self.partitions:
            partition.hold_paths_of(named)

    def run(self, *, step_ms: int, tell: ReportProgress) -> None:
        """Move the virtual time to the end of the history, in steps of the scheduler; `tell` is called after each."""
        recorded_events, end, work = self._history.events(), self._recorded.end, ScheduledWork(self._log)
        waiting = next(recorded_events, None)
        replaced, deployments = {envelope.subject for envelope in self._history.fleet()}, self._changes.deployments
        added = sorted((deployed.at, name) for name, deployed in deployments.items() if name not in replaced)
        while True:
            coming = [
                self._due[0].at if self._due else None,
                waiting.at if waiting else None,
                added[0][0] if added else None,
            ]
            points_in_time = [point_in_time for point_in_time in coming if point_in_time is not None]
            # Only a time of a deployment or an active rollout needs the clock. Without one, time jumps to the next entry: a
            # year in which nothing is rolled out costs no rounds of the scheduler.
            work.refresh()
            if work.timed or any(rollout.is_active for rollout in work.rollouts.values()):
                points_in_time.append(self.now + step_ms)
            if not points_in_time or (now := max(self.now, min(points_in_time))) > end:
                return
            # Entries within one step are applied together, as the real scheduler sees them in one round.
            self.now = min(end, -(-now // step_ms) * step_ms)
            while waiting is not None and waiting.at <= self.now:
                while added and added[0][0] <= waiting.at:
                    self._add(added.pop(0)[1], at=waiting.at)
                self._take(waiting)
                waiting = next(recorded_events, None)
            while added and added[0][0] <= self.now:
                self._add(added.pop(0)[1], at=self.now)
            while self._due and self._due[0].at <= self.now:
                self._answer(heapq.heappop(self._due))
            self._apply()
            while self._engine.tick():
                self._apply()
            tell(self.now, end)
            if self.now >= end and waiting is None:
                return

    # -- recorded entries

    def _take(self, entry: RecordedEntry) -> None:
        """Apply a recorded event, unless it is one that the scheduler or a device produces anew in the backtest."""
        envelope = entry.event
        assert envelope is not None
        if entry.stream != FLEET:
            if not is_answer(envelope):
                self._log.devices[entry.stream].put(envelope)
            return
        if envelope.by == AUTHOR or isinstance(envelope.event, LogEvent):
            return
        event = self._changes.of(envelope)
        # Whether a command on a rollout is possible depends on the state that the backtest is in, so the decider must
        # judge it again. Events of deployments and groups are appended as they are: their own time orders a rollout.
        if isinstance(
            event, DeploymentEvent | events.RolloutCreated | events.RolloutDeleted | UpdateEvent | GroupEvent
        ):
            self._append(envelope, event)
        elif isinstance(event, events.RolloutEvent):
            command = _command_of(envelope.subject.removeprefix(ROLLOUT), event)
            if command is not None:
                self._do(command, envelope.by, at=envelope.at)

    def _add(self, name: str, *, at: int) -> None:
        """Create a deployment that the backtest adds at a time (milliseconds), and its rollout if it has a plan."""
        deployed = self._changes.deployments[name]
        self._do(deployed.command, AUTHOR, at=at)
        if deployed.plan is not None:
            self._do(commands.CreateRollout(name, deployed.plan), AUTHOR, at=at)
            self._do(commands.StartRollout(name), AUTHOR, at=at)

    def _append(self, envelope: Envelope[Event], event: Event) -> None:
        for earlier in self._log.read(FLEET, after=self._documented, limit=_ALL):
            self._documents.apply(earlier)
            self._documented = earlier.position
        subject = envelope.subject
        exists = self._documents.document(subject) is not None
        is_created = isinstance(event, DeploymentCreated)
        if is_created is exists and isinstance(event, DeploymentEvent | events.RolloutDeleted):
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

    # -- devices

    def _answer(self, due: _Due) -> None:
        _, _, device, module_id, version, patch = due
        number, ordinal = device
        grant, directory = self.timeline.grants[device][-1], self.partitions[number].directory
        # A device that has another version by now, or is deleted, does not answer to the old one.
        if grant.versions.get(module_id) != version or ordinal not in directory.live:
            return
        device_id = directory.ids[ordinal]
        if patch is None:
            delivered = DesiredDelivered({module_id: version})
            self._log.devices[number].put(Envelope(0, device_id, 1, self.now, _DEVICE, "", delivered))
            return
        if version_in(patch) is not None:
            patch = {**patch, "lastDesiredVersion": version}
        self.timeline.answered(number, ordinal, grant, code_in(patch))
        subject = module_subject(device_id, module_id)
        self._log.devices[number].put(Envelope(0, subject, 1, self.now, _DEVICE, "", PropertiesReported(patch)))

    def _apply(self) -> None:
        self._fleet.refresh()
        for envelope in self._fleet.between(self._acted):
            self.timeline.acted(envelope)
        self._acted = self._fleet.position
        for driver in self._drivers:
            vector, partition = driver.read_ahead(), driver.partition
            if vector == partition.vector:
                continue
            expected = self._projections.checkpoint(partition.number)
            change = driver.decide(vector)
            written = self._projections.commit(partition.number, writes_of(partition, change, expected=expected))
            assert written, "the projections have a single writer"
            assert self._projections.checkpoint(partition.number) == checkpoint_of(partition)
            if change is not None:
                for ordinal, grant, changed in self.timeline.decided(partition.number, change, self.now):
                    self._expect((partition.number, ordinal), grant, changed)

    def _expect(self, device: tuple[int, int], grant: Grant, changed: tuple[str, ...]) -> None:
        """Schedule the answers that the device really gave to the same configuration, each after the same delay."""
        answers_by_module = {name: self._recorded.answers(device, grant.configuration, name) for name in changed}
        self.unknown += not all(answers_by_module.values())
        for name, answers in answers_by_module.items():
            for answer in answers:
                at, version = self.now + answer.after_ms, grant.versions[name]
                heapq.heappush(self._due, _Due(at, next(self._numbers), device, name, version, answer.patch))


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
        case events.RolloutCreated() | events.RolloutDeleted() | events.RolloutCompleted() | events.ResultsRecorded():
            return None
        case events.PhaseOpened() | events.DevicesAdmitted() | events.SoakBegan() | events.SoakBroken():
            return None
        case events.DevicesRetried() | events.RollbackBegan() | events.RollbackEnded():
            return None
        case _:
            assert_never(event)
