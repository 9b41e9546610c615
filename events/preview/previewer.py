"""Decides commands as they would be decided, and applies their events to copies of the partitions."""

import itertools
import time
from collections.abc import Callable, Iterable, Sequence

import msgspec
from pyroaring import BitMap

from events.access.scope import Scope
from events.deployment.events import Admitted
from events.envelope import Principal
from events.fleet.deployments import Deployment, Deployments, targeting_events
from events.fleet.errors import CannotApply
from events.log.keys import device_of
from events.log.port import Log, Proposed
from events.preview.admission import AdmissionPreview
from events.preview.errors import PreviewOvertaken
from events.preview.imagined_events import ImaginedEvents, imagined_events
from events.preview.imagined_log import ImaginedLog
from events.preview.implied import ImaginedMerge, Implied, imply
from events.preview.partition_cache import PartitionCache
from events.preview.preview_result import PreviewResult, result_of
from events.producer.errors import Command, Refused
from events.producer.producer import Producer
from events.producer.readiness import ReadinessPolicy
from events.producer.secrecy import NOTHING_PERSONAL
from events.projection.driver import EventsInMemory
from events.projection_store.port import ProjectionStore
from events.secrets.personal import Personal
from events.secrets.secret_fields import holds_secrets, take

Within = Callable[[int], BitMap]


class SecretPlaceholders:
    """Replaces the secrets of commands by references, and stores nothing."""

    def __init__(self, personal: Personal = NOTHING_PERSONAL) -> None:
        self.new: set[str] = set()
        self._personal = personal
        self._numbers = itertools.count()

    def take_out(self, command: Command) -> Command:
        """The command with references in place of its secrets; no secret has these references.

        Raises:
            ConditionInvalid, MetricsInvalid: it targets or counts by a personal tag.
        """
        self._personal.check(command)
        command, secrets = self._personal.take(command, new_id=self._new_id)
        self.new |= {secret.id for secret in secrets}
        if not holds_secrets(command):
            return command
        public_command, secrets, _ = take(command, new_id=self._new_id)
        self.new |= {secret.id for secret in secrets}
        return public_command

    def _new_id(self) -> str:
        return f"imagined-{next(self._numbers)}"


class Decided(msgspec.Struct, frozen=True, eq=False):
    """What would be written: the events, the commands that would be refused, and the log with those events."""

    proposed: tuple[Proposed, ...]
    events: ImaginedEvents
    refused: tuple[Refused, ...]
    log: ImaginedLog


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
        self._log, self._clock, self.personal = log, clock, personal
        self._recall = PartitionCache(log, projections, pause=pause)
        self._admitting = AdmissionPreview(log, projections)

    def decide(
        self,
        commands: Sequence[Command],
        *,
        by: Principal,
        scope: Scope | None = None,
        deployments_max: int = 0,
        readiness_policy: ReadinessPolicy | None = None,
    ) -> Decided:
        """Decide commands one after the other, each on the events of the ones before it.

        Raises:
            LogUnavailable: Redis did not answer.
        """
        log, taking = ImaginedLog(self._log), SecretPlaceholders(self.personal)
        producer = Producer(
            log,
            by=by,
            scope=scope,
            clock=self._clock,
            take_secrets=taking.take_out,
            deployments_max=deployments_max,
            readiness_policy=readiness_policy,
        )
        report = producer.submit(commands)
        events = self.events(log.proposed, by=by, new_secrets=taking.new)
        return Decided(tuple(log.proposed), events, report.refused, log)

    def events(self, proposed: Sequence[Proposed], *, by: Principal, new_secrets: Iterable[str] = ()) -> ImaginedEvents:
        """The events that the log would have for proposals."""
        return imagined_events(self._log, proposed, by=by, at=self._clock(), new_secrets=frozenset(new_secrets))

    def result(
        self, events: ImaginedEvents, proposed: Sequence[Proposed], *, within: Within | None = None
    ) -> PreviewResult:
        """What would follow from the events of proposals, at the head of every partition that they can change.

        Raises:
            PreviewBehind: the projections are behind the log that the commands were decided on, or blocked.
            PreviewOvertaken: the projections have newer events, from which these events do not follow.
            LogUnavailable: Redis did not answer.
        """
        try:
            implied = self.implied(events)
        except CannotApply as error:
            raise PreviewOvertaken from error
        first = self._admitting.first(proposed, implied, now=self._clock()) if implied else []
        return result_of(implied, first=first, within=within)

    def implied(self, events: ImaginedEvents) -> list[Implied]:
        """What would follow in each partition that the events can change, at its head.

        Raises:
            CannotApply: the events do not follow from the partition's state.
        """
        # An event of the fleet can change every partition.
        numbers = sorted(set(range(self._log.partitions)) if events.fleet else events.by_stream.keys())
        if not numbers:
            return []
        recalled = self._recall.at(self._log.heads(), numbers)
        first = recalled[numbers[0]]
        after = Deployments(numbers[0])
        after.adopt(first.deployments)
        position = first.checkpoint.vector.fleet
        fleet = EventsInMemory(position, events.fleet)
        changes = after.apply(targeting_events(fleet.upto(fleet.position, after=position)))
        deployments = [deployment for name in changes if (deployment := after.by_id.get(name)) is not None]
        deployments += [deployment for deployment in after.of_modules_ascending if deployment.id not in changes]
        targets = [deployment.target for deployment in deployments]
        # A deployment that the events delete or admit anew has devices to lose: those that its present admission names.
        names = list(_named([*first.deployments.by_id.values(), *after.by_id.values()]))
        upto = min(partition.checkpoint.vector.fleet for partition in recalled.values())
        merge = ImaginedMerge(self._recall.merge, fleet=upto)
        devices = {
            number: sorted({device_of(envelope.subject) for envelope in events.of(number)}) for number in numbers
        }
        ahead = self._recall.ahead(recalled, targets=targets, names=names, devices=devices)
        return [imply(number, recalled[number], ahead[number], events, merge) for number in numbers]


def _named(deployments: Iterable[Deployment]) -> Iterable[str]:
    """The devices that admissions of deployments name."""
    for deployment in deployments:
        if isinstance(deployment.admission, Admitted):
            yield from deployment.admission.device_ids
