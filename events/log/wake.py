"""Waking the workers: an RQ job per partition. A hint that may be lost; the reconciler is the guarantee (DESIGN §4)."""

from collections.abc import Iterable

from redis import Redis
from redis.exceptions import RedisError
from rq import Queue
from rq.serializers import JSONSerializer

from events.log.failpoints import FailPoint, reached
from events.log.keys import FLEET

QUEUE = "twinfold-project"
JOB = "workers.projection_job.project"
JOB_TIMEOUT_SECONDS = 60
FAILURE_TTL_SECONDS = 3600


class WakeFailed(Exception):
    """The queue did not take the wake-up. The events are in the log all the same; the reconciler will find them."""

    def __init__(self, why: str) -> None:
        super().__init__(f"the queue did not take a wake-up: {why}; the reconciler will find the events")
        self.why = why


class Waker:
    """Enqueues `project` jobs."""

    def __init__(self, queue: Redis, *, partitions: int) -> None:
        self._queue = Queue(QUEUE, connection=queue, serializer=JSONSerializer)
        self._partitions = partitions

    def wake(self, streams: Iterable[int]) -> None:
        """Enqueue one job per partition; the fleet's stream stands for all of them.

        Raises:
            WakeFailed: the queue is away; whoever appended may ignore it.
        """
        named = set(streams)
        partitions = range(self._partitions) if FLEET in named else sorted(named)
        jobs = [
            Queue.prepare_data(
                JOB,
                args=(partition,),
                timeout=JOB_TIMEOUT_SECONDS,
                result_ttl=0,
                failure_ttl=FAILURE_TTL_SECONDS,
            )
            for partition in partitions
        ]
        if not jobs:
            return
        reached(FailPoint.WAKE_BEFORE_ENQUEUE)
        try:
            self._queue.enqueue_many(jobs)
        except RedisError as error:
            raise WakeFailed(str(error) or type(error).__name__) from error
        reached(FailPoint.WAKE_AFTER_ENQUEUE)
