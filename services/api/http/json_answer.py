"""Answers as JSON, written by msgspec, where the handler runs: in a thread, and not in the event loop of all requests."""

import functools
import inspect
from collections.abc import Callable
from typing import Any

import msgspec
from fastapi.responses import JSONResponse, Response
from typing_extensions import override


class EncodedJson(str):
    """JSON as text; the framework passes a text on as it is, instead of walking through it."""

    __slots__ = ()


class JsonAnswer(JSONResponse):
    """A JSON body; handlers of often used paths return it themselves."""

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
