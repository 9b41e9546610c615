"""Twins as people and devices read them: a document of the log, under what deployments desire of its modules."""

from collections.abc import Sequence

import msgspec

from events import canonical
from events.canonical import JsonObject
from events.device import state
from events.device.identifiers import SYSTEM_MODULES, module_subject
from events.device.state import DeviceDocument
from events.device.twin import device_twin, module_twin
from events.log.port import Log
from events.view_store.fleet_view import Effective, FleetView

_AGENT = "$edgeAgent"


class TwinView:
    """Reads twins. Who has the answer to a write reads that write in the device's own twin (DESIGN §2, snapshots)."""

    def __init__(self, log: Log, view: FleetView) -> None:
        self._log = log
        self._view = view

    def device(self, device_id: str) -> JsonObject | None:
        """A device's twin (contract/hub.md §1.6); `None` where no such device is registered."""
        document = self._document(device_id)
        return None if document is None else device_twin(device_id, document)

    def module_ids(self, device_id: str) -> Sequence[str]:
        """The modules of a device: the system modules, those of its configuration and those made by hand; sorted."""
        document = self._document(device_id)
        if document is None:
            return ()
        return tuple(sorted(_modules(document, self._view.effective(device_id))))

    def module(self, device_id: str, module_id: str) -> JsonObject | None:
        """A module's twin; `None` where the device has no such module."""
        document = self._document(device_id)
        if document is None:
            return None
        effective = self._view.effective(device_id)
        if module_id not in _modules(document, effective):
            return None
        subject = module_subject(device_id, module_id)
        (stored,) = self._log.load([subject])
        own = None if stored.snapshot is None else state.decode_module(stored.snapshot)
        if own is not None and own.generation != document.generation:
            own = None
        section = None if effective is None else effective.sections.get(module_id)
        version = 0 if effective is None else effective.row.versions.get(module_id, 0)
        configured = None if section is None else msgspec.Raw(canonical.encode(section))
        return module_twin(device_id, module_id, own, configured=configured, version=version)

    def _document(self, device_id: str) -> DeviceDocument | None:
        (stored,) = self._log.load([device_id])
        document = None if stored.snapshot is None else state.decode_device(stored.snapshot)
        return None if document is None or document.retired else document


def _modules(document: DeviceDocument, effective: Effective | None) -> set[str]:
    found = set(document.modules)
    if document.edge:
        found |= set(SYSTEM_MODULES)
    if effective is not None:
        found |= effective.sections.keys()
        listed = effective.sections.get(_AGENT, {}).get("modules")
        found |= listed.keys() if isinstance(listed, dict) else set()
    return found
