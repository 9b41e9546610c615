"""Keeps worker processes alive, sweeps, and has webhooks delivered and older facts archived."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time

import structlog
from redis import Redis
from redis.exceptions import RedisError

from events.log.errors import DepotUnavailable, LogUnavailable
from events.log.opening import open_log
from events.log.wake import QUEUE, Waker
from events.notification.deliveries import Deliveries
from events.notification.feed import Feed
from events.settings import Settings, environment_of
from events.view_store.fleet_view import FleetView
from events.view_store.redis import RedisViewStore
from events.view_store.series import SeriesStore
from workers import deliver
from workers.context import now_ms
from workers.lifeline import SUPERVISED
from workers.pool.archiving import Archiving
from workers.pool.pump import INTERVAL_SECONDS as PUMP_SECONDS
from workers.pool.pump import Pump
from workers.pool.sampling import Sampling
from workers.pool.snapshotting import INTERVAL_SECONDS as SNAPSHOT_SECONDS
from workers.pool.snapshotting import Snapshotting
from workers.pool.sweep import INTERVAL_SECONDS, Sweep

BACK_OFF_SECONDS_MAX = 10.0
STOP_SECONDS_MAX = 15.0

logger = structlog.get_logger()


class Child:
    """One worker process, started again with back-off when it dies."""

    def __init__(self, settings: Settings, queue: str) -> None:
        self._settings = settings
        self._queue = queue
        self._back_off_seconds = 0.1
        self._again_at = 0.0
        self.process = self._start()

    def _start(self) -> subprocess.Popen[bytes]:
        self._started_at = time.monotonic()
        # A session of its own: Ctrl-C at the terminal reaches the supervisor alone, which stops the children in order.
        command = [sys.executable, "-m", "workers", self._queue]
        return subprocess.Popen(  # noqa: S603 - our own module
            command, env={**os.environ, **environment_of(self._settings), SUPERVISED: "1"}, start_new_session=True
        )

    def tend(self) -> None:
        """Start the process again if it died, later each time it dies young."""
        code = self.process.poll()
        if code is None:
            return
        now = time.monotonic()
        if not self._again_at:
            if now - self._started_at > BACK_OFF_SECONDS_MAX:
                self._back_off_seconds = 0.1
            self._again_at = now + self._back_off_seconds
            self._back_off_seconds = min(2 * self._back_off_seconds, BACK_OFF_SECONDS_MAX)
            logger.warning("worker died", pid=self.process.pid, code=code, again_in_seconds=self._again_at - now)
        elif now >= self._again_at:
            self._again_at = 0.0
            self.process = self._start()

    def stop(self) -> None:
        """Ask the process to finish its batch and end; insist after a while."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)

    def wait(self, until: float) -> None:
        """Wait for the end."""
        try:
            self.process.wait(max(0.0, until - time.monotonic()))
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


class Supervisor:
    """Worker processes and the sweep, until `stop`."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._stopping = threading.Event()
        log = open_log(settings.redis_url, allow_volatile=settings.allow_volatile_redis)
        queue = Redis.from_url(settings.effective_queue_url)
        views = RedisViewStore(log.client)
        self._sweep = Sweep(log, views, Waker(queue, partitions=log.partitions), queue)
        view = FleetView(views, partitions=log.partitions)
        self._sampling = Sampling(
            SeriesStore(log.client),
            view,
            interval_seconds=settings.series_seconds,
            clock=now_ms,
        )
        hints = deliver.Hints(queue)
        self._pump = Pump(log, Feed(log, views), Deliveries(log.client), hints, clock=now_ms)
        self._archiving = Archiving(log, settings, clock=now_ms)
        self._snapshotting = Snapshotting(log, settings) if settings.history_snapshot_facts else None
        self._has_webhooks = threading.Event()
        self.children: list[Child] = []

    def run(self) -> None:
        """Start the workers, tend them and sweep until `stop` is called from a signal handler or another thread."""
        self.children = [Child(self._settings, QUEUE) for _ in range(self._settings.workers)]
        # A sample of a large fleet takes longer than a child may be left alone.
        threading.Thread(target=self._sample, name="sampling", daemon=True).start()
        threading.Thread(target=self._pump_on, name="pump", daemon=True).start()
        threading.Thread(target=self._archive, name="archiving", daemon=True).start()
        if self._snapshotting is not None:
            threading.Thread(target=self._snapshot, args=(self._snapshotting,), name="snapshots", daemon=True).start()
        delivering = range(self._settings.webhook_workers)
        swept_at = 0.0
        while not self._stopping.wait(0.05):
            if delivering and self._has_webhooks.is_set():
                self.children += [Child(self._settings, deliver.QUEUE) for _ in delivering]
                delivering = range(0)
            for child in self.children:
                child.tend()
            if time.monotonic() - swept_at >= INTERVAL_SECONDS:
                swept_at = time.monotonic()
                self._sweep_once()
                self._beat()
        for child in self.children:
            child.stop()
        until = time.monotonic() + STOP_SECONDS_MAX
        for child in self.children:
            child.wait(until)

    def _sample(self) -> None:
        while not self._stopping.wait(min(1.0, self._settings.series_seconds / 4)):
            try:
                self._sampling.once()
            except LogUnavailable as error:
                logger.warning("sample postponed", error=str(error))

    def _archive(self) -> None:
        while not self._stopping.wait(self._settings.archive_seconds):
            try:
                self._archiving.once(go_on=lambda: not self._stopping.is_set())
            except LogUnavailable as error:
                logger.warning("archiving postponed", error=str(error))

    def _snapshot(self, snapshotting: Snapshotting) -> None:
        while not self._stopping.wait(SNAPSHOT_SECONDS):
            try:
                snapshotting.once(go_on=lambda: not self._stopping.is_set())
            except (LogUnavailable, DepotUnavailable) as error:
                logger.warning("snapshots postponed", error=str(error))

    def _pump_on(self) -> None:
        while not self._stopping.wait(PUMP_SECONDS):
            try:
                if self._pump.once():
                    self._has_webhooks.set()
            except (LogUnavailable, RedisError) as error:
                logger.warning("deliveries postponed", error=str(error))

    def _sweep_once(self) -> None:
        try:
            stuck = self._sweep.once()
        except (LogUnavailable, RedisError) as error:
            logger.warning("sweep postponed", error=str(error))
            return
        if stuck:
            logger.info("woke lagging partitions", partitions=stuck)

    def _beat(self) -> None:
        file = self._settings.heartbeat_file
        if file is not None and all(child.process.poll() is None for child in self.children):
            with contextlib.suppress(OSError):
                file.touch()

    def stop(self) -> None:
        """End `run` soon; may be called from a signal handler."""
        self._stopping.set()
