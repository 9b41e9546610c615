"""Calls the handler of a route with the values of its parameters, as FastAPI declares them, with less work per request."""

import email.message
import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec
from fastapi._compat import ModelField, field_annotation_is_sequence
from fastapi.dependencies.models import Dependant
from fastapi.dependencies.utils import request_params_to_args
from fastapi.encoders import jsonable_encoder
from fastapi.routing import RouteContext
from fastapi.utils import is_body_allowed_for_status_code
from pydantic import BaseModel
from pydantic_core import PydanticUndefined
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from services.api.http.json_answer import EncodedJson, JsonAnswer

_IMMUTABLE = (type(None), str, int, float, bool)


class RouteUnsupported(Exception):
    """A route declares something that only the framework's own code serves."""


class _Invalid(Exception):
    """A value does not fit its declaration. FastAPI has the error."""


class _Parameter(msgspec.Struct, frozen=True):
    """A single value of the path, the query or the headers; required if the default is `PydanticUndefined`."""

    name: str
    alias: str
    field: ModelField
    default: object


class _Parameters:
    """The parameters of a function from one source: the path, the query or the headers."""

    def __init__(self, fields: Sequence[ModelField]) -> None:
        self._single = [
            _Parameter(field.name, field.alias, field, field.get_default()) for field in fields if _is_single(field)
        ]
        self._compound = [field for field in fields if not _is_single(field)]

    def add_values(self, values: dict[str, Any], source: Any) -> None:
        """Add the values of a request; _Invalid if one does not fit."""
        for parameter in self._single:
            text = source.get(parameter.alias)
            if text is None:
                if parameter.default is PydanticUndefined:
                    raise _Invalid
                values[parameter.name] = parameter.default
                continue
            values[parameter.name] = _validated(parameter.field, text)
        if self._compound:
            values_of_compound, errors = request_params_to_args(self._compound, source)
            if errors:
                raise _Invalid
            values.update(values_of_compound)


def _validated(field: ModelField, value: Any) -> Any:
    value, errors = field.validate(value)
    if errors:
        raise _Invalid
    return value


def _is_single(field: ModelField) -> bool:
    """Whether a field has one name, a value that is no list and no object, and a default that all requests can share."""
    info = field.field_info
    is_object = inspect.isclass(info.annotation) and issubclass(info.annotation, BaseModel)
    has_one_name = info.validation_alias in {None, info.alias} and not field.config
    default = field.get_default()
    is_shared = (default is PydanticUndefined or isinstance(default, _IMMUTABLE)) and not info.validate_default
    return has_one_name and is_shared and not is_object and not field_annotation_is_sequence(info.annotation)


class _Function:
    """A handler or a dependency, and where its arguments come from."""

    def __init__(self, dependant: Dependant, arguments: Mapping[str, int]) -> None:
        assert dependant.call is not None
        self._call, self._is_coroutine = dependant.call, inspect.iscoroutinefunction(dependant.call)
        self._arguments = tuple(arguments.items())
        self._path, self._query = _Parameters(dependant.path_params), _Parameters(dependant.query_params)
        self._headers = _Parameters(dependant.header_params)
        self._has_query, self._has_headers = bool(dependant.query_params), bool(dependant.header_params)
        self._body = next(iter(dependant.body_params), None)
        self._request_name, self._response_name = dependant.request_param_name, dependant.response_param_name

    def values(self, request: Request, body: Any) -> dict[str, Any]:
        """The validated values of its parameters; _Invalid if one does not fit."""
        values: dict[str, Any] = {}
        self._path.add_values(values, request.scope["path_params"])
        if self._has_query:
            self._query.add_values(values, request.query_params)
        if self._has_headers:
            self._headers.add_values(values, request.headers)
        if self._body is not None:
            if body is not PydanticUndefined:
                values[self._body.name] = _validated(self._body, body)
            elif self._body.field_info.is_required():
                raise _Invalid
            else:
                values[self._body.name] = self._body.get_default()
        return values

    async def run(self, values: dict[str, Any], results: Sequence[Any], request: Request, response: Response) -> Any:
        """Call it; a function that is no coroutine runs in a thread."""
        for name, index in self._arguments:
            values[name] = results[index]
        if self._request_name is not None:
            values[self._request_name] = request
        if self._response_name is not None:
            values[self._response_name] = response
        return await (self._call(**values) if self._is_coroutine else run_in_threadpool(self._call, **values))


class HandlerCall:
    """The dependencies and the handler of a route of FastAPI, as an ASGI application.

    Each value is validated by the field that FastAPI made of its declaration. FastAPI resolves the declarations of each request
    again, which took longer than a read of Redis. A request with a value that does not fit is handed to FastAPI, which has the
    error, before anything ran.
    """

    def __init__(self, route: RouteContext) -> None:
        """Prepare the calls; RouteUnsupported if the route declares what none of ours does."""
        self._framework = route.app
        self._body: ModelField | None = route.body_field
        self._status: int | None = route.status_code
        self._functions: list[_Function] = []
        self._indexes: dict[Callable[..., Any], int] = {}
        self._has_response = False
        self._add(route.dependant)
        if route.response_field is not None or route.is_sse_stream or route.is_json_stream:
            raise RouteUnsupported(f"{route.path}: FastAPI makes the answer")

    def _add(self, dependant: Dependant) -> int:
        """The position of a function among those that are called, after those that it depends on."""
        call = dependant.call
        assert call is not None
        if call in self._indexes:
            return self._indexes[call]
        if dependant.cookie_params or dependant.background_tasks_param_name or dependant.security_scopes_param_name:
            raise RouteUnsupported(f"{call.__qualname__}: cookies, background tasks and scopes of OAuth")
        if dependant.http_connection_param_name or not dependant.use_cache:
            raise RouteUnsupported(f"{call.__qualname__}: a connection, and a dependency that is called again")
        if any(field is not self._body for field in dependant.body_params):
            raise RouteUnsupported(f"{call.__qualname__}: a body that several parameters share")
        if inspect.isgeneratorfunction(call) or inspect.isasyncgenfunction(call) or not inspect.isroutine(call):
            raise RouteUnsupported(f"{call.__qualname__} is a function that returns")
        positions = [(dependency.name, self._add(dependency)) for dependency in dependant.dependencies]
        self._has_response |= dependant.response_param_name is not None
        self._functions.append(_Function(dependant, {name: position for name, position in positions if name}))
        self._indexes[call] = len(self._functions) - 1
        return self._indexes[call]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        request = Request(scope, receive, send)
        text = await request.body() if self._body is not None else b""
        common, results = _NO_RESPONSE, list[Any]()
        try:
            body = await _decoded(request) if text else PydanticUndefined
            values = [function.values(request, body) for function in self._functions]
        except (_Invalid, ValueError):  # The second: the body is no JSON, or no text.
            # Nothing ran yet, and FastAPI has the error.
            await self._framework(scope, _replayed(text, receive) if self._body is not None else receive, send)
            return
        if self._has_response:
            common = Response()
            del common.headers["content-length"]
            common.status_code = 0
        for function, values_of_function in zip(self._functions, values, strict=True):
            results.append(await function.run(values_of_function, results, request, common))
        answer = results[-1]
        response = answer if isinstance(answer, Response) else self._response(answer, common)
        await response(scope, receive, send)

    def _response(self, answer: Any, common: Response) -> Response:
        """The response of a handler that returns what its body is; `common` has a status and headers that it may have set."""
        content = answer if answer is None or isinstance(answer, EncodedJson) else jsonable_encoder(answer)
        response = JsonAnswer(content, (self._has_response and common.status_code) or self._status or 200)
        if not is_body_allowed_for_status_code(response.status_code):
            response.body = b""
        if self._has_response:
            response.headers.raw.extend(common.headers.raw)
        return response


_NO_RESPONSE = Response()


async def _decoded(request: Request) -> Any:
    """A body that is not empty: decoded if it is JSON."""
    content_type = request.headers.get("content-type")
    return await request.json() if content_type and _is_json(content_type) else await request.body()


@functools.lru_cache(maxsize=64)
def _is_json(content_type: str) -> bool:
    """Whether a body is JSON, as FastAPI decides it."""
    message = email.message.Message()
    message["content-type"] = content_type
    subtype = message.get_content_subtype()
    return message.get_content_maintype() == "application" and (subtype == "json" or subtype.endswith("+json"))


def _replayed(text: bytes, receive: Receive) -> Receive:
    """What receives a body that was received already, and then what follows it."""
    first: list[Message] = [{"type": "http.request", "body": text, "more_body": False}]

    async def receive_again() -> Message:
        return first.pop() if first else await receive()

    return receive_again
