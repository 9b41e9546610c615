"""Everything that an explanation needs of one device, read from the log and the projections."""

import msgspec

from events.canonical import JsonObject
from events.device import state
from events.device.identifiers import SYSTEM_MODULES
from events.device.state import DeviceDocument, section
from events.envelope import Vector
from events.explain import cause
from events.explain.assessment import contests, weigh
from events.explain.deployment_history import DeploymentHistory, admission_of
from events.explain.device_report import SETS_OF_HEALTH, device_report
from events.explain.explanation import Explanation, LastAssignmentChange
from events.explain.trace import trace
from events.explain.verdict import ExplainedDevice, LoggedDeployment, Standpoint, Weighed
from events.fleet.assignments import NO_ASSIGNMENT, AssignmentChange
from events.log.device_documents import module_documents
from events.log.fleet_documents import deployments, deployments_of, rollouts_of
from events.log.keys import FLEET, partition_of
from events.log.port import Log
from events.log.raw import RawStreams
from events.projection_store.fleet_projection import Effective, FleetProjection
from events.projection_store.port import ProjectionStore
from events.projection_store.twins import modules_of
from events.query.evaluate import QueryRow, twin_row
from events.stored_projection.not_applied import NOT_APPLIED_HASHES
from events.stored_projection.stored_partition import StoredPartition

ENTRIES_MAX = 20_000
"""How many entries of the device's partition are read backwards for the events behind a verdict, unless the caller sets it."""


class Explainer(msgspec.Struct, frozen=True):
    """Reads everything that an explanation needs; it caches nothing between calls."""

    log: Log
    fleet_projection: FleetProjection
    projections: ProjectionStore
    streams: RawStreams
    history: DeploymentHistory

    def explain(
        self, device_id: str, *, now: int, scope: str | None, deployment: str | None, entries_max: int
    ) -> Explanation | None:
        """Returns a device's explanation; `None` if no device of that id ever existed.

        With `deployment`, other deployments are assessed only if they are part of the device's assignment. `entries_max` is how
        many entries of the device's partition are searched for the events behind the verdicts.

        Raises:
            LogUnavailable: Redis did not answer.
            UnreadableEvent, LogLostItsTail: events behind the verdicts cannot be read.
        """
        (stored,) = self.log.load([device_id])
        if stored.snapshot is None:
            return None
        document = state.decode_device(stored.snapshot)
        number = partition_of(device_id, self.log.partitions)
        head = Vector(self.log.head(number), self.log.head(FLEET))
        if document.retired:
            row = twin_row(device_id, section(document.tags), section(document.reported))
            subject = ExplainedDevice(row, document.edge, document.enabled)
            at = Standpoint(number, self.projections.checkpoint(number).vector, head)
            explanation = Explanation(device_id, document, subject, at)
        else:
            explanation = self._weighed(device_id, document, number, head, deployment)
        at, change = explanation.standpoint, explanation.change
        layers = (*at.assignment.layers, *change.was.layers)
        named = {*explanation.deployments, *(layer.id for layer in layers)}
        traced = trace(
            self.streams,
            device_id,
            cause.deciding_properties(explanation.subject, explanation.weighed),
            partitions=self.log.partitions,
            upto=head.partition,
            decided=at.vector.partition,
            span=(change.before.partition, change.after.partition),
            entries_max=entries_max,
        )
        return msgspec.structs.replace(
            explanation,
            blocked=self.projections.blocked(number),
            traced=traced,
            histories={name: self.history.of(name, upto=head.fleet) for name in named},
            scope=scope,
            now=now,
        )

    def _weighed(
        self, device_id: str, document: DeviceDocument, number: int, head: Vector, deployment: str | None
    ) -> Explanation:
        effective, stored = self._read(number, device_id)
        logged_deployments = self._deployments(None if deployment is None else {deployment, *_named_by(effective)})
        at, sections, change = Standpoint(number, stored.checkpoint.vector, head), {}, LastAssignmentChange()
        if effective is not None:
            at = msgspec.structs.replace(at, ordinal=effective.ordinal, assignment=effective.assignment)
            sections, change = effective.sections, self._change(effective, number)
        subject = ExplainedDevice(
            twin_row(device_id, section(document.tags), section(document.reported)),
            document.edge,
            document.enabled,
            self._modules(device_id, document, sections),
        )
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
                *module_documents(self.log, device_id, document, SYSTEM_MODULES),
                assignment=at.assignment,
                sections=sections,
                stored=stored,
                ordinal=at.ordinal,
            ),
            change=change,
        )

    def _change(self, effective: Effective, number: int) -> LastAssignmentChange:
        position = effective.assignment_change
        # Position 0: the device never had an assignment change.
        for entry in self.projections.assignment_changes(number, after=position - 1, limit=1) if position else ():
            change = msgspec.json.decode(entry.data, type=AssignmentChange)
            moves = (move.before for move in change.moves if effective.ordinal in move.ordinals())
            return LastAssignmentChange(next(moves, NO_ASSIGNMENT), change.before, change.after)
        return LastAssignmentChange()

    def causes(self, explanation: Explanation, weighed: Weighed) -> tuple[cause.Cause, ...]:
        """Returns the events behind a verdict that the caller may know.

        Raises:
            LogUnavailable: Redis did not answer.
        """
        logged, at, admission = explanation.deployments[weighed.id], explanation.standpoint, None
        is_rolled_out = logged.rollout is not None and explanation.may_know_rollout(logged)
        if weighed.applies and is_rolled_out and at.ordinal is not None:
            history = explanation.histories[weighed.id]
            admission = admission_of(self.log, history, number=at.number, ordinal=at.ordinal)
        return cause.of_verdict(explanation, weighed, admission)

    def _deployments(self, names: set[str] | None) -> dict[str, LoggedDeployment]:
        """The deployments with these names in the log; all deployments for `None`."""
        # A colon marks other documents of the fleet, such as `rollout:north`.
        named = sorted(name for name in names or () if ":" not in name)
        documents = dict(deployments(self.log)) if names is None else deployments_of(self.log, named)
        rollouts = rollouts_of(self.log, documents)
        return {name: LoggedDeployment(document, rollouts.get(name)) for name, document in documents.items()}

    def _read(self, number: int, device_id: str) -> tuple[Effective | None, StoredPartition]:
        """The device and the target sets of its partition, both as of one vector."""
        hashes, fields = (*NOT_APPLIED_HASHES, "undelivered"), (("sets", SETS_OF_HEALTH),)
        # Two reads: a worker can write between them, and a mixture would show a verdict that never held.
        while True:
            effective = self.fleet_projection.effective(device_id)
            stored = self.projections.read(number, hashes=hashes, fields=fields, arrays=("answer_runtimes",))
            if effective is None or effective.checkpoint.vector == stored.checkpoint.vector:
                return effective, stored

    def _modules(
        self, device_id: str, document: DeviceDocument, sections: dict[str, JsonObject]
    ) -> dict[str, QueryRow]:
        names = sorted(modules_of(document, sections))
        modules = zip(names, module_documents(self.log, device_id, document, names), strict=True)
        return {
            name: twin_row(device_id, {}, {})
            if module is None
            else twin_row(device_id, section(module.tags), section(module.reported))
            for name, module in modules
        }


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
