"""`/v1/me`: the caller, as the credentials of the request identify it."""

from fastapi import Request

from services.api.context.request import caller_of
from services.api.http.access import Access, Open
from services.api.http.json_answer import AnswerBody
from services.api.v1.router import v1_router

router = v1_router()


class CallerAnswer(AnswerBody):
    """The caller. `role` is `null` without a token, `scope` is `null` for a caller without a scope.

    `expiresAt` is when the token expires (milliseconds since 1970), `null` if it does not.
    """

    principal: str
    role: str | None
    permissions: list[str]
    scope: str | None
    expires_at: int | None


@router.get("/me")
@Access(Open.AUTHENTICATED, at="it describes the caller of this request")
def me(request: Request) -> CallerAnswer:
    """The principal that the caller's writes are recorded under, its permissions, and when its token expires."""
    caller = caller_of(request)
    return CallerAnswer(
        principal=str(caller.principal),
        role=caller.role or None,
        permissions=sorted(permission.value for permission in caller.permissions),
        scope=None if caller.scope is None else caller.scope.text,
        expires_at=caller.expires_at or None,
    )
