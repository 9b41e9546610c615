"""Twins as clients and devices read them: the document with the desired properties that deployments give."""

from collections.abc import Callable, Sequence

import msgspec
from msgspec import UNSET

from events.canonical import JsonObject
from events.deployment.state import DeploymentDocument
from events.device.identifiers import SYSTEM_MODULES
from events.device.state import DeviceDocument, ModuleDocument, current_module, section
from events.device.twin import (
    Configured,
    DeviceTwin,
    ModuleTwin,
    PropertyAuthor,
    device_desired,
    device_twin,
    module_desired,
    module_twin,
)
from events.fleet.assignments import NO_ASSIGNMENT, Assignment, Layer
from events.fleet.configuration import module_ids
from events.log.device_documents import module_documents, registered_device
from events.log.fleet_documents import deployments_of
from events.log.port import Log
from events.manifest.document import DEVICE, MODULE, by_module
from events.manifest.merge import contributes, last_setter
from events.projection_store.fleet_projection import Effective, FleetProjection
from events.query.tree import Path


class DesiredSection(msgspec.Struct, frozen=True):
    """The desired properties of one twin, and their `$version`."""

    desired: JsonObject
    version: int


class TwinProjection:
    """Reads twins. A caller whose write was acknowledged sees it in the device's own twin (DESIGN §2, snapshots)."""

    def __init__(self, log: Log, fleet_projection: FleetProjection) -> None:
        self._log = log
        self._fleet_projection = fleet_projection

    def device(self, device_id: str) -> DeviceTwin | None:
        """A device's twin (contract/hub.md §1.6); `None` if the device is not registered."""
        document = registered_device(self._log, device_id)
        return None if document is None else self.of(device_id, document)

    def of(self, device_id: str, document: DeviceDocument) -> DeviceTwin:
        """The twin of a device with a given document."""
        is_plain = self._fleet_projection.without_own([device_id])
        effective = None if is_plain else self._fleet_projection.effective(device_id)
        if effective is None:
            return device_twin(device_id, document)
        statuses = self._fleet_projection.statuses(effective, DEVICE)
        names = sorted({layer.id for layer in effective.assignment.own_part.stack} | statuses.keys())
        sections = {} if effective.own_section is None else {DEVICE: effective.own_section}
        documents = deployments_of(self._log, names)
        assigned = Assigned(effective.assignment, sections, effective.at, statuses, documents)
        return built_device(device_id, document, assigned)

    def module_ids(self, device_id: str) -> Sequence[str]:
        """The modules of a device, sorted: system modules, those of its configuration, and those created by hand."""
        document = registered_device(self._log, device_id)
        if document is None:
            return ()
        return tuple(sorted(_modules(document, self._fleet_projection.effective(device_id))))

    def module(self, device_id: str, module_id: str) -> ModuleTwin | None:
        """A module's twin; `None` if the device has no such module."""
        document = registered_device(self._log, device_id)
        if document is None:
            return None
        effective = self._fleet_projection.effective(device_id)
        if module_id not in _modules(document, effective):
            return None
        (own,) = module_documents(self._log, device_id, document, [module_id])
        if effective is None:
            return built_module((device_id, module_id), document, own, Assigned())
        statuses = self._fleet_projection.statuses(effective)
        of_module = self._fleet_projection.statuses(effective, module_id)
        layers = (*effective.assignment.stack, *effective.assignment.module_part(module_id).stack)
        names = sorted({layer.id for layer in layers} | statuses.keys() | of_module.keys())
        assigned = Assigned(
            effective.assignment,
            effective.sections,
            effective.at,
            statuses,
            deployments_of(self._log, names),
            configured=effective.module_patches.get(module_id),
            of_module=of_module,
        )
        return built_module((device_id, module_id), document, own, assigned)

    def desired_sections(self, effective: Effective) -> dict[str, "DesiredSection"]:
        """By module (`$device`: its own twin), what configurations and writes by hand give a device, where one ever set anything."""
        device_id, assignment = effective.device_id, effective.assignment
        document = registered_device(self._log, device_id)
        if document is None:
            return {}
        names = sorted(modules_of(document, effective.sections) | effective.modules.keys())
        written = (module or ModuleDocument(0, 0) for module in module_documents(self._log, device_id, document, names))
        sections = {
            name: DesiredSection(
                module_desired(section(own.desired), effective.sections.get(name), effective.module_patches.get(name)),
                assignment.module_versions.get(name, 1) + own.desired_version - 1,
            )
            for name, own in zip(names, written, strict=True)
            if name in effective.modules or own.desired_version > 1
        }
        if assignment.own is not UNSET or document.desired_version > 1:
            version = assignment.own_part.version + document.desired_version - 1
            sections[DEVICE] = DesiredSection(device_desired(section(document.desired), effective.own_section), version)
        return sections


def _modules(document: DeviceDocument, effective: Effective | None) -> set[str]:
    return modules_of(document, {} if effective is None else effective.sections)


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
