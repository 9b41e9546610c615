"""Aggregation of rows: counts, sums, averages and extremes by group, whatever the order of the rows."""

import math
from fractions import Fraction
from typing import Any

from events.query.evaluate import NULL, NUMBER, QueryRow, kind_of, value_at
from events.query.tree import UNDEFINED, Aggregate, Function, Path, Projection, Query, is_aggregate, keys

# (kind, value). Without the kind, True and 1 would be one group, and values of several types could not be sorted.
_Member = tuple[int, Any]
_Key = tuple[_Member, ...]


class Aggregating:
    """The aggregator of a query; equal rows give equal results in any order, added one by one or merged.

    The caller adds only rows that fulfil the condition.
    """

    def __init__(self, query: Query) -> None:
        assert is_aggregate(query)
        self._query = query
        self._keys = keys(query)
        self._arguments = {item.path for item in query.select if isinstance(item, Aggregate) and item.path is not None}
        # Without GROUP BY there is one group, of no rows to begin with.
        self._groups: dict[_Key, _Group] = {} if query.group_by else {(): _Group(self._arguments)}

    def add(self, row: QueryRow) -> None:
        """Add a row."""
        group = self._group(tuple(_member(value_at(path, row)) for path in self._query.group_by))
        group.rows += 1
        for path, numbers in group.numbers.items():
            numbers.add(value_at(path, row))

    def add_count(self, group_key: tuple[object, ...] | None, count: int) -> None:
        """Add `count` rows of one group at once; only for queries whose aggregates are all COUNT.

        `group_key` has a value or `UNDEFINED` for each property of GROUP BY; it is `None` without GROUP BY.
        """
        assert not self._arguments
        assert count >= 0
        assert len(group_key or ()) == len(self._query.group_by)
        if count:
            self._group(tuple(map(_member, group_key or ()))).rows += count

    def merge(self, other: "Aggregating") -> None:
        """Add the rows of another aggregator of the same query, which stays unchanged."""
        assert other._query == self._query  # noqa: SLF001 - its own kind
        for key, theirs in other._groups.items():  # noqa: SLF001
            group = self._group(key)
            group.rows += theirs.rows
            for path, numbers in group.numbers.items():
                numbers.merge(theirs.numbers[path])

    def results(self) -> list[QueryRow]:
        """Return a result for each group, at most TOP, ordered by key: undefined, null, booleans, numbers, strings.

        A result omits undefined values: a missing property of GROUP BY, and any aggregate but COUNT without numbers.
        """
        return [self._result(key, self._groups[key]) for key in sorted(self._groups)][: self._query.top]

    def _group(self, key: _Key) -> "_Group":
        group = self._groups.get(key)
        if group is None:
            group = self._groups[key] = _Group(self._arguments)
        return group

    def _result(self, group_key: _Key, group: "_Group") -> QueryRow:
        values = dict(zip(self._query.group_by, group_key, strict=True))
        result: dict[str, Any] = {}
        for key, item in zip(self._keys, self._query.select, strict=True):
            if isinstance(item, Projection):
                value = _shown(values[item.path])
            else:
                value = group.rows if item.path is None else group.numbers[item.path].result(item.function)
            if value is not UNDEFINED:
                result[key] = value
        return result


class _Group:
    def __init__(self, arguments: set[Path]) -> None:
        self.rows, self.numbers = 0, {path: _Numbers() for path in arguments}


class _Numbers:
    """The count, sum and extremes of numbers. The sum is exact, because a sum of floats depends on their order."""

    def __init__(self) -> None:
        self.count = 0
        self.total: int | Fraction = 0
        self.least, self.greatest = math.inf, -math.inf

    def add(self, actual: object) -> None:
        """Add a value; values other than numbers are skipped."""
        if kind_of(actual) != NUMBER:
            return
        assert isinstance(actual, int | float)
        self.count += 1
        self.total += actual if isinstance(actual, int) else Fraction(actual)
        self.least, self.greatest = min(self.least, actual), max(self.greatest, actual)

    def merge(self, other: "_Numbers") -> None:
        self.count += other.count
        self.total += other.total
        self.least, self.greatest = min(self.least, other.least), max(self.greatest, other.greatest)

    def result(self, function: Function) -> object:
        if not self.count:
            return UNDEFINED
        match function:
            case Function.COUNT:
                return self.count
            case Function.AVG:
                return _number(Fraction(self.total) / self.count)
            case Function.SUM:
                return _number(self.total)
            case Function.MIN:
                return _number(Fraction(self.least))
            case Function.MAX:
                return _number(Fraction(self.greatest))


def _number(exact: int | Fraction) -> object:
    """Return an integer if it is whole and fits 64 bits, so that 1 and 1.0 print alike; `UNDEFINED` if too large for a float."""
    if exact.denominator == 1 and -(2**63) < exact < 2**63:
        return int(exact)
    try:
        return float(exact)
    except OverflowError:
        return UNDEFINED


def _member(actual: object) -> _Member:
    """Return the part of a group's key for a value; objects and arrays count as undefined."""
    kind = kind_of(actual)
    return kind, actual if kind > NULL else 0


def _shown(member: _Member) -> object:
    kind, actual = member
    if kind == NUMBER:
        return _number(Fraction(actual))
    if kind == NULL:
        return None
    return actual if kind else UNDEFINED
