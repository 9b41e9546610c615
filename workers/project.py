"""The job `project`: bring one partition's views up to the log."""

import contextlib
import time

from events.log.errors import LogUnavailable
from events.log.failpoints import FailPoint, reached
from workers.context import context


def project(partition: int) -> None:
    """Drain a partition. The job is a hint: it carries no state, and running it twice or late does no harm."""
    here = context()
    # Who has more to do goes behind the others.
    until = time.monotonic() + here.settings.work_seconds_max
    finished = here.projector.drain(partition, go_on=lambda: time.monotonic() < until)
    with contextlib.suppress(LogUnavailable):
        here.work_counts.add(partition, here.projector.work.take())
    if not finished:
        here.waker.wake([partition])
        reached(FailPoint.PROJECT_REQUEUED)
