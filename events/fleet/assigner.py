"""Plans the next assignment of each device: by deployments, by hand, by a rollback, by a retry, and on retirement."""

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import reduce
from typing import Any, TypeVar

import msgspec
import numpy as np
from pyroaring import BitMap

from events.fleet.assignments import UNASSIGNED, Assignment, AssignmentStatus, MergeCache
from events.fleet.configuration import AGENT
from events.fleet.deployments import Deployment
from events.fleet.packed import grouped
from events.fleet.resolve import Ordinals, Stack, resolve, resolve_own, together
from events.fleet.state import PartitionState
from events.fleet.targets import AppliedChanges, ModuleOwners, Planned
from events.manifest.document import DEVICE, ContentKind

T = TypeVar("T")


class Assigner:
    """Plans moves of devices between assignments; its partition carries them out."""

    def __init__(self, state: PartitionState, merge: MergeCache) -> None:
        self._state, self._merge = state, merge
        self._directory, self._deployments, self._targets = state.directory, state.deployments, state.targets
        self._assignments, self._assignment_of = state.assignments, state.assignment_of

    def plan(self, changes: AppliedChanges) -> tuple[Planned, BitMap]:
        """Update the targets; returns the planned moves, and all devices whose assignment may have changed."""
        live, concerned = self._directory.live, self._targets.retarget(changes)
        moved = self._of_edge(concerned[ContentKind.EDGE] & live, changes)
        if self._deployments.has_had_own:
            eligible, ascending = self._targets.eligible, self._deployments.own_ascending
            stacks = resolve_own(concerned[ContentKind.DEVICE] & live, ascending=ascending, eligible=eligible)
            own = ((((DEVICE, stack),), ordinals) for stack, ordinals in stacks)
            moved = self._revised(moved, own, self._after_twins)
        moved = self._restored(moved, changes.restoring)
        by_hand = ((contents, BitMap([ordinal])) for ordinal, contents in changes.by_hand.items())
        after_hand = self._assignments.by_hand
        moved = self._revised(moved, by_hand, lambda contents, _, planned: reduce(after_hand, contents, planned))
        # Retries are applied one by one, so that the result does not depend on how many fell into one batch.
        for retried in changes.retried:
            moved = self._revised(moved, [(None, retried & live)], _again)
        of_modules = self._retarget_modules(changes, moved)
        moved = self._revised(moved, together(self._of_modules(of_modules)), self._after_twins)
        for old, ordinals in self._by_assignment(changes.gone):
            self._collect(moved, old, self._assignments.by_number[UNASSIGNED], ordinals)
        return moved, BitMap().union(*concerned.values(), *of_modules.values())

    def _of_edge(self, concerned: BitMap, changes: AppliedChanges) -> Planned:
        moved: Planned = {}
        eligible = self._targets.eligible
        for within, bases, layers in self._rankings(concerned, changes):
            stacks = resolve(within, bases_descending=bases, layers_ascending=layers, eligible=eligible)
            for stack, ordinals in stacks:
                for old, members in self._by_assignment(ordinals):
                    self._collect(moved, old, self._assignments.after(old, stack, self._merge), members)
        return moved

    def _rankings(
        self, concerned: BitMap, changes: AppliedChanges
    ) -> Iterator[tuple[BitMap, Sequence[Deployment], Sequence[Deployment]]]:
        """The concerned devices in two parts, each with the bases, descending, and the layers, ascending, to resolve."""
        # A device that keeps its base can only have deployments of its present stack, changed ones, and layers that a changed
        # one has outranked: the cost does not grow with the number of other deployments (docs/decisions/0065).
        by_id, eligible, changed = self._deployments.by_id, self._targets.eligible, self._targets.retargeted
        every_base, every_layer = self._deployments.bases_descending, self._deployments.layers_ascending
        names, priorities, searching = set(changed), set[int](), concerned & changes.renewed
        gained = [eligible[name] for name in changed if name in by_id and _is_base(by_id[name])]
        for number, ordinals in self._by_assignment(concerned - searching):
            members, stack = BitMap(ordinals), self._assignments.by_number[number].resolved
            names.update(layer.id for layer in stack)
            if not stack:
                # Without a base it is unknown which layers target the device.
                searching |= members & BitMap().union(*gained)
            elif (base := stack[0].id) in changed:
                before, after = changes.before(base, by_id), by_id.get(base)
                keeps = after is not None and after.created == before.created and after.rank >= before.rank
                searching |= members - eligible[base] if keeps else members
            # Of layers with equal priority only the newest is in a stack.
            priorities.update(changes.before(layer.id, by_id).priority for layer in stack[1:] if layer.id in changed)
        if searching:
            yield searching, every_base, every_layer
        if keeping := concerned - searching:
            for priority in priorities:
                first, last = (find(every_layer, priority, key=_priority) for find in (bisect_left, bisect_right))
                names.update(layer.id for layer in every_layer[first:last])
            edge = [by_id[name] for name in names if name in by_id and by_id[name].kind is ContentKind.EDGE]
            edge.sort(key=lambda deployment: deployment.rank)
            bases = [deployment for deployment in reversed(edge) if not deployment.layered]
            yield keeping, bases, [deployment for deployment in edge if deployment.layered]

    def _retarget_modules(self, changes: AppliedChanges, moved: Planned) -> Mapping[str, BitMap]:
        """Update the targets of configurations of modules."""
        # Which modules a device has follows from its planned edge assignment, so this step comes after it, in the same commit.
        sides = (side for change in changes.deployments.values() for side in (change.before, change.after))
        if not self._deployments.of_modules_ascending and not any(
            deployment and deployment.kind is ContentKind.MODULE for deployment in sides
        ):
            return {}
        owners = ModuleOwners(self._directory, self._state.modules, self._assignments, self._assignment_of, moved)
        return self._targets.retarget_modules(changes, owners)

    def _of_modules(self, concerned: Mapping[str, BitMap]) -> Iterator[tuple[tuple[str, Stack], Ordinals]]:
        for module in sorted(concerned):
            eligible = self._targets.eligible_for(module)
            ascending = [each for each in self._deployments.of_modules_ascending if each.id in eligible]
            within = concerned[module] & self._directory.live
            for stack, ordinals in resolve_own(within, ascending=ascending, eligible=eligible):
                yield (module, stack), ordinals

    def _after_twins(
        self, stacks: tuple[tuple[str, Stack], ...], _current: Assignment, planned: Assignment
    ) -> Assignment:
        for twin, stack in stacks:
            planned = self._assignments.after_twin(twin, planned, stack, self._merge)
        return planned

    def _restored(self, moved: Planned, names: set[str]) -> Planned:
        """The planned moves with devices restored whose deployment was rolled back and that no other deployment targets."""
        noted = [
            (layer, digest, members)
            for layer, members_by_digest in self._state.notes.before.items()
            if layer.id in names
            for digest, members in members_by_digest.items()
        ]
        if not noted:
            return moved
        result: Planned = {}
        for (old, _), (assignment, members) in moved.items():
            current, staying = self._assignments.by_number[old], members
            for layer, digest, had in noted if assignment.status is AssignmentStatus.UNMANAGED else ():
                # Only a device that still has the deployment goes back. The batch in which its end is applied must not matter.
                if current.has(layer) and (returning := staying & had):
                    staying = staying - returning
                    self._collect(result, old, self._assignments.restored(current, assignment, digest), returning)
            if staying:
                self._collect(result, old, assignment, staying)
        return result

    def _revised(
        self,
        moved: Planned,
        revisions: Iterable[tuple[T, Ordinals | BitMap]],
        after: Callable[[T, Assignment, Assignment], Assignment],
    ) -> Planned:
        """The planned moves after revisions, at most one a device; `after` takes a revision, the current and the planned assignment."""
        revised = [(revision, BitMap(ordinals)) for revision, ordinals in revisions]
        concerned, planned, result = BitMap().union(*(devices for _, devices in revised)), BitMap(), Planned()
        if not concerned:
            return moved
        for (old, _), (assignment, members) in moved.items():
            planned |= members
            for revision, devices in revised:
                # Hundreds of moves can meet thousands of revisions, most of which have no device in common.
                if members.intersect(devices):
                    revised_assignment = after(revision, self._assignments.by_number[old], assignment)
                    self._collect(result, old, revised_assignment, members & devices)
            if unconcerned := members - concerned:
                self._collect(result, old, assignment, unconcerned)
        for revision, devices in revised:
            for old, ordinals in self._by_assignment(devices - planned):
                current = self._assignments.by_number[old]
                self._collect(result, old, after(revision, current, current), ordinals)
        return result

    def _by_assignment(self, devices: Ordinals | BitMap) -> Iterable[tuple[int, Ordinals | BitMap]]:
        """The devices by the number of their current assignment."""
        # Many batches change one device each, for which the arrays below take most of the time; many revisions leave none.
        if len(devices) <= 1:
            return [(self._assignment_of[int(ordinal)], devices) for ordinal in devices]
        ordinals = np.asarray(devices, dtype=np.uint32)
        return grouped(self._assignment_of.take(ordinals), ordinals)

    def _collect(self, moved: Planned, old: int, assignment: Assignment, ordinals: Any) -> None:
        """Add a move, unless the assignment stays."""
        current = self._assignments.by_number[old]
        if assignment is current or assignment == current:
            return
        key = (old, msgspec.json.encode(assignment, order="deterministic"))
        members = BitMap(ordinals)
        if key in moved:
            members |= moved[key][1]
        moved[key] = (assignment, members)


def _is_base(deployment: Deployment) -> bool:
    return deployment.kind is ContentKind.EDGE and not deployment.layered


def _priority(deployment: Deployment) -> int:
    return deployment.priority


def _again(_revision: None, current: Assignment, planned: Assignment) -> Assignment:
    # A device without an agent configuration has nothing to retry.
    return planned.again() if AGENT in current.versions else planned
