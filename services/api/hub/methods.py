"""Direct methods. No device can be connected, so every call gets the hub's 404 for an offline device."""

from typing import Annotated, Any, NoReturn

from fastapi import Request
from pydantic import Field

from events.device.errors import ModuleNotFound
from services.api.context.request import context_of, existing
from services.api.http.access import TWIN_WRITE, Access
from services.api.http.body_examples import example
from services.api.http.errors import DeviceNotOnline
from services.api.http.json_answer import AnswerBody
from services.api.http.path_names import DeviceId, ModuleId
from services.api.http.request_costs import TWIN
from services.api.hub.bodies import HubBody
from services.api.hub.router import hub_router

router = hub_router(write=Access(TWIN_WRITE, scope="device", cost=TWIN))


class MethodBody(HubBody):
    """A direct method to call. Timeouts are in seconds, within the hub's limits."""

    model_config = example({"methodName": "reboot", "responseTimeoutInSeconds": 30, "payload": {"delay": 3}})

    method_name: Annotated[str, Field(min_length=1)]
    payload: Any = None
    response_timeout_in_seconds: Annotated[int | None, Field(ge=5, le=300)] = None
    connect_timeout_in_seconds: Annotated[int | None, Field(ge=0, le=300)] = None


class MethodResult(AnswerBody):
    """The answer of a direct method: a status of the device's choice, and a payload."""

    status: int
    payload: Any


# The 200 is for the description of the API alone: no handler here gives that answer.
@router.post("/twins/{device_id}/methods", responses={200: {"type": MethodResult}})
def call_method(request: Request, device_id: DeviceId, body: MethodBody) -> NoReturn:
    """Call a direct method of a device. An offline device gets 404 `DeviceNotOnline`."""
    existing(device_id, context_of(request).twins.device(device_id))
    raise DeviceNotOnline(device_id, body.method_name)


@router.post("/twins/{device_id}/modules/{module_id}/methods", responses={200: {"type": MethodResult}})
def call_module_method(request: Request, device_id: DeviceId, module_id: ModuleId, body: MethodBody) -> NoReturn:
    """Call a direct method of a module. A module of an offline device gets 404 `DeviceNotOnline`."""
    twins = context_of(request).twins
    existing(device_id, twins.device(device_id))
    if module_id not in twins.module_ids(device_id):
        raise ModuleNotFound(device_id, module_id)
    raise DeviceNotOnline(f"{device_id}/{module_id}", body.method_name)
