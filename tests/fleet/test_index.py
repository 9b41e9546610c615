"""Reports that come into the index together leave what they leave one by one."""

import random
from typing import Any

import pytest
from pyroaring import BitMap

from events.bitmaps import to_bytes
from events.fleet.column import ARRAY_KEY, OBJECT_KEY, PRIMITIVE_KINDS, ValueKey
from events.fleet.directory import Directory
from events.fleet.index import REPORTED, Index
from events.query.tree import Op, Path

LEAF: Path = (*REPORTED, "leaf")
OUTER: Path = (*REPORTED, "outer")
INNER: Path = (*OUTER, "inner")
PATHS = {LEAF, OUTER, INNER}
STRINGS = [f"s{number}" for number in range(5)]
MIXED = [None, True, False, 1, 1.0, 0, 2.5, "1", "", [1], {"inner": "s1"}, {"inner": None}, {"other": 1}, *STRINGS]


class Kept:
    """An index, and its sets as a store would have them."""

    def __init__(self) -> None:
        self.index = Index(Directory())
        self.index.name(PATHS)
        self.stored: dict[tuple[Path, ValueKey], bytes] = {}
        self.touched: set[tuple[Path, ValueKey]] = set()
        self.ordinals = BitMap()

    def apply(self, ordinal: int, patch: dict[str, Any] | None) -> None:
        if patch is None:
            self.index.forget(ordinal)
        elif self.index.patch_reported(ordinal, patch):
            self.ordinals.add(ordinal)

    def take(self) -> None:
        touched, ordinals = self.index.take_touched()
        self.touched |= {(path, key) for path, keys in touched.items() for key in keys}
        self.ordinals |= ordinals

    def keep(self) -> None:
        for path, key, members in self.index.changes():
            self.stored.pop((path, key), None)
            if members:
                self.stored[path, key] = to_bytes(members)

    def answers(self) -> list[BitMap]:
        index, found = self.index, []
        for path in sorted(PATHS):
            found += [index.defined(path), *(index.of_kind(path, kind) for kind in sorted(PRIMITIVE_KINDS))]
            found += [index.compare(path, Op.EQ, literal) for literal in ("s1", "1", "", True, 1, 2.5)]
            found += [index.ordered(path, op, literal) for op in (Op.LT, Op.GE) for literal in ("s2", 1)]
        return [BitMap(members) for members in found]


def drawn(draw: random.Random, values: list[Any]) -> dict[str, Any] | None:
    if draw.random() < 0.02:
        return None
    names = draw.sample(["leaf", "outer", "another"], draw.randint(1, 3))
    return {name: draw.choice(values) for name in names}


@pytest.mark.parametrize("values", [MIXED, STRINGS, [0, 1, 2.5, 3], list(range(2000))])
@pytest.mark.parametrize("seed", range(5))
def test_a_batch_leaves_what_its_reports_leave_one_by_one(seed: int, values: list[Any]) -> None:
    draw = random.Random(seed)  # noqa: S311 - a course of reports that is the same each time
    together, one_by_one, forgotten = Kept(), Kept(), BitMap()
    for size in (1500, 10, 1500, 1500, 1):
        before = together.answers()
        together.touched.clear()
        together.ordinals.clear()
        for _ in range(size):
            ordinal, patch = draw.randrange(3000), drawn(draw, values)
            if patch is None:
                forgotten.add(ordinal)
            together.apply(ordinal, patch)
            one_by_one.apply(ordinal, patch)
            one_by_one.take()
        together.take()
        after = together.answers()
        assert after == one_by_one.answers()
        together.keep()
        one_by_one.keep()
        assert together.stored == one_by_one.stored
        assert together.touched <= one_by_one.touched
        changed = BitMap().union(*(one ^ other for one, other in zip(before, after, strict=True)))
        assert changed - forgotten <= together.ordinals <= one_by_one.ordinals


def test_what_waits_is_seen_by_whoever_reads() -> None:
    index = Index(Directory())
    index.name(PATHS)
    for ordinal in range(100):
        index.patch_reported(ordinal, {"leaf": "s1", "outer": {"inner": [1]}})
    assert index.compare(LEAF, Op.EQ, "s1") == BitMap(range(100))
    assert index.defined(INNER) == BitMap(range(100))
    index.patch_reported(7, {"leaf": "s2", "outer": 1})
    assert {(path, key): set(members) for path, key, members in index.changes()} == {
        (LEAF, ("string", "s1")): set(range(100)) - {7},
        (LEAF, ("string", "s2")): {7},
        (OUTER, OBJECT_KEY): set(range(100)) - {7},
        (OUTER, ("number", 1)): {7},
        (INNER, ARRAY_KEY): set(range(100)) - {7},
    }


def test_a_value_that_is_brought_in_later_replaces_what_waits() -> None:
    index = Index(Directory())
    index.name(PATHS)
    for ordinal in range(100):
        index.patch_reported(ordinal, {"leaf": "s1"})
    index.fill(1, LEAF, {"leaf": "s2"})
    index.forget(2)
    assert index.compare(LEAF, Op.EQ, "s1") == BitMap(range(100)) - BitMap([1, 2])
    assert index.compare(LEAF, Op.EQ, "s2") == BitMap([1])
