"""One round of the scheduler: what is due, and what follows for each rollout. It holds nothing that is not in the log."""

import time
from collections.abc import Callable, Iterable
from functools import partial

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
from events.rollout.events import RollbackEnded, RolloutEvent, RolloutPaused
from events.rollout.state import RolloutDocument, RolloutState
from events.update.commands import CancelUpdateDeployment
from events.update.names import deployed_update
from services.scheduler.clocks import LogTime, Monotonic
from services.scheduler.scheduled_work import ScheduledWork

AUTHOR = Principal.parse("system:scheduler")

logger = structlog.get_logger()


class SchedulerEngine:
    """Executes what follows, under a fence: an older holder's acts are refused by the log."""

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
        """`monotonic` lets time go on where the clock is behind the log (`LogTime`); in virtual time nothing passes by itself."""
        self._log, self._projections, self._waker, self._settle = log, projections, waker, settle
        self._time = LogTime(clock, monotonic=monotonic)
        self._status = ScheduledWork(log)
        self._fleet_snapshot = FleetSnapshotReader(log, projections)

    def tick(self, fence: int | None = None) -> int:
        """Do all that is due and all that follows now; answers how many events were written.

        Raises:
            Fenced: another process has taken over.
            LogUnavailable: Redis did not answer; what is due then is due at the next tick.
            UnreadableEvent, LogLostItsTail: the fleet's stream stops at an event.
        """
        status = self._status
        status.refresh()
        # The log's time never goes back, so that a clock that does changes nothing that was decided.
        now = self._time.now(status.at)
        producer = Producer(
            self._log,
            by=AUTHOR,
            waker=self._waker,
            clock=lambda: now,
            attempts=1,
            before_append=lambda _: reached(FailPoint.SCHEDULE_JUDGED),
            fence=fence,
        )
        for name, deployment in sorted(status.timed.items()):
            self._apart(name, partial(self._begin_or_end, producer, name, deployment, now))
        for name, stray in sorted(status.strays.items()):
            self._apart(name, partial(self._end_stray, producer, name, stray))
        active = {
            name: rollout
            for name, rollout in sorted(status.rollouts.items())
            if rollout.is_active and name not in status.strays
        }
        if active:
            self._fleet_snapshot.settle(self._settle)
        for name, rollout in active.items():
            self._apart(name, partial(self._go_on, producer, name, rollout, now))
        return producer.written

    def _apart(self, name: str, act: Callable[[], None]) -> None:
        """Do one thing; what fails of it does not keep the others from theirs."""
        try:
            act()
        except (Fenced, LogUnavailable):
            raise
        except Exception as error:  # noqa: BLE001 - whatever it is, the others have theirs
            logger.error("left out", deployment=name, error=f"{type(error).__name__}: {error}")  # noqa: TRY400

    def _end_stray(self, producer: Producer, name: str, deployment: DeploymentDocument | None) -> None:
        """End a rollout that two people made at once with what contradicts it."""
        if deployment is None:
            _do(producer, name, DiscardRollout(name))
        else:
            _do(producer, name, AbortRollout(name, "who may receive it was changed by hand"))

    # -- times

    def _begin_or_end(self, producer: Producer, name: str, deployment: DeploymentDocument, now: int) -> None:
        end, start = deployment.end_at, deployment.start_at
        rollout = self._status.rollouts.get(name)
        if end and end <= now:
            if (group := deployed_update(name)) is not None:
                self._end_update(producer, group, rollout)
            elif rollout is not None and not rollout.is_over:
                # One that is rolled back is not about to be given to any device. Any other has the admission until it is
                # over; the end follows in the next round.
                if rollout.admits:
                    _do(producer, name, AbortRollout(name, "the deployment's time came to end"))
            elif rollout is not None and rollout.results is UNSET:
                # Once it has ended, no device has it any more; the end follows in the next round.
                results = self._fleet_snapshot.results(name, rollout, now, self._settle)
                _do(producer, name, RecordResults(name, results))
            else:
                _do(producer, name, ChangeAdmission(name, Ended(), end, now - end))
        elif start and start <= now:
            if rollout is None:
                _do(producer, name, ChangeAdmission(name, Everyone(), start, now - start))
            elif rollout.state is RolloutState.CREATED:
                _do(producer, name, StartRollout(name, start, now - start))

    def _end_update(self, producer: Producer, of: tuple[str, str], rollout: RolloutDocument | None) -> None:
        """What brings an update to a group ends as it is canceled: who has it keeps it."""
        if rollout is None or not (rollout.admits or rollout.state is RolloutState.COMPLETED):
            return
        if not self._fleet_snapshot.refresh(self._fleet_snapshot.heads()):
            return  # The next round sees who has it.
        group, name = of
        keepers = GroupProjection(self._log, self._projections).keepers(group)
        _do(producer, f"{group}/{name}", CancelUpdateDeployment(group, name, "its time came to end", keepers))

    # -- rollouts

    def _go_on(self, producer: Producer, name: str, rollout: RolloutDocument, now: int) -> None:
        events = self._fleet_snapshot.judged(name, rollout, now).events
        if events and _do(producer, name, AdvanceRollout(name, rollout.version, events)):
            _report(name, events)


def _do(producer: Producer, cause: str, command: Command) -> bool:
    """Write a command; answers whether it is done. An author who was faster has their way."""
    try:
        producer.do(command, cause=cause)
    except (*REFUSALS, ConflictPersists) as error:
        logger.info("not done", command=type(command).__name__, deployment=cause, why=str(error))
        return False
    return True


def _report(name: str, events: Iterable[RolloutEvent]) -> None:
    for event in events:
        fields = {"deployment": name, "act": type(event).__name__}
        reason = getattr(event, "reason", "")
        if isinstance(event, RolloutPaused) or (isinstance(event, RollbackEnded) and not event.succeeded):
            logger.error("rollout stopped", **fields, reason=reason)
        else:
            logger.info("rollout", **fields, reason=reason)
