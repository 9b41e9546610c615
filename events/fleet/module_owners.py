"""The devices that have each module after the planned moves: made by hand, or part of an edge device's configuration."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from pyroaring import BitMap

from events.fleet.assignments import Assignment, Assignments
from events.fleet.directory import Directory
from events.fleet.packed import Packed
from events.query.module_condition import can_be_for

_NO_ORDINALS = BitMap()

Planned = dict[tuple[int, bytes], tuple[Assignment, BitMap]]
"""The planned moves of devices, by the number of the old assignment and the bytes of the new one."""


@dataclass(eq=False)
class ModuleOwners:
    """The owners of modules while a partition resolves; invalid once the moves are carried out."""

    directory: Directory
    by_hand: Mapping[str, BitMap]
    assignments: Assignments
    assignment_of: Packed
    moved: Planned

    @cached_property
    def planned(self) -> BitMap:
        """All devices that move to another assignment."""
        return BitMap().union(*(members for _, members in self.moved.values()))

    def having(self, module_id: str, within: BitMap) -> BitMap:
        """The devices of `within` that have a module."""
        owners = self.by_hand.get(module_id, _NO_ORDINALS) & within & self.directory.live
        if module_id in self._configured:
            numbers, members = self._configured[module_id]
            edge = within & self.directory.edge
            stay = np.array(edge - self.planned, dtype=np.uint32)
            owners |= BitMap(stay[np.isin(self.assignment_of.take(stay), numbers)]) | (members & edge)
        return owners

    def modules(self) -> set[str]:
        """Every module that a device can have and a configuration can be for."""
        return _targetable((*self.by_hand, *self._configured))

    def modules_of(self, ordinals: BitMap) -> set[str]:
        """As `modules` for some devices."""
        edge = ordinals & self.directory.edge
        stay = np.array(edge - self.planned, dtype=np.uint32)
        assignments = [
            self.assignments.by_number[number] for number in np.unique(self.assignment_of.take(stay)).tolist()
        ]
        assignments += [assignment for assignment, members in self.moved.values() if members.intersect(edge)]
        made = (module_id for module_id, members in self.by_hand.items() if members.intersect(ordinals))
        return _targetable(made).union(*(_targetable(self._named_by(assignment)) for assignment in assignments))

    @cached_property
    def _configured(self) -> Mapping[str, tuple[list[int], BitMap]]:
        """By module, the assignments whose configuration names it, and the devices that move to such an assignment."""
        configured: dict[str, tuple[list[int], BitMap]] = defaultdict(lambda: ([], BitMap()))
        for number, assignment in self.assignments.by_number.items():
            for module_id in self._named_by(assignment):
                configured[module_id][0].append(number)
        for assignment, members in self.moved.values():
            for module_id in self._named_by(assignment):
                configured[module_id][1].update(members)
        return configured

    def _named_by(self, assignment: Assignment) -> frozenset[str]:
        return self.assignments.configurations[assignment.configuration].module_ids


def _targetable(module_ids: Iterable[str]) -> set[str]:
    return {module_id for module_id in module_ids if can_be_for(module_id)}
