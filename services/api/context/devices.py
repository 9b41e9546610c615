"""Devices as the log has them now."""

from collections.abc import Sequence

from events.device.errors import DeviceNotFound
from events.device.state import DeviceDocument
from events.log.device_documents import device_in
from events.log.port import Stored
from services.api.context.api_context import Room


def device_document(room: Room, device_id: str) -> DeviceDocument:
    """A device as the log has it.

    Raises:
        DeviceNotFound: it is not registered.
    """
    return registered(device_id, *room.log.load([device_id]))


def device_documents(room: Room, device_ids: Sequence[str]) -> dict[str, DeviceDocument]:
    """Those of some devices that are registered, in their order."""
    stored = zip(device_ids, room.log.load(device_ids), strict=True)
    documents = ((device_id, device_in(each)) for device_id, each in stored)
    return {device_id: document for device_id, document in documents if document is not None}


def registered(device_id: str, stored: Stored) -> DeviceDocument:
    """The device of a stored snapshot.

    Raises:
        DeviceNotFound: it is not registered, or was retired.
    """
    document = device_in(stored)
    if document is None:
        raise DeviceNotFound(device_id)
    return document
