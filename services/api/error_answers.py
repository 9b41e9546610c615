"""Answers to errors: the status and code of each, in the body that clients of its path expect."""

from collections.abc import Mapping

import structlog
from fastapi import Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from events.canonical import JsonObject
from events.member_names import in_body_names
from services.api.context.api_context import ApiContext
from services.api.context.callers import Caller
from services.api.device_update.lists import PREFIX
from services.api.http import errors
from services.api.http.json_answer import JsonAnswer
from services.api.http.route_index import RouteIndex

_LINES = {"/v1/events", "/v1/preview"}
"""Paths whose bodies are lines of commands."""

logger = structlog.get_logger()


async def rejected(request: Request, error: Exception) -> JSONResponse:
    """The answer to an expected error."""
    if isinstance(error, errors.DAMAGE):
        logger.error("history is stopped", id=request.state.request_id, path=request.scope["path"], why=str(error))
    caller: Caller = request.state.caller
    text = errors.text_of(error, is_limited=caller.scope is not None or caller.device_id is not None)
    _drop_frames(error)
    # Lines of commands have the commands' own names, as `device_id`; bodies have those of JSON, as `deviceId`.
    return _answer(request, errors.answer_of(error), text if request.scope["path"] in _LINES else in_body_names(text))


async def invalid(request: Request, error: RequestValidationError) -> JSONResponse:
    """The answer to a body, query or header that does not have the declared form."""
    problems = []
    for detail in error.errors():
        # In the caller's terms: `rollout.phases[0].gate`, `query.top`, `the body`.
        first, *path = detail["loc"]
        names = path if first == "body" else [first, *path]
        location = "".join(f"[{name}]" if isinstance(name, int) else f".{name}" for name in names).removeprefix(".")
        if detail["type"] == "json_invalid":
            location = f"the body, character {path[0]}" if path else ""
        # Without the value: a body can hold passwords.
        problems.append(f"{location or 'the body'}: {detail['msg']}")
    _drop_frames(error)
    return await rejected(request, errors.BodyInvalid("; ".join(problems)))


def _drop_frames(error: BaseException | None) -> None:
    """Remove the frames from an error that is answered, and from its causes."""
    # Frames hold the body of the request, and lead back to the error: such a cycle stays until the garbage collector runs, which
    # counts objects, not megabytes.
    while error is not None:
        error.__traceback__ = None
        error = error.__cause__ or error.__context__


async def rejected_by_framework(request: Request, error: HTTPException) -> JSONResponse:
    """The answer to what the framework rejects: an unknown path or method, bytes that are not text."""
    _drop_frames(error)
    status = error.status_code
    answer = errors.BY_STATUS.get(status, errors.HttpError(status, errors.BAD_REQUEST.code))
    headers: dict[str, str] = {}
    if answer.status == errors.METHOD_NOT_ALLOWED:
        routes: RouteIndex = request.app.state.routes
        headers["Allow"] = ", ".join(routes.methods(request.scope["path"]))
    return _answer(request, answer, str(error.detail), headers)


def failed(request: Request, error: Exception) -> JSONResponse:
    """The answer to an unexpected error: the id under which the log has its traceback."""
    logger.error("request failed", id=request.state.request_id, path=request.scope["path"], exc_info=error)
    return _answer(request, errors.INTERNAL, "something failed here; the log has it under this id")


def _answer(
    request: Request, answer: errors.HttpError, message: str, more_headers: Mapping[str, str] | None = None
) -> JSONResponse:
    request_id, path = request.state.request_id, request.scope["path"]
    headers = {"iothub-errorcode": answer.code, **(more_headers or {})}
    if answer.temporary:
        headers["Retry-After"] = str(errors.RETRY_AFTER_SECONDS)
    if path.startswith("/v1/"):
        body: errors.ErrorAnswer | errors.HubErrorAnswer | JsonObject = errors.ErrorAnswer(
            errors.Error(answer.code, message, request_id)
        )
    elif path.startswith(f"{PREFIX}/"):
        body = {"error": {"code": answer.code, "message": message}}
    else:
        context: ApiContext = request.app.state.context
        body = errors.hub_error(answer, message, request_id=request_id, at=context.clock())
    return JsonAnswer(body, answer.status, headers)
