"""Many rows made few: counts, sums and extremes by group, whatever order the rows come in."""

from collections.abc import Mapping
from fractions import Fraction
from typing import Any

from events.query.evaluate import Assignment, is_number, value_at
from events.query.tree import (
    UNDEFINED,
    Aggregate,
    Function,
    Path,
    Projection,
    Query,
    is_aggregate,
    keys,
)

# (kind, value): True, 1 and "1" are three groups, and kinds order the groups.
_Member = tuple[int, Any]
_Key = tuple[_Member, ...]
_NONE: _Member = (0, 0)


class Aggregating:
    """The result of an aggregate query, row by row or as parts that are merged; equal rows give equal results in any order.

    Whether a row fulfils the condition is the caller's to ask.
    """

    def __init__(self, query: Query) -> None:
        assert is_aggregate(query)
        self._query = query
        self._keys = keys(query)
        self._arguments = {item.path for item in query.select if isinstance(item, Aggregate) and item.path is not None}
        # Without GROUP BY there is one group, of no rows to begin with.
        self._groups: dict[_Key, _Group] = {} if query.group_by else {(): _Group(self._arguments)}

    def add(self, row: Assignment) -> None:
        """Count a row in."""
        group = self._group(tuple(_member(value_at(path, row)) for path in self._query.group_by))
        group.rows += 1
        for path, numbers in group.numbers.items():
            numbers.add(value_at(path, row))

    def add_count(self, group_key: tuple[object, ...] | None, count: int) -> None:
        """Count `count` rows in at once, as `add` would; for queries without aggregates other than COUNT.

        `group_key` has a value, or `UNDEFINED`, for each property of GROUP BY, and is `None` without GROUP BY.
        """
        assert not self._arguments
        assert count >= 0
        assert len(group_key or ()) == len(self._query.group_by)
        if count:
            self._group(tuple(map(_member, group_key or ()))).rows += count

    def merge(self, other: "Aggregating") -> None:
        """Take in what another one of the same query has; the other stays as it is."""
        assert other._query == self._query  # noqa: SLF001 - its own kind
        for key, theirs in other._groups.items():  # noqa: SLF001
            group = self._group(key)
            group.rows += theirs.rows
            for path, numbers in group.numbers.items():
                numbers.merge(theirs.numbers[path])

    def results(self) -> list[Assignment]:
        """A result for each group, at most TOP, in the order of their keys: undefined, null, booleans, numbers, strings.

        What is undefined is left out: a missing property of GROUP BY, and any aggregate but COUNT of no numbers.
        """
        return [self._result(key, self._groups[key]) for key in sorted(self._groups)][: self._query.top]

    def _group(self, key: _Key) -> "_Group":
        group = self._groups.get(key)
        if group is None:
            group = self._groups[key] = _Group(self._arguments)
        return group

    def _result(self, group_key: _Key, group: "_Group") -> Assignment:
        values = dict(zip(self._query.group_by, group_key, strict=True))
        result: dict[str, Any] = {}
        for key, item in zip(self._keys, self._query.select, strict=True):
            value = _shown(values[item.path]) if isinstance(item, Projection) else group.result(item)
            if value is not UNDEFINED:
                result[key] = value
        return result


class _Group:
    def __init__(self, arguments: set[Path]) -> None:
        self.rows = 0
        self.numbers: Mapping[Path, _Numbers] = {path: _Numbers() for path in arguments}

    def result(self, item: Aggregate) -> object:
        return self.rows if item.path is None else self.numbers[item.path].result(item.function)


class _Numbers:
    """What is known of some numbers. The total is exact, or it would depend on the order."""

    def __init__(self) -> None:
        self.count = 0
        self.total: int | Fraction = 0
        self.least: float | None = None
        self.greatest: float | None = None

    def add(self, actual: object) -> None:
        """Count a value in; any but a number is skipped."""
        if not is_number(actual):
            return
        assert isinstance(actual, int | float)
        self._extend(count=1, total=actual if isinstance(actual, int) else Fraction(actual))
        self._widen(actual, actual)

    def merge(self, other: "_Numbers") -> None:
        self._extend(count=other.count, total=other.total)
        if other.least is not None and other.greatest is not None:
            self._widen(other.least, other.greatest)

    def result(self, function: Function) -> object:
        if self.least is None or self.greatest is None:
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

    def _extend(self, *, count: int, total: int | Fraction) -> None:
        self.count += count
        self.total += total

    def _widen(self, least: float, greatest: float) -> None:
        self.least = least if self.least is None else min(self.least, least)
        self.greatest = greatest if self.greatest is None else max(self.greatest, greatest)


def _number(exact: int | Fraction) -> object:
    """A whole number as an integer while it fits 64 bits, so that 1 and 1.0 show alike; `UNDEFINED` beyond what floats hold."""
    if exact.denominator == 1 and -(2**63) < exact < 2**63:
        return int(exact)
    try:
        return float(exact)
    except OverflowError:
        return UNDEFINED


_KINDS = {type(None): 1, bool: 2, int: 3, float: 3, str: 4}


def _member(actual: object) -> _Member:
    """What an object or an array is grouped as is what is undefined."""
    kind = _KINDS.get(type(actual), 0)
    return (kind, 0 if actual is None else actual) if kind else _NONE


def _shown(member: _Member) -> object:
    match member:
        case (0, _):
            return UNDEFINED
        case (1, _):
            return None
        case (3, number):
            return _number(Fraction(number))
        case (_, actual):
            return actual
