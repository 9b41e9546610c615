"""The devices that configurations of modules target, by module."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping

import msgspec
from pyroaring import BitMap

from events.fleet.column import ValueKey
from events.fleet.deployments import Deployment, DeploymentChange, Deployments
from events.fleet.index import MODULES, Index, of_module
from events.fleet.module_owners import ModuleOwners
from events.manifest.document import ContentKind
from events.query.module_condition import EVERY_MODULE, can_be_for
from events.query.tree import Path

_NO_ORDINALS = BitMap()

Concerned = dict[str, BitMap]
"""By module, the devices whose configuration can have changed."""


class AppliedChanges(msgspec.Struct, frozen=True, eq=False):
    """The changes that were applied since the last resolution.

    `deployments` are the changed deployments, and `sets` the sets of the index that gained or lost ordinals of `touched`; `renewed`
    were registered or updated, and `gone` retired.
    """

    deployments: Mapping[str, DeploymentChange]
    sets: Mapping[Path, set[ValueKey]]
    touched: BitMap
    renewed: BitMap
    gone: BitMap


class ModuleTargets:
    """The targeted and the admitted devices by deployment and module, without empty sets."""

    def __init__(
        self, index: Index, deployments: Deployments, admitted: Callable[[Deployment, BitMap], BitMap]
    ) -> None:
        self._index, self._deployments, self._admitted = index, deployments, admitted
        self.targets: dict[str, dict[str, BitMap]] = {}
        self.eligible: dict[str, dict[str, BitMap]] = {}
        self.changed: set[tuple[int, str]] = set()
        """The targets that changed since the last commit: position of the deployment's creation, and `stored_name`."""

    def stored_members(self, deployment: Deployment, module: str) -> BitMap | None:
        """The devices that are stored under the `stored_name` of a module; `None` if nothing is stored."""
        sets = self.targets.get(deployment.id, {})
        if deployment.module == EVERY_MODULE:
            return sets.get(module)
        return None if module else sets.get(deployment.module, BitMap())

    def restore(self, deployment: Deployment, module: str, members: BitMap) -> None:
        """Restore the result of `stored_members`; it does not count as a change."""
        self._put(deployment, module or deployment.module, members)

    def targeted_by(self, names: Iterable[str]) -> BitMap:
        """The devices that at least one of these deployments targets."""
        return BitMap().union(*(members for name in names for members in self.targets.get(name, {}).values()))

    def eligible_for(self, module: str) -> dict[str, BitMap]:
        """By deployment, the admitted devices for a module."""
        return {name: sets[module] for name, sets in self.eligible.items() if module in sets}

    def retarget(self, changes: AppliedChanges, owners: ModuleOwners) -> Concerned:
        """Update the targets; returns the devices whose configuration can have changed."""
        concerned: Concerned = defaultdict(BitMap)
        for name, change in changes.deployments.items():
            self._replace(name, _of_modules(change.before), _of_modules(change.after), owners, concerned)
        renewed = changes.renewed | changes.gone
        for deployment, module in self._pairs_of(renewed, changes, owners):
            self._retarget_within(deployment, module, renewed, owners, concerned)
        touched = changes.touched - changes.renewed
        for deployment, module in self._affected(changes, touched, owners):
            self._retarget_within(deployment, module, touched, owners, concerned)
        return concerned

    def _replace(
        self, name: str, before: Deployment | None, after: Deployment | None, owners: ModuleOwners, concerned: Concerned
    ) -> None:
        targets, eligible = self.targets.pop(name, {}), self.eligible.pop(name, {})
        if before is not None:
            self._note(before, targets)
        if after is not None:
            every = after.module == EVERY_MODULE
            for module in owners.modules() if every else _fixed(after):
                members = owners.having(module, self._index.everyone())
                self._put(after, module, after.target_in(module).select(self._index, members))
            self._note(after, self.targets.get(name, {}))
        present = self.eligible.get(name, {})
        same_but_target = before is not None and after is not None and before.rank == after.rank
        for module in eligible.keys() | present.keys():
            old, new = eligible.get(module, _NO_ORDINALS), present.get(module, _NO_ORDINALS)
            concerned[module] |= old ^ new if same_but_target else old | new

    def _note(self, deployment: Deployment, modules: Iterable[str]) -> None:
        names = {deployment.id, *(stored_name(deployment, module) for module in modules)}
        self.changed |= {(deployment.created, name) for name in names}

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
                targets = self.targets.get(deployment.id, {})
                modules = present.union(module for module, members in targets.items() if members.intersect(ordinals))
            yield from ((deployment, module) for module in modules)

    def _affected(
        self, changes: AppliedChanges, touched: BitMap, owners: ModuleOwners
    ) -> Iterator[tuple[Deployment, str]]:
        """The unchanged deployments with each of their modules for which sets of the index changed."""
        by_id = self._deployments.by_id
        of_every: dict[str, dict[Path, set[ValueKey]]] = {}
        for path, keys in changes.sets.items():
            if path[0] == MODULES[0] and can_be_for(path[1]):
                of_every.setdefault(path[1], {})[of_module(path, EVERY_MODULE)] = keys
        pairs = {
            (name, module)
            for module, sets in of_every.items()
            for name in self._deployments.affected(sets) - changes.deployments.keys()
        }
        for name in self._deployments.affected(changes.sets) - changes.deployments.keys():
            deployment = by_id[name]
            if deployment.kind is ContentKind.MODULE:
                every = deployment.module == EVERY_MODULE
                modules: Iterable[str] = owners.modules_of(touched) if every else _fixed(deployment)
                pairs |= {(name, module) for module in modules}
        yield from ((by_id[name], module) for name, module in pairs)

    def _retarget_within(
        self, deployment: Deployment, module: str, ordinals: BitMap, owners: ModuleOwners, concerned: Concerned
    ) -> None:
        target = self.targets.get(deployment.id, {}).get(module, _NO_ORDINALS)
        having = owners.having(module, ordinals)
        difference = deployment.target_in(module).select(self._index, having) ^ (target & ordinals)
        if difference:
            concerned[module] |= difference
            self._put(deployment, module, target ^ difference)
            self.changed.add((deployment.created, stored_name(deployment, module)))

    def _put(self, deployment: Deployment, module: str, members: BitMap) -> None:
        for sets_by_deployment, module_members in (
            (self.targets, members),
            (self.eligible, self._admitted(deployment, members)),
        ):
            sets = sets_by_deployment.setdefault(deployment.id, {})
            if module_members:
                sets[module] = module_members
            else:
                sets.pop(module, None)


def stored_name(deployment: Deployment, module: str) -> str:
    """`prod/m`: the stored name of a target; `prod` for a deployment to one module."""
    return f"{deployment.id}/{module}" if deployment.module == EVERY_MODULE else deployment.id


def _of_modules(deployment: Deployment | None) -> Deployment | None:
    return deployment if deployment is not None and deployment.kind is ContentKind.MODULE else None


def _fixed(deployment: Deployment) -> tuple[str, ...]:
    """The module of a deployment for one module; empty for any module."""
    return (deployment.module,) if deployment.module not in {"", EVERY_MODULE} else ()
