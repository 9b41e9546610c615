"""Decides commands as they would be decided, applies their events to copies of the partitions, and plans first steps of rollouts."""

import itertools
import threading
import time
from collections.abc import Callable, Mapping, Sequence

import msgspec
from pyroaring import BitMap

from events.access.scope import Scope
from events.deployment.events import Admitted
from events.envelope import Principal
from events.fleet.deployments import Deployments, deployment_of, targeting_events
from events.fleet.errors import CannotApply
from events.log.keys import FLEET, device_of
from events.log.port import AT_APPEND, Log, Proposed
from events.preview.errors import PreviewOvertaken
from events.preview.imagined_log import ImaginedEvents, ImaginedLog, imagined_events
from events.preview.implied import ImaginedMerge, Implied, imply
from events.preview.partition_cache import PartitionCache
from events.preview.preview_result import FirstStep, PreviewResult, result_of
from events.producer.errors import Command, Refused
from events.producer.producer import Producer
from events.producer.readiness import ReadinessPolicy
from events.producer.secrecy import NOTHING_PERSONAL
from events.projection.driver import EventsInMemory
from events.projection_store.fleet_snapshot import FleetSnapshotReader
from events.projection_store.port import ProjectionStore
from events.rollout import events as rollout
from events.rollout.fleet_snapshot import FleetSnapshot
from events.rollout.sets import NO_DEVICES, FleetSet
from events.rollout.state import ROLLOUT, RolloutDocument, RolloutState, decode, evolve
from events.secrets.personal import Personal
from events.secrets.secret_fields import holds_secrets, take

Within = Callable[[int], BitMap]


class Decided(msgspec.Struct, frozen=True, eq=False):
    """What would be written: the events, the commands that would be refused, and the log with those events."""

    events: ImaginedEvents
    refused: tuple[Refused, ...]
    log: ImaginedLog


class Trial:
    """A producer that writes nothing and stores no secret, and what it would have written. For one thread at a time."""

    def __init__(
        self,
        previewer: "Previewer",
        *,
        by: Principal,
        scope: Scope | None = None,
        deployments_max: int = 0,
        readiness_policy: ReadinessPolicy | None = None,
    ) -> None:
        self._previewer, self._by = previewer, by
        self.commands = list[Command]()
        """The commands that the producer was given, without those that it rejected at once."""
        self._numbers, self._secrets = itertools.count(), set[str]()
        self._imagined = ImaginedLog(previewer.log)
        self.producer = Producer(
            self._imagined,
            by=by,
            scope=scope,
            clock=previewer.clock,
            take_secrets=self._take_out,
            deployments_max=deployments_max,
            readiness_policy=readiness_policy,
        )

    def _take_out(self, command: Command) -> Command:
        """The command with references in place of its secrets; no secret has these references."""
        self.commands.append(command)
        self._previewer.personal.check(command)
        command, _ = self._previewer.personal.take(command, new_id=self._new_id)
        return take(command, new_id=self._new_id)[0] if holds_secrets(command) else command

    def _new_id(self) -> str:
        secret_id = f"imagined-{next(self._numbers)}"
        self._secrets.add(secret_id)
        return secret_id

    def decided(self, refused: Sequence[Refused] = ()) -> Decided:
        """What the producer would have written; `refused` are the commands that it rejected."""
        previewer, proposed = self._previewer, self._imagined.proposed
        events = imagined_events(previewer.log, proposed, by=self._by, at=previewer.clock(), new_secrets=self._secrets)
        return Decided(events, tuple(refused), self._imagined)


class Previewer:
    """Previews commands. Thread-safe."""

    def __init__(
        self,
        log: Log,
        projections: ProjectionStore,
        *,
        clock: Callable[[], int],
        pause: Callable[[float], None] = time.sleep,
        personal: Personal = NOTHING_PERSONAL,
    ) -> None:
        self.log, self.clock, self.personal = log, clock, personal
        self._recall = PartitionCache(log, projections, pause=pause)
        # A reader is for one thread at a time.
        self._reader, self._reading = FleetSnapshotReader(log, projections), threading.Lock()

    def result(self, decided: Decided, *, within: Within | None = None) -> PreviewResult:
        """What would follow from the events, at the head of every partition that they can change.

        Raises:
            PreviewBehind: the projections are behind the log that the commands were decided on, or blocked.
            PreviewOvertaken: the projections have newer events, from which these events do not follow.
            LogUnavailable: Redis did not answer.
        """
        try:
            implied = self.implied(decided.events)
        except CannotApply as error:
            raise PreviewOvertaken from error
        first = self._first_steps(decided.log.proposed, implied) if implied else []
        return result_of(implied, first=first, within=within)

    def implied(self, events: ImaginedEvents) -> list[Implied]:
        """What would follow in each partition that the events can change, at its head.

        Raises:
            CannotApply: the events do not follow from the partition's state.
        """
        # An event of the fleet can change every partition.
        numbers = sorted(set(range(self.log.partitions)) if events.of(FLEET) else events.by_stream.keys())
        if not numbers:
            return []
        recalled = self._recall.at(self.log.heads(), numbers)
        first = recalled[numbers[0]]
        after = Deployments(numbers[0])
        after.adopt(first.deployments)
        position = first.checkpoint.vector.fleet
        fleet = EventsInMemory(position, events.of(FLEET))
        changes = after.apply(targeting_events(fleet.upto(fleet.position, after=position)))
        deployments = [deployment for name in changes if (deployment := after.by_id.get(name)) is not None]
        deployments += [deployment for deployment in after.of_modules_ascending if deployment.id not in changes]
        targets = [deployment.target for deployment in deployments]
        # A deployment that the events delete or admit anew has devices to lose: those that its present admission names.
        admissions = [each.admission for by_id in (first.deployments.by_id, after.by_id) for each in by_id.values()]
        names = [name for each in admissions if isinstance(each, Admitted) for name in each.device_ids]
        upto = min(partition.checkpoint.vector.fleet for partition in recalled.values())
        merge = ImaginedMerge(self._recall.merge, fleet=upto)
        devices = {
            number: sorted({device_of(envelope.subject) for envelope in events.of(number)}) for number in numbers
        }
        ahead = self._recall.ahead(recalled, targets=targets, names=names, devices=devices)
        return [imply(number, recalled[number], ahead[number], events, merge) for number in numbers]

    def _first_steps(self, proposed: Sequence[Proposed], implied: Sequence[Implied]) -> list[FirstStep]:
        """The first step of each rollout of the proposals, taken now or when it starts, by the planner of the scheduler."""
        # A rollout's last proposal counts: its document is the one that the commands would leave.
        rollouts = {
            deployment_of(subject): (decode(data), isinstance(proposal.event, _REACHING))
            for proposal in proposed
            if isinstance(proposal.event, rollout.RolloutEvent)
            for subject, data in proposal.snapshots
            if subject.startswith(ROLLOUT) and data is not None
        }
        if not rollouts:
            return []
        now = self.clock()
        with self._reading:
            # Heads of 0: `PartitionCache` has already waited until the projections are at the head.
            self._reader.refresh(dict.fromkeys((FLEET, *range(self.log.partitions)), 0))
            return [
                self._first(name, document, implied, reaches_all=reaches_all, now=now)
                for name, (document, reaches_all) in sorted(rollouts.items())
            ]

    def _first(
        self, name: str, document: RolloutDocument, implied: Sequence[Implied], *, reaches_all: bool, now: int
    ) -> FirstStep:
        waits = document.state is RolloutState.CREATED
        if waits:
            started = evolve(document, rollout.RolloutStarted(), version=document.version + 1, at=now)
            assert started is not None
            document = started
        target = FleetSet({each.number: each.rollout_targets[name] for each in implied if name in each.rollout_targets})
        # The projections know nothing of a deployment that the commands create.
        exists = all(name in partition.deployment_ids_before for partition in implied)
        fleet_snapshot = self._reader.of(name, document) if exists else FleetSnapshot()
        judgement = self._reader.judge(name, document, msgspec.structs.replace(fleet_snapshot, target=target), now)
        devices = NO_DEVICES
        for event in judgement.events:
            if isinstance(event, rollout.DevicesAdmitted | rollout.DevicesRetried):
                devices |= FleetSet.of(event.devices)
            elif isinstance(event, rollout.RollbackBegan):
                devices |= fleet_snapshot.actual
        actions = [_ACTIONS[type(event)] for event in judgement.events if type(event) in _ACTIONS]
        says = ("once it is started, it " if waits else "it ") + (", ".join(actions) or f"waits: {judgement.says}")
        if document.created_at == AT_APPEND and devices != target:
            # The order of admission is drawn from the time of creation, which is not known yet (decisions/0028).
            says += ", or as many other devices: the order is drawn when the rollout is created"
        reached = target if reaches_all else devices
        return FirstStep(name, says, dict(devices.by_partition), dict(reached.by_partition))


# After these events a rollout goes on to its whole target by itself.
_REACHING = (rollout.RolloutCreated, rollout.RolloutStarted, rollout.RolloutResumed)
_ACTIONS: Mapping[type[object], str] = {
    rollout.DevicesAdmitted: "admits these devices first",
    rollout.DevicesRetried: "retries these devices",
    rollout.RollbackBegan: "rolls these devices back",
}
