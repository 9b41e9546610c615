"""Plans the next assignment of each device: by deployments, by hand, by a rollback, by a retry, and on retirement."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, TypeVar

import msgspec
import numpy as np
from pyroaring import BitMap

from events.canonical import JsonObject
from events.fleet.assignments import UNASSIGNED, Assignment, Assignments, AssignmentStatus
from events.fleet.configuration import AGENT
from events.fleet.deployments import Deployments
from events.fleet.directory import Directory
from events.fleet.merge_cache import MergeCache
from events.fleet.module_owners import ModuleOwners, Planned
from events.fleet.module_targets import AppliedChanges
from events.fleet.packed import Packed, grouped
from events.fleet.resolve import Ordinals, Stack, resolve, resolve_own, together
from events.fleet.rollout_notes import RolloutNotes
from events.fleet.targets import Targets
from events.manifest.document import ContentKind

T = TypeVar("T")


class Assigner:
    """Plans moves of devices between assignments; its partition carries them out."""

    def __init__(
        self,
        directory: Directory,
        deployments: Deployments,
        targets: Targets,
        *,
        assignments: Assignments,
        assignment_of: Packed,
        modules: Mapping[str, BitMap],
        notes: RolloutNotes,
        merge: MergeCache,
    ) -> None:
        self._directory, self._deployments, self._targets = directory, deployments, targets
        self._assignments, self._assignment_of, self._modules = assignments, assignment_of, modules
        self._notes, self._merge = notes, merge
        self.by_hand: dict[int, list[JsonObject]] = {}
        """The configurations set by hand since the last plan, by ordinal."""
        self.retried: list[BitMap] = []
        """The devices of each retry since the last plan."""
        self.restoring: set[str] = set()
        """The deployments rolled back since the last plan, whose devices return to what they had before."""

    def plan(self, changes: AppliedChanges) -> tuple[Planned, BitMap]:
        """Update the targets; returns the planned moves, and all devices whose assignment may have changed."""
        concerned = self._targets.retarget(changes)
        moved = self._assign_devices(concerned)
        of_modules = self._retarget_modules(changes, moved)
        planned = self._with_gone(self._with_modules(moved, of_modules), changes.gone)
        return planned, BitMap().union(*concerned.values(), *of_modules.values())

    def _retarget_modules(self, changes: AppliedChanges, moved: Planned) -> dict[str, BitMap]:
        """Update the targets of configurations of modules."""
        # Which modules a device has follows from its planned edge assignment, so this step comes after it, in the same commit.
        changed = (
            deployment for change in changes.deployments.values() for deployment in (change.before, change.after)
        )
        if not self._deployments.of_modules_ascending and not any(
            deployment and deployment.kind is ContentKind.MODULE for deployment in changed
        ):
            return {}
        owners = ModuleOwners(self._directory, self._modules, self._assignments, self._assignment_of, moved=moved)
        renewed = changes.renewed | owners.planned
        return self._targets.of_modules.retarget(msgspec.structs.replace(changes, renewed=renewed), owners)

    def _assign_devices(self, concerned: Mapping[ContentKind, BitMap]) -> Planned:
        """The moves that follow for edge deployments, configurations of own twins, rollbacks, manual changes and retries."""
        moved: Planned = {}
        for stack, ordinals in resolve(
            concerned[ContentKind.EDGE] & self._directory.live,
            bases_descending=self._deployments.bases_descending,
            layers_ascending=self._deployments.layers_ascending,
            eligible=self._targets.eligible,
        ):
            for old, members in self._by_assignment(ordinals):
                assignment = self._assignments.after(old, stack, self._merge)
                if (
                    assignment is not self._assignments.by_number[old]
                    and assignment != self._assignments.by_number[old]
                ):
                    _collect(moved, old, assignment, members)
        if self._deployments.has_had_own:
            stacks = resolve_own(
                concerned[ContentKind.DEVICE] & self._directory.live,
                ascending=self._deployments.own_ascending,
                eligible=self._targets.eligible,
            )
            moved = self._with_part(
                moved, stacks, lambda assignment, stack: self._assignments.after_own(assignment, stack, self._merge)
            )
        moved = self._assign_back(moved)
        self._assign_by_hand(moved)
        return self._assign_again(moved)

    def _with_modules(self, moved: Planned, concerned: Mapping[str, BitMap]) -> Planned:
        """The planned moves with the configurations of modules of the concerned devices."""
        if not concerned:
            return moved
        return self._with_part(moved, together(self._decided(concerned)), self._after_modules)

    def _decided(self, concerned: Mapping[str, BitMap]) -> Iterator[tuple[tuple[str, Stack], Ordinals]]:
        for module in sorted(concerned):
            eligible = self._targets.of_modules.eligible_for(module)
            ascending = [
                deployment for deployment in self._deployments.of_modules_ascending if deployment.id in eligible
            ]
            within = concerned[module] & self._directory.live
            for stack, ordinals in resolve_own(within, ascending=ascending, eligible=eligible):
                yield (module, stack), ordinals

    def _after_modules(self, assignment: Assignment, stacks: tuple[tuple[str, Stack], ...]) -> Assignment:
        for module, stack in stacks:
            assignment = self._assignments.after_module(module, assignment, stack, self._merge)
        return assignment

    def _with_part(
        self, moved: Planned, decided: Iterable[tuple[T, Ordinals]], after: Callable[[Assignment, T], Assignment]
    ) -> Planned:
        """The planned moves with another part of the assignments decided; each device is decided for at most once."""
        result: Planned = {}
        stacks = [(stack, BitMap(ordinals)) for stack, ordinals in decided]
        concerned = BitMap().union(*(targeted for _, targeted in stacks))
        planned = BitMap()
        for (old, _), (assignment, members) in moved.items():
            planned |= members
            for stack, targeted in stacks:
                if decided_for := members & targeted:
                    _collect(result, old, after(assignment, stack), decided_for)
            if unconcerned := members - concerned:
                _collect(result, old, assignment, unconcerned)
        for stack, targeted in stacks:
            for old, ordinals in self._by_assignment(targeted - planned):
                previous = self._assignments.by_number[old]
                assignment = after(previous, stack)
                if assignment != previous:
                    _collect(result, old, assignment, ordinals)
        return result

    def _assign_by_hand(self, moved: Planned) -> None:
        """Apply the configurations set by hand since the last call on top of the planned moves."""
        for ordinal, contents in self.by_hand.items():
            old = self._assignment_of[ordinal]
            assignment = self._assignments.by_number[old]
            for key, (planned, members) in moved.items():
                if ordinal in members:
                    assignment = planned
                    members.discard(ordinal)
                    if not members:
                        del moved[key]
                    break
            for content in contents:
                assignment = self._assignments.by_hand(assignment, content)
            if assignment != self._assignments.by_number[old]:
                _collect(moved, old, assignment, [ordinal])
        self.by_hand = {}

    def _assign_back(self, moved: Planned) -> Planned:
        """The planned moves with devices restored whose deployment was rolled back and that no other deployment targets."""
        names, self.restoring = self.restoring, set()
        noted = [
            (layer, digest, members)
            for layer, members_by_digest in self._notes.before.items()
            if layer.id in names
            for digest, members in members_by_digest.items()
        ]
        if not noted:
            return moved
        result: Planned = {}
        for (old, _), (assignment, members) in moved.items():
            staying = members
            for layer, digest, had in noted if assignment.status is AssignmentStatus.UNMANAGED else ():
                # Only a device that still has the deployment goes back. The batch in which its end is applied must not matter.
                if self._assignments.by_number[old].has(layer) and (returning := staying & had):
                    staying = staying - returning
                    _collect(
                        result,
                        old,
                        self._assignments.restored(self._assignments.by_number[old], assignment, digest),
                        returning,
                    )
            if staying:
                _collect(result, old, assignment, staying)
        return result

    def _assign_again(self, moved: Planned) -> Planned:
        """The planned moves with a new `$version` for the devices that are retried."""
        retries, self.retried = self.retried, []
        # Retries are applied one by one, so that the result does not depend on how many fell into one batch.
        for retried in retries:
            moved = self._once_more(moved, retried & self._directory.live)
        return moved

    def _once_more(self, moved: Planned, retried: BitMap) -> Planned:
        if not retried:
            return moved
        result: Planned = {}
        planned = BitMap()
        for (old, _), (assignment, members) in moved.items():
            planned |= members
            # A device without an agent configuration has nothing to retry.
            again = members & retried if AGENT in self._assignments.by_number[old].versions else BitMap()
            for devices, after in ((again, assignment.again()), (members - again, assignment)):
                if devices:
                    _collect(result, old, after, devices)
        for old, ordinals in self._by_assignment(retried - planned):
            previous = self._assignments.by_number[old]
            if previous.again() != previous:
                _collect(result, old, previous.again(), ordinals)
        return result

    def _with_gone(self, moved: Planned, gone: BitMap) -> Planned:
        for old, ordinals in self._by_assignment(gone):
            if old != UNASSIGNED:
                _collect(moved, old, self._assignments.by_number[UNASSIGNED], ordinals)
        return moved

    def _by_assignment(self, devices: Ordinals | BitMap) -> Iterator[tuple[int, Ordinals]]:
        """The devices by the number of their current assignment."""
        ordinals = np.asarray(devices, dtype=np.uint32)
        return grouped(self._assignment_of.take(ordinals), ordinals)


def _collect(moved: Planned, old: int, assignment: Assignment, ordinals: Any) -> None:
    key = (old, msgspec.json.encode(assignment, order="deterministic"))
    members = BitMap(ordinals)
    if key in moved:
        members |= moved[key][1]
    moved[key] = (assignment, members)
