"""What Prometheus reads: how far each partition is behind, what is blocked, and the requests of this process."""

from collections.abc import Iterator

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from typing_extensions import override

from events.log.errors import LogError
from events.log.keys import FLEET, name
from services.api.room import Room


class Metrics:
    """The counters of one process, and what is read from Redis when they are asked for."""

    def __init__(self, room: Room) -> None:
        self._registry = CollectorRegistry()
        self._registry.register(_Partitions(room))
        self._requests = Counter(
            "twinfold_requests", "Requests answered.", ["method", "status"], registry=self._registry
        )
        self._seconds = Histogram("twinfold_request_seconds", "How long they took.", registry=self._registry)

    def note(self, method: str, status: int, seconds: float) -> None:
        """Count a request."""
        self._requests.labels(method, str(status)).inc()
        self._seconds.observe(seconds)

    def text(self) -> str:
        """Everything, in the text format."""
        return generate_latest(self._registry).decode()


class _Partitions(Collector):
    def __init__(self, room: Room) -> None:
        self._room = room

    @override
    def collect(self) -> Iterator[Metric]:
        up = GaugeMetricFamily("twinfold_redis_up", "Whether Redis answers.")
        lag = GaugeMetricFamily("twinfold_lag_facts", "Facts that are not in the views yet.", labels=["partition"])
        late = GaugeMetricFamily("twinfold_lag_seconds", "Age of the oldest of them.", labels=["partition"])
        blocked = GaugeMetricFamily(
            "twinfold_blocked", "Stopped at a fact that cannot be folded.", labels=["partition"]
        )
        try:
            self._read(lag, late, blocked)
            up.add_metric([], 1)
        except LogError:
            up.add_metric([], 0)
        yield from (up, lag, late, blocked)

    def _read(self, lag: GaugeMetricFamily, late: GaugeMetricFamily, blocked: GaugeMetricFamily) -> None:
        log, heads = self._room.log, self._room.log.heads()
        stopped = self._room.view.blocked()
        for number in range(log.partitions):
            vector = self._room.views.checkpoint(number).vector
            behind = [(number, heads[number], vector.partition), (FLEET, heads[FLEET], vector.fleet)]
            missing = [(stream, at) for stream, head, at in behind if head > at]
            lag.add_metric([name(number)], sum(max(0, head - at) for _, head, at in behind))
            oldest = [log.read(stream, after=at, limit=1)[0].at for stream, at in missing]
            late.add_metric([name(number)], max(0.0, (self._room.clock() - min(oldest)) / 1000) if oldest else 0.0)
            blocked.add_metric([name(number)], float(number in stopped))
