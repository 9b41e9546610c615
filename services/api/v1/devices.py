"""`/v1/devices`: the configuration of devices, their reports, and the changes of their assignments."""

from typing import Annotated, Any

from fastapi import Query, Request
from msgspec import UNSET, UnsetType

from events.canonical import JsonObject
from events.device.commands import ReportProperties
from events.device.errors import DeviceNotFound
from events.device.state import section
from events.explain.device_report import ModuleStatus
from events.fleet.assignments import AssignmentStatus
from events.log.device_documents import load_device
from events.log.keys import partition_of
from events.manifest.document import MODULE, by_module
from events.manifest.merge import Conflict, conflicts
from events.properties import SECRET
from events.secrets.errors import SecretErased
from events.secrets.references import mask
from events.stored_projection.not_applied import Why
from services.api.auth.secret_reads import note_read
from services.api.context.deployments import deployment_of
from services.api.context.pages import DevicePage, PageInQuery, page
from services.api.context.request import author_of, context_of, reach_of, writer_of
from services.api.http.access import ADMIN, TWIN_READ, TWIN_WRITE, Access
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

# The largest integer that a double holds exactly: scripts in Redis and clients in JavaScript read positions as doubles.
POSITION_MAX = 2**53 - 1

router = v1_router(read=Access(TWIN_READ, scope="device", at=True))


class EffectiveConfiguration(AnswerBody, kw_only=True):
    """What a device should run. `versions` has each module's `$version`, `since` is in milliseconds, `cause` is a position.

    `device` is for the device's own twin; it is absent if no configuration ever set anything there. `byModule` has what
    configurations of single modules set, which is part of `modules` and `versions` as well.
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
    """A deployment that targets a device and is not applied, and the reason."""

    deployment: str
    why: Why
    by: str | None


class NotAppliedDeployments(AnswerBody):
    """The deployments that target a device and are not applied."""

    device_id: str
    not_applied: list[NotAppliedDeployment]


class ModuleStatuses(AnswerBody):
    """The status of each module of a device."""

    device_id: str
    modules: dict[str, ModuleStatus]


class DeviceConflicts(AnswerBody):
    """The properties that several deployments of a device set."""

    device_id: str
    conflicts: list[Conflict]


class DeviceAssignmentChanges(AnswerBody):
    """The changes of a device's assignment, oldest first."""

    device_id: str
    assignments: list[DeviceAssignmentChange]


class PersonalTags(AnswerBody):
    """The personal tags of a device in plain, by path. `erased` has the paths whose values were erased."""

    device_id: str
    tags: dict[str, str]
    erased: list[str]


@router.get("/devices")
@Access(TWIN_READ, scope="handler", at=True)
def devices(request: Request, query: PageInQuery) -> DevicePage:
    """The ids of all devices, page by page."""
    context = context_of(request)
    devices = context.fleet_projection.devices(after=query.after(context), limit=query.limit, within=reach_of(request))
    return page(context, devices)


@router.get("/devices/{device_id}/effective")
def effective(request: Request, device_id: DeviceId) -> EffectiveConfiguration:
    """What a device should run, its layers and versions, and why. Secrets appear as `***`."""
    configuration = effective_of(context_of(request), device_id)
    assignment, own = configuration.assignment, configuration.assignment.own
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
        device=UNSET if own is UNSET else DevicePart.of(own, configuration.own_section or {}, own.version),
        assignment_change=configuration.assignment_change,
        since=configuration.at,
        cause=configuration.cause,
        as_of=AsOf.of(configuration.checkpoint.vector),
    )


@router.get("/devices/{device_id}/not-applied")
def not_applied(request: Request, device_id: DeviceId) -> NotAppliedDeployments:
    """The deployments that target a device and are not applied, each with its reason."""
    context = context_of(request)
    # The projection answers an unknown device with an empty list, and not with a 404.
    assignment_of(context, device_id)
    lines = context.fleet_projection.not_applied(device_id)
    return NotAppliedDeployments(
        device_id, [NotAppliedDeployment(line.deployment_id, line.why, line.by or None) for line in lines]
    )


@router.get("/devices/{device_id}/modules")
def modules(request: Request, device_id: DeviceId) -> ModuleStatuses:
    """The desired and the reported status of each module."""
    # Only the agent reports modules, those of the system included.
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
    """The properties that the device's deployments set to different values, and the deployment that wins."""
    context = context_of(request)
    assignment = effective_of(context, device_id).assignment
    all_conflicts: list[Conflict] = []
    for layers in (assignment.own_part.stack, assignment.stack):
        all_conflicts += conflicts(
            [(layer.id, by_module(deployment_of(context, layer.id).content)) for layer in layers]
        )
    for module_id, part in sorted(assignment.module_parts.items()):
        contents = ((layer.id, deployment_of(context, layer.id).content) for layer in part.stack)
        all_conflicts += conflicts([(name, {module_id: by_module(content)[MODULE]}) for name, content in contents])
    return DeviceConflicts(device_id, all_conflicts)


@router.post("/devices/{device_id}/reports", status_code=204)
@Access(TWIN_WRITE, own=True, scope="device", cost=REPORT)
async def report(request: Request, device_id: DeviceId, body: ReportBody) -> None:
    """Report properties of a device or of one of its modules."""
    await writer_of(request).do(ReportProperties(device_id, body.patch, body.module_id), author_of(request))


@router.get("/devices/{device_id}/personal")
@Access(ADMIN, scope="device", at=True)
def personal_tags(request: Request, device_id: DeviceId) -> PersonalTags:
    """The personal tags in plain (`TWINFOLD_PERSONAL_TAGS`). Every other answer has `***` in their place."""
    context = context_of(request)
    references = context.vault.personal.references(section(load_device(context.log, device_id).tags))
    # Noted before the values are revealed: a read that is not in the log did not happen (decision 0026).
    if references:
        note_read(request, [device_id], what="personal tags")
    answer = PersonalTags(device_id, {}, [])
    for path, secret_id in references.items():
        try:
            answer.tags[path] = context.vault.opened.reveal({SECRET: secret_id})
        except SecretErased:
            answer.erased.append(path)
    return answer


@router.get("/devices/{device_id}/assignments")
@Access(TWIN_READ, scope="device", at=True, cost=LONG)
def assignments(
    request: Request, device_id: DeviceId, after: Annotated[int, Query(ge=0, le=POSITION_MAX)] = 0
) -> DeviceAssignmentChanges:
    """The changes of a device's assignment, oldest first, from position `after` + 1 on."""
    context = context_of(request)
    partition = partition_of(device_id, context.log.partitions)
    changes = changes_of(context, partition, assignment_of(context, device_id).ordinal, after)
    return DeviceAssignmentChanges(device_id, list(changes))


def _by_name(section: JsonObject) -> JsonObject:
    modules: JsonObject = {}
    # The agent names system modules without the `$` of their module ids.
    for group, prefix in (("modules", ""), ("systemModules", "$")):
        members_ = section.get(group)
        if isinstance(members_, dict):  # A device can report anything.
            modules |= {f"{prefix}{name}": value for name, value in members_.items()}
    return modules


def _member(value: object, name: str) -> Any:
    return value.get(name) if isinstance(value, dict) else None
