"""`/v1/devices/{id}/desired`: what a device is told, as soon as it differs from what it has, and what it says it has by asking."""

import asyncio
import re
import time
from collections import OrderedDict
from typing import Annotated, Any

import msgspec
from fastapi import Query, Request, Response
from msgspec import UNSET, UnsetType

from events.access.permissions import Permission
from events.device.commands import AcknowledgeDesired
from events.device.decider import SECTIONS_MAX
from events.device.errors import DeviceNotFound
from events.log.keys import partition_of
from events.manifest.document import DEVICE
from events.projection_store.fleet_projection import Effective
from events.secrets.references import MASK, mask
from events.stored_projection.partition_reader import DeviceAssignment
from services.api.auth.secret_reads import note_read
from services.api.context.callers import Author
from services.api.context.long_poll import WaitingDevices
from services.api.context.request import caller_of, context_of, in_turn, writer_of
from services.api.http.access import TWIN_READ, Access
from services.api.http.errors import BodyInvalid
from services.api.http.json_answer import AnswerBody, JsonAnswer
from services.api.http.path_names import DeviceId
from services.api.http.request_costs import NO_WORK
from services.api.v1.device_assignment import (
    DeviceAssignmentChange,
    DevicePart,
    ModulePart,
    assignment_of,
    changes_of,
    effective_of,
)
from services.api.v1.devices import POSITION_MAX
from services.api.v1.router import v1_router

router = v1_router()

WAIT_SECONDS_MAX = 300.0
DEVICES_REMEMBERED_MAX = 100_000
_VERSION = re.compile(r"([0-9]{1,16})(?:\.([0-9]{1,10}))?")


class Version(msgspec.Struct, frozen=True):
    """Which of all that a device was ever told: by the assignment change that gave it, and how often something was written by hand."""

    assignment_change: int
    hand_written: int = 0

    @classmethod
    def of(cls, assignment: DeviceAssignment | Effective) -> "Version":
        """What a device is told now."""
        return cls(assignment.assignment_change, assignment.hand_written)

    @classmethod
    def parse(cls, text: str) -> "Version":
        """Read what `text` wrote.

        Raises:
            BodyInvalid: it is no version.
        """
        found = _VERSION.fullmatch(text)
        if found is None or int(found[1]) > POSITION_MAX:
            raise BodyInvalid(f"version is that of an answer, as in 17 or 17.2, not {text[:40]!r}")
        return cls(int(found[1]), int(found[2] or 0))

    @property
    def text(self) -> str:
        """`17`, or `17.2` where something was written by hand."""
        return f"{self.assignment_change}.{self.hand_written}" if self.hand_written else str(self.assignment_change)


class Acknowledged:
    """What devices said they have, as far as this process wrote it down; workers may not have come to it yet."""

    def __init__(self) -> None:
        self._assignment_changes: OrderedDict[str, int] = OrderedDict()

    def has(self, device_id: str, assignment_change: int) -> bool:
        """Whether it is written down that a device has what an assignment change gave it."""
        return self._assignment_changes.get(device_id) == assignment_change

    def note(self, device_id: str, assignment_change: int) -> None:
        """It is; the devices that were longest ago are forgotten, and asked for again."""
        self._assignment_changes[device_id] = assignment_change
        self._assignment_changes.move_to_end(device_id)
        while len(self._assignment_changes) > DEVICES_REMEMBERED_MAX:
            self._assignment_changes.popitem(last=False)


class Section(AnswerBody):
    """A module's desired properties and their version."""

    desired: dict[str, Any]
    version: int


class DesiredProperties(AnswerBody):
    """What a device should run, and each change since the version it asked with."""

    device_id: str
    version: str
    changes: list[DeviceAssignmentChange]
    modules: dict[str, Section]
    by_module: dict[str, ModulePart] | UnsetType = UNSET
    device: DevicePart | UnsetType = UNSET


@router.get(
    "/devices/{device_id}/desired", responses={204: {"description": "Nothing differs from the version asked with."}}
)
@Access(TWIN_READ, own=True, scope="device", at=True, cost=NO_WORK)
async def desired(
    request: Request,
    device_id: DeviceId,
    version: Annotated[str | None, Query(max_length=40)] = None,
    wait: Annotated[float, Query(ge=0, le=WAIT_SECONDS_MAX)] = 0,
) -> JsonAnswer[DesiredProperties] | Response:
    """What a device should run once it differs from `version` (the last one it was told), or 204 after `wait` seconds.

    `changes` has every change since that version, once each, however many came while the device was not asking. By asking
    with a version the device acknowledges that it has what it was told with it.
    """
    asked = None if version is None else Version.parse(version)
    found = await in_turn(request, assignment_of, context_of(request), device_id)
    if asked is not None:
        await _acknowledge(request, found, asked)
        if wait:
            await _wait(request, found, asked, seconds=wait)
    caller = caller_of(request)
    if caller.scope is not None and not await in_turn(request, context_of(request).reaches, caller.scope, device_id):
        raise DeviceNotFound(device_id)  # It left the scope while they waited.
    return await in_turn(request, _desired, request, device_id, asked, is_own=caller.device_id is not None)


async def _acknowledge(request: Request, found: DeviceAssignment, asked: Version) -> None:
    """Write down that a device has what its present assignment gives, where that is asked with by whoever may report for it."""
    context, caller = context_of(request), caller_of(request)
    may = caller.device_id is not None or caller.may(frozenset({Permission.TWIN_WRITE}))
    if (
        not may
        or context.point_in_time is not None
        or not asked.assignment_change
        or asked.assignment_change != found.assignment_change
    ):
        return
    acknowledged: Acknowledged = request.app.state.acknowledged
    if acknowledged.has(found.device_id, found.assignment_change):
        return
    versions = await in_turn(request, context.fleet_projection.undelivered, found)
    if versions:
        some = dict(list(versions.items())[:SECTIONS_MAX])
        author = Author(caller.principal, caller.scope)
        await writer_of(request).do(AcknowledgeDesired(found.device_id, some), author)
    acknowledged.note(found.device_id, found.assignment_change)


async def _wait(request: Request, found: DeviceAssignment, asked: Version, *, seconds: float) -> None:
    """Wait until a device is told something else than it asked with."""
    context, until = context_of(request), time.monotonic() + seconds
    waiting: WaitingDevices = request.app.state.waiting
    partition = partition_of(found.device_id, context.log.partitions)
    with waiting.registered(partition, found.ordinal) as event:
        while not waiting.ended and (left := until - time.monotonic()) > 0:
            event.clear()
            if Version.of(await in_turn(request, assignment_of, context, found.device_id)) != asked:
                return
            try:
                await asyncio.wait_for(event.wait(), left)
            except TimeoutError:
                return


def _desired(
    request: Request, device_id: str, asked: Version | None, *, is_own: bool
) -> JsonAnswer[DesiredProperties] | Response:
    context = context_of(request)
    effective = effective_of(context, device_id)
    version = Version.of(effective)
    if version == asked:
        return Response(status_code=204)
    told = context.twins.desired_sections(effective)
    sections: Any = {name: section.desired for name, section in told.items()}
    # The device's own answer is the one place where it gets what its modules need.
    if is_own and context.point_in_time is None:
        # What was erased all the same must not keep the rest from it: a device keeps what it has until something replaces it.
        revealed = context.vault.opened.reveal_left(sections, instead=MASK)
        if revealed is not sections:
            note_read(request, [device_id], what="what modules need")
        sections = revealed
    else:
        sections = mask(sections)
    own = effective.assignment.own_part
    device = DevicePart.of(own, sections.pop(DEVICE), told[DEVICE].version) if DEVICE in sections else UNSET
    partition = partition_of(device_id, context.log.partitions)
    after = 0 if asked is None else asked.assignment_change
    answer = DesiredProperties(
        device_id,
        version.text,
        list(changes_of(context, partition, effective.ordinal, after, upto=effective.assignment_change)),
        {name: Section(section, told[name].version) for name, section in sections.items()},
        ModulePart.all_of(effective.assignment),
        device,
    )
    return JsonAnswer(answer)
