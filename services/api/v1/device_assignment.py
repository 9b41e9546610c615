"""What a device should run, as the projections have it, and what changed it."""

from collections.abc import Iterator

from msgspec import UNSET

from events.canonical import JsonObject
from events.device.errors import DeviceNotFound
from events.fleet.rows import Own, Row
from events.view_store.fleet_view import Effective
from events.views.reading import Assignment
from services.api.context.api_context import Room


def parts_of(found: Effective) -> JsonObject:
    """What configurations give the device's own twin, and single modules; nothing where none ever gave them anything."""
    own, shown = found.row.own, module_lines(found.row)
    if own is not UNSET:
        shown["device"] = {"desired": found.own or {}, **own_line(own), "reason": own.reason or None}
    return shown


def module_lines(row: Row) -> JsonObject:
    """What configurations give single modules, by module; nothing where none gives any."""
    parts = row.module_parts
    lines = {name: {**own_line(part), "reason": part.reason or None} for name, part in sorted(parts.items())}
    return {"byModule": lines} if lines else {}


def own_line(own: Own) -> JsonObject:
    """The version of a part of an assignment, and the configurations that it is made of."""
    return {"version": own.version, "layers": [layer.id for layer in own.stack]}


def assignment_of(room: Room, device_id: str) -> Assignment:
    """A device's assignment.

    Raises:
        DeviceNotFound: the views do not know the device (yet).
    """
    assignment = room.view.assignment(device_id)
    if assignment is None:
        raise DeviceNotFound(device_id)
    return assignment


def effective_of(room: Room, device_id: str) -> Effective:
    """As `assignment_of`, with what it gives."""
    effective = room.view.effective(device_id)
    if effective is None:
        raise DeviceNotFound(device_id)
    return effective


def changes_of(
    room: Room, partition: int, ordinal: int, after: int, *, upto: int | None = None
) -> Iterator[JsonObject]:
    """The changes of a device's assignment by outcomes at positions after + 1 to `upto`, or to the newest; oldest first."""
    for recorded in room.recent.recorded(partition, after=after, upto=upto):
        for change in recorded.changes:
            if ordinal in change.members:
                yield {
                    "outcome": recorded.position,
                    "at": recorded.at,
                    "standing": change.after.standing.value,
                    "layers": [layer.id for layer in change.after.stack],
                    "configuration": change.after.configuration,
                    "versions": change.after.module_versions,
                    **({} if change.after.own is UNSET else {"device": own_line(change.after.own)}),
                    **module_lines(change.after),
                }
