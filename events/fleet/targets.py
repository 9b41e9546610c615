"""The targeted and admitted devices of each deployment, updated with each batch of changes."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import assert_never

from pyroaring import BitMap

from events.deployment.events import Admitted, Ended, Everyone, NotStarted
from events.fleet.deployments import Deployment, Deployments, Phased
from events.fleet.directory import Directory
from events.fleet.index import Index
from events.fleet.module_targets import AppliedChanges, ModuleTargets
from events.manifest.document import ContentKind


class Targets:
    """The targets by deployment id; those of configurations of modules are in `of_modules`."""

    def __init__(self, directory: Directory, index: Index, deployments: Deployments) -> None:
        self._directory, self._index, self._deployments = directory, index, deployments
        self.members: dict[str, BitMap] = {}
        self.eligible: dict[str, BitMap] = {}
        self.changed: set[tuple[int, str]] = set()
        """The targets that changed since the last commit: position of the deployment's creation, and its id."""
        self.of_modules = ModuleTargets(index, deployments, self._admitted)

    def restore(self, targets: Mapping[str, BitMap]) -> None:
        """Restore targets by their stored names, and derive the admitted devices."""
        for name, members in targets.items():
            deployment_id, _, module = name.partition("/")
            deployment = self._deployments.by_id[deployment_id]
            if deployment.kind is ContentKind.MODULE:
                self.of_modules.restore(deployment, module, members)
            else:
                self.members[name] = members
                self.eligible[name] = self._admitted(deployment, members)

    def openly(self, name: str, module: str) -> BitMap:
        """The devices that a started deployment targets; for configurations of modules, in the modules of this name."""
        deployment = self._deployments.by_id[name]
        if isinstance(deployment.admission, NotStarted | Ended):
            return BitMap()
        if deployment.kind is ContentKind.MODULE:
            return self.of_modules.targets.get(name, {}).get(module, BitMap())
        return self.members[name]

    def targeted_by(self, names: Iterable[str]) -> BitMap:
        """The devices that at least one of these deployments targets."""
        return self.of_modules.targeted_by(names).union(*(self.members[name] for name in names if name in self.members))

    def retarget(self, changes: AppliedChanges) -> dict[ContentKind, BitMap]:
        """Update the targets of all deployments except configurations of modules.

        Returns the devices whose assignment can have changed, by part.
        """
        concerned: dict[ContentKind, BitMap] = defaultdict(BitMap)
        for name, change in changes.deployments.items():
            before, after = _of_devices(change.before), _of_devices(change.after)
            old, new = self.eligible.pop(name, BitMap()), BitMap()
            self.members.pop(name, None)
            self.changed |= {(deployment.created, name) for deployment in (before, after) if deployment is not None}
            if after is not None:
                self.members[name] = after.target.select(self._index, self._candidates(after))
                new = self.eligible[name] = self._admitted(after, self.members[name])
            for kind in {deployment.kind for deployment in (before, after) if deployment is not None}:
                concerned[kind] |= old ^ new if _same_but_target(before, after) else old | new
        by_id = self._deployments.by_id
        if changes.renewed or changes.gone:
            unchanged = by_id.keys() - changes.deployments.keys()
            self._retarget_within(changes.renewed, unchanged, concerned)
            self._retarget_within(changes.gone, unchanged, concerned)
        for kind in (ContentKind.EDGE, ContentKind.DEVICE):
            concerned[kind] |= changes.renewed
        affected = self._deployments.affected(changes.sets) - changes.deployments.keys()
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


def _of_devices(deployment: Deployment | None) -> Deployment | None:
    return None if deployment is None or deployment.kind is ContentKind.MODULE else deployment


def _same_but_target(before: Deployment | None, after: Deployment | None) -> bool:
    return before is not None and after is not None and (before.rank, before.kind) == (after.rank, after.kind)
