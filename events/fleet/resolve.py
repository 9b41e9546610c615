"""The stacks of devices, by sets: the base with the highest priority and the layers above it; for single twins all."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import Generic, TypeVar

import numpy as np
import numpy.typing as npt
from pyroaring import BitMap

from events.fleet.deployments import Deployment
from events.fleet.packed import grouped

Ordinals = npt.NDArray[np.uint32]
Stack = tuple[Deployment, ...]
T = TypeVar("T")


def resolve(
    within: BitMap,
    *,
    bases_descending: Sequence[Deployment],
    layers_ascending: Sequence[Deployment],
    eligible: Mapping[str, BitMap],
) -> Iterator[tuple[Stack, Ordinals]]:
    """The stack of every ordinal of `within`, grouped by stack: base first, then its layers, ascending.

    Devices that no base targets have an empty stack (layers need a base; contract/hub.md §3.3 item 4). A layer applies if its
    priority is strictly above the base's, and of layers with equal priority only the newest applies.
    """
    ordinals = np.array(within, dtype=np.uint32)
    groups: _Groups[Deployment] = _Groups(len(ordinals))
    based: list[tuple[int, BitMap]] = []
    remainder = BitMap(within)
    for base in bases_descending:
        members = eligible[base.id]
        if not remainder.intersect(members):
            continue
        chosen = remainder & members
        remainder -= chosen
        groups.push(base, _locations(ordinals, chosen))
        based.append((base.priority, chosen))
        if not remainder:
            break
    # Bases and layers are merged by ascending priority: `below` has the devices whose base is under the current layers.
    below = BitMap()
    for priority, layers in groupby(layers_ascending, key=lambda layer: layer.priority):
        while based and based[-1][0] < priority:
            below |= based.pop()[1]
        if not below:
            continue
        free = below
        for layer in reversed(tuple(layers)):
            members = eligible[layer.id]
            if free.intersect(members):
                chosen = free & members
                free = free - chosen
                groups.push(layer, _locations(ordinals, chosen))
    yield from groups.split(ordinals)


def resolve_own(
    within: BitMap, *, ascending: Sequence[Deployment], eligible: Mapping[str, BitMap]
) -> Iterator[tuple[Stack, Ordinals]]:
    """As `resolve` for one twin, its own or a module's: an eligible device has all its configurations; without any, an empty stack."""
    ordinals = np.array(within, dtype=np.uint32)
    groups: _Groups[Deployment] = _Groups(len(ordinals))
    for deployment in ascending:
        members = within & eligible[deployment.id]
        if members:
            groups.push(deployment, _locations(ordinals, members))
    yield from groups.split(ordinals)


def together(decided: Iterable[tuple[T, Ordinals]]) -> Iterator[tuple[tuple[T, ...], Ordinals]]:
    """The decisions for sets of ordinals, regrouped by ordinals with the same decisions, in order."""
    parts = list(decided)
    if not parts:
        return
    distinct = np.unique(np.concatenate([ordinals for _, ordinals in parts]))
    groups: _Groups[T] = _Groups(len(distinct))
    for decision, ordinals in parts:
        groups.push(decision, np.searchsorted(distinct, ordinals))
    yield from groups.split(distinct)


def _locations(ordinals: Ordinals, members: BitMap) -> npt.NDArray[np.intp]:
    if len(members) == len(ordinals):
        return np.arange(len(ordinals))
    return np.searchsorted(ordinals, np.array(members, dtype=np.uint32))


class _Groups(Generic[T]):
    """Groups of locations with the same stack of pushed items."""

    # A push splits the groups that it touches; the work follows the number of groups, and no device is handled on its own.
    def __init__(self, count: int) -> None:
        self._group = np.zeros(count, dtype=np.uint32)
        self._stacks: list[tuple[T, ...]] = [()]

    def push(self, item: T, locations: npt.NDArray[np.intp]) -> None:
        previous = self._group[locations]
        if previous.min() == previous.max():
            self._stacks.append((*self._stacks[int(previous[0])], item))
            self._group[locations] = len(self._stacks) - 1
            return
        distinct, inverse = np.unique(previous, return_inverse=True)
        first = len(self._stacks)
        self._stacks += [(*self._stacks[group], item) for group in distinct.tolist()]
        self._group[locations] = first + inverse

    def split(self, ordinals: Ordinals) -> Iterator[tuple[tuple[T, ...], Ordinals]]:
        for group, members in grouped(self._group, ordinals):
            yield self._stacks[group], members
