"""`python -m tests.benchmarks.resident URL`: what warm partitions take in a worker's memory, in bytes, a line each."""

import gc
import sys

from events.log.log_factory import open_log
from events.projection_store.redis import RedisProjectionStore
from workers.projection_job import resident_bytes
from workers.projector import Projector

_WARMED = 4


def main(url: str) -> None:
    """Print the process's own size, then what each of some partitions adds."""
    log = open_log(url)
    projector = Projector(log, RedisProjectionStore(log.client), clock=lambda: 0)
    before = resident_bytes()
    print(before)
    for number in range(_WARMED):
        projector.drain(number, go_on=lambda: False)
        gc.collect()
        now = resident_bytes()
        print(now - before)
        before = now


if __name__ == "__main__":
    main(sys.argv[1])
