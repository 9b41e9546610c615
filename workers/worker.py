"""The RQ worker class of twinfold: it runs jobs in its own process and reads them as JSON."""

import signal
import threading
from typing import Any

from rq.exceptions import StopRequested
from rq.serializers import JSONSerializer
from rq.worker import SimpleWorker
from typing_extensions import override

stopping = threading.Event()
"""Set when this process was told to stop; a job that can end early looks at it."""


class Worker(SimpleWorker):
    """Runs jobs in its own process; also works with `rq worker -w workers.worker.Worker twinfold-project`."""

    # SimpleWorker does not fork: a fork per job costs 13 ms and every warm copy of a partition (decisions/0005).

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        # JSON whatever the flags say. With pickle, anyone who can write to Redis could run code here.
        kwargs["serializer"] = JSONSerializer
        # RQ's default keeps the registration of a dead worker for seven minutes (contract/redis-rq.md).
        kwargs.setdefault("default_worker_ttl", 30)
        kwargs.setdefault("maintenance_interval", 10)
        super().__init__(*args, **kwargs)
        self._is_stopped = False

    @override
    def register_birth(self) -> None:
        """Register the worker."""
        # RQ handles signals only after it has registered the worker. A signal in between would leave the registration behind.
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._note_stop)
        super().register_birth()  # type: ignore[no-untyped-call]

    def _note_stop(self, _number: int, _frame: object) -> None:
        self._is_stopped = True

    @override
    def handle_warm_shutdown_request(self) -> None:
        """Let the current job end early; RQ calls this at the first signal."""
        stopping.set()
        super().handle_warm_shutdown_request()  # type: ignore[no-untyped-call]

    @override
    def check_for_suspension(self, burst: bool) -> None:
        """Stop if a signal arrived before RQ's own handlers were set; RQ calls this at the start of every round."""
        if self._is_stopped:
            raise StopRequested
        super().check_for_suspension(burst)
