"""Wakes the workers with an RQ job: a hint that may be lost, as the reconciler finds every lag (DESIGN §4)."""

from collections.abc import Iterable

import msgspec
from redis import Redis
from redis.exceptions import RedisError
from rq import Queue
from rq.serializers import JSONSerializer
from rq.worker_registration import WORKERS_BY_QUEUE_KEY

from events.log.failpoints import FailPoint, reached

QUEUE = "twinfold-project"
JOB = "workers.projection_job.project"
JOB_TIMEOUT_SECONDS = 60
FAILURE_TTL_SECONDS = 3600


class WakeFailed(Exception):
    """The queue did not accept a wake-up. The events are in the log; the reconciler will find them."""

    def __init__(self, why: str) -> None:
        super().__init__(f"the queue did not accept a wake-up: {why}; the reconciler will find the events")
        self.why = why


class QueueState(msgspec.Struct, frozen=True):
    """How many jobs wait, and how many workers are registered; RQ takes up to 40 s to forget a killed one."""

    waiting: int
    workers: int


class Waker:
    """Enqueues `project` jobs, each of which is a turn of one worker."""

    def __init__(self, queue: Redis) -> None:
        self._queue = Queue(QUEUE, connection=queue, serializer=JSONSerializer)

    def wake(self, streams: Iterable[int]) -> None:
        """Enqueue a turn for streams with new events, unless one waits already: a turn reads all streams.

        Raises:
            WakeFailed: the queue does not answer. The events are in the log, so the caller may ignore the error.
        """
        if not any(True for _ in streams):
            return
        # Killed before the enqueue, streams count as woken and no turn comes. Then only the reconciler, which compares heads with
        # checkpoints, enqueues one (tests/workers/test_faults.py).
        reached(FailPoint.WAKE_BEFORE_ENQUEUE)
        try:
            if not self._queue.count:
                turn = Queue.prepare_data(
                    JOB, timeout=JOB_TIMEOUT_SECONDS, result_ttl=0, failure_ttl=FAILURE_TTL_SECONDS
                )
                # One round trip, where `enqueue` takes several.
                self._queue.enqueue_many([turn])
        except RedisError as error:
            raise WakeFailed(str(error) or type(error).__name__) from error
        reached(FailPoint.WAKE_AFTER_ENQUEUE)

    def state(self) -> QueueState:
        """The state of the queue, in one round trip.

        Raises:
            WakeFailed: the queue does not answer.
        """
        try:
            pipe = self._queue.connection.pipeline(transaction=False)
            pipe.llen(self._queue.key)
            pipe.scard(WORKERS_BY_QUEUE_KEY % QUEUE)
            waiting, workers = pipe.execute()
        except RedisError as error:
            raise WakeFailed(str(error) or type(error).__name__) from error
        return QueueState(waiting, workers)
