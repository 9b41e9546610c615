"""Sets of devices over all partitions, and their form in events: by partition, the base64 of a set of ordinals."""

import base64
import functools
import operator
from collections.abc import Callable, Iterable, Mapping
from typing import Final, TypeVar

from pyroaring import BitMap
from typing_extensions import override

from events.bitmaps import from_bytes, to_bytes
from events.rollout.events import Devices

_NO_ORDINALS: Final = BitMap()

Of = TypeVar("Of")


class FleetSet:
    """An immutable set of devices, each by its partition and ordinal."""

    __slots__ = ("by_partition",)

    def __init__(self, by_partition: Mapping[int, BitMap]) -> None:
        self.by_partition = {number: members for number, members in by_partition.items() if members}

    @classmethod
    def of(cls, devices: Devices) -> "FleetSet":
        """The set from its form in events."""
        return cls({int(number): from_bytes(base64.b64decode(data)) for number, data in devices.items()})

    @classmethod
    def over(cls, by_partition: Mapping[int, Of], members: Callable[[Of], BitMap]) -> "FleetSet":
        """The set of the `members` of each partition."""
        return cls({number: members(value) for number, value in by_partition.items()})

    @classmethod
    def one(cls, number: int, ordinal: int) -> "FleetSet":
        """The set of one device."""
        return cls({number: BitMap([ordinal])})

    def devices(self) -> Devices:
        """The form in events; equal sets have equal text."""
        by_partition = sorted(self.by_partition.items())
        return {str(number): base64.b64encode(to_bytes(members)).decode() for number, members in by_partition}

    def of_partition(self, number: int) -> BitMap:
        """The ordinals of a partition; the caller must not change them."""
        return self.by_partition.get(number, _NO_ORDINALS)

    def __len__(self) -> int:
        return sum(map(len, self.by_partition.values()))

    def __bool__(self) -> bool:
        return bool(self.by_partition)

    @override
    def __eq__(self, other: object) -> bool:
        return isinstance(other, FleetSet) and self.by_partition == other.by_partition

    __hash__ = None  # type: ignore[assignment]

    def __and__(self, other: "FleetSet") -> "FleetSet":
        both = self.by_partition.keys() & other.by_partition.keys()
        return FleetSet({number: self.by_partition[number] & other.by_partition[number] for number in both})

    def __or__(self, other: "FleetSet") -> "FleetSet":
        numbers = self.by_partition.keys() | other.by_partition.keys()
        return FleetSet({number: self.of_partition(number) | other.of_partition(number) for number in numbers})

    def __sub__(self, other: "FleetSet") -> "FleetSet":
        return FleetSet({number: members - other.of_partition(number) for number, members in self.by_partition.items()})

    @staticmethod
    def union(sets: Iterable["FleetSet"]) -> "FleetSet":
        """The devices that are in at least one set."""
        return functools.reduce(operator.or_, sets, NO_DEVICES)


NO_DEVICES: Final = FleetSet({})
