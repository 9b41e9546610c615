"""One round of the scheduler: start and end deployments that are due, and advance rollouts. All its state comes from the log."""

import time
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import structlog
from msgspec import UNSET

from events.deployment.commands import ChangeAdmission
from events.deployment.events import Ended, Everyone
from events.deployment.state import DeploymentDocument
from events.envelope import Principal
from events.log.errors import Fenced, LogUnavailable
from events.log.failpoints import FailPoint, reached
from events.log.port import Log
from events.producer.decision import REFUSALS
from events.producer.errors import Command, ConflictPersists
from events.producer.producer import Producer, WakerLike
from events.projection_store.fleet_snapshot import FleetSnapshotReader
from events.projection_store.groups import GroupProjection
from events.projection_store.port import ProjectionStore
from events.rollout.commands import AbortRollout, AdvanceRollout, DiscardRollout, RecordResults, StartRollout
from events.rollout.events import RollbackEnded, RolloutPaused
from events.rollout.state import RolloutDocument, RolloutState
from events.update.commands import CancelUpdateDeployment
from events.update.names import group_and_deployment
from services.scheduler.clocks import LogTime, Monotonic
from services.scheduler.scheduled_work import ScheduledWork

AUTHOR = Principal.parse("system:scheduler")

logger = structlog.get_logger()


class _Wait(NamedTuple):
    """A judgement of a rollout without events: at a time, with the time until which it stands."""

    rollout: RolloutDocument
    judged_at: int
    stands_until: int | None

    def stands(self, rollout: RolloutDocument, now: int) -> bool:
        """Whether the rollout would be judged alike now, on the same fleet snapshot."""
        # A clock that was put back makes reached times unreached.
        is_time = self.judged_at <= now and (self.stands_until is None or now < self.stands_until)
        return is_time and rollout is self.rollout


class SchedulerEngine:
    """Writes what is due under a fence: the log refuses the writes of an earlier holder of the lease."""

    def __init__(
        self,
        log: Log,
        projections: ProjectionStore,
        *,
        clock: Callable[[], int],
        waker: WakerLike | None = None,
        settle: Callable[[float], None] = time.sleep,
        monotonic: Monotonic = lambda: 0.0,
    ) -> None:
        """`monotonic` moves time while the clock is behind the log (`LogTime`); the default, for virtual time, never moves it."""
        self._log, self._projections, self._waker, self._settle = log, projections, waker, settle
        self._time = LogTime(clock, monotonic=monotonic)
        self._work = ScheduledWork(log)
        self._fleet_snapshot = FleetSnapshotReader(log, projections)
        self._fence: int | None = None
        self._snapshot_position: tuple[object, ...] = ()
        self._waits: dict[str, _Wait] = {}
        self.judgements = 0
        """How often a rollout was judged."""

    def tick(self, fence: int | None = None) -> int:
        """Do all that is due now; returns the number of events written.

        Raises:
            Fenced: another process has taken over.
            LogUnavailable: Redis did not answer; the next tick does what is still due.
            UnreadableEvent, LogLostItsTail: the fleet's stream cannot be read beyond an event.
        """
        work = self._work
        work.refresh()
        if fence != self._fence:
            self._fence = fence
            self._waits.clear()
        now = self._time.now(work.at)
        producer = Producer(
            self._log,
            by=AUTHOR,
            waker=self._waker,
            clock=lambda: now,
            # A conflict means that another author was faster. The next round decides again on the new state; a retry
            # here would repeat a decision made on the old one.
            attempts=1,
            before_append=lambda _: reached(FailPoint.SCHEDULE_JUDGED),
            fence=fence,
        )
        for name, deployment in sorted(work.timed.items()):
            self._isolated(name, partial(self._begin_or_end, producer, name, deployment, now))
        for name, stray in sorted(work.strays.items()):
            # Its deployment was deleted, or given another admission, at the same time as the rollout was created.
            by_hand = AbortRollout(name, "who may receive it was changed by hand")
            self._isolated(name, partial(_do, producer, name, DiscardRollout(name) if stray is None else by_hand))
        active = [
            name for name, rollout in sorted(work.rollouts.items()) if rollout.is_active and name not in work.strays
        ]
        if active:
            self._fleet_snapshot.settle(self._settle)
        if self._fleet_snapshot.position != self._snapshot_position:
            self._snapshot_position = self._fleet_snapshot.position
            self._waits.clear()
        self._waits = {name: self._waits[name] for name in active if name in self._waits}
        for name in active:
            rollout = work.rollouts[name]
            wait = self._waits.get(name)
            if wait is None or not wait.stands(rollout, now):
                self._isolated(name, partial(self._go_on, producer, name, rollout, now))
        return producer.written

    def _isolated(self, name: str, act: Callable[[], object]) -> None:
        """Run one act; a failure is logged and does not stop the acts on other deployments."""
        try:
            act()
        except (Fenced, LogUnavailable):
            raise
        except Exception as error:  # noqa: BLE001 - a fault of one deployment must not stop all other rollouts
            logger.error("skipped", deployment=name, error=f"{type(error).__name__}: {error}")  # noqa: TRY400

    def _begin_or_end(self, producer: Producer, name: str, deployment: DeploymentDocument, now: int) -> None:
        end, start = deployment.end_at, deployment.start_at
        rollout = self._work.rollouts.get(name)
        if end and end <= now:
            if (group := group_and_deployment(name)) is not None:
                self._end_update(producer, *group, rollout)
            elif rollout is not None and not rollout.is_over:
                # A rollout that is rolling back admits no device, so it may finish. Any other is aborted, because it owns the
                # admission until it is over; the next round ends the deployment.
                if rollout.admits:
                    _do(producer, name, AbortRollout(name, "the end time of the deployment is reached"))
            elif rollout is not None and rollout.results is UNSET:
                # The results are recorded first: when the deployment has ended, no device has it any more and they could not
                # be counted. The next round ends the deployment.
                results = self._fleet_snapshot.results(name, rollout, now, self._settle)
                _do(producer, name, RecordResults(name, results))
            else:
                _do(producer, name, ChangeAdmission(name, Ended(), end, now - end))
        elif start and start <= now:
            if rollout is None:
                _do(producer, name, ChangeAdmission(name, Everyone(), start, now - start))
            elif rollout.state is RolloutState.CREATED:
                _do(producer, name, StartRollout(name, start, now - start))

    def _end_update(self, producer: Producer, group: str, name: str, rollout: RolloutDocument | None) -> None:
        """End the deployment of an update as a cancellation does: devices that have the update keep it."""
        if rollout is None or not (rollout.admits or rollout.state is RolloutState.COMPLETED):
            return
        if not self._fleet_snapshot.refresh(self._fleet_snapshot.heads()):
            return  # The snapshot is behind the log; the next round reads which devices have the update.
        keepers = GroupProjection(self._log, self._projections).keepers(group)
        _do(producer, f"{group}/{name}", CancelUpdateDeployment(group, name, "its end time is reached", keepers))

    def _go_on(self, producer: Producer, name: str, rollout: RolloutDocument, now: int) -> None:
        self._waits.pop(name, None)
        judgement = self._fleet_snapshot.judged(name, rollout, now)
        self.judgements += 1
        events = judgement.events
        if not events:
            self._waits[name] = _Wait(rollout, now, judgement.stands_until)
        if not events or not _do(producer, name, AdvanceRollout(name, rollout.version, events)):
            return
        for event in events:
            fields = {"deployment": name, "act": type(event).__name__, "reason": getattr(event, "reason", "")}
            if isinstance(event, RolloutPaused) or (isinstance(event, RollbackEnded) and not event.succeeded):
                logger.error("rollout stopped", **fields)
            else:
                logger.info("rollout", **fields)


def _do(producer: Producer, cause: str, command: Command) -> bool:
    """Write a command; returns whether it was accepted. When another author was faster, their change stays."""
    try:
        producer.do(command, cause=cause)
    except (*REFUSALS, ConflictPersists) as error:
        logger.info("command refused", command=type(command).__name__, deployment=cause, why=str(error))
        return False
    return True
