"""Keeps worker processes alive, and runs the reconciler, the dispatcher, the sampler and the jobs beside the workers."""

import contextlib
import sys
import threading
import time
from collections.abc import Callable

import structlog
from redis import Redis
from redis.exceptions import RedisError

from events.clock import now_ms
from events.log.claims import Claims, process_name
from events.log.errors import LogUnavailable, ObjectStoreUnavailable
from events.log.log_factory import open_log
from events.log.wake import QUEUE, WakeFailed, Waker
from events.notification.deliveries import Deliveries
from events.notification.feed import Feed
from events.processes.child import Child
from events.processes.postponed import Postponed
from events.processes.supervised import Continued, ProcessEnded, Supervised
from events.processes.wake import Wake
from events.projection_store.fleet_projection import FleetProjection
from events.projection_store.port import CheckpointDamaged
from events.projection_store.redis import RedisProjectionStore
from events.projection_store.series import Sample, SeriesStore
from events.settings import Settings, environment_of, is_cluster
from workers.delivery_queue import QUEUE as DELIVERY_QUEUE
from workers.pool.child_job import archive_job, snapshot_job
from workers.pool.dispatcher import DISPATCH_SECONDS, IDLE_SECONDS, Dispatcher
from workers.pool.reconciler import INTERVAL_SECONDS, Reconciler
from workers.pool.tail_watch import TAIL_SECONDS, TailWatch

STOP_SECONDS_MAX, SNAPSHOT_SECONDS = 15.0, 5.0
BEHIND_SECONDS = 30.0
"""How long a partition may be behind without moving before it is logged; at a start every partition is behind for a while."""

logger = structlog.get_logger()


class Supervisor:
    """Worker processes and the reconciler, until `stop`."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._stopping, self._has_webhooks = threading.Event(), threading.Event()
        self._wake, self._dispatch_seconds = Wake(), IDLE_SECONDS
        self._sampled: object = None
        self._behind_since: dict[int, float] = {}
        self._is_late = False
        log = open_log(settings.redis_url, allow_volatile=settings.allow_volatile_redis)
        queue = Redis.from_url(settings.effective_queue_url)
        projections = RedisProjectionStore(log.client)
        self._log, self._projections = log, projections
        self._waker, self._claims = Waker(queue), Claims(log.client, partitions=log.partitions)
        self._reconciler = Reconciler(log, projections, self._waker)
        # On one server, the notes would be lost together with the events.
        self._tail_watch = TailWatch(log, projections) if is_cluster(settings.redis_url) else None
        self._series = SeriesStore(log.client)
        self._fleet_projection = FleetProjection(projections, partitions=log.partitions)
        self._dispatcher = Dispatcher(log, Feed(log, projections), Deliveries(log.client), queue)
        self._archive_job = archive_job(log, settings)
        self._snapshot_job = snapshot_job(log, settings) if settings.history_snapshot_events else None
        self._postponed = Postponed(LogUnavailable, ObjectStoreUnavailable, CheckpointDamaged, RedisError, WakeFailed)
        self.children: list[Supervised] = []

    def run(self) -> None:
        """Start the workers, tend them and reconcile until `stop` is called from a signal handler or another thread."""
        self.children = [self._worker(QUEUE) for _ in range(self._settings.workers)]
        # These run in threads: a sample of a large fleet takes longer than a child may stay untended.
        self._every(_sample_check_seconds(self._settings.series_seconds), "sample", self._sample_once)
        self._every(lambda: self._dispatch_seconds, "deliveries", self._dispatch_once)
        self._every(self._settings.archive_seconds, "archiving", lambda: self._archive_job.once(self._stopping))
        if self._tail_watch is not None:
            self._every(TAIL_SECONDS, "lost tails", self._tail_watch.once)
        if (job := self._snapshot_job) is not None:
            self._every(SNAPSHOT_SECONDS, "snapshots", lambda: job.once(self._stopping))
        delivering = range(self._settings.webhook_workers)
        reconciled_at = 0.0
        while not self._stopping.is_set():
            # Delivery workers cost memory, so they start with the first webhook. They are processes of their own, as a
            # slow receiver must not hold up projections (decisions/0022).
            if delivering and self._has_webhooks.is_set():
                self.children += [self._worker(DELIVERY_QUEUE) for _ in delivering]
                delivering = range(0)
            for child in self.children:
                child.tend()
            if time.monotonic() - reconciled_at >= INTERVAL_SECONDS:
                reconciled_at = time.monotonic()
                with self._postponed.attempt("reconciler"):
                    self._reconcile_once()
                file = self._settings.heartbeat_file
                if file is not None and all(child.is_running for child in self.children):
                    # A full or read-only disk must not end the pool; the old file then makes the health check fail.
                    with contextlib.suppress(OSError):
                        file.touch()
            due_in_seconds = reconciled_at + INTERVAL_SECONDS - time.monotonic()
            self._wake.wait(min([due_in_seconds, *(child.tend_in_seconds for child in self.children)]))
        for child in self.children:
            child.terminate()
        # One deadline for all: they finish their batches at the same time.
        until = time.monotonic() + STOP_SECONDS_MAX
        for child in self.children:
            child.end(until - time.monotonic())

    def _worker(self, queue: str) -> Supervised:
        environment = environment_of(self._settings)
        command = [sys.executable, "-m", "workers", queue]
        return Supervised("worker", lambda: Child(command, environment), tell=self._tell, on_end=self._wake.wake)

    def _every(self, seconds: float | Callable[[], float], what: str, act: Callable[[], object]) -> None:
        """Call `act` every `seconds` until the pool stops, in a thread of its own."""

        def repeat() -> None:
            while not self._stopping.wait(seconds() if callable(seconds) else seconds):
                with self._postponed.attempt(what):
                    act()

        threading.Thread(target=repeat, name=what, daemon=True).start()

    def _sample_once(self) -> None:
        """Sample the counts and metrics of every deployment, unless another process did within the interval."""
        if self._series.claim(round(1000 * self._settings.series_seconds)):
            # Counts and metrics follow from the log and the projections alone, and a sample like the last one is not stored.
            position = dict(self._log.heads()), self._projections.states(range(self._log.partitions))
            if position == self._sampled:
                return
            at, metrics = now_ms(), self._fleet_projection.metrics()
            counts = self._fleet_projection.status()
            self._series.add(
                at, {name: Sample(at, dict(counts[name]), metrics.get(name, {})) for name in sorted(counts)}
            )
            self._sampled = position

    def _dispatch_once(self) -> None:
        has_webhooks = self._dispatcher.once()
        self._dispatch_seconds = DISPATCH_SECONDS if has_webhooks else IDLE_SECONDS
        if has_webhooks and not self._has_webhooks.is_set():
            self._has_webhooks.set()
            self._wake.wake()

    def _reconcile_once(self) -> None:
        stuck, now = self._reconciler.once(), time.monotonic()
        self._behind_since = {number: self._behind_since.get(number, now) for number in stuck}
        late = [number for number, since in self._behind_since.items() if now - since > BEHIND_SECONDS]
        if late and not self._is_late:
            logger.warning("partitions are behind and do not move: are there workers?", partitions=late)
        self._is_late = bool(late)

    def stop(self) -> None:
        """End `run` soon; may be called from a signal handler."""
        self._stopping.set()
        self._wake.wake()

    def _tell(self, change: ProcessEnded | Continued) -> None:
        match change:
            case ProcessEnded(pid=pid, code=code, reason=reason, again_in_seconds=seconds):
                logger.warning("worker died", pid=pid, code=code, reason=reason, again_in_seconds=seconds)
                # Another worker goes on with its streams at once, and not when its claims have expired.
                with self._postponed.attempt("claims of a worker that died"):
                    self._claims.leave_for(process_name(pid))
                    self._waker.wake(self._claims.streams)
            case Continued(pid=pid):
                logger.warning("a worker was stopped, and is continued", pid=pid)


def _sample_check_seconds(series_seconds: float) -> float:
    """The time between two attempts to take the next sample: a twentieth of the interval, within a quarter of it and a second."""
    return max(series_seconds / 20, min(1.0, series_seconds / 4))
