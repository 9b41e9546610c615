"""Answers as JSON, written by msgspec, where the handler runs: in a thread, and not in the event loop of all requests."""

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any, Generic, TypeVar

import msgspec
from fastapi.responses import JSONResponse, Response
from typing_extensions import override

T = TypeVar("T")


class AnswerBody(msgspec.Struct, rename="camel", forbid_unknown_fields=True):
    """What a handler answers: an object with these members and no others, named as JSON names things.

    The description of the API is made from it (services/api/http/openapi.py); its docstring is part of that. A member that
    may be left out is `UNSET` by default.
    """


def one_of(*texts: str) -> msgspec.Meta:
    """Describes a member of an answer that has one of some texts; for use in `Annotated[str, …]`."""
    return msgspec.Meta(extra_json_schema={"enum": list(texts)})


class EncodedJson(str):
    """JSON as text; the framework passes a text on as it is, instead of walking through it."""

    __slots__ = ()


class JsonAnswer(JSONResponse, Generic[T]):
    """A JSON body; for handlers that are coroutines, or that set a status or headers."""

    def __init__(
        self, content: T, status_code: int = 200, headers: Mapping[str, str] | None = None, **options: Any
    ) -> None:
        super().__init__(content, status_code, headers, **options)

    @override
    def render(self, content: Any) -> bytes:
        return content.encode() if isinstance(content, EncodedJson) else msgspec.json.encode(content)


def encoding(handler: Callable[..., Any]) -> Callable[..., Any]:
    """The handler, with its answer encoded in the thread that it runs in; one that is a coroutine stays as it is."""
    if inspect.iscoroutinefunction(handler):
        return handler

    @functools.wraps(handler)
    def encoded(*positional: Any, **named: Any) -> Any:
        answer = handler(*positional, **named)
        if answer is None or isinstance(answer, Response):
            return answer
        return EncodedJson(msgspec.json.encode(answer).decode())

    return encoded
