"""Devices and their modules as they are in the log now."""

from collections.abc import Iterator, Sequence

from events.device.identifiers import module_subject
from events.device.state import DeviceDocument, ModuleDocument, decode_device, decode_module
from events.log.port import Log, Stored


def registered_device(log: Log, device_id: str) -> DeviceDocument | None:
    """A device; `None` where it is not registered, or was retired.

    Raises:
        LogUnavailable: Redis did not answer.
    """
    return device_in(*log.load([device_id]))


def device_in(stored: Stored) -> DeviceDocument | None:
    """The device of a stored document; `None` where it is not registered, or was retired."""
    document = None if stored.snapshot is None else decode_device(stored.snapshot)
    return None if document is None or document.retired else document


def module_documents(
    log: Log, device_id: str, document: DeviceDocument, module_ids: Sequence[str]
) -> Iterator[ModuleDocument | None]:
    """The module twins of a device, `None` for one that nothing was ever written to.

    What was written before the device was registered again is of another device, and left out.

    Raises:
        LogUnavailable: Redis did not answer.
    """
    for stored in log.load([module_subject(device_id, name) for name in module_ids]) if module_ids else ():
        module = None if stored.snapshot is None else decode_module(stored.snapshot)
        yield module if module is not None and module.generation == document.generation else None
