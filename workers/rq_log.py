"""What RQ's workers say, in the form of everything else that a process says."""

import logging

import structlog
from typing_extensions import override

_AGAIN = "could not connect to Redis instance"
"""RQ says so at every attempt; that Redis is away the pool says, once."""

logger = structlog.get_logger()


class _Forwarding(logging.Handler):
    @override
    def emit(self, record: logging.LogRecord) -> None:
        level = logging.DEBUG if _AGAIN in record.getMessage() else record.levelno
        logger.log(level, record.getMessage(), exc_info=record.exc_info)


def forward() -> None:
    """Have warnings and errors of RQ's workers logged as ours; RQ adds no handler of its own where there is one."""
    rq = logging.getLogger("rq.worker")
    rq.setLevel(logging.WARNING)
    rq.propagate = False
    rq.addHandler(_Forwarding())
