"""The facts that led to a verdict, in words, with who and when."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from events.deployment.facts import DeploymentCreated, DeploymentDeleted, DeploymentScheduled, DeploymentUpdated
from events.device.facts import DeviceRegistered, DeviceUpdated, PropertiesReported
from events.device.origins import ABSENT, EDGE, ENABLED, Property
from events.device.state import DeviceDocument
from events.envelope import Envelope
from events.event_text import text_of
from events.log.keys import FLEET, name
from events.rollout.facts import DevicesAdmitted
from events.targeting.evaluate import MISSING, value_at
from events.targeting.judged import Judged, leaves
from events.targeting.telling import actual
from events.targeting.tree import Path, printed_path
from events.view_store.deeds import Deed
from events.views.explained import Led, Subject, Weighed
from events.views.telling import moment


def of_device(stream: int, envelope: Envelope[Any], done: str = "") -> Led:
    """An event of the device's partition; `done` is what it did to one property, where that says more than its own text."""
    by, kind = str(envelope.by), type(envelope.fact).__name__
    text = f"{by} {done}" if done else text_of(envelope)
    says = _placed(text, envelope.at, stream, envelope.position)
    return Led(name(stream), envelope.position, envelope.at, by, kind, envelope.cause, says)


def of_identity(document: DeviceDocument, origins: Mapping[Property, Envelope[Any]], stream: int) -> Iterator[Led]:
    """What made a device edge-capable or not, and enabled or not, since its registration."""
    reason = f" ({document.status_reason})" if document.status_reason else ""
    said = {
        EDGE: f"made the device {'' if document.edge else 'not '}edge-capable",
        ENABLED: f"{'enabled' if document.enabled else 'disabled'} the device{reason}",
    }
    for one, form in said.items():
        if one in origins and isinstance(origins[one].fact, DeviceUpdated):
            yield of_device(stream, origins[one], form)


def of_deployment(deed: Deed) -> Led:
    """An event on a deployment or its rollout."""
    says = _placed(deed.text, deed.at, FLEET, deed.position)
    return Led(name(FLEET), deed.position, deed.at, deed.by, deed.kind, deed.cause, says)


def _placed(text: str, at: int, stream: int, position: int) -> str:
    return f"{text} on {moment(at)} ({name(stream)}:{position})"


# -- leaves


def wanted(subject: Subject, weighed: Iterable[Weighed]) -> dict[Property, Any]:
    """The properties that conditions ask for, with their values now."""
    found: dict[Property, Any] = {EDGE: subject.edge, ENABLED: subject.enabled}
    for one, leaf, path in _leaves(weighed):
        twin = subject.modules.get(one, subject.twin) if one else subject.twin
        value = value_at(path, twin)
        prop = property_of(path, one)
        if prop is not None and leaf is not None:
            found[prop] = ABSENT if value is MISSING else value
    return found


def property_of(path: Path, module: str) -> Property | None:
    """`properties.reported.x` -> `reported.x`; `None` for an id, which nothing sets."""
    match path:
        case ("tags", *_):
            return Property(path, module)
        case ("properties", "reported", *names):
            return Property(("reported", *names), module)
        case _:
            return None


def _leaves(weighed: Iterable[Weighed]) -> Iterator[tuple[str, Judged, Path]]:
    for one in weighed:
        for judged, module in ((one.condition, one.module), (one.scope, "")):
            for leaf in () if judged is None else leaves(judged):
                yield module, leaf, leaf.term.path  # type: ignore[union-attr]


def of_leaves(one: Weighed, origins: Mapping[Property, Envelope[Any]], stream: int) -> Iterator[Led]:
    """Since when each property that a verdict hangs on has been as it is, once each."""
    seen = set()
    for module, leaf, path in _leaves([one]):
        prop = property_of(path, module)
        if prop is None or prop in seen or prop not in origins:
            continue
        seen.add(prop)
        envelope = origins[prop]
        yield of_device(stream, envelope, _of_leaf(leaf, path, module, envelope))


def _of_leaf(leaf: Judged, path: Path, module: str, envelope: Envelope[Any]) -> str:
    called = printed_path(path) + (f" of {module}" if module else "")
    if isinstance(envelope.fact, DeviceRegistered):
        return f"registered the device, and {called} was never set since,"
    if leaf.found == "missing":
        return f"removed {called}"
    verb = "reported" if isinstance(envelope.fact, PropertiesReported) else "set"
    return f"{verb} {called} as {actual(leaf)}"


# -- deployments


def of_deeds(deeds: tuple[Deed, ...], admitted: Deed | None) -> Iterator[Led]:
    """Who made a deployment what it is: its creation, what set its condition and its priority, its times, who is admitted."""
    chosen: dict[int, Deed] = {}
    for member in ("condition", "priority"):
        setter = _setter(deeds, member)
        if setter is not None:
            chosen[setter.position] = setter
    for deed in deeds:
        if deed.kind in {DeploymentCreated.__name__, DeploymentDeleted.__name__}:
            chosen[deed.position] = deed
    of_admission = [deed for deed in deeds if deed.kind not in _EDITS]
    for deed in of_admission[-1:]:
        chosen[deed.position] = deed
    scheduled = [deed for deed in deeds if deed.kind == DeploymentScheduled.__name__]
    for deed in scheduled[-1:]:
        chosen[deed.position] = deed
    if admitted is not None:
        chosen[admitted.position] = admitted
    yield from (of_deployment(deed) for _, deed in sorted(chosen.items()))


_EDITS = {
    kind.__name__
    for kind in (DeploymentCreated, DeploymentUpdated, DeploymentScheduled, DeploymentDeleted, DevicesAdmitted)
}


def _setter(deeds: tuple[Deed, ...], member: str) -> Deed | None:
    """The oldest deed since which a member has been what it is."""
    found: Deed | None = None
    for deed in reversed([deed for deed in deeds if getattr(deed, member) is not None]):
        if found is not None and getattr(deed, member) != getattr(found, member):
            break
        found = deed
    return found
