"""Metrics for Prometheus: events and the lag of each partition, the work of workers, and the requests of all processes on this port."""

import itertools
import os
from collections.abc import Callable, Iterator

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector
from typing_extensions import override

from events.audit.errors import SealUnreadable
from events.audit.seal_store import Seals, ahead_ms
from events.log.connect import why_not_writable
from events.log.entries import stream_names
from events.log.errors import LogError
from events.log.fleet_documents import webhooks
from events.log.keys import FLEET, name
from events.notification.deliveries import Deliveries, current_progress
from events.notification.feed import Feed
from events.notification.positions import lag
from events.projection_store import work_counts
from services.api.context.api_context import ApiContext
from services.api.context.followers import Followers
from services.api.context.long_poll import WaitingDevices
from services.api_processes import shared_metrics


class ApiMetrics:
    """The counters of all API processes on this port, and the metrics that are read from Redis at each scrape."""

    def __init__(self, context: ApiContext, waiting: WaitingDevices, followers: Followers) -> None:
        self._registry = registry = CollectorRegistry()
        self._requests = Counter("twinfold_requests", "Requests answered.", ["method", "status"], registry=None)
        self._answered: dict[tuple[str, int], Counter] = {}
        self._seconds = Histogram("twinfold_request_seconds", "How long they took.", registry=None)
        # Redis has the state of the whole system, so that every API process reports the same.
        for read in (_partitions, _webhooks, _workers, _seals):
            registry.register(_ReadFromRedis(context, read))
        self._shared = shared_metrics()
        if self._shared is not None:
            # A scrape reaches one of the processes, and must not report its share as the whole.
            MultiProcessCollector(registry, path=str(self._shared))  # type: ignore[no-untyped-call]
            return
        for collector in (
            waiting.gauge,
            followers.gauge,
            context.conflicts,
            context.fetches,
            self._requests,
            self._seconds,
        ):
            registry.register(collector)

    def note(self, method: str, status: int, seconds: float) -> None:
        """Count a request."""
        answered = self._answered.get((method, status))
        if answered is None:
            # Looking the labels up takes longer than counting.
            answered = self._answered[method, status] = self._requests.labels(method, str(status))
        answered.inc()
        self._seconds.observe(seconds)

    def text(self) -> str:
        """Everything, in the text format."""
        for file in () if self._shared is None else self._shared.glob("gauge_live*_*.db"):
            # A process that was killed has no clients any more. What it had counted remains.
            if not _is_alive(int(file.stem.rpartition("_")[2])):
                file.unlink(missing_ok=True)
        return generate_latest(self._registry).decode()


def _is_alive(pid: int) -> bool:
    """Whether an API process with this id runs."""
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, PermissionError):  # The second: the id is in use again, by another user's process.
        return False
    return True


class _ReadFromRedis(Collector):
    def __init__(self, context: ApiContext, read: Callable[[ApiContext], Iterator[Metric]]) -> None:
        self._context, self._read = context, read

    @override
    def collect(self) -> Iterator[Metric]:
        return self._read(self._context)


def _partitions(context: ApiContext) -> Iterator[Metric]:
    up = GaugeMetricFamily("twinfold_redis_up", "Whether Redis answers.")
    writable = GaugeMetricFamily("twinfold_redis_writable", "Whether Redis would take a write.")
    lag = GaugeMetricFamily("twinfold_lag_events", "Events that are not in the projections yet.", labels=["partition"])
    late = GaugeMetricFamily(
        "twinfold_lag_seconds", "Age of the oldest event that is not in the projections yet.", labels=["partition"]
    )
    blocked = GaugeMetricFamily("twinfold_blocked", "Stopped at an event that cannot be applied.", labels=["partition"])
    events = CounterMetricFamily("twinfold_events", "Events in the log.", labels=["stream"])
    log = context.log
    try:
        heads = log.heads()
        for stream, head in heads.items():
            events.add_metric([name(stream)], head)
        stopped = context.fleet_projection.blocked()
        for number in range(log.partitions):
            vector = context.projections.checkpoint(number).vector
            behind = [(number, heads[number], vector.partition), (FLEET, heads[FLEET], vector.fleet)]
            lag.add_metric([name(number)], sum(max(0, head - at) for _, head, at in behind))
            oldest = [log.read(stream, after=at, limit=1)[0].at for stream, head, at in behind if head > at]
            late.add_metric([name(number)], max(0.0, (context.clock() - min(oldest)) / 1000) if oldest else 0.0)
            blocked.add_metric([name(number)], float(number in stopped))
        writable.add_metric([], float(why_not_writable(context.client) is None))
        up.add_metric([], 1)
    except LogError:
        up.add_metric([], 0)
    yield from (up, writable, events, lag, late, blocked)


def _workers(context: ApiContext) -> Iterator[Metric]:
    events = CounterMetricFamily("twinfold_applied_events", "Events that workers applied.")
    lost = CounterMetricFamily("twinfold_commits_lost", "Batches not committed, as another worker was faster.")
    commits = HistogramMetricFamily("twinfold_commit_seconds", "How long commits of projections took.")
    try:
        counts = work_counts.WorkCounts(context.client).total(context.log.partitions)
    except LogError:
        return
    events.add_metric([], counts.get(work_counts.EVENTS, 0))
    lost.add_metric([], counts.get(work_counts.LOST, 0))
    within = itertools.accumulate(counts.get(work_counts.bucket(bound), 0) for bound in work_counts.BOUNDS_MS)
    buckets = [(str(bound / 1000), count) for bound, count in zip(work_counts.BOUNDS_MS, within, strict=True)]
    buckets.append(("+Inf", counts.get(work_counts.COMMITS, 0)))
    commits.add_metric([], buckets, counts.get(work_counts.COMMIT_MICROSECONDS, 0) / 1_000_000)
    yield from (events, lost, commits)


def _seals(context: ApiContext) -> Iterator[Metric]:
    unsealed = GaugeMetricFamily("twinfold_unsealed_entries", "Events and assignment changes behind the newest seal.")
    age = GaugeMetricFamily("twinfold_seal_age_seconds", "How old the newest seal is, while anything is behind it.")
    ahead = GaugeMetricFamily(
        "twinfold_clock_behind_log_seconds", "How far this clock is behind the newest event or seal."
    )
    seals, clock = Seals(context.client), context.clock()
    try:
        last = seals.last()
        # A seal's own time may be ahead of the clock: after a clock went back, seals continue from the newest time.
        at = seals.sealed_clock() or (0 if last is None else last.seal().at)
        ahead.add_metric([], ahead_ms(context.log, seals, clock=clock) / 1000)
        heads = Feed(context.log, context.projections).heads()
        sealed = {} if last is None else last.seal().streams
    except (LogError, SealUnreadable):
        return
    behind = sum(
        max(0, head - (sealed[stream].position if stream in sealed else 0))
        for stream, head in zip(stream_names(context.log.partitions), heads, strict=True)
    )
    unsealed.add_metric([], behind)
    age.add_metric([], max(0, clock - at) / 1000 if behind and at else 0.0)
    yield from (unsealed, age, ahead)


def _webhooks(context: ApiContext) -> Iterator[Metric]:
    deliveries = CounterMetricFamily(
        "twinfold_webhook_deliveries", "Attempts to deliver, by status or error.", labels=["webhook", "result"]
    )
    late = GaugeMetricFamily(
        "twinfold_webhook_lag_events", "Events and assignment changes before the heads.", labels=["webhook"]
    )
    paused = GaugeMetricFamily("twinfold_webhook_paused", "Nothing is delivered.", labels=["webhook"])
    attempts, log = Deliveries(context.client), context.log
    try:
        documents, progress_by_webhook = dict(webhooks(log)), attempts.all()
        counts, heads = attempts.counts(), Feed(log, context.projections).heads()
    except LogError:
        return
    for (webhook_id, result), count in counts.items():
        deliveries.add_metric([webhook_id, result], count)
    for webhook_id, document in documents.items():
        progress = current_progress(document, progress_by_webhook.get(webhook_id), log.partitions)
        late.add_metric([webhook_id], lag(progress.positions, heads))
        paused.add_metric([webhook_id], float(bool(document.paused)))
    yield from (deliveries, late, paused)
