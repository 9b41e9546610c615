"""A twin in the hub's shape (contract/hub.md §1.6), but for the times of single properties."""

from datetime import UTC, datetime

import msgspec

from events.canonical import JsonObject
from events.device.etags import twin_etag
from events.device.state import DeviceDocument, ModuleDocument, section

NEVER = "0001-01-01T00:00:00Z"


def time_text(at: int) -> str:
    """Milliseconds as the hub writes a time; a negative one is *never*."""
    if at < 0:
        return NEVER
    return datetime.fromtimestamp(at / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def device_twin(device_id: str, document: DeviceDocument) -> JsonObject:
    """A device's twin; `tags` is left out where there are none."""
    twin: JsonObject = {
        "deviceId": device_id,
        "etag": twin_etag(document.twin_etag),
        "deviceEtag": twin_etag(document.identity_etag),
        "status": "enabled" if document.enabled else "disabled",
        "statusReason": document.status_reason,
        "statusUpdateTime": time_text(document.status_updated_at),
        "connectionState": "Disconnected",
        "lastActivityTime": NEVER,
        "cloudToDeviceMessageCount": 0,
        "version": document.twin_version,
        "capabilities": {"iotEdge": document.edge},
        "properties": _properties(document, section(document.desired), document.desired_version),
    }
    tags = section(document.tags)
    return {**twin, "tags": tags} if tags else twin


def module_twin(
    device_id: str, module_id: str, document: ModuleDocument | None, *, configured: msgspec.Raw | None, version: int
) -> JsonObject:
    """A module's twin: its own document under the section that its device's effective configuration gives it.

    `configured` and `version` are the section and its `$version`; `None` and 0 where the configuration has none. Both
    counts begin at 1, and the twin's counts the changes by hand and those by deployments.
    """
    own = document or ModuleDocument(0, 0)
    desired = {**section(own.desired), **(section(configured) if configured is not None else {})}
    return {
        "deviceId": device_id,
        "moduleId": module_id,
        "etag": twin_etag(own.twin_etag),
        "version": own.twin_version,
        "properties": _properties(own, desired, own.desired_version + max(version - 1, 0)),
    }


def _properties(document: DeviceDocument | ModuleDocument, desired: JsonObject, desired_version: int) -> JsonObject:
    return {
        "desired": {**desired, "$version": desired_version},
        "reported": {**section(document.reported), "$version": document.reported_version},
    }
