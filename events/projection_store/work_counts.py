"""Counts of the workers' work, stored beside the projections of each partition. They are for metrics only."""

from collections import Counter
from collections.abc import Mapping
from typing import cast

from events.log.connect import Client, answering
from events.log.keys import key

EVENTS = "events"
COMMITS = "commits"
COMMIT_MICROSECONDS = "commit_us"
LOST = "lost"
"""Batches that were discarded because another worker committed the partition first."""

BOUNDS_MS = (1, 2, 5, 10, 25, 50, 100, 250, 500, 1000, 2500)
"""Upper bounds of the histogram of commit times; longer commits are in `COMMITS` alone."""


def bucket(bound_ms: int) -> str:
    """The field that counts the commits of at most `bound_ms`, and more than the bound before it."""
    return f"commit_le_{bound_ms}ms"


class ProcessWork:
    """Counts of one process since the last `take`; a killed process loses only these."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()

    def committed(self, events: int, seconds: float) -> None:
        """Count a commit: events applied for it, and the time of the commit itself."""
        self._counts[EVENTS] += events
        self._counts[COMMITS] += 1
        self._counts[COMMIT_MICROSECONDS] += round(seconds * 1_000_000)
        bound = next((bound for bound in BOUNDS_MS if seconds * 1000 <= bound), None)
        if bound is not None:
            self._counts[bucket(bound)] += 1

    def lost(self) -> None:
        """Count a batch that another worker committed first."""
        self._counts[LOST] += 1

    def take(self) -> Mapping[str, int]:
        """Return the counts and reset them."""
        counts, self._counts = self._counts, Counter()
        return counts


class WorkCounts:
    """The sums over all processes, in one hash per partition."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def add(self, partition: int, counts: Mapping[str, int]) -> None:
        """Add to a partition's counts.

        Raises:
            LogUnavailable: Redis did not answer.
        """
        if not counts:
            return
        with answering():
            # No transaction: counts are for metrics, and a partial sum does no harm.
            pipe = self._client.pipeline(transaction=False)
            for field, count in counts.items():
                pipe.hincrby(key(partition, "work"), field, count)
            pipe.execute()

    def total(self, partitions: int) -> Mapping[str, int]:
        """The counts summed over all partitions.

        Raises:
            LogUnavailable: as `add`.
        """
        total: Counter[str] = Counter()
        with answering():
            for partition in range(partitions):
                fields = cast("dict[bytes, bytes]", self._client.hgetall(key(partition, "work")))
                total.update({field.decode(): int(value) for field, value in fields.items()})
        return total
