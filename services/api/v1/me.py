"""`/v1/me`: the caller, as the API knows it from the credentials of the request."""

from fastapi import Request

from services.api.context.request import caller_of
from services.api.http.access import Access, Open
from services.api.http.json_answer import AnswerBody
from services.api.v1.router import v1_router

router = v1_router()


class CallerAnswer(AnswerBody):
    """The caller. `role` is null unless a token was shown, `scope` where the caller is not limited to one.

    `expiresAt` is when the token ends (milliseconds since 1970), null where it does not.
    """

    principal: str
    role: str | None
    permissions: list[str]
    scope: str | None
    expires_at: int | None


@router.get("/me")
@Access(Open.AUTHENTICATED, at="it tells who calls now")
def me(request: Request) -> CallerAnswer:
    """The name under which the caller's writes are recorded, what the caller may do, and until when."""
    caller = caller_of(request)
    return CallerAnswer(
        principal=str(caller.principal),
        role=caller.role or None,
        permissions=sorted(permission.value for permission in caller.permissions),
        scope=None if caller.scope is None else caller.scope.text,
        expires_at=caller.expires_at or None,
    )
