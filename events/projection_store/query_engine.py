"""Runs queries (contract/hub.md §1.8, §2.1) on the index, and on documents where the index is not enough.

Rows come in the order of (partition, ordinal, module). A first page notes the highest ordinals: a device that exists then
and stays is on exactly one page, and a device that is registered later is on none.
"""

import base64
import binascii
import hashlib
import itertools
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import msgspec
from pyroaring import BitMap

from events import canonical
from events.deployment.state import DeploymentDocument
from events.fleet.column import PRIMITIVE_KINDS
from events.log.fleet_documents import deployments
from events.log.port import Log
from events.manifest.merge import contributes
from events.projection_store.port import ProjectionStore
from events.projection_store.query_index import ModuleIndex, PartitionIndex, indexes
from events.projection_store.query_rows import QueryRows
from events.query.aggregate import Aggregating
from events.query.evaluate import QueryRow, projected, row_test
from events.query.select import Bounds, select_bounds
from events.query.text import printed_query
from events.query.tree import (
    UNDEFINED,
    Expression,
    Function,
    Projection,
    Query,
    QuerySource,
    is_aggregate,
    selectable_module_ids,
)

PAGE_DEFAULT = 100
PAGE_MAX = 1000
READING_SECONDS = 0.1
"""A page that reads documents ends after this time, however few rows it has (docs/reference/query.md)."""

_CHUNK = 2000
_LAST = "\U0010ffff"
"""Sorts after the name of every module."""


class ContinuationInvalid(Exception):
    """The continuation was not issued for this query."""

    def __init__(self) -> None:
        super().__init__("the continuation was not issued for this query; start again without it")


class QueryPage(msgspec.Struct, frozen=True):
    """A page of rows, and the continuation of the next page; `None` at the end."""

    rows: list[QueryRow]
    continuation: str | None


class _Location(msgspec.Struct, frozen=True, array_like=True):
    """The row to continue after, and the query's digest; `bounds` are the ordinals of each partition at the first page."""

    query: str
    partition: int
    ordinal: int
    module: str
    left: int
    bounds: tuple[int, ...]


class QueryEngine:
    """Runs queries on the projections and documents of a fleet."""

    def __init__(
        self,
        log: Log,
        projections: ProjectionStore,
        *,
        clock: Callable[[], float] = time.monotonic,
        besides: "QueryEngine | None" = None,
    ) -> None:
        """`besides` is a second engine in which a scope must hold too, for the same registration: the present, for past reads."""
        # Without it, a read of the past would show devices that have left the caller's scope since (decisions/0029).
        self._log, self._projections, self._clock, self._besides = log, projections, clock, besides
        self.logs: tuple[Log, ...] = (log,) if besides is None else (log, *besides.logs)

    def page(
        self,
        query: Query,
        *,
        size: int = PAGE_DEFAULT,
        continuation: str | None = None,
        scope: Expression | None = None,
    ) -> QueryPage:
        """The next rows of a query. A `scope` limits it to the devices for which it is true, and their modules.

        Raises:
            ContinuationInvalid: the continuation was not issued for this query.
        """
        if query.source is QuerySource.JOBS:
            return QueryPage([], None)
        if is_aggregate(query):
            rows = self._aggregated(query, scope)
            return QueryPage(rows if query.top is None else rows[: query.top], None)
        location = self._location(query, continuation)
        left = size if location.left < 0 else min(size, location.left)
        rows, last = self._collected(query, scope, location, left)
        remaining = -1 if location.left < 0 else location.left - len(rows)
        if last is None or remaining == 0:
            return QueryPage(rows, None)
        token = base64.urlsafe_b64encode(canonical.encode(msgspec.structs.replace(last, left=remaining))).decode()
        return QueryPage(rows, token)

    def count(self, query: Query, *, scope: Expression | None = None) -> int:
        """How many rows a query has, on all pages."""
        if query.source is QuerySource.JOBS:
            return 0
        if is_aggregate(query):
            rows = len(self._aggregated(query, scope))
        else:
            rows = 0
            for part in self._parts(query, scope):
                sure = sum(len(bounds.sure) for bounds in part.bounds.values()) if part.index_counts else 0
                rows += sure + sum(1 for _ in (part.doubtful() if part.index_counts else part.raw()))
        return rows if query.top is None else min(rows, query.top)

    def within(self, number: int, scope: Expression) -> BitMap:
        """The ordinals of a partition whose devices are in a scope, evaluated on their own twins as target conditions are."""
        (index,) = indexes(self._projections, [number], scope)
        return self._allowed(index, scope)

    def _allowed(self, index: PartitionIndex, scope: Expression) -> BitMap:
        bounds = select_bounds(scope, index)
        allowed, doubtful = BitMap(bounds.sure), bounds.maybe - bounds.sure
        if doubtful:
            query = Query(select=(Projection(("deviceId",)),), where=scope)
            rows = QueryRows(self._log, self._projections, index, query, overlaid=False)
            part = _Part(index, query, {"": Bounds(BitMap(), doubtful)}, rows, row_test(scope))
            ahead = iter(doubtful)
            while ordinals := list(itertools.islice(ahead, _CHUNK)):
                allowed.update(ordinal for ordinal, _, _ in part.rows(ordinals))
        return allowed if self._besides is None else allowed & self._besides.within(index.number, scope)

    # -- pages

    def _location(self, query: Query, continuation: str | None) -> _Location:
        digest = hashlib.sha256(printed_query(query).encode()).hexdigest()[:16]
        if continuation is None:
            everywhere = self._projections.read_each(range(self._log.partitions))
            bounds = tuple(stored.checkpoint.ordinals for stored in everywhere)
            return _Location(digest, 0, -1, "", -1 if query.top is None else query.top, bounds)
        try:
            location = msgspec.json.decode(base64.urlsafe_b64decode(continuation.encode("ascii")), type=_Location)
        except (binascii.Error, ValueError, msgspec.DecodeError):
            raise ContinuationInvalid from None
        numbers = range(self._log.partitions)
        if location.query != digest or len(location.bounds) != len(numbers) or location.partition not in numbers:
            raise ContinuationInvalid
        return location

    def _collected(
        self, query: Query, scope: Expression | None, location: _Location, size: int
    ) -> tuple[list[QueryRow], _Location | None]:
        """At most `size` rows after a location, and the location to continue from; `None` if no row can follow.

        At least one more row follows, unless the time limit ended the page.
        """
        rows: list[QueryRow] = []
        last = location
        end = self._clock() + READING_SECONDS
        parts = self._parts(query, scope, first=location.partition)
        for part in parts:
            number = part.index.number
            behind, module = (location.ordinal, location.module) if number == location.partition else (-1, "")
            # A page that ended between two devices starts with the second. So every page makes progress, however slow it is.
            ahead = part.ahead(behind, location.bounds[number], again=module not in {"", _LAST})
            while ordinals := list(itertools.islice(ahead, part.chunk(size - len(rows)))):
                for ordinal, name, row in part.rows(ordinals):
                    if ordinal == behind and name <= module:
                        continue
                    if len(rows) == size:
                        return rows, last
                    rows.append(row)
                    last = msgspec.structs.replace(location, partition=number, ordinal=ordinal, module=name)
                last = msgspec.structs.replace(location, partition=number, ordinal=ordinals[-1], module=_LAST)
                if self._clock() > end:
                    later = (part.ahead(-1, location.bounds[part.index.number], again=False) for part in parts)
                    left = itertools.chain(ahead, itertools.chain.from_iterable(later))
                    return rows, None if next(left, None) is None else last
        return rows, None

    # -- the parts of a query, by partition

    def _parts(self, query: Query, scope: Expression | None, *, first: int = 0) -> Iterator["_Part"]:
        documents = dict(deployments(self._log)) if query.source is QuerySource.MODULES else {}
        test = row_test(query.where)
        scope_test = None if scope is None else row_test(scope)
        for index in self._indexes(query, scope, first):
            allowed = None if scope is None else self._allowed(index, scope)
            rows = QueryRows(self._log, self._projections, index, query)
            if query.source is QuerySource.DEVICES:
                bounds = {"": _within(select_bounds(query.where, index), allowed)}
            else:
                bounds = self._of_modules(query, index, rows, documents, allowed)
            yield _Part(index, query, bounds, rows, test, scope_test, self.logs)

    def _indexes(self, query: Query, scope: Expression | None, first: int) -> Iterator[PartitionIndex]:
        # A page often ends in the partition that it begins with, so that one is read alone; an aggregate needs all.
        ahead = 0 if is_aggregate(query) else 1
        for numbers in (range(first, first + ahead), range(first + ahead, self._log.partitions)):
            if numbers:
                yield from indexes(self._projections, numbers, query.where, scope)

    def _of_modules(
        self,
        query: Query,
        index: PartitionIndex,
        rows: QueryRows,
        documents: dict[str, DeploymentDocument],
        allowed: BitMap | None,
    ) -> dict[str, Bounds]:
        """Bounds by module id, without modules that no device has."""
        bounds_by_module = {}
        names = selectable_module_ids(query.where)
        for name in sorted(rows.all_module_ids() if names is None else names):
            contents = ((id_, document.content.get("modulesContent", {})) for id_, document in documents.items())
            contributing = frozenset(id_ for id_, content in contents if contributes(content, name))
            modules = ModuleIndex(self._projections, index, name, contributing)
            bounds = _within(select_bounds(query.where, modules), allowed)
            if bounds.maybe:
                bounds_by_module[name] = bounds
        return bounds_by_module

    # -- numbers

    def _aggregated(self, query: Query, scope: Expression | None) -> list[QueryRow]:
        result = Aggregating(query)
        aggregates = (item for item in query.select if not isinstance(item, Projection))
        counting = all(item.function is Function.COUNT and item.path is None for item in aggregates)
        for part in self._parts(query, scope):
            groups = part.groups() if counting and part.index_counts else None
            for group_key, count in groups or ():
                result.add_count(group_key, count)
            for row in part.raw() if groups is None else part.doubtful():
                result.add(row)
        return result.results()


@dataclass(eq=False)
class _Part:
    """One partition of a query: bounds on the ordinals by module (`""` for devices).

    A device must be in the `scope` in each of the `logs`. It is checked on documents too, which may be ahead of the projections.
    """

    index: PartitionIndex
    query: Query
    bounds: dict[str, Bounds]
    query_rows: QueryRows
    test: Callable[[QueryRow], bool]
    scope: Callable[[QueryRow], bool] | None = None
    logs: tuple[Log, ...] = ()

    @property
    def index_counts(self) -> bool:
        """Whether the index alone can count: in several logs, it cannot tell one registration of an id from the next."""
        return self.scope is None or len(self.logs) == 1

    @cached_property
    def _is_sure(self) -> bool:
        return all(module_bounds.sure == module_bounds.maybe for module_bounds in self.bounds.values())

    def ahead(self, behind: int, bound: int, *, again: bool) -> Iterator[int]:
        """The ordinals after `behind`, or from it on with `again` (a page ended between its modules), up to a bound."""
        every = BitMap().union(*(module_bounds.maybe for module_bounds in self.bounds.values()))
        low = max(0, behind if again else behind + 1)
        every &= BitMap(range(low, max(low, bound)))
        return iter(every)

    def chunk(self, rows: int) -> int:
        """How many ordinals to read at once for a number of rows."""
        # Each ordinal of a sure part is a row; one more shows whether a further row follows.
        return min(_CHUNK, max(1, rows + 1)) if self._is_sure else _CHUNK

    def rows(self, ordinals: Sequence[int]) -> Iterator[tuple[int, str, QueryRow]]:
        """(ordinal, module, result) of the rows that fulfil the condition, in order."""
        query = self.query
        for ordinal, name, row in self._raw(ordinals):
            yield ordinal, name, self.query_rows.shown(row) if not query.select else dict(projected(query, row))

    def raw(self) -> Iterator[QueryRow]:
        """Every row that fulfils the condition, before SELECT is applied."""
        ahead = self.ahead(-1, 2**32, again=False)
        while ordinals := list(itertools.islice(ahead, _CHUNK)):
            for _, _, row in self._raw(ordinals):
                yield row

    def groups(self) -> list[tuple[tuple[object, ...] | None, int]] | None:
        """The number of sure rows in each group; `None` if the index cannot tell."""
        sure = [module_bounds.sure for module_bounds in self.bounds.values()]
        match self.query.group_by:
            case ():
                return [(None, sum(map(len, sure)))]
            case (path,) if (
                self.query.source is QuerySource.DEVICES and (column := self.index.column(path)) is not None
            ):
                groups: list[tuple[tuple[object, ...] | None, int]] = [
                    ((value,), sure[0].intersection_cardinality(members))
                    for (kind, value), members in column.items()
                    if kind in PRIMITIVE_KINDS
                ]
                # GROUP BY treats an object or an array as a missing value.
                return [*groups, ((UNDEFINED,), len(sure[0]) - sum(count for _, count in groups))]
            case _:
                return None

    def doubtful(self) -> Iterator[QueryRow]:
        """The rows that fulfil the condition, of those that the index leaves in doubt."""
        every = {name: module_bounds.maybe - module_bounds.sure for name, module_bounds in self.bounds.items()}
        ahead = iter(BitMap().union(*every.values()))
        while ordinals := list(itertools.islice(ahead, _CHUNK)):
            for ordinal, name, row in self._raw(ordinals):
                if ordinal in every[name]:
                    yield row

    def _raw(self, ordinals: Sequence[int]) -> Iterator[tuple[int, str, QueryRow]]:
        test = self.test
        candidates: Iterable[tuple[int, str]]
        if self.query.source is QuerySource.MODULES:
            maybe = [(name, bounds.maybe) for name, bounds in self.bounds.items()]
            candidates = tuple((at, name) for at in ordinals for name, members in maybe if at in members)
            built = self.query_rows.modules(candidates)
        else:
            candidates = zip(ordinals, itertools.repeat(""), strict=False)
            built = self.query_rows.devices(ordinals, sure=self._is_sure)
        gone = frozenset() if self.scope is None else self.query_rows.gone(ordinals, self.scope, self.logs)
        for (ordinal, name), row in zip(candidates, built, strict=True):
            if row is not None and ordinal not in gone and (ordinal in self.bounds[name].sure or test(row)):
                yield ordinal, name, row


def _within(bounds: Bounds, allowed: BitMap | None) -> Bounds:
    return bounds if allowed is None else Bounds(bounds.sure & allowed, bounds.maybe & allowed)
