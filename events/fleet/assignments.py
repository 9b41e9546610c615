"""Assignments: what a device runs, interned so that devices with one history share one assignment.

An assignment names the stack of deployments, the configuration they merge to, and the `$version` of each module twin. Re-targeting
a million devices then makes a few assignments and rewrites one packed array per partition.
"""

import enum
from collections.abc import Callable, Iterator, Sequence

import msgspec
from msgspec import UNSET, UnsetType

from events.canonical import JsonObject
from events.fleet.answers import Expected
from events.fleet.configuration import AGENT, HUB, NOTHING, Configuration, ConfigurationOverLimit
from events.fleet.deployments import Deployment
from events.manifest.document import DESIRED, DEVICE
from events.manifest.merge import merge as merge_contents
from events.manifest.merge import over_limit

UNASSIGNED = 0
"""The assignment of a device that never had a configuration."""


class AssignmentStatus(enum.Enum):
    """How a device stands to its configuration."""

    MANAGED = "managed"
    UNMANAGED = "unmanaged"
    OVER_LIMIT = "over limit"
    BY_HAND = "by hand"
    RESTORED = "restored"


PINNED = frozenset({AssignmentStatus.BY_HAND, AssignmentStatus.RESTORED})
"""What stays as it is until something else decides for the device than at that moment."""


class Layer(msgspec.Struct, frozen=True, array_like=True, order=True):
    """A deployment in a stack; `created` tells apart two deployments that had the same id one after the other."""

    id: str
    created: int


class Own(msgspec.Struct, frozen=True):
    """What configurations give one twin, a device's own or a module's: all that target it, ascending.

    `configuration` has the one section `DEVICE` or `MODULE`; `version` counts its changes from 1 and goes on after it is
    gone. Over a limit the former stack stays, `wanted` is the one that does not fit, and `reason` says why.
    """

    configuration: str = NOTHING.digest
    stack: tuple[Layer, ...] = ()
    version: int = 1
    wanted: tuple[Layer, ...] = ()
    reason: str = ""

    def after(self, stack: Sequence[Deployment], merge: "Merge") -> tuple["Own", Configuration]:
        """What follows when these configurations, ascending, are all that target the twin; with what they merge to."""
        key = stack_key(stack)
        if self.stack == key and not self.wanted:
            return self, NOTHING
        merged = merge(stack) if stack else NOTHING
        if isinstance(merged, ConfigurationOverLimit):
            return msgspec.structs.replace(self, wanted=key, reason=merged.reason), NOTHING
        return Own(merged.digest, key, self.version + (merged.digest != self.configuration)), merged


NOT_CONFIGURED = Own()


class Assignment(msgspec.Struct, frozen=True):
    """An assignment.

    `stack` is the base and then its layers, ascending. Of an unmanaged device it is the last it had, and so it is of a
    over limit one, whose `wanted` stack was over a limit, for the `reason` given. A device configured by hand, or restored
    by a rollback, has no stack, and `wanted` is the one that it would have had. `versions` counts from 1, the empty section
    every module twin is born with; a module keeps its count after its section is gone. `own` is not there where no
    configuration of its own twin ever gave the device anything, and `modules`, by module, where none of a module did; these
    parts know nothing of each other.
    """

    status: AssignmentStatus
    stack: tuple[Layer, ...]
    configuration: str
    versions: dict[str, int]
    wanted: tuple[Layer, ...] = ()
    reason: str = ""
    own: Own | UnsetType = UNSET
    modules: dict[str, Own] | UnsetType = UNSET

    @property
    def agent_version(self) -> int:
        """`$version` of the `$edgeAgent` twin: what an answer for this configuration must name."""
        return self.versions.get(AGENT, 0)

    @property
    def own_part(self) -> Own:
        """What configurations give the device's own twin, if only nothing."""
        return NOT_CONFIGURED if self.own is UNSET else self.own

    def module_part(self, module_id: str) -> Own:
        """What configurations give a module's twin beside edge deployments, if only nothing."""
        return NOT_CONFIGURED if self.modules is UNSET else self.modules.get(module_id, NOT_CONFIGURED)

    @property
    def module_parts(self) -> dict[str, Own]:
        """Each module that configurations ever gave something."""
        return {} if self.modules is UNSET else self.modules

    @property
    def module_versions(self) -> dict[str, int]:
        """By module, how often what it is given has changed, whoever gives it; counted from 1."""
        versions = dict(self.versions)
        for module_id, part in self.module_parts.items():
            versions[module_id] = versions.get(module_id, 1) + part.version - 1
        return versions

    @property
    def deliverable(self) -> dict[str, int]:
        """The versions of all sections but the system modules', by module; `$device` stands for the device's own twin."""
        own = {} if self.own is UNSET else {DEVICE: self.own.version}
        return {name: version for name, version in self.module_versions.items() if name not in {AGENT, HUB}} | own

    def tells_the_same_as(self, other: "Assignment") -> bool:
        """Whether a device that goes from one to the other has nothing new to answer for."""
        return self.versions == other.versions and self.deliverable == other.deliverable

    def expected(self, configuration: Configuration) -> Expected:
        """What a device with this assignment, and the configuration that it names, is to answer for.

        A section that is gone has nobody who could answer; one that never changed, nothing to answer for.
        """
        deliverable = self.deliverable
        of_edge = configuration.module_ids & deliverable.keys()
        of_configurations = self.module_parts.keys() | {DEVICE}
        return Expected(
            self.agent_version,
            self.versions.get(HUB, 0) if HUB in configuration.sections else 0,
            configuration.runtime_mark,
            configuration.statuses,
            {name: version for name, version in deliverable.items() if name in of_edge or name in of_configurations},
            of_edge,
        )

    @property
    def was_assigned(self) -> bool:
        """Whether there ever was a configuration of its modules, or is one that does not fit."""
        return bool(self.versions) or self.status is not AssignmentStatus.UNMANAGED

    def again(self) -> "Assignment":
        """The same under a new `$version` of the agent's twin, so that the device tries once more; for one that has anything."""
        if AGENT not in self.versions:
            return self
        return msgspec.structs.replace(self, versions={**self.versions, AGENT: self.versions[AGENT] + 1})

    def has(self, layer: Layer, module_id: str = "") -> bool:
        """Whether a deployment is part of what a device with this assignment has; one for a module, of what that module has."""
        if module_id:
            return layer in self.module_part(module_id).stack
        managed = self.status is not AssignmentStatus.UNMANAGED
        return (managed and layer in self.stack) or layer in self.own_part.stack

    @property
    def layers(self) -> Iterator[Layer]:
        """Every deployment that it names as part of what a device or a module has."""
        yield from self.stack
        for part in (self.own_part, *self.module_parts.values()):
            yield from part.stack

    @property
    def configurations(self) -> tuple[str, ...]:
        """The configurations that the assignment refers to."""
        own = () if self.own is UNSET else (self.own.configuration,)
        return (self.configuration, *own, *(part.configuration for part in self.module_parts.values()))


NO_ASSIGNMENT = Assignment(AssignmentStatus.UNMANAGED, (), NOTHING.digest, {})


def stack_key(stack: Sequence[Deployment]) -> tuple[Layer, ...]:
    """What a stack is called in a row."""
    return tuple(Layer(deployment.id, deployment.created) for deployment in stack)


Merge = Callable[[Sequence[Deployment]], Configuration | ConfigurationOverLimit]


class Assignments:
    """The assignments of one partition, numbered as they came up; an assignment that no device has any more is dropped."""

    def __init__(self) -> None:
        self.by_number: dict[int, Assignment] = {UNASSIGNED: NO_ASSIGNMENT}
        self.configurations: dict[str, Configuration] = {NOTHING.digest: NOTHING}
        self.next_number = 1
        self._numbers: dict[bytes, int] = {}
        self._devices: dict[int, int] = {}
        self._uses: dict[str, int] = {}
        self._left: set[int] = set()
        self.changed_assignments: set[int] = set()
        self.changed_configurations: set[str] = set()

    def after(self, number: int, stack: Sequence[Deployment], merge: Merge) -> Assignment:
        """The assignment that follows when the devices of an assignment come under a stack; an empty stack targets nobody."""
        old = self.by_number[number]
        if not stack:
            pinned_alone = old.status in PINNED and not old.wanted
            if number == UNASSIGNED or old.status is AssignmentStatus.UNMANAGED or pinned_alone:
                return old
            return msgspec.structs.replace(old, status=AssignmentStatus.UNMANAGED, wanted=(), reason="")
        key = stack_key(stack)
        if old.status is AssignmentStatus.MANAGED and old.stack == key:
            return old
        if old.status in PINNED and old.wanted == key:
            # Nothing changed that decides for it; what was set by hand stays (contract/hub.md §3.3 item 8).
            return old
        merged = merge(stack)
        if isinstance(merged, ConfigurationOverLimit):
            return msgspec.structs.replace(old, status=AssignmentStatus.OVER_LIMIT, wanted=key, reason=merged.reason)
        self.configurations.setdefault(merged.digest, merged)
        versions = self._versions(old, merged)
        return Assignment(AssignmentStatus.MANAGED, key, merged.digest, versions, own=old.own, modules=old.modules)

    def after_own(self, old: Assignment, stack: Sequence[Deployment], merge: Merge) -> Assignment:
        """The assignment that follows when these configurations, ascending, are all that target the devices' own twins."""
        new, merged = old.own_part.after(stack, merge)
        self.configurations.setdefault(merged.digest, merged)
        return msgspec.structs.replace(old, own=UNSET if new == NOT_CONFIGURED else new)

    def after_module(self, module_id: str, old: Assignment, stack: Sequence[Deployment], merge: Merge) -> Assignment:
        """As `after_own`, of the twins of one module."""
        new, merged = old.module_part(module_id).after(stack, merge)
        self.configurations.setdefault(merged.digest, merged)
        parts = {name: part for name, part in old.module_parts.items() if name != module_id}
        if new != NOT_CONFIGURED:
            parts[module_id] = new
        return msgspec.structs.replace(old, modules=parts or UNSET)

    def by_hand(self, assignment: Assignment, content: JsonObject) -> Assignment:
        """The assignment that follows when the modules that a content names are written by hand; over a limit, why not."""
        stack = assignment.stack if assignment.status is AssignmentStatus.MANAGED else assignment.wanted
        had = self.configurations[assignment.configuration].sections
        base = {module: {DESIRED: msgspec.json.decode(section)} for module, section in had.items()}
        sections = merge_contents(base, [content])
        excess = over_limit(sections)
        if excess is not None:
            return msgspec.structs.replace(
                assignment, status=AssignmentStatus.OVER_LIMIT, wanted=stack, reason=str(excess)
            )
        merged = Configuration.of(sections)
        self.configurations.setdefault(merged.digest, merged)
        versions = self._versions(assignment, merged)
        return Assignment(
            AssignmentStatus.BY_HAND, (), merged.digest, versions, stack, own=assignment.own, modules=assignment.modules
        )

    def restored(self, old: Assignment, planned: Assignment, digest: str) -> Assignment:
        """The assignment of a device that goes from `old` back to a configuration, where nothing would target it (`planned`)."""
        versions = self._versions(old, self.configurations[digest])
        return Assignment(AssignmentStatus.RESTORED, (), digest, versions, own=planned.own, modules=planned.modules)

    def hold(self, digest: str) -> None:
        """Keep a configuration, though no assignment may have it."""
        self._uses[digest] = self._uses.get(digest, 0) + 1

    def release(self, digest: str) -> None:
        """Take `hold` back."""
        self._uses[digest] -= 1
        if self._uses[digest] == 0:
            del self._uses[digest]
            self.changed_configurations.add(digest)
            if digest != NOTHING.digest:
                del self.configurations[digest]

    def _versions(self, old: Assignment, new: Configuration) -> dict[str, int]:
        had = self.configurations[old.configuration].section_digests
        has = new.section_digests
        versions = dict(old.versions)
        for module in sorted(had.keys() | has.keys()):
            if had.get(module) != has.get(module):
                versions[module] = versions.get(module, 1) + 1
        return versions

    def number_of(self, assignment: Assignment) -> int:
        """The number of an assignment, a new one where it was not there."""
        if assignment == NO_ASSIGNMENT:
            return UNASSIGNED
        name = msgspec.json.encode(assignment, order="deterministic")
        number = self._numbers.get(name)
        if number is None:
            number = self.next_number
            self.next_number += 1
            self._insert(number, assignment, name)
            self.changed_assignments.add(number)
        return number

    def _insert(self, number: int, assignment: Assignment, name: bytes) -> None:
        self._numbers[name] = number
        self.by_number[number] = assignment
        for digest in assignment.configurations:
            if self._uses.get(digest, 0) == 0:
                self.changed_configurations.add(digest)
            self._uses[digest] = self._uses.get(digest, 0) + 1

    def restore(self, number: int, assignment: Assignment, devices: int) -> None:
        """Put a stored assignment back; its configuration must be there already."""
        self._insert(number, assignment, msgspec.json.encode(assignment, order="deterministic"))
        self._devices[number] = devices
        self.changed_configurations.difference_update(assignment.configurations)

    def move(self, old: int, new: int, count: int) -> None:
        """Note that some devices went from one assignment to another."""
        self._devices[old] = self._devices.get(old, 0) - count
        self._devices[new] = self._devices.get(new, 0) + count
        self._left.add(old)

    def drop_unused(self) -> None:
        """Drop the assignments no device has any more, and the configurations no assignment has. Called at the end of an change."""
        for number in sorted(self._left - {UNASSIGNED}):
            if self._devices.get(number, 0):
                continue
            assignment = self.by_number.pop(number)
            del self._numbers[msgspec.json.encode(assignment, order="deterministic")]
            self._devices.pop(number, None)
            self.changed_assignments.add(number)
            for digest in assignment.configurations:
                self.release(digest)
        self._left.clear()
