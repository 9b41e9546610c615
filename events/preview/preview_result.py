"""What commands would change in the fleet: lists of devices and changes of configurations, over all partitions."""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import msgspec
from msgspec import UNSET
from pyroaring import BitMap

from events import canonical
from events.bitmaps import to_bytes
from events.canonical import JsonObject
from events.envelope import Vector
from events.fleet.assignments import NOT_CONFIGURED, Assignment, AssignmentStatus
from events.fleet.configuration import Configuration
from events.fleet.deployments import Deployment
from events.preview.errors import ListMissing
from events.preview.implied import Implied
from events.projection_store.device_pages import FIRST, DevicePosition, device_ids_at, positions_after
from events.projection_store.port import ProjectionStore

_DIGEST_BYTES = 8
_MANAGED = frozenset({AssignmentStatus.MANAGED, AssignmentStatus.OVER_LIMIT})

Members = dict[int, BitMap]
"""Devices by partition."""

PLAIN = ("affected", "changed", "reconfigured", "unmanaged", "managed", "overLimit", "again", "registered", "retired")
"""The lists that every result has, even if empty."""
OF_DEPLOYMENTS = ("gained", "lost", "targeted", "untargeted")
"""The lists of each deployment that the result names."""


class ConfigurationChange(msgspec.Struct, frozen=True, eq=False):
    """One configuration that would be replaced by another, for the devices of the list `name`.

    `module` is empty for the configuration of an edge device, `device` for a device's own twin, else the id of a module.
    """

    name: str
    module: str
    before: Configuration
    after: Configuration


class FirstStep(msgspec.Struct, frozen=True, eq=False):
    """What a rollout would do first, the devices of that step, and the devices that it would reach in the end."""

    deployment: str
    says: str
    devices: Members
    reached: Members


class PreviewResult(msgspec.Struct, frozen=True, eq=False):
    """Everything that would change. Each count is the size of one of `lists`.

    `stacks` are the new stacks of devices whose stack changes, as ids of layers in ascending order. `over_limit_reasons` are
    the limits that keep devices from a new configuration; the lists `overLimit/1` and on have these devices.
    """

    lists: dict[str, Members]
    changes: tuple[ConfigurationChange, ...]
    stacks: tuple[tuple[str, ...], ...]
    over_limit_reasons: tuple[str, ...]
    names: dict[tuple[int, int], str]
    deployments: Mapping[str, Deployment]
    vectors: dict[int, Vector]
    rollouts: tuple[FirstStep, ...] = ()

    def count(self, name: str) -> int:
        """How many devices a list has; 0 if there is no list of that name."""
        return sum(map(len, self.lists.get(name, {}).values()))

    def members(self, name: str) -> Members:
        """The devices of a list.

        Raises:
            ListMissing: there is no list of that name, not even an empty one.
        """
        empty = {*PLAIN, *(f"rollouts/{rollout.deployment}/first" for rollout in self.rollouts)}
        empty.update(f"deployments/{each}/{part}" for each in self.deployment_ids for part in OF_DEPLOYMENTS)
        if name not in self.lists and name not in empty:
            raise ListMissing(name)
        return self.lists.get(name, {})

    @property
    def deployment_ids(self) -> list[str]:
        """The deployments that have lists, sorted."""
        return sorted({name.split("/")[1] for name in self.lists if name.startswith("deployments/")})

    def summary(self) -> dict[str, tuple[int, str]]:
        """For each list that is not empty: how many devices it has, and a digest of them."""
        return {name: (self.count(name), self._digest(name)) for name in sorted(self.lists) if self.count(name)}

    def _digest(self, name: str) -> str:
        sha256 = hashlib.sha256()
        for number, devices in sorted(self.lists[name].items()):
            # New devices count by id: their ordinals depend on which devices are registered in the meantime.
            new = sorted(self.names[number, ordinal] for ordinal in devices if (number, ordinal) in self.names)
            old = devices - BitMap([ordinal for where, ordinal in self.names if where == number])
            sha256.update(canonical.encode([number, new]) + to_bytes(old))
        return sha256.hexdigest()[: 2 * _DIGEST_BYTES]


def result_of(
    implied: Sequence[Implied], *, first: Sequence[FirstStep] = (), within: Callable[[int], BitMap] | None = None
) -> PreviewResult:
    """The result over all partitions, limited to the devices `within` and to new devices, if given."""
    builder = _ResultBuilder()
    for partition in implied:
        builder.add(partition, None if within is None else within(partition.number) | partition.registered)
    for rollout in first:
        for name, sets in ((f"rollouts/{rollout.deployment}/first", rollout.devices), ("affected", rollout.reached)):
            for number, members in sets.items():
                builder.note(name, number, members if within is None else members & within(number))
    changes, lists = builder.united()
    return PreviewResult(
        lists,
        changes,
        tuple(sorted(builder.stacks)),
        tuple(sorted(builder.over_limit_reasons)),
        {(each.number, ordinal): name for each in implied for ordinal, name in each.names.items()},
        implied[-1].deployments if implied else {},
        {each.number: each.vector for each in implied},
        tuple(first),
    )


class _ResultBuilder:
    """Collects the sets of all lists."""

    # Sets are united once at the end: a large fleet has thousands of shifts, and uniting pairwise copies each time.

    def __init__(self) -> None:
        self.stacks: set[tuple[str, ...]] = set()
        self.over_limit_reasons: dict[str, _Parts] = {}
        self._lists: dict[str, _Parts] = {}
        self._changes: dict[tuple[str, str, str], tuple[Configuration, Configuration, _Parts]] = {}
        self._noted: dict[Any, list[_Parts]] = {}

    def add(self, implied: Implied, seen: BitMap | None) -> None:
        def within(members: BitMap) -> BitMap:
            return members if seen is None else members & seen

        number = implied.number
        moved_devices = within(BitMap().union(*(shift.members for shift in implied.shifts)))
        for name in ("changed", "affected"):
            self.note(name, number, moved_devices)
        for shift in implied.shifts:
            if members := within(shift.members):
                for parts in self._lists_of(shift.before, shift.after, implied.configurations):
                    parts.setdefault(number, []).append(members)
        for name, pairs in implied.targets.items():
            before, after = (BitMap().union(*sides) for sides in zip(*pairs, strict=True))
            self.note(f"deployments/{name}/targeted", number, within(after - before))
            self.note(f"deployments/{name}/untargeted", number, within(before - after))
            self.note("affected", number, within(before ^ after))
        self.note("registered", number, within(implied.registered))
        self.note("retired", number, within(implied.retired))

    def note(self, name: str, number: int, members: BitMap) -> None:
        if members:
            self._list(name).setdefault(number, []).append(members)

    def _list(self, name: str) -> "_Parts":
        return self._lists.setdefault(name, {})

    def _lists_of(
        self, before: Assignment, after: Assignment, configurations: Mapping[str, Configuration]
    ) -> "Iterable[_Parts]":
        """The lists that a device joins when its assignment changes."""
        if not _is_plain(before) or not _is_plain(after):
            return self._new_lists_of(before, after, configurations)
        # Partitions have many assignments that differ only by what a device had before. Their shifts belong to the same lists,
        # so the lists are looked up once for all of them.
        visible = ((each.status, each.stack, each.configuration, each.reason) for each in (before, after))
        key = (*visible, after.agent_version != before.agent_version)
        if key not in self._noted:
            self._noted[key] = list(self._new_lists_of(before, after, configurations))
        return self._noted[key]

    def _new_lists_of(
        self, before: Assignment, after: Assignment, configurations: Mapping[str, Configuration]
    ) -> "Iterator[_Parts]":
        was, will = before.status in _MANAGED, after.status in _MANAGED
        if was != will:
            yield self._list("managed" if will else "unmanaged")
        had, has = {layer.id for layer in _layers(before)}, {layer.id for layer in _layers(after)}
        yield from (self._list(f"deployments/{name}/lost") for name in had - has)
        yield from (self._list(f"deployments/{name}/gained") for name in has - had)
        parts = list(_parts(before, after))
        for module, old, new in parts:
            yield self._changes.setdefault((module, old, new), (configurations[old], configurations[new], {}))[2]
        if parts:
            yield self._list("reconfigured")
        elif after.agent_version != before.agent_version:
            yield self._list("again")
        if reasons := _reasons(after) - _reasons(before):
            yield self._list("overLimit")
            yield from (self.over_limit_reasons.setdefault(reason, {}) for reason in reasons)
        if after.stack != before.stack and after.status is AssignmentStatus.MANAGED:
            self.stacks.add(tuple(layer.id for layer in after.stack))

    def united(self) -> tuple[tuple[ConfigurationChange, ...], dict[str, Members]]:
        """The changes of configurations, and the devices of all lists."""
        lists = {name: _united(parts) for name, parts in self._lists.items()}
        united = {key: (old, new, _united(parts)) for key, (old, new, parts) in self._changes.items()}
        # The change with the most devices first: it is the one that an operator must not miss.
        ranked = sorted(united.items(), key=lambda item: (-sum(map(len, item[1][2].values())), item[0]))
        changes = []
        for number, ((module, _, _), (old, new, members)) in enumerate(ranked, 1):
            changes.append(ConfigurationChange(f"changes/{number}", module, old, new))
            lists[f"changes/{number}"] = members
        for number, (_, parts) in enumerate(sorted(self.over_limit_reasons.items()), 1):
            lists[f"overLimit/{number}"] = _united(parts)
        return tuple(changes), lists


_Parts = dict[int, list[BitMap]]


def _united(parts: _Parts) -> Members:
    return {number: BitMap.union(*bitmaps) for number, bitmaps in parts.items()}


def _is_plain(assignment: Assignment) -> bool:
    """Whether an assignment has a configuration for an edge device alone."""
    return assignment.own is UNSET and assignment.modules is UNSET


def _layers(assignment: Assignment) -> Iterator[Any]:
    """The layers that decide the configurations of a device and its modules."""
    # An unmanaged device keeps its last stack, which decides nothing any more.
    if assignment.status is not AssignmentStatus.UNMANAGED:
        yield from assignment.stack
    if not _is_plain(assignment):
        for part in (assignment.own_part, *assignment.module_parts.values()):
            yield from part.stack


def _parts(before: Assignment, after: Assignment) -> Iterator[tuple[str, str, str]]:
    """(module, old configuration, new configuration) of everything that differs."""
    if before.configuration != after.configuration:
        yield "", before.configuration, after.configuration
    if _is_plain(before) and _is_plain(after):
        return
    if before.own_part.configuration != after.own_part.configuration:
        yield "device", before.own_part.configuration, after.own_part.configuration
    old, new = before.module_parts, after.module_parts
    for module in sorted(old.keys() | new.keys()):
        sides = (old.get(module, NOT_CONFIGURED).configuration, new.get(module, NOT_CONFIGURED).configuration)
        if sides[0] != sides[1]:
            yield module, *sides


def _reasons(assignment: Assignment) -> set[str]:
    if _is_plain(assignment):
        return {assignment.reason} - {""}
    parts = (assignment.own_part, *assignment.module_parts.values())
    return {assignment.reason, *(part.reason for part in parts)} - {""}


def sections_of(configuration: Configuration) -> dict[str, JsonObject]:
    """The desired properties of each module, decoded."""
    return {module: msgspec.json.decode(section) for module, section in configuration.sections.items()}


def page_of_list(
    projections: ProjectionStore, result: PreviewResult, members: Members, *, after: DevicePosition = FIRST, limit: int
) -> tuple[list[str], DevicePosition | None]:
    """The next device ids of a list after a position, and the position to continue from; `None` at the end."""
    partitions = max(members, default=-1) + 1
    positions, position_after = positions_after(
        lambda number: members.get(number, BitMap()), partitions=partitions, after=after, limit=limit
    )
    # New devices are in no projection yet.
    stored = iter(device_ids_at(projections, [position for position in positions if position not in result.names]))
    return [result.names.get(position) or next(stored) for position in positions], position_after
