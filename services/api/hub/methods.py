"""Direct methods on the hub's paths: no device can be connected, so each call is answered as the hub answers for one that is not."""

from typing import NoReturn

from fastapi import Request

from events.device.errors import DeviceNotFound, ModuleNotFound
from services.api.context.request import room_of
from services.api.http.access import TWIN_WRITE, Access
from services.api.http.errors import DeviceNotOnline
from services.api.http.openapi import answers
from services.api.http.path_names import DeviceId, ModuleId
from services.api.http.request_costs import TWIN
from services.api.hub import described
from services.api.hub.bodies import MethodBody
from services.api.hub.router import hub_router

router = hub_router(write=Access(TWIN_WRITE, scope="device", cost=TWIN))


@router.post("/twins/{device_id}/methods", response_model=None, responses=answers(described.MethodResult))
def call_method(request: Request, device_id: DeviceId, body: MethodBody) -> NoReturn:
    """Call a direct method of a device; 404 `DeviceNotOnline` where it is not connected."""
    if room_of(request).twins.device(device_id) is None:
        raise DeviceNotFound(device_id)
    raise DeviceNotOnline(device_id, body.method_name)


@router.post(
    "/twins/{device_id}/modules/{module_id}/methods",
    response_model=None,
    responses=answers(described.MethodResult),
)
def call_module_method(request: Request, device_id: DeviceId, module_id: ModuleId, body: MethodBody) -> NoReturn:
    """Call a direct method of a module; 404 `DeviceNotOnline` where it is not connected."""
    twins = room_of(request).twins
    if twins.device(device_id) is None:
        raise DeviceNotFound(device_id)
    if module_id not in twins.module_ids(device_id):
        raise ModuleNotFound(device_id, module_id)
    raise DeviceNotOnline(f"{device_id}/{module_id}", body.method_name)
