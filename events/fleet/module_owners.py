"""Who has which module, once what is planned is done: made by hand, or as an edge device by what it runs."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from functools import cached_property

import numpy as np
from pyroaring import BitMap

from events.fleet.assignments import Assignment, Assignments
from events.fleet.directory import Directory
from events.fleet.packed import Packed
from events.query.module_condition import can_be_for

_NOBODY = BitMap()

Planned = dict[tuple[int, bytes], tuple[Assignment, BitMap]]
"""Who goes from which assignment to which; by the number of the one and the bytes of the other."""


class ModuleOwners:
    """Reads a partition while it resolves; of no use once `moved` is done."""

    def __init__(
        self,
        directory: Directory,
        made: Mapping[str, BitMap],
        assignments: Assignments,
        assignment_of: Packed,
        *,
        moved: Planned,
    ) -> None:
        self._directory, self._made = directory, made
        self._assignments, self._assignment_of, self._moved = assignments, assignment_of, moved

    @cached_property
    def planned(self) -> BitMap:
        """Everybody who comes to another assignment."""
        return BitMap().union(*(members for _, members in self._moved.values()))

    def having(self, module_id: str, within: BitMap) -> BitMap:
        """Those of some devices that have a module."""
        owners = self._made.get(module_id, _NOBODY) & within & self._directory.live
        if module_id in self._configured:
            numbers, members = self._configured[module_id]
            edge = within & self._directory.edge
            stay = np.array(edge - self.planned, dtype=np.uint32)
            owners |= BitMap(stay[np.isin(self._assignment_of.take(stay), numbers)]) | (members & edge)
        return owners

    def modules(self) -> set[str]:
        """Every module that a configuration can be for and that some device may have."""
        return _suiting((*self._made, *self._configured))

    def modules_of(self, ordinals: BitMap) -> set[str]:
        """As `modules`, of some devices."""
        edge = ordinals & self._directory.edge
        stay = np.array(edge - self.planned, dtype=np.uint32)
        assignments = [
            self._assignments.by_number[number] for number in np.unique(self._assignment_of.take(stay)).tolist()
        ]
        assignments += [assignment for assignment, members in self._moved.values() if members.intersect(edge)]
        made = (module_id for module_id, members in self._made.items() if members.intersect(ordinals))
        return _suiting(made).union(*(_suiting(self._named_by(assignment)) for assignment in assignments))

    @cached_property
    def _configured(self) -> Mapping[str, tuple[list[int], BitMap]]:
        """By module, the assignments with a configuration that names it, and whoever comes to one that does."""
        configured: dict[str, tuple[list[int], BitMap]] = defaultdict(lambda: ([], BitMap()))
        for number, assignment in self._assignments.by_number.items():
            for module_id in self._named_by(assignment):
                configured[module_id][0].append(number)
        for assignment, members in self._moved.values():
            for module_id in self._named_by(assignment):
                configured[module_id][1].update(members)
        return configured

    def _named_by(self, assignment: Assignment) -> frozenset[str]:
        return self._assignments.configurations[assignment.configuration].module_ids


def _suiting(module_ids: Iterable[str]) -> set[str]:
    return {module_id for module_id in module_ids if can_be_for(module_id)}
