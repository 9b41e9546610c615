"""What answers look like in the hub's own shapes (contract/hub.md §1.2-1.6)."""

from collections.abc import Mapping

from msgspec import UNSET

from events.canonical import JsonObject
from events.deployment.state import DeploymentDocument, etag_of
from events.device.etags import twin_etag
from events.device.hierarchy import device_scope, generation_id, parent_scopes
from events.device.identifiers import AGENT
from events.device.state import CONFIGURED_IDENTITY, DeviceDocument
from events.device.times import NEVER, time_text
from events.fleet.deployments import CONTENT_KEY
from events.manifest.document import Kind
from events.manifest.merge import contributes
from events.query.system_metric import module_applied_query, module_targeted_query, targeted_query

_APPLIED = (
    "select deviceId from devices.modules where moduleId = '$edgeAgent' and configurations.[[{}]].status = 'Applied'"
)
_OWN_APPLIED = "select deviceId from devices where configurations.[[{}]].status = 'Applied'"
_ANSWERED = " and properties.desired.$version = properties.reported.lastDesiredVersion"
_CODE = " and properties.reported.lastDesiredStatus.code {} 200"


def device_identity(device_id: str, document: DeviceDocument, authentication: JsonObject) -> JsonObject:
    """An identity; `deviceScope` is there for edge devices and for those with a parent."""
    scope = device_scope(device_id, document)
    return {
        "deviceId": device_id,
        "generationId": generation_id(document),
        "etag": twin_etag(document.identity_etag),
        "connectionState": "Disconnected",
        "status": "enabled" if document.enabled else "disabled",
        "statusReason": document.status_reason,
        "connectionStateUpdatedTime": NEVER,
        "statusUpdatedTime": time_text(document.status_updated_at),
        "lastActivityTime": NEVER,
        "cloudToDeviceMessageCount": 0,
        "authentication": authentication,
        "capabilities": {"iotEdge": document.edge},
        **({} if scope is None else {"deviceScope": scope}),
        "parentScopes": parent_scopes(document),
    }


def module_identity(device_id: str, module_id: str, document: DeviceDocument, authentication: JsonObject) -> JsonObject:
    """A module's identity: made by hand, or there with its device or by its configuration."""
    identity = document.modules.get(module_id, CONFIGURED_IDENTITY)
    return {
        "deviceId": device_id,
        "moduleId": module_id,
        "managedBy": identity.managed_by,
        "generationId": generation_id(document),
        "etag": twin_etag(identity.etag),
        "connectionState": "Disconnected",
        "connectionStateUpdatedTime": NEVER,
        "lastActivityTime": NEVER,
        "cloudToDeviceMessageCount": 0,
        "authentication": authentication,
    }


def configuration(
    name: str, document: DeploymentDocument, counts: Mapping[str, int] | None, metrics: Mapping[str, int]
) -> JsonObject:
    """A deployment as a Configuration; secrets show as references, and results are empty until the workers know it.

    Results are as many as the rows of the queries beside them: three of these ask what the deployment is to the `$edgeAgent`
    twin, and one that sets nothing there is applied to none.
    """
    queries = _QUERIES[document.kind](name, document)
    of_agent = document.kind is not Kind.EDGE or contributes(document.content.get(CONTENT_KEY, {}), AGENT)
    results = {}
    if counts is not None:
        results = {
            query: counts[status] if of_agent or query == "targetedCount" else 0
            for query, status in _RESULTS.items()
            if query in queries
        }
    return {
        "id": name,
        "schemaVersion": document.schema_version,
        "labels": document.labels or None,
        "content": document.content,
        "contentType": "assignment",
        "targetCondition": document.target_condition,
        "createdTimeUtc": time_text(document.created_at),
        "lastUpdatedTimeUtc": time_text(document.updated_at),
        "priority": document.priority,
        "systemMetrics": {"results": results, "queries": queries},
        "metrics": {"results": dict(metrics), "queries": document.metrics},
        "etag": etag_of(document),
    }


_RESULTS = {
    "targetedCount": "target",
    "appliedCount": "actual",
    "reportedSuccessfulCount": "reportedSuccessful",
    "reportedFailedCount": "reportedFailed",
}


def _edge_queries(name: str, document: DeploymentDocument) -> dict[str, str]:
    applied = _APPLIED.format(name)
    return {
        "appliedCount": applied,
        "reportedSuccessfulCount": applied + _ANSWERED + _CODE.format("="),
        "reportedFailedCount": applied + _ANSWERED + _CODE.format("!="),
        "targetedCount": targeted_query(document.target_condition, _scope(document)),
    }


def _own_queries(name: str, document: DeploymentDocument) -> dict[str, str]:
    """Nobody answers for a device's own twin, so there are no others (contract/hub.md §1.3)."""
    return {
        "appliedCount": _OWN_APPLIED.format(name),
        "targetedCount": targeted_query(document.target_condition, _scope(document), own=True),
    }


def _module_queries(name: str, document: DeploymentDocument) -> dict[str, str]:
    """The condition of one of a module is a query's as it stands; a scope, which is of devices, cannot be in it."""
    return {
        "appliedCount": module_applied_query(document.target_condition, name),
        "targetedCount": module_targeted_query(document.target_condition),
    }


_QUERIES = {Kind.EDGE: _edge_queries, Kind.DEVICE: _own_queries, Kind.MODULE: _module_queries}


def _scope(document: DeploymentDocument) -> str:
    return "*" if document.scope is UNSET else document.scope
