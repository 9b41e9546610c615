"""A router whose routes declare their access, and whose handlers declare their answers by their return type."""

import inspect
from collections.abc import Callable, Mapping
from types import UnionType
from typing import Any, NoReturn, Union, get_args, get_origin

import msgspec
from fastapi import APIRouter
from fastapi.responses import Response
from fastapi.routing import APIRoute
from typing_extensions import override

from services.api.http.access import DECLARED, Access
from services.api.http.json_answer import JsonAnswer, encoding
from services.api.http.openapi import ERRORS

_ANSWER_TYPES = "answer_types"


class DeclaringRouter(APIRouter):
    """A router that declares `read` for routes with GET and `write` for others, unless the handler has a declaration.

    A handler's return type describes its answer: a struct, a list of structs, or a `JsonAnswer` of either if the handler sets
    headers or a status. A `type` in an entry of `responses` describes the answer of that status. `error` is the struct of every
    error.
    """

    def __init__(
        self,
        *,
        read: Access | None = None,
        write: Access | None = None,
        error: type[msgspec.Struct] | None = None,
        **options: Any,
    ) -> None:
        super().__init__(responses=None if error is None else ERRORS, **options)
        self._read, self._write, self._error = read, write, error

    @override
    def add_api_route(self, path: str, endpoint: Callable[..., Any], **options: Any) -> None:
        responses = {status: dict(entry) for status, entry in (options.get("responses") or {}).items()}
        own_types = {status: _answer_types(entry.pop("type")) for status, entry in responses.items() if "type" in entry}
        # `response_model=None`: FastAPI would make a pydantic model of the return type and validate each answer by it.
        super().add_api_route(path, encoding(endpoint), **{**options, "responses": responses, "response_model": None})
        route = self.routes[-1]
        assert isinstance(route, APIRoute)
        # On the route and not on the handler: one handler may have a route that reads and another that writes.
        setattr(route, DECLARED, self._read if route.methods == {"GET"} else self._write)
        types = {} if self._error is None else dict.fromkeys(map(int, self.responses), (self._error,))
        types[route.status_code or 200] = _answer_types(inspect.signature(endpoint).return_annotation)
        setattr(route, _ANSWER_TYPES, {**types, **own_types})


def answer_types_of(route: object) -> Mapping[int, tuple[Any, ...]]:
    """The alternative types of a route's answers, by status; empty for an answer without a JSON body or without a type."""
    answers: Mapping[int, tuple[Any, ...]] = getattr(route, _ANSWER_TYPES, {})
    return answers


def _answer_types(annotation: Any) -> tuple[Any, ...]:
    """The alternative types of a JSON answer by its annotation; empty if the answer is no JSON, or a plain dictionary."""
    if get_origin(annotation) in {Union, UnionType}:
        return tuple(answer_type for part in get_args(annotation) for answer_type in _answer_types(part))
    if get_origin(annotation) is JsonAnswer:
        return _answer_types(get_args(annotation)[0])
    is_response = isinstance(annotation, type) and issubclass(annotation, Response)
    has_no_type = annotation in {None, NoReturn} or get_origin(annotation) is dict
    return () if is_response or has_no_type else (annotation,)
