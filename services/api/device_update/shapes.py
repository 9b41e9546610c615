"""What answers look like in the shapes of the update service's clients."""

import base64
import hashlib
from collections.abc import Callable

from events import canonical
from events.canonical import JsonObject
from events.device.times import time_text
from events.rollout.sets import FleetSet
from events.update.facts import RollbackPolicy
from events.update.names import UpdateId
from events.update.state import UpdateDocument
from events.view_store.groups import DEFAULT_CLASS, Carried, Compliance, DeviceState, GroupView, class_of
from services.api.device_update.import_manifest import FILE, HANDLER

CLASSES_FOLLOW = "device classes have no life of their own, they are what updates say they fit"
MANIFEST_VERSION = "5.0"
_FILE_NAME = "manifest.json"


def update_id(update: UpdateId) -> JsonObject:
    """Provider, name and version."""
    return {"provider": update.provider, "name": update.name, "version": update.version}


def update_info(update: UpdateId, view: GroupView) -> JsonObject:
    """An update as others mention it; without its description where it was deleted."""
    found = view.updates.get(update)
    return {"updateId": update_id(update), **({} if found is None else _said(found))}


def _said(document: UpdateDocument) -> JsonObject:
    return {"description": document.description, "friendlyName": document.friendly_name}


def update(document: UpdateDocument) -> JsonObject:
    """An update as it was imported."""
    return {
        "updateId": update_id(document.update),
        **_said(document),
        "isDeployable": True,
        "compatibility": list(document.compatibility),
        "instructions": {"steps": [{"type": "Inline", "handler": HANDLER, "files": [FILE]}]},
        "referencedBy": [],
        "manifestVersion": MANIFEST_VERSION,
        "importedDateTime": time_text(document.imported_at),
        "createdDateTime": time_text(document.imported_at),
        "etag": etag(document),
    }


def etag(document: UpdateDocument) -> str:
    """An update's etag: it changes only when the update is deleted and another imported."""
    return f'"{document.version}"'


def file(document: UpdateDocument) -> JsonObject:
    """The content as a file: as it is kept, with references in the place of secrets."""
    data = canonical.encode(document.content)
    return {
        "fileId": FILE,
        "fileName": _FILE_NAME,
        "sizeInBytes": len(data),
        "hashes": {"sha256": base64.b64encode(hashlib.sha256(data).digest()).decode()},
        "mimeType": "application/json",
        "etag": etag(document),
    }


def operation(operation_id: str, document: UpdateDocument | None, *, at: int, location: str = "") -> JsonObject:
    """An operation that is done: whatever is asked for here is done before it is answered."""
    of_update = {} if document is None else {"update": {"updateId": update_id(document.update), **_said(document)}}
    return {
        "operationId": operation_id,
        "status": "Succeeded",
        "createdDateTime": time_text(at),
        "lastActionDateTime": time_text(at),
        "etag": '"1"',
        **({"resourceLocation": location} if location else {}),
        **of_update,
    }


def device_class(class_id: str, condition: str, view: GroupView) -> JsonObject:
    """A device class: whoever one compatibility fits."""
    best = best_of(class_id, view)
    return {
        "deviceClassId": class_id,
        "friendlyName": condition,
        "deviceClassProperties": {"compatProperties": {"condition": condition}},
        **({} if best is None else {"bestCompatibleUpdate": update_info(best, view)}),
    }


def best_of(class_id: str, view: GroupView) -> UpdateId | None:
    """The newest update of a class."""
    return next((one.update for one in view.updates.values() if class_of(one.condition) == class_id), None)


def group(name: str, view: GroupView) -> JsonObject:
    """A group, with its device classes by how they stand to their newest updates."""
    document = view.groups.get(name)
    classes = [class_compliance(name, class_id, view) for class_id in classes_of(name, view)]
    return {
        "groupId": name,
        "groupType": "DefaultNoTag" if name == "$default" else "IoTHubTag",
        "createdDateTime": time_text(0 if document is None else document.created_at),
        "deviceCount": len(view.members(name)),
        "deployments": [one.deployment.id for one in view.carried(name)],
        "subgroupsWithNewUpdatesAvailableCount": sum(bool(one.outdated) for one in classes),
        "subgroupsWithUpdatesInProgressCount": sum(bool(one.under_way) for one in classes),
        "subgroupsWithOnLatestUpdateCount": sum(not one.outdated and not one.under_way for one in classes),
    }


def classes_of(group: str, view: GroupView) -> list[str]:
    """The classes that devices of a group are in."""
    members = view.members(group)
    return [class_id for class_id, condition in view.classes.items() if members & view.devices(condition)]


def class_compliance(group: str, class_id: str, view: GroupView) -> Compliance:
    """How a class within a group stands to the newest updates."""
    return view.compliance(view.members(group) & view.devices(view.classes[class_id]))


def compliance(found: Compliance) -> JsonObject:
    """How some devices stand to the newest updates."""
    counts = {
        "onLatestUpdateDeviceCount": len(found.latest),
        "newUpdatesAvailableDeviceCount": len(found.outdated),
        "updatesInProgressDeviceCount": len(found.under_way),
    }
    return {"totalDeviceCount": sum(counts.values()), **counts}


def subgroup(group: str, class_id: str, view: GroupView) -> JsonObject:
    """Those of a group who are in a class."""
    document = view.groups.get(group)
    active = next(
        (one for one in view.carried(group) if one.is_active and class_of_update(one, view) == class_id), None
    )
    return {
        "groupId": group,
        "deviceClassId": class_id,
        "createdDateTime": time_text(0 if document is None else document.created_at),
        "deviceCount": len(view.members(group) & view.devices(view.classes[class_id])),
        **({} if active is None else {"deploymentId": active.deployment.id}),
    }


def class_of_update(carried: Carried, view: GroupView) -> str:
    """The class that a deployment is for: that of its update; the default one where the update was deleted."""
    found = view.updates.get(carried.deployment.update)
    return DEFAULT_CLASS if found is None else class_of(found.condition)


def deployment(carried: Carried, view: GroupView) -> JsonObject:
    """A deployment of a group."""
    one = carried.deployment
    return {
        "groupId": carried.group,
        "deploymentId": one.id,
        "startDateTime": time_text(one.start_at or one.created_at),
        "update": update_info(one.update, view),
        "deviceClassSubgroups": [class_of_update(carried, view)],
        "isCanceled": carried.state == "Canceled",
        "isRetried": one.retries > 0,
        "isCloudInitiatedRollback": carried.has_gone_back or bool(carried.back_from),
        **({"rollbackPolicy": _policy(one.policy, view)} if isinstance(one.policy, RollbackPolicy) else {}),
    }


def _policy(policy: RollbackPolicy, view: GroupView) -> JsonObject:
    failure: JsonObject = {"devicesFailedPercentage": policy.percent, "devicesFailedCount": policy.count}
    if policy.answered_min:
        failure["devicesAnsweredMinimum"] = policy.answered_min
    back_to = {} if policy.update is None else {"update": update_info(policy.update, view)}
    return {**back_to, "failure": failure}


def status(carried: Carried, view: GroupView) -> JsonObject:
    """How a deployment fares, with its one subgroup."""
    return {
        "groupId": carried.group,
        "deploymentState": carried.state,
        "subgroupStatus": [subgroup_status(carried, view)],
        **_error(carried),
    }


def subgroup_status(carried: Carried, view: GroupView) -> JsonObject:
    """How many devices of a deployment are how far; the total has those as well who wait for their turn."""
    states = view.states(carried)
    return {
        "groupId": carried.group,
        "deviceClassId": class_of_update(carried, view),
        "deploymentState": carried.state,
        "totalDevices": sum(map(len, states.values())),
        "devicesInProgressCount": len(states[DeviceState.IN_PROGRESS]),
        "devicesCompletedFailedCount": len(states[DeviceState.FAILED]),
        "devicesCompletedSucceededCount": len(states[DeviceState.SUCCEEDED]),
        "devicesCanceledCount": len(states[DeviceState.CANCELED]),
        **_error(carried),
    }


def _error(carried: Carried) -> JsonObject:
    rollout = carried.rollout
    if rollout is None or not carried.has_gone_back:
        return {}
    message = f"rolled back to {carried.back_to}: {rollout.rollback_reason}"
    return {"error": {"code": "RolledBack", "message": message, "occurredDateTime": time_text(rollout.rollback_at)}}


class Devices:
    """Devices, with what they have and what became of it; works out the sets once for all of them."""

    def __init__(self, view: GroupView) -> None:
        self._view = view
        self._groups = [(name, view.members(name)) for name in view.names]
        self._carried = [(one, view.states(one)) for one in view.everything_carried]
        self._brought = [
            (name, one, view.having(name), update_) for one in view.everything_carried for name, update_ in one.brings()
        ]
        self._best = view.best(view.devices("*"))

    def device(self, device_id: str, place: tuple[int, int]) -> JsonObject:
        """One device; what it never had is left out."""
        number, ordinal = place
        view = self._view

        def among(members: FleetSet) -> bool:
            return ordinal in members.of_partition(number)

        groups = [name for name, members in self._groups if among(members)]
        attempted = next(((one, update_) for _, one, having, update_ in self._brought if among(having)), None)
        installed = next((update_ for update_, members in view.installed.items() if among(members)), None)
        best = next((update_ for update_, members in self._best.items() if among(members)), None)
        state = self._state(among)
        return {
            "deviceId": device_id,
            "deviceClassId": DEFAULT_CLASS if best is None else class_of(view.updates[best].condition),
            "onLatestUpdate": best is None or best == installed,
            **({"groupId": _preferred(groups)} if groups else {}),
            **({} if state is None else {"deploymentStatus": state.value}),
            **({} if installed is None else {"installedUpdate": update_info(installed, view)}),
            **(
                {}
                if attempted is None
                else {
                    "lastAttemptedUpdate": update_info(attempted[1], view),
                    "lastDeploymentId": attempted[0].deployment.id,
                }
            ),
        }

    def _state(self, among: Callable[[FleetSet], bool]) -> DeviceState | None:
        for _, states in self._carried:
            for state, members in states.items():
                if among(members):
                    return state
        return None

    def of_state(self, state: DeviceState | None) -> FleetSet:
        """The devices whose newest deployment has come so far; those without any for `None`."""
        found, seen = FleetSet({}), FleetSet({})
        for _, states in self._carried:
            everyone = FleetSet.union(states.values())
            found |= FleetSet({}) if state is None else states[state] - seen
            seen |= everyone
        return self._view.devices("*") - seen if state is None else found


def _preferred(groups: list[str]) -> str:
    return groups[0] if len(groups) == 1 else next(name for name in groups if name != "$default")
