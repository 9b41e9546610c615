"""`/v1/devices/{id}/personal`: the personal tags of a device, for administrators alone."""

from fastapi import APIRouter, Request

from events.canonical import JsonObject
from events.device import state
from events.device.errors import DeviceNotFound
from events.properties import SECRET
from events.secrets.errors import SecretErased
from services.api import described
from services.api.asking import room_of
from services.api.described import answers, refusals
from services.api.paths import DeviceId
from services.api.secret_reads import note_read

router = APIRouter(prefix="/v1", tags=["v1"], responses=refusals(described.ErrorAnswer))


@router.get("/devices/{device_id}/personal", response_model=None, responses=answers(described.PersonalTags))
def personal(request: Request, device_id: DeviceId) -> JsonObject:
    """The personal tags in plain (TWINFOLD_PERSONAL_TAGS); every other answer has `***` in their place."""
    room = room_of(request)
    (stored,) = room.log.load([device_id])
    document = None if stored.snapshot is None else state.decode_device(stored.snapshot)
    if document is None or document.retired:
        raise DeviceNotFound(device_id)
    found = room.vault.personal.references(state.section(document.tags))
    if found:
        note_read(request, [device_id], what="personal tags")
    shown: dict[str, str] = {}
    erased = []
    for path, secret_id in found.items():
        try:
            shown[path] = room.vault.opened.reveal({SECRET: secret_id})
        except SecretErased:
            erased.append(path)
    return {"deviceId": device_id, "tags": shown, "erased": erased}
