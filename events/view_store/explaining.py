"""Everything that an explanation needs of one device, read from the log and the views."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import msgspec

from events.bitmaps import from_bytes
from events.canonical import JsonObject
from events.device import state
from events.device.identifiers import SYSTEM_MODULES, module_subject
from events.device.state import NEVER, DeviceDocument, ModuleDocument, section
from events.envelope import Envelope, Vector
from events.fleet.configuration import Configuration
from events.fleet.outcome import Outcome
from events.fleet.rows import NO_ROW, Row
from events.log.keys import FLEET, partition_of
from events.log.port import Log
from events.log.raw import RawStreams
from events.rollout import state as rollout_state
from events.view_store import leading
from events.view_store.deeds import Deed, Deeds, admitting
from events.view_store.deployments import deployments
from events.view_store.fleet_view import Effective, FleetView
from events.view_store.port import Blocked, Selection, ViewStore
from events.view_store.query_rows import documents_of, modules_of
from events.view_store.tracing import Traced, trace
from events.views.explain import contests, weigh
from events.views.explained import Contest, HubReport, Known, Led, Reported, Standpoint, Subject, Twin, Weighed
from events.views.kept import Kept
from events.views.reading import PASSED_OVER_HASHES

_HEALTH = ("acknowledged", "healthy", "unhealthy")
ENTRIES_MAX = 20_000
"""How far back the partition of a device is read for the facts that led there, if nobody asks for more."""


class Change(msgspec.Struct, frozen=True):
    """The outcome that gave a device what it has: what it went from, and the vectors that it was decided between."""

    position: int = 0
    at: int = 0
    cause: str = ""
    was: Row = NO_ROW
    before: Vector = Vector()
    after: Vector = Vector()


class Explanation(msgspec.Struct, frozen=True):
    """One device, explained. `effective` is `None` where the views do not know it; of a retired one, little is left."""

    device_id: str
    document: DeviceDocument
    subject: Subject
    standpoint: Standpoint
    deployments: Mapping[str, Known] = {}
    weighed: tuple[Weighed, ...] = ()
    contests: tuple[Contest, ...] = ()
    effective: Effective | None = None
    blocked: Blocked | None = None
    reported: Reported = Reported()
    change: Change = Change()
    traced: Traced = Traced()
    deeds: Mapping[str, tuple[Deed, ...]] = {}

    def led(self, one: Weighed, admitted: Deed | None = None) -> tuple[Led, ...]:
        """The facts that led to a verdict: since when its properties are as they are, and who made the deployment what it is."""
        return (
            *leading.of_leaves(one, self.traced.origins, self.standpoint.number),
            *leading.of_deeds(self.deeds.get(one.id, ()), admitted),
        )

    @property
    def registered(self) -> Led | None:
        """The device's registration, where it was found."""
        return self._told(self.traced.registered)

    @property
    def retired(self) -> Led | None:
        """The end of a device that is retired, where it was found."""
        return self._told(self.traced.retired) if self.document.retired else None

    def _told(self, envelope: Envelope[Any] | None) -> Led | None:
        return None if envelope is None else leading.of_device(self.standpoint.number, envelope)

    def led_to_device(self) -> tuple[Led, ...]:
        """What made the device what it is beside its twin: its registration, its identity, what was set by hand, its last report."""
        traced, number = self.traced, self.standpoint.number
        every = (
            traced.registered,
            traced.by_hand,
            traced.reported,
            traced.retired if self.document.retired else None,
        )
        found = {one.position: leading.of_device(number, one) for one in every if one is not None}
        found |= {one.position: one for one in leading.of_identity(self.document, traced.origins, number)}
        return tuple(one for _, one in sorted(found.items()))

    def undecided(self) -> tuple[Led, ...]:
        """Facts of the device that workers have not come to."""
        return tuple(leading.of_device(self.standpoint.number, one) for one in self.traced.undecided)

    def led_to_change(self, tells: Callable[[str, str], bool] = lambda _name, _act: True) -> tuple[Led, ...]:
        """The facts that came with the outcome: of the device, and on deployments that it came to have or has no more.

        `tells` says of a deployment and an act on it whether that may be said.
        """
        row, was = self.standpoint.row, self.change.was
        layers, had = set(row.layers), set(was.layers)
        # Of one that nothing targets any more the stack stays, and what took it away was done to that.
        names = {layer.id for layer in (layers ^ had or layers)}
        span = self.change
        of_device = [leading.of_device(self.standpoint.number, one) for one in self.traced.moving]
        of_fleet = [
            leading.of_deployment(deed)
            for name in sorted(names)
            for deed in self.deeds.get(name, ())
            if span.before.fleet < deed.position <= span.after.fleet and tells(name, deed.kind)
        ]
        return (*of_device, *sorted(of_fleet, key=lambda led: led.position))


class Explaining:
    """Reads what is asked for, anew for each question."""

    def __init__(self, log: Log, view: FleetView, views: ViewStore, *, streams: RawStreams, deeds: Deeds) -> None:
        self._log, self._view, self._views = log, view, views
        self._streams, self._deeds = streams, deeds

    def explain(
        self, device_id: str, *, deployment: str | None = None, entries_max: int = ENTRIES_MAX
    ) -> Explanation | None:
        """A device's explanation; `None` where there never was one of that id.

        With one deployment, of all others only those are weighed that are part of what the device has.

        Raises:
            LogUnavailable: Redis did not answer.
            UnreadableFact, LogLostItsTail: facts that led there cannot be read.
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
            deeds={name: self._deeds.of(name, upto=head.fleet) for name in self._named(explanation)},
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
        known = self._known(None if deployment is None else {deployment, *_named_by(effective)})
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
            reported=self._reported(device_id, document, at, effective, kept),
            change=Change() if effective is None else self._change(effective, number),
        )

    def _change(self, effective: Effective, number: int) -> Change:
        entries = self._views.outcomes(number, after=effective.outcome - 1, limit=1) if effective.outcome else ()
        for entry in entries:
            outcome = msgspec.json.decode(entry.data, type=Outcome)
            was = next((one.before for one in outcome.moves if effective.ordinal in one.ordinals()), NO_ROW)
            return Change(entry.position, entry.at, entry.cause, was, outcome.before, outcome.after)
        return Change(effective.outcome, effective.since, effective.cause)

    def _trace(self, one: Explanation, entries_max: int) -> Traced:
        at, change = one.standpoint, one.change
        return trace(
            self._streams,
            one.device_id,
            leading.wanted(one.subject, one.weighed),
            partitions=self._log.partitions,
            upto=at.head.partition,
            decided=at.vector.partition,
            span=(change.before.partition, change.after.partition),
            entries_max=entries_max,
        )

    def admitted(self, one: Explanation, deployment_id: str) -> Deed | None:
        """The deed that admitted the device to a deployment that is rolled out, if it is found."""
        known, ordinal = one.deployments[deployment_id], one.standpoint.ordinal
        if known.rollout is None or ordinal is None:
            return None
        return admitting(self._log, one.deeds[deployment_id], number=one.standpoint.number, ordinal=ordinal)

    def _known(self, some: set[str] | None) -> dict[str, Known]:
        """All deployments as they stand in the log, or some of them."""
        # What has a colon in its name is no deployment.
        named = sorted(name for name in some or () if ":" not in name)
        documents = dict(deployments(self._log)) if some is None else documents_of(self._log, named)
        names = list(documents)
        stored = self._log.load([rollout_state.subject_of(name) for name in names], fleet=True) if names else []
        return {
            name: Known(documents[name], None if one.snapshot is None else rollout_state.decode(one.snapshot))
            for name, one in zip(names, stored, strict=True)
        }

    def _read(self, number: int, device_id: str) -> tuple[Effective | None, Kept]:
        """What is kept of the device and of whom deployments target, both as of one vector."""
        while True:
            effective = self._view.effective(device_id)
            wanted = Selection((*PASSED_OVER_HASHES, "undelivered"), (("sets", _HEALTH),), ("answer_runtimes",))
            kept = self._views.read(number, wanted)
            if effective is None or effective.checkpoint.vector == kept.checkpoint.vector:
                return effective, kept

    def _with_modules(self, subject: Subject, document: DeviceDocument, sections: dict[str, JsonObject]) -> Subject:
        device_id = subject.twin.device_id
        names = sorted(modules_of(document, sections))
        stored = self._log.load([module_subject(device_id, name) for name in names]) if names else []
        modules = {}
        for name, one in zip(names, stored, strict=True):
            own = None if one.snapshot is None else state.decode_module(one.snapshot)
            if own is None or own.generation != document.generation:
                modules[name] = Twin(device_id)
            else:
                modules[name] = Twin(device_id, section(own.tags), section(own.reported))
        return msgspec.structs.replace(subject, modules=modules)

    def _reported(
        self, device_id: str, document: DeviceDocument, at: Standpoint, effective: Effective | None, kept: Kept
    ) -> Reported:
        agent, hub = self._system_modules(device_id, document)
        said = {} if agent is None else section(agent.reported)
        version, code, description = _answer(said)
        configuration = Configuration.of({} if effective is None else effective.sections)
        expected = at.row.expected(configuration)
        runtime = _number_at(kept.arrays["answer_runtimes"], at.ordinal)
        has_answered = version is not None and version >= expected.agent
        return Reported(
            NEVER if agent is None else agent.reported_at,
            version,
            code,
            description,
            expected.agent,
            {name: str(one.get("runtimeStatus")) for name, one in _modules_of(said).items()},
            dict(expected.statuses),
            _standing(kept, at.ordinal),
            None
            if not expected.hub
            else HubReport(*_answer({} if hub is None else section(hub.reported))[:2], expected.hub),
            tuple(
                name for name in sorted(expected.of_edge) if _is_in(kept.hashes["undelivered"].get(name), at.ordinal)
            ),
            has_answered and expected.runtime not in {0, runtime},
        )

    def _system_modules(self, device_id: str, document: DeviceDocument) -> Iterator[ModuleDocument | None]:
        for stored in self._log.load([module_subject(device_id, name) for name in SYSTEM_MODULES]):
            own = None if stored.snapshot is None else state.decode_module(stored.snapshot)
            yield None if own is not None and own.generation != document.generation else own


def _answer(said: Mapping[str, Any]) -> tuple[int | None, int | None, str]:
    """The version, the code and the description that a system module answered with."""
    status = said.get("lastDesiredStatus")
    status = status if isinstance(status, dict) else {}
    return _number(said.get("lastDesiredVersion")), _number(status.get("code")), str(status.get("description", ""))


def _number_at(array: bytes, ordinal: int | None) -> int:
    return 0 if ordinal is None else int.from_bytes(array[4 * ordinal : 4 * ordinal + 4], "little")


def _is_in(members: bytes | None, ordinal: int | None) -> bool:
    return members is not None and ordinal is not None and ordinal in from_bytes(members)


def _standing(kept: Kept, ordinal: int | None) -> str:
    """The first of some sets that a device is in, as the views have them."""
    for name, said in (("healthy", "healthy"), ("unhealthy", "unhealthy"), ("acknowledged", "unknown")):
        if _is_in(kept.hashes["sets"].get(name), ordinal):
            return said
    return "pending"


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


def _number(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _modules_of(said: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for group, prefix in (("modules", ""), ("systemModules", "$")):
        members = said.get(group)
        if isinstance(members, dict):
            found |= {f"{prefix}{name}": one for name, one in members.items() if isinstance(one, dict)}
    return found
