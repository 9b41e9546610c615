"""A turn of a worker: it follows a fair share of the streams for some seconds, and projects their events as they arrive."""

import contextlib
import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence

from redis.cluster import RedisCluster

from events.envelope import Envelope, Vector
from events.log.claims import CLAIM_MS, WOKEN, Claims
from events.log.errors import LogUnavailable
from events.log.failpoints import FailPoint, reached
from events.log.keys import FLEET
from events.log.port import Event
from events.log.redis import RedisLog
from events.log.wake import JOB_TIMEOUT_SECONDS, QueueState, WakeFailed, Waker
from events.projection_store.port import ProjectionStore
from events.projection_store.work_counts import WorkCounts
from events.stored_projection.stored_partition import Checkpoint
from workers.projector import Projector

EVENTS_MAX = 1000
"""How many events of a partition are applied before the next partition has its part."""

_REST_SECONDS = 0.25
_BULK_EVENTS = 25
"""How many events of a partition within a rest are an import. It is read once in a rest: a commit costs as much as applying 150
events, and a read that returns with the first of them would make it a commit for each append. By partition, so that others are
projected at once meanwhile, and that an event costs the same however many workers share the partitions."""

_LOOK_SECONDS = 0.1
"""How often a turn looks whether streams wait for a worker, and how long a wait for events lasts at most."""
_RENEW_SECONDS = CLAIM_MS / 4000
_SECONDS_MAX = JOB_TIMEOUT_SECONDS / 2
_BUSY = 0.5
"""The part of the time between two looks from which on a worker counts as busy, and gives up streams that others can take."""


class WorkerTurn:
    """One turn. Its claims save other workers from doing the same work; only the commits decide whose work counts."""

    def __init__(
        self,
        log: RedisLog,
        projections: ProjectionStore,
        projector: Projector,
        waker: Waker,
        claims: Claims,
        *,
        seconds: float,
        is_stopped: Callable[[], bool] = lambda: False,
    ) -> None:
        """A turn that ends `seconds` after the last event, or when `is_stopped` is true; at the latest after half a job's time."""
        self._log, self._projections, self._projector, self._waker = log, projections, projector, waker
        self._seconds, self._is_stopped = seconds, is_stopped
        self._claims, self._work_counts = claims, WorkCounts(log.client)
        # The claimed streams. Of each partition, the position up to which its events are read or applied.
        self._follows_fleet, self._fleet_seen, self._at = False, 0, dict[int, int]()
        self._fleet_restarts = projector.fleet.restarts
        # Claimed partitions that are not followed: those that `Projector.drain` has to load or to examine next, blocked ones, and
        # those that failed otherwise. Those to drain are in the order in which they wait.
        self._to_drain, self._blocked, self._failed = dict[int, None](), set[int](), set[int]()
        self._share = log.partitions
        # Streams that wait for a worker. If they still do at the next look, this turn takes them.
        self._waiting = set[int]()
        # The head and the position of each stream at the last renewal.
        self._compared: dict[int, tuple[int, int]] = {}
        # Of each partition: when its events were counted from, and how many came since. Those that rest, and until when.
        self._recent, self._resting, self._rest_until = dict[int, tuple[float, int]](), set[int](), 0.0
        self._has_given_up = self._has_more = False
        self._busy_seconds = 0.0
        # Of the first partition that could not be loaded or projected.
        self._failure: Exception | None = None

    def run(self) -> None:
        """Follow the streams until the turn ends; wakes the workers again if events came in it, or came too late for it.

        Raises:
            LogUnavailable: Redis did not answer. The claims expire, and the reconciler wakes the workers.
            Exception: a partition failed. The turn went on with the others.
        """
        try:
            self._follow()
        except LogUnavailable:
            if isinstance(self._log.client, RedisCluster):
                self._drain_reachable()
            raise
        finally:
            self._log.stop_following()
        if self._failure is not None:
            raise self._failure

    def _follow(self) -> None:
        if not self._take_share():
            return
        reached(FailPoint.TURN_CLAIMED)
        started = active = looked = renewed = time.monotonic()
        while True:
            waits, began = not (self._to_drain or self._has_more), time.monotonic()
            news = self._read(wait_seconds=_LOOK_SECONDS if waits else 0.0)
            woke = time.monotonic()
            if self._project(news):
                active = woke
            now = time.monotonic()
            # A read that does not wait is work too.
            self._busy_seconds += now - (woke if waits else began)
            is_active = now - active < self._seconds or active == woke
            if self._is_stopped() or not is_active or now - started >= min(6 * self._seconds, _SECONDS_MAX):
                break
            if now - renewed >= _RENEW_SECONDS:
                renewed = now
                self._renew()
            if now - looked >= _LOOK_SECONDS:
                self._look(now - looked)
                looked, self._busy_seconds = now, 0.0
        self._leave(is_active=is_active)

    def _drain_reachable(self) -> None:
        """Project the partitions whose masters answer: all other reads of a turn need every master of a cluster."""
        until = time.monotonic() + self._seconds
        for number in range(self._log.partitions):
            if self._is_stopped() or time.monotonic() >= until:
                return
            with contextlib.suppress(LogUnavailable):
                self._is_drained(number, go_on=lambda: time.monotonic() < until)
                # The next append has to wake the workers again, as this turn ends.
                self._claims.leave([number])
                self._claims.leave([number], holder=WOKEN)

    # -- streams

    @property
    def _partitions(self) -> set[int]:
        return {*self._at, *self._to_drain, *self._blocked, *self._failed}

    @property
    def _streams(self) -> set[int]:
        return {*self._partitions, FLEET} if self._follows_fleet else self._partitions

    def _count_workers(self) -> QueueState:
        state = self._waker.state()
        self._share = -(-self._log.partitions // max(1, state.workers))
        return state

    def _take_share(self) -> bool:
        """Claim a fair share of the streams that no worker follows; returns whether there are any."""
        self._count_workers()
        holders = self._claims.holders()
        free = [
            number
            for number in range(self._log.partitions)
            if holders.get(number, WOKEN) in (WOKEN, self._claims.holder)
        ]
        # An event of the fleet wakes one worker for all partitions, and a mark can have expired before a worker came.
        waiting = self._behind(free) | {number for number in free if holders.get(number) == WOKEN}
        # Of those that do not wait for a worker, those that this process has in memory need not be loaded.
        free.sort(key=lambda number: (number not in waiting, self._projector.checkpoint(number) is None))
        self._read_fleet()
        self._take([FLEET, *free[: self._share]])
        self._waiting = waiting.intersection(free[self._share :])
        if self._waiting:
            self._wake_others(self._waiting)
        return bool(self._streams)

    def _behind(self, partitions: Sequence[int]) -> set[int]:
        """The partitions that have events to apply. Blocked ones are left to the reconciler, which knows what they wait for."""
        if not partitions:
            return set()
        heads, states = self._log.heads(), self._projections.states(partitions)
        return {
            number
            for number, (checkpoint, blocked) in states.items()
            if blocked is None and checkpoint.vector != Vector(heads[number], heads[FLEET])
        }

    def _take(self, streams: Iterable[int]) -> None:
        """Claim streams, and find out where their partitions are."""
        held = self._claims.take(streams)
        if FLEET in held:
            self._follows_fleet = True
        partitions = [number for number in held if number != FLEET]
        for number, (checkpoint, blocked) in self._projections.states(partitions).items():
            in_memory = self._projector.checkpoint(number)
            # A partition that is not in memory is loaded when its first event comes.
            is_current = in_memory == checkpoint or (in_memory is None and checkpoint != Checkpoint())
            if blocked is not None or not is_current or not self._projector.is_at_fleet_head(checkpoint):
                self._to_drain[number] = None
            else:
                self._at[number] = checkpoint.vector.partition

    def _forget(self, streams: Iterable[int]) -> None:
        for stream in streams:
            self._at.pop(stream, None)
            self._to_drain.pop(stream, None)
            self._blocked.discard(stream)
            self._failed.discard(stream)
            if stream == FLEET:
                self._follows_fleet = False

    def _renew(self) -> None:
        """Renew the claims, and compare with the log: no event tells that the newest ones are lost."""
        held = self._claims.take(self._streams)
        self._forget(self._streams - held.keys())
        # A claim that had expired may have had another holder in between.
        expired = {stream for stream, was_held in held.items() if not was_held}
        self._forget(expired)
        if expired:
            self._take(expired)
        self._check_fleet()
        # Behind the head twice: the next event is missing, and no read will bring it.
        heads, before = self._log.heads(), self._compared
        self._compared = {number: (heads[number], at) for number, at in self._at.items()}
        self._drain_later(
            number for number, pair in self._compared.items() if pair[0] != pair[1] and before.get(number) == pair
        )
        # A partition whose tail was lost goes on when it is restored.
        for number in sorted(self._blocked):
            self._drain(number)
        self._count_work()

    def _drain_later(self, partitions: Iterable[int]) -> None:
        for number in [number for number in partitions if number not in self._failed]:
            self._forget([number])
            self._to_drain[number] = None

    def _look(self, seconds: float) -> None:
        """Take streams that wait for a worker and get none, or give up some that another worker could take."""
        with contextlib.suppress(WakeFailed):
            state, holders = self._count_workers(), self._claims.holders()
            others = set(self._claims.streams) - self._streams
            free = {stream for stream in others if holders.get(stream, WOKEN) == WOKEN}
            # Workers that are registered and dead, or stopped, take none. A job that waits says that all others are busy.
            overdue = self._waiting & free
            self._waiting = {stream for stream in free if stream in holders or state.waiting}
            if overdue:
                self._take(overdue)
                self._waiting -= overdue
                return
            following = {holder for holder in holders.values() if holder not in (WOKEN, self._claims.holder)}
            partitions = sorted(self._partitions)
            is_busy = self._busy_seconds > _BUSY * seconds
            if (
                is_busy
                and len(partitions) > self._share
                and state.workers - len(following) > 1
                and not self._has_given_up
            ):
                # Once in a turn: if no other worker takes them, this turn takes them back, and keeps them.
                self._has_given_up = True
                given_up = partitions[self._share :]
                self._forget(given_up)
                self._claims.leave(given_up)
                self._wake_others(given_up)

    def _leave(self, *, is_active: bool) -> None:
        streams = self._streams
        self._count_work()
        self._claims.leave(streams)
        reached(FailPoint.TURN_LEFT)
        # An append that found the claim woke no worker, so the streams are read once more after it is gone.
        self._rest_until = 0.0
        behind = {*self._to_drain, *self._read(wait_seconds=0.0)}
        if behind or is_active:
            self._wake_others(behind, streams)
            reached(FailPoint.TURN_REQUEUED)

    def _wake_others(self, waiting: Iterable[int], streams: Iterable[int] = ()) -> None:
        """Wake the workers for streams that wait for one, and have them look at others."""
        self._claims.mark_woken(waiting)
        # The reconciler finds what no worker was woken for.
        with contextlib.suppress(WakeFailed):
            self._waker.wake((*waiting, *streams))

    # -- events

    def _read(self, *, wait_seconds: float) -> dict[int, list[Envelope[Event]] | None]:
        now = time.monotonic()
        if now >= self._rest_until:
            self._resting.clear()
        else:
            wait_seconds = min(wait_seconds, self._rest_until - now)
        after = {number: position for number, position in self._at.items() if number not in self._resting}
        news = self._log.follow(
            {**after, FLEET: self._fleet_seen}, limit=EVENTS_MAX, milliseconds=math.ceil(1000 * wait_seconds)
        )
        self._has_more = any(events is not None and len(events) >= EVENTS_MAX for events in news.values())
        return news

    def _rest(self, count_by_partition: Mapping[int, int]) -> None:
        """Count events that were projected; the partitions of an import rest."""
        now, resting = time.monotonic(), len(self._resting)
        for number, count in count_by_partition.items():
            since, counted = self._recent.get(number, (now, 0))
            if now - since > 2 * _REST_SECONDS:
                since, counted = now, 0
            self._recent[number] = since, counted + count
            # Not if more events wait already.
            if counted + count >= _BULK_EVENTS and count < EVENTS_MAX:
                self._resting.add(number)
        if self._resting and not resting:
            # From now, and not from the read: a worker that is busy for a whole rest would get no larger batches by it.
            self._rest_until = now + _REST_SECONDS

    def _project(self, news: dict[int, list[Envelope[Event]] | None]) -> bool:
        """Apply and commit news; returns whether anything was committed."""
        due = set(news)
        if FLEET in news:
            del news[FLEET]
            self._read_fleet()
            self._answer_for_unfollowed()
            due = {*self._at}
            self._drain_later(self._blocked)
        ready: dict[int, list[Envelope[Event]]] = {}
        for number in due:
            events = news.get(number, [])
            if events is None or self._projector.checkpoint(number) is None:
                self._drain_later([number])
            else:
                ready[number] = events
        advanced = self._projector.advance(ready)
        self._at.update(advanced)
        self._drain_later(ready.keys() - advanced.keys())
        self._rest({number: len(events) for number, events in ready.items()})
        # One at a time, as loading a large partition takes seconds and the others have news meanwhile.
        is_drained = bool(self._to_drain) and self._drain(next(iter(self._to_drain)))
        return is_drained or bool(advanced)

    def _read_fleet(self) -> None:
        """Read on in the fleet's stream, and count its events as seen."""
        self._check_fleet()
        self._fleet_seen = max(self._fleet_seen, self._projector.fleet.position)

    def _check_fleet(self) -> None:
        """Have all partitions examined if they cannot follow the fleet's stream."""
        fleet = self._projector.fleet
        fleet.read_on()
        # If the next event cannot be read, a drain applies what is before it, and marks the partition. If the fleet lost its
        # tail, a drain finds out whether the partition had applied a lost event.
        if fleet.is_stopped or fleet.restarts != self._fleet_restarts:
            self._fleet_restarts = fleet.restarts
            # Operators decide about an event that cannot be read by a later one.
            self._fleet_seen = self._log.head(FLEET) if fleet.is_stopped else fleet.position
            self._drain_later(self._partitions)

    def _answer_for_unfollowed(self) -> None:
        """Take the partitions that no worker follows, or wake others for them, if this turn answers for the fleet's stream."""
        if self._follows_fleet:
            holders = self._claims.holders()
            unfollowed = [number for number in range(self._log.partitions) if number not in holders]
            unfollowed.sort(key=lambda number: self._projector.checkpoint(number) is None)
            room = max(0, self._share - len(self._partitions))
            self._take(unfollowed[:room])
            if unfollowed[room:]:
                self._wake_others(unfollowed[room:])

    def _drain(self, number: int) -> bool:
        """Load or examine a partition, and project one batch of it; returns whether anything was committed."""
        self._forget([number])
        is_done = self._is_drained(number, go_on=lambda: False)
        checkpoint = self._projector.checkpoint(number)
        if number in self._failed:
            return False
        if checkpoint is not None:
            self._at[number] = checkpoint.vector.partition
        elif is_done:
            self._blocked.add(number)
        else:
            # Another worker committed it first.
            self._to_drain[number] = None
        return not is_done

    def _is_drained(self, number: int, *, go_on: Callable[[], bool]) -> bool:
        """As `Projector.drain`. A partition that fails waits for the next turn: loading it again would delay the others."""
        try:
            return self._projector.drain(number, go_on=go_on)
        except LogUnavailable:
            raise
        except Exception as error:  # noqa: BLE001 - a fault of one partition must not stop all others
            self._failure = self._failure or error
            self._failed.add(number)
            return True

    def _count_work(self) -> None:
        # Counts are for metrics only; a turn must not fail for them.
        with contextlib.suppress(LogUnavailable):
            self._work_counts.add(min(self._partitions, default=0), self._projector.work.take())
