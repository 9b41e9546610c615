"""Results of custom metrics: those that workers keep, and the others by running their queries now and then."""

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
"""A counted result is shown again for so many times what counting it took, within the bounds above."""

_KEPT_MAX = 10_000


class Counting:
    """Results of metrics by name."""

    def __init__(self, query_engine: QueryEngine, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._query_engine, self._clock = query_engine, clock
        self._counted: dict[tuple[str, str], tuple[float, int]] = {}
        self._lock = threading.Lock()
        self._at_work: dict[tuple[str, str], threading.Lock] = {}

    def results(
        self,
        document: DeploymentDocument,
        kept: Mapping[str, int],
        *,
        until: float = math.inf,
        scope: Scope | None = None,
    ) -> dict[str, int]:
        """How many rows each metric of a deployment has.

        From `until` on (a time of the clock) nothing more is counted: what was counted before is shown, or nothing. With a
        `scope`, rows within it are counted, and `kept` has to be empty.
        """
        found = {}
        for name, text in document.metrics.items():
            rows = self._rows(text, kept.get(name), until, scope)
            if rows is not None:
                found[name] = rows
        return found

    def _rows(self, text: str, kept: int | None, until: float, scope: Scope | None) -> int | None:
        try:
            query = parse(text)
        except QueryInvalid:
            return None
        if kept is not None:
            return kept if query.top is None else min(kept, query.top)
        if is_aggregate(query) and not query.group_by:
            return 1 if query.top is None else min(1, query.top)
        key = (text, "" if scope is None else scope.text)
        known = self._counted.get(key)
        if known is not None and known[0] > self._clock():
            return known[1]
        if self._clock() > until:
            return None if known is None else known[1]
        # One at a time of one query: a caller that waits gets what the one before counted. Others do not wait for it.
        with self._lock:
            at_work = self._at_work.setdefault(key, threading.Lock())
        with at_work:
            known = self._counted.get(key)
            if known is None or known[0] <= self._clock():
                known = self._count(key, query, scope)
        return known[1]

    def _count(self, key: tuple[str, str], query: Query, scope: Scope | None) -> tuple[float, int]:
        start = self._clock()
        try:
            rows = self._query_engine.count(query, scope=None if scope is None else scope.condition)
        finally:
            with self._lock:
                self._at_work.pop(key, None)
        fresh = min(max(_FRESH_SECONDS[0], _FRESH_FACTOR * (self._clock() - start)), _FRESH_SECONDS[1])
        with self._lock:
            if len(self._counted) >= _KEPT_MAX:
                self._counted.clear()
            counted = self._counted[key] = (self._clock() + fresh, rows)
        return counted
