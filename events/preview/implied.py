"""What events would make of one partition: who would come to which assignment, and whom deployments would target."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import msgspec
from pyroaring import BitMap
from typing_extensions import override

from events.envelope import Vector
from events.fleet.assignments import Assignment
from events.fleet.configuration import Configuration, ConfigurationOverLimit
from events.fleet.deployments import Deployment, deployment_of
from events.fleet.merge_cache import MergeCache
from events.preview.imagined_events import Imagined
from events.preview.recalled_partition import Ahead, Recalled
from events.projection.driver import Driver
from events.projection.in_memory import EventsInMemory
from events.rollout.events import RolloutEvent


class Shift(msgspec.Struct, frozen=True, eq=False):
    """Devices that would go from one assignment to another."""

    before: Assignment
    after: Assignment
    members: BitMap


class Implied(msgspec.Struct, frozen=True, eq=False):
    """What follows in one partition from its state at `vector`.

    `targets` are whom deployments targeted, and would target, where that differs; by deployment, and for each of its modules
    where it may be for any. `names` are the ids of devices that would be new; `came` and `went` those registered and retired.
    """

    number: int
    vector: Vector
    shifts: tuple[Shift, ...]
    targets: dict[str, list[tuple[BitMap, BitMap]]]
    came: BitMap
    went: BitMap
    names: dict[int, str]
    deployments: Mapping[str, Deployment]
    configurations: Mapping[str, Configuration]
    rolled: dict[str, BitMap]
    """Of each deployment whose rollout the events are about, the enabled devices that it would target."""
    stood: Collection[str]
    """The deployments that there were."""


class ImaginedMerge(MergeCache):
    """Merges of what stands from the shared cache, and those of what is imagined apart from it."""

    def __init__(self, shared: MergeCache, *, fleet: int) -> None:
        """`fleet` is the position up to which deployments stand."""
        super().__init__()
        self._shared, self._fleet = shared, fleet

    @override
    def __call__(self, stack: Sequence[Deployment]) -> Configuration | ConfigurationOverLimit:
        stands = all(deployment.created <= self._fleet for deployment in stack)
        return self._shared(stack) if stands else super().__call__(stack)


def imply(number: int, recalled: Recalled, ahead: Ahead, events: Imagined, merge: MergeCache) -> Implied:
    """Apply imagined events to a partition as it is, plan what follows, and discard it.

    Raises:
        CannotApply: they do not follow.
    """
    partition = recalled.partition(number, ahead, merge)
    vector, live = partition.vector, BitMap(partition.directory.live)
    driver = Driver(
        partition, EventsInMemory(vector.partition, events.of(number)), EventsInMemory(vector.fleet, events.fleet)
    )
    driver.advance(driver.read_ahead())
    planned, retargeted = partition.planned()
    by_number = partition.assignments.by_number
    targets: dict[str, list[tuple[BitMap, BitMap]]] = {}
    for name in sorted(retargeted):
        before, after = recalled.target(name), _target(partition, name)
        if before != after:
            targets.setdefault(name.partition("/")[0], []).append((before, after))
    now = partition.directory.live
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
        {name: _target(partition, name) & partition.directory.enabled for name in _rolled(events)},
        recalled.deployments.by_id.keys(),
    )


def _rolled(events: Imagined) -> set[str]:
    return {deployment_of(one.subject) for one in events.fleet if isinstance(one.event, RolloutEvent)}


def _target(partition: Any, kept_name: str) -> BitMap:
    deployment_id, _, module = kept_name.partition("/")
    deployment = partition.deployments.by_id.get(deployment_id)
    if deployment is None:
        return BitMap()
    targets = partition.targets.members.get(kept_name)
    return (
        targets if targets is not None else partition.targets.of_modules.stored_members(deployment, module) or BitMap()
    )
