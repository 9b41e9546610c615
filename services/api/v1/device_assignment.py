"""The assignment of a device, as the projections have it, and its changes."""

from collections.abc import Iterator
from typing import Any

from msgspec import UNSET, UnsetType

from events.canonical import JsonObject
from events.device.errors import DeviceNotFound
from events.envelope import Vector
from events.fleet.assignments import Assignment, AssignmentStatus, Own
from events.projection_store.fleet_projection import Effective
from events.projection_store.port import StoredDevice
from services.api.context.api_context import ApiContext
from services.api.http.json_answer import AnswerBody


class AsOf(AnswerBody):
    """The positions of the device's partition and of the fleet up to which an answer has all events."""

    partition: int
    fleet: int

    @classmethod
    def of(cls, vector: Vector) -> "AsOf":
        """The positions of a vector."""
        # A vector is encoded as an array, where a reader could not tell which position is which.
        return cls(vector.partition, vector.fleet)


class PartVersion(AnswerBody):
    """The configurations of the device's own twin by ascending rank, and the number of their changes, from 1."""

    version: int
    layers: list[str]

    @classmethod
    def of(cls, own: Own | UnsetType) -> "PartVersion | UnsetType":
        """The version of the device's own twin, `UNSET` if no configuration ever set anything there."""
        return UNSET if own is UNSET else cls(own.version, _ids(own))


class ModulePart(AnswerBody):
    """The configurations of a single module by ascending rank, the number of their changes, and why they do not apply.

    `reason` is `null` if they apply.
    """

    version: int
    layers: list[str]
    reason: str | None

    @classmethod
    def all_of(cls, assignment: Assignment) -> "dict[str, ModulePart] | UnsetType":
        """The parts by module, `UNSET` if no configuration ever set anything in a module."""
        parts = sorted(assignment.module_parts.items())
        return {name: cls(part.version, _ids(part), part.reason or None) for name, part in parts} or UNSET


class DevicePart(AnswerBody):
    """What configurations set in the device's own twin, with `layers` by ascending rank.

    `version` is the number of changes. `reason` says why they do not apply; it is `null` if they do.
    """

    desired: dict[str, Any]
    version: int
    layers: list[str]
    reason: str | None

    @classmethod
    def of(cls, own: Own, desired: JsonObject, version: int) -> "DevicePart":
        """The part of an assignment, with the desired properties and the version of the twin."""
        return cls(desired, version, _ids(own), own.reason or None)


class DeviceAssignmentChange(AnswerBody):
    """A change of a device's assignment. `at` is in milliseconds."""

    assignment_change: int
    at: int
    status: AssignmentStatus
    layers: list[str]
    configuration: str
    versions: dict[str, int]
    device: PartVersion | UnsetType = UNSET
    by_module: dict[str, ModulePart] | UnsetType = UNSET


def _ids(part: Own | Assignment) -> list[str]:
    return [layer.id for layer in part.stack]


def assignment_of(context: ApiContext, device_id: str) -> StoredDevice:
    """A device's assignment.

    Raises:
        DeviceNotFound: the projections do not have the device, or not yet.
    """
    assignment = context.fleet_projection.assignment(device_id)
    if assignment is None:
        raise DeviceNotFound(device_id)
    return assignment


def effective_of(context: ApiContext, device_id: str) -> Effective:
    """A device's assignment with the configuration that follows from it.

    Raises:
        DeviceNotFound: the projections do not have the device, or not yet.
    """
    effective = context.fleet_projection.effective(device_id)
    if effective is None:
        raise DeviceNotFound(device_id)
    return effective


def changes_of(
    context: ApiContext, partition: int, ordinal: int, after: int, *, upto: int | None = None
) -> Iterator[DeviceAssignmentChange]:
    """The changes of a device's assignment, oldest first, at positions after + 1 to `upto`, or to the newest."""
    for recorded in context.recent_assignments.recorded(partition, after=after, upto=upto):
        for assignment, ordinals in recorded.moves:
            if ordinal in ordinals:
                yield DeviceAssignmentChange(
                    recorded.position,
                    recorded.at,
                    assignment.status,
                    _ids(assignment),
                    assignment.configuration,
                    assignment.module_versions,
                    PartVersion.of(assignment.own),
                    ModulePart.all_of(assignment),
                )
