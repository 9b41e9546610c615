"""What handlers want to know of their request."""

from fastapi import Request

from services.api.callers import Author, Caller
from services.api.past import Looking
from services.api.room import Room
from services.api.writing import Writer


def room_of(request: Request) -> Room:
    """The process's open ends; for a request that looks at the past, as they were then."""
    looking: Looking | None = getattr(request.state, "looking", None)
    if looking is not None:
        return looking.room
    room: Room = request.app.state.room
    return room


def writer_of(request: Request) -> Writer:
    """The process's writer."""
    writer: Writer = request.app.state.writer
    return writer


def caller_of(request: Request) -> Caller:
    """Whoever the gate let in."""
    caller: Caller = request.state.caller
    return caller


def author_of(request: Request) -> Author:
    """Whoever is behind the facts that follow."""
    caller = caller_of(request)
    return Author(caller.principal, caller.scope)
