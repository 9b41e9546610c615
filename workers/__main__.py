"""One worker process: `python -m workers [QUEUE]`. The supervisor starts these; settings come from TWINFOLD_* variables."""

import logging
import sys

from redis import Redis

from events import logs
from events.collecting import seldom
from events.log.wake import QUEUE
from events.settings import read_settings
from workers.context import context
from workers.lifeline import die_with_parent
from workers.worker import Worker


def main() -> None:
    """Work until told to stop; SIGTERM lets the batch at hand finish."""
    die_with_parent()
    settings = read_settings()
    logs.configure(settings.log_level)
    logging.getLogger("rq.worker").setLevel(logging.WARNING)
    queue = sys.argv[1] if len(sys.argv) > 1 else QUEUE
    if queue == QUEUE:
        context()
    worker = Worker([queue], connection=Redis.from_url(settings.effective_queue_url))
    with seldom():
        worker.work(logging_level="WARNING")


if __name__ == "__main__":
    main()
