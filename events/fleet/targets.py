"""Whom each deployment targets, and who of these is admitted, brought up to date with what changed."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import assert_never

from pyroaring import BitMap

from events.deployment.events import Admitted, Ended, Everyone, NotStarted
from events.fleet.deployments import Deployment, Deployments, Phased
from events.fleet.directory import Directory
from events.fleet.index import Index
from events.fleet.module_targets import ModuleTargets, News
from events.manifest.document import ContentKind


class Targets:
    """Of all deployments but configurations of modules by id; those are `of_modules`."""

    def __init__(self, directory: Directory, index: Index, deployments: Deployments) -> None:
        self._directory, self._index, self._deployments = directory, index, deployments
        self.members: dict[str, BitMap] = {}
        self.eligible: dict[str, BitMap] = {}
        self.changed: set[tuple[int, str]] = set()
        """Those that changed since they were kept: position of the deployment's creation, and its id."""
        self.of_modules = ModuleTargets(index, deployments, self._admitted)

    def restore(self, targets: Mapping[str, BitMap]) -> None:
        """Put targets back by the names that they are kept by, and derive who is eligible."""
        for name, members in targets.items():
            deployment_id, _, module = name.partition("/")
            deployment = self._deployments.by_id[deployment_id]
            if deployment.kind is ContentKind.MODULE:
                self.of_modules.restore(deployment, module, members)
            else:
                self.members[name] = members
                self.eligible[name] = self._admitted(deployment, members)

    def openly(self, name: str, module: str) -> BitMap:
        """Whom a deployment targets that has started and not ended; one of modules, those of this name."""
        deployment = self._deployments.by_id[name]
        if isinstance(deployment.admission, NotStarted | Ended):
            return BitMap()
        if deployment.kind is ContentKind.MODULE:
            return self.of_modules.targets.get(name, {}).get(module, BitMap())
        return self.members[name]

    def everybody(self, names: Iterable[str]) -> BitMap:
        """All devices that any of some deployments targets."""
        return self.of_modules.everybody(names).union(*(self.members[name] for name in names if name in self.members))

    def retarget(self, news: News) -> dict[ContentKind, BitMap]:
        """Bring the targets up to date of all but configurations of modules.

        Answers whose assignment may have changed, by the part of it.
        """
        concerned: dict[ContentKind, BitMap] = defaultdict(BitMap)
        for name, change in news.changes.items():
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
        if news.renewed or news.gone:
            unchanged = by_id.keys() - news.changes.keys()
            self._retarget_within(news.renewed, unchanged, concerned)
            self._retarget_within(news.gone, unchanged, concerned)
        for kind in (ContentKind.EDGE, ContentKind.DEVICE):
            concerned[kind] |= news.renewed
        affected = self._deployments.affected(news.sets) - news.changes.keys()
        self._retarget_within(news.touched - news.renewed, affected, concerned)
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
        """Whom a deployment can target at all: what is for modules, edge-capable devices alone."""
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
