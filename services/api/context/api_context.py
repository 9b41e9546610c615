"""What all requests of a process share: the log, the projections, and a producer for each request."""

import contextlib
import math
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cached_property

import msgspec
from prometheus_client import Counter
from redis import Redis

from events.access.scope import Scope
from events.clock import now_ms
from events.deployment.advice import Advice
from events.device.tags import personal_paths
from events.explain.deployment_history import DeploymentHistory
from events.history.point_in_time import PointInTime
from events.log.connect import Client
from events.log.device_documents import registered_device
from events.log.keys import FLEET
from events.log.log_factory import open_log
from events.log.port import Log
from events.log.raw import RawStreams
from events.log.wake import WakeFailed, Waker
from events.manifest.problem import Severity
from events.preview.previewer import Previewer
from events.producer.errors import Command, Together
from events.producer.producer import Producer
from events.producer.readiness import CheckedReadiness, ReadinessPolicy
from events.producer.secrecy import LazyVault
from events.projection_store.fleet_projection import FleetProjection
from events.projection_store.port import ProjectionStore
from events.projection_store.query_engine import QueryEngine
from events.projection_store.readiness import FleetReadiness
from events.projection_store.redis import RedisProjectionStore
from events.projection_store.twins import TwinProjection
from events.readiness.profile import PROFILES, Profile
from events.secrets.personal import Personal
from events.secrets.redis import RedisSecretStore
from events.settings import Settings
from services.api.context.callers import Author
from services.api.context.dry_run import DryRunDone, DryRuns, PreviewCheck
from services.api.context.metric_results import MetricResults
from services.api.context.recent_assignments import RecentAssignments
from services.api.context.rollout_state import RolloutStates
from services.api.http.continuation_tokens import Continuations

TIMEOUT_SECONDS = 2.0
"""How long a request waits for Redis. The caller then gets 503 with Retry-After instead of a hanging connection."""

_ATTEMPTS = 2


WAKE_PAUSE_SECONDS = 0.05
"""How long wake-ups are collected after one was sent: under load a worker gets a batch instead of a job for each event."""


class BackgroundWaker:
    """Accepts wake-ups of workers at once and sends them from a thread, so that no answer waits for RQ."""

    def __init__(self, waker: Waker) -> None:
        self._waker, self._streams = waker, set[int]()
        self._lock, self._news = threading.Lock(), threading.Event()
        threading.Thread(target=self._run, name="waker", daemon=True).start()

    def wake(self, streams: Iterable[int]) -> None:
        """Wake the workers of these streams' partitions soon."""
        with self._lock:
            self._streams.update(streams)
        self._news.set()

    def _run(self) -> None:
        while self._news.wait():
            self._news.clear()
            with self._lock:
                streams, self._streams = self._streams, set()
            # The reconciler finds partitions that are behind, so that a lost wake-up costs time and no event.
            with contextlib.suppress(WakeFailed):
                self._waker.wake(streams)
            time.sleep(WAKE_PAUSE_SECONDS)


class ApiContext(msgspec.Struct, frozen=True, dict=True):
    """What handlers read from and write to. With a `point_in_time` it answers as of then, and writes nothing.

    The fields are what a process opens once. The properties are readers over `log` and `projections`: a context of the past
    replaces those two, and its readers follow.
    """

    settings: Settings
    client: Client
    log: Log
    projections: ProjectionStore
    continuations: Continuations
    waker: BackgroundWaker
    vault: LazyVault
    deployment_history: DeploymentHistory
    conflicts: Counter
    fetches: Counter
    clock: Callable[[], int]
    point_in_time: PointInTime | None = None
    present_queries: QueryEngine | None = None

    @cached_property
    def fleet_projection(self) -> FleetProjection:
        """Devices, deployments and their status."""
        return FleetProjection(self.projections, partitions=self.log.partitions)

    @cached_property
    def twins(self) -> TwinProjection:
        """Twins with what workers assigned."""
        return TwinProjection(self.log, self.fleet_projection)

    @cached_property
    def query_engine(self) -> QueryEngine:
        """Answers queries. In the past a scope holds devices that are in it now and were in it then."""
        return QueryEngine(self.log, self.projections, besides=self.present_queries)

    @cached_property
    def metric_results(self) -> MetricResults:
        """Results of the metrics of deployments."""
        return MetricResults(self.query_engine)

    @cached_property
    def recent_assignments(self) -> RecentAssignments:
        """The newest assignment changes."""
        return RecentAssignments(self.fleet_projection)

    @cached_property
    def readiness(self) -> FleetReadiness:
        """Findings of the readiness rules on what devices should run."""
        return FleetReadiness(self.log, self.projections)

    @cached_property
    def rollout_states(self) -> RolloutStates:
        """States of rollouts."""
        # No worker applies events to the past: waiting for one would only cost each such request half a second.
        pause = time.sleep if self.point_in_time is None else lambda _: None
        return RolloutStates(self.log, self.projections, pause=pause)

    @cached_property
    def streams(self) -> RawStreams:
        """The streams of the log, archived entries included."""
        return RawStreams(self.client)

    @cached_property
    def dry_runs(self) -> DryRuns:
        """What dry runs need."""
        return DryRuns(
            Previewer(self.log, self.projections, clock=self.clock, personal=self.vault.personal),
            self.query_engine,
            self.continuations,
            self.settings,
            log=self.log,
            readiness_policy=self.readiness_policy,
            clock=self.clock,
        )

    @contextlib.contextmanager
    def producer(self, author: Author, *commands: Command) -> Iterator[Producer]:
        """Yield a producer for one request, for one thread at a time. `commands` are what it will write, if that is known.

        Raises:
            DryRunDone: the author asked for a dry run; raised at the end.
            PreviewError: a preview is required, or something else would happen than the preview showed.
        """
        if author.preview_request is not None and author.preview_request.is_dry_run:
            trial = self.dry_runs.trial(author)
            yield trial.producer
            raise DryRunDone(self.dry_runs.preview(author, trial, commands))
        preview_check = PreviewCheck(self.dry_runs, author, self.vault.take_out)
        # A repeat of an answered request would differ from its preview: its own events are in the log.
        if author.key is None or not author.key.is_answered:
            preview_check.check(commands)
        producer = Producer(
            self.log,
            by=author.by,
            scope=author.scope,
            waker=self.waker,
            take_secrets=preview_check.take_out,
            new_keys=self.vault.new_keys,
            attempts=_ATTEMPTS,
            deployments_max=self.settings.configurations_max,
            readiness_policy=self.readiness_policy,
            before_append=lambda proposed: preview_check.check_batch(proposed, written=producers[0].written),
            key=author.key,
        )
        producers = [producer]
        try:
            yield producer
        finally:
            self.conflicts.inc(producer.conflicts)
            # Breaks the cycle of producer and callback, which would keep every rejected command until the next full garbage
            # collection.
            producers.clear()

    def as_of(self, point_in_time: PointInTime, log: Log, projections: ProjectionStore) -> "ApiContext":
        """The context over a log and projections of the past."""
        return msgspec.structs.replace(
            self,
            log=log,
            projections=projections,
            clock=lambda: point_in_time.time,
            point_in_time=point_in_time,
            present_queries=self.query_engine,
        )

    @property
    def until(self) -> float:
        """The time up to which things are shown, in milliseconds; infinite in the present."""
        return math.inf if self.point_in_time is None else self.point_in_time.time

    @property
    def profile(self) -> Profile:
        """The profile by which deployments and the fleet are checked."""
        return PROFILES[self.settings.readiness_profile]

    @property
    def readiness_policy(self) -> ReadinessPolicy | None:
        """What a new deployment has to pass; `None` when the settings switch that off."""
        refuse = self.settings.readiness_refuse
        return None if refuse == "off" else ReadinessPolicy(self.profile, Severity(refuse))

    def do(self, command: Command, author: Author) -> tuple[Advice, ...]:
        """Write one command, and return advice on it.

        Raises:
            As `producer`, or the error that rejects the command.
        """
        with self.producer(author, command) as producer:
            return producer.do(command)

    def is_repeat(self, author: Author) -> bool:
        """Whether the log has the command on the fleet of a request with a key already, so that the request is a repeat."""
        return author.key is not None and author.key.counts(self.log, FLEET, [0]) != [0]

    def do_together(
        self, author: Author, *commands: Command
    ) -> tuple[tuple[Advice, ...], Mapping[str, CheckedReadiness]]:
        """Write commands on deployments and rollouts, all or none. Returns advice, and by deployment what readiness found.

        A deployment that the readiness policy did not check is missing from the second.
        """
        with self.producer(author, *commands) as producer:
            return producer.do(Together(commands)), producer.readiness

    def reaches(self, scope: Scope, device_id: str) -> bool:
        """Whether a device is in a scope according to the log."""
        return scope.holds(device_id, registered_device(self.log, device_id))


def open_context(settings: Settings) -> ApiContext:
    """Open everything that an API process needs.

    Raises:
        As `open_log`.
    """
    log = open_log(settings.redis_url, allow_volatile=settings.allow_volatile_redis, timeout_seconds=TIMEOUT_SECONDS)
    queue = Redis.from_url(
        settings.effective_queue_url, socket_timeout=TIMEOUT_SECONDS, socket_connect_timeout=TIMEOUT_SECONDS
    )
    personal = Personal(personal_paths(settings.personal_tags))
    return ApiContext(
        settings=settings,
        client=log.client,
        log=log,
        projections=RedisProjectionStore(log.client),
        continuations=Continuations(log.client),
        waker=BackgroundWaker(Waker(queue)),
        vault=LazyVault(RedisSecretStore(log.client), settings.effective_key_file, personal=personal),
        deployment_history=DeploymentHistory(RawStreams(log.client)),
        conflicts=Counter("twinfold_conflicts", "Commands decided again after a concurrent change.", registry=None),
        fetches=Counter("twinfold_secret_fetches", "Fetches of their modules' secrets by devices.", registry=None),
        clock=now_ms,
    )
