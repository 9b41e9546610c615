"""The replay of updates and groups: the documents that are the snapshots beside the fleet's log."""

import enum
from typing import assert_never

import msgspec
from msgspec import UNSET, UnsetType

from events.canonical import JsonObject
from events.query.text import printed_literal
from events.update.commands import PRIORITY_DEFAULT
from events.update.compatibility import condition_of
from events.update.events import (
    GroupDefined,
    GroupEvent,
    GroupRemoved,
    RollbackPolicy,
    UpdateDeployed,
    UpdateDeploymentCanceled,
    UpdateDeploymentDeleted,
    UpdateDeploymentRetried,
)
from events.update.names import DEFAULT_GROUP, UpdateId

GROUP_TAG = "tags.ADUGroup"
"""The tag that puts devices into groups which have no condition."""


class UpdateDocument(msgspec.Struct, frozen=True):
    """An imported update; `imported_at` in milliseconds."""

    version: int
    update: UpdateId
    content: JsonObject
    compatibility: tuple[dict[str, str], ...]
    description: str
    friendly_name: str
    imported_at: int

    @property
    def condition(self) -> str:
        """The target condition of the devices that the update is for."""
        return condition_of(self.compatibility)


class UpdateState(enum.Enum):
    """The state of a group's deployment; SUPERSEDED and CANCELED are final (seed 004, Deployment lifecycle).

    An ACTIVE deployment that has not started is shown as inactive, too.
    """

    ACTIVE = "active"
    SUPERSEDED = "superseded"
    CANCELED = "canceled"


class GroupDeployment(msgspec.Struct, frozen=True):
    """One deployment of an update to a group; `*_at` are milliseconds."""

    id: str
    update: UpdateId
    state: UpdateState
    start_at: int
    created_at: int
    changed_at: int
    policy: RollbackPolicy | UnsetType = UNSET
    retries: int = 0
    reason: str = ""


class GroupDocument(msgspec.Struct, frozen=True):
    """A group that was defined or has had a deployment; `deployments` in the order of their creation."""

    version: int
    created_at: int
    condition: str = ""
    priority: int = PRIORITY_DEFAULT
    deployments: tuple[GroupDeployment, ...] = ()

    @property
    def active(self) -> GroupDeployment | None:
        """The active deployment, or `None`. A group has at most one (seed 004)."""
        return next((deployment for deployment in self.deployments if deployment.state is UpdateState.ACTIVE), None)

    def deployment(self, name: str) -> GroupDeployment | None:
        """The deployment with an id, or `None`."""
        return next((deployment for deployment in self.deployments if deployment.id == name), None)


decode_update = msgspec.json.Decoder(UpdateDocument).decode
decode_group = msgspec.json.Decoder(GroupDocument).decode


def condition_of_group(group: str, document: GroupDocument | None) -> str:
    """The target condition of a group's devices: its own condition, or one on the group tag."""
    if document is not None and document.condition:
        return document.condition
    if group == DEFAULT_GROUP:
        return f"NOT is_defined({GROUP_TAG})"
    return f"{GROUP_TAG} = {printed_literal(group)}"


def evolve_group(document: GroupDocument | None, event: GroupEvent, *, version: int, at: int) -> GroupDocument | None:
    """The group after an event; `None` after its deletion. No arithmetic on `at`: see AT_APPEND."""
    # A deployment to a group that is named by a tag alone makes the document.
    group = document or GroupDocument(version, at)
    deployments = group.deployments
    match event:
        case GroupRemoved():
            return None
        case GroupDefined(condition, priority):
            return msgspec.structs.replace(group, version=version, condition=condition, priority=priority)
        case UpdateDeployed(name, update, start_at, policy):
            if group.active is not None:
                over = {"state": UpdateState.SUPERSEDED, "changed_at": at, "reason": f"superseded by {name}"}
                deployments = _with(deployments, group.active.id, over)
            deployments = (*deployments, GroupDeployment(name, update, UpdateState.ACTIVE, start_at, at, at, policy))
        case UpdateDeploymentCanceled(name, reason):
            deployments = _with(deployments, name, {"state": UpdateState.CANCELED, "changed_at": at, "reason": reason})
        case UpdateDeploymentRetried(name):
            retries = sum(deployment.retries for deployment in deployments if deployment.id == name)
            deployments = _with(deployments, name, {"retries": retries + 1, "changed_at": at})
        case UpdateDeploymentDeleted(name):
            deployments = tuple(deployment for deployment in deployments if deployment.id != name)
        case _:
            assert_never(event)
    return msgspec.structs.replace(group, version=version, deployments=deployments)


def _with(
    deployments: tuple[GroupDeployment, ...], name: str, changes: dict[str, object]
) -> tuple[GroupDeployment, ...]:
    return tuple(
        msgspec.structs.replace(deployment, **changes) if deployment.id == name else deployment
        for deployment in deployments
    )
