"""Answers as JSON, encoded by msgspec in the thread of the handler, and not in the event loop of all requests."""

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any, Generic, Self, TypeVar

import msgspec
from fastapi.responses import JSONResponse, Response
from msgspec import UNSET
from typing_extensions import override

T = TypeVar("T")


class AnswerBody(msgspec.Struct, rename="camel", forbid_unknown_fields=True):
    """The answer of a handler: an object with exactly these members, in camelCase.

    The description of the API is made from it (services/api/description.py), its docstring included. An optional member is
    `UNSET` by default.
    """

    @classmethod
    def filled(cls, source: object, **members: Any) -> Self:
        """The answer with these members, and with the attributes of `source` that have the names of its other members."""
        attributes = {name: getattr(source, name, UNSET) for name in cls.__struct_fields__ if name not in members}
        return cls(**{name: value for name, value in attributes.items() if value is not UNSET}, **members)


def one_of(*texts: str) -> msgspec.Meta:
    """Describes a member with an enumeration of texts; for use in `Annotated[str, …]`."""
    return msgspec.Meta(extra_json_schema={"enum": list(texts)})


class EncodedJson(str):
    """JSON as text. FastAPI passes a `str` on as it is; of any other answer it would copy every value."""

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
    """The handler, with its answer encoded in its thread; a coroutine is returned as it is."""
    if inspect.iscoroutinefunction(handler):
        return handler

    @functools.wraps(handler)
    def encoded(*positional: Any, **named: Any) -> Any:
        answer = handler(*positional, **named)
        if answer is None or isinstance(answer, Response):
            return answer
        return EncodedJson(msgspec.json.encode(answer).decode())

    return encoded
