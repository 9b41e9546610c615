"""`/v1/devices`: the configuration of devices, their reports, and the changes of their assignments."""

from typing import Annotated, Any

from fastapi import Query, Request
from msgspec import UNSET, UnsetType

from events.canonical import JsonObject
from events.device.commands import ReportProperties
from events.device.state import section
from events.explain.device_report import ModuleStatus
from events.fleet.assignments import Assignment, AssignmentStatus, Own
from events.log.device_documents import load_device
from events.log.keys import partition_of
from events.manifest.document import MODULE, by_module
from events.manifest.merge import Conflict, conflicts
from events.projection_store.fleet_projection import Effective
from events.projection_store.port import StoredDevice
from events.properties import SECRET
from events.secrets.errors import SecretErased
from events.secrets.references import mask_stored
from events.stored_projection.not_applied import Why
from services.api.auth.secret_reads import note_read
from services.api.context.api_context import ApiContext
from services.api.context.deployments import deployment_of
from services.api.context.pages import DevicePage, PageInQuery, page
from services.api.context.request import author_of, context_of, existing, reach_of, reader_of, writer_of
from services.api.http.access import ADMIN, TWIN_READ, TWIN_WRITE, Access
from services.api.http.json_answer import AnswerBody, JsonAnswer
from services.api.http.path_names import DeviceId
from services.api.http.request_costs import LONG, REPORT
from services.api.v1.bodies import ReportBody
from services.api.v1.router import v1_router

# The largest integer that a double holds exactly: scripts in Redis and clients in JavaScript read positions as doubles.
POSITION_MAX = 2**53 - 1
Position = Annotated[int, Query(ge=0, le=POSITION_MAX)]

router = v1_router(read=Access(TWIN_READ, scope="device", at=True))


# A `Vector` is encoded as an array, where a reader could not tell which position is which.
class AsOf(AnswerBody):
    """The positions of the device's partition and of the fleet up to which an answer has all events."""

    partition: int
    fleet: int


class PartVersion(AnswerBody):
    """The configurations of the device's own twin by ascending rank, and the number of their changes, from 1."""

    version: int
    layers: list[str]


class ModulePart(AnswerBody):
    """The configurations of a single module by ascending rank, the number of their changes, and why they do not apply.

    `reason` is `null` if they apply.
    """

    version: int
    layers: list[str]
    reason: str | None

    @classmethod
    def all_of(cls, assignment: Assignment) -> "dict[str, ModulePart] | UnsetType":
        """The parts by module, `UNSET` if no configuration ever set anything in a module."""
        parts = sorted(assignment.module_parts.items())
        return {name: cls(part.version, layers_of(part), part.reason or None) for name, part in parts} or UNSET


class DevicePart(AnswerBody):
    """What configurations set in the device's own twin, with `layers` by ascending rank.

    `version` is the number of changes. `reason` says why they do not apply; it is `null` if they do.
    """

    desired: dict[str, Any]
    version: int
    layers: list[str]
    reason: str | None


class DeviceAssignmentChange(AnswerBody):
    """A change of a device's assignment. `at` is in milliseconds."""

    assignment_change: int
    at: int
    status: AssignmentStatus
    layers: list[str]
    configuration: str
    versions: dict[str, int]
    device: PartVersion | UnsetType = UNSET
    by_module: dict[str, ModulePart] | UnsetType = UNSET


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
async def effective(request: Request, device_id: DeviceId) -> JsonAnswer[EffectiveConfiguration]:
    """What a device should run, its layers and versions, and why. Secrets appear as `***`."""
    return await reader_of(request).answer(
        context_of(request), device_id, lambda effective: _effective_answer(existing(device_id, effective))
    )


def _effective_answer(effective: Effective) -> JsonAnswer[EffectiveConfiguration]:
    assignment, own, vector = effective.assignment, effective.assignment.own, effective.checkpoint.vector
    device: DevicePart | UnsetType = UNSET
    if own is not UNSET:
        device = DevicePart(effective.own_section or {}, own.version, layers_of(own), own.reason or None)
    answer = EffectiveConfiguration.filled(
        effective,
        status=assignment.status,
        reason=assignment.reason or None,
        layers=layers_of(assignment),
        versions=assignment.module_versions,
        configuration=assignment.configuration,
        modules=mask_stored(effective.modules),
        by_module=ModulePart.all_of(assignment),
        device=device,
        since=effective.at,
        as_of=AsOf(vector.partition, vector.fleet),
    )
    return JsonAnswer(answer)


@router.get("/devices/{device_id}/not-applied")
def not_applied(request: Request, device_id: DeviceId) -> NotAppliedDeployments:
    """The deployments that target a device and are not applied, each with its reason."""
    projection = context_of(request).fleet_projection
    existing(device_id, projection.assignment(device_id))  # An unknown device would have an empty list, and not a 404.
    not_applied = projection.not_applied(device_id)
    lines = [NotAppliedDeployment(each.deployment_id, each.why, each.by or None) for each in not_applied]
    return NotAppliedDeployments(device_id, lines)


@router.get("/devices/{device_id}/modules")
def modules(request: Request, device_id: DeviceId) -> ModuleStatuses:
    """The desired and the reported status of each module."""
    # Only the agent reports modules, those of the system included.
    twin = existing(device_id, context_of(request).twins.module(device_id, "$edgeAgent"))
    desired, reported = _by_name(twin["properties"]["desired"]), _by_name(twin["properties"]["reported"])
    statuses = {
        name: ModuleStatus(_member(desired.get(name), "status"), _member(reported.get(name), "runtimeStatus"))
        for name in sorted({*desired, *reported})
    }
    return ModuleStatuses(device_id, statuses)


@router.get("/devices/{device_id}/conflicts")
def device_conflicts(request: Request, device_id: DeviceId) -> DeviceConflicts:
    """The properties that the device's deployments set to different values, and the deployment that wins."""
    context = context_of(request)
    assignment = existing(device_id, context.fleet_projection.effective(device_id)).assignment
    all_conflicts: list[Conflict] = []
    for layers in (assignment.own_part.stack, assignment.stack):
        contents = ((layer.id, deployment_of(context, layer.id).content) for layer in layers)
        all_conflicts += conflicts([(name, by_module(content)) for name, content in contents])
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
def assignments(request: Request, device_id: DeviceId, after: Position = 0) -> DeviceAssignmentChanges:
    """The changes of a device's assignment, oldest first, from position `after` + 1 on."""
    context = context_of(request)
    device = existing(device_id, context.fleet_projection.assignment(device_id))
    return DeviceAssignmentChanges(device_id, changes_of(context, device, after))


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


def layers_of(part: Own | Assignment) -> list[str]:
    """The ids of the layers of an assignment or of a part of one, by ascending rank."""
    return [layer.id for layer in part.stack]


def changes_of(
    context: ApiContext, device: StoredDevice, after: int, *, upto: int | None = None
) -> list[DeviceAssignmentChange]:
    """The changes of a device's assignment, oldest first, at positions after + 1 to `upto`, or to the newest."""
    partition = partition_of(device.device_id, context.log.partitions)
    return [
        DeviceAssignmentChange(
            recorded.position,
            recorded.at,
            assignment.status,
            layers_of(assignment),
            assignment.configuration,
            assignment.module_versions,
            UNSET if assignment.own is UNSET else PartVersion(assignment.own.version, layers_of(assignment.own)),
            ModulePart.all_of(assignment),
        )
        for recorded in context.recent_assignments.recorded(partition, after=after, upto=upto)
        for assignment, ordinals in recorded.moves
        if device.ordinal in ordinals
    ]
