"""The job `project`: bring one partition's views up to the log."""

import time

from events.log.failpoints import FailPoint, reached
from workers.context import context

WORK_SECONDS_MAX = 5.0
"""A job that has more to do enqueues itself again behind the others."""


def project(partition: int) -> None:
    """Drain a partition. The job is a hint: it carries no state, and running it twice or late does no harm."""
    here = context()
    until = time.monotonic() + WORK_SECONDS_MAX
    finished = here.projector.drain(partition, go_on=lambda: time.monotonic() < until)
    if not finished:
        here.waker.wake([partition])
        reached(FailPoint.PROJECT_REQUEUED)
