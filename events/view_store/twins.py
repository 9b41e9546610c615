"""Twins as people and devices read them: a document of the log, under what deployments desire of its modules."""

from collections.abc import Sequence

import msgspec
from msgspec import UNSET

from events.canonical import JsonObject
from events.device.state import DeviceDocument, ModuleDocument, section
from events.device.twin import DeviceTwin, ModuleTwin, device_desired, device_twin, module_desired
from events.log.device_documents import module_documents, registered_device
from events.log.fleet_documents import deployments_of
from events.log.port import Log
from events.manifest.document import DEVICE
from events.view_store.fleet_view import Effective, FleetView
from events.view_store.query_rows import Assigned, built_device, built_module, modules_of


class Told(msgspec.Struct, frozen=True):
    """The desired properties of one twin, and their `$version`."""

    desired: JsonObject
    version: int


class TwinView:
    """Reads twins. Who has the answer to a write reads that write in the device's own twin (DESIGN §2, snapshots)."""

    def __init__(self, log: Log, view: FleetView) -> None:
        self._log = log
        self._view = view

    def device(self, device_id: str) -> DeviceTwin | None:
        """A device's twin (contract/hub.md §1.6); `None` where no such device is registered."""
        document = registered_device(self._log, device_id)
        return None if document is None else self.of(device_id, document)

    def of(self, device_id: str, document: DeviceDocument) -> DeviceTwin:
        """The twin of a device whose document is at hand."""
        effective = self._view.effective(device_id) if self._view.has_own(device_id) else None
        if effective is None:
            return device_twin(device_id, document)
        standings = self._view.own_standings(effective)
        names = sorted({layer.id for layer in effective.row.own_part.stack} | standings.keys())
        sections = {} if effective.own is None else {DEVICE: effective.own}
        known = deployments_of(self._log, names)
        return built_device(device_id, document, Assigned(effective.row, sections, effective.since, standings, known))

    def is_plain(self, device_id: str) -> bool:
        """Whether it is known, without asking anybody, that a device's twin is its document alone."""
        return self._view.had_no_own_lately(device_id)

    def module_ids(self, device_id: str) -> Sequence[str]:
        """The modules of a device: the system modules, those of its configuration and those made by hand; sorted."""
        document = registered_device(self._log, device_id)
        if document is None:
            return ()
        return tuple(sorted(_modules(document, self._view.effective(device_id))))

    def module(self, device_id: str, module_id: str) -> ModuleTwin | None:
        """A module's twin; `None` where the device has no such module."""
        document = registered_device(self._log, device_id)
        if document is None:
            return None
        effective = self._view.effective(device_id)
        if module_id not in _modules(document, effective):
            return None
        (own,) = module_documents(self._log, device_id, document, [module_id])
        if effective is None:
            return built_module((device_id, module_id), document, own, Assigned())
        standings = self._view.standings(effective)
        of_module, part = self._view.module_standings(module_id, effective), effective.row.module_part(module_id)
        layers = (*effective.row.stack, *part.stack)
        names = sorted({layer.id for layer in layers} | standings.keys() | of_module.keys())
        assigned = Assigned(
            effective.row,
            effective.sections,
            effective.since,
            standings,
            deployments_of(self._log, names),
            given=effective.given.get(module_id),
            of_module=of_module,
        )
        return built_module((device_id, module_id), document, own, assigned)

    def told(self, effective: Effective) -> dict[str, "Told"]:
        """What a device is told, by module: what configurations give and what was written by hand.

        `$device` stands for its own twin; it is left out, as modules are, where neither ever said anything.
        """
        device_id, row = effective.device_id, effective.row
        document = registered_device(self._log, device_id)
        if document is None:
            return {}
        names = sorted(modules_of(document, effective.sections) | effective.modules.keys())
        written = (module or ModuleDocument(0, 0) for module in module_documents(self._log, device_id, document, names))
        told = {
            name: Told(
                module_desired(section(own.desired), effective.sections.get(name), effective.given.get(name)),
                row.module_versions.get(name, 1) + own.desired_version - 1,
            )
            for name, own in zip(names, written, strict=True)
            if name in effective.modules or own.desired_version > 1
        }
        if row.own is not UNSET or document.desired_version > 1:
            version = row.own_part.version + document.desired_version - 1
            told[DEVICE] = Told(device_desired(section(document.desired), effective.own), version)
        return told


def _modules(document: DeviceDocument, effective: Effective | None) -> set[str]:
    return modules_of(document, {} if effective is None else effective.sections)
