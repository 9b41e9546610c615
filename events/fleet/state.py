"""The state of one partition: what follows from its own events and the fleet's."""

from msgspec import UNSET, UnsetType
from pyroaring import BitMap

from events.envelope import Vector
from events.fleet.answers import DeviceAnswers
from events.fleet.assignments import Assignments
from events.fleet.deployments import Deployments
from events.fleet.directory import Children, Directory
from events.fleet.index import Index
from events.fleet.packed import Packed
from events.fleet.rollout_notes import RolloutNotes
from events.fleet.targets import Targets


class PartitionState:
    """The state of a partition at `vector`. The numbers in packed arrays are by ordinal."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.vector, self.decided = Vector(), Vector()
        self.at = self.assignment_changes = 0
        self.rebuilt: int | UnsetType = UNSET
        """The number of rebuilds of the stored form; it does not follow from events."""
        self.directory, self.children = Directory(), Children()
        self.index = Index(self.directory)
        self.deployments = Deployments(number)
        self.targets = Targets(self.directory, self.index, self.deployments)
        self.assignments, self.answers = Assignments(), DeviceAnswers()
        self.notes = RolloutNotes(self.deployments, self.assignments, self.answers)
        self.assignment_of, self.moved_by, self.twin_versions = Packed(), Packed(), Packed()
        self.hand_written = Packed()
        """The number of writes by hand to desired properties of a device or its modules."""
        self.hand_writes = 0
        """The sum of `hand_written` of all devices, retired ones included."""
        self.modules: dict[str, BitMap] = {}
        """The devices with a module made by hand, by module."""
        self.changed_modules: set[str] = set()
        self.stored_sets: dict[str, bytes] = {}
        self.changed_deployments: set[tuple[int, str]] = set()
