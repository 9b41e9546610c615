"""The RQ worker class of twinfold: one process, no fork, JSON jobs."""

from typing import Any

from rq.serializers import JSONSerializer
from rq.worker import SimpleWorker


class Worker(SimpleWorker):
    """Runs jobs in its own process, where the warm copies of partitions are.

    Also good for plain `rq worker -w workers.worker.Worker twinfold-project`: the serializer is JSON whatever the flags
    say, since with pickle whoever can write to Redis could run code here.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs["serializer"] = JSONSerializer
        # A dead worker's registration should not stand for RQ's default of seven minutes (contract/redis-rq.md).
        kwargs.setdefault("default_worker_ttl", 30)
        kwargs.setdefault("maintenance_interval", 10)
        super().__init__(*args, **kwargs)
