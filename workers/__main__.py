"""One worker process: `python -m workers [QUEUE]`. The supervisor starts these; settings come from TWINFOLD_* variables."""

import events.processes.without_rich  # noqa: F401  # isort: skip
import logging
import sys

import structlog
from redis import Redis
from redis.exceptions import RedisError
from typing_extensions import override

from events import logs
from events.garbage_collection import rare_collection
from events.log.errors import LogError
from events.log.wake import QUEUE
from events.processes import lifeline
from events.redis_errors import unavailable
from events.settings import SettingsInvalid, read_settings
from workers.exits import code_of
from workers.projection_job import context
from workers.worker import Worker

_RECONNECTING = "could not connect to Redis instance"

logger = structlog.get_logger()


def main() -> int:
    """Work until SIGTERM or SIGINT, or until the parent ends. The current batch is finished first."""
    line = lifeline.hold()
    try:
        settings = read_settings()
        logs.configure(settings.log_level)
        # RQ's warnings and errors go to structlog. RQ adds no handler of its own if its logger has one.
        rq = logging.getLogger("rq.worker")
        rq.setLevel(logging.WARNING)
        rq.propagate = False
        rq.addHandler(_Forwarding())
        queue = sys.argv[1] if len(sys.argv) > 1 else QUEUE
        if queue == QUEUE:
            # Open the log now, so that the process exits with the reason if it cannot. A job would only fail in RQ's log.
            context()
        worker = Worker([queue], connection=Redis.from_url(settings.effective_queue_url))
        with rare_collection():
            worker.work(logging_level="WARNING")
    except (LogError, SettingsInvalid, RedisError) as error:
        if isinstance(error, RedisError) and unavailable(error) is None:
            raise
        # The supervisor logs the reason, once for all workers.
        line.last_output(str(error) or type(error).__name__)
        return code_of(error)
    return 0


class _Forwarding(logging.Handler):
    @override
    def emit(self, record: logging.LogRecord) -> None:
        # RQ warns at every attempt to connect; the supervisor already logs once that Redis is unavailable.
        level = logging.DEBUG if _RECONNECTING in record.getMessage() else record.levelno
        logger.log(level, record.getMessage(), exc_info=record.exc_info)


if __name__ == "__main__":
    sys.exit(main())
