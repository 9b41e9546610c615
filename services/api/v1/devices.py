"""`/v1/devices`: what devices run and why, what they report, and what changed for them."""

from typing import Annotated, Any

from fastapi import Depends, Query, Request
from msgspec import UNSET, UnsetType

from events.canonical import JsonObject
from events.device.commands import ReportProperties
from events.device.errors import DeviceNotFound
from events.explain.device_report import ModuleStatus
from events.fleet.assignments import AssignmentStatus
from events.log.keys import partition_of
from events.manifest.document import MODULE, by_module
from events.manifest.merge import Conflict, conflicts
from events.secrets.references import mask
from events.stored_projection.partition_reader import Why
from services.api.context.deployments import deployment_of
from services.api.context.pages import DevicePage, PageQuery, page
from services.api.context.request import author_of, context_of, reach_of, writer_of
from services.api.http.access import TWIN_READ, TWIN_WRITE, Access
from services.api.http.json_answer import AnswerBody
from services.api.http.path_names import DeviceId
from services.api.http.request_costs import LONG, REPORT
from services.api.v1.bodies import ReportBody
from services.api.v1.device_assignment import (
    AsOf,
    DeviceAssignmentChange,
    DevicePart,
    ModulePart,
    assignment_of,
    changes_of,
    effective_of,
)
from services.api.v1.router import v1_router

POSITION_MAX = 2**53 - 1


router = v1_router(read=Access(TWIN_READ, scope="device", at=True))


class EffectiveConfiguration(AnswerBody, kw_only=True):
    """What a device should run. `versions` has each module's `$version`; `since` is in milliseconds, `cause` a position.

    `device` is for its own twin, and left out where no configuration ever gave that anything; `byModule` has what is given
    by configurations of single modules, which is part of `modules` and `versions`.
    """

    device_id: str
    managed: bool
    status: AssignmentStatus
    reason: str | None
    layers: list[str]
    versions: dict[str, int]
    configuration: str
    modules: dict[str, dict[str, Any]]
    by_module: dict[str, ModulePart] | UnsetType = UNSET
    device: DevicePart | UnsetType = UNSET
    assignment_change: int
    since: int
    cause: str
    as_of: AsOf


class NotAppliedDeployment(AnswerBody):
    """A deployment that targets a device in vain."""

    deployment: str
    why: Why
    by: str | None


class NotAppliedDeployments(AnswerBody):
    """All of a device's."""

    device_id: str
    not_applied: list[NotAppliedDeployment]


class ModuleStatuses(AnswerBody):
    """All of a device's."""

    device_id: str
    modules: dict[str, ModuleStatus]


class DeviceConflicts(AnswerBody):
    """All of a device's."""

    device_id: str
    conflicts: list[Conflict]


class DeviceAssignmentChanges(AnswerBody):
    """All of a device's, oldest first."""

    device_id: str
    assignments: list[DeviceAssignmentChange]


@router.get("/devices")
@Access(TWIN_READ, scope="handler", at=True)
def devices(request: Request, query: Annotated[PageQuery, Depends()]) -> DevicePage:
    """The ids of all devices, page by page."""
    context = context_of(request)
    devices = context.fleet_projection.devices(after=query.after(context), limit=query.limit, within=reach_of(request))
    return page(context, devices)


@router.get("/devices/{device_id}/effective")
def effective(request: Request, device_id: DeviceId) -> EffectiveConfiguration:
    """What a device should run, its layers and versions, and why; secrets show as `***`."""
    configuration = effective_of(context_of(request), device_id)
    assignment = configuration.assignment
    return EffectiveConfiguration(
        device_id=device_id,
        managed=configuration.managed,
        status=assignment.status,
        reason=assignment.reason or None,
        layers=[layer.id for layer in assignment.stack],
        versions=assignment.module_versions,
        configuration=assignment.configuration,
        modules=mask(configuration.modules),
        by_module=ModulePart.all_of(assignment),
        device=UNSET
        if assignment.own is UNSET
        else DevicePart.of(assignment.own, configuration.own or {}, assignment.own.version),
        assignment_change=configuration.assignment_change,
        since=configuration.since,
        cause=configuration.cause,
        as_of=AsOf.of(configuration.vector),
    )


@router.get("/devices/{device_id}/not-applied")
def not_applied(request: Request, device_id: DeviceId) -> NotAppliedDeployments:
    """The deployments that target a device and do not apply, each with its reason."""
    context = context_of(request)
    assignment_of(context, device_id)
    return NotAppliedDeployments(
        device_id,
        [
            NotAppliedDeployment(line.deployment_id, line.why, line.by or None)
            for line in context.fleet_projection.not_applied(device_id)
        ],
    )


@router.get("/devices/{device_id}/modules")
def modules(request: Request, device_id: DeviceId) -> ModuleStatuses:
    """Each module's desired and reported runtime status."""
    twin = context_of(request).twins.module(device_id, "$edgeAgent")
    if twin is None:
        raise DeviceNotFound(device_id)
    desired, reported = _by_name(twin["properties"]["desired"]), _by_name(twin["properties"]["reported"])
    return ModuleStatuses(
        device_id,
        {
            name: ModuleStatus(_member(desired.get(name), "status"), _member(reported.get(name), "runtimeStatus"))
            for name in sorted({*desired, *reported})
        },
    )


@router.get("/devices/{device_id}/conflicts")
def device_conflicts(request: Request, device_id: DeviceId) -> DeviceConflicts:
    """On which properties the device's deployments disagree, and who wins."""
    context = context_of(request)
    assignment = effective_of(context, device_id).assignment
    found: list[Conflict] = []
    for layers in (assignment.own_part.stack, assignment.stack):
        found += conflicts([(layer.id, by_module(deployment_of(context, layer.id).content)) for layer in layers])
    for module_id, part in sorted(assignment.module_parts.items()):
        contents = ((layer.id, deployment_of(context, layer.id).content) for layer in part.stack)
        found += conflicts([(name, {module_id: by_module(content)[MODULE]}) for name, content in contents])
    return DeviceConflicts(device_id, found)


@router.post("/devices/{device_id}/reports", status_code=204)
@Access(TWIN_WRITE, own=True, scope="device", cost=REPORT)
async def report(request: Request, device_id: DeviceId, body: ReportBody) -> None:
    """What a device or one of its modules says of itself."""
    await writer_of(request).do(ReportProperties(device_id, body.patch, body.module_id), author_of(request))


@router.get("/devices/{device_id}/assignments")
@Access(TWIN_READ, scope="device", at=True, cost=LONG)
def assignments(
    request: Request, device_id: DeviceId, after: Annotated[int, Query(ge=0, le=POSITION_MAX)] = 0
) -> DeviceAssignmentChanges:
    """The assignment changes that changed a device's assignment, oldest first, from position after + 1 on."""
    context = context_of(request)
    partition = partition_of(device_id, context.log.partitions)
    changes = changes_of(context, partition, assignment_of(context, device_id).ordinal, after)
    return DeviceAssignmentChanges(device_id, list(changes))


def _by_name(section: JsonObject) -> JsonObject:
    found: JsonObject = {}
    for group, prefix in (("modules", ""), ("systemModules", "$")):
        members_ = section.get(group)
        if isinstance(members_, dict):
            found |= {f"{prefix}{name}": value for name, value in members_.items()}
    return found


def _member(value: object, name: str) -> Any:
    return value.get(name) if isinstance(value, dict) else None
