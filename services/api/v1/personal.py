"""`/v1/devices/{id}/personal`: the personal tags of a device, for administrators alone."""

from fastapi import Request

from events.device.state import section
from events.log.device_documents import load_device
from events.properties import SECRET
from events.secrets.errors import SecretErased
from services.api.auth.secret_reads import note_read
from services.api.context.request import context_of
from services.api.http.access import ADMIN, Access
from services.api.http.json_answer import AnswerBody
from services.api.http.path_names import DeviceId
from services.api.v1.router import v1_router

router = v1_router()


class PersonalTags(AnswerBody):
    """The personal tags of a device in plain, by path; `erased` are the paths whose values were destroyed."""

    device_id: str
    tags: dict[str, str]
    erased: list[str]


@router.get("/devices/{device_id}/personal")
@Access(ADMIN, scope="device", at=True)
def personal(request: Request, device_id: DeviceId) -> PersonalTags:
    """The personal tags in plain (TWINFOLD_PERSONAL_TAGS); every other answer has `***` in their place."""
    context = context_of(request)
    references = context.vault.personal.references(section(load_device(context.log, device_id).tags))
    if references:
        note_read(request, [device_id], what="personal tags")
    answer = PersonalTags(device_id, {}, [])
    for path, secret_id in references.items():
        try:
            answer.tags[path] = context.vault.opened.reveal({SECRET: secret_id})
        except SecretErased:
            answer.erased.append(path)
    return answer
