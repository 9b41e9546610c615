"""Reads the current documents of devices and their modules; what asks the log raises `LogUnavailable` if Redis did not answer."""

from collections.abc import Iterator, Sequence

from events.device.errors import DeviceNotFound
from events.device.identifiers import module_subject
from events.device.state import DeviceDocument, ModuleDocument, decode_device, decode_module
from events.log.port import Log, Stored


def registered_device(log: Log, device_id: str) -> DeviceDocument | None:
    """A device; `None` if it is not registered or retired."""
    return device_in(*log.load([device_id]))


def load_device(log: Log, device_id: str) -> DeviceDocument:
    """A device.

    Raises:
        DeviceNotFound: the device is not registered or retired.
    """
    return registered(device_id, *log.load([device_id]))


def load_devices(log: Log, device_ids: Sequence[str]) -> dict[str, DeviceDocument]:
    """The devices that are registered among these ids, in the order of the ids."""
    documents = zip(device_ids, map(device_in, log.load(device_ids)), strict=True)
    return {device_id: document for device_id, document in documents if document is not None}


def registered(device_id: str, stored: Stored) -> DeviceDocument:
    """The device of a stored document.

    Raises:
        DeviceNotFound: the device is not registered or retired.
    """
    document = device_in(stored)
    if document is None:
        raise DeviceNotFound(device_id)
    return document


def device_in(stored: Stored) -> DeviceDocument | None:
    """The device of a stored document; `None` if it is not registered or retired."""
    document = None if stored.snapshot is None else decode_device(stored.snapshot)
    return None if document is None or document.retired else document


def module_documents(
    log: Log, device_id: str, document: DeviceDocument, module_ids: Sequence[str]
) -> Iterator[ModuleDocument | None]:
    """The module twins of a device; `None` for a twin that was never written."""
    # A document of another generation is of an earlier registration of the same id, whose modules this device does not have.
    for stored in log.load([module_subject(device_id, name) for name in module_ids]) if module_ids else ():
        module = None if stored.snapshot is None else decode_module(stored.snapshot)
        yield module if module is not None and module.generation == document.generation else None
