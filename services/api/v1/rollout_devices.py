"""The devices of a rollout: how each stands or stood with it, why, and what it runs now."""

from collections.abc import Mapping
from typing import Annotated, Self

import msgspec
from fastapi import Depends, Query, Request

from events.camel_case import snake_case
from events.device.identifiers import AGENT, HUB
from events.fleet.answers import NOT_RUNNING, OK
from events.fleet.assignments import Assignment, AssignmentStatus
from events.log.keys import partition_of
from events.rollout.rollout_counts import ANSWERED_FAILURE, RolloutCounts, as_sets
from events.rollout.sets import FleetSet
from events.rollout.state import RolloutDocument
from services.api.context.api_context import ApiContext
from services.api.context.pages import PageQuery, continuation_at
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
    "already": "it ran the same before it was admitted",
    "silent": "it has not answered for long",
    "pending": "it has not answered yet",
    "notAdmitted": "it was not admitted",
}
_TALLIED_STATES = ("healthy", "already", "failed", "silent", "pending", "outranked", "notApplied")
STATES = (*_TALLIED_STATES, "notAdmitted", "notBack")
"""How a device can stand with a rollout. `notBack` comes beside another one: a rollback did not bring the device back."""


class RunningAssignment(AnswerBody):
    """What a device has now: the deployments of its configuration, the base first; none where it is by hand or restored."""

    status: Annotated[str, one_of(*(status.value for status in AssignmentStatus), "nothing")]
    deployments: list[str]
    configuration: str

    @classmethod
    def of(cls, assignment: Assignment) -> Self:
        """As the projections have it."""
        status = assignment.status.value if assignment.was_assigned else "nothing"
        return cls(status, [layer.id for layer in assignment.stack], assignment.configuration)


class RolloutDevice(AnswerBody):
    """How a device stands with a rollout, and why; `notBack` says why a rollback did not bring it back, if it did not."""

    device_id: str
    state: Annotated[str, one_of(*STATES[:-1])]
    reason: str
    not_back: str | None
    runs: RunningAssignment


class RolloutDevices(AnswerBody):
    """Devices of a rollout, and where the next page begins; `null` after the last."""

    devices: list[RolloutDevice]
    continuation: str | None


class _Standings(msgspec.Struct, frozen=True, eq=False):
    """The devices of a rollout by their state, each in one; and by the reason, where a state has reasons of its own."""

    by_state: Mapping[str, FleetSet]
    reasons: tuple[tuple[str, FleetSet], ...]
    not_back: Mapping[str, FleetSet]

    def members(self, state: str | None) -> FleetSet:
        """The devices of a state, or all of them."""
        if state is None:
            return FleetSet.union(self.by_state.values())
        return FleetSet.union(self.not_back.values()) if state == "notBack" else self.by_state[state]

    def state_of(self, location: FleetSet) -> str:
        """The state of one device."""
        return next(state for state, devices in self.by_state.items() if location & devices)

    def reason_of(self, location: FleetSet) -> str | None:
        """Why it stands so, if it is said of the device."""
        return next((why for why, devices in self.reasons if location & devices), None)


@router.get("/deployments/{name}/rollout/devices")
def list_devices(
    request: Request,
    name: RolledOutId,
    query: Annotated[PageQuery, Depends()],
    state: Annotated[str | None, Query(json_schema_extra={"enum": list(STATES)})] = None,
) -> RolloutDevices:
    """The devices that a rollout targets or has admitted, by how they stand with it, and why, page by page.

    Once its deployment has ended, they stand as they did then; `runs` is always what a device has now.
    """
    if state is not None and state not in STATES:
        raise BodyInvalid(f"state is one of {', '.join(STATES)}, not {state[:40]!r}")
    document, context = rollout_seen(request, name), context_of(request)
    statuses = _standings(document, judged_rollout(context, name, document).rollout_counts)
    members = statuses.members(state)
    device_ids, location = context.fleet_projection.page_of(
        members.of_partition, after=query.after(context), limit=query.limit
    )
    lines = (_line(context, name, device_id, document, statuses) for device_id in device_ids)
    return RolloutDevices([line for line in lines if line is not None], continuation_at(context, location))


def _standings(document: RolloutDocument, rollout_counts: RolloutCounts) -> _Standings:
    by_state = {state: getattr(rollout_counts, snake_case(state)) for state in _TALLIED_STATES}
    by_state["notAdmitted"] = rollout_counts.target - rollout_counts.admitted
    reasons = (*rollout_counts.failed_by.items(), *rollout_counts.not_applied_by.items())
    return _Standings(by_state, reasons, as_sets(document.not_back))


def _line(
    context: ApiContext, name: str, device_id: str, document: RolloutDocument, statuses: _Standings
) -> RolloutDevice | None:
    assignment = context.fleet_projection.assignment(device_id)
    if assignment is None:
        return None  # It was retired meanwhile.
    location = FleetSet.one(partition_of(device_id, context.log.partitions), assignment.ordinal)
    state = statuses.state_of(location)
    is_live = document.results is msgspec.UNSET
    return RolloutDevice(
        device_id,
        state,
        _reason(context, name, device_id, state, statuses.reason_of(location), is_live=is_live),
        next((why for why, devices in statuses.not_back.items() if location & devices), None),
        RunningAssignment.of(assignment.assignment),
    )


def _reason(context: ApiContext, name: str, device_id: str, state: str, reason: str | None, *, is_live: bool) -> str:
    if reason == ANSWERED_FAILURE and is_live:
        return failure_of(context, device_id)
    if state == "outranked":
        passed = (line for line in context.fleet_projection.not_applied(device_id) if line.deployment_id == name)
        winner = next(passed, None) if is_live else None
        return "another deployment won" if winner is None else winner.text
    return reason or _REASONS[state]


def failure_of(context: ApiContext, device_id: str) -> str:
    """What a device said of its failure, in the words of its system modules."""
    for module_id, who in ((AGENT, "it"), (HUB, "its $edgeHub")):
        twin = context.twins.module(device_id, module_id)
        last_status = None if twin is None else twin["properties"]["reported"].get("lastDesiredStatus")
        code, text = (
            (last_status.get("code"), last_status.get("description")) if isinstance(last_status, dict) else (None, None)
        )
        if code not in {None, OK, NOT_RUNNING}:
            return f"{who} answered {code}{f': {text}' if text else ''}"
    return "a module is not as it should be"
