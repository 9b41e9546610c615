"""The events that led to a verdict, as text, with their authors and times."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import msgspec

from events.deployment.events import DeploymentCreated, DeploymentDeleted, DeploymentScheduled, DeploymentUpdated
from events.device.events import DeviceRegistered, DeviceUpdated, PropertiesReported
from events.device.state import DeviceDocument
from events.envelope import Envelope
from events.event_text import text_of
from events.explain.condition_text import actual
from events.explain.deployment_history import HistoryEntry
from events.explain.judged_condition import Judged, leaves
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
    by, kind = str(envelope.by), type(envelope.event).__name__
    text = f"{by} {done}" if done else text_of(envelope)
    says = _dated(text, envelope.at, stream, envelope.position)
    return Cause(name(stream), envelope.position, envelope.at, by, kind, envelope.cause or None, says)


def of_deployment(entry: HistoryEntry) -> Cause:
    """Returns an event on a deployment or its rollout as a cause."""
    says = _dated(entry.text, entry.at, FLEET, entry.position)
    return Cause(name(FLEET), entry.position, entry.at, entry.by, entry.kind, entry.cause or None, says)


def _dated(text: str, at: int, stream: int, position: int) -> str:
    return f"{text} on {utc_text(at)} ({name(stream)}:{position})"


# -- properties of the device


def deciding_properties(subject: ExplainedDevice, weighed: Iterable[Weighed]) -> dict[Property, Any]:
    """Returns the properties that the conditions read, with their current values."""
    values: dict[Property, Any] = {EDGE: subject.edge, ENABLED: subject.enabled}
    for module, _, path in _leaves(weighed):
        twin = subject.modules.get(module, subject.twin) if module else subject.twin
        value = value_at(path, twin.row)
        prop = property_of(path, module)
        if prop is not None:
            values[prop] = ABSENT if value is UNDEFINED else value
    return values


def property_of(path: Path, module: str) -> Property | None:
    """Returns the property of a condition's path (`properties.reported.x` -> `reported.x`); `None` for an id, which no event sets."""
    match path:
        case ("tags", *_):
            return Property(path, module)
        case ("properties", "reported", *names):
            return Property(("reported", *names), module)
        case _:
            return None


def _leaves(weighed: Iterable[Weighed]) -> Iterator[tuple[str, Judged, Path]]:
    for line in weighed:
        for condition, module in ((line.condition, line.module), (line.scope, "")):
            for leaf in () if condition is None else leaves(condition):
                for path in paths_of(leaf.term):
                    yield module, leaf, path


def of_identity(
    document: DeviceDocument, last_changes: Mapping[Property, Envelope[Any]], stream: int
) -> Iterator[Cause]:
    """Yields the last changes of edge capability and of enabled or disabled since the registration."""
    reason = f" ({document.status_reason})" if document.status_reason else ""
    done_by_property = {
        EDGE: f"made the device {'' if document.edge else 'not '}edge-capable",
        ENABLED: f"{'enabled' if document.enabled else 'disabled'} the device{reason}",
    }
    for prop, done in done_by_property.items():
        if prop in last_changes and isinstance(last_changes[prop].event, DeviceUpdated):
            yield of_device(stream, last_changes[prop], done)


def of_conditions(weighed: Weighed, last_changes: Mapping[Property, Envelope[Any]], stream: int) -> Iterator[Cause]:
    """Yields the last change of each property that a verdict depends on, each property once."""
    seen = set()
    for module, leaf, path in _leaves([weighed]):
        prop = property_of(path, module)
        if prop is None or prop in seen or prop not in last_changes:
            continue
        seen.add(prop)
        envelope = last_changes[prop]
        yield of_device(stream, envelope, _done_to(leaf, path, module, envelope))


def _done_to(leaf: Judged, path: Path, module: str, envelope: Envelope[Any]) -> str:
    called = printed_path(path) + (f" of {module}" if module else "")
    if isinstance(envelope.event, DeviceRegistered):
        return f"registered the device, and {called} has not been set since,"
    if leaf.actual_type == "missing":
        return f"removed {called}"
    verb = "reported" if isinstance(envelope.event, PropertiesReported) else "set"
    return f"{verb} {called} as {actual(leaf)}"


# -- deployments


def of_history(history: tuple[HistoryEntry, ...], admission: HistoryEntry | None) -> Iterator[Cause]:
    """Yields the events that shaped a deployment: its creation, condition, priority, schedule, and admission.

    `admission` is the event of a rollout that admitted the device; `None` if there is none.
    """
    entries = [setter for member in ("condition", "priority") if (setter := _setter(history, member)) is not None]
    entries += [entry for entry in history if entry.kind in {DeploymentCreated.__name__, DeploymentDeleted.__name__}]
    entries += [entry for entry in history if entry.kind not in _EDITS][-1:]
    entries += [entry for entry in history if entry.kind == DeploymentScheduled.__name__][-1:]
    entries += [] if admission is None else [admission]
    by_position = {entry.position: entry for entry in entries}
    yield from (of_deployment(entry) for _, entry in sorted(by_position.items()))


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
