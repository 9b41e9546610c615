"""Twins as people and devices read them: a document of the log, under what deployments desire of its modules."""

from collections.abc import Sequence

from events.canonical import JsonObject
from events.deployment import state as state_of_deployment
from events.device import state
from events.device.identifiers import SYSTEM_MODULES, module_subject
from events.device.state import DeviceDocument
from events.device.twin import Author, Configured, device_twin, module_twin
from events.fleet.deployments import CONTENT_KEY
from events.log.port import Log
from events.manifest.merge import contributes, last_setter
from events.view_store.fleet_view import Effective, FleetView

_AGENT = "$edgeAgent"
APPLIED, TARGETED = "Applied", "Targeted"


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
        identity = document.modules.get(module_id)
        given = {} if identity is None else {"identity_etag": identity.etag}
        authentication = (
            None if identity is None or not isinstance(identity.authentication, dict) else identity.authentication
        )
        configured = Configured() if effective is None else self._configured(effective, module_id)
        return module_twin(device_id, module_id, own, configured, authentication=authentication, **given)

    def _configured(self, effective: Effective, module_id: str) -> Configured:
        standings = self._view.standings(effective)
        names = sorted({layer.id for layer in effective.row.stack} | standings.keys())
        known = {
            name: state_of_deployment.decode(one.snapshot)
            for name, one in zip(names, self._log.load(names, fleet=True), strict=True)
            if one.snapshot is not None
        }
        contents = {name: one.content.get(CONTENT_KEY, {}) for name, one in known.items()}
        stack = [layer.id for layer in effective.row.stack if layer.id in known]

        def author(path: tuple[str, ...]) -> Author | None:
            setter = last_setter([contents[name] for name in stack], module_id, path)
            return None if setter < 0 else Author(stack[setter], known[stack[setter]].updated_at)

        return Configured(
            effective.sections.get(module_id),
            effective.row.versions.get(module_id, 0),
            effective.since,
            author,
            {
                name: APPLIED if applied and contributes(contents.get(name, {}), module_id) else TARGETED
                for name, applied in standings.items()
            },
        )

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
