"""`/v1/me`: the caller, as the API knows it from the credentials of the request."""

from fastapi import APIRouter, Request

from events.canonical import JsonObject
from services.api import described
from services.api.asking import caller_of
from services.api.described import answers, refusals

router = APIRouter(prefix="/v1", tags=["v1"], responses=refusals(described.ErrorAnswer))


@router.get("/me", response_model=None, responses=answers(described.Me))
def me(request: Request) -> JsonObject:
    """The name under which the caller's writes are recorded, what the caller may do, and until when."""
    caller = caller_of(request)
    return {
        "principal": str(caller.principal),
        "role": caller.role or None,
        "rights": sorted(right.value for right in caller.rights),
        "scope": None if caller.scope is None else caller.scope.text,
        "expiresAt": caller.expires_at or None,
    }
