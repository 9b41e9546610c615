"""Wakes the workers for partitions that are behind the log and do not move."""

from events.envelope import Vector
from events.log.claims import Claims
from events.log.errors import LogUnavailable
from events.log.keys import FLEET
from events.log.lease import Lease
from events.log.redis import RedisLog
from events.log.wake import Waker
from events.projection_store.port import Blocked, ProjectionStore

INTERVAL_SECONDS = 1.0
_CHECKS_PER_DECISION = 2


class Reconciler:
    """Checks every partition; one process at a time does, under a lease."""

    # Jobs can get lost: RQ leaves the job of a killed worker as started for 77 to 240 seconds (decisions/0005).

    def __init__(self, log: RedisLog, projections: ProjectionStore, waker: Waker) -> None:
        self._log, self._projections, self._waker = log, projections, waker
        self._claims = Claims(log.client, partitions=log.partitions)
        self._lease = Lease(log.client, "reconciler")
        self._lagging: dict[int, Vector] = {}
        self._checked: dict[int, tuple[int, int]] = {}

    def once(self) -> list[int]:
        """Wake the partitions that are behind and have not moved since the last call; returns them.

        Raises:
            LogUnavailable: Redis did not answer.
        """
        if self._lease.take() is None:
            self._lagging.clear()
            return []
        try:
            heads, behind = self._log.heads(), dict[int, Vector]()
            states = self._projections.states(range(self._log.partitions))
        except LogUnavailable:
            # The lease is taken, so only a part of a cluster is away. What is behind in the others, a turn finds out.
            self._waker.wake([FLEET])
            raise
        for number, (checkpoint, blocked) in states.items():
            vector = checkpoint.vector
            if vector != Vector(heads[number], heads[FLEET]) and not self._waits(number, blocked, heads[FLEET]):
                behind[number] = vector
        stuck = [number for number, vector in behind.items() if self._lagging.get(number) == vector]
        self._lagging = behind
        if stuck:
            self._claims.mark_woken(stuck)
            self._waker.wake(stuck)
        return stuck

    def _waits(self, number: int, blocked: Blocked | None, fleet_head: int) -> bool:
        """Whether a partition is blocked, and no event of the fleet, which could be a decision, came since it was woken."""
        # A lost tail needs no decision. It is tried again at every round, and goes on once the events are restored.
        if blocked is None or not blocked.decidable:
            self._checked.pop(number, None)
            return False
        # Two checks per head: the first only notes that the partition is behind, the second wakes it.
        checks, seen = self._checked.get(number, (0, -1))
        checks = checks + 1 if seen == fleet_head else 1
        self._checked[number] = (checks, fleet_head)
        return checks > _CHECKS_PER_DECISION
