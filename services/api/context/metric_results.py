"""Results of custom metrics: from the projections, or counted by running their queries from time to time."""

import math
import threading
import time
from collections.abc import Callable, Mapping

from events.access.scope import Scope
from events.deployment.state import DeploymentDocument
from events.projection_store.query_engine import QueryEngine
from events.query.errors import QueryInvalid
from events.query.parse import parse
from events.query.tree import Query, is_aggregate

_FRESH_SECONDS = (0.5, 60.0)
_FRESH_FACTOR = 20
"""A counted result is reused for this multiple of the time that counting took, within the bounds above."""

_RESULTS_MAX = 10_000


class MetricResults:
    """Results of metrics by name."""

    def __init__(self, query_engine: QueryEngine, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._query_engine, self._clock = query_engine, clock
        self._counted: dict[tuple[str, str], tuple[float, int]] = {}
        self._lock = threading.Lock()
        self._at_work: dict[tuple[str, str], threading.Lock] = {}

    def results(
        self,
        document: DeploymentDocument,
        projected: Mapping[str, int],
        *,
        until: float = math.inf,
        scope: Scope | None = None,
    ) -> dict[str, int]:
        """How many rows each metric of a deployment has.

        `projected` are results that workers keep. From `until` on (a time of the clock) nothing more is counted: an older result
        is reused, or the metric is missing. With a `scope`, rows within it are counted, and `projected` must be empty.
        """
        results = {}
        for name, text in document.metrics.items():
            rows = self._rows(text, projected.get(name), until, scope)
            if rows is not None:
                results[name] = rows
        return results

    def _rows(self, text: str, projected: int | None, until: float, scope: Scope | None) -> int | None:
        try:
            query = parse(text)
        except QueryInvalid:
            return None
        if projected is None and is_aggregate(query) and not query.group_by:
            projected = 1
        if projected is not None:
            return projected if query.top is None else min(projected, query.top)
        key = (text, "" if scope is None else scope.text)
        counted = self._counted.get(key)
        if counted is not None and counted[0] > self._clock():
            return counted[1]
        if self._clock() > until:
            return None if counted is None else counted[1]
        # A query runs once at a time: callers that wait get its result. Other queries do not wait for it.
        with self._lock:
            at_work = self._at_work.setdefault(key, threading.Lock())
        with at_work:
            counted = self._counted.get(key)
            if counted is None or counted[0] <= self._clock():
                counted = self._count(key, query, scope)
        return counted[1]

    def _count(self, key: tuple[str, str], query: Query, scope: Scope | None) -> tuple[float, int]:
        start = self._clock()
        try:
            rows = self._query_engine.count(query, scope=None if scope is None else scope.condition)
        finally:
            with self._lock:
                self._at_work.pop(key, None)
        fresh = min(max(_FRESH_SECONDS[0], _FRESH_FACTOR * (self._clock() - start)), _FRESH_SECONDS[1])
        with self._lock:
            if len(self._counted) >= _RESULTS_MAX:
                self._counted.clear()
            counted = self._counted[key] = (self._clock() + fresh, rows)
        return counted
