"""The devices in each status of the deployments of a partition, updated with each batch of changes.

A commit stores the counts of a deployment, and which of its targeted devices run it. So a read of one deployment costs what that
deployment has, however many others exist (docs/decisions/0059).
"""

from collections.abc import Collection, Iterable, Iterator, Mapping

import msgspec
import numpy as np
from pyroaring import BitMap

from events import canonical
from events.bitmaps import as_stored, to_bytes
from events.deployment.events import Ended, NotStarted
from events.fleet.assignments import UNASSIGNED, Assignment, AssignmentStatus, Layer
from events.fleet.deployments import Deployment
from events.fleet.packed import grouped
from events.fleet.state import PartitionState
from events.fleet.targets import stored_name
from events.manifest.document import DEVICE, ContentKind

STATUSES = ("target", "actual", "reportedSuccessful", "reportedFailed", "healthy", "unhealthy", "unknown", "pending")

_NO_ORDINALS = BitMap()
_NOT_OPEN: tuple[int, ...] = (0,) * len(STATUSES)
_NO_SETS: Mapping[str, BitMap] = {}

Part = tuple[Layer, str]
"""A deployment in the configuration of a device, or of the module of a name."""


class StatusSets(msgspec.Struct, frozen=True):
    """The status sets of one deployment in one partition (DESIGN §3), as ordinals; each count is the size of a set.

    Devices do not report success or failure for configurations of own twins and of modules: a device is healthy with such a
    configuration once it has received it.
    """

    target: BitMap
    actual: BitMap
    succeeded: BitMap
    failed: BitMap
    healthy: BitMap
    unhealthy: BitMap
    unknown: BitMap
    pending: BitMap

    @classmethod
    def of(
        cls, target: BitMap, actual: BitMap, answers: Mapping[str, BitMap], lacking: BitMap | None = None
    ) -> "StatusSets":
        """The sets of a deployment that `target` are targeted by, and that `actual` run.

        `answers` are the sets of `DeviceAnswers`. For configurations of own twins and of modules, `lacking` are the devices that
        have not received it; `None` for others.
        """
        # Devices acknowledge these by a delivery alone, so `undelivered` decides (docs/decisions/0032).
        if lacking is not None:
            pending, none = actual & lacking, BitMap()
            return cls(target, actual, none, none, actual - pending, none, pending, pending)
        healthy = actual & answers.get("healthy", _NO_ORDINALS)
        unhealthy = actual & answers.get("unhealthy", _NO_ORDINALS)
        return cls(
            target=target,
            actual=actual,
            succeeded=actual & answers.get("succeeded", _NO_ORDINALS),
            failed=actual & answers.get("failed", _NO_ORDINALS),
            healthy=healthy,
            unhealthy=unhealthy,
            unknown=actual - healthy - unhealthy,
            pending=actual - unhealthy - answers.get("acknowledged", _NO_ORDINALS),
        )

    def named(self) -> dict[str, BitMap]:
        """The sets by their public names."""
        return dict(zip(STATUSES, msgspec.structs.astuple(self), strict=True))


class DeploymentCounts(msgspec.Struct, frozen=True, array_like=True):
    """The counts of one deployment in one partition.

    - `created`: the fleet position of its creation
    - `targeted`: the devices, or the modules, that its condition is true for, before its start and after its end too
    - `by_status`: the sizes of its `StatusSets`, in the order of STATUSES
    - `twins`: the modules that a configuration of modules targets, and those that have it; for others, the devices
    - `modules`: the modules in which a configuration of modules targets devices
    """

    created: int
    targeted: int
    by_status: tuple[int, ...] = _NOT_OPEN
    twins: tuple[int, int] | None = None
    modules: tuple[str, ...] = ()

    def to_bytes(self) -> bytes:
        """Canonical bytes."""
        of_modules = () if self.twins is None else (self.twins, self.modules)
        return canonical.encode((self.created, self.targeted, self.by_status, *of_modules))

    @property
    def named(self) -> dict[str, int]:
        """`by_status` by the public names."""
        return dict(zip(STATUSES, self.by_status, strict=True))

    @property
    def twin_counts(self) -> tuple[int, int]:
        """`twins`, also for other deployments."""
        return self.by_status[:2] if self.twins is None else self.twins  # type: ignore[return-value]


class Applied(msgspec.Struct, frozen=True):
    """The targeted devices that run a deployment (`runs`), or those that do not: the smaller of the two sets."""

    runs: bool
    members: BitMap

    @classmethod
    def of(cls, target: BitMap, running: BitMap) -> "Applied":
        """The smaller of both sets; `running` are devices of `target`."""
        runs = 2 * len(running) < len(target)
        # A copy: the caller changes its set in place.
        return cls(runs, BitMap(running) if runs else target - running)

    def within(self, target: BitMap) -> BitMap:
        """The devices that run the deployment."""
        return self.members if self.runs else target - self.members

    def to_bytes(self) -> bytes:
        """Bytes that depend only on the sets."""
        return (b"+" if self.runs else b"-") + to_bytes(self.members)

    @classmethod
    def from_bytes(cls, data: bytes) -> "Applied":
        """The sets of these bytes."""
        return cls(data[:1] == b"+", as_stored(data[1:]))


class DeploymentStatuses:
    """The counts of each deployment of a partition, and by stored name which targeted devices run it, if not all do."""

    def __init__(self, state: PartitionState) -> None:
        self._state = state
        self._running: dict[Part, BitMap] = {}
        self.counts: dict[str, DeploymentCounts] = {}
        self.changed_counts: set[str] = set()
        """The deployments whose counts changed since the last commit."""
        self.applied: dict[str, tuple[int, dict[str, Applied]]] = {}
        """By deployment, the position of its creation, and by stored name the devices; nothing where all targeted devices run it."""
        self.changed_applied: set[tuple[int, str]] = set()
        """As `Targets.changed`, of `applied`."""

    def restore(self, counts: Mapping[str, DeploymentCounts], applied: Iterable[tuple[int, str, Applied]]) -> None:
        """Restore the stored counts and sets (position of the deployment's creation, stored name, devices)."""
        self.counts = dict(counts)
        for created, name, devices in applied:
            self.applied.setdefault(name.partition("/")[0], (created, {}))[1][name] = devices
        # Which devices run a deployment is not stored: it follows from the assignments.
        state = self._state
        numbers = state.assignment_of.take(np.arange(len(state.assignment_of), dtype=np.uint32))
        assigned = np.flatnonzero(numbers != UNASSIGNED)
        for number, ordinals in grouped(numbers[assigned], assigned):
            for part in parts_of(state.assignments.by_number[number]):
                self._running.setdefault(part, BitMap()).update(BitMap(ordinals.astype(np.uint32)))

    def move(self, before: Assignment, after: Assignment, members: BitMap) -> None:
        """Note devices that moved from one assignment to another."""
        had, has = set(parts_of(before)), set(parts_of(after))
        retargeted = self._state.targets.retargeted
        for part in had - has:
            running = self._running[part]
            running -= members
            if not running:
                del self._running[part]
            retargeted.add(part[0].id)
        for part in has - had:
            self._running.setdefault(part, BitMap()).update(members)
            retargeted.add(part[0].id)

    def update(self) -> None:
        """Count the deployments again that the changes since the last call concern.

        That are those whose targets changed, those that devices began or ended to run, and those of devices whose answers count
        differently now.
        """
        state = self._state
        concerned, state.targets.retargeted = state.targets.retargeted, set()
        rejudged, state.answers.rejudged = state.answers.rejudged, BitMap()
        if rejudged:
            by_number = state.assignments.by_number
            numbers = np.unique(state.assignment_of.take(np.array(rejudged, dtype=np.uint32))).tolist()
            concerned.update(layer.id for number in numbers for layer, _ in parts_of(by_number[number]))
        if not concerned:
            return
        settled = state.answers.sets["acknowledged"] | state.answers.sets["unhealthy"]
        for name in concerned:
            deployment = state.deployments.by_id.get(name)
            if deployment is None:
                if self.counts.pop(name, None) is not None:
                    self.changed_counts.add(name)
                self._put_applied(name, 0, {})
            else:
                self._count(deployment, settled)

    def _count(self, deployment: Deployment, settled: BitMap) -> None:
        """Count a deployment; `settled` are the devices that are acknowledged or unhealthy."""
        state, name, of_modules = self._state, deployment.id, deployment.kind is ContentKind.MODULE
        targets = state.targets.of_modules.get(name, _NO_SETS) if of_modules else {"": state.targets.members[name]}
        targeted, by_status, in_part = sum(map(len, targets.values())), _NOT_OPEN, dict[str, Applied]()
        twins = (0, 0) if of_modules else None
        if not isinstance(deployment.admission, NotStarted | Ended):
            layer, applied = Layer(name, deployment.created), dict[str, BitMap]()
            for module, members in targets.items():
                running = self._running.get((layer, module), _NO_ORDINALS)
                count = members.intersection_cardinality(running)
                # A device that is over a limit keeps what it runs, also from a deployment that targets it no more.
                applied[module] = running if count == len(running) else members & running
                if count != len(members):
                    in_part[stored_name(deployment, module)] = Applied.of(members, applied[module])
            target, actual = _union(targets.values()), _union(applied.values())
            by_status = self._by_status(deployment, targets, target, actual, settled)
            if of_modules:
                twins = (targeted, sum(map(len, applied.values())))
        self._put_applied(name, deployment.created, in_part)
        modules = tuple(sorted(targets)) if of_modules else ()
        counts = DeploymentCounts(deployment.created, targeted, by_status, twins, modules)
        if self.counts.get(name) != counts:
            self.counts[name] = counts
            self.changed_counts.add(name)

    def _by_status(
        self, deployment: Deployment, modules: Iterable[str], target: BitMap, actual: BitMap, settled: BitMap
    ) -> tuple[int, ...]:
        """The sizes of `StatusSets.of`, without making the sets: that takes a quarter of the time."""
        answers, count = self._state.answers, len(actual)
        if deployment.kind is not ContentKind.EDGE:
            lacking = _union(answers.undelivered.get(module or DEVICE, _NO_ORDINALS) for module in modules)
            pending = actual.intersection_cardinality(lacking)
            return len(target), count, 0, 0, count - pending, 0, pending, pending
        succeeded, failed, healthy, unhealthy = (
            actual.intersection_cardinality(answers.sets[name])
            for name in ("succeeded", "failed", "healthy", "unhealthy")
        )
        pending = count - actual.intersection_cardinality(settled)
        # No device is both healthy and unhealthy.
        return len(target), count, succeeded, failed, healthy, unhealthy, count - healthy - unhealthy, pending

    def _put_applied(self, name: str, created: int, sets: dict[str, Applied]) -> None:
        previous_created, previous = self.applied.pop(name, (created, {}))
        if sets:
            self.applied[name] = (created, sets)
        if previous_created != created:
            self.changed_applied |= {(previous_created, stored) for stored in previous}
            previous = {}
        stored_names = previous.keys() | sets.keys()
        self.changed_applied |= {
            (created, stored) for stored in stored_names if previous.get(stored) != sets.get(stored)
        }


def parts_of(assignment: Assignment) -> Iterator[Part]:
    """Every deployment that a device with an assignment runs (as `Assignment.has`), and in which module."""
    if assignment.status is not AssignmentStatus.UNMANAGED:
        for layer in assignment.stack:
            yield layer, ""
    for layer in assignment.own_part.stack:
        yield layer, ""
    for module, part in assignment.module_parts.items():
        for layer in part.stack:
            yield layer, module


def _union(sets: Iterable[BitMap]) -> BitMap:
    members: Collection[BitMap] = tuple(sets)
    # A deployment has one set unless it is for modules; a set without a copy saves a third of the time of a count.
    return next(iter(members)) if len(members) == 1 else BitMap().union(*members)
