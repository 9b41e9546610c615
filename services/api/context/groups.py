"""The groups of updates, for one request."""

from collections.abc import Mapping
from typing import Annotated, TypeVar

from fastapi import Depends, Path, Request

from events.canonical import Json
from events.projection_store.device_pages import DevicePosition
from events.projection_store.groups import DeviceState, GroupProjection, is_among
from events.rollout.sets import FleetSet
from events.update.names import UpdateId
from services.api.context.request import context_of
from services.api.http.errors import BodyInvalid

K = TypeVar("K")


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


def first_with(location: DevicePosition, sets: Mapping[K, FleetSet]) -> K | None:
    """The key of the first set that has the device at a location; `None` if no set has it."""
    return next((key for key, devices in sets.items() if is_among(location, devices)), None)


def state_of(value: Json) -> DeviceState:
    """A device's state by its name; raises BodyInvalid if no state has that name."""
    try:
        return DeviceState(value)
    except ValueError:
        raise BodyInvalid(f"a state is one of {', '.join(state.value for state in DeviceState)}") from None
