"""What every request shares: the log, the projections, and producers for one request each."""

import contextlib
import functools
import math
from collections.abc import Callable, Iterator, Mapping

import msgspec
from prometheus_client import Counter
from redis import Redis

from events.access.scope import Scope
from events.clock import now_ms
from events.deployment.advice import Advice
from events.device.personal import personal_paths
from events.explain.deployment_history import DeploymentHistory
from events.history.point_in_time import PointInTime
from events.log.connect import Client
from events.log.device_documents import registered_device
from events.log.keys import FLEET
from events.log.log_factory import open_log
from events.log.port import Log
from events.log.raw import RawStreams
from events.log.wake import Waker
from events.manifest.problem import Severity
from events.preview.previewer import Previewer
from events.producer.errors import Command
from events.producer.producer import Producer
from events.producer.readiness import CheckedReadiness, ReadinessPolicy
from events.producer.secrecy import LazyVault
from events.projection_store.fleet_projection import FleetProjection, Within
from events.projection_store.port import ProjectionStore
from events.projection_store.query_engine import QueryEngine
from events.projection_store.readiness import FleetReadiness
from events.projection_store.redis import RedisProjectionStore
from events.projection_store.twins import TwinProjection
from events.projection_store.work_counts import WorkCounts
from events.readiness.profile import PROFILES, Profile
from events.secrets.personal import Personal
from events.secrets.redis import RedisSecretStore
from events.settings import Settings
from services.api.context.callers import Author, Caller
from services.api.context.dry_run import DryRun, DryRunDone, DryRuns, PreviewCheck
from services.api.context.metric_results import Counting
from services.api.context.recent_assignments import Recent
from services.api.context.rollout_state import Judging
from services.api.context.wake_thread import BackgroundWaker
from services.api.http.continuation_tokens import Continuations

TIMEOUT_SECONDS = 2.0
"""A caller over HTTP is told of a Redis that is away, instead of waiting for it."""

_ATTEMPTS = 2


class ApiContext(msgspec.Struct, frozen=True):
    """The open ends of an API process; with a `pointInTime`, as they were then, and nothing is written."""

    settings: Settings
    client: Client
    log: Log
    projections: ProjectionStore
    fleet_projection: FleetProjection
    twins: TwinProjection
    query_engine: QueryEngine
    counting: Counting
    continuations: Continuations
    waker: BackgroundWaker
    vault: LazyVault
    recent: Recent
    readiness: FleetReadiness
    judging: Judging
    streams: RawStreams
    deployment_history: DeploymentHistory
    work: WorkCounts
    conflicts: Counter
    dry_runs: DryRuns
    fetches: Counter
    clock: Callable[[], int]
    point_in_time: PointInTime | None = None

    @contextlib.contextmanager
    def producer(self, author: Author, *commands: Command) -> Iterator[Producer]:
        """A producer for one request; it is used by one thread at a time. `commands` are what it will write, where that is known.

        Raises:
            Shown: the author only looks; raised at the end.
            PreviewError: the author should have looked, or something else follows than they saw.
        """
        if author.asked is not None and author.asked.looks:
            dry_run, dry_runs = self.dry_run(author)
            yield dry_runs
            raise DryRunDone(dry_run.preview(commands))
        preview_check = PreviewCheck(self.dry_runs, author, self.vault.take_out)
        if author.key is None or not author.key.is_answered:
            preview_check.look(commands)
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
            before_append=lambda proposed: preview_check(proposed, written=held[0].written),
            key=author.key,
        )
        held = [producer]
        try:
            yield producer
        finally:
            self.conflicts.inc(producer.conflicts)
            held.clear()  # Else its guard leads back to it, and keeps every command that it refused.

    def as_of(self, point_in_time: PointInTime, log: Log, projections: ProjectionStore) -> "ApiContext":
        """The room over a log and projections of the past. Whoever is limited reaches whom they reach now and did then."""
        fleet_projection = FleetProjection(projections, partitions=log.partitions)
        query_engine = QueryEngine(log, projections, besides=self.query_engine)
        return msgspec.structs.replace(
            self,
            log=log,
            projections=projections,
            fleet_projection=fleet_projection,
            twins=TwinProjection(log, fleet_projection),
            query_engine=query_engine,
            counting=Counting(query_engine),
            recent=Recent(fleet_projection),
            readiness=FleetReadiness(log, projections, fleet_projection),
            judging=Judging(log, projections, pause=_no_pause),
            clock=lambda: point_in_time.time,
            point_in_time=point_in_time,
        )

    @property
    def until(self) -> float:
        """The time up to which things are shown, in milliseconds; endless in the present."""
        return math.inf if self.point_in_time is None else self.point_in_time.time

    def dry_run(self, author: Author) -> tuple[DryRun, Producer]:
        """A producer that writes nothing, and what tells what it would have done."""
        dry_run = DryRun(self.dry_runs, author)
        producer = Producer(
            dry_run.log,
            by=author.by,
            scope=author.scope,
            clock=self.clock,
            take_secrets=dry_run.take_out,
            deployments_max=self.settings.configurations_max,
            readiness_policy=self.readiness_policy,
        )
        return dry_run, producer

    @property
    def profile(self) -> Profile:
        """By which profile deployments and the fleet are checked."""
        return PROFILES[self.settings.readiness_profile]

    @property
    def readiness_policy(self) -> ReadinessPolicy | None:
        """What a new deployment has to pass."""
        return readiness_policy_of(self.settings)

    def do(self, command: Command, author: Author) -> tuple[Advice, ...]:
        """Write one command.

        Raises:
            Exception: the error that refuses it, or LogUnavailable; as `producer`.
        """
        with self.producer(author, command) as producer:
            return producer.do(command)

    def stands(self, author: Author) -> bool:
        """Whether the command of a request with a key, one on the fleet, is in the log: the request is a repeat.

        Raises:
            LogUnavailable: Redis did not answer.
        """
        return author.key is not None and author.key.counts(self.log, FLEET, [0]) != [0]

    def do_together(
        self, author: Author, *commands: Command
    ) -> tuple[tuple[Advice, ...], Mapping[str, CheckedReadiness]]:
        """Write some commands on deployments and rollouts, all or none; answers advice, and what the readiness policy found.

        That is by deployment; of one that the policy was not asked about, there is nothing.

        Raises:
            Exception: the error that refuses one of them, or LogUnavailable; as `producer`.
        """
        with self.producer(author, *commands) as producer:
            return producer.do_together(*commands), producer.readiness

    def within(self, caller: Caller) -> Within | None:
        """Who the caller reaches, for one request: each partition is looked at once; `None` for everybody."""
        limit = caller.limit
        return None if limit is None else functools.cache(lambda number: self.query_engine.within(number, limit))

    def reaches(self, scope: Scope, device_id: str) -> bool:
        """Whether a device is in a scope as it stands in the log."""
        return scope.holds(device_id, registered_device(self.log, device_id))


def _no_pause(_: float) -> None:
    """Nobody applies in the past: there is nothing to wait for."""


def readiness_policy_of(settings: Settings) -> ReadinessPolicy | None:
    """What a new deployment has to pass."""
    refuse = settings.readiness_refuse
    return None if refuse == "off" else ReadinessPolicy(PROFILES[settings.readiness_profile], Severity(refuse))


def open_context(settings: Settings) -> ApiContext:
    """Open everything an API process needs.

    Raises:
        LogNotInitialised, UnsafeRedis, LogUnavailable, SettingsInvalid: as `open_log`.
    """
    log = open_log(settings.redis_url, allow_volatile=settings.allow_volatile_redis, timeout_seconds=TIMEOUT_SECONDS)
    projections = RedisProjectionStore(log.client)
    fleet_projection = FleetProjection(projections, partitions=log.partitions)
    queue = Redis.from_url(
        settings.effective_queue_url, socket_timeout=TIMEOUT_SECONDS, socket_connect_timeout=TIMEOUT_SECONDS
    )
    waker = BackgroundWaker(Waker(queue, partitions=log.partitions))
    query_engine = QueryEngine(log, projections)
    continuations = Continuations(log.client)
    personal = Personal(personal_paths(settings.personal_tags))
    streams = RawStreams(log.client)
    return ApiContext(
        settings=settings,
        client=log.client,
        log=log,
        projections=projections,
        fleet_projection=fleet_projection,
        twins=TwinProjection(log, fleet_projection),
        query_engine=query_engine,
        counting=Counting(query_engine),
        continuations=continuations,
        waker=waker,
        vault=LazyVault(
            RedisSecretStore(log.client),
            settings.effective_key_file,
            personal=personal,
        ),
        recent=Recent(fleet_projection),
        readiness=FleetReadiness(log, projections, fleet_projection),
        judging=Judging(log, projections),
        streams=streams,
        deployment_history=DeploymentHistory(streams),
        work=WorkCounts(log.client),
        fetches=Counter("twinfold_secret_fetches", "Devices' own reads of what their modules need.", registry=None),
        conflicts=Counter("twinfold_conflicts", "Commands decided again, as others were faster.", registry=None),
        dry_runs=DryRuns(
            Previewer(log, projections, clock=now_ms, personal=personal),
            query_engine,
            continuations,
            settings,
            log=log,
            readiness_policy=readiness_policy_of(settings),
            clock=now_ms,
        ),
        clock=now_ms,
    )
