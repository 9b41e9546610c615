"""Twins of devices and modules (contract/hub.md §1.4)."""

from fastapi import Request
from starlette.concurrency import run_in_threadpool

from events.device.commands import PatchTwin, ReplaceTwin
from events.device.twin import DeviceTwin, ModuleTwin, device_twin
from events.log.device_documents import registered
from services.api.context.request import author_of, context_of, existing, write, writer_of
from services.api.http.access import TWIN_READ, TWIN_WRITE, Access
from services.api.http.json_answer import JsonAnswer
from services.api.http.path_names import DeviceId, ModuleId
from services.api.http.request_costs import TWIN
from services.api.hub.bodies import TwinBody
from services.api.hub.registry import patch_of, replacement_of
from services.api.hub.router import IfMatch, hub_router

router = hub_router(
    read=Access(TWIN_READ, scope="device", at=True), write=Access(TWIN_WRITE, scope="device", cost=TWIN)
)


@router.get("/twins/{device_id}")
def get_twin(request: Request, device_id: DeviceId) -> DeviceTwin:
    """A device's twin."""
    return existing(device_id, context_of(request).twins.device(device_id))


@router.patch("/twins/{device_id}")
async def patch_twin(
    request: Request, device_id: DeviceId, body: TwinBody, if_match: IfMatch = None
) -> JsonAnswer[DeviceTwin]:
    """Merge-patch a device's tags and desired properties. The answer is the whole twin."""
    return await _write_twin(request, patch_of(device_id, None, body, if_match))


@router.put("/twins/{device_id}")
async def put_twin(
    request: Request, device_id: DeviceId, body: TwinBody, if_match: IfMatch = None
) -> JsonAnswer[DeviceTwin]:
    """Replace a device's tags and desired properties with those of the body."""
    return await _write_twin(request, replacement_of(device_id, None, body, if_match))


async def _write_twin(request: Request, command: PatchTwin | ReplaceTwin) -> JsonAnswer[DeviceTwin]:
    written = await writer_of(request).do(command, author_of(request))
    document = registered(command.device_id, written.document)
    # The twin of a plain device follows from its document alone: a fleet without configurations of own twins pays a read per
    # batch of writes for them, and no thread per request (decision 0019).
    if not written.may_have_own:
        return JsonAnswer(device_twin(command.device_id, document))
    return JsonAnswer(await run_in_threadpool(context_of(request).twins.of, command.device_id, document))


@router.get("/twins/{device_id}/modules/{module_id}")
def get_module_twin(request: Request, device_id: DeviceId, module_id: ModuleId) -> ModuleTwin:
    """A module's twin."""
    return existing(f"{device_id}/{module_id}", context_of(request).twins.module(device_id, module_id))


@router.put("/twins/{device_id}/modules/{module_id}")
def put_module_twin(
    request: Request, device_id: DeviceId, module_id: ModuleId, body: TwinBody, if_match: IfMatch = None
) -> ModuleTwin:
    """Replace a module's tags and the desired properties that were written by hand with those of the body."""
    return _write_module_twin(request, device_id, module_id, replacement_of(device_id, module_id, body, if_match))


@router.patch("/twins/{device_id}/modules/{module_id}")
def patch_module_twin(
    request: Request, device_id: DeviceId, module_id: ModuleId, body: TwinBody, if_match: IfMatch = None
) -> ModuleTwin:
    """Merge-patch a module's tags and desired properties."""
    return _write_module_twin(request, device_id, module_id, patch_of(device_id, module_id, body, if_match))


def _write_module_twin(
    request: Request, device_id: str, module_id: str, command: PatchTwin | ReplaceTwin
) -> ModuleTwin:
    # A module that only a configuration names has no document: projections decide whether it exists.
    get_module_twin(request, device_id, module_id)
    write(request, command)
    return get_module_twin(request, device_id, module_id)
