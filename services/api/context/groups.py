"""The groups of updates, for one request."""

from typing import Annotated

from fastapi import Depends, Path, Request

from events.canonical import Json
from events.projection_store.groups import DeviceState, GroupProjection
from events.update.names import UpdateId
from services.api.context.request import context_of
from services.api.http.errors import BodyInvalid


def groups_of(request: Request) -> GroupProjection:
    """The groups, read once for one request."""
    context = context_of(request)
    return GroupProjection(context.log, context.projections)


# A coroutine: FastAPI runs a plain function in a thread.
async def update_in_path(
    provider: Annotated[str, Path(description="Who made it.", examples=["contoso"])],
    name: Annotated[str, Path(description="What it is.", examples=["camera"])],
    version: Annotated[str, Path(description="Two to four numbers.", examples=["1.0"])],
) -> UpdateId:
    """The update that a path names."""
    return UpdateId(provider, name, version)


UpdateInPath = Annotated[UpdateId, Depends(update_in_path)]
Groups = Annotated[GroupProjection, Depends(groups_of)]


def state_of(value: Json) -> DeviceState:
    """A device's state by its name; raises BodyInvalid if no state has that name."""
    try:
        return DeviceState(value)
    except ValueError:
        raise BodyInvalid(f"a state is one of {', '.join(state.value for state in DeviceState)}") from None
