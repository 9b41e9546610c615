"""Builds twins from documents and what the projections have of a device."""

from collections.abc import Callable, Sequence

import msgspec

from events.canonical import JsonObject
from events.deployment.state import DeploymentDocument
from events.device.identifiers import SYSTEM_MODULES
from events.device.state import DeviceDocument, ModuleDocument, current_module
from events.device.twin import Configured, DeviceTwin, ModuleTwin, PropertyAuthor, device_twin, module_twin
from events.fleet.assignments import NO_ASSIGNMENT, Assignment, Layer
from events.fleet.configuration import module_ids
from events.manifest.document import DEVICE, MODULE, by_module
from events.manifest.merge import contributes, last_setter
from events.query.tree import Path


def modules_of(document: DeviceDocument, sections: dict[str, JsonObject]) -> set[str]:
    """The modules of a device: those created by hand, and for an edge device the system modules and its configuration's."""
    return set(document.modules) | (module_ids(sections) | set(SYSTEM_MODULES) if document.edge else set())


class Assigned(msgspec.Struct, frozen=True):
    """What the projections have of a device: its assignment since a time, and the deployments that target it.

    `configured` is what configurations of modules give the module to build, and `of_module` says which of those that target
    it are applied.
    """

    assignment: Assignment = NO_ASSIGNMENT
    sections: dict[str, JsonObject] = {}
    since: int = -1
    statuses: dict[str, bool] = {}
    documents: dict[str, DeploymentDocument] = {}
    configured: JsonObject | None = None
    of_module: dict[str, bool] = {}


def built_module(
    subject: tuple[str, str],
    document: DeviceDocument,
    module: ModuleDocument | None,
    assigned: Assigned,
    *,
    times: bool = True,
) -> ModuleTwin:
    """A module's twin, from projections and documents (contract/hub.md §1.6, §1.7)."""
    device_id, module_id = subject
    assignment, documents = assigned.assignment, assigned.documents
    own = current_module(module, document)
    configured = Configured(
        assigned.sections.get(module_id),
        assignment.versions.get(module_id, 0),
        assigned.since,
        _author_in(assignment.stack, documents, module_id),
        {
            name: applied and name in documents and contributes(by_module(documents[name].content), module_id)
            for name, applied in assigned.statuses.items()
        }
        | assigned.of_module,
    )
    part = assignment.module_part(module_id)
    over = Configured(assigned.configured, part.version, assigned.since, _author_in(part.stack, documents, MODULE))
    identity = document.modules.get(module_id)
    return module_twin(device_id, module_id, own, configured, over=over, identity=identity, times=times)


def built_device(device_id: str, document: DeviceDocument, assigned: Assigned) -> DeviceTwin:
    """A device's twin, from its document and what `assigned` has for its own twin."""
    own = assigned.assignment.own_part
    configured = Configured(
        assigned.sections.get(DEVICE),
        own.version,
        assigned.since,
        _author_in(own.stack, assigned.documents, DEVICE),
        assigned.statuses,
    )
    return device_twin(device_id, document, configured)


def _author_in(
    layers: Sequence[Layer], documents: dict[str, DeploymentDocument], module_id: str
) -> Callable[[Path], PropertyAuthor | None]:
    """A function that returns the last deployment of a stack to set a property of a module."""
    stack = [layer.id for layer in layers if layer.id in documents]
    contents = [by_module(documents[name].content) for name in stack]

    def author(path: Path) -> PropertyAuthor | None:
        setter = last_setter(contents, module_id, path)
        return None if setter < 0 else PropertyAuthor(stack[setter], documents[stack[setter]].updated_at)

    return author
