"""One property path of the index: the value of each ordinal, and the ordinals of each value."""

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Collection, Iterable, Iterator
from itertools import pairwise, repeat
from typing import Any

import numpy as np
import numpy.typing as npt
from pyroaring import BitMap

from events.query.tree import Op

# A value key is (kind, value). The kind keeps true, 1 and "1" apart: in Python, True == 1 == 1.0.
STRING, NUMBER, BOOLEAN = "string", "number", "boolean"
PRIMITIVE_KINDS = frozenset({STRING, NUMBER, BOOLEAN})
ValueKey = tuple[str, Any]
OBJECT_KEY: ValueKey = ("object", None)
ARRAY_KEY: ValueKey = ("array", None)

_EMPTY = BitMap()
_PAGE_BITS = 10
_PAGE_MASK = (1 << _PAGE_BITS) - 1
# Up to this number a loop over ordinals is faster than the set-up of numpy arrays.
_FEW = 64
# Up to this number the same holds of noted values, which take more steps together.
_FEW_NOTED = 400
# Up to this number of ordinals for each value, moving them one by one is faster than making a set of them.
_FEW_EACH = 16

_Numbers = npt.NDArray[np.uint32]


def value_key(value: object) -> ValueKey:
    """The typed key of a JSON value that is neither null nor an object."""
    if isinstance(value, str):
        return (STRING, value)
    # bool is an int in Python; with the tests in another order, 1 would match true.
    if isinstance(value, bool):
        return (BOOLEAN, value)
    if isinstance(value, int | float):
        return (NUMBER, value)
    return ARRAY_KEY


def _value_keys(values: Collection[object]) -> Iterable[ValueKey]:
    """The `value_key` of each value."""
    # The values of one property mostly have one type; the branches for one type avoid a call per value.
    types = set(map(type, values))
    if types == {str}:
        return zip(repeat(STRING), values)
    if types <= {int, float}:
        return zip(repeat(NUMBER), values)
    return map(value_key, values)


class Column:
    """The values of a path. `noted` values replace those of their ordinals at the next `settle`, and are not visible until then."""

    # Reported values arrive with every event but are read once a batch; noted values are applied together, a column at a time,
    # and of several values of one device only the last (docs/decisions/0020).
    def __init__(self) -> None:
        self._pages: dict[int, array[int]] = {}
        self.numbers: dict[ValueKey, int] = {}
        """A number for each distinct value."""
        self._free: list[int] = []
        self._sorted: dict[str, list[Any]] = {}
        # Number 0 means no value, so that a new page of zeros has no values; its set stays empty.
        self.keys: list[ValueKey] = [("none", None)]
        self.members: list[BitMap] = [BitMap()]
        self.kinds: dict[str, BitMap] = {}
        self.present = BitMap()
        self.dirty: set[ValueKey] = set()
        self._touched: set[ValueKey] = set()
        # Touched values by number: adding an int is faster than hashing a key. A number that is reused is removed.
        self._moved: set[int] = set()
        self.noted: dict[int, object] = {}
        self.changed = BitMap()
        """The ordinals whose value changed by `settle` since the last `Index.take_touched`."""

    @property
    def touched(self) -> set[ValueKey]:
        """The values that gained or lost an ordinal since the last `take_touched`."""
        return self._touched | {self.keys[number] for number in self._moved}

    def take_touched(self) -> set[ValueKey]:
        """`touched`, which becomes empty; the values stay dirty until the next commit."""
        touched = self.touched
        self._touched.clear()
        self._moved.clear()
        self.dirty |= touched
        return touched

    def __len__(self) -> int:
        """The number of distinct values."""
        return len(self.numbers)

    def _number(self, key: ValueKey) -> int:
        number = self.numbers.get(key)
        if number is None:
            if self._free:
                number = self._free.pop()
                self.keys[number], self.members[number] = key, BitMap()
            else:
                number = len(self.keys)
                self.keys.append(key)
                self.members.append(BitMap())
            self.numbers[key] = number
            self._sorted.pop(key[0], None)
        return number

    def put(self, ordinal: int, key: ValueKey) -> bool:
        """Set the value of an ordinal; returns whether it changed."""
        if self.noted:
            self.noted.pop(ordinal, None)
        page = self._page(ordinal)
        slot = ordinal & _PAGE_MASK
        old = page[slot]
        number = self.numbers.get(key, 0)
        if old:
            if old == number:
                return False
            previous_key = self.keys[old]
            members = self.members[old]
            # A fast path for the usual case: another value of the same kind, and both values keep members.
            if number and previous_key[0] == key[0] and len(members) > 1:
                members.discard(ordinal)
                self.members[number].add(ordinal)
                page[slot] = number
                self._moved.add(old)
                self._moved.add(number)
                return True
            self._leave(ordinal, old, key[0])
        number = page[slot] = self._number(key)
        self.members[number].add(ordinal)
        if not old:
            self.present.add(ordinal)
            self._of_kind(key[0]).add(ordinal)
        self._touched.add(key)
        return True

    def clear(self, ordinal: int) -> bool:
        """Delete the value of an ordinal; returns whether it had one."""
        self.noted.pop(ordinal, None)
        page = self._pages.get(ordinal >> _PAGE_BITS)
        if page is None or not page[ordinal & _PAGE_MASK]:
            return False
        self._leave(ordinal, page[ordinal & _PAGE_MASK], None)
        page[ordinal & _PAGE_MASK] = 0
        self.present.discard(ordinal)
        return True

    def settle(self) -> None:
        """Apply the noted values."""
        noted, self.noted = self.noted, {}
        if len(noted) > _FEW_NOTED:
            self._put_many(noted)
            return
        for ordinal, value in noted.items():
            if self.put(ordinal, value_key(value)):
                self.changed.add(ordinal)

    def _put_many(self, values: dict[int, object]) -> None:
        ordinals = np.fromiter(values, dtype=np.uint32, count=len(values))
        ordinals, new = _sorted_pairs(ordinals, self._numbers_of(values.values()))
        old = self._exchange(ordinals, new)
        differ = old != new
        ordinals, old, new = ordinals[differ], old[differ], new[differ]
        changed = _bitmap(ordinals)
        for kind in self.kinds:
            self.kinds[kind] -= changed
        left, joined = np.unique(old[old != 0]).tolist(), np.unique(new).tolist()
        members = self.members
        if len(ordinals) < _FEW_EACH * len(joined):
            for ordinal, before, after in zip(ordinals.tolist(), old.tolist(), new.tolist(), strict=True):
                members[before].discard(ordinal)
                members[after].add(ordinal)
        else:
            for number, group in _groups(old, ordinals):
                members[number] -= group
            for number, group in _groups(new, ordinals):
                members[number] |= group
        joined_by_kind: dict[str, list[int]] = {}
        for number in joined:
            joined_by_kind.setdefault(self.keys[number][0], []).append(number)
        for kind, numbers in joined_by_kind.items():
            of_kind = self._of_kind(kind)
            of_kind |= changed if len(joined_by_kind) == 1 else _bitmap(ordinals[np.isin(new, numbers)])
        self._touched.update(self.keys[number] for number in (*left, *joined))
        for number in left:
            if not members[number]:
                self._release(number)
        self.present |= changed
        self.changed |= changed

    def _numbers_of(self, values: Collection[object]) -> _Numbers:
        try:
            numbers = map(self.numbers.__getitem__, _value_keys(values))
            return np.fromiter(numbers, dtype=np.uint32, count=len(values))
        except KeyError:
            # A value is new. That is rare, so the usual case does only one lookup per value.
            return np.array([self._number(key) for key in _value_keys(values)], dtype=np.uint32)

    def _exchange(self, ordinals: _Numbers, new: _Numbers) -> _Numbers:
        """Write the numbers of ascending ordinals; returns the previous numbers."""
        old = np.empty_like(new)
        slots = ordinals & _PAGE_MASK
        turns = np.flatnonzero(np.diff(ordinals >> _PAGE_BITS)) + 1
        for start, end in pairwise([0, *turns.tolist(), len(ordinals)]):
            page = np.frombuffer(self._page(int(ordinals[start])), dtype=np.uint32)
            page_slots = slots[start:end]
            old[start:end] = page[page_slots]
            page[page_slots] = new[start:end]
        return old

    def _page(self, ordinal: int) -> "array[int]":
        page = self._pages.get(ordinal >> _PAGE_BITS)
        if page is None:
            page = self._pages[ordinal >> _PAGE_BITS] = array("I", bytes(4 << _PAGE_BITS))
        return page

    def _leave(self, ordinal: int, number: int, new_kind: str | None) -> None:
        key = self.keys[number]
        members = self.members[number]
        members.discard(ordinal)
        self._touched.add(key)
        if key[0] != new_kind:
            self.kinds[key[0]].discard(ordinal)
            if new_kind is not None:
                self._of_kind(new_kind).add(ordinal)
        if not members:
            self._release(number)

    def _release(self, number: int) -> None:
        """Free a number whose value has no ordinals any more."""
        key = self.keys[number]
        del self.numbers[key]
        self._free.append(number)
        self._moved.discard(number)
        self._sorted.pop(key[0], None)

    def _of_kind(self, kind: str) -> BitMap:
        ordinals = self.kinds.get(kind)
        if ordinals is None:
            ordinals = self.kinds[kind] = BitMap()
        return ordinals

    def restore(self, key: ValueKey, members: BitMap) -> None:
        """Restore a stored set; it does not count as a change."""
        number = self._number(key)
        self.members[number] = members
        self.present |= members
        self.kinds[key[0]] = self._of_kind(key[0]) | members
        if len(members) > _FEW:
            ordinals = np.array(members, dtype=np.uint32)
            self._exchange(ordinals, np.full(len(ordinals), number, dtype=np.uint32))
            return
        for ordinal in members:
            self._page(ordinal)[ordinal & _PAGE_MASK] = number

    def equal(self, key: ValueKey) -> BitMap:
        """The ordinals with a value; the caller must not change them."""
        number = self.numbers.get(key)
        return _EMPTY if number is None else self.members[number]

    def sets(self) -> Iterator[tuple[ValueKey, BitMap]]:
        """Every value with its ordinals."""
        for key, number in self.numbers.items():
            yield key, self.members[number]

    def ordered(self, kind: str, op: Op, literal: Any) -> BitMap:
        """The ordinals whose value of a kind satisfies the comparison with a literal."""
        values = self.values(kind)
        match op:
            case Op.LT:
                chosen = values[: bisect_left(values, literal)]
            case Op.LE:
                chosen = values[: bisect_right(values, literal)]
            case Op.GT:
                chosen = values[bisect_right(values, literal) :]
            case Op.GE:
                chosen = values[bisect_left(values, literal) :]
            case _:
                raise AssertionError(op)
        return BitMap.union(*[self.members[self.numbers[kind, value]] for value in chosen]) if chosen else BitMap()

    def values(self, kind: str) -> list[Any]:
        """The values of a kind, sorted; the caller must not change them."""
        values = self._sorted.get(kind)
        if values is None:
            values = self._sorted[kind] = sorted(key[1] for key in self.numbers if key[0] == kind)
        return values


def _sorted_pairs(first: _Numbers, second: _Numbers) -> tuple[_Numbers, _Numbers]:
    """Pairs of numbers in ascending order."""
    # One 64-bit number per pair sorts several times as fast as an argsort.
    pairs = np.sort(first.astype(np.uint64) << np.uint64(32) | second)
    return (pairs >> np.uint64(32)).astype(np.uint32), pairs.astype(np.uint32)


def _groups(numbers: _Numbers, ordinals: _Numbers) -> Iterator[tuple[int, BitMap]]:
    """The ordinals of each number except 0, which means no value."""
    numbers, ordinals = _sorted_pairs(numbers, ordinals)
    turns = np.flatnonzero(np.diff(numbers, prepend=np.uint32(0)))
    for start, end in pairwise([*turns.tolist(), len(numbers)]):
        yield int(numbers[start]), _bitmap(ordinals[start:end])


def _bitmap(ordinals: _Numbers) -> BitMap:
    # A BitMap copies the memory of an array; it would iterate over any other sequence item by item.
    return BitMap(array("I", ordinals.tobytes()))
