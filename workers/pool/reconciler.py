"""The guarantee behind the wake-ups: whoever lags and does not move gets a new job."""

from redis import Redis
from rq import Queue
from rq.serializers import JSONSerializer

from events.envelope import Vector
from events.log.keys import FLEET
from events.log.lease import Lease
from events.log.redis import RedisLog
from events.log.wake import QUEUE, Waker
from events.projection_store.port import ProjectionStore

INTERVAL_SECONDS = 1.0
_JOBS_PER_PARTITION_MAX = 4
_LOOKS = 2


class Reconciler:
    """Looks at every partition once a second; one process at a time does, under a lease."""

    def __init__(self, log: RedisLog, projections: ProjectionStore, waker: Waker, queue: Redis) -> None:
        self._log = log
        self._projections = projections
        self._waker = waker
        self._queue = Queue(QUEUE, connection=queue, serializer=JSONSerializer)
        self._lease = Lease(log.client, "reconciler")
        self._lagging: dict[int, Vector] = {}
        self._decided: dict[int, tuple[int, int]] = {}

    def once(self) -> list[int]:
        """Wake the partitions that are behind and whose checkpoint stands where the last look found it.

        Raises:
            LogUnavailable: Redis did not answer.
        """
        if self._lease.take() is None:
            self._lagging.clear()
            return []
        behind = self._behind()
        stuck = [number for number, vector in behind.items() if self._lagging.get(number) == vector]
        self._lagging = behind
        # Jobs are hints: when plenty wait already, one more would not make anybody faster.
        if stuck and self._queue.count < _JOBS_PER_PARTITION_MAX * self._log.partitions:
            self._waker.wake(stuck)
        return stuck

    def _behind(self) -> dict[int, Vector]:
        heads = self._log.heads()
        behind = {}
        for number in range(self._log.partitions):
            vector = self._projections.checkpoint(number).vector
            if vector != Vector(heads[number], heads[FLEET]) and not self._waits(number, heads[FLEET]):
                behind[number] = vector
        return behind

    def _waits(self, number: int, fleet_head: int) -> bool:
        """A blocked partition waits for a decision, which is an event of the fleet; until there is one it is left alone."""
        blocked = self._projections.blocked(number)
        if blocked is None or not blocked.decidable:
            self._decided.pop(number, None)
            return False
        # Two looks at a head, as the first of them only notes that the partition lags.
        looks, seen = self._decided.get(number, (0, -1))
        looks = looks + 1 if seen == fleet_head else 1
        self._decided[number] = (looks, fleet_head)
        return looks > _LOOKS
