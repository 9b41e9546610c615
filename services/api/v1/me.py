"""`/v1/me`: the caller, as the API knows it from the credentials of the request."""

from fastapi import Request

from events.canonical import JsonObject
from services.api.context.request import caller_of
from services.api.http.access import Access, Open
from services.api.http.openapi import answers
from services.api.v1 import described
from services.api.v1.router import v1_router

router = v1_router()


@router.get("/me", response_model=None, responses=answers(described.Me))
@Access(Open.AUTHENTICATED, at="it tells who calls now")
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
