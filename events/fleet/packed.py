"""One number per ordinal in a packed array, with O(1) access; only changed pages are written to the store."""

from array import array
from collections import Counter
from collections.abc import Iterator
from typing import TypeVar

import numpy as np
import numpy.typing as npt

# A commit writes whole pages: 256 numbers are 1 KiB, and few enough that a report rewrites little beside its device.
PAGE_ITEMS = 256


class Packed:
    """An array of little-endian unsigned 32-bit numbers, 0 where nothing was set."""

    def __init__(self) -> None:
        self._items = array("I")
        assert self._items.itemsize == 4  # noqa: PLR2004 - the width of the stored form
        self._dirty: set[int] = set()

    def load(self, data: bytes) -> None:
        """Restore the stored array."""
        self._items = array("I", data)
        self._dirty.clear()

    def counts(self) -> Counter[int]:
        """The number of occurrences of each number."""
        distinct, counts = np.unique(np.frombuffer(self._items, dtype=np.uint32), return_counts=True)
        return Counter(dict(zip(distinct.tolist(), counts.tolist(), strict=True)))

    def __len__(self) -> int:
        return len(self._items)

    def __getitem__(self, ordinal: int) -> int:
        return self._items[ordinal]

    def __setitem__(self, ordinal: int, value: int) -> None:
        self._items[ordinal] = value
        self._dirty.add(ordinal // PAGE_ITEMS)

    def reserve(self, count: int) -> None:
        """Extend the array for ordinals below `count`."""
        # In whole pages, so that the stored length depends on `count` alone and a rebuild finds the same bytes.
        length = -(-count // PAGE_ITEMS) * PAGE_ITEMS
        if length > len(self._items):
            first = len(self._items) // PAGE_ITEMS
            self._items.frombytes(bytes(4 * (length - len(self._items))))
            self._dirty.update(range(first, length // PAGE_ITEMS))

    def take(self, ordinals: npt.NDArray[np.uint32]) -> npt.NDArray[np.uint32]:
        """The numbers at many ordinals."""
        return np.frombuffer(self._items, dtype=np.uint32)[ordinals]

    def put(self, ordinals: npt.NDArray[np.uint32], values: npt.NDArray[np.uint32] | int) -> None:
        """Set the numbers at many ordinals."""
        np.frombuffer(self._items, dtype=np.uint32)[ordinals] = values
        self._dirty.update(np.unique(ordinals // PAGE_ITEMS).tolist())

    def changes(self) -> Iterator[tuple[int, bytes]]:
        """The byte ranges that changed since the last call, as (offset, bytes), ascending, with adjacent pages joined."""
        pages = sorted(self._dirty)
        self._dirty.clear()
        start = 0
        while start < len(pages):
            end = start
            while end + 1 < len(pages) and pages[end + 1] == pages[end] + 1:
                end += 1
            first, last = pages[start] * PAGE_ITEMS, (pages[end] + 1) * PAGE_ITEMS
            yield first * 4, self._items[first:last].tobytes()
            start = end + 1


Key = TypeVar("Key", np.uint32, np.uint64)
Item = TypeVar("Item", np.uint32, np.intp)


def grouped(keys: npt.NDArray[Key], items: npt.NDArray[Item]) -> Iterator[tuple[int, npt.NDArray[Item]]]:
    """The items of each key, by ascending key."""
    # One sort instead of a scan for each key: the cost does not grow with the number of keys.
    order = np.argsort(keys, kind="stable")
    in_order = keys[order]
    edges = np.flatnonzero(in_order[1:] != in_order[:-1]) + 1
    firsts = in_order[np.r_[0, edges]] if len(keys) else in_order
    yield from zip(firsts.tolist(), np.split(items[order], edges), strict=False)
