"""`/v1/devices`: what devices run and why, what they report, and what changed for them."""

from typing import Annotated, Any

import msgspec
from fastapi import Query, Request, Response

from events.canonical import JsonObject
from events.device.commands import ReportProperties
from events.device.errors import DeviceNotFound
from events.log.keys import partition_of
from events.manifest.document import MODULE, by_module
from events.manifest.merge import Conflict, conflicts
from events.secrets.references import mask
from services.api.context.deployments import deployment_of
from services.api.context.pages import PAGE_MAX, page, place_of
from services.api.context.request import author_of, caller_of, room_of, writer_of
from services.api.http.access import TWIN_READ, TWIN_WRITE, Access
from services.api.http.json_answer import JsonAnswer
from services.api.http.openapi import answers
from services.api.http.path_names import DeviceId
from services.api.http.request_costs import LONG, REPORT
from services.api.v1 import described
from services.api.v1.bodies import ReportBody
from services.api.v1.device_assignment import assignment_of, changes_of, effective_of, parts_of
from services.api.v1.router import v1_router

POSITION_MAX = 2**53 - 1


router = v1_router(read=Access(TWIN_READ, scope="device", at=True))


@router.get("/devices", response_model=None, responses=answers(described.DevicePage))
@Access(TWIN_READ, scope="handler", at=True)
def devices(
    request: Request,
    top: Annotated[int, Query(ge=1, le=PAGE_MAX)] = 100,
    continuation: Annotated[str | None, Query()] = None,
) -> JsonObject:
    """The ids of all devices, page by page."""
    room = room_of(request)
    within = room.within(caller_of(request))
    after = place_of(room.continuations.open(continuation))
    return page(room, room.view.devices(after=after, limit=top, within=within))


@router.get("/devices/{device_id}/effective", response_model=None, responses=answers(described.EffectiveConfiguration))
def effective(request: Request, device_id: DeviceId) -> Response:
    """What a device should run, its layers and versions, and why; secrets show as `***`."""
    room = room_of(request)
    found = effective_of(room, device_id)
    return JsonAnswer(
        {
            "deviceId": device_id,
            "managed": found.managed,
            "standing": found.row.standing.value,
            "reason": found.row.reason or None,
            "layers": [layer.id for layer in found.row.stack],
            "versions": found.row.module_versions,
            "configuration": found.row.configuration,
            "modules": mask(found.modules),
            **parts_of(found),
            "outcome": found.outcome,
            "since": found.since,
            "cause": found.cause,
            "asOf": {"partition": found.vector.partition, "fleet": found.vector.fleet},
        }
    )


@router.get("/devices/{device_id}/passed-over", response_model=None, responses=answers(described.PassedOverList))
def passed_over(request: Request, device_id: DeviceId) -> JsonObject:
    """The deployments that target a device and do not apply, each with its reason."""
    room = room_of(request)
    assignment_of(room, device_id)
    found = room.view.passed_over(device_id)
    return {
        "deviceId": device_id,
        "passedOver": [{"deployment": one.deployment_id, "why": one.why.value, "by": one.by or None} for one in found],
    }


@router.get("/devices/{device_id}/modules", response_model=None, responses=answers(described.ModuleStatuses))
def modules(request: Request, device_id: DeviceId) -> JsonObject:
    """Each module's desired and reported runtime status."""
    room = room_of(request)
    twin = room.twins.module(device_id, "$edgeAgent")
    if twin is None:
        raise DeviceNotFound(device_id)
    desired, reported = twin["properties"]["desired"], twin["properties"]["reported"]
    names = {**_by_name(desired), **_by_name(reported)}
    return {
        "deviceId": device_id,
        "modules": {
            name: {
                "desired": _member(_by_name(desired).get(name), "status"),
                "runtimeStatus": _member(_by_name(reported).get(name), "runtimeStatus"),
            }
            for name in sorted(names)
        },
    }


@router.get("/devices/{device_id}/conflicts", response_model=None, responses=answers(described.ConflictList))
def device_conflicts(request: Request, device_id: DeviceId) -> JsonObject:
    """On which properties the device's deployments disagree, and who wins."""
    room = room_of(request)
    found = effective_of(room, device_id)
    both: list[Conflict] = []
    for layers in (found.row.own_part.stack, found.row.stack):
        both += conflicts([(layer.id, by_module(deployment_of(room, layer.id).content)) for layer in layers])
    for module_id, part in sorted(found.row.module_parts.items()):
        contents = ((layer.id, deployment_of(room, layer.id).content) for layer in part.stack)
        both += conflicts([(name, {module_id: by_module(content)[MODULE]}) for name, content in contents])
    return {"deviceId": device_id, "conflicts": [msgspec.to_builtins(one) for one in both]}


@router.post("/devices/{device_id}/reports", status_code=204)
@Access(TWIN_WRITE, own=True, scope="device", cost=REPORT)
async def report(request: Request, device_id: DeviceId, body: ReportBody) -> None:
    """What a device or one of its modules says of itself."""
    await writer_of(request).do(ReportProperties(device_id, body.patch, body.module_id), author_of(request))


@router.get("/devices/{device_id}/outcomes", response_model=None, responses=answers(described.ChangeList))
@Access(TWIN_READ, scope="device", at=True, cost=LONG)
def outcomes(
    request: Request, device_id: DeviceId, after: Annotated[int, Query(ge=0, le=POSITION_MAX)] = 0
) -> JsonObject:
    """The outcomes that changed a device's assignment, oldest first, from position after + 1 on."""
    room = room_of(request)
    partition = partition_of(device_id, room.log.partitions)
    changes = changes_of(room, partition, assignment_of(room, device_id).ordinal, after)
    return {"deviceId": device_id, "outcomes": list(changes)}


def _by_name(section: JsonObject) -> JsonObject:
    found: JsonObject = {}
    for group, prefix in (("modules", ""), ("systemModules", "$")):
        members_ = section.get(group)
        if isinstance(members_, dict):
            found |= {f"{prefix}{name}": value for name, value in members_.items()}
    return found


def _member(value: object, name: str) -> Any:
    return value.get(name) if isinstance(value, dict) else None
