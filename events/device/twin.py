"""A twin in the hub's shape (contract/hub.md §1.6)."""

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from events.canonical import JsonObject
from events.device.authentication import THUMBPRINTS
from events.device.etags import twin_etag
from events.device.hierarchy import device_scope, parent_scopes
from events.device.personal import HIDDEN
from events.device.stamps import Stamp, metadata
from events.device.state import DeviceDocument, ModuleDocument, section
from events.device.times import NEVER, ticks, time_text
from events.properties import masked, merge_patch


class Author(msgspec.Struct, frozen=True):
    """The deployment that a property is from, and when it was last changed, in milliseconds."""

    deployment_id: str
    at: int


class Configured(msgspec.Struct, frozen=True):
    """What configurations give one twin, a module's or the device's own: its section, and what is known of it.

    `version` counts the section's changes from 1; `since` (milliseconds) is when the device got it; `author` tells who is
    behind a leaf of the section; `standings` is what each deployment that targets the device is to this twin.
    """

    section: JsonObject | None = None
    version: int = 0
    since: int = -1
    author: Callable[[tuple[str, ...]], Author | None] = lambda _path: None
    standings: Mapping[str, str] = {}


_NOTHING: Mapping[str, Any] = {}
NOT_CONFIGURED = Configured()


def device_twin(device_id: str, document: DeviceDocument, configured: Configured = NOT_CONFIGURED) -> JsonObject:
    """A device's twin; `tags`, `configurations`, `deviceScope` and `parentScopes` are left out where there is nothing to say.

    What configurations give lies over what was set by hand as a merge patch does, and `$version` counts the changes of
    either.
    """
    authentication = document.authentication if isinstance(document.authentication, dict) else {}
    twin: JsonObject = {
        "deviceId": device_id,
        "etag": twin_etag(document.twin_etag),
        "deviceEtag": twin_etag(document.identity_etag),
        "status": "enabled" if document.enabled else "disabled",
        "statusReason": document.status_reason,
        "statusUpdateTime": time_text(document.status_updated_at),
        **_connection(authentication),
        "modelId": "",
        "version": document.twin_version,
    }
    tags = masked(section(document.tags), shown=HIDDEN)
    if tags:
        twin["tags"] = tags
    desired, version = section(document.desired), document.desired_version + max(configured.version - 1, 0)
    stamps = _own_metadata(document, desired, document.registered_at)
    if configured.section:
        newer = max(document.desired_at, configured.since)
        stamps = _configured_metadata(configured.section, (), configured, version, under=stamps)
        stamps |= {"$lastUpdated": time_text(newer), "$lastUpdatedVersion": version}
    desired = device_desired(desired, configured.section)
    twin["properties"] = {
        "desired": {**desired, "$metadata": stamps, "$version": version},
        "reported": _reported(document, document.registered_at),
    }
    if configured.standings:
        twin["configurations"] = _shown(configured.standings)
    twin["capabilities"] = {"iotEdge": document.edge}
    scope, parents = device_scope(device_id, document), parent_scopes(document)
    return twin | ({} if scope is None else {"deviceScope": scope}) | ({"parentScopes": parents} if parents else {})


def module_twin(
    device_id: str,
    module_id: str,
    own: ModuleDocument,
    configured: Configured,
    *,
    over: Configured = NOT_CONFIGURED,
    identity_etag: int = 1,
    authentication: JsonObject | None = None,
    times: bool = True,
) -> JsonObject:
    """A module's twin: its own document under the section that its device's effective configuration gives it.

    What configurations of modules give lies `over` both as a merge patch does. Each count of versions begins at 1, and the
    twin's counts the changes of all three. Without `times` there is no `$metadata`.
    """
    mine, given = section(own.desired), configured.section
    version = own.desired_version + max(configured.version - 1, 0) + max(over.version - 1, 0)
    stamps = _own_metadata(own, mine, own.desired_at) if times else {}
    desired = module_desired(mine, given, over.section)
    if times and configured.section is not None:
        newer = max(own.desired_at, configured.since)
        stamps |= _configured_metadata(configured.section, (), configured, version)
        stamps |= {"$lastUpdated": time_text(newer), "$lastUpdatedVersion": version}
    if over.section and times:
        newer = max(own.desired_at, over.since)
        stamps = _configured_metadata(over.section, (), over, version, under=stamps)
        stamps |= {"$lastUpdated": time_text(newer), "$lastUpdatedVersion": version}
    twin: JsonObject = {
        "deviceId": device_id,
        "moduleId": module_id,
        "etag": twin_etag(own.twin_etag),
        "deviceEtag": twin_etag(identity_etag),
        "status": "enabled",
        "statusUpdateTime": NEVER,
        **_connection(authentication or {"type": "none"}),
        "modelId": "",
        "version": own.twin_version,
        **({"tags": tags} if (tags := masked(section(own.tags), shown=HIDDEN)) else {}),
        "properties": {
            "desired": {**desired, **({"$metadata": stamps} if times else {}), "$version": version},
            "reported": _reported(own, own.reported_at, times=times),
        },
    }
    return {**twin, "configurations": _shown(configured.standings)} if configured.standings else twin


def device_desired(by_hand: JsonObject, given: JsonObject | None) -> JsonObject:
    """What the device's own twin desires: what configurations give, laid over what was written by hand."""
    return merge_patch(by_hand, given) if given else by_hand


def module_desired(by_hand: JsonObject, given: JsonObject | None, over: JsonObject | None) -> JsonObject:
    """What a module's twin desires.

    Each property that deployments give replaces what was written by hand; what configurations of modules give is laid over.
    """
    desired = {**by_hand, **(given or {})}
    return merge_patch(desired, over) if over else desired


def _connection(authentication: JsonObject) -> JsonObject:
    thumbprints = authentication.get("x509Thumbprint", {})
    return {
        "connectionState": "Disconnected",
        "lastActivityTime": NEVER,
        "cloudToDeviceMessageCount": 0,
        "authenticationType": authentication.get("type", "sas"),
        "x509Thumbprint": {name: thumbprints.get(name) for name in THUMBPRINTS},
    }


def _shown(standings: Mapping[str, str]) -> JsonObject:
    return {name: {"status": standings[name]} for name in sorted(standings)}


def _own_metadata(document: DeviceDocument | ModuleDocument, desired: JsonObject, born_at: int) -> JsonObject:
    stamp = Stamp(document.desired_at if document.desired_at >= 0 else born_at, document.desired_version)
    return metadata(desired, section(document.desired_stamps), stamp, versions=True)


def _reported(document: DeviceDocument | ModuleDocument, born_at: int, *, times: bool = True) -> JsonObject:
    reported = section(document.reported)
    if not times:
        return {**reported, "$version": document.reported_version}
    stamp = Stamp(document.reported_at if document.reported_at >= 0 else born_at, document.reported_version)
    stamps = metadata(reported, section(document.reported_stamps), stamp, versions=False)
    return {**reported, "$metadata": stamps, "$version": document.reported_version}


def _configured_metadata(
    value: Mapping[str, Any],
    path: tuple[str, ...],
    configured: Configured,
    version: int,
    *,
    under: Mapping[str, Any] = _NOTHING,
) -> JsonObject:
    """The stamps of what configurations give, over those of what it lies on."""
    shown: JsonObject = dict(under)
    for name, item in value.items():
        at = (*path, name)
        stamp: JsonObject = {"$lastUpdated": time_text(configured.since), "$lastUpdatedVersion": version}
        shown[name] = stamp
        if isinstance(item, dict):
            below = {key: each for key, each in under.get(name, {}).items() if not key.startswith("$")}
            shown[name] = {**_configured_metadata(item, at, configured, version, under=below), **stamp}
        elif (author := configured.author(at)) is not None:
            shown[name]["$lastUpdatedBy"] = author.deployment_id
            shown[name]["$lastUpdatedByDigest"] = str(ticks(author.at))
    return shown
