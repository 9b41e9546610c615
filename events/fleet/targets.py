"""The targeted and admitted devices of each deployment, updated with each batch of changes, and the owners of modules."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import assert_never

import msgspec
import numpy as np
from pyroaring import BitMap

from events.canonical import JsonObject
from events.deployment.events import Admitted, Ended, Everyone, NotStarted
from events.fleet.assignments import Assignment, Assignments
from events.fleet.column import ValueKey
from events.fleet.deployments import Deployment, DeploymentChange, Deployments, Phased
from events.fleet.directory import Directory
from events.fleet.index import MODULES, Index, of_module
from events.fleet.packed import Packed
from events.manifest.document import ContentKind
from events.query.module_condition import EVERY_MODULE, can_be_for
from events.query.tree import Path

_NO_ORDINALS = BitMap()

Concerned = dict[str, BitMap]
"""By module, the devices whose configuration can have changed."""


class AppliedChanges(msgspec.Struct, eq=False):
    """The changes that were applied since the last resolution.

    - `deployments`: the changed deployments; `sets`: the sets of the index that gained or lost ordinals of `touched`
    - `renewed`: devices that were registered or updated; `gone`: devices that were retired
    - `by_hand`: the configurations set by hand, by ordinal; `retried`: the devices of each retry
    - `restoring`: deployments that were rolled back, whose devices return to what they had before
    """

    deployments: dict[str, DeploymentChange] = {}
    sets: Mapping[Path, set[ValueKey]] = {}
    touched: BitMap = msgspec.field(default_factory=BitMap)
    renewed: BitMap = msgspec.field(default_factory=BitMap)
    gone: BitMap = msgspec.field(default_factory=BitMap)
    by_hand: dict[int, list[JsonObject]] = {}
    retried: list[BitMap] = []
    restoring: set[str] = set()

    def before(self, name: str, by_id: Mapping[str, Deployment]) -> Deployment:
        """A deployment of the last resolution as it was then; `by_id` are the present ones."""
        change = self.deployments.get(name)
        deployment = by_id[name] if change is None else change.before
        assert deployment is not None
        return deployment


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
        numbers = np.unique(self.assignment_of.take(stay)).tolist()
        assignments = [self.assignments.by_number[number] for number in numbers]
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


class Targets:
    """The targeted devices by deployment: `members`, or by module in `of_modules`, without empty sets; `eligible` are admitted."""

    def __init__(self, directory: Directory, index: Index, deployments: Deployments) -> None:
        self._directory, self._index, self._deployments = directory, index, deployments
        self.members: dict[str, BitMap] = {}
        self.eligible: dict[str, BitMap] = {}
        self.of_modules: dict[str, dict[str, BitMap]] = {}
        self._eligible_modules: dict[str, dict[str, BitMap]] = {}
        self.changed: set[tuple[int, str]] = set()
        """The targets that changed since the last commit: position of the deployment's creation, and the stored name."""
        self.retargeted: set[str] = set()
        """The deployments of which other devices are targeted or run them, since their counts were updated."""

    def stored(self, name: str) -> BitMap | None:
        """The devices that are stored under a name, `prod` or `prod/module` if it is for any module; `None` if nothing is."""
        deployment_id, _, module = name.partition("/")
        deployment = self._deployments.by_id.get(deployment_id)
        if deployment is None or deployment.kind is not ContentKind.MODULE:
            return self.members.get(name)
        sets = self.of_modules.get(deployment_id, {})
        if deployment.module == EVERY_MODULE:
            return sets.get(module)
        return None if module else sets.get(deployment.module, BitMap())

    def restore(self, targets: Mapping[str, BitMap]) -> None:
        """Restore targets by their stored names, and derive the admitted devices; it does not count as a change."""
        for name, members in targets.items():
            deployment_id, _, module = name.partition("/")
            deployment = self._deployments.by_id[deployment_id]
            if deployment.kind is ContentKind.MODULE:
                self._put_module(deployment, module or deployment.module, members)
            else:
                self.members[name] = members
                self.eligible[name] = self._admitted(deployment, members)

    def openly(self, name: str, module: str) -> BitMap:
        """The devices that a started deployment targets; for configurations of modules, in the modules of this name."""
        deployment = self._deployments.by_id[name]
        if isinstance(deployment.admission, NotStarted | Ended):
            return BitMap()
        if deployment.kind is ContentKind.MODULE:
            return self.of_modules.get(name, {}).get(module, BitMap())
        return self.members[name]

    def targeted_by(self, names: Collection[str]) -> BitMap:
        """The devices that at least one of these deployments targets."""
        of_devices = (self.members[name] for name in names if name in self.members)
        of_modules = (members for name in names for members in self.of_modules.get(name, {}).values())
        return BitMap().union(*of_devices, *of_modules)

    def eligible_for(self, module: str) -> dict[str, BitMap]:
        """By deployment, the admitted devices for a module."""
        return {name: sets[module] for name, sets in self._eligible_modules.items() if module in sets}

    # -- deployments to devices

    def retarget(self, changes: AppliedChanges) -> dict[ContentKind, BitMap]:
        """Update all targets except those of configurations of modules; returns whose assignment can have changed, by part."""
        concerned: dict[ContentKind, BitMap] = defaultdict(BitMap)
        for name, change in changes.deployments.items():
            before, after = _sides(change, of_modules=False)
            old, new = self.eligible.pop(name, BitMap()), BitMap()
            self.members.pop(name, None)
            self.changed |= {(deployment.created, name) for deployment in (before, after) if deployment is not None}
            self.retargeted.add(name)
            if after is not None:
                self.members[name] = after.target.select(self._index, self._candidates(after))
                new = self.eligible[name] = self._admitted(after, self.members[name])
            same_but_target = before and after and (before.rank, before.kind) == (after.rank, after.kind)
            for kind in {deployment.kind for deployment in (before, after) if deployment is not None}:
                concerned[kind] |= old ^ new if same_but_target else old | new
        by_id = self._deployments.by_id
        if changes.renewed or changes.gone:
            unchanged = by_id.keys() - changes.deployments.keys()
            self._retarget_within(changes.renewed, unchanged, concerned)
            self._retarget_within(changes.gone, unchanged, concerned)
        for kind in (ContentKind.EDGE, ContentKind.DEVICE):
            concerned[kind] |= changes.renewed
        affected = self._deployments.watch.affected(changes.sets) - changes.deployments.keys()
        self._retarget_within(changes.touched - changes.renewed, affected, concerned)
        return concerned

    def _retarget_within(self, ordinals: BitMap, names: Iterable[str], concerned: dict[ContentKind, BitMap]) -> None:
        if not ordinals:
            return
        by_id = self._deployments.by_id
        for name in names:
            deployment = by_id[name]
            if deployment.kind is ContentKind.MODULE:
                continue
            target = self.members[name]
            new = deployment.target.select(self._index, ordinals & self._candidates(deployment))
            old = target & ordinals
            if new == old:
                continue
            difference = new ^ old
            concerned[deployment.kind] |= difference
            target ^= difference
            self.changed.add((deployment.created, name))
            self.retargeted.add(name)
            self.eligible[name] = self._admitted(deployment, target)

    def _candidates(self, deployment: Deployment) -> BitMap:
        """The devices that a deployment can target: for edge deployments only edge-capable devices."""
        return self._directory.edge if deployment.kind is ContentKind.EDGE else self._directory.live

    def _admitted(self, deployment: Deployment, target: BitMap) -> BitMap:
        match deployment.admission:
            case Everyone():
                return target
            case NotStarted() | Ended():
                return BitMap()
            case Phased(members):
                return target & members
            case Admitted(device_ids):
                ordinals = (self._directory.ordinal_of.get(device_id) for device_id in device_ids)
                return target & BitMap([ordinal for ordinal in ordinals if ordinal is not None])
            case _:
                assert_never(deployment.admission)

    # -- configurations of modules

    def retarget_modules(self, changes: AppliedChanges, owners: ModuleOwners) -> Concerned:
        """Update the targets of configurations of modules; returns the devices whose configuration can have changed."""
        concerned: Concerned = defaultdict(BitMap)
        for name, change in changes.deployments.items():
            self._replace_modules(name, change, owners, concerned)
        # The planned moves can give a device other modules.
        renewed = changes.renewed | owners.planned
        moved = renewed | changes.gone
        for deployment, module in self._pairs_of(moved, changes, owners):
            self._retarget_module_within(deployment, module, moved, owners, concerned)
        touched = changes.touched - renewed
        for deployment, module in self._affected(changes, touched, owners):
            self._retarget_module_within(deployment, module, touched, owners, concerned)
        return concerned

    def _replace_modules(self, name: str, change: DeploymentChange, owners: ModuleOwners, concerned: Concerned) -> None:
        before, after = _sides(change, of_modules=True)
        targets, eligible = self.of_modules.pop(name, {}), self._eligible_modules.pop(name, {})
        if after is not None:
            for module in owners.modules() if after.module == EVERY_MODULE else _fixed(after):
                members = owners.having(module, self._index.everyone())
                self._put_module(after, module, after.target_in(module).select(self._index, members))
        for deployment, modules in ((before, targets), (after, self.of_modules.get(name, {}))):
            if deployment is not None:
                names = {deployment.id, *(stored_name(deployment, module) for module in modules)}
                self.changed |= {(deployment.created, stored) for stored in names}
        present = self._eligible_modules.get(name, {})
        same_but_target = before is not None and after is not None and before.rank == after.rank
        for module in eligible.keys() | present.keys():
            old, new = eligible.get(module, _NO_ORDINALS), present.get(module, _NO_ORDINALS)
            concerned[module] |= old ^ new if same_but_target else old | new

    def _pairs_of(
        self, ordinals: BitMap, changes: AppliedChanges, owners: ModuleOwners
    ) -> Iterator[tuple[Deployment, str]]:
        """The unchanged deployments with each of their modules that these devices have or had."""
        if not ordinals:
            return
        present: set[str] | None = None
        for deployment in self._deployments.of_modules_ascending:
            if deployment.id in changes.deployments:
                continue
            if deployment.module != EVERY_MODULE:
                modules: Iterable[str] = _fixed(deployment)
            else:
                present = owners.modules_of(ordinals) if present is None else present
                targets = self.of_modules.get(deployment.id, {})
                modules = present.union(module for module, members in targets.items() if members.intersect(ordinals))
            yield from ((deployment, module) for module in modules)

    def _affected(
        self, changes: AppliedChanges, touched: BitMap, owners: ModuleOwners
    ) -> Iterator[tuple[Deployment, str]]:
        """The unchanged deployments with each of their modules for which sets of the index changed."""
        by_id, watch = self._deployments.by_id, self._deployments.watch
        of_every: dict[str, dict[Path, set[ValueKey]]] = {}
        for path, keys in changes.sets.items():
            if path[0] == MODULES[0] and can_be_for(path[1]):
                of_every.setdefault(path[1], {})[of_module(path, EVERY_MODULE)] = keys
        by_module = ((module, watch.affected(sets) - changes.deployments.keys()) for module, sets in of_every.items())
        pairs = {(name, module) for module, names in by_module for name in names}
        for name in watch.affected(changes.sets) - changes.deployments.keys():
            deployment = by_id[name]
            if deployment.kind is ContentKind.MODULE:
                every = deployment.module == EVERY_MODULE
                modules: Iterable[str] = owners.modules_of(touched) if every else _fixed(deployment)
                pairs |= {(name, module) for module in modules}
        yield from ((by_id[name], module) for name, module in pairs)

    def _retarget_module_within(
        self, deployment: Deployment, module: str, ordinals: BitMap, owners: ModuleOwners, concerned: Concerned
    ) -> None:
        target = self.of_modules.get(deployment.id, {}).get(module, _NO_ORDINALS)
        having = owners.having(module, ordinals)
        difference = deployment.target_in(module).select(self._index, having) ^ (target & ordinals)
        if difference:
            concerned[module] |= difference
            self._put_module(deployment, module, target ^ difference)
            self.changed.add((deployment.created, stored_name(deployment, module)))
            self.retargeted.add(deployment.id)

    def _put_module(self, deployment: Deployment, module: str, members: BitMap) -> None:
        admitted = self._admitted(deployment, members)
        for sets_by_deployment, module_members in ((self.of_modules, members), (self._eligible_modules, admitted)):
            sets = sets_by_deployment.setdefault(deployment.id, {})
            if module_members:
                sets[module] = module_members
            else:
                sets.pop(module, None)


def stored_name(deployment: Deployment, module: str) -> str:
    """`prod/m`: the stored name of a target; `prod` for a deployment to one module."""
    return f"{deployment.id}/{module}" if deployment.module == EVERY_MODULE else deployment.id


def _sides(change: DeploymentChange, *, of_modules: bool) -> list[Deployment | None]:
    """A deployment before and after a change; `None` where there is none, or one of the other kind."""
    sides = (change.before, change.after)
    return [side if side and (side.kind is ContentKind.MODULE) is of_modules else None for side in sides]


def _fixed(deployment: Deployment) -> tuple[str, ...]:
    """The module of a deployment for one module; empty for any module."""
    return (deployment.module,) if deployment.module not in {"", EVERY_MODULE} else ()
