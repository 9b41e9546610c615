"""Rules about layers: what a layered deployment may set."""

from collections.abc import Iterator

from events.manifest.document import AGENT, ContentKind, object_of
from events.manifest.problem import Severity
from events.readiness.finding import Hit
from events.readiness.rule import Inspects, rule
from events.readiness.subject import SYSTEM, ReadinessSubject

_SOURCE = "seed 002, layered deployments; contract/edge.md §4.2"


@rule("layered-has-system-modules", Severity.ERROR, Inspects.LAYER, source=_SOURCE)
def layered_has_system_modules(subject: ReadinessSubject) -> Iterator[Hit]:
    """A layer does not set the system modules.

    Only a standard deployment can set the agent and the hub. IoT Hub rejects a layer that sets them.
    Remedy: Move the change into the standard deployment.
    """
    for setting in subject.last.settings:
        if setting.twin == AGENT and setting.path[:1] == ("systemModules",):
            module = SYSTEM.get(setting.path[1], AGENT) if len(setting.path) > 1 else AGENT
            yield Hit(module, "a layer sets the system modules", subject.here(setting.pointer), AGENT, setting.path)


@rule("layered-no-agent-object", Severity.ERROR, Inspects.LAYER, source="contract/hub.md §1.7; contract/edge.md §4.2")
def layered_no_agent_object(subject: ReadinessSubject) -> Iterator[Hit]:
    """A layer has $edgeAgent.

    IoT Hub rejects modulesContent without $edgeAgent. It can be an empty object.
    Remedy: Add "$edgeAgent": {}.
    """
    modules = subject.last.content.get(ContentKind.EDGE.value)
    if not isinstance(modules.get(AGENT), dict):
        yield subject.hit("modulesContent has no object $edgeAgent", module=AGENT)


@rule("layered-full-overwrite", Severity.WARNING, Inspects.LAYER, source=_SOURCE)
def layered_full_overwrite(subject: ReadinessSubject) -> Iterator[Hit]:
    """A layer sets properties, not whole twins.

    properties.desired without a property name removes everything that the base and lower layers set for the module.
    Remedy: Set properties.desired.name for each property. Only a module that the layer adds needs properties.desired.
    """
    # A layer can add a module by a path below `modules`, or as a member of the whole object.
    own = {
        setting.path[1] for setting in subject.last.settings if len(setting.path) > 1 and setting.path[0] == "modules"
    }
    for setting in subject.last.settings:
        if setting.twin == AGENT and setting.path == ("modules",):
            own.update(object_of(setting.value))
    for setting in subject.last.settings:
        if not setting.path and setting.twin not in own:
            message = f"the layer replaces all desired properties of {setting.twin}"
            yield Hit(setting.twin, message, subject.here(setting.pointer), setting.twin)


@rule("layered-priority", Severity.ERROR, Inspects.LAYER, source=_SOURCE)
def layered_priority(subject: ReadinessSubject) -> Iterator[Hit]:
    """A layer has a higher priority than its base.

    A layer is not applied unless its priority is above that of the device's base.
    Remedy: Set the layer's priority above that of every base of its devices.
    """
    layer = subject.last
    for base in subject.documents[:-1]:
        if layer.priority is None or base.priority is None or base.layered or layer.priority > base.priority:
            continue
        message = f"the layer's priority {layer.priority} is not above {base.priority} of {base.name}"
        yield subject.hit(message, detail=base.name)
