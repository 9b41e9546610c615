"""Samples of a deployment's counts and metrics over time, for plots; at most `SAMPLES_MAX` for each deployment."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from events import canonical
from events.log.connect import Client, answering, entries_of
from events.log.keys import FLEET, key
from events.log.lease import take_for

# Samples depend on the clock, so they are no projections: a rebuild does not restore them (decisions/0020).
SAMPLES_MAX = 2000
_BATCH = 1000
RETENTION_MS = 30 * 24 * 3600 * 1000
"""After this time without a new sample the series is deleted, as those of deleted deployments."""


class Sample(msgspec.Struct, frozen=True):
    """Counts by status and rows by custom metric at a time, in milliseconds."""

    at: int
    counts: dict[str, int]
    metrics: dict[str, int]


class SeriesStore:
    """The samples of all deployments, in Redis."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def claim(self, interval_ms: int) -> bool:
        """Whether the caller is to sample; true for one caller in each interval."""
        return take_for(self._client, key(FLEET, "lease:series"), "1", interval_ms)

    def add(self, at: int, samples: Mapping[str, Sample]) -> None:
        """Append a sample for each deployment whose numbers changed since its last sample."""
        ordered = list(samples.items())
        for start in range(0, len(ordered), _BATCH):
            batch = ordered[start : start + _BATCH]
            with answering():
                pipe: Any = self._client.pipeline(transaction=False)
                for deployment_id, _ in batch:
                    pipe.xrevrange(_key(deployment_id), count=1)
                newest_samples = map(entries_of, pipe.execute())
                for (deployment_id, sample), newest in zip(batch, newest_samples, strict=True):
                    data = canonical.encode({"counts": sample.counts, "metrics": sample.metrics})
                    if newest and newest[0][1][b"data"] == data:
                        continue
                    pipe.xadd(_key(deployment_id), {"at": at, "data": data}, maxlen=SAMPLES_MAX)
                    pipe.pexpire(_key(deployment_id), RETENTION_MS)
                pipe.execute()

    def read(
        self, deployment_id: str, *, since: int = 0, until: float = math.inf, limit: int = SAMPLES_MAX
    ) -> Sequence[Sample]:
        """The newest samples from a time to another, oldest first."""
        with answering():
            count = limit if until == math.inf else SAMPLES_MAX
            entries = entries_of(self._client.xrevrange(_key(deployment_id), count=count))
        timed = ((int(fields[b"at"]), fields[b"data"]) for _, fields in reversed(entries))
        return [Sample(at, **msgspec.json.decode(data)) for at, data in timed if since <= at <= until][-limit:]


def _key(deployment_id: str) -> str:
    return key(FLEET, f"series:{deployment_id}")
