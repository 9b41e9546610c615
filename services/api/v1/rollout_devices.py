"""The devices of a rollout: the state of each, the reason, and what it runs now."""

from collections.abc import Mapping
from typing import Annotated, Self

import msgspec
from fastapi import Query, Request

from events.device.identifiers import AGENT, HUB
from events.fleet.answers import NOT_RUNNING, OK
from events.fleet.assignments import Assignment, AssignmentStatus
from events.log.keys import partition_of
from events.member_names import snake_case
from events.rollout.rollout_counts import ANSWERED_FAILURE, RolloutCounts, as_sets
from events.rollout.sets import FleetSet
from events.rollout.state import RolloutDocument
from services.api.context.api_context import ApiContext
from services.api.context.pages import PageInQuery, continuation_at
from services.api.context.request import context_of
from services.api.http.access import REGISTRY_READ, Access
from services.api.http.errors import BodyInvalid
from services.api.http.json_answer import AnswerBody, one_of
from services.api.http.path_names import RolledOutId
from services.api.v1.rollouts import judged_rollout, rollout_seen
from services.api.v1.router import v1_router

router = v1_router(read=Access(REGISTRY_READ, scope="handler", at=True))

_REASONS = {
    "healthy": "it answered that all is well",
    "already": "it had the same configuration before it was admitted",
    "silent": "it has not answered for a long time",
    "pending": "it has not answered yet",
    "notAdmitted": "it was not admitted",
}
_COUNTED_STATES = ("healthy", "already", "failed", "silent", "pending", "outranked", "notApplied")
STATES = (*_COUNTED_STATES, "notAdmitted", "notBack")
"""The states of a device in a rollout. `notBack` is in addition to another state: a rollback did not reach the device."""


class RunningAssignment(AnswerBody):
    """What a device has now: the deployments of its configuration, the base first.

    There are none if the configuration was set on the device alone, or restored by a rollback.
    """

    status: Annotated[str, one_of(*(status.value for status in AssignmentStatus), "nothing")]
    deployments: list[str]
    configuration: str

    @classmethod
    def of(cls, assignment: Assignment) -> Self:
        """An assignment as the projections have it."""
        status = assignment.status.value if assignment.was_assigned else "nothing"
        return cls(status, [layer.id for layer in assignment.stack], assignment.configuration)


class RolloutDevice(AnswerBody):
    """The state of a device in a rollout, and the reason. `notBack` says why a rollback did not bring it back, if it did not."""

    device_id: str
    state: Annotated[str, one_of(*STATES[:-1])]
    reason: str
    not_back: str | None
    runs: RunningAssignment


class RolloutDevices(AnswerBody):
    """Devices of a rollout, and the continuation of the next page; `null` on the last page."""

    devices: list[RolloutDevice]
    continuation: str | None


class _DeviceStates(msgspec.Struct, frozen=True, eq=False):
    """The devices of a rollout by state, each in one state; and by reason, for the states that have several reasons."""

    by_state: Mapping[str, FleetSet]
    reasons: tuple[tuple[str, FleetSet], ...]
    not_back: Mapping[str, FleetSet]

    def members(self, state: str | None) -> FleetSet:
        """The devices of a state, or all of them."""
        if state is None:
            return FleetSet.union(self.by_state.values())
        return FleetSet.union(self.not_back.values()) if state == "notBack" else self.by_state[state]

    def state_of(self, device: FleetSet) -> str:
        """The state of one device."""
        return next(state for state, devices in self.by_state.items() if device & devices)

    def reason_of(self, device: FleetSet) -> str | None:
        """The recorded reason of one device's state, if there is one."""
        return next((why for why, devices in self.reasons if device & devices), None)

    def why_not_back(self, device: FleetSet) -> str | None:
        """Why a rollback did not bring one device back, if it did not."""
        return next((why for why, devices in self.not_back.items() if device & devices), None)


@router.get("/deployments/{name}/rollout/devices")
def list_devices(
    request: Request,
    name: RolledOutId,
    query: PageInQuery,
    state: Annotated[str | None, Query(json_schema_extra={"enum": list(STATES)})] = None,
) -> RolloutDevices:
    """The devices that a rollout targets or has admitted, with the state of each and the reason, page by page.

    Once the deployment has ended, the states are those at its end. `runs` is always what a device has now.
    """
    if state is not None and state not in STATES:
        raise BodyInvalid(f"state must be one of {', '.join(STATES)}, not {state[:40]!r}")
    document, context = rollout_seen(request, name), context_of(request)
    states = _device_states(document, judged_rollout(context, name, document).rollout_counts)
    device_ids, last_position = context.fleet_projection.page_of(
        states.members(state).of_partition, after=query.after(context), limit=query.limit
    )
    lines = (_line(context, name, device_id, document, states) for device_id in device_ids)
    return RolloutDevices([line for line in lines if line is not None], continuation_at(context, last_position))


def _device_states(document: RolloutDocument, rollout_counts: RolloutCounts) -> _DeviceStates:
    by_state = {state: getattr(rollout_counts, snake_case(state)) for state in _COUNTED_STATES}
    by_state["notAdmitted"] = rollout_counts.target - rollout_counts.admitted
    reasons = (*rollout_counts.failed_by.items(), *rollout_counts.not_applied_by.items())
    return _DeviceStates(by_state, reasons, as_sets(document.not_back))


def _line(
    context: ApiContext, name: str, device_id: str, document: RolloutDocument, states: _DeviceStates
) -> RolloutDevice | None:
    assignment = context.fleet_projection.assignment(device_id)
    if assignment is None:
        return None  # The device was retired after the page of ids was read.
    device = FleetSet.one(partition_of(device_id, context.log.partitions), assignment.ordinal)
    state = states.state_of(device)
    # After the end, the twin and the projections say nothing of this rollout any more: only what was recorded counts.
    is_live = document.results is msgspec.UNSET
    return RolloutDevice(
        device_id,
        state,
        _reason(context, name, device_id, state, states.reason_of(device), is_live=is_live),
        states.why_not_back(device),
        RunningAssignment.of(assignment.assignment),
    )


def _reason(context: ApiContext, name: str, device_id: str, state: str, reason: str | None, *, is_live: bool) -> str:
    if reason == ANSWERED_FAILURE and is_live:
        return failure_of(context, device_id)
    if state == "outranked":
        lines = context.fleet_projection.not_applied(device_id) if is_live else ()
        return next((line.text for line in lines if line.deployment_id == name), "another deployment won")
    return reason or _REASONS[state]


def failure_of(context: ApiContext, device_id: str) -> str:
    """The reason of a device's failure, as its system modules report it."""
    for module_id, who in ((AGENT, "it"), (HUB, "its $edgeHub")):
        twin = context.twins.module(device_id, module_id)
        last_status = None if twin is None else twin["properties"]["reported"].get("lastDesiredStatus")
        code, text = (
            (last_status.get("code"), last_status.get("description")) if isinstance(last_status, dict) else (None, None)
        )
        if code not in {None, OK, NOT_RUNNING}:
            return f"{who} answered {code}{f': {text}' if text else ''}"
    return "a module is not as it should be"
