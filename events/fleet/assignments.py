"""Assignments: the configurations of a device, interned so that devices with one history share one assignment.

An assignment names the stack of deployments, the configuration of their merge, and the `$version` of each module twin. Re-targeting
a million devices creates a few assignments and rewrites one packed array per partition (docs/decisions/0004).
"""

import base64
import enum
from collections.abc import Iterator, Sequence

import msgspec
from msgspec import UNSET, UnsetType
from pyroaring import BitMap

from events.bitmaps import from_bytes, to_bytes
from events.canonical import JsonObject
from events.envelope import Vector
from events.fleet.answers import Expected
from events.fleet.configuration import AGENT, HUB, NOTHING, Configuration, ConfigurationOverLimit, effective
from events.fleet.deployments import Deployment
from events.manifest.document import DESIRED, DEVICE
from events.manifest.merge import merge as merge_contents
from events.manifest.merge import over_limit

UNASSIGNED = 0
"""The number of the assignment of devices that never had a configuration."""


class AssignmentStatus(enum.Enum):
    """The origin of a device's configuration."""

    MANAGED = "managed"
    UNMANAGED = "unmanaged"
    OVER_LIMIT = "over limit"
    BY_HAND = "by hand"
    RESTORED = "restored"


PINNED = frozenset({AssignmentStatus.BY_HAND, AssignmentStatus.RESTORED})
"""The statuses that stay until another stack targets the device."""


class Layer(msgspec.Struct, frozen=True, array_like=True, order=True):
    """A deployment in a stack; `created` distinguishes two successive deployments with the same id."""

    id: str
    created: int


class Own(msgspec.Struct, frozen=True):
    """The configurations of one twin, a device's own or a module's: all that target it, ascending.

    `configuration` has the one section `DEVICE` or `MODULE`; `version` counts its changes from 1, also across its removal. Over
    a limit the previous `stack` stays, `wanted` is the stack over the limit, and `reason` says why.
    """

    configuration: str = NOTHING.digest
    stack: tuple[Layer, ...] = ()
    version: int = 1
    wanted: tuple[Layer, ...] = ()
    reason: str = ""


NOT_CONFIGURED = Own()


class Assignment(msgspec.Struct, frozen=True):
    """The configurations of a device and their origin.

    - `stack`: the base and then its layers, ascending; of an unmanaged or over-limit device, the last applied stack
    - `wanted`: the stack over a limit, with its `reason`; or the stack that a device by hand or restored would have otherwise
    - `versions`: the `$version` of each module twin, from 1 for the first empty section; it continues after a removal
    - `own`: the part of the device's own twin; unset if it never had one
    - `modules`: the parts of module twins, by module; unset if there never was one

    The parts are independent of each other.
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
    def resolved(self) -> tuple[Layer, ...]:
        """The stack that the deployments give the device, whether it is applied or not; empty if no base targets it."""
        return self.stack if self.status is AssignmentStatus.MANAGED else self.wanted

    @property
    def agent_version(self) -> int:
        """The `$version` of the `$edgeAgent` twin, which an answer for this configuration must name."""
        return self.versions.get(AGENT, 0)

    @property
    def own_part(self) -> Own:
        """The part of the device's own twin; empty without any configuration."""
        return NOT_CONFIGURED if self.own is UNSET else self.own

    def module_part(self, module_id: str) -> Own:
        """The part of a module's twin, beside edge deployments; empty without any configuration."""
        return NOT_CONFIGURED if self.modules is UNSET else self.modules.get(module_id, NOT_CONFIGURED)

    @property
    def module_parts(self) -> dict[str, Own]:
        """The parts of all modules that ever had a configuration."""
        return {} if self.modules is UNSET else self.modules

    @property
    def module_versions(self) -> dict[str, int]:
        """The version of each module's configuration from all deployments, counted from 1."""
        # Edge deployments and configurations of the module count separately; the module's twin has one `$version`.
        versions = dict(self.versions)
        for module_id, part in self.module_parts.items():
            versions[module_id] = versions.get(module_id, 1) + part.version - 1
        return versions

    @property
    def deliverable(self) -> dict[str, int]:
        """The versions of all sections except the system modules', by module; `$device` is the device's own twin."""
        own = {} if self.own is UNSET else {DEVICE: self.own.version}
        return {name: version for name, version in self.module_versions.items() if name not in {AGENT, HUB}} | own

    def tells_the_same_as(self, other: "Assignment") -> bool:
        """Whether a device that moves from one assignment to the other has nothing new to answer for."""
        return self.versions == other.versions and self.deliverable == other.deliverable

    def expected(self, configuration: Configuration) -> Expected:
        """The answers that are expected of a device with this assignment and its configuration."""
        # No module is left to answer for a removed section, so only sections of named modules are required.
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
        """Whether the modules ever had a configuration, or have one over a limit."""
        return bool(self.versions) or self.status is not AssignmentStatus.UNMANAGED

    def again(self) -> "Assignment":
        """The assignment with a new `$version` of the agent's twin; the same without a configuration."""
        # An agent that has failed retries only when its `$version` changes.
        if AGENT not in self.versions:
            return self
        return msgspec.structs.replace(self, versions={**self.versions, AGENT: self.versions[AGENT] + 1})

    def has(self, layer: Layer, module_id: str = "") -> bool:
        """Whether a deployment is part of the configuration of a device, or with `module_id` of that module's part."""
        if module_id:
            return layer in self.module_part(module_id).stack
        managed = self.status is not AssignmentStatus.UNMANAGED
        return (managed and layer in self.stack) or layer in self.own_part.stack

    @property
    def layers(self) -> Iterator[Layer]:
        """Every deployment in the stack of the device or of a part."""
        yield from self.stack
        for part in (self.own_part, *self.module_parts.values()):
            yield from part.stack

    @property
    def configurations(self) -> tuple[str, ...]:
        """The configurations that the assignment refers to."""
        own = () if self.own is UNSET else (self.own.configuration,)
        return (self.configuration, *own, *(part.configuration for part in self.module_parts.values()))


NO_ASSIGNMENT = Assignment(AssignmentStatus.UNMANAGED, (), NOTHING.digest, {})


class AssignmentMove(msgspec.Struct, frozen=True):
    """Devices of one partition that moved from one assignment to another. `devices`: base64 of the set of their ordinals."""

    before: Assignment
    after: Assignment
    count: int
    devices: str

    @classmethod
    def of(cls, before: Assignment, after: Assignment, members: BitMap) -> "AssignmentMove":
        """The move of `members`."""
        return cls(before, after, len(members), base64.b64encode(to_bytes(members)).decode())

    def ordinals(self) -> BitMap:
        """The devices that moved."""
        return from_bytes(base64.b64decode(self.devices))


class AssignmentChange(msgspec.Struct, frozen=True, tag="AssignmentChange"):
    """The assignments of a partition changed at `after`; the last change before was at `before`.

    `moves` are in the order of their lowest ordinal.
    """

    # `before` is the vector of the last assignment change and not of the last commit: a replay must find the same bytes, however
    # often the worker committed in between (docs/decisions/0012).
    partition: int
    before: Vector
    after: Vector
    moves: tuple[AssignmentMove, ...]

    def ordinals(self) -> BitMap:
        """The devices that the change moved."""
        return BitMap().union(*(move.ordinals() for move in self.moves))


def stack_key(stack: Sequence[Deployment]) -> tuple[Layer, ...]:
    """The form of a stack in an assignment."""
    return tuple(Layer(deployment.id, deployment.created) for deployment in stack)


class MergeCache:
    """Effective configurations by stack, for all partitions of a process; beyond `stacks_max` the oldest are dropped."""

    # All partitions resolve the same stacks, so each merge is computed once and not once for each partition.
    def __init__(self, stacks_max: int = 20_000) -> None:
        self._by_stack: dict[tuple[Layer, ...], Configuration | ConfigurationOverLimit] = {}
        self._stacks_max = stacks_max

    def __call__(self, stack: Sequence[Deployment]) -> Configuration | ConfigurationOverLimit:
        """The effective configuration of a stack."""
        key = stack_key(stack)
        configuration = self._by_stack.get(key)
        if configuration is None:
            if len(self._by_stack) >= self._stacks_max:
                del self._by_stack[next(iter(self._by_stack))]
            configuration = self._by_stack[key] = effective(stack)
        return configuration


class Assignments:
    """The assignments of one partition, numbered in order of appearance; unused assignments are dropped."""

    # Numbers are never reused, so that a reader with an older array finds its assignment or none (docs/decisions/0004).
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

    def after(self, number: int, stack: Sequence[Deployment], merge: MergeCache) -> Assignment:
        """The assignment that follows when a stack targets the devices of an assignment; an empty stack if none does."""
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
            # The same deployments target the device, so a configuration set by hand stays (contract/hub.md §3.3 item 8).
            return old
        merged = merge(stack)
        if isinstance(merged, ConfigurationOverLimit):
            return msgspec.structs.replace(old, status=AssignmentStatus.OVER_LIMIT, wanted=key, reason=merged.reason)
        self.configurations.setdefault(merged.digest, merged)
        versions = self._versions(old, merged)
        return Assignment(AssignmentStatus.MANAGED, key, merged.digest, versions, own=old.own, modules=old.modules)

    def after_twin(self, twin: str, old: Assignment, stack: Sequence[Deployment], merge: MergeCache) -> Assignment:
        """The assignment that follows when exactly these configurations, ascending, target the own twin (`DEVICE`) or a module."""
        part, key = old.own_part if twin == DEVICE else old.module_part(twin), stack_key(stack)
        if part.stack == key and not part.wanted:
            return old
        merged = merge(stack) if stack else NOTHING
        if isinstance(merged, ConfigurationOverLimit):
            new = msgspec.structs.replace(part, wanted=key, reason=merged.reason)
        else:
            self.configurations.setdefault(merged.digest, merged)
            new = Own(merged.digest, key, part.version + (merged.digest != part.configuration))
        if twin == DEVICE:
            return msgspec.structs.replace(old, own=UNSET if new == NOT_CONFIGURED else new)
        parts = {name: part for name, part in old.module_parts.items() if name != twin}
        if new != NOT_CONFIGURED:
            parts[twin] = new
        return msgspec.structs.replace(old, modules=parts or UNSET)

    def by_hand(self, assignment: Assignment, content: JsonObject) -> Assignment:
        """The assignment that follows when the modules of a content are set by hand, with a `reason` if it is over a limit."""
        stack = assignment.resolved
        had = self.configurations[assignment.configuration].sections
        base = {module: {DESIRED: msgspec.json.decode(section)} for module, section in had.items()}
        sections = merge_contents(base, [content])
        if reason := over_limit(sections):
            return msgspec.structs.replace(assignment, status=AssignmentStatus.OVER_LIMIT, wanted=stack, reason=reason)
        merged = Configuration.of(sections)
        self.configurations.setdefault(merged.digest, merged)
        versions, own, modules = self._versions(assignment, merged), assignment.own, assignment.modules
        return Assignment(AssignmentStatus.BY_HAND, (), merged.digest, versions, stack, own=own, modules=modules)

    def restored(self, old: Assignment, planned: Assignment, digest: str) -> Assignment:
        """The assignment of a device that returns from `old` to a configuration; `planned` has its other parts."""
        versions = self._versions(old, self.configurations[digest])
        return Assignment(AssignmentStatus.RESTORED, (), digest, versions, own=planned.own, modules=planned.modules)

    def hold(self, digest: str) -> None:
        """Keep a configuration even without an assignment that has it."""
        self._uses[digest] = self._uses.get(digest, 0) + 1

    def release(self, digest: str) -> None:
        """End a `hold`, or an assignment's use."""
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
        """The number of an assignment; a new number for a new assignment."""
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
            if digest not in self._uses:
                self.changed_configurations.add(digest)
            self.hold(digest)

    def restore(self, number: int, assignment: Assignment, devices: int) -> None:
        """Restore a stored assignment; its configuration must be restored before."""
        self._insert(number, assignment, msgspec.json.encode(assignment, order="deterministic"))
        self._devices[number] = devices
        self.changed_configurations.difference_update(assignment.configurations)

    def move(self, old: int, new: int, count: int) -> None:
        """Count devices that move from one assignment to another."""
        self._devices[old] = self._devices.get(old, 0) - count
        self._devices[new] = self._devices.get(new, 0) + count
        self._left.add(old)

    def drop_unused(self) -> None:
        """Drop the assignments without devices, and the configurations without assignments, at the end of a change."""
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
