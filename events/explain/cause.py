"""The events that led to a verdict, as text, with their authors and times."""

from collections.abc import Iterable, Iterator
from typing import Any

import msgspec

from events.deployment.events import DeploymentCreated, DeploymentDeleted, DeploymentScheduled, DeploymentUpdated
from events.device.events import DeviceRegistered, DeviceUpdated, PropertiesReported
from events.envelope import Envelope
from events.event_text import text_of
from events.explain.deployment_history import HistoryEntry
from events.explain.explanation import Explanation
from events.explain.judged_condition import Judged, actual, leaves
from events.explain.last_change import ABSENT, EDGE, ENABLED, Property
from events.explain.verdict import ExplainedDevice, Weighed
from events.log.keys import FLEET, name
from events.number_text import utc_text
from events.query.evaluate import value_at
from events.query.text import printed_path
from events.query.tree import UNDEFINED, Path, paths_of
from events.rollout.events import DevicesAdmitted


class Cause(msgspec.Struct, frozen=True):
    """An event that led to a verdict: its location, its time (milliseconds), its author, its type, and its text."""

    stream: str
    position: int
    at: int
    by: str
    act: str
    cause: str | None
    says: str


def of_device(stream: int, envelope: Envelope[Any], done: str = "") -> Cause:
    """Returns an event of the device's partition as a cause; `done` says what it did to one property, instead of the event's text."""
    by = str(envelope.by)
    text = f"{by} {done}" if done else text_of(envelope)
    return _cause(stream, envelope, by, type(envelope.event).__name__, text)


def of_deployment(entry: HistoryEntry) -> Cause:
    """Returns an event on a deployment or its rollout as a cause."""
    return _cause(FLEET, entry, entry.by, entry.kind, entry.text)


def _cause(stream: int, event: Envelope[Any] | HistoryEntry, by: str, act: str, text: str) -> Cause:
    says = f"{text} on {utc_text(event.at)} ({name(stream)}:{event.position})"
    return Cause(name(stream), event.position, event.at, by, act, event.cause or None, says)


# -- the causes of an explanation


def of_verdict(explanation: Explanation, weighed: Weighed, admission: HistoryEntry | None) -> tuple[Cause, ...]:
    """Returns the events behind a verdict: the last changes of its properties, and the events that shaped the deployment.

    `admission` is the event of a rollout that admitted the device, if any.
    """
    number, last_changes = explanation.standpoint.number, explanation.traced.last_changes
    of_conditions: dict[Property, Cause] = {}
    for prop, leaf, path in _leaves([weighed]):
        if prop in last_changes and prop not in of_conditions:
            done = _done_to(leaf, path, prop.module, last_changes[prop])
            of_conditions[prop] = of_device(number, last_changes[prop], done)
    logged = explanation.deployments[weighed.id]
    shaping = _shaping(explanation.histories.get(weighed.id, ()), admission)
    return (
        *of_conditions.values(),
        *(of_deployment(entry) for entry in shaping if explanation.may_know(entry.kind, logged)),
    )


def of_identity_and_reports(explanation: Explanation) -> tuple[Cause, ...]:
    """Returns the device's registration, identity changes, configuration by hand, and last report, by position."""
    traced, number, document = explanation.traced, explanation.standpoint.number, explanation.document
    retired = traced.retired if document.retired else None
    envelopes = (traced.registered, traced.by_hand, traced.reported, retired)
    causes = {each.position: of_device(number, each) for each in envelopes if each is not None}
    reason = f" ({document.status_reason})" if document.status_reason else ""
    done_by_property = {
        EDGE: f"made the device {'' if document.edge else 'not '}edge-capable",
        ENABLED: f"{'enabled' if document.enabled else 'disabled'} the device{reason}",
    }
    for prop, done in done_by_property.items():
        envelope = traced.last_changes.get(prop)
        if envelope is not None and isinstance(envelope.event, DeviceUpdated):
            causes[envelope.position] = of_device(number, envelope, done)
    return tuple(each for _, each in sorted(causes.items()))


def of_last_change(explanation: Explanation) -> tuple[Cause, ...]:
    """Returns the events of the last assignment change: of the device, and on deployments that it added or removed."""
    layers, change = set(explanation.standpoint.assignment.layers), explanation.change
    # A device that became unmanaged keeps its stack, so both stacks are equal; the event is then on a deployment of that stack.
    names = {layer.id for layer in (layers ^ set(change.was.layers) or layers)}
    entries = [
        entry
        for name in sorted(names)
        for entry in explanation.histories.get(name, ())
        if change.before.fleet < entry.position <= change.after.fleet
        and explanation.may_know(entry.kind, explanation.deployments.get(name))
    ]
    return (
        *(of_device(explanation.standpoint.number, envelope) for envelope in explanation.traced.moving),
        *map(of_deployment, sorted(entries, key=lambda entry: entry.position)),
    )


# -- properties of the device


def deciding_properties(subject: ExplainedDevice, weighed: Iterable[Weighed]) -> dict[Property, Any]:
    """Returns the properties that the conditions read, with their current values."""
    values: dict[Property, Any] = {EDGE: subject.edge, ENABLED: subject.enabled}
    for prop, _, path in _leaves(weighed):
        value = value_at(path, subject.modules.get(prop.module, subject.twin))
        values[prop] = ABSENT if value is UNDEFINED else value
    return values


def _leaves(weighed: Iterable[Weighed]) -> Iterator[tuple[Property, Judged, Path]]:
    """The properties in conditions, with the term and the path there; no event sets an id."""
    for line in weighed:
        for condition, module in ((line.condition, line.module), (line.scope, "")):
            for leaf in () if condition is None else leaves(condition):
                for path in paths_of(leaf.term):
                    match path:
                        case ("tags", *_):
                            yield Property(path, module), leaf, path
                        case ("properties", *names):
                            yield Property(tuple(names), module), leaf, path
                        case _:
                            pass


def _done_to(leaf: Judged, path: Path, module: str, envelope: Envelope[Any]) -> str:
    called = printed_path(path) + (f" of {module}" if module else "")
    if isinstance(envelope.event, DeviceRegistered):
        return f"registered the device, and {called} has not been set since,"
    if leaf.actual_type == "missing":
        return f"removed {called}"
    verb = "reported" if isinstance(envelope.event, PropertiesReported) else "set"
    return f"{verb} {called} as {actual(leaf)}"


# -- deployments


def _shaping(history: tuple[HistoryEntry, ...], admission: HistoryEntry | None) -> list[HistoryEntry]:
    """The events that shaped a deployment: its creation, condition, priority, schedule, and admission."""
    entries = [setter for member in ("condition", "priority") if (setter := _setter(history, member)) is not None]
    entries += [entry for entry in history if entry.kind in {DeploymentCreated.__name__, DeploymentDeleted.__name__}]
    entries += [entry for entry in history if entry.kind not in _EDITS][-1:]
    entries += [entry for entry in history if entry.kind == DeploymentScheduled.__name__][-1:]
    entries += [] if admission is None else [admission]
    by_position = {entry.position: entry for entry in entries}
    return [entry for _, entry in sorted(by_position.items())]


_EDITS = {
    kind.__name__
    for kind in (DeploymentCreated, DeploymentUpdated, DeploymentScheduled, DeploymentDeleted, DevicesAdmitted)
}


def _setter(history: tuple[HistoryEntry, ...], member: str) -> HistoryEntry | None:
    """The event that last changed a member of the deployment."""
    setter: HistoryEntry | None = None
    # An update repeats members that it does not change, so the newest event with the member need not be the one that set it.
    for entry in reversed([entry for entry in history if getattr(entry, member) is not None]):
        if setter is not None and getattr(entry, member) != getattr(setter, member):
            break
        setter = entry
    return setter
