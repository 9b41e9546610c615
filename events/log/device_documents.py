"""Devices as the log has them now; one that was retired is none."""

from collections.abc import Sequence

from events.device.errors import DeviceNotFound
from events.device.state import DeviceDocument, decode_device
from events.log.port import Log, Stored


def registered(device_id: str, stored: Stored) -> DeviceDocument:
    """The device of a stored snapshot.

    Raises:
        DeviceNotFound: it is not registered, or was retired.
    """
    document = None if stored.snapshot is None else decode_device(stored.snapshot)
    if document is None or document.retired:
        raise DeviceNotFound(device_id)
    return document


def device_of(log: Log, device_id: str) -> DeviceDocument:
    """A device.

    Raises:
        DeviceNotFound: it is not registered, or was retired.
        LogUnavailable: Redis did not answer.
    """
    (stored,) = log.load([device_id])
    return registered(device_id, stored)


def devices_of(log: Log, device_ids: Sequence[str]) -> dict[str, DeviceDocument]:
    """Those of some devices that are registered, in their order.

    Raises:
        LogUnavailable: Redis did not answer.
    """
    stored = zip(device_ids, log.load(device_ids), strict=True)
    decoded = ((device_id, decode_device(each.snapshot)) for device_id, each in stored if each.snapshot is not None)
    return {device_id: document for device_id, document in decoded if not document.retired}
