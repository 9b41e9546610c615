"""`/v1/devices/{id}/desired`: a device's desired properties as soon as they change, and its acknowledgement of them."""

import asyncio
import contextlib
import re
import time
from collections import OrderedDict
from typing import Annotated, Any

import msgspec
from fastapi import Query, Request, Response
from msgspec import UNSET, UnsetType

from events.device.commands import AcknowledgeDesired
from events.device.decider import SECTIONS_MAX
from events.device.errors import DeviceNotFound
from events.log.keys import partition_of
from events.manifest.document import DEVICE
from events.projection_store.port import StoredDevice
from events.secrets.references import MASK, mask
from services.api.auth.secret_reads import note_read
from services.api.context.callers import Author
from services.api.context.long_poll import WaitingDevices
from services.api.context.request import caller_of, context_of, existing, in_turn, writer_of
from services.api.http.access import TWIN_READ, TWIN_WRITE, Access
from services.api.http.errors import BodyInvalid
from services.api.http.json_answer import AnswerBody, JsonAnswer
from services.api.http.path_names import DeviceId
from services.api.http.request_costs import NO_WORK
from services.api.v1.devices import POSITION_MAX, DeviceAssignmentChange, DevicePart, ModulePart, changes_of, layers_of
from services.api.v1.router import v1_router

router = v1_router()
WAIT_SECONDS_MAX = 300.0
NO_CHANGE = 204
DEVICES_REMEMBERED_MAX = 100_000
_VERSION = re.compile(r"([0-9]{1,16})(?:\.([0-9]{1,10}))?")


class DesiredVersion(msgspec.Struct, frozen=True):
    """The version of a device's desired properties: its last assignment change, and the number of writes by hand."""

    assignment_change: int
    hand_written: int = 0

    @classmethod
    def of(cls, device: StoredDevice) -> "DesiredVersion":
        """The present version of a device."""
        return cls(device.assignment_change, device.hand_written)

    @classmethod
    def parse(cls, text: str) -> "DesiredVersion":
        """The version of a `text`.

        Raises:
            BodyInvalid: the text is not a version.
        """
        match = _VERSION.fullmatch(text)
        if match is None or int(match[1]) > POSITION_MAX:
            raise BodyInvalid(f"version must be the version of an earlier answer, as in 17 or 17.2, not {text[:40]!r}")
        return cls(int(match[1]), int(match[2] or 0))


class DesiredSectionAnswer(AnswerBody):
    """A module's desired properties and their version."""

    desired: dict[str, Any]
    version: int


class DesiredProperties(AnswerBody):
    """What a device should run, and each change since the version of the request."""

    device_id: str
    version: str
    changes: list[DeviceAssignmentChange]
    modules: dict[str, DesiredSectionAnswer]
    by_module: dict[str, ModulePart] | UnsetType = UNSET
    device: DevicePart | UnsetType = UNSET


@router.get("/devices/{device_id}/desired", responses={NO_CHANGE: {"description": "The version has not changed."}})
@Access(TWIN_READ, own=True, scope="device", at=True, cost=NO_WORK)
async def desired(
    request: Request,
    device_id: DeviceId,
    version: Annotated[str | None, Query(max_length=40)] = None,
    wait: Annotated[float, Query(ge=0, le=WAIT_SECONDS_MAX)] = 0,
) -> JsonAnswer[DesiredProperties] | Response:
    """What a device should run, as soon as it differs from `version` (of its last answer), or 204 after `wait` seconds.

    `changes` has every change since that version once, also those that occurred between two requests. A request with a
    version acknowledges that the device has the properties of that version.
    """
    device_version = None if version is None else DesiredVersion.parse(version)
    assignment = await in_turn(request, _assignment, request, device_id)
    if device_version is not None:
        await _acknowledge(request, assignment, device_version)
        if wait:
            return await _after_wait(request, assignment, device_version, seconds=wait)
    return await in_turn(request, _desired, request, device_id, device_version)


def _assignment(request: Request, device_id: str) -> StoredDevice:
    device = existing(device_id, context_of(request).fleet_projection.assignment(device_id))
    # Without configurations: every device that waits keeps this in memory for minutes.
    return msgspec.structs.replace(device, configuration=b"", own=b"")


async def _acknowledge(request: Request, assignment: StoredDevice, device_version: DesiredVersion) -> None:
    """Record that a device has its present assignment, if it sent that version and the caller may report for it."""
    context, caller = context_of(request), caller_of(request)
    may_report = caller.device_id is not None or caller.may(TWIN_WRITE)
    # Only the present assignment counts: a rollout's gate must not pass on answers to a former configuration (decision 0032).
    is_present = 0 < device_version.assignment_change == assignment.assignment_change
    if not may_report or not is_present or context.point_in_time is not None:
        return
    # Workers apply an acknowledgement after a moment. Until then every further request of the device would write it again.
    # The assignment change of each device that this process has written one of, the most recent last.
    written: OrderedDict[str, int] = request.app.state.acknowledgements
    if written.get(assignment.device_id) == assignment.assignment_change:
        return
    versions = await in_turn(request, context.fleet_projection.undelivered, assignment)
    if versions:
        first_versions = dict(list(versions.items())[:SECTIONS_MAX])
        author = Author(caller.principal, caller.scope)
        await writer_of(request).do(AcknowledgeDesired(assignment.device_id, first_versions), author)
    written[assignment.device_id] = assignment.assignment_change
    written.move_to_end(assignment.device_id)
    # Not a plain dictionary: finding its first key takes time for every key that was deleted before it.
    while len(written) > DEVICES_REMEMBERED_MAX:
        written.popitem(last=False)


async def _after_wait(
    request: Request, assignment: StoredDevice, device_version: DesiredVersion, *, seconds: float
) -> JsonAnswer[DesiredProperties] | Response:
    """The answer once a device's version is another one, or after some seconds; at once if the client leaves."""
    until = time.monotonic() + seconds
    waiting: WaitingDevices = request.app.state.waiting
    partition = partition_of(assignment.device_id, context_of(request).log.partitions)
    with waiting.registered(partition, assignment.ordinal) as event:
        leaving = asyncio.ensure_future(_client_left(request))
        leaving.add_done_callback(lambda _: event.set())
        try:
            while True:
                # Cleared before the read: a change that arrives after the read sets the event again (decision 0013).
                event.clear()
                answer = await in_turn(request, _desired, request, assignment.device_id, device_version)
                seconds_left = until - time.monotonic()
                if answer.status_code != NO_CHANGE or waiting.ended or leaving.done() or seconds_left <= 0:
                    return answer
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(event.wait(), seconds_left)
                if leaving.done():
                    return answer
        finally:
            leaving.cancel()


async def _client_left(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _desired(
    request: Request, device_id: str, device_version: DesiredVersion | None
) -> JsonAnswer[DesiredProperties] | Response:
    context, caller = context_of(request), caller_of(request)
    if caller.scope is not None and not context.reaches(caller.scope, device_id):
        raise DeviceNotFound(device_id)  # The device left the scope during the wait.
    effective = existing(device_id, context.fleet_projection.effective(device_id))
    version = DesiredVersion.of(effective)
    if version == device_version:
        return Response(status_code=NO_CHANGE)
    twin_sections = context.twins.desired_sections(effective)
    sections: Any = {name: section.desired for name, section in twin_sections.items()}
    # Only the device itself gets secrets in plain: its modules need them, and no other caller does.
    if caller.device_id is not None and context.point_in_time is None:
        # `***` in place of an erased secret: the device would otherwise get none of its properties, and keep the old ones.
        revealed = context.vault.opened.reveal_left(sections, instead=MASK)
        if revealed is not sections:
            note_read(request, [device_id], what="what modules need")
        sections = revealed
    else:
        sections = mask(sections)
    own_section, own = sections.pop(DEVICE, None), effective.assignment.own_part
    modules = {name: DesiredSectionAnswer(section, twin_sections[name].version) for name, section in sections.items()}
    after = 0 if device_version is None else device_version.assignment_change
    changes = changes_of(context, effective, after, upto=effective.assignment_change)
    # `17`, or `17.2` if something was written by hand.
    text = f"{version.assignment_change}.{version.hand_written}".removesuffix(".0")
    answer = DesiredProperties(device_id, text, changes, modules, ModulePart.all_of(effective.assignment))
    if own_section is not None:
        answer.device = DevicePart(own_section, twin_sections[DEVICE].version, layers_of(own), own.reason or None)
    return JsonAnswer(answer)
