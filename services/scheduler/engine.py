"""One round of the scheduler: what is due, and what follows for each rollout. It holds nothing that is not in the log."""

import time
from collections.abc import Callable, Iterable
from functools import partial

import structlog
from msgspec import UNSET

from events.deployment import state as deployment_state
from events.deployment.commands import ChangeAdmission, DeploymentCommand
from events.deployment.facts import DeploymentCreated, Ended, Everyone
from events.deployment.state import DeploymentDocument
from events.envelope import Principal
from events.log.errors import Fenced, LogUnavailable
from events.log.failpoints import FailPoint, reached
from events.log.keys import FLEET
from events.log.port import AT_APPEND, Conflicted, Log, Proposed
from events.log.wake import WakeFailed
from events.producer.decision import REFUSALS, load, propose
from events.producer.producer import WakerLike
from events.rollout import state as rollout_state
from events.rollout.commands import AbortRollout, RecordResults, RolloutCommand, StartRollout
from events.rollout.facts import RollbackBegan, RollbackEnded, RolloutDeleted, RolloutFact, RolloutPaused
from events.rollout.state import RolloutDocument, State
from events.update.commands import CancelUpdateDeployment
from events.update.names import carried
from events.update.state import to_go_back_to
from events.view_store.census import CensusReader
from events.view_store.groups import GroupView
from events.view_store.port import ViewStore
from services.scheduler.clocks import LogTime, Monotonic
from services.scheduler.standing import Standing

AUTHOR = Principal.parse("system:scheduler")
ROLLBACK_LABEL = "twinfold.rollback-of"

logger = structlog.get_logger()


class Engine:
    """Executes what follows, under a fence: an older holder's acts are refused by the log."""

    def __init__(
        self,
        log: Log,
        views: ViewStore,
        *,
        clock: Callable[[], int],
        waker: WakerLike | None = None,
        settle: Callable[[float], None] = time.sleep,
        monotonic: Monotonic = lambda: 0.0,
    ) -> None:
        """`monotonic` lets time go on where the clock is behind the log (`LogTime`); in virtual time nothing passes by itself."""
        self._log, self._views, self._waker, self._settle = log, views, waker, settle
        self._time = LogTime(clock, monotonic=monotonic)
        self._standing = Standing(log)
        self._census = CensusReader(log, views)

    def tick(self, fence: int | None = None) -> int:
        """Do all that is due and all that follows now; answers how many facts were written.

        Raises:
            Fenced: another process has taken over.
            LogUnavailable: Redis did not answer; what is due then is due at the next tick.
            UnreadableFact, LogLostItsTail: the fleet's stream stops at a fact.
        """
        standing = self._standing
        standing.refresh()
        # The log's time never goes back, so that a clock that does changes nothing that was decided.
        now = self._time.now(standing.at)
        written = sum(
            self._apart(name, partial(self._begin_or_end, name, document, now, fence))
            for name, document in sorted(standing.timed.items())
        )
        written += sum(
            self._apart(name, partial(self._end_stray, name, found, now, fence))
            for name, found in sorted(standing.strays.items())
        )
        active = {
            name: one
            for name, one in sorted(standing.rollouts.items())
            if one.is_active and name not in standing.strays
        }
        if active:
            self._census.settle(self._settle)
            written += sum(
                self._apart(name, partial(self._go_on, name, document, now, fence)) for name, document in active.items()
            )
        return written

    def _apart(self, name: str, act: Callable[[], int]) -> int:
        """Do one thing; what fails of it does not keep the others from theirs."""
        try:
            return act()
        except (Fenced, LogUnavailable):
            raise
        except Exception as error:  # noqa: BLE001 - whatever it is, the others have theirs
            logger.error("left out", deployment=name, error=f"{type(error).__name__}: {error}")  # noqa: TRY400
            return 0

    def _end_stray(self, name: str, document: DeploymentDocument | None, now: int, fence: int | None) -> int:
        """End a rollout that two people made at once with what contradicts it."""
        if document is not None:
            return self._command(AbortRollout(name, "who may receive it was changed by hand"), fence, now)
        subject = rollout_state.subject_of(name)
        (stored,) = self._log.load([subject], fleet=True)
        gone = Proposed(subject, stored.head.version, RolloutDeleted(), ((subject, None),))
        return self._append(name, [gone], now, fence)

    # -- times

    def _begin_or_end(self, name: str, document: DeploymentDocument, now: int, fence: int | None) -> int:
        end, start = document.end_at, document.start_at
        if end and end <= now:
            rollout = self._standing.rollouts.get(name)
            if (found := carried(name)) is not None:
                return self._end_update(found, rollout, fence, now)
            if rollout is not None and not rollout.is_over:
                if not rollout.admits:
                    return 0  # It is rolled back: nobody has it, or is about to.
                # Its admission is the rollout's, until that is over; the end follows in the next round.
                return self._command(AbortRollout(name, "the deployment's time came to end"), fence, now)
            if rollout is not None and rollout.results is UNSET:
                # Once it has ended, no device has it any more; the end follows in the next round.
                return self._command(
                    RecordResults(name, self._census.results(name, rollout, now, self._settle)), fence, now
                )
            return self._command(ChangeAdmission(name, Ended(), end, now - end), fence, now)
        if start and start <= now:
            rollout = self._standing.rollouts.get(name)
            if rollout is None:
                return self._command(ChangeAdmission(name, Everyone(), start, now - start), fence, now)
            if rollout.state is State.CREATED:
                return self._command(StartRollout(name, start, now - start), fence, now)
        return 0

    def _end_update(self, of: tuple[str, str], rollout: RolloutDocument | None, fence: int | None, now: int) -> int:
        """What brings an update to a group ends as it is canceled: who has it keeps it."""
        if rollout is None or not (rollout.admits or rollout.state is State.COMPLETED):
            return 0
        if not self._census.look(self._census.heads()):
            return 0  # The next round sees who has it.
        keepers = GroupView(self._log, self._views).keepers(of[0])
        command = CancelUpdateDeployment(*of, "its time came to end", keepers)
        return self._command(command, fence, now)

    def _command(
        self, command: DeploymentCommand | RolloutCommand | CancelUpdateDeployment, fence: int | None, now: int
    ) -> int:
        """Decide a command on what stands, and write it; somebody who was faster has their way."""
        try:
            proposed = propose(command, load(self._log, [command]), by=str(AUTHOR))
        except REFUSALS as error:
            logger.info("not done", command=type(command).__name__, deployment=_name_of(command), why=str(error))
            return 0
        return self._append(_name_of(command), proposed, now, fence) if proposed else 0

    # -- rollouts

    def _go_on(self, name: str, document: RolloutDocument, now: int, fence: int | None) -> int:
        judgement = self._census.judged(name, document, now)
        if not judgement.facts:
            return 0
        proposed = list(self._proposed(name, document, judgement.facts))
        for fact in judgement.facts:
            if isinstance(fact, RollbackBegan) and fact.deployment:
                brought = list(self._rollback_deployment(name, document, fact.deployment))
                if not brought:
                    return 0  # What it goes back to went away meanwhile; the next round says so.
                proposed += brought
        written = self._append(name, proposed, now, fence)
        if written:
            _report(name, judgement.facts)
        return written

    def _proposed(self, name: str, document: RolloutDocument, facts: Iterable[RolloutFact]) -> Iterable[Proposed]:
        subject, after = rollout_state.subject_of(name), document
        for fact in facts:
            evolved = rollout_state.evolve(after, fact, version=after.version + 1, at=AT_APPEND)
            assert evolved is not None
            snapshot = ((subject, rollout_state.encode(evolved)),)
            yield Proposed(subject, after.version, fact, snapshot, follows=after is not document)
            after = evolved

    def _rollback_deployment(self, name: str, document: RolloutDocument, rollback: str) -> Iterable[Proposed]:
        """The content to go back to, for whom the deployment that failed was for, in its place."""
        failed, beneath, free = self._log.load([name, document.plan.rollback_to, rollback], fleet=True)
        if failed.snapshot is None or beneath.snapshot is None:
            return
        old = deployment_state.decode(failed.snapshot)
        content, schema_version = to_go_back_to(document.plan.rollback_to, beneath.snapshot)
        fact = DeploymentCreated(
            content,
            old.target_condition,
            old.priority,
            {ROLLBACK_LABEL: name},
            {},
            schema_version,
            scope=old.scope,
        )
        after = deployment_state.evolve(None, fact, version=free.head.version + 1, at=AT_APPEND)
        assert after is not None
        yield Proposed(rollback, free.head.version, fact, ((rollback, deployment_state.encode(after)),), follows=True)

    # -- writing

    def _append(self, name: str, proposed: Iterable[Proposed], now: int, fence: int | None) -> int:
        batch = list(proposed)
        reached(FailPoint.SCHEDULE_JUDGED)
        first = batch[0]
        # The same decision on the same version is the same command, whoever comes to it, however often.
        command_id = f"scheduler:{first.subject}:{first.expected_version}"
        chunks = self._log.append(batch, command_id=command_id, by=AUTHOR, at=now, cause=name, fence=fence)
        written = [chunk for chunk in chunks if not isinstance(chunk, Conflicted) and not chunk.repeated]
        if written and self._waker is not None:
            try:
                self._waker.wake([FLEET])
            except WakeFailed:
                logger.debug("not woken; the sweep does it")
        return sum(len(chunk.indices) for chunk in written)


def _name_of(command: DeploymentCommand | RolloutCommand | CancelUpdateDeployment) -> str:
    if isinstance(command, CancelUpdateDeployment):
        return f"{command.group}/{command.deployment}"
    return command.deployment_id


def _report(name: str, facts: Iterable[RolloutFact]) -> None:
    for fact in facts:
        fields = {"deployment": name, "act": type(fact).__name__}
        reason = getattr(fact, "reason", "")
        if isinstance(fact, RolloutPaused) or (isinstance(fact, RollbackEnded) and not fact.succeeded):
            logger.error("rollout stopped", **fields, reason=reason)
        else:
            logger.info("rollout", **fields, reason=reason)
