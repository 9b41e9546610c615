"""Results of custom metrics: those that workers keep, and the others by running their queries now and then."""

import threading
import time
from collections.abc import Callable, Mapping

from events.deployment.state import DeploymentDocument
from events.query.errors import QueryInvalid
from events.query.parse import parse
from events.query.tree import is_aggregate
from events.view_store.querying import Querying

FRESH_SECONDS = 10.0
"""So long a counted result is shown again."""

_KEPT_MAX = 10_000


class Counting:
    """Results of metrics by name."""

    def __init__(self, querying: Querying, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._querying, self._clock = querying, clock
        self._counted: dict[str, tuple[float, int]] = {}
        self._lock = threading.Lock()

    def results(
        self, document: DeploymentDocument, kept: Mapping[str, int], *, counting: bool = True
    ) -> dict[str, int]:
        """How many rows each metric of a deployment has; one that is neither kept nor counted lately is left out unless `counting`."""
        found = {}
        for name, text in document.metrics.items():
            rows = self._rows(text, kept.get(name), counting=counting)
            if rows is not None:
                found[name] = rows
        return found

    def _rows(self, text: str, kept: int | None, *, counting: bool) -> int | None:
        try:
            query = parse(text)
        except QueryInvalid:
            return None
        if kept is not None:
            return kept if query.top is None else min(kept, query.top)
        if is_aggregate(query) and not query.group_by:
            return 1 if query.top is None else min(1, query.top)
        known = self._counted.get(text)
        if known is not None and known[0] > self._clock():
            return known[1]
        if not counting:
            return None if known is None else known[1]
        # One at a time: whoever waits finds what the one before counted.
        with self._lock:
            known = self._counted.get(text)
            if known is None or known[0] <= self._clock():
                if len(self._counted) >= _KEPT_MAX:
                    self._counted.clear()
                known = self._counted[text] = (self._clock() + FRESH_SECONDS, self._querying.count(query))
            return known[1]
