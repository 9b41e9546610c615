"""Samples the counts and metrics of deployments over time."""

from collections.abc import Callable

from events.projection_store.fleet_projection import FleetProjection
from events.projection_store.series import Sample, SeriesStore


class Sampler:
    """Samples the counts and metrics of every deployment; one process does so in each interval."""

    def __init__(
        self,
        series: SeriesStore,
        fleet_projection: FleetProjection,
        *,
        interval_seconds: float,
        clock: Callable[[], int],
    ) -> None:
        self._series, self._fleet_projection = series, fleet_projection
        self._interval_ms = round(1000 * interval_seconds)
        self._clock = clock

    def once(self) -> bool:
        """Sample, unless a process did within the interval; returns whether this call sampled.

        Raises:
            LogUnavailable: Redis did not answer.
        """
        if not self._series.claim(self._interval_ms):
            return False
        at, metrics = self._clock(), self._fleet_projection.metrics()
        counts = self._fleet_projection.status()
        self._series.add(at, {name: Sample(at, dict(counts[name]), metrics.get(name, {})) for name in sorted(counts)})
        return True
