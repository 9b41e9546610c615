"""Layers: what a deployment may say that is laid over another."""

from collections.abc import Iterator

from events.manifest.document import AGENT, ContentKind
from events.manifest.problem import Severity
from events.readiness.finding import ElementLocation, Hit
from events.readiness.rule import Inspects, rule
from events.readiness.subject import SYSTEM, Document, ReadinessSubject

_SOURCE = "seed 002, layered deployments; contract/edge.md §4.2"


@rule(
    "layered-has-system-modules",
    "A layer leaves the system's modules alone",
    Severity.ERROR,
    inspects=Inspects.LAYER,
    reason="Only a standard deployment has the agent and the hub; the hub refuses a layer that sets them.",
    remedy="Move the change into the standard deployment.",
    source=_SOURCE,
)
def layered_has_system_modules(subject: ReadinessSubject) -> Iterator[Hit]:
    """A path to the system's modules."""
    for setting in subject.last.settings:
        if setting.twin == AGENT and setting.path[:1] == ("systemModules",):
            location = ElementLocation(len(subject.documents) - 1, setting.pointer, whole=True)
            module = SYSTEM.get(setting.path[1], AGENT) if len(setting.path) > 1 else AGENT
            yield Hit(module, "a layer sets the system's modules", location, AGENT, setting.path)


@rule(
    "layered-no-agent-object",
    "A layer has $edgeAgent",
    Severity.ERROR,
    inspects=Inspects.LAYER,
    reason="The hub refuses modulesContent without it; a layer that has nothing to say of it has an empty object.",
    remedy='Add "$edgeAgent": {}.',
    source="contract/hub.md §1.7; contract/edge.md §4.2",
)
def layered_no_agent_object(subject: ReadinessSubject) -> Iterator[Hit]:
    """Content without `$edgeAgent`, or with something else than an object there."""
    modules = subject.last.content.get(ContentKind.EDGE.value)
    if not isinstance(modules.get(AGENT), dict):
        yield subject.hit("modulesContent has no object $edgeAgent", module=AGENT)


@rule(
    "layered-full-overwrite",
    "A layer sets properties, not whole twins",
    Severity.WARNING,
    inspects=Inspects.LAYER,
    reason="properties.desired without a name behind it takes away all that the base and lower layers say of the module.",
    remedy="Set properties.desired.name for each property, unless the module is the layer's own.",
    source=_SOURCE,
)
def layered_full_overwrite(subject: ReadinessSubject) -> Iterator[Hit]:
    """`properties.desired` of a module that the layer does not bring along."""
    layer = subject.last
    own = _modules_of(layer)
    for setting in layer.settings:
        if not setting.path and setting.twin not in own:
            location = ElementLocation(len(subject.documents) - 1, setting.pointer, whole=True)
            message = f"the layer replaces all desired properties of {setting.twin}"
            yield Hit(setting.twin, message, location, setting.twin)


@rule(
    "layered-priority",
    "A layer has a higher priority than its base",
    Severity.ERROR,
    inspects=Inspects.LAYER,
    reason="A layer that does not stand above its device's base is not applied.",
    remedy="Give the layer a priority strictly above that of every base of its devices.",
    source=_SOURCE,
)
def layered_priority(subject: ReadinessSubject) -> Iterator[Hit]:
    """A priority that is not above that of the standard deployment it is merged onto."""
    layer = subject.last
    for base in subject.documents[:-1]:
        if layer.priority is None or base.priority is None or base.layered or layer.priority > base.priority:
            continue
        message = f"the layer's priority {layer.priority} is not above {base.priority} of {base.name}"
        yield subject.hit(message, detail=base.name)


def _modules_of(layer: Document) -> set[str]:
    names = {path[1] for path in (setting.path for setting in layer.settings) if len(path) > 1 and path[0] == "modules"}
    for setting in layer.settings:
        if setting.twin == AGENT and setting.path == ("modules",) and isinstance(setting.value, dict):
            names.update(setting.value)
    return names
