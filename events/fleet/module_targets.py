"""Whom configurations of modules target, module by module: those of one module, and those that may be for any."""

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

_NOBODY = BitMap()

Concerned = dict[str, BitMap]
"""By module, whose configurations may have changed."""


class News(msgspec.Struct, frozen=True, eq=False):
    """What was applied since the last time.

    `sets` are those of the index that `touched` went in or out of; `renewed` came or changed in the registry, and `gone` left it.
    """

    changes: Mapping[str, DeploymentChange]
    sets: Mapping[Path, set[ValueKey]]
    touched: BitMap
    renewed: BitMap
    gone: BitMap


class ModuleTargets:
    """By deployment and module, whom it targets, and who of these is admitted; what is empty is left out."""

    def __init__(
        self, index: Index, deployments: Deployments, admitted: Callable[[Deployment, BitMap], BitMap]
    ) -> None:
        self._index, self._deployments, self._admitted = index, deployments, admitted
        self.targets: dict[str, dict[str, BitMap]] = {}
        self.eligible: dict[str, dict[str, BitMap]] = {}
        self.changed: set[tuple[int, str]] = set()
        """The targets that changed since they were kept: position of the deployment's creation, and `kept_name`."""

    def kept(self, deployment: Deployment, module: str) -> BitMap | None:
        """What is kept by the `kept_name` that ends in a module, or in none; `None` where it is not kept."""
        sets = self.targets.get(deployment.id, {})
        if deployment.module == EVERY_MODULE:
            return sets.get(module)
        return None if module else sets.get(deployment.module, BitMap())

    def restore(self, deployment: Deployment, module: str, members: BitMap) -> None:
        """Put back what `kept` said; says nothing of change."""
        self._put(deployment, module or deployment.module, members)

    def everybody(self, names: Iterable[str]) -> BitMap:
        """Whom some deployments target."""
        return BitMap().union(*(members for name in names for members in self.targets.get(name, {}).values()))

    def eligible_for(self, module: str) -> dict[str, BitMap]:
        """By deployment, who of those with a module is to have what it gives."""
        return {name: sets[module] for name, sets in self.eligible.items() if module in sets}

    def retarget(self, news: News, holders: ModuleOwners) -> Concerned:
        """Bring the targets up to date."""
        concerned: Concerned = defaultdict(BitMap)
        for name, change in news.changes.items():
            self._replace(name, _of_modules(change.before), _of_modules(change.after), holders, concerned)
        renewed = news.renewed | news.gone
        for deployment, module in self._status_at(renewed, news, holders):
            self._look_again(deployment, module, renewed, holders, concerned)
        touched = news.touched - news.renewed
        for deployment, module in self._affected(news, touched, holders):
            self._look_again(deployment, module, touched, holders, concerned)
        return concerned

    def _replace(
        self,
        name: str,
        before: Deployment | None,
        after: Deployment | None,
        holders: ModuleOwners,
        concerned: Concerned,
    ) -> None:
        targets, eligible = self.targets.pop(name, {}), self.eligible.pop(name, {})
        if before is not None:
            self._note(before, targets)
        if after is not None:
            every = after.module == EVERY_MODULE
            for module in holders.modules() if every else _fixed(after):
                members = holders.having(module, self._index.everyone())
                self._put(after, module, after.target_in(module).select(self._index, members))
            self._note(after, self.targets.get(name, {}))
        present = self.eligible.get(name, {})
        same_but_target = before is not None and after is not None and before.rank == after.rank
        for module in eligible.keys() | present.keys():
            old, new = eligible.get(module, _NOBODY), present.get(module, _NOBODY)
            concerned[module] |= old ^ new if same_but_target else old | new

    def _note(self, deployment: Deployment, modules: Iterable[str]) -> None:
        names = {deployment.id, *(kept_name(deployment, module) for module in modules)}
        self.changed |= {(deployment.created, name) for name in names}

    def _status_at(self, ordinals: BitMap, news: News, holders: ModuleOwners) -> Iterator[tuple[Deployment, str]]:
        """What stood as it does, and each of its modules that some devices have, or had."""
        if not ordinals:
            return
        present: set[str] | None = None
        for deployment in self._deployments.of_modules_ascending:
            if deployment.id in news.changes:
                continue
            if deployment.module != EVERY_MODULE:
                modules: Iterable[str] = _fixed(deployment)
            else:
                present = holders.modules_of(ordinals) if present is None else present
                targets = self.targets.get(deployment.id, {})
                modules = present.union(module for module, members in targets.items() if members.intersect(ordinals))
            yield from ((deployment, module) for module in modules)

    def _affected(self, news: News, touched: BitMap, holders: ModuleOwners) -> Iterator[tuple[Deployment, str]]:
        """What stood as it does, and each of its modules for which the index may answer otherwise."""
        by_id = self._deployments.by_id
        of_every: dict[str, dict[Path, set[ValueKey]]] = {}
        for path, keys in news.sets.items():
            if path[0] == MODULES[0] and can_be_for(path[1]):
                of_every.setdefault(path[1], {})[of_module(path, EVERY_MODULE)] = keys
        pairs = {
            (name, module)
            for module, sets in of_every.items()
            for name in self._deployments.affected(sets) - news.changes.keys()
        }
        for name in self._deployments.affected(news.sets) - news.changes.keys():
            deployment = by_id[name]
            if deployment.kind is ContentKind.MODULE:
                every = deployment.module == EVERY_MODULE
                modules: Iterable[str] = holders.modules_of(touched) if every else _fixed(deployment)
                pairs |= {(name, module) for module in modules}
        yield from ((by_id[name], module) for name, module in pairs)

    def _look_again(
        self, deployment: Deployment, module: str, ordinals: BitMap, holders: ModuleOwners, concerned: Concerned
    ) -> None:
        target = self.targets.get(deployment.id, {}).get(module, _NOBODY)
        having = holders.having(module, ordinals)
        difference = deployment.target_in(module).select(self._index, having) ^ (target & ordinals)
        if difference:
            concerned[module] |= difference
            self._put(deployment, module, target ^ difference)
            self.changed.add((deployment.created, kept_name(deployment, module)))

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


def kept_name(deployment: Deployment, module: str) -> str:
    """`prod/m`: by what name a target is kept; where no other module is possible, `prod`."""
    return f"{deployment.id}/{module}" if deployment.module == EVERY_MODULE else deployment.id


def _of_modules(deployment: Deployment | None) -> Deployment | None:
    return deployment if deployment is not None and deployment.kind is ContentKind.MODULE else None


def _fixed(deployment: Deployment) -> tuple[str, ...]:
    """The module that a deployment is for, if it is for one alone."""
    return (deployment.module,) if deployment.module not in {"", EVERY_MODULE} else ()
