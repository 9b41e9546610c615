"""What answers about updates and groups look like, for the description of the API; times are in milliseconds."""

from typing import Any, Literal

from services.api.http.openapi import Answered
from services.api.v1.described import PlanText

State = Literal["Active", "Inactive", "RollingBack", "RolledBack", "RollbackFailed", "Superseded", "Canceled"]
DeviceState = Literal["NotStarted", "InProgress", "Succeeded", "Failed", "Canceled"]


class Update(Answered):
    """An update; `condition` says whom it is for."""

    update: str
    provider: str
    name: str
    version: str
    description: str
    friendly_name: str
    compatibility: list[dict[str, str]]
    condition: str
    imported_at: int


class UpdateWithContent(Update):
    """An update with its content; references stand where secrets were."""

    content: dict[str, Any]


class Group(Answered):
    """A group; `condition` says who is in it."""

    group: str
    condition: str
    priority: int
    devices: int
    active: str | None
    deployments: list[str]


class Policy(Answered):
    """When the group goes back, and to which update; `null` to what each device had."""

    update: str | None
    percent: float
    count: int
    answered_min: int


class RolledBack(Answered):
    """What a deployment was rolled back to (an update, or what each device had), why, and how many devices run that.

    `deployment` is the deployment of the group that brings it, if there is one; `not_back` are devices that are not back, by reason.
    """

    to: str
    deployment: str | None
    reason: str
    at: int
    devices: int
    not_back: dict[str, int]


class GroupDeployment(Answered):
    """A deployment to a group; `carrier` is the ordinary deployment that it is made of, and `rollback` the one that takes it back.

    One that a rollback brought says in `rollback_of` which one was rolled back.
    """

    group: str
    deployment: str
    update: str
    state: State
    reason: str
    start_at: int
    created_at: int
    changed_at: int
    retries: int
    policy: Policy | None
    carrier: str
    rollout: str | None
    rollback: str | None
    rolled_back: RolledBack | None
    rollback_of: str | None
    plan_text: PlanText | None
    counts: dict[DeviceState, int]


class DeviceInState(Answered):
    """A device of a deployment, and why it stands so."""

    device_id: str
    state: DeviceState
    reason: str


class DevicesInStates(Answered):
    """Some devices of a deployment, and where to go on."""

    devices: list[DeviceInState]
    continuation: str | None
