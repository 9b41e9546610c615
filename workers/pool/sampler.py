"""Samples the counts and metrics of deployments over time."""

from events.clock import now_ms
from events.projection_store.fleet_projection import FleetProjection
from events.projection_store.series import Sample, SeriesStore


class Sampler:
    """Samples the counts and metrics of every deployment; one process does so in each interval."""

    def __init__(self, series: SeriesStore, fleet_projection: FleetProjection, *, interval_seconds: float) -> None:
        self._series, self._fleet_projection = series, fleet_projection
        self._interval_ms = round(1000 * interval_seconds)

    def once(self) -> bool:
        """Sample, unless a process did within the interval; returns whether this call sampled.

        Raises:
            LogUnavailable: Redis did not answer.
        """
        if not self._series.claim(self._interval_ms):
            return False
        at, metrics = now_ms(), self._fleet_projection.metrics()
        counts = self._fleet_projection.status()
        self._series.add(at, {name: Sample(at, dict(counts[name]), metrics.get(name, {})) for name in sorted(counts)})
        return True
