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
from events.explain.explanation import AssignmentChange, Explanation
from events.explain.trace import Traced, trace
from events.explain.verdict import Known, Standpoint, Subject, Twin, Weighed
from events.fleet.outcome import Outcome
from events.fleet.rows import NO_ROW
from events.log.device_documents import module_documents
from events.log.fleet_documents import deployments, deployments_of, rollouts_of
from events.log.keys import FLEET, partition_of
from events.log.port import Log
from events.log.raw import RawStreams
from events.view_store.fleet_view import Effective, FleetView
from events.view_store.port import Selection, ViewStore
from events.view_store.query_rows import modules_of
from events.views.kept import Kept
from events.views.reading import PASSED_OVER_HASHES

ENTRIES_MAX = 20_000
"""How far back the partition of a device is read for the events that led there, unless the caller asks for more."""


class Explainer:
    """Reads everything that an explanation needs, anew for each question."""

    def __init__(
        self, log: Log, view: FleetView, views: ViewStore, *, streams: RawStreams, history: DeploymentHistory
    ) -> None:
        self._log, self._view, self._views = log, view, views
        self._streams, self._history = streams, history

    def explain(
        self, device_id: str, *, deployment: str | None = None, entries_max: int = ENTRIES_MAX
    ) -> Explanation | None:
        """A device's explanation; `None` where there never was a device of that id.

        With one deployment, of all others only those are weighed that are part of what the device has. `entries_max` is how many
        entries of the device's partition are searched for the events that led there.

        Raises:
            LogUnavailable: Redis did not answer.
            UnreadableFact, LogLostItsTail: events that led there cannot be read.
        """
        (stored,) = self._log.load([device_id])
        if stored.snapshot is None:
            return None
        document = state.decode_device(stored.snapshot)
        number = partition_of(device_id, self._log.partitions)
        head = Vector(self._log.head(number), self._log.head(FLEET))
        subject = _subject(device_id, document)
        if document.retired:
            at = Standpoint(number, self._views.checkpoint(number).vector, head)
            explanation = Explanation(device_id, document, subject, at)
        else:
            explanation = self._weighed(device_id, document, subject, head, deployment)
        return msgspec.structs.replace(
            explanation,
            blocked=self._views.blocked(number),
            traced=self._trace(explanation, entries_max),
            histories={name: self._history.of(name, upto=head.fleet) for name in self._named(explanation)},
        )

    @staticmethod
    def _named(explanation: Explanation) -> set[str]:
        rows = (explanation.standpoint.row, explanation.change.was)
        return {*explanation.deployments, *(layer.id for row in rows for layer in row.layers)}

    def _weighed(
        self, device_id: str, document: DeviceDocument, subject: Subject, head: Vector, deployment: str | None
    ) -> Explanation:
        number = partition_of(device_id, self._log.partitions)
        effective, kept = self._read(number, device_id)
        known = self._deployments(None if deployment is None else {deployment, *_named_by(effective)})
        at = Standpoint(number, kept.checkpoint.vector, head)
        if effective is not None:
            at = msgspec.structs.replace(at, ordinal=effective.ordinal, row=effective.row)
        sections = {} if effective is None else effective.sections
        subject = self._with_modules(subject, document, sections)
        return Explanation(
            device_id,
            document,
            subject,
            at,
            known,
            weigh(subject, at, kept, known),
            contests(at.row, {name: one.document.content for name, one in known.items()}),
            effective,
            reported=device_report(
                *module_documents(self._log, device_id, document, SYSTEM_MODULES),
                row=at.row,
                sections=sections,
                kept=kept,
                ordinal=at.ordinal,
            ),
            change=AssignmentChange() if effective is None else self._change(effective, number),
        )

    def _change(self, effective: Effective, number: int) -> AssignmentChange:
        entries = self._views.outcomes(number, after=effective.outcome - 1, limit=1) if effective.outcome else ()
        for entry in entries:
            outcome = msgspec.json.decode(entry.data, type=Outcome)
            was = next((move.before for move in outcome.moves if effective.ordinal in move.ordinals()), NO_ROW)
            return AssignmentChange(entry.position, entry.at, entry.cause, was, outcome.before, outcome.after)
        return AssignmentChange(effective.outcome, effective.since, effective.cause)

    def _trace(self, explanation: Explanation, entries_max: int) -> Traced:
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
        """The events that led to a verdict, as far as the caller may know them.

        Raises:
            LogUnavailable: Redis did not answer.
        """
        known, at, admission = explanation.deployments[weighed.id], explanation.standpoint, None
        is_rolled_out = known.rollout is not None and audience.may_know_rollout(known)
        if weighed.applies and is_rolled_out and at.ordinal is not None:
            history = explanation.histories[weighed.id]
            admission = admission_of(self._log, history, number=at.number, ordinal=at.ordinal)
        return explanation.causes_of_verdict(weighed, audience, admission)

    def _deployments(self, names: set[str] | None) -> dict[str, Known]:
        """All deployments as they stand in the log, or those with some names."""
        # What has a colon in its name is no deployment.
        named = sorted(name for name in names or () if ":" not in name)
        documents = dict(deployments(self._log)) if names is None else deployments_of(self._log, named)
        rollouts = rollouts_of(self._log, documents)
        return {name: Known(document, rollouts.get(name)) for name, document in documents.items()}

    def _read(self, number: int, device_id: str) -> tuple[Effective | None, Kept]:
        """What is kept of the device and of whom deployments target, both as of one vector."""
        while True:
            effective = self._view.effective(device_id)
            selection = Selection(
                (*PASSED_OVER_HASHES, "undelivered"), (("sets", SETS_OF_HEALTH),), ("answer_runtimes",)
            )
            kept = self._views.read(number, selection)
            if effective is None or effective.checkpoint.vector == kept.checkpoint.vector:
                return effective, kept

    def _with_modules(self, subject: Subject, document: DeviceDocument, sections: dict[str, JsonObject]) -> Subject:
        device_id = subject.twin.device_id
        names = sorted(modules_of(document, sections))
        modules = zip(names, module_documents(self._log, device_id, document, names), strict=True)
        twins = {
            name: Twin(device_id) if module is None else Twin(device_id, section(module.tags), section(module.reported))
            for name, module in modules
        }
        return msgspec.structs.replace(subject, modules=twins)


def _named_by(effective: Effective | None) -> set[str]:
    """The deployments that are part of what a device has, or should have."""
    if effective is None:
        return set()
    row = effective.row
    parts = (row.own_part, *row.module_parts.values())
    return {layer.id for layers in (row.layers, row.wanted, *(part.wanted for part in parts)) for layer in layers}


def _subject(device_id: str, document: DeviceDocument) -> Subject:
    twin = Twin(device_id, section(document.tags), section(document.reported))
    return Subject(twin, document.edge, document.enabled)
