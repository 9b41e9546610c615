"""The queue of delivery jobs. Apart from the job, so that a process that only enqueues does not load an HTTP client (6 MB)."""

from redis import Redis
from rq import Queue
from rq.serializers import JSONSerializer

from events.log.wake import FAILURE_TTL_SECONDS, JOB_TIMEOUT_SECONDS

# A queue of its own: a slow receiver must not hold up projections, and a worker listens to one queue (decisions/0005).
QUEUE = "twinfold-deliver"
JOB = "workers.delivery_job.deliver"


def enqueue(queue: Redis, webhook_id: str) -> None:
    """Enqueue a job for a webhook, for the processes that deliver.

    Raises:
        RedisError: the queue did not take it.
    """
    # A kept result would swallow the next job (decisions/0005).
    options = {"job_timeout": JOB_TIMEOUT_SECONDS, "result_ttl": 0, "failure_ttl": FAILURE_TTL_SECONDS}
    Queue(QUEUE, connection=queue, serializer=JSONSerializer).enqueue(JOB, webhook_id, **options)
