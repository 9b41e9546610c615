"""What events would change in one partition: assignments, and the targets of deployments."""

from collections.abc import Collection, Mapping, Sequence

import msgspec
from pyroaring import BitMap
from typing_extensions import override

from events.envelope import Vector
from events.fleet.assignments import Assignment, MergeCache
from events.fleet.configuration import Configuration, ConfigurationOverLimit
from events.fleet.deployments import Deployment, deployment_of
from events.log.keys import FLEET
from events.preview.cached_partition import CachedPartition, PreviewInputs
from events.preview.imagined_log import ImaginedEvents
from events.projection.driver import Driver, EventsInMemory
from events.query.tree import Path
from events.rollout.events import RolloutEvent


class Shift(msgspec.Struct, frozen=True, eq=False):
    """Devices that would go from one assignment to another."""

    before: Assignment
    after: Assignment
    members: BitMap


class Implied(msgspec.Struct, frozen=True, eq=False):
    """What follows in one partition from its state at `vector`.

    `targets` are the devices that a deployment targets before and after, if they differ: by deployment, and for each of its
    modules if it is for any module. `names` are the ids of new devices. `rollout_targets` are, by deployment whose rollout
    the events are about, the enabled devices that it would target.
    """

    number: int
    vector: Vector
    shifts: tuple[Shift, ...]
    targets: dict[str, list[tuple[BitMap, BitMap]]]
    registered: BitMap
    retired: BitMap
    names: dict[int, str]
    deployments: Mapping[str, Deployment]
    configurations: Mapping[str, Configuration]
    rollout_targets: dict[str, BitMap]
    deployment_ids_before: Collection[str]


class ImaginedMerge(MergeCache):
    """A cache of its own for merges with deployments of the preview, over the shared cache."""

    # Merges are cached by deployment, and an imagined deployment may never exist: it must not get into the shared cache.

    def __init__(self, shared: MergeCache, *, fleet: int) -> None:
        """`fleet` is the position up to which deployments are in the log."""
        super().__init__()
        self._shared, self._fleet = shared, fleet

    @override
    def __call__(self, stack: Sequence[Deployment]) -> Configuration | ConfigurationOverLimit:
        is_in_log = all(deployment.created <= self._fleet for deployment in stack)
        return self._shared(stack) if is_in_log else super().__call__(stack)


def imply(
    number: int, recalled: CachedPartition, ahead: PreviewInputs, events: ImaginedEvents, merge: MergeCache
) -> Implied:
    """What events would change in a partition. Applies them to a copy, plans, and discards the copy.

    Raises:
        CannotApply: the events do not follow from the partition's state.
    """
    partition = recalled.partition(number, ahead, merge)
    vector, live = partition.vector, BitMap(partition.directory.live)
    own, fleet = EventsInMemory(vector.partition, events.of(number)), EventsInMemory(vector.fleet, events.of(FLEET))
    driver = Driver(partition, own, fleet, _leave_empty)
    driver.advance(driver.read_ahead())
    planned, retargeted = partition.planned()
    by_number = partition.assignments.by_number
    targets: dict[str, list[tuple[BitMap, BitMap]]] = {}
    for name in sorted(retargeted):
        before, after = recalled.targets.get(name, BitMap()), partition.targets.stored(name) or BitMap()
        if before != after:
            targets.setdefault(name.partition("/")[0], []).append((before, after))
    now = partition.directory.live
    rolled = {deployment_of(each.subject) for each in events.of(FLEET) if isinstance(each.event, RolloutEvent)}
    return Implied(
        number,
        vector,
        tuple(Shift(by_number[old], assignment, members) for (old, _), (assignment, members) in planned.items()),
        targets,
        now - live,
        live - now,
        {ordinal: partition.directory.ids[ordinal] for ordinal in now - live},
        partition.deployments.by_id,
        partition.assignments.configurations,
        {name: (partition.targets.stored(name) or BitMap()) & partition.directory.enabled for name in rolled},
        recalled.deployments.by_id.keys(),
    )


def _leave_empty(_driver: Driver, _paths: frozenset[Path]) -> None:
    """Fill nothing: `ahead` has the paths of conditions, and a preview does not read those of metrics and rollout plans."""
