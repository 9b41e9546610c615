"""The answer of `/v1/diff`."""

import itertools
from typing import Any, Literal

import msgspec
from msgspec import field
from pyroaring import BitMap

from events.fleet.assignments import AssignmentStatus
from events.preview.difference import DifferenceKind
from events.projection_store.port import ProjectionSelection
from events.stored_projection.partition_reader import ids_of, pages_of
from services.api.context.api_context import ApiContext
from services.api.http.json_answer import AnswerBody

DEVICES_MAX = 100
"""A list names its first 100 devices, and has the number of all."""


class DiffChange(AnswerBody):
    """A property that was removed, changed or added. `before` or `after` is `null` if there is none. Secrets appear as `***`."""

    section: str
    path: str
    how: DifferenceKind
    before: Any
    after: Any


class DiffDevices(AnswerBody):
    """The number of devices, and the first hundred of them."""

    count: int = 0
    devices: list[str] = field(default_factory=list)

    def add(self, context: ApiContext, number: int, ordinals: BitMap) -> None:
        """Add devices of a partition."""
        self.count += len(ordinals)
        named = BitMap(itertools.islice(ordinals, DEVICES_MAX - len(self.devices)))
        if named:
            fields = context.projections.read(number, ProjectionSelection(fields=(("ids", pages_of(named)),)))
            self.devices = sorted([*self.devices, *ids_of(named, fields)])


class DiffSides(AnswerBody):
    """The devices that left a list, and those that joined it."""

    lost: DiffDevices
    gained: DiffDevices


class DiffStatus(msgspec.Struct, frozen=True):
    """The status and the layers of an assignment."""

    status: AssignmentStatus
    layers: tuple[str, ...]


class DiffAssignment(AnswerBody):
    """Devices that changed from one assignment to another."""

    before: DiffStatus
    after: DiffStatus
    count: int
    devices: list[str]


class DiffDeployments(AnswerBody):
    """Deployments that were deleted, changed and created."""

    removed: list[str]
    changed: list[str]
    added: list[str]


class DiffEvent(AnswerBody):
    """An event or an assignment change in between: its position, time (milliseconds), author, type, subject and cause."""

    position: str
    at: int
    by: str
    type: str
    subject: str
    cause: str


class Diff(AnswerBody, kw_only=True):
    """What changed. Only a deployment and the fleet have `devices`, only the fleet has `deployments` and `assignments`.

    The fleet has no `changes`. `fromTime` and `toTime` are in milliseconds. `devices` has `target` and `actual` of a
    deployment, and `registered` of the fleet. `events` are the newest 1,000 of `eventCount`; `by` counts all of them by
    author.
    """

    first: str = field(name="from")
    from_time: int
    to: str
    to_time: int
    of: Literal["device", "deployment", "fleet"]
    id: str | None
    changes: list[DiffChange] = field(default_factory=list)
    devices: dict[str, DiffSides] = field(default_factory=dict)
    deployments: DiffDeployments | None = None
    assignments: list[DiffAssignment] = field(default_factory=list)
    events: list[DiffEvent]
    event_count: int
    by: dict[str, int]
