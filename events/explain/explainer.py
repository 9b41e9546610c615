"""Everything that an explanation needs of one device, read from the log and the projections."""

import msgspec

from events.canonical import JsonObject
from events.device import state
from events.device.identifiers import SYSTEM_MODULES
from events.device.state import DeviceDocument, section
from events.envelope import Vector
from events.explain.assessment import contests, weigh
from events.explain.audience import Audience
from events.explain.cause import Cause, deciding_properties
from events.explain.deployment_history import DeploymentHistory, admission_of
from events.explain.device_report import SETS_OF_HEALTH, device_report
from events.explain.explanation import Explanation, LastAssignmentChange
from events.explain.trace import DeviceTrace, trace
from events.explain.verdict import ExplainedDevice, JudgedTwin, LoggedDeployment, Standpoint, Weighed
from events.fleet.assignment_change import AssignmentChange
from events.fleet.assignments import NO_ASSIGNMENT
from events.log.device_documents import module_documents
from events.log.fleet_documents import deployments, deployments_of, rollouts_of
from events.log.keys import FLEET, partition_of
from events.log.port import Log
from events.log.raw import RawStreams
from events.projection_store.fleet_projection import Effective, FleetProjection
from events.projection_store.port import ProjectionSelection, ProjectionStore
from events.projection_store.twins import modules_of
from events.stored_projection.not_applied import NOT_APPLIED_HASHES
from events.stored_projection.stored_partition import StoredPartition

ENTRIES_MAX = 20_000
"""How many entries of the device's partition are read backwards for the events behind a verdict, unless the caller sets it."""


class Explainer:
    """Reads everything that an explanation needs; it caches nothing between calls."""

    def __init__(
        self,
        log: Log,
        fleet_projection: FleetProjection,
        projections: ProjectionStore,
        *,
        streams: RawStreams,
        history: DeploymentHistory,
    ) -> None:
        self._log, self._fleet_projection, self._projections = log, fleet_projection, projections
        self._streams, self._history = streams, history

    def explain(
        self, device_id: str, *, deployment: str | None = None, entries_max: int = ENTRIES_MAX
    ) -> Explanation | None:
        """Returns a device's explanation; `None` if no device of that id ever existed.

        With `deployment`, other deployments are assessed only if they are part of the device's assignment. `entries_max` is how
        many entries of the device's partition are searched for the events behind the verdicts.

        Raises:
            LogUnavailable: Redis did not answer.
            UnreadableEvent, LogLostItsTail: events behind the verdicts cannot be read.
        """
        (stored,) = self._log.load([device_id])
        if stored.snapshot is None:
            return None
        document = state.decode_device(stored.snapshot)
        number = partition_of(device_id, self._log.partitions)
        head = Vector(self._log.head(number), self._log.head(FLEET))
        subject = _subject(device_id, document)
        if document.retired:
            at = Standpoint(number, self._projections.checkpoint(number).vector, head)
            explanation = Explanation(device_id, document, subject, at)
        else:
            explanation = self._weighed(device_id, document, subject, head, deployment)
        assignments = (explanation.standpoint.assignment, explanation.change.was)
        named = {*explanation.deployments, *(layer.id for assignment in assignments for layer in assignment.layers)}
        return msgspec.structs.replace(
            explanation,
            blocked=self._projections.blocked(number),
            traced=self._trace(explanation, entries_max),
            histories={name: self._history.of(name, upto=head.fleet) for name in named},
        )

    def _weighed(
        self, device_id: str, document: DeviceDocument, subject: ExplainedDevice, head: Vector, deployment: str | None
    ) -> Explanation:
        number = partition_of(device_id, self._log.partitions)
        effective, stored = self._read(number, device_id)
        logged_deployments = self._deployments(None if deployment is None else {deployment, *_named_by(effective)})
        at = Standpoint(number, stored.checkpoint.vector, head)
        if effective is not None:
            at = msgspec.structs.replace(at, ordinal=effective.ordinal, assignment=effective.assignment)
        sections = {} if effective is None else effective.sections
        subject = self._with_modules(subject, document, sections)
        return Explanation(
            device_id,
            document,
            subject,
            at,
            logged_deployments,
            weigh(subject, at, stored, logged_deployments),
            contests(at.assignment, {name: logged.document.content for name, logged in logged_deployments.items()}),
            effective,
            reported=device_report(
                *module_documents(self._log, device_id, document, SYSTEM_MODULES),
                assignment=at.assignment,
                sections=sections,
                stored=stored,
                ordinal=at.ordinal,
            ),
            change=LastAssignmentChange() if effective is None else self._change(effective, number),
        )

    def _change(self, effective: Effective, number: int) -> LastAssignmentChange:
        position = effective.assignment_change
        # Position 0: the device never had an assignment change.
        for entry in self._projections.assignment_changes(number, after=position - 1, limit=1) if position else ():
            assignment_change = msgspec.json.decode(entry.data, type=AssignmentChange)
            was = next(
                (move.before for move in assignment_change.moves if effective.ordinal in move.ordinals()), NO_ASSIGNMENT
            )
            return LastAssignmentChange(
                entry.position, entry.at, entry.cause, was, assignment_change.before, assignment_change.after
            )
        return LastAssignmentChange(position, effective.at, effective.cause)

    def _trace(self, explanation: Explanation, entries_max: int) -> DeviceTrace:
        at, change = explanation.standpoint, explanation.change
        return trace(
            self._streams,
            explanation.device_id,
            deciding_properties(explanation.subject, explanation.weighed),
            partitions=self._log.partitions,
            upto=at.head.partition,
            decided=at.vector.partition,
            span=(change.before.partition, change.after.partition),
            entries_max=entries_max,
        )

    def causes(self, explanation: Explanation, weighed: Weighed, audience: Audience) -> tuple[Cause, ...]:
        """Returns the events behind a verdict that the caller may know.

        Raises:
            LogUnavailable: Redis did not answer.
        """
        logged, at, admission = explanation.deployments[weighed.id], explanation.standpoint, None
        is_rolled_out = logged.rollout is not None and audience.may_know_rollout(logged)
        if weighed.applies and is_rolled_out and at.ordinal is not None:
            history = explanation.histories[weighed.id]
            admission = admission_of(self._log, history, number=at.number, ordinal=at.ordinal)
        return explanation.causes_of_verdict(weighed, audience, admission)

    def _deployments(self, names: set[str] | None) -> dict[str, LoggedDeployment]:
        """The deployments with these names in the log; all deployments for `None`."""
        # A colon marks other documents of the fleet, such as `rollout:north`.
        named = sorted(name for name in names or () if ":" not in name)
        documents = dict(deployments(self._log)) if names is None else deployments_of(self._log, named)
        rollouts = rollouts_of(self._log, documents)
        return {name: LoggedDeployment(document, rollouts.get(name)) for name, document in documents.items()}

    def _read(self, number: int, device_id: str) -> tuple[Effective | None, StoredPartition]:
        """The device and the target sets of its partition, both as of one vector."""
        selection = ProjectionSelection(
            (*NOT_APPLIED_HASHES, "undelivered"), (("sets", SETS_OF_HEALTH),), ("answer_runtimes",)
        )
        # Two reads: a worker can write between them, and a mixture would show a verdict that never held.
        while True:
            effective = self._fleet_projection.effective(device_id)
            stored = self._projections.read(number, selection)
            if effective is None or effective.checkpoint.vector == stored.checkpoint.vector:
                return effective, stored

    def _with_modules(
        self, subject: ExplainedDevice, document: DeviceDocument, sections: dict[str, JsonObject]
    ) -> ExplainedDevice:
        device_id = subject.twin.device_id
        names = sorted(modules_of(document, sections))
        modules = zip(names, module_documents(self._log, device_id, document, names), strict=True)
        twins = {
            name: JudgedTwin(device_id)
            if module is None
            else JudgedTwin(device_id, section(module.tags), section(module.reported))
            for name, module in modules
        }
        return msgspec.structs.replace(subject, modules=twins)


def _named_by(effective: Effective | None) -> set[str]:
    """The deployments that are part of a device's assignment, or that would be if they were not over a limit."""
    if effective is None:
        return set()
    assignment = effective.assignment
    parts = (assignment.own_part, *assignment.module_parts.values())
    return {
        layer.id
        for layers in (assignment.layers, assignment.wanted, *(part.wanted for part in parts))
        for layer in layers
    }


def _subject(device_id: str, document: DeviceDocument) -> ExplainedDevice:
    twin = JudgedTwin(device_id, section(document.tags), section(document.reported))
    return ExplainedDevice(twin, document.edge, document.enabled)
