"""The state of one partition: what follows from its own events and the fleet's."""

from msgspec import UNSET, UnsetType
from pyroaring import BitMap

from events.deployment.events import Admission, Ended
from events.envelope import Vector
from events.fleet.answers import DeviceAnswers
from events.fleet.assignments import Assignment, Assignments, AssignmentStatus, Layer
from events.fleet.deployments import Deployments, Phased
from events.fleet.directory import Children, Directory
from events.fleet.index import Index
from events.fleet.packed import Packed
from events.fleet.targets import Targets


class RolloutNotes:
    """What rollouts in phases need from the time of a device's admission, by deployment, until the rollout is over."""

    def __init__(self, deployments: Deployments, assignments: Assignments, answers: DeviceAnswers) -> None:
        self._deployments, self._assignments, self._answers = deployments, assignments, answers
        self.already: dict[Layer, BitMap] = {}
        """The devices that ran the same configuration at their admission."""
        self.changed_already: set[Layer] = set()
        self.before: dict[Layer, dict[str, BitMap]] = {}
        """The devices that were healthy with a configuration at their admission, by deployment and configuration."""
        self.changed_before: set[tuple[Layer, str]] = set()

    def note(self, old: Assignment, new: Assignment, members: BitMap) -> None:
        """Note devices that move from one assignment to another."""
        came, left = set(new.stack) - set(old.stack), set(old.stack) - set(new.stack)
        same = old.configuration == new.configuration and new.status is AssignmentStatus.MANAGED
        for layer in came | left:
            begins = layer in came and isinstance(self._admission(layer), Phased)
            previous = self.already.get(layer, BitMap())
            after = previous | members if begins and same else previous - members
            if after != previous:
                self.already[layer] = after
                self.changed_already.add(layer)
            if begins and old.was_assigned:
                self._note_before(layer, old.configuration, members & self._answers.sets["healthy"])
            elif layer in left:
                for digest in self.before.get(layer, {}):
                    self._note_before(layer, digest, members, gone=True)

    def _note_before(self, layer: Layer, digest: str, members: BitMap, *, gone: bool = False) -> None:
        by_digest = self.before.setdefault(layer, {})
        previous = by_digest.get(digest, BitMap())
        after = previous - members if gone else previous | members
        if after == previous:
            return
        if digest not in by_digest:
            # A rollback restores this configuration even when no assignment has it any more.
            self._assignments.hold(digest)
        by_digest[digest] = after
        self.changed_before.add((layer, digest))

    def _admission(self, layer: Layer) -> Admission | Phased:
        deployment = self._deployments.by_id.get(layer.id)
        return deployment.admission if deployment is not None and deployment.created == layer.created else Ended()

    def drop(self) -> None:
        """Drop the notes of deployments that have ended or were deleted."""
        for layer in [layer for layer in self.already if isinstance(self._admission(layer), Ended)]:
            del self.already[layer]
            self.changed_already.add(layer)
        for layer, by_digest in list(self.before.items()):
            is_over = isinstance(self._admission(layer), Ended)
            for digest in [digest for digest, members in by_digest.items() if is_over or not members]:
                del by_digest[digest]
                self._assignments.release(digest)
                self.changed_before.add((layer, digest))
            if not by_digest:
                del self.before[layer]


class PartitionState:
    """The state of a partition at `vector`. The numbers in packed arrays are by ordinal."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.vector, self.decided = Vector(), Vector()
        self.at = self.assignment_changes = 0
        self.own_event: str | UnsetType = UNSET
        self.fleet_event: str | UnsetType = UNSET
        """The digests of the last events applied, of the partition's stream and of the fleet's."""
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
