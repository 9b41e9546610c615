"""The RQ worker class of twinfold: one process, no fork, JSON jobs."""

import signal
from typing import Any

from rq.exceptions import StopRequested
from rq.serializers import JSONSerializer
from rq.worker import SimpleWorker
from typing_extensions import override


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
        self._told_to_end = False

    @override
    def register_birth(self) -> None:
        """Once it is registered, a signal must find somebody who takes the registration away again."""
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._note_the_end)
        super().register_birth()  # type: ignore[no-untyped-call]

    def _note_the_end(self, _number: int, _frame: object) -> None:
        self._told_to_end = True

    @override
    def check_for_suspension(self, burst: bool) -> None:
        """The first step of every round, from which on a request to stop is heeded; one may have come before."""
        if self._told_to_end:
            raise StopRequested
        super().check_for_suspension(burst)
