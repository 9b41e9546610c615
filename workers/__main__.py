"""One worker process: `python -m workers [QUEUE]`. The supervisor starts these; settings come from TWINFOLD_* variables."""

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

_AGAIN = "could not connect to Redis instance"
"""RQ says so at every attempt; that Redis is away the pool says, once."""

logger = structlog.get_logger()


def main() -> int:
    """Work until told to stop, or until the parent ends; SIGTERM lets the batch at hand finish."""
    line = lifeline.hold()
    try:
        settings = read_settings()
        logs.configure(settings.log_level)
        _forward_log_of_rq()
        queue = sys.argv[1] if len(sys.argv) > 1 else QUEUE
        if queue == QUEUE:
            context()
        worker = Worker([queue], connection=Redis.from_url(settings.effective_queue_url))
        with rare_collection():
            worker.work(logging_level="WARNING")
    except (LogError, SettingsInvalid, RedisError) as error:
        if isinstance(error, RedisError) and unavailable(error) is None:
            raise
        # Who started it says so.
        line.last_output(str(error) or type(error).__name__)
        return code_of(error)
    return 0


class _Forwarding(logging.Handler):
    @override
    def emit(self, record: logging.LogRecord) -> None:
        level = logging.DEBUG if _AGAIN in record.getMessage() else record.levelno
        logger.log(level, record.getMessage(), exc_info=record.exc_info)


def _forward_log_of_rq() -> None:
    """Have warnings and errors of RQ's workers logged as ours; RQ adds no handler of its own where there is one."""
    rq = logging.getLogger("rq.worker")
    rq.setLevel(logging.WARNING)
    rq.propagate = False
    rq.addHandler(_Forwarding())


if __name__ == "__main__":
    sys.exit(main())
